"""Performs a phase on one machine. It knows nothing of docker or nginx: a step is a title, a command and a deadline."""

from __future__ import annotations

import collections
import contextlib
import itertools
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

from deploy import clock
from deploy.console.events import Event
from deploy.errors import Interrupted, LinkLost, StepFailed, Unfit
from deploy.recipe import shell
from deploy.recipe.shapes import joined
from deploy.recipe.shell import Script
from deploy.recipe.steps import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from deploy.recipe.model import Host
    from deploy.recipe.shell import Answer, Command, Line, Signal
    from deploy.recipe.steps import Cargo, Docket, Parcel, Plan, Step

TAIL = 40
"""Lines of a failed step that are kept to be shown."""

LOSSES = 5
"""Times that a lost link is mended in one phase on one host."""

BEHIND_FENCE = 300.0
"""Seconds for questions of a run: to compare a source takes as long as to read it, behind a fence that takes AIR."""

AIR = 120
"""Seconds that a script may take beyond its steps' own deadlines: the wire, a busy host, and the fence, which may wait
60 for what an earlier run left at work, and 30 for docker."""


_TURNS = itertools.count(1)
"""Numbers of scripts, in the order in which they are sent."""


class Hold(Protocol):
    """Something kept on a host while `beat` is called."""

    answer: Answer

    def beat(self) -> bool: ...
    def let_go(self) -> None: ...
    def gone(self, within: float) -> None: ...


class Source(Protocol):
    """A payload on its way from a host. Its end is heard, or `read` raises; `close` may be called at any time."""

    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class Terminal(Protocol):
    """The far end of a terminal: something that types and is typed to."""

    def fileno(self) -> int: ...
    def read(self) -> bytes: ...
    def write(self, typed: bytes) -> None: ...
    def resize(self, columns: int, rows: int) -> None: ...
    def end(self) -> int: ...


class Machine(Protocol):
    """A Host we can talk to: over SSH, or in memory for tests."""

    host: Host

    def run(
        self, script: Script, *, parcel: IO[bytes] | None = None, stop: Callable[[], bool] = ...
    ) -> Iterator[Signal]: ...
    def fetch(self, script: Script, *, stop: Callable[[], bool] = ...) -> Source: ...
    def hold(self, script: Script) -> Hold: ...
    def reach(self, address: tuple[str, int]) -> Channel: ...
    def interact(self, line: Command, kind: str, size: tuple[int, int]) -> Terminal: ...
    def reconnect(self) -> None: ...
    def close(self) -> None: ...


class Channel(Protocol):
    """A connection that a host has opened for us. `recv` gives b"" at its end."""

    def fileno(self) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Circumstances:
    """What a phase needs besides its plan.

    `parcels` turns a parcel into bytes; `emit` takes events; `stop(patient)` says whether to break off now, where
    `patient` tells whether the step under way only looks; `mend` brings back a machine whose link was lost.
    """

    run: str
    emit: Callable[[Event], None]
    parcels: Callable[[Parcel | Cargo | Docket], IO[bytes]]
    stop: Callable[[bool], bool]
    mend: Callable[[Machine], None]


def ask(
    machine: Machine,
    variables: tuple[tuple[str, str], ...],
    *questions: Command,
    run: str = "",
    stop: Callable[[], bool] = lambda: False,
) -> list[Answer]:
    """Ask a host, without a write; behind the fence if a `run` asks. A host that stops half-way has answered nothing.

    Raises:
        Interrupted: `stop` said so.
        LinkLost: the end was not heard.
        StepFailed: a question failed; its last lines say why.
        Unfit: the host does not let the run past its fence.

    """
    answers: list[Answer] = []
    lines: collections.deque[str] = collections.deque(maxlen=TAIL)
    deadline = BEHIND_FENCE if run else Script.deadline
    for signal in machine.run(Script(questions, variables, run=run, turn=next(_TURNS), deadline=deadline), stop=stop):
        match signal:
            case shell.Answer():
                answers.append(signal)
            case shell.Line(text):
                lines.append(text)
            case shell.End(number, status) if status:
                if number == shell.FENCE:
                    raise Unfit(f"it cannot be taken over: {' '.join(lines)}")
                word = questions[number].words[0]
                raise StepFailed(f"{word}: failed (exit status {status}): {'; '.join(lines)}")
            case shell.Finished():
                return answers
    if stop():
        raise Interrupted("broken off")
    raise LinkLost("it stopped answering: " + ("; ".join(lines) or "not a word"))


def listen(machine: Machine, script: Script, stop: Callable[[], bool] = lambda: False) -> Iterator[Answer | Line]:
    """Yield what a script says, as it says it, until it ends or `stop` says so.

    Raises:
        LinkLost: it went silent before its end.
        StepFailed: it says that it failed; why stands in what it said last.

    """
    lines: collections.deque[str] = collections.deque(maxlen=TAIL)
    for signal in machine.run(script, stop=stop):
        match signal:
            case shell.Line(text):
                lines.append(text)
                yield signal
            case shell.Answer():
                yield signal
            case shell.End(_, status) if status:
                raise StepFailed(lines[-1] if lines else f"failed (exit status {status})")
            case shell.Finished():
                return
    if not stop():
        raise LinkLost("the link went away")


