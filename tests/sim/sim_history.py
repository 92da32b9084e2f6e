"""One history: a scenario drawn from a seed, the product's own flow played through it, and the deploy that heals it.

Everything that happens follows from the scenario, and the scenario from its seed. A scenario is data, so that a failing
one can be made smaller by leaving things out.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import gc
import io
import itertools
import os
import random
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import sim_baton
from sim_baton import Died, Life, Scheduler
from sim_host import DRAIN, SimHost, SimWorld, Violation
from sim_wire import SimMachine, SimStream
from world import OTHER, Impossible

from deploy import clock, fleet, flow, image, lock, release, run, staging
from deploy.config import Setup
from deploy.console import Console
from deploy.errors import Failed, GreenroomError, HostFailures, NeedsHuman, Refused
from deploy.keys import Ssh
from deploy.recipe import manifest
from deploy.recipe.model import App, Health, Host, Release
from deploy.run import Batching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Self

    from deploy.console.events import Event

HORIZON = 20_000
"""Virtual seconds after which a run that has not ended never will."""

QUIET = 140
"""Virtual seconds after the last operator: leases run out, the fence has ended what it could, docker has caught up."""

KEEP = 3
EPOCH = datetime.datetime(2026, 11, 22, tzinfo=datetime.timezone.utc)
SERVICES = ("celery", "celery-beat", "nginx", "redis")
HOSTS = tuple(Host(f"web{n}") for n in (1, 2, 3))
JOBS = 0.35
"""The share of the fleets of several hosts of which the last one is for workers alone."""


@dataclass(frozen=True)
class Act:
    """What an operator types, on which hosts, and when (seconds). `redis` is how the source defines that service."""

    verb: str
    hosts: tuple[int, ...]
    start: float = 0.0
    same: bool = False
    conf: str = "conf-1"
    redis: str = "redis-1"
    wait: int = 0
    batching: Batching = field(default_factory=Batching)
    skip: bool = False
    to: str = ""


@dataclass(frozen=True)
class Fault:
    """What goes wrong: `delay` seconds after word number `at` has begun, to a host or an operator, for `amount`."""

    kind: str
    at: int
    delay: float
    host: int
    operator: int
    amount: float


@dataclass(frozen=True)
class Scenario:
    """`before` is how many deploys the hosts have seen already; then a release was `staged`, or not.

    With `jobs` the last host is for workers alone.
    """

    seed: int
    hosts: int
    before: int
    acts: tuple[Act, ...]
    faults: tuple[Fault, ...]
    jobs: bool = False
    staged: bool = False
    standby: bool = False


KINDS = (
    "kill", "kill", "power cut", "sleep", "ctrl-c", "cut", "cut", "lose", "lose", "stall", "reboot", "full", "slow",
    "lies", "lies", "engine",
    "sick", "dies", "refuse", "closed",
)  # fmt: skip
REFUSED = ("receive", "build", "migrate", "start", "gate", "switch", "await_serving", "stop", "drain", "settings_up",
           "hand_over", "record", "mark_served", "validate", "forget")  # fmt: skip

CLOSED = "closed"
"""One operator cannot reach a host from its start on, for up to WAY_CLOSED seconds."""

WAY_CLOSED = 60.0

MILD = frozenset(f"refuse {word}" for word in ("receive", "validate", "build", "migrate", "start", "gate"))
"""What may fail before a flip without anything that could hinder the undo."""


VERBS = (*("deploy",) * 13, *("rollback",) * 5, "lock", "unlock")

BEFORE = (0, 1, 1, 2, 2, 4)
"""Deploys that hosts have seen already."""

HALVES = (*("promote",) * 5, *("stage",) * 3, "unstage", "rollback", "deploy")
"""What is typed where a release is staged."""

WHOLE = frozenset({"cut", "lose", "stall", "reboot"})
"""What a run survives where a host comes back in time, wherever it stands; but for a migration under way."""


def away(fault: Fault) -> float:
    """Return the seconds for which the way to a host is closed when a link is lost: none, some, or too many."""
    share = fault.amount * 10 % 1
    return 0.0 if share < 0.4 else (share - 0.4) * 150 if share < 0.8 else 60 + (share - 0.8) * 500


def draw(seed: int, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return the scenario of a seed, with faults of some kinds."""
    rng = random.Random(seed)  # noqa: S311  # chance, not secrets
    befalls = [kind for kind in kinds if kind != CLOSED]
    hosts = rng.choice((1, 1, 2, 2, 3))
    acts = []
    for number in range(rng.choice((1, 1, 1, 2, 2, 3))):
        everyone = tuple(range(hosts))
        some = everyone if rng.random() < 0.7 else tuple(sorted(rng.sample(everyone, rng.randint(1, hosts))))
        acts.append(
            Act(
                verb=rng.choice(VERBS),
                hosts=some,
                start=0.0 if number == 0 else rng.random() * 60,
                same=rng.random() < 0.05,
                conf=rng.choice(("conf-1", "conf-1", "conf-1", "conf-2")),
                wait=rng.choice((0, 0, 30, 300)),
                batching=Batching(*rng.choice(((0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (1, 0), (1, 20), (2, 5)))),
            )
        )
    words = 18 * hosts * len(acts)
    closed = random.Random(~seed)  # noqa: S311  # the same; of its own, so that all else of a seed stays as it was
    acts = [replace(act, skip=closed.random() < 0.4) for act in acts]
    settings = random.Random(f"settings {seed}")  # noqa: S311  # the same
    acts = [replace(act, redis=settings.choice(("redis-1", "redis-1", "redis-1", "redis-2"))) for act in acts]
    faults = [
        Fault(
            kind=rng.choice(befalls),
            at=rng.randrange(words),
            delay=rng.choice((0.0, 0.0, 1.0)) * rng.random(),
            host=rng.randrange(hosts),
            operator=rng.randrange(len(acts)),
            amount=rng.random(),
        )
        for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4)))
        if befalls
    ]
    if CLOSED in kinds:
        faults += [
            Fault(CLOSED, 0, 0.0, closed.randrange(hosts), closed.randrange(len(acts)), closed.random())
            for _ in range(closed.choice((0, 0, 0, 1, 2)))
        ]
    before = rng.choice(BEFORE)
    jobs = hosts > 1 and random.Random(f"jobs {seed}").random() < JOBS  # noqa: S311  # the same
    halves = random.Random(seed ^ 0x57A6E)  # noqa: S311  # the same
    staged, standby = halves.random() < 0.3, halves.random() < 0.2
    if staged:
        acts = [replace(act, verb=halves.choice(HALVES)) for act in acts]
    if staged and len(acts) > 1 < hosts and halves.random() < 0.5:  # hosts that have not the same one staged
        acts[0] = replace(acts[0], verb="stage", hosts=(halves.randrange(hosts),))
        acts[1] = replace(acts[1], verb="promote", hosts=everyone, start=30 + halves.random() * 30)
    return Scenario(seed, hosts, before, tuple(acts), tuple(faults), jobs, staged, standby)


