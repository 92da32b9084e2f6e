"""The verbs as stories. Each looks at every host, lets the recipe decide, and has exactly that done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from deploy import clock, lock, papers, release, source
from deploy.apply import ask
from deploy.console.events import Event
from deploy.errors import ConfigError, Failed, GreenroomError, HostFailures, Interrupted, NeedsHuman, Refused
from deploy.recipe import facts as questions
from deploy.recipe import image, preflight, standing, waiting
from deploy.recipe import plan as plans
from deploy.recipe.shapes import joined
from deploy.recipe.steps import Phase
from deploy.run import STOPPED, Batching, Terms, engaged, means_of, no_parcels, observe, refuse
from deploy.source import Templates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deploy.config import Setup
    from deploy.console import Console
    from deploy.fleet import Fleet
    from deploy.recipe.model import App, Facts, Host, Release
    from deploy.recipe.steps import Plan
    from deploy.run import Plans, Run

Connect = Callable[[], "Fleet"]


@dataclass(frozen=True)
class Options:
    """What an operator may ask of a deploy. `settle` in seconds has gone into the App already.

    `wait` in seconds, for another run to be done.
    """

    ref: str = ""
    dirty: bool = False
    force: bool = False
    yes: bool = False
    wait: int = 0
    batching: Batching = field(default_factory=Batching)


EVERYWHERE = Options()

# --- the stories -----------------------------------------------------------------------------------------------


def deploy(setup: Setup, connect: Connect, console: Console, options: Options) -> None:
    """Bring every host to the release that the source makes, or leave every host where it is."""
    tree, made = read_release(setup, console, options)
    means = means_of(setup)
    fleet = connect()
    with engaged(setup.app, fleet, console, f"deploy {made.release.id}", Terms(options.wait), means) as run:
        seen = run.observe(tree.stamps)
        tell_of_maintenance(console, seen)
        made = release.replacing(made, standing.newest_live(setup.app, seen.values()))
        if not options.force and all(
            standing.is_unchanged(setup.app, host, seen[host], made.of(host).release) for host in seen
        ):
            console.emit(
                Event("ended", text=f"nothing to do: {_standing(setup.app, seen)} (--force deploys all the same)")
            )
            return
        tell_of_waiting(setup.app, console, seen)
        builders = image.builders(setup.app, seen)
        planned = {
            host: plans.plan_deploy(setup.app, host, facts, made.of(host).release, tree.stamps, fleet.leader, builders)
            for host, facts in seen.items()
        }
        beside = means.workshop.plans(made.release, tree.stamps, seen) if means.workshop else {}
        consent(planned, console, yes=options.yes)
        replace(run, plans_beside=beside).carry_out(
            "deploy", planned, made.release, release.Parcels(tree, made).open, options.batching
        )
        before = made.release.replaces
        back = f"; the way back to {before}: inv rollback {run.where}" if before else ""
        console.emit(Event("ended", text=f"{made.release.id} is live on {purposes(seen)}{back}"))


def rollback(setup: Setup, connect: Connect, console: Console, to: str = "", options: Options = EVERYWHERE) -> None:
    """Bring every host back to a release that lies there: the one before, or `to`."""
    fleet = connect()
    with engaged(setup.app, fleet, console, f"rollback {to}".strip(), Terms(options.wait)) as run:
        seen = run.observe()
        fit(setup.app, seen)
        tell_of_maintenance(console, seen)
        target = to or standing.rollback_target(setup.app, seen)
        wanted = {host: _stored(setup.app, facts, host, target) for host, facts in seen.items()}
        is_there = all(standing.live_release(setup.app, facts) == target for facts in seen.values())
        plan_one = plans.plan_tidy if is_there else plans.plan_rollback
        planned = {host: plan_one(setup.app, host, facts, wanted[host]) for host, facts in seen.items()}
        if not any(each.steps for each in planned.values()):
            console.emit(Event("ended", text=f"nothing to do: {_standing(setup.app, seen)}"))
            return
        if not is_there:
            tell_of_waiting(setup.app, console, seen, but=target)
        run.carry_out("rollback", planned, next(iter(wanted.values())), no_parcels, options.batching)
        said = "was live already, and what was left beside it is cleared away" if is_there else "is live again"
        console.emit(Event("ended", text=f"{target} {said} on {purposes(seen)}"))


def plan(setup: Setup, connect: Connect, console: Console, options: Options) -> None:
    """Print what deploy would do on each host, and why. Nothing is written, nothing is locked."""
    tree, made = read_release(setup, console, options)
    if setup.adopted:
        _show(setup, made, console)
        for note in made.notes:
            console.say(f"{setup.adopted.file}: {note}")
    means = means_of(setup)
    fleet = connect()
    seen = observe(setup.app, fleet, source=tree.stamps)
    made = release.replacing(made, standing.newest_live(setup.app, seen.values()))
    if not options.force and all(
        standing.is_unchanged(setup.app, host, seen[host], made.of(host).release) for host in seen
    ):
        console.say(f"nothing to do: {_standing(setup.app, seen)}")
        return
    builders = image.builders(setup.app, seen)
    beside = means.workshop.plans(made.release, tree.stamps, seen) if means.workshop else {}
    everywhere = beside | {
        host: plans.plan_deploy(setup.app, host, facts, made.of(host).release, tree.stamps, fleet.leader, builders)
        for host, facts in seen.items()
    }
    for host, planned in everywhere.items():
        console.say(f"{host.purpose}: {'; '.join((planned.note, *planned.data))}")
        for refusal in planned.refusals:
            console.say(f"{host}: stops the deploy: {refusal}")
        for each in planned.asks:
            console.say(f"{host}: asks (--yes): {each}")
        steps = [(str(phase), step) for phase in Phase for step in planned.of(phase)]
        console.table(
            ("host", "phase", "step", "because"),
            [(str(host), phase, step.title, step.because) for phase, step in steps],
        )


def config(setup: Setup, console: Console, options: Options) -> None:
    """Print the compose files that hosts would get. No host is asked."""
    templates = Templates(setup.templates)
    made = release.make(setup, release.read(setup, templates, options.ref, dirty=options.dirty), templates)
    _show(setup, made, console)


def status(setup: Setup, connect: Connect, console: Console) -> None:
    """Show one table over all hosts: what is live, since when, and how it feels."""
    app = setup.app
    seen = observe(app, connect(), questions.probe())
    console.table(
        *with_purpose(
            ("host", "live", "release", "since", "health", "containers", "settings stack", "idle"),
            {host: [_status_row(app, host, facts)] for host, facts in seen.items()},
        )
    )
    tell_of_trouble(console, seen)
    for host, facts in seen.items():
        if facts.locked:
            console.say(f"{host}: {lock.describe(facts.locked)}")
        if facts.maintenance:
            console.say(f"{host}: users see the maintenance page: {lock.describe(facts.maintenance, 'put up')}")
    live = {host: standing.live_release(app, facts) for host, facts in seen.items() if not facts.trouble}
    known = sorted({*live.values()} - {""})
    if known and (bare := [host for host in live if not live[host]]):
        console.say(f"nothing is live on {joined(bare)}; the next deploy brings there what the others get")
    if len(known) > 1:
        console.say(f"split: {', '.join(known)} are live at once; the next deploy heals it")


def history(setup: Setup, connect: Connect, console: Console, lines: int) -> None:
    """Show who did what when, and how it ended: every host's own record, merged."""
    variables = questions.variables(setup.app)
    answers = connect().each(lambda machine: ask(machine, variables, questions.history(lines)))
    rows = sorted({(a.values[0], str(host)) for host, found in answers.items() for a in found})
    console.table(("when", "host", "who", "what", "release", "from", "outcome"), [_history_row(*row) for row in rows])


