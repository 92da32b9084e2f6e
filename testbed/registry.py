"""A registry beside the hosts, as a team would have one: Debian's docker-registry, with TLS and a login."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import bcrypt

from . import engine, images, state
from .commands import docker, docker_agrees
from .errors import ProvisionError
from .hosts import shell
from .model import NETWORK
from .seeds import ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .model import Target

_CONTAINER: Final = "greenroom-registry"
_ADDRESS: Final = "172.30.77.5"
NAME: Final = f"{_ADDRESS}:5000"
"""What hosts, and this machine's engine, call it."""

_START: Final = 60.0
"""Seconds that it has until it answers."""


@dataclass(frozen=True)
class Registry:
    """One that runs, and the certificate of its authority, which is its own."""

    certificate: str

    def trusted_by(self, targets: Sequence[Target]) -> None:
        """Have the engines of hosts trust it from now on: they look at each request."""
        for target in targets:
            folder = f"/etc/docker/certs.d/{NAME}"
            shell(target, f"mkdir -p {folder} && echo '{self.certificate}' >{folder}/ca.crt", user="root", timeout=30)

    def tags(self, repository: str) -> list[str]:
        """Return the tags that it has of a repository, in their order."""
        folder = f"/srv/images/docker/registry/v2/repositories/{repository}/_manifests/tags"
        return docker("exec", _CONTAINER, "ls", folder).split()

    def stop(self) -> None:
        docker("rm", "--force", "--volumes", _CONTAINER)


@contextlib.contextmanager
def running(username: str, password: str, targets: Sequence[Target]) -> Iterator[Registry]:
    """Have an empty one for the time of the block, on the network of the hosts, which are up.

    None of the `targets` trusts it, neither before nor after. Raises ProvisionError.
    """
    with state.locked():
        engine.ensure()
        images.ensure_registry()
    docker_agrees("rm", "--force", "--volumes", _CONTAINER)
    crypted = bcrypt.hashpw(password.encode(), bcrypt.gensalt(5)).decode().replace("$2b$", "$2y$")
    docker(
        "run",
        "--detach",
        f"--name={_CONTAINER}",
        f"--label={ROLE}=registry",
        f"--network={NETWORK}",
        f"--ip={_ADDRESS}",
        f"--env=ADDRESS={_ADDRESS}",
        f"--env=LOGIN={username}:{crypted}",
        images.REGISTRY,
    )
    try:
        yield Registry(_certificate())
    finally:
        docker_agrees("rm", "--force", "--volumes", _CONTAINER)
        for target in targets:
            shell(target, f"rm -rf /etc/docker/certs.d/{NAME}", user="root", timeout=30)


def _certificate() -> str:
    """Return its certificate once it listens."""
    deadline = time.monotonic() + _START
    probe = ("exec", _CONTAINER, "openssl", "s_client", "-connect", "127.0.0.1:5000", "-brief")
    while not docker_agrees(*probe, timeout=5):
        if time.monotonic() > deadline:
            raise ProvisionError(f"the registry does not start:\n{docker('logs', _CONTAINER)}", "look at its log")
        time.sleep(0.2)
    return docker("exec", _CONTAINER, "cat", "/srv/certificate.pem")
