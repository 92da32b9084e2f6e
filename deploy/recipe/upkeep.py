"""Plans of what operators change between deploys. The same laws as in plan.py, of which they are made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deploy.recipe import docker, files, nginx, plan, services, shell, standing, waiting
from deploy.recipe.facts import variables
from deploy.recipe.steps import Parcel, Phase, Plan, Step

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from deploy.recipe.model import App, Facts, Host, Release


def plan_prune(app: App, facts: Facts, who: str) -> Plan:
    """Forget the releases and nginx confs that nothing on a host needs: what a deploy would do at its end.

    What is live stays, with the way back from there, the last `keep` that were live, what is staged, and whatever a
    container runs, with its nginx conf: a standby may be gone back to.
    """
    live = facts.stored(standing.live_release(app, facts))
    if live is None or live.record is None:
        return Plan(refusals=("nothing that it knows is live here, so nothing tells what may go; deploy first",))
    runs = {waiting.tag(c.image) for c in facts.containers}
    old, confs = standing.prunable(app, facts, live.record, spare=standing.may_be_staged(app, facts) | runs)
    confs = tuple(each for each in confs if each != facts.conf)
    steps = plan.forget(app, old, confs)
    said = _counted(old, confs)
    return Plan(
        note=said,
        live=live.id,
        steps={Phase.FINISH: (*steps, files.record_words(who, "prune", said))} if steps else {},
        variables=variables(app),
    )


def forgotten(before: Facts, after: Facts) -> str:
    """Say what is not there any more: docker keeps an image that anybody's container has, and its release stays."""
    had, has = ({*(r.id for r in facts.releases), *facts.orphans} for facts in (before, after))
    return _counted(had - has, {*before.confs} - {*after.confs})


def _counted(releases: Collection[str], confs: Collection[str]) -> str:
    return f"{len(releases)} releases, {len(confs)} nginx confs"


def plan_push(app: App, host: Host, facts: Facts, release: Release, leader: Host) -> Plan:
    """Decide how a host gets `release`, which is its live one with another env: a deploy without source and build."""
    whole = plan.plan_deploy(app, host, facts, release, {}, leader, verb="env.push")
    live = standing.live_release(app, facts)
    beside = {step.command.words[0] for step in docker.build_others(app, standing.idle_colour(facts))}
    prepare = tuple(
        docker.tag(app, live) if step.command.words[0] == "build" else step
        for step in whole.of(Phase.PREPARE)
        if step.command.words[0] not in beside
    )
    return replace(whole, steps={**whole.steps, Phase.PREPARE: prepare, Phase.MIGRATE: ()})


# --- the settings stack ----------------------------------------------------------------------------------------


def plan_up(app: App, host: Host, facts: Facts, who: str) -> Plan:
    """Start what the settings stack lacks, as the live release has it. What runs is left alone, changed or not."""
    live = facts.stored(standing.live_release(app, facts))
    if live is None or live.record is None:
        return Plan(refusals=("nothing that it knows is live here, so nothing tells what belongs here; deploy first",))
    known = dict(live.record.definitions)
    runs = {c.service for c in facts.of(app.settings_stack) if c.stays}
    missing = sorted(name for name in known.keys() - runs if services.belongs(app, host, name))
    _, misplaced = services.strays(app, host, facts, live.record)
    if not missing:
        return Plan(refusals=misplaced)
    steps = (
        docker.ensure_network(app),
        docker.ensure_volumes(app),
        *(() if facts.conf or app.proxy not in missing else (nginx.use_conf(live.record.conf, "nginx has none"),)),
        docker.settings_up(missing, f"{', '.join(missing)} not running"),
        docker.settings_ready(missing),
        files.record_words(who, "settings.up", ", ".join(missing)),
    )
    return Plan(
        note=f"{', '.join(missing)} started",
        live=live.id,
        steps={Phase.FINISH: steps},
        refusals=misplaced,
        variables=variables(app, release_id=live.id, compose=facts.compose),
    )


def plan_restart(app: App, facts: Facts, who: str, services: Sequence[str]) -> Plan:
    """Restart these services, or all but the proxy: without that one nobody is served."""
    runs = {c.service for c in facts.of(app.settings_stack) if c.runs}
    chosen = sorted(runs & set(services) if services else runs - {app.proxy})
    if not chosen:
        return Plan()
    steps = (
        docker.settings_restart(chosen),
        docker.settings_ready(chosen),
        files.record_words(who, "settings.restart", ", ".join(chosen)),
    )
    return Plan(
        note=f"{', '.join(chosen)} restarted",
        steps={Phase.FINISH: steps},
        asks=(f"{app.proxy} is restarted: until it is back, users get no answer",) if app.proxy in chosen else (),
        variables=variables(app, compose=facts.compose),
    )


def plan_down(app: App, facts: Facts, who: str) -> Plan:
    """Stop and remove the settings stack. Its volumes stay, and so do the colours, which nobody can reach then."""
    there = sorted({c.service for c in facts.of(app.settings_stack)})
    if not there:
        return Plan()
    steps = (
        docker.settings_down(there, "somebody asked for it"),
        files.record_words(who, "settings.down", ", ".join(there)),
    )
    return Plan(
        note=f"{', '.join(there)} removed; their volumes stay",
        steps={Phase.FINISH: steps},
        asks=(f"{', '.join(there)} are stopped and removed: users get no answer until `inv settings.up`",),
        variables=variables(app),
    )


def plan_reload(app: App, facts: Facts, who: str, conf: str) -> Plan:
    """Hand nginx the configuration that lies here; with the same one it still reloads, for what that one refers to."""
    if not facts.serves(app):
        return Plan()
    if not facts.proxy_runs or not facts.conf:
        return Plan(refusals=(f"{app.proxy} does not run here; start it: inv settings.up",))
    send = Step(
        "receive files",
        "the nginx configuration is another one",
        shell.command("receive"),
        parcel=Parcel("", conf=True),
    )
    because = "it differs from the one in use" if conf != facts.conf else "somebody asked for it"
    return Plan(
        steps={
            Phase.PREPARE: (*((send,) if conf not in facts.confs else ()), nginx.test_conf(conf)),
            Phase.FLIP: (
                nginx.use_conf(conf, because),
                *((nginx.await_serving(facts.switch),) if facts.switch else ()),
            ),
            Phase.FINISH: (files.record_words(who, "settings.reload", f"nginx has {conf}"),),
            Phase.UNDO: (nginx.use_conf(facts.conf, "it was in use before"),),
        },
        variables=variables(app),
    )


# --- maintenance -----------------------------------------------------------------------------------------------


def plan_maintenance(app: App, facts: Facts, who: str, text: str, reason: str) -> Plan:
    """Show users the page; `text` says who wanted it, and why. '' lets them in again."""
    if not facts.serves(app):
        return Plan()
    if not facts.proxy_runs:
        return Plan(refusals=(f"{app.proxy} does not run here; start it: inv settings.up",))
    verb, state = ("maintenance.on", "on") if text else ("maintenance.off", "off")
    change = nginx.maintain(text) if text else nginx.end_maintenance("somebody asked for it")
    before = nginx.maintain(facts.maintenance) if facts.maintenance else nginx.end_maintenance("as it was before")
    return Plan(
        steps={
            Phase.FLIP: (change, nginx.await_maintenance(state)),
            Phase.FINISH: (files.record_words(who, verb, reason),),
            Phase.UNDO: (before,),
        },
        variables=variables(app),
    )
