"""The same work on every host at once: all are waited for, all failures are told, and a stop reaches everybody."""

from __future__ import annotations

import signal
import threading
import time
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy import fleet
from deploy.errors import Failed, HostFailures, Interrupted, NeedsHuman, Unfit, Unreachable
from deploy.recipe.model import Host

HOSTS = tuple(Host(f"web{n}") for n in range(1, 5))


@dataclass
class Fake:
    """A machine that can only be closed."""

    host: Host
    closed: list[Host] = field(default_factory=list)

    def run(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nobody runs anything here")

    def fetch(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nobody fetches anything here")

    def hold(self, *_: Any) -> Any:
        raise AssertionError("nobody holds anything here")

    def reach(self, *_: object) -> Any:
        raise AssertionError("nobody looks through this one")

    def interact(self, *_: Any) -> Any:
        raise AssertionError("nobody sits at a terminal here")

    def reconnect(self) -> None:
        raise AssertionError("nobody loses a link here")

    def close(self) -> None:
        self.closed.append(self.host)


def made(*hosts: Host) -> fleet.Fleet:
    return fleet.Fleet([Fake(host) for host in hosts or HOSTS])


def test_the_work_is_done_on_every_host_and_its_results_keep_the_order_of_the_hosts() -> None:
    def work(machine: Any) -> str:
        time.sleep(0.02 * (5 - int(machine.host.address[-1])))
        return f"done on {machine.host}"

    assert list(made().each(work).items()) == [(host, f"done on {host}") for host in HOSTS]


def opener(*away: Host) -> Any:
    def open_one(host: Host) -> Any:
        if host in away:
            raise Unreachable("no route to host", mend="look at the cable")
        return Fake(host)

    return open_one


def test_hosts_that_cannot_be_reached_are_left_out_when_that_is_asked_for() -> None:
    told: list[HostFailures] = []
    some = fleet.connect(HOSTS, opener(HOSTS[0], HOSTS[2]), HOSTS[0], told.append)
    assert [machine.host for machine in some.machines] == [HOSTS[1], HOSTS[3]]
    assert [list(each.failures) for each in told] == [["web1", "web3"]]
    assert some.first() is some.machines[0]


def test_at_least_one_host_must_be_reached() -> None:
    with pytest.raises(HostFailures):
        fleet.connect(HOSTS, opener(*HOSTS), HOSTS[0], lambda _: None)


def test_only_what_cannot_be_reached_is_left_out() -> None:
    def refuse(host: Host) -> Any:
        if host == HOSTS[1]:
            raise Failed("something else")
        return Fake(host)

    with pytest.raises(HostFailures):
        fleet.connect(HOSTS, refuse, HOSTS[0], lambda _: None)


def test_the_env_s_first_host_is_opened_beside_the_others_once_and_closed_with_them() -> None:
    some = fleet.connect(HOSTS[1:], opener(), HOSTS[0])
    first: Any = some.first()
    assert (first.host, some.first() is first) == (HOSTS[0], True)
    assert [machine.host for machine in some.machines] == list(HOSTS[1:])
    some.close()
    assert first.closed == [HOSTS[0]]
    assert some.leader == HOSTS[1]


def test_a_first_host_that_cannot_be_reached_stops_a_run_on_others_unless_it_is_left_out() -> None:
    with pytest.raises(Unreachable, match=r"web1: no route to host\n.* lock of the env's first host") as caught:
        fleet.connect(HOSTS[1:], opener(HOSTS[0]), HOSTS[0]).first()
    assert "--skip-unreachable" in caught.value.mend
    told: list[HostFailures] = []
    some = fleet.connect(HOSTS[1:], opener(HOSTS[0]), HOSTS[0], told.append)
    assert some.first() is some.machines[0]
    assert [list(each.failures) for each in told] == [["web1"]]


def test_a_first_host_that_is_not_fit_is_named_and_never_left_out() -> None:
    def open_one(host: Host) -> Any:
        if host == HOSTS[0]:
            raise Unfit("no sudo", mend="visudo")
        return Fake(host)

    with pytest.raises(Unfit, match="web1: no sudo\nvisudo"):
        fleet.connect(HOSTS[1:], open_one, HOSTS[0], lambda _: None).first()
    with pytest.raises(HostFailures, match="web1: no sudo"):
        fleet.connect(HOSTS, open_one, HOSTS[0], lambda _: None)


def test_all_hosts_work_at_once() -> None:
    """Not in two waves: the flip of a large fleet is one moment, and each phase lasts as long as its slowest host."""
    hosts = [Host(f"h{n}") for n in range(200)]
    together = threading.Barrier(len(hosts), timeout=10)
    assert len(made(*hosts).each(lambda _: together.wait())) == len(hosts)


def test_every_host_is_waited_for_though_one_has_failed() -> None:
    ended = []

    def work(machine: Any) -> None:
        if machine.host == HOSTS[0]:
            raise Failed("at once")
        time.sleep(0.1)
        ended.append(machine.host)

    with pytest.raises(HostFailures):
        made().each(work)
    assert set(ended) == set(HOSTS[1:])


def test_all_failures_are_told_by_host() -> None:
    def work(machine: Any) -> None:
        if machine.host != HOSTS[1]:
            raise (NeedsHuman("odd") if machine.host == HOSTS[2] else Unreachable("gone"))

    with pytest.raises(HostFailures) as caught:
        made().each(work)
    assert str(caught.value) == "web1: gone\nweb3: odd\nweb4: gone"
    assert caught.value.exit_code == 3


def test_hosts_that_broke_off_because_another_failed_are_not_called_failures() -> None:
    def work(machine: Any) -> None:
        raise (Failed("really") if machine.host == HOSTS[0] else Interrupted("broken off"))

    with pytest.raises(HostFailures) as caught:
        made().each(work)
    assert str(caught.value) == "web1: really"


def test_one_host_s_surprise_does_not_hide_what_the_others_say() -> None:
    def work(machine: Any) -> None:
        if machine.host == HOSTS[0]:
            raise KeyError("odd")
        if machine.host == HOSTS[1]:
            raise Unreachable("gone")

    with pytest.raises(HostFailures) as caught:
        made().each(work)
    assert str(caught.value) == "web1: unexpected KeyError: 'odd'\nweb2: gone"
    assert caught.value.exit_code == 1


def test_a_failure_tells_patient_steps_elsewhere_to_break_off_and_no_others() -> None:
    all_of_them = made(*HOSTS[:2])
    seen: list[bool] = []

    def work(machine: Any) -> None:
        if machine.host == HOSTS[0]:
            raise Failed("no")
        deadline = time.monotonic() + 10
        while not all_of_them.stop(True) and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.extend([all_of_them.stop(True), all_of_them.stop(False)])

    with pytest.raises(HostFailures):
        all_of_them.each(work)
    assert seen == [True, False]


def test_the_next_round_of_work_begins_afresh() -> None:
    all_of_them = made()
    with pytest.raises(HostFailures):
        all_of_them.each(lambda _: (_ for _ in ()).throw(Failed("no")))
    assert set(all_of_them.each(lambda _: all_of_them.stop(True)).values()) == {False}


def test_an_interrupt_reaches_every_host_and_waits_for_each() -> None:
    all_of_them = made()
    ended = []
    began = threading.Barrier(len(HOSTS) + 1, timeout=10)

    def work(machine: Any) -> None:
        began.wait()
        deadline = time.monotonic() + 10
        while not all_of_them.stop(False) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        ended.append(machine.host)

    def operator() -> None:
        began.wait()
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=operator)
    thread.start()
    began_at = time.monotonic()
    with pytest.raises(Interrupted, match="stopped by the operator"):
        all_of_them.each(work)
    thread.join()
    assert set(ended) == set(HOSTS)
    assert time.monotonic() - began_at < 8


def test_more_hosts_than_threads_wait_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "AT_ONCE", 2)
    at_work: list[int] = []
    most = []

    def work(_: Any) -> None:
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.02)
        at_work.pop()

    made(*(Host(f"h{n}") for n in range(8))).each(work)
    assert len(most) == 8
    assert max(most) <= 2


