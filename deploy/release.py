"""A release in the making: its id, its record, and the files that every host gets of it."""

from __future__ import annotations

import getpass
import io
import json
import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, cast

from deploy import clock, roles, source
from deploy.errors import ConfigError, Refused
from deploy.keys import nearest
from deploy.recipe import compose, derive, facts, files, manifest
from deploy.recipe.model import Release
from deploy.source import File

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deploy.config import Setup
    from deploy.envfile import EnvFile
    from deploy.recipe.model import Host
    from deploy.recipe.steps import Parcel
    from deploy.source import Templates, Tree


PROXY_FILE = "setting_prod.yml"
"""The template whose nginx is that of a derived settings stack."""


@dataclass(frozen=True)
class Made:
    """A release and its own files, by name below the app's directory on a host.

    `notes` say how its compose files differ from the one that they were derived from. `apart` is what hosts with values
    of their own get instead: another env file, and definitions that follow from it.
    """

    release: Release
    own_files: tuple[File, ...]
    notes: tuple[str, ...] = ()
    apart: Mapping[Host, Made] = field(default_factory=dict)

    def of(self, host: Host | None) -> Made:
        """Return what a host gets; what those get that have no values of their own, for None."""
        return self.apart.get(host, self) if host else self

    @property
    def compose_files(self) -> dict[str, str]:
        """The compose files by name, without their folder."""
        named = {file.name.rpartition("/")[2]: file for file in self.own_files if file.name.endswith(".yml")}
        return {name: file.content.decode() for name, file in sorted(named.items())}


def who() -> str:
    """Return the operator as people know them: user@machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a uid without a name, as in many CI containers
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def read(setup: Setup, templates: Templates, ref: str = "", *, dirty: bool = False) -> Tree:
    """Read the source. One with a compose file of its own has a Dockerfile, too: nothing is put beside it.

    Raises:
        SourceError: it cannot be read.

    """
    return source.read(
        setup.source,
        ref=ref,
        dirty=dirty,
        templates=templates,
        secret=setup.dotenv_paths,
        defaults=() if setup.adopted else source.CONTEXT_DEFAULTS,
    )


def make(setup: Setup, tree: Tree, templates: Templates) -> Made:
    """Put a release together. Everything a host will get goes into its fingerprint; only its id knows the time.

    Raises:
        ConfigError: a template is no compose file, or lacks what the configuration names.

    """
    app = setup.app
    stacks, notes = _stacks(setup, tree, templates)
    confs = nginx_confs(setup, templates)
    settings = compose.read(stacks[app.settings_file], f"templates/{app.settings_file}")
    _check_services(
        setup,
        sorted(settings["services"]),
        {name: compose.read(stacks[name], f"templates/{name}") for _, name in app.colour_files},
    )
    conf = _conf_digest(confs)
    source = manifest.digest(tree.stamps)
    release = Release(
        id=_ident(tree),
        fingerprint=_fingerprint(setup, source, conf, stacks),
        conf=conf,
        manifest=source,
        revision=tree.revision,
        origin=tree.origin,
        who=who(),
    )
    return _made(setup, Made(release, _conf_files(conf, confs), notes), stacks, settings)


def _stacks(setup: Setup, tree: Tree, templates: Templates) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Return the compose files by name, and what is to be said of them: the templates, or what one file makes."""
    app = setup.app
    if setup.adopted is None or setup.shape is None:
        return {name: templates.read(name) for name in {*dict(app.colour_files).values(), app.settings_file}}, ()
    proxies = compose.read_raw(templates.read(PROXY_FILE), f"templates/{PROXY_FILE}")["services"]
    if not proxies.get("nginx"):
        raise ConfigError(
            f"templates/{PROXY_FILE}: deploy.stack takes Greenroom's proxy from its service nginx; it has: "
            + ", ".join(sorted(proxies)),
            mend="call it nginx there (deploy.proxy says what hosts call it), or remove the file: Greenroom has one",
        )
    derived = derive.derive(setup.adopted, setup.shape, proxies["nginx"], tree.kind)
    colour, settings = compose.write(derived.colour), compose.write(derived.settings)
    notes = (*derived.notes, *_about_confs(setup, templates), *_about_data(setup, derived.settings))
    return {**dict.fromkeys(dict(app.colour_files).values(), colour), app.settings_file: settings}, notes


