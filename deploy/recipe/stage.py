"""Plans of a deploy in two halves: a release is staged, looked at, and promoted, or thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.recipe import data, docker, files, hooks, nginx, plan, services, standing, waiting
from deploy.recipe.facts import variables
from deploy.recipe.model import STAGED
from deploy.recipe.steps import Phase, Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.recipe.model import App, Facts, Host, Release
    from deploy.recipe.steps import Step


def plan_stage(
    app: App,
    host: Host,
    facts: Facts,
    release: Release,
    stamps: Mapping[str, str],
    leader: Host,
    builders: Mapping[Host, Host] = plan.ITSELF,
) -> Plan:
    """Decide how `release` gets as far as the gate on a host, and stays there.

    The first half of a deploy, but for services of the settings stack whose definition changed: users have those, so
    they wait for `plan_promote`. The undo stops what it started, and what was staged before is gone by then.
    """
    idle = standing.idle_colour(facts)
    missing, changed = services.infrastructure(app, host, facts, release)
    _, misplaced = services.strays(app, host, facts, release)
    settings = (*plan.configure(app, facts, release, flips=False), *plan.ensure_settings(missing, ()))
    later = [f"{', '.join(changed)} of {app.settings_stack} changed: the promote brings it"] if changed else []
    started: tuple[Step, ...] = (
        docker.start(app, idle),
        nginx.gate(app, idle, {}),
        waiting.keep(idle, STAGED, release.who, "nobody is sent to it before it is promoted"),
    )
    away: tuple[Step, ...] = (nginx.drain(app, idle), docker.stop(idle, "it is not wanted any more"))
    if not facts.serves(app):  # its workers are handed over when others flip: until then it has files and an image
        started = away = ()
    steps = {
        **plan.bring(app, host, facts, release, stamps, leader, builders, settings),
        Phase.START: (*started, files.record("stage", release, standing.live_release(app, facts), "done")),
        Phase.UNDO: (
            docker.await_engine(),
            *plan.settings_safe(app, host, facts),
            *away,
            files.forget([release.id], "it was never staged"),
        ),
    }
    return Plan(
        note="; ".join([standing.describe(app, facts), *data.goes_on(app, facts), *later]),
        live=standing.live_release(app, facts),
        steps=hooks.around(app, host, facts, release, "stage", steps),
        asks=data.asks(app, facts),
        refusals=(*standing.fitness(app, facts), *standing.taken(facts, release), *misplaced, *data.refusals(facts)),
        variables=variables(app, release_id=release.id, compose=facts.compose),
    )


def plan_promote(app: App, host: Host, facts: Facts, release: Release) -> Plan:
    """Decide how users get the release that is staged here: the gate again, and the second half of a deploy.

    The undo leaves it staged: what failed can be looked at, and promoted again.
    """
    idle = standing.idle_colour(facts)
    missing, changed = services.infrastructure(app, host, facts, release)
    _, misplaced = services.strays(app, host, facts, release)
    own = {
        Phase.PREPARE: (*plan.configure(app, facts, release), *plan.ensure_settings(missing, changed)),
        Phase.START: (nginx.gate(app, idle, waiting.restarted(app, facts)),) if facts.serves(app) else (),
        Phase.UNDO: plan.undo(app, host, facts, release, changed),
    }
    return Plan(
        note="; ".join(filter(None, (standing.describe(app, facts), waiting.describe(app, facts)))),
        live=standing.live_release(app, facts),
        steps=plan.with_hooks(app, host, facts, release, "promote", own),
        asks=plan.settings_asks(app, host, facts, release),
        refusals=(*standing.fitness(app, facts), *misplaced),
        variables=variables(app, release_id=release.id, compose=facts.compose),
    )


def plan_unstage(app: App, facts: Facts, who: str) -> Plan:
    """Take away what waits in the idle colour. A staged release goes with it; one on standby stays a way back."""
    found = waiting.waiting(app, facts)
    if not found:
        return Plan()
    release, said = waiting.release_of(app, facts, found.colour), waiting.describe(app, facts)
    steps = (
        nginx.drain(app, found.colour),
        docker.stop(found.colour, "somebody asked for it"),
        *((files.forget([release], "it was never promoted"),) if found.kind == STAGED else ()),
        files.record_words(who, "unstage", said),
    )
    return Plan(note=said, steps={Phase.FINISH: steps}, variables=variables(app, release_id=release))
