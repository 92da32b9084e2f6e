"""invoke.yaml and .env.<env> in; App, hosts and secrets out. Whatever is wrong is refused here, by the key's path."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from deploy import envfile, registry, roles
from deploy.envfile import EnvFile
from deploy.errors import ConfigError
from deploy.keys import TEMPLATES, EnvKeys, Ssh, TopKeys, convert, lower_first, nearest
from deploy.recipe import compose
from deploy.recipe.adopted import Adopted, Outline, outline
from deploy.recipe.model import App, Colour, Health, Hook, Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE = "invoke.yaml"
SSH_PORT = 22


@dataclass(frozen=True, repr=False)
class Setup:
    """One env, ready to work with. `dotenv` is the app's own env file, byte for byte; `env` is python-dotenv's reading.

    `readings` are all the values that a compose may take from it, by name; `apart` are the env files of hosts that have
    values of their own. `adopted` and its `shape` are the compose file that is deployed as it is, if one is; `login` is
    for the registry. Its repr shows no value of an env file.
    """

    app: App
    hosts: tuple[Host, ...]
    ssh: Ssh
    directory: Path
    source: Path
    templates: Path
    nginx: str
    dotenv: bytes
    env: dict[str, str]
    readings: tuple[tuple[str, str], ...]
    dotenv_paths: frozenset[Path]
    adopted: Adopted | None = None
    shape: Outline | None = None
    apart: dict[Host, EnvFile] = field(default_factory=dict)
    login: registry.Login | None = None

    def env_of(self, host: Host | None) -> EnvFile:
        """Return the env file of a host; that of hosts without values of their own, for None."""
        every = EnvFile(self.dotenv, self.env, self.readings)
        return self.apart.get(host, every) if host else every

    def __repr__(self) -> str:
        return f"Setup({self.app.project!r}, {self.app.env!r}, hosts={[str(h) for h in self.hosts]})"


def find(start: Path) -> Path:
    """Return the nearest directory, from `start` upwards, that holds an invoke.yaml.

    Raises:
        ConfigError: there is none.

    """
    for directory in (start, *start.parents):
        if (directory / FILE).is_file():
            return directory
    raise ConfigError(
        f"there is no {FILE} in {start} or above it",
        mend="go to your project's folder, or write one: the commented sample is invoke.yaml in Greenroom's repository",
    )


def read_by_invoke(beside: Path, start: Path) -> Path:
    """Return the directory of the invoke.yaml that Invoke has read: the one `beside` the tasks.py that it found.

    The keys of one project with the files of another would bring the secrets of the one to the hosts of the other: who
    stands in a project of its own below is refused. From elsewhere `inv -r DIR` is as good as standing in DIR.

    Raises:
        ConfigError: there is none, or the project that `start` is in has another one.

    """
    read = beside / FILE
    own: Path | None = None
    with contextlib.suppress(ConfigError):
        own = find(start)
    if own and beside in own.parents:
        what = (
            f"Invoke read {read}" if read.is_file() else f"Invoke found the tasks.py in {beside}, and no {FILE} there"
        )
        raise ConfigError(
            f"{what}; what is nearest to {start} is {own / FILE}: two projects are not mixed",
            mend=f"say greenroom instead of inv, or put a tasks.py beside {own / FILE}",
        )
    if not read.is_file():
        raise ConfigError(
            f"there is no {FILE} in {beside}, beside the tasks.py that Invoke found: it looks nowhere else",
            mend=f"say greenroom instead of inv: it takes {own / FILE}" if own else "write one: greenroom init",
        )
    return beside


def load(
    data: Mapping[str, Any], directory: Path, env: str = "", hosts: str = "", settle: str = "", limit: str = ""
) -> Setup:
    """Read the `deploy:` part of invoke.yaml for one env.

    Args:
        data: what stands under `deploy:`.
        directory: where invoke.yaml lies; relative paths start there.
        env: the env's name; the configured default, or the only one, when empty.
        hosts: a comma-separated subset of the env's hosts; all when empty.
        settle: seconds that win over the configured settle delay, when not empty.
        limit: a number of connections that wins over the configured `ssh.limit`, when not empty.

    Raises:
        ConfigError: with the key's path, what was expected, and the nearest key that exists.

    """
    if not data or not hasattr(data, "items"):
        raise ConfigError(f"{directory / FILE}: expected a part `deploy:` with keys below it")
    # YAML makes a null of an env with nothing below it, and numbers or booleans of some names.
    envs = data.get("envs")
    if isinstance(envs, dict):
        for name, own in envs.items():
            if own is not None and not isinstance(own, dict):
                raise ConfigError(f"deploy.envs.{name}: expected keys below it, like hosts; got {own!r}")
        data = {**data, "envs": {str(name): own or {} for name, own in envs.items()}}
    top = convert(data, TopKeys, lambda path: f"deploy{path}")
    if not top.envs:
        raise ConfigError("deploy.envs: expected at least one env, with its hosts")
    name = env or top.env or (next(iter(top.envs)) if len(top.envs) == 1 else "")
    if not name:
        raise ConfigError(f"which env? One of: {', '.join(top.envs)}", mend="say --env=NAME, or set deploy.env")
    if name not in top.envs:
        raise ConfigError(f"deploy.envs has no {name!r}{nearest(name, top.envs)}; it has: {', '.join(top.envs)}")
    own = top.envs[name]
    shared = {key: value for key, value in data.items() if key in EnvKeys.__struct_fields__}
    keys = convert({**shared, **own}, EnvKeys, lambda path: _path_in_env(path, name, own))
    if settle:
        keys.settle = whole(settle, "--settle", "seconds")
    if limit:
        keys.ssh.limit = whole(limit, "--limit", "how many connections may be opening at once")
    return _setup(top, keys, name, directory, hosts)


def entered_by(setup: Setup, login: str) -> Setup:
    """Return the same env, its hosts entered by another login, which goes through sudo unless it is root.

    Raises:
        ConfigError: that is no name of a login.

    """
    _must_match(re.compile(r"[\w.+-]+"), login, "--login", "the name of a login")

    def entered(hosts: tuple[Host, ...]) -> tuple[Host, ...]:
        return tuple(replace(host, user=login) for host in hosts)

    return replace(
        setup,
        app=replace(setup.app, hosts=entered(setup.app.hosts)),
        hosts=entered(setup.hosts),
        apart={replace(host, user=login): file for host, file in setup.apart.items()},
        ssh=msgspec.structs.replace(setup.ssh, sudo=login != "root"),
    )


def _path_in_env(path: str, name: str, own: Mapping[str, Any]) -> str:
    key = re.split(r"[.\[]", path.lstrip("."), maxsplit=1)[0]
    return f"deploy.envs.{name}{path}" if key in own or not key else f"deploy{path}"


def _setup(top: TopKeys, keys: EnvKeys, name: str, directory: Path, hosts: str) -> Setup:
    where = f"deploy.envs.{name}"
    every = tuple(_host(text, f"{where}.hosts[{i}]") for i, text in enumerate(keys.hosts))
    every = roles.with_runs(every, keys.runs, where)
    if not every:
        raise ConfigError(f"{where}.hosts: expected at least one host, like deploy@web1.example.com")
    _refuse_doubles(every, where)
    _refuse_shared_hosts(top, name, every)
    _check_names(top, keys, name, where)
    dotenv = envfile.read(_local(directory, keys.dotenv or f".env.{name}", f"{where}.dotenv"), f"{where}.dotenv")
    login = registry.login(keys.registry, dotenv.values)
    adopted = _adopted(top, keys, name, directory) if keys.stack else None
    shape = outline(adopted) if adopted else None
    app = _app(top, keys, name, every, directory)
    app = _as_adopted(app, adopted, shape) if adopted and shape else app
    roles.check(app, where)
    apart = roles.apart(every, keys.values, dotenv, where)
    return Setup(
        app=app,
        hosts=_subset(every, hosts, where),
        ssh=_from(directory, keys.ssh),
        directory=directory,
        source=_local(directory, top.source, "deploy.source"),
        templates=_templates(directory, top.templates),
        nginx=keys.nginx,
        dotenv=dotenv.content,
        env=dotenv.values,
        readings=(
            *dotenv.readings,
            *(each for file in apart.values() for each in file.readings),
            *(login.secrets if login else ()),
        ),
        dotenv_paths=frozenset(
            _local(directory, str(each.get("dotenv") or top.dotenv or f".env.{other}"), f"deploy.envs.{other}.dotenv")
            for other, each in top.envs.items()
        ),
        adopted=adopted,
        shape=shape,
        apart=apart,
        login=login,
    )


def _app(top: TopKeys, keys: EnvKeys, name: str, every: tuple[Host, ...], directory: Path) -> App:
    return App(
        project=top.project,
        env=name,
        hosts=every,
        root=keys.root.removeprefix("~/").rstrip("/") or "/",
        network=keys.network,
        volumes=tuple(keys.volumes),
        service=keys.service,
        proxy=keys.proxy,
        health=Health(keys.health.path, keys.health.host, keys.health.timeout),
        colour_files=tuple((c, keys.colours.get(c.value, "colour.yml")) for c in Colour),
        settings_file=keys.settings or f"setting_{name}.yml",
        migrate=tuple(_split(keys.migrate, "deploy.migrate")),
        workers=tuple(keys.workers),
        singletons=tuple(keys.singletons),
        settle=keys.settle,
        drain=keys.drain,
        build_timeout=keys.build_timeout,
        migrate_timeout=keys.migrate_timeout,
        keep=keys.keep,
        standby=keys.standby,
        build=keys.build,
        registry=keys.registry.image if keys.registry else "",
        hooks=(
            *_hooks(keys.hooks, "hooks", directory),
            *(replace(hook, on_host=True) for hook in _hooks(keys.host_hooks, "host_hooks", None)),
        ),
        hook_timeout=keys.hook_timeout,
    )


def _as_adopted(app: App, adopted: Adopted, shape: Outline) -> App:
    """What a compose file says for itself goes before the defaults."""
    return replace(
        app,
        service=adopted.coloured[0],
        volumes=(),
        workers=tuple(dict.fromkeys((*app.workers, *shape.workers))),
        kept=shape.volumes,
        images=shape.images,
    )


def _adopted(top: TopKeys, keys: EnvKeys, name: str, directory: Path) -> Adopted:
    """Read the compose file that is deployed as it is.

    Raises:
        ConfigError: it cannot be read, or a key of `deploy.stack` is wrong.

    """
    stack = keys.stack
    if stack is None or not stack.coloured:
        raise ConfigError("deploy.stack.coloured: expected at least one service, like [web]")
    if keys.colours or keys.settings:
        raise ConfigError("deploy.stack: it makes the files that colours and settings would name: say one or the other")
    for key, values in (("coloured", stack.coloured), ("without", stack.without)):
        for index, value in enumerate(values):
            _must_match(_NAME, value, f"deploy.stack.{key}[{index}]", "the name of a service")
    if stack.name:
        _must_match(_PROJECT, stack.name, "deploy.stack.name", "a compose project name, as its volumes begin with")
    if stack.folder:
        _must_match(re.compile(r"/[^:$\s]*"), stack.folder, "deploy.stack.folder", "an absolute path on the hosts")
    if not 0 <= stack.port < 1 << 16:
        raise ConfigError(f"deploy.stack.port: expected a port of the container, got {stack.port}")
    path = _local(directory, stack.file, "deploy.stack.file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"deploy.stack.file: cannot read {path}: {error.strerror}",
            mend="name your compose file there, as a path from invoke.yaml; one that is new must be written first",
        ) from None
    dotenv = keys.dotenv or f".env.{name}"
    return Adopted(
        file=stack.file,
        document=compose.read_raw(content, stack.file),
        coloured=tuple(stack.coloured),
        project=top.project,
        proxy=keys.proxy,
        port=stack.port,
        front=stack.front,
        without=tuple(stack.without),
        name=stack.name,
        folder=stack.folder.rstrip("/"),
        at=os.path.relpath(path.parent, _local(directory, top.source, "deploy.source")),
        env_files=tuple(dict.fromkeys((".env", f".env.{name}", dotenv))),
        migrate=tuple(_split(keys.migrate, "deploy.migrate")),
        workers=tuple(keys.workers),
    )


def _local(directory: Path, text: str, where: str) -> Path:
    """Return a path on this machine; whether anything is there is for its reader to see."""
    try:
        path = directory / text
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
        return path.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a link to itself, a NUL, half a letter
        raise ConfigError(f"{where}: {text!r} cannot be a path here: {error}") from None


def _templates(directory: Path, text: str) -> Path:
    """A project need not have any. But a folder that it names must be there: Greenroom's own would go in its place."""
    folder = _local(directory, text, "deploy.templates")
    if text != TEMPLATES and not folder.is_dir():
        raise ConfigError(
            f"deploy.templates: {folder} is no folder",
            mend="mend the path, or leave the key out to take Greenroom's own",
        )
    return folder


