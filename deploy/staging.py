"""A deploy in two halves, as stories: a release waits in the idle colour, is looked at, and gets its turn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deploy import flow, machine, release
from deploy.apply import ask
from deploy.console.events import Event
from deploy.errors import Failed, Refused
from deploy.recipe import facts as questions
from deploy.recipe import image, plan, shell, standing, waiting
from deploy.recipe import stage as stages
from deploy.recipe.model import STAGED
from deploy.recipe.shapes import joined
from deploy.run import Batching, Terms, engaged, means_of, no_parcels, observe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deploy.apply import Channel
    from deploy.config import Setup
    from deploy.console import Console
    from deploy.fleet import Fleet
    from deploy.flow import Options
    from deploy.recipe.model import App, Facts, Host, Release
    from deploy.run import Plans

    Connect = Callable[[], Fleet]


PUBLIC = 80
"""Where nginx listens for users, inside its container."""


def stage(setup: Setup, connect: Connect, console: Console, options: Options) -> None:
    """Have every host run the release that the source makes in its idle colour, gated, or none; users see nothing."""
    app = setup.app
    tree, made = flow.read_release(setup, console, options)
    means = means_of(setup)
    fleet = connect()
    with engaged(app, fleet, console, f"stage {made.release.id}", Terms(options.wait), means) as run:
        seen = run.observe(tree.stamps)
        made = release.replacing(made, standing.newest_live(app, seen.values()))
        if not options.force and (there := _same(app, seen, made.release)):
            console.emit(Event("ended", text=f"nothing to do: {there} (--force stages all the same)"))
            return
        flow.tell_of_waiting(app, console, seen)
        builders = image.builders(app, seen)
        planned = {
            host: stages.plan_stage(app, host, facts, made.of(host).release, tree.stamps, fleet.leader, builders)
            for host, facts in seen.items()
        }
        beside = means.workshop.plans(made.release, tree.stamps, seen) if means.workshop else {}
        flow.consent(planned, console, yes=options.yes)
        replace(run, plans_beside=beside).carry_out(
            "stage", planned, made.release, release.Parcels(tree, made).open, Batching()
        )
        migrated = " The migration is done: what users have works on its data now." if app.migrate else ""
        console.emit(
            Event(
                "ended",
                text=f"{made.release.id} is staged on {joined(seen)}; nobody is sent to it.{migrated}\n"
                f"look: inv preview {run.where}; then: inv promote {run.where}, or inv unstage {run.where}",
            )
        )


def _same(app: App, seen: Mapping[Host, Facts], wanted: Release) -> str:
    """Say that every host has `wanted` staged already, or serves it; '' when that is not so."""
    if all(standing.is_unchanged(app, host, facts, wanted) for host, facts in seen.items()):
        return "it is live"
    there = {waiting.waits_there(app, facts, STAGED) for facts in seen.values() if facts.serves(app)}
    stored = [facts.stored(max(there, default="")) for facts in seen.values()]
    same = len(there) == 1 and all(s and s.record and s.record.fingerprint == wanted.fingerprint for s in stored)
    return f"{max(there)} is staged, and the same" if same else ""


def promote(setup: Setup, connect: Connect, console: Console, options: Options) -> None:
    """Send users to the release that is staged, on every host or on none: the second half of a deploy.

    Raises:
        Refused: it is not one and the same on every host. Where it is live already, only what is left there is done.

    """
    app = setup.app
    fleet = connect()
    with engaged(app, fleet, console, "promote", Terms(options.wait)) as run:
        seen = run.observe()
        flow.fit(app, seen)
        flow.tell_of_maintenance(console, seen)
        wanted = _staged(app, seen)
        planned = {host: stages.plan_promote(app, host, seen[host], each) for host, each in wanted.items()}
        flow.consent(planned, console, yes=options.yes)
        to = next(iter(wanted.values()))
        planned |= _left(app, {host: facts for host, facts in seen.items() if host not in planned}, to)
        part = replace(run, fleet=fleet.part(planned))
        part.carry_out("promote", planned, to, no_parcels, options.batching)
        back = f"; the way back to {to.replaces}: inv rollback {run.where}" if to.replaces else ""
        console.emit(Event("ended", text=f"{to.id} is live on {flow.purposes(seen)}{back}"))


def _staged(app: App, seen: Mapping[Host, Facts]) -> dict[Host, Release]:
    """Return the release that is to go live, by the hosts on which it is staged."""
    there = {host: waiting.waits_there(app, facts, STAGED) for host, facts in seen.items() if facts.serves(app)}
    ids = set(there.values()) - {""}
    mend = f"stage it anew, on all of them: inv stage --env={app.env}"
    if not ids:
        raise Refused("nothing is staged", mend=f"first: inv stage --env={app.env}")
    if len(ids) > 1:
        listed = "; ".join(f"{host}: {ident or 'nothing'}" for host, ident in there.items())
        raise Refused(f"not the same release is staged everywhere: {listed}", mend=mend)
    (ident,) = ids
    there |= {host: ident for host in seen.keys() - there.keys() if _lies_ready(seen[host], ident)}
    missing = [
        host for host, facts in seen.items() if ident not in (there.get(host), standing.live_release(app, facts))
    ]
    if missing:
        raise Refused(f"{ident} is not staged, whole and running, on {joined(missing)}", mend=mend)
    wanted = {}
    for host in (host for host, each in there.items() if each):
        stored = seen[host].stored(ident)
        if stored is None or stored.record is None or not stored.has_image:
            raise Refused(f"{host}: {ident} runs there, and its files are gone", mend=mend)
        wanted[host] = replace(stored.record, who=release.who())
    return wanted


def _left(app: App, live: Mapping[Host, Facts], to: Release) -> Plans:
    """Return what is to be done where it is live: whoever promoted it there may have died before the end."""
    left = {}
    for host, facts in live.items():
        stored = facts.stored(to.id)
        if stored and stored.record:
            left[host] = plan.plan_tidy(app, host, facts, replace(stored.record, who=to.who), "promote")
    return {host: each for host, each in left.items() if each.steps}


def _lies_ready(facts: Facts, ident: str) -> bool:
    """Say whether a host that is for workers alone has a staged release: its files and image, and no more."""
    stored = facts.stored(ident)
    return stored is not None and stored.has_image and not stored.served


def unstage(setup: Setup, connect: Connect, console: Console) -> None:
    """Take away what waits in the idle colour: what is staged, or the standby."""
    app = setup.app
    fleet = connect()
    with engaged(app, fleet, console, "unstage") as run:
        seen = run.observe()
        flow.answering(seen)
        planned = {host: stages.plan_unstage(app, facts, release.who()) for host, facts in seen.items()}
        gone = [f"{host}: {each.note}" for host, each in planned.items() if each.steps]
        if not gone:
            console.emit(Event("ended", text="nothing to do: nothing is staged, or on standby"))
            return
        flow.finish(run, planned, Failed("Users have what they had.", mend="say it again"))
        console.emit(Event("ended", text=f"taken away: {'; '.join(gone)}"))


def preview(setup: Setup, connect: Connect, console: Console, port: int) -> None:
    """Show the idle colour of a host at a port of this machine, until Ctrl-C.

    Raises:
        Refused: nothing runs in its idle colour, or the port is taken here.
        StepFailed: nginx does not run there, or its sshd forwards nothing.
        LinkLost: the link went away.

    """
    app = setup.app
    fleet = connect()
    seen = observe(app, fleet)
    flow.answering(seen)
    (host, facts), *_ = seen.items()
    idle = standing.idle_colour(facts)
    shown = waiting.release_of(app, facts, idle)
    if not host.takes(app.service):
        others = [str(each) for each in app.hosts if each.takes(app.service)]
        raise Refused(
            f"{host} runs no {app.service} (deploy.envs.{app.env}.runs): there is nothing to look at",
            mend=f"look at it on another host: inv preview --env={app.env} --hosts={others[0]}",
        )
    if not shown:
        raise Refused(
            f"{host}: nothing runs in the idle colour; {standing.describe(app, facts)}",
            mend=f"first: inv stage --env={app.env}",
        )
    (link,) = fleet.machines
    (answer,) = ask(link, questions.variables(app), shell.command("find_door", idle))
    address, door = answer.values

    def reach(path: str) -> Channel:
        """What nginx serves by itself stands behind the door of users alone, files of all releases (files.conf)."""
        is_file = path.startswith(tuple(f"/{name}/" for name in app.volumes))
        return link.reach((address, PUBLIC if is_file else int(door)))

    with machine.Forward(port, reach, app.health.host) as forward:
        what = waiting.describe(app, facts) or f"{shown}, left behind"
        console.say(
            f"http://127.0.0.1:{port}/ shows {idle} of {host}: {what}\n"
            f"users see {standing.live_release(app, facts) or 'nobody'}. What you do there is done to the same data.\n"
            f"The app is asked as {app.health.host}; a link that it makes with that name leads to what users see.\n"
            "Ctrl-C ends it."
        )
        forward.serve(lambda: console.unheard)
