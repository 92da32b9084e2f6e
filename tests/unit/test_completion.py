"""Completion as README.md sets it up, in bash and fish themselves. In zsh it needs somebody who types: by hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = {
    "inv": "from invoke.main import program; program.run()",
    "greenroom": "from deploy.tasks import main; main()",
}
CASES = [("inv roll", "rollback"), ("inv deploy --sett", "--settle"), ("greenroom roll", "rollback")]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a project, programs by their names, and each line of README.md that sets completion up typed."""
    (tmp_path / "tasks.py").write_text("from deploy.tasks import ns\n")
    (tmp_path / "bin").mkdir()
    for name, program in {**PROGRAMS, "invoke": PROGRAMS["inv"]}.items():
        (tmp_path / "bin" / name).write_text(f"#!{sys.executable}\n{program}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / ".config" / "fish" / "completions").mkdir(parents=True)
    return tmp_path


def shell(home: Path, words: list[str]) -> str:
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
    }
    done = subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True, timeout=100, check=False)
    return done.stdout + done.stderr


def set_up(home: Path, name: str) -> str:
    """Type the lines of README.md that are about a shell."""
    written = re.search(r"\*\*Completion\*\*.*?```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert written
    lines = [line for line in written[1].splitlines() if name in line]
    assert lines
    return shell(home, ["bash", "-c", "\n".join(lines)])


def test_bash_completes_tasks_and_flags(home: Path) -> None:
    assert set_up(home, "bash") == ""
    for typed, completed in CASES:
        *_, last = words = typed.split()
        script = f"""
            . ~/.bashrc
            COMP_WORDS=({typed}) COMP_CWORD={len(words) - 1}
            $(complete -p {words[0]} | sed 's/.*-F \\([^ ]*\\).*/\\1/') {words[0]} {last}
            echo "${{COMPREPLY[*]}}"
        """
        assert shell(home, ["bash", "--norc", "-c", script]).split() == [completed]


@pytest.mark.skipif(not shutil.which("fish"), reason="needs fish")
def test_fish_completes_tasks_and_flags(home: Path) -> None:
    assert set_up(home, "fish") == ""
    for typed, completed in CASES:
        assert shell(home, ["fish", "-c", f"complete -C '{typed}'"]).split() == [completed]
