"""What a fleet costs while nothing happens, and how it is left: threads that wait sleep, and a close wakes them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from deploy import lock
from deploy.fleet import Fleet
from deploy.machine import wire

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from sshd import Place
EVAL = 'ForceCommand mkdir -p {folder}; cd {folder}; eval "$SSH_ORIGINAL_COMMAND"'


def test_a_link_on_which_nothing_comes_in_is_hardly_looked_at(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    real = wire.Wire.recv

    def recv(self: Any, size: int) -> bytes:
        looks.append(1)
        return real(self, size)

    machine = place.connect(place.sshd().host)
    time.sleep(0.5)  # sshd has a word to say after the login
    monkeypatch.setattr(wire.Wire, "recv", recv)
    time.sleep(1.5)
    assert len(looks) <= 3  # of fifteen that paramiko would take
    machine.close()


def test_closing_wakes_the_thread_that_listens(place: Place) -> None:
    machine = place.connect(place.sshd().host)
    listener = machine._transport
    time.sleep(0.3)  # so that it sleeps
    machine.close()
    listener.join(wire.NAP / 2)
    assert not listener.is_alive()


def test_locks_of_real_hosts_are_free_when_the_run_is_over(place: Place, tmp_path: Path) -> None:
    """Three names of hosts that are one machine, each with a directory of its own."""
    machines = [
        place.connect(place.sshd(more=f"ForceCommand mkdir -p {tmp_path}/h{n}; cd {tmp_path}/h{n}; {EVAL}").host)
        for n in range(3)
    ]
    for run in ("first", "second"):
        with lock.held(Fleet(machines), (("BASE", "app"),), lock.Claim(run, "me", "look")):
            assert [(tmp_path / f"h{n}/app/run").read_text() for n in range(3)] == [f"{run}\n"] * 3
        assert [(tmp_path / f"h{n}/app/last").read_text() for n in range(3)] == [f"{run}\n"] * 3
