"""One host behind one connection: scripts in, signals out."""

from __future__ import annotations

import codecs
import contextlib
import secrets
from typing import IO, TYPE_CHECKING

import paramiko

from deploy import clock, host
from deploy.errors import LinkLost, Overdue, StepFailed
from deploy.recipe import shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import fabric

    from deploy.recipe.model import Host
    from deploy.recipe.shell import Script, Signal

BLOCK = 1 << 16
LOOK = 0.2
"""Seconds between two looks at whether somebody wants to break off."""

IN_FLIGHT = 1 << 19
"""Bytes of a parcel that may be on their way. More would fill buffers along a thin line for longer than a silence may
last: no answer overtakes them (see wire.py). Half a MiB a round trip of 100 ms is 5 MB/s."""

LONGEST = 1 << 20
"""Characters after which a line that does not end is cut: a program may draw its progress on one for hours."""


KILLED = -1
"""What paramiko calls the exit status of a program that did not end by itself, or of which no end was heard."""


def never() -> bool:
    return False


class SshMachine:
    """One host behind one connection. Scripts run on it one after the other; a hold runs beside them."""

    def __init__(
        self, target: Host, open_connections: Callable[[], list[fabric.Connection]], *, sudo: bool = False
    ) -> None:
        self.host = target
        self._sudo = sudo
        self._open = open_connections
        self._take(open_connections())

    def reconnect(self) -> None:
        """Close what is left of the connection, and open a new one in the same way, host keys included.

        Raises:
            Unreachable: as the first time.

        """
        self.close()
        self._take(self._open())

    def _take(self, connections: list[fabric.Connection]) -> None:
        """Take over a connection to the host, behind those to the jump hosts that carry it."""
        self._connections = connections
        self._transport: paramiko.Transport = connections[-1].transport

    def close(self) -> None:
        for connection in reversed(self._connections):
            connection.close()

    def run(
        self, script: Script, *, parcel: IO[bytes] | None = None, stop: Callable[[], bool] = never
    ) -> Iterator[Signal]:
        """Run a script and yield what it says, as it says it; break off when `stop` says so.

        Raises:
            LinkLost: the end was not heard: the outcome is unknown.

        """
        token = secrets.token_hex(8)
        channel = self._exec(script, token, parcel)
        try:
            for line in _lines(channel, script.deadline, stop):
                yield from shell.parse(line, token)
        finally:
            channel.close()

    def hold(self, script: Script) -> Hold:
        """Start a script that goes on until it is let go; returns when it has given its first answer.

        Raises:
            StepFailed: it came to its end without one; what it printed says why.
            LinkLost: nothing was heard.

        """
        token = secrets.token_hex(8)
        channel = self._exec(script, token, None)
        lines = _lines(channel, script.deadline, never)
        signals = (signal for line in lines for signal in shell.parse(line, token))
        heard: list[str] = []
        for signal in signals:
            if isinstance(signal, shell.Answer):
                return Hold(channel, signal)
            if isinstance(signal, shell.Line):
                heard.append(signal.text)
        said = "; ".join(heard) or "it ended before it answered"
        raise LinkLost(said) if channel.recv_exit_status() == KILLED else StepFailed(said)

    def _exec(self, script: Script, token: str, parcel: IO[bytes] | None) -> paramiko.Channel:
        library = host.library(command.words[0] for command in script.commands)
        line, text = shell.wrap(script.render(library, token), sudo=self._sudo)
        try:
            channel = self._transport.open_session(timeout=script.deadline)
            channel.exec_command(line)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise LinkLost(f"the link broke: {error or type(error).__name__}", sent=False) from None
        # A script that fails early closes its end of the stream: what it printed says why, and is read next.
        with contextlib.suppress(OSError):
            channel.settimeout(script.deadline)
            whole = channel.out_window_size
            _send(channel, text)
            while parcel and (block := parcel.read(BLOCK)):
                _await_room(channel, whole, script.deadline)
                _send(channel, block)
            if not script.holds:
                channel.shutdown_write()
        return channel


class Hold:
    """A script that keeps something for us while `beat` is called, and lets go by itself when it is not."""

    def __init__(self, channel: paramiko.Channel, answer: shell.Answer) -> None:
        self._channel = channel
        self.answer = answer

    def beat(self) -> bool:
        """Say that we are alive; False when nobody listens any more."""
        try:
            self._channel.sendall(b".")
        except OSError:
            return False
        return not self._channel.exit_status_ready()

    def release(self) -> None:
        """Let go, and wait until the other side has: the next operator must find it free."""
        try:
            self._channel.shutdown_write()
            self._channel.settimeout(5)
            while self._channel.recv(BLOCK):
                pass
        except OSError:
            pass  # the link is gone; the lease lets go by itself
        self._channel.close()


def _await_room(channel: paramiko.Channel, whole: int, limit: float) -> None:
    """Wait until less than IN_FLIGHT is on its way: what the other side has read it gives back to the window.

    Raises:
        TimeoutError: it read nothing for `limit` seconds.

    """
    with channel.lock:
        while not channel.closed and whole - channel.out_window_size > IN_FLIGHT:
            if not channel.out_buffer_cv.wait(limit):
                raise TimeoutError


def _send(channel: paramiko.Channel, block: bytes) -> None:
    channel.sendall(memoryview(block))  # type: ignore[arg-type]  # bytes would be copied once per packet: quadratic


def _lines(channel: paramiko.Channel, limit: float, stop: Callable[[], bool]) -> Iterator[str]:
    """Yield whole lines, decoded: a UTF-8 character may be cut by any packet, a line only when it is LONGEST."""
    channel.settimeout(LOOK)
    deadline = clock.monotonic() + limit
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    while not stop():
        if clock.monotonic() > deadline:
            raise Overdue(f"it had not come to an end after {limit:.0f} s")
        try:
            block = channel.recv(BLOCK)
        except TimeoutError:
            continue
        *whole, rest = (rest + decoder.decode(block, final=not block)).split("\n")
        yield from whole
        if not block:
            break
        if len(rest) > LONGEST:
            # A mark may stand behind it, and must not be cut.
            cut = rest.rfind(shell.MARK)
            piece, rest = (rest[:cut], rest[cut:]) if cut > 0 else (rest, "")
            yield piece
    if rest:
        yield rest
