"""Makes docs/performance.md, and the plots beside it, from what was measured (results.py).

The page is written by hand but for its sections: what stands between `<!-- bench: NAME -->` and
`<!-- end of NAME -->` is made here. Another module puts a section of its own there with `section` and `plot`.
"""

from __future__ import annotations

import contextlib
import math
import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench import results
from bench.results import Series, Table, ratios, tables_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

DOCS = results.FILE.parent
PAGE = DOCS / "performance.md"

BUSY = 2
"""Processes that wanted to run, on average over five minutes, for each core: the bench alone makes less."""

INK, PALE, CARD = "#24292f", "#8c959f", "#fbfbf9"
"""A plot brings its own ground, so that it is legible on a light page and on a dark one."""
COLOURS = {
    "floor": "#8c959f",
    "greenroom": "#1a7f37",
    "pyinfra": "#9a6700",
    "ansible": "#b3443f",
    "rsync": "#9a6700",
    "rsync --checksum": "#d4a72c",
    "tar | ssh tar": "#8c959f",
}
STRETCHES = (
    "#57606a",
    "#8c959f",
    "#0969da",
    "#54aeff",
    "#8250df",
    "#bf8700",
    "#1a7f37",
    "#4ac26b",
    "#cf222e",
    "#d0d7de",
)


@dataclass(frozen=True)
class Goal:
    """What was wanted: `text` with the bound, and what was `found`, which is good when it is no more than `most`.

    Or no less than it, where `least` says so; an infinite bound is none.
    """

    text: str
    found: float
    most: float
    unit: str = ""
    least: bool = False

    def row(self) -> tuple[str, str, str]:
        good = self.found >= self.most if self.least else self.found <= self.most
        verdict = "" if math.isinf(self.most) else "reached" if good else "**missed**"
        return self.text, f"{self.found:.2f}{self.unit}", verdict


def write() -> None:
    """Write every section of which there are results."""
    makers: dict[str, Callable[[dict[str, Any]], list[str]]] = {
        "deploys": _deploys,
        "uploads": _uploads,
        "images": _images,
        "starts": _starts,
    }
    for part, found in results.load().items():
        if part in makers:
            section(part, [*makers[part](found), *told(found)])


def section(name: str, paragraphs: Iterable[str]) -> None:
    """Put paragraphs between the marks of a section; one that has none yet comes at the end of the page."""
    begin, end = f"<!-- bench: {name} -->", f"<!-- end of {name} -->"
    made = "\n\n".join([begin, *paragraphs, end])
    page = PAGE.read_text()
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    page = pattern.sub(lambda _: made, page) if pattern.search(page) else f"{page.rstrip()}\n\n{made}\n"
    PAGE.write_text(page)


def told(found: dict[str, Any]) -> list[str]:
    """Say when, where and how something was measured, and whether the machine had time for it."""
    busy = found["load"] > BUSY * found["cores"]
    how = (
        f"Measured on {found['at']}, in {found['took'] / 60:.0f} minutes, by `{found['command']}`: {found['machine']}."
    )
    return [
        how,
        *(["**The machine was busy with other things, as its load says: bytes are right, seconds are not.**"] * busy),
    ]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown; all columns but the first are numbers."""
    lines = [columns, ["---", *["--:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def goals(wanted: Iterable[Goal]) -> str:
    lines = [("goal", "found", ""), ("---", "--:", "---"), *(goal.row() for goal in wanted)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Return the median, and from where to where the values go."""
    if not values:
        return "–"
    low, mid, high = min(values), statistics.median(values), max(values)
    return f"{mid:{form}} ({low:{form}} to {high:{form}})"


