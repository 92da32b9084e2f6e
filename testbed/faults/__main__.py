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
from testbed.faults.campaign import Campaign, count_events
from testbed.faults.matrix import Matrix

if TYPE_CHECKING:
    from testbed.faults.cases import Case

HOSTS = 3


def main() -> int:
    options = _parser().parse_args()
    events.show()
    targets = testbed.up(HOSTS)
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(targets, Path(folder) / "project", time.monotonic() + options.minutes * 60)
        bed = campaign.bed()
        counts = {verb: count_events(bed, verb) for verb in ("rollback", "deploy")}
        known = ", ".join(f"{verb} {count} events" for verb, count in counts.items())
        print(f"undisturbed: {known}", flush=True)
        campaign.play_all(bed, chosen(cases.every(bed.hosts, counts), options.only, options.every))
    machine = f"{len(targets)} hosts of kind {targets[0].kind} on one machine ({platform.machine()})"
    about = f"{time.strftime('%Y-%m-%d', time.gmtime())}; {machine}; {known}; {' '.join(sys.argv[1:]) or 'all cases'}"
    matrix = Matrix(campaign.results, campaign.skipped, about)
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


if __name__ == "__main__":
    sys.exit(main())