def _hooks(written: Mapping[Any, list[str]], key: str, directory: Path | None) -> Iterator[Hook]:
    """Read command lines by moment. Here a program with a / in its name is found from where invoke.yaml lies."""
    for moment, lines in written.items():
        for index, line in enumerate(lines):
            where = f"deploy.{key}.{moment}[{index}]"
            first, *rest = _split(line, where) or [""]
            if not first:
                raise ConfigError(f"{where}: expected a command line, like hooks/notify")
            yield Hook(moment, (str(directory / first) if directory and "/" in first else first, *rest))


def _from(directory: Path, ssh: Ssh) -> Ssh:
    """Let relative paths start where invoke.yaml lies: a known_hosts that a team keeps with its project is found."""
    paths: dict[str, str] = {}
    for name in ("known_hosts", "config", "identity"):
        if path := getattr(ssh, name):
            try:
                paths[name] = str(directory / Path(path).expanduser())
            except RuntimeError as error:
                raise ConfigError(f"deploy.ssh.{name}: {path!r}: {lower_first(str(error))}") from None
    if ssh.config != Ssh().config and not Path(paths["config"]).exists():
        raise ConfigError(
            f"deploy.ssh.config: {paths['config']} is not there: the way to the hosts would be another one",
            mend=f"mend the path, or leave the key out to take {Ssh().config}",
        )
    return msgspec.structs.replace(ssh, **paths)


