"""A run: it holds the lock of every host, looks from behind the fence, and carries a plan out or undoes it."""

from __future__ import annotations

import contextlib
import secrets
import threading
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING

from deploy import clock, hooks, lock, release
from deploy.apply import Circumstances, apply, ask, begun
from deploy.console.events import Event
from deploy.errors import Failed, GreenroomError, HostFailures, Interrupted, NeedsHuman, StepFailed, Unfit
from deploy.image import Freight, Ways
from deploy.recipe import facts as questions
from deploy.recipe import files
from deploy.recipe.shapes import joined
from deploy.recipe.steps import BEFORE_FINISH, Cargo, Docket, Parcel, Phase, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from deploy.apply import Machine
    from deploy.config import Setup
    from deploy.console import Console
    from deploy.fleet import Fleet
    from deploy.here import Workshop
    from deploy.recipe import shell
    from deploy.recipe.model import App, Facts, Host, Release

STOPPED = "stopped by the operator"
Plans = dict["Host", Plan]

JOINED = (Phase.PREPARE, Phase.MIGRATE)
"""The phases that *start* may travel with; the others have something to be learnt from before it begins."""


def observe(
    app: App, fleet: Fleet, *more: shell.Command, source: Mapping[str, str] | None = None, run: str = ""
) -> dict[Host, Facts]:
    """Ask every host for its facts, among them how its source differs from `source` (stamps by path), if that is given.

    Nothing is written. A run that holds the lock gives its id.
    """
    variables = questions.variables(app)
    asked = (*more, *questions.volumes(app), questions.observe(source))

    def look(machine: Machine) -> list[shell.Answer]:
        return ask(machine, variables, *asked, run=run, stop=lambda: fleet.stop(patient=False))

    return {
        host: replace(questions.read(answers, source), runs=host.runs) for host, answers in fleet.each(look).items()
    }


def refuse(reasons: Mapping[Host, Sequence[str]]) -> None:
    """Go no further where hosts have reasons against it.

    Raises:
        HostFailures: these have.

    """
    unfit: dict[str, GreenroomError] = {str(host): Unfit("; ".join(each)) for host, each in reasons.items() if each}
    if unfit:
        raise HostFailures(unfit)


@dataclass(frozen=True)
class Terms:
    """On what terms a run gets the lock: `wait` for another run for so many seconds; `through` a person's lock."""

    wait: int = 0
    through: bool = False


AT_ONCE = Terms()


@dataclass(frozen=True)
class Means:
    """What a run works with besides its hosts: a machine that builds for them, and docker's login at a registry."""

    workshop: Workshop | None = None
    login: bytes = field(default=b"", repr=False)

    @property
    def machines(self) -> tuple[Machine, ...]:
        return (self.workshop.machine,) if self.workshop else ()

    def room(self) -> contextlib.AbstractContextManager[None]:
        return self.workshop.room() if self.workshop else contextlib.nullcontext()


NONE = Means()


def means_of(setup: Setup) -> Means:
    """Look at what a deploy needs on this machine.

    Raises:
        Refused: there is no password for the registry, or no docker to build with.

    """
    from deploy import here  # only who builds here needs it

    return Means(
        here.workshop(setup.app) if setup.app.build == "local" else None, setup.login.papers() if setup.login else b""
    )


@contextlib.contextmanager
def engaged(
    app: App, fleet: Fleet, console: Console, purpose: str, terms: Terms = AT_ONCE, means: Means = NONE
) -> Iterator[Run]:
    """Hold the lock for the time of the block.

    Raises:
        Locked: somebody else is at work; nothing was touched.

    """
    claim = lock.Claim(
        secrets.token_hex(8),
        release.who(),
        purpose,
        terms.wait,
        terms.through,
        lambda text: console.emit(Event("note", text=text)),
    )
    with lock.held(fleet, questions.variables(app), claim) as held, means.room():
        console.watch([str(machine.host) for machine in fleet.machines])
        try:
            freight = Freight(app, (*fleet.machines, *means.machines), means.login)
            yield Run(claim.run, app, fleet, console, held, freight, where_of(app, fleet), means.machines)
        finally:
            console.unwatch()


