"""App, Facts and Release in, Plan out: the file to read first.

The laws of this file:
- The live colour is what nginx serves; the other one is idle, and only the idle one is ever stopped or started.
- Undo needs no memory: it is the same few steps wherever a deploy stopped, and each of them may run twice.
- One host of a run, its leader, migrates. Services that may exist once belong to one host of the env, always.
- A host that is not there for users has no nginx and no colours: its workers are its flip, and what undo brings back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deploy.recipe import data, docker, files, hooks, image, nginx, waiting
from deploy.recipe.facts import variables
from deploy.recipe.model import STAGED, STANDBY, Colour
from deploy.recipe.steps import Phase, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deploy.recipe.model import App, Facts, Host, Release
    from deploy.recipe.steps import Step

LEAST_DISK = 1 << 30
"""Bytes that must be free before a deploy begins: an image with its layers, and air."""

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
    missing, changed = infrastructure(app, host, facts, release)
    _, misplaced = strays(app, host, facts, release)
    return Plan(
        note=describe(app, facts),
        data=data.goes_on(app, facts),
        live=live_release(app, facts),
        steps=with_hooks(
            app,
            host,
            facts,
            release,
            verb,
            {
                **bring(app, host, facts, release, stamps, leader, builders, ensure_settings(missing, changed)),
                Phase.UNDO: (
                    *undo(app, host, facts, release),
                    files.forget([release.id], "it never stayed live"),
                ),
            },
        ),
        asks=(*settings_asks(app, host, facts, release), *data.asks(app, facts)),
        refusals=(*fitness(app, facts), *taken(facts, release), *misplaced, *data.refusals(facts)),
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
    idle = idle_colour(facts)
    missing, _ = infrastructure(app, host, facts, release)
    ready = (*configure(app, facts, release), *ensure_settings(missing, ()))
    back = undo(app, host, facts, release)
    return Plan(
        note=describe(app, facts),
        live=live_release(app, facts),
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
        refusals=fitness(app, facts),
        variables=variables(app, release_id=release.id, compose=facts.compose),
    )


def plan_tidy(app: App, host: Host, facts: Facts, release: Release) -> Plan:
    """Decide what is left to do on a host that serves `release` already: the end of a rollback that broke there.

    It has no steps where nothing is left. What waits on purpose is no leftover.
    """
    stale = stale_workers(app, host, facts, release)
    old, confs = prunable(app, facts, release, spare=_staged(app, facts))
    left = (
        *((docker.refresh(stale),) if stale else ()),
        *(() if waiting.waiting(app, facts) else _clear(app, facts, idle_colour(facts))),
        *forget(app, old, (conf for conf in confs if conf != facts.conf)),
    )
    steps: hooks.Steps = {Phase.FINISH: (*left, files.record("rollback", release, release.id, "done"))} if left else {}
    return Plan(
        note=describe(app, facts),
        live=release.id,
        steps=hooks.around(app, host, facts, release, "rollback", steps),
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
    """All that a new release takes before it can be started; `settings` are the steps for the stack beside it."""
    idle = idle_colour(facts)
    return {
        Phase.PREPARE: (
            *files.send(release, stamps, host, facts, serves=facts.serves(app)),
            *_clear(app, facts, idle),
            docker.ensure_network(app),
            docker.ensure_volumes(app),
            docker.validate(app, idle),
            *image.prepare(app, idle, host, builders),
            *docker.build_others(app, idle),
            *configure(app, facts, release),
            *settings,
        ),
        Phase.PUSH: image.push(app, host, builders, release, facts.architecture),
        Phase.SHIP: image.ship(app, host, builders, release),
        Phase.MIGRATE: (docker.migrate(app, idle),) if host == leader and app.migrate else (),
    }


def settings_asks(app: App, host: Host, facts: Facts, release: Release) -> tuple[str, ...]:
    """Return what becomes of the settings stack that nobody should be surprised by."""
    _, changed = infrastructure(app, host, facts, release)
    left, _ = strays(app, host, facts, release)
    return (
        *(f"{name} of {app.settings_stack} will be recreated: its definition changed" for name in changed),
        *(f"{name} of {app.settings_stack} will be removed: {_why_left(app, release, name)}" for name in left),
    )


def with_hooks(app: App, host: Host, facts: Facts, release: Release, verb: str, own: hooks.Steps) -> hooks.Steps:
    """Put together what a deploy and a rollback share and what is a verb's own; the host's hooks stand around it."""
    flow = _flow_of_colours if facts.serves(app) else _flow_of_workers
    return hooks.around(app, host, facts, release, verb, flow(app, host, facts, release, verb) | own)


def _flow_of_colours(app: App, host: Host, facts: Facts, release: Release, verb: str) -> dict[Phase, tuple[Step, ...]]:
    """From start to finish: what a deploy and a rollback share."""
    live, idle = facts.switch, idle_colour(facts)
    workers = workers_of(app, host, release)
    return {
        Phase.START: (docker.start(app, idle), nginx.gate(app, idle)),
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
        Phase.SETTLE: (nginx.watch(app, idle),) if app.settle else (),
        Phase.FINISH: (
            *((docker.refresh(workers),) if workers else ()),
            *_remove_left(app, host, facts, release, verb),
            *_bow_out(app, facts, live, release.who),
            *_conclude(app, facts, release, verb),
        ),
    }


def _flow_of_workers(app: App, host: Host, facts: Facts, release: Release, verb: str) -> dict[Phase, tuple[Step, ...]]:
    """The same where no user is sent: workers are handed over when others flip, and watched when others are."""
    workers = workers_of(app, host, release)
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
    left, _ = strays(app, host, facts, release) if verb != "rollback" else ((), ())
    return (docker.settings_down(left),) if left else ()


def _conclude(app: App, facts: Facts, release: Release, verb: str) -> tuple[Step, ...]:
    return (
        files.record(verb, release, live_release(app, facts), "done"),
        *forget(app, *prunable(app, facts, release)),
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
    if app.standby and live_release(app, facts):
        return (waiting.keep(live, STANDBY, who, "the way back has nothing to start (deploy.standby)"),)
    return (nginx.drain(app, live), docker.stop(live, "nobody is sent to it any more"))


def configure(app: App, facts: Facts, release: Release) -> tuple[Step, ...]:
    """A running nginx gets its new configuration with the flip; one that does not run has nobody to disturb."""
    if not facts.serves(app):
        return ()
    if facts.conf == release.conf and facts.proxy_runs:
        return ()
    test = (nginx.test_conf(release.conf),)
    return test if facts.proxy_runs else (*test, nginx.use_conf(release.conf, "nginx does not run yet"))


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


def undo(app: App, host: Host, facts: Facts, release: Release) -> tuple[Step, ...]:
    """Back to what users had; the destructive step last. Where we stopped does not matter."""
    if not facts.serves(app):
        return _hand_back(app, host, facts, release)
    live, idle = facts.switch, idle_colour(facts)
    stored = facts.stored(release.id)
    away: tuple[Step, ...] = (nginx.drain(app, idle), docker.stop(idle, "it is not wanted any more"))
    if waiting.waiting(app, facts):
        away = (waiting.withdraw(app, idle),)
    return (
        nginx.switch(live, "users go back to what they had"),
        docker.await_engine(),
        *((nginx.use_conf(facts.conf, "it was in use before"),) if facts.conf and facts.conf != release.conf else ()),
        *(() if stored and stored.served else (files.unmark_served(),)),
        *away,
    )


def _hand_back(app: App, host: Host, facts: Facts, release: Release) -> tuple[Step, ...]:
    """Each worker goes back to the release that it was found with; one that was not there goes."""
    found: dict[str, list[str]] = {}
    for name in workers_of(app, host, release):
        tags = {waiting.tag(c.image) for c in facts.of(app.settings_stack, name) if c.runs}
        found.setdefault(max(tags, default=""), []).append(name)
    new = found.pop("", ())
    if not (found or new):
        return ()
    return (
        docker.await_engine(),
        *(docker.hand_back(ident, names) for ident, names in sorted(found.items())),
        *((docker.settings_down(new, "they did not run before"),) if new else ()),
    )


def idle_colour(facts: Facts) -> Colour:
    return facts.switch.other if facts.switch else Colour.BLUE


def belongs(app: App, host: Host, service: str) -> bool:
    """Say whether a service of the settings stack runs on a host, whichever hosts a run is limited to.

    nginx goes with the app. A singleton lives where it is named, or else on the first host that runs all.
    """
    if service == app.proxy:
        return host.takes(app.service)
    return host == _home(app, service) if service in app.singletons else host.takes(service)


def _home(app: App, service: str) -> Host | None:
    named = [host for host in app.hosts if service in host.runs]
    return next(iter(named or [host for host in app.hosts if host.takes(service)]), None)


def infrastructure(app: App, host: Host, facts: Facts, release: Release) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the settings services that do not run here, and those that run with another definition.

    Workers are neither: each deploy refreshes them at its end, started or not.
    """
    missing, changed = [], []
    for name, definition in release.definitions:
        if name in app.workers or not belongs(app, host, name):
            continue
        running = [c for c in facts.of(app.settings_stack, name) if c.runs]
        if not running:
            missing.append(name)
        elif any(c.definition != definition for c in running):
            changed.append(name)
    return tuple(missing), tuple(changed)


