"""Between an operator and a host: a link that delays, loses or breaks, and the product's Machine on top of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim_baton import running
from sim_host import Proc

from deploy.errors import LinkLost, Overdue, StepFailed, Unreachable
from deploy.recipe.shell import Answer, End, Finished, Line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sim_baton import Life, Task
    from sim_host import SimHost, SimWorld
    from typing_extensions import Self

    from deploy.recipe.model import Host
    from deploy.recipe.shell import Script, Signal

LOOK = 0.2
ROUNDING = 1e-6
CONNECT = 0.1
"""Seconds that a connection takes, or the answer that there is none."""

LATE, LONGEST_LAG = 0.1, 60.0
"""How often a slow host begins a script late, and by how many seconds at most."""

DECIDES = frozenset({Finished, type(None)})
ANSWERS = frozenset({Answer, Line})


class Link:
    """One ssh connection. `dead` is what the operator's end knows, `cut` the host's; either may know late."""

    def __init__(self, world: SimWorld, host: SimHost, life: Life) -> None:
        self.world = world
        self.clock = world.clock
        self.host = host
        self.life = life
        self.latency = self.clock.rng.choice((0.001, 0.02, 0.2))
        self.clear_at = 0.0
        self.lost = False
        self.dead = False
        self.cut = False
        self.channels: list[Channel] = []
        self._last_sent = 0.0

    def arrival(self) -> float:
        """Return when something that is sent now would arrive: in order, and after what holds the link up."""
        return max(self.clock.now + self.latency, self.clear_at)

    def send(self, act: Callable[[], None]) -> None:
        """Send something to the host; a lost link swallows it."""
        if self.lost:
            return
        at = self._last_sent = max(self.arrival(), self._last_sent)
        self.clock.at(at - self.clock.now, act)

    def stall(self, seconds: float) -> None:
        """Hold everything up, in both directions."""
        self.clear_at = max(self.clear_at, self.clock.now + seconds)

    def lose(self, notices: float, host_notices: float | None) -> None:
        """Carry nothing any more; either end finds out after its while, the host perhaps never."""
        self.lost = True
        self.clock.at(notices, self._die)
        if host_notices is not None:
            self.clock.at(host_notices, self.cut_off)

    def _die(self) -> None:
        self.dead = True
        for channel in self.channels:
            channel.look()

    def cut_off(self) -> None:
        self.cut = True
        for channel in self.channels:
            if channel.proc:
                channel.proc.hear(end=True)


class Channel:
    """One script's way out and in."""

    def __init__(self, link: Link, *, wants_answer: bool = False) -> None:
        self.link = link
        self.clock = link.clock
        self.proc: Proc | None = None
        self.reader: Task | None = None
        self.over = False
        self.abandoned = False
        self._closed = False
        self._deaf = False
        self._wants_answer = wants_answer
        self._last_said = 0.0
        self._said: list[tuple[float, Signal | None]] = []
        link.channels.append(self)
        link.life.pokes.append(self._poked)

    @property
    def cut(self) -> bool:
        return self._closed or self.link.cut

    # --- the host's end ----------------------------------------------------------------------------------------

    def say(self, signal: Signal | None) -> None:
        """Print. What does not end or decide anything is read with what does: nobody could act on it earlier."""
        if self.link.lost:
            return
        link, now = self.link, self.clock.now
        at = self._last_said = max(now + link.latency, link.clear_at, self._last_said)
        self._said.append((at, signal))
        kind = type(signal)
        if (signal.status if kind is End else kind in DECIDES) or (self._wants_answer and kind in ANSWERS):  # type: ignore[union-attr]
            self.clock.at(at - now, self.look)

    def ended(self) -> None:
        self.say(None)

    def out_of_breath(self) -> float:
        """Return by how many seconds a script begins late on a slow host, which may not see that nobody listens."""
        if self.link.host.slow <= 1:
            return 0
        self._deaf = self.clock.rng.random() < LATE
        return self.clock.rng.random() * LONGEST_LAG if self._deaf else 0

    def hang_up(self) -> None:
        self._closed = not self._deaf
        if self.proc:
            self.proc.hear(end=True)

    # --- the operator's end ------------------------------------------------------------------------------------

    def look(self) -> None:
        if self.reader:
            self.clock.wake(self.reader)

    def _poked(self) -> None:
        if self.reader:
            self.clock.at(self.clock.rng.random() * LOOK, self.look)

    def take(self) -> list[Signal]:
        """Return what has arrived."""
        now, taken = self.clock.now, []
        while self._said and self._said[0][0] <= now + ROUNDING:
            signal = self._said.pop(0)[1]
            if signal is None:
                self.over = True
            else:
                taken.append(signal)
        return taken

    def wait(self) -> None:
        """Wait until something may have arrived."""
        self.reader = self.clock.current
        try:
            self.clock.block()
        finally:
            self.reader = None

    def close(self) -> None:
        self.link.channels.remove(self)
        self.link.life.pokes.remove(self._poked)
        self.abandoned = not self.over
        if not self.over and not self.link.dead:
            self.link.send(self.hang_up)


class SimPayload:
    """What a host sends: whole if, at its end, the link still stands and the host still runs."""

    def __init__(self, link: Link, image: str) -> None:
        self.image = image
        self._link = link
        self._epoch = link.host.epoch

    @property
    def whole(self) -> bool:
        link = self._link
        return not (link.lost or link.dead or link.host.down) and link.host.epoch == self._epoch

    def read(self, _size: int, /) -> bytes:
        raise AssertionError("no byte travels in here")

    def close(self) -> None:
        """Nothing is held."""


