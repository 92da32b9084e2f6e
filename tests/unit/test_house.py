"""The laws of the house, read off its own source: imports point down, and each kind of I/O has one door."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent.parent / "deploy"
FILES = sorted(HOUSE.rglob("*.py"))

FLOORS = [
    {"tasks"},
    {"operating", "halves"},
    {"front"},
    {"operate", "staging"},
    {"flow", "check", "setup", "report", "adopt"},
    {"run", "papers"},
    {"hooks"},
    {"release", "lock", "image"},
    {"source", "fleet", "machine", "here"},
    {"machine.door"},
    {"machine.login"},
    {"machine.ssh_config"},
    {"machine.forward"},
    {"machine.link", "machine.known_hosts"},
    {"machine.spare"},
    {"machine.wire"},
    {"config", "flags"},
    {"registry", "roles"},
    {"envfile", "keys"},
    {"apply"},
    {
        "console",
        "console.live",
        "console.terminal",
        "console.redact",
        "console.events",
        "console.durations",
        "console.journal",
        "console.board",
        "console.plain",
        "console.tables",
        "host",
    },
    {"clock"},
    {"recipe.hosts", "recipe.setup", "recipe.upkeep", "recipe.stage"},
    {"recipe.plan", "recipe.preflight"},
    {"recipe.standing"},
    {"recipe.image", "recipe.waiting", "recipe.services"},
    {
        "recipe.derive",
        "recipe.docker",
        "recipe.nginx",
        "recipe.files",
        "recipe.facts",
        "recipe.logs",
        "recipe.data",
        "recipe.documents",
        "recipe.confs",
        "recipe.dockerfile",
        "recipe.hooks",
        "recipe.preview",
    },
    {"recipe.adopted", "recipe.manifest"},
    {"recipe.once"},
    {"recipe.shapes"},
    {"recipe.steps", "recipe.compose"},
    {"recipe.shell", "recipe.model"},
    {"errors", "recipe", ""},
]
"""From the top down. A module imports what lies below it, or beside it on its own floor where nothing points back."""

BESIDE = {
    ("console", "console.live"), ("console", "console.terminal"), ("console", "console.events"),
    ("console.live", "console.events"), ("console", "console.redact"), ("console", "console.durations"),
    ("console.durations", "console.events"), ("console", "console.journal"), ("console", "console.plain"),
    ("console.live", "console.board"), ("console.plain", "console.board"), ("console.board", "console.events"),
    ("console.plain", "console.events"), ("console", "console.tables"), ("flags", "config"),
    ("recipe.steps", "recipe.shell"),
}  # fmt: skip


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(HOUSE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def floor(module: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if module in floor)


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def calls(path: Path) -> set[str]:
    """Return the names of all that a file calls."""
    return {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}


@functools.cache
def modules() -> set[str]:
    return {f"deploy.{name_of(path)}".rstrip(".") for path in FILES}


@functools.cache
def imports(path: Path) -> set[str]:
    """Return every module that a file imports, at any depth, as a full dotted name."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else node.module for name in inner}
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    module = name_of(path)
    for imported in imports(path):
        if imported == "deploy" or imported.startswith("deploy."):
            other = imported.removeprefix("deploy").lstrip(".")
            assert floor(module) < floor(other) or (module, other) in BESIDE, f"{module} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_has_a_floor(path: Path) -> None:
    assert floor(name_of(path)) >= 0


def importers(*packages: str) -> set[str]:
    return {name_of(p) for p in FILES if any(i.split(".")[0] in packages for i in imports(p))}


def callers(*names: str) -> set[str]:
    return {name_of(path) for path in FILES if calls(path) & set(names)}


def test_one_room_imports_fabric_and_paramiko() -> None:
    assert {name.split(".")[0] for name in importers("fabric", "paramiko")} == {"machine"}


def test_one_file_quotes() -> None:
    assert callers("shlex.quote", "shlex.join", "quote") == {"recipe.shell"}


def test_one_file_reads_the_clock() -> None:
    assert importers("time") == {"clock"}
    assert callers("datetime.datetime.now", "datetime.now", "date.today", "time.time") == {"clock"}


def test_only_the_console_prints() -> None:
    assert callers("print", "sys.stdout.write", "sys.stderr.write") <= {"console"}
    assert importers("rich") == {"console.live"}


def test_one_file_starts_programs() -> None:
    assert importers("subprocess") == {"source", "hooks", "here"}
    assert not callers("os.system", "os.popen")


def test_the_recipe_does_no_io() -> None:
    recipe = {name_of(p) for p in FILES if p.is_relative_to(HOUSE / "recipe")}
    for package in ("os", "socket", "subprocess", "pathlib", "random", "secrets", "threading", "time", "deploy.clock"):
        assert not recipe & importers(package), package
    assert not recipe & callers("open", "input")


def test_start_up_imports_only_invoke() -> None:
    for name in ("tasks.py", "operating.py", "front.py"):
        body = tree(HOUSE / name).body
        early = {ast.unparse(node) for node in body if isinstance(node, (ast.Import, ast.ImportFrom))}
        assert not {line for line in early if re.search(r"fabric|msgspec|deploy\.(?!front\b)", line)}, name
