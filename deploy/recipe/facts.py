"""The questions we ask a host, and the pure reading of its answers."""

from __future__ import annotations

import datetime
import json
import re
from typing import TYPE_CHECKING

from deploy.recipe import manifest, shell
from deploy.recipe.model import Colour, Container, Facts, Release, StoredRelease, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deploy.recipe.model import App
    from deploy.recipe.shell import Answer, Command


def variables(app: App, *, release_id: str = "", compose: str = "") -> tuple[tuple[str, str], ...]:
    """Return what every word of the host library may count on. None of it is secret."""
    return (
        ("PROJECT", app.project),
        ("BASE", app.base),
        ("SETTINGS", app.settings_stack),
        ("SETTINGS_FILE", app.settings_file),
        ("PROXY", app.proxy),
        ("NETWORK", app.network),
        ("HEALTH_HOST", app.health.host),
        ("HEALTH_PATH", app.health.path),
        ("RELEASE", release_id),
        ("COMPOSE", compose),
    )


def observe(source: Mapping[str, str] | None = None) -> Command:
    """Ask for everything a plan is made from; of the source, how it differs from these stamps by path, if any."""
    if source is None:
        return shell.command("observe", "")
    parts = (f"{part}:{digest}" for part, digest in manifest.parts(source).items())
    return shell.command("observe", manifest.digest(source), *parts)


def volumes(app: App) -> tuple[Command, ...]:
    """Ask for what an adopted compose file keeps, if it keeps anything."""
    return (shell.command("look_at_volumes", *(word for pair in app.kept for word in pair)),) if app.kept else ()


def probe() -> Command:
    return shell.command("probe")


def examine(*ports: str) -> Command:
    return shell.command("examine", *ports)


def history(lines: int) -> Command:
    return shell.command("history_lines", lines)


def own_files(*names: str) -> Command:
    """Ask for files of the release that the variables name; for all that go with it into another one when unnamed."""
    return shell.command("tell_files", *names)


def read_files(answers: Iterable[Answer]) -> dict[str, bytes]:
    """Read the answers to `own_files`: contents by name. A last line without its newline has one now."""
    lines: dict[str, list[str]] = {}
    for answer in answers:
        name, *parts = answer.values
        lines.setdefault(name, []).extend(["\t".join(parts)] if answer.key == "own_line" else [])
    return {name: "".join(f"{line}\n" for line in each).encode() for name, each in lines.items()}


def read(answers: Iterable[Answer], source: Mapping[str, str] | None = None) -> Facts:
    """Fold a host's answers into Facts. `source` is what `observe` was asked with: the host says where it differs.

    An answer that is not known is an error in this house, not on the host.
    """
    known: dict[str, list[tuple[str, ...]]] = {}
    for answer in answers:
        known.setdefault(answer.key, []).append(answer.values)
    unknown = known.keys() - _KEYS
    if unknown:
        raise ValueError(f"a host answered what nobody asked: {sorted(unknown)}")

    def one(key: str) -> str:
        return known[key][0][0] if key in known else ""

    images = {values[0] for values in known.get("image", ())}
    stored = {values[0] for values in known.get("release", ())}
    return Facts(
        base=one("base"),
        docker=one("docker"),
        architecture=one("architecture"),
        compose=one("compose"),
        switch=_colour(one("switch")),
        proxy_runs="proxy_runs" in known,
        conf=one("conf"),
        confs=tuple(values[0] for values in known.get("nginx_dir", ())),
        containers=tuple(c for values in known.get("container", ()) if (c := _container(values))),
        releases=tuple(sorted((_stored(values, images) for values in known.get("release", ())), key=lambda r: r.id)),
        orphans=tuple(sorted(tag for tag in map(_tag, images) if _RELEASE.fullmatch(tag) and tag not in stored)),
        source_same="source_same" in known,
        source=_source(known, source or {}),
        disk_free=int(one("disk_free") or 0),
        lacks=tuple(values[0] for values in known.get("lacks", ())),
        trouble=one("no_docker"),
        locked=one("locked"),
        maintenance=one("maintenance"),
        waiting=_waiting(*known["waiting"][0]) if "waiting" in known else None,
        volumes=frozenset(name for (name,) in known.get("volume", ())),
        volume_users=tuple((name, container, project) for name, container, project in known.get("volume_user", ())),
        volume_likes=tuple((key, name) for key, name, _ in known.get("volume_like", ())),
        colour_health=tuple((Colour(colour), state) for colour, state in known.get("health", ())),
    )


