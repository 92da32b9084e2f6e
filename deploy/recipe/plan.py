"""App, Facts and Release in, Plan out: the file to read first.

The laws of this file:
- The live colour is what nginx serves; the other one is idle, and only the idle one is ever stopped or started.
- Undo needs no memory: it is the same few steps wherever a deploy stopped, and each of them may run twice.
- One host of a run, its leader, migrates. Services that may exist once belong to one host of the env, always.
- A host that is not there for users has no nginx and no colours: its workers are its flip, and what undo brings back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.recipe import data, docker, files, hooks, image, nginx, services, standing, waiting
from deploy.recipe.facts import variables
from deploy.recipe.model import STANDBY, Colour
from deploy.recipe.steps import Phase, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deploy.recipe.model import App, Facts, Host, Release
    from deploy.recipe.steps import Step

ITSELF: Mapping[Host, Host] = {}
"""Every host builds for itself."""


def plan_deploy(
    app: App,
    host: Host,
    facts: Facts,
    release: Release,
    stamps: Mapping[str, str],
    leader: Host,
    builders: Mapping[Host, Host] = ITSELF,
    verb: str = "deploy",
) -> Plan:
    """Decide what a host will go through to get from what it serves to `release`.

    The `leader` migrates, for all. `builders` say which host builds for which; one that is not named builds for itself.
    `verb` is what the history will call it.
    """
    missing, changed = services.infrastructure(app, host, facts, release)
    _, misplaced = services.strays(app, host, facts, release)
    beside = (*configure(app, facts, release), *ensure_settings(missing, changed))
    return Plan(
        note=standing.describe(app, facts),
        data=data.goes_on(app, facts),
        live=standing.live_release(app, facts),
        steps=with_hooks(
            app,
            host,
            facts,
            release,
            verb,
            {
                **bring(app, host, facts, release, stamps, leader, builders, beside),
                Phase.UNDO: (
                    *undo(app, host, facts, release, changed),
                    files.forget([release.id], "it never stayed live"),
                ),
            },
        ),
        asks=(*settings_asks(app, host, facts, release), *data.asks(app, facts)),
        refusals=(*standing.fitness(app, facts), *standing.taken(facts, release), *misplaced, *data.refusals(facts)),
        variables=variables(app, release_id=release.id, compose=facts.compose),
    )


def plan_here(app: App, here: Facts, release: Release, stamps: Mapping[str, str], seen: Mapping[Host, Facts]) -> Plan:
    """Decide what this machine does for the hosts that were seen, where it builds for them."""
    builders = dict.fromkeys(seen, image.HERE)
    (architecture,) = {facts.architecture for facts in seen.values()}
    return Plan(
        note=f"docker {here.docker}, {here.architecture}",
        steps={
            Phase.PREPARE: image.build_here(app, release, stamps, architecture, builders),
            Phase.PUSH: image.push(app, image.HERE, builders, release, architecture),
            Phase.FINISH: (image.forget_here(),),
        },
        variables=variables(app, release_id=release.id, compose=here.compose),
    )


def plan_rollback(app: App, host: Host, facts: Facts, release: Release) -> Plan:
    """Decide how a host goes back to a release that lies there: a deploy without send, build and migration."""
    idle = standing.idle_colour(facts)
    missing, _ = services.infrastructure(app, host, facts, release)
    ready = (*configure(app, facts, release), *ensure_settings(missing, ()))
    back = undo(app, host, facts, release)
    return Plan(
        note=standing.describe(app, facts),
        live=standing.live_release(app, facts),
        steps=with_hooks(
            app,
            host,
            facts,
            release,
            "rollback",
            {Phase.PREPARE: ready, Phase.START: (waiting.revive(app, idle),), Phase.UNDO: back}
            if waiting.waits_there(app, facts, STANDBY) == release.id
            else {Phase.PREPARE: (*_clear(app, facts, idle), *ready), Phase.UNDO: back},
        ),
        refusals=standing.fitness(app, facts),
        variables=variables(app, release_id=release.id, compose=facts.compose),
    )


def plan_tidy(app: App, host: Host, facts: Facts, release: Release, verb: str = "rollback") -> Plan:
    """Decide what is left to do on a host that serves `release` already: the end of a rollback that broke there.

    It has no steps where nothing is left. What waits on purpose is no leftover.
    """
    stale = services.stale_workers(app, host, facts, release)
    old, confs = standing.prunable(app, facts, release, spare=standing.may_be_staged(app, facts))
    stored = facts.stored(release.id)
    left = (
        *((docker.refresh(stale),) if stale else ()),
        *(() if stored and stored.served else (files.mark_served(),)),
        *(() if waiting.waiting(app, facts) else _clear(app, facts, standing.idle_colour(facts))),
        *forget(app, old, (conf for conf in confs if conf != facts.conf)),
    )
    steps: hooks.Steps = {Phase.FINISH: (*left, files.record(verb, release, release.id, "done"))} if left else {}
    return Plan(
        note=standing.describe(app, facts),
        live=release.id,
        steps=hooks.around(app, host, facts, release, verb, steps),
        variables=variables(app, release_id=release.id, compose=facts.compose),
    )


def plan_lock(app: App, who: str, text: str, reason: str) -> Plan:
    """Keep every run off a host until a person lets them in again. `text` is what they will be told."""
    return Plan(
        steps={Phase.FINISH: (files.lock(text, reason), files.record_words(who, "lock", reason))},
        variables=variables(app),
    )


def plan_unlock(app: App, who: str, reason: str) -> Plan:
    return Plan(
        steps={Phase.FINISH: (files.unlock(reason), files.record_words(who, "unlock", reason))},
        variables=variables(app),
    )


def bring(
    app: App,
    host: Host,
    facts: Facts,
    release: Release,
    stamps: Mapping[str, str],
    leader: Host,
    builders: Mapping[Host, Host],
    settings: tuple[Step, ...],
) -> dict[Phase, tuple[Step, ...]]:
    """All that a new release takes before it can be started; `settings` are the steps for nginx and its stack."""
    idle = standing.idle_colour(facts)
    return {
        Phase.PREPARE: (
            *files.send(release, stamps, host, facts, serves=facts.serves(app)),
            *_clear(app, facts, idle),
            docker.ensure_network(app),
            docker.ensure_volumes(app),
            docker.validate(app, idle),
            *image.prepare(app, idle, host, builders),
            *docker.build_others(app, idle),
            *settings,
        ),
        Phase.PUSH: image.push(app, host, builders, release, facts.architecture),
        Phase.SHIP: image.ship(app, host, builders, release),
        Phase.MIGRATE: (docker.migrate(app, idle),) if host == leader and app.migrate else (),
    }


def settings_asks(app: App, host: Host, facts: Facts, release: Release) -> tuple[str, ...]:
    """Return what becomes of the settings stack that nobody should be surprised by."""
    _, changed = services.infrastructure(app, host, facts, release)
    left, _ = services.strays(app, host, facts, release)
    return (
        *(f"{name} of {app.settings_stack} will be recreated: its definition changed" for name in changed),
        *(f"{name} of {app.settings_stack} will be removed: {services.why_left(app, release, name)}" for name in left),
    )


def with_hooks(app: App, host: Host, facts: Facts, release: Release, verb: str, own: hooks.Steps) -> hooks.Steps:
    """Put together what a deploy and a rollback share and what is a verb's own; the host's hooks stand around it."""
    flow = _flow_of_colours if facts.serves(app) else _flow_of_workers
    return hooks.around(app, host, facts, release, verb, flow(app, host, facts, release, verb) | own)


def _flow_of_colours(app: App, host: Host, facts: Facts, release: Release, verb: str) -> dict[Phase, tuple[Step, ...]]:
    """From start to finish: what a deploy and a rollback share."""
    live, idle = facts.switch, standing.idle_colour(facts)
    workers = services.workers_of(app, host, release)
    drains = (live, app.drain) if live and not _is_kept(app, facts) else None
    return {
        Phase.START: (docker.start(app, idle), nginx.gate(app, idle, {})),
        Phase.FLIP: (
            *(
                (nginx.use_conf(release.conf, "it differs from the one in use"),)
                if facts.proxy_runs and facts.conf != release.conf
                else ()
            ),
            nginx.switch(idle, f"{idle} is fit, on every host"),
            files.mark_served(),
            nginx.await_serving(idle),
        ),
        Phase.SETTLE: (nginx.watch(app, idle, waiting.restarted(app, facts)),) if app.settle else (),
        Phase.FINISH: (
            *((docker.refresh(workers, drains),) if workers else ()),
            *_remove_left(app, host, facts, release, verb),
            *_bow_out(app, facts, live, release.who),
            *_conclude(app, facts, release, verb),
        ),
    }


def _flow_of_workers(app: App, host: Host, facts: Facts, release: Release, verb: str) -> dict[Phase, tuple[Step, ...]]:
    """The same where no user is sent: workers are handed over when others flip, and watched when others are."""
    workers = services.workers_of(app, host, release)
    return {
        Phase.FLIP: (docker.refresh(workers), docker.workers_ready(app, workers)) if workers else (),
        Phase.SETTLE: (docker.watch_workers(app, workers),) if workers and app.settle else (),
        Phase.FINISH: (
            *_remove_left(app, host, facts, release, verb),
            files.mark_served(),
            *_conclude(app, facts, release, verb),
        ),
    }


def _remove_left(app: App, host: Host, facts: Facts, release: Release, verb: str) -> tuple[Step, ...]:
    """A rollback asks nobody, so it removes nothing."""
    left, _ = services.strays(app, host, facts, release) if verb != "rollback" else ((), ())
    return (docker.settings_down(left),) if left else ()


def _conclude(app: App, facts: Facts, release: Release, verb: str) -> tuple[Step, ...]:
    return (
        files.record(verb, release, standing.live_release(app, facts), "done"),
        *forget(app, *standing.prunable(app, facts, release)),
    )


def forget(app: App, releases: Iterable[str], confs: Iterable[str]) -> tuple[Step, ...]:
    releases, confs = tuple(releases), tuple(confs)
    return (
        *((docker.forget_others(releases),) if releases and any(app.images) else ()),
        *((files.forget(releases, f"the last {app.keep} are kept"),) if releases else ()),
        *((files.forget_confs(confs),) if confs else ()),
    )


def _clear(app: App, facts: Facts, idle: Colour) -> tuple[Step, ...]:
    """An idle colour that still has containers waits, or was left by a run that died; a user may be connected to it."""
    if not facts.serves(app) or not facts.of(app.stack(idle)):
        return ()
    because = waiting.describe(app, facts) or "an earlier run left it behind"
    return (nginx.drain(app, idle), docker.stop(idle, because))


def _bow_out(app: App, facts: Facts, live: Colour | None, who: str) -> tuple[Step, ...]:
    """What becomes of the colour that users had: it goes, or is kept for a way back that has nothing to start.

    One that is kept is not drained: whatever is connected to it may stay so until it goes.
    """
    if live is None:
        return ()
    if _is_kept(app, facts):
        return (waiting.keep(live, STANDBY, who, "the way back has nothing to start (deploy.standby)"),)
    return (nginx.drain(app, live), docker.stop(live, "nobody is sent to it any more"))


def _is_kept(app: App, facts: Facts) -> bool:
    return app.standby and bool(standing.live_release(app, facts))


def configure(app: App, facts: Facts, release: Release, *, flips: bool = True) -> tuple[Step, ...]:
    """A running nginx gets its new configuration with the flip; one that does not run has nobody to disturb.

    Where no flip follows, one that does not run is started as users had it.
    """
    if not facts.serves(app):
        return ()
    if facts.conf == release.conf and facts.proxy_runs:
        return ()
    test = (nginx.test_conf(release.conf),)
    waits = facts.proxy_runs or (facts.switch and facts.conf and not flips)
    return test if waits else (*test, nginx.use_conf(release.conf, "nginx does not run yet"))


def ensure_settings(missing: Iterable[str], changed: Iterable[str]) -> tuple[Step, ...]:
    missing, changed = tuple(missing), tuple(changed)
    if not missing and not changed:
        return ()
    because = "; ".join(
        f"{names} {what}"
        for names, what in ((", ".join(missing), "not running"), (", ".join(changed), "changed"))
        if names
    )
    services = sorted({*missing, *changed})
    return (docker.settings_up(services, because), docker.settings_ready(services))


def undo(app: App, host: Host, facts: Facts, release: Release, changed: tuple[str, ...] = ()) -> tuple[Step, ...]:
    """Back to what users had; the destructive step last. Where we stopped does not matter.

    `changed` are the settings services that the plan recreates.
    """
    safe = settings_safe(app, host, facts, changed)
    if not facts.serves(app):
        back = (*safe, *_hand_back(app, host, facts, release))
        return (docker.await_engine(), *back) if back else ()
    live, idle = facts.switch, standing.idle_colour(facts)
    stored = facts.stored(release.id)
    away: tuple[Step, ...] = (nginx.drain(app, idle), docker.stop(idle, "it is not wanted any more"))
    if waiting.waiting(app, facts):
        away = (waiting.withdraw(app, idle),)
    conf = facts.conf if facts.conf != release.conf else ""
    return (
        *((nginx.await_return(app, live, conf),) if live else ()),
        nginx.switch(live, "users go back to what they had"),
        docker.await_engine(),
        *safe,
        *((nginx.use_conf(conf, "it was in use before"),) if conf else ()),
        *(() if stored and stored.served else (files.unmark_served(),)),
        *away,
    )


def settings_safe(app: App, host: Host, facts: Facts, changed: tuple[str, ...] = ()) -> tuple[Step, ...]:
    """What a run changes, and what docker was about to end when it came, runs well after its undo."""
    before = facts.stored(standing.live_release(app, facts))
    ending = services.ending(app, host, facts, before.record) if before and before.record else ()
    unsure = sorted({*changed, *ending})
    return (docker.settings_safe(before.id, unsure),) if before and unsure else ()


def _hand_back(app: App, host: Host, facts: Facts, release: Release) -> tuple[Step, ...]:
    """Each worker goes back to the release that it was found with; one that was not there goes.

    Those that were well are seen to run before it is said. One that was sick already is no reason to call a human.
    """
    found: dict[str, list[str]] = {}
    well: list[str] = []
    for name in services.workers_of(app, host, release):
        running = [c for c in facts.of(app.settings_stack, name) if c.runs]
        found.setdefault(max((waiting.tag(c.image) for c in running), default=""), []).append(name)
        well += [name] if running and all(c.health != "unhealthy" for c in running) else []
    new = found.pop("", ())
    if not (found or new):
        return ()
    return (
        *(docker.hand_back(ident, names) for ident, names in sorted(found.items())),
        *((docker.workers_back(app, well),) if well else ()),
        *((docker.settings_down(new, "they did not run before"),) if new else ()),
    )
