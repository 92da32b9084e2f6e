"""Users, in the small: paced requests to a few addresses, and every one of them written down.

    with Load(["127.0.0.11", "127.0.0.12"], host_header="app.example.com", rate=40) as load:
        load.mark("deploy")
        ...
    report = load.report(since="deploy")
    assert report.failed == 0, report

A background thread runs one asyncio loop, in which each client is a coroutine that sends one request at a time: the CPU
belongs to what is tested. Times are seconds of `time.monotonic()` unless a name says otherwise.

What counts as lost is what a user would have noticed. A server may close a kept-alive connection while it is idle: as
a browser does, the client opens another, and that is a reconnect. But once a request is written, a reset, an end of the
connection, a time-out or a status that is not 2xx is a failure, and nothing is ever tried twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import ipaddress
import itertools
import math
import os
import sys
import time
from bisect import bisect_right
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
CLIENT_RATE = 10.0  # requests per second of one quick client: answers of up to 0.1 s do not slow it down
SLOW_PERIOD = 1.0  # seconds between two starts of a slow client at least, or refused connections would make it spin
PAYLOAD, PIECE = os.urandom(64 * 1024), 2048  # what is uploaded, and how many bytes of it at once
DIGEST = hashlib.sha256(PAYLOAD).hexdigest().encode()


@dataclass(frozen=True)
class Kind:
    """One way to use the app. `lasts`: the seconds that it takes by nature; `clients`: of a slow kind, per address."""

    name: str
    path: str
    content: str = ""  # the media type of what is posted; none: it is a GET
    fresh: bool = False  # a connection for each request, or one kept alive
    lasts: float = 0.0
    clients: int = 1

    @property
    def quick(self) -> bool:
        """Quick kinds are paced by the load's rate; a slow one starts again when it has ended."""
        return not self.lasts

    def body(self) -> bytes:
        """What is posted. No two rows are alike: one that was lost, or written twice, can be found."""
        return {"": b"", FORM: b"text=load-%d" % time.time_ns(), BYTES: PAYLOAD}[self.content]


FORM, BYTES = "application/x-www-form-urlencoded", "application/octet-stream"
GET = Kind("get", "/")
GET_FRESH = Kind("get-fresh", "/", fresh=True)
POST = Kind("post", "/rows", content=FORM)
POST_FRESH = Kind("post-fresh", "/rows", content=FORM, fresh=True)
SLEEP = Kind("sleep", "/sleep?seconds=3", fresh=True, lasts=3, clients=2)
STREAM = Kind("stream", "/stream?seconds=15", fresh=True, lasts=15)
EVERYDAY = (GET, GET_FRESH, POST, POST_FRESH, SLEEP, STREAM)
UPLOAD = Kind("upload", "/upload", content=BYTES, fresh=True, lasts=6)


class Request(NamedTuple):
    """One request that has ended, well or not."""

    address: str
    kind: Kind
    started: float
    ended: float
    wall: float  # time.time() when it started, to find it in a server's log
    status: int | None = None
    release: str | None = None
    reason: str | None = None  # why it failed; None: it was answered as it should be
    reconnected: bool = False  # the server had closed the kept-alive connection while it was idle


class Seen(NamedTuple):
    """When and how often one address answered with one release; seconds since the load began."""

    release: str
    first: float
    last: float
    answers: int


