"""The guide is followed from its start to its end: its files are written, its commands typed, its answers compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from test_adopt import HOST

import testbed
from testbed import state
from testbed.project import ROOT, Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = ROOT / "docs" / "guide.md"
BLOCK = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands of a block, each with the lines that it is said to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *said = part.splitlines()
        yield command, said


def missing(said: str, expected: list[str]) -> str:
    """Return the first expected line that is not among those said, in their order; `...` stands for anything."""
    lines = iter(said.splitlines())
    for each in expected:
        form = ".*".join(map(re.escape, each.split("...")))
        if not any(re.fullmatch(form, line.strip()) for line in lines):
            return each
    return ""


def test_an_answer_is_compared_line_by_line_and_in_order() -> None:
    said = "one: 1\ntwo\nthree 3 drei"
    assert missing(said, ["one...", "three...drei"]) == ""
    assert missing(said, ["two", "one..."]) == "one..."
    assert missing(said, ["tw"]) == "tw"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    kind, _, number = HOST.partition("-")
    target = testbed.up(int(number), kind)[-1]
    testbed.reset([target])
    (tmp_path / "hello").mkdir()
    (tmp_path / "bin").mkdir()
    for name, module in (("greenroom", "deploy.tasks"), ("inv", "invoke.main")):
        program = "program.run" if name == "inv" else "main"
        first = program.partition(".")[0]
        (tmp_path / "bin" / name).write_text(f"#!{sys.executable}\nfrom {module} import {first}\n{program}()\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return Project(tmp_path / "hello", (target,))


def test_who_follows_the_guide_gets_what_it_says(project: Project) -> None:
    environment = {
        **project.environment(),
        "PATH": f"{project.folder.parent / 'bin'}:{os.environ['PATH']}",
        **{f"GIT_{who}_{what}": "guide@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    done = []
    for language, file, written in BLOCK.findall(PAGE.read_text()):
        text = written.replace("web1.example.com", project.targets[0].address)
        if file:
            (project.folder / file).write_text(text)
        for command, expected in commands(text) if language == "sh" else ():
            ran = subprocess.run(
                ["bash", "-c", command],
                cwd=project.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=300,
                check=False,
            )
            assert ran.returncode == 0, f"{command}\n{ran.stdout}"
            lacks = missing(ran.stdout, expected)
            assert not lacks, f"{command}\ndid not say: {lacks}\n{ran.stdout}"
            done.append(command)
            if command.startswith("greenroom init"):
                _of_these_hosts(project)
    assert len(done) > 20


def _of_these_hosts(project: Project) -> None:
    """Add what a person's ssh knows by itself, and spare the test the waits that are for people."""
    project.edit("invoke.yaml", "settle: 30", "settle: 1")
    path = re.search(r"health: \{(path: [^}]*)\}", (project.folder / "invoke.yaml").read_text())
    assert path
    project.edit("invoke.yaml", path[0], f"health: {{{path[1]}, timeout: 5}}")
    here = f"identity: {state.KEY}, known_hosts: {state.KNOWN_HOSTS}, config: /dev/null, connect_timeout: 60"
    with (project.folder / "invoke.yaml").open("a") as file:
        file.write(f"  ssh: {{{here}}}\n")
