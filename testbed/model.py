"""The words: what a kind of host is, and which hosts there can be. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .errors import ProvisionError

MOST: Final = 9
"""How many hosts of one kind there can be."""

NETWORK: Final = "greenroom-testbed"
SUBNET: Final = "172.30.77.0/24"
"""The network on which the hosts reach each other."""


@dataclass(frozen=True)
class Kind:
    """A release of Debian, with the docker engine and the compose that come with it."""

    name: str
    before_first: int
    """The last byte of the address that precedes the first host's."""
    packages: tuple[str, ...]
    about: str

    @property
    def base(self) -> str:
        """The image that its hosts are made from."""
        return f"debian:{self.name}-slim"

    @property
    def image(self) -> str:
        """The image of its hosts."""
        return f"greenroom-testbed/host:{self.name}"

    @property
    def seed(self) -> str:
        """The volume that is copied to each new host, and the container that filled it."""
        return f"greenroom-seed-{self.name}"


_NEWER: Final = ("docker.io", "docker-cli", "docker-compose", "docker-buildx")

KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("trixie", 10, _NEWER, "docker 26, compose v2.26"),
        Kind("bookworm", 20, ("docker.io", "docker-compose"), "docker 20.10, docker-compose v1.29"),
        Kind("forky", 30, _NEWER, "docker 28, compose v2.40"),
    )
}


@dataclass(frozen=True, order=True)
class Target:
    """One host: what to call it, and where it is."""

    name: str
    kind: str
    address: str
    """On this machine's loopback network; ssh listens on port 22, and port 80 is the host's own port 80."""
    inner: str
    """On the network that the hosts share: where other hosts find it."""

    @property
    def container(self) -> str:
        """The container that is this host."""
        return f"greenroom-{self.name}"

    @property
    def volume(self) -> str:
        """The volume that is this host's /var/lib/docker."""
        return self.container


def kind_named(name: str) -> Kind:
    """Return the kind of that name. Raises ProvisionError if there is none."""
    try:
        return KINDS[name]
    except KeyError:
        raise ProvisionError(f"there is no kind of host called {name!r}", f"choose one of {', '.join(KINDS)}") from None


def targets(count: int, kind: Kind) -> list[Target]:
    """Return the first `count` hosts of a kind. Raises ProvisionError if there cannot be so many."""
    if not 1 <= count <= MOST:
        raise ProvisionError(f"there cannot be {count} hosts of one kind", f"ask for 1 to {MOST}")
    return [_target(kind, number) for number in range(1, count + 1)]


def target_named(name: str) -> Target:
    """Return the host of that name, be it up or not. Raises ProvisionError if no host can have that name."""
    for kind in KINDS.values():
        for target in targets(MOST, kind):
            if target.name == name:
                return target
    raise ProvisionError(f"no host can be called {name!r}", f"use KIND-NUMBER: {', '.join(KINDS)}, 1 to {MOST}")


def _target(kind: Kind, number: int) -> Target:
    byte = kind.before_first + number
    return Target(f"{kind.name}-{number}", kind.name, f"127.0.0.{byte}", f"172.30.77.{byte}")