def workers_of(app: App, host: Host, release: Release) -> tuple[str, ...]:
    """Return the workers of this host that the release's own settings file has: an older one may lack some."""
    known = dict(release.definitions)
    return tuple(name for name in app.workers if name in known and belongs(app, host, name))


def strays(app: App, host: Host, facts: Facts, release: Release) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the settings services that run here and need not, and what is to be said of those that must not.

    A second beat sends every task twice, a second database splits the data, and users may still be sent to an nginx:
    that is for a human to mend. A worker holds nothing, and goes warmly.
    """
    known = dict(release.definitions)
    running = [c for c in facts.of(app.settings_stack) if c.runs]
    strange = [c for c in running if c.service in known and not belongs(app, host, c.service)]
    workers = {c.service for c in strange if c.service in app.workers and c.service not in app.singletons}
    left = {c.service for c in running if c.service not in known} | workers
    misplaced = [
        f"{c.service} runs here and {_elsewhere(app, c.service)}: "
        f"move what it holds, then say on this host: docker rm -f {c.id}"
        for c in strange
        if c.service not in {*workers, app.proxy}
    ]
    if not facts.serves(app):
        misplaced += _for_users(app, facts)
    return tuple(sorted(left)), tuple(misplaced)


def _elsewhere(app: App, service: str) -> str:
    if service in app.singletons:
        return f"belongs to {_home(app, service) or 'no host'} alone (deploy.singletons)"
    return f"deploy.envs.{app.env}.runs does not name it for this host"


def _for_users(app: App, facts: Facts) -> list[str]:
    """What a host still has that served users before it got another purpose."""
    web = [c for c in facts.containers if c.stack in {app.stack(colour) for colour in Colour}]
    proxy = facts.of(app.settings_stack, app.proxy)
    if not (web or proxy):
        return []
    ids = " ".join(c.id for c in (*proxy, *web))
    names = ", ".join(sorted({c.service for c in (*proxy, *web)}))
    what = f"{names} still run here, and this host is for {', '.join(facts.runs)}"
    return [f"{what}: have users sent elsewhere, then say on this host: docker rm -f {ids}"]


def _why_left(app: App, release: Release, service: str) -> str:
    known = dict(release.definitions)
    return _elsewhere(app, service) if service in known else f"{app.settings_file} has it no more"


def live_release(app: App, facts: Facts) -> str:
    """Return the id of the release that the live colour runs, by its image's tag; '' when nobody is live.

    Of a host that is not there for users: what its workers run, or, where it has none, what it served last.
    """
    if not facts.serves(app):
        runs = {waiting.tag(c.image) for name in app.workers for c in facts.of(app.settings_stack, name) if c.runs}
        served = [r for r in facts.releases if r.served]
        return max(runs, default="") or (max(served, key=lambda r: r.served).id if served else "")
    return waiting.release_of(app, facts, facts.switch) if facts.switch else ""


def is_unchanged(app: App, host: Host, facts: Facts, release: Release) -> bool:
    """Say whether a deploy of `release` would change nothing that anybody could notice on this host."""
    live = facts.stored(live_release(app, facts))
    if live is None or live.record is None or live.record.fingerprint != release.fingerprint:
        return False
    missing, changed = infrastructure(app, host, facts, release)
    leftovers = facts.of(app.stack(idle_colour(facts)))
    if app.standby and waiting.waits_there(app, facts, STANDBY):
        leftovers = ()
    stale = stale_workers(app, host, facts, replace(release, id=live.id))
    return not (missing or changed or leftovers or stale or any(strays(app, host, facts, release))) and (
        facts.conf == release.conf or not facts.serves(app)
    )


def stale_workers(app: App, host: Host, facts: Facts, release: Release) -> tuple[str, ...]:
    """Return the workers of this host that do not run, or run something else than `release`."""
    return tuple(
        name
        for name in workers_of(app, host, release)
        if [c.image for c in facts.of(app.settings_stack, name) if c.runs] != [app.image(release.id)]
    )


def prunable(
    app: App, facts: Facts, release: Release, spare: Iterable[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the releases and the nginx confs on a host that nothing needs once `release` is live.

    Kept are the last `keep` that have been live, the one to come, the one it replaces and the way back from there, and
    those to `spare`.
    """
    live = live_release(app, facts)
    served = sorted((r for r in facts.releases if r.served and r.id != release.id), key=lambda r: r.served)
    keep = {release.id, live, release.replaces, *spare} | {r.id for r in served[-(app.keep - 1) :] if app.keep > 1}
    orphans = (ident for ident in facts.orphans if ident not in {release.id, live})  # no way back: their files are gone
    gone = (*(r.id for r in facts.releases if r.id not in keep), *orphans)
    confs = {r.record.conf for r in facts.releases if r.id in keep and r.record} | {release.conf}
    return gone, tuple(c for c in facts.confs if c not in confs)


