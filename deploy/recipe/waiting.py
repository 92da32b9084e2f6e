"""What is left running in an idle colour on purpose: a staged release, or the one that users had before.

The truth is what runs. The host's word on what waits names the very containers that it was said of, and is worth
nothing as soon as others are there, or users are sent to them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from deploy.recipe import shell
from deploy.recipe.model import STAGED
from deploy.recipe.steps import Step

if TYPE_CHECKING:
    from deploy.recipe.model import App, Colour, Facts, Waiting


def release_of(app: App, facts: Facts, colour: Colour) -> str:
    """Return the id of the release that a colour runs, by its image's tag; '' when nothing of it runs."""
    tags = {tag(c.image) for c in facts.of(app.stack(colour), app.service) if c.runs}
    return max(tags, default="")


def tag(image: str) -> str:
    """Return the release of an image: its tag, without the service of one beside the app's."""
    return image.rpartition(":")[2].partition(".")[0]


def waiting(app: App, facts: Facts) -> Waiting | None:
    """Return what waits in the idle colour, whole and running; None where there is nothing, or what a dead run left.

    A staged release that users have had is not staged any more: whoever promoted it died before the end.
    """
    said = facts.waiting
    if said is None or said.colour is facts.switch:
        return None
    release = release_of(app, facts, said.colour)
    stored = facts.stored(release)
    if not release or {c.id for c in facts.of(app.stack(said.colour))} != said.containers:
        return None
    return None if said.kind == STAGED and (stored is None or stored.served) else said


def waits_there(app: App, facts: Facts, kind: str) -> str:
    """Return the release that waits in the idle colour as a `kind`, '' if none does."""
    found = waiting(app, facts)
    return release_of(app, facts, found.colour) if found and found.kind == kind else ""


def restarted(app: App, facts: Facts) -> dict[str, int]:
    """Return which containers of what waits docker has started anew meanwhile, by id, and how often."""
    found = waiting(app, facts)
    return {c.id: c.restarts for c in facts.of(app.stack(found.colour)) if c.restarts} if found else {}


def describe(app: App, facts: Facts) -> str:
    """Say in a few words what waits; '' when nothing does."""
    found = waiting(app, facts)
    return f"{found.kind}: {release_of(app, facts, found.colour)}, by {found.who}" if found else ""


def keep(colour: Colour, kind: str, who: str, because: str) -> Step:
    """The host adds the time."""
    return Step(f"let {colour} wait", because, shell.command("let_wait", colour, json.dumps({"as": kind, "who": who})))


def withdraw(app: App, colour: Colour) -> Step:
    return Step(
        f"withdraw {colour}",
        "it is not wanted any more; but what waited there before waits on",
        shell.command("withdraw", colour, app.drain),
        deadline=app.drain + 630,
    )


def revive(app: App, colour: Colour) -> Step:
    """The deadline leaves room for one that does not answer and is started anew."""
    return Step(
        f"gate {colour}",
        f"it waits: GET {app.health.path} through nginx must answer, or it is started anew",
        shell.command("revive", colour, app.colour_file(colour), app.health.timeout),
        deadline=app.health.timeout + 330,
    )
