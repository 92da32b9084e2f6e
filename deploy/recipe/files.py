"""Which files go where, how a host's copy differs from ours, and what a settings service is made of."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from deploy.recipe import shell
from deploy.recipe.steps import Parcel, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deploy.recipe.model import Facts, Host, Release


def digest(*parts: bytes) -> str:
    """Return a sha256 over parts whose borders count: ("ab", "c") is not ("a", "bc")."""
    total = hashlib.sha256()
    for part in parts:
        total.update(b"%d:" % len(part) + part)
    return total.hexdigest()


def lacking(stamps: Mapping[str, str], facts: Facts) -> frozenset[str]:
    """Return the paths whose file a host does not have, or has differently."""
    if facts.source_same:
        return frozenset()
    have = dict(facts.source)
    return frozenset(path for path, stamp in stamps.items() if have.get(path) != stamp)


def stale(stamps: Mapping[str, str], facts: Facts) -> tuple[str, ...]:
    """Return the paths that a host has and the source has not."""
    return () if facts.source_same else tuple(sorted(path for path, _ in facts.source if path not in stamps))


def send(
    release: Release, stamps: Mapping[str, str], host: Host, facts: Facts, *, serves: bool = True
) -> tuple[Step, ...]:
    """Bring what a host lacks: one tar, whatever the number of files. One that has no nginx gets no conf of it."""
    conf = serves and facts.conf != release.conf
    wanted, gone = lacking(stamps, facts), stale(stamps, facts)
    steps: tuple[Step, ...] = ()
    if gone:
        steps += (
            Step(
                "remove stale sources",
                f"{len(gone)} files are no longer in the source",
                shell.command("remove_stale", *gone),
            ),
        )
    because = (
        f"{len(wanted)} of {len(stamps)} source files differ"
        if wanted
        else "the sources are there; only the release's own files go"
    )
    return (
        *steps,
        Step(
            "receive files",
            because,
            shell.command("receive"),
            deadline=1800,
            parcel=Parcel(release.id, wanted, conf=conf, host=host),
        ),
    )


def definitions(compose: Mapping[str, Any], env: Mapping[str, str], env_file: bytes) -> dict[str, str]:
    """Return a digest by service of everything that would make compose recreate it.

    A digest covers the service as written, the values of the variables it names, and the env file if it reads one.
    Values of GREENROOM_* differ with each release and are left out: what they name is refreshed by every deploy anyway.
    """
    return {
        name: _definition(service or {}, env, env_file)
        for name, service in sorted((compose.get("services") or {}).items())
    }


_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")


def _definition(service: Mapping[str, Any], env: Mapping[str, str], env_file: bytes) -> str:
    text = json.dumps(service, sort_keys=True, default=str)
    values = json.dumps([(name, env.get(name)) for name in sorted(_named(text, env))])
    return digest(text.encode(), values.encode(), env_file if "env_file" in service else b"")[:16]


def _named(text: str, env: Mapping[str, str]) -> set[str]:
    """Return the variables that a text names, and those that their values name in turn: compose resolves both."""
    found: set[str] = set()
    texts = [text]
    while texts:
        names = {name for name in _VARIABLE.findall(texts.pop()) if not name.startswith("GREENROOM_")} - found
        found |= names
        texts += [env[name] for name in names if name in env]
    return found


def labels(compose: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """Return a compose file that labels each service with its definition, to lie on top of the user's.

    JSON is YAML. Compose v1 refuses to merge files of different `version`, so the user's is repeated.
    """
    overlay: dict[str, Any] = {"version": compose["version"]} if "version" in compose else {}
    overlay["services"] = {name: {"labels": {"greenroom.definition": value}} for name, value in digests.items()}
    return json.dumps(overlay, indent=1)


def record(verb: str, release: Release, came_from: str, outcome: str) -> Step:
    """One line in the host's history, for people. The host adds its own time."""
    return _line({"who": release.who, "what": verb, "release": release.id, "from": came_from, "outcome": outcome})


def record_words(who: str, verb: str, words: str) -> Step:
    """The same, of something that has no release."""
    return _line({"who": who, "what": verb, "outcome": words})


def _line(fields: dict[str, str]) -> Step:
    return Step("write history", "people want to know who did what", shell.command("record", json.dumps(fields)))


def lock(text: str, reason: str) -> Step:
    return Step("keep runs off", reason, shell.command("lock_for", text))


def unlock(reason: str) -> Step:
    return Step("let runs in again", reason, shell.command("unlock"))


def mark_served() -> Step:
    return Step("mark the release as served", "it may be rolled back to from now on", shell.command("mark_served"))


def unmark_served() -> Step:
    return Step("unmark the release", "it did not stay", shell.command("unmark_served"))


def forget(releases: Iterable[str], because: str) -> Step:
    return Step("forget old releases", because, shell.command("forget", *releases), deadline=120)


def forget_confs(digests: Iterable[str]) -> Step:
    return Step("forget old nginx confs", "no kept release uses them", shell.command("forget_confs", *digests))