@dataclass(frozen=True)
class Report:
    """What happened from `since` to `until`. A request belongs to the part in which it ended."""

    addresses: tuple[str, ...]
    record: Sequence[Request] = field(repr=False)  # all of it: what is stale depends on what came before `since`
    marks: Mapping[str, float]
    began: float
    since: float
    until: float
    cut_short: str | None = None  # the limit at which the load stopped by itself, before its user meant it to

    @cached_property
    def requests(self) -> list[Request]:
        return [request for request in self.record if request.ended >= self.since]

    @cached_property
    def failures(self) -> list[Request]:
        return [request for request in self.requests if request.reason]

    @property
    def sent(self) -> int:
        return len(self.requests)

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def examples(self) -> list[str]:
        """Up to ten failures: seconds since the load began, kind, address, reason."""
        some = self.failures[:10]
        return [f"{r.started - self.began:8.2f} s  {r.kind.name:<10}  {r.address}  {r.reason}" for r in some]

    def longest_gap(self, address: str) -> float:
        """Seconds without a good answer to a quick request. The edges count: an address that fell silent shows."""
        ended = (request.ended for request in _answers(self.requests, address) if request.kind.quick)
        instants = sorted([self.since, self.until, *ended])
        return max(later - earlier for earlier, later in itertools.pairwise(instants))

    def latency(self, percent: float, kind: Kind | None = None) -> float:
        """Seconds in which `percent` of the good answers to quick requests, or to one kind, came; 100: the slowest."""
        some = (r for r in _answers(self.requests) if (r.kind == kind if kind else r.kind.quick))
        took = sorted(request.ended - request.started for request in some)
        return took[max(math.ceil(len(took) * percent / 100), 1) - 1] if took else math.nan

    def releases(self, address: str) -> list[Seen]:
        """The releases that answered there, in order of their first answer."""
        ended: dict[str, list[float]] = {}
        for request in sorted(_answers(self.requests, address), key=lambda request: request.ended):
            if request.release is not None:
                ended.setdefault(request.release, []).append(request.ended - self.began)
        return [Seen(release, at[0], at[-1], len(at)) for release, at in ended.items()]

    def first_answer(self, release: str, *, after: str | None = None, address: str | None = None) -> float:
        """Seconds from a mark (or the beginning) to the first answer of that release to a request sent since then."""
        origin = self.began if after is None else self.marks[after]
        later = [request for request in _answers(self.record, address) if request.started >= origin]
        ended = [request.ended for request in later if request.release == release]
        if not ended:
            raise LookupError(f"no answer of {release}, only of {sorted({str(request.release) for request in later})}")
        return min(ended) - origin

    def stale(self, address: str) -> int:
        """Answers of an older release on fresh connections, started after a newer one had ended its first answer there.

        Which of two releases is newer? Marks cut the record into epochs, and a request belongs to the epoch in which it
        started. An epoch begins with the release that the one before it ended with; the others are newer, in the order
        of their first answers. So in v1 -> v2 any v1 that starts after the first v2 is stale, and in v1 -> v2 -> v1 a
        late v2 is, if a mark stands between the two changes, set when the first is over. Without a mark going back
        looks like staleness: mark each change, and do not ask this of a change that was undone half-way.
        """
        cuts = sorted(self.marks.values())
        epochs: list[list[Request]] = [[] for _ in range(len(cuts) + 1)]
        for request in sorted(_answers(self.record, address), key=lambda request: request.ended):
            if request.release is not None:
                epochs[bisect_right(cuts, request.started)].append(request)
        stale: list[Request] = []
        first: dict[str | None, float] = {}  # release -> the end of its first answer in this epoch
        for epoch in epochs:
            for request in epoch:
                first.setdefault(request.release, request.ended)
            stale += [
                request
                for request in epoch
                if request.kind.fresh and any(first[request.release] < at < request.started for at in first.values())
            ]
            first = dict.fromkeys([*first][-1:], -math.inf)  # the newest, with which the next epoch begins
        return sum(request.ended >= self.since for request in stale)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        reconnects = sum(request.reconnected for request in self.requests)
        yield f"{self.until - self.since:.1f} s: {self.sent:,} sent, {self.failed:,} failed, {reconnects:,} reconnects"
        if self.cut_short:
            yield f"THE LOAD STOPPED BY ITSELF, AT {self.cut_short}"
        yield from (f"{label}: at {at - self.began:.2f} s" for label, at in self.marks.items())
        yield f"\n{'kind':<12}{'sent':>8}{'failed':>8}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}"
        for kind in [*dict.fromkeys(request.kind for request in self.requests), None]:
            ms = "".join(f"{self.latency(percent, kind) * 1000:9.1f}" for percent in (50, 99, 100))
            some = [request for request in self.requests if kind in (request.kind, None)]
            yield f"{kind.name if kind else 'all':<12}{_counts(some)}{ms if kind is None or kind.quick else ''}"
        wide = max(map(len, self.addresses)) + 2
        yield f"\n{'address':<{wide}}{'sent':>8}{'failed':>8}{'gap s':>8}{'stale':>7}  answers of releases"
        for address in self.addresses:
            counts = _counts([request for request in self.requests if request.address == address])
            seen = ", ".join(f"{n:,} of {name} ({t0:.2f} to {t1:.2f} s)" for name, t0, t1, n in self.releases(address))
            yield f"{address:<{wide}}{counts}{self.longest_gap(address):8.2f}{self.stale(address):7}  {seen}"
        for reason, count in Counter(request.reason for request in self.failures).most_common(5):
            yield f"{count:,} failed: {reason}"
        yield from self.examples


def _answers(requests: Iterable[Request], address: str | None = None) -> Iterator[Request]:
    return (request for request in requests if not request.reason and address in (None, request.address))


def _counts(requests: Sequence[Request]) -> str:
    return f"{len(requests):8,}{sum(bool(request.reason) for request in requests):8,}"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    reusable: bool  # the connection may carry another request


