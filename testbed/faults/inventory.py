"""All that lies on a host after a run, and what of it should not be there."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import testbed

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = "/home/deploy/greenroom/app"
TOP = {
    "cut_off", "fence", "history.jsonl", "last", "leader", "lock", "nginx", "releases", "source", "switch", "switched",
    "turn",
}  # fmt: skip
"""What lies in the app's directory while nobody is at work."""

SETTINGS = frozenset({"nginx", "redis", "celery"})
SINGLETONS = frozenset({"postgres", "celery-beat"})
NETWORKS = {"bridge", "host", "none", "settings"}
VOLUMES = {
    "app-media",
    "app-static",
    *(f"app-setting-prod_{name}" for name in ("beat", "postgres", "redis")),
}


@dataclass(frozen=True)
class Container:
    stack: str
    service: str
    state: str
    image: str

    def __str__(self) -> str:
        return f"{self.stack}/{self.service} ({self.state}, {self.image})"


@dataclass(frozen=True)
class Inventory:
    """What lies on one host: names, and sums in bytes."""

    containers: tuple[Container, ...] = ()
    images: frozenset[str] = frozenset()
    untagged: int = 0
    networks: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()  # relative to BASE, without source/
    processes: tuple[str, ...] = ()  # of the user who deploys
    workers: int = 0  # of nginx, those that are on their way out among them
    connections: int = 0  # established, of nginx
    sessions: int = 0  # of sshd
    image_bytes: int = 0  # of tagged images, layers that they share counted once
    cache_bytes: int = 0  # of the builder
    file_bytes: int = 0  # below BASE

    @property
    def releases(self) -> frozenset[str]:
        return frozenset(name.split("/")[1] for name in self.files if re.fullmatch("releases/[^/]+", name))

    def counts(self) -> dict[str, int]:
        """Return what a soak compares."""
        return {
            "containers": len(self.containers),
            "images": len(self.images),
            "untagged images": self.untagged,
            "networks": len(self.networks),
            "volumes": len(self.volumes),
            "files": len(self.files),
            "processes of the deployer": len(self.processes),
            "nginx workers": self.workers,
            "nginx connections": self.connections,
            "ssh sessions": self.sessions,
            "bytes of images": self.image_bytes,
            "bytes of build cache": self.cache_bytes,
            "bytes of files": self.file_bytes,
        }


def take(target: testbed.Target, *, sizes: bool = False) -> Inventory:
    """Look at a host; with `sizes`, which takes docker seconds, at its bytes, too."""
    script = LOOK + (MEASURE if sizes else "")
    lines = [line.split("\t") for line in testbed.shell(target, script, timeout=120).splitlines()]
    found: dict[str, list[list[str]]] = {}
    for key, *values in lines:
        found.setdefault(key, []).append(values)

    def names(key: str) -> frozenset[str]:
        return frozenset(values[0] for values in found.get(key, ()))

    def number(key: str) -> int:
        return sum(int(values[0]) for values in found.get(key, ()))

    images = names("image")
    return Inventory(
        containers=tuple(sorted((Container(*values) for values in found.get("container", ())), key=str)),
        images=frozenset(image for image in images if "<none>" not in image),
        untagged=sum("<none>" in values[0] for values in found.get("image", ())),
        networks=names("network"),
        volumes=names("volume"),
        files=names("file"),
        processes=tuple(" ".join(values) for values in found.get("process", ())),
        workers=number("workers"),
        connections=number("connections"),
        sessions=number("sessions"),
        image_bytes=number("image_bytes"),
        cache_bytes=number("cache_bytes"),
        file_bytes=number("file_bytes"),
    )


