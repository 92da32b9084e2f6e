"""The way of an image from where it was built to the others: one read for many, nothing put aside.

The bytes pass through this machine and never lie here. Whoever needs a block that nobody has read yet reads it,
for all: the slowest host sets the pace of those that share a read, and one that comes late, or again, gets its own.
"""

from __future__ import annotations

import collections
import io
import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from deploy.errors import Interrupted, LinkLost
from deploy.recipe import facts, image
from deploy.recipe.shell import Script
from deploy.recipe.steps import Cargo, Docket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from typing_extensions import Buffer

    from deploy.apply import Machine, Source
    from deploy.recipe.image import Image
    from deploy.recipe.model import App, Host
    from deploy.recipe.shell import Answer

BLOCK = 1 << 16
AHEAD = 128
"""Blocks that the fastest host may be ahead of the slowest: 8 MiB of this machine's memory."""

LOOK = 0.2
"""Seconds between two looks at whether somebody wants to break off."""


@dataclass(frozen=True)
class Ways:
    """What a read needs of the run: `mend` brings back a machine whose link was lost, `stop` says to break off."""

    mend: Callable[[Machine], None]
    stop: Callable[[], bool]


class Freight:
    """What hosts told of their images, and the reads that are under way.

    `login` is docker's config.json for a registry; with none the hosts' own counts.
    """

    def __init__(self, app: App, machines: Iterable[Machine], login: bytes = b"") -> None:
        self._app = app
        self._machines = {machine.host: machine for machine in machines}
        self._login = login
        self._pushed: dict[Host, str] = {}
        self._built: dict[Host, Image] = {}
        self._there: dict[Host, list[tuple[str, ...]]] = {}
        self._refused: dict[Host, str] = {}
        self._streams: dict[tuple[Host, tuple[int, ...]], Stream] = {}
        self._untold: list[tuple[Cargo, int, Stream]] = []
        self._lock = threading.Lock()
        self._mending = threading.Lock()

    def learn(self, answers: Mapping[Host, Iterable[Answer]]) -> None:
        """Remember what hosts said of their images while a phase was done."""
        for host, said in answers.items():
            for answer in said:
                match answer.key:
                    case "built":
                        self._built[host] = image.read_built(answer)
                    case "layers":
                        self._there.setdefault(host, []).append(image.read_layers(answer))
                    case "pushed":
                        self._pushed[host] = answer.values[0]
                    case "refused":
                        self._refused[host] = answer.values[0]

    def refusals(self) -> dict[Host, str]:
        """Return which hosts did not take what they were sent, and why; they will be sent everything."""
        refused, self._refused = self._refused, {}
        for host in refused:
            self._there.pop(host, None)
        return refused

    def others(self, parcels: Iterable[Cargo | Docket]) -> dict[Host, str]:
        """Return which hosts have something else than what was built, and what is to be said of it.

        To send it once more would be in vain: a host loads nothing where it has an image of that name.
        """
        return {
            each.to: f"{'pull' if isinstance(each, Docket) else 'take'} the image: "
            f"what came is another image than the one on {each.source}"
            for each in parcels
            if not image.same(self._built[each.to], self._built[each.source])
        }

    def open(self, parcel: Cargo | Docket, ways: Ways) -> IO[bytes]:
        """Return what a word of the host library reads of an image, or of its way through a registry."""
        if isinstance(parcel, Cargo):
            return self._read(parcel, ways)
        digest = self._pushed[parcel.source] if parcel.to != parcel.source else ""
        return io.BytesIO(digest.encode() + b"\n" + self._login)

    def _read(self, cargo: Cargo, ways: Ways) -> IO[bytes]:
        """Return what a host lacks of an image; nothing is read before it is asked for.

        Its reads raise:
            LinkLost: the link to the host that built it went away.
            StepFailed: that host cannot read its image.
            Interrupted: somebody wants to break off.

        """
        without = image.present(self._built[cargo.source], self._there.get(cargo.to, ()))
        key = (cargo.source, without)
        with self._lock:
            stream = self._streams.get(key)
            if stream is None or not stream.begins:
                stream = self._streams[key] = Stream(lambda: self._fetch(cargo, without, ways), ways.stop)
                self._untold.append((cargo, len(without), stream))
            return stream.reader()

    def told(self) -> list[str]:
        """Say what was read since this was asked last."""
        untold, self._untold = self._untold, []
        return [
            f"{cargo.source} sent {_amount(stream.size)}: the image without {without} of its "
            f"{len(self._built[cargo.source].layers)} layers"
            for cargo, without, stream in untold
        ]

    def _fetch(self, cargo: Cargo, without: tuple[int, ...], ways: Ways) -> Source:
        machine = self._machines[cargo.source]
        script = Script(
            (image.send(without),),
            facts.variables(self._app, release_id=cargo.release),
            deadline=self._app.build_timeout,
            sends=True,
        )
        with self._mending:
            try:
                return machine.fetch(script, stop=ways.stop)
            except LinkLost:
                ways.mend(machine)
                return machine.fetch(script, stop=ways.stop)