async def receive(reader: asyncio.StreamReader) -> Answer:
    """Read one answer of HTTP/1.1 to its end; EOFError when the connection ends before."""
    status = 100
    while status // 100 == 1:  # interim answers come before the real one
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            raise EOFError("closed before an answer") from None
        start, *lines = head.decode("latin-1").split("\r\n")
        version, code, *_ = start.split(" ", 2)
        status = int(code)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    framed = True
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = await _chunks(reader)
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        framed = status in (204, 304)
        body = b"" if framed else await reader.read()
    keeps = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return Answer(status, headers, body, reusable=framed and keeps)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    chunks = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        chunks.append((await reader.readexactly(size + 2))[:-2])
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # a trailer
    return b"".join(chunks)


@dataclass
class Client:
    """One user of one address, doing one kind of thing again and again, once in `period` seconds at most."""

    load: Load
    address: str
    kind: Kind
    period: float
    offset: float  # seconds to wait at first, so that the clients do not move in step
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        due = time.monotonic() + self.offset
        try:
            while await self.load.may_start(due):
                await self.request()
                due = max(due + self.period, time.monotonic())  # who is late does not catch up in a burst
        finally:
            self.drop()

    async def request(self) -> None:
        """Send one request, and write down how it ended."""
        begun = Request(self.address, self.kind, time.monotonic(), math.nan, time.time())
        if reconnects := self.closed_by_server():
            self.drop()
        answer = None
        reason: str | None = "still under way when the load gave up waiting"
        limit = self.load.timeout + self.kind.lasts
        try:
            answer = await asyncio.wait_for(self.exchange(), limit)
            reason = _fault(self.kind, answer)
        except (OSError, EOFError, ValueError, asyncio.TimeoutError, asyncio.LimitOverrunError) as error:
            reason = _reason(error, limit)
        finally:
            ended = begun._replace(ended=time.monotonic(), reason=reason, reconnected=reconnects)
            if answer:
                ended = ended._replace(status=answer.status, release=answer.headers.get("x-release"))
            self.load.record.append(ended)
        if self.kind.fresh or not (answer and answer.reusable):
            self.drop()

    async def exchange(self) -> Answer:
        if self.connection is None:
            self.connection = await asyncio.open_connection(*_endpoint(self.address))
        reader, writer = self.connection
        body = self.kind.body()
        head = f"{'POST' if body else 'GET'} {self.kind.path} HTTP/1.1\r\nHost: {self.load.host_header}\r\n"
        if body:
            head += f"Content-Type: {self.kind.content}\r\nContent-Length: {len(body)}\r\n"
        head += f"Connection: {'close' if self.kind.fresh else 'keep-alive'}\r\n\r\n"
        if self.kind.quick:
            writer.write(head.encode() + body)
        else:
            writer.write(head.encode())
            for offset in range(0, len(body), PIECE):
                await asyncio.sleep(self.kind.lasts * PIECE / len(body))
                writer.write(body[offset : offset + PIECE])
                await writer.drain()
        return await receive(reader)

    def closed_by_server(self) -> bool:
        """Whether the server ended the connection while it was idle, as far as has been heard."""
        return self.connection is not None and (self.connection[0].at_eof() or bool(self.connection[0].exception()))

    def drop(self) -> None:
        if self.connection:
            self.connection[1].transport.abort()  # nothing is left to send, or nothing worth it
            self.connection = None


def _fault(kind: Kind, answer: Answer) -> str | None:
    """What is wrong with an answer that came whole, if anything is."""
    if answer.status // 100 != 2:  # noqa: PLR2004 - any 2xx will do
        return f"status {answer.status}"
    last_event = answer.body.replace(b"\r", b"").rstrip(b"\n").rpartition(b"\n\n")[2]
    if kind.path == STREAM.path and b"event:end" not in last_event.replace(b" ", b"").split(b"\n"):
        return "the stream stopped without its end event"
    if kind.content == BYTES and DIGEST not in answer.body:
        return "the upload arrived changed"
    return None


def _reason(error: Exception, limit: float) -> str:
    """The failure as a user would put it; `limit`: the seconds that were allowed."""
    if isinstance(error, asyncio.TimeoutError):
        return f"no answer within {limit:g} s"
    if isinstance(error, asyncio.IncompleteReadError):
        return "closed within an answer"
    if isinstance(error, ConnectionError):
        return "connection refused" if isinstance(error, ConnectionRefusedError) else "connection reset"
    return str(error) if type(error) is EOFError else f"{type(error).__name__}: {error}"


