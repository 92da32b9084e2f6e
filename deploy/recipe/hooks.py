"""Hooks: when they run, what they are told, and the steps of those that run on a host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from deploy.recipe import shell
from deploy.recipe.steps import Phase, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.recipe.model import App, Facts, Host, Release

FAILURE = "failure"


def before(phase: Phase) -> str:
    return f"before-{phase}"


def after(phase: Phase) -> str:
    return f"after-{phase}"


def told(app: App, moment: str, verb: str, release: Release, **more: Any) -> dict[str, Any]:
    """Return what a hook reads as JSON. None of it is secret."""
    return {
        "hook": moment,
        "verb": verb,
        "project": app.project,
        "env": app.env,
        "release": release.id,
        "replaces": release.replaces,
        "revision": release.revision,
        "origin": release.origin,
        "who": release.who,
        **more,
    }


Steps = dict[Phase, tuple[Step, ...]]


def around(app: App, host: Host, facts: Facts, release: Release, verb: str, steps: Steps) -> Steps:
    """Return the steps with the host's own hooks before and after each phase that has any.

    One before finish stands at the end of settle: what it refuses can still be undone. One of a failure ends the undo.
    """
    if not any(hook.on_host for hook in app.hooks):
        return steps
    live = str(facts.switch or "")

    def at(moment: str) -> tuple[Step, ...]:
        facts_of_it = told(app, moment, verb, release, host=str(host), live=live)
        return tuple(_step(app, moment, hook.words, facts_of_it) for hook in app.hooks_at(moment, on_host=True))

    found = {
        phase: (
            *(at(before(phase)) if phase not in {Phase.FINISH, Phase.UNDO} else ()),
            *own,
            *(at(after(phase)) if phase is not Phase.UNDO else at(FAILURE)),
        )
        for phase, own in steps.items()
        if own
    }
    if steps.get(Phase.FINISH) and at(before(Phase.FINISH)):
        found[Phase.SETTLE] = (*found.get(Phase.SETTLE, ()), *at(before(Phase.FINISH)))
    return found


def _step(app: App, moment: str, words: tuple[str, ...], facts: Mapping[str, Any]) -> Step:
    weight = "must" if moment.startswith("before-") else "may"
    return Step(
        f"hook {moment}",
        " ".join(words),
        shell.command("hook", app.hook_timeout, weight, json.dumps(facts), *words),
        deadline=app.hook_timeout + 30,
    )
