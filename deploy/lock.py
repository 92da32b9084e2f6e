"""One run at a time: on all hosts or on none.

The lock is a flock on each host, held by a connection that the operator's heartbeat keeps alive (host/lock.sh). A dead
operator's connection ends, or falls silent for LEASE seconds, and the kernel lets go: nobody has to break a lock.

Every run of an env takes the lock of the env's first host before any other, whichever hosts it is limited to. So two
runs never hold each other up half-way, and runs on different hosts never migrate one database at once.
"""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploy import clock
from deploy.apply import ask
from deploy.errors import GreenroomError, LinkLost, Locked, Overdue, Refused, StepFailed, Unfit, Unreachable
from deploy.recipe import shell
from deploy.recipe.shell import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from deploy.apply import Hold, Machine
    from deploy.fleet import Fleet
    from deploy.recipe.model import Host

LEASE = 30
BEAT = 5
"""Seconds: a lease outlives a few lost heartbeats, and a dead operator by no more than itself."""

LOOK = 2
"""Seconds between two looks at a lock that somebody else has, or at a host that is away."""

FAREWELL = 5
"""Seconds that hosts may take to let go; then their connections are closed, which lets go, too."""

ABSENCE = 90
"""Seconds that a host may be away in the middle of a run: a link that comes back, a reboot."""

PATIENCE = 50
"""Seconds that docker may take after its host is back; a question may take 60."""


@dataclass(frozen=True)
class Claim:
    """Who wants the lock, for what. `patience` in seconds: how long to wait for somebody else to be done.

    `through` passes a lock that a person has put on (inv lock): to take it away.
    """

    run: str
    who: str
    purpose: str
    patience: float = 0
    through: bool = False
    tell: Callable[[str], None] = field(default=lambda _text: None)


class Lock:
    """The lock of one run, held on some hosts; `beside` is the env's first one, if the run does not work there.

    `lost` says who got that one's lock meanwhile.
    """

    def __init__(self, variables: tuple[tuple[str, str], ...], claim: Claim) -> None:
        self._variables = variables
        self._claim = claim
        self._since = _now()
        self._holds: dict[Host, Hold] = {}
        self._given_up: set[Host] = set()
        self.beside: Machine | None = None
        self.lost: Refused | None = None
        self._ended = threading.Event()

    def take(self, machine: Machine, patience: float = 0) -> None:
        """Take the lock of a host, or wait for it for `patience` seconds.

        Raises:
            Locked: somebody else has it.
            Refused: this run has it, under another name of the host.
            Unfit: nothing can be written there.

        """
        deadline = clock.monotonic() + patience
        told = ""
        while reason := self._try(machine, "through" if self._claim.through else "first"):
            if clock.monotonic() >= deadline:
                raise reason
            if reason.what.partition(";")[0] != told:
                told = reason.what.partition(";")[0]
                self._claim.tell(f"waiting: {reason.what}")
            clock.pause(LOOK, self._ended)

    def take_first(self, machine: Machine, *, beside: bool) -> None:
        """Take the lock of the env's first host; `beside` says that the run does not work on it.

        Raises:
            Locked: somebody else has it, and the claim's patience is over.
            Unfit: nothing can be written there.

        """
        try:
            self.take(machine, self._claim.patience)
        except Refused as reason:
            raise type(reason)(f"{machine.host}: {reason.what}", mend=reason.mend) from None
        self.beside = machine if beside else None

    def mend(self, machine: Machine, stop: Callable[[], bool]) -> None:
        """Bring a machine back whose link was lost: the connection, the lock, and an engine that answers.

        One that was waited for in vain is tried once more, in the undo, and not waited for again.

        Raises:
            LinkLost: it stayed away for ABSENCE seconds, or is still away, or `stop` said that nobody wants to wait.
            Locked: somebody else has had the lock meanwhile: what this run knows of the host is not true any more.
            StepFailed: docker does not come back.

        """
        deadline = clock.monotonic() + (ABSENCE if machine.host not in self._given_up else 0)
        while away := self._return(machine):
            is_over = clock.monotonic() >= deadline
            if is_over:
                self._given_up.add(machine.host)
            if is_over or stop():
                raise LinkLost(f"the link went away, and the host did not come back: {away.what}")
            clock.pause(LOOK, self._ended)
        self._given_up.discard(machine.host)

    def _return(self, machine: Machine) -> GreenroomError | None:
        """Say why a machine is still away, if it is."""
        try:
            machine.reconnect()
            reason = self._try(machine, "again")
            if not reason:
                # Not behind the fence: that asks docker what an earlier script left at work.
                ask(machine, self._variables, shell.command("await_engine", PATIENCE))
        except (LinkLost, Overdue, Unreachable, Unfit) as error:  # a host that boots may not have all its disks yet
            return error
        if reason:
            raise reason
        return None

    def beat(self) -> None:
        """Keep the leases alive until `release`.

        A host that the run works on says itself that it lost the lock: every script stands behind its fence.
        """
        while not clock.pause(BEAT, self._ended):
            for hold in tuple(self._holds.values()):
                hold.beat()

    def attend(self) -> None:
        """Take the lock of the host beside the run back, when its link was lost, until `release`.

        This may take a minute each time. Were it one thread's work, the leases of other hosts would lapse meanwhile.
        """
        while self.beside and not clock.pause(BEAT, self._ended):
            if not self._holds[self.beside.host].beat():
                with contextlib.suppress(GreenroomError):  # the next beat tries again
                    self.beside.reconnect()
                    self.lost = self._try(self.beside, "again")

    def release(self) -> None:
        """Let go of all but the first host's at once; and then of that: whoever gets it finds the others free."""
        self._ended.set()
        holds = tuple(self._holds.values())
        _let_go(holds[1:])
        _let_go(holds[:1])

    def _try(self, machine: Machine, how: str) -> Refused | None:
        claim = self._claim
        holder = {"who": claim.who, "doing": claim.purpose, "since": self._since, "run": claim.run}
        holder["host"] = str(machine.host)
        words = shell.command("hold", claim.run, LEASE, json.dumps(holder), how)
        try:
            hold = machine.hold(Script((words,), self._variables, holds=True))
        except StepFailed as error:
            raise Unfit(f"its lock cannot be taken: {error}", mend="when that is mended there, say it again") from None
        if hold.answer.key == "held":
            self._holds[machine.host] = hold
            return None
        _let_go([hold])
        return _reason(hold.answer, claim.run)


