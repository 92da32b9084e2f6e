"""What is broken, and when. Each case is played under load, and a plain `inv deploy` follows."""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import testbed
from deploy import lock
from testbed.commands import docker, in_parallel
from testbed.faults import disk
from testbed.faults.altered import HURRIED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from testbed.faults.bed import Bed
    from testbed.faults.operator import Event, Operator
    from testbed.faults.relay import Relay

T = TypeVar("T")

VICTIM = 1
"""Which host is hurt: not the first, whose database all hosts share; unless it is alone."""

LINK_PATIENCE = 300.0
"""Seconds in which an operator must come to an end when a link is dead. To notice takes 15; then the host may be away
for 90, and is tried once more while all is undone; each time a last try to connect may take 10."""

SILENCE = 20.0
"""Seconds for which a link is silent that comes back: after 15 it counts as dead, and a new one is opened."""

BROKEN_OFF = 30.0
"""Seconds in which an operator must be gone after the second Ctrl-C."""

DONE, FAILED, REFUSED, HUMAN = 0, 1, 2, 3


def victim(hosts: Sequence[T]) -> T:
    return hosts[: VICTIM + 1][-1]


class Away(NamedTuple):
    """A host that cannot serve, by the nature of the fault: from when until when (monotonic)."""

    host: str
    since: float
    until: float


@dataclass
class Story:
    """What became of a case until the healing: how the operator ended, who was away, and what was not as promised."""

    at: str = ""
    codes: list[int] = field(default_factory=list)
    away: list[Away] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    struck: bool = True


@dataclass(frozen=True)
class Case:
    """`group` is its row in the matrix, `moment` its name in there; a case of a deploy has something to deploy."""

    group: str
    moment: str
    play: Callable[[Bed, Story], None] = field(repr=False)
    deploys: bool = True
    small_disk: bool = False  # it wants a victim whose disk can be filled


class Moment(NamedTuple):
    """An instant in an operator's life: told by an event, its number from 1."""

    name: str
    reached: Callable[[int, Event], bool]


def after(number: int) -> Moment:
    return Moment(f"event {number}", lambda n, _: n >= number)


def step(title: str, *, done: bool = False, host: str | None = None) -> Moment:
    """The instant at which a step begins, or is done, on a host, or on the first that gets there."""
    kind = "done" if done else "step"

    def reached(_: int, event: Event) -> bool:
        return (
            event["kind"] == kind
            and str(event.get("title", "")).startswith(title)
            and host in (None, event.get("host"))
        )

    return Moment(f"{title} {'done' if done else 'begun'}", reached)


def moments(host: str | None) -> list[Moment]:
    """One or two in each phase of a deploy; `host` is where they are looked for."""
    return [
        step("build the image"),
        step("take the image", done=True),
        step("migrate the database"),
        step("start ", host=host),
        step("gate ", host=host),
        step("switch nginx", done=True, host=host),
        step("watch ", host=host),
        step("hand the workers", host=host),
        step("drain ", host=host),
        step("stop ", host=host),
    ]


FINISHING = ("hand the workers", "drain ", "stop ")


def _strike(bed: Bed, story: Story, moment: Moment, *words: str, limit: float = 240, altered: str = "") -> Operator:
    """Start an operator and return when the moment has come."""
    operator = bed.operator(*words, limit=limit, altered=altered)
    event = operator.watch_until(moment.reached)
    story.struck = event is not None
    story.at = " ".join(str(event[key]) for key in ("host", "phase", "kind", "title") if key in event) if event else ""
    return operator


def _end(operator: Operator, story: Story) -> int:
    code = operator.finish()
    story.codes.append(code)
    if operator.overran:
        story.broken.append(f"the operator did not come to an end: {operator.events[-1:]}")
    return code


def _judge(bed: Bed, story: Story, operator: Operator, before: list[str], *, allowed: set[int]) -> None:
    """Say what an exit code tells that is not so: 0 is done everywhere, 1 and 2 are nowhere; 3 promises nothing."""
    code = story.codes[-1]
    if code not in allowed:
        story.broken.append(f"exit code {code}: {operator.said}")
    pages = bed.pages()
    if code in {FAILED, REFUSED} and pages != before:
        story.broken.append(f"exit code {code}, and users see {pages}, not {before}")
    if code == DONE and (pages == before or len(set(pages)) > 1):
        story.broken.append(f"exit code {code}, and users see {pages}, as {before} before")


