from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import struct
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from testbed.load import (
    EVERYDAY,
    GET,
    GET_FRESH,
    POST,
    POST_FRESH,
    SLEEP,
    STREAM,
    UPLOAD,
    Client,
    Kind,
    Load,
    Report,
    Request,
    main,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    Handler = Callable[["Visit"], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nX-Release: v1\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nX-Release: v1\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def _clients_may_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """One client may send every 20 ms, so that a tenth of a second shows something."""
    monkeypatch.setattr("testbed.load.CLIENT_RATE", 50)


# A server that does as it is told


@dataclass
class Visit:
    """One request as the server met it, and the means to answer it, or not."""

    head: str
    body: bytes
    connection: int  # the how-manieth of this server
    writer: asyncio.StreamWriter

    @property
    def path(self) -> str:
        return self.head.split(" ")[1].partition("?")[0]

    def answer(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close so that the client gets a RST, as from a server that died with unread requests."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Server:
    """What the tests may look at; `serve` runs it on a loop of its own, in a thread of its own."""

    handler: Handler
    address: str = ""
    connections: int = 0
    visits: list[Visit] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"(?m)^Content-Length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.visits.append(visit := Visit(head, body, number, writer))
                await self.handler(visit)
        except (EOFError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def run(self, ready: threading.Event, ended: asyncio.Event) -> None:
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await ended.wait()
        server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@contextmanager
def serve(handler: Handler) -> Iterator[Server]:
    server, ready = Server(handler), threading.Event()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.run(ready, ended)))
    thread.start()
    assert ready.wait(5)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


async def healthy(visit: Visit) -> None:
    if visit.path == "/stream":
        visit.answer(CHUNKED, b"b\r\ndata: one\n\n\r\n", b"16\r\nevent: end\ndata: bye\n\n\r\n", b"0\r\n\r\n")
    else:
        visit.answer(OK)


def always(answer: bytes) -> Handler:
    async def handler(visit: Visit) -> None:
        visit.answer(answer)
        visit.close()

    return handler


async def never(_: Visit) -> None:
    await asyncio.sleep(60)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def load_of(
    handler: Handler, *kinds: Kind, rate: float = 50, sent: int = 1, visits: int = 0, **options: float
) -> tuple[Report, Server]:
    """Load a server until so many requests have ended, and so many have arrived."""
    with serve(handler) as server:
        load = Load([server.address], "app.example.com", rate, kinds, **options)  # type: ignore[arg-type]
        with load:
            wait_for(lambda: len(load.record) >= sent and len(server.visits) >= visits)
        return load.report(), server


def reasons(report: Report) -> set[str | None]:
    return {request.reason for request in report.failures}


# What is sent


def test_every_request_that_the_server_met_is_in_the_report_once() -> None:
    report, server = load_of(healthy, *EVERYDAY, sent=20)
    assert report.failed == 0, report
    assert report.sent == len(server.visits)
    assert {request.kind for request in report.requests} == set(EVERYDAY)
    assert {(request.status, request.release) for request in report.requests} == {(200, "v1")}


def test_the_rate_is_that_of_all_quick_clients_of_one_address_together() -> None:
    with serve(healthy) as server, Load([server.address], "app.example.com", 100, [GET, POST_FRESH]) as load:
        time.sleep(0.3)
    report = load.report()
    assert 3 <= report.sent <= 100 * (report.until - report.began) + 2  # fewer on a busy machine, but never more


def test_a_keep_alive_client_stays_on_one_connection_and_a_fresh_one_never_does() -> None:
    kept, kept_server = load_of(healthy, POST, sent=3)
    fresh, fresh_server = load_of(healthy, POST_FRESH, sent=3)
    assert kept.sent > kept_server.connections == 1
    assert fresh.sent == fresh_server.connections > 1


def test_a_request_names_the_host_and_no_two_rows_are_alike() -> None:
    _, server = load_of(healthy, POST, POST_FRESH, sent=4)
    assert all(visit.head.startswith("POST /rows HTTP/1.1\r\nHost: app.example.com\r\n") for visit in server.visits)
    assert len({visit.body for visit in server.visits}) == len(server.visits)


@pytest.mark.parametrize("address", ["192.0.2.1", "localhost", "example.com:80", "128.0.0.1", "127.0.0.1:http", ""])
def test_an_address_outside_loopback_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="load goes nowhere else"):
        Load(["127.0.0.11", address], "app.example.com")


# What counts as an answer


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        CHUNKED + b"5\r\nhello\r\n10;note=1\r\n0123456789abcdef\r\n0\r\nTrailer: yes\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nX-Release: v1\r\n\r\n",
    ],
    ids=["content-length", "interim", "chunked", "no content"],
)
def test_each_framing_of_a_body_is_read_to_its_end_and_the_connection_used_again(answer: bytes) -> None:
    async def handler(visit: Visit) -> None:
        visit.answer(answer)

    report, server = load_of(handler, GET, sent=3)
    assert report.failed == 0, report
    assert report.sent > server.connections == 1
    assert {request.release for request in report.requests} == {"v1"}


