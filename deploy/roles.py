"""What single hosts of an env are for, and the values that are theirs alone: `runs` and `values` of invoke.yaml."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deploy import envfile
from deploy.errors import ConfigError
from deploy.keys import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deploy.envfile import EnvFile
    from deploy.recipe.model import App, Host

_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def with_runs(hosts: tuple[Host, ...], runs: Mapping[str, list[str]], where: str) -> tuple[Host, ...]:
    """Return the hosts of an env, each knowing the services that it runs alone. `where` is the path of the env.

    Raises:
        ConfigError: with the key's path: no host of the env, or no service.

    """
    said: dict[Host, tuple[str, ...]] = {}
    for name, services in runs.items():
        place = f"{where}.runs.{name}"
        if not services:
            raise ConfigError(
                f"{place}: expected at least one service, like [celery]; leave the host out if it runs all"
            )
        for index, service in enumerate(services):
            if not _SERVICE.fullmatch(service):
                raise ConfigError(f"{place}[{index}]: expected the name of a service; got {service!r}")
        said[_named(hosts, name, f"{where}.runs", where)] = tuple(services)
    return tuple(replace(host, runs=said.get(host, ())) for host in hosts)


def check(app: App, where: str) -> None:
    """Refuse what would leave users without a web host, or have two of what may be there once.

    Raises:
        ConfigError: with the key's path.

    """
    if not any(host.takes(app.service) for host in app.hosts):
        said = f"no host runs {app.service}: users would have nowhere to go"
        places = {name: f"{host}[{index}]" for host in app.hosts for index, name in enumerate(host.runs)}
        for name in difflib.get_close_matches(app.service, places, n=1):
            raise ConfigError(f"{where}.runs.{places[name]}: {name}; did you mean {app.service}? As it is, {said}")
        raise ConfigError(f"{where}.runs: {said}")
    for host in app.hosts:
        if app.proxy in host.runs and not host.takes(app.service):
            raise ConfigError(f"{where}.runs.{host}: {app.proxy} runs where {app.service} does, and nowhere else")
    for service in app.singletons:
        named = [str(host) for host in app.hosts if service in host.runs]
        if len(named) > 1:
            raise ConfigError(
                f"{where}.runs: {service} is one of deploy.singletons, and named for {' and '.join(named)}",
                mend="name it for one host",
            )


def check_services(app: App, services: Iterable[str], where: str) -> None:
    """Refuse names that no compose file has, and services that no host would run.

    Args:
        services: those of the settings file.
        where: the path of the env.

    Raises:
        ConfigError: with the key's path, and the nearest name that exists.

    """
    known = (app.service, *services)
    for host in app.hosts:
        for index, name in enumerate(host.runs):
            if name not in known:
                raise ConfigError(
                    f"{where}.runs.{host}[{index}]: there is no service {name}{nearest(name, known)}; "
                    f"there are: {', '.join(known)}"
                )
    for name in services:
        if name != app.proxy and not any(host.takes(name) for host in app.hosts):
            raise ConfigError(
                f"{where}.runs: no host runs {name} of {app.settings_file}",
                mend=f"name it for a host, or take it out of {app.settings_file}",
            )


def apart(
    hosts: tuple[Host, ...], values: Mapping[str, Mapping[str, Any]], dotenv: EnvFile, where: str
) -> dict[Host, EnvFile]:
    """Return the env files of the hosts that have values of their own.

    Raises:
        ConfigError: with the key's path, and never a value.

    """
    found: dict[Host, EnvFile] = {}
    for name, own in values.items():
        host = _named(hosts, name, f"{where}.values", where)
        texts = {str(key): _text(value, f"{where}.values.{name}.{key}") for key, value in own.items()}
        if texts:
            found[host] = envfile.with_values(dotenv, texts, f"{where}.values.{name}")
    return found


def _text(value: Any, place: str) -> str:
    """YAML makes a truth of yes and a number of 1.10: neither would reach the app as it is written."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ConfigError(f"{place}: expected a text or a whole number", mend='put it in quotes, like "yes" or "1.10"')
    return str(value)


def _named(hosts: tuple[Host, ...], name: str, place: str, where: str) -> Host:
    known = {each: host for host in hosts for each in (host.address, str(host))}
    if name not in known:
        raise ConfigError(
            f"{place}: {name} is not in {where}.hosts{nearest(name, known)}; there are: {', '.join(map(str, hosts))}"
        )
    return known[name]