# --- the operator ----------------------------------------------------------------------------------------------


def undisturbed() -> Case:
    def play(bed: Bed, story: Story) -> None:
        before = bed.pages()
        operator = bed.operator("deploy")
        _end(operator, story)
        _judge(bed, story, operator, before, allowed={DONE})

    return Case("undisturbed", "a deploy", play)


def killed(verb: str, moment: Moment) -> Case:
    def play(bed: Bed, story: Story) -> None:
        operator = _strike(bed, story, moment, verb)
        operator.send(signal.SIGKILL)
        operator.finish()

    return Case(f"SIGKILL in a {verb}", moment.name, play, deploys=verb == "deploy")


def interrupted(moment: Moment, number: signal.Signals) -> Case:
    """Once: everything is undone, on all hosts; a run that is finishing says what is left to do."""

    def play(bed: Bed, story: Story) -> None:
        before = bed.pages()
        operator = _strike(bed, story, moment, "deploy", "--settle=2")
        operator.send(number)
        code = _end(operator, story)
        finishing = moment.name.startswith(FINISHING)
        wanted = [f"v{bed.version}"] * len(before) if finishing else before
        if code not in ((DONE, HUMAN) if finishing else (FAILED,)):
            story.broken.append(f"exit code {code}: {operator.said}")
        if (pages := bed.pages()) != wanted:
            story.broken.append(f"users see {pages}, not {wanted}")

    name = "Ctrl-C once" if number == signal.SIGINT else number.name
    return Case(f"{name} in a deploy", moment.name, play)


def interrupted_twice(moment: Moment) -> Case:
    def play(bed: Bed, story: Story) -> None:
        before = bed.pages()
        operator = _strike(bed, story, moment, "deploy", "--settle=2")
        operator.send(signal.SIGINT)
        time.sleep(0.5)  # a person's second thought
        operator.send(signal.SIGINT)
        began = time.monotonic()
        _end(operator, story)
        if time.monotonic() - began > BROKEN_OFF:
            story.broken.append(f"it went on for {time.monotonic() - began:.0f} s after the second Ctrl-C")
        _judge(bed, story, operator, before, allowed={DONE, FAILED, HUMAN})

    return Case("Ctrl-C twice in a deploy", moment.name, play)


def at_once(hosts: Sequence[str], count: int, round_: int) -> Case:
    """Operators who each deploy another commit, to all hosts or to some: each succeeds, or is told who is at work."""
    subsets = [hosts, hosts[:2], hosts[1:], hosts[:1], hosts[2:]]
    chosen = [subsets[(number + round_) % len(subsets)] for number in range(count)]

    def play(bed: Bed, story: Story) -> None:
        refs = [bed.project.git("rev-parse", "HEAD")]
        for _ in range(count - 1):
            bed.commit()
            refs.append(bed.project.git("rev-parse", "HEAD"))
        operators = [
            bed.operator("deploy", f"--ref={ref}", f"--hosts={','.join(subset)}")
            for ref, subset in zip(refs, chosen, strict=True)
        ]
        story.codes = in_parallel(lambda operator: operator.finish(), operators)
        for operator, code in zip(operators, story.codes, strict=True):
            if code not in {DONE, REFUSED}:
                story.broken.append(f"exit code {code}: {operator.said}")
        if DONE not in story.codes:
            story.broken.append("each was told that another one is at work, and nobody deployed")
        story.at = " | ".join(",".join(host.rpartition(".")[2] for host in subset) for subset in chosen)

    return Case(f"{count} operators at once", f"round {round_ + 1}", play)


# --- the link --------------------------------------------------------------------------------------------------


class Cut(NamedTuple):
    """A way to lose a link; `back`: seconds until it is there again, None: never."""

    make: Callable[[Relay], None]
    back: float | None

    @contextlib.contextmanager
    def lost(self, relay: Relay) -> Iterator[None]:
        """Lose a link now; if it is to come back, it does so within the block or at its end."""
        self.make(relay)
        mending = threading.Timer(self.back or 0, relay.mend)
        if self.back is not None:
            mending.start()
        try:
            yield
        finally:
            mending.cancel()


def _reset(relay: Relay) -> None:
    relay.reset()


def _blip(relay: Relay) -> None:
    relay.reset(stay_down=False)


