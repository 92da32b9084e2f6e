"""One compose file in, two out: what each colour runs, and what stays while colours come and go.

The file is not interpreted: keys move, go or get another name, and every value stays as it was written, for the host's
own compose to read. What cannot be moved without guessing is refused by its path; what changes is said in a note.

The laws of this file:
- Nothing that holds data begins empty without a word: volumes keep the names that compose gave them, relative folders
  that are not of the source must be said (`deploy.stack.folder`).
- Both colours can run side by side: no fixed port, no container name, nothing of theirs in a place of its own.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy.errors import ConfigError
from deploy.recipe.compose import Quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

NETWORK = "greenroom"
"""What the shared network is called inside the derived files."""

IMAGE = "${GREENROOM_IMAGE}"
COLOUR = "${GREENROOM_COLOUR}"
RESTART = "always"
"""As in the templates: with unless-stopped a dockerd that died leaves its containers down for good."""

HTTP = 80
TLS = 443
DOORS = 8000
"""Where the search for two free host ports begins, on 127.0.0.1: the colours' doors."""

_FRONTS = re.compile(r"(?:.*/)?(?:nginx|openresty|caddy|traefik|haproxy|httpd|swag|nginx-proxy)(?:[-:@].*)?")
"""Images of programs that stand in front of others."""

_TOKENS = re.compile(r"(?:\$\{(?:[^{}]|\{[^{}]*\})*\}|[^:])+")
"""The parts between the colons of `${HOME:-/srv}/data:/data:ro`."""


@dataclass(frozen=True)
class Adopted:
    """A compose file, and what invoke.yaml says of it (`deploy.stack`).

    `document` is as `compose.read_raw` gives it. `at` is the file's folder relative to the source. `env_files` are the
    names that stand for the env's own file.
    """

    file: str
    document: Mapping[str, Any] = field(repr=False)
    coloured: tuple[str, ...]
    project: str
    proxy: str = "nginx"
    port: int = 0
    front: str = ""
    without: tuple[str, ...] = ()
    name: str = ""
    folder: str = ""
    at: str = "."
    env_files: tuple[str, ...] = (".env",)
    migrates: bool = False

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        return {name: dict(body or {}) for name, body in self.document["services"].items()}

    def wrong(self, where: str, what: str, mend: str = "") -> ConfigError:
        return ConfigError(f"{self.file}: {where}: {what}", mend=mend)


@dataclass(frozen=True)
class Outline:
    """What plans are made from: all that the file says without a look at the source.

    `volumes` are key and name on the hosts, of what compose would have made itself. `images` are the services that have
    an image of their own beside the app's: of the colours, and of the settings stack.
    """

    settings: tuple[str, ...]
    workers: tuple[str, ...]
    volumes: tuple[tuple[str, str], ...]
    port: int
    published: str
    images: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Derived:
    """The two files, as documents, and what a person should know of how they differ from the one."""

    colour: dict[str, Any]
    settings: dict[str, Any]
    notes: tuple[str, ...]


# --- who goes where --------------------------------------------------------------------------------------------


def outline(adopted: Adopted) -> Outline:
    """Say which services are the settings stack, which of them run the app's code, and what they keep.

    Raises:
        ConfigError: the file holds what cannot be derived from, or `deploy.stack` names what it has not.

    """
    services = adopted.services
    _check(adopted, services)
    left = dict(_left_out(adopted, services))
    settings = tuple(name for name in services if name not in left and name not in adopted.coloured)
    if adopted.proxy in settings:
        raise adopted.wrong(
            f"services.{adopted.proxy}",
            "Greenroom's own nginx is called so in the settings stack",
            f"is it what stands in front of {adopted.coloured[0]}? Then say deploy.stack.front: {adopted.proxy}; "
            "else give Greenroom's another name: deploy.proxy: greenroom",
        )
    own = [adopted.coloured[0]]
    for name in (*adopted.coloured, *settings):
        if "build" in services[name] and not _runs_any_of(own, services[name], services):
            own.append(name)
    workers = tuple(name for name in settings if _runs_any_of(own, services[name], services))
    port, published = _port(adopted, services)
    return Outline(
        settings,
        workers,
        tuple(_kept(adopted, services, (*adopted.coloured, *settings, *filter(None, [adopted.front])))),
        port,
        published,
        (
            tuple(name for name in own[1:] if name in adopted.coloured),
            tuple(name for name in own if name in settings),
        ),
        tuple(f"services.{name}: left out: {why}" for name, why in left.items()),
    )


