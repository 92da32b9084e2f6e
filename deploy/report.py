"""The last run as one page of HTML that needs nothing else: what each host did when, what failed, and how it ended."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.console.journal import memory
from deploy.errors import Refused
from deploy.recipe.steps import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

Told = dict[str, Any]
"""One line of a journal: an event as `--json` prints it, or the run's first words."""


def journal(project: str, env: str) -> Path:
    """Return where the last run is remembered."""
    return memory() / f"{project}.{env}.jsonl"  # a project has no dot in its name


def read(path: Path) -> list[Told]:
    """Return what was told of the last run.

    Raises:
        Refused: nothing was.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Refused(
            f"no run is remembered on this machine: {path}: {error.strerror}",
            mend="it is written by deploy and rollback",
        ) from None
    try:
        # Not splitlines: what programs print may hold other ends of lines, which JSON leaves as they are.
        return [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    except ValueError as error:
        raise Refused(f"{path} cannot be read: {error}", mend="the next deploy or rollback writes it anew") from None


def write(path: Path, page: str) -> None:
    """Write a page.

    Raises:
        Refused: that cannot be.

    """
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}", mend="say another place: --out=FILE") from None


@dataclass(frozen=True)
class Span:
    """One step on one host: `begin` and `end` in seconds since the run began."""

    host: str
    phase: str
    title: str
    because: str
    begin: float
    end: float
    found: str
    done: bool


def spans(told: Iterable[Told]) -> list[Span]:
    """Return the steps as they began. One of which no end was told ends with its host's last word before the next."""
    open_steps: dict[str, Told] = {}
    last: dict[str, float] = {}
    made: list[Span] = []
    for each in told:
        host, at = each.get("host", ""), float(each.get("at", 0))
        match each["kind"]:
            case "step":
                if host in open_steps:  # it failed and is undone, or its link was lost and it is done again
                    made.append(_span(open_steps[host], last[host], "", done=False))
                open_steps[host] = each
            case "done" if host in open_steps:
                made.append(_span(open_steps.pop(host), at, each.get("text", ""), done=True))
        last[host] = at
    made += [_span(step, last[host], "", done=False) for host, step in open_steps.items()]
    return sorted(made, key=lambda span: span.begin)


def _span(step: Told, end: float, found: str, *, done: bool) -> Span:
    begin = float(step["at"])
    return Span(
        step["host"], step.get("phase", ""), step["title"], step.get("text", ""), begin, max(begin, end), found, done
    )


# --- the page --------------------------------------------------------------------------------------------------


def page(told: Sequence[Told]) -> str:
    """Return the page. Everything in it was redacted when it was told."""
    head, done = told[0], spans(told)
    hosts = list(dict.fromkeys((*head.get("hosts", ()), *(span.host for span in done))))
    title = f"{head['verb']} of {head['project']} to {head['env']}"
    return _PAGE.format(
        title=_text(title),
        style=_STYLE + "\n".join(_colours()),
        facts=_text(f"{head['began']} · {head['who']} · {_count(len(hosts), 'host')} · {told[-1]['at']:.0f} s"),
        outcome="".join(_outcome(told)),
        timeline=_timeline(hosts, done),
        legend="".join(f'<span class="key {phase}">{phase}</span>' for phase in dict.fromkeys(s.phase for s in done)),
        failures="".join(_failures(told)),
        steps="".join(_steps(host, [span for span in done if span.host == host]) for host in hosts),
    )


def _outcome(told: Sequence[Told]) -> Iterator[str]:
    ends = [each for each in told if each["kind"] in {"ended", "error"}]
    for each in ends:
        yield f'<p class="outcome {each["kind"]}">{_lines(each["text"])}</p>'
    if not ends:
        yield '<p class="outcome error">No end was told: the run was killed, or is still at work.</p>'


def _failures(told: Iterable[Told]) -> Iterator[str]:
    for each in told:
        if each["kind"] == "failed":
            yield f"<h2>{_text(each.get('host', ''))} failed</h2><pre>{_text(each['text'])}</pre>"


_ROW, _NAME, _BAR, _WIDTH = 40, 18, 17, 1000
"""Of the timeline, in its own units: the height of a host, its name and a step, and the width of all seconds."""


