"""One host behind one connection: scripts in, signals out."""

from __future__ import annotations

import codecs
import contextlib
import math
import secrets
from typing import IO, TYPE_CHECKING

import paramiko

from deploy import clock, host
from deploy.errors import Interrupted, LinkLost, Overdue, StepFailed
from deploy.machine.spare import OPENING, Spare
from deploy.machine.wire import GONE, hang_up, heard
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

BEAT = 3.0
"""Seconds between two signs that we listen; the first goes at once."""

LONGEST = 1 << 20
"""Characters after which a line that does not end is cut: a program may draw its progress on one for hours."""


CUT = "the link went away while a host was read"

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
        self._spare = Spare(self._transport, shell.waiting(sudo=self._sudo))

    def close(self) -> None:
        for connection in reversed(self._connections):
            connection.close()

    def run(
        self, script: Script, *, parcel: IO[bytes] | None = None, stop: Callable[[], bool] = never
    ) -> Iterator[Signal]:
        """Run a script and yield what it says, as it says it; break off when `stop` says so.

        One that is `heard` is told every BEAT seconds that we listen, and ends when it is not.

        Raises:
            LinkLost: the end was not heard: the outcome is unknown.
            StepFailed: the host has no session free.

        """
        if stop():
            return  # what is on its way might begin after whatever undoes it
        token = secrets.token_hex(8)
        channel = self._exec(script, token, parcel, stop)
        try:
            for line in _lines(channel, script.deadline, _listening(channel, stop) if script.heard else stop):
                yield from shell.parse(line, token)
        finally:
            hang_up(channel)

    def fetch(self, script: Script, *, stop: Callable[[], bool] = never) -> Payload:
        """Start a script that sends something, and return that as it comes.

        Raises:
            LinkLost: it could not be started.

        """
        token = secrets.token_hex(8)
        return Payload(self._exec(script, token), token, script.deadline, stop)

    def hold(self, script: Script) -> Hold:
        """Start a script that goes on until it is let go; returns when it has given its first answer.

        Raises:
            StepFailed: it came to its end without one; what it printed says why.
            LinkLost: nothing was heard.

        """
        token = secrets.token_hex(8)
        channel = self._exec(script, token)
        lines = _lines(channel, script.deadline, never)
        signals = (signal for line in lines for signal in shell.parse(line, token))
        said: list[str] = []
        for signal in signals:
            if isinstance(signal, shell.Answer):
                return Hold(channel, signal)
            if isinstance(signal, shell.Line):
                said.append(signal.text)
        why = "; ".join(said) or "it ended before it answered"
        raise LinkLost(why) if channel.recv_exit_status() == KILLED else StepFailed(why)

    def reach(self, address: tuple[str, int]) -> paramiko.Channel:
        """Have the host connect to an address, as it sees it, and pass on what comes and goes.

        Raises:
            StepFailed: it says no: its sshd forwards nothing, or nobody listens there.
            LinkLost: the link broke.

        """
        try:
            return self._transport.open_channel("direct-tcpip", address, ("127.0.0.1", 0), timeout=OPENING)
        except paramiko.ChannelException as error:
            reason = "its sshd forwards nothing (AllowTcpForwarding)" if error.code == 1 else error.text.lower()
            raise StepFailed(f"{address[0]}:{address[1]} cannot be reached from there: {reason}") from None
        except GONE as error:
            raise LinkLost(f"the link broke: {error or type(error).__name__}", sent=False) from None

    def interact(self, line: shell.Command, kind: str, size: tuple[int, int]) -> Terminal:
        """Start a command that gets a terminal of a kind and a size (columns, rows).

        Raises:
            LinkLost: the link broke.

        """
        try:
            channel = self._transport.open_session(timeout=OPENING)
            channel.get_pty(kind, *size)
            channel.exec_command(shell.alone(line, sudo=self._sudo))
        except GONE as error:
            raise LinkLost(f"the link broke: {error or type(error).__name__}", sent=False) from None
        return Terminal(channel)

    def _exec(
        self, script: Script, token: str, parcel: IO[bytes] | None = None, stop: Callable[[], bool] = never
    ) -> paramiko.Channel:
        library = host.library(command.words[0] for command in script.commands)
        text = shell.framed(script.render(library, token))
        channel = self._waiting(script)
        try:
            channel.settimeout(script.deadline)
            whole = channel.out_window_size
            _begin(channel, text)
            while parcel and (block := _read(parcel)):
                if not (_has_room(channel, whole, script.deadline, stop) and _is_sent(channel, block)):
                    return channel  # it ended, or nobody wants it any more: reading tells
            if not (script.holds or script.heard):
                with contextlib.suppress(*GONE):
                    channel.shutdown_write()
        except BaseException:
            hang_up(channel)  # nobody will hear what the script says; it must not wait for more
            raise
        return channel

    def _waiting(self, script: Script) -> paramiko.Channel:
        """Return a channel whose far end waits for a script."""
        if script.sends:
            return self._spare.aside(shell.waiting(sudo=self._sudo, apart=True), script.deadline)
        return self._spare.take(script.deadline)


