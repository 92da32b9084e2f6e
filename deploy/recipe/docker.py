"""Steps for network, build, start, stop and the settings stack. Their lines stand in host/docker.sh."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deploy.recipe import shell
from deploy.recipe.steps import Step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy.recipe.model import App, Colour


def await_engine() -> Step:
    """Docker may be what a run failed of: an engine that was restarted is back within seconds."""
    return Step("see that docker answers", "what follows needs it", shell.command("await_engine", 50))


def ensure_network(app: App) -> Step:
    return Step(
        "ensure the network",
        "the colours and the settings stack meet there",
        shell.command("ensure_network", app.network),
    )


def ensure_volumes(app: App) -> Step:
    because = "what users upload belongs to no colour"
    return Step("ensure the volumes", because, shell.command("ensure_volumes", *app.volume_names))


def validate(app: App, colour: Colour) -> Step:
    return Step(
        "validate the compose files",
        "this host's own compose must read them",
        shell.command("validate", colour, app.colour_file(colour)),
    )


def build(app: App, colour: Colour) -> Step:
    return Step(
        "build the image",
        "it is tagged by release; one that is here already is not built again",
        shell.command("build", colour, app.colour_file(colour), app.service),
        deadline=app.build_timeout,
    )


def build_others(app: App, colour: Colour) -> tuple[Step, ...]:
    """Images beside the app's, where services of an adopted compose file are built from something else."""
    of_colours, of_settings = app.images
    commands = (
        (of_colours, shell.command("build_others", colour, app.colour_file(colour), *of_colours)),
        (of_settings, shell.command("build_settings", *of_settings)),
    )
    return tuple(
        Step("build images beside the app's", f"of {', '.join(names)}", command, deadline=app.build_timeout)
        for names, command in commands
        if names
    )


def forget_others(releases: Iterable[str]) -> Step:
    return Step("forget images beside the app's", "their releases go", shell.command("forget_others", *releases))


def tag(app: App, release_id: str) -> Step:
    return Step(
        "take over the images",
        f"they are those of {release_id}: only the env differs",
        shell.command("tag", release_id, *(name for names in app.images for name in names)),
    )


def migrate(app: App, colour: Colour) -> Step:
    return Step(
        "migrate the database",
        "once per deploy, on this host, in the new image, before anybody is sent to it",
        shell.command("migrate", colour, app.colour_file(colour), app.service, *app.migrate),
        deadline=app.migrate_timeout,
    )


def start(app: App, colour: Colour) -> Step:
    return Step(
        f"start {colour}",
        f"{colour} is idle: no user is sent to it",
        shell.command("start", colour, app.colour_file(colour)),
        deadline=300,
    )


def stop(colour: Colour, because: str) -> Step:
    """The deadline leaves room for a stop_grace_period of minutes."""
    return Step(f"stop {colour}", because, shell.command("stop", colour), deadline=600)


def settings_up(services: Iterable[str], because: str) -> Step:
    return Step("start settings services", because, shell.command("settings_up", *services), deadline=600)


def settings_ready(services: Iterable[str]) -> Step:
    return Step(
        "wait for the settings services",
        "the app needs them",
        shell.command("settings_ready", 60, *services),
        deadline=300,
        patient=True,
    )


def settings_restart(services: Iterable[str]) -> Step:
    return Step(
        "restart settings services", "somebody asked for it", shell.command("settings_restart", *services), deadline=600
    )


def refresh(services: Iterable[str], drains: tuple[Colour, int] | None = None) -> Step:
    """`drains` is a colour that is drained next, and within how many seconds: nginx is looked at meanwhile."""
    return Step(
        "hand the workers the new release",
        "they run the app's image; each is warmly shut down before its successor starts",
        shell.command("hand_over", *drains, *services) if drains else shell.command("settings_up", *services),
        deadline=1200 + (drains[1] if drains else 0),
    )


def hand_back(release_id: str, services: Iterable[str]) -> Step:
    return Step(
        "hand the workers back",
        f"they ran {release_id} before",
        shell.command("settings_back", release_id, *services),
        deadline=1200,
    )


def settings_safe(release_id: str, services: Iterable[str]) -> Step:
    return Step(
        "see the settings services run",
        f"they were changed, or about to end; one that is not well goes back to {release_id}",
        shell.command("settings_safe", release_id, 60, *services),
        deadline=900,
    )


def workers_ready(app: App, services: Iterable[str]) -> Step:
    return Step(
        "wait for the workers",
        "the gate of a host without users: they run, and are healthy where they have a rule for it",
        shell.command("settings_ready", app.health.timeout, *services),
        deadline=app.health.timeout + 240,
        patient=True,
    )


def workers_back(app: App, services: Iterable[str]) -> Step:
    """The same look at the end of an undo, which goes on whatever becomes of other hosts."""
    because = "nothing is undone before they do"
    return replace(workers_ready(app, services), title="see the workers run", because=because, patient=False)


def watch_workers(app: App, services: Iterable[str]) -> Step:
    return Step(
        f"watch the workers for {app.settle} s",
        "the settle delay is spent looking",
        shell.command("watch_services", app.settle, *services),
        deadline=app.settle + 60,
        patient=True,
    )


def settings_down(services: Iterable[str], because: str = "they would run old code for ever") -> Step:
    return Step(
        "remove settings services",
        because,
        shell.command("settings_down", *services),
        deadline=600,
    )
