"""An operator at work: `inv` with its events, read one by one, so that "after event 17" is an exact moment."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testbed.project import Project

Event = dict[str, Any]


class Operator:
    """A run of `inv` with --json; it is killed when it takes longer than `limit` seconds.

    `altered` names a change to be made to it first (altered.py). Lines that programs print on hosts are no events:
    there may be any number of them.
    """

    def __init__(self, project: Project, *words: str, limit: float = 240, altered: str = "") -> None:
        self.words = words
        self.events: list[Event] = []
        self.overran = False
        self.missed = False
        self.code: int | None = None
        self._began = time.monotonic()
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by finish
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                *(("testbed.faults.altered", altered) if altered else ("invoke",)),
                *words,
                "--json",
            ],
            cwd=project.folder,
            env=project.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._watchdog = threading.Timer(limit, self._overrun)
        self._watchdog.daemon = True
        self._watchdog.start()

    def watch_until(self, reached: Callable[[int, Event], bool]) -> Event | None:
        """Read on until an event is the one (told its number, from 1, and itself); None: it ended before, `missed`."""
        for event in self._read():
            if reached(len(self.events), event):
                return event
        self.missed = True
        return None

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def finish(self) -> int:
        """Read the rest, and return the exit code; below zero: the signal that ended it."""
        for _ in self._read():
            pass
        self.code = code = self._process.wait()
        self._watchdog.cancel()
        if self._process.stdout:
            self._process.stdout.close()
        self._errors.seek(0)
        self.errors = self._errors.read()
        self._errors.close()
        self.seconds = time.monotonic() - self._began
        return code

    @property
    def said(self) -> str:
        """The last words: how it ended, or the error."""
        return next((e["text"] for e in reversed(self.events) if e["kind"] in {"ended", "error"}), "") or self.errors

    def last_events(self, count: int = 20) -> list[str]:
        """Return the last events in short, one a line: what to read when a run ended as it should not have."""
        return [
            " ".join(str(event[key]) for key in ("kind", "host", "phase", "title", "text") if event.get(key))
            for event in self.events[-count:]
        ]

    def _read(self) -> Iterator[Event]:
        for line in self._process.stdout or ():
            if not line.startswith("{"):
                continue
            event = json.loads(line)
            if event.get("kind") != "line":
                self.events.append(event)
                yield event

    def _overrun(self) -> None:
        self.overran = True
        self._process.kill()
