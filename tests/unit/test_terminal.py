"""The operator's own terminal, joined to another: a real pty, and a far end that can be looked into."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import socket
import struct
import sys
import termios
from collections.abc import Iterator

import pytest

from deploy.console.terminal import Terminal


@pytest.fixture
def seat() -> Iterator[tuple[Terminal, int]]:
    """A terminal of 132 columns and 40 rows, and where its keys are typed."""
    keys, screen = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 132, 0, 0))
    with os.fdopen(screen, "rb", buffering=0) as both, pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdin", both)
        patched.setattr(sys, "stdout", both)
        terminal = Terminal()
        patched.undo()
        yield terminal, keys
    os.close(keys)


class Far:
    """A far end with a prompt at which somebody types, and resizes the window amid that; then it is over."""

    def __init__(self, keyboard: int) -> None:
        self._end, self._program = socket.socketpair()
        self._program.sendall(b"> ")
        self._keyboard = keyboard
        self._writing = False
        self.told: list[object] = []

    def fileno(self) -> int:
        return self._end.fileno()

    def read(self) -> bytes:
        shown = self._end.recv(100)
        if shown:
            os.write(self._keyboard, b"x")
        return shown

    def write(self, typed: bytes) -> None:
        self._writing = True
        signal.raise_signal(signal.SIGWINCH)
        self.told.append(typed)
        self._writing = False

    def resize(self, columns: int, rows: int) -> None:
        assert not self._writing, "the lock of a write is held: this would wait for ever"
        self.told.append((columns, rows))
        self._program.close()

    def end(self) -> int:
        self._end.close()
        return 7


def test_a_window_that_changes_amid_a_write_is_told_of_after_it(seat: tuple[Terminal, int]) -> None:
    terminal, keyboard = seat
    before = signal.getsignal(signal.SIGWINCH)
    far = Far(keyboard)
    assert terminal.join(far) == 7
    assert far.told == [b"x", (132, 40)]
    assert signal.getsignal(signal.SIGWINCH) is before