def _check(adopted: Adopted, services: Mapping[str, Mapping[str, Any]]) -> None:
    if "include" in adopted.document:
        raise adopted.wrong("include", "other files are not followed", f"one file: {_FLATTEN}")
    for key, names in (
        ("coloured", adopted.coloured),
        ("without", adopted.without),
        ("front", (adopted.front,) if adopted.front else ()),
    ):
        for name in names:
            if name not in services:
                raise ConfigError(f"deploy.stack.{key}: {adopted.file} has no service {name}; it has: {_and(services)}")
            if key != "coloured" and name in adopted.coloured:
                raise ConfigError(f"deploy.stack.{key}: {name} is coloured, and cannot be left out")
    for name, body in services.items():
        if name not in (*adopted.without, adopted.front):
            _refuse_keys(
                adopted, name, body, ("extends", "volumes_from"), "is not followed", f"write it out: {_FLATTEN}"
            )
    for name in adopted.coloured:
        why = "blue and green run side by side, and nginx finds each by its name on the shared network"
        _refuse_keys(adopted, name, services[name], ("network_mode", "pid", "ipc"), why, f"remove it from {name}")
    if "build" not in services[adopted.coloured[0]]:
        raise adopted.wrong(
            f"services.{adopted.coloured[0]}",
            "has no build, and each release needs an image of its own",
            "give it `build: .` and a Dockerfile; one line is enough: FROM the image that it names now",
        )


def _refuse_keys(
    adopted: Adopted, name: str, body: Mapping[str, Any], keys: Iterable[str], why: str, mend: str
) -> None:
    for key in keys:
        if key in body:
            raise adopted.wrong(f"services.{name}.{key}", why, mend)


_FLATTEN = "`docker compose config --no-interpolate` prints the file without it"


def fronts(adopted: Adopted) -> list[str]:
    """Return the services that seem to stand in front of the coloured one, where the switch has to be."""
    services = adopted.services
    return [n for n in services if n not in adopted.coloured and _stands_in_front(adopted, n, services)]


def once(adopted: Adopted) -> dict[str, str]:
    """Return the services that run once and end, with their commands; '' where one is not made of the app's image."""
    services = adopted.services
    main = services[adopted.coloured[0]]
    return {
        name: _words(services[name].get("command")) if _same_image(services[name], main) else ""
        for name in _waited_for(services)
        if name in services and name not in adopted.coloured
    }


