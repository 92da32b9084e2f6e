"""A connection that a host opens for us, as a preview needs it."""

from __future__ import annotations

import socket

import pytest
from sshd import ME, Place

from deploy.errors import LinkLost, StepFailed
from deploy.recipe.model import Host


@pytest.mark.parametrize("jumps", [False, True], ids=["straight", "through-a-jump-host"])
def test_a_host_reaches_for_us_what_only_it_can(place: Place, jumps: bool) -> None:
    last = place.sshd(address="127.0.0.4")
    if jumps:
        jump = place.sshd(address="127.0.0.2", more=f"PermitOpen {last.address}:{last.port}")
        place.config(f"Host 127.0.0.4\n  ProxyJump {ME}@{jump.address}:{jump.port}\n")
    machine = place.connect(last.host)
    with socket.create_server(("127.0.0.5", 0)) as inside:
        ways = [machine.reach(("127.0.0.5", inside.getsockname()[1])) for _ in range(20)]
        for number, way in enumerate(ways):
            with inside.accept()[0] as there:
                way.sendall(b"%d" % number)
                assert there.recv(10) == b"%d" % number
                there.sendall(b"heard")
            assert (way.recv(10), way.recv(10)) == (b"heard", b"")
            way.close()


def test_an_address_where_nobody_listens_is_named_and_the_link_goes_on(place: Place) -> None:
    machine = place.connect(place.sshd().host)
    with socket.create_server(("127.0.0.5", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(StepFailed, match=f"127.0.0.5:{port} cannot be reached from there: connect failed"):
        machine.reach(("127.0.0.5", port))
    with socket.create_server(("127.0.0.5", 0)) as inside:
        machine.reach(("127.0.0.5", inside.getsockname()[1])).close()


def test_a_host_whose_sshd_forwards_nothing_says_so(place: Place) -> None:
    sshd = place.sshd(more="AllowTcpForwarding no")
    machine = place.connect(Host("127.0.0.1", ME, sshd.port))
    with pytest.raises(StepFailed, match=r"its sshd forwards nothing \(AllowTcpForwarding\)"):
        machine.reach(("127.0.0.5", 9))


def test_a_link_that_is_gone_is_lost(place: Place) -> None:
    machine = place.connect(place.sshd().host)
    machine.close()
    with pytest.raises(LinkLost, match="the link broke"):
        machine.reach(("127.0.0.5", 9))
