"""A host of the simulator: the strict World's box and words, with time, processes, reboots and a slow docker.

The words are those of tests/flow/world.py. Where a word takes several steps on a real host (look, signal, remove) it
takes as many here, so that anything may happen between them. Lock, lease and fence are those of deploy/host/lock.sh.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from world import LOOKS, Box, Container, Impossible, World, _Words

from deploy.recipe import facts, shell
from deploy.recipe.shell import Alive, Answer, Begin, End, Finished, Line

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator

    from sim_baton import Scheduler
    from sim_wire import Channel, Link

    from deploy.recipe.model import Host
    from deploy.recipe.shell import Command, Script, Signal

    Doing = Generator[float, None, int]

NEVER = float("inf")
DRAIN = 10
BUSY = 75
GRACE = 60
WARM = (0.5, 0.5, 0.5, 20.0)
"""Seconds that a worker takes to end: it may have a task to bring to its end."""

CUT_OFF = 1200
"""Seconds for which a script that was cut off makes the next hand-over ask what docker is still at."""
"""Seconds that the fence waits for the end of what it ended."""


class Violation(BaseException):
    """An invariant does not hold."""


class Broken(Exception):
    """Nobody reads what a script prints: SIGPIPE."""


@dataclass
class SimContainer(Container):
    """`ready_at` is when it answers, if it is healthy at all; `restarts` counts its crashes."""

    state: str = "running"
    ready_at: float = 0.0
    restarts: int = 0


@dataclass(eq=False)
class OneOff:
    """A container of `compose run`: docker's child, which outlives the script that asked for it."""

    run: str
    runs: bool = True


@dataclass(eq=False)
class Order:
    """What docker still does of a word, though whoever asked for it has gone, or was told that it is done."""

    word: str
    effect: Callable[[], None]
    since: float


@dataclass(eq=False)
class SimHost(Box):
    """One host. `had` is the run that had the lock last, as the simulator knows it, `kept` what ran beside the app.

    `open_until` and `left_at` tell, by colour, when its last user goes, and since when it is not live. A `calm` host
    is not disturbed any more. `as_found` is what its users had when a run (the first of the three) came, `found_late`
    the same after docker did something that an earlier run had asked for.
    """

    down: bool = False
    full: bool = False
    slow: float = 1.0
    lies: bool = False
    excused: bool = False
    calm: bool = False
    epoch: int = 0
    dirty: bool = False
    as_found: tuple[str, str, str] = ("", "none", "")
    found_late: tuple[str, str, str] = ("", "none", "")
    kept: frozenset[str] = frozenset()
    engine_at: float = 0.0
    heard: float = 0.0
    keeper: Proc | None = None
    unfinished: bool = False
    cut_off: float = -NEVER
    orders: list[Order] = field(default_factory=list)
    told_at: float = -NEVER
    had: str = ""
    one_offs: list[OneOff] = field(default_factory=list)
    procs: list[Proc] = field(default_factory=list)
    fenced: list[Proc] = field(default_factory=list)
    leader: Proc | None = None
    locked_by: Proc | None = None
    open_until: dict[str, float] = field(default_factory=dict)
    left_at: dict[str, float] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)

    def twin(self) -> SimHost:
        """Return a copy for another history: of what lies on disk and runs, not of who is at work."""
        assert not self.procs
        return SimHost(
            self.name,
            containers=[replace(c, ready_at=0.0) for c in self.containers],  # type: ignore[call-arg]
            images=set(self.images),
            networks=set(self.networks),
            volumes=set(self.volumes),
            switch=self.switch,
            conf=self.conf,
            confs=set(self.confs),
            releases=dict(self.releases),
            served=dict(self.served),
            source=dict(self.source),
            history=list(self.history),
            was_served=self.was_served,
            waiting=self.waiting,
            last=self.last,
            had=self.last,
            runs=self.runs,
        )

    def live(self) -> str:
        """Return the image that users are sent to, or that workers run on a host for them alone; '' if none."""
        if self.runs:
            return next((c.image for c in self.of("app-setting-prod", "celery")), "")
        return next((c.image for c in self.containers if c.stack == f"app-{self.switch}"), "")

    def beside(self) -> frozenset[str]:
        """Return what runs of the settings stack, workers left out."""
        there = {c.service for c in self.containers if c.state == "running"}  # type: ignore[attr-defined]
        return frozenset(there & {"nginx", "redis"})

    def waits(self, colour: str) -> bool:
        """Say whether all that was left of a colour to wait is there, and nothing else is."""
        return self.waiting[0] == " ".join([colour, *sorted(c.id for c in self.of(f"app-{colour}"))])

    def serves(self, now: float) -> bool:
        """Say whether users get an answer."""
        stack, web, nginx = f"app-{self.switch}", False, False
        for c in self.containers:
            if c.state == "running" and c.ready_at <= now and c.healthy:  # type: ignore[attr-defined]
                web = web or c.stack == stack
                nginx = nginx or c.service == "nginx"
        return web and nginx and not self.down


