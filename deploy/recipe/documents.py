"""What a compose document says to whoever only wants to warn: read here, decided by the host's own compose.

It takes parsed YAML and knows what warnings need: interpolation, ports, mounts, names on a network, durations.
`extends` and `include` are not followed: what they bring is not warned of.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>\w+)|\{(?P<name>\w+)(?:(?P<how>:?[-+?])(?P<word>[^{}]*(?:\{[^{}]*\}[^{}]*)*))?\})"
)


def interpolate(value: Any, env: Mapping[str, str]) -> Any:
    """Return a document with its variables filled in from `env`, as compose does; keys stay as they are."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _value(found, env), value)
    if isinstance(value, Mapping):
        return {key: interpolate(inner, env) for key, inner in value.items()}
    if isinstance(value, list):
        match value:  # compose v2's own tags, as compose.py reads them
            case ["!override", rest]:
                return interpolate(rest, env)
            case ["!reset", _]:
                return None
        return [interpolate(inner, env) for inner in value]
    return value


def _value(found: re.Match[str], env: Mapping[str, str]) -> str:
    if found["dollar"]:
        return "$"
    name, how = found["plain"] or found["name"], found["how"] or ""
    is_there = bool(env.get(name)) if how.startswith(":") else name in env
    if how.endswith("-") and not is_there:
        return str(interpolate(found["word"], env))
    if how.endswith("+"):
        return str(interpolate(found["word"], env)) if is_there else ""
    return env.get(name, "")


_EVERYWHERE = {"", "0.0.0.0", "::"}  # noqa: S104  # as files say it


@dataclass(frozen=True)
class Port:
    """A published port. `published` is '' where docker chooses one; `index` is its place in the file."""

    index: int
    address: str
    published: str
    target: str
    protocol: str = "tcp"

    @property
    def is_open(self) -> bool:
        """Say whether the whole world may come: on every address, or on one that the internet routes."""
        try:
            address = ipaddress.ip_address(self.address.strip("[]") or "0.0.0.0")  # noqa: S104  # docker's default
        except ValueError:
            return False
        return address.is_unspecified or address.is_global

    def clashes(self, other: Port) -> bool:
        """Say whether both cannot be published on one host. Of a range for one port docker takes what is free."""
        if "-" in self.published and "-" not in self.target:
            return False
        same = (self.published, self.protocol) == (other.published, other.protocol)
        mine, theirs = (each.address.strip("[]") for each in (self, other))
        if (":" in mine and "." in theirs) or ("." in mine and ":" in theirs):  # docker keeps IPv6's sockets to IPv6
            return False
        return bool(self.published) and same and (mine == theirs or bool({mine, theirs} & _EVERYWHERE))


@dataclass(frozen=True)
class Mount:
    """A volume of a service: `kind` is bind, volume or anonymous."""

    index: int
    kind: str
    source: str
    target: str


@dataclass(frozen=True)
class Document:
    """One compose file as one stack would get it: its variables are filled in."""

    file: str
    stack: str
    data: Mapping[str, Any]

    @property
    def services(self) -> dict[str, Mapping[str, Any]]:
        """The services that run: none of those that only a profile would start."""
        every = _mapping(self.data.get("services")).items()
        return {name: body for name, body in every if isinstance(body, Mapping) and not body.get("profiles")}

    def place(self, service: str, *keys: object) -> str:
        """Say where something stands: colour.yml: services.web.ports[0]."""
        path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
        return f"{self.file}: services.{service}{path}"

    def volume(self, name: str) -> str:
        """Return the name that docker knows a volume of this document by."""
        return self._real_name("volumes", name)

    def networks(self, service: str) -> frozenset[str]:
        """Return docker's names of the networks that a service is on."""
        return frozenset(self._real_name("networks", str(key)) for key in _joined(self.services.get(service, {})))

    def names(self, service: str, network: str) -> frozenset[str]:
        """Return the names by which a service is found on docker's network `network`; empty when it is not on it."""
        body = self.services.get(service, {})
        joined = _joined(body)
        aliases: set[str] = set()
        found = False
        for key in joined:
            if self._real_name("networks", str(key)) == network:
                found = True
                settings = _mapping(_mapping(joined).get(key))
                aliases |= set(map(str, _sequence(settings.get("aliases"))))
        if not found:
            return frozenset()
        own = {str(body["container_name"])} if body.get("container_name") else set()
        return frozenset({service, *aliases, *own, f"{self.stack}-{service}-1", f"{self.stack}_{service}_1"})

    def _real_name(self, section: str, name: str) -> str:
        body = _mapping(_mapping(self.data.get(section)).get(name))
        external = body.get("external")
        if isinstance(external, Mapping):
            return str(external.get("name", name))
        return str(body.get("name") or (name if external else f"{self.stack}_{name}"))


def _joined(service: Mapping[str, Any]) -> Any:
    return service.get("networks") or ([] if "network_mode" in service else ["default"])


def keys(value: Any) -> list[str]:
    """Return the keys of what may be written as a mapping, or as a list of KEY=VALUE."""
    return [str(each).partition("=")[0] for each in (value if isinstance(value, list) else _mapping(value))]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def ports(service: Mapping[str, Any]) -> list[Port]:
    """Return what a service publishes, in both ways of writing it."""
    return [_port(index, each) for index, each in enumerate(_sequence(service.get("ports")))]


def _port(index: int, value: Any) -> Port:
    if isinstance(value, Mapping):
        address, published, target = (str(value.get(key) or "") for key in ("host_ip", "published", "target"))
        return Port(index, address, published, target, str(value.get("protocol") or "tcp"))
    text, _, protocol = str(value).partition("/")
    address, bracket, rest = text.rpartition("]:")
    parts = rest.split(":")
    target = parts.pop()
    published = parts.pop() if parts else ""
    return Port(index, address + bracket[:1] or ":".join(parts), published, target, protocol or "tcp")


def mounts(service: Mapping[str, Any]) -> list[Mount]:
    """Return the volumes of a service, in both ways of writing them; tmpfs and the like are left out."""
    found = (_mount(index, each) for index, each in enumerate(_sequence(service.get("volumes"))))
    return [each for each in found if each]


def _mount(index: int, value: Any) -> Mount | None:
    if isinstance(value, Mapping):
        source, kind = str(value.get("source") or ""), str(value.get("type") or "")
        if kind not in {"bind", "volume"}:
            return None
        return Mount(index, kind if source else "anonymous", source, str(value.get("target") or ""))
    source, colon, rest = str(value).partition(":")
    if not colon:
        return Mount(index, "anonymous", "", source)
    return Mount(index, "bind" if source[:1] in {".", "/", "~"} else "volume", source, rest.partition(":")[0])


def words(command: Any) -> list[str]:
    """Return a command as the words that docker gets. Compose splits a text into words, and needs no shell for it."""
    if isinstance(command, str):
        try:
            return shlex.split(command)
        except ValueError:
            return command.split()
    return list(map(str, _sequence(command)))


_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(duration: Any) -> float | None:
    """Read a duration of compose (1m30s, 40s, 500ms; a bare number is seconds); None where it is none."""
    text = str(duration).strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)", text)
    return sum(float(n) * _UNITS[unit] for n, unit in parts) if "".join(n + unit for n, unit in parts) == text else None
