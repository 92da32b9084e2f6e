"""Command, Script, and the text that travels. The only quoter in the house."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK = "\x1e"


@dataclass(frozen=True)
class Command:
    """A word of the library in deploy/host/ with its arguments. None is ever a secret: those travel as files."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


def typed(words: Sequence[str]) -> str:
    """Return words as a person would have to type them."""
    return shlex.join(words)


def command(word: str, *arguments: object) -> Command:
    return Command((word, *map(str, arguments)))


@dataclass(frozen=True)
class Begin:
    """Step `number` of the script has begun."""

    number: int


@dataclass(frozen=True)
class End:
    """Step `number` has ended with exit `status`."""

    number: int
    status: int


@dataclass(frozen=True)
class Answer:
    """A fact the host was asked for."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """Something a program on the host printed."""

    text: str


@dataclass(frozen=True)
class Alive:
    """A long look goes on."""


@dataclass(frozen=True)
class Finished:
    """The script has come to its end. Without this, the outcome is unknown."""


Signal = Begin | End | Answer | Line | Alive | Finished


FENCE = -1
"""The number that the fence has among the steps of a script."""


@dataclass(frozen=True)
class Script:
    """Consecutive commands that travel in one round trip.

    With `run` (the id of a run that holds the lock) it works inside the app's directory, behind the fence, which lets
    the scripts of a run through in the order of their `turn`, and none that was overtaken; without,
    it may only look. `deadline` in seconds, over all of it; a script that `holds` goes on until it is let go, one that
    is `heard` for as long as somebody listens; one that `sends` has its standard output for a payload, and says
    everything else by the standard error.
    """

    commands: tuple[Command, ...]
    variables: tuple[tuple[str, str], ...]
    run: str = ""
    turn: int = 0
    deadline: float = 60
    holds: bool = False
    sends: bool = False
    heard: bool = False

    def render(self, library: str, token: str) -> str:
        """Return the sh text: the library, the variables, and a marked step for each command.

        All that acts stands between braces, which sh reads to the end before it does anything: a script that arrives
        cut short does nothing.
        """
        lines = [library, "{", "set -u", f"TOKEN={token}"]
        lines += ["exec 3>&1 1>&2", "mark payload >&3"] if self.sends else []
        lines += [f"{name}={shlex.quote(value)}" for name, value in self.variables]
        if self.run or self.holds:
            # nginx's workers look into what is made here: a login's own umask must not hide it from them.
            lines.append('umask 022; mkdir -p "$BASE" && cd "$BASE" && BASE=$PWD || exit')
        if self.run:
            lines.append(f"step {FENCE} fence {shlex.quote(self.run)} {self.turn}")
        # Only a few words read what follows the script on the standard input; anything else would eat it.
        lines += [
            f"step {number} {each}" + ("" if each.words[0] in READS_INPUT else " </dev/null")
            for number, each in enumerate(self.commands)
        ]
        lines += ["unfence"] if self.run else []
        return "\n".join([*lines, "mark finished", "}"]) + "\n"


READS_INPUT = frozenset({"receive", "hold", "take_image", "push_image", "pull_image", "follow_logs", "run_inside"})


class Opening:
    """What comes before a payload: what a login shell says (an `echo` in .bashrc), and the mark that ends it."""

    def __init__(self, token: str) -> None:
        self._mark: bytes = f"{MARK}{token} payload\n".encode()
        self._before: bytes | None = b""

    def passed(self, block: bytes) -> bytes:
        """Return what of a block is payload; b"" as long as the mark is still to come."""
        if self._before is None:
            return block
        before, mark, payload = (self._before + block).partition(self._mark)
        self._before = None if mark else before[-len(self._mark) :]
        return payload


_AS_ROOT = 'sudo -n env HOME="$HOME" '


def alone(line: Command, *, sudo: bool = False) -> str:
    """Return the command line of an exec request for a command that comes without a script."""
    return f"exec {_AS_ROOT if sudo else ''}{line}"


def waiting(*, sudo: bool = False, apart: bool = False) -> str:
    """Return the command line of an exec request for a shell that waits for a script, as `framed` sends it.

    The script goes in by the standard input, so that `ps` on the host shows none of it and the login shell, whatever
    it is, has nothing to quote. `read` takes the first line byte by byte (POSIX, `read`: it must not read beyond), `dd`
    exactly the script, in however many pieces it comes (fullblock), and both leave the rest to the script: `head -c`
    may read ahead (busybox does). With `sudo` root runs it, in the login's own home. The standard error comes with the
    standard output, or `apart`.
    """
    who = _AS_ROOT if sudo else ""
    errors = "" if apart else " 2>&1"
    return f"exec {who}sh -c 'read -r n && eval \"$(dd bs=$n count=1 iflag=fullblock 2>/dev/null)\"'{errors}"


def framed(script: str) -> bytes:
    """Return what to send first to a shell that waits: the script's length in bytes, and the script."""
    text = script.encode()
    return b"%d\n%b" % (len(text), text)


SHELL = "if command -v bash >/dev/null; then exec bash; fi; exec sh"


def in_terminal(container: str, words: Sequence[str] = ()) -> Command:
    """Return what gives a terminal to a command in a container: the words given, or the best shell there is.

    This one stands in an exec request as it is: a script could not leave the standard input to whoever types.
    """
    return command("docker", "exec", "-it", container, *(words or ("sh", "-c", SHELL)))


def parse(line: str, token: str) -> list[Signal]:
    """Read one line of a script's output. Output without a final newline may stand before a mark."""
    mark = f"{MARK}{token} "
    before, found, message = line.partition(mark)
    if not found:
        return [Line(line)]
    signals: list[Signal] = [Line(before)] if before else []
    with contextlib.suppress(ValueError):  # the link broke within the mark: what it was to say has not been heard
        signals += _read(message)
    return signals


def _read(message: str) -> list[Signal]:
    kind, _, rest = message.partition(" ")
    if kind == "begin":
        return [Begin(int(rest))]
    if kind == "end":
        number, status = rest.split()
        return [End(int(number), int(status))]
    if kind == "=":
        key, *values = rest.split("\t")
        return [Answer(key, tuple(values))]
    return [Alive()] if kind == "alive" else [Finished()] if kind == "finished" else []
