"""`from deploy.tasks import ns` in a tasks.py of one's own: the file that docs/library.md shows, run by Invoke."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
(SHOWN,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(), re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the page's tasks.py, whose tests only say that they ran. Nobody listens on its host."""
    (tmp_path / "tasks.py").write_text(SHOWN.replace("pytest -q", "test ! -e red && echo tested"))
    configure(tmp_path, {})
    (tmp_path / ".env.prod").touch()
    return tmp_path


def configure(project: Path, keys: dict[str, object]) -> None:
    envs = {"prod": {"hosts": ["deploy@127.0.0.1:9"]}}
    written = {"project": "shop", "ssh": {"connect_timeout": 1}, "envs": envs, **keys}
    (project / "invoke.yaml").write_text(json.dumps({"deploy": written}))


def inv(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "invoke", *words],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def settle(project: Path, *flags: str) -> str:
    """Return the settle delay that a verb would have: one that is wrong is refused with its value."""
    return inv(project, "config", *flags).stderr


def test_tasks_of_ones_own_stand_beside_the_verbs(project: Path) -> None:
    listed = inv(project, "--list").stdout
    assert re.search(r"^  tests +Run the tests\.$", listed, re.MULTILINE)
    assert re.search(r"^  rollback +Go back", listed, re.MULTILINE)


def test_a_default_of_ones_own_counts_until_invoke_yaml_says_otherwise(project: Path) -> None:
    tasks = project / "tasks.py"
    tasks.write_text(tasks.read_text().replace('"settle": 60', '"settle": -7'))
    assert "deploy.settle: expected at least 0, got -7" in settle(project)
    configure(project, {"settle": -8})
    assert "deploy.settle: expected at least 0, got -8" in settle(project)
    configure(project, {"settle": 8})
    assert "deploy.settle" not in settle(project)


def test_a_task_before_a_deploy_runs_first_and_one_that_fails_is_the_end_of_it(project: Path) -> None:
    tried = inv(project, "deploy")
    assert tried.stdout.startswith("tested\n")
    assert tried.returncode == 2
    assert "127.0.0.1:9" in tried.stderr
    (project / "red").touch()
    stopped = inv(project, "deploy")
    assert stopped.returncode == 1
    assert "127.0.0.1:9" not in stopped.stdout + stopped.stderr


def test_a_verb_is_a_function_that_ends_as_the_command_does(project: Path) -> None:
    shipped = inv(project, "ship")
    assert shipped.returncode == 2
    assert "v1" in shipped.stderr
