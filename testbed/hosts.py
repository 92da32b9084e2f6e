"""The hosts: containers that are as much of a server as a deploy can tell."""

from __future__ import annotations

import logging
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from . import images, seeds, ssh
from .commands import docker, docker_agrees, in_parallel
from .errors import CommandError, ProvisionError
from .model import KINDS, NETWORK, SUBNET, Kind, Target, target_named
from .seeds import ERRAND, ROLE

if TYPE_CHECKING:
    from collections.abc import Sequence

_OWNER: Final = "greenroom.testbed.keys"
"""The label of a host that says for which keys it was made: another checkout's are not ours."""

_BOOT: Final = 60.0
"""Seconds from the start of a host until ssh and docker answer in it."""

_STEADY: Final = 30.0
"""Seconds that a host which seems to be up gets to prove it: on a busy machine it may need them."""

_HALT: Final = 15
"""Seconds that a host has to shut down, before it is switched off."""

_RESET: Final = 120.0

_GONE: Final = 3
"""The status by which a host's reset script says that an image it was born with is gone."""

_PRIVILEGED: Final = ("--privileged", "--cgroupns=private")
_NEARLY_PRIVILEGED: Final = (
    *("--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--cgroupns=private"),
    *("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--device-cgroup-rule=a *:* rwm"),
)
"""For a machine that is itself confined, and lacks the one capability that it cannot hand on."""

_log = logging.getLogger("testbed")


def states() -> dict[Target, str]:
    """Return the hosts that exist, in order, each with what docker calls its state: running, exited, ..."""
    listing = docker("ps", "--all", "--filter", f"label={ROLE}=host", "--format", "{{.Names}} {{.State}}")
    pairs = (line.split(" ", 1) for line in listing.splitlines())
    return dict(sorted((target_named(name.removeprefix("greenroom-")), state) for name, state in pairs))


def ensure(wanted: Sequence[Target], kind: Kind) -> None:
    """Have these hosts up: one that is stays as it is, one that is not is started, or made. Raises ProvisionError."""
    ssh.prepare(wanted)
    _sweep("errand")
    known = states()
    alive = in_parallel(lambda target: _revive(target, known.get(target)), wanted)
    missing = [target for target, is_alive in zip(wanted, alive, strict=True) if not is_alive]
    if missing:
        _make_all(missing, kind)


def reset(targets: Sequence[Target]) -> list[Target]:
    """Bring hosts back to where they were when they were new, but for their build caches. Raises ProvisionError.

    Returns those that this cannot be done to, because an image that they were born with is gone: to be made anew.
    """
    done = in_parallel(_reset, targets)
    return [target for target, is_done in zip(targets, done, strict=True) if not is_done]


def remake(targets: Sequence[Target]) -> None:
    """Make hosts of any kinds anew. Raises ProvisionError."""
    for kind in KINDS.values():
        chosen = [target for target in targets if target.kind == kind.name]
        if chosen:
            _make_all(chosen, kind)


def shell(target: Target, script: str, *, user: str, timeout: float) -> str:
    """Run a script in a host's /bin/sh and return what it prints; `timeout` is in seconds.

    Raises CommandError if the script fails, or with status 124 if it does not end in time: then it is killed.
    """
    home = "/root" if user == "root" else f"/home/{user}"
    limit = ["timeout", "--kill-after=2", f"{timeout:g}"]
    return docker(
        "exec", "--user", user, "--workdir", home, target.container, *limit, "sh", "-c", script, timeout=timeout + 10
    )


def remove_all() -> None:
    """Remove all hosts, their volumes and their network."""
    in_parallel(_remove, states())
    _sweep("errand", "registry")
    for volume in docker("volume", "ls", "--quiet", "--filter", f"label={ROLE}=host").split():
        docker("volume", "rm", volume)
    if docker_agrees("network", "inspect", NETWORK):
        docker("network", "rm", NETWORK)


def remove_seeds() -> None:
    """Remove the seeds of all kinds."""
    for kind in KINDS.values():
        seeds.remove(kind)


def _revive(target: Target, state: str | None) -> bool:
    """Say whether a host is up and ours; try to start it if it is not."""
    if state is None or state == "created":  # a host that was never started may not have got its keys yet
        return False
    owner = docker("inspect", "--format", f'{{{{index .Config.Labels "{_OWNER}"}}}}', target.container)
    if owner != ssh.fingerprint(target):
        _log.info("%s was made for another checkout's keys", target.name)
        return False
    if state == "running":
        try:
            _await_ready(target, _STEADY)
        except ProvisionError:
            _log.info("%s does not answer", target.name)
        else:
            return True
    _log.info("starting %s", target.name)
    try:
        docker("restart", "-t", str(_HALT), target.container, timeout=_BOOT)
        _await_ready(target, _BOOT)
    except ProvisionError as error:
        _log.info("%s does not start, and is made anew: %s", target.name, error.what)
        return False
    _log.info("%s is up", target.name)
    return True


