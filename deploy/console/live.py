"""The live table: a row a host, what it is doing now and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.console import Console as Terminal
from rich.console import RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.console.events import Event

SHOWN = 60
"""Characters of a program's output that a row shows."""


class _Row:
    def __init__(self) -> None:
        self.phase = ""
        self.title = "connected"
        self.detail = ""
        self.since = 0.0
        self.state = "waits"


class LiveTable:
    """Owns the terminal while it is open."""

    def __init__(self, hosts: Sequence[str], out: TextIO) -> None:
        self._rows = {host: _Row() for host in hosts}
        self._terminal = Terminal(file=out)
        self._spinner = Spinner("dots")
        self._now = 0.0
        self._live = Live(console=self._terminal, get_renderable=self._table, refresh_per_second=8)
        self._live.start()

    def show(self, event: Event, now: float) -> None:
        self._now = now
        if event.kind == "step":
            self._rows.setdefault(event.host, _Row())  # this machine, where it builds for the hosts
        row = self._rows.get(event.host)
        if row is None:
            return
        row.phase = event.phase or row.phase
        if event.kind == "step":
            row.title, row.detail, row.since, row.state = event.title, "", now, "works"
        elif event.kind == "line":
            row.detail = event.text.strip()[:SHOWN]
        elif event.kind == "done":
            row.detail, row.state = f"{event.seconds:.1f} s", "waits"
        elif event.kind == "failed":
            row.detail, row.state = "failed", "failed"

    def say(self, text: str) -> None:
        self._terminal.print(text, highlight=False, markup=False)

    def close(self) -> None:
        self._live.stop()

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for column in ("host", "phase", "", "step", ""):
            table.add_column(column, no_wrap=True)
        for host, row in self._rows.items():
            signs: dict[str, RenderableType] = {
                "works": self._spinner,
                "failed": Text("✗", "red"),
                "waits": Text("✓", "green"),
            }
            table.add_row(host, Text(row.phase, "cyan"), signs[row.state], row.title, Text(row.detail, "dim"))
        return table