def put_lock(setup: Setup, connect: Connect, console: Console, reason: str) -> None:
    """Keep every run off the hosts until `take_lock_away`."""
    who = release.who()
    fleet = connect()
    with engaged(setup.app, fleet, console, "lock") as run:
        steps = plans.plan_lock(setup.app, who, lock.manual(who, reason), reason)
        _everywhere(run, fleet, steps)
        console.emit(Event("ended", text=f"locked: {_reached(setup, fleet)}"))


def take_lock_away(setup: Setup, connect: Connect, console: Console, reason: str) -> None:
    """Let runs in again. A run that is at work keeps its lock: that one needs nobody to take it away."""
    fleet = connect()
    with engaged(setup.app, fleet, console, "unlock", Terms(through=True)) as run:
        steps = plans.plan_unlock(setup.app, release.who(), reason)
        _everywhere(run, fleet, steps)
        console.emit(Event("ended", text=f"unlocked: {_reached(setup, fleet)}"))


def _everywhere(run: Run, fleet: Fleet, steps: Plan) -> None:
    told = Failed("Other hosts may have it; `inv status` shows which.", mend="say it again")
    finish(run, dict.fromkeys((m.host for m in fleet.machines), steps), told)


def finish(run: Run, planned: Plans, broken: GreenroomError) -> None:
    """Do what needs no undo, because it may be done again: on all hosts, whatever happens on one.

    `broken` says what that means for hosts and users; it is raised, with the reason, for a failure of any kind.
    One that calls a human says that something was done before this.

    Raises:
        Refused: the lock was lost, and nothing was done before.

    """
    try:
        run.phase(Phase.FINISH, planned, no_parcels)
    except (HostFailures, Interrupted, KeyboardInterrupt, Refused) as error:
        if isinstance(error, Refused) and not isinstance(broken, NeedsHuman):
            raise
        raise type(broken)(f"{str(error) or STOPPED}\n{broken.what}", mend=broken.mend) from None