# --- the operator's side ---------------------------------------------------------------------------------------


class Operator(Life):
    """A process on somebody's machine that does one verb. `outcome` is how it ended, as its exit code would say."""

    def __init__(self, number: int, act: Act) -> None:
        super().__init__(f"op{number}")
        self.act = act
        self.outcome: int | None = None
        self.error: BaseException | None = None
        self.run = ""
        self.failed_in: set[str] = set()
        self.phase = ""
        self.fleets: list[fleet.Fleet] = []
        self.bad: list[tuple[str, int]] = []


class Quiet(Console):
    """A console whose reader is the story."""

    def __init__(self, history: History, who: str) -> None:
        super().__init__(out=io.StringIO())
        self._history = history
        self._who = who

    def watch(self, hosts: Sequence[str]) -> None:
        """Nobody sits and waits: no sign of life, and no thread for it."""

    def emit(self, event: Event) -> None:
        if event.kind == "phase":
            self._history.operator.phase = event.phase
        if event.kind == "failed":
            self._history.operator.failed_in.add(event.phase)
        if event.kind in {"phase", "failed", "ended"}:
            self._history.world.note(self._who, f"{event.host} {event.phase} {event.text}".strip())


def hosts_of(hosts: int, *, jobs: bool) -> tuple[Host, ...]:
    last = replace(HOSTS[hosts - 1], runs=("celery",) if jobs else ())
    return (*HOSTS[: hosts - 1], last)


