"""Whole deploys: each contestant in turn, at each latency; and where the time of one of ours goes."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from bench import contestants, results
from bench.ground import COUNTER, DJANGO, LIMIT, Ground, tools
from bench.relay import Relay
from bench.results import Table, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import testbed

APPS = {"django": DJANGO, "counter": COUNTER}
LATENCIES = {"django": (0,), "counter": (0, 20, 100)}
"""Milliseconds that a round trip takes. The way is as long for either app; on the quicker one it is better seen."""

REST = 4.0
"""Seconds before each deploy: the connections that nginx kept from the one before are gone, for all alike."""

ROUNDS = {"django": 1, "counter": 2}
"""How many rounds an app gets for each that is asked for: of a quick deploy more is chance (TICK)."""

TICK = 2.0
"""Seconds between two looks of nginx for the app's address, which each gate waits for.

So a deploy ends a fixed time after such a look. With one rest for all rounds a contestant would meet the next at the
same moment in each of them, a good one or a bad one.
"""


def measure(folder: Path, hosts: list[testbed.Target], rounds: int) -> tuple[dict[str, Table], dict[str, Any]]:
    tables: dict[str, Table] = {}
    phases: dict[str, Any] = {}
    with tools(hosts[:1]):
        for name, app in APPS.items():
            say(f"--- {name}: the first deploy, which is not measured")
            ground = Ground.prepare(folder / name, hosts[0], app)
            for latency in LATENCIES[name]:
                tables[f"{name} {latency}"] = compete(ground, latency, rounds * ROUNDS[name])
            phases[name] = [timeline(ground) for _ in range(rounds)]
    return tables, {"phases": phases}


@contextlib.contextmanager
def far(ground: Ground, latency: int) -> Iterator[Ground]:
    """Have the host `latency` milliseconds away."""
    if not latency:
        yield ground.reached_by(22)
        return
    with Relay(ground.target.address, latency / 1000) as relay:
        yield ground.reached_by(relay.port)


def compete(ground: Ground, latency: int, rounds: int) -> Table:
    """Have each deploy in turn. One that says it is done and left the old release live has failed, too."""
    table = Table()
    with far(ground, latency) as there:
        for turn in range(rounds):
            say(f"--- {there.app.project}, {latency} ms, round {turn + 1} of {rounds}")
            for name, deploy in contestants.NAMES.items():
                if table.get(name, results.Series()).failed:
                    continue
                before = refreshed(there, f"{latency} {turn} {name}", TICK * turn / rounds)
                table.measure(name, lambda deploy=deploy: deploy(there))  # type: ignore[misc]
                if there.live() == before and not table[name].failed:
                    table[name] = results.Series(table[name].values[:-1], "the old release is still live")
    return table


def refreshed(ground: Ground, text: str, more: float = 0.0) -> str:
    """Commit something new; return what is live, when all is quiet, and no connection of the one before is left.

    `more` is how many seconds to rest beyond that.
    """
    ground.hang_up()
    ground.commit(text)
    live = ground.live()
    time.sleep(REST + more)
    return live


def timeline(ground: Ground) -> list[tuple[str, float]]:
    """Deploy once more, and tell how long each stretch took, in seconds, from the first moment to the last."""
    there = ground.reached_by(22)
    refreshed(there, f"timeline {time.time()}")
    marks = [("Python, source", time.monotonic())]
    words = [sys.executable, "-m", "invoke", "deploy", "--settle=0", "--json"]
    with subprocess.Popen(
        words, cwd=there.project.folder, env=there.project.environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout or ():
            event = json.loads(line)
            if stretch := _begins(event):
                marks.append((stretch, time.monotonic()))
        process.wait(LIMIT)
    marks.append(("", time.monotonic()))
    return [(name, round(end - began, 3)) for (name, began), (_, end) in itertools.pairwise(marks)]


def _begins(event: dict[str, Any]) -> str:
    """Say which stretch begins with an event."""
    if event["kind"] == "phase":
        return str(event["phase"])
    if event["kind"] == "note" and event["text"].startswith("release "):
        return "connect, lock, look"
    return {"ended": "let go, end"}.get(event["kind"], "")
