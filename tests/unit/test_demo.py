"""What `make demo` makes of what it heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.console import Console
from deploy.console.events import Event
from testbed import demo
from testbed.project import Project

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_step_that_found_something_takes_its_time_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    for text in ("", "3 connections were still open after 10 s, and are cut"):
        console.emit(Event("done", "127.0.0.11", "finish", "drain blue", text, seconds=2.5))
    (tmp_path / "tasks.py").write_text(
        f"from invoke import task\n\n@task\ndef deploy(c):\n    print({capsys.readouterr().out!r})\n"
    )
    assert demo.inv(Project(tmp_path, ()), "deploy") == {"127.0.0.11": {"finish": 5.0}}
