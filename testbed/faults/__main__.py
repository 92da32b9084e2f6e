"""`make faults`: play the cases, as many as there is time for, and print what came of them."""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import testbed
from testbed import events, model
from testbed.faults import cases
from testbed.faults.bed import Bed
from testbed.faults.campaign import Campaign, count_events
from testbed.faults.matrix import Matrix
from testbed.faults.record import Record

if TYPE_CHECKING:
    from testbed.faults.cases import Case

HOSTS = 3


def main() -> int:
    options = _parser().parse_args()
    record = Record(options.results)
    skipped = [] if options.show else _play(record, options)
    days = " and ".join(sorted({result.day for result in record.results}))
    machine = f"{HOSTS} hosts on one machine ({platform.machine()})"
    older = f"; {record.old} older cases, of another product, are left out" if record.old else ""
    about = f"{days}; {machine}; product {record.product}{older}"
    matrix = Matrix(record.results, skipped, about, Counter(case.group for case in _every(record)))
    print(f"\n{matrix}")
    return 1 if matrix.failed else 0


def _play(record: Record, options: argparse.Namespace) -> list[tuple[str, str]]:
    """Play what was asked for and not played yet; return the group and the moment of what there was no time for."""
    events.show()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it, and so would operators
    deadline = time.monotonic() + options.minutes * 60
    targets = testbed.up(HOSTS)
    with tempfile.TemporaryDirectory() as folder:
        project = options.results.with_suffix(".project") if options.results else Path(folder) / "project"
        campaign = Campaign(targets, project, deadline, record)
        bed = (Bed.found(targets, project) if record.events else None) or campaign.bed()
        if not record.events:
            record.count({verb: count_events(bed, verb) for verb in ("rollback", "deploy")})
        told = ", ".join(f"{verb} {count} events" for verb, count in record.events.items())
        print(f"undisturbed: {told}", flush=True)
        new = [case for case in _every(record) if not record.has(case.group, case.moment)]
        campaign.play_all(bed, chosen(new, options.only, options.every))
    return campaign.skipped


def _every(record: Record) -> list[Case]:
    """Return all cases that there are, once the events were counted."""
    hosts = [target.address for target in model.targets(HOSTS, model.kind_named("trixie"))]
    return cases.every(hosts, record.events) if record.events else []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m testbed.faults", description="Break things while deploys run under load, and see what is lost."
    )
    parser.add_argument("--minutes", type=float, default=60, help="no case begins later (%(default)s)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of each group every Nth case (%(default)s)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="only groups with this in their name"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="add to this file, and play what does not stand in it yet: several runs make one table. The project that "
        "is deployed lies beside it, so that the next run goes on with the fleet as it is, if that is whole",
    )
    parser.add_argument("--show", action="store_true", help="play nothing: print the table of --results")
    return parser


def chosen(every: list[Case], only: list[str], nth: int) -> list[Case]:
    """Return the cases that were asked for. Groups are in the order of their importance."""
    wanted = [case for case in every if not only or any(text in case.group for text in only)]
    groups = dict.fromkeys(case.group for case in wanted)
    keep = {id(case) for group in groups for case in [c for c in wanted if c.group == group][::nth]}
    return [case for case in wanted if id(case) in keep]


if __name__ == "__main__":
    sys.exit(main())
