"""`make soak`: deploys and rollbacks in random order, with random faults, under load, and then everything is counted.

Only faults that may cost nobody a request: hosts that go down are a matter of `python -m testbed.faults`.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import testbed
from testbed import events
from testbed.commands import in_parallel
from testbed.faults import inventory
from testbed.faults.altered import HURRIED
from testbed.faults.bed import KEEP, KINDS, RATE, Bed
from testbed.faults.cases import CUTS, LINK_PATIENCE, VICTIM, after
from testbed.load import Load
from testbed.model import KINDS as HOST_KINDS
from testbed.project import HOST_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.faults.inventory import Inventory
    from testbed.faults.operator import Operator
    from testbed.load import Report

HOSTS = 2
EVENTS = {"deploy": 64, "rollback": 40}
"""About as many as a run has on two hosts: a fault comes after any of them."""

QUIET = {0, 2, -signal.SIGKILL}
"""Exit codes that explain themselves: done, refused, killed. Of any other run its last events are printed."""

SLACK = 1.25
"""How much more the bytes of images and files may be than those of the releases that are kept."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m testbed.faults.soak", description="Deploy and roll back at random under load, and count."
    )
    parser.add_argument("--rounds", type=int, default=100, help="deploys and rollbacks (%(default)s)")
    parser.add_argument("--minutes", type=float, default=120, help="no round begins later (%(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="for the same rounds again")
    parser.add_argument("--kind", choices=HOST_KINDS, default="trixie", help="of the two hosts (%(default)s)")
    options = parser.parse_args()
    events.show()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it, and so would operators
    seed = options.seed if options.seed is not None else int(time.time()) % 10_000
    targets = testbed.up(HOSTS, options.kind)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Bed.make(targets, Path(folder) / "project"), random.Random(seed))  # noqa: S311  # not for secrets
        soak.run(options.rounds, time.monotonic() + options.minutes * 60)
    print(f"\n{time.strftime('%Y-%m-%d', time.gmtime())}; {HOSTS} hosts of kind {targets[0].kind}; seed {seed}")
    print("\n".join(soak.conclusion()))
    return 1 if soak.broken else 0


class Soak:
    """Rounds on a bed, and what they came to."""

    def __init__(self, bed: Bed, dice: random.Random) -> None:
        self._bed = bed
        self._dice = dice
        self._done: Counter[str] = Counter()
        self._report: Report | None = None
        self._before: list[Inventory] = []
        self._after: list[Inventory] = []
        self.broken: list[str] = []

    def run(self, rounds: int, deadline: float) -> None:
        """Play the rounds; the last word is a plain deploy, so that everything is where it was after the second."""
        self._before = self._count()
        load = Load(
            self._bed.hosts, HOST_HEADER, rate=RATE, kinds=KINDS, limit_seconds=6 * 3600, limit_requests=3_000_000
        )
        with load:
            for number in range(1, rounds + 1):
                if time.monotonic() > deadline:
                    break
                self._round(number, load)
            self._heal("the end")
        self._report = load.report()
        self._after = self._count()
        self.broken += self._bed.findings()
        self.broken += [text for pair in zip(self._before, self._after, strict=True) for text in grown(*pair)]
        if self._report.failed:
            self.broken.append(f"{self._report.failed} requests were lost")
        if self._report.cut_short:
            self.broken.append(f"the load stopped by itself, at {self._report.cut_short}")

    def conclusion(self) -> list[str]:
        """Return what is to be printed."""
        report = self._report
        rounds = sum(self._done.values())
        lines = [f"{rounds} rounds: {', '.join(f'{count} {name}' for name, count in sorted(self._done.items()))}"]
        if report:
            lines.append(
                f"requests: {report.sent:,} sent in {report.until - report.since:.0f} s, {report.failed:,} lost"
            )
            lines += report.examples
        lines.append(
            f"\n{'after the second deploy, and at the end':<42}" + "".join(f"{h:>26}" for h in self._bed.hosts)
        )
        for key in self._before[0].counts():
            pairs = [(b.counts()[key], a.counts()[key]) for b, a in zip(self._before, self._after, strict=True)]
            lines.append(f"{key:<42}" + "".join(f"{f'{one:,} -> {two:,}':>26}" for one, two in pairs))
        return lines + [f"NOT AS PROMISED: {text}" for text in self.broken]

    def _round(self, number: int, load: Load) -> None:
        verb = self._dice.choices(("deploy", "rollback"), (3, 2))[0]
        name, fault = self._dice.choices(FAULTS, [weight for weight, *_ in FAULTS])[0][1:]
        began, failed = time.monotonic(), load.report().failed
        if verb == "deploy":
            self._bed.commit()
        moment = self._dice.randint(1, EVENTS[verb])
        operators = fault(self._bed, verb, moment)
        codes = [operator.code for operator in operators]
        missed = " that came too late" if any(operator.missed for operator in operators) else ""
        self._done[f"{verb}, {name}{missed}"] += 1
        if name != UNDISTURBED:
            self._heal(f"round {number}")
        elif codes != [0] and (verb, codes) != ("rollback", [2]):  # far enough back, there is none before
            self.broken.append(f"round {number}: an undisturbed {verb} ended with {codes}")
        lost = load.report().failed - failed
        at = f" after event {moment}{missed}" if name != UNDISTURBED else ""
        print(
            f"{number:>4}  {verb}, {name}{at}: exit {codes}, {lost} lost [{time.monotonic() - began:.0f} s]", flush=True
        )
        for operator in operators:
            if operator.code not in QUIET:
                print("\n".join(f"      {line}" for line in operator.last_events()), flush=True)

    def _heal(self, when: str) -> None:
        healing = self._bed.heal()
        if not healing.healed:
            self.broken.append(f"{when}: the next deploy: {healing.said}")

    def _count(self) -> list[Inventory]:
        time.sleep(3)  # nginx closes its idle connections to a colour after 1 s
        return in_parallel(lambda target: inventory.take(target, sizes=True), self._bed.targets)