class Stream:
    """One read, and those who share it."""

    def __init__(self, fetch: Callable[[], Source], stop: Callable[[], bool]) -> None:
        self._fetch = fetch
        self._stop = stop
        self._source: Source | None = None
        self._blocks: collections.deque[bytes] = collections.deque()
        self._gone = 0
        self.size = 0
        self._taken: dict[_Reader, int] = {}
        self._reading = False
        self._over = False
        self._left = False
        self._error: Exception | None = None
        self._turn = threading.Condition()

    @property
    def begins(self) -> bool:
        """Whether who comes now still gets all of it: what everybody has is forgotten only to make room."""
        with self._turn:
            return not (self._gone or self._error or self._left)

    def reader(self) -> IO[bytes]:
        reader = _Reader(self)
        with self._turn:
            self._taken[reader] = 0
        return io.BufferedReader(reader, BLOCK)

    def next_for(self, reader: _Reader) -> bytes:
        """Return the next block for a reader; read it if nobody has; wait while the slowest is too far behind."""
        while True:
            with self._turn:
                while not self._may_read(reader):
                    number = self._taken[reader] - self._gone
                    if number < len(self._blocks):
                        self._taken[reader] += 1
                        self._turn.notify_all()
                        return self._blocks[number]
                    if self._error:
                        raise self._error
                    if self._over:
                        return b""
                    self._turn.wait(LOOK)
                    if self._stop():
                        raise Interrupted("broken off")
                self._reading = True
            self._read()

    def leave(self, reader: _Reader) -> None:
        with self._turn:
            del self._taken[reader]
            self._left = not self._taken and not self._over
            self._turn.notify_all()
        if self._source and not self._taken:
            self._source.close()

    def _may_read(self, reader: _Reader) -> bool:
        at_the_end = self._taken[reader] - self._gone == len(self._blocks)
        room = len(self._blocks) < AHEAD or min(self._taken.values()) > self._gone
        return at_the_end and room and not (self._reading or self._over or self._error)

    def _read(self) -> None:
        block, error = b"", None
        try:
            self._source = self._source or self._fetch()
            block = self._source.read(BLOCK)
        except Exception as each:  # noqa: BLE001  # whatever it is, all who share the read must hear of it
            error = each
        with self._turn:
            self._reading = False
            self._error = error
            self._over = not block and not error
            if block:
                if len(self._blocks) == AHEAD:
                    self._blocks.popleft()
                    self._gone += 1
                self._blocks.append(block)
                self.size += len(block)
            self._turn.notify_all()


def _amount(size: int) -> str:
    """Write a number of bytes for people; docker counts in powers of ten, too."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"  # noqa: PLR2004  # a megabyte


class _Reader(io.RawIOBase):
    """One host's view of a stream."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        self._rest = self._rest or self._stream.next_for(self)
        view = memoryview(buffer)
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._stream.leave(self)
        super().close()
