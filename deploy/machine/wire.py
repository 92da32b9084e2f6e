"""What carries a transport: a socket, or a channel of the jump host before it; and who notices that it went dead.

paramiko sends keep-alives and never counts the answers (paramiko #2463). The kernel sees bytes that nobody
acknowledges, but not a box on the way that acknowledges everything and passes on nothing. So the other side is asked,
and must answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import sys
import termios
import threading
from typing import TYPE_CHECKING

import paramiko

from deploy import clock
from deploy.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 1.0
"""Seconds between two looks."""

ASK = 5
"""Looks in which nothing was heard, after which the other side is asked whether it is there."""

NAP = 5.0
"""Seconds that a transport's own thread sleeps while nothing comes in. Left alone it looks ten times a second whether
it was closed meanwhile; here that wakes it."""

SILENCE = 15
"""Looks in which nothing was heard, after which the link counts as dead. They are counted, not timed: a laptop that was
closed, or a process that was stopped, has not looked."""

LINK_TIMEOUT_MS = 15_000
"""Milliseconds after which the kernel gives up bytes that nobody acknowledges."""

GONE = (OSError, EOFError, paramiko.SSHException)
"""What paramiko raises when a link went away. Which of them depends on who notices first: who writes to the socket gets
an EOFError, and until the transport's thread has noticed too, every channel looks open."""


class Wire:
    """A socket, or a channel, that remembers whether anything came in."""

    def __init__(self, carrier: socket.socket | paramiko.Channel) -> None:
        self._carrier = carrier
        self._heard = False
        self._queued = 0

    def recv(self, size: int) -> bytes:
        data = self._carrier.recv(size)
        self._heard = True
        return data

    def close(self) -> None:
        """Close it, and wake whoever waits for what may come in: a socket that is merely closed lets them sleep on."""
        if isinstance(self._carrier, socket.socket):
            with contextlib.suppress(OSError):  # the other side was faster
                self._carrier.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(*GONE):  # a channel says goodbye, in vain
            self._carrier.close()

    def settimeout(self, seconds: float) -> None:
        self._carrier.settimeout(seconds)

    def __getattr__(self, name: str) -> object:
        return getattr(self._carrier, name)

    def stirred(self) -> bool:
        """Say whether anything came in, or found its way out, since the last time that this was asked.

        A thin line may need a minute for what a full window holds, and no answer overtakes it.
        """
        heard, self._heard = self._heard, False
        before, self._queued = self._queued, self.queued()
        return heard or self._queued < before

    def queued(self) -> int:
        """Return the bytes that nobody has acknowledged yet, on the first stretch of the way."""
        if isinstance(self._carrier, paramiko.Channel):
            before: Wire = self._carrier.get_transport().sock  # type: ignore[assignment]  # it was made on one
            return before.queued()
        try:
            return int.from_bytes(fcntl.ioctl(self._carrier, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except (OSError, ValueError):
            return 0  # closed, or no system that counts them


def dial(address: str, port: int, limit: float) -> socket.socket:
    """Connect to a host, by whichever of its addresses answers. `limit` in seconds for each.

    Raises:
        OSError: none does, or the name does not resolve.
        Unreachable: no host can have this name.

    """
    try:
        sock = socket.create_connection((address, port), timeout=limit)
    except UnicodeError:  # Python encodes it by RFC 3490, and there only
        raise Unreachable(
            f"its name cannot be one: {address}", mend="is it spelt right? Between two dots stand 1 to 63 characters"
        ) from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LINK_TIMEOUT_MS)
    return sock


def heard(receive: Callable[[int], bytes], size: int) -> bytes:
    """Return what a channel's `recv` or `recv_stderr` has, b"" at its end or the link's.

    Whoever reads sends, too, now and then: that there is room again.

    Raises:
        TimeoutError: nothing came in the channel's own time.

    """
    try:
        return receive(size)
    except TimeoutError:
        raise
    except GONE:
        return b""


def hang_up(channel: paramiko.Channel) -> None:
    """Close a channel, and say so to the other side, if there still is one."""
    with contextlib.suppress(*GONE):
        channel.close()


def watch(transport: paramiko.Transport, wire: Wire) -> None:
    """Close a transport when its other side has been silent for too long, from now on until it ends."""
    wire.settimeout(NAP)
    threading.Thread(target=_watch, args=(transport, wire), name="watch", daemon=True).start()


def _watch(transport: paramiko.Transport, wire: Wire) -> None:
    silent = 0
    never = threading.Event()
    while not clock.pause(TICK, never) and transport.is_active():
        silent = 0 if wire.stirred() else silent + 1
        if silent == ASK:
            # In a thread of its own: whoever sends may wait for ever, and who watches must not.
            threading.Thread(target=_ask, args=(transport,), name="ask", daemon=True).start()
        if silent >= SILENCE:
            transport.close()


def _ask(transport: paramiko.Transport) -> None:
    """Send what every sshd answers, if only by saying that it does not know it; return when it did."""
    with contextlib.suppress(*GONE):
        transport.global_request("keepalive@openssh.com")