def test_an_answer_that_ends_with_its_connection_is_whole_and_the_connection_not_used_again() -> None:
    report, server = load_of(always(b"HTTP/1.0 200 OK\r\n\r\nhello"), GET, sent=2)
    assert report.failed == 0, report
    assert report.sent == server.connections
    assert not any(request.reconnected for request in report.requests)


@pytest.mark.parametrize("kind", [GET, GET_FRESH, POST, POST_FRESH])
def test_a_reset_after_the_request_was_written_is_a_failure(kind: Kind) -> None:
    async def handler(visit: Visit) -> None:
        visit.reset()

    report, _ = load_of(handler, kind)
    assert report.failed == report.sent > 0
    assert reasons(report) == {"connection reset"}


def test_an_end_after_the_request_was_written_is_a_failure_and_says_how_far_the_answer_had_come() -> None:
    assert reasons(load_of(always(b""), GET)[0]) == {"closed before an answer"}
    assert reasons(load_of(always(OK[:-1]), GET)[0]) == {"closed within an answer"}
    assert reasons(load_of(always(CHUNKED + b"2\r\nok\r\n"), GET)[0]) == {"closed within an answer"}


def test_a_server_that_resets_a_reused_connection_on_the_next_request_loses_it() -> None:
    async def handler(visit: Visit) -> None:
        if sum(other.connection == visit.connection for other in server.visits) > 1:
            visit.reset()
        else:
            visit.answer(OK)

    with serve(handler) as server, Load([server.address], "app.example.com", 50, [GET]) as load:
        wait_for(lambda: len(load.record) >= 4)
    report = load.report()
    assert [bool(request.reason) for request in report.requests][:4] == [False, True, False, True]


@pytest.mark.parametrize("end", [Visit.close, Visit.reset])
def test_a_server_that_ends_an_idle_connection_loses_nothing(end: Callable[[Visit], None]) -> None:
    async def handler(visit: Visit) -> None:
        visit.answer(OK)
        await asyncio.sleep(0.02)
        end(visit)

    async def scenario() -> None:
        client = Client(load, server.address, GET, period=1, offset=0)
        await client.request()
        while not client.closed_by_server():  # noqa: ASYNC110 - there is no event for what a client hears by and by
            await asyncio.sleep(0.002)
        await client.request()
        client.drop()

    with serve(handler) as server:
        load = Load([server.address], "app.example.com")
        asyncio.run(asyncio.wait_for(scenario(), 10))
    assert [(request.reason, request.reconnected) for request in load.record] == [(None, False), (None, True)]


def test_a_status_that_is_not_2xx_is_a_failure_with_that_status() -> None:
    report, _ = load_of(always(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), GET)
    assert {(request.status, request.reason) for request in report.requests} == {(502, "status 502")}


def test_nonsense_is_a_failure_and_the_load_goes_on() -> None:
    report, _ = load_of(always(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), GET, sent=2)
    assert report.failed == report.sent > 1


