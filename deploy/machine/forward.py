"""A port of this machine that leads to an address of a host, through its SSH connection.

Fabric's own (Connection.forward_local) ends with the first channel that a host refuses, listens with room for one,
keeps each connection that it ever had, and moves a kilobyte at a time. A browser opens six, and closes them at will.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from deploy.errors import LinkLost, Refused, StepFailed
from deploy.machine.link import BLOCK, LOOK
from deploy.machine.wire import GONE
from deploy.recipe import preview

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from deploy.apply import Channel

AT_ONCE = 32
"""Connections at once; more wait their turn."""

PATIENCE = 30
"""Seconds for which a connection may take nothing."""

AWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"


class Forward:
    """Takes HTTP connections on 127.0.0.1, and passes each on to a channel of its own, as if to the host `name`."""

    def __init__(self, port: int, reach: Callable[[str], Channel], name: str) -> None:
        """Listen, and try the way once. `reach` gets the path that is asked for.

        Raises:
            Refused: the port is taken here.
            StepFailed: the host does not let us through.
            LinkLost: the link broke.

        """
        self._reach = reach
        self._name = name
        self._lost: LinkLost | None = None
        reach("/").close()
        self._door = socket.socket()
        self._door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._door.bind(("127.0.0.1", port))
        except OSError as error:
            self._door.close()
            reason = (error.strerror or str(error)).lower()
            raise Refused(f"127.0.0.1:{port}: {reason}", mend="say another one: --port=PORT") from None
        self._door.listen(AT_ONCE)
        self._door.settimeout(LOOK)
        self.port: int = self._door.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._door.close()

    def serve(self, stop: Callable[[], bool]) -> None:
        """Pass connections on until `stop` says so, or Ctrl-C does.

        Raises:
            LinkLost: the connection to the host is gone.

        """
        over = False

        def ended() -> bool:
            return over or self._lost is not None or stop()

        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                while not ended():
                    with contextlib.suppress(TimeoutError):
                        pool.submit(self._pass_on, self._door.accept()[0], ended)
            except KeyboardInterrupt:
                return
            finally:
                over = True
        if self._lost:
            raise self._lost

    def _pass_on(self, near: socket.socket, ended: Callable[[], bool]) -> None:
        with near, contextlib.suppress(*GONE):  # whoever asked has gone, or takes nothing any more
            near.settimeout(PATIENCE)
            head = _head(near, ended)
            if not head:
                return
            try:
                far = self._reach(preview.path_of(head))
            except LinkLost as error:
                self._lost = error
                return
            except StepFailed as error:
                near.sendall(AWAY + f"{error}\n".encode())
                return
            try:
                far.sendall(preview.as_user(head, self._name))
                _pump(near, far, ended)
            finally:
                far.close()


def _head(near: socket.socket, ended: Callable[[], bool]) -> bytes:
    """Return how a request begins, as far as it comes: browsers open connections that they may want one day."""
    head = b""
    with selectors.DefaultSelector() as ready:
        ready.register(near, selectors.EVENT_READ)
        while not (preview.is_whole(head) or ended()):
            if ready.select(LOOK):
                block = near.recv(BLOCK)
                if not block:
                    break
                head += block
    return head


def _pump(near: socket.socket, far: Channel, ended: Callable[[], bool]) -> None:
    """Carry bytes both ways until either side ends."""
    with selectors.DefaultSelector() as ready:
        ready.register(near, selectors.EVENT_READ, (near, far))
        ready.register(far, selectors.EVENT_READ, (far, near))
        while not ended():
            for key, _ in ready.select(LOOK):
                source, sink = key.data
                block = source.recv(BLOCK)
                if not block:
                    return
                sink.sendall(block)