def _endpoint(address: str) -> tuple[str, int]:
    """Host and port of "127.0.0.11" or "127.0.0.11:8000"; all that is not loopback is refused."""
    host, _, port = address.partition(":")
    with contextlib.suppress(ValueError):
        if ipaddress.IPv4Address(host) in LOOPBACK:
            return host, int(port or 80)
    raise ValueError(f"{address!r} is not an address in {LOOPBACK}, and load goes nowhere else")


@final
@dataclass
class Load:
    """Requests flow while the context is open; on leaving, those under way may end, for `grace` seconds at most."""

    addresses: Sequence[str]
    host_header: str
    rate: float = 40  # quick requests per second and address
    kinds: Sequence[Kind] = EVERYDAY
    timeout: float = 20  # seconds for a request, on top of those that its kind takes by nature
    grace: float = 30
    limit_seconds: float = 900
    limit_requests: int = 200_000
    record: list[Request] = field(init=False, repr=False, default_factory=list)
    _marks: dict[str, float] = field(init=False, default_factory=dict)
    _started: int = field(init=False, default=0)
    _stopped: float | None = field(init=False, default=None)
    _cut_short: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        for address in self.addresses:
            _endpoint(address)

    def __enter__(self) -> Load:
        self._loop = asyncio.new_event_loop()
        self._stopping: asyncio.Future[None] = self._loop.create_future()
        self._thread = ThreadPoolExecutor(1, "load")
        self._began = time.monotonic()
        self._done: Future[None] = self._thread.submit(self._loop.run_until_complete, self._run())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.shutdown()
        self._loop.close()
        self._done.result()

    def mark(self, label: str) -> float:
        """Name this instant; returns it as seconds since the load began."""
        if label in self._marks:
            raise ValueError(f"there is a mark {label!r} already")
        self._marks[label] = time.monotonic()
        return self._marks[label] - self._began

    def report(self, *, since: str | None = None) -> Report:
        """What has ended so far, from the beginning or from a mark on. Also good while the load runs."""
        if self._done.done():
            self._done.result()  # raises if the load broke: it must not report that nothing failed
        since_instant = self._began if since is None else self._marks[since]
        until = self._stopped or time.monotonic()
        record, marks = tuple(self.record), dict(self._marks)
        return Report(tuple(self.addresses), record, marks, self._began, since_instant, until, self._cut_short)

    async def may_start(self, due: float) -> bool:
        """Wait for that instant, and count a request; False as soon as the load is to stop."""
        await asyncio.wait([self._stopping], timeout=max(due - time.monotonic(), 0))
        if self._started >= self.limit_requests:
            self._stop(f"ITS LIMIT OF {self.limit_requests:,} REQUESTS")
        self._started += not self._stopping.done()
        return not self._stopping.done()

    async def _run(self) -> None:
        tasks = [self._loop.create_task(client.run()) for client in self._clients()]
        self._loop.call_later(self.limit_seconds, self._stop, f"ITS LIMIT OF {self.limit_seconds:g} SECONDS")
        await asyncio.wait([self._stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        self._stop()  # a client that ended before was broken by a fault of ours: stop, and raise it below
        _, late = await asyncio.wait(tasks, timeout=self.grace)
        for task in late:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def _stop(self, cut_short: str | None = None) -> None:
        if not self._stopping.done():
            self._stopping.set_result(None)
            self._stopped, self._cut_short = time.monotonic(), cut_short

    def _clients(self) -> Iterator[Client]:
        quick = [kind for kind in self.kinds if kind.quick]
        each = max(math.ceil(self.rate / len(quick) / CLIENT_RATE), 1) if quick else 0
        paced = list(itertools.product(range(each), quick, self.addresses))
        for index, (_, kind, address) in enumerate(paced):
            period = each * len(quick) / self.rate
            yield Client(self, address, kind, period, offset=period * index / len(paced))
        for address, kind in itertools.product(self.addresses, self.kinds):
            for index in range(0 if kind.quick else kind.clients):
                yield Client(self, address, kind, SLOW_PERIOD, offset=kind.lasts * index / kind.clients)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testbed.load", description="Put load on hosts here, and report.")
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS", help="127.x.y.z, or 127.x.y.z:port")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--host", default="app.example.com", help="the Host header (%(default)s)")
    parser.add_argument("--rate", type=float, default=40, help="quick requests per second and address (%(default)s)")
    parser.add_argument("--upload", action="store_true", help="with slow uploads, too")
    options = parser.parse_args()
    kinds = (*EVERYDAY, UPLOAD) if options.upload else EVERYDAY
    load = Load(options.addresses, options.host, options.rate, kinds)
    with load, contextlib.suppress(KeyboardInterrupt):
        time.sleep(options.seconds)
    print(report := load.report())
    return 1 if report.failed or report.cut_short else 0


if __name__ == "__main__":
    sys.exit(main())