@functools.cache
def app_of(hosts: int, *, jobs: bool, standby: bool) -> App:
    return App(
        project="app",
        env="prod",
        hosts=hosts_of(hosts, jobs=jobs),
        health=Health(path="/healthz", timeout=20),
        migrate=("migrate",),
        workers=("celery", "celery-beat"),
        singletons=("celery-beat",),
        settle=3,
        drain=DRAIN,
        build_timeout=120,
        migrate_timeout=60,
        keep=KEEP,
        standby=standby,
    )


@functools.cache
def setup_of(hosts: int, some: tuple[int, ...], *, jobs: bool, standby: bool) -> Setup:
    nowhere = Path()
    app = app_of(hosts, jobs=jobs, standby=standby)
    chosen = tuple(app.hosts[n] for n in some)
    return Setup(app, chosen, Ssh(), nowhere, nowhere, nowhere, "nginx", b"", {}, (), frozenset())


class Parcel(tuple[Any, ...]):
    """What travels: taken for a file by apply, and read by the World without a tar in between."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class SimParcels:
    """Nobody shares a tar that is none: that is a matter of real threads (tests/unit/test_release.py)."""

    def __init__(self, tree: Any, made: Any) -> None:
        self._tree = tree
        self._made = made

    def open(self, parcel: Any) -> Parcel:
        return Parcel((self._made, parcel, self._tree.stamps))


# --- one history -----------------------------------------------------------------------------------------------


class History:
    """A scenario as it is played."""

    now: History

    def __init__(self, scenario: Scenario, hosts: list[SimHost], day: int = 0) -> None:
        self.scenario = scenario
        self.clock = Scheduler(random.Random(scenario.seed ^ 0x5EED))  # noqa: S311  # the same
        self.world = SimWorld(self.clock, dict(zip(HOSTS, hosts, strict=False)), day)
        self.operators: list[Operator] = []
        self._epoch = EPOCH + datetime.timedelta(days=day)
        self._runs = count(1)
        self._versions = count(1)
        self.fired: set[str] = set()
        self._absent = 0.0
        self._to_fire = sorted(scenario.faults, key=lambda fault: fault.at)
        self.world.on_word = self._fire_due

    def utc_now(self) -> datetime.datetime:
        return self._epoch + datetime.timedelta(seconds=self.clock.now)

    @property
    def operator(self) -> Operator:
        life = self.clock.current.life
        assert isinstance(life, Operator)
        return life

    def play(self) -> None:
        """Play it to its end, and heal it.

        Raises:
            Violation: something was not as it must be.
            Impossible: a word was asked for what no host can do.

        """
        History.now = self
        sim_baton.begin(self.clock)
        try:
            self._fire_due()
            self._perform(self.scenario.acts)
            self._calm_down()
            self._clear_away()
            self._heal()
        finally:
            self.clock.finish()

    def _perform(self, acts: tuple[Act, ...]) -> None:
        begun = [self._engage(act) for act in acts]
        self.clock.at(HORIZON, lambda: None if all(t.done for t in begun) else self.world.violate("a run never ends"))
        while not all(task.done for task in begun):
            self.clock.block()

    def _engage(self, act: Act) -> sim_baton.Task:
        number = len(self.operators)
        operator = Operator(number, act)
        self.operators.append(operator)
        fate = [fault for fault in self.scenario.faults if fault.operator == number]
        operator.interruptible = any(fault.kind == "ctrl-c" for fault in fate)
        for fault in fate:
            if fault.kind == CLOSED:
                self.fired.add(CLOSED)
                self.world.closed_ways[operator.name, str(HOSTS[fault.host])] = act.start + fault.amount * WAY_CLOSED
        operator.bad = [(fault.kind, fault.host) for fault in fate if fault.kind in {"sick", "dies"}]

        def work() -> None:
            self.clock.current.main = True
            with contextlib.suppress(Died):
                self._work(operator)
            self.clock.wake(self.clock.main)

        operator.asleep_until = act.start
        return self.clock.spawn(operator, work)

    def _work(self, operator: Operator) -> None:
        act, world = operator.act, self.world
        scenario = self.scenario
        setup = setup_of(scenario.hosts, act.hosts, jobs=scenario.jobs, standby=scenario.standby)
        console = Quiet(self, operator.name)
        world.note(operator.name, f"{act.verb} on {', '.join(str(h) for h in setup.hosts)}")

        def left_out(missing: HostFailures) -> None:
            world.left_out.update((operator.name, host) for host in missing.failures)
            world.note(operator.name, f"goes on without {', '.join(missing.failures)}")

        def connect() -> fleet.Fleet:
            opened = fleet.connect(
                setup.hosts,
                lambda h: SimMachine(world, h, world.hosts[h], operator),
                setup.app.hosts[0],
                left_out if act.skip else None,
            )
            operator.fleets.append(opened)
            return opened

        try:
            self._do(operator, setup, connect, console)
            operator.outcome = 0
        except GreenroomError as error:
            operator.outcome, operator.error = error.exit_code, error
        except KeyboardInterrupt as error:
            operator.outcome, operator.error = Failed.exit_code, error
        except Died:
            raise
        except BaseException as error:  # noqa: BLE001  # the simulator's main thread wants to know
            self.clock.error = self.clock.error or error
        world.note(operator.name, f"exit {operator.outcome}: {operator.error or 'done'}")
        try:
            self._check_words_of(operator)
        except Violation as error:
            self.clock.error = self.clock.error or error
        for each in operator.fleets:
            each.close()

    def _do(self, operator: Operator, setup: Setup, connect: Callable[[], fleet.Fleet], console: Console) -> None:
        act, reason = operator.act, f"{operator.name} says so"
        options = flow.Options(yes=True, wait=act.wait, batching=act.batching)
        match act.verb:
            case "deploy":
                flow.deploy(setup, connect, console, options)
            case "rollback":
                flow.rollback(setup, connect, console, act.to, options)
            case "stage":
                staging.stage(setup, connect, console, options)
            case "promote":
                staging.promote(setup, connect, console, options)
            case "unstage":
                staging.unstage(setup, connect, console)
            case "lock":
                flow.put_lock(setup, connect, console, reason)
            case _:
                flow.take_lock_away(setup, connect, console, reason)

    def _check_words_of(self, operator: Operator) -> None:
        """An exit code is a promise: compare it with what each host was told, and with what was done."""
        world, acted = self.world, operator.run in self.world.acted
        told = self._told(operator)
        text = str(operator.error or "")
        if "unexpected " in text:
            world.violate(f"{operator.name}: {text}")
        if operator.outcome == 0 and acted and set(told) != {"done"}:
            world.violate(f"{operator.name}: exit 0, and the hosts were told {told}")
        if operator.outcome == 0 and acted:
            self._check_done(operator)
        # Of lock and unlock this is not true yet: docs/reliability.md, what is open.
        promised = operator.act.verb in {"deploy", "rollback", "stage", "promote"}
        if operator.outcome == Refused.exit_code and acted and promised:
            world.violate(f"{operator.name}: exit 2 says that nothing was touched")
        one_batch = operator.act.batching.size == 0 or "done" not in told
        if self._undisturbed and one_batch and operator.outcome == NeedsHuman.exit_code:
            world.violate(f"{operator.name}: nothing kept it from going back, and a human is called: {text}")
        if operator.outcome == Failed.exit_code and promised:
            told = [world.outcomes.get(each, "") for each in sorted(world.acted_on) if each[0] == operator.run]
            if not all(each.startswith("undone") for each in told):
                world.violate(f"{operator.name}: exit 1 says that all is undone, and the hosts were told {told}")
        if self._whole and one_batch and operator.outcome == NeedsHuman.exit_code:
            world.violate(f"{operator.name}: every host came back in time, and a human is called: {text}")
        if (
            self._whole
            and "reboot" not in self.fired
            and acted
            and operator.outcome
            and "migrate" not in operator.failed_in
        ):
            world.violate(f"{operator.name}: every host came back in time, and it did not go on: {text}")

    def _told(self, operator: Operator) -> list[str]:
        """Return what a run wrote into the history of its hosts; where it had nothing to do, that may be nothing."""
        world, run = self.world, operator.run
        some = operator.act.verb in {"promote", "unstage"} or bool(operator.act.to)
        reached = [host for host in world.reached.get(run, ()) if not some or (run, host) in world.acted_on]
        return [world.outcomes.get((run, host), "") for host in reached]

    def _check_done(self, operator: Operator) -> None:
        if operator.act.verb in {"deploy", "stage"} and operator.run not in self.world.migrated:
            self.world.violate(f"{operator.name}: exit 0, and nobody migrated")
        if operator.act.verb == "promote":
            self.world.promoted(operator.run)
        if operator.act.verb == "stage":
            self.world.staged(operator.run)

    @property
    def _whole(self) -> bool:
        """Say whether nobody else was about, and nothing happened but that links went away and came back in time."""
        return len(self.scenario.acts) == 1 and self.fired <= WHOLE and self._absent < lock.ABSENCE / 2

    @property
    def _undisturbed(self) -> bool:
        """Say whether nobody else was about and nothing went wrong but the app, or a word before finish."""
        harmless = {"sick", "dies", "stall", "refuse", "engine", CLOSED, *MILD}
        return len(self.scenario.acts) == 1 and self.fired <= harmless

    def make(self, operator: Operator) -> tuple[Any, release.Made]:
        """Stand in for the source and the making of a release: everything else of it is the product's."""
        act = operator.act
        version = "same" if act.same else f"{self._epoch:%d}-{operator.name}-{next(self._versions)}"
        stamps = {"app.py": f"f {version}"}
        made = Release(
            id=f"{self.utc_now():%Y%m%d-%H%M%S}-{operator.name}",
            fingerprint=f"{version} {act.conf} {act.redis}",
            conf=act.conf,
            manifest=manifest.digest(stamps),
            who=operator.name,
            definitions=tuple((name, act.redis if name == "redis" else f"definition of {name}") for name in SERVICES),
        )
        for kind, number in operator.bad:
            host = self.world.all[number]
            self.fired.add(kind)
            (host.sick if kind == "sick" else host.dies_in_settle).add(f"app:{made.id}")
        return SimpleNamespace(stamps=stamps), release.Made(made, ())

    def token(self) -> str:
        operator = self.operator
        operator.run = f"{operator.name}/{next(self._runs)}"
        self.world.verbs[operator.run] = operator.act.verb
        hosts = [str(machine.host) for machine in operator.fleets[-1].machines]
        self.world.reached[operator.run] = hosts
        size = operator.act.batching.size or len(hosts)
        for at, host in enumerate(hosts):
            begin = at // size * size
            self.world.hosts_of_run[operator.run, host] = tuple(hosts[begin : begin + size])
        return operator.run

    # --- what goes wrong ---------------------------------------------------------------------------------------

    def _fire_due(self) -> None:
        while self._to_fire and self._to_fire[0].at <= self.world.words_begun:
            fault = self._to_fire.pop(0)
            self.clock.at(fault.delay, lambda fault=fault: self._fire(fault))  # type: ignore[misc]

    def _fire(self, fault: Fault) -> None:
        if fault.operator >= len(self.operators) or len(self.operators) > len(self.scenario.acts):
            return
        act: Callable[[Fault, SimHost, Operator], None] | None
        act = getattr(self, f"_do_{fault.kind.replace(' ', '_').replace('-', '_')}", None)
        if act:
            host = self.world.all[fault.host]
            operator = self.operators[fault.operator]
            self.world.note("fault", f"{fault.kind}: {operator.name}, {host.name}, {fault.amount:.2f}")
            self.fired.add(fault.kind)
            act(fault, host, operator)

    def _do_kill(self, _fault: Fault, _host: SimHost, operator: Operator) -> None:
        self._end(operator, host_notices=self.clock.rng.choice((0.0, 0.01, 3.0)))

    def _do_power_cut(self, _fault: Fault, _host: SimHost, operator: Operator) -> None:
        self._end(operator, host_notices=None)

    def _end(self, operator: Operator, host_notices: float | None) -> None:
        if operator.outcome is not None:
            return
        for link in self._links(operator):
            link.lose(0.0, host_notices)
        self.clock.kill(operator)

    def _links(self, operator: Operator) -> list[Any]:
        return [link for (name, _), link in self.world.links.items() if name == operator.name]

    def _do_sleep(self, fault: Fault, _host: SimHost, operator: Operator) -> None:
        """The lid is closed: the process stands still, its connections stay."""
        operator.asleep_until = self.clock.now + 5 + fault.amount * 100

    def _do_ctrl_c(self, _fault: Fault, _host: SimHost, operator: Operator) -> None:
        operator.interrupted = True
        for task in operator.tasks:
            if task.main:
                self.clock.wake(task)

    def _do_cut(self, fault: Fault, host: SimHost, operator: Operator) -> None:
        for link in self._links(operator):
            if link.host is host:
                self._close_way(fault, host, operator)
                link.lose(fault.amount * 0.1, 0.0 if fault.amount < 0.5 else None)

    def _close_way(self, fault: Fault, host: SimHost, operator: Operator) -> None:
        self.world.closed_ways[operator.name, host.name] = self.clock.now + away(fault)
        self._absent += away(fault)

    def _do_lose(self, fault: Fault, host: SimHost, operator: Operator) -> None:
        """Packets vanish: the operator's kernel gives up after a while, the host's much later or never."""
        for link in self._links(operator):
            if link.host is host:
                self._close_way(fault, host, operator)
                link.lose(15 + fault.amount * 10, 20 + fault.amount * 100 if fault.amount < 0.5 else None)

    def _do_stall(self, fault: Fault, host: SimHost, operator: Operator) -> None:
        for link in self._links(operator):
            if link.host is host:
                link.stall(fault.amount * 14)

    def _do_reboot(self, fault: Fault, host: SimHost, _operator: Operator) -> None:
        for (_, name), link in self.world.links.items():
            if name == host.name and not link.dead:
                link.lose(self.clock.rng.random() * 20, 0.0)
        self._absent += 15 + fault.amount * 30
        self.world.reboot(host, 5 + fault.amount * 30)

    def _do_engine(self, fault: Fault, host: SimHost, operator: Operator) -> None:
        if operator.phase in {"settle", "finish", "undo"}:
            self.fired.add("engine, too late to be waited for")
        self.world.lose_engine(host, 1 + fault.amount * 25)

    def _do_full(self, fault: Fault, host: SimHost, _operator: Operator) -> None:
        host.full = True
        self.clock.at(1 + fault.amount * 60, lambda: setattr(host, "full", False))

    def _do_slow(self, fault: Fault, host: SimHost, _operator: Operator) -> None:
        host.slow = 2 + fault.amount * 100
        self.clock.at(20 + fault.amount * 100, lambda: setattr(host, "slow", 1.0))

    def _do_lies(self, fault: Fault, host: SimHost, _operator: Operator) -> None:
        host.lies = True
        self.clock.at(5 + fault.amount * 60, lambda: setattr(host, "lies", False))

    def _do_refuse(self, fault: Fault, host: SimHost, _operator: Operator) -> None:
        word = REFUSED[int(fault.amount * len(REFUSED))]
        self.fired.add(f"refuse {word}")
        host.refuse[word] = 1

    # --- the end -----------------------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        """Nothing goes wrong any more, and there is time for what is under way to come to its end."""
        self._to_fire.clear()
        self.clock.sleep(2)
        for host in self.world.all:
            host.full, host.slow, host.lies, host.calm = False, 1.0, False, True
            host.refuse.clear()
        self.clock.sleep(QUIET)

    def _clear_away(self) -> None:
        """Where a rollback said what clears away what it left, and users still have what it brought: type that."""
        for operator in tuple(self.operators):
            said = (
                re.search(r"inv rollback --to=(\S+)", operator.error.mend)
                if isinstance(operator.error, NeedsHuman)
                else None
            )
            hosts = [self.world.all[n] for n in operator.act.hosts]
            if not said or any(host.locked or host.live() != f"app:{said[1]}" for host in hosts):
                continue
            self.fired.add("clear away")
            self._perform((Act("rollback", operator.act.hosts, to=said[1]),))
            if self.operators[-1].outcome != 0:
                self.world.violate(f"what {operator.name} was told to type ended with {self.operators[-1].error}")
            for host in hosts:
                self._check_cleared(host, said[1])

    def _check_cleared(self, host: SimHost, release: str) -> None:
        for colour in () if host.runs else (OTHER[host.switch],):
            if host.of(f"app-{colour}") and not host.waits(colour):
                self.world.violate(f"{host.name}: cleared away, and {colour} is still there")
        workers = {c.image for c in host.containers if c.service.startswith("celery")}
        if workers != {f"app:{release}"}:
            self.world.violate(f"{host.name}: cleared away, and workers run {sorted(workers)}")
        extra = host.images - {f"app:{ident}" for ident in host.releases}
        if extra:
            self.world.violate(f"{host.name}: cleared away, and images are left: {sorted(extra)}")

    def _heal(self) -> None:
        """One undisturbed deploy, and nothing is left of what came before."""
        everyone = tuple(range(self.scenario.hosts))
        if any(host.locked for host in self.world.all):
            self._perform((Act("unlock", everyone),))
        self._perform((Act("deploy", everyone),))
        healer = self.operators[-1]
        if healer.outcome != 0:
            self.world.violate(f"the deploy that should heal it ended with {healer.outcome}: {healer.error}")
        self.clock.sleep(6)
        for number, host in enumerate(self.world.all):
            self._check_whole(host, first=number == 0)

    def _check_whole(self, host: SimHost, *, first: bool) -> None:
        violate = self.world.violate
        newest = max(host.releases)
        if not (host.serves(self.clock.now) or host.runs) or host.live() != f"app:{newest}":
            violate(f"{host.name}: healed, and {host.live()} is live instead of {newest}")
        services = host.runs or [name for name in SERVICES if first or name != "celery-beat"]
        colours = [] if host.runs else [host.switch]
        if colours and self.scenario.standby and host.as_found[2]:
            colours.append(OTHER[host.switch])
            if not host.waits(OTHER[host.switch]):
                violate(f"{host.name}: healed, and {host.as_found[2]} is not on standby")
        wanted = sorted([*((f"app-{c}", "web") for c in colours), *(("app-setting-prod", s) for s in services)])
        there = sorted((c.stack, c.service) for c in host.containers)
        if there != wanted:
            violate(f"{host.name}: healed, and there are {there}")
        workers = {c.image for c in host.containers if c.service.startswith("celery")}
        if workers != {host.live()}:
            violate(f"{host.name}: healed, and workers run {sorted(workers)}")
        if len(host.releases) > KEEP + 2:
            violate(f"{host.name}: healed, and {len(host.releases)} releases are kept: {sorted(host.releases)}")
        extra = host.images - {f"app:{ident}" for ident in host.releases}
        if extra:
            violate(f"{host.name}: healed, and images are left: {sorted(extra)}")
        if host.locked_by or host.run or host.fenced or host.locked or host.holder:
            violate(f"{host.name}: healed, and still locked by {host.run} {host.locked}")
        if host.one_offs or host.unfinished:
            violate(f"{host.name}: healed, and {host.one_offs or 'nothing'} is left unfinished")