# --- single values ---------------------------------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")
_PATH = re.compile(r"(~/|/)?\.?\w[\w.+-]*(/\.?\w[\w.+-]*)*/?|/")
_HOST_HEADER = re.compile(r"[\w.:\[\]-]+")
_REPOSITORY = re.compile(r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+|/[a-z0-9]+)*")
_URL_PATH = re.compile(r"/[^\s\"'\\]*")
_HOST = re.compile(
    r"(?:(?P<user>[\w.+-]+)@)?(?:\[(?P<ip6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_][\w.-]*))(?::(?P<port>\d+))?"
)


def _host(text: str, where: str) -> Host:
    found = _HOST.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if not found or (port is not None and not 0 < port < 1 << 16):
        raise ConfigError(
            f"{where}: {text!r} is no host; expected [user@]name[:port], like deploy@web1.example.com:2222"
        )
    return Host(found["ip6"] or found["name"], found["user"], port)


def _door(host: Host) -> tuple[str, int]:
    """What two spellings of one host have in common: DNS knows no case, and 22 is what no port means."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.address).compressed, host.port or SSH_PORT
    return host.address.lower().rstrip("."), host.port or SSH_PORT


def _refuse_doubles(every: tuple[Host, ...], where: str) -> None:
    first: dict[tuple[str, int], int] = {}
    for index, host in enumerate(every):
        before = first.setdefault(_door(host), index)
        if before != index:
            raise ConfigError(
                f"{where}.hosts[{index}]: {host} stands there twice, first as hosts[{before}]: {every[before]}",
                mend="one host would deploy to itself from two sides: remove one of them",
            )


def _refuse_shared_hosts(top: TopKeys, name: str, every: tuple[Host, ...]) -> None:
    """Colours, switch and images are named by the project: two envs on one host would take each other's for theirs."""
    ours = {_door(host): host for host in every}
    for other, own in top.envs.items():
        hosts = own.get("hosts") if other != name else None
        for index, text in enumerate(hosts if isinstance(hosts, list) else ()):
            where = f"deploy.envs.{other}.hosts[{index}]"
            shared = ours.get(_door(_host(text, where))) if isinstance(text, str) else None
            if shared:
                raise ConfigError(
                    f"{where}: {text} is a host of {name}, too: a host serves one env of a project",
                    mend="give each env hosts of its own, or an invoke.yaml with a project name of its own",
                )


