"""What would stop a deploy, or lose requests or data by it: rules over the files of a release.

A rule reads documents and gives findings. Nothing is decided by them but for `collisions`, which a deploy refuses, too:
a false alarm of any other rule costs a look. What only a host knows stands in recipe/hosts.py.
"""

from __future__ import annotations

import ast
import enum
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy.recipe import confs, dockerfile, documents
from deploy.recipe.documents import Document
from deploy.recipe.model import Colour, Health
from deploy.recipe.nginx import PORTS as NGINX
from deploy.recipe.services import belongs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.recipe.model import App


class Weight(str, enum.Enum):
    """What a finding means for a deploy, the gravest first."""

    STOPS = "stops"
    LOSES = "loses"
    NOTE = "note"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Finding:
    """One reason, where it stands (a file and a key or line, or a host), and what to do about it."""

    weight: Weight
    rule: str
    where: str
    what: str
    mend: str = ""


RULES = {
    "configuration": "what a deploy refuses in invoke.yaml, an env file, a template or the source",
    "container-name": "a container_name in a colour file",
    "fixed-port": "a host port that both colours want",
    "port-twice": "a host port that two services of the settings stack publish, or one of them twice",
    "open-port": "a port that the whole world may come to, past nginx",
    "no-health-rule": "no health rule in invoke.yaml, no healthcheck of the web service",
    "shell-form": "a command behind a shell that hands on no signal",
    "grace-period": "a stop_grace_period shorter than what the app grants its own requests or tasks",
    "single-file": "one file mounted, instead of its directory",
    "nginx-version": "an nginx that is too old for its own configuration",
    "nginx-resolve": "a name that nginx resolves once, when it starts",
    "colour-volume": "a volume that belongs to one colour",
    "alias": "a name on the network that nobody has, or two have",
    "other-proxy": "labels or a variable by which another proxy finds a colour",
    "allowed-hosts": "a Host header of the probe that the app refuses",
    "env-in-source": "an env file that travels with the source",
    "host": "what a host lacks, or has taken: docker, compose, tools, ports, an env of its own, a lock",
    "data": "volumes of the app that the containers of another compose project still have",
    "this-machine": "what the operator lacks here: a docker that builds for the hosts, a registry's password",
    "disk": "disk space or inodes that run out",
    "clock": "a host whose clock differs",
    "mtu": "a docker network with larger packets than the host's link",
    "compose-version": "a docker or compose that is too old, or older than what is tested",
}
"""Each rule's name, as findings carry it, and what it looks for."""