# --- playing many ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def installed() -> Iterator[pytest.MonkeyPatch]:
    """Give the product the simulator's clock, threads and source for the time of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "monotonic", lambda: sim_baton.running().now)
        patch.setattr(clock, "utc_now", lambda: History.now.utc_now())  # noqa: PLW0108  # of whichever is now
        patch.setattr(clock, "pause", sim_baton.pause)
        patch.setattr(fleet, "ThreadPoolExecutor", sim_baton.Executor)
        patch.setattr(fleet, "wait", sim_baton.wait)
        patch.setattr(lock, "threading", sim_baton.THREADING)
        patch.setattr(run, "threading", sim_baton.THREADING)
        patch.setattr(run, "secrets", SimpleNamespace(token_hex=lambda _: History.now.token()))
        patch.setattr(flow, "read_release", lambda *_: History.now.make(History.now.operator))
        patch.setattr(release, "Parcels", SimParcels)
        patch.setattr(image, "threading", sim_baton.THREADING_OF_IMAGES)
        patch.setattr(image, "Stream", SimStream)
        patch.setattr(release, "who", lambda: History.now.operator.name)
        yield patch


@contextlib.contextmanager
def one_processor() -> Iterator[None]:
    """Keep to one processor, where the system can: threads that take turns are three times as fast there."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(processors)[number % len(processors)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, processors)


