"""What a person sees while a run goes on: the live view on the screen of an emulated terminal, in each state."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyte
import pytest

from deploy.console import Console
from deploy.console.events import Event
from deploy.errors import Failed

COLUMNS, LINES = 80, 20
SPINNER = re.compile("[⠀-⣿]")


class Seen(io.StringIO):
    """A terminal: what is written to it appears on a screen. The view's thread writes, too: nobody looks meanwhile."""

    def __init__(self, columns: int = COLUMNS, lines: int = LINES) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(columns, lines, history=1000)
        self.screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self.screen)
        self.raw = ""
        self._drawing = threading.Lock()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._drawing:
            self.raw += text
            self._stream.feed(text)
        return len(text)

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, without the empty rest of it; a spinner is a `*`, whatever its moment."""
        with self._drawing:
            shown = [SPINNER.sub("*", line).rstrip() for line in self.screen.display]
        while shown and not shown[-1]:
            shown.pop()
        return shown


class Story:
    """A run that goes as far as a test lets it, at a time that the test sets."""

    def __init__(self, seen: Seen, monkeypatch: pytest.MonkeyPatch, hosts: int, *, verbose: bool = False) -> None:
        monkeypatch.setenv("COLUMNS", str(seen.screen.columns))
        monkeypatch.setenv("LINES", str(seen.screen.lines))
        monkeypatch.setenv("TERM", "xterm-256color")
        for name in ("CI", "NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name, raising=False)
        self.now = 0.0
        monkeypatch.setattr("deploy.clock.monotonic", lambda: self.now)
        self.seen = seen
        self.hosts = [f"web{number + 1}.example.com" for number in range(hosts)]
        self.console = Console(verbose=verbose, out=seen)
        self.console.watch(self.hosts)

    def phase(self, name: str) -> None:
        self.console.emit(Event("phase", phase=name, text=f"on {', '.join(self.hosts)}"))

    def step(self, number: int, phase: str, title: str) -> None:
        self.console.emit(Event("step", self.hosts[number], phase, title, "because"))

    def line(self, number: int, text: str) -> None:
        self.console.emit(Event("line", self.hosts[number], "prepare", "build the image", text))

    def done(self, number: int, phase: str, title: str) -> None:
        self.console.emit(Event("done", self.hosts[number], phase, title, seconds=1))

    def failed(self, number: int, phase: str, text: str) -> None:
        self.console.emit(Event("failed", self.hosts[number], phase, text=text))

    def everywhere(self, phase: str, title: str) -> None:
        self.phase(phase)
        for number in range(len(self.hosts)):
            self.step(number, phase, title)
            self.done(number, phase, title)

    def look(self, now: float) -> list[str]:
        self.now = now
        assert self.console._live
        self.console._live._live.refresh()
        return self.seen.lines


Begin = Callable[..., Story]


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Return a maker of stories, and end their views: each is drawn by a thread of its own."""
    begun: list[Story] = []

    def make(hosts: int, seen: Seen | None = None, *, verbose: bool = False) -> Story:
        begun.append(Story(seen or Seen(), monkeypatch, hosts, verbose=verbose))
        return begun[-1]

    yield make
    for story in begun:
        story.console.unwatch()


@pytest.fixture
def three(begin: Begin) -> Story:
    story = begin(3)
    story.everywhere("prepare", "send files")
    story.phase("start")
    return story


def in_the_middle(story: Story) -> None:
    story.now = 60
    story.step(0, "start", "gate green")
    story.step(1, "start", "start green")
    story.step(2, "start", "start green")
    story.done(2, "start", "start green")


def row(left: str, right: str) -> str:
    """A line that goes from the left edge to the right one."""
    return left + right.rjust(COLUMNS - len(left))


def test_a_run_at_work_shows_its_phases_and_what_each_host_is_at_and_for_how_long(three: Story) -> None:
    in_the_middle(three)
    assert three.look(125) == [
        row("prepare ✓  start 1/3", "2:05"),
        row("web1.example.com  ✓*  gate green", "1:05"),
        row("web2.example.com  ✓*  start green", "1:05"),
        "web3.example.com  ✓✓  start green",
    ]