class Proc:
    """A script at work on a host, and what it started: they share its locks, and end together."""

    def __init__(self, host: SimHost, world: SimWorld, script: Script, channel: Channel, parcel: Any) -> None:
        self.host = host
        self.world = world
        self.clock = world.clock
        self.script = script
        self.channel = channel
        self.parcel = parcel
        self.run = script.run or script.commands[0].words[1]
        self.alive = True
        self.word = ""
        self.pending: tuple[float, Callable[[], None]] | None = None
        self.input_ended = False
        self.released = False
        self.heard_at = world.clock.now
        self._step_number = 0
        self._doing = self._life()
        host.procs.append(self)

    def go(self, delay: float) -> None:
        self._step_number += 1
        number = self._step_number
        self.clock.at(delay, lambda: self._step(number))

    def _step(self, number: int) -> None:
        if not self.alive or number != self._step_number:
            return
        try:
            self.go(next(self._doing))
        except (StopIteration, Broken):
            self._exit()

    def hear(self, *, end: bool) -> None:
        """Something came by the standard input: a beat, or its end."""
        self.heard_at = self.clock.now
        if end and self.alive and not self.input_ended:
            self.input_ended = True
            if self.script.holds:
                self.go(0)

    def kill(self, *, docker_goes_on: bool) -> None:
        """End it from outside. What docker was asked to do it may do all the same."""
        if not self.alive:
            return
        self._doing.close()
        if self.pending and docker_goes_on and self.clock.rng.random() < 0.7:
            due, effect = self.pending
            self.world.late(self, max(0.0, due - self.clock.now) + self.clock.rng.random() * 3, effect)
        self._exit(lingers=False)

    def _exit(self, *, lingers: bool = True) -> None:
        self.alive = False
        self.word = ""
        self.host.procs.remove(self)
        if self.host.locked_by is self:
            self.host.locked_by = None
            if not self.released:
                self.world.lost_locks.add((self.run, self.host.name))
        if self in self.host.fenced:
            if lingers and self.clock.rng.random() < 0.02:  # a child that outlives its script keeps the fence
                self.clock.at(self.clock.rng.random() * 5, self.let_go)
            else:
                self.let_go()
        self.channel.ended()

    def let_go(self) -> None:
        if self in self.host.fenced:
            self.host.fenced.remove(self)

    def emit(self, signal: Signal) -> None:
        if self.channel.cut:
            raise Broken
        self.channel.say(signal)

    def _life(self) -> Generator[float, None, None]:
        words = SimWords(self)
        if self.script.run:
            self.emit(Begin(shell.FENCE))
            status = yield from self._fence()
            self.emit(End(shell.FENCE, status))
            if status:
                return
        for number, command in enumerate(self.script.commands):
            self.emit(Begin(number))
            self.word = command.words[0]
            if self.word not in LOOKS:
                self.world.acts(self, command)
            status = yield from words.perform(command)
            self.world.note(self.host.name, command, f" -> {status}" if status else "")
            self.word = ""
            self.emit(End(number, status))
            if status:
                return
        if self.script.run:
            self.host.unfinished = False
        self.emit(Finished())

    def _fence(self) -> Doing:
        yield self.took(0.02)
        host, until = self.host, self.clock.now + GRACE
        if host.fenced:
            if not self.is_due():
                return BUSY
            self.emit(Line("a command of an earlier run is still at work here: ending it"))
            self._end_the_leader()
            while host.fenced:
                yield 0.3
                if self.clock.now > until:
                    self.emit(Line("it did not end"))
                    return BUSY
        if not self.is_due():
            return BUSY
        host.fenced.append(self)
        host.turns[self.run] = self.script.turn
        host.leader = None if host.full else self
        self.world.passes(self)
        if host.unfinished:
            if status := (yield from self._end_one_offs()):
                return status
            host.cut_off = self.clock.now
        host.unfinished = True
        return 0

    def is_due(self) -> bool:
        if self.host.run != self.script.run:
            self.emit(Line("this run has lost the lock of this host"))
            return False
        if self.script.turn <= self.host.turns.get(self.run, 0):
            self.emit(Line("this script came too late"))
            return False
        return True

    def _end_one_offs(self) -> Doing:
        yield self.took(0.1)
        until = self.clock.now + 30
        while self.clock.now < self.host.engine_at:
            if self.clock.now > until:
                return 1
            yield 1
        if self.host.one_offs:
            self.emit(Line("an earlier run left a one-off container: ending it"))
            yield self.took(0.5)
            self.host.one_offs.clear()
        return 0

    def _end_the_leader(self) -> None:
        leader = self.host.leader
        if leader is None:
            return
        self.world.note(self.host.name, f"TERM to {leader.run}: {leader.word or 'what it left'}")
        slow = self.clock.rng.random() < 0.03 and not self.host.calm
        after = self.clock.rng.random() * (80 if slow else 2)
        self.clock.at(after, lambda: leader.kill(docker_goes_on=True) if leader.alive else leader.let_go())

    def took(self, seconds: float) -> float:
        return seconds * (0.5 + self.clock.rng.random()) * self.host.slow