@functools.cache
def _seasoned(hosts: int, before: int, *, jobs: bool, staged: bool, standby: bool) -> tuple[SimHost, ...]:
    """Return hosts that have seen `before` undisturbed deploys, and then a stage, if a release is to be `staged`."""
    boxes = [SimHost(str(host), runs=host.runs) for host in hosts_of(hosts, jobs=jobs)]
    everyone = tuple(range(hosts))
    verbs = ["deploy"] * before + ["stage"] * staged
    for number, verb in enumerate(verbs):
        boxes = [box.twin() for box in boxes]
        history = History(Scenario(number, hosts, 0, (), (), jobs, standby=standby), boxes, day=number - 9)
        History.now = history
        sim_baton.begin(history.clock)
        history._perform((Act(verb, everyone, same=number == before - 1),))
        assert history.operators[-1].outcome == 0, history.operators[-1].error
        history.clock.sleep(QUIET)
        history.clock.finish()
    return tuple(boxes)


def season() -> None:
    """Make the hosts of all scenarios, as the product makes them: what is planted later is not to be found in them."""
    either = (False, True)
    for hosts, before, jobs, staged, standby in itertools.product((1, 2, 3), set(BEFORE), either, either, either):
        if hosts > 1 or not jobs:
            _seasoned(hosts, before, jobs=jobs, staged=staged, standby=standby)


