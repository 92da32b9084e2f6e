"""What a job of a forge writes: groups that it can fold, and a sign of life when nothing else is said."""

from __future__ import annotations

import io
import re
import threading
import time

import pytest

from deploy.console import Console
from deploy.console.events import Event
from deploy.console.plain import Pulse
from deploy.errors import Failed

RUN = (
    Event("phase", phase="start", text="on web1"),
    Event("step", "web1", "start", "gate green", "it must answer"),
    Event("failed", "web1", "start", text="gate green: failed"),
    Event("phase", phase="undo", text="on web1"),
    Event("done", "web1", "undo", "stop green", seconds=1),
)


def written(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    """The lines of a run that is undone, without their seconds."""
    for name in ("GITHUB_ACTIONS", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO(newline="")
    console = Console(out=out)
    console.watch(["web1"])
    for event in RUN:
        console.emit(event)
    console.fail(Failed("undone on every host"))
    return re.sub(r" *\d+\.\ds ", "", out.getvalue()).split("\n")


def test_each_phase_is_a_group_on_github_and_what_failed_is_in_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, GITHUB_ACTIONS="true") == [
        "::group::[start] on web1",
        "web1 [start] gate green: it must answer",
        "::endgroup::",
        "web1 [start] gate green: failed",
        "::group::[undo] on web1",
        "web1 [undo] stop green: done in 1.0 s",
        "::endgroup::",
        "",
    ]


def test_each_phase_is_a_section_on_gitlab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.console.plain._now", lambda: 17)
    assert written(monkeypatch, GITLAB_CI="true") == [
        "\x1b[0Ksection_start:17:greenroom_start\r\x1b[0K[start] on web1",
        "web1 [start] gate green: it must answer",
        "\x1b[0Ksection_end:17:greenroom_start\r\x1b[0K",
        "web1 [start] gate green: failed",
        "\x1b[0Ksection_start:17:greenroom_undo\r\x1b[0K[undo] on web1",
        "web1 [undo] stop green: done in 1.0 s",
        "\x1b[0Ksection_end:17:greenroom_undo\r\x1b[0K",
        "",
    ]


def test_elsewhere_lines_stand_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch) == [
        "[start] on web1",
        "web1 [start] gate green: it must answer",
        "web1 [start] gate green: failed",
        "[undo] on web1",
        "web1 [undo] stop green: done in 1.0 s",
        "",
    ]


class Signs:
    """What a pulse says; a test waits for it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.came = threading.Event()

    def __call__(self, text: str) -> None:
        self.said.append(text)
        self.came.set()


def test_a_silent_run_gives_a_sign_of_life_that_says_what_is_at_work() -> None:
    signs = Signs()
    pulse = Pulse([f"web{n}" for n in range(1, 6)], signs, lambda: 90.0, silence=0.5)
    for number, now in ((2, 10), (1, 30), (3, 40), (4, 50)):
        step = Event("step", f"web{number}", "prepare", "build the image")
        pulse.hear(step, now, shown=False)
    assert signs.came.wait(10)
    pulse.end()
    assert signs.said[0] == (
        "still at work: web2 [prepare] build the image, for 1:20; web1 [prepare] build the image, for 1:00; "
        "web3 [prepare] build the image, for 50 s; 1 more"
    )


@pytest.mark.long
def test_a_line_puts_the_sign_of_life_off_and_an_ended_run_gives_none() -> None:
    signs = Signs()
    pulse = Pulse(["web1"], signs, lambda: 0.0, silence=2.0)
    time.sleep(0.3)
    spoke = time.monotonic()
    pulse.hear(Event("note", text="so"), 0, shown=True)
    assert signs.came.wait(20)
    assert time.monotonic() - spoke >= 2
    pulse.end()
    given = len(signs.said)
    time.sleep(2.5)
    assert len(signs.said) == given
