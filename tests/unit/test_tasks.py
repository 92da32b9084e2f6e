"""Around every task: how a run ended is what the exit code says, whatever is pressed afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import pytest
from invoke.context import Context

from deploy import fleet as deploy_fleet
from deploy import flow, front, keys, tasks
from deploy.console import Console
from deploy.console.events import Event
from deploy.errors import GreenroomError, HostFailures, Interrupted, NeedsHuman, Refused, Unreachable
from deploy.machine import door, wire
from deploy.recipe.model import Host


class Fleet:
    """A fleet that somebody presses Ctrl-C at while it is closed."""

    def close(self) -> None:
        raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_setup", lambda *flags: flags[-1])
    monkeypatch.setattr(front, "_connect", lambda _setup, opened, _console, **_: opened.append(Fleet()))


def run(*happens: Event | BaseException) -> Any:
    with front._opened(Context(), env="", hosts="", limit="", json=False, verbose=False) as (_, connect, console):
        connect()
        for each in happens:
            if isinstance(each, BaseException):
                raise each
            console.emit(each)


DONE = Event("ended", text="r2 is live")


def test_a_run_that_has_ended_is_done_whenever_ctrl_c_is_pressed(capsys: pytest.CaptureFixture[str]) -> None:
    run(DONE)
    run(DONE, KeyboardInterrupt())
    assert capsys.readouterr().err == ""


def test_ctrl_c_before_a_run_is_a_failure_with_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(Event("note", text="release r2"), KeyboardInterrupt())
    assert caught.value.code == 1
    assert capsys.readouterr().err == "stopped by the operator\n"


def test_a_failure_keeps_its_exit_code_when_ctrl_c_is_pressed_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(NeedsHuman("web1 is half way"))
    assert caught.value.code == 3
    assert capsys.readouterr().err == "web1 is half way\n"


@pytest.mark.parametrize("error", [Refused, NeedsHuman])
def test_the_exit_code_stays_when_nobody_reads_what_is_printed(error: type[GreenroomError]) -> None:
    """As in `inv status 2>&1 | true`. In a process of its own: Python writes what is left when it ends."""
    reader, writer = os.pipe()
    os.close(reader)
    text = (
        "from deploy.console import Console; from deploy.errors import *; from deploy.front import told\n"
        f"with told(Console()): Console().say('on my way'); raise {error.__name__}('half')"
    )
    ended = subprocess.run([sys.executable, "-c", text], stdout=writer, stderr=writer, check=False)
    os.close(writer)
    assert ended.returncode == error.exit_code


@pytest.mark.parametrize("each", [tasks.ns[name] for name in tasks.ns.task_names if name != "init"], ids=str)
def test_every_task_that_connects_takes_a_limit_of_connections(each: Any) -> None:
    assert "limit" in {argument.name for argument in each.get_arguments()}


def test_a_task_tells_of_its_flags_as_often_as_it_is_asked() -> None:
    first, second = ([argument.help for argument in tasks.ns["deploy"].get_arguments()] for _ in range(2))
    assert None not in first
    assert first == second


def test_the_limit_reaches_the_configuration() -> None:
    with front._opened(Context(), env="", hosts="", limit="3", json=False, verbose=False) as (limit, *_):
        assert limit == "3"  # type: ignore[comparison-overlap]  # what the stand-in for _setup was told last


@pytest.mark.parametrize(
    ("verb", "story", "flags"),
    [
        ("deploy", "deploy", {}),
        ("rollback", "rollback", {}),
        ("status", "status", {}),
        ("lock", "put_lock", {"reason": "moving"}),
        ("unlock", "take_lock_away", {"reason": "moved"}),
    ],
)
def test_hosts_that_cannot_be_reached_are_left_out_only_where_that_is_said(
    monkeypatch: pytest.MonkeyPatch, verb: str, story: str, flags: dict[str, str]
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(front, "_connect", lambda *_, skip: told.append(skip))
    monkeypatch.setattr(tasks, "batching", lambda *_: None)
    monkeypatch.setattr(tasks, "remember", lambda *_: None)
    monkeypatch.setattr(flow, story, lambda _setup, connect, *_: connect())
    for skip in (True, False):
        getattr(tasks, verb)(Context(), skip_unreachable=skip, **flags)
    assert told == [True, False]


@pytest.mark.parametrize(("skip", "down", "offered"), [(False, 1, True), (None, 1, False), (False, 2, False)])
def test_who_cannot_reach_some_hosts_is_told_how_to_go_on_without(
    monkeypatch: pytest.MonkeyPatch, *, skip: bool | None, down: int, offered: bool
) -> None:
    monkeypatch.undo()
    hosts = (Host("web1"), Host("web2"))

    def connect(*_: Any) -> Any:
        raise HostFailures({str(host): Unreachable("it cannot be reached") for host in hosts[:down]})

    monkeypatch.setattr(deploy_fleet, "connect", connect)
    setup: Any = SimpleNamespace(ssh=keys.Ssh(), hosts=hosts, app=SimpleNamespace(hosts=hosts))
    with pytest.raises(HostFailures) as caught:
        front._connect(setup, [], Console(), skip=skip)
    assert ("--skip-unreachable" in str(caught.value)) == offered


def test_ctrl_c_is_heard_while_hosts_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(door, "PAUSES", (8.0,))
    dialled = threading.Event()

    def dial(*_: Any) -> Any:
        dialled.set()
        raise ConnectionRefusedError

    def wait(*what: Any, **how: Any) -> Any:
        if how and dialled.wait(10):
            raise KeyboardInterrupt
        return futures.wait(*what, **how)

    monkeypatch.setattr(wire, "dial", dial)
    monkeypatch.setattr(deploy_fleet, "wait", wait)
    hosts = tuple(Host(f"web{n}", "ann") for n in range(1, 4))
    ssh = keys.Ssh(config="/nowhere", known_hosts="/nowhere", limit=1, connect_timeout=60)
    setup: Any = SimpleNamespace(ssh=ssh, hosts=hosts, app=SimpleNamespace(hosts=hosts))
    began = time.monotonic()
    with pytest.raises(Interrupted, match="stopped by the operator"):
        front._connect(setup, [], Console(), skip=None)
    assert time.monotonic() - began < 3