def _reached(setup: Setup, fleet: Fleet) -> str:
    """Name the hosts of a run, and those that were left out: nobody must take them for locked, or for open."""
    reached = [machine.host for machine in fleet.machines]
    left = [host for host in setup.hosts if host not in reached]
    return joined(reached) + (f"; left out, and as they were: {joined(left)}" if left else "")


# --- their parts -----------------------------------------------------------------------------------------------


def read_release(setup: Setup, console: Console, options: Options) -> tuple[source.Tree, release.Made]:
    templates = Templates(setup.templates)
    tree = release.read(setup, templates, options.ref, dirty=options.dirty)
    made = release.make(setup, tree, templates)
    for clash in preflight.collisions(papers.of(setup, tree, made)):
        raise ConfigError(
            f"templates/{clash.where}: {clash.what}", mend=f"{clash.mend}; `inv check` tells all there is"
        )
    console.emit(Event("note", text=f"release {made.release.id}: {tree.origin}"))
    if tree.left_out:
        console.emit(Event("note", text=tree.left_out))
    return tree, made


def _show(setup: Setup, made: release.Made, console: Console) -> None:
    """Print the compose files that hosts get, each with the compose projects that it makes."""
    app = setup.app
    for name, text in made.compose_files.items():
        stacks = [app.stack(colour) for colour, file in app.colour_files if file == name]
        console.file(name, ", ".join(stacks or [app.settings_stack]), text)


def consent(planned: Plans, console: Console, *, yes: bool) -> None:
    """Refuse what a host cannot take, and ask for what nobody should be surprised by."""
    refuse({host: each.refusals for host, each in planned.items()})
    asks = [f"{host}: {ask}" for host, each in planned.items() for ask in each.asks]
    if not asks or yes:
        return
    console.unwatch()
    if not console.confirm("\n".join((*asks, "Go on?"))):
        raise Refused("\n".join(asks), mend="if that is what you want, say --yes")
    console.watch([str(host) for host in planned])


def fit(app: App, seen: Mapping[Host, Facts]) -> None:
    refuse({host: standing.fitness(app, facts) for host, facts in seen.items()})