def _about_confs(setup: Setup, templates: Templates) -> tuple[str, ...]:
    """The project's own nginx confs go as they are, so they have to know where the app listens."""
    wanted = f"{setup.app.service}-blue:{setup.shape.port}" if setup.shape else ""
    if not templates.has(setup.nginx) or any(wanted.encode() in c for c in templates.directory(setup.nginx).values()):
        return ()
    return (f"no file in templates/{setup.nginx} names {wanted}: nginx will not find the colours there",)


def _about_data(setup: Setup, settings: dict[str, Any]) -> Iterator[str]:
    """On several hosts each has a settings stack of its own, and data in it that the others do not see."""
    app = setup.app
    kept = {key for key, _ in app.kept}
    for name, body in settings["services"].items():
        mounted = {str(each).partition(":")[0] for each in body.get("volumes") or () if not isinstance(each, dict)}
        hosts = [host for host in app.hosts if host.takes(name)]
        if len(hosts) > 1 and name != app.proxy and name not in app.singletons and mounted & kept:
            yield (
                f"services.{name}: it keeps data, and runs on each of {len(hosts)} hosts with data of its own; "
                f"for one that all share: deploy.singletons: [{name}], a published port, its address in the env file"
            )


def nginx_confs(setup: Setup, templates: Templates) -> dict[str, bytes]:
    """Return the project's own nginx confs, or Greenroom's, fitted to a compose file that is deployed as it is."""
    confs = templates.directory(setup.nginx)
    if setup.shape is None or templates.has(setup.nginx):
        return confs
    return derive.confs(confs, setup.app.service, setup.shape.port)


def nginx_conf(setup: Setup, templates: Templates) -> tuple[str, tuple[File, ...]]:
    """Return the nginx configuration that lies here: its digest, and its files."""
    confs = nginx_confs(setup, templates)
    conf = _conf_digest(confs)
    return conf, _conf_files(conf, confs)


def _conf_digest(confs: Mapping[str, bytes]) -> str:
    return files.digest(*(part for name, content in sorted(confs.items()) for part in (name.encode(), content)))[:16]


def _conf_files(conf: str, confs: Mapping[str, bytes]) -> tuple[File, ...]:
    """Configurations may hold secrets, and root reads them; pages are read by nginx's workers."""
    return tuple(
        File(f"nginx/{conf}/{name}", content, 0o644 if name.endswith(".html") else 0o600)
        for name, content in confs.items()
    )


def with_env(setup: Setup, live: Release, conf: str, lying: Mapping[str, bytes]) -> Made:
    """Make a release of the live one and the env file that lies here. `lying` are the live one's own files, by name.

    `conf` is the nginx configuration in use, which stays.

    Raises:
        Refused: the live release has not the files that the configuration names.

    """
    app = setup.app
    stacks = {name: content for name, content in lying.items() if name != ".env"}
    wanted = {*dict(app.colour_files).values(), app.settings_file}
    if missing := wanted - stacks.keys():
        raise Refused(
            f"release {live.id} has no {', '.join(sorted(missing))}", mend="the configuration changed: inv deploy"
        )
    settings = compose.read(stacks[app.settings_file], f"templates/{app.settings_file}")
    release = replace(
        live,
        id="-".join([_now(), *live.id.split("-")[2:]]),
        fingerprint=_fingerprint(setup, live.manifest, conf, {name: stacks[name] for name in wanted}),
        conf=conf,
        origin=f"{live.origin.removesuffix(OTHER_ENV)}{OTHER_ENV}",
        who=who(),
        replaces=live.id,
    )
    return replacing(_made(setup, Made(release, ()), stacks, settings), live.id)


OTHER_ENV = ", another env"
"""What the origin of a release says at its end when only the env is not that of its source's deploy."""


def _fingerprint(setup: Setup, manifest: str, conf: str, stacks: Mapping[str, bytes]) -> str:
    """Hosts tell their files line by line: whether the last line has an end is no difference."""
    app = setup.app
    return files.digest(
        manifest.encode(),
        setup.dotenv,
        conf.encode(),
        json.dumps([app.migrate, app.workers, app.singletons, app.network, app.volumes]).encode(),
        *(part for host, env in sorted(setup.apart.items()) for part in (str(host).encode(), env.content)),
        *(part for name, text in sorted(stacks.items()) for part in (name.encode(), text.removesuffix(b"\n"))),
    )


def _made(setup: Setup, begun: Made, stacks: Mapping[str, bytes], settings: Mapping[str, Any]) -> Made:
    """Add what depends on the env file, for every host and for those whose env file has values of their own."""

    def with_env(env: EnvFile) -> Made:
        definitions = files.definitions(settings, env.values, env.content)
        release = replace(begun.release, definitions=tuple(sorted(definitions.items())))
        own = _own_files(release, env.content, stacks, settings)
        return replace(begun, release=release, own_files=(*begun.own_files, *own))

    return replace(with_env(setup.env_of(None)), apart={host: with_env(env) for host, env in setup.apart.items()})