LOOK = r"""
tab=$(printf '\t')
label() { printf '{{.Label "com.docker.compose.%s"}}' "$1"; }
docker ps -a --format "container$tab$(label project)$tab$(label service)$tab{{.State}}$tab{{.Image}}"
docker images --format "image$tab{{.Repository}}:{{.Tag}}"
docker network ls --format "network$tab{{.Name}}"
docker volume ls --format "volume$tab{{.Name}}"
cd /home/deploy/greenroom/app
find . -mindepth 1 ! -path './source/*' -printf 'file\t%P\n'
ps -u deploy -o pid=,args= | sed "s/^ */process$tab/"
printf 'workers\t%s\n' "$(pgrep -fc '^nginx: worker')"
printf 'sessions\t%s\n' "$(pgrep -fc '^sshd[-a-z]*: deploy')"
proxy=$(docker ps -q --filter label=com.docker.compose.service=nginx)
[ -z "$proxy" ] || awk '$4 == "01" { n++ } END { printf "connections\t%d\n", n }' \
    "/proc/$(docker inspect -f '{{.State.Pid}}' "$proxy")/net/tcp"
"""

MEASURE = r"""
docker system df --format '{{.Type}} {{.Size}}' | awk '
    /^Images/ { key = "image_bytes" } /^Build Cache/ { key = "cache_bytes" } /^(Containers|Local)/ { next }
    { size = $NF; factor = size ~ /GB$/ ? 1e9 : size ~ /MB$/ ? 1e6 : size ~ /kB$/ ? 1e3 : 1
      printf "%s\t%.0f\n", key, size * factor }'
printf 'file_bytes\t%s\n' "$(du -sb . | cut -f1)"
"""


def leftovers(seen: Inventory, *, first: bool, keep: int) -> Iterator[str]:
    """Say what lies on a host that should not, or does not and should. `first`: it has the singletons, too."""
    live = [c for c in seen.containers if c.service == "web" and c.state == "running"]
    if len(live) != 1:
        yield f"{len(live)} colours run: {', '.join(map(str, live))}"
    image = live[0].image if live else ""
    expected = Counter({(stack, "web"): 1 for stack in {c.stack for c in live[:1]}})
    expected.update({("app-setting-prod", name): 1 for name in SETTINGS | (SINGLETONS if first else frozenset())})
    there = Counter((c.stack, c.service) for c in seen.containers)
    yield from (f"container too many: {'/'.join(which)}" for which in (there - expected).elements())
    yield from (f"container missing: {'/'.join(which)}" for which in (expected - there).elements())
    yield from (f"not running: {c}" for c in seen.containers if c.state != "running")
    yield from (f"stale worker: {c}" for c in seen.containers if c.service.startswith("celery") and c.image != image)
    ours = {name.partition(":")[2] for name in seen.images if name.startswith("app:")}
    yield from (f"image without its release: {name}" for name in sorted(ours - seen.releases))
    yield from (f"release without its image: {name}" for name in sorted(seen.releases - ours))
    # One more is what the live one replaced, and one what a run that died had not come to forget: where all else was
    # done, the next deploy has nothing to do, and the one after that forgets it.
    if len(seen.releases) > keep + 2:
        yield f"{len(seen.releases)} releases are kept, not {keep}"
    if seen.untagged:
        yield f"{seen.untagged} untagged images"
    yield from (f"network too many: {name}" for name in sorted(seen.networks - NETWORKS))
    yield from (f"volume too many: {name}" for name in sorted(seen.volumes - VOLUMES))
    yield from (f"process: {name}" for name in seen.processes)
    yield from _stray_files(seen)


def _stray_files(seen: Inventory) -> Iterator[str]:
    yield from (f"file too many: {name}" for name in sorted(seen.files) if name.split("/")[0] not in TOP)
    yield from (f"half a file: {name}" for name in sorted(seen.files) if name.endswith((".new", ".tmp")))
    switch = sorted(name for name in seen.files if name.startswith("switch/"))
    if len(switch) != 1:
        yield f"the switch is {switch}"
    contents = {
        r: frozenset(n.split("/", 2)[2] for n in seen.files if n.startswith(f"releases/{r}/")) for r in seen.releases
    }
    full = max(contents.values(), key=len, default=frozenset())
    yield from (
        f"release {r} lacks {', '.join(sorted(full - has))}" for r, has in contents.items() if full - has - {"served"}
    )
