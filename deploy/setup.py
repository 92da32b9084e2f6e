"""The story of `inv setup`: a bare host becomes one that can be deployed to. It says first what it will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.apply import Circumstances, apply, ask
from deploy.console.events import Event
from deploy.errors import Failed, HostFailures, Refused
from deploy.recipe import nginx
from deploy.recipe import setup as recipe
from deploy.recipe.steps import Phase
from deploy.run import no_parcels, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.apply import Machine
    from deploy.config import Setup
    from deploy.console import Console
    from deploy.errors import GreenroomError
    from deploy.fleet import Fleet
    from deploy.recipe.model import Host
    from deploy.recipe.setup import Ground
    from deploy.recipe.steps import Plan


@dataclass(frozen=True)
class Options:
    """Whether docker's own packages are wanted; whether a person has agreed already."""

    of_docker: bool = False
    yes: bool = False


def setup(configured: Setup, connect: Callable[[], Fleet], console: Console, options: Options) -> None:
    """Bring every host of an env to where `inv check` finds nothing missing. A host that is ready is left alone.

    Raises:
        HostFailures: hosts that cannot be made ready, all of them by name.
        Refused: nobody agreed; nothing was touched.

    """
    app = configured.app
    fleet = connect()
    wanted = {str(host): host.user for host in configured.hosts}
    users = {str(m.host): wanted[str(m.host)] or m.host.user or "" for m in fleet.machines}
    seen = _surveyed(configured, fleet, users)
    planned = {
        host: recipe.plan(app, users[str(host)], ground, of_docker=options.of_docker) for host, ground in seen.items()
    }
    for host in seen:
        if not wanted[str(host)]:
            console.say(
                f"{host}: this is about {users[str(host)]}, as whom you came: hosts names nobody. If deploys log in as "
                f"somebody else, say so in deploy.envs.{app.env}.hosts: NAME@{host}"
            )
    _tell(planned, console)
    if any(each.steps for each in planned.values()):
        if not options.yes and not console.confirm("Go on?"):
            raise Refused("nobody has agreed to that; nothing was touched", mend="if it is what you want, say --yes")
        _carry_out(fleet, planned, console)
        seen = _surveyed(configured, fleet, users)
    _conclude(configured, seen, users, console)


def _surveyed(configured: Setup, fleet: Fleet, users: dict[str, str]) -> dict[Host, Ground]:
    def survey(machine: Machine) -> Ground:
        question = recipe.survey(users[str(machine.host)], configured.app)
        return recipe.read(ask(machine, recipe.variables(), question))

    return fleet.each(survey)


def _tell(planned: dict[Host, Plan], console: Console) -> None:
    refuse({host: each.refusals for host, each in planned.items()})
    for host, each in planned.items():
        console.say(f"{host}: {each.note}" + ("" if each.steps else ": it is ready, nothing to do"))
    steps = [(str(host), step) for host, each in planned.items() for step in each.of(Phase.PREPARE)]
    if steps:
        rows = [(host, step.title, step.because, str(step.command)) for host, step in steps]
        console.table(("host", "step", "because", "does"), rows)


def _carry_out(fleet: Fleet, planned: dict[Host, Plan], console: Console) -> None:
    """No lock: every step may run twice, at the same time too; packages have a lock of their own."""
    circumstances = Circumstances("", console.emit, no_parcels, fleet.stop, lambda machine: machine.reconnect())
    console.watch([str(machine.host) for machine in fleet.machines])
    try:
        fleet.each(lambda machine: apply(machine, planned[machine.host], (Phase.PREPARE,), circumstances))
    except HostFailures as failures:
        for host, error in failures.failures.items():
            tail = "".join(f"\n    {line}" for line in getattr(error, "tail", ()))
            console.emit(Event("failed", host=host, text=f"{error}{tail}"))
        raise Failed(
            f"{failures}\nWhat was done stays.", mend="mend that, and say it again: what is there is left alone"
        ) from None
    finally:
        console.unwatch()


def _conclude(configured: Setup, seen: dict[Host, Ground], users: dict[str, str], console: Console) -> None:
    short: dict[str, GreenroomError] = {
        str(host): Failed("; ".join(lacks))
        for host, ground in seen.items()
        if (lacks := recipe.lacking(users[str(host)], ground))
    }
    if short:
        raise HostFailures(short)
    port = configured.env.get("HTTP_PORT") or str(nginx.PORTS["HTTP_PORT"])
    for host, ground in seen.items():
        for hint in recipe.hints(users[str(host)], ground, [f"port {port.rpartition(':')[2]}"]):
            console.say(f"{host}: {hint}")
    hosts = ", ".join(map(str, seen))
    console.emit(Event("ended", text=f"ready: {hosts}; next: inv check --env={configured.app.env}"))