def test_of_a_run_that_broke_off_before_its_first_phase_no_view_is_left(begin: Begin) -> None:
    story = begin(3)
    assert story.look(1)
    story.console.unwatch()
    assert story.seen.lines == []


def test_the_seconds_go_on_while_no_host_says_anything(three: Story) -> None:
    in_the_middle(three)
    assert three.look(65)[1].endswith(" 5 s")
    assert three.look(66)[1].endswith(" 6 s")


def test_a_host_that_failed_says_so_in_its_row_and_why_above_all_rows(three: Story) -> None:
    in_the_middle(three)
    three.failed(0, "start", "gate green: failed (exit status 1)\n    HTTP 500")
    assert three.look(70) == [
        "  60.0s web1.example.com [start] gate green: failed (exit status 1)",
        "    HTTP 500",
        row("prepare ✓  start ✗", "1:10"),
        "web1.example.com  ✓✗  failed: gate green",
        row("web2.example.com  ✓*  start green", "10 s"),
        "web3.example.com  ✓✓  start green",
    ]


def test_a_run_that_is_undone_shows_who_failed_who_was_broken_off_and_that_all_are_back(three: Story) -> None:
    in_the_middle(three)
    three.failed(0, "start", "gate green: failed (exit status 1)")
    three.everywhere("undo", "stop green")
    three.look(75)
    three.console.fail(Failed("undone on every host"))
    assert three.seen.lines == [
        "  60.0s web1.example.com [start] gate green: failed (exit status 1)",
        row("prepare ✓  start ✗  undo ✓", "1:15"),
        "web1.example.com  ✓✗✓  undone",
        "web2.example.com  ✓-✓  undone",
        "web3.example.com  ✓✓✓  undone",
    ]


def test_a_phase_that_nobody_is_in_yet_has_no_count(three: Story) -> None:
    assert three.look(1)[0] == row("prepare ✓  start ·", "1 s")


def test_after_ctrl_c_nobody_has_failed_and_what_was_under_way_is_broken_off(three: Story) -> None:
    in_the_middle(three)
    three.look(60)
    three.seen.write("^C")  # the terminal itself puts it where the cursor is
    three.phase("undo")
    three.step(0, "undo", "stop green")
    assert three.look(61) == [
        row("prepare ✓  start -  undo 0/1", "1:01"),
        row("web1.example.com  ✓-*  stop green", "1 s"),
        "web2.example.com  ✓-·  start green",
        "web3.example.com  ✓✓·  start green",
    ]


def test_of_a_run_that_came_to_its_end_the_view_goes_and_the_durations_stay(three: Story) -> None:
    three.everywhere("start", "start green")
    three.console.emit(Event("ended", text="r2 is live"))
    three.look(12)
    three.console.unwatch()
    assert three.seen.lines == [
        "   0.0s r2 is live",
        "seconds           prepare  start",
        "web1.example.com  1.0      1.0",
        "web2.example.com  1.0      1.0",
        "web3.example.com  1.0      1.0",
    ]


def test_of_thirty_hosts_those_that_failed_and_the_slowest_are_shown_and_the_rest_counted(
    begin: Begin,
) -> None:
    story = begin(30)
    story.phase("start")
    for number in range(30):
        story.now = 30 - number  # the last one has been at it for longest
        story.step(number, "start", "gate green")
    for number in range(5, 25):
        story.done(number, "start", "gate green")
    story.failed(2, "start", "gate green: failed")
    assert story.look(40)[1:] == [
        row("start ✗", "40 s"),
        "web3.example.com   ✗  failed: gate green",
        row("web26.example.com  *  gate green", "35 s"),
        row("web27.example.com  *  gate green", "36 s"),
        row("web28.example.com  *  gate green", "37 s"),
        row("web29.example.com  *  gate green", "38 s"),
        row("web30.example.com  *  gate green", "39 s"),
        "and 24 more: 4 at work, 20 done with it",
    ]


