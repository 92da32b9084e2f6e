"""Where a host stands: what is live on it, what is idle, what it could take, and where the way back leads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deploy.recipe import services, waiting
from deploy.recipe.model import STAGED, STANDBY, Colour

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deploy.recipe.model import App, Facts, Host, Release

LEAST_DISK = 1 << 30
"""Bytes that must be free before a deploy begins: an image with its layers, and air."""


def idle_colour(facts: Facts) -> Colour:
    return facts.switch.other if facts.switch else Colour.BLUE


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
    missing, changed = services.infrastructure(app, host, facts, release)
    leftovers = facts.of(app.stack(idle_colour(facts)))
    if app.standby and waiting.waits_there(app, facts, STANDBY):
        leftovers = ()
    stale = services.stale_workers(app, host, facts, replace(release, id=live.id))
    return not (missing or changed or leftovers or stale or any(services.strays(app, host, facts, release))) and (
        facts.conf == release.conf or not facts.serves(app)
    )


def describe(app: App, facts: Facts) -> str:
    """Say in a few words what a host serves now."""
    if not facts.serves(app):
        return f"{', '.join(facts.runs)} of {live_release(app, facts) or 'no release yet'}"
    if facts.switch is None:
        return "nobody is live"
    return f"{facts.switch} is live with {live_release(app, facts) or 'nothing that runs'}"


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


def prunable(
    app: App, facts: Facts, release: Release, spare: Iterable[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the releases and the nginx confs on a host that nothing needs once `release` is live.

    Kept are the last `keep` that have been live, the one to come, the one it replaces and the way back from there, and
    those to `spare`. An image whose files are gone is nobody's way back; what still runs docker keeps.
    """
    live = live_release(app, facts)
    served = sorted((r for r in facts.releases if r.served and r.id != release.id), key=lambda r: r.served)
    keep = {release.id, live, release.replaces, *spare} | {r.id for r in served[-(app.keep - 1) :] if app.keep > 1}
    orphans = (ident for ident in facts.orphans if ident != release.id)  # no way back, of the live one either
    gone = (*(r.id for r in facts.releases if r.id not in keep), *orphans)
    confs = {r.record.conf for r in facts.releases if r.id in keep and r.record} | {release.conf}
    return gone, tuple(c for c in facts.confs if c not in confs)


def may_be_staged(app: App, facts: Facts) -> set[str]:
    """Return what may be staged on a host. Where no user is sent that is but files and an image nobody has seen."""
    if facts.serves(app):
        return {waiting.waits_there(app, facts, STAGED)}
    return {r.id for r in facts.releases if not r.served}


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
    One whose files are gone is no way back, and where it came from nobody knows: it counts for nothing.
    """
    fleet = tuple(fleet)
    records = _records(fleet)
    lives = {live_release(app, each) for each in fleet} & records.keys()
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
