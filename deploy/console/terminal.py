"""The operator's own terminal, joined to one on a host: every key goes there, every byte comes back."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 1 << 12


class Far(Protocol):
    """The other end."""

    def fileno(self) -> int: ...
    def read(self) -> bytes: ...
    def write(self, typed: bytes) -> None: ...
    def resize(self, columns: int, rows: int) -> None: ...
    def end(self) -> int: ...


class Terminal:
    """The terminal on standard input and output."""

    def __init__(self) -> None:
        self._keys = sys.stdin.fileno()
        self._screen = sys.stdout.fileno()

    @property
    def kind(self) -> str:
        return os.environ.get("TERM", "vt100")

    def size(self) -> tuple[int, int]:
        """Return columns and rows."""
        return os.get_terminal_size(self._screen)

    def join(self, far: Far) -> int:
        """Pass everything on in both directions until the other end is over; return its exit code."""
        with self._raw(), _resized() as resized:
            listening = [self._keys, far.fileno(), resized]
            while True:
                ready, _, _ = select.select(listening, [], [])
                if resized in ready:
                    os.read(resized, BLOCK)
                    far.resize(*self.size())
                if far.fileno() in ready:
                    shown = far.read()
                    if not shown:
                        break
                    self._show(shown)
                if self._keys in ready:
                    typed = os.read(self._keys, BLOCK)
                    if not typed:
                        listening.remove(self._keys)
                    far.write(typed)
        return far.end()

    def _show(self, shown: bytes) -> None:
        while shown:
            shown = shown[os.write(self._screen, shown) :]

    @contextlib.contextmanager
    def _raw(self) -> Iterator[None]:
        """Keys go as they are: Ctrl-C is for the program there."""
        before = termios.tcgetattr(self._keys)
        tty.setraw(self._keys)
        try:
            yield
        finally:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resized() -> Iterator[int]:
    """Yield a descriptor that can be read from once the window has another size.

    The signal may come amid a write to the other end, whose lock is held then, by this very thread: all that it does
    is to leave a byte.
    """
    here, there = os.pipe()
    os.set_blocking(there, False)

    def leave(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):  # there are bytes enough
            os.write(there, b".")

    before = signal.signal(signal.SIGWINCH, leave)
    try:
        yield here
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(here)
        os.close(there)
