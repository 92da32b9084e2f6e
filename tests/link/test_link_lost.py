"""Links that are cut or go dead: noticed in time, never taken for an outcome, and never cried over while they live."""

from __future__ import annotations

import io
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from sshd import ME, Place, lease, printed, wait_for

from deploy import fleet
from deploy.apply import ask
from deploy.errors import LinkLost, StepFailed, Unreachable
from deploy.keys import Ssh
from deploy.machine import Door, SshMachine, wire
from deploy.machine.login import Login
from deploy.recipe import shell
from deploy.recipe.model import Host
from deploy.recipe.shell import Script

if TYPE_CHECKING:
    import paramiko

SLEEPS = Script((shell.command("sh", "-c", "sleep 60"),), (), deadline=90)
"""It reads nothing: what is sent meanwhile fills the window, and waits."""

NOTICED = 20
"""Seconds in which a dead link must be noticed."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time pass five times as fast: a dead link is noticed in 3 s."""
    monkeypatch.setattr(wire, "TICK", 0.2)


def lose(machine: SshMachine, doom: Callable[[], None], script: str = "echo begun; exec sleep 60") -> float:
    """Run a line that prints, and after its first word let the link go; return the seconds until that was told."""
    began = 0.0
    for signal in machine.run(Script((shell.command("sh", "-c", script),), ())):
        assert signal != shell.Finished()
        if signal == shell.Line("begun"):
            doom()
            began = time.monotonic()
    assert began
    return time.monotonic() - began


def test_a_link_that_is_cut_is_noticed_at_once_and_can_be_opened_anew(place: Place) -> None:
    relay = place.relay(place.sshd())
    machine = place.connect(relay.host)
    assert lose(machine, relay.cut) < 5
    machine.reconnect()
    assert printed(machine, "echo again") == ["again"]
    assert relay.connections == 2


def test_a_hold_that_ended_by_itself_is_no_link_that_was_lost(place: Place) -> None:
    relay = place.relay(place.sshd())
    machine = place.connect(relay.host)

    def hold(line: str, base: object) -> None:
        machine.hold(Script((shell.command("sh", "-c", line),), (("BASE", str(base)),), holds=True))

    with pytest.raises(StepFailed, match="no room"):
        hold("echo no room; exit 1", place.home)
    with pytest.raises(StepFailed, match="cannot create directory"):
        hold("true", "/dev/null/app")
    threading.Timer(1, relay.cut).start()
    with pytest.raises(LinkLost):
        hold("echo begun; exec sleep 60", place.home)


def test_a_script_that_nobody_wants_any_more_is_not_sent(place: Place) -> None:
    sshd = place.sshd()
    machine = place.connect(sshd.host)
    assert list(machine.run(SLEEPS, stop=lambda: True)) == []
    assert "Starting session" not in sshd.log.read_text()
    assert printed(machine, "echo later") == ["later"]


def test_a_question_whose_answer_was_cut_off_has_no_answer(place: Place) -> None:
    relay = place.relay(place.sshd())
    machine = place.connect(relay.host)
    relay.swallows.set()
    relay.cut()
    with pytest.raises(LinkLost):
        ask(machine, (), shell.command("echo", "hello"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["swallows", "stalls"])
def test_a_black_hole_is_noticed_within_20_s(place: Place, kind: str) -> None:
    """At full length: the box acknowledges everything, so that no kernel ever tells."""
    relay = place.relay(place.sshd())
    machine = place.connect(relay.host)
    assert 5 < lose(machine, getattr(relay, kind).set) < NOTICED


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["swallows", "stalls"])
def test_a_black_hole_is_noticed_while_a_parcel_travels(place: Place, kind: str) -> None:
    relay = place.relay(place.sshd(), rate=4e6)
    machine = place.connect(relay.host)
    parcel = _Endless(getattr(relay, kind).set)
    began = time.monotonic()
    signals = list(machine.run(SLEEPS, parcel=parcel))
    assert shell.Finished() not in signals
    assert time.monotonic() - began < NOTICED


@pytest.mark.usefixtures("quick")
def test_a_parcel_that_nobody_reads_yet_is_no_dead_link(place: Place) -> None:
    machine = place.connect(place.sshd().host)
    script = Script((shell.command("sh", "-c", "sleep 6; echo built"),), ())
    assert shell.Line("built") in list(machine.run(script, parcel=io.BytesIO(bytes(10_000_000))))


