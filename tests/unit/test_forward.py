"""A port of this machine that leads elsewhere: many at once, closed as they like, and an end that waits for nobody."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from deploy.errors import LinkLost, Refused, StepFailed
from deploy.machine import Forward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = b"x" * 1_000_000


def answering(path: str) -> socket.socket:
    """Return a connection to a server that answers one request: its path, its length, and much more."""
    near, far = socket.socketpair()

    def answer() -> None:
        with far, contextlib.suppress(BrokenPipeError):  # whoever asked has gone
            heard = b""
            while b"\r\n\r\n" not in heard or (b"POST" in heard and len(heard) < len(LONG)):
                block = far.recv(65536)
                if not block:
                    return
                heard += block
            far.sendall(f"{path} as {b'Host: app.example.com' in heard} {len(heard) // 1000}k ".encode() + LONG)

    threading.Thread(target=answer, daemon=True).start()
    return near


@contextlib.contextmanager
def forwarding(reach: Callable[[str], socket.socket]) -> Iterator[Forward]:
    over = threading.Event()
    with Forward(0, reach, "app.example.com") as forward:
        thread = threading.Thread(target=forward.serve, args=(over.is_set,))
        thread.start()
        yield forward
        over.set()
        thread.join(5)
        assert not thread.is_alive()


def ask(forward: Forward, path: str = "/", body: bytes = b"") -> bytes:
    with socket.create_connection(("127.0.0.1", forward.port), timeout=20) as browser:
        kind = b"POST" if body else b"GET"
        head = b"%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (kind, path.encode(), forward.port)
        browser.sendall(head + body)
        heard = b""
        while block := browser.recv(65536):
            heard += block
        return heard


def test_many_requests_at_once_come_through_whole_each_on_a_way_of_its_own() -> None:
    with forwarding(answering) as forward, ThreadPoolExecutor(40) as browsers:
        heard = list(browsers.map(lambda n: ask(forward, f"/{n}"), range(80)))
    assert [text.split()[0].decode() for text in heard] == [f"/{n}" for n in range(80)]
    assert all(text.endswith(b" as True 0k " + LONG) for text in heard)


def test_a_long_body_comes_through() -> None:
    with forwarding(answering) as forward:
        assert ask(forward, "/up", LONG).startswith(b"/up as True 1000k ")


def test_a_way_that_is_refused_is_told_to_whoever_asked_and_ends_nothing() -> None:
    refused = iter([False, True, False])

    def reach(path: str) -> socket.socket:
        if next(refused):
            raise StepFailed("172.18.0.2:8001 cannot be reached from there: connect failed")
        return answering(path)

    with forwarding(reach) as forward:
        told = ask(forward)
        assert told.startswith(b"HTTP/1.1 502 ")
        assert told.endswith(b"connect failed\n")
        assert ask(forward, "/next").startswith(b"/next ")


def test_connections_that_never_ask_or_go_away_hold_nobody_up() -> None:
    with forwarding(answering) as forward:
        idle = [socket.create_connection(("127.0.0.1", forward.port)) for _ in range(6)]
        with socket.create_connection(("127.0.0.1", forward.port)) as gone:
            gone.sendall(b"GET /gone HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ask(forward, "/after").startswith(b"/after ")
        began = time.monotonic()
    assert time.monotonic() - began < 3
    for each in idle:
        each.close()


def test_a_lost_link_is_the_end() -> None:
    ways = iter([answering])

    def reach(path: str) -> socket.socket:
        try:
            return next(ways)(path)
        except StopIteration:
            raise LinkLost("the link broke") from None

    with Forward(0, reach, "app.example.com") as forward:
        threading.Thread(target=ask, args=(forward,), daemon=True).start()
        with pytest.raises(LinkLost, match="the link broke"):
            forward.serve(lambda: False)


def test_a_port_that_is_taken_is_refused_with_the_flag_that_names_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Refused, match=rf"127.0.0.1:{port}: address already in use\nsay another one: --port=PORT"):
            Forward(port, answering, "app.example.com")


def test_a_way_that_is_closed_is_told_before_anything_is_said() -> None:
    def reach(_: str) -> socket.socket:
        raise StepFailed("its sshd forwards nothing (AllowTcpForwarding)")

    with pytest.raises(StepFailed, match="AllowTcpForwarding"):
        Forward(0, reach, "app.example.com")