def _staged(app: App, facts: Facts) -> set[str]:
    """Return what may be staged on a host. Where no user is sent that is but files and an image nobody has seen."""
    if facts.serves(app):
        return {waiting.waits_there(app, facts, STAGED)}
    return {r.id for r in facts.releases if not r.served}


def fitness(app: App, facts: Facts) -> tuple[str, ...]:
    """Say why a host cannot take a deploy; empty when it can.

    Colours, switch and images are named by the project: two envs of one would take each other's for their own.
    """
    settings = f"{app.project}-setting-"
    others = {c.stack for c in facts.containers if c.stack.startswith(settings) and c.stack != app.settings_stack}
    reasons = [
        f"this host belongs to env {other.removeprefix(settings)}: {other} is here; a host serves one env of a project"
        for other in sorted(others)
    ]
    reasons += [f"{tool} is not installed" for tool in facts.lacks]
    if facts.trouble:
        denied = "permission denied" in facts.trouble
        mend = " (add the login to the group docker there, or set deploy.ssh.sudo: true)" if denied else ""
        reasons.append(f"docker does not answer: {facts.trouble}{mend}")
    elif not facts.compose:
        reasons.append("neither `docker compose` nor `docker-compose` is installed")
    elif facts.disk_free < LEAST_DISK:
        reasons.append(f"only {facts.disk_free >> 20} MiB of disk are free, {LEAST_DISK >> 20} are needed")
    return tuple(reasons)