class SimWords(_Words):
    """The strict World's words, in time. A word that is not here takes a moment, and is the World's."""

    def __init__(self, proc: Proc) -> None:
        super().__init__(proc.world, proc.host, dict(proc.script.variables), proc.parcel)
        self.proc = proc
        self.host = proc.host
        self.sim = proc.world
        self.clock = proc.clock
        self.drains: dict[str, float] = {}

    def perform(self, command: Command) -> Doing:
        word, *arguments = command.words
        act = getattr(self, f"sim_{word}", None)
        if word not in NO_ENGINE and self.clock.now < self.host.engine_at:
            yield 0.05
            self.proc.emit(Line("Cannot connect to the Docker daemon"))
            return 1
        if self.host.refuse.get(word, 0) > 0 or act is None:
            yield self.proc.took(0.05)
            if self.host.full and word in WRITES:
                self.proc.emit(Line("no space left on device"))
                return 1
            status, _ = self.do(command)
        else:
            status = yield from act(*arguments)
        for signal in self.said:
            self.proc.emit(signal)
        self.said = []
        return status

    def say(self, text: str) -> None:
        self.said.append(Line(text))

    def nginx_runs(self) -> bool:
        return any(c.service == "nginx" and c.state == "running" for c in self.host.containers)  # type: ignore[attr-defined]

    def docker(self, seconds: float, effect: Callable[[], None]) -> Doing:
        """Ask the engine. It may say no and do it later, or yes and do it later, when it lies."""
        seconds = self.proc.took(seconds)
        rng = self.clock.rng
        if self.host.lies and rng.random() < 0.4:
            yield seconds
            honest = rng.random() < 0.5
            self.sim.late(self.proc, rng.random() * (2 if honest else 20), effect)
            return 0 if honest else 1
        self.proc.pending = (self.clock.now + seconds, effect)
        yield seconds
        self.proc.pending = None
        cut_off = self.clock.now < self.host.engine_at
        if not cut_off or rng.random() < 0.5:
            effect()
        return 1 if cut_off else 0

    # --- the lock ----------------------------------------------------------------------------------------------

    def sim_hold(self, run: str, lease: str, holder: str, how: str) -> Doing:
        yield self.proc.took(0.02)
        host = self.host
        if host.locked_by and not (how == "again" and (yield from self._take_over(run))):
            if not host.holder:
                yield 1
            self.answer("held_by", host.holder, int(self.clock.now - (host.heard or self.clock.now)))
            return BUSY
        host.locked_by = self.proc
        self.proc.released = True  # it is the lock, and not yet the run's
        if how == "again" and self._latest_run() != run:
            self.answer("held_since")
            return BUSY
        if how == "first" and host.locked:
            self.answer("locked_by", host.locked)
            return BUSY
        if host.full and how != "again":
            self.proc.emit(Line("nothing can be written here: is the disk full?"))
            return 1
        self.proc.released = False
        host.run = run
        if not host.full:
            host.keeper, host.heard, host.holder = self.proc, self.clock.now, holder
        else:
            host.keeper, host.heard, host.holder = None, 0.0, ""
        self.sim.held(self.proc, how)
        self.proc.emit(Answer("held", ()))
        self.proc.heard_at = self.clock.now
        while not self.proc.input_ended and (left := self.proc.heard_at + float(lease) - self.clock.now) > 0:
            yield left
        self.proc.released = self.proc.input_ended and not self.proc.channel.link.cut
        host.let_go()
        host.keeper, host.heard = None, 0.0
        return 0

    def _latest_run(self) -> str:
        return self.host.run or self.host.last

    def _take_over(self, run: str) -> Generator[float, None, bool]:
        host = self.host
        if self._latest_run() != run:
            return False
        if host.keeper:
            host.keeper.kill(docker_goes_on=False)
        until = self.clock.now + 10
        while host.locked_by:
            yield 0.1
            if self.clock.now > until:
                return False
        return True

    def sim_await_engine(self, seconds: str) -> Doing:
        until = self.clock.now + float(seconds)
        while self.clock.now < self.host.engine_at:
            yield 1
            if self.clock.now > until:
                return 1
        return 0

    # --- looks -------------------------------------------------------------------------------------------------

    def sim_observe(self, wanted: str, *_parts: str) -> Doing:
        yield self.proc.took(0.3)
        if self.clock.now < self.host.engine_at:
            self.answer("no_docker", "Cannot connect to the Docker daemon")
        else:
            self.do_observe(wanted)
        return 0

    def _answer_containers(self) -> None:
        lately = self.clock.now - self.host.cut_off < CUT_OFF
        for c in self.host.containers:
            assert isinstance(c, SimContainer)
            health = "healthy" if c.healthy else "unhealthy"
            state = "ending" if lately and c.id in self.host.ending and c.state == "running" else c.state
            self.answer(
                "container", c.id, c.stack, c.service, c.image, state, health, c.restarts, "", c.definition, "False"
            )

    # --- files -------------------------------------------------------------------------------------------------

    def sim_receive(self) -> Doing:
        made, parcel, stamps = self.proc.parcel
        yield self.proc.took(0.3)
        ident = made.release.id
        for half in [each for each in self.host.releases if each.endswith(".part")]:
            del self.host.releases[half]
        self.host.releases[f"{ident}.part"] = {}
        yield self.proc.took(0.3)
        if self.host.full:
            self.say("tar: no space left on device")
            return 1
        self.host.source.update({path: stamps[path] for path in parcel.source})
        if parcel.conf:
            self.host.confs.add(made.release.conf)
        del self.host.releases[f"{ident}.part"]
        self.host.releases[ident] = json.loads(facts.record_text(made.release))
        return 0

    def do_mark_served(self) -> None:
        if self.image() != self.host.live():
            self.sim.violate(f"{self.host.name}: {self.image()} is marked as served, and {self.host.live()} is live")
        super().do_mark_served()

    def do_record(self, line: str) -> None:
        super().do_record(line)
        self.sim.told(self.proc, json.loads(line))

    def do_forget(self, *releases: str) -> None:
        for ident in releases:
            image = f"app:{ident}"
            used = [c for c in self.host.containers if c.image == image]
            if any(c.stack == f"app-{self.host.switch}" for c in used):
                self.sim.violate(f"{self.host.name}: {ident} is live, and is forgotten")
            if used:
                continue  # docker keeps an image that is in use; then its release stays, for the next one to forget
            self.host.images.discard(image)
            self.host.releases.pop(ident, None)
            self.host.served.pop(ident, None)

    # --- docker ------------------------------------------------------------------------------------------------

    def sim_build(self, *_: str) -> Doing:
        self.need_files()
        if self.image() not in self.host.images:
            yield self.proc.took(4)
            if self.host.full:
                self.say("no space left on device")
                return 1
            self.host.images.add(self.image())
        return 0

    def sim_take_image(self) -> Doing:
        self.need_files()
        if self.image() not in self.host.images:
            payload = self.proc.parcel
            yield self.proc.took(3)
            if not payload.whole:
                raise Broken  # the operator closes the channel: what came is not all there is
            if self.host.full:
                self.answer("refused", "no space left on device")
                return 0
            status = yield from self.docker(0.3, lambda: self.host.images.add(payload.image))
            if status or self.image() not in self.host.images:
                self.answer("refused", "the engine does not say why")
                return 0
        self.do_tell_built()
        return 0

    def sim_migrate(self, colour: str, *_: str) -> Doing:
        self._need_image(colour)
        if self.host.one_offs:
            self.sim.violate(f"{self.host.name}: a migration begins beside another one's container")
        one_off = OneOff(self.proc.run)
        self.host.one_offs.append(one_off)
        self.sim.migrates(self.proc)
        seconds = self.proc.took(2)
        self.clock.at(seconds, lambda: setattr(one_off, "runs", False))
        yield seconds / 2
        self.proc.emit(Line("Applying app.0002"))
        yield seconds / 2
        if one_off not in self.host.one_offs:
            return 1
        self.host.one_offs.remove(one_off)
        return 0

    def sim_start(self, colour: str, _file: str) -> Doing:
        yield self.proc.took(0.1)
        if self._is_live(colour):
            return BUSY
        self._need_image(colour)
        if "app-static" not in self.host.volumes:
            raise Impossible("compose would find its external volume missing")
        ids = self._ids(colour)
        self.waits_no_more(colour)
        if ids:
            self._signals(colour)
            status = yield from self.docker(0.3, lambda: self.sim.removed(self.host, ids))
            if status:
                return status
            self.sim.removed(self.host, ids)  # its name is taken until it is gone
        if self.host.full:
            return 1
        status = yield from self.docker(1, lambda: self._appear(self.stack(colour), "web"))
        if any(c.image != self.image() for c in self.host.of(self.stack(colour), "web")):
            self.say("Conflict. The container name is already in use")  # docker did late what another run had asked for
            return 1
        return status

    def sim_stop(self, colour: str) -> Doing:
        yield self.proc.took(0.1)
        if self._is_live(colour):
            return BUSY
        ids = self._ids(colour)
        if not ids:
            return 0
        self.waits_no_more(colour)
        self._signals(colour)
        status = yield from self.docker(1.5, lambda: self.sim.stopped(self.host, ids))
        if status or any(c.id in ids and c.state == "running" for c in self.host.containers):  # type: ignore[attr-defined]
            return status or 1
        return (yield from self.docker(0.2, lambda: self.sim.removed(self.host, ids)))

    def sim_let_wait(self, colour: str, text: str) -> Doing:
        yield self.proc.took(0.2)
        if self._is_live(colour):
            return BUSY
        return 1 if self.host.full else self.do_let_wait(colour, text)

    def sim_withdraw(self, colour: str, seconds: str) -> Doing:
        yield self.proc.took(0.1)
        if self.waits(colour):
            return 0
        yield from self.sim_drain(colour, seconds)
        return (yield from self.sim_stop(colour))

    def sim_revive(self, colour: str, file: str, seconds: str) -> Doing:
        yield self.proc.took(0.3)
        if not self._answers(colour):
            status = yield from self.sim_start(colour, file)
            return status or (yield from self.sim_gate(colour, seconds))
        self.sim.gated(self.proc)
        return 0

    def _is_live(self, colour: str) -> bool:
        if self.host.switch != colour:
            return False
        self.say(f"{colour} is live here: it is neither stopped nor started anew")
        return True

    def _ids(self, colour: str) -> set[str]:
        return {c.id for c in self.host.containers if c.stack == self.stack(colour)}

    def _signals(self, colour: str) -> None:
        """SIGTERM is about to go out: nobody may be in the middle of a request, unless the drain's limit is over."""
        host, now = self.host, self.clock.now
        if host.switch == colour:
            self.sim.violate(f"{host.name}: {colour} is live, and is signalled")
        if host.open_until.get(colour, 0) > now and now - host.left_at.get(colour, 0) < DRAIN:
            self.sim.violate(
                f"{host.name}: {colour} is signalled with requests open, {now - host.left_at[colour]:.1f} s"
            )

    def _appear(self, stack: str, service: str) -> None:
        """A container is created and started, if docker still has its image and its name is free."""
        host = self.host
        if host.of(stack, service):
            return
        if stack == self.settings or self.image() in host.images:
            self._add(stack, service, healthy=not (service == "web" or host.runs) or self.image() not in host.sick)

    def _add(self, stack: str, service: str, *, healthy: bool = True) -> None:
        runs_app = stack != self.settings or service.startswith("celery")
        image = self.image() if runs_app else f"{service}:1"
        definition = self.host.releases.get(self.v["RELEASE"], {}).get("definitions", {}).get(service, "")
        ready = self.clock.now + (self.clock.rng.random() * 4 if service == "web" else 0)
        born = SimContainer(self.sim.ident(), stack, service, image, definition, healthy, ready_at=ready)
        self.host.containers.append(born)
        self.host.dirty = True
        if (service == "web" or self.host.runs) and image in self.host.dies_in_settle:
            self.clock.at(ready - self.clock.now + self.clock.rng.random() * 6, lambda: self.sim.crash(self.host, born))

    def sim_settings_up(self, *services: str) -> Doing:
        self.need_files()
        for service in services:
            if service == "nginx" and not self.host.conf:
                raise Impossible(f"{self.host.name}: nginx is started without a configuration")
            if self.host.full:
                return 1
            self.sim.end_orders(self.host)
            old = {c.id for c in self.host.containers if (c.stack, c.service) == (self.settings, service)}
            if old:
                self.host.ending |= old
                warm = self.clock.rng.choice(WARM)
                status = yield from self.docker(warm, lambda ids=old: self.sim.removed(self.host, ids))  # type: ignore[misc]
                if status:
                    return status
                self.sim.end_orders(self.host)  # its name is taken until it is gone
            status = yield from self.docker(0.5, lambda name=service: self._appear(self.settings, name))  # type: ignore[misc]
            if status:
                return status
        return 0

    def sim_hand_over(self, colour: str, seconds: str, *services: str) -> Doing:
        self.drains[colour] = self.clock.now
        status = yield from self.sim_settings_up(*services)
        if status:
            yield from self.sim_drain(colour, seconds)
        return status

    def sim_settings_ready(self, seconds: str, *services: str) -> Doing:
        until = self.clock.now + float(seconds)
        for service in services:
            while not self.host.of(self.settings, service):
                yield 1
                if self.clock.now > until:
                    return 1
        return int(any(not c.healthy for service in services for c in self.host.of(self.settings, service)))

    def sim_settings_back(self, release: str, *services: str) -> Doing:
        self.v["RELEASE"] = release
        if self.clock.now - self.host.cut_off < CUT_OFF:
            self.sim.end_orders(self.host)
        for service in services:
            if [c.image for c in self.host.of(self.settings, service)] != [self.image()]:
                status = yield from self.sim_settings_up(service)
                if status:
                    return status
        return 0

    def end_stops(self) -> None:
        self.sim.end_orders(self.host)

    def sim_settings_safe(self, release: str, seconds: str, *services: str) -> Doing:
        yield self.proc.took(1.5)
        self.end_stops()
        lame = [service for service in services if [c.healthy for c in self.host.of(self.settings, service)] != [True]]
        if not lame:
            return 0
        status = yield from self.sim_settings_back(release, *lame)
        return status or (yield from self.sim_settings_ready(seconds, *lame))

    def sim_watch_services(self, seconds: str, *services: str) -> Doing:
        until = self.clock.now + float(seconds)
        while self.clock.now < until:
            there = [c for service in services for c in self.host.of(self.settings, service)]
            if len(there) < len(services) or any(not c.healthy or c.restarts for c in there):  # type: ignore[attr-defined]
                return 1
            self.proc.emit(Alive())
            yield 1
        return 0

    # --- nginx -------------------------------------------------------------------------------------------------

    def _answers(self, colour: str) -> bool:
        now = self.clock.now
        return (
            now >= self.host.engine_at
            and self.nginx_runs()
            and any(
                c.healthy and c.state == "running" and c.ready_at <= now  # type: ignore[attr-defined]
                for c in self.host.of(self.stack(colour), "web")
            )
        )

    def _is_up(self, colour: str) -> bool:
        return any(
            c.state == "running" and c.ready_at <= self.clock.now and not c.restarts  # type: ignore[attr-defined]
            for c in self.host.of(self.stack(colour), "web")
        )

    def _broken(self, colour: str) -> bool:
        return any(c.state != "running" or c.restarts for c in self.host.of(self.stack(colour)))  # type: ignore[attr-defined]

    def sim_gate(self, colour: str, seconds: str, *_restarted: str) -> Doing:
        until = self.clock.now + float(seconds)
        while True:
            yield self.proc.took(0.3)
            if self._answers(colour):
                self.sim.gated(self.proc)
                return 0
            yield 0.7
            if self._broken(colour) or self.clock.now > until:
                self.say("Traceback: the app said this")
                return 1

    def sim_await_return(self, colour: str, seconds: str, *conf: str) -> Doing:
        """A colour that crashes and crashes again is not there most of the time; one that says no is."""
        until, other = self.clock.now + float(seconds), "green" if colour == "blue" else "blue"
        yield self.proc.took(0.1)
        if self.host.switch == other and conf and self.clock.now >= self.host.engine_at:
            self.host.conf = conf[0]
        while self.host.switch == other and self._answers(other) and not self._is_up(colour):
            if self.clock.now > until:
                return 1
            yield 0.6
        return 0

    def sim_switch(self, colour: str) -> Doing:
        yield self.proc.took(0.02)
        if self.host.full and self.host.switch != colour != "none":
            return 1
        self.sim.switched(self.proc, colour, self.image())
        return 0

    def sim_await_serving(self, colour: str) -> Doing:
        until = self.clock.now + 15
        while not (self.host.switch == colour and self._answers(colour)):
            yield 1
            if self.clock.now > until:
                return 1
        return 0

    def sim_watch_colour(self, colour: str, seconds: str, *_restarted: str) -> Doing:
        until, missed = self.clock.now + float(seconds), 0
        while self.clock.now < until:
            if self._broken(colour):
                return 1
            missed = 0 if self._answers(colour) else missed + 1
            if missed == 3:
                return 1
            self.proc.emit(Alive())
            yield 1
        return 0

    def sim_drain(self, colour: str, seconds: str) -> Doing:
        began = self.drains.pop(colour, self.clock.now)
        until = began + float(seconds)
        while self.clock.now < min(self.host.engine_at, until):
            yield 0.5  # nobody can be counted without docker
        if not self.host.of(self.stack(colour)) or not self.nginx_runs():
            return 0
        yield max(0.0, began + 1 - self.clock.now)
        gone = self.host.open_until.get(colour, 0)
        yield max(0.0, min(gone, until + 1) + 0.5 - self.clock.now)
        return 0


