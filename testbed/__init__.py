"""Real hosts to deploy to, on one machine.

Each host is a container with sshd, a docker engine of its own and compose, on its own loopback address with the real
ports 22 and 80. To the far end of an ssh connection it is a small Debian server::

    import testbed

    one, two = testbed.up(2)                      # seconds once the images are made; a few minutes the first time
    testbed.shell(one, "docker ps")               # as root, past ssh
    subprocess.run(["ssh", "-F", testbed.SSH_CONFIG, one.name, "docker", "ps"])   # as the user `deploy`
    testbed.reset([one, two])                     # between tests

What is needed: a docker engine, or root on Debian (then one is installed and started). Everything else is made here.
All functions raise ProvisionError, and say what to do about it.

The rooms: `engine` has a docker engine running here, `images` has what it needs on its shelf, `seeds` fills a volume
with that, once, and copies it, and `hosts` makes containers of it that pass for servers. `registry` is one beside them.
`images/` holds the recipes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import engine, hosts, images, state
from .errors import CommandError, EngineMissingError, ProvisionError
from .model import Target, kind_named, targets
from .state import KEY, KNOWN_HOSTS, SSH_CONFIG, STATE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "KEY",
    "KNOWN_HOSTS",
    "SSH_CONFIG",
    "STATE",
    "CommandError",
    "EngineMissingError",
    "ProvisionError",
    "Target",
    "down",
    "ls",
    "reset",
    "shell",
    "up",
]


def up(count: int, kind: str = "trixie") -> list[Target]:
    """Have the first `count` hosts of a kind up, and return them.

    Hosts that are up stay as they are, so this may be called at any time; what stopped, or was left half made, heals.
    Raises EngineMissingError if there is no docker engine and none can be started, ProvisionError if anything fails.
    """
    chosen = kind_named(kind)
    wanted = targets(count, chosen)
    with state.locked():
        engine.ensure()
        hosts.ensure(wanted, chosen)
    return wanted


def down(everything: bool = False) -> None:
    """Remove all hosts, of all kinds, with their volumes, network and keys, and stop the engine if we started it.

    Images and seeds stay, so that the next `up` takes seconds; with `everything` they go too. Debian packages stay
    installed in any case. Raises ProvisionError.
    """
    with state.locked():
        if engine.can_start():
            engine.ensure()
            hosts.remove_all()
            if everything:
                hosts.remove_seeds()
                images.remove_all()
            engine.stop()
        state.clear()


def ls() -> list[Target]:
    """Return the hosts that are up; none if there is no engine to ask."""
    return [target for target, how in hosts.states().items() if how == "running"] if engine.answers() else []


def reset(targets: Sequence[Target]) -> None:
    """Bring hosts back to how they were just after `up`, in seconds; their build caches stay.

    Gone are: containers, networks and volumes; images that were not there from the start; what is in /tmp and in the
    deploy user's home, but for .ssh; and that user's processes, its ssh connections with them. A host that has lost an
    image which it was born with is made anew, which takes longer. Raises ProvisionError.
    """
    lost = hosts.reset(targets)
    if lost:
        with state.locked():
            hosts.remake(lost)


def shell(target: Target, script: str, *, user: str = "root", timeout: float = 60) -> str:
    """Run a script in the host's /bin/sh, not through ssh, and return its standard output, stripped.

    It starts in the user's home directory and has `timeout` seconds. Raises CommandError, with all that was printed, if
    it fails, or (with status 124) takes longer.
    """
    return hosts.shell(target, script, user=user, timeout=timeout)
