"""Plans of what operators change between deploys. The same laws as in plan.py, of which they are made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deploy.recipe import docker, files, plan
from deploy.recipe.facts import variables
from deploy.recipe.steps import Phase, Plan

if TYPE_CHECKING:
    from deploy.recipe.model import App, Facts, Host, Release


def plan_prune(app: App, facts: Facts, who: str) -> Plan:
    """Forget the releases and nginx confs that nothing on a host needs: what a deploy would do at its end.

    What is live stays, with the way back from there, the last `keep` that were live, and whatever a container runs.
    """
    live = facts.stored(plan.live_release(app, facts))
    if live is None or live.record is None:
        return Plan(refusals=("nothing that it knows is live here, so nothing tells what may go; deploy first",))
    old, confs = plan.prunable(app, facts, live.record)
    runs = {c.image for c in facts.containers}
    old = tuple(each for each in old if app.image(each) not in runs)
    confs = tuple(each for each in confs if each != facts.conf)
    steps = (
        *((docker.forget_others(old),) if old and any(app.images) else ()),
        *((files.forget(old, f"the last {app.keep} are kept"),) if old else ()),
        *((files.forget_confs(confs),) if confs else ()),
    )
    said = f"{len(old)} releases, {len(confs)} nginx confs"
    return Plan(
        note=said,
        live=live.id,
        steps={Phase.FINISH: (*steps, files.record_words(who, "prune", said))} if steps else {},
        variables=variables(app),
    )


def plan_push(app: App, host: Host, facts: Facts, release: Release, leader: Host) -> Plan:
    """Decide how a host gets `release`, which is its live one with another env: a deploy without source and build."""
    whole = plan.plan_deploy(app, host, facts, release, {}, leader, verb="env.push")
    live = plan.live_release(app, facts)
    others = (*app.images[0], *app.images[1])
    tags = (docker.tag(live), *((docker.tag_others(live, others),) if others else ()))
    prepare = (
        each
        for step in whole.of(Phase.PREPARE)
        if step.command.words[0] not in {"build_others", "build_settings"}
        for each in (tags if step.command.words[0] == "build" else (step,))
    )
    steps = {**whole.steps, Phase.PREPARE: tuple(prepare), Phase.MIGRATE: ()}
    return replace(whole, steps=steps)
