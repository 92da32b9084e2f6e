"""A compose file that is deployed as it is: which of its services come in colours, which stay, and what they keep.

What cannot be told without guessing is refused by its path. derive.py writes the files that follow from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy.errors import ConfigError
from deploy.recipe.compose import scalar
from deploy.recipe.once import AWAITED, command_of, does, ends_by_itself, run_once, together
from deploy.recipe.shapes import (
    anonymous,
    anonymous_key,
    is_volume,
    joined,
    listed,
    mapping,
    mounts,
    ports,
    same_image,
    yes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HTTP = 80
TLS = 443

_FRONTS = re.compile(r"(?:.*/)?(?:nginx|openresty|caddy|traefik|haproxy|httpd|swag|nginx-proxy)(?:[-:@].*)?")
"""Images of programs that stand in front of others."""


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
    migrate: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()

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
                known = joined(services)
                raise ConfigError(f"deploy.stack.{key}: {adopted.file} has no service {name}; it has: {known}")
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
    """Return the services that run once and end, with their commands; '' where deploy.migrate cannot take it over.

    One that only says `restart: no` may as well be meant to stay, and a migration that never ends helps nobody.
    """
    services = adopted.services
    main = services[adopted.coloured[0]]
    out = {*adopted.without, adopted.front, *(name for name, body in services.items() if body.get("profiles"))}
    found = {}
    for name, why in _ending(adopted).items():
        if name not in out:
            command = command_of(services[name], main)
            found[name] = command if why == AWAITED or ends_by_itself(command) else ""
    return found


def _ending(adopted: Adopted) -> dict[str, str]:
    return run_once(adopted.services, (*adopted.coloured, *adopted.workers), adopted.coloured[0])


def _left_out(adopted: Adopted, services: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the services that are not deployed, and why."""
    commands = once(adopted)
    ends = _ending(adopted)
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
            if not does(adopted.migrate, commands[name]):
                raise adopted.wrong(f"services.{name}", ends[name], _instead(name, commands))
            yield name, "it runs once, and deploy.migrate does that"
        elif _stands_in_front(adopted, name, services):
            raise adopted.wrong(
                f"services.{name}",
                f"it stands in front of {adopted.coloured[0]}, where the switch between the colours has to be",
                f"Greenroom's nginx takes its place and its port: deploy.stack.front: {name}; "
                f"or it is no part of this: deploy.stack.without: [{name}]",
            )


def _instead(name: str, commands: Mapping[str, str]) -> str:
    """Say how to go on without a service that runs once. All that do so stand in the one command of deploy.migrate."""
    out = f"leave it out: deploy.stack.without: [{name}]"
    if not commands[name]:
        return f"do what it does yourself, and {out}"
    return (
        "say what it does, in the app's image, once per deploy: "
        f"deploy.migrate: {scalar(together(commands.values()))}; or {out}"
    )


def _stands_in_front(adopted: Adopted, name: str, services: Mapping[str, Mapping[str, Any]]) -> bool:
    body = services[name]
    if adopted.front or not body.get("ports") or not _FRONTS.fullmatch(str(body.get("image", name))):
        return False
    reaches = {*mapping(body.get("depends_on")), *(link.partition(":")[0] for link in listed(body.get("links")))}
    published = any(services[each].get("ports") for each in adopted.coloured)
    return not published or not reaches.isdisjoint(adopted.coloured)


def _runs_any_of(names: Iterable[str], body: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(same_image(body, services[name]) for name in names)


def _port(adopted: Adopted, services: Mapping[str, Mapping[str, Any]]) -> tuple[int, str]:
    """Return where the first coloured service listens, and what nginx publishes in its place."""
    name = adopted.coloured[0]
    mapped = list(ports(services[name]))
    exposed = [str(each).partition("/")[0] for each in listed(services[name].get("expose"))]
    targets = [str(adopted.port)] if adopted.port else [*(target for _, target in mapped), *exposed]
    if not targets or not targets[0].isdecimal():
        raise adopted.wrong(f"services.{name}", "where does it listen?", "say deploy.stack.port: 8000, or whichever")
    if adopted.front:
        fronts = [(host, target) for host, target in ports(services[adopted.front]) if target != str(TLS)]
        published = next((host for host, _ in fronts if host), "")
    else:
        published = next((host for host, target in mapped if target == targets[0] and host), "")
    return int(targets[0]), published or str(HTTP)


def _kept(
    adopted: Adopted, services: Mapping[str, Mapping[str, Any]], names: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield the volumes that compose would make by itself, under the names that it would give them."""
    declared = mapping(adopted.document.get("volumes"))
    base = adopted.name or _literal(adopted.document.get("name")) or adopted.project
    seen = set()
    for service in names:
        for _, source, _, _ in mounts(services[service]):
            if not is_volume(source) or source in seen:
                continue
            seen.add(source)
            body = declared.get(source) or {}
            if yes(body.get("external")):
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
        for target in anonymous(services[service]):
            key = anonymous_key(service, target)
            yield key, f"{base}_{key}"


def _literal(name: Any) -> str:
    return "" if name is None or "$" in str(name) else str(name)
