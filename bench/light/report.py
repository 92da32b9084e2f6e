"""What was measured, as a table and a plot in docs/performance.md, between two markers."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.light.model import Round

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PLOT = DOCS / "large-fleets.svg"
FIGURES = DOCS / "large-fleets.json"
BEGIN, END = "<!-- bench.light: begin -->\n", "<!-- bench.light: end -->\n"

GOALS = {"wall": 2.0, "cpu": 60.0, "memory": 4.0, "skew": 100.0}
"""Times the wall of one host, at 100; ms and MB a host; ms between the first flip and the last, at 20."""


class Fleet:
    """What fleets of one size took: of several rounds each median. Beside it what one host took, to compare."""

    def __init__(self, rounds: Sequence[Round], one: Sequence[Round], way: float) -> None:
        self.hosts = rounds[0].hosts
        self._rounds = rounds
        self._one = one
        self._way = way

    def of(self, what: str) -> float:
        return _median(self._rounds, what)

    def beyond_one(self, what: str) -> float:
        """What each host adds to that which one host takes."""
        return (self.of(what) - _median(self._one, what)) / max(1, self.hosts - 1)

    @property
    def times(self) -> float:
        return self.of("wall") / _median(self._one, "wall")

    @property
    def estimate(self) -> float:
        """The same on hosts with processors of their own, if all that the operator computes for them comes on top.

        `_way` in seconds is the image's way, which no single host has.
        """
        one = _median(self._one, "wall")
        on_top = self.beyond_one("cpu") * (self.hosts - 1)
        return (one + on_top + (self._way if self.hosts > 1 else 0)) / one


def _median(rounds: Sequence[Round], what: str) -> float:
    values: list[float] = [getattr(each, what) for each in rounds]
    return statistics.median(values)


def fleets(rounds: Sequence[Round]) -> list[Fleet]:
    """Sort rounds by the size of their fleets. There must be some of one host."""
    by_size: dict[int, list[Round]] = {}
    for each in rounds:
        by_size.setdefault(each.hosts, []).append(each)
    ways = [each.phases["ship"] for each in rounds if "ship" in each.phases and each.hosts <= 3]  # noqa: PLR2004  # few
    way = statistics.median(ways) if ways else 0
    return [Fleet(by_size[size], by_size[1], way) for size in sorted(by_size)]


HEAD = """\
| hosts | wall | ÷ one host | estimate | operator's CPU a host | memory a host | flip skew | CPU of a host | to a host |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""


def table(sizes: Sequence[Fleet]) -> str:
    return HEAD + "".join(map(_row, sizes))


def _row(fleet: Fleet) -> str:
    one = fleet.hosts == 1
    cells = (
        f"{fleet.hosts}",
        f"{fleet.of('wall'):.1f} s",
        "" if one else f"{fleet.times:.2f}",
        "" if one else f"{fleet.estimate:.2f}",
        f"{fleet.of('cpu') * 1000:.0f} ms" if one else f"+{fleet.beyond_one('cpu') * 1000:.0f} ms",
        f"{fleet.of('memory') / 1e6:.0f} MB" if one else f"+{fleet.beyond_one('memory') / 1e6:.2f} MB",
        "" if one else f"{fleet.of('skew') * 1000:.0f} ms",
        f"{fleet.of('hosts_cpu') / fleet.hosts:.2f} s",
        f"{fleet.of('to_hosts') / fleet.hosts / 1000:.0f} kB",
    )
    return f"| {' | '.join(cells)} |\n"


def verdicts(sizes: Sequence[Fleet]) -> str:
    """Say for each goal what came of it; of a size that was not measured, nothing."""
    by_size = {fleet.hosts: fleet for fleet in sizes}
    lines = []
    if hundred := by_size.get(100):
        cpu, memory = hundred.beyond_one("cpu") * 1000, hundred.beyond_one("memory") / 1e6
        wall = f"{hundred.times:.2f}, estimated {hundred.estimate:.2f}"
        lines += [
            f"wall of 100 hosts ÷ one host: {wall} (goal ≤ {GOALS['wall']:g}: {_verdict(hundred.times, 'wall')})",
            f"operator's CPU at 100 hosts: {cpu:.0f} ms a host (goal ≤ {GOALS['cpu']:g}: {_verdict(cpu, 'cpu')})",
            f"its memory: {memory:.2f} MB a host (goal ≤ {GOALS['memory']:g}: {_verdict(memory, 'memory')})",
        ]
    if twenty := by_size.get(20):
        skew = twenty.of("skew") * 1000
        lines.append(f"flip skew over 20 hosts: {skew:.0f} ms (goal ≤ {GOALS['skew']:g}: {_verdict(skew, 'skew')})")
    return "".join(f"- {line}\n" for line in lines)


def _verdict(found: float, goal: str) -> str:
    return "reached" if found <= GOALS[goal] else "missed"


def plot(sizes: Sequence[Fleet], path: Path = PLOT) -> None:
    """Draw where the wall clock and the operator's processor go."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "greenroom"
    from matplotlib import pyplot

    hosts = [fleet.hosts for fleet in sizes]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    left.plot(hosts, [fleet.times for fleet in sizes], "o-", label="measured, all hosts on two cores")
    left.plot(hosts, [fleet.estimate for fleet in sizes], "o--", label="estimate, a processor for each host")
    left.axhline(GOALS["wall"], color="grey", linewidth=0.8)
    left.set(xlabel="hosts", ylabel="wall ÷ one host", ylim=(0, None))
    left.legend()
    right.plot(hosts, [fleet.of("cpu") for fleet in sizes], "o-", label="the operator's")
    right.plot(hosts, [fleet.of("hosts_cpu") for fleet in sizes], "o-", label="all hosts'")
    right.set(xlabel="hosts", ylabel="seconds of processor", ylim=(0, None))
    right.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def write(rounds: Sequence[Round], conditions: Mapping[str, str], page: Path = DOCS / "performance.md") -> str:
    """Put table, verdicts and plot into a page, and return its part.

    Raises:
        ValueError: the page has no place for it.

    """
    sizes = fleets(rounds)
    said = f"Measured {conditions['when']}, {conditions['where']}."
    part = f"{table(sizes)}\n{verdicts(sizes)}\n{said}\n\n![What a large fleet takes]({PLOT.name})\n"
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for it, from {BEGIN.strip()} to {END.strip()}")
    page.write_text(before + begin + part + end + after)
    plot(sizes)
    return part
