"""What stands around every task: which hosts of an env it gets, and how it comes to them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy import config, fleet, front
from deploy.console import Console
from deploy.fleet import Fleet
from deploy.front import Opened

if TYPE_CHECKING:
    from deploy.config import Setup


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    (tmp_path / ".env.prod").write_text("A=1\n")
    prod = {"hosts": ["web1", "jobs1", "jobs2"], "runs": {"web1": ["web"], "jobs1": ["celery"], "jobs2": ["celery"]}}
    data = {"project": "shop", "workers": ["celery"], "envs": {"prod": prod}}
    return config.load(data, tmp_path, "prod")


def test_some_hosts_of_an_env_are_chosen_and_some_of_those_and_only_they_are_gone_to(setup: Setup) -> None:
    """`inv exec --service=celery` goes to the first host that runs it."""
    asked: list[Setup] = []

    def connect(of: Setup) -> Fleet:
        asked.append(of)
        return Fleet([])

    opened = Opened(setup, connect, Console())
    chosen = opened.where("celery").on_first()
    assert [str(host) for host in chosen.setup.hosts] == ["jobs1"]
    chosen.connect()
    assert asked == [chosen.setup]
    assert [str(host) for host in opened.where("nobody").setup.hosts] == ["web1", "jobs1", "jobs2"]


def test_who_connects_again_gets_the_new_fleet_and_both_are_closed_at_the_end(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "connect", lambda *_: Fleet([]))
    opened: list[Fleet] = []
    first, second = (front._connect(setup, opened, Console(), skip=None) for _ in range(2))
    assert first is not second
    assert opened == [first, second]


@pytest.fixture
def handled() -> Iterator[Callable[[signal.Signals, Any], Any]]:
    """Set how a signal is handled, until the test is over."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    yield signal.signal
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_asks_to_end_counts_as_ctrl_c(
    handled: Callable[[signal.Signals, Any], Any], capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    heard: list[int] = []
    handled(number, lambda number, _: heard.append(number))
    with pytest.raises(SystemExit) as caught, front.told(Console()):
        signal.raise_signal(number)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "stopped by the operator\n"
    signal.raise_signal(number)
    assert heard == [number]


def test_under_nohup_a_terminal_that_goes_away_stops_nothing(handled: Callable[[signal.Signals, Any], Any]) -> None:
    handled(signal.SIGHUP, signal.SIG_IGN)
    with front.told(Console()):
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