@dataclass(frozen=True)
class Batching:
    """How many hosts change at once: `size` hosts, or all where it is 0; seconds of `pause` between two batches."""

    size: int = 0
    pause: int = 0

    def of(self, planned: Plans) -> list[Plans]:
        hosts = list(planned)
        size = self.size or len(hosts)
        return [{host: planned[host] for host in hosts[n : n + size]} for n in range(0, len(hosts), size)]


def where_of(app: App, fleet: Fleet) -> str:
    """Return the flags that lead a command to the same hosts: what is done on some of an env is not meant for all."""
    hosts = [machine.host for machine in fleet.machines]
    return f"--env={app.env}" + ("" if {*hosts} == {*app.hosts} else f" --hosts={','.join(map(str, hosts))}")


@dataclass(frozen=True)
class Run:
    """A run that holds the lock of every host. Machines `beside` go through `plans_beside` with each batch.

    `where` are the flags of a command that is to be typed after it.
    """

    id: str
    app: App
    fleet: Fleet
    console: Console
    lock: lock.Lock = field(repr=False)
    freight: Freight = field(repr=False)
    where: str
    beside: tuple[Machine, ...] = ()
    plans_beside: Plans = field(default_factory=dict)

    def observe(self, source: Mapping[str, str] | None = None) -> dict[Host, Facts]:
        """Look from behind the fence: nothing that an earlier run left at work may change what is seen."""
        return observe(self.app, self.fleet, source=source, run=self.id)

    def carry_out(
        self, verb: str, planned: Plans, to: Release, parcels: Callable[[Parcel], IO[bytes]], batching: Batching
    ) -> None:
        """Bring one batch of hosts after the other to a release: all of a batch, or none of it, and then no further.

        Raises:
            Failed: something broke, and users have what they had.
            NeedsHuman: it could not be undone, or earlier batches have the new release already.
            Refused: a hook's program is not there; nothing was touched.

        """
        hooks.ready(self.app)
        done: list[Host] = []
        stopped = False
        for batch in batching.of(planned):
            begun: list[Host] = []
            rest = [host for host in planned if host not in done and host not in batch]
            try:
                if stopped:
                    raise Interrupted(STOPPED)  # it ends as an interrupt between two batches does
                if done and batching.pause:
                    self.console.emit(Event("note", text=f"{joined(done)} done; {batching.pause} s of pause"))
                    clock.pause(batching.pause, threading.Event())
                fleet = self.fleet.part(batch, *self.beside)
                begun = list(batch)
                stopped = replace(self, fleet=fleet).carry_out_batch(verb, batch, to, parcels, bool(rest))
            except (GreenroomError, KeyboardInterrupt) as error:
                if not done:
                    raise
                untouched = rest if begun else [*batch, *rest]
                failed = f"; {joined(begun)} failed" if begun else ""
                said = str(error) or STOPPED
                mend = _on_and_back(self.where, verb, to, [each.live for each in batch.values()])
                if isinstance(error, NeedsHuman) and not rest:
                    said, mend = error.what, error.mend
                raise NeedsHuman(
                    f"{said}\n{to.id} is live on {joined(done)}"
                    f"{failed}{f'; not touched: {joined(untouched)}' if untouched else ''}.",
                    mend=mend,
                ) from None
            done += batch

    def carry_out_batch(
        self, verb: str, planned: Plans, to: Release, parcels: Callable[[Parcel], IO[bytes]], more: bool
    ) -> bool:
        """Go through the phases, and tell the hooks how it ended. `more` batches may come.

        Return whether the operator asked to stop when the batch was done: then it stays done, and is the last.
        """
        occasion = hooks.Occasion(self.app, self.console, verb, to, tuple(map(str, planned)))
        try:
            finishes = self._carry_out_batch(verb, planned, to, parcels, more, occasion)
        except GreenroomError as error:
            occasion.failure(str(error))
            raise
        return finishes and occasion.finished()

    def _carry_out_batch(
        self,
        verb: str,
        planned: Plans,
        to: Release,
        parcels: Callable[[Parcel], IO[bytes]],
        more: bool,
        occasion: hooks.Occasion,
    ) -> bool:
        """Each phase ends everywhere before the next begins; a failure before finish undoes all.

        Return whether there was a finish.
        """
        try:
            for phases in self._stretches(planned, occasion):
                with occasion.around(*phases):
                    self.phases(phases, planned, parcels)
            finishes = any(each.of(Phase.FINISH) for each in planned.values())
            if finishes:
                occasion.before(Phase.FINISH)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # whatever it is, users come first
            self._undo(verb, planned, to, error)
        try:
            self.phase(Phase.FINISH, planned, parcels)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the same
            raise NeedsHuman(
                f"{str(error) or STOPPED}\n"
                f"{to.id} is {'staged' if verb == 'stage' else 'live'} on {joined(planned)}; "
                "what came before it is not cleared away.",
                mend=f"to clear it: inv {to_clear(verb, to, more=more)} {self.where}",
            ) from None
        return finishes

    def _stretches(self, planned: Plans, occasion: hooks.Occasion) -> list[tuple[Phase, ...]]:
        """Return the phases before *finish* that have steps, and together what may travel as one script.

        On a host that no other one waits for, *start* goes with what comes before it. The flip never does: a script may
        come to its end after its operator has gone, and what users get is changed for one who has heard that the new
        colour is fit. Nor does a migration go with *prepare*: that may be done twice where a link was lost.
        """
        is_alone = len(self.fleet.machines) == 1 and not self.lock.beside
        stretches: list[tuple[Phase, ...]] = []
        for phase in BEFORE_FINISH:
            if not self._with_steps(phase, planned):
                continue
            last = stretches[-1][-1] if stretches else None
            if is_alone and phase is Phase.START and last in JOINED and not occasion.between(last, phase):
                stretches[-1] += (phase,)
            else:
                stretches.append((phase,))
        return stretches

    def phase(self, phase: Phase, planned: Plans, parcels: Callable[[Parcel], IO[bytes]]) -> None:
        """Do a phase everywhere, if it has steps anywhere.

        Raises:
            HostFailures: at least one host failed; the others have ended the phase.
            Locked: another run has the env's lock, on its first host; nothing of this phase was done.

        """
        if self._with_steps(phase, planned):
            self.phases((phase,), planned, parcels)

    def phases(self, phases: tuple[Phase, ...], planned: Plans, parcels: Callable[[Parcel], IO[bytes]]) -> None:
        """Do a phase everywhere, or consecutive ones on a host alone; tell of every host that failed.

        Raises:
            HostFailures: at least one host failed; the others have ended the phase.
            Locked: another run has the env's lock, on its first host; nothing of this phase was done.

        """
        everywhere = {**planned, **self.plans_beside}
        if self.lock.lost and phases != (Phase.UNDO,):
            raise self.lock.lost
        reached = phases[0]

        def emit(event: Event) -> None:
            nonlocal reached
            if event.kind == "phase":
                reached = Phase(event.phase)
            self.console.emit(event)

        emit(begun(phases[0], planned))
        try:
            self._perform(phases, everywhere, parcels, self.fleet, emit)
            if phases == (Phase.SHIP,):
                self._ship_whole(planned)
                self._refuse_others(planned)
                for text in self.freight.told():
                    self.console.emit(Event("note", text=text))
        except HostFailures as failures:
            for host, error in failures.failures.items():
                self.console.emit(Event("failed", host=host, phase=str(reached), text=_with_tail(error)))
            raise

    def _with_steps(self, phase: Phase, planned: Plans) -> list[Plan]:
        return [each for each in (*planned.values(), *self.plans_beside.values()) if each.of(phase)]

    def _perform(
        self,
        phases: tuple[Phase, ...],
        planned: Plans,
        parcels: Callable[[Parcel], IO[bytes]],
        fleet: Fleet,
        emit: Callable[[Event], None],
    ) -> None:
        ways = Ways(self._mend, lambda: fleet.stop(patient=False))
        circumstances = Circumstances(
            self.id,
            emit,
            lambda parcel: parcels(parcel) if isinstance(parcel, Parcel) else self.freight.open(parcel, ways),
            fleet.stop,
            self._mend,
        )
        self.freight.learn(fleet.each(lambda machine: apply(machine, planned[machine.host], phases, circumstances)))

    def _ship_whole(self, planned: Plans) -> None:
        """Send all of an image to the hosts that refused to take a part of it.

        Raises:
            HostFailures: a host does not take it whole, either.

        """
        refused = self.freight.refusals()
        if not refused:
            return
        for host, why in refused.items():
            self.console.emit(Event("note", host=str(host), text=f"all of the image is sent: {why}"))
        self._perform((Phase.SHIP,), planned, no_parcels, self.fleet.part(refused), self.console.emit)
        refused = self.freight.refusals()
        if refused:
            raise HostFailures({str(host): StepFailed(f"take the image: {why}") for host, why in refused.items()})

    def _refuse_others(self, planned: Plans) -> None:
        """Go no further where something else came than what was built.

        Raises:
            HostFailures: these hosts have another image.

        """
        parcels = [step.parcel for each in planned.values() for step in each.of(Phase.SHIP)]
        others = self.freight.others(parcel for parcel in parcels if isinstance(parcel, (Cargo, Docket)))
        if others:
            raise HostFailures({str(host): StepFailed(why) for host, why in others.items()})

    def _mend(self, machine: Machine) -> None:
        self.lock.mend(machine, lambda: self.fleet.stop(patient=False))

    def _undo(self, verb: str, planned: Plans, to: Release, cause: BaseException) -> None:
        reason = str(cause) or STOPPED
        undoing = {host: _recorded(each, verb, to, reason) for host, each in planned.items()}
        before = "; ".join(f"{host}: {each.note}" for host, each in planned.items())
        where = self.where
        try:
            self.phase(Phase.UNDO, undoing, no_parcels)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the same
            raise NeedsHuman(
                f"{reason}\nIt could not be undone everywhere:\n{str(error) or STOPPED}\nBefore, users had: {before}.",
                mend=f"see what users have now: inv status {where}; a deploy starts from there: inv deploy {where}",
            ) from None
        raise Failed(f"{reason}\nUndone on every host. Users have what they had: {before}.") from None


