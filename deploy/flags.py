"""What stands behind a flag, read and refused in words: Invoke would meet bad input with a traceback."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deploy.config import whole
from deploy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_AGO = re.compile(r"(?:(\d+)d)?((?:\d+[hms])*)", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)


def kept(text: str) -> int:
    """Read how many releases shall stay; 0 where nothing is said.

    Raises:
        ConfigError: it is no number, or 0: what is live always stays.

    """
    number = whole(text, "--keep", "a number of releases") if text else 0
    if text and not number:
        raise ConfigError("--keep: at least 1 stays, the one that is live", mend="say --keep=1")
    return number


def port(text: str) -> int:
    """Read a port of this machine.

    Raises:
        ConfigError: there is no such port.

    """
    number = whole(text, "--port", "a port")
    if not 0 < number < 1 << 16:
        raise ConfigError(f"--port: expected a port from 1 to 65535, got {text}")
    return number


def names(text: str, flag: str) -> tuple[str, ...]:
    """Read names of services, separated by commas; none where nothing is said, which means all of them.

    Raises:
        ConfigError: one of them can be no service's name, or there is none between the commas.

    """
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if text and not found:
        raise ConfigError(f"{flag}: {text!r} names no service; leave {flag} out, or say which: {flag}=celery,redis")
    for name in found:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{flag}: {name!r} is no name of a service")
    return found


def since(text: str) -> str:
    """Read --since and return it as docker takes it: `1h30m` ago, or a time; docker knows no days.

    A time without a zone is UTC, here as in what is shown.

    Raises:
        ConfigError: it is neither.

    """
    if not text:
        return ""
    if ago := _AGO.fullmatch(text):
        return f"{int(ago[1] or 0) * 24}h{ago[2]}"
    if time := _TIME.fullmatch(text):
        return text + ("" if time[2] else "Z" if time[1] else "T00:00:00Z")
    raise ConfigError(f"--since: {text!r} is no time", mend="say how long ago, like 90s, 10m, 2h, 3d, or a time")


def pattern(text: str, flag: str) -> re.Pattern[str] | None:
    """Read a regular expression (Python's); None where there is none.

    Raises:
        ConfigError: it is none.

    """
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise ConfigError(f"{flag}: {text!r} is no regular expression: {error}") from None


def one_off(command: str, typed: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command that is to be run in a container: given as one string, or after `--`.

    `typed` is the whole command line: Invoke joins what stands after `--`, and its words would be lost.

    Raises:
        ConfigError: it was given both ways.

    """
    words = tuple(typed[typed.index("--") + 1 :]) if "--" in typed else ()
    if command and words:
        raise ConfigError("--command: a command stands after -- as well", mend="say it one way")
    return ("sh", "-c", command) if command else words
