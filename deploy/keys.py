"""What may stand under `deploy:` in invoke.yaml, and how a person is told of what may not."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from deploy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class HealthKeys(msgspec.Struct, forbid_unknown_fields=True):
    path: str = "/"
    host: str = "localhost"
    timeout: int = 60


class Ssh(msgspec.Struct, forbid_unknown_fields=True):
    """How hosts are reached, beyond what ~/.ssh/config says. `connect_timeout` in seconds.

    `limit` is how many connections may be opening at once. sshd begins to drop logins at 10 (MaxStartups), and a jump
    host of all hosts sees all of them.
    """

    host_keys: Literal["strict", "accept-new"] = "strict"
    known_hosts: str = "~/.ssh/known_hosts"
    config: str = "~/.ssh/config"
    identity: str = ""
    connect_timeout: int = 10
    limit: int = 8
    sudo: bool = False


class StackKeys(msgspec.Struct, forbid_unknown_fields=True):
    """A compose file that is deployed as it is; see recipe/adopted.py."""

    file: str
    coloured: list[str]
    port: int = 0
    front: str = ""
    without: list[str] = msgspec.field(default_factory=list)
    name: str = ""
    folder: str = ""


class RegistryKeys(msgspec.Struct, forbid_unknown_fields=True):
    """A registry that the image goes through; see registry.py."""

    image: str
    username: str = ""
    password: str = ""


HostMoment = Literal[
    "after-prepare", "before-push", "after-push", "before-ship", "after-ship", "before-migrate", "after-migrate",
    "before-start", "after-start", "before-flip", "after-flip", "before-settle", "after-settle", "before-finish",
    "after-finish", "failure",
]  # fmt: skip
Moment = Literal["before-prepare", HostMoment]
"""When hooks may run. On a host there is nothing to run before the source has come, in prepare."""


class EnvKeys(msgspec.Struct, forbid_unknown_fields=True):
    """Every key that an env may have; each may also stand above, for all envs that do not say otherwise."""

    hosts: list[str] = msgspec.field(default_factory=list)
    runs: dict[str, list[str]] = msgspec.field(default_factory=dict)
    values: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    dotenv: str = ""
    settings: str = ""
    root: str = "greenroom"
    network: str = "settings"
    volumes: list[str] = msgspec.field(default_factory=lambda: ["static", "media"])
    service: str = "web"
    proxy: str = "nginx"
    colours: dict[Literal["blue", "green"], str] = msgspec.field(default_factory=dict)
    stack: StackKeys | None = None
    nginx: str = "nginx"
    health: HealthKeys = msgspec.field(default_factory=HealthKeys)
    migrate: str = ""
    workers: list[str] = msgspec.field(default_factory=list)
    singletons: list[str] = msgspec.field(default_factory=list)
    settle: int = 30
    drain: int = 30
    keep: int = 5
    standby: bool = False
    build: Literal["once", "each", "local"] = "once"
    registry: RegistryKeys | None = None
    build_timeout: int = 1800
    migrate_timeout: int = 600
    hooks: dict[Moment, list[str]] = msgspec.field(default_factory=dict)
    host_hooks: dict[HostMoment, list[str]] = msgspec.field(default_factory=dict)
    hook_timeout: int = 60
    ssh: Ssh = msgspec.field(default_factory=Ssh)


class TopKeys(EnvKeys, forbid_unknown_fields=True):
    """The keys directly under `deploy:`."""

    project: str = ""
    source: str = "."
    templates: str = "templates"
    env: str = ""
    envs: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


def convert(data: Mapping[str, Any], kind: type[Any], place: Any) -> Any:
    """Return a struct of `kind` made of `data`; `place` gives the words for a path in it, like `.health.path`.

    Raises:
        ConfigError: with the path, what was expected, and the nearest key or word that exists.

    """
    _refuse_unknown(data, kind, "", place)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `")
        path = path.rpartition("$")[2].rstrip("`")  # a bad key is "at `key` in `$.colours`"
        value = what.removeprefix("Invalid enum value ").strip("'")
        known = [] if value == what else _choices(kind, path)
        offered = f"{nearest(value, known)}; there are: {', '.join(known)}" if known else ""
        raise ConfigError(f"{place(path)}: {lower_first(what)}{offered}") from None
    except UnicodeEncodeError as error:
        raise ConfigError(f"{place('')}: {error.object!r} is no text: half of a letter stands in it") from None


def _refuse_unknown(data: Mapping[str, Any], kind: type[Any], path: str, place: Any) -> None:
    for field in msgspec.structs.fields(kind):
        inner = data.get(field.name)
        nested = next((t for t in (field.type, *get_args(field.type)) if _is_struct(t)), None)
        if nested is not None and isinstance(inner, dict):
            _refuse_unknown(inner, nested, f"{path}.{field.name}", place)
    known = kind.__struct_fields__
    for key in data:
        if key not in known:
            raise ConfigError(f"{place(f'{path}.{key}')}: there is no such key{nearest(str(key), known)}")


def _choices(kind: Any, path: str) -> list[str]:
    """Return the words that may stand at a path below a struct, as its keys or as its value."""
    for name in re.findall(r"\w+", path):
        kind = next((field.type for field in msgspec.structs.fields(kind) if field.name == name), None)
        if not _is_struct(kind):
            break
    return list(_literals(kind))


def _literals(kind: Any) -> Iterator[str]:
    for each in get_args(kind):
        if isinstance(each, str):
            yield each
        else:
            yield from _literals(each)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def nearest(name: str, known: Any) -> str:
    """Return what a person may have meant, as the end of a sentence; '' where nothing is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
