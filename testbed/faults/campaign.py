"""Play cases, one after the other, each on a fleet that is whole."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import testbed
from testbed.faults import cases, disk
from testbed.faults.bed import Bed
from testbed.faults.matrix import Result
from testbed.faults.record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from testbed.faults.cases import Case
    from testbed.load import Report, Request


@dataclass
class Campaign:
    """Hosts, a folder for the project, and what came of the cases so far; `deadline`: no case begins later."""

    targets: Sequence[testbed.Target]
    folder: Path
    deadline: float
    record: Record = field(default_factory=Record)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def bed(self) -> Bed:
        return Bed.make(self.targets, self.folder)

    def play_all(self, bed: Bed, wanted: Sequence[Case]) -> None:
        """Play the cases; those that need a small disk come last, on a bed of their own."""
        self._play_each(bed, [case for case in wanted if not case.small_disk])
        on_small_disk = [case for case in wanted if case.small_disk]
        if on_small_disk:
            with disk.small(self.targets[cases.VICTIM]):
                self._play_each(self.bed(), on_small_disk)

    def _play_each(self, bed: Bed, wanted: Sequence[Case]) -> None:
        for case in wanted:
            if time.monotonic() > self.deadline:
                self.skipped.append((case.group, case.moment))
                continue
            result = replace(play(bed, case), product=self.record.product)
            self.record.add(result)
            print(result, flush=True)
            if result.failed:
                bed = self.bed()


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
        bed.end_operators()
        healing = bed.heal()
    report = load.report()
    if not healing.healed:
        story.broken.append(f"the next deploy: {healing.said}")
    story.broken += bed.findings()
    by_nature = sum(any(_within(away, r) for away in story.away) for r in report.failures)
    lost = report.failed - by_nature
    if lost:
        story.broken += _examples(report, story)
    if report.cut_short:
        story.broken.append(f"the load stopped by itself, at {report.cut_short}")
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
        day=time.strftime("%Y-%m-%d", time.gmtime()),
    )


def _within(away: cases.Away, request: Request) -> bool:
    return request.address == away.host and request.ended >= away.since and request.started <= away.until


def _examples(report: Report, story: cases.Story) -> list[str]:
    some = [r for r in report.failures if not any(_within(away, r) for away in story.away)][:5]
    return [f"{r.started - report.began:.2f} s {r.kind.name} {r.address}: {r.reason}" for r in some]


def count_events(bed: Bed, verb: str) -> int:
    """Count the events of an undisturbed run; the deploy comes second, and leaves the newest live."""
    operator = bed.operator(verb)
    if operator.finish():
        raise RuntimeError(f"{verb} fails undisturbed: {operator.said}")
    return len(operator.events)