WRITES = frozenset({"mark_served", "record", "ensure_volumes", "use_conf", "ensure_network", "lock_for"})
NO_ENGINE = frozenset(
    {"hold", "await_engine", "observe", "receive", "remove_stale", "mark_served", "unmark_served", "record", "lock_for",
     "unlock", "await_return", "switch", "withdraw", "revive", "forget", "forget_confs", "gate", "await_serving",
     "watch_colour", "drain"}
)  # fmt: skip


class SimWorld(World):
    """All hosts of a history, what every event must leave true, and the log of what happened."""

    def __init__(self, clock: Scheduler, hosts: dict[Host, SimHost], day: int) -> None:
        super().__init__(())
        self._day = day
        self.clock = clock
        self.hosts = hosts
        self.boxes = dict(hosts)
        self.all = list(hosts.values())
        self.story: list[tuple[float, str, tuple[object, ...]]] = []
        self.words_begun = 0
        self.on_word: Callable[[], None] = lambda: None
        self.hosts_of_run: dict[tuple[str, str], tuple[str, ...]] = {}
        self.reached: dict[str, list[str]] = {}
        self.left_out: set[tuple[str, str]] = set()
        self.gates: set[tuple[str, str]] = set()
        self.brought: dict[tuple[str, str], str] = {}
        self.acted: set[str] = set()
        self.verbs: dict[str, str] = {}
        self.acted_on: set[tuple[str, str]] = set()
        self.migrated: set[str] = set()
        self.outcomes: dict[tuple[str, str], str] = {}
        self.links: dict[tuple[str, str], Link] = {}
        self.mended: set[tuple[str, str]] = set()
        self.lost_locks: set[tuple[str, str]] = set()
        self.closed_ways: dict[tuple[str, str], float] = {}
        clock.after = self.check_dirty

    @property
    def rng(self) -> random.Random:
        return self.clock.rng

    def ident(self) -> str:
        """Return a container's id; no day of a host's life may repeat one of another day."""
        return f"{self._day % 100:02}{next(self._ids):010}"

    def note(self, who: str, *what: object) -> None:
        """Take a line of the story down; it is put into words when somebody reads it."""
        self.story.append((self.clock.now, who, what))

    def violate(self, what: str) -> None:
        self.note("!!", what)
        raise Violation(what)

    def late(self, proc: Proc, delay: float, effect: Callable[[], None]) -> None:
        """Let docker do something after whoever asked has gone, unless the host is rebooted first."""
        host, order = proc.host, Order(proc.word, effect, self.clock.now)
        host.orders.append(order)

        def act() -> None:
            if order in host.orders:
                host.orders.remove(order)
                self.note(host.name, "docker does, late, what it was asked for")
                ran, beside = host.runs and host.live(), host.beside()
                effect()
                if proc.run != host.as_found[0]:
                    host.found_late = (host.as_found[0], host.switch, host.live())
                if host.told_at <= order.since or host.excused:
                    return
                if ran and not host.live():
                    self.violate(f"{host.name}: history says what its workers run, and they end after that")
                if ended := sorted(beside & host.kept - host.beside()):
                    self.violate(f"{host.name}: history says undone, or done, and {ended} end after that")

        self.clock.at(delay, act)

    def end_orders(self, host: SimHost) -> None:
        """Docker does what one container is told one after the other: who asks next for a settings service waits."""
        for order in [order for order in host.orders if order.word in {"settings_up", "settings_back", "hand_over"}]:
            host.orders.remove(order)
            self.note(host.name, "docker ends what it was at")
            order.effect()

    def away(self, operator: str, host: str) -> bool:
        """Say whether the way from an operator to a host is closed."""
        return self.clock.now < self.closed_ways.get((operator, host), 0.0)

    # --- what words do -----------------------------------------------------------------------------------------

    def passes(self, proc: Proc) -> None:
        """A script has passed the fence: by the first one of a run whatever an earlier run left at work has ended."""
        host = proc.host
        holder = host.locked_by
        if holder is None or holder.run != proc.run:
            self.violate(f"{host.name}: {proc.run} passed the fence and does not hold the lock")
        if host.as_found[0] != proc.run:
            host.as_found = (proc.run, host.switch, host.live())
            # Where nobody is live, there is no definition to go back to, and nobody to miss it.
            host.kept = host.beside() if host.live() else frozenset()

    def held(self, proc: Proc, how: str) -> None:
        """A run gets the lock of a host."""
        host = proc.host
        if how == "again" and host.had != proc.run:
            self.violate(f"{host.name}: {proc.run} takes its lock back, and {host.had} had it meanwhile")
        if how != "again" and host.locked and self.verbs[proc.run] != "unlock":
            self.violate(f"{host.name}: {proc.run} gets a lock that a person keeps: {host.locked}")
        host.had = proc.run

    def migrates(self, proc: Proc) -> None:
        if proc.run in self.migrated:
            self.violate(f"{proc.host.name}: {proc.run} migrates a second time")
        self.migrated.add(proc.run)

    def _first(self, run: str) -> SimHost:
        """Return the host whose lock comes before any other: the env's first, or the first that was not left out."""
        if (run.partition("/")[0], self.all[0].name) not in self.left_out:
            return self.all[0]
        return next(host for host in self.all if host.name == self.reached[run][0])

    def _leads(self, proc: Proc) -> bool:
        """Say whether a run has the first host's lock, or lost it to chance, or has given this script up."""
        first = self._first(proc.run)
        if first.locked_by and first.locked_by.run == proc.run:
            return True
        return (proc.run, first.name) in self.lost_locks or proc.channel.abandoned or proc.channel.link.lost

    def acts(self, proc: Proc, command: Command) -> None:
        """A word that changes something begins."""
        if not proc.script.run:
            self.violate(f"{proc.host.name}: {command} writes, and this script holds no lock")
        for other in proc.host.procs:
            if other is not proc and other.word and other.word not in LOOKS:
                self.violate(f"{proc.host.name}: {proc.run} does {command} while {other.run} does {other.word}")
        if not self._leads(proc):
            self.violate(
                f"{proc.host.name}: {proc.run} does {command} without the lock of {self._first(proc.run).name}"
            )
        if proc.host.name not in self.reached[proc.run]:
            self.violate(f"{proc.host.name}: {proc.run} does {command} on a host that it left out")
        if any(each.run != proc.run for each in proc.host.one_offs):
            self.violate(f"{proc.host.name}: {proc.run} does {command} while an earlier run's migration is there")
        self.acted.add(proc.run)
        self.acted_on.add((proc.run, proc.host.name))
        self.words_begun += 1
        self.on_word()

    def gated(self, proc: Proc) -> None:
        self.gates.add((proc.run, proc.host.name))

    def switched(self, proc: Proc, colour: str, image: str) -> None:
        host, before = proc.host, proc.host.switch
        if before == colour:
            return
        if colour == "none":
            if host.as_found[1] != "none":
                self.violate(f"{host.name}: users had {host.as_found[1]}, and are sent to nobody")
            host.was_served = False
        elif any(c.image == image for c in host.of(f"app-{colour}")):
            others = {each.name for each in self.all if not each.runs} & {*self.hosts_of_run[proc.run, host.name]}
            waited_for = sorted(
                name for name in others if (proc.run, name) not in self.gates and not self._had(proc.run, name, image)
            )
            if waited_for:
                self.violate(f"{host.name}: it flips to {image}, and {', '.join(waited_for)} never passed the gate")
        if any(c.restarts for c in host.of(f"app-{colour}")):  # type: ignore[attr-defined]
            host.excused = True  # it has died since its gate: no look could have known
        host.switch = colour
        host.dirty = True
        if before != "none":
            host.left_at[before] = self.clock.now
            host.open_until[before] = self.clock.now + self.rng.expovariate(1 / 4)

    def _had(self, run: str, name: str, image: str) -> bool:
        """Say whether users of a host had an image before the run: a promote has nothing to do there."""
        (host,) = (each for each in self.all if each.name == name)
        return self.verbs[run] == "promote" and host.as_found[0] == run and host.as_found[2] == image

    def staged(self, run: str) -> None:
        """A stage says that it is done: users have what they had."""
        for host in self.all:
            if host.as_found[0] == run and (run, host.switch, host.live()) not in {host.as_found, host.found_late}:
                self.violate(f"{host.name}: {run} has staged; users had {host.as_found}, now {host.live()}")

    def promoted(self, run: str) -> None:
        """A promote says that it is done: users of all its hosts have one release."""
        hosts = [host for host in self.all if host.name in self.reached[run]]
        images = {self.brought.get((run, host.name)) or host.as_found[2] for host in hosts if host.as_found[0] == run}
        if len(images) > 1:
            self.violate(f"{run} has promoted, and users have {', '.join(sorted(images))}")

    def told(self, proc: Proc, line: dict[str, str]) -> None:
        """A run writes its history: it must be true on this host, now."""
        host, outcome = proc.host, line["outcome"]
        if line["what"] in {"lock", "unlock"}:
            outcome = "done"
            if bool(host.locked) != (line["what"] == "lock"):
                self.violate(f"{host.name}: history says {line['what']}, and it is {host.locked or 'open'}")
            self.outcomes[proc.run, host.name] = outcome
            return
        host.told_at = self.clock.now
        if line["what"] == "unstage":
            outcome = "done"
        self.outcomes[proc.run, host.name] = outcome
        if line["what"] in {"stage", "promote", "unstage"}:
            self._told_of_halves(proc, line["what"], f"app:{line.get('release', '')}", done=outcome == "done")
        if line["what"] in {"stage", "unstage"}:
            return
        self.brought[proc.run, host.name] = f"app:{line['release']}" if outcome == "done" else ""
        if outcome == "done" and host.live() != f"app:{line['release']}":
            self.violate(f"{host.name}: history says {line['release']} is live, and {host.live() or 'nobody'} is")
        if outcome == "done" and host.runs and host.live() in host.sick:
            self.violate(f"{host.name}: history says {line['release']} is live, and its workers do not work")
        if outcome != "done" and (proc.run, host.switch, host.live()) != host.as_found:
            self.violate(f"{host.name}: history says undone; users had {host.as_found}, now {host.live()}")
        if outcome != "done" and not host.kept <= host.beside():
            self.violate(f"{host.name}: history says undone, and {sorted(host.kept - host.beside())} do not run")

    def _told_of_halves(self, proc: Proc, verb: str, image: str, *, done: bool) -> None:
        """Of a deploy in two halves: users notice one of them alone, and what is staged is there, or is not."""
        host = proc.host
        if verb != "promote" and (proc.run, host.switch, host.live()) not in {host.as_found, host.found_late}:
            self.violate(f"{host.name}: history says {verb}; users had {host.as_found}, now {host.live()}")
        idle = next((colour for colour in ("blue", "green") if host.waits(colour) and colour != host.switch), "")
        waits = next((c.image for c in host.of(f"app-{idle}")), "")
        if host.runs:  # nothing of it runs before its turn
            waits = image if image in host.images else ""
        if verb == "stage" and done and waits != image:
            self.violate(f"{host.name}: history says {image} is staged, and {waits or 'nothing'} is")
        if verb == "promote" and not done and waits != image and not self._had(proc.run, host.name, image):
            self.violate(f"{host.name}: a promote is undone, and {waits or 'nothing'} is staged")
        if verb == "unstage" and waits:
            self.violate(f"{host.name}: history says that nothing waits, and {waits} does")

    def stopped(self, host: SimHost, ids: set[str]) -> None:
        for c in host.containers:
            if c.id in ids:
                self._ends(host, c)
                c.state = "exited"  # type: ignore[attr-defined]

    def removed(self, host: SimHost, ids: set[str]) -> None:
        for c in host.containers:
            if c.id in ids:
                self._ends(host, c)
        host.containers = [c for c in host.containers if c.id not in ids]

    def _ends(self, host: SimHost, container: Container) -> None:
        host.dirty = True
        if container.stack == f"app-{host.switch}":
            self.violate(f"{host.name}: a container of {host.switch} is ended, and {host.switch} is live")

    # --- what befalls hosts ------------------------------------------------------------------------------------

    def crash(self, host: SimHost, container: SimContainer) -> None:
        """A container dies and begins anew, for ever."""
        if container not in host.containers:
            return
        self.note(host.name, f"{container.stack} crashes and crashes again")
        container.healthy = False
        container.restarts += 1
        if container.stack == f"app-{host.switch}":
            host.excused = True
        host.dirty = True

    def reboot(self, host: SimHost, seconds: float) -> None:
        """Everything that runs ends; flocks go, files stay; containers that were not stopped come back."""
        if host.down:
            return
        self.note(host.name, "reboots")
        host.epoch += 1
        host.orders.clear()
        host.down = host.excused = host.dirty = True
        for proc in list(host.procs):
            proc.kill(docker_goes_on=False)
        host.fenced.clear()
        host.leader = host.locked_by = host.keeper = None
        host.open_until.clear()
        for one_off in host.one_offs:
            one_off.runs = False
        host.engine_at = NEVER
        for c in host.containers:
            c.ready_at = NEVER  # type: ignore[attr-defined]
        self.clock.at(seconds, lambda: self._up(host))

    def lose_engine(self, host: SimHost, seconds: float) -> None:
        """Docker dies, and starts again. What runs on is ended by its successor, and begins anew."""
        if host.down:
            return
        self.note(host.name, "docker dies")
        host.excused = host.dirty = True
        self._engine_back(host, seconds)

    def _up(self, host: SimHost) -> None:
        self.note(host.name, "is up again")
        host.down = False
        self._engine_back(host, self.rng.random() * 10)

    def _engine_back(self, host: SimHost, seconds: float) -> None:
        host.engine_at = self.clock.now + seconds
        for c in host.containers:
            c.ready_at = host.engine_at + self.rng.random() * 5  # type: ignore[attr-defined]
        host.dirty = True

    # --- what is true after every event ------------------------------------------------------------------------

    def check_dirty(self) -> None:
        for host in self.all:
            if host.dirty:
                host.dirty = False
                self._check(host)

    def _check(self, host: SimHost) -> None:
        names = [(c.stack, c.service) for c in host.containers]
        if len(names) != len(set(names)):
            self.violate(f"{host.name}: a service is doubled: {names}")
        if host.runs and not {service for _, service in names} <= set(host.runs):
            self.violate(f"{host.name}: it is for {host.runs}, and has {names}")
        if host.serves(self.clock.now):
            host.was_served, host.excused = True, False
        elif host.was_served and not host.excused:
            self.violate(f"{host.name}: users are not served")
