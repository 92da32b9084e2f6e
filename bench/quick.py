"""`make bench-quick`: the first figures of a deploy to one real host, each beside its goal.

What counts is what Greenroom adds to the work that has to be done anyway, so the app's own boot is measured, too: a
look-out inside the host asks the idle colour's container directly, every 20 ms, past nginx.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import testbed
from bench.starts import listed
from testbed.load import GET_FRESH, Load
from testbed.project import HOST_HEADER, Project

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from testbed.load import Report

ROUNDS = 3


@dataclass(frozen=True)
class Figure:
    """What was measured, in `unit`; the median counts."""

    name: str
    values: tuple[float, ...]
    goal: float
    unit: str

    def __str__(self) -> str:
        low, mid, high = min(self.values), statistics.median(self.values), max(self.values)
        verdict = "reached" if mid <= self.goal else "MISSED"
        return f"{self.name:<62}{low:8.2f}{mid:8.2f}{high:8.2f}   <= {self.goal:g} {self.unit:<9} {verdict}"


class LookOut:
    """Watches, inside a host, when a new web container starts and when it first answers: seconds since 1970."""

    def __init__(self, target: testbed.Target, seconds: int) -> None:
        self._script = WATCH.replace("LIMIT", str(seconds)).replace("HOST", HOST_HEADER)
        self._target = target
        self._limit = seconds + 30
        self._said = ""
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _look(self) -> None:
        self._said = testbed.shell(self._target, self._script, timeout=self._limit)

    @property
    def started(self) -> float:
        return self._number("started")

    @property
    def healthy(self) -> float:
        return self._number("healthy")

    def _number(self, key: str) -> float:
        found = re.search(rf"{key} ([\d.]+)", self._said)
        if not found:
            raise RuntimeError(f"the look-out saw no new container that was {key}: {self._said!r}")
        return float(found[1])


WATCH = """exec bash -c '
web() { docker ps -q --filter label=com.docker.compose.service=web --filter label=com.docker.compose.oneoff=False; }
before=$(web)
while [ $SECONDS -lt LIMIT ]; do
    for id in $(web); do
        case " $before " in *$id*) continue ;; esac
        ip=$(docker inspect -f "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}" $id)
        echo started $(date +%s.%N -d "$(docker inspect -f "{{.State.StartedAt}}" $id)")
        while [ $SECONDS -lt LIMIT ]; do
            if exec 3<>/dev/tcp/$ip/8000; then
                printf "GET /healthz HTTP/1.0\\r\\nHost: HOST\\r\\n\\r\\n" >&3
                read -r line <&3; exec 3>&-
                case $line in *" 200 "*) echo healthy $EPOCHREALTIME; exit ;; esac
            fi 2>/dev/null
            read -r -t 0.02 <> <(:)
        done
    done
    sleep 0.3
done'"""
"""It must not be felt: one docker ps in 0.3 s, and then no new process at all."""


def main() -> int:
    targets = testbed.up(3)
    target = targets[0]
    testbed.reset(targets)
    with tempfile.TemporaryDirectory() as folder:
        project = Project.create(Path(folder) / "project", [target])
        must(project, "deploy", "--settle=0")
        figures = flips(project, target)
        must(project, "deploy", "--settle=0")  # the last of the flips was a rollback
        figures += [
            Figure("an unchanged deploy", timed(lambda: must(project, "deploy")), 3, "s"),
            Figure("remote commands of a deploy", (float(commands(project, target)),), 12, "commands"),
        ]
    figures.append(standing_by(targets))
    figures.append(Figure("`inv --list`, against an empty tasks.py", listing(), 1.15, "x"))
    print(f"\n{'one host where not said, ' + target.kind:<62}{'min':>8}{'median':>8}{'max':>8}   goal")
    for figure in figures:
        print(figure)
    return 0