def apply(machine: Machine, plan: Plan, phases: Sequence[Phase], circumstances: Circumstances) -> list[Answer]:
    """Do consecutive phases of a plan, in one round trip; return what their words answered.

    Where the link goes away, what the step under way did is not known. So it is ended where it still is at work (the
    fence sees to that), and done again: every step may run twice. Only a migration may not, if it can be helped.

    Raises:
        StepFailed: a step said no.
        Overdue: the steps took longer than they may.
        LinkLost: the end was not heard, and the host did not come back.
        Interrupted: it was broken off.

    """
    steps = [(phase, step) for phase in phases for step in plan.of(phase)]
    if not steps:
        return []
    performance = _Performance(machine.host, steps, circumstances)
    lost = performance.perform(machine, plan)
    for _ in range(LOSSES):
        if not lost or (performance.may_have_migrated and lost.sent):
            break
        performance.tell(f"{lost.what}; asking again")
        circumstances.mend(machine)
        lost = performance.perform(machine, plan)
    if lost:
        raise lost
    return performance.answers


class _Performance:
    """What one script does on one machine, as its signals come in: a phase, or several that no other host waits for."""

    def __init__(self, host: Host, steps: Sequence[tuple[Phase, Step]], circumstances: Circumstances) -> None:
        self._host = str(host)
        self._steps = steps
        self._ended = 0
        self._phase = steps[0][0]
        self._circumstances = circumstances
        self._current: Step | None = None
        self._began = clock.monotonic()
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL)
        self._found = ""
        self.answers: list[Answer] = []

    @property
    def may_have_migrated(self) -> bool:
        """Say whether a migration is among the steps of which no end was heard: the script may have come to it."""
        return any(phase is Phase.MIGRATE for phase, _ in self._steps[self._ended :])

    def perform(self, machine: Machine, plan: Plan) -> LinkLost | None:
        """Do the steps of which no end was heard yet; return how the link went away, if it did."""
        try:
            self._perform(machine, plan)
        except LinkLost as lost:
            return lost
        return None

    def _perform(self, machine: Machine, plan: Plan) -> None:
        self._steps = self._steps[self._ended :]
        self._ended = 0
        steps = [step for _, step in self._steps]
        script = Script(
            tuple(step.command for step in steps),
            plan.variables,
            run=self._circumstances.run,
            turn=next(_TURNS),
            deadline=sum(step.deadline for step in steps) + AIR,
        )
        with contextlib.ExitStack() as stack:
            parcels = (self._circumstances.parcels(step.parcel) for step in steps if step.parcel)
            parcel = next((stack.enter_context(each) for each in parcels), None)
            for signal in machine.run(script, parcel=parcel, stop=self._stop):
                if isinstance(signal, shell.Finished):
                    return
                self._hear(signal)
        title = self._current.title if self._current else "begin"
        if self._stop():
            raise Interrupted(f"{title}: broken off")
        raise LinkLost(f"{title}: the link went away; what it did is not known")

    def _stop(self) -> bool:
        return self._circumstances.stop(self._current is not None and self._current.patient)

    def _hear(self, signal: Signal) -> None:
        match signal:
            case shell.Begin(number) if number != shell.FENCE:
                self._enter(*self._steps[number])
                self._began = clock.monotonic()
                self._tail.clear()
                self._found = ""
                self._emit("step", text=self._steps[number][1].because)
            case shell.End(number, status):
                self._end(number, status)
            case shell.Answer("found", (text,)):
                self._found = text
            case shell.Answer():
                self.answers.append(signal)
            case shell.Line(text):
                self._tail.append(text)
                self._emit("line", text=text)

    def _enter(self, phase: Phase, step: Step) -> None:
        if phase is not self._phase:
            self._phase, self._current = phase, None
            self._circumstances.emit(begun(phase, [self._host]))
        self._current = step

    def _end(self, number: int, status: int) -> None:
        if status:
            title = self._steps[number][1].title if number != shell.FENCE else "take over the host"
            raise StepFailed(f"{title}: failed (exit status {status})", tail=tuple(self._tail))
        if number != shell.FENCE:
            self._ended = number + 1
            self._emit("done", text=self._found, seconds=clock.monotonic() - self._began)

    def tell(self, text: str) -> None:
        self._emit("note", text=text)

    def _emit(self, kind: str, *, text: str = "", seconds: float = 0) -> None:
        title = self._current.title if self._current else ""
        self._circumstances.emit(
            Event(kind, host=self._host, phase=str(self._phase), title=title, text=text, seconds=seconds)
        )


def begun(phase: Phase, hosts: Iterable[object]) -> Event:
    """Say that a phase has begun on these hosts."""
    return Event("phase", phase=str(phase), text=f"on {joined(hosts)}")
