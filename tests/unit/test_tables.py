"""Tables: aligned where they fit; in a narrow window folded, or a block a row."""

from __future__ import annotations

import io

import pytest

from deploy.console import Console, tables

COLUMNS = ("host", "phase", "because")
ROWS = [("web1", "start", "it is idle: no user is sent to it, and nobody asks"), ("web2", "flip", "fit")]


def test_without_a_window_or_in_a_wide_one_each_row_is_a_line() -> None:
    expected = [
        "host  phase  because",
        "web1  start  it is idle: no user is sent to it, and nobody asks",
        "web2  flip   fit",
    ]
    assert list(tables.lines(COLUMNS, ROWS)) == expected
    assert list(tables.lines(COLUMNS, ROWS, 63)) == expected


def test_the_last_column_is_folded_below_itself_where_it_has_room() -> None:
    assert list(tables.lines(COLUMNS, ROWS, 40)) == [
        "host  phase  because",
        "web1  start  it is idle: no user is sent",
        "             to it, and nobody asks",
        "web2  flip   fit",
    ]


def test_with_too_little_room_each_row_is_a_block() -> None:
    assert list(tables.lines(COLUMNS, ROWS, 36)) == [
        "web1",
        "  phase    start",
        "  because  it is idle: no user is",
        "           sent to it, and nobody",
        "           asks",
        "web2",
        "  phase    flip",
        "  because  fit",
    ]


@pytest.mark.parametrize("width", range(1, 100))
def test_no_word_is_lost_and_no_line_is_too_long_in_any_window(width: int) -> None:
    shown = list(tables.lines(COLUMNS, ROWS, width))
    words = " ".join(shown).split()
    assert all(word in words for row in ROWS for cell in row for word in cell.split())
    assert max(map(len, shown)) <= max(width, 11 + tables.LEAST)
    assert list(tables.lines(("a",), [], width)) == ["a"]


def test_a_terminal_has_its_own_width_and_a_file_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "40")
    told = []
    for out in (Terminal(), io.StringIO()):
        Console(out=out).table(COLUMNS, ROWS)
        told.append(out.getvalue().splitlines())
    assert told == [list(tables.lines(COLUMNS, ROWS, 40)), list(tables.lines(COLUMNS, ROWS))]
