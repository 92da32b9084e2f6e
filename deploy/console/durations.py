"""How long a run took, by host and phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from deploy.console.events import Event

SHOWN = 20
"""Hosts that get a row each; of more, the fastest and the slowest."""


class Durations:
    """Adds up the steps of each host and phase, in seconds. What a host waited for others is not counted."""

    def __init__(self) -> None:
        self._hosts: dict[str, dict[str, float]] = {}
        self._phases: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._hosts)

    def hear(self, event: Event) -> None:
        if event.kind != "done":
            return
        own = self._hosts.setdefault(event.host, {})
        own[event.phase] = own.get(event.phase, 0) + event.seconds
        self._phases[event.phase] = None

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return columns and rows: a host a row, or the two ends of each phase where there are too many."""
        columns = ("seconds", *self._phases)
        if len(self._hosts) > SHOWN:
            ends = (("fastest", min), ("slowest", max))
            return columns, [(name, *(self._end(phase, end) for phase in self._phases)) for name, end in ends]
        return columns, [
            (host, *(f"{own[phase]:.1f}" if phase in own else "-" for phase in self._phases))
            for host, own in sorted(self._hosts.items())  # not in the order in which they happened to speak
        ]

    def _end(self, phase: str, end: Callable[[Iterable[tuple[float, str]]], tuple[float, str]]) -> str:
        seconds, host = end((own[phase], host) for host, own in self._hosts.items() if phase in own)
        return f"{seconds:.1f} {host}"