def grown(before: Inventory, after: Inventory) -> list[str]:
    """Say what there is more of than there was, beyond the releases that are kept; of nothing there may be less."""
    one, two = before.counts(), after.counts()
    kept = KEEP + 1 - len(before.releases)  # one more than `keep` is what the live one replaced
    per_release = len(before.files) // max(len(before.releases), 1)
    room = {"images": kept, "files": kept * per_release, "nginx connections": 2}
    texts = []
    for key, had in one.items():
        has = two[key]
        if key.startswith("bytes of build cache"):
            continue  # docker's own to keep within bounds: printed, not judged
        in_bytes = key.startswith("bytes")
        allowed = had * SLACK * (KEEP + 1) / len(before.releases) if in_bytes else had + room.get(key, 0)
        if has > allowed or (has < had and not key.startswith(("bytes", "nginx connections", "ssh", "files"))):
            texts.append(f"{key}: {had:,} after the second deploy, {has:,} at the end")
    return texts


# --- what happens in a round -----------------------------------------------------------------------------------

UNDISTURBED = "undisturbed"


def _undisturbed(bed: Bed, verb: str, _: int) -> list[Operator]:
    return [_finished(bed.operator(verb))]


def _killed(bed: Bed, verb: str, moment: int) -> list[Operator]:
    return _signalled(bed, verb, moment, signal.SIGKILL)


def _interrupted(bed: Bed, verb: str, moment: int) -> list[Operator]:
    return _signalled(bed, verb, moment, signal.SIGINT)


def _signalled(bed: Bed, verb: str, moment: int, number: signal.Signals) -> list[Operator]:
    operator = bed.operator(verb)
    operator.watch_until(after(moment).reached)
    operator.send(number)
    return [_finished(operator)]


def _finished(operator: Operator) -> Operator:
    operator.finish()
    return operator


def _cut(kind: str) -> Callable[[Bed, str, int], list[Operator]]:
    def play(bed: Bed, verb: str, moment: int) -> list[Operator]:
        with bed.relayed() as relays:
            how = CUTS[kind]
            operator = bed.operator(verb, limit=LINK_PATIENCE, altered=HURRIED if how.back is None else "")
            operator.watch_until(after(moment).reached)
            with how.lost(relays[bed.hosts[VICTIM]]):
                return [_finished(operator)]

    return play


def _two(bed: Bed, verb: str, _: int) -> list[Operator]:
    return in_parallel(_finished, [bed.operator(verb), bed.operator("deploy")])


FAULTS: list[tuple[int, str, Callable[[Bed, str, int], list[Operator]]]] = [
    (12, UNDISTURBED, _undisturbed),
    (4, "SIGKILL", _killed),
    (3, "Ctrl-C", _interrupted),
    *((weight, kind, _cut(kind)) for weight, kind in zip((2, 2, 2, 1), CUTS, strict=True)),
    (2, "two operators", _two),
]


if __name__ == "__main__":
    sys.exit(main())
