"""A small disk for a host: a tmpfs under its engine and its home, so that it can be filled without filling ours.

What this is and is not: one file system of known size for images, containers, volumes and the app's directory, as on a
small server. No disk: a tmpfs has no reserve for root and no journal, and takes an empty file when it is full, as ext4
mostly does.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import testbed
from testbed import hosts
from testbed.commands import docker
from testbed.model import kind_named

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 3 << 30
"""Bytes of the whole disk. What a host is born with takes one GiB of it, and a deploy begins with one that is free."""

MARGIN = 16 << 20
FILLER = "/var/lib/docker/filler"


@contextlib.contextmanager
def small(target: testbed.Target) -> Iterator[None]:
    """For the block, a bare host has a small disk. What it holds is gone afterwards, and the host as bare as before."""
    testbed.reset([target])
    testbed.shell(target, SHRINK.replace("SIZE", str(SIZE)), timeout=180)
    try:
        yield
    finally:
        docker("restart", "-t", "15", target.container)  # the mounts go with its processes
        hosts.ensure([target], kind_named(target.kind))


SHRINK = r"""
set -eu
# init starts dockerd again as soon as it ends: not while its files move.
mv /usr/sbin/dockerd /usr/sbin/dockerd.away
kill -TERM "$(cat /run/docker.pid)"
while pgrep -x dockerd >/dev/null; do sleep 0.1; done
mkdir -p /small
mount -t tmpfs -o size=SIZE,mode=755 small /small
cp -a /var/lib/docker /small/docker
cp -a /home/deploy /small/deploy
mount --bind /small/docker /var/lib/docker
mount --bind /small/deploy /home/deploy
mv /usr/sbin/dockerd.away /usr/sbin/dockerd
for _ in $(seq 300); do ! docker version >/dev/null 2>&1 || exit 0; sleep 0.1; done
exit 1
"""


def fill(target: testbed.Target, leave: int) -> None:
    """Fill a small disk until `leave` bytes are free."""
    testbed.shell(
        target,
        f"""set -eu
        [ "$(stat -f -c %T /var/lib/docker)" = tmpfs ] || {{ echo "this disk is not ours to fill"; exit 1; }}
        free=$(($(stat -f -c '%a * %S' /var/lib/docker)))
        fallocate -l "$((free - {max(leave, MARGIN)}))" {FILLER}
        # Others write meanwhile: to the last byte there is only one way.
        [ {leave} != 0 ] || cat /dev/zero >>{FILLER} 2>/dev/null || true""",
    )


def free(target: testbed.Target) -> None:
    testbed.shell(target, f"rm -f {FILLER}")
