"""`make faults`: play the cases, as many as there is time for, and print what came of them."""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import testbed
from testbed import events
from testbed.faults import cases
from testbed.faults.bed import Bed
from testbed.faults.matrix import Matrix, Result

if TYPE_CHECKING:
    from testbed.faults.cases import Case
    from testbed.load import Report, Request

HOSTS = 3


def main() -> int:
    options = _parser().parse_args()
    events.show()
    targets = testbed.up(HOSTS)
    deadline = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        bed = Bed.make(targets, Path(folder) / "project")
        counts = {verb: _count(bed, verb) for verb in ("rollback", "deploy")}
        print(
            f"an undisturbed run: {', '.join(f'{verb} {count} events' for verb, count in counts.items())}", flush=True
        )
        results: list[Result] = []
        skipped: list[tuple[str, str]] = []
        for case in chosen(cases.every(bed.hosts, counts), options.only, options.every):
            if time.monotonic() > deadline:
                skipped.append((case.group, case.moment))
                continue
            results.append(play(bed, case))
            print(results[-1], flush=True)
            if results[-1].failed:
                bed = Bed.make(targets, Path(folder) / "project")
    machine = f"{platform.machine()}, {len(targets)} hosts of kind {targets[0].kind} on one machine"
    about = f"{time.strftime('%Y-%m-%d', time.gmtime())}, {machine}; python -m testbed.faults {' '.join(sys.argv[1:])}"
    matrix = Matrix(results, skipped, about)
    print(f"\n{matrix}")
    return 1 if matrix.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m testbed.faults", description="Break things while deploys run under load, and see what is lost."
    )
    parser.add_argument("--minutes", type=float, default=60, help="no case begins later (%(default)s)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of each group every Nth case (%(default)s)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="only groups with this in their name"
    )
    return parser


def chosen(every: list[Case], only: list[str], nth: int) -> list[Case]:
    """Return the cases that were asked for. Groups are in the order of their importance."""
    wanted = [case for case in every if not only or any(text in case.group for text in only)]
    groups = dict.fromkeys(case.group for case in wanted)
    keep = {id(case) for group in groups for case in [c for c in wanted if c.group == group][::nth]}
    return [case for case in wanted if id(case) in keep]


def play(bed: Bed, case: Case) -> Result:
    """Play one case under load, heal, and look at what is left."""
    began = time.monotonic()
    if case.deploys:
        bed.commit()
    story = cases.Story()
    with bed.users() as load:
        try:
            case.play(bed, story)
        except (testbed.ProvisionError, OSError) as error:
            story.broken.append(f"the case itself broke: {error}")
        healing = bed.heal()
    report = load.report()
    if not healing.healed:
        story.broken.append(f"the next deploy: {healing.said}")
    story.broken += bed.findings()
    by_nature = sum(any(_within(away, r) for away in story.away) for r in report.failures)
    lost = report.failed - by_nature
    if lost:
        story.broken += _examples(report, story)
    return Result(
        group=case.group,
        moment=case.moment,
        at=story.at,
        codes=tuple(story.codes),
        sent=report.sent,
        lost=lost,
        by_nature=by_nature,
        healed=healing.healed,
        waited=healing.waited,
        seconds=time.monotonic() - began,
        broken=tuple(story.broken),
        struck=story.struck,
    )


def _within(away: cases.Away, request: Request) -> bool:
    return request.address == away.host and request.ended >= away.since and request.started <= away.until


def _examples(report: Report, story: cases.Story) -> list[str]:
    some = [r for r in report.failures if not any(_within(away, r) for away in story.away)][:5]
    return [f"{r.started - report.began:.2f} s {r.kind.name} {r.address}: {r.reason}" for r in some]


def _count(bed: Bed, verb: str) -> int:
    """Count the events of an undisturbed run; the deploy comes second, and leaves the newest live."""
    operator = bed.operator(verb)
    if operator.finish():
        raise RuntimeError(f"{verb} fails undisturbed: {operator.said}")
    return len(operator.events)


if __name__ == "__main__":
    sys.exit(main())
