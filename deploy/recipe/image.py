"""Who builds for whom, and which layers have to travel. The lines stand in host/image.sh.

A layer counts as present on a host when an image there has it, with the same layers below it: so does docker count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.recipe import docker, shell
from deploy.recipe.steps import Cargo, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deploy.recipe.model import App, Colour, Facts, Host, Release
    from deploy.recipe.shell import Answer, Command


@dataclass(frozen=True)
class Image:
    """An image as a host has it: its layers (diff ids) from the lowest up. `ident` is '' where ids do not compare."""

    layers: tuple[str, ...]
    ident: str


def builders(app: App, facts: Mapping[Host, Facts]) -> dict[Host, Host]:
    """Return who builds for each host: itself, or the first host of the run that has the same architecture."""
    if app.build == "each":
        return {host: host for host in facts}
    first: dict[str, Host] = {}
    return {host: first.setdefault(each.architecture, host) for host, each in facts.items()}


def prepare(app: App, colour: Colour, host: Host, builders: Mapping[Host, Host]) -> tuple[Step, ...]:
    """Build, or look what need not be sent."""
    builder = builders.get(host, host)
    if builder != host:
        return (
            Step(
                "look which layers are here",
                f"{builder} builds the image; only what is missing here is sent",
                shell.command("tell_layers"),
            ),
        )
    others = ", ".join(str(other) for other, theirs in builders.items() if theirs == host and other != host)
    tell = Step("tell what was built", f"it goes to {others}", shell.command("tell_built"))
    return (docker.build(app, colour), *((tell,) if others else ()))


def ship(app: App, host: Host, builders: Mapping[Host, Host], release: Release) -> tuple[Step, ...]:
    """Take over the image, where another host built it."""
    builder = builders.get(host, host)
    if builder == host:
        return ()
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
