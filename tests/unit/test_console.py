"""What people and programs see, and that nothing gets past the one printer unredacted."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any, TextIO

import pytest

from deploy.console import Console
from deploy.console.events import Event
from deploy.console.redact import HIDDEN, redactor
from deploy.errors import Failed, GreenroomError, NeedsHuman, Refused

SECRET = "hunter22"  # noqa: S105  # the test's own


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def console(out: TextIO, *, as_json: bool = False, verbose: bool = False) -> Console:
    made = Console(as_json=as_json, verbose=verbose, out=out)
    made.hide(redactor({"PASSWORD": SECRET}))
    return made


def plain(*events: Event, verbose: bool = False) -> list[str]:
    """What a console prints, without the seconds at the head of each line."""
    out = io.StringIO()
    shown = console(out, verbose=verbose)
    for event in events:
        shown.emit(event)
    return [re.sub(r"^ *\d+\.\ds ", "", line) for line in out.getvalue().splitlines()]


def parsed(*events: Event) -> list[dict[str, Any]]:
    out = io.StringIO()
    shown = console(out, as_json=True)
    for event in events:
        shown.emit(event)
    return [json.loads(line) for line in out.getvalue().splitlines()]


STEP = Event("step", "web1", "start", "gate green", "it must answer")
DONE = Event("done", "web1", "start", "gate green", seconds=1.26)
LINE = Event("line", "web1", "prepare", "build the image", "Step 1/9")
FAILED = Event("failed", "web1", "start", text="gate green: failed")


def test_an_event_is_one_line_that_says_where_and_what() -> None:
    assert plain(
        Event("note", text="release r1"), Event("phase", phase="start", text="on web1"), STEP, DONE, FAILED
    ) == [
        "release r1",
        "[start] on web1",
        "web1 [start] gate green: it must answer",
        "web1 [start] gate green: done in 1.3 s",
        "web1 [start] gate green: failed",
    ]


def test_a_step_that_found_something_says_so() -> None:
    watched = Event("done", "web1", "settle", "watch green", "30 looks, 1 of them without an answer", 30.1)
    assert plain(watched) == ["web1 [settle] watch green: done in 30.1 s: 30 looks, 1 of them without an answer"]


def ended(*events: Event) -> list[str]:
    """What a console prints when a run of these events is over."""
    out = io.StringIO()
    shown = console(out)
    for event in events:
        shown.emit(event)
    before = len(out.getvalue())
    shown.unwatch()
    return out.getvalue()[before:].splitlines()


def test_a_run_that_came_to_its_end_says_how_long_each_phase_took_on_each_host() -> None:
    steps = (DONE, Event("done", "web1", "start", "start green", seconds=1), Event("done", "web2", "flip", seconds=2))
    assert ended(*steps, Event("ended", text="r2 is live")) == [
        "seconds  start  flip",
        "web1     2.3    -",
        "web2     -      2.0",
    ]


def test_of_many_hosts_the_fastest_and_the_slowest_are_told() -> None:
    steps = [Event("done", f"web{n}", "start", seconds=n) for n in range(1, 31)]
    assert ended(*steps, Event("ended", text="r2 is live")) == [
        "seconds  start",
        "fastest  1.0 web1",
        "slowest  30.0 web30",
    ]


def test_a_run_that_failed_or_had_nothing_to_do_says_no_durations() -> None:
    assert ended(DONE, FAILED) == []
    assert ended(Event("ended", text="nothing to do")) == []


def test_each_line_begins_with_the_seconds_since_the_run_began() -> None:
    out = io.StringIO()
    console(out).emit(STEP)
    assert re.match(r" +0\.\ds web1 ", out.getvalue())


def test_what_programs_print_is_shown_on_request_only() -> None:
    assert plain(LINE) == []
    assert plain(LINE, verbose=True) == ["web1 [prepare] | Step 1/9"]


def test_json_has_one_object_a_line_with_what_is_set() -> None:
    step, done, line = parsed(STEP, DONE, LINE)
    assert isinstance(step.pop("at"), float)
    assert step == {
        "v": 1,
        "kind": "step",
        "host": "web1",
        "phase": "start",
        "title": "gate green",
        "text": "it must answer",
    }
    assert done["seconds"] == 1.26
    assert "text" not in done
    assert line["text"] == "Step 1/9"


def test_what_an_event_says_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deploy to a hundred hosts tells thousands of them, twice each; deep copies were a tenth of what it computed."""
    monkeypatch.setattr("copy.deepcopy", lambda *_: pytest.fail("copied"))
    assert parsed(STEP)[0]["title"] == STEP.title


def test_json_keeps_letters_and_newlines_in_one_line() -> None:
    (event,) = parsed(Event("note", text="é\n日本"))
    assert event["text"] == "é\n日本"


# --- tables, texts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["done", "kind", '", "', "text", '": 1'])
def test_json_stays_json_whatever_is_secret(secret: str) -> None:
    out = io.StringIO()
    shown = Console(as_json=True, out=out)
    shown.hide(redactor({"PASSWORD": secret}))
    shown.emit(DONE)
    shown.emit(Event("line", "web1", text=f"so: {secret}"))
    shown.say(f"so: {secret}")
    done, line, note = map(json.loads, out.getvalue().splitlines())
    assert (done["kind"], done["seconds"]) == ("done", 1.26)
    assert (line["text"], note["text"]) == (f"so: {HIDDEN}", f"so: {HIDDEN}")


def test_a_table_is_aligned_and_has_no_blanks_at_its_right() -> None:
    out = io.StringIO()
    console(out).table(("host", "live"), [("web1.example.com", "blue"), ("b", "")])
    assert out.getvalue() == "host              live\nweb1.example.com  blue\nb\n"


