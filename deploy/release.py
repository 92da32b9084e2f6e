"""A release in the making: its id, its record, and the files that every host gets of it."""

from __future__ import annotations

import getpass
import json
import socket
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

import yaml

from deploy import clock, source
from deploy.errors import ConfigError
from deploy.recipe import facts, files
from deploy.recipe.model import Release
from deploy.source import File

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy.config import Setup
    from deploy.recipe.steps import Parcel
    from deploy.source import Templates, Tree


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # which one is known at run time
    """Safe both; the one in C is ten times as fast, and not everywhere."""


def _tagged(loader: Any, tag: str, node: yaml.Node) -> list[Any]:
    """Read `!reset` and `!override` of compose v2: what they mean is its business, that they are there counts."""
    if isinstance(node, yaml.MappingNode):
        return [f"!{tag}", loader.construct_mapping(node, deep=True)]
    if isinstance(node, yaml.SequenceNode):
        return [f"!{tag}", loader.construct_sequence(node, deep=True)]
    return [f"!{tag}", node.value]


_Loader.add_multi_constructor("!", _tagged)


@dataclass(frozen=True)
class Made:
    """A release and its own files, by name below the app's directory on a host."""

    release: Release
    own_files: tuple[File, ...]


def who() -> str:
    """Return the operator as people know them: user@machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a uid without a name, as in many CI containers
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def make(setup: Setup, tree: Tree, templates: Templates) -> Made:
    """Put a release together. Everything a host will get goes into its fingerprint; only its id knows the time.

    Raises:
        ConfigError: a template is no compose file, or lacks what the configuration names.

    """
    app = setup.app
    stacks = {name: templates.read(name) for name in {*dict(app.colour_files).values(), app.settings_file}}
    confs = templates.directory(setup.nginx)
    settings = compose(stacks[app.settings_file], app.settings_file)
    definitions = files.definitions(settings, setup.env, setup.dotenv)
    _check_services(setup, definitions, {name: compose(stacks[name], name) for _, name in app.colour_files})
    conf = files.digest(*(part for name, content in sorted(confs.items()) for part in (name.encode(), content)))[:16]
    manifest = files.manifest_digest(tree.stamps)
    release = Release(
        id=_ident(tree),
        fingerprint=files.digest(
            manifest.encode(),
            setup.dotenv,
            conf.encode(),
            json.dumps([app.migrate, app.workers, app.singletons, app.network, app.volumes]).encode(),
            *(part for name, content in sorted(stacks.items()) for part in (name.encode(), content)),
        ),
        conf=conf,
        manifest=manifest,
        revision=tree.revision,
        origin=tree.origin,
        who=who(),
        definitions=tuple(sorted(definitions.items())),
    )
    own = [
        *(File(f"nginx/{conf}/{name}", content, 0o600) for name, content in confs.items()),
        *(File(f"releases/{release.id}/{name}", content, 0o600) for name, content in stacks.items()),
        File(f"releases/{release.id}/definitions.json", files.labels(settings, definitions).encode(), 0o600),
        File(f"releases/{release.id}/.env", setup.dotenv, 0o600),
    ]
    return Made(release, tuple(own))


def replacing(made: Made, live: str) -> Made:
    """Return the same release, with its record, knowing which one it replaces: the way back."""
    release = replace(made.release, replaces=live)
    record = File(f"releases/{release.id}/release.json", facts.record_text(release).encode() + b"\n", 0o600)
    return Made(release, (*made.own_files, record))


def pack(tree: Tree, made: Made, parcel: Parcel) -> IO[bytes]:
    """Make the bytes of a parcel. The nginx conf that a host uses already is never unpacked over itself.

    A release's folder travels under another name, and gets its own when all of it is there (host/files.sh).
    """
    folder = f"releases/{made.release.id}/"
    files_of = [
        replace(file, name=file.name.replace(folder, f"{folder[:-1]}.part/", 1))
        for file in made.own_files
        if parcel.conf or not file.name.startswith("nginx/")
    ]
    return source.pack(tree, parcel.source, files_of)


def _ident(tree: Tree) -> str:
    """Ids sort by time and carry the git revision: 20261122-071955-1a2b3c4."""
    parts = [clock.utc_now().strftime("%Y%m%d-%H%M%S"), tree.revision, "dirty" if tree.dirty else ""]
    return "-".join(part for part in parts if part)


def compose(content: bytes, name: str) -> dict[str, Any]:
    """Read a compose file.

    Raises:
        ConfigError: it is no YAML, or no compose file.

    """
    try:
        data: Any = yaml.load(content, Loader=_Loader)  # noqa: S506  # safe: see there
        json.dumps(data, default=str)  # an alias may lead to itself
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"templates/{name} is no YAML: {' '.join(str(error).split())}") from None
    services = data.get("services") if isinstance(data, dict) else None
    if not isinstance(services, dict):
        raise ConfigError(f"templates/{name}: expected a compose file with `services:`")
    for service, body in services.items():
        if not isinstance(service, str):
            raise ConfigError(f"templates/{name}: services.{service}: expected a name", mend="put it in quotes")
        if not isinstance(body, (dict, list, type(None))):
            raise ConfigError(f"templates/{name}: services.{service}: expected keys below it, got {body!r}")
    return dict(data)


def _check_services(setup: Setup, definitions: dict[str, str], colours: dict[str, dict[str, Any]]) -> None:
    app = setup.app
    for key, names in (("workers", app.workers), ("singletons", app.singletons), ("proxy", (app.proxy,))):
        for name in names:
            _must_be_in(definitions, name, key, app.settings_file)
    for file, data in colours.items():
        _must_be_in(data["services"], app.service, "service", file)


def _must_be_in(services: Iterable[str], name: str, key: str, file: str) -> None:
    if name not in services:
        raise ConfigError(f"deploy.{key}: templates/{file} has no service {name}; it has: {', '.join(services)}")
