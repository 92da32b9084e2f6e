"""The live view: hosts and phases, what each host is at and for how long. It fits into any window, or shows less."""

from __future__ import annotations

import collections
import contextlib
import re
import threading
from typing import TYPE_CHECKING, TextIO

from rich.console import Console as Terminal
from rich.console import Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from deploy.console.board import BROKEN_OFF, DONE, FAILED, WAITS, WORKS, Board, Row, lasting
from deploy.recipe.steps import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deploy.console.events import Event

MANY = 20
"""Hosts that get a row each; of more, those that failed and those that take longest."""

FEW = 6
"""Rows that are shown of many hosts."""

TAIL = 8
"""Lines of programs' output below the rows, on request; never more than a third of the window."""

NAME = 24
"""Characters of a host's name that a row shows."""

_SIGNS = {WAITS: ("·", "dim"), DONE: ("✓", "green"), FAILED: ("✗", "red"), BROKEN_OFF: ("-", "yellow")}
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class LiveTable:
    """Owns the terminal while it is open. `elapsed` returns the seconds since the run began."""

    def __init__(self, hosts: Sequence[str], out: TextIO, elapsed: Callable[[], float], *, verbose: bool) -> None:
        self._board = Board(hosts)
        self._elapsed = elapsed
        self._tail: collections.deque[str] | None = collections.deque(maxlen=TAIL) if verbose else None
        self._lock = threading.Lock()
        self._open = True
        self._terminal = Terminal(file=out)
        self._spinner = Spinner("dots")
        self._live = Live(console=self._terminal, get_renderable=self._view, refresh_per_second=4)
        self._live.start(refresh=True)

    def show(self, event: Event, now: float) -> None:
        with self._lock:
            self._board.hear(event, now)
            if event.kind == "line" and event.text.strip() and self._tail is not None:
                self._tail.append(f"{event.host} | {event.text}" if event.host else f"| {event.text}")

    def say(self, text: str) -> None:
        """Print a text above the view. Its lines stay whole, so that a command can be copied from them."""
        with contextlib.suppress(OSError):  # the terminal may be gone: a deploy does not break off half-way for that
            self._terminal.print(_clean(text), highlight=False, markup=False, emoji=False, soft_wrap=True)

    def close(self, *, keep: bool) -> None:
        """End the view; what it showed last stays, or goes. Where no phase began, there is nothing to keep."""
        self._live.transient = not (keep and self._board.phases)
        self._open = False
        with contextlib.suppress(OSError):
            self._live.stop()

    # --- what it shows -----------------------------------------------------------------------------------------

    def _view(self) -> RenderableType:
        with self._lock:
            width, height = self._terminal.size
            tail = list(self._tail or ())[-max(1, height // 3) :]
            free = max(1, height - 3 - len(tail))  # its head, what is said of those not shown, and the cursor's line
            rows = list(self._board.rows.values())
            if len(rows) > MANY:
                rows = list(self._board.most_telling(min(FEW, free)))
            elif len(rows) > free:
                rows = list(self._board.most_telling(free))
            parts: list[RenderableType] = [self._head(width), self._table(rows)]
            if len(rows) < len(self._board.rows):
                parts.append(self._others({row.host for row in rows}))
            parts += [Text(_clean(line), "dim", no_wrap=True, overflow="ellipsis") for line in tail]
            if self._open:
                parts.append(Text())  # where the cursor stands: of a full line, a typed ^C would begin another
            return Group(*parts)

    def _head(self, width: int) -> Text:
        """Return the phases that began, and how far each has come; behind them the seconds since the run began."""
        head = Text(no_wrap=True, overflow="ellipsis")
        for phase in self._board.phases:
            head.append(f"{phase} ", "bold" if phase == self._board.phases[-1] else "")
            head.append(*self._progress(phase)).append("  ")
        if not self._board.phases:
            head.append("connected", "dim")
        time = lasting(self._elapsed())
        head.truncate(max(0, width - len(time) - 1), overflow="ellipsis", pad=True)
        return head.append(f" {time}")

    def _progress(self, phase: str) -> tuple[str, str]:
        done = self._board.count(phase, DONE)
        if self._board.count(phase, FAILED):
            return _SIGNS[FAILED]
        if self._board.count(phase, BROKEN_OFF):
            return _SIGNS[BROKEN_OFF]
        under_way = self._board.count(phase, WORKS)
        if under_way:
            return f"{done}/{done + under_way}", ""
        return _SIGNS[DONE if done else WAITS]

    def _table(self, rows: Sequence[Row]) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=NAME)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(no_wrap=True, justify="right")
        for row in rows:
            table.add_row(row.host, self._track(row), _what(row), self._time(row))
        return table

    def _track(self, row: Row) -> Text:
        """Return a sign a phase: what it came to on this host."""
        track = Text()
        for phase in self._board.phases:
            state = row.phases.get(phase, WAITS)
            if state == WORKS:
                track.append_text(Text(str(self._spinner.render(self._terminal.get_time())), "cyan"))
            else:
                track.append(*_SIGNS[state])
        return track

    def _time(self, row: Row) -> Text:
        return Text(lasting(max(0, self._elapsed() - row.since)) if row.state == WORKS else "", "dim")

    def _others(self, shown: set[str]) -> Text:
        others = [row for row in self._board.rows.values() if row.host not in shown]
        counts = collections.Counter(row.state for row in others)
        said = ", ".join(f"{counts[state]} {word}" for state, word in _WORDS.items() if counts[state])
        return Text(f"and {len(others)} more: {said}", "dim", no_wrap=True, overflow="ellipsis")


_WORDS = {FAILED: "failed", WORKS: "at work", DONE: "done with it", BROKEN_OFF: "broken off", WAITS: "waiting"}


def _what(row: Row) -> Text:
    if row.phase == Phase.UNDO and row.state == DONE:
        return Text("undone", "yellow")
    if row.state == FAILED:
        return Text(f"failed: {row.title}", "red")
    what = Text(row.title, "dim" if row.state in {DONE, BROKEN_OFF} else "")
    if row.detail:
        what.append(f": {_clean(row.detail).strip()}", "dim")
    return what


def _clean(text: str) -> str:
    """Return a program's text without what would move the cursor or colour what comes after it."""
    return _CONTROL.sub("", text.replace("\t", " "))