def _let_go(holds: Sequence[Hold]) -> None:
    """Say it to all of them before any is waited for, and wait for all together no longer than for one."""
    for hold in holds:
        hold.let_go()
    deadline = clock.monotonic() + FAREWELL
    for hold in holds:
        hold.gone(max(0, deadline - clock.monotonic()))


@contextlib.contextmanager
def held(fleet: Fleet, variables: tuple[tuple[str, str], ...], claim: Claim) -> Iterator[Lock]:
    """Hold the lock of every host of the fleet, and of the env's first host, for the time of the block.

    Raises:
        Locked: somebody has one of them; nothing is held then.
        Refused: two names of the fleet lead to one machine: the first has the lock, and the second meets it.

    """
    lock = Lock(variables, claim)
    hearts = [threading.Thread(target=each, daemon=True) for each in (lock.beat, lock.attend)]
    try:
        first = fleet.first()
        lock.take_first(first, beside=first not in fleet.machines)
        for heart in hearts:
            heart.start()
        fleet.each(lambda machine: None if machine is first else lock.take(machine))
        yield lock
    finally:
        # How the run ended stands. Ctrl-C only makes it quicker: a connection that is closed lets go of its lock, too.
        with contextlib.suppress(KeyboardInterrupt):
            lock.release()
            for heart in hearts:
                if heart.is_alive():
                    heart.join()


def manual(who: str, reason: str) -> str:
    """Return what a sign that a person puts up says of itself: a lock, maintenance."""
    return json.dumps({"who": who, "reason": reason, "since": _now()})


def _now() -> str:
    return f"{clock.utc_now():%Y-%m-%d %H:%M:%S} UTC"


def _reason(answer: shell.Answer, run: str) -> Refused:
    """Say who has the lock, from where, since when and for what."""
    values = answer.values
    match answer.key:
        case "locked_by":
            return Locked(describe(values[0]), mend="when that is over: inv unlock --reason=...")
        case "held_since":
            return Locked("another run has been at work here since the link went away")
    known = _known(values[0])
    if known.get("run") == run:
        return Refused(
            f"it is the same machine as {known['host']}, under another name",
            mend="one host cannot deploy from two sides: name it once in deploy.envs",
        )
    text = "somebody is at work here"
    if {"who", "since", "doing"} <= known.keys():
        text = f"{known['who']} is at work here since {known['since']}: {known['doing']}"
    return Locked(
        f"{text}; last heard of {values[1]} s ago: the lock goes with that run, or {LEASE} s after it fell silent",
        mend="to wait for it: --wait",
    )


def describe(text: str, what: str = "locked") -> str:
    """Say what a lock that a person has put on says, or another sign of that kind: who, since when, why."""
    known = _known(text)
    if not {"who", "since", "reason"} <= known.keys():
        return f"{what} by somebody"
    return f"{what} by {known['who']} since {known['since']}: {known['reason']}"


def _known(text: str) -> dict[str, str]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