@contextlib.contextmanager
def plot(name: str, height: float, columns: int = 1) -> Iterator[list[Any]]:
    """Give axes to draw on, side by side; they become docs/performance-NAME.svg. `height` in inches."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    style = {
        "svg.hashsalt": "greenroom", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11,
        "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"], "axes.edgecolor": PALE, "axes.labelcolor": INK,
        "axes.titlesize": 12, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "legend.frameon": False,
        "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": CARD, "axes.facecolor": CARD,
    }  # fmt: skip
    with mpl.rc_context(style):
        figure, axes = plt.subplots(1, columns, figsize=(9, height), squeeze=False, layout="constrained")
        yield list(axes[0])
        figure.savefig(DOCS / f"performance-{name}.svg", metadata={"Date": None})
        plt.close(figure)


def picture(name: str, words: str) -> str:
    return f"![{words}](performance-{name}.svg)"


# --- the sections ----------------------------------------------------------------------------------------------


def _deploys(found: dict[str, Any]) -> list[str]:
    tables = tables_of(found)
    _draw_deploys(tables)
    _draw_phases(found["phases"])
    paragraphs = []
    for name, of in tables.items():
        app, latency = name.split()
        what = "The Django example" if app == "django" else "An app that boots at once (examples/counter)"
        paragraphs += [f"{what}, {latency} ms:", _against_the_floor(of)]
        paragraphs += _broken(of)
    return [
        goals(_goals_of_deploys(tables)),
        picture("deploys", "seconds of a deploy, by contestant and latency"),
        *paragraphs,
        "Where the time of a deploy goes, from the first moment to the last (medians):",
        picture("phases", "stretches of a deploy of both apps, in seconds"),
    ]


def _against_the_floor(of: Table) -> str:
    floor = of.get("floor", Series())
    rows = [
        (
            name,
            spread(series.values),
            spread(ratios(series, floor)) if name != "floor" else "1",
            spread(_over(series, floor)) if name != "floor" else "0",
        )
        for name, series in of.items()
    ]
    return table(("", "seconds: median (from, to)", "÷ the floor", "over the floor, s"), rows)


def _over(series: Series, floor: Series) -> list[float]:
    return [a - b for a, b in zip(series.values, floor.values, strict=False)]


def _goals_of_deploys(tables: dict[str, Table]) -> Iterator[Goal]:
    """Say which goals are reached. Of the quick app means: what is chance in it is spread evenly over the rounds."""

    def over(name: str, who: str = "greenroom") -> float:
        return tables[name][who].mean - tables[name]["floor"].mean

    with contextlib.suppress(KeyError, statistics.StatisticsError):
        of = tables["django 0"]
        yield Goal(
            "the Django example ÷ the floor: ≤ 1.10", statistics.median(ratios(of["greenroom"], of["floor"])), 1.1
        )
    with contextlib.suppress(KeyError, statistics.StatisticsError):
        yield Goal("an app that boots at once: floor + 0.6 s (means)", over("counter 0"), 0.6, " s")
    with contextlib.suppress(KeyError, statistics.StatisticsError):
        near, distant = (tables[f"counter {latency}"]["greenroom"].mean for latency in (0, 100))
        yield Goal("what 100 ms add: ≤ 8 round trips (means)", (distant - near) / 0.1, 8)
        near, distant = (tables[f"counter {latency}"]["floor"].mean for latency in (0, 100))
        yield Goal("the same of the floor, for comparison", (distant - near) / 0.1, math.inf)
    for who, most in (("pyinfra", 3), ("ansible", 5)):
        with contextlib.suppress(KeyError, statistics.StatisticsError):
            times = over("counter 100", who) / max(0.01, over("counter 100"))
            yield Goal(f"over the floor at 100 ms, {who} ÷ ours: ≥ {most} (means)", times, most, least=True)


def _draw_deploys(tables: dict[str, Table]) -> None:
    names = list(tables)
    tops = {
        app: max(v for n, of in tables.items() if n.split()[0] == app for s in of.values() for v in s.values)
        for app in {n.split()[0] for n in names}
    }
    with plot("deploys", 3.6, len(names)) as axes:
        for axis, name in zip(axes, names, strict=True):
            app, latency = name.split()
            shown = {who: series for who, series in tables[name].items() if series}
            for place, (who, series) in enumerate(shown.items()):
                axis.bar(place, series.median, 0.66, color=COLOURS[who])
                axis.plot([place] * len(series.values), series.values, "o", color=INK, markersize=3, alpha=0.7)
                axis.annotate(
                    f"{series.median:.1f}",
                    (place, max(series.values)),
                    (0, 4),
                    textcoords="offset points",
                    ha="center",
                    fontsize=9,
                )
            axis.set_xticks(range(len(shown)), list(shown), rotation=35, ha="right", rotation_mode="anchor")
            axis.set_title(f"{app}, {latency} ms")
            axis.set_ylim(0, tops[app] * 1.15)  # one scale for one app: its latencies are to be compared
        axes[0].set_ylabel("seconds; a dot is a run")


def _draw_phases(phases: dict[str, list[list[tuple[str, float]]]]) -> None:
    medians = {app: _stretches(runs) for app, runs in phases.items()}
    names = list(dict.fromkeys(name for of in medians.values() for name in of))
    colours = dict(zip(names, STRETCHES, strict=False))
    with plot("phases", 0.9 + 0.9 * len(medians)) as (axis,):
        for app, of in medians.items():
            at = 0.0
            whole = sum(of.values())
            for name, seconds in of.items():
                axis.barh(app, seconds, 0.6, left=at, color=colours[name], edgecolor=CARD, label=name)
                if seconds > whole / 25:
                    axis.annotate(
                        f"{seconds:.1f}", (at + seconds / 2, app), ha="center", va="center", color="white", fontsize=9
                    )
                at += seconds
        axis.invert_yaxis()
        axis.set_xlabel("seconds")
        handles, labels = axis.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        axis.figure.legend(unique.values(), unique.keys(), ncols=5, loc="outside upper center", fontsize=9)


def _stretches(runs: list[list[tuple[str, float]]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, seconds in run:
            found.setdefault(name, []).append(seconds)
    return {name: statistics.median(each) for name, each in found.items()}


def _uploads(found: dict[str, Any]) -> list[str]:
    tables = tables_of(found)
    titles = [name.partition(": ")[2] for name in tables if name.startswith("seconds")]
    _draw_uploads({title: tables[f"seconds: {title}"] for title in titles})
    paragraphs = []
    for title in titles:
        seconds, traffic = tables[f"seconds: {title}"], tables[f"bytes: {title}"]
        rows = [(who, spread(seconds[who].values), _kb(traffic.get(who, Series()))) for who in seconds]
        paragraphs += [f"{title[0].upper()}{title[1:]}:", table(("", "seconds", "KB on the wire"), rows)]
        paragraphs += _broken(seconds)
    return [goals(_goals_of_uploads(tables)), picture("uploads", "seconds of an upload"), *paragraphs]


def _kb(series: Series) -> str:
    return spread([value / 1000 for value in series.values], ",.0f")


def _goals_of_uploads(tables: dict[str, Table]) -> Iterator[Goal]:
    def ours(what: str, other: str = "rsync") -> float:
        of = tables[what]
        return _median(ratios(of.get("greenroom", Series()), of.get(other, Series())))

    alone = tables["bytes: nothing changed"].get("greenroom", Series())
    yield Goal("nothing changed: ≤ 64 KB", _median(alone.values) / 1024, 64, " KB")
    yield Goal("nothing changed: ≤ 1.0 × rsync's time", ours("seconds: nothing changed"), 1)
    checked = ours("seconds: nothing changed", "rsync --checksum")
    yield Goal("the same, where rsync looks into the files, too", checked, 1)
    yield Goal("one file changed: ≤ 1.1 × rsync's bytes", ours("bytes: one file changed"), 1.1)
    yield Goal("one file changed: ≤ 1.0 × rsync's time", ours("seconds: one file changed"), 1)
    speed = 1 / ours("seconds: all of it, to a bare host", "tar \\| ssh tar")
    yield Goal("all of it: ≥ 0.8 × the speed of tar \\| ssh tar", speed, 0.8, least=True)


def _draw_uploads(tables: dict[str, Table]) -> None:
    with plot("uploads", 3.0, len(tables)) as axes:
        for axis, (title, of) in zip(axes, tables.items(), strict=True):
            for place, (who, series) in enumerate(of.items()):
                plain = who.replace("\\", "")
                axis.barh(plain, series.median if series else 0, 0.6, color=COLOURS[plain])
                axis.plot(series.values, [place] * len(series.values), "o", color=INK, markersize=3, alpha=0.7)
            axis.set_title(title)
            axis.invert_yaxis()
            axis.set_xlim(left=0)
            axis.set_xlabel("seconds")


def _images(found: dict[str, Any]) -> list[str]:
    tables = tables_of(found)
    traffic, seconds = tables["bytes that came to the second host"], tables["seconds"]
    rows = [(who, _kb(traffic.get(who, Series())), spread(seconds[who].values)) for who in seconds]
    share = traffic["greenroom"].median / found["layer"]
    wanted = Goal("one changed layer: ≤ 1.1 × its bytes, all that came in that deploy", share, 1.1)
    return [goals([wanted]), table(("", "KB that came to the second host", "seconds"), rows), *_broken(seconds)]


def _starts(found: dict[str, Any]) -> list[str]:
    tables = tables_of(found)
    rows, wanted = [], []
    for name, of in tables.items():
        each = ratios(of["greenroom"], of["empty"])
        rows.append((f"`{name}`", spread(of["greenroom"].values), spread(of["empty"].values), spread(each)))
        wanted.append(Goal(f"`{name}` ÷ an empty tasks.py: ≤ 1.15", _median(each), 1.15))
    broken = [line for of in tables.values() for line in _broken(of)]
    return [goals(wanted), table(("", "seconds", "with an empty tasks.py", "ratio"), rows), *broken]


def _median(values: Sequence[float]) -> float:
    """Return the median; where nothing was measured, what reaches no goal."""
    return statistics.median(values) if values else math.nan


def _broken(of: Table) -> list[str]:
    return [f"{each} failed: `{_first_line(series.failed)}`" for each, series in of.items() if series.failed]


def _first_line(text: str) -> str:
    return text.splitlines()[0][:160].replace("`", "'")
