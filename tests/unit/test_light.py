"""What `python -m bench.light` makes of its figures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.light import report
from bench.light.model import Round

if TYPE_CHECKING:
    from pathlib import Path

ONE = Round(
    hosts=1, wall=10, cpu=0.5, system=0.1, memory=50_000_000, waits=1, threads=5, hosts_cpu=0.4, skew=0,
    connections=1, commands=8, to_hosts=70_000, from_hosts=9_000, phases={"flip": 0.2},
)  # fmt: skip
HUNDRED = replace(
    ONE, hosts=100, wall=25, cpu=0.5 + 99 * 0.04, memory=50_000_000 + 99 * 500_000, hosts_cpu=40, skew=0.3,
    phases={"ship": 1.0},
)  # fmt: skip
THREE = replace(ONE, hosts=3, wall=11, cpu=0.58, phases={"ship": 0.2})


def test_what_each_host_adds_is_told_apart_from_what_one_takes() -> None:
    one, _, hundred = report.fleets([HUNDRED, ONE, THREE])
    assert hundred.beyond_one("cpu") == pytest.approx(0.04)
    assert hundred.beyond_one("memory") == pytest.approx(500_000)
    assert (one.times, hundred.times) == (1, 2.5)


def test_the_estimate_puts_the_operator_s_work_and_the_image_s_way_on_top_of_one_host() -> None:
    *_, hundred = report.fleets([ONE, THREE, HUNDRED])
    assert hundred.estimate == pytest.approx((10 + 99 * 0.04 + 0.2) / 10)


def test_of_several_rounds_the_median_counts() -> None:
    (one,) = report.fleets([replace(ONE, wall=wall) for wall in (9, 30, 10)])
    assert one.of("wall") == 10


def test_a_goal_that_was_missed_is_called_missed() -> None:
    said = report.verdicts(report.fleets([ONE, THREE, HUNDRED]))
    assert "2.50, estimated 1.42 (goal ≤ 2: missed)" in said
    assert "40 ms a host (goal ≤ 60: reached)" in said
    assert "flip skew" not in said  # nobody measured twenty


def test_a_page_keeps_what_stands_around_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "plot", lambda *_: None)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}old\n{report.END}after\n")
    part = report.write([ONE], {"when": "today", "where": "here"}, page)
    assert page.read_text() == f"before\n{report.BEGIN}{part}{report.END}after\n"
    assert "| 1 | 10.0 s |" in part
    page.write_text("no place\n")
    with pytest.raises(ValueError, match="no place for it"):
        report.write([ONE], {"when": "today", "where": "here"}, page)
