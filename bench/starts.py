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
    for words in (("--list",), ("--help",)):
        say(f"--- inv {words[0]}")
        table = tables[f"inv {words[0]}"] = Table()
        for _ in range(rounds * EACH):
            for name in ("greenroom", "empty"):
                table.measure(name, lambda name=name, words=words: _inv(folder / "starts" / name, *words))  # type: ignore[misc]
    return tables, {}


def _inv(folder: Path, *words: str) -> None:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    subprocess.run(
        [sys.executable, "-m", "invoke", *words], cwd=folder, env=environment, capture_output=True, check=False
    )