_KEYS = {
    "base", "docker", "no_docker", "compose", "container", "image", "switch", "proxy_runs", "conf", "nginx_dir",
    "release", "source_same", "file", "disk_free", "lacks", "health", "locked", "maintenance", "architecture",
    "differs", "volume", "volume_user", "volume_like", "waiting",
}  # fmt: skip


_RELEASE = re.compile(r"\d{8}-\d{6}(-\w+)*")
"""What a release's id looks like: an image of another tag is not ours."""


def _tag(image: str) -> str:
    return image.rpartition(":")[2]


def _colour(text: str) -> Colour | None:
    return Colour(text) if text in {"blue", "green"} else None


def _waiting(containers: str, text: str) -> Waiting | None:
    """Read what a host says of a colour that waits; None where a disk ran full while it was written down."""
    colour, *ids = containers.split(" ")
    try:
        said = json.loads(text)
        return Waiting(said["as"], Colour(colour), frozenset(ids), str(said["who"]), int(said["at"]))
    except (ValueError, KeyError, TypeError):
        return None


def _container(values: tuple[str, ...]) -> Container | None:
    """Read one line of docker inspect; one-off containers (compose run) are nobody's service."""
    ident, stack, service, image, state, health, restarts, since, definition, oneoff = values
    if oneoff == "True":
        return None
    return Container(ident[:12], stack, service, image, state, health, int(restarts), since, definition)


def _stored(values: tuple[str, ...], images: set[str]) -> StoredRelease:
    """Read one directory of releases/. Its record may be missing: the operator may have died before it was whole."""
    ident, served, *text = values
    record = record_of("\t".join(text))
    return StoredRelease(
        id=ident,
        served=int(served) if served.isdigit() else 0,
        record=record,
        has_image=any(image.endswith(f":{ident}") for image in images),
    )


def record_of(text: str) -> Release | None:
    """Read a release.json; None when it is absent or broken, for it is for people and never decides what is live."""
    try:
        data = json.loads(text)
        return Release(
            **{
                key: str(data[key])
                for key in ("id", "fingerprint", "conf", "manifest", "revision", "origin", "who", "replaces")
            },
            definitions=tuple(sorted(data["definitions"].items())),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def record_text(release: Release) -> str:
    """Write a release.json: one line, so that it can be an answer; readable by `record_of`."""
    return json.dumps(
        {
            "id": release.id,
            "fingerprint": release.fingerprint,
            "conf": release.conf,
            "manifest": release.manifest,
            "revision": release.revision,
            "origin": release.origin,
            "who": release.who,
            "replaces": release.replaces,
            "definitions": dict(release.definitions),
        }
    )


def _source(known: Mapping[str, Sequence[tuple[str, ...]]], asked: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return path and stamp of each file: those that the host has told, and those of the parts in which it is alike."""
    told = tuple(file for values in known.get("file", ()) if (file := manifest.read("\t".join(values)))[0])
    differ = {part for (part,) in known.get("differs", ())}
    alike = (file for file in asked.items() if manifest.part_of(file[1]) not in differ) if differ else ()
    return (*told, *alike)


def history_of(line: str) -> dict[str, str]:
    """Read a line of history.jsonl; what cannot be read is shown as it is."""
    try:
        data = json.loads(line)
        at = datetime.datetime.fromtimestamp(int(data.pop("at")), datetime.timezone.utc)
        return {"at": f"{at:%Y-%m-%d %H:%M:%S}", **{key: str(value) for key, value in data.items()}}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"outcome": line}