def _make_all(missing: Sequence[Target], kind: Kind) -> None:
    """Make hosts, and whatever they are made from."""
    images.Shelf().ensure(kind)
    privileges = _privileges(kind)
    _ensure_network()
    seeds.ensure(kind, privileges)
    in_parallel(partial(_make, kind=kind, privileges=privileges, resolvers=_resolvers(kind)), missing)


def _make(target: Target, *, kind: Kind, privileges: Sequence[str], resolvers: str) -> None:
    """Make a host, in the place of whatever has its name, and wait until it is up."""
    docker_agrees("rm", "--force", "--volumes", target.container)
    _log.info("copying %s for %s", kind.seed, target.name)
    seeds.copy(kind, target.volume, privileges)
    docker(
        "create",
        f"--name={target.container}",
        f"--hostname={target.name}",
        f"--label={ROLE}=host",
        f"--label={_OWNER}={ssh.fingerprint(target)}",
        f"--network={NETWORK}",
        f"--ip={target.inner}",
        f"--publish={target.address}:22:22",
        f"--publish={target.address}:80:80",
        f"--volume={target.volume}:/var/lib/docker",
        "--tmpfs=/run:exec,mode=755",
        f"--env=GREENROOM_DNS={resolvers}",
        f"--stop-timeout={_HALT}",
        *privileges,
        kind.image,
    )
    docker("cp", "-", f"{target.container}:/etc/greenroom", stdin=ssh.luggage(target))
    docker("start", target.container)
    _await_ready(target, _BOOT)
    _log.info("%s is up", target.name)


def _reset(target: Target) -> bool:
    try:
        shell(target, "/usr/local/lib/greenroom/reset", user="root", timeout=_RESET)
    except CommandError as error:
        if error.status != _GONE:
            raise
        _log.info("%s has lost an image that it was born with, and is made anew", target.name)
        return False
    _log.info("%s is as new", target.name)
    return True


def _remove(target: Target) -> None:
    _log.info("removing %s", target.name)
    docker("rm", "--force", "--volumes", target.container)
    docker("volume", "rm", "--force", target.volume)


def _sweep(*roles: str) -> None:
    """Remove the containers of these roles that an earlier run left when it was killed."""
    leftovers = [
        each for role in roles for each in docker("ps", "--all", "--quiet", "--filter", f"label={ROLE}={role}").split()
    ]
    if leftovers:
        docker("rm", "--force", "--volumes", *leftovers)


def _await_ready(target: Target, patience: float) -> None:
    """Return once sshd and docker answer in a host. Raises ProvisionError if they do not do so in time."""
    deadline = time.monotonic() + patience
    while True:
        state = docker("inspect", "--format", "{{.State.Status}}", target.container)
        if state == "running" and _greets(target) and docker_agrees("exec", target.container, "docker", "version"):
            return
        if state != "running" or time.monotonic() > deadline:
            log = docker("logs", "--tail", "20", target.container)
            raise ProvisionError(
                f"{target.name} is {state}, but ssh and docker did not both answer within {patience:g} s:\n{log}",
                f"read `docker logs {target.container}`",
            )
        time.sleep(0.1)


def _greets(target: Target) -> bool:
    """Say whether an ssh server is at the host's address. That of docker's port proxy answers, but says nothing."""
    try:
        with socket.create_connection((target.address, 22), timeout=2) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _ensure_network() -> None:
    if not docker_agrees("network", "inspect", NETWORK):
        docker("network", "create", f"--label={ROLE}=network", f"--subnet={SUBNET}", NETWORK)


def _privileges(kind: Kind) -> Sequence[str]:
    """Return the options that let a container run an engine of its own on this machine."""
    trial = ("run", "--rm", "--network=none", ERRAND)
    if docker_agrees(*trial, *_PRIVILEGED, kind.image, "true"):
        return _PRIVILEGED
    return _NEARLY_PRIVILEGED


def _resolvers(kind: Kind) -> str:
    """Return the name servers that work in containers here: those the engine gives to one on its default network."""
    configuration = docker("run", "--rm", ERRAND, kind.image, "cat", "/etc/resolv.conf")
    lines = (line.split() for line in configuration.splitlines())
    return " ".join(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")
