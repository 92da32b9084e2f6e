"""The next script's channel is there before it is wanted, and where it is not, nobody misses it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sshd import Place, Sshd, lease, printed, wait_for

from deploy.errors import LinkLost, StepFailed
from deploy.machine import spare
from deploy.recipe import shell
from deploy.recipe.shell import Script

if TYPE_CHECKING:
    from deploy.machine import SshMachine

DELAY = 0.2
"""Seconds each way: a round trip of 0.4 s."""


def waiting(sshd: Sshd) -> list[int]:
    """Return the processes below an sshd that are shells which wait for a script."""
    above, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            above[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(folder.name)] = (folder / "cmdline").read_bytes()
    wanted = b"sh\0-c\0" + shell.waiting().split("'")[1].encode() + b"\0"

    def is_below(process: int) -> bool:
        return process == sshd.process.pid or (process in above and is_below(above[process]))

    return [process for process, line in lines.items() if line == wanted and is_below(process)]


def test_a_script_after_the_first_takes_one_round_trip(place: Place) -> None:
    machine = place.connect(place.relay(place.sshd(), delay=DELAY).host)
    took = []
    for _ in range(3):
        began = time.monotonic()
        assert printed(machine, "sleep 1; echo done") == ["done"]
        took.append(time.monotonic() - began - 1)
    assert took[0] > 3 * 2 * DELAY
    assert min(took[1:]) < 2 * 2 * DELAY


def test_so_does_the_first_script_behind_a_lock(place: Place) -> None:
    """Its channel is opened beside the lock's own; after it, it would be there a round trip later."""
    delay = 0.5
    machine = place.connect(place.relay(place.sshd(), delay=delay).host)
    hold = lease(machine, place.home / "base")
    try:
        began = time.monotonic()
        assert printed(machine, "echo done") == ["done"]
        assert time.monotonic() - began < 1.7 * 2 * delay
    finally:
        hold.let_go()
        hold.gone(5)


def test_a_shell_that_does_not_wait_any_more_is_not_missed(place: Place) -> None:
    sshd = place.sshd()
    machine = place.connect(sshd.host)
    assert printed(machine, "echo one") == ["one"]
    wait_for(lambda: len(waiting(sshd)) == 1, "the next shell")
    os.kill(waiting(sshd)[0], signal.SIGKILL)
    wait_for(lambda: not waiting(sshd), "its end")
    assert printed(machine, "echo two") == ["two"]


def test_no_shell_waits_once_the_connection_is_closed(place: Place) -> None:
    sshd = place.sshd()
    machine = place.connect(sshd.host)
    assert printed(machine, "echo one") == ["one"]
    wait_for(lambda: len(waiting(sshd)) == 1, "the next shell")
    machine.close()
    wait_for(lambda: not waiting(sshd), "its end")


def test_a_host_that_takes_two_sessions_at_once_is_enough_for_a_lock_and_a_script(place: Place) -> None:
    sshd = place.sshd(more="MaxSessions 2")
    machine = place.connect(sshd.host)
    hold = lease(machine, place.home / "base")
    try:
        # Beside the one that holds the lock. It makes room for what needs a channel of its own.
        wait_for(lambda: len(waiting(sshd)) == 2, "the next shell")
        sent = machine.fetch(Script((shell.command("sh", "-c", "echo image >&3"),), (), sends=True))
        assert sent.read(100) == b"image\n"
        sent.close()
        assert [printed(machine, f"echo {n}") for n in range(4)] == [["0"], ["1"], ["2"], ["3"]]
        assert hold.beat()
    finally:
        hold.let_go()
        hold.gone(5)


def test_a_host_that_takes_one_session_alone_says_what_it_wants(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "OPENING", 1.0)
    machine = place.connect(place.sshd(more="MaxSessions 1").host)
    hold = lease(machine, place.home / "base")
    try:
        with pytest.raises(StepFailed, match=r"opens no session .*; MaxSessions should be 2 or more"):
            printed(machine, "echo one")
        assert hold.beat()
    finally:
        hold.let_go()
        hold.gone(5)


def test_scripts_side_by_side_never_get_the_same_channel(place: Place) -> None:
    machine = place.connect(place.sshd(more="MaxSessions 50").host)
    said: dict[int, list[str]] = {}

    def work(number: int) -> None:
        for _ in range(5):
            said[number] = [*said.get(number, []), *printed(machine, f"echo {number}")]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {number: [str(number)] * 5 for number in range(6)}


def test_a_link_that_breaks_before_a_script_is_sent_has_sent_nothing(place: Place) -> None:
    relay = place.relay(place.sshd())
    machine = place.connect(relay.host)
    assert printed(machine, "echo one") == ["one"]
    relay.cut()
    wait_for(lambda: is_broken(machine), "the break to be noticed")
    with pytest.raises(LinkLost) as lost:
        printed(machine, "echo two")
    assert not lost.value.sent


def is_broken(machine: SshMachine) -> bool:
    try:
        machine.reach(("127.0.0.1", 1)).close()
    except LinkLost:
        return True
    except StepFailed:  # nobody listens there
        return False
    return False
