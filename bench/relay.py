"""A long way on loopback: a TCP relay that delays what it passes on, both ways, and counts it.

Every block waits for its own time and none for the one before, so what passes in a second is not less, only later.
`testbed/faults/relay.py` is a way that breaks, which is another thing: that one must not buffer, this one lives by it.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_BLOCK = 1 << 16
_ON_THE_WAY = 1 << 10
"""Blocks that may be under way in one direction, some 64 MB: more than any TCP window."""


class Relay:
    """Listens beside `address` on a port of its own; what it gets arrives there half a `round_trip` (seconds) later.

    A connection costs what it costs on a real line: the connect itself a round trip, and half of one more until the
    other side knows of it. `carried` counts the bytes of both directions.
    """

    def __init__(self, address: str, round_trip: float = 0, port: int = 22) -> None:
        self._to = (address, port)
        self._round_trip = round_trip
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._carried = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            ends, self._open = [self._listener, *self._open], []
        for each in ends:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    @property
    def carried(self) -> int:
        with self._lock:
            return self._carried

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(here,), daemon=True).start()

    def _serve(self, here: socket.socket) -> None:
        time.sleep(self._round_trip * 1.5)
        try:
            there = socket.create_connection(self._to, timeout=5)
        except OSError:
            here.close()
            return
        there.settimeout(None)
        with self._lock:
            self._open += [here, there]
        for each in (here, there):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways = [threading.Thread(target=self._carry, args=way, daemon=True) for way in ((here, there), (there, here))]
        for way in ways:
            way.start()
        for way in ways:
            way.join()
        here.close()
        there.close()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        """Take in here, and give out beside it: an empty block is the end."""
        under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(_ON_THE_WAY)
        giving = threading.Thread(target=_give_out, args=(under_way, sink), daemon=True)
        giving.start()
        block = b"-"
        while block:
            try:
                block = source.recv(_BLOCK)
            except OSError:
                block = b""
            with self._lock:
                self._carried += len(block)
            under_way.put((time.monotonic() + self._round_trip / 2, block))
        giving.join()


def _give_out(under_way: queue.Queue[tuple[float, bytes]], sink: socket.socket) -> None:
    """Give each block out at its time. Who cannot be given any more is drained all the same: nobody waits for him."""
    block, heard = b"-", True
    while block:
        due, block = under_way.get()
        time.sleep(max(0, due - time.monotonic()))
        try:
            if heard and block:
                sink.sendall(block)
            elif heard:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            heard = False