def test_a_table_without_rows_is_its_head() -> None:
    out = io.StringIO()
    console(out).table(("host", "live"), [])
    assert out.getvalue() == "host  live\n"


def test_a_table_in_json_is_one_object_a_row() -> None:
    out = io.StringIO()
    console(out, as_json=True).table(("host", "live"), [("web1", "blue"), ("web2", "")])
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert rows == [{"host": "web1", "live": "blue"}, {"host": "web2", "live": ""}]


def test_a_text_in_json_is_a_note() -> None:
    out = io.StringIO()
    console(out, as_json=True).say("hello\nyou")
    note = json.loads(out.getvalue())
    assert (note["kind"], note["text"]) == ("note", "hello\nyou")


class Gone(io.StringIO):
    """A pipe whose other end was closed, as by `inv deploy | head`."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_run_goes_on_when_nobody_listens_any_more() -> None:
    shown = console(Gone())
    shown.emit(STEP)
    shown.say("hello")


def test_a_terminal_that_cannot_show_a_letter_shows_something_else() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    Console(out=out).say("über")
    assert raw.getvalue() == b"?ber\n"


# --- the end ---------------------------------------------------------------------------------------------------


def test_a_failure_is_said_on_stderr_with_what_to_type_next(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    console(out).fail(Refused(f"no host; {SECRET}", mend="say --hosts"))
    assert capsys.readouterr().err == f"no host; {HIDDEN}\nsay --hosts\n"
    assert out.getvalue() == ""


def test_a_failure_that_nobody_reads_is_one_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Gone())
    shown = console(io.StringIO())
    shown.fail(NeedsHuman("half"))
    assert shown.unheard


@pytest.mark.parametrize(
    ("events", "error", "said"),
    [
        ([], Refused("locked"), True),
        ([Event("note", text="x")], Failed("stopped by the operator"), True),
        ([Event("phase", phase="start")], Failed("undone"), False),
        ([], NeedsHuman("half"), False),
    ],
)
def test_a_run_that_broke_off_before_its_first_phase_says_that_nothing_was_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], events: list[Event], error: GreenroomError, said: bool
) -> None:
    shown = console(io.StringIO())
    shown.record(tmp_path / "journal", verb="deploy")
    for event in events:
        shown.emit(event)
    shown.fail(error)
    assert capsys.readouterr().err.endswith("\nNothing was touched: users have what they had.\n") == said


def test_a_failure_in_json_is_the_last_event_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    console(out, as_json=True).fail(NeedsHuman("half", mend="inv status"))
    event = json.loads(out.getvalue())
    assert isinstance(event.pop("at"), float)
    assert event == {"v": 1, "kind": "error", "exit_code": 3, "text": "half\ninv status"}
    assert capsys.readouterr().err == ""


def test_where_nobody_can_be_asked_the_answer_is_no() -> None:
    assert not console(io.StringIO()).confirm("Go on?")
    assert not console(Terminal(), as_json=True).confirm("Go on?")


@pytest.mark.parametrize(
    ("typed", "agreed"), [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch, typed: str, agreed: bool) -> None:
    answer = Terminal(typed)
    monkeypatch.setattr("sys.stdin", answer)
    out = Terminal()
    assert console(out).confirm("Go on?") is agreed
    assert out.getvalue() == "Go on? [y/N] "


def test_a_question_is_redacted_and_spelt_as_the_terminal_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n\n"))
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    out.isatty = lambda: True  # type: ignore[method-assign]
    shown = console(out)
    assert shown.confirm(f"drop “{SECRET}”?")
    assert shown.ask("Name", "über") == "über"
    assert raw.getvalue() == f"drop ?{HIDDEN}?? [y/N] Name [?ber] ".encode()


# --- secrets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
def test_no_way_out_shows_a_secret(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    shown = console(out, as_json=as_json, verbose=True)
    for kind in ("note", "phase", "step", "done", "line", "failed", "ended"):
        shown.emit(Event(kind, text=f"it is {SECRET}", title=SECRET))
    shown.say(f"it is {SECRET}")
    shown.table(("x",), [(SECRET,)])
    shown.data({"x": SECRET})
    shown.fail(Refused(SECRET))
    said = out.getvalue() + capsys.readouterr().err
    assert SECRET not in said
    assert said.count(HIDDEN) >= 8


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal on which no row is cut."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    return Terminal()


def test_the_live_table_shows_no_secret_of_what_programs_print(wide: Terminal) -> None:
    shown = console(wide)
    shown.watch(["web1"])
    shown.emit(STEP)
    shown.emit(Event("line", "web1", "start", "gate green", f"login with {SECRET} failed"))
    shown.unwatch()
    assert SECRET not in wide.getvalue()
    assert f"login with {HIDDEN} failed" in wide.getvalue()


def test_a_failure_beside_the_live_table_shows_no_secret(wide: Terminal) -> None:
    shown = console(wide)
    shown.watch(["web1"])
    shown.emit(Event("failed", "web1", "start", text=f"said {SECRET}"))
    shown.unwatch()
    assert SECRET not in wide.getvalue()
    assert f"said {HIDDEN}" in wide.getvalue()


def test_a_secret_at_the_end_of_a_row_is_hidden_before_it_is_cut(wide: Terminal) -> None:
    shown = console(wide)
    shown.watch(["web1"])
    shown.emit(Event("line", "web1", "start", "gate green", "x" * 55 + SECRET))
    shown.unwatch()
    assert "xxxx" in wide.getvalue()
    assert SECRET[:5] not in wide.getvalue()


def test_the_live_table_is_for_terminals() -> None:
    out = io.StringIO()
    shown = console(out)
    shown.watch(["web1"])
    shown.emit(STEP)
    shown.unwatch()
    assert "gate green: it must answer" in out.getvalue()
