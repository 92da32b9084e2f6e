"""Seeds: a volume for each kind of host, filled once with the images that hosts are born with, then copied.

A seed is whole if, and only if, the container that filled it has ended with status 0; and it is of the right images if
that container's label says so. Nothing else has to be remembered.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from . import images
from .commands import docker, docker_agrees, pipe
from .errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .model import Kind

ROLE: Final = "greenroom.testbed.role"
"""The label of our containers, volumes and network. Images never have it, so no container inherits it."""

ERRAND: Final = f"--label={ROLE}=errand"
"""The option that marks a container which does one thing and goes: any that is still there was left by a killed run."""

_CONTENT: Final = "greenroom.testbed.content"
"""The label of the container that filled a seed: a digest of the images in it."""

_FILL: Final = 600.0
_COPY: Final = 300.0
"""Seconds that filling a seed, and copying it, may take on a slow disk."""

_log = logging.getLogger("testbed")


def ensure(kind: Kind, privileges: Sequence[str]) -> None:
    """Have a whole seed with the right images. Raises CommandError if filling one fails."""
    content = images.digest(kind)
    if _content(kind) == content:
        return
    remove(kind)
    _log.info("filling %s", kind.seed)
    docker("volume", "create", f"--label={ROLE}=seed", kind.seed)
    pipe(
        ["docker", "save", *images.BORN_WITH],
        [
            "docker",
            "run",
            "--interactive",
            f"--name={kind.seed}",
            f"--label={ROLE}=seed",
            f"--label={_CONTENT}={content}",
            f"--volume={kind.seed}:/var/lib/docker",
            "--tmpfs=/run:exec,mode=755",
            "--network=none",
            *privileges,
            kind.image,
            "/usr/local/lib/greenroom/seed",
        ],
        timeout=_FILL,
    )


def copy(kind: Kind, volume: str, privileges: Sequence[str]) -> None:
    """Make a volume that is a copy of the seed; what had its name goes away. Raises CommandError.

    The privileges are a host's own: the layers' extended attributes are `trusted`, which is not for everybody to copy.
    """
    docker("volume", "rm", "--force", volume)
    docker("volume", "create", f"--label={ROLE}=host", volume)
    docker(
        "run",
        "--rm",
        ERRAND,
        f"--volume={kind.seed}:/seed:ro",
        f"--volume={volume}:/copy",
        "--network=none",
        *privileges,
        kind.image,
        *("cp", "--archive", "--reflink=auto", "/seed/.", "/copy/"),
        timeout=_COPY,
    )


def remove(kind: Kind) -> None:
    """Remove a seed, if there is one, be it whole or not."""
    docker_agrees("rm", "--force", kind.seed)
    docker("volume", "rm", "--force", kind.seed)


def _content(kind: Kind) -> str | None:
    """Return the digest of the images that a whole seed holds, or None if there is none, or one that is not whole."""
    form = f'{{{{.State.Status}}}} {{{{.State.ExitCode}}}} {{{{index .Config.Labels "{_CONTENT}"}}}}'
    try:
        status, exit_code, content = docker("inspect", "--type", "container", "--format", form, kind.seed).split()
    except CommandError:
        return None
    return content if (status, exit_code) == ("exited", "0") else None