def answering(seen: Mapping[Host, Facts]) -> None:
    """Refuse to take hosts whose docker does not answer for hosts that have nothing."""
    refuse({host: [f"docker does not answer: {facts.trouble}"] for host, facts in seen.items() if facts.trouble})


def tell_of_trouble(console: Console, seen: Mapping[Host, Facts]) -> None:
    for host, facts in seen.items():
        if facts.trouble:
            console.say(f"{host}: docker does not answer: {facts.trouble}")


def tell_of_maintenance(console: Console, seen: Mapping[Host, Facts]) -> None:
    """A run changes nothing about it: it is for a person to say when users may see what came."""
    if hosts := [host for host, facts in seen.items() if facts.maintenance]:
        text = f"users of {joined(hosts)} see the maintenance page, until: inv maintenance.off"
        console.emit(Event("note", text=text))


def tell_of_waiting(app: App, console: Console, seen: Mapping[Host, Facts], but: str = "") -> None:
    """Name what waits in the idle colours, where the run needs the place; not the release `but`, which it goes to."""
    for host, facts in seen.items():
        what = waiting.waiting(app, facts)
        if what and waiting.release_of(app, facts, what.colour) != but:
            text = f"{waiting.describe(app, facts)}, {clock.ago(what.at)} ago; this run takes its place"
            console.emit(Event("note", host=str(host), text=text))


def _stored(app: App, facts: Facts, host: Host, target: str) -> Release:
    stored = facts.stored(target)
    if stored and stored.record and standing.can_start(facts, target):
        return replace(stored.record, who=release.who())  # who goes back, not who once made it
    there = ", ".join(r.id for r in facts.releases if r.has_image and r.record) or "none"
    what = f"release {target} is not on {host}" if target else f"no release before the live one is known on {host}"
    raise Refused(f"{what}; there are: {there} (the last {app.keep} are kept)", mend="say which: inv rollback --to=ID")


def purposes(hosts: Iterable[Host]) -> str:
    return ", ".join(host.purpose for host in hosts)


def _standing(app: App, seen: Mapping[Host, Facts]) -> str:
    return "; ".join(f"{host}: {standing.describe(app, facts)}" for host, facts in seen.items())


Row = tuple[str, ...]


def with_purpose(head: Row, rows: Mapping[Host, Iterable[Row]]) -> tuple[Row, list[Row]]:
    """Return head and rows of a table, with what each host is for behind its name where hosts differ in that."""
    if not any(host.runs for host in rows):
        return head, [row for each in rows.values() for row in each]
    told = [(row[0], ", ".join(host.runs) or "all", *row[1:]) for host, each in rows.items() for row in each]
    return (head[0], "runs", *head[1:]), told


def _status_row(app: App, host: Host, facts: Facts) -> tuple[str, ...]:
    if facts.trouble:
        return (str(host), *["?"] * 7)
    live = standing.live_release(app, facts)
    stored = facts.stored(live)
    settings = facts.of(app.settings_stack)
    running = sorted(c.service for c in settings if c.runs)
    return (
        str(host),
        str(facts.switch or "nobody") if facts.serves(app) else "-",
        live or "-",
        f"{clock.ago(stored.served)} ago" if stored and stored.served else "-",
        dict(facts.colour_health).get(facts.switch, "-") if facts.switch else "-",
        str(len(facts.of(app.stack(facts.switch)))) if facts.switch else "0",
        f"{len(running)} of {len(settings)} run" if settings else "not there",
        _idle(app, facts),
    )


def _idle(app: App, facts: Facts) -> str:
    if what := waiting.waiting(app, facts):
        return f"{waiting.describe(app, facts)}, {clock.ago(what.at)} ago"
    left = facts.of(app.stack(standing.idle_colour(facts)))
    return f"{len(left)} containers left" if left else "-"


def _history_row(line: str, host: str) -> tuple[str, ...]:
    known = questions.history_of(line)
    when, *rest = (known.get(key) or "-" for key in ("at", "who", "what", "release", "from", "outcome"))
    return (when, host, *rest)
