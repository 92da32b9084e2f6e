"""What people and programs see. The only printer: nothing else in the house writes to a terminal."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from deploy import clock
from deploy.console import tables
from deploy.console.durations import Durations
from deploy.console.events import VERSION
from deploy.errors import Failed, GreenroomError, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from deploy.console.events import Event
    from deploy.console.journal import Journal
    from deploy.console.live import LiveTable
    from deploy.console.plain import Groups, Pulse
    from deploy.console.terminal import Terminal


class Console:
    """Takes events from many threads and shows them in one of three ways.

    A live view on a terminal, one line an event elsewhere, one JSON object a line on request. Steps' own output is
    shown only where it failed, or with `verbose`. Where a forge runs the job, the lines of each phase are a group.
    `ended` says whether a run has told that it did what it was to do; it is `unheard` once nobody reads what it prints
    any more.
    """

    def __init__(self, *, as_json: bool = False, verbose: bool = False, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._json = as_json
        self._verbose = verbose
        self._lock = threading.Lock()
        self._began = clock.monotonic()
        self._redact: Callable[[str], str] = str
        self._live: LiveTable | None = None
        self._pulse: Pulse | None = None
        self._groups: Groups | None = None
        self._group = ""
        self._durations = Durations()
        self._journal: Journal | None = None
        self.ended = False
        self.unheard = False

    @property
    def fancy(self) -> bool:
        return not self._json and self._out.isatty()

    def hide(self, redact: Callable[[str], str]) -> None:
        """From now on, pass every text through `redact`."""
        self._redact = redact

    def record(self, path: Path, **head: Any) -> None:
        """Write this run down, too, once it changes something: first what `head` says of it, then its events."""
        from deploy.console.journal import Journal

        self._journal = Journal(path)
        self._journal.write(self._as_json({"kind": "run", **head}))

    def redacted(self, text: str) -> str:
        """Return a text as it may be shown to anybody."""
        return self._redact(text)

    def emit(self, event: Event) -> None:
        self.ended = self.ended or event.kind == "ended"
        with self._lock:
            if self._journal and event.kind != "line":
                told = {"at": round(self.elapsed, 3), **event.data()}
                self._journal.write(self._as_json(told), begins=event.kind == "phase")
            self._durations.hear(event)
            if self._json:
                self._tell(event.data())
            elif self._live:
                self._live.show(replace(event, text=self._redact(event.text)), self.elapsed)
                if event.kind in {"note", "failed", "ended"}:
                    self._live.say(self._redact(_plain(event, self.elapsed)))
            else:
                self._line(event)

    def _line(self, event: Event) -> None:
        """Print an event as a line. What failed, and how it ended, stands outside of every group: nobody unfolds it."""
        shown = event.kind != "line" or self._verbose
        if self._pulse:
            self._pulse.hear(event, self.elapsed, shown=shown)
        if event.kind in {"phase", "failed", "ended"}:
            self._end_group()
        text = _plain(event, self.elapsed)
        if event.kind == "phase" and self._groups:
            self._group = event.phase
            text = self._groups.begin(event.phase, text)
        if shown:
            self._print(text)

    def _end_group(self) -> None:
        if self._group and self._groups:
            self._print(self._groups.end(self._group))
        self._group = ""

    def _tell(self, event: Mapping[str, Any]) -> None:
        """Print an event for programs: the version of the format, and the seconds since the run began."""
        self.data({"v": VERSION, "at": round(self.elapsed, 3), **event})

    @property
    def elapsed(self) -> float:
        """Seconds since this console was opened."""
        return clock.monotonic() - self._began

    def watch(self, hosts: Sequence[str]) -> None:
        """Begin the live view, where there is a terminal to show it on; elsewhere a sign of life now and then."""
        if self._can_draw():
            from deploy.console.live import LiveTable  # rich takes 100 ms to import

            self._live = LiveTable(hosts, self._out, lambda: self.elapsed, verbose=self._verbose)
        elif not self._json:
            from deploy.console.plain import Pulse, groups

            self._groups = groups()
            self._pulse = Pulse(hosts, self._sign, lambda: self.elapsed)

    def _can_draw(self) -> bool:
        """Say whether this is a terminal whose cursor can be moved, with a person before it and signs to show them."""
        moves = os.environ.get("TERM", "dumb") not in {"dumb", "unknown"} and not os.environ.get("CI")
        return self.fancy and moves and (self._out.encoding or "utf-8").lower().replace("-", "") == "utf8"

    def _sign(self, text: str) -> None:
        with self._lock:
            self._print(f"{self.elapsed:6.1f}s {text}")

    def unwatch(self) -> None:
        """End the live view; of a run that did not come to its end it stays. One that did says how long it took."""
        with self._lock:
            if self._live:
                self._live.close(keep=not self.ended)
                self._live = None
            if self._pulse:
                self._pulse.end()
                self._pulse = None
            self._end_group()
        if self.ended and self._durations and not self._json:
            self.table(*self._durations.table())

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows under columns, aligned, and on a terminal within its width; in JSON one object a row."""
        if self._json:
            for row in rows:
                self.data(dict(zip(columns, row, strict=True)))
            return
        shown = [[self._redact(cell) for cell in row] for row in rows]  # what is folded would not be found any more
        for line in tables.lines(columns, shown, shutil.get_terminal_size().columns if self.fancy else 0):
            self._print(line)

    def say(self, text: str) -> None:
        """Print a text; in JSON as a note."""
        if self._json:
            self._tell({"kind": "note", "text": text})
        else:
            self._print(text)

    def file(self, name: str, what: str, text: str) -> None:
        """Print a file, under a line that says what it is; in JSON as one object."""
        if self._json:
            self._tell({"kind": "file", "name": name, "text": text})
        else:
            self._print(f"# --- {name}: {what}\n{text}")

    def log(self, host: str, service: str, text: str, at: str = "") -> None:
        """Print a line that a program wrote: on which host, by which service, when, as far as that is of interest."""
        with self._lock:
            if self._json:
                named = {"at": at, "host": host.strip(), "service": service}
                self.data({**{key: value for key, value in named.items() if value}, "text": text})
            else:
                where = " ".join(filter(None, (host, service)))
                self._print(f"{where} | {text}" if where else text)

    def terminal(self) -> Terminal | None:
        """Return the terminal that the operator sits at, if there is one."""
        from deploy.console.terminal import Terminal

        return Terminal() if self.fancy and sys.stdin.isatty() else None

    def data(self, value: Mapping[str, Any]) -> None:
        """Print a value for programs."""
        self._write(self._as_json(value))

    def fail(self, error: GreenroomError) -> None:
        """Say what went wrong, where, and what to type next: on stderr, or as the last JSON event."""
        self.unwatch()
        untouched = self._journal and not self._journal.begun and isinstance(error, (Refused, Failed))
        text = f"{error}\nNothing was touched: users have what they had." if untouched else str(error)
        told = {"kind": "error", "exit_code": error.exit_code, "text": text}
        if self._journal:
            self._journal.write(self._as_json({"at": round(self.elapsed, 3), **told}))
        if self._json:
            self._tell(told)
        else:
            self._write(self._redact(text), sys.stderr)

    def confirm(self, question: str) -> bool:
        """Ask a person; without one the answer is no."""
        if not self.fancy or not sys.stdin.isatty():
            return False
        self._write(self._redact(f"{question} [y/N]"), end=" ")
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    def ask(self, question: str, default: str) -> str:
        """Ask a person; without one, or without a word from them, the answer is the default."""
        if not self.fancy or not sys.stdin.isatty():
            return default
        self._write(self._redact(f"{question} [{default}]"), end=" ")
        return sys.stdin.readline().strip() or default

    def _as_json(self, value: Mapping[str, Any]) -> str:
        """Redact the texts, and only then make JSON of them."""
        shown = {k: self._redact(v) if isinstance(v, str) and k != "kind" else v for k, v in value.items()}
        return json.dumps(shown, ensure_ascii=False)

    def _print(self, text: str) -> None:
        self._write(self._redact(text))

    def _write(self, text: str, errors: TextIO | None = None, end: str = "\n") -> None:
        """Nobody may be listening any more (`inv deploy | head`): a deploy does not break off half-way for that.

        Nor does it end with another exit code, where nobody reads the `errors`.
        """
        out = errors or self._out
        encoding = out.encoding or "utf-8"
        line = f"{text}{end}".encode(encoding, "replace").decode(encoding)
        try:
            out.write(line)
            out.flush()
        except OSError:
            self.unheard = True


def _plain(event: Event, elapsed: float) -> str:
    """One line an event: when, where, which phase, what. A finding has its mend below it."""
    if event.kind == "finding":
        mend = f"\n       mend: {event.mend}" if event.mend else ""
        return f"{event.weight:<5}  {event.where}{': ' if event.where else ''}{event.text}  [{event.rule}]{mend}"
    body = {
        "step": f"{event.title}: {event.text}",
        "done": f"{event.title}: done in {event.seconds:.1f} s{event.text and f': {event.text}'}",
        "line": f"| {event.text}",
    }.get(event.kind, event.text or event.title)
    return " ".join(part for part in (f"{elapsed:6.1f}s", event.host, event.phase and f"[{event.phase}]", body) if part)
