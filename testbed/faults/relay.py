"""A link that can be cut: a TCP relay on loopback, between an operator and a host's sshd.

A relay that merely stopped reading would not be a dead link: its kernel would go on acknowledging what arrives. To be
as silent as a pulled cable it has the kernel drop every packet that comes in, by a socket filter, from both sides.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_BLOCK = 1 << 16
_ATTACH_FILTER, _DETACH_FILTER = 26, 27  # SO_ATTACH_FILTER and SO_DETACH_FILTER: Linux, asm-generic/socket.h
_DROP = struct.pack("HBBI", 0x06, 0, 0, 0)  # one instruction of BPF, "return 0": nothing of the packet is let in
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER for no time: close() sends a reset


class Relay:
    """Listens on a port of its own, and passes on to `address`:`port` what it gets."""

    def __init__(self, address: str, port: int = 22) -> None:
        self._to = (address, port)
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._refusing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reset()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def reset(self, *, stay_down: bool = True) -> None:
        """Reset every connection; new ones, too, until `mend`, or not."""
        self._refusing = stay_down
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for one in (each for pair in pairs for each in pair):
            _reset(one)

    def go_silent(self) -> None:
        """Let nothing through, not even an acknowledgement, and say nothing of it, until `mend`."""
        filters = ctypes.create_string_buffer(_DROP)
        program = struct.pack("HL", 1, ctypes.addressof(filters))
        for each in self._sockets():
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)

    def mend(self) -> None:
        """Be a link again: what was silent goes on, as TCP does; what was reset must be opened anew."""
        self._refusing = False
        for each in self._sockets():
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)

    def _sockets(self) -> list[socket.socket]:
        with self._lock:
            return [self._listener, *(each for pair in self._pairs for each in pair)]

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                _reset(here)
                continue
            try:
                there = socket.create_connection(self._to, timeout=5)
            except OSError:
                _reset(here)
                continue
            there.settimeout(None)
            threading.Thread(target=self._serve, args=(here, there), daemon=True).start()

    def _serve(self, here: socket.socket, there: socket.socket) -> None:
        pair = (here, there)
        with self._lock:
            self._pairs.append(pair)
        for one in pair:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=self._pump, args=(pair, there, here), daemon=True)
        back.start()
        self._pump(pair, here, there)
        back.join()
        with self._lock:
            if pair in self._pairs:
                self._pairs.remove(pair)
        for one in pair:
            one.close()

    def _pump(self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket) -> None:
        """Pass on until the source ends; a source that breaks breaks the sink."""
        try:
            while block := source.recv(_BLOCK):
                sink.sendall(block)
            if pair in self._pairs:  # or it is being reset, and an orderly end must not come first
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            _reset(source)
            _reset(sink)


def _reset(one: socket.socket) -> None:
    """Close a socket so that the other side hears a reset; who sleeps in recv() on it wakes up."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RD)
    one.close()
