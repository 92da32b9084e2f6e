"""Channels whose far ends wait for a script, one of them opened before it is wanted.

sshd opens a channel, and starts its command, in a round trip each, and takes no input before. So the first is opened
with the connection; and while one script is at work, or waits for its own channel, that of the next is made ready.
"""

from __future__ import annotations

import contextlib
import threading

import paramiko

from deploy import clock
from deploy.errors import LinkLost, StepFailed
from deploy.machine.wire import GONE, hang_up

OPENING = 15.0
"""Seconds that a host may take to open a channel, or to have a session free."""

AGAIN = 0.1
"""Seconds before a host that had no session free is asked again."""


class Spare:
    """The channels of a transport whose far ends start one and the same command; one of them is kept ready."""

    def __init__(self, transport: paramiko.Transport, line: str) -> None:
        self._transport = transport
        self._line = line
        self._lock = threading.Lock()
        self._next: _Next | None = _Next(transport, line)

    def take(self, limit: float) -> paramiko.Channel:
        """Return the channel that is ready, or else a new one; the next one is made ready then. `limit` in seconds.

        Raises:
            LinkLost: none can be opened.
            StepFailed: the host has no session free.

        """
        with self._lock:
            ready, self._next = self._next, None
            if ready and not ready.in_vain:
                self._next = _Next(self._transport, self._line)  # also while the first is still on its way
        channel = (ready and ready.get()) or self.aside(self._line, limit)
        with self._lock:
            self._next = self._next or _Next(self._transport, self._line)
        return channel

    def aside(self, line: str, limit: float) -> paramiko.Channel:
        """Return a new channel whose far end starts another command. `limit` in seconds.

        A host that has no session free is asked again: sshd counts a session until it has buried its process, and the
        end of a script is heard before. The channel that is ready makes room.

        Raises:
            LinkLost: the link broke; nothing was sent.
            StepFailed: the host had no session free for OPENING seconds.

        """
        deadline = clock.monotonic() + OPENING
        never = threading.Event()
        while True:
            try:
                return _open(self._transport, line, limit)
            except GONE as error:
                # Where two are refused at once, paramiko calls only one of them a ChannelException.
                if not self._transport.is_active() or not isinstance(error, paramiko.SSHException):
                    raise LinkLost(f"the link broke: {error or type(error).__name__}", sent=False) from None
                if clock.monotonic() > deadline:
                    raise StepFailed(f"its sshd opens no session ({error}); MaxSessions should be 2 or more") from None
            if room := self._taken():
                hang_up(room)
            clock.pause(AGAIN, never)

    def _taken(self) -> paramiko.Channel | None:
        with self._lock:
            ready, self._next = self._next, None
        return ready.get() if ready else None


class _Next:
    """One channel, opened in the background."""

    def __init__(self, transport: paramiko.Transport, line: str) -> None:
        self._transport = transport
        self._line = line
        self._channel: paramiko.Channel | None = None
        self._thread = threading.Thread(target=self._open, name="spare", daemon=True)
        self._thread.start()

    @property
    def in_vain(self) -> bool:
        """Say whether the host had no session free for it: one that is wanted now must not compete with the next."""
        return not self._thread.is_alive() and self._channel is None

    def get(self) -> paramiko.Channel | None:
        """Return the channel, once it is there; None where there is none, or it has ended by itself."""
        self._thread.join()
        channel = self._channel
        if channel and (channel.closed or channel.eof_received or channel.exit_status_ready()):
            hang_up(channel)
            return None
        return channel

    def _open(self) -> None:
        """A host that has no session free (MaxSessions) fails nobody: a channel is opened when it is wanted."""
        with contextlib.suppress(*GONE):
            self._channel = _open(self._transport, self._line, OPENING)


def _open(transport: paramiko.Transport, line: str, limit: float) -> paramiko.Channel:
    channel = transport.open_session(timeout=limit)
    try:
        channel.exec_command(line)
    except BaseException:
        hang_up(channel)
        raise
    return channel
