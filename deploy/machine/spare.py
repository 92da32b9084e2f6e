"""A channel that was opened before it is wanted: its far end waits for the next script.

sshd opens a channel, and starts its command, in a round trip each, and takes no input before. So while one script is at
work, the channel of the next is made ready.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from deploy.machine.wire import GONE, hang_up

if TYPE_CHECKING:
    import paramiko

OPENING = 15
"""Seconds that a host may take to open a channel."""


class Spare:
    """One channel of a transport that starts a command in the background."""

    def __init__(self, transport: paramiko.Transport, line: str) -> None:
        self._transport = transport
        self._line = line
        self._channel: paramiko.Channel | None = None
        self._thread = threading.Thread(target=self._open, name="spare", daemon=True)
        self._thread.start()

    def take(self) -> paramiko.Channel | None:
        """Return the channel, once it is there; None where there is none, or it has ended by itself."""
        self._thread.join()
        channel = self._channel
        if channel and (channel.closed or channel.eof_received or channel.exit_status_ready()):
            hang_up(channel)
            return None
        return channel

    def _open(self) -> None:
        """A host that opens no more of them at once (MaxSessions) fails nobody: one is opened when it is wanted."""
        with contextlib.suppress(*GONE):
            channel = self._transport.open_session(timeout=OPENING)
            channel.exec_command(self._line)
            self._channel = channel