def test_a_refused_connection_is_a_failure_and_slow_kinds_do_not_spin_on_it() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with Load([f"127.0.0.1:{closed.getsockname()[1]}"], "app.example.com", kinds=[GET, STREAM]) as load:
            time.sleep(0.1)
    assert reasons(load.report()) == {"connection refused"}
    assert sum(request.kind == STREAM for request in load.report().requests) == 1


def test_an_answer_that_does_not_come_in_time_is_a_failure() -> None:
    report, _ = load_of(never, GET, timeout=0.05)
    assert reasons(report) == {"no answer within 0.05 s"}


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        (b"data: one\n\nevent: end\ndata: bye\n\n", set()),
        (b"data: one\r\n\r\nevent:end\r\ndata:\r\n\r\n", set()),
        (b"data: one\n\ndata: two\n\n", {"the stream stopped without its end event"}),
        (b"event: end\ndata: not yet\n\ndata: two\n\n", {"the stream stopped without its end event"}),
    ],
)
def test_a_stream_has_to_end_with_its_end_event(events: bytes, fault: set[str]) -> None:
    report, _ = load_of(always(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(events), events)), STREAM)
    assert report.sent == 1
    assert reasons(report) == fault


def test_a_stream_that_is_cut_is_a_failure() -> None:
    report, _ = load_of(always(CHUNKED + b"b\r\ndata: one\n\n\r\n"), STREAM)
    assert reasons(report) == {"closed within an answer"}


def test_an_upload_is_sent_slowly_and_has_to_arrive_unchanged() -> None:
    flips = iter([b"", b"!"])

    async def handler(visit: Visit) -> None:
        digest = hashlib.sha256(visit.body + next(flips)).hexdigest().encode()
        visit.answer(b'HTTP/1.1 200 OK\r\nContent-Length: 78\r\n\r\n{"sha256": "%s"}' % digest)

    report, server = load_of(handler, replace(UPLOAD, lasts=0.1, clients=2), visits=1)
    assert [len(visit.body) for visit in server.visits] == [64 * 1024] * 2
    assert all(request.ended - request.started >= 0.1 for request in report.requests)
    assert [request.reason for request in report.requests] == [None, "the upload arrived changed"]


# How a load ends


def test_on_leaving_no_request_is_started_and_those_under_way_may_end() -> None:
    async def handler(visit: Visit) -> None:
        await asyncio.sleep(0.1)
        visit.answer(OK)

    report, server = load_of(handler, replace(SLEEP, clients=1), GET, rate=1, sent=0, visits=2)
    assert report.failed == 0, report
    assert report.sent == len(server.visits) == 2
    assert report.until < max(request.ended for request in report.requests)


def test_what_does_not_end_within_the_grace_is_cut_and_is_a_failure() -> None:
    report, _ = load_of(never, GET, replace(SLEEP, clients=1), rate=1, sent=0, visits=2, grace=0.05)
    assert report.sent == 2
    assert reasons(report) == {"still under way when the load gave up waiting"}


@pytest.mark.parametrize(
    ("limit", "words"), [({"limit_requests": 3}, "3 REQUESTS"), ({"limit_seconds": 0.05}, "0.05 SECONDS")]
)
def test_a_load_that_reached_a_limit_stops_and_says_so(limit: dict[str, float], words: str) -> None:
    with serve(healthy) as server:
        load = Load([server.address], "app.example.com", 50, [GET], **limit)  # type: ignore[arg-type]
        with load:
            wait_for(lambda: load.report().cut_short is not None)
            time.sleep(0.05)
    report = load.report()
    assert all(request.started <= report.until for request in report.requests)
    assert report.sent == len(server.visits)
    assert report.sent == 3 or "limit_seconds" in limit
    assert f"THE LOAD STOPPED BY ITSELF, AT ITS LIMIT OF {words}" in str(report)


def test_a_load_that_broke_by_a_fault_of_its_own_never_reports_success() -> None:
    with serve(healthy) as server, pytest.raises(KeyError):  # noqa: SIM117 - the load's exit is what raises
        with Load([server.address], "app.example.com", kinds=[Kind("odd", "/", content="unknown/type")]) as load:
            wait_for(load._done.done)
    with pytest.raises(KeyError):
        load.report()