def to_clear(verb: str, to: Release, *, more: bool = False) -> str:
    """Return the command that ends what broke after `to` went live, or was staged, with the same source.

    With `more` batches to come it is not live everywhere: an env.push, which begins from one live release, is refused.
    """
    if verb in {"rollback", "promote"}:  # a deploy could bring another source than the one that was staged
        return f"rollback --to={to.id}"
    if verb == "env.push":
        return f"deploy{_of_the_same_source(to)} --force" if more else "env.push --force"
    return f"{verb}{_of_the_same_source(to)} --force"


def _of_the_same_source(to: Release) -> str:
    if to.id.endswith("-dirty"):
        return " --dirty"
    return f" --ref={to.revision}" if to.revision else ""


def _on_and_back(where: str, verb: str, to: Release, lives: Iterable[str]) -> str:
    """Say how to go on where some hosts have what was wanted and others have not, and how to go back."""
    others = {"promote": "promote", "rollback": f"rollback --to={to.id}"}
    on = others.get(verb) or f"deploy{_of_the_same_source(to)}"
    back = f"rollback --to={max(lives)}" if verb == "rollback" else "rollback"
    return f"to go on: inv {on} {where}; to go back: inv {back} {where}"


def no_parcels(parcel: Parcel | Cargo | Docket) -> IO[bytes]:
    """Stand for the parcels of a phase that sends nothing."""
    raise AssertionError(f"nothing is sent in this phase, and yet {parcel} was asked for")


def _recorded(each: Plan, verb: str, to: Release, reason: str) -> Plan:
    """The undo, with a line in the history that says why: the first line of the reason, no program's output."""
    step = files.record(verb, to, each.live, f"undone: {reason.splitlines()[0][:200]}")
    return Plan(steps={Phase.UNDO: (*each.of(Phase.UNDO), step)}, variables=each.variables)


def _with_tail(error: GreenroomError) -> str:
    tail = error.tail if isinstance(error, StepFailed) else ()
    # The bar keeps a forge from reading a command in it: GitHub takes a line that begins with ::, behind blanks, too.
    return "\n".join([str(error), *(f"    | {line}" for line in tail)])
