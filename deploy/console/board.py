"""Who is at what: the state of every host of a run, as its events tell it. What the live view and the pulse show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from deploy.console.events import Event

WAITS, WORKS, DONE, FAILED, BROKEN_OFF = "waits", "works", "done", "failed", "broken off"


@dataclass
class Row:
    """One host: `phases` holds the state of each phase that it was in; `since` is when its step began, in seconds."""

    host: str
    phases: dict[str, str] = field(default_factory=dict)
    title: str = ""
    detail: str = ""
    since: float = 0

    @property
    def phase(self) -> str:
        return next(reversed(self.phases), "")

    @property
    def state(self) -> str:
        return self.phases.get(self.phase, WAITS)


class Board:
    """A row a host. It hears every event of a run; seconds are those since the run began."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self.rows = {host: Row(host) for host in hosts}
        self.phases: list[str] = []

    def hear(self, event: Event, now: float) -> None:
        if event.kind == "phase":
            self._begin(event.phase)
        row = self.rows.get(event.host)
        if row is None or event.kind not in {"step", "line", "done", "failed"}:
            return
        if event.phase and event.phase not in self.phases:
            self.phases.append(event.phase)
        phase = event.phase or row.phase
        if event.kind == "step":
            row.phases[phase] = WORKS
            row.title, row.detail, row.since = event.title, "", now
        elif event.kind == "line":
            row.detail = event.text
        elif event.kind == "done":
            row.phases[phase] = DONE
            row.detail = event.text
        else:
            row.phases[phase] = FAILED
            row.detail = ""

    def _begin(self, phase: str) -> None:
        """Each phase ends everywhere before the next begins: what is at work still will not be told the end of."""
        for row in self.rows.values():
            row.phases.update({at: BROKEN_OFF for at, state in row.phases.items() if state == WORKS})
        if phase not in self.phases:  # another batch goes through the same phases
            self.phases.append(phase)

    def count(self, phase: str, *states: str) -> int:
        return sum(row.phases.get(phase) in states for row in self.rows.values())

    def at_work(self) -> list[Row]:
        """Return the rows of hosts that are at work, the longest first."""
        return sorted((row for row in self.rows.values() if row.state == WORKS), key=lambda row: row.since)

    def most_telling(self, number: int) -> Sequence[Row]:
        """Return so many rows, in their own order: those that failed, then those at work, the longest first."""
        failed = [row for row in self.rows.values() if FAILED in row.phases.values()]
        by_weight = dict.fromkeys(row.host for row in (*failed, *self.at_work(), *self.rows.values()))
        shown = set([*by_weight][:number])
        return [row for row in self.rows.values() if row.host in shown]


def lasting(seconds: float) -> str:
    """Say how long something lasts, at most six characters for a day's work: `42 s`, `3:07`, `1:02:09`."""
    whole = int(seconds)
    if whole < 60:  # noqa: PLR2004  # a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