def _silence(relay: Relay) -> None:
    relay.go_silent()


CUTS = {
    "link reset, up again at once": Cut(_blip, 0),
    f"link silent for {SILENCE:.0f} s": Cut(_silence, SILENCE),
    "link reset, and down for good": Cut(_reset, None),
    "link silent for good (black hole)": Cut(_silence, None),
}


def cut(kind: str, verb: str, moment: Moment, *, hurried: bool = True) -> Case:
    """A link that comes back costs a run nothing but time. Of one that does not, all is undone that can be reached.

    What is to be waited out in full is a group of its own; the others are `hurried`.
    """
    how = CUTS[kind]

    def play(bed: Bed, story: Story) -> None:
        before = bed.pages()
        with bed.relayed() as relays:
            words = (verb, "--settle=2") if verb == "deploy" else (verb,)
            altered = HURRIED if hurried and how.back is None else ""
            operator = _strike(bed, story, moment, *words, limit=LINK_PATIENCE, altered=altered)
            began = any(event["kind"] == "phase" for event in operator.events)
            with how.lost(relays[victim(bed.hosts)]):
                _end(operator, story)
            mended = how.back is not None and began
            allowed = {DONE} if mended else {DONE, FAILED, REFUSED, HUMAN}
            _judge(bed, story, operator, before, allowed=allowed)

    name = f"{kind}, in a {verb}" if hurried else f"{kind}, the {lock.ABSENCE} s in full"
    return Case(name, moment.name, play, deploys=verb == "deploy")


# --- the hosts -------------------------------------------------------------------------------------------------


def restart_engine(target: testbed.Target) -> None:
    """As a package upgrade does: dockerd stops, its containers with it, and comes back."""
    _end_engine(target, "TERM")


def kill_engine(target: testbed.Target) -> None:
    """Its containers live on without it; the next dockerd ends them, to start them anew."""
    _end_engine(target, "KILL")


def _end_engine(target: testbed.Target, name: str) -> None:
    """Return when another dockerd answers: only from then on does it mean anything that users are served."""
    testbed.shell(
        target,
        f"""pid=$(cat /run/docker.pid)
        kill -{name} "$pid"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
        until docker version >/dev/null 2>&1; do sleep 0.1; done""",
        timeout=90,
    )


def reboot(target: testbed.Target) -> None:
    docker("restart", "-t", "15", target.container)


def kill_nginx(target: testbed.Target) -> None:
    _kill(target, "label=com.docker.compose.service=nginx")


def _kill(target: testbed.Target, *filters: str) -> None:
    """Kill a container's first process from outside: `docker kill` would keep the restart policy from helping."""
    chosen = " ".join(f"--filter {each}" for each in filters)
    testbed.shell(
        target, f"for id in $(docker ps -q {chosen}); do kill -KILL $(docker inspect -f '{{{{.State.Pid}}}}' $id); done"
    )


ALL_BUT_OVER = ("watch ", "hand the workers", "drain ", "stop ")
"""Where a run that is struck here fails, the new release may be live for good: that is for a human to know."""

HARMS: dict[str, Callable[[testbed.Target], None]] = {
    "dockerd restarted": restart_engine,
    "dockerd killed": kill_engine,
    "host rebooted": reboot,
    "nginx killed": kill_nginx,
}


def harmed(kind: str, moment: Moment | None) -> Case:
    """A host that goes down takes its own users with it, and none of the others'; it comes back by itself."""
    late = moment is not None and moment.name.startswith(ALL_BUT_OVER)

    def play(bed: Bed, story: Story) -> None:
        target = victim(bed.targets)
        before = bed.pages()
        operator = _strike(bed, story, moment, "deploy", "--settle=2") if moment else None
        since = time.monotonic()
        HARMS[kind](target)
        with _away(bed, story, target, since):
            if operator:
                _end(operator, story)
        if operator:
            _judge(bed, story, operator, before, allowed={DONE, FAILED, HUMAN} if late else {DONE, FAILED})

    return Case(kind, moment.name if moment else "between two deploys", play, deploys=moment is not None)


@contextlib.contextmanager
def _away(bed: Bed, story: Story, target: testbed.Target, since: float) -> Iterator[None]:
    """Have a host be away until it serves again, though the block goes on: what is lost after that is our fault."""
    with ThreadPoolExecutor(1) as aside:
        early = aside.submit(bed.await_back, target.address)
        yield
        back = early.result() or bed.await_back(target.address)
    if back is None:
        story.broken.append(f"{target.address} does not come back by itself")
    story.away.append(Away(target.address, since, back or time.monotonic()))