def _own_files(
    release: Release, dotenv: bytes, stacks: Mapping[str, bytes], settings: Mapping[str, Any]
) -> tuple[File, ...]:
    folder = f"releases/{release.id}"
    return (
        *(File(f"{folder}/{name}", content, 0o600) for name, content in stacks.items()),
        File(f"{folder}/definitions.json", files.labels(settings, dict(release.definitions)).encode(), 0o600),
        File(f"{folder}/.env", dotenv, 0o600),
    )


def replacing(made: Made, live: str) -> Made:
    """Return the same release, with its record, knowing which one it replaces: the way back."""
    release = replace(made.release, replaces=live)
    record = File(f"releases/{release.id}/release.json", facts.record_text(release).encode() + b"\n", 0o600)
    apart = {host: replacing(each, live) for host, each in made.apart.items()}
    return replace(made, release=release, own_files=(*made.own_files, record), apart=apart)


class Parcels:
    """What hosts get of a release: hosts that lack the same share one tar, which is packed once."""

    def __init__(self, tree: Tree, made: Made) -> None:
        self._tree = tree
        self._made = made
        self._packed: dict[Parcel, Future[IO[bytes]]] = {}
        self._one_at_a_time = threading.Lock()

    def open(self, parcel: Parcel) -> IO[bytes]:
        """Return the bytes of a parcel, from their beginning. Closing them closes nobody else's.

        Raises:
            SourceError: a file is not what it was when it was stamped; so it is for all who ask.

        """
        if parcel.host not in self._made.apart:
            parcel = replace(parcel, host=None)
        with self._one_at_a_time:
            packed = self._packed.setdefault(parcel, Future())
            if not packed.done():
                try:
                    packed.set_result(pack(self._tree, self._made, parcel))
                except Exception as error:  # noqa: BLE001  # whoever asks gets it
                    packed.set_exception(error)
        return cast("IO[bytes]", _Share(packed.result(), self._one_at_a_time))


class _Share(io.RawIOBase):
    """A reader of its own of a file that others read, too."""

    def __init__(self, file: IO[bytes], one_at_a_time: threading.Lock) -> None:
        self._file = file
        self._one_at_a_time = one_at_a_time
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._one_at_a_time:
            self._file.seek(self._at)
            block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)


def pack(tree: Tree, made: Made, parcel: Parcel) -> IO[bytes]:
    """Make the bytes of a parcel. The nginx conf that a host uses already is never unpacked over itself."""
    own = made.of(parcel.host).own_files
    return source.pack(
        tree, parcel.source, aside(file for file in own if parcel.conf or not file.name.startswith("nginx/"))
    )


def aside(own: Iterable[File]) -> Iterator[File]:
    """Let folders of a release and of an nginx conf travel under another name.

    They get their own when all of the parcel is there (host/files.sh).
    """
    for file in own:
        kind, folder, name = file.name.split("/", 2)
        yield replace(file, name=f"{kind}/{folder}.part/{name}")


def _ident(tree: Tree) -> str:
    """Ids sort by time and carry the git revision: 20261122-071955-1a2b3c4."""
    parts = [_now(), tree.revision, "dirty" if tree.dirty else ""]
    return "-".join(part for part in parts if part)


def _now() -> str:
    return clock.utc_now().strftime("%Y%m%d-%H%M%S")


def _check_services(setup: Setup, settings: Iterable[str], colours: Mapping[str, Mapping[str, Any]]) -> None:
    app = setup.app
    for key, names in (("workers", app.workers), ("singletons", app.singletons), ("proxy", (app.proxy,))):
        for name in names:
            _must_be_in(settings, name, key, _written(setup, app.settings_file))
    for file, data in colours.items():
        _must_be_in(data["services"], app.service, "service", _written(setup, file))
    roles.check_services(app, settings, f"deploy.envs.{app.env}")


def _must_be_in(services: Iterable[str], name: str, key: str, file: str) -> None:
    if name not in services:
        raise ConfigError(
            f"deploy.{key}: {file} has no service {name}{nearest(name, services)}; it has: {', '.join(services)}"
        )


def _written(setup: Setup, file: str) -> str:
    """Return where a person wrote what stands in a file of the stacks."""
    return setup.adopted.file if setup.adopted else f"templates/{file}"
