"""The bench: a way that is long and not narrow, and a report that says what was measured."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from bench import deploys, report, results, starts, uploads
from bench.contestants.lines import App, lines
from bench.relay import Relay
from bench.results import Series, Table, ratios


@pytest.fixture
def echo() -> socket.socket:
    """Listen, and give back what comes over the first connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        link, _ = listener.accept()
        with link:
            while block := link.recv(1 << 16):
                link.sendall(block)

    threading.Thread(target=serve, daemon=True).start()
    return listener


def test_a_relay_is_late_by_its_round_trip_and_no_narrower_for_it(echo: socket.socket) -> None:
    """Ten megabytes wait for their time side by side: one after the other, in blocks, they would take a minute."""
    size = 10_000_000
    with Relay("127.0.0.1", 0.4, echo.getsockname()[1]) as relay:
        link = socket.create_connection(("127.0.0.1", relay.port))
        link.sendall(b"-")
        assert link.recv(1) == b"-"
        began = time.monotonic()
        threading.Thread(target=link.sendall, args=(bytes(size),), daemon=True).start()
        first = link.recv(1)
        late = time.monotonic() - began
        rest = size - len(first)
        while rest:
            rest -= len(link.recv(1 << 20))
        assert late >= 0.4
        assert time.monotonic() - began < 20
        assert relay.carried == 2 * (size + 1)
        link.close()


def test_a_relay_passes_the_end_on(echo: socket.socket) -> None:
    with Relay("127.0.0.1", 0.01, echo.getsockname()[1]) as relay:
        link = socket.create_connection(("127.0.0.1", relay.port), timeout=10)
        link.sendall(b"last")
        link.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: link.recv(9), b"")) == b"last"
        link.close()


def test_a_work_that_fails_is_told_and_what_it_did_before_stays() -> None:
    table = Table()
    assert table.measure("one", lambda: None, lambda: 2.0)

    def fails() -> None:
        raise RuntimeError("no room")

    assert not table.measure("one", fails)
    table.measure("other", fails)
    assert not table.measure("one", lambda: None)
    assert table == {"one": Series([2.0], "no room"), "other": Series([], "no room")}


def test_ratios_are_of_what_was_measured_in_turn() -> None:
    assert ratios(Series([3.0, 8.0]), Series([1.0, 4.0, 9.0])) == [3.0, 2.0]


def test_a_section_takes_its_place_and_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "performance.md"
    monkeypatch.setattr(report, "PAGE", page)
    page.write_text("before\n\n<!-- bench: uploads -->\nold\n<!-- end of uploads -->\n\nafter\n")
    report.section("uploads", ["new \\1", "lines"])
    report.section("light", ["of another"])
    report.section("uploads", ["newer"])
    assert page.read_text() == (
        "before\n\n<!-- bench: uploads -->\n\nnewer\n\n<!-- end of uploads -->\n\nafter\n\n"
        "<!-- bench: light -->\n\nof another\n\n<!-- end of light -->\n"
    )


def test_what_was_measured_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FILE", tmp_path / "performance.json")
    results.save("starts", "make bench", time.time(), {"inv --list": Table(empty=Series([0.3]))}, more=1)
    results.save("images", "make bench", time.time(), {})
    found = results.load()
    assert list(found) == ["starts", "images"]
    assert found["starts"]["more"] == 1
    assert results.tables_of(found["starts"]) == {"inv --list": {"empty": Series([0.3])}}


def test_an_upload_that_failed_is_told_and_reaches_no_goal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FILE", tmp_path / "performance.json")
    monkeypatch.setattr(report, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(report, "_draw_uploads", lambda _: None)
    report.PAGE.write_text("")
    ours, theirs = Series([1.0]), Series([1.0])
    tables = {
        f"{what}: {title}": Table(greenroom=ours, rsync=theirs)
        for what in ("seconds", "bytes")
        for title in (uploads.FIRST, uploads.SAME, uploads.EDITED)
    }
    tables[f"seconds: {uploads.FIRST}"]["tar \\| ssh tar"] = Series([], "no room\nat all")
    tables[f"seconds: {uploads.SAME}"]["rsync --checksum"] = Series([2.0])
    results.save("uploads", "make bench", time.time(), tables)
    report.write()
    page = report.PAGE.read_text()
    assert "| all of it: ≥ 0.8 × the speed of tar \\| ssh tar | nan | **missed** |" in page
    assert "| tar \\| ssh tar | – | – |" in page
    assert "tar \\| ssh tar failed: `no room`" in page


@pytest.mark.parametrize(("least", "verdict"), [(False, "reached"), (True, "**missed**")])
def test_a_goal_says_whether_it_was_reached(least: bool, verdict: str) -> None:
    assert report.Goal("g", 1.0, 1.1, least=least).row() == ("g", "1.00", verdict)


def test_an_app_without_migration_and_workers_has_no_steps_for_them() -> None:
    bare = [line.title for line in lines(App("a", "a", "colour.yml", "a.example.com"))]
    full = [line.title for line in lines(App("a", "a", "colour.yml", "a.example.com", "migrate", "worker"))]
    assert set(full) - set(bare) == {"migrate", "hand over the workers"}
    assert [title for title in full if title in bare] == bare


def test_no_connection_of_one_contestant_is_left_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    did = []

    class Ground:
        def hang_up(self) -> None:
            did.append("hang up")

        def commit(self, text: str) -> None:
            did.append(text)

        def live(self) -> str:
            return "r1"

    monkeypatch.setattr(deploys, "REST", 0)
    assert deploys.refreshed(cast("Any", Ground()), "r2") == "r1"
    assert did == ["hang up", "r2"]


def test_tasks_that_cannot_be_listed_are_no_quick_start(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("")
    starts.listed(tmp_path, tasks=False)
    with pytest.raises(subprocess.CalledProcessError):
        starts.listed(tmp_path, tasks=True)


@pytest.mark.parametrize(("age", "rests"), [(0, (0.3, 1.0)), (0.5, (0.01, 0.5)), (5, None)])
def test_the_others_rest_before_a_drain_only_where_greenroom_does(
    tmp_path: Path, age: float, rests: tuple[float, float] | None
) -> None:
    """See `rest_of_second` in deploy/host/nginx.sh."""
    app = App("a", "a", "colour.yml", "a.example.com")
    (drain,) = [line.text for line in lines(app) if line.title == "drain"]
    base, tools = tmp_path / "greenroom" / "a", tmp_path / "bin"
    tools.mkdir()
    for name, text in (("docker", "true"), ("sleep", 'echo "$1" >>"$HOME/slept"')):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    (base / "switch").mkdir(parents=True)
    (base / "run").write_text("live=blue idle=green door=8001 release=r2\n")
    (base / "switched").write_text(f"{int((time.clock_gettime(time.CLOCK_BOOTTIME) - age) * 100)}\n")
    environment = {"HOME": str(tmp_path), "PATH": f"{tools}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", drain], env=environment, check=True)
    *rest, pause = sorted(map(float, (tmp_path / "slept").read_text().split()), key=lambda each: each == 0.5)
    assert pause == 0.5
    assert [rests[0] <= each <= rests[1] for each in rest] == [True] if rests else not rest


@pytest.mark.parametrize(("load", "paragraphs"), [(3.9, 1), (4.1, 2)])
def test_seconds_of_a_busy_machine_are_told_to_be_none(load: float, paragraphs: int) -> None:
    found = {"at": "now", "took": 60, "command": "make bench", "machine": "2 cores", "cores": 2, "load": load}
    assert len(report.told(found)) == paragraphs
