"""An image on its way to a second host that has the rest of it: ours, and `docker save | load` through the operator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import testbed
from bench.ground import LIMIT
from bench.results import Table, say
from bench.uploads import carried
from testbed.project import Project

if TYPE_CHECKING:
    from pathlib import Path

LAYER = 12_000_000
"""Bytes of the layer that changes: noise, of which no packer makes fewer."""


def measure(folder: Path, hosts: list[testbed.Target], rounds: int) -> tuple[dict[str, Table], dict[str, Any]]:
    """Deploy to two hosts, and count what comes to the second."""
    pair = hosts[:2]
    testbed.reset(pair)
    project = Project.create(folder / "images", pair, {"settle": 0})
    noise = f"RUN head -c {LAYER} /dev/urandom >/srv/noise\n"
    project.edit("Dockerfile", "USER app\n", noise + "USER app\n")
    say("--- the first deploy to two hosts, which is not measured")
    _must(project, "first")
    traffic, seconds = Table(), Table()
    for turn in range(rounds):
        say(f"--- images, round {turn + 1} of {rounds}")
        before = carried(pair[1], "$2")
        project.commit(f"image {turn}")
        said = project.inv("deploy", "--json")
        if said.code:
            raise RuntimeError(said.text)
        traffic.add("greenroom", carried(pair[1], "$2") - before)
        seconds.add("greenroom", _shipping(said.out))
        image = testbed.shell(pair[0], "docker images --format '{{.Repository}}:{{.Tag}}' app | sort | tail -n 1")
        testbed.shell(pair[1], f"docker tag {image} kept:{turn} && docker tag {image} aside:{turn}", timeout=LIMIT)
        save, load = (f"ssh -F {testbed.SSH_CONFIG} {target.name}" for target in pair)
        line = f"{save} 'docker save {image} | gzip -1' | {load} 'docker load -q'"
        before = carried(pair[1], "$2")
        if seconds.measure("docker save \\| load", lambda line=line: _shell(line)):  # type: ignore[misc]
            traffic.add("docker save \\| load", carried(pair[1], "$2") - before)
    return {"bytes that came to the second host": traffic, "seconds": seconds}, {"layer": LAYER}


def _must(project: Project, text: str) -> None:
    project.commit(text)
    said = project.inv("deploy")
    if said.code:
        raise RuntimeError(said.text)


def _shipping(said: str) -> float:
    """Return the seconds from the beginning of *ship* to the beginning of what comes after it."""
    begins = {phase: float(at) for at, phase in re.findall(r'"at": ([\d.]+), "kind": "phase", "phase": "(\w+)"', said)}
    after = min(at for at in begins.values() if at > begins["ship"])
    return after - begins["ship"]


def _shell(line: str) -> None:
    import subprocess

    subprocess.run(["sh", "-c", line], check=True, capture_output=True, timeout=LIMIT)
