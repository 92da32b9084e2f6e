"""What is asked of containers' logs, and the reading of what comes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.recipe import shell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deploy.recipe.model import App
    from deploy.recipe.shell import Answer, Command, Line

_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z) ?(.*)", re.DOTALL)
"""A line of `docker logs -t`. The time is UTC with nine decimals, so that sorting texts sorts times."""


@dataclass(frozen=True)
class Wanted:
    """Which lines: the newest `lines` of each container, written since (as docker takes it, '' for ever).

    Of `services`, or of all; of those the ones in which `grep` is found.
    """

    services: tuple[str, ...] = ()
    since: str = ""
    lines: str = "100"
    grep: re.Pattern[str] | None = None

    def takes(self, line: LogLine) -> bool:
        return self.grep is None or self.grep.search(line.text) is not None


@dataclass(frozen=True)
class LogLine:
    """A line of a container: when it was written (UTC; '' where docker itself speaks), and by which service."""

    at: str
    service: str
    text: str


def tell(wanted: Wanted) -> Command:
    return shell.command("tell_logs", wanted.since, wanted.lines, *wanted.services)


def follow(wanted: Wanted, lease: int) -> Command:
    """Ask to be told until nobody has listened for `lease` seconds."""
    return shell.command("follow_logs", lease, wanted.since, wanted.lines, *wanted.services)


def read(app: App, said: Iterable[Answer | Line]) -> Iterator[LogLine | str]:
    """Yield what a host says of logs: the name of each service that has any, and the lines.

    Those that are told come in the order of time; those that are followed as they are written.
    """
    for each in said:
        match each:
            case shell.Answer("log_of", (name,)):
                yield _service(app, name)
            case shell.Answer("logged", (name, at, *parts)):
                yield LogLine(at, _service(app, name), "\t".join(parts))
            case shell.Answer("log", (name, *parts)):
                text = "\t".join(parts)
                found = _STAMPED.fullmatch(text)
                yield LogLine(found[1] if found else "", _service(app, name), found[2] if found else text)


def _service(app: App, name: str) -> str:
    """Say `blue/web` of a coloured service, and `redis` of one of the settings stack."""
    stack, _, service = name.partition("/")
    return service if stack == app.settings_stack else f"{stack.removeprefix(f'{app.project}-')}/{service}"
