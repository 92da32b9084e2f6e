"""Who builds for whom, and which layers have to travel. The lines stand in host/image.sh, registry.sh and here.sh.

A layer counts as present on a host when an image there has it, with the same layers below it: so does docker count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.recipe import docker, shell
from deploy.recipe.model import Colour, Host
from deploy.recipe.steps import Cargo, Docket, Parcel, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deploy.recipe.model import App, Facts, Release
    from deploy.recipe.shell import Answer, Command

HERE = Host("this machine")
"""The operator's own machine, where it builds for the hosts (`build: local`)."""


@dataclass(frozen=True)
class Image:
    """An image as a host has it: its layers (diff ids) from the lowest up. `ident` is '' where ids do not compare."""

    layers: tuple[str, ...]
    ident: str


def builders(app: App, facts: Mapping[Host, Facts]) -> dict[Host, Host]:
    """Return who builds for each host: itself, this machine, or the first host of the run of the same architecture."""
    if app.build == "each":
        return {host: host for host in facts}
    if app.build == "local":
        return dict.fromkeys(facts, HERE)
    first: dict[str, Host] = {}
    return {host: first.setdefault(each.architecture, host) for host, each in facts.items()}


def prepare(app: App, colour: Colour, host: Host, builders: Mapping[Host, Host]) -> tuple[Step, ...]:
    """Build, or look what need not be sent."""
    builder = builders.get(host, host)
    if builder != host and app.registry:
        return ()
    if builder != host:
        return (
            Step(
                "look which layers are here",
                f"{builder} builds the image; only what is missing here is sent",
                shell.command("tell_layers"),
            ),
        )
    return (docker.build(app, colour), *_tell(host, builders))


def _tell(host: Host, builders: Mapping[Host, Host]) -> tuple[Step, ...]:
    others = ", ".join(str(other) for other, theirs in builders.items() if theirs == host and other != host)
    return (Step("tell what was built", f"it goes to {others}", shell.command("tell_built")),) if others else ()


def build_here(
    app: App, release: Release, stamps: Mapping[str, str], architecture: str, builders: Mapping[Host, Host]
) -> tuple[Step, ...]:
    """Build on this machine, from the files that hosts get, for their `architecture`."""
    return (
        Step(
            "lay out the source",
            "the image is built here from what the hosts get",
            shell.command("receive"),
            deadline=1800,
            parcel=Parcel(release.id, frozenset(stamps), conf=False),
        ),
        Step(
            "build the image",
            "build: local; one that is here already is not built again",
            shell.command("here_build", architecture, Colour.BLUE, app.colour_file(Colour.BLUE), app.service),
            deadline=app.build_timeout,
        ),
        *_tell(HERE, builders),
    )


def forget_here() -> Step:
    return Step("forget what was built before", "it helped to build this one", shell.command("here_forget"))


def look_here() -> Command:
    """Ask for the engine of this machine, and for which platforms it builds."""
    return shell.command("here_look")


def unfit_here(here: Facts, builds: str, seen: Mapping[Host, Facts]) -> tuple[str, str]:
    """Say why this machine cannot build for the hosts that were seen, and what mends it; ('', '') when it can.

    `builds` are the platforms of its builder, as docker buildx prints them: linux/amd64, linux/arm64/v8.
    """
    once = "or say build: once: a host of each architecture builds"
    if here.lacks:
        return "there is no docker on this machine", f"install docker's command line here, {once}"
    if here.trouble:
        return f"docker does not answer on this machine: {here.trouble}", f"start it (see `docker version`), {once}"
    if not here.compose:
        return "neither `docker compose` nor `docker-compose` is on this machine", f"install one of them here, {once}"
    found = {facts.architecture: host for host, facts in seen.items()}
    if len(found) > 1:
        they = ", ".join(f"{host} is {each}" for each, host in found.items())
        return f"one image is built here, and the hosts differ: {they}", once.removeprefix("or ")
    able = {here.architecture, *(each.split("/")[1] for each in builds.replace("*", "").split(", ") if "/" in each)}
    for each, host in found.items():
        if each not in able:
            return (
                f"{host} is {each}, and this machine builds for {', '.join(sorted(able))}",
                f"give docker buildx a builder for linux/{each}, like QEMU's, {once}",
            )
    return "", ""


def push(app: App, host: Host, builders: Mapping[Host, Host], release: Release, architecture: str) -> tuple[Step, ...]:
    """Send the image from where it was built to the registry, if there is one. Its tag is for people."""
    if not app.registry or host not in builders.values():
        return ()
    tag = release.id if len(set(builders.values())) == 1 else f"{release.id}-{architecture}"
    return (
        Step(
            "push the image",
            f"to {app.registry}, once; hosts pull it by its digest",
            shell.command("push_image", app.registry, tag),
            deadline=app.build_timeout,
            parcel=Docket(release.id, host, host),
        ),
    )


def ship(app: App, host: Host, builders: Mapping[Host, Host], release: Release) -> tuple[Step, ...]:
    """Take over the image, where another host built it."""
    builder = builders.get(host, host)
    if builder == host:
        return ()
    if app.registry:
        return (
            Step(
                "pull the image",
                f"{builder} pushed it; by its digest, so that it is the same",
                shell.command("pull_image", app.registry),
                deadline=app.build_timeout,
                parcel=Docket(release.id, builder, host),
            ),
        )
    return (
        Step(
            "take the image",
            f"{builder} built it; layers that are here do not travel",
            shell.command("take_image"),
            deadline=app.build_timeout,
            parcel=Cargo(release.id, builder, host),
        ),
    )


def send(without: Iterable[int]) -> Command:
    """Ask a host for the image, without the layers of these numbers."""
    return shell.command("send_image", *without)


def present(image: Image, there: Iterable[Sequence[str]]) -> tuple[int, ...]:
    """Return the numbers of the layers that need not be sent to a host that has images of the layers `there`.

    A layer that comes once more among those that are sent is sent, too: older engines save it as a link to the first.
    """
    shared = max((_common(image.layers, layers) for layers in there), default=0)
    sent = set(image.layers[shared:])
    return tuple(number for number in range(shared) if image.layers[number] not in sent)


def _common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    return next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))


def read_built(answer: Answer) -> Image:
    """Read what `tell_built` answers."""
    layers, ident = answer.values
    return Image(tuple(layers.split()), ident)


def read_layers(answer: Answer) -> tuple[str, ...]:
    """Read one answer of `tell_layers`."""
    return tuple(answer.values[0].split())


def same(one: Image, other: Image) -> bool:
    """Say whether two hosts have one image: the same layers, and the same id where both tell one."""
    return one.layers == other.layers and (not one.ident or not other.ident or one.ident == other.ident)