def _waited_for(services: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {
        dependency
        for body in services.values()
        for dependency, how in _mapping(body.get("depends_on")).items()
        if isinstance(how, dict) and how.get("condition") == "service_completed_successfully"
    }


def _left_out(adopted: Adopted, services: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the services that are not deployed, and why."""
    ends = _waited_for(services)
    for name, body in services.items():
        if name in adopted.coloured:
            continue
        if name in adopted.without:
            yield name, "deploy.stack.without says so"
        elif name == adopted.front:
            yield name, f"{adopted.proxy} of Greenroom takes its place; what its configuration says is not read"
        elif body.get("profiles"):
            yield name, "it has profiles, so compose does not start it by itself either"
        elif name in ends:
            if not adopted.migrates:
                command = _words(body.get("command"))
                raise adopted.wrong(
                    f"services.{name}",
                    "others wait for its end: it runs once, and is no part of a stack that stays",
                    f"say what it does, in the app's image, once per deploy: deploy.migrate: {command or 'COMMAND'}; "
                    f"or leave it out: deploy.stack.without: [{name}]",
                )
            yield name, "it runs once, and deploy.migrate does that"
        elif _stands_in_front(adopted, name, services):
            raise adopted.wrong(
                f"services.{name}",
                f"it stands in front of {adopted.coloured[0]}, where the switch between the colours has to be",
                f"Greenroom's nginx takes its place and its port: deploy.stack.front: {name}; "
                f"or it is no part of this: deploy.stack.without: [{name}]",
            )


def _stands_in_front(adopted: Adopted, name: str, services: Mapping[str, Mapping[str, Any]]) -> bool:
    body = services[name]
    if adopted.front or not body.get("ports") or not _FRONTS.fullmatch(str(body.get("image", name))):
        return False
    reaches = {*_mapping(body.get("depends_on")), *(link.partition(":")[0] for link in _list(body.get("links")))}
    published = any(services[each].get("ports") for each in adopted.coloured)
    return not published or not reaches.isdisjoint(adopted.coloured)


def _same_image(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Two services share an image if they build the same, or if one takes what the other builds by its name."""
    if "build" in one and "build" in other:
        return _built(one["build"]) == _built(other["build"])
    return bool(one.get("image")) and one.get("image") == other.get("image")


def _runs_any_of(names: Iterable[str], body: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(_same_image(body, services[name]) for name in names)


def _built(build: Any) -> str:
    full = build if isinstance(build, dict) else {"context": build}
    context = posixpath.normpath(str(full.get("context") or "."))
    return json.dumps([context, *(full.get(key) for key in ("dockerfile", "target", "args"))], sort_keys=True)


# --- ports -----------------------------------------------------------------------------------------------------


def _port(adopted: Adopted, services: Mapping[str, Mapping[str, Any]]) -> tuple[int, str]:
    """Return where the first coloured service listens, and what nginx publishes in its place."""
    name = adopted.coloured[0]
    mapped = list(_ports(services[name]))
    exposed = [str(each).partition("/")[0] for each in _list(services[name].get("expose"))]
    targets = [str(adopted.port)] if adopted.port else [*(target for _, target in mapped), *exposed]
    if not targets or not targets[0].isdecimal():
        raise adopted.wrong(f"services.{name}", "where does it listen?", "say deploy.stack.port: 8000, or whichever")
    if adopted.front:
        fronts = [(host, target) for host, target in _ports(services[adopted.front]) if target != str(TLS)]
        published = next((host for host, _ in fronts if host), "")
    else:
        published = next((host for host, target in mapped if target == targets[0] and host), "")
    return int(targets[0]), published or str(HTTP)


def _ports(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the host's side ('' where compose chooses) and the container's of each published TCP port."""
    for each in _list(body.get("ports")):
        if isinstance(each, dict):
            protocol, target = str(each.get("protocol", "tcp")), str(each.get("target", ""))
            host = ":".join(str(each[key]) for key in ("host_ip", "published") if each.get(key))
        else:
            text, _, protocol = str(each).partition("/")
            *before, target = _TOKENS.findall(text)
            host = ":".join(before)
        if (protocol or "tcp") == "tcp":
            yield host, target


def _doors(taken: Iterable[str]) -> tuple[int, int]:
    """Choose two host ports for the colours' doors that nothing in the file mentions as published."""
    used = {int(number) for host in taken for number in re.findall(r"\d+", host)}
    blue, green = [port for port in range(DOORS, DOORS + 2 + len(used)) if port not in used][:2]
    return blue, green


# --- volumes ---------------------------------------------------------------------------------------------------


def _kept(
    adopted: Adopted, services: Mapping[str, Mapping[str, Any]], names: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield the volumes that compose would make by itself, under the names that it would give them."""
    declared = _mapping(adopted.document.get("volumes"))
    base = adopted.name or _literal(adopted.document.get("name")) or adopted.project
    seen = set()
    for service in names:
        for _, source, _, _ in _mounts(services[service]):
            if not _is_volume(source) or source in seen:
                continue
            seen.add(source)
            body = declared.get(source) or {}
            if _yes(body.get("external")):
                continue
            name = str(body.get("name") or f"{base}_{source}")
            if "$" in name:
                raise adopted.wrong(f"volumes.{source}.name", f"{name} is known on the host alone", "write it out")
            if body.get("driver_opts") or str(body.get("driver") or "local") != "local":
                raise adopted.wrong(
                    f"volumes.{source}",
                    "a volume with a driver or options is not made by Greenroom",
                    f"make it once on each host (docker volume create {name}), and say external: true, name: {name}",
                )
            yield source, name
    for service in adopted.coloured:
        for target in _anonymous(services[service]):
            key = _anonymous_key(service, target)
            yield key, f"{base}_{key}"


def _literal(name: Any) -> str:
    return "" if name is None or "$" in str(name) else str(name)


def _is_volume(source: str) -> bool:
    return bool(source) and not source.startswith((".", "/", "~", "$"))


def _mounts(body: Mapping[str, Any]) -> Iterator[tuple[Any, str, str, bool]]:
    """Yield each volume or bind mount as it stands there, its source ('' where it has none), its target, and whether
    it is read only.
    """
    return (mount for each in _list(body.get("volumes")) if (mount := _mount(each)))


def _mount(each: Any) -> tuple[Any, str, str, bool] | None:
    if isinstance(each, dict):
        if str(each.get("type", "volume")) not in {"volume", "bind"}:
            return None
        return each, str(each.get("source") or ""), str(each.get("target", "")), _yes(each.get("read_only"))
    parts = _TOKENS.findall(str(each))
    options = ",".join(parts[2:]).split(",")
    source, target = ("", *parts) if len(parts) == 1 else parts[:2]
    return each, source, target, "ro" in options


def _anonymous(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield where volumes without a name are, but for those that only keep a folder free of a mount around it."""
    around = tuple(f"{target.rstrip('/')}/" for _, source, target, _ in _mounts(body) if source.startswith("."))
    return (target for _, source, target, _ in _mounts(body) if not source and not target.startswith(around))


def _anonymous_key(service: str, target: str) -> str:
    return f"{service}-{re.sub(r'[^A-Za-z0-9]+', '-', target).strip('-')}"


# --- the two files ---------------------------------------------------------------------------------------------


def derive(adopted: Adopted, shape: Outline, proxy: Mapping[str, Any], kind: Callable[[str], str]) -> Derived:
    """Write the two files.

    Args:
        adopted: the compose file, and what invoke.yaml says of it.
        shape: its outline.
        proxy: the nginx service of the settings templates, which holds the switch.
        kind: what the source has under a path: `file`, `folder`, or '' for nothing (or nothing but dot files).

    Raises:
        ConfigError: the file holds what cannot be derived from.

    """
    return _Deriver(adopted, shape, kind).both(proxy)


class _Deriver:
    """Goes through the services once, and collects what they need and what is to be said."""

    def __init__(self, adopted: Adopted, shape: Outline, kind: Callable[[str], str]) -> None:
        self._a = adopted
        self._shape = shape
        self._kind = kind
        self._services = adopted.services
        self._notes = list(shape.notes)
        self._kept = dict(shape.volumes)
        self._aliases = self._extra_aliases()
        self._restarts: list[str] = []

    def both(self, proxy: Mapping[str, Any]) -> Derived:
        colour = {name: self._coloured(name) for name in self._a.coloured}
        settings = {name: self._settled(name) for name in self._shape.settings}
        settings[self._a.proxy] = self._proxy(proxy)
        if self._restarts:
            self._notes.append(
                f"services.{_and(self._restarts)}: restart: {RESTART}, so that they come back with the host"
            )
        return Derived(self._document(colour), self._document(settings), tuple(self._notes))

    def _note(self, service: str, key: str, text: str) -> None:
        self._notes.append(f"services.{service}.{key}: {text}")

    # A service of a colour: everything that only one container can have goes.

    def _coloured(self, name: str) -> dict[str, Any]:
        body = self._common(name)
        for key in ("profiles", "pull_policy"):
            body.pop(key, None)
        if body.pop("ports", None):
            first = name == self._a.coloured[0]
            others = [
                host or target for host, target in _ports(self._services[name]) if target != str(self._shape.port)
            ]
            if first and not self._a.front:
                self._note(name, "ports", f"nginx publishes {self._shape.published} in its place")
            if others or not first:
                gone = _and(others) or _and(host or target for host, target in _ports(self._services[name]))
                self._note(name, "ports", f"{gone} is published no more: two colours cannot share it")
        body["image"] = self._image(name)
        if "build" in self._services[name]:
            body["build"] = self._build(name)
        body["networks"][NETWORK]["aliases"] = [
            f"{name}-{COLOUR}",
            *body["networks"][NETWORK].get("aliases", ()),
        ]
        return body

    # A service of the settings stack: it stays as it is, under its own name on the shared network.

    def _settled(self, name: str) -> dict[str, Any]:
        body = self._common(name)
        if name in self._shape.workers:
            body.pop("pull_policy", None)
            body["image"] = self._image(name)
            self._note(
                name, "image", "it is built from the source, so it gets each release after the flip, as a worker"
            )
            if name in self._shape.images[1]:
                body["build"] = self._build(name)
            else:
                body.pop("build", None)
        return body

    def _image(self, name: str) -> str:
        """The app's image for whatever builds the same; a tag beside it for what builds something else."""
        for other in (*self._shape.images[0], *self._shape.images[1]):
            if _same_image(self._services[name], self._services[other]):
                return f"{IMAGE}.{other}"
        return IMAGE

    def _common(self, name: str) -> dict[str, Any]:
        body = dict(self._services[name])
        for key in ("links", "develop", "container_name", "depends_on", "networks"):
            body.pop(key, None)
        if "container_name" in self._services[name]:
            self._note(name, "container_name", "dropped; other services still find it by that name")
        if "restart" not in body and "restart_policy" not in _mapping(body.get("deploy")):
            body["restart"] = RESTART
            self._restarts.append(name)
        if "network_mode" not in body:
            body["networks"] = self._networks(name)
        if waits := self._depends_on(name):
            body["depends_on"] = waits
        if "env_file" in body:
            body["env_file"] = self._env_files(name, body["env_file"])
        if "volumes" in body:
            body["volumes"] = list(self._volumes(name))
            if not body["volumes"]:
                del body["volumes"]
        return body

    def _depends_on(self, name: str) -> Any:
        """What is in the same part; the settings stack is there before any colour, and outlives all."""
        asked = self._services[name].get("depends_on")
        part = self._a.coloured if name in self._a.coloured else self._shape.settings
        others = [each for each in _mapping(asked) if each not in part and each in self._services]
        if others and name not in self._a.coloured:
            what = "is replaced by each deploy" if set(others) & set(self._a.coloured) else "is not deployed"
            self._note(name, "depends_on", f"{_and(others)} {what}, so nobody waits for it")
        if isinstance(asked, dict):
            return {each: how for each, how in asked.items() if each in part}
        return [each for each in _list(asked) if each in part]

    def _networks(self, name: str) -> dict[str, Any]:
        """All services meet on the shared network; networks of others, that are external, stay."""
        asked = _mapping(self._services[name].get("networks"))
        declared = _mapping(self._a.document.get("networks"))
        aliases = [*self._aliases.get(name, ())]
        networks: dict[str, Any] = {}
        for key, body in asked.items():
            if _yes((declared.get(key) or {}).get("external")):
                networks[key] = body
                continue
            aliases += _list((body or {}).get("aliases"))
            if (body or {}).get("ipv4_address"):
                self._note(name, f"networks.{key}.ipv4_address", "dropped: services find each other by name")
        shared = {"aliases": list(dict.fromkeys(aliases))} if aliases else {}
        return {NETWORK: shared, **networks}

    def _extra_aliases(self) -> dict[str, list[str]]:
        """Names by which others know a service beside its own: links and container names."""
        found: dict[str, list[str]] = {}
        for name, body in self._services.items():
            if body.get("container_name") and "$" not in str(body["container_name"]):
                found.setdefault(name, []).append(str(body["container_name"]))
            for link in _list(body.get("links")):
                target, _, alias = str(link).partition(":")
                if alias and alias != target:
                    found.setdefault(target, []).append(alias)
        return found

    # Paths: compose reads relative ones from the app's directory on the host, where the source has a folder of its own.

    def _place(self, where: str, path: str) -> tuple[str, str]:
        """Return where a relative path is on a host, and what the source has there."""
        inside = posixpath.normpath(posixpath.join(self._a.at, path))
        outside = inside == ".." or inside.startswith("../")
        kind = "" if outside else self._kind(inside)
        if kind:
            return f"./source/{inside}".removesuffix("/."), kind
        if self._a.folder:
            return posixpath.normpath(posixpath.join(self._a.folder, path)), ""
        raise self._a.wrong(
            where,
            f"{path} is not in the source, so it holds what only the host has",
            f"say where {posixpath.basename(self._a.file)} lies on the hosts today: deploy.stack.folder: /srv/app; "
            "what lies beside it there stays in use. Or write an absolute path, or a named volume",
        )

    def _build(self, name: str) -> Any:
        asked = self._services[name]["build"]
        full = dict(asked) if isinstance(asked, dict) else {"context": asked}
        context = str(full.get("context") or ".")
        if not re.match(r"[a-z+]+://|git@|/|\$", context):
            inside = posixpath.normpath(posixpath.join(self._a.at, context))
            if inside == ".." or inside.startswith("../"):
                raise self._a.wrong(
                    f"services.{name}.build",
                    f"{context} lies outside of the source",
                    "let deploy.source be a folder that holds it",
                )
            full["context"] = f"./source/{inside}".removesuffix("/.")
        return full

    def _env_files(self, name: str, asked: Any) -> list[Any]:
        found: list[Any] = []
        for each in asked if isinstance(asked, list) else [asked]:
            path = str(each.get("path", "")) if isinstance(each, dict) else str(each)
            where = f"services.{name}.env_file"
            if posixpath.normpath(path) in self._a.env_files:
                new = "${GREENROOM_ENV_FILE}"
            elif "$" in path or path.startswith("/"):
                new = path
            elif isinstance(each, dict) and not _yes(each.get("required", "true")) and not self._known(path):
                self._note(name, "env_file", f"{path} is not in the source, and not required: left out")
                continue
            elif not self._known(path):
                raise self._a.wrong(
                    where,
                    f"{path} is not in the source",
                    f"put its lines into the env's own file, and name that here: env_file: {self._a.env_files[0]}",
                )
            else:
                new, _ = self._place(where, path)
            found.append({**each, "path": new} if isinstance(each, dict) else new)
        return found

    def _known(self, path: str) -> bool:
        inside = posixpath.normpath(posixpath.join(self._a.at, path))
        return not inside.startswith("..") and self._kind(inside) == "file"

    def _volumes(self, name: str) -> Iterator[Any]:
        dropped: list[str] = []
        for each in _list(self._services[name].get("volumes")):
            _, source, target, read_only = _mount(each) or (each, "/", "", False)
            if not source:
                if not target.startswith(tuple(dropped)):
                    yield self._unnamed(name, each, target)
            elif source.startswith("."):
                mount = self._relative(name, each, source, target, read_only=read_only)
                if mount is None:
                    dropped.append(f"{target.rstrip('/')}/")
                else:
                    yield mount
            else:
                if source.startswith("$"):
                    self._note(name, "volumes", f"{source}: if it is relative, it begins in the app's directory")
                yield each

    def _unnamed(self, name: str, each: Any, target: str) -> Any:
        """An anonymous volume of a colour would go with it; one of the settings stack stays with its container."""
        key = _anonymous_key(name, target)
        if key not in self._kept:
            self._note(name, "volumes", f"{target} has no name: what today's container holds there does not come along")
            return each
        self._note(name, "volumes", f"{target} has no name, and is {self._kept[key]} from now on, for both colours")
        return {**each, "source": key} if isinstance(each, dict) else f"{key}:{target}"

    def _relative(self, name: str, each: Any, source: str, target: str, *, read_only: bool) -> Any:
        """A relative folder or file: of the source, or of what only the host has."""
        where = f"services.{name}.volumes"
        place, kind = self._place(where, source)
        if kind == "folder" and name in self._a.coloured:
            self._note(name, "volumes", f"{source} is of the source, which the image has: not mounted over {target}")
            return None
        if kind and not read_only:
            self._note(name, "volumes", f"{source} is of the source, which each deploy replaces: mounted read only")
        if isinstance(each, dict):
            return {**each, "source": place, **({"read_only": True} if kind else {})}
        options = _TOKENS.findall(str(each))[2:]
        if kind and not read_only:
            options = [",".join([*(o for o in ",".join(options).split(",") if o and o != "rw"), "ro"])]
        return ":".join([place, target, *options])

    # The proxy, and what stands below the services.

    def _proxy(self, template: Mapping[str, Any]) -> dict[str, Any]:
        """Greenroom's own nginx. Of the one whose place it takes it has the ports, and the mounts but for its conf."""
        published = self._shape.published
        taken = [host for name in self._shape.settings for host, _ in _ports(self._services[name])]
        mounts = [mount for mount in template["volumes"] if str(mount).startswith("./")]
        more = []
        if self._a.front:
            front = self._services[self._a.front]
            kept = [m[0] for m in _mounts(front) if m[1] and not f"{m[2]}/".startswith("/etc/nginx/")]
            self._services[self._a.front] = {"volumes": kept}
            mounts += self._volumes(self._a.front)
            more = [f"{host}:{target}" for host, target in _ports(front) if host and host != published]
            if more:
                self._note(self._a.front, "ports", f"{_and(more)} too: templates/nginx has to listen there")
        blue, green = _doors([*taken, published, *more])
        http = published if "$" in published else f"${{HTTP_PORT:-{published}}}"
        return {
            **template,
            "volumes": mounts,
            "networks": {NETWORK: {}},
            "ports": [
                f"{http}:{HTTP}",
                *more,
                f"127.0.0.1:${{BLUE_PORT:-{blue}}}:8000",
                f"127.0.0.1:${{GREEN_PORT:-{green}}}:8001",
            ],
        }

    def _document(self, services: dict[str, Any]) -> dict[str, Any]:
        """Networks, volumes, secrets and configs: those that these services use."""
        declared = _mapping(self._a.document.get("networks"))
        used = {key for body in services.values() for key in _mapping(body.get("networks"))} - {NETWORK}
        document: dict[str, Any] = {
            "services": services,
            "networks": {
                NETWORK: {"external": True, "name": "${GREENROOM_NETWORK}"},
                **{key: declared[key] for key in declared if key in used},
            },
        }
        mounted = {source for body in services.values() for _, source, _, _ in _mounts(body) if _is_volume(source)}
        stated = _mapping(self._a.document.get("volumes"))
        if mounted:
            document["volumes"] = {
                key: {"external": True, "name": self._kept[key]} if key in self._kept else stated.get(key)
                for key in sorted(mounted)
            }
        for kind in ("secrets", "configs"):
            if found := self._granted(kind, services):
                document[kind] = found
        return document

    def _granted(self, kind: str, services: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        wanted = {
            str(each.get("source")) if isinstance(each, dict) else str(each)
            for body in services.values()
            for each in _list(body.get(kind))
        }
        found = {}
        for key, body in _mapping(self._a.document.get(kind)).items():
            if key in wanted:
                path = str((body or {}).get("file") or "")
                relative = path and not path.startswith(("/", "~", "$"))
                found[key] = {**body, "file": self._place(f"{kind}.{key}", path)[0]} if relative else body
        return found


# --- shapes that compose lets one write in two ways --------------------------------------------------------------


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {str(each): None for each in _list(value)}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None or isinstance(value, dict) else [value]


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _yes(value: Any) -> bool:
    if isinstance(value, dict):  # `external: {name: x}`, as it once was written
        return True
    return not isinstance(value, Quoted) and str(value).lower() in {"true", "yes", "on"}


def _and(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names))


# --- nginx -----------------------------------------------------------------------------------------------------


def confs(templates: Mapping[str, bytes], service: str, port: int) -> dict[str, bytes]:
    """Fit Greenroom's own nginx confs to an app of which nothing is known but where it listens.

    It need not keep idle connections for long (uvicorn and Node close them after 5 s, gunicorn after 2), and serves its
    files itself.
    """
    colours = templates["colours.conf"].decode()
    for colour in ("blue", "green"):
        colours = colours.replace(f"server web-{colour}:8000 ", f"server {service}-{colour}:{port} ")
    colours = colours.replace("keepalive_timeout 5s;", "keepalive_timeout 1s;")
    return {**templates, "colours.conf": colours.encode(), "files.conf": _FILES}


_FILES = b"""# Locations that nginx serves by itself, from volumes or folders that the proxy mounts. As:
# location /static/ { alias /srv/static/; }
"""
