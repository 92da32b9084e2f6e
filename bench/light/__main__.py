"""`python -m bench.light`: a deploy to 1, 3, ... 200 hosts, and what it takes on both sides.

The hosts are this machine's own processes, so that beyond a few they wait for its processors. What they took is
measured, too: the estimate is the wall clock where each host has a processor of its own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from bench.light import report
from bench.light.hosts import Traffic, running
from bench.light.model import Round

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.light.hosts import LightHost

ROOT = Path(__file__).resolve().parent.parent.parent
SIZES = (1, 3, 10, 20, 50, 100, 200)
SMALL = 20
"""Hosts up to which a deploy is cheap enough to be measured more than once."""


class Bench:
    """A project, and the hosts that it is deployed to."""

    def __init__(self, room: Path, hosts: Sequence[LightHost]) -> None:
        self._room = room
        self._folder = room / "project"
        self._hosts = hosts
        self._commits = 0
        shutil.copytree(
            ROOT / "examples" / "django", self._folder, ignore=shutil.ignore_patterns("__pycache__", ".env*")
        )
        (self._folder / "tasks.py").write_text("from deploy.tasks import ns\n")
        (self._folder / ".gitignore").write_text(".env*\n/invoke.yaml\n/tasks.py\n__pycache__/\n")
        (self._folder / ".env.prod").write_text("SECRET_KEY=light\nALLOWED_HOSTS=app.example.com\n")
        self._git("init", "--quiet", "--initial-branch=main")

    def deploy(self, number: int, *words: str, under: Sequence[str] = ()) -> Round:
        """Deploy another commit to the first so many hosts; `under` is a profiler's command line, say.

        Raises:
            RuntimeError: the deploy did not go through.

        """
        hosts = self._hosts[:number]
        self._configure(hosts)
        self._commit()
        traffic, worked = Traffic.read(hosts), sum(host.cpu() for host in hosts)
        account = self._room / "account"
        command = [*under, sys.executable, "-m", "bench.light.operator", "deploy", "--json", *words]
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "XDG_STATE_HOME": str(self._room / "state"),
            "LIGHT_ACCOUNT": str(account),
        }
        began = time.monotonic()
        with subprocess.Popen(
            command, cwd=self._folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as operator:
            threads = _Threads(operator.pid)
            said, _ = operator.communicate(timeout=900)
        wall = time.monotonic() - began
        if operator.returncode:
            raise RuntimeError(said.splitlines()[-1])
        time.sleep(0.5)  # the last sshds write down what they carried, and end
        taken = json.loads(account.read_text())
        flips = [host.flipped() for host in hosts]
        return Round(
            hosts=number,
            wall=wall,
            **taken,
            threads=threads.most,
            hosts_cpu=sum(host.cpu() for host in hosts) - worked,
            skew=max(flips) - min(flips),
            **asdict(Traffic.read(hosts) - traffic),
            phases=_phases(said),
        )

    def _configure(self, hosts: Sequence[LightHost]) -> None:
        keys = {
            "project": "app",
            "source": ".",
            "health": {"path": "/healthz", "host": "app.example.com", "timeout": 60},
            "migrate": "python manage.py migrate --noinput",
            "workers": ["celery", "celery-beat"],
            "singletons": ["postgres", "celery-beat"],
            "settle": 3,
            "ssh": {
                "identity": str(self._room / "login"),
                "known_hosts": str(self._room / "known_hosts"),
                "config": "/dev/null",
            },
            "envs": {"prod": {"hosts": [host.name for host in hosts]}},
        }
        (self._folder / "invoke.yaml").write_text(json.dumps({"deploy": keys}))

    def _commit(self) -> None:
        self._commits += 1
        (self._folder / "version").write_text(f"{self._commits}\n")
        self._git("add", "--all")
        self._git("commit", "--quiet", f"--message={self._commits}")

    def _git(self, *words: str) -> None:
        identity = ("-c", "user.name=Example", "-c", "user.email=example@example.com")
        subprocess.run(["git", *identity, *words], cwd=self._folder, check=True, capture_output=True)


class _Threads:
    """Watches how many threads a process has."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}/task")
        self.most = 0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        try:
            while True:
                self.most = max(self.most, len(list(self._folder.iterdir())))
                time.sleep(0.2)
        except OSError:
            return  # it has ended


def _phases(said: str) -> dict[str, float]:
    """Return how long each phase took, in seconds, from what the run told."""
    events = [json.loads(line) for line in said.splitlines()]
    starts: list[tuple[str, float]] = [(e["phase"], e["at"]) for e in events if e["kind"] == "phase"]
    ends = [at for _, at in starts[1:]] + [events[-1]["at"]]
    before = {"before": starts[0][1]}
    return before | {phase: round(end - at, 3) for (phase, at), end in zip(starts, ends, strict=True)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.light", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="fleets, by their numbers of hosts")
    parser.add_argument("--rounds", type=int, default=3, help=f"deploys of each; one of those beyond {SMALL}")
    parser.add_argument("--write", action="store_true", help="put it into docs/performance.md (needs matplotlib)")
    parser.add_argument(
        "--out", type=Path, help="put every figure into this file, as JSON; with --write beside that page"
    )
    options = parser.parse_args()
    out = options.out or (report.FIGURES if options.write else None)
    sizes = sorted({1, *map(int, options.sizes.split(","))})
    conditions = {
        "when": f"{datetime.datetime.now(datetime.timezone.utc):%d %B %Y}",
        "where": f"{os.cpu_count()} cores under a load of {os.getloadavg()[0]:.0f} before it began, Python "
        f"{platform.python_version()}, paramiko {metadata.version('paramiko')}",
    }
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="greenroom-light-") as folder, running(max(sizes), Path(folder)) as hosts:
        bench = Bench(Path(folder), hosts)
        bench.deploy(max(sizes), "--settle=0")
        for size in sizes:
            for _ in range(options.rounds if size <= SMALL else 1):
                rounds.append(bench.deploy(size))
                print(rounds[-1], flush=True)
                if out:
                    figures = {"conditions": conditions, "rounds": [asdict(each) for each in rounds]}
                    out.write_text(json.dumps(figures, indent=1) + "\n")
    print(report.write(rounds, conditions) if options.write else report.table(report.fleets(rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