def play(scenario: Scenario) -> History:
    """Play one scenario; `story` and `error` of what comes back tell what happened."""
    seasoned = _seasoned(
        scenario.hosts, scenario.before, jobs=scenario.jobs, staged=scenario.staged, standby=scenario.standby
    )
    history = History(scenario, [box.twin() for box in seasoned])
    try:
        history.play()
    except (Violation, Impossible) as error:
        history.clock.error = error
    return history


@dataclass
class Tally:
    """What a series of histories came to."""

    histories: int = 0
    events: int = 0
    ends: Counter[int | None] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)


def play_many(
    seeds: range,
    *,
    stop_at: int = 1,
    kinds: tuple[str, ...] = KINDS,
    patience: Callable[[], bool] = lambda: True,
) -> Tally:
    """Play the histories of these seeds, with some kinds of faults, until `stop_at` fail or `patience` is over."""
    tally = Tally()
    gc.disable()
    gc.freeze()
    try:
        for seed in seeds:
            history = play(draw(seed, kinds))
            tally.histories += 1
            tally.events += history.clock.events
            tally.ends.update(operator.outcome for operator in history.operators[: len(history.scenario.acts)])
            tally.fired.update(history.fired)
            if history.clock.error:
                tally.failed.append(seed)
                if len(tally.failed) >= stop_at:
                    break
            _cut_circles(history)
            if tally.histories % 200 == 0:
                gc.collect()
                if not patience():
                    break
    finally:
        gc.unfreeze()
        gc.enable()
    return tally


def _cut_circles(history: History) -> None:
    """Take apart a history that is over: what is in no circle goes at once, and needs no garbage collection."""
    for each in (*history.operators, *history.world.all, history.world, history.clock, history):
        vars(each).clear()


def shrink(scenario: Scenario) -> Scenario:
    """Leave out faults and operators as long as it still fails."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(scenario):
            if play(candidate).clock.error:
                scenario, smaller = candidate, True
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    for n in range(len(scenario.faults)):
        yield replace(scenario, faults=scenario.faults[:n] + scenario.faults[n + 1 :])
    last = len(scenario.acts) - 1
    if last > 0:
        yield replace(
            scenario, acts=scenario.acts[:last], faults=tuple(f for f in scenario.faults if f.operator < last)
        )


def tell(history: History) -> str:
    """Return the story of a history, a line an event, and how it ended."""
    lines = [f"{at:8.2f} s  {who:6}  {''.join(map(str, what))}" for at, who, what in history.world.story]
    error = history.clock.error
    end = [f"=> {error}", f"again: python tests/sim/simulate.py --replay {history.scenario.seed}"]
    return "\n".join([str(history.scenario), *lines, *(end if error else ["=> healed"])])
