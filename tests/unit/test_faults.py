from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from testbed.faults import cases, inventory, operator
from testbed.faults.inventory import Container, Inventory
from testbed.faults.matrix import Matrix, Result
from testbed.faults.record import Record
from testbed.faults.relay import Relay
from testbed.model import kind_named, targets
from testbed.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# --- the relay -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """Serve, on loopback, what it is sent; the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                while block := connection.recv(1024):
                    connection.sendall(block)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def relay() -> Iterator[Relay]:
    with echo() as port, Relay("127.0.0.1", port) as made:
        yield made


def opened(relay: Relay) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", relay.port), timeout=5)
    connection.settimeout(1)
    return connection


def says(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(1024)


def test_a_relay_passes_on_both_ways_and_ends_with_either_side(relay: Relay) -> None:
    with opened(relay) as connection:
        assert says(connection, b"one") == b"one"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1024) == b""


def test_a_relay_that_is_down_resets_what_is_open_and_what_comes(relay: Relay) -> None:
    with opened(relay) as connection:
        assert says(connection, b"one") == b"one"
        relay.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1024)
    with pytest.raises(OSError, match=r"reset|Broken"), opened(relay) as connection:
        says(connection, b"two")
    relay.mend()
    with opened(relay) as connection:
        assert says(connection, b"three") == b"three"


def test_a_relay_that_only_stumbles_takes_new_connections(relay: Relay) -> None:
    with opened(relay) as connection:
        assert says(connection, b"one") == b"one"
        relay.reset(stay_down=False)
        with pytest.raises(ConnectionResetError):
            connection.recv(1024)
    with opened(relay) as connection:
        assert says(connection, b"two") == b"two"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="it takes Linux to be this silent")
@pytest.mark.long
def test_a_silent_relay_does_not_even_acknowledge_and_goes_on_when_it_is_mended(relay: Relay) -> None:
    with opened(relay) as connection, opened(relay) as patient:
        assert says(connection, b"one") == b"one"
        assert says(patient, b"one") == b"one"
        relay.go_silent()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
        connection.settimeout(10)
        with pytest.raises(TimeoutError, match="timed out"):
            says(connection, b"two")  # the kernel's own verdict: ETIMEDOUT, not our settimeout
        with pytest.raises(TimeoutError):
            says(patient, b"two")
        with pytest.raises(OSError, match="timed out"):
            socket.create_connection(("127.0.0.1", relay.port), timeout=0.3)
        relay.mend()
        patient.settimeout(10)
        assert patient.recv(1024) == b"two"


# --- what should not lie there ---------------------------------------------------------------------------------

FILES = {f"releases/{r}/{name}" for r in ("r1", "r2") for name in ("colour.yml", "served")}
WHOLE = Inventory(
    containers=(
        Container("app-blue", "web", "running", "app:r2"),
        *(Container("app-setting-prod", name, "running", "other:1") for name in ("nginx", "redis")),
        Container("app-setting-prod", "celery", "running", "app:r2"),
    ),
    images=frozenset({"app:r1", "app:r2", "nginx:1.30"}),
    networks=frozenset(inventory.NETWORKS),
    volumes=frozenset(inventory.VOLUMES),
    files=frozenset({"lock", "releases", "releases/r1", "releases/r2", "switch", "switch/blue", *FILES}),
)


def left(seen: Inventory) -> list[str]:
    return list(inventory.leftovers(seen, first=False, keep=3))


def test_a_whole_host_has_nothing_left_over() -> None:
    assert left(WHOLE) == []


def test_every_kind_of_leftover_is_named() -> None:
    green = Container("app-green", "web", "running", "app:r1")
    ended = Container("app-green", "web", "exited", "app:r1")
    cases_ = {
        "2 colours run": replace(WHOLE, containers=(*WHOLE.containers, green)),
        "container too many: app-green/web": replace(WHOLE, containers=(*WHOLE.containers, ended)),
        "container missing: app-setting-prod/celery": replace(WHOLE, containers=WHOLE.containers[:3]),
        "stale worker": replace(
            WHOLE, containers=(*WHOLE.containers[:3], replace(WHOLE.containers[3], image="app:r1"))
        ),
        "image without its release: r3": replace(WHOLE, images=WHOLE.images | {"app:r3"}),
        "release without its image: r1": replace(WHOLE, images=WHOLE.images - {"app:r1"}),
        "6 releases are kept, not 3": replace(WHOLE, files=WHOLE.files | {f"releases/r{n}" for n in range(1, 7)}),
        "network too many: lost": replace(WHOLE, networks=WHOLE.networks | {"lost"}),
        "volume too many: lost": replace(WHOLE, volumes=WHOLE.volumes | {"lost"}),
        "file too many: holder": replace(WHOLE, files=WHOLE.files | {"holder"}),
        "half a file: nginx/live.new": replace(WHOLE, files=WHOLE.files | {"nginx/live.new"}),
        "the switch is": replace(WHOLE, files=WHOLE.files | {"switch/green"}),
        "release r1 lacks colour.yml": replace(WHOLE, files=WHOLE.files - {"releases/r1/colour.yml"}),
        "process: 7 sh": replace(WHOLE, processes=("7 sh",)),
        "1 untagged images": replace(WHOLE, untagged=1),
    }
    for text, seen in cases_.items():
        assert any(text in found for found in left(seen)), text


# --- cases and matrix ------------------------------------------------------------------------------------------

HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]