def taken(facts: Facts, release: Release) -> tuple[str, ...]:
    """Refuse to make a release that is there already: its image would not be built, and its folder written over."""
    if facts.stored(release.id) is None:
        return ()
    return (f"release {release.id} is there already: the clock of the machine you deploy from stands, or went back",)


def describe(app: App, facts: Facts) -> str:
    """Say in a few words what a host serves now."""
    if not facts.serves(app):
        return f"{', '.join(facts.runs)} of {live_release(app, facts) or 'no release yet'}"
    if facts.switch is None:
        return "nobody is live"
    return f"{facts.switch} is live with {live_release(app, facts) or 'nothing that runs'}"


def rollback_target(app: App, facts: Mapping[Host, Facts]) -> str:
    """Return the release before the live one, '' when there is none.

    That is the one it replaced when it was made, or the one before that, until there is one that every host can start.
    On a split fleet: before the newest live one.
    """
    stored = _records(facts.values())
    target = newest_live(app, facts.values())
    seen: set[str] = set()
    while (record := stored.get(target)) and target not in seen:
        seen.add(target)
        target = record.replaces
        if all(can_start(each, target) for each in facts.values()):
            return target
    return ""


def newest_live(app: App, fleet: Iterable[Facts]) -> str:
    """Return the release that came last of those that are live, '' when nobody is.

    That is the one that replaced the others, if one did: ids tell the time of their makers' clocks, which may be wrong.
    """
    fleet = tuple(fleet)
    records = _records(fleet)
    lives = {live_release(app, each) for each in fleet} - {""}
    before = {ident: _replaced(records, ident) for ident in lives}
    last = {ident for ident in lives if not any(ident in before[other] for other in lives - {ident})}
    return max(last or lives, default="")


def _records(fleet: Iterable[Facts]) -> dict[str, Release]:
    return {r.id: r.record for each in fleet for r in each.releases if r.record}


def _replaced(records: Mapping[str, Release], ident: str) -> set[str]:
    """Return what a release replaced, and what that one did, and so on."""
    found: set[str] = set()
    while (record := records.get(ident)) and record.replaces and record.replaces not in found:
        ident = record.replaces
        found.add(ident)
    return found


def can_start(facts: Facts, release_id: str) -> bool:
    """Say whether a host has all that it takes to start a release without building it."""
    stored = facts.stored(release_id)
    return stored is not None and stored.record is not None and stored.has_image
