"""Where there is no terminal: lines in groups that a forge can fold, and a sign of life while nothing is said."""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING, Protocol

from deploy import clock
from deploy.console.board import Board, lasting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from deploy.console.events import Event

SILENCE = 30.0
"""Seconds without a line after which a sign of life is given: forges end a job that says nothing for long."""

NAMED = 3
"""Hosts whose step a sign of life names."""


class Groups(Protocol):
    """How a forge folds the lines of a job."""

    def begin(self, name: str, title: str) -> str: ...
    def end(self, name: str) -> str: ...


class GitHub:
    """Workflow commands: docs.github.com, "Grouping log lines". Forgejo and Gitea read them, too."""

    def begin(self, name: str, title: str) -> str:  # noqa: ARG002  # a group has a title alone
        return f"::group::{title}"

    def end(self, name: str) -> str:  # noqa: ARG002  # there is one at a time
        return "::endgroup::"


class GitLab:
    """Collapsible sections: docs.gitlab.com, "Custom collapsible sections"."""

    def begin(self, name: str, title: str) -> str:
        return f"\x1b[0Ksection_start:{_now()}:{_section(name)}\r\x1b[0K{title}"

    def end(self, name: str) -> str:
        return f"\x1b[0Ksection_end:{_now()}:{_section(name)}\r\x1b[0K"


def _now() -> int:
    return int(clock.utc_now().timestamp())


def _section(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", f"greenroom_{name}")


def groups() -> Groups | None:
    """Return how the forge that this job runs at folds lines, if it does."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        return GitHub()
    if os.environ.get("GITLAB_CI") == "true":
        return GitLab()
    return None


class Pulse:
    """Says what is at work whenever nothing was said for a while, in a thread of its own.

    `say` prints a line; `elapsed` returns the seconds since the run began.
    """

    def __init__(
        self, hosts: Iterable[str], say: Callable[[str], None], elapsed: Callable[[], float], silence: float = SILENCE
    ) -> None:
        self._board = Board(hosts)
        self._say = say
        self._elapsed = elapsed
        self._silence = silence
        self._heard = threading.Event()
        self._over = False
        self._lock = threading.Lock()
        threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    def hear(self, event: Event, now: float, *, shown: bool) -> None:
        """Learn of an event; `shown` says that it is a line, too."""
        with self._lock:
            self._board.hear(event, now)
        if shown:
            self._heard.set()

    def end(self) -> None:
        self._over = True
        self._heard.set()

    def _beat(self) -> None:
        while not self._over:
            if self._heard.wait(self._silence):
                self._heard.clear()
            elif not self._over:
                self._say(self._sign())

    def _sign(self) -> str:
        with self._lock:
            rows = self._board.at_work()
            steps = [
                f"{row.host} [{row.phase}] {row.title}, for {lasting(self._elapsed() - row.since)}"
                for row in rows[:NAMED]
            ]
        more = [f"{len(rows) - NAMED} more"] if len(rows) > NAMED else []
        return f"still at work: {'; '.join([*steps, *more]) or 'waiting'}"
