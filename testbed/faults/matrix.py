"""What came out: a row for each group of cases, and all that was not as promised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Result:
    """One case. `lost` requests are a fault of ours; `by_nature`: to the host that was broken, while it was."""

    group: str
    moment: str
    at: str
    codes: tuple[int, ...]
    sent: int
    lost: int
    by_nature: int
    healed: bool
    waited: float  # seconds until the lock of the dead was free
    seconds: float
    broken: tuple[str, ...]
    struck: bool = True
    day: str = ""
    product: str = ""  # record.py

    @property
    def failed(self) -> bool:
        return bool(self.lost or self.broken or not self.healed)

    def __str__(self) -> str:
        verdict = "FAILED" if self.failed else "healed" if self.struck else "healed (it had ended before)"
        codes = ",".join(map(str, self.codes)) or "-"
        nature = f", {self.by_nature} with the host" if self.by_nature else ""
        waited = f", lock free after {self.waited:.0f} s" if self.waited > 1 else ""
        lines = [
            f"{self.group}, {self.moment} ({self.at}): exit {codes}",
            f"{self.sent} sent, {self.lost} lost{nature}{waited}, {verdict} [{self.seconds:.0f} s]",
        ]
        return "\n    ".join([", ".join(lines), *self.broken])


@dataclass(frozen=True)
class Matrix:
    """All results, and what there was no time for; `totals` is how many cases each group has."""

    results: Sequence[Result]
    skipped: Sequence[tuple[str, str]] = ()  # group, moment
    about: str = ""
    totals: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return not self.results or any(result.failed for result in self.results)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield self.about
        groups = list(dict.fromkeys((*self.totals, *(result.group for result in self.results))))
        wide = max(map(len, (*groups, "all")), default=0) + 2
        heads = f"{'cases':>6}{'of':>5}{'sent':>9}{'lost':>6}{'with the host':>15}{'failed':>8}{'exit codes':>20}"
        yield f"{'fault':<{wide}}{heads}"
        for group in (*groups, ""):
            some = [result for result in self.results if group in ("", result.group)]
            of = self.totals.get(group, 1) if group else sum(self.totals.get(each, 1) for each in groups)
            played = len({(result.group, result.moment) for result in some if result.struck})
            codes = sorted({code for result in some for code in result.codes})
            yield (
                f"{group or 'all':<{wide}}{played:>6}{of:>5}{sum(r.sent for r in some):>9,}"
                f"{sum(r.lost for r in some):>6,}{sum(r.by_nature for r in some):>15,}"
                f"{sum(r.failed for r in some):>8}{' '.join(map(str, codes)) if group else '':>20}"
            )
        for group in groups:
            left = [moment for which, moment in self.skipped if which == group]
            if left:
                yield f"no time for: {group}: {_in_short(left)}"
            over = [result.moment for result in self.results if result.group == group and not result.struck]
            if over:
                yield f"had ended before: {group}: {_in_short(over)}"
        late = [result.waited for result in self.results if result.waited > 1]
        if late:
            yield f"the lock of a lost operator was held for up to {max(late):.0f} s, in {len(late)} cases"
        for result in self.results:
            if result.failed:
                yield f"\n{result}"


def _in_short(moments: Sequence[str]) -> str:
    """Return the names of moments; the numbers of events in their order, as ranges."""
    numbers = sorted(int(name.split()[1]) for name in moments if name.startswith("event "))
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    texts = [f"{each[0]}-{each[-1]}" if len(each) > 1 else f"{each[0]}" for each in ranges]
    others = [name for name in moments if not name.startswith("event ")]
    return ", ".join(others + ([f"events {' '.join(texts)}"] if texts else []))