@pytest.mark.parametrize("count", [1, 2, 7, 58, 93])
def test_every_event_comes_once_and_any_beginning_is_spread(count: int) -> None:
    numbers = cases.spread(count)
    assert sorted(numbers) == list(range(1, count + 1))
    some = sorted(numbers[: max(count // 4, 1)])
    gaps = [later - earlier for earlier, later in zip([0, *some], [*some, count], strict=True)]
    assert max(gaps) <= max(8, count // 3)


def test_the_cases_of_all_groups_take_turns() -> None:
    every = cases.every(HOSTS, {"deploy": 9, "rollback": 5})
    groups = list(dict.fromkeys(case.group for case in every))
    first = [case.group for case in every[: len(groups)]]
    assert len(set(first)) >= len(groups) - len(cases.CUTS)
    assert {"SIGKILL in a deploy", "host rebooted", "5 operators at once", "Ctrl-C twice in a deploy"} <= set(groups)


@dataclass
class Operator:
    """One that ends with a code, after some seconds."""

    code: int
    seconds: float = 0
    said: str = ""
    overran: bool = False
    events: list[dict[str, str]] = field(default_factory=list)

    def watch_until(self, _: object) -> dict[str, str]:
        return {"kind": "step"}

    def send(self, _: object) -> None:
        pass

    def finish(self) -> int:
        time.sleep(self.seconds)
        return self.code


@dataclass
class Bed:
    """A bed of hosts that serve at once; `shown` is what their users see when they are asked."""

    one: Operator
    shown: Iterator[list[str]]

    targets = targets(2, kind_named("trixie"))

    def operator(self, *_: str, **__: object) -> Operator:
        return self.one

    def pages(self) -> list[str]:
        return next(self.shown)

    def await_back(self, _: str) -> float:
        return time.monotonic()


def played(case: cases.Case, bed: Bed) -> cases.Story:
    story = cases.Story()
    case.play(cast("Any", bed), story)
    return story


def test_a_host_that_serves_again_is_away_no_more_though_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cases.HARMS, "nothing", lambda _: None)
    story = played(cases.harmed("nothing", cases.after(1)), Bed(Operator(1, seconds=0.3), itertools.repeat(["v1"])))
    ((_, since, until),) = story.away
    assert until - since < 0.2
    assert story.broken == []


def test_undone_after_two_ctrl_c_is_looked_at_too() -> None:
    pages = iter((["v1"], ["v2"]))
    (broken,) = played(cases.interrupted_twice(cases.after(1)), Bed(Operator(cases.FAILED), pages)).broken
    assert "exit code 1, and users see ['v2'], not ['v1']" in broken


def test_an_operator_that_ended_before_its_moment_was_missed(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        """from invoke import task\n\n@task\ndef deploy(c, json=False):\n    print('{"kind": "ended"}')\n"""
    )
    for number, missed in ((1, False), (2, True)):
        one = operator.Operator(Project(tmp_path, ()), "deploy")
        one.watch_until(cases.after(number).reached)
        assert (one.finish(), one.missed) == (0, missed)


GOOD = Result("g", "m", "at", (0,), 100, 0, 3, healed=True, waited=0, seconds=9, broken=())


@pytest.mark.parametrize(
    "bad", [replace(GOOD, lost=1), replace(GOOD, healed=False), replace(GOOD, broken=("half a file",))]
)
def test_one_bad_case_fails_the_matrix(bad: Result) -> None:
    assert not Matrix([GOOD]).failed
    assert Matrix([GOOD, bad]).failed
    assert "FAILED" in str(Matrix([GOOD, bad]))


def test_a_run_that_had_ended_before_it_was_struck_was_no_fault() -> None:
    text = str(Matrix([GOOD, replace(GOOD, moment="event 101", struck=False)], totals={"g": 2}))
    assert next(line.split()[1:3] for line in text.splitlines() if line.startswith("g ")) == ["1", "2"]
    assert "had ended before: g: events 101" in text


def test_a_matrix_of_nothing_is_no_success() -> None:
    assert Matrix([]).failed


def test_a_matrix_says_what_there_was_no_time_for() -> None:
    skipped = [("g", "event 3"), ("g", "event 4"), ("g", "event 9"), ("g", "later")]
    text = str(Matrix([GOOD], skipped))
    assert "no time for: g: later, events 3-4 9" in text


def test_what_stands_in_the_file_is_not_played_again_unless_it_failed(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    first = Record(file)
    first.count({"deploy": 93})
    first.add(replace(GOOD, product=first.product))
    first.add(replace(GOOD, product=first.product, moment="n", lost=1))
    again = Record(file)
    assert again.results == first.results
    assert again.events == {"deploy": 93}
    assert again.has("g", "m")
    assert not again.has("g", "n")
    assert not again.has("g", "o")


def test_what_was_played_on_another_product_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    Record(file).add(replace(GOOD, product="another"))
    again = Record(file)
    assert (again.results, again.old, again.events) == ([], 1, {})
    assert not again.has("g", "m")


def test_a_case_that_was_played_twice_counts_once_and_its_failure_stays() -> None:
    text = str(Matrix([replace(GOOD, lost=1), GOOD], totals={"g": 4, "h": 7}))
    row = next(line.split() for line in text.splitlines() if line.startswith("g "))
    assert row[:7] == ["g", "1", "4", "200", "1", "6", "1"]
    assert "FAILED" in text
    assert [line.split()[:3] for line in text.splitlines() if line.startswith(("h ", "all "))] == [
        ["h", "0", "7"],
        ["all", "1", "11"],
    ]
