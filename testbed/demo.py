"""`make demo`: a real app on two real hosts goes from v1 to v2 under load, and back, and its users are counted."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

import testbed
from testbed import events
from testbed.load import Load
from testbed.project import HOST_HEADER, Project

if TYPE_CHECKING:
    from testbed.load import Report

HOSTS = 2
PHASES = ("prepare", "ship", "migrate", "start", "flip", "settle", "finish")
_DONE = re.compile(r"\s*[\d.]+s (?P<host>\S+) \[(?P<phase>\w+)\] .*: done in (?P<seconds>[\d.]+) s(: .*)?")

Times = dict[str, dict[str, float]]


def main() -> int:
    events.show()
    try:
        return play()
    except testbed.ProvisionError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2


def play() -> int:
    say(f"1. {HOSTS} target hosts: each with sshd, a docker engine of its own and compose")
    targets = testbed.up(HOSTS)
    testbed.reset(targets)
    hosts = [target.address for target in targets]
    project = Project.create(testbed.STATE / "demo", targets)

    say("2. deploy v1 on bare hosts: images are built, databases made")
    inv(project, "deploy")

    say("3. users come: GET and POST, kept-alive and fresh connections, slow requests, a long stream")
    with Load(hosts, host_header=HOST_HEADER, rate=30) as load:
        load.mark("deploy v2")
        project.commit("v2")
        say("4. deploy v2 under their eyes")
        there = inv(project, "deploy")
        load.mark("roll back to v1")
        say("5. roll back to v1, still under their eyes")
        back = inv(project, "rollback")
        load.mark("done")
    say("6. what is where now")
    inv(project, "status")
    inv(project, "history")
    report = load.report()
    conclude(report, hosts, there, back)
    return 1 if report.failed or report.cut_short else 0


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def inv(project: Project, *words: str) -> Times:
    """Run `inv` as a user would, show what it says, and return the seconds of each phase by host."""
    print(f"$ inv {' '.join(words)}", flush=True)
    times: Times = defaultdict(lambda: defaultdict(float))
    command = [sys.executable, "-m", "invoke", *words]
    with subprocess.Popen(
        command, cwd=project.folder, env=project.environment(), stdout=subprocess.PIPE, text=True
    ) as running:
        for line in running.stdout or ():
            print(line, end="", flush=True)
            if found := _DONE.fullmatch(line.rstrip("\n")):
                times[found["host"]][found["phase"]] += float(found["seconds"])
    if running.returncode:
        raise SystemExit(f"inv {words[0]} ended with exit code {running.returncode}")
    return times


def conclude(report: Report, hosts: list[str], there: Times, back: Times) -> None:
    say("What users saw of a deploy and a rollback")
    gap = max(report.longest_gap(host) for host in hosts)
    print(f"requests sent {report.sent:,}, failed {report.failed:,}, longest gap between two answers {gap:.2f} s\n")
    print(report)
    for title, times in (("deploy v2", there), ("rollback to v1", back)):
        print(f"\n{title}: seconds by phase")
        print(f"{'host':<14}" + "".join(f"{phase:>9}" for phase in PHASES))
        for host, phases in times.items():
            print(f"{host:<14}" + "".join(f"{phases.get(phase, 0):9.1f}" for phase in PHASES))
    say("Look around")
    print("the app       " + "  ".join(f"http://{host}/" for host in hosts))
    print(f"a host        ssh -F {testbed.SSH_CONFIG.relative_to(testbed.STATE.parent)} trixie-1")
    print("the project   .testbed/demo: edit, commit, and `inv deploy` there")
    print("remove all    make clean")


if __name__ == "__main__":
    sys.exit(main())