def _check_names(top: TopKeys, keys: EnvKeys, name: str, where: str) -> None:
    """Names reach docker, compose, paths and nginx: what one of them would refuse or read otherwise is refused here."""
    _must_match(_PROJECT, name, f"deploy.envs.{name}", "an env's name of lower case letters, digits, - and _")
    _must_match(_PROJECT, top.project, "deploy.project", "a compose project name: lower case letters, digits, - and _")
    for path, value in (
        ("network", keys.network),
        ("service", keys.service),
        ("proxy", keys.proxy),
        ("nginx", keys.nginx),
    ):
        _must_match(_NAME, value, f"deploy.{path}", "a name: letters, digits, . - and _")
    for path, values in (("volumes", keys.volumes), ("workers", keys.workers), ("singletons", keys.singletons)):
        for index, value in enumerate(values):
            _must_match(_NAME, value, f"deploy.{path}[{index}]", "a name: letters, digits, . - and _")
    for colour, file in keys.colours.items():
        _must_match(_NAME, file, f"deploy.colours.{colour}", "a file name in templates, without a folder")
    if keys.settings:
        _must_match(_NAME, keys.settings, f"{where}.settings", "a file name in templates, without a folder")
    _must_match(_PATH, keys.root, "deploy.root", "a path on the host, absolute or below the login's home")
    _must_match(_URL_PATH, keys.health.path, "deploy.health.path", "a path that begins with /")
    _must_match(_HOST_HEADER, keys.health.host, "deploy.health.host", "a host name, as users send it")
    if keys.registry:
        expected = "a repository without a tag, like registry.example.com/team/app"
        _must_match(_REPOSITORY, keys.registry.image, "deploy.registry.image", expected)
        if keys.build == "each":
            raise ConfigError("deploy.registry: with build: each there is nothing to push: every host builds its own")
    for path, number, least in (
        ("settle", keys.settle, 0),
        ("drain", keys.drain, 0),
        ("keep", keys.keep, 2),
        ("health.timeout", keys.health.timeout, 1),
        ("build_timeout", keys.build_timeout, 1),
        ("migrate_timeout", keys.migrate_timeout, 1),
        ("hook_timeout", keys.hook_timeout, 1),
        ("ssh.connect_timeout", keys.ssh.connect_timeout, 1),
        ("ssh.limit", keys.ssh.limit, 1),
    ):
        if number < least:
            raise ConfigError(f"deploy.{path}: expected at least {least}, got {number}")