# --- connect ---------------------------------------------------------------------------------------------------


def test_a_fleet_has_its_machines_in_the_order_of_the_hosts_and_the_first_leads() -> None:
    def open_one(host: Host) -> Fake:
        time.sleep(0.02 * (5 - int(host.address[-1])))
        return Fake(host)

    all_of_them = fleet.connect(HOSTS, open_one)
    assert [m.host for m in all_of_them.machines] == list(HOSTS)
    assert all_of_them.leader == HOSTS[0]


def test_when_one_host_cannot_be_reached_those_that_were_are_closed() -> None:
    closed: list[Host] = []

    def open_one(host: Host) -> Fake:
        if host == HOSTS[3]:
            raise Unreachable("no route")
        return Fake(host, closed)

    with pytest.raises(HostFailures, match="web4: no route") as caught:
        fleet.connect(HOSTS, open_one)
    assert caught.value.exit_code == 2
    assert set(closed) == set(HOSTS[:3])


def test_an_interrupt_tells_those_that_are_connecting_and_closes_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Host] = []
    interrupted = threading.Event()
    heard: list[bool] = []

    def open_one(host: Host) -> Fake:
        heard.append(interrupted.wait(10))
        return Fake(host, closed)

    def wait(*what: Any, **how: Any) -> Any:
        if how:
            raise KeyboardInterrupt
        return futures.wait(*what)

    monkeypatch.setattr(fleet, "wait", wait)
    with pytest.raises(Interrupted, match="stopped by the operator"):
        fleet.connect(HOSTS, open_one, interrupted=interrupted)
    assert heard == [True] * len(HOSTS)
    assert set(closed) == set(HOSTS)


def test_closing_a_fleet_closes_every_machine() -> None:
    closed: list[Host] = []
    fleet.connect(HOSTS, lambda host: Fake(host, closed)).close()
    assert closed == list(HOSTS)