# What the report makes of it


def report_of(*requests: Request, marks: dict[str, float] | None = None, since: float = 0, until: float = 99) -> Report:
    return Report(("a", "b"), requests, marks or {}, began=0, since=since, until=until)


def answers(releases: str, *, kind: Kind = GET_FRESH, at: float = 0, address: str = "a") -> Sequence[Request]:
    """One answer a second, each taking half a second: "112" is v1 at 0.5, v1 at 1.5, v2 at 2.5."""
    return [
        Request(address, kind, at + second, at + second + 0.5, 0.0, 200, f"v{release}")
        for second, release in enumerate(releases)
    ]


@pytest.mark.parametrize(
    ("releases", "stale"), [("1111", 0), ("1122", 0), ("11212", 1), ("1121212", 2), ("112233", 0), ("1212323", 2)]
)
def test_an_older_release_on_a_fresh_connection_after_the_newer_ones_first_answer_is_stale(
    releases: str, stale: int
) -> None:
    assert report_of(*answers(releases)).stale("a") == stale
    assert report_of(*answers(releases)).stale("b") == 0


def test_an_answer_that_had_started_before_the_newer_release_was_seen_is_not_stale() -> None:
    slow = Request("a", SLEEP, 2.4, 9.0, 0.0, 200, "v1")
    late = Request("a", SLEEP, 2.6, 9.0, 0.0, 200, "v1")
    assert report_of(*answers("112222"), slow).stale("a") == 0  # the first v2 ends at 2.5
    assert report_of(*answers("112222"), late).stale("a") == 1


def test_only_fresh_connections_are_stale_but_any_shows_that_the_newer_release_is_there() -> None:
    assert report_of(*answers("1212", kind=GET)).stale("a") == 0
    assert report_of(*answers("1111"), *answers("2", kind=POST, at=0.4)).stale("a") == 3


@pytest.mark.parametrize(("releases", "stale"), [("112211", 0), ("121221", 1), ("112212", 1), ("121212", 2)])
def test_going_back_after_a_mark_is_a_change_and_not_staleness(releases: str, stale: int) -> None:
    assert report_of(*answers(releases), marks={"deploy": 0.2, "rollback": 3.9}).stale("a") == stale


def test_going_back_is_seen_even_when_no_request_came_between_the_mark_and_the_change() -> None:
    assert report_of(*answers("1122112"), marks={"deploy": 0.2, "rollback": 4.0}).stale("a") == 1


def test_an_old_answer_that_ends_after_the_mark_of_going_back_does_not_begin_the_way_back() -> None:
    slow = Request("a", SLEEP, 2.0, 4.8, 0.0, 200, "v1")
    report = report_of(*answers("112222111"), slow, marks={"deploy": 0.2, "rollback": 4.2})
    assert report.stale("a") == 0  # were v1 back at 4.8, the v2 of 5.0 would be


def test_an_answer_that_names_no_release_is_neither_older_nor_newer() -> None:
    nameless = Request("a", GET_FRESH, 0.6, 0.8, 0.0, 200)
    assert report_of(*answers("111"), nameless).stale("a") == 0
    assert report_of(*answers("111"), nameless).releases("a") == [("v1", 0.5, 2.5, 3)]


def test_stale_answers_are_counted_in_the_part_in_which_they_ended() -> None:
    record = answers("121221221")
    assert report_of(*record, since=4.0).stale("a") == 2
    assert report_of(*record, since=6.0).stale("a") == 1


def test_the_longest_gap_is_that_between_good_quick_answers_or_to_an_edge() -> None:
    lost = Request("a", GET, 6.0, 6.2, 0.0, reason="connection reset")
    slow = Request("a", STREAM, 5.0, 7.0, 0.0, 200, "v1")
    record = (*answers("111"), lost, slow, *answers("11", at=9))
    assert report_of(*record, until=10.5).longest_gap("a") == 7.0
    assert report_of(*record, until=30.5).longest_gap("a") == 20.0
    assert report_of(*record, since=8.0, until=10.5).longest_gap("a") == 1.5
    assert report_of(*record, until=30.5).longest_gap("b") == 30.5


