"""The page of the last run: what it is made from, and that it needs nothing else."""

from __future__ import annotations

import html.parser
import io
import json
import os
import stat
from pathlib import Path

import pytest

from deploy import report
from deploy.console import Console
from deploy.console.events import Event
from deploy.console.redact import redactor
from deploy.errors import Failed, Refused

HEAD = {"verb": "deploy", "project": "app", "env": "prod", "hosts": ["web1", "web2"], "who": "ada", "began": "today"}
STEP = Event("step", "web1", "start", "gate green", "it must answer")
DONE = Event("done", "web1", "start", "gate green", "after 3 looks", seconds=1.26)
PHASE = Event("phase", phase="start", text="on web1, web2")


def recorded(path: Path, *events: Event, error: Failed | None = None) -> list[report.Told]:
    """What is remembered of a run of these events."""
    console = Console(out=io.StringIO())
    console.hide(redactor({"PASSWORD": "hunter22"}))
    console.record(path, **HEAD)
    for event in events:
        console.emit(event)
    if error:
        console.fail(error)
    return report.read(path)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return report.journal("app", "prod")


class Strict(html.parser.HTMLParser):
    """Fails on a tag that is not closed in its turn, and collects what a page asks for elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elsewhere: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elsewhere += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_run_is_remembered_from_its_head_to_its_end(path: Path) -> None:
    told = recorded(path, Event("note", text="release r2"), PHASE, STEP, DONE, Event("ended", text="r2 is live"))
    assert [each["kind"] for each in told] == ["run", "note", "phase", "step", "done", "ended"]
    assert told[0]["who"] == "ada"


def test_projects_and_envs_of_like_names_have_their_own_journals() -> None:
    assert report.journal("app-eu", "prod") != report.journal("app", "eu-prod")


def test_only_its_owner_may_read_a_journal(path: Path) -> None:
    recorded(path, PHASE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_no_secret_is_remembered_and_no_programs_output(path: Path) -> None:
    recorded(path, PHASE, Event("line", "web1", text="Step 1/9"), Event("failed", "web1", text="it said hunter22"))
    assert "hunter22" not in path.read_text()
    assert "Step 1/9" not in path.read_text()


def test_a_run_that_changed_nothing_leaves_the_journal_of_the_one_before(path: Path) -> None:
    before = recorded(path, PHASE, Event("ended", text="r2 is live"))
    assert recorded(path, Event("ended", text="nothing to do")) == before


def test_a_journal_that_cannot_be_written_stops_nobody(path: Path) -> None:
    path.parent.write_text("a file where a folder should be")
    console = Console(out=io.StringIO())
    console.record(path, **HEAD)
    console.emit(PHASE)
    console.emit(DONE)


def test_a_name_that_is_no_utf_8_stops_no_run_and_no_page(path: Path) -> None:
    told = recorded(path, Event("note", text=os.fsdecode(b"j\xf6rg, as it lies")), PHASE, DONE)
    assert told[1]["text"] == "j?rg, as it lies"
    report.page(told).encode()


def test_without_a_run_the_report_says_what_writes_it(path: Path) -> None:
    with pytest.raises(Refused, match="no run is remembered on this machine") as caught:
        report.read(path)
    assert "it is written by deploy and rollback" in str(caught.value)


@pytest.mark.parametrize("text", ["{", ""], ids=["half", "empty"])
def test_a_journal_that_is_none_is_refused(path: Path, text: str) -> None:
    """A full disk makes an empty one."""
    recorded(path, PHASE)
    path.write_text(text)
    with pytest.raises(Refused, match="cannot be read"):
        report.read(path)


def test_steps_have_a_beginning_an_end_and_what_they_found(path: Path) -> None:
    (span,) = report.spans(recorded(path, PHASE, STEP, DONE))
    assert (span.host, span.phase, span.title, span.found, span.done) == (
        "web1", "start", "gate green", "after 3 looks", True,
    )  # fmt: skip
    assert span.end >= span.begin


def test_a_step_that_failed_ends_with_the_last_word_of_its_host() -> None:
    told = [
        {"at": 1.0, "kind": "step", "host": "web1", "phase": "start", "title": "gate green", "text": "why"},
        {"at": 4.5, "kind": "failed", "host": "web1", "text": "no answer"},
        {"at": 9.0, "kind": "error", "text": "failed"},
    ]
    (span,) = report.spans(told)
    assert (span.begin, span.end, span.done) == (1.0, 4.5, False)


def test_a_step_that_failed_stays_on_the_page_when_its_host_is_put_back() -> None:
    told = [
        {"at": 1.0, "kind": "step", "host": "web1", "phase": "start", "title": "gate green"},
        {"at": 4.5, "kind": "failed", "host": "web1", "phase": "start", "text": "no answer"},
        {"at": 6.0, "kind": "step", "host": "web1", "phase": "undo", "title": "stop green"},
        {"at": 7.0, "kind": "done", "host": "web1", "phase": "undo", "title": "stop green"},
    ]
    assert [(span.title, span.end, span.done) for span in report.spans(told)] == [
        ("gate green", 4.5, False),
        ("stop green", 7.0, True),
    ]


def test_the_page_is_whole_and_asks_for_nothing_elsewhere(path: Path) -> None:
    page = report.page(recorded(path, PHASE, STEP, DONE, Event("ended", text="r2 is live")))
    assert Strict(page).elsewhere == []
    assert "http" not in page
    assert "r2 is live" in page
    assert page.count("<rect") == 1
    assert "web2" in page  # a host that did nothing has its row, too


def test_what_failed_stands_on_the_page_as_it_was_said(path: Path) -> None:
    failed = Event("failed", "web1", "start", text="gate green: <b>status 500</b>\n    Traceback")
    page = report.page(recorded(path, PHASE, STEP, failed, error=Failed("web1: gate green")))
    Strict(page)
    assert "gate green: &lt;b&gt;status 500&lt;/b&gt;\n    Traceback" in page
    assert 'class="outcome error"' in page
    assert 'class="start broken"' in page


def test_any_end_of_a_line_that_a_program_knows_is_within_one_line_of_the_journal(path: Path) -> None:
    said = "one\u2028two\x85three\x0cfour"
    told = recorded(path, PHASE, Event("failed", "web1", "start", text=said))
    assert told[-1]["text"] == said


def test_a_run_that_was_killed_says_so(path: Path) -> None:
    page = report.page(recorded(path, PHASE, STEP))
    Strict(page)
    assert "the run was killed, or is still at work" in page


def test_a_page_that_cannot_be_written_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="say another place"):
        report.write(tmp_path / "nowhere" / "report.html", "")


@pytest.mark.parametrize("seconds", [0.4, 7, 60, 3_600])
def test_a_timeline_of_any_length_has_few_ticks(seconds: float) -> None:
    told = [
        {**HEAD, "kind": "run"},
        {"at": 0, "kind": "step", "host": "web1", "phase": "start", "title": "gate", "text": ""},
        {"at": seconds, "kind": "done", "host": "web1", "phase": "start", "title": "gate"},
    ]
    assert 1 <= report.page(json.loads(json.dumps(told))).count('class="tick"') <= 11