def test_a_host_that_failed_is_among_those_shown_also_when_it_is_undone(begin: Begin) -> None:
    story = begin(30)
    story.phase("start")
    story.step(29, "start", "gate green")
    story.failed(29, "start", "gate green: failed")
    story.everywhere("undo", "stop green")
    assert "web30.example.com  ✗✓  undone" in story.look(40)


def long(*values: int) -> list[Any]:
    return [pytest.param(value, marks=pytest.mark.long) for value in values]


@pytest.mark.parametrize(("columns", "lines"), [(80, 20), (120, 40), (40, 10), (80, 5)])
@pytest.mark.parametrize("hosts", [1, *long(18, 20), 21, *long(30)])
@pytest.mark.parametrize("verbose", [*long(False), True])
def test_it_fits_into_any_window_and_nothing_scrolls_away(
    begin: Begin, columns: int, lines: int, hosts: int, verbose: bool
) -> None:
    story = begin(hosts, Seen(columns, lines), verbose=verbose)
    for phase in ("prepare", "ship", "migrate", "start", "flip", "settle", "finish"):
        story.everywhere(phase, "a title that is as long as titles may be")
        story.step(0, phase, "a title that is as long as titles may be")
        for number in range(20):
            story.line(0, f"{number} of a program that says long things, and says many of them, to the end of its line")
        shown = story.look(7200)
        assert max(map(len, shown)) <= columns
        assert len(shown) < lines
        assert shown[0].endswith(" 2:00:00")
    assert list(story.seen.screen.history.top) == []


def test_the_last_lines_of_programs_are_shown_on_request(begin: Begin) -> None:
    story = begin(2, verbose=True)
    story.phase("prepare")
    story.step(0, "prepare", "build the image")
    for number in range(10):
        story.line(0, f"Step {number}/9")
        story.line(0, "")
    assert story.look(3)[3:] == [f"web1.example.com | Step {number}/9" for number in range(4, 10)]


def test_what_programs_print_moves_no_cursor(three: Story) -> None:
    three.step(0, "start", "gate green")
    three.line(0, "\x1b[2J\x1b[31mred\x1b[0m \x1b]0;title\x07and\tthe \rrest")
    assert three.look(1)[1] == row("web1.example.com  ✓*  gate green: red and the rest", "1 s")
    three.failed(0, "start", "said \x1b[2Jthis")
    assert three.look(1)[0] == "   1.0s web1.example.com [start] said this"


def test_a_command_in_a_long_line_can_be_copied_whole(three: Story) -> None:
    command = "docker rm -f $(docker ps -aq --filter label=com.docker.compose.project=counter) && inv deploy"
    three.console.emit(Event("note", text=command))
    assert "".join(three.look(1)[:2]) == f"   0.0s {command}"


def test_colour_helps_and_no_color_takes_it_away(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    def colours(seen: Seen) -> set[str]:
        return {char.fg for line in seen.screen.buffer.values() for char in line.values()}

    story = begin(2)
    story.everywhere("prepare", "send files")
    story.look(1)
    assert "green" in colours(story.seen)
    story = begin(2)
    story.console.unwatch()
    monkeypatch.setenv("NO_COLOR", "1")
    story.console.watch(story.hosts)
    story.everywhere("prepare", "send files")
    story.look(1)
    assert colours(story.seen) == {"default"}


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("CI", "true")])
def test_where_no_cursor_can_be_moved_or_nobody_sits_there_are_lines(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    seen = Seen()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    console = Console(out=seen)
    console.watch(["web1"])
    console.emit(Event("step", "web1", "start", "gate green", "it must answer"))
    console.unwatch()
    assert "\x1b" not in seen.raw
    assert "web1 [start] gate green: it must answer\n" in seen.raw


class Gone(Seen):
    """A terminal whose window was closed."""

    gone = False

    def write(self, text: str) -> int:
        if self.gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_a_run_goes_on_when_its_window_was_closed(begin: Begin) -> None:
    seen = Gone()
    story = begin(1, seen)
    seen.gone = True
    story.everywhere("prepare", "send files")
    story.failed(0, "prepare", "so")
    story.console.unwatch()