class Terminal:
    """The far end of the operator's terminal."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def fileno(self) -> int:
        return self._channel.fileno()

    def read(self) -> bytes:
        """Return what has come, once something has: nothing at the end."""
        return heard(self._channel.recv, BLOCK)

    def write(self, typed: bytes) -> None:
        with contextlib.suppress(*GONE):  # it may have ended; that is what reading tells
            self._channel.sendall(typed)

    def resize(self, columns: int, rows: int) -> None:
        with contextlib.suppress(*GONE):
            self._channel.resize_pty(columns, rows)

    def end(self) -> int:
        """Return the exit code of what ran there; -1 if the link went away before it was told."""
        self._channel.status_event.wait(LOOK)
        code = self._channel.exit_status
        hang_up(self._channel)
        return code


class Hold:
    """A script that keeps something for us while `beat` is called, and lets go by itself when it is not."""

    def __init__(self, channel: paramiko.Channel, answer: shell.Answer) -> None:
        self._channel = channel
        self.answer = answer

    def beat(self) -> bool:
        """Say that we are alive; False when nobody listens any more."""
        try:
            self._channel.sendall(b".")
        except GONE:
            return False
        return not self._channel.exit_status_ready()

    def let_go(self) -> None:
        """Say that it is over; `gone` waits until the other side has heard."""
        with contextlib.suppress(*GONE):  # the lease lets go by itself
            self._channel.shutdown_write()

    def gone(self, within: float) -> None:
        """Wait, for so many seconds, until the other side has let go: the next operator must find it free."""
        with contextlib.suppress(TimeoutError):
            self._channel.settimeout(within)
            while heard(self._channel.recv, BLOCK):
                pass
        hang_up(self._channel)


class Payload:
    """What a script sends, while its marks come by the standard error; they decide whether this was all of it."""

    def __init__(self, channel: paramiko.Channel, token: str, limit: float, stop: Callable[[], bool]) -> None:
        self._channel = channel
        self._token = token
        self._opening = shell.Opening(token)
        self._limit = limit
        self._deadline = clock.monotonic() + limit
        self._stop = stop
        channel.settimeout(LOOK)

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, b"" at the end.

        Raises:
            Interrupted: `stop` said so.
            LinkLost: the end was not heard.
            Overdue: it took longer than the script may.
            StepFailed: the script said no; its last lines say why.

        """
        while not self._stop():
            if clock.monotonic() > self._deadline:
                raise Overdue(f"it had not come to an end after {self._limit:.0f} s")
            try:
                block = self._channel.recv(size)
            except TimeoutError:
                continue
            except GONE:  # with it went a block that had come
                raise LinkLost(CUT) from None
            if not block:
                self._hear_the_end()
                return block
            if payload := self._opening.passed(block):
                return payload
        raise Interrupted("broken off")

    def close(self) -> None:
        hang_up(self._channel)

    def _hear_the_end(self) -> None:
        said = b""
        with contextlib.suppress(TimeoutError):  # an end that is not heard by now was cut off
            while block := heard(self._channel.recv_stderr, BLOCK):
                said += block
        lines = said.decode("utf-8", "replace").split("\n")
        signals = [signal for line in lines for signal in shell.parse(line, self._token)]
        tail = tuple(signal.text for signal in signals if isinstance(signal, shell.Line) and signal.text)
        if any(isinstance(signal, shell.End) and signal.status for signal in signals):
            raise StepFailed("send the image: failed: " + "; ".join(tail[-3:]), tail=tail)
        if shell.Finished() not in signals:
            raise LinkLost(CUT)


def _listening(channel: paramiko.Channel, stop: Callable[[], bool]) -> Callable[[], bool]:
    """Return `stop`, which sends the signs that we listen as often as it is asked: at each look."""
    last = -math.inf

    def asked() -> bool:
        nonlocal last
        if clock.monotonic() - last >= BEAT and channel.send_ready():
            last = clock.monotonic()
            with contextlib.suppress(*GONE):  # whether the link is there is what reading tells
                channel.sendall(b".")
        return stop()

    return asked


def _begin(channel: paramiko.Channel, text: bytes) -> None:
    """Send a script's text.

    Raises:
        LinkLost: what came of it does nothing: it ends in a brace (Script.render). A shell that ended may say why.

    """
    try:
        _send(channel, text)
    except GONE as error:
        if not channel.recv_ready():
            raise LinkLost(f"the link broke: {error or type(error).__name__}", sent=False) from None


def _read(parcel: IO[bytes]) -> bytes:
    """Read a block of what is to be sent.

    Raises:
        StepFailed: our own disk does not give it.

    """
    try:
        return parcel.read(BLOCK)
    except OSError as error:
        raise StepFailed(f"what is to be sent cannot be read here: {error}") from None


def _has_room(channel: paramiko.Channel, whole: int, limit: float, stop: Callable[[], bool]) -> bool:
    """Wait until less than IN_FLIGHT is on its way: what the other side has read it gives back to the window.

    False when it takes no more: it ended, or did not make room within `limit` seconds, or `stop` says so.
    """
    deadline = clock.monotonic() + limit
    with channel.lock:
        while not channel.closed and whole - channel.out_window_size > IN_FLIGHT:
            channel.out_buffer_cv.wait(LOOK)
            if clock.monotonic() > deadline:
                return False
            if stop():
                return False
    return not (channel.closed or stop())


def _is_sent(channel: paramiko.Channel, block: bytes) -> bool:
    try:
        _send(channel, block)
    except GONE:
        return False
    return True


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
            block = heard(channel.recv, BLOCK)
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
