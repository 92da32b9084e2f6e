"""What our tasks add to the start of `inv`: beside a tasks.py that holds nothing, in turn."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

from bench.results import Table, say
from testbed.project import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    import testbed

EACH = 10
"""Runs in a round: a start is over in a third of a second."""


def measure(folder: Path, hosts: list[testbed.Target], rounds: int) -> tuple[dict[str, Table], dict[str, Any]]:
    del hosts
    for name, text in (("empty", ""), ("greenroom", "from deploy.tasks import ns\n")):
        (folder / "starts" / name).mkdir(parents=True)
        (folder / "starts" / name / "tasks.py").write_text(text)
    tables: dict[str, Table] = {}
    say("--- inv --list")  # not --help: Invoke shows that without a look at any tasks.py
    table = tables["inv --list"] = Table()
    for _ in range(rounds * EACH):
        for name in ("greenroom", "empty"):
            table.measure(name, lambda name=name: listed(folder / "starts" / name, tasks=name == "greenroom"))  # type: ignore[misc]
    return tables, {}


def listed(folder: Path, *, tasks: bool) -> None:
    """List the tasks of a folder. Without any, Invoke says so and fails; with `tasks` it must not."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    words = [sys.executable, "-m", "invoke", "--list"]
    subprocess.run(words, cwd=folder, env=environment, capture_output=True, check=tasks)