class _Endless(io.BytesIO):
    """A parcel without an end; when a part of it has been taken, something happens."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self._happens = happens
        self._left = 10

    def read(self, size: int | None = -1) -> bytes:
        self._left -= 1
        if self._left == 0:
            self._happens()
        return bytes(size or 1)


def behind_a_jump_host(place: Place, jump: Host, target: Host) -> Host:
    place.config(
        f"Host jump\n  HostName 127.0.0.1\n  Port {jump.port}\n"
        f"Host web1\n  HostName 127.0.0.1\n  Port {target.port}\n  ProxyJump jump\n"
    )
    return Host("web1", ME)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["swallows", "stalls"])
@pytest.mark.parametrize("side", ["before", "behind"])
def test_a_black_hole_before_or_behind_a_jump_host_is_noticed(place: Place, kind: str, side: str) -> None:
    jump, sshd = place.sshd(), place.sshd()
    relay = place.relay(jump if side == "before" else sshd)
    target = (relay.host, sshd.host) if side == "before" else (jump.host, relay.host)
    machine = place.connect(behind_a_jump_host(place, *target))
    assert lose(machine, getattr(relay, kind).set) < NOTICED
    getattr(relay, kind).clear()
    machine.reconnect()
    assert printed(machine, "echo again") == ["again"]


# --- while nobody has noticed ----------------------------------------------------------------------------------


@pytest.fixture
def machine(place: Place) -> Iterator[SshMachine]:
    """A host whose link can be made `deaf`."""
    machine = place.connect(place.relay(place.sshd()).host)
    assert printed(machine, "echo one") == ["one"]
    yield machine
    place.relays[0].stalls.clear()


@pytest.fixture
def deaf(place: Place, machine: SshMachine) -> Callable[[], None]:
    """Return what makes the link take nothing any more, while nothing says that it ended."""

    def make() -> None:
        place.relays[0].stalls.set()
        machine._transport.sock.shutdown(socket.SHUT_WR)

    return make


def test_a_script_for_a_link_that_takes_nothing_was_not_sent(machine: SshMachine, deaf: Callable[[], None]) -> None:
    deaf()
    with pytest.raises(LinkLost) as lost:
        printed(machine, "echo two")
    assert not lost.value.sent


@pytest.mark.usefixtures("quick")
def test_what_became_of_a_parcel_that_was_cut_off_is_not_known(machine: SshMachine, deaf: Callable[[], None]) -> None:
    parcel = _Endless(deaf)
    assert shell.Finished() not in list(machine.run(SLEEPS, parcel=parcel))


def test_who_reads_what_had_come_before_hears_a_lost_link(machine: SshMachine, deaf: Callable[[], None]) -> None:
    """To read is to send, too: that there is room again."""
    sent = machine.fetch(
        Script((shell.command("sh", "-c", "head -c 1500000 /dev/zero >&3; sleep 60"),), (), sends=True)
    )
    wait_for(lambda: len(sent._channel.in_buffer) > 1_000_000, "what it sends")
    deaf()
    with pytest.raises(LinkLost):
        list(iter(lambda: sent.read(1 << 16), b""))


def test_lines_that_had_come_before_are_read_and_no_end(machine: SshMachine, deaf: Callable[[], None]) -> None:
    told = machine.run(Script((shell.command("sh", "-c", "yes line | head -c 1500000; sleep 60"),), ()))
    assert next(told) == shell.Begin(0)
    channels = machine._transport._channels.values()  # type: ignore[attr-defined]  # the stubs hide it
    wait_for(lambda: max(len(each.in_buffer) for each in channels) > 1_000_000, "what it says")
    deaf()
    said = list(told)
    assert shell.Line("line") in said
    assert shell.Finished() not in said


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(5, "Input/output error"), StepFailed), (LinkLost("the host that it is read from"), LinkLost)],
)
def test_a_parcel_that_cannot_be_read_here_is_no_end_of_it(
    machine: SshMachine, error: Exception, raised: type[Exception]
) -> None:
    """The other side waits for the rest: a tar would see that this is none, and be the first to fail."""

    def fail() -> None:
        raise error

    began = time.monotonic()
    with pytest.raises(raised):
        list(machine.run(SLEEPS, parcel=_Endless(fail)))
    assert time.monotonic() - began < 5


def test_who_breaks_off_does_not_wait_for_a_parcel(place: Place) -> None:
    machine = place.connect(place.relay(place.sshd(), rate=1e6).host)
    broken_off = threading.Event()
    began = time.monotonic()
    list(machine.run(SLEEPS, parcel=_Endless(broken_off.set), stop=broken_off.is_set))
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("quick")
def test_a_lease_says_that_nobody_listens(place: Place, machine: SshMachine, deaf: Callable[[], None]) -> None:
    hold = lease(machine, place.home / "base")
    assert hold.beat()
    deaf()
    assert not hold.beat()
    hold.let_go()
    hold.gone(1)


@pytest.mark.usefixtures("quick")
def test_a_terminal_comes_to_its_end(machine: SshMachine, deaf: Callable[[], None]) -> None:
    terminal = machine.interact(shell.command("cat"), "dumb", (80, 24))
    deaf()
    terminal.write(b"typed")
    terminal.resize(100, 30)
    assert terminal.read() == b""
    assert terminal.end() == -1


@pytest.mark.usefixtures("quick")
def test_what_a_host_sends_is_closed_without_a_word(machine: SshMachine, deaf: Callable[[], None]) -> None:
    sent = machine.fetch(Script((shell.command("sleep", "60"),), (), sends=True))
    deaf()
    sent.close()


# --- while connecting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["swallows", "stalls"])
def test_a_black_hole_while_connecting_is_noticed_in_the_time_given(place: Place, kind: str) -> None:
    relay = place.relay(place.sshd())
    getattr(relay, kind).set()
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"it did not answer in time \(deploy.ssh.connect_timeout\)"):
        place.connect(relay.host, Ssh(connect_timeout=2))
    assert time.monotonic() - began < 5


def test_a_black_hole_behind_a_jump_host_is_noticed_while_connecting(place: Place) -> None:
    jump, sshd = place.sshd(), place.sshd()
    relay = place.relay(sshd)
    relay.swallows.set()
    with pytest.raises(Unreachable, match="it did not answer in time"):
        place.connect(behind_a_jump_host(place, jump.host, relay.host), Ssh(connect_timeout=2))


def test_a_host_that_stops_answering_at_the_login_is_noticed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    relay = place.relay(place.sshd())
    authenticate = Login.authenticate

    def begin(self: Login, transport: paramiko.Transport) -> list[str]:
        relay.swallows.set()
        return authenticate(self, transport)

    monkeypatch.setattr(Login, "authenticate", begin)
    began = time.monotonic()
    with pytest.raises(Unreachable, match="it did not answer in time"):
        place.connect(relay.host, Ssh(connect_timeout=3))
    assert time.monotonic() - began < 8


def test_a_host_that_hangs_up_at_first_is_tried_again(place: Place) -> None:
    relay = place.relay(place.sshd())
    relay.drops = 2
    assert printed(place.connect(relay.host, Ssh(connect_timeout=30)), "echo in") == ["in"]
    assert relay.connections == 3


@pytest.mark.parametrize(("hosts", "startups", "limit"), [(24, 10, Ssh().limit), (10, 3, 2)])
def test_more_hosts_than_an_sshd_takes_at_once_come_through_one_jump_host(
    place: Place, hosts: int, startups: int, limit: int
) -> None:
    jump, sshd = place.sshd(more=f"MaxStartups {startups}:100:{startups}"), place.sshd()
    names = [Host(f"web{n}", ME) for n in range(hosts)]
    place.config(f"Host web*\n  HostName 127.0.0.1\n  Port {sshd.port}\n  ProxyJump 127.0.0.1:{jump.port}\n")
    everybody = fleet.connect(names, Door(Ssh(connect_timeout=60, limit=limit), names, lambda: None).connect)
    everybody.close()
    assert jump.logins() == hosts
    assert "past MaxStartups" not in jump.log.read_text()


def test_hosts_that_are_entered_at_once_do_not_meet_in_a_configuration(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invoke's Config is empty while somebody writes to it. Threads that take turns all the time would see it so."""
    sshd = place.sshd(more="MaxStartups 100")
    place.config(f"Host web*\n  HostName 127.0.0.1\n  Port {sshd.port}\n")
    names = [Host(f"web{n}", ME) for n in range(30)]
    together = threading.Barrier(len(names))
    dial = wire.dial

    def dial_together(*words: Any) -> socket.socket:
        dialled = dial(*words)
        together.wait(30)
        return dialled

    monkeypatch.setattr(wire, "dial", dial_together)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        everybody = fleet.connect(names, Door(Ssh(connect_timeout=60, limit=30), names, lambda: None).connect)
    finally:
        sys.setswitchinterval(before)
    everybody.close()
    assert sshd.logins() == len(names)


# --- no false alarm --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_host_that_builds_in_silence_is_waited_for(place: Place) -> None:
    machine = place.connect(place.sshd().host)
    assert printed(machine, "sleep 8; echo built") == ["built"]


@pytest.mark.timeout(90)
def test_a_link_with_a_second_of_latency_is_no_dead_one(place: Place) -> None:
    relay = place.relay(place.sshd(), delay=0.5)
    machine = place.connect(relay.host, Ssh(connect_timeout=30))
    assert printed(machine, "sleep 20; echo built") == ["built"]


@pytest.mark.timeout(90)
def test_a_slow_upload_to_a_host_that_is_not_ready_for_it_is_no_dead_link(place: Place) -> None:
    """Nothing comes back for as long as it takes to fill the window."""
    relay = place.relay(place.sshd(), rate=80_000)
    machine = place.connect(relay.host, Ssh(connect_timeout=30))
    script = Script((shell.command("sh", "-c", "sleep 35; echo built"),), (), deadline=80)
    assert shell.Line("built") in list(machine.run(script, parcel=io.BytesIO(bytes(3_000_000))))
