"""Services of the settings stack: which of them belong to a host, and how what runs there differs from that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.recipe.model import Colour

if TYPE_CHECKING:
    from deploy.recipe.model import App, Facts, Host, Release


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
        running = [c for c in facts.of(app.settings_stack, name) if c.stays]
        if not running:
            missing.append(name)
        elif any(c.definition != definition for c in running):
            changed.append(name)
    return tuple(missing), tuple(changed)


def ending(app: App, host: Host, facts: Facts, live: Release) -> set[str]:
    """Return the services of this host of which a container is about to end, for a script that was cut off.

    One that `live` has no more was to go.
    """
    ends = {c.service for c in facts.of(app.settings_stack) if c.runs and not c.stays}
    return {name for name, _ in live.definitions if name in ends and belongs(app, host, name)}


def workers_of(app: App, host: Host, release: Release) -> tuple[str, ...]:
    """Return the workers of this host that the release's own settings file has: an older one may lack some."""
    known = dict(release.definitions)
    return tuple(name for name in app.workers if name in known and belongs(app, host, name))


def stale_workers(app: App, host: Host, facts: Facts, release: Release) -> tuple[str, ...]:
    """Return the workers of this host that do not run, or run something else than `release`.

    There may be several of one (`scale: 2`), unless it is a singleton.
    """
    stale = []
    for name in workers_of(app, host, release):
        images = [c.image for c in facts.of(app.settings_stack, name) if c.stays]
        if {*images} != {app.image(release.id)} or (name in app.singletons and len(images) > 1):
            stale.append(name)
    return tuple(stale)


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


def why_left(app: App, release: Release, service: str) -> str:
    known = dict(release.definitions)
    return _elsewhere(app, service) if service in known else f"{app.settings_file} has it no more"