class SimStream:
    """One read, and nobody shares it: sharing is a matter of real threads (tests/unit/test_image.py)."""

    begins = False
    size = 0

    def __init__(self, fetch: Callable[[], SimPayload], _stop: Callable[[], bool]) -> None:
        self.fetch = fetch

    def reader(self) -> SimStream:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""


class SimHold:
    def __init__(self, channel: Channel, answer: Answer) -> None:
        self._channel = channel
        self._link = channel.link
        self.answer = answer

    def beat(self) -> bool:
        running().alive()
        channel = self._channel
        if self._link.dead:
            return False
        proc = channel.proc
        if proc:
            self._link.send(lambda: proc.hear(end=False))
        channel.take()
        return not channel.over

    def let_go(self) -> None:
        running().alive()
        proc = self._channel.proc
        if proc and not self._link.dead:
            self._link.send(lambda: proc.hear(end=True))

    def gone(self, within: float) -> None:
        clock = running()
        clock.alive()
        channel, until = self._channel, clock.now + within
        if channel.proc and not self._link.dead:
            clock.at(within, channel.look)
            while not (channel.over or self._link.dead or clock.now >= until):
                channel.take()
                if not channel.over:
                    channel.wait()
                    clock.heed_ctrl_c()
        if channel in self._link.channels:
            channel.close()


class SimMachine:
    """One host as the product's Machine: scripts travel, run as processes of the host, and their words come back."""

    def __init__(self, world: SimWorld, host: Host, box: SimHost, life: Life) -> None:
        self.host = host
        self._world = world
        self._box = box
        self._life = life
        self.link = self._connect()

    def _connect(self) -> Link:
        running().sleep(CONNECT)
        if self._box.down or self._world.away(self._life.name, self._box.name):
            raise Unreachable("it cannot be reached: no route to host")
        link = Link(self._world, self._box, self._life)
        self._world.links[self._life.name, self._box.name] = link
        return link

    def reconnect(self) -> None:
        self.close()
        self.link = self._connect()
        self._world.mended.add((self._life.name, self._box.name))

    def close(self) -> None:
        running().alive()
        self.link.send(self.link.cut_off)
        self.link.dead = True
        for channel in tuple(self.link.channels):
            channel.look()

    def run(self, script: Script, *, parcel: Any = None, stop: Callable[[], bool] = lambda: False) -> Iterator[Signal]:
        channel = self._start(script, parcel.fetch() if isinstance(parcel, SimStream) else parcel)
        clock = running()
        until = clock.now + script.deadline
        clock.at(script.deadline + 0.001, channel.look)
        try:
            while not stop():
                if clock.now > until:
                    raise Overdue(f"it had not come to an end after {script.deadline:.0f} s")
                heard = channel.take()
                if heard:
                    yield from heard
                elif channel.over or channel.link.dead:
                    break
                else:
                    channel.wait()
        finally:
            channel.close()

    def reach(self, *_: object) -> Any:
        raise AssertionError("nobody looks through this one")

    def interact(self, *_: object) -> Any:
        raise AssertionError("nobody sits at a terminal here")

    def fetch(self, script: Script, *, stop: Callable[[], bool] = lambda: False) -> SimPayload:
        clock = running()
        clock.alive()
        assert script.sends
        assert not stop()
        until = clock.now + script.deadline
        while self.link.lost and not self.link.dead and clock.now < until:
            clock.sleep(LOOK)
        if self.link.dead or self.link.lost or self._box.down:
            raise LinkLost("the link broke", sent=False)
        variables = dict(script.variables)
        image = f"{variables['PROJECT']}:{variables['RELEASE']}"
        if image not in self._box.images:
            raise StepFailed(
                "send the image: failed: No such image"
            )  # who lost the lock may find that it was forgotten
        return SimPayload(self.link, image)

    def hold(self, script: Script) -> SimHold:
        channel = self._start(script, None, wants_answer=True)
        clock = running()
        until = clock.now + script.deadline
        clock.at(script.deadline + 0.001, channel.look)
        answers: list[Answer] = []
        said: list[Signal] = []
        try:
            while clock.now <= until and not (answers or channel.over or channel.link.dead):
                said += channel.take()
                answers = [signal for signal in said if isinstance(signal, Answer)]
                if not (answers or channel.over):
                    channel.wait()
        finally:
            if not answers:
                channel.close()
        if answers:
            return SimHold(channel, answers[0])
        if any(isinstance(signal, End) for signal in said):
            raise StepFailed("; ".join(signal.text for signal in said if isinstance(signal, Line)))
        if channel.over or channel.link.dead:
            raise LinkLost("it ended before it answered")
        raise Overdue(f"it had not come to an end after {script.deadline:.0f} s")

    def _start(self, script: Script, parcel: Any, *, wants_answer: bool = False) -> Channel:
        clock = running()
        clock.alive()
        link = self.link
        if link.lost and not link.dead:  # a channel is opened before a script is sent, and the host must say yes
            until = clock.now + script.deadline
            opening = Channel(link)
            clock.at(script.deadline, opening.look)
            while not link.dead and clock.now < until:
                opening.wait()
            opening.close()
            raise LinkLost("the link broke", sent=False)
        if link.dead:
            raise LinkLost("the link broke", sent=False)
        channel = Channel(link, wants_answer=wants_answer)

        def arrive() -> None:
            if not link.host.down and not link.cut:
                channel.proc = Proc(link.host, self._world, script, channel, parcel)
                channel.proc.go(channel.out_of_breath())

        link.send(arrive)
        return channel
