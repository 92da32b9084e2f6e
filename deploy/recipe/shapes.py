"""Shapes that compose lets one write in two ways: a file's values as they stand there, nothing filled in.

For a document whose variables are filled in, and for what it means on a host, see documents.py.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from typing import TYPE_CHECKING, Any

from deploy.recipe.compose import Quoted
from deploy.recipe.shell import typed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TOKENS = re.compile(r"(?:\$\{(?:[^{}]|\{[^{}]*\})*\}|[^:])+")
"""The parts between the colons of `${HOME:-/srv}/data:/data:ro`."""


def mapping(value: Any) -> dict[str, Any]:
    """Return `{key: …}`; a list of keys has nothing below them."""
    if isinstance(value, dict):
        return value
    return {str(each): None for each in listed(value)}


def listed(value: Any) -> list[Any]:
    """Return a list, also of a single value."""
    return value if isinstance(value, list) else [] if value is None or isinstance(value, dict) else [value]


def words(value: Any) -> str:
    """Return a command as a shell would take it apart again: the words that compose makes of it, a list's or a text's.

    Compose fills variables in; what is no variable to it (`$$`) is a `$` to what it starts.
    """
    if not isinstance(value, list):
        try:
            value = shlex.split(str(value or ""))
        except ValueError:  # a quote without its other half: compose takes it no better
            return str(value)
    return typed([str(each).replace("$$", "$") for each in value])


def yes(value: Any) -> bool:
    """Say whether a value of YAML 1.1 or 1.2 is true; a quoted one is a text."""
    if isinstance(value, dict):  # `external: {name: x}`, as it once was written
        return True
    return not isinstance(value, Quoted) and str(value).lower() in {"true", "yes", "on"}


def joined(names: Iterable[Any]) -> str:
    """Return names as a sentence lists them."""
    return ", ".join(map(str, names))


def ports(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the host's side ('' where compose chooses) and the container's of each published TCP port."""
    for each in listed(body.get("ports")):
        if isinstance(each, dict):
            protocol, target = str(each.get("protocol", "tcp")), str(each.get("target", ""))
            host = ":".join(str(each[key]) for key in ("host_ip", "published") if each.get(key))
        else:
            text, _, protocol = str(each).partition("/")
            *before, target = TOKENS.findall(text)
            host = ":".join(before)
        if (protocol or "tcp") == "tcp":
            yield host, target


def is_volume(source: str) -> bool:
    """Say whether a mount's source is a volume's name, not a path."""
    return bool(source) and not source.startswith((".", "/", "~", "$"))


def mounts(body: Mapping[str, Any]) -> Iterator[tuple[Any, str, str, bool]]:
    """Yield each volume or bind mount as it stands there, its source ('' where it has none), its target, and whether
    it is read only.
    """
    return (found for each in listed(body.get("volumes")) if (found := mount_of(each)))


def mount_of(each: Any) -> tuple[Any, str, str, bool] | None:
    """Return one mount as `mounts` yields it; None for a tmpfs and the like."""
    if isinstance(each, dict):
        if str(each.get("type", "volume")) not in {"volume", "bind"}:
            return None
        return each, str(each.get("source") or ""), str(each.get("target", "")), yes(each.get("read_only"))
    parts = TOKENS.findall(str(each))
    options = ",".join(parts[2:]).split(",")
    source, target = ("", *parts) if len(parts) == 1 else parts[:2]
    return each, source, target, "ro" in options


def anonymous(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield where volumes without a name are, but for those that only keep a folder free of a mount around it."""
    around = tuple(f"{target.rstrip('/')}/" for _, source, target, _ in mounts(body) if source.startswith("."))
    return (target for _, source, target, _ in mounts(body) if not source and not target.startswith(around))


def anonymous_key(service: str, target: str) -> str:
    """Return the name that a volume without one gets: web-var-cache."""
    return f"{service}-{re.sub(r'[^A-Za-z0-9]+', '-', target).strip('-')}"


def same_image(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Two services share an image if they build the same, or if one takes what the other builds by its name."""
    if "build" in one and "build" in other:
        return _built(one["build"]) == _built(other["build"])
    return bool(one.get("image")) and one.get("image") == other.get("image")


def _built(build: Any) -> str:
    full = build if isinstance(build, dict) else {"context": build}
    context = posixpath.normpath(str(full.get("context") or "."))
    return json.dumps([context, *(full.get(key) for key in ("dockerfile", "target", "args"))], sort_keys=True)