@dataclass(frozen=True)
class Papers:
    """The files of a release that rules read: compose documents by file name, nginx confs, and what the source brings.

    `sources` holds texts of the source by path: the Dockerfile, entrypoint scripts, settings. `names` are the paths of
    all its files. `env` is the env file.
    """

    app: App
    stacks: Mapping[str, Mapping[str, Any]]
    confs: Mapping[str, str]
    env: Mapping[str, str]
    sources: Mapping[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()

    def colour(self, colour: Colour) -> Document:
        return self._document(self.app.colour_file(colour), self.app.stack(colour), {"GREENROOM_COLOUR": str(colour)})

    @property
    def settings(self) -> Document:
        return self._document(self.app.settings_file, self.app.settings_stack, {})

    @property
    def documents(self) -> tuple[Document, ...]:
        """Each document once, for what does not depend on the colour."""
        blue, green = map(self.colour, Colour)
        return (blue, *([green] if green.file != blue.file else []), self.settings)

    def _document(self, file: str, stack: str, more: Mapping[str, str]) -> Document:
        app = self.app
        own = {
            "GREENROOM_PROJECT": app.project,
            "GREENROOM_NETWORK": app.network,
            "GREENROOM_IMAGE": app.image("release"),
            "GREENROOM_RELEASE": "release",
            "GREENROOM_ENV_FILE": ".env",
            "GREENROOM_HEALTH_HOST": app.health.host,
            "GREENROOM_HEALTH_PATH": app.health.path,
        }
        return Document(file, stack, documents.interpolate(self.stacks[file], {**self.env, **own, **more}))

    def is_app(self, service: Mapping[str, Any]) -> bool:
        """Say whether a service runs the app's own image."""
        return "build" in service or service.get("image") == self.app.image("release")

    @property
    def dockerfile(self) -> tuple[str, dockerfile.Dockerfile]:
        """Return the Dockerfile that the web service is built from: its path in the source, and what it says."""
        build = self.colour(Colour.BLUE).services.get(self.app.service, {}).get("build")
        context, name = (build, None) if isinstance(build, str) else (None, None)
        if isinstance(build, Mapping):
            context, name = build.get("context"), build.get("dockerfile")
        inside = posixpath.normpath(posixpath.join(str(context or "./source"), str(name or "Dockerfile")))
        path = inside.removeprefix("source/")
        return path, dockerfile.read(self.sources.get(path, ""))


def findings(papers: Papers) -> list[Finding]:
    """Return every finding about the files of a release, the gravest first."""
    found = [each for rule in _ALL for each in rule(papers)]
    return sorted(dict.fromkeys(found), key=lambda each: list(Weight).index(each.weight))


def collisions(papers: Papers) -> list[Finding]:
    """Return why blue and green could not both exist on a host: sooner or later a deploy would fail by it."""
    return [*container_names(papers), *fixed_ports(papers)]


# --- the colours beside each other -----------------------------------------------------------------------------


def container_names(papers: Papers) -> Iterator[Finding]:
    blue, green = map(papers.colour, Colour)
    taken = {str(body["container_name"]) for body in blue.services.values() if body.get("container_name")}
    for name, body in green.services.items():
        if body.get("container_name") and str(body["container_name"]) in taken:
            yield Finding(
                Weight.STOPS,
                "container-name",
                green.place(name, "container_name"),
                f"{name} has a container_name, so blue and green cannot both exist",
                "remove that line: compose finds names by itself",
            )


def fixed_ports(papers: Papers) -> Iterator[Finding]:
    blue, green = map(papers.colour, Colour)
    wanted = [port for body in blue.services.values() for port in documents.ports(body)]
    for name, body in green.services.items():
        for port in documents.ports(body):
            if any(port.clashes(other) for other in wanted):
                yield Finding(
                    Weight.STOPS,
                    "fixed-port",
                    green.place(name, "ports", port.index),
                    f"blue and green both want port {port.published} of the host, so they cannot run side by side",
                    "remove it: nginx reaches a colour by its name on the network; a person, through nginx's doors",
                )


def colour_volumes(papers: Papers) -> Iterator[Finding]:
    blue, green = map(papers.colour, Colour)
    for name, body in green.services.items():
        for mount in documents.mounts(body):
            if mount.kind == "anonymous" or (
                mount.kind == "volume" and blue.volume(mount.source) != green.volume(mount.source)
            ):
                whose = f"{green.volume(mount.source)} belongs to green alone" if mount.source else "it has no name"
                yield Finding(
                    Weight.LOSES,
                    "colour-volume",
                    green.place(name, "volumes", mount.index),
                    f"what {name} writes to {mount.target} is gone with the next flip: {whose}",
                    f"add {mount.source or 'a name'} to deploy.volumes, and make it external in the file: "
                    f"{{external: true, name: ${{GREENROOM_PROJECT}}-{mount.source or 'NAME'}}}",
                )
    path, image = papers.dockerfile
    if image.volume:
        kept = {mount.target.rstrip("/") for mount in documents.mounts(green.services.get(papers.app.service, {}))}
        for target in image.volume.words or image.volume.text.split():
            if target.rstrip("/") not in kept:
                yield Finding(
                    Weight.LOSES,
                    "colour-volume",
                    f"{path}:{image.volume.line}",
                    f"what the app writes to {target} is gone with the next flip: VOLUME makes one for each container, "
                    "which docker leaves behind",
                    f"mount a volume there that is in deploy.volumes, or remove the VOLUME: {target}",
                )


def names_in_nginx(papers: Papers) -> Iterator[Finding]:
    """Docker's DNS knows names on a network: nginx must find one colour by each name, and each colour by one."""
    service, network = papers.app.service, papers.app.network
    web = {colour: papers.colour(colour).names(service, network) for colour in Colour}
    for use in confs.upstreams(papers.confs):
        if use.name in web[Colour.BLUE] & web[Colour.GREEN]:
            what = f"both colours answer to {use.name}: users would be sent to the idle one, too"
            mend = f"give {service} the alias web-${{GREENROOM_COLOUR}} on the network, and use that name here"
            yield Finding(Weight.LOSES, "alias", use.where, what, mend)
        elif use.group in {"blue", "green"} and "." not in use.name and use.name not in web[Colour(use.group)]:
            where = papers.colour(Colour(use.group)).place(service, "networks")
            what = f"{use.group} has no name {use.name} on the network {network}; nginx asks for it ({use.where})"
            mend = f"give {service} that alias there: web-${{GREENROOM_COLOUR}}, with Greenroom's own nginx files"
            yield Finding(Weight.STOPS, "alias", where, what, mend)


_PROXY_LABEL = re.compile(r"(traefik|caddy)([._]|$)")


def other_proxies(papers: Papers) -> Iterator[Finding]:
    """A proxy that finds containers by what stands on them sends users to either colour, as soon as it runs."""
    blue = papers.colour(Colour.BLUE)
    for name, body in blue.services.items():
        told = {
            "labels": [key for key in documents.keys(body.get("labels")) if _PROXY_LABEL.match(key)],
            "environment": [key for key in documents.keys(body.get("environment")) if key == "VIRTUAL_HOST"],
        }
        for where, keys in told.items():
            if keys and blue.networks(name) - {papers.app.network}:
                yield Finding(
                    Weight.LOSES,
                    "other-proxy",
                    blue.place(name, where),
                    f"{keys[0]} has another proxy send users to {name}: to the idle colour, too",
                    f"have it send them to Greenroom's nginx: move this, and its network, to the service "
                    f"{papers.app.proxy} of templates/setting_prod.yml",
                )


def names_of_two(papers: Papers) -> Iterator[Finding]:
    """Two containers that share a name share its connections."""
    network, settings = papers.app.network, papers.settings
    blue, green = map(papers.colour, Colour)
    for name, body in green.services.items():
        mine = green.names(name, network)
        for other in settings.services:
            shared = mine & settings.names(other, network)
            if shared:
                what = f"{min(shared)} is a name of {other} in {settings.file}, too: a connection goes to either"
                mend = f"keep it in {settings.file} alone, or give one of them another name"
                yield Finding(Weight.LOSES, "alias", green.place(name), what, mend)
        if name != papers.app.service and not papers.is_app(body) and mine & blue.names(name, network):
            what = f"{name} of blue and {name} of green have the same name: a colour may talk to the other's"
            mend = f"move it to {settings.file}, or take it off the network {network}"
            yield Finding(Weight.LOSES, "alias", green.place(name), what, mend)


# --- what is published -----------------------------------------------------------------------------------------


def ports_twice(papers: Papers) -> Iterator[Finding]:
    """Of two containers that publish one port of a host, docker starts the first: it may be nginx that is missing."""
    app, document = papers.app, papers.settings
    names = sorted(document.services, key=lambda name: name != app.proxy)
    published = [(name, port) for name in names for port in documents.ports(document.services[name])]
    for index, (name, port) in enumerate(published):
        for other, before in published[:index]:
            meet = any(belongs(app, host, name) and belongs(app, host, other) for host in app.hosts)
            if not meet or not port.clashes(before):
                continue
            both = f"{name} and {other} both want port {port.published}" if name != other else ""
            yield Finding(
                Weight.STOPS,
                "port-twice",
                document.place(name, "ports", port.index),
                f"{both or f'{name} wants port {port.published} twice'}, and a host has one",
                _another_port(papers, (name, port), (other, before)),
            )


def _another_port(papers: Papers, mine: tuple[str, documents.Port], theirs: tuple[str, documents.Port]) -> str:
    """Say how two services come to have a port each. Of nginx's own, the env file says which it is."""
    app, (name, port), (other, before) = papers.app, mine, theirs
    if other != app.proxy:
        return f"publish one of them on another port than {port.published}; on the network none has to be published"
    variable = _variable(papers, port if name == other else before)
    move = f"give {other} another one in the env file: {variable}=PORT" if variable else "give one of them another"
    if name != other and before.target == str(NGINX["HTTP_PORT"]):
        takes = f"Greenroom's nginx takes its place: deploy.stack.front: {name}"
        return f"if {name} stands in front of {app.service}, {takes}; else {move}"
    return move


def _variable(papers: Papers, port: documents.Port) -> str:
    """Return the variable that says where a port of nginx is published; '' if none does, or more than one."""
    stack = papers.stacks[papers.app.settings_file]
    itself = {name: f"${name}" for name in re.findall(r"\$\{?(\w+)", str(stack))}
    services = Document("", "", documents.interpolate(stack, itself)).services
    written = documents.ports(services[papers.app.proxy])[port.index].published
    return written.removeprefix("$") if re.fullmatch(r"\$\w+", written) else ""


def open_ports(papers: Papers) -> Iterator[Finding]:
    app = papers.app
    for document in papers.documents:
        of_colour = document.file != app.settings_file
        for name, body in document.services.items():
            if name == app.proxy and not of_colour:
                continue
            for port in documents.ports(body):
                if not port.is_open:
                    continue
                published = port.published or "a port of docker's choice"
                harm = (
                    "users who come this way go past nginx, and are cut when the colour is stopped"
                    if of_colour
                    else "whoever reaches the host reaches its data"
                )
                yield Finding(
                    Weight.LOSES,
                    "open-port",
                    document.place(name, "ports", port.index),
                    f"{name} is published on {published} for the whole world (past ufw, too): {harm}",
                    "remove it: nginx needs none"
                    if of_colour
                    else f"remove it, or bind it: 127.0.0.1:{port.published or port.target}:{port.target}",
                )


# --- how it is known to be well --------------------------------------------------------------------------------

DATA_SERVERS = {
    "postgres": "pg_isready",
    "postgis": "pg_isready",
    "mysql": "mysqladmin, ping",
    "mariadb": "healthcheck.sh, --connect",
    "redis": "redis-cli, ping",
    "valkey": "valkey-cli, ping",
    "rabbitmq": "rabbitmq-diagnostics, -q, ping",
    "mongo": "mongosh, --quiet, --eval, db.version()",
}
"""Images of services with data, and the program in each of them that says whether it takes connections."""


def health(papers: Papers) -> Iterator[Finding]:
    app = papers.app
    if (app.health.path, app.health.host) == (Health().path, Health().host):
        yield Finding(
            Weight.LOSES,
            "no-health-rule",
            "invoke.yaml: deploy.health",
            f"no health rule: a colour counts as fit when GET {app.health.path} with Host: {app.health.host} answers",
            "say which path shows that the app works, database included, and a host that users send: "
            "health: {path: /healthz, host: app.example.com}",
        )
    _, image = papers.dockerfile
    for document in papers.documents:
        for name, body in document.services.items():
            is_web = document.file != app.settings_file and name == app.service
            asks = next((DATA_SERVERS[word] for word in DATA_SERVERS if f"/{word}" in f"/{body.get('image', '')}"), "")
            if _is_checked(body) or (is_web and "healthcheck" not in body and image.healthcheck):
                continue
            if is_web or asks:
                early = ", and the migration of a first deploy may come too early" if app.migrate else ""
                ready = f"it counts as ready once its process runs{early}"
                what = "docker cannot tell whether it is well" if is_web else ready
                yield Finding(
                    Weight.NOTE,
                    "no-health-rule",
                    document.place(name),
                    f"{name} has no healthcheck: {what}",
                    f"add one to the service{f': healthcheck: {{test: [CMD, {asks}], interval: 2s}}' * (not is_web)}",
                )


def _is_checked(service: Mapping[str, Any]) -> bool:
    rule = service.get("healthcheck")
    return isinstance(rule, Mapping) and not rule.get("disable") and rule.get("test") not in (["NONE"], "NONE")


# --- how it starts and stops -----------------------------------------------------------------------------------


def shells(papers: Papers) -> Iterator[Finding]:
    """Find what stands between docker's signals and the app: without them it is killed, requests, tasks and all."""
    mend = 'write it as a list, or put `exec` before the program: ["gunicorn", ...]'
    harm = "the signal to stop reaches the shell, and the app is killed at the end of its grace period"
    web: Mapping[str, Any] = {}
    for document in papers.documents:
        for name, body in document.services.items():
            web = body if document.file != papers.app.settings_file and name == papers.app.service else web
            for key in ("entrypoint", "command"):
                if _is_shell(documents.words(body.get(key))):
                    what = f"{name} runs behind a shell: {harm}"
                    yield Finding(Weight.LOSES, "shell-form", document.place(name, key), what, mend)
    path, image = papers.dockerfile
    for instruction, key in ((image.entrypoint, "entrypoint"), (image.cmd, "command")):
        if not instruction or key in web or (key == "command" and "entrypoint" in web):
            continue
        if instruction.words is None or _is_shell(list(instruction.words)):
            kind = "ENTRYPOINT" if key == "entrypoint" else "CMD"
            where = f"{path}:{instruction.line}"
            yield Finding(Weight.LOSES, "shell-form", where, f"{kind} runs behind a shell: {harm}", mend)
    if image.entrypoint and image.entrypoint.words and "entrypoint" not in web:
        yield from _script(papers, image.entrypoint.words)


_RUNS_EXEC = re.compile(r"(?:^|[;&|({\n]|\bthen\b|\bdo\b|\belse\b)\s*exec\s")


def _is_shell(words: list[str]) -> bool:
    """Say whether words are `sh -c TEXT`, and nothing in the text makes way for the app."""
    if not words or posixpath.basename(words[0]) not in {"sh", "bash", "dash", "ash"}:
        return False
    flag = next((n for n, word in enumerate(words[1:], 1) if re.fullmatch(r"-[a-z]*c", word)), None)
    return flag is not None and len(words) > flag + 1 and not _RUNS_EXEC.search(words[flag + 1])


def _script(papers: Papers, words: tuple[str, ...]) -> Iterator[Finding]:
    """Look into the entrypoint's script, if the source has it."""
    name = posixpath.basename(next((word for word in words if word.endswith(".sh")), ""))
    path = next((path for path in papers.sources if name and posixpath.basename(path) == name), None)
    if path is None:
        return
    text = papers.sources[path]
    if words[0].endswith(name) and not text.startswith("#!"):
        what = "the entrypoint has no #! line: docker cannot run it (exec format error)"
        yield Finding(Weight.STOPS, "shell-form", f"{path}:1", what, "begin it with  #!/bin/sh")
    if not _RUNS_EXEC.search(text):
        last = len(text.splitlines())
        what = "the entrypoint does not make way for the app: without exec no signal reaches it"
        yield Finding(Weight.LOSES, "shell-form", f"{path}:{last}", what, 'end it with  exec "$@"')


DOCKERS_GRACE = 10.0
"""Seconds that docker waits before it kills, unless told (docker stop --time)."""

_OWN_GRACE = (
    ("gunicorn", ("--graceful-timeout",), 30.0),
    ("uvicorn", ("--timeout-graceful-shutdown",), None),
    ("hypercorn", ("--graceful-timeout",), 3.0),
    ("celery", ("--time-limit", "--soft-time-limit"), None),
)
"""Servers, the options that say how many seconds they let work end, and what holds without (their documentation)."""


def grace(papers: Papers) -> Iterator[Finding]:
    _, image = papers.dockerfile
    for document in papers.documents:
        for name, body in document.services.items():
            command = documents.words(body.get("command"))
            if not command and papers.is_app(body) and image.cmd:
                command = list(image.cmd.words or documents.words(image.cmd.text))
            written = body.get("stop_grace_period")
            granted = DOCKERS_GRACE if written is None else documents.seconds(written)
            own = _own_grace(command)
            if granted is None:
                continue
            where = document.place(name, *(["stop_grace_period"] if written is not None else []))
            said = f"{granted:g} s" if written is not None else f"docker's {granted:g} s (no stop_grace_period)"
            if own is not None and granted < own:
                yield Finding(
                    Weight.LOSES,
                    "grace-period",
                    where,
                    f"{name} lets work end for {own:g} s, and is killed after {said}",
                    f"stop_grace_period: {own + 10:g}s",
                )
            elif own is None and written is None and _is_worker(command):
                yield Finding(
                    Weight.LOSES,
                    "grace-period",
                    where,
                    f"{name} is killed after {said}: a task that takes longer is lost",
                    "give it a stop_grace_period longer than its longest task, like 120s",
                )


def _own_grace(command: list[str]) -> float | None:
    text = " ".join(command)
    for program, options, default in _OWN_GRACE:
        if re.search(rf"(?:^|[\s/]){program}(?=\s|$)", text):
            said = [re.search(rf"{option}[=\s]+(\d+(?:\.\d+)?)", text) for option in options]
            return max((float(found[1]) for found in said if found), default=default)
    return None


def _is_worker(command: list[str]) -> bool:
    text = f" {' '.join(command)} "
    return bool(re.search(r"[\s/]celery\s.*\sworker\s", text))


# --- what is mounted -------------------------------------------------------------------------------------------

_TRAVELS = ("source", "nginx", "switch", "releases")
"""What of the app's directory on a host Greenroom brings; a colour's relative paths begin in that directory."""


def single_files(papers: Papers) -> Iterator[Finding]:
    for document in papers.documents:
        for name, body in document.services.items():
            for mount in documents.mounts(body):
                if mount.kind != "bind" or not (_looks_like_a_file(mount.source) and _looks_like_a_file(mount.target)):
                    continue
                first = posixpath.normpath(mount.source).split("/")[0] if mount.source[:1] == "." else ""
                brought = not first or first in _TRAVELS
                what = (
                    "a mounted file follows its inode: one that is replaced is never seen inside"
                    if brought
                    else "nothing brings that file to the host, and docker would make a directory of its name"
                )
                yield Finding(
                    Weight.LOSES,
                    "single-file",
                    document.place(name, "volumes", mount.index),
                    f"{mount.source} is mounted as one file: {what}",
                    "mount the directory that it lies in; nginx's own files travel in templates/nginx (./nginx)",
                )


def _looks_like_a_file(path: str) -> bool:
    """A name with an ending is a file's, for all that a text can tell; conf.d is no file, a socket none to replace."""
    return bool(re.search(r"[^./][^/]*\.(?!d$|sock$)\w+$", path))


# --- nginx -----------------------------------------------------------------------------------------------------


def nginx_versions(papers: Papers) -> Iterator[Finding]:
    document = papers.settings
    image = str(document.services.get(papers.app.proxy, {}).get("image", ""))
    tagged = re.search(r"(?:^|/)nginx[\w-]*:v?(\d+(?:\.\d+)+)", image)
    if not tagged:
        return
    for words, since, where in confs.needs(papers.confs):
        version = confs.version_of(tagged[1])
        if version < since[: len(version)]:
            yield Finding(
                Weight.STOPS,
                "nginx-version",
                document.place(papers.app.proxy, "image"),
                f"{image} is too old for `{words}` ({where}), which came with {'.'.join(map(str, since))}",
                "nginx:1.30, or any from 1.27.4 on",
            )


def resolved_once(papers: Papers) -> Iterator[Finding]:
    """A name without `resolve` is looked up when nginx starts, and not again: later its address is a dead one."""
    colours = [papers.colour(colour) for colour in Colour]
    of_colours = {name for d in colours for service in d.services for name in d.names(service, papers.app.network)}
    for use in confs.upstreams(papers.confs):
        if use.name in of_colours and not use.resolves:
            yield Finding(
                Weight.LOSES,
                "nginx-resolve",
                use.where,
                f"nginx resolves {use.name} once, when it starts: after a flip each request would be a 502",
                f"an upstream with `zone`, and in it  server {use.name}:PORT resolve;  as templates/nginx/colours.conf",
            )


# --- Django ----------------------------------------------------------------------------------------------------


def allowed_hosts(papers: Papers) -> Iterator[Finding]:
    """Compare the probe's Host with ALLOWED_HOSTS, where that can be read: the env file, or a plain list in settings.

    What settings make of it, only the app knows: its gate says so, and the live colour does (recipe/hosts.py).
    """
    host = papers.app.health.host
    said = [
        (f"env file: {name}", [word for word in re.split(r"[\s,;]+", value.strip("[]\"' ")) if word])
        for name, value in papers.env.items()
        if name == "ALLOWED_HOSTS" or name.endswith("DJANGO_ALLOWED_HOSTS")
    ]
    if not said:
        lists = [
            (f"{path}:{line}", names)
            for path, text in papers.sources.items()
            if path.endswith(".py")
            for line, names in _listed(text)
        ]
        said = lists if len(lists) == 1 else []
    for where, names in said:
        if not any(_allows(name.strip("\"'"), host) for name in names):
            yield Finding(
                Weight.STOPS,
                "allowed-hosts",
                where,
                f"ALLOWED_HOSTS does not have {host}, which the gate sends as Host: Django would answer 400",
                f"add {host} there, or say one of its names as deploy.health.host",
            )


def _allows(pattern: str, host: str) -> bool:
    """As django.http.request.validate_host: any case, `*` is all, a leading dot is a domain with what is below it."""
    name = re.sub(r":\d+$", "", host).lower().rstrip(".")
    pattern = pattern.lower()
    return pattern in {"*", name} or (pattern.startswith(".") and (name.endswith(pattern) or name == pattern[1:]))


def _listed(text: str) -> Iterator[tuple[int, list[str]]]:
    """Give a module's ALLOWED_HOSTS where it is written out: what is computed cannot be read, and is not guessed."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return
    for node in body:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["ALLOWED_HOSTS"]:
            try:
                names = ast.literal_eval(node.value)
            except ValueError:
                continue
            yield node.lineno, list(map(str, names))


def env_in_source(papers: Papers) -> Iterator[Finding]:
    """Only the files that envs name stay out of a source. A front end's `.env.production` is meant to be there."""
    for path in sorted(papers.names):
        if posixpath.basename(path) == ".env":
            yield Finding(
                Weight.NOTE,
                "env-in-source",
                path,
                "it travels with the source: whoever may log in on a host may read it, and so may who has the image, "
                "unless .dockerignore names it",
                f"take it out of git: git rm --cached {path}; on the hosts the app gets the file that "
                f"deploy.envs.{papers.app.env}.dotenv names",
            )


_ALL = (
    container_names,
    fixed_ports,
    colour_volumes,
    names_in_nginx,
    other_proxies,
    names_of_two,
    ports_twice,
    open_ports,
    health,
    shells,
    grace,
    single_files,
    nginx_versions,
    resolved_once,
    allowed_hosts,
    env_in_source,
)