def flips(project: Project, target: testbed.Target) -> list[Figure]:
    """Deploy and roll back under light load, with a look-out; what lies between the app and its first user."""
    waits, backs = [], []
    for number in range(ROUNDS):
        project.commit(f"bench {number}")
        _, first_user, look_out = users_of(project, target, "deploy", "--settle=0")
        waits.append(first_user - look_out.healthy)
        began, first_user, look_out = users_of(project, target, "rollback", "--settle=0")
        boot = look_out.healthy - look_out.started
        backs.append(first_user - began - boot)
    return [
        Figure("from the app's first healthy answer to its first user", tuple(waits), 1, "s"),
        Figure("a rollback's first answer, beyond the app's own boot", tuple(backs), 2, "s"),
    ]


def standing_by(targets: list[testbed.Target]) -> Figure:
    """Roll back to a colour that stands by, on all hosts; the last of them to give its first answer counts."""
    addresses = [target.address for target in targets]
    backs = []
    testbed.reset(targets)
    with tempfile.TemporaryDirectory() as folder:
        project = Project.create(Path(folder) / "project", targets, {"standby": True})
        must(project, "deploy", "--settle=0")
        for number in range(ROUNDS):
            project.commit(f"standby {number}")
            must(project, "deploy", "--settle=0")
            with Load(addresses, host_header=HOST_HEADER, rate=20, kinds=(GET_FRESH,)) as load:
                time.sleep(1)
                began = time.time()
                must(project, "rollback", "--settle=0")
            backs.append(max(first_of_another(load.report(), address) for address in addresses) - began)
    return Figure(
        f"a rollback's first answer where the old colour stands by, {len(targets)} hosts", tuple(backs), 0.5, "s"
    )


def first_of_another(report: Report, address: str) -> float:
    """Return when an address first answered with another release than before, in seconds since 1970."""
    answers = [r for r in report.requests if r.release and r.address == address]
    new = next(r for r in answers if r.release != answers[0].release)
    return new.wall + (new.ended - new.started)


def users_of(project: Project, target: testbed.Target, *words: str) -> tuple[float, float, LookOut]:
    """Run a verb under load; return when it was typed, when the first user saw another release, and the look-out.

    Both in seconds since 1970.
    """
    with (
        Load([target.address], host_header=HOST_HEADER, rate=50, kinds=(GET_FRESH,)) as load,
        LookOut(target, 60) as out,
    ):
        time.sleep(1)  # the release that is live must have answered before it can change
        began = time.time()
        must(project, *words)
    return began, first_of_another(load.report(), target.address), out


def commands(project: Project, target: testbed.Target) -> int:
    """Count what sshd starts for a deploy: its login shell, once a command."""
    testbed.shell(target, COUNT)
    project.commit("counted")
    must(project, "deploy", "--settle=1")
    return int(testbed.shell(target, "usermod -s /bin/bash deploy; wc -l </tmp/commands; rm /tmp/commands"))


COUNT = """
printf '#!/bin/sh\\necho >>/tmp/commands\\nexec /bin/bash "$@"\\n' >/usr/local/bin/counting-shell
chmod 755 /usr/local/bin/counting-shell
install -m 666 /dev/null /tmp/commands
usermod -s /usr/local/bin/counting-shell deploy
"""


def listing() -> tuple[float, ...]:
    """Time `inv --list` here and beside an empty tasks.py, in turn."""
    ratios = []
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as ours:
        (Path(empty) / "tasks.py").write_text("")
        (Path(ours) / "tasks.py").write_text("from deploy.tasks import ns\n")
        for _ in range(10):
            here = timed(lambda: listed(Path(ours), tasks=True), 1)[0]
            ratios.append(here / timed(lambda: listed(Path(empty), tasks=False), 1)[0])
    return tuple(ratios)


def timed(work: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, ...]:
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return tuple(took)


def must(project: Project, *words: str) -> None:
    said = project.inv(*words)
    if said.code:
        raise RuntimeError(said.text)


if __name__ == "__main__":
    sys.exit(main())