def _must_match(pattern: re.Pattern[str], value: str, where: str, expected: str) -> None:
    if not pattern.fullmatch(value):
        raise ConfigError(f"{where}: expected {expected}; got {value!r}")


def _split(text: str, where: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {text!r} is no command line: {error}") from None


def _subset(every: tuple[Host, ...], wanted: str, where: str) -> tuple[Host, ...]:
    if not wanted:
        return every
    by_name = {name: host for host in every for name in (str(host), host.address)}
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"--hosts: expected at least one of: {', '.join(map(str, every))}")
    for name in names:
        if name not in by_name:
            there = ", ".join(map(str, every))
            raise ConfigError(f"--hosts: {name} is not in {where}.hosts{nearest(name, by_name)}; there are: {there}")
    chosen = {by_name[name] for name in names}
    return tuple(host for host in every if host in chosen)


def refuse_odd(*, project: str = "", hosts: str = "", domain: str = "", health: str = "") -> None:
    """Refuse what invoke.yaml could not say, of what is said; `hosts` is a list with commas.

    Raises:
        ConfigError: with the key's path.

    """
    if project:
        _must_match(_PROJECT, project, "deploy.project", "a compose project name: lower case letters, digits, - and _")
    if health:
        _must_match(_URL_PATH, health, "deploy.health.path", "a path that begins with /")
    if domain:
        _must_match(_HOST_HEADER, domain, "deploy.health.host", "a host name, as users send it")
    for index, host in enumerate(hosts.split(",") if hosts else ()):
        _host(host.strip(), f"deploy.envs.prod.hosts[{index}]")


def whole(text: str, flag: str, what: str) -> int:
    """Read a flag that takes a whole number.

    Raises:
        ConfigError: it is none.

    """
    if not (text.isascii() and text.isdecimal()):
        raise ConfigError(f"{flag}: expected {what}, a whole number; got {text!r}")
    return int(text)


def share(text: str, total: int) -> int:
    """Read a number of hosts, or a share of `total` hosts: 5, 25%. At least one host; 0 where nothing is said.

    Raises:
        ConfigError: it is neither.

    """
    if not text:
        return 0
    number = whole(text.removesuffix("%"), "--batch", "a number of hosts like 5 or a share like 25%")
    if number == 0:
        raise ConfigError(f"--batch: {text} are no hosts at all", mend="say how many, like 5, or a share like 25%")
    return max(1, total * number // 100) if text.endswith("%") else number