def test_the_releases_of_an_address_come_with_their_first_and_last_answer() -> None:
    assert report_of(*answers("11232")).releases("a") == [("v1", 0.5, 1.5, 2), ("v2", 2.5, 4.5, 2), ("v3", 3.5, 3.5, 1)]


def test_the_first_answer_of_a_release_is_counted_from_a_mark() -> None:
    slow = Request("a", SLEEP, 1.0, 4.0, 0.0, 200, "v1")  # sent before the mark: it shows nothing
    report = report_of(*answers("112211"), *answers("1112", address="b"), slow, marks={"rollback": 3.0})
    assert report.first_answer("v2") == 2.5
    assert report.first_answer("v2", address="b") == 3.5
    assert report.first_answer("v1", after="rollback") == 1.5
    with pytest.raises(LookupError, match=r"no answer of v9, only of \['v1', 'v2'\]"):
        report.first_answer("v9", after="rollback")


def test_percentiles_are_those_of_good_answers_of_quick_kinds() -> None:
    quick = [Request("a", GET, 0.0, number / 100, 0.0, 200, "v1") for number in range(1, 101)]
    others = [Request("a", SLEEP, 0.0, 3.0, 0.0, 200, "v1"), Request("a", GET, 0.0, 20.0, 0.0, reason="no answer")]
    report = report_of(*quick, *others)
    assert [report.latency(percent) for percent in (50, 99, 100)] == [0.5, 0.99, 1.0]
    assert report.latency(100, SLEEP) == 3.0


def test_a_report_since_a_mark_holds_what_ended_after_it() -> None:
    with serve(healthy) as server, Load([server.address], "app.example.com", kinds=[GET]) as load:
        wait_for(lambda: len(load.record) >= 2)
        at = load.mark("deploy")
        wait_for(lambda: len(load.record) >= 4)
    whole, after = load.report(), load.report(since="deploy")
    before = [request for request in whole.requests if request.ended - whole.began < at]
    assert len(before) >= 2
    assert len(before) + after.sent == whole.sent
    assert min(request.ended for request in after.requests) - after.began >= at > 0
    with pytest.raises(ValueError, match="there is a mark 'deploy' already"):
        load.mark("deploy")


def test_a_request_belongs_to_the_part_in_which_it_was_lost_not_to_that_in_which_it_was_sent() -> None:
    cut = Request("a", STREAM, 1.0, 9.0, 0.0, reason="closed within an answer")
    assert report_of(cut, since=8.0).failures == [cut]


def test_a_report_counts_reconnects_and_does_not_call_them_failures() -> None:
    again = Request("a", GET, 1.0, 1.1, 0.0, 200, "v1", reconnected=True)
    assert str(report_of(*answers("1"), again)).startswith("99.0 s: 2 sent, 0 failed, 1 reconnects")


def test_a_report_shows_ten_failures_and_counts_the_rest() -> None:
    lost = [Request("a", POST, second, second + 0.1, 0.0, reason="connection reset") for second in range(12)]
    report = report_of(*answers("1122", at=20), *lost)
    assert report.failed == 12
    assert report.examples[0] == "    0.00 s  post        a  connection reset"
    assert len(report.examples) == 10
    assert "12 failed: connection reset" in str(report)
    assert "2 of v1 (20.50 to 21.50 s), 2 of v2 (22.50 to 23.50 s)" in str(report)


def test_the_command_line_prints_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(healthy) as server:
        monkeypatch.setattr(sys, "argv", ["load", server.address, "--seconds", "0.1", "--host", "app.example.com"])
        assert main() == 0
    assert re.search(rf"(?m)^{server.address} +\d+ +0 +\d\.\d\d +0  \d+ of v1", capsys.readouterr().out)


def test_a_load_that_stopped_by_itself_is_no_success_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(healthy) as server:
        monkeypatch.setattr(sys, "argv", ["load", server.address, "--seconds", "0.5"])
        monkeypatch.setattr("testbed.load.Load", partial(Load, limit_requests=1))
        assert main() == 1