def _timeline(hosts: Sequence[str], done: Sequence[Span]) -> str:
    scale = _WIDTH / (max((span.end for span in done), default=0) or 1)
    shapes = []
    for row, host in enumerate(hosts):
        top = row * _ROW
        shapes.append(f'<text x="0" y="{top + 14}">{_text(host)}</text>')
        for span in (each for each in done if each.host == host):
            left, width = span.begin * scale, max(1.5, (span.end - span.begin) * scale)
            kind = span.phase if span.done else f"{span.phase} broken"
            shapes.append(
                f'<rect class="{kind}" x="{left:.1f}" y="{top + _NAME}" width="{width:.1f}" height="{_BAR}">'
                f"<title>{_text(f'{span.title}: {span.end - span.begin:.1f} s')}</title></rect>"
            )
    below = len(hosts) * _ROW
    shapes += [
        f'<text class="tick" x="{second * scale:.1f}" y="{below + 14}">{second} s</text>'
        for second in _ticks(_WIDTH / scale)
    ]
    size = f'viewBox="0 0 {_WIDTH + 40} {below + 20}"'
    return f'<svg role="img" aria-label="What each host did when" {size}>{"".join(shapes)}</svg>'


_TICKS = 10


def _ticks(seconds: float) -> range:
    """Return round numbers of seconds, not more than fit below the timeline."""
    step = next((each for each in (1, 2, 5, 10, 20, 50, 100, 200, 500) if seconds <= each * _TICKS), 1000)
    return range(0, int(seconds) + 1, step)


def _steps(host: str, done: Sequence[Span]) -> str:
    rows = "".join(
        f'<tr><td>{span.begin:.1f}</td><td><span class="key {span.phase}">{span.phase}</span></td>'
        f"<td>{_text(span.title)}<br><small>{_text(span.found or span.because)}</small></td>"
        f"<td>{span.end - span.begin:.1f} s{'' if span.done else ' ✗'}</td></tr>"
        for span in done
    )
    total = sum(span.end - span.begin for span in done)
    summary = f"{_text(host)}: {_count(len(done), 'step')}, {total:.1f} s"
    return f"<details><summary>{summary}</summary><table>{rows}</table></details>"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _text(text: str) -> str:
    return html.escape(str(text))


def _lines(text: str) -> str:
    return _text(text).replace("\n", "<br>")


_HUES = dict(zip(Phase, (215, 95, 65, 265, 190, 35, 140, 320, 0), strict=True))
"""A colour a phase, as degrees on the wheel; their names stand beside them."""


def _colours() -> Iterator[str]:
    for phase, hue in _HUES.items():
        yield f"rect.{phase} {{ fill: hsl({hue} 55% var(--fill)) }}"
        yield f".key.{phase} {{ background: hsl({hue} 55% var(--soft)) }}"


_STYLE = """
:root { color-scheme: light dark; --fill: 52%; --soft: 88%; --line: #ccc; --good: #17693a; --bad: #a3231b }
@media (prefers-color-scheme: dark) {
  :root { --fill: 58%; --soft: 26%; --line: #444; --good: #6fd394; --bad: #ff9087 }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1.1rem }
.outcome { border-left: 4px solid; padding: .3rem .8rem }
.ended { border-color: var(--good) } .error { border-color: var(--bad) }
.scroll { overflow-x: auto } svg { width: 100%; min-width: 56rem } svg text { font-size: 15px; fill: currentColor }
svg .tick { font-size: 14px; opacity: .7 } rect.broken { stroke: var(--bad); stroke-width: 3 }
.key { border-radius: .3rem; padding: .05rem .45rem; margin-right: .3rem; font-size: .8rem; white-space: nowrap }
pre { overflow-x: auto; padding: .6rem; border: 1px solid var(--line); font-size: .85rem }
details { border-top: 1px solid var(--line); padding: .4rem 0 } summary { cursor: pointer }
table { border-collapse: collapse; width: 100% } td { padding: .2rem .5rem .2rem 0; vertical-align: top }
td:first-child, td:last-child { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
small { opacity: .75 }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>
<h1>{title}</h1>
<p>{facts}</p>
{outcome}
<div class="scroll">{timeline}</div>
<p>{legend}</p>
{failures}
<h2>Steps</h2>
{steps}
</body>
</html>
"""