def new_colour_killed() -> Case:
    """It was live for a moment: its host's users notice until the undo has put them back."""

    def play(bed: Bed, story: Story) -> None:
        target = victim(bed.targets)
        before = bed.pages()
        operator = _strike(bed, story, step("watch ", host=target.address), "deploy", "--settle=8")
        colour = operator.events[-1]["title"].split()[1]
        since = time.monotonic()
        _kill(target, f"label=com.docker.compose.project=app-{colour}")
        with _away(bed, story, target, since):
            if (code := _end(operator, story)) != FAILED:
                story.broken.append(f"exit code {code}: {operator.said}")
        if (pages := bed.pages()) != before:
            story.broken.append(f"users see {pages}, not {before}")

    return Case("the new colour killed after the flip", "while it is watched", play)


DISK = "disk full"


def disk_full_before() -> Case:
    """Nothing is begun that could not be ended."""

    def play(bed: Bed, story: Story) -> None:
        before = bed.pages()
        disk.fill(bed.targets[VICTIM], leave=500 << 20)
        operator = bed.operator("deploy")
        if (code := _end(operator, story)) != REFUSED or "disk" not in operator.said:
            story.broken.append(f"exit code {code}: {operator.said}")
        if (pages := bed.pages()) != before:
            story.broken.append(f"users see {pages}, not {before}")
        disk.free(bed.targets[VICTIM])

    return Case(DISK, "before a deploy", play, small_disk=True)


def disk_filled(moment: Moment) -> Case:
    def play(bed: Bed, story: Story) -> None:
        before = bed.pages()
        operator = _strike(bed, story, moment, "deploy", "--settle=2")
        disk.fill(bed.targets[VICTIM], leave=0)
        _end(operator, story)
        _judge(bed, story, operator, before, allowed={DONE, FAILED, HUMAN})
        disk.free(bed.targets[VICTIM])

    return Case(DISK, moment.name, play, small_disk=True)


# --- all of them -----------------------------------------------------------------------------------------------


def every(hosts: Sequence[str], events: dict[str, int]) -> list[Case]:
    """Return all cases; `events` is how many an undisturbed run of each verb has.

    Those of a group are ordered from coarse to fine: however few there is time for, they are spread evenly.
    """
    victim = hosts[VICTIM]
    groups: list[list[Case]] = [
        [undisturbed()],
        *([killed(verb, after(number)) for number in spread(events[verb])] for verb in ("deploy", "rollback")),
    ]
    groups += [
        [interrupted(moment, signal.SIGINT) for moment in moments(None)],
        [interrupted(moment, signal.SIGTERM) for moment in moments(None)],
        [interrupted_twice(moment) for moment in moments(None)],
    ]
    for kind, how in CUTS.items():
        groups.append([cut(kind, "deploy", moment) for moment in moments(victim)])
        groups[-1] += [cut(kind, "deploy", after(number)) for number in spread(events["deploy"])]
        groups.append([cut(kind, "rollback", after(number)) for number in spread(events["rollback"])])
        if how.back is None:
            some = ("build the image", "switch nginx", "stop ")
            groups.append([cut(kind, "deploy", m, hurried=False) for m in moments(victim) if m.name.startswith(some)])
    groups += [[at_once(hosts, count, number) for number in range(5)] for count in (2, 5)]
    groups += [[harmed(kind, moment) for moment in (None, *moments(victim))] for kind in HARMS]
    groups += [[new_colour_killed()]]
    groups += [[disk_full_before(), *(disk_filled(moment) for moment in moments(victim))]]
    return list(_in_turn(groups))


def spread(count: int) -> list[int]:
    """Return 1 to `count`, each once, so that any beginning of the list covers the whole evenly."""
    stride = next(n for n in itertools.count(max(round(count * 0.618), 1)) if math.gcd(n, count) == 1)
    return [(number * stride) % count + 1 for number in range(1, count + 1)]


def _in_turn(groups: Sequence[Sequence[Case]]) -> Iterator[Case]:
    """One of each group, and again, so that a run which ends early has something of all."""
    for round_ in itertools.zip_longest(*groups):
        yield from (case for case in round_ if case is not None)
