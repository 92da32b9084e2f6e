"""What a user installs: the wheel carries the host library and the templates, and a console script."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel in this environment (no isolation: no network) and return the names in it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_the_wheel_carries_every_template(wheel: set[str]) -> None:
    templates = {p for p in (ROOT / "templates").rglob("*") if p.is_file()}
    assert {f"deploy/templates/{p.relative_to(ROOT / 'templates')}" for p in templates} <= wheel


def test_the_wheel_carries_the_host_library(wheel: set[str]) -> None:
    assert {f"deploy/host/{p.name}" for p in (ROOT / "deploy" / "host").glob("*.sh")} <= wheel


def test_the_wheel_carries_no_test_and_no_test_bed(wheel: set[str]) -> None:
    assert not {name for name in wheel if name.startswith(("tests/", "testbed/", "bench/", "examples/"))}


def test_the_console_script_offers_the_same_tasks_as_inv() -> None:
    said = greenroom("--list")
    for verb in (
        "check",
        "config",
        "deploy",
        "history",
        "init",
        "plan",
        "rollback",
        "status",
        "logs",
        "env.push",
        "maintenance.on",
    ):
        assert f"\n  {verb} " in said


def greenroom(*words: str) -> str:
    """Return what the console script says, on a terminal of 80 columns."""
    script = "from deploy.tasks import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize(("said", "kept"), [("", True), ("1", False)], ids=["usually", "python-is-told-not-to"])
def test_a_start_from_a_checkout_compiles_the_package_once(tmp_path: Path, said: str, kept: bool) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tasks.py").write_text("from deploy.tasks import ns\n")
    subprocess.run(
        [sys.executable, "-m", "invoke", "--list"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": said},
        capture_output=True,
        check=True,
    )
    assert bool([*tmp_path.glob("deploy/__pycache__/tasks.*.pyc")]) == kept
    assert not (tmp_path / "__pycache__").exists()


def test_the_list_of_tasks_reads_as_a_table_of_contents() -> None:
    tasks = [line for line in greenroom("--list").splitlines()[1:] if line]
    assert len(tasks) > 20
    assert all(re.fullmatch(r"  [a-z.]+ +[A-Z].*\.", line) for line in tasks), tasks


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered_for_the_console_script(shell: str) -> None:
    assert "complete_greenroom" in greenroom(f"--print-completion-script={shell}")


COMPLETE = r"""
eval "$(greenroom --print-completion-script=bash)"
COMP_WORDS=("$@")
complete=$(complete -p greenroom | sed 's/.*-F \([^ ]*\).*/\1/')
$complete greenroom "${@: -1}"
echo "${COMPREPLY[*]}"
"""


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("greenroom settings.re", "settings.reload settings.restart"),
        ("greenroom logs --f", "--follow"),
    ],
)
def test_bash_completes_tasks_and_flags(tmp_path: Path, typed: str, found: str) -> None:
    program = tmp_path / "greenroom"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from deploy.tasks import main; main()" "$@"\n')
    program.chmod(0o755)
    said = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", *typed.split()],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(said.stdout.split()) == found.split(), said.stderr


def test_the_example_carries_the_templates_files_as_they_lie() -> None:
    for name in ("Dockerfile", "docker-entrypoint.sh", ".dockerignore"):
        assert (ROOT / "examples" / "django" / name).read_bytes() == (ROOT / "templates" / name).read_bytes()


@pytest.mark.parametrize("name", ["colour.yml", "setting_prod.yml"])
def test_a_host_whose_dockerd_was_killed_serves_again_by_itself(name: str) -> None:
    """A new dockerd stops what outlived the old one, and starts again what has this policy, and no other."""
    services = yaml.safe_load((ROOT / "templates" / name).read_text())["services"]
    assert {service["restart"] for service in services.values()} == {"always"}


@pytest.mark.parametrize("name", ["colour.yml", "setting_dev.yml", "setting_prod.yml"])
def test_what_runs_the_app_hears_that_it_is_told_to_stop_before_it_has_said_what_it_does_then(name: str) -> None:
    services = yaml.safe_load((ROOT / "templates" / name).read_text())["services"].values()
    apps = [service for service in services if service["image"].startswith("${GREENROOM_IMAGE")]
    assert apps
    assert all(service.get("init") is True for service in apps)


def test_shellcheck_finds_nothing_in_the_templates_entrypoint() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    path = ROOT / "templates" / "docker-entrypoint.sh"
    said = subprocess.run([str(shellcheck), str(path)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


def test_make_clean_needs_nothing_that_was_installed() -> None:
    """Not even a venv: whoever only ran the bench has none where the tests have theirs."""
    (line,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if "testbed down" in line)
    assert line.strip() == "$(PYTHON) -m testbed down --all"
    command = [sys.executable, "-S", "-m", "testbed", "down", "--help"]
    subprocess.run(command, cwd=ROOT, env={"PATH": os.defpath}, check=True, capture_output=True)
