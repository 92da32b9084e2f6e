"""Which invoke.yaml counts, when Invoke found its tasks.py elsewhere: two projects are never mixed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def outer(tmp_path: Path) -> Path:
    """A project with another one below it, which has a folder and no tasks.py."""
    outer, inner = tmp_path / "mono", tmp_path / "mono/svc"
    (inner / "src").mkdir(parents=True)
    (outer / "tasks.py").write_text("from deploy.tasks import ns\n")
    for folder, project in ((outer, "outer"), (inner, "inner")):
        (folder / "invoke.yaml").write_text(
            f"deploy: {{project: {project}, envs: {{prod: {{hosts: [{project}.invalid]}}}}}}\n"
        )
        (folder / ".env.prod").write_text(f"OF={project}\n")
    return outer


def run_in(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(folder: Path) -> str:
    done = run_in(folder, "-m", "invoke", "config")
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


@pytest.mark.parametrize("below", ["svc", "svc/src"])
def test_the_hosts_of_one_project_never_get_the_files_of_another_one_below_it(outer: Path, below: str) -> None:
    told = refused(outer / below)
    assert f"Invoke read {outer}/invoke.yaml; " in told
    assert f"say greenroom instead of inv, or put a tasks.py beside {outer}/svc/invoke.yaml" in told


def test_what_is_to_be_done_in_a_project_below_another_one_helps(outer: Path) -> None:
    by_name = run_in(outer / "svc/src", "-c", "from deploy.tasks import main; main()", "config")
    (outer / "svc/tasks.py").write_text("from deploy.tasks import ns\n")
    by_tasks = run_in(outer / "svc/src", "-m", "invoke", "config")
    assert by_name.returncode == by_tasks.returncode == 0
    assert "inner-blue" in by_name.stdout
    assert by_name.stdout == by_tasks.stdout


def test_a_tasks_py_without_an_invoke_yaml_is_told_by_its_folder(outer: Path) -> None:
    (outer / "invoke.yaml").unlink()
    assert f"Invoke found the tasks.py in {outer}, and no invoke.yaml there" in refused(outer / "svc")
    assert f"there is no invoke.yaml in {outer}, beside the tasks.py" in refused(outer)


def test_a_tasks_py_below_the_invoke_yaml_is_told_with_the_one_that_was_meant(outer: Path) -> None:
    (outer / "svc/src/tasks.py").write_text("from deploy.tasks import ns\n")
    told = refused(outer / "svc/src")
    assert f"there is no invoke.yaml in {outer}/svc/src, beside" in told
    assert f"say greenroom instead of inv: it takes {outer}/svc/invoke.yaml" in told


@pytest.mark.parametrize("start", [".", "..", "third"])
def test_from_anywhere_a_project_is_gone_to_by_its_folder(outer: Path, start: str) -> None:
    folder = outer / start
    folder.mkdir(exist_ok=True)
    if start == "third":
        (folder / "invoke.yaml").write_text("deploy: {project: third, envs: {prod: {hosts: [third.invalid]}}}\n")
    (outer / "svc/tasks.py").write_text("from deploy.tasks import ns\n")
    (outer / ".env.prod").unlink()
    there = run_in(outer / "svc", "-m", "invoke", "config")
    gone_to = run_in(folder, "-m", "invoke", "-r", str(outer / "svc"), "config")
    assert (gone_to.returncode, gone_to.stdout) == (0, there.stdout)
    assert "inner-blue" in there.stdout
