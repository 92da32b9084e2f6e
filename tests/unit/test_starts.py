"""How often the start of a connection is tried: with an injected clock and dice, so that every figure is exact."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import paramiko
import pytest

from deploy.errors import Interrupted, Unreachable
from deploy.keys import Ssh
from deploy.machine import door, wire
from deploy.machine.door import PAUSES, Door, Passing, persist
from deploy.recipe.model import Host


@dataclass
class Clock:
    """Time that passes only when somebody lets it."""

    time: float = 1000.0
    paused: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def pause(self, seconds: float, _: threading.Event) -> bool:
        self.paused.append(seconds)
        self.time += seconds
        return False


def tried(clock: Clock, *outcomes: tuple[float, Exception | str], limit: float = 10, dice: float = 0.5) -> str:
    """Play attempts that take some seconds each, and end like that."""
    left_over = iter(outcomes)
    budgets: list[float] = []

    def attempt(left: float) -> str:
        budgets.append(left)
        seconds, outcome = next(left_over)
        clock.time += seconds
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    try:
        starts, stop = contextlib.nullcontext(), threading.Event()
        return persist(attempt, limit, starts, stop, random=lambda: dice, pause=clock.pause, now=clock.now)
    finally:
        assert all(budget > 0 for budget in budgets)


DROPPED = Passing(Unreachable("dropped"))


def test_a_start_that_works_is_not_waited_for() -> None:
    clock = Clock()
    assert tried(clock, (0.1, "in")) == "in"
    assert clock.paused == []


def test_a_start_that_fails_in_passing_is_tried_again_after_longer_and_longer_pauses() -> None:
    clock = Clock()
    assert tried(clock, (0, DROPPED), (0, DROPPED), (0, DROPPED), (0, "in")) == "in"
    assert clock.paused == list(PAUSES)


@pytest.mark.parametrize(("dice", "first"), [(0.0, 0.25), (0.999, 0.7495)])
def test_pauses_are_a_half_shorter_or_longer_as_the_dice_fall(dice: float, first: float) -> None:
    clock = Clock()
    tried(clock, (0, DROPPED), (0, "in"), dice=dice)
    assert clock.paused == [pytest.approx(first)]


def test_the_last_reason_is_told_when_no_try_is_left() -> None:
    clock = Clock()
    with pytest.raises(Unreachable, match="the last"):
        tried(clock, *[(0, DROPPED)] * 3, (0, Passing(Unreachable("the last"))))
    assert len(clock.paused) == len(PAUSES)


def test_what_another_try_would_not_help_is_told_at_once() -> None:
    clock = Clock()
    with pytest.raises(Unreachable, match="changed"):
        tried(clock, (0, Unreachable("its host key has changed")))
    assert clock.paused == []


def test_all_tries_and_pauses_together_keep_the_limit() -> None:
    clock = Clock()
    with pytest.raises(Unreachable, match="dropped"):
        tried(clock, *[(2.0, DROPPED)] * 4, limit=5)
    assert clock.time - 1000 <= 5


def test_waiting_for_one_s_turn_does_not_count() -> None:
    clock = Clock()

    @contextlib.contextmanager
    def turn() -> Iterator[None]:
        clock.time += 100
        yield

    assert persist(lambda left: left, 10, turn(), threading.Event(), now=clock.now, pause=clock.pause) == 10


def test_who_is_stopped_while_waiting_for_a_turn_does_not_try() -> None:
    stop = threading.Event()

    @contextlib.contextmanager
    def turn() -> Iterator[None]:
        stop.set()
        yield

    def attempt(_: float) -> None:
        raise AssertionError("nobody wants this any more")

    with pytest.raises(Interrupted):
        persist(attempt, 10, turn(), stop)


def test_who_is_stopped_in_a_pause_ends_it_and_does_not_try_again() -> None:
    stop = threading.Event()
    tries: list[float] = []

    def attempt(left: float) -> None:
        tries.append(left)
        raise DROPPED

    def pause(_: float, wake: threading.Event) -> bool:
        assert wake is stop
        stop.set()
        return True

    with pytest.raises(Interrupted):
        persist(attempt, 10, contextlib.nullcontext(), stop, pause=pause)
    assert len(tries) == 1


# --- what counts as passing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "tries", "words"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), 4, "does not resolve: Temporary"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), 1, "does not resolve: Name or service"),
        (ConnectionRefusedError(111, "Connection refused"), 4, "cannot be reached: connection refused"),
        (ConnectionResetError(104, "Connection reset by peer"), 4, "cannot be reached: connection reset"),
        (OSError(113, "No route to host"), 4, "cannot be reached: no route to host"),
        (TimeoutError(), 4, "it did not answer in time"),
        (EOFError(), 4, r"it hung up before it said who it is \(too many logins at once\? --limit\)"),
        (paramiko.SSHException("Error reading SSH protocol banner"), 4, "it hung up before it said who it is"),
        (paramiko.ssh_exception.IncompatiblePeer("no acceptable ciphers"), 1, "no acceptable ciphers"),
        (PermissionError(13, "Permission denied"), 1, "permission denied"),
    ],
)
def test_only_what_may_be_over_in_a_second_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception, tries: int, words: str
) -> None:
    dials: list[str] = []

    def dial(address: str, port: int, limit: float) -> socket.socket:
        assert (port, limit > 0) == (22, True)
        dials.append(address)
        raise error

    monkeypatch.setattr(wire, "dial", dial)
    monkeypatch.setattr(door, "PAUSES", (0.001, 0.001, 0.001))
    with pytest.raises(Unreachable, match=words):
        Door(Ssh(config="/nowhere", known_hosts="/nowhere"), [], lambda: None).connect(Host("web1", "ann"))
    assert dials == ["web1"] * tries


@pytest.mark.parametrize("name", ["web1..example.com", f"{'a' * 64}.example.com", ".example.com"])
def test_a_name_that_no_host_can_have_is_told_at_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    dials: list[str] = []
    real = wire.dial

    def dial(address: str, port: int, limit: float) -> socket.socket:
        dials.append(address)
        return real(address, port, limit)

    monkeypatch.setattr(wire, "dial", dial)
    with pytest.raises(Unreachable) as caught:
        Door(Ssh(config="/nowhere", known_hosts="/nowhere"), [], lambda: None).connect(Host(name, "ann"))
    assert caught.value.what == f"its name cannot be one: {name}"
    assert caught.value.mend == "is it spelt right? Between two dots stand 1 to 63 characters"
    assert dials == [name]


@pytest.mark.parametrize("limit", [Ssh().limit, 1, 3])
def test_no_more_connections_start_at_once_than_one_sshd_takes(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    at_once: list[int] = []
    under_way: list[int] = []
    full = threading.Barrier(limit, timeout=20)

    def dial(*_: object) -> socket.socket:
        under_way.append(1)
        at_once.append(len(under_way))
        full.wait()
        under_way.pop()
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(wire, "dial", dial)
    opener = Door(Ssh(config="/nowhere", known_hosts="/nowhere", limit=limit), [], lambda: None)

    def start(number: int) -> None:
        with contextlib.suppress(Unreachable):
            opener.connect(Host(f"web{number}", "ann"))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(3 * limit)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert max(at_once) == limit < 10


def test_nothing_waits_on_a_wire_that_is_closed() -> None:
    near, far = socket.socketpair()
    with far:
        near.sendall(b"unread")
        carrier = wire.Wire(near)
        assert carrier.queued() > 0
        carrier.close()
        assert carrier.queued() == 0
