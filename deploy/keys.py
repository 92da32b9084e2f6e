"""What may stand under `deploy:` in invoke.yaml, and how a person is told of what may not."""

from __future__ import annotations

import difflib
import functools
import json
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


TEMPLATES = "templates"
"""Where a project's templates lie, unless it says otherwise."""


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
    templates: str = TEMPLATES
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
        if wanted := _WRONG_TYPE.match(what):
            raise _wrong_type(data, path, wanted[1], place) from None
        value = what.removeprefix("Invalid enum value ").strip("'")
        known = [] if value == what else _choices(kind, path)
        offered = f"{nearest(value, known)}; there are: {', '.join(known)}" if known else ""
        raise ConfigError(f"{place(path)}: {lower_first(what)}{offered}") from None
    except UnicodeEncodeError as error:
        raise ConfigError(f"{place('')}: {error.object!r} is no text: half of a letter stands in it") from None


def _refuse_unknown(data: Mapping[str, Any], kind: Any, path: str, place: Any) -> None:
    for name, nested in _structs_in(kind).items():
        inner = data.get(name)
        if isinstance(inner, dict):
            _refuse_unknown(inner, nested, f"{path}.{name}", place)
    known = kind.__struct_fields__
    for key in data:
        if key not in known:
            raise ConfigError(f"{place(f'{path}.{key}')}: there is no such key{nearest(str(key), known)}")


@functools.cache  # msgspec evaluates every hint of a struct anew each time it is asked
def _structs_in(kind: Any) -> dict[str, type[Any]]:
    """Return the keys of a struct that have structs below them, and which."""
    found = {
        field.name: next((t for t in (field.type, *get_args(field.type)) if _is_struct(t)), None)
        for field in msgspec.structs.fields(kind)
    }
    return {name: nested for name, nested in found.items() if nested}


EXAMPLES = {
    "project": "shop", "source": ".", "templates": "templates", "env": "prod",
    "envs": "{prod: {hosts: [deploy@web1.example.com]}}", "hosts": "[deploy@web1.example.com]",
    "runs": "{web1.example.com: [web]}", "values": "{web1.example.com: {THREADS: 4}}", "dotenv": ".env.prod",
    "settings": "setting_prod.yml", "root": "greenroom", "network": "shop", "volumes": "[static, media]",
    "service": "web", "proxy": "nginx", "colours": "{blue: blue.yml, green: green.yml}",
    "stack": "{file: compose.yaml, coloured: [web]}", "file": "compose.yaml", "coloured": "[web]", "front": "traefik",
    "without": "[mailhog]", "folder": "/srv/shop", "nginx": "nginx",
    "health": "{path: /healthz, host: shop.example.com}", "path": "/healthz", "host": "shop.example.com",
    "migrate": "python manage.py migrate", "workers": "[celery]", "singletons": "[postgres]",
    "build": "once", "registry": "{image: registry.example.com/shop}", "image": "registry.example.com/shop",
    "username": "deploy", "password": "REGISTRY_PASSWORD", "hooks": "{after-finish: [hooks/notify]}",
    "host_hooks": "{after-start: [bin/warm]}", "ssh": "{known_hosts: ops/known_hosts}", "host_keys": "strict",
    "known_hosts": "ops/known_hosts", "config": "ops/ssh_config", "identity": "~/.ssh/id_ed25519", "name": "shop",
    "port": "8000", "timeout": "60", "settle": "30", "drain": "30", "keep": "5", "standby": "true", "sudo": "true",
    "build_timeout": "1800", "migrate_timeout": "600", "hook_timeout": "60", "connect_timeout": "10", "limit": "8",
}  # fmt: skip
"""What a key may say, as it is written in YAML: for whoever wrote something of another kind."""

_WRONG_TYPE = re.compile(r"Expected `(\w+)(?: \| null)?`, got ")
_TYPES: dict[str, tuple[type[Any], str]] = {
    "str": (str, "a text"),
    "int": (int, "a whole number"),
    "bool": (bool, "true or false, without quotes"),
    "array": (list, "a list"),
    "object": (dict, "keys below it"),
}


def _wrong_type(data: Any, path: str, wanted: str, place: Any) -> ConfigError:
    """Say where something of another kind stands, what it is, and what is right. Nothing in `values` is ever shown."""
    kind, words = _TYPES[wanted]
    said, value = next(found for found in _at(data, re.findall(r"[^.[\]]+|\.{3}", path)) if type(found[1]) is not kind)
    secret = said.startswith((".values", ".registry"))
    key = next(key for key in reversed(re.findall(r"\w+", said)) if key in EXAMPLES)
    quotes = "; in quotes it is a text" if kind is str and isinstance(value, (bool, int, float)) else ""
    return ConfigError(
        f"{place(said)}: expected {words}; found {_shown(value, secret=secret)}{quotes}",
        mend=f"in invoke.yaml, for example:  {key}: {EXAMPLES[key]}",
    )


def _at(value: Any, path: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield what stands at a path, and where; `...` is one entry of a mapping, and which is not told."""
    if not path:
        yield "", value
        return
    first, *rest = path
    if isinstance(value, list):
        found = {f"[{index}]": each for index, each in enumerate(value) if str(index) == first}
    else:
        found = {f".{key}": each for key, each in value.items() if first in {"...", key}}
    for place, each in found.items():
        if not rest or isinstance(each, (list, dict)):
            yield from ((place + below, last) for below, last in _at(each, rest))


def _shown(value: Any, *, secret: bool) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "keys below it"
    return "something else" if secret else json.dumps(value, ensure_ascii=False, default=str)


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
