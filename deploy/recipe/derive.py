"""One compose file in, two out: what each colour runs, and what stays while colours come and go.

The file is not interpreted: keys move, go or get another name, and every value stays as it was written, for the host's
own compose to read. What cannot be moved without guessing is refused by its path; what changes is said in a note.

The laws of this file:
- Nothing that holds data begins empty without a word: volumes keep the names that compose gave them, relative folders
  that are not of the source must be said (`deploy.stack.folder`).
- Both colours can run side by side: no fixed port, no container name, nothing of theirs in a place of its own.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.recipe.adopted import HTTP
from deploy.recipe.once import restart_of
from deploy.recipe.shapes import (
    TOKENS,
    anonymous_key,
    is_volume,
    joined,
    listed,
    mapping,
    mount_of,
    mounts,
    ports,
    same_image,
    yes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from deploy.recipe.adopted import Adopted, Outline

NETWORK = "greenroom"
"""What the shared network is called inside the derived files."""

IMAGE = "${GREENROOM_IMAGE}"
COLOUR = "${GREENROOM_COLOUR}"
RESTART = "always"
"""As in the templates: with unless-stopped a dockerd that died leaves its containers down for good."""

DOORS = 8000
"""Where the search for two free host ports begins, on 127.0.0.1: the colours' doors."""

_NO_RELATIVE_PATH = re.compile(r"[a-z][a-z+-]*://|service:|git@|github\.com/|[/~$]")
"""How a build's context begins that compose does not look for beside the file (compose-go, paths/context.go)."""


_OF_THE_HOST = re.compile(r"/(?:dev|etc|proc|run|sys|var/run)/")
"""What a service reads of its host, or asks it: its time zone, docker's socket. Nothing that it keeps."""


@dataclass(frozen=True)
class Derived:
    """The two files, as documents, and what a person should know of how they differ from the one."""

    colour: dict[str, Any]
    settings: dict[str, Any]
    notes: tuple[str, ...]


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
        self._frail: list[str] = []

    def both(self, proxy: Mapping[str, Any]) -> Derived:
        colour = {name: self._coloured(name) for name in self._a.coloured}
        settings = {name: self._settled(name) for name in self._shape.settings}
        settings[self._a.proxy] = self._proxy(proxy)
        if unsaid := [name for name in self._restarts if name in self._shape.workers]:
            self._notes.append(
                f"services.{joined(unsaid)}: no restart is said, and they are taken for workers that stay; "
                "what ends by itself belongs into deploy.migrate or deploy.stack.without"
            )
        if self._restarts:
            self._notes.append(
                f"services.{joined(self._restarts)}: restart: {RESTART}, so that they come back with the host"
            )
        if self._frail:
            self._notes.append(
                f"services.{joined(self._frail)}: restart: unless-stopped: where docker is killed, they stay down "
                f"until somebody starts them; restart: {RESTART} brings them back"
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
            others = [host or target for host, target in ports(self._services[name]) if target != str(self._shape.port)]
            if first and not self._a.front:
                self._note(name, "ports", f"nginx publishes {self._shape.published} in its place")
            if others or not first:
                gone = joined(others) or joined(host or target for host, target in ports(self._services[name]))
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
        if restart_of(self._services[name]).startswith("on-failure"):
            self._note(
                name,
                "restart",
                f"each deploy expects it to run; if it ends by itself, leave it out: deploy.stack.without: [{name}]",
            )
        if name in self._shape.workers:
            self._refuse_data(name)
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

    def _refuse_data(self, name: str) -> None:
        """A database that is built would be replaced under users by each deploy, and be away at the first migration."""
        apps = [*self._a.coloured, *(each for each in self._shape.workers if self._image(each) == IMAGE)]
        if name in self._a.workers or name in apps:
            return
        shared = {source for other in apps for _, source, _, _ in mounts(self._services[other])}
        for _, source, target, read_only in mounts(self._services[name]):
            inside = posixpath.normpath(posixpath.join(self._a.at, source))
            of_the_source = source.startswith(".") and not inside.startswith("..") and self._kind(inside)
            if source and source not in shared and not (read_only or of_the_source or _OF_THE_HOST.match(source)):
                raise self._a.wrong(
                    f"services.{name}.build",
                    f"it alone keeps what is in {target} ({source}), and what is built is replaced by each deploy, "
                    "after the flip, as a worker",
                    "is it a database or the like? Build and push it yourself, and write `image:` in place of build. "
                    f"If it may be away while users are there: deploy.workers: [{name}]",
                )

    def _image(self, name: str) -> str:
        """The app's image for whatever builds the same; a tag beside it for what builds something else."""
        for other in (*self._shape.images[0], *self._shape.images[1]):
            if same_image(self._services[name], self._services[other]):
                return f"{IMAGE}.{other}"
        return IMAGE

    def _common(self, name: str) -> dict[str, Any]:
        body = dict(self._services[name])
        for key in ("links", "develop", "container_name", "depends_on", "networks"):
            body.pop(key, None)
        if "container_name" in self._services[name]:
            self._note(name, "container_name", f"dropped; other services still find it by that name{self._but(name)}")
        if "restart" not in body and "restart_policy" not in mapping(body.get("deploy")):
            body["restart"] = RESTART
            self._restarts.append(name)
        if restart_of(body) == "unless-stopped":
            self._frail.append(name)
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
        others = [each for each in mapping(asked) if each not in part and each in self._services]
        if others and name not in self._a.coloured:
            what = "is replaced by each deploy" if set(others) & set(self._a.coloured) else "is not deployed"
            self._note(name, "depends_on", f"{joined(others)} {what}, so nobody waits for it")
        if isinstance(asked, dict):
            return {each: how for each, how in asked.items() if each in part}
        return [each for each in listed(asked) if each in part]

    def _networks(self, name: str) -> dict[str, Any]:
        """All services meet on the shared network; networks of others, that are external, stay.

        There, too, a service is found by the names that it had, unless it has two colours: they would share them.
        """
        theirs = self._networks_of_others(name)
        asked = mapping(self._services[name].get("networks"))
        aliases = [*self._aliases.get(name, ())]
        networks: dict[str, Any] = {}
        for key in theirs:
            body = asked.get(key)
            if aliases and name not in self._a.coloured:
                body = {
                    **(body or {}),
                    "aliases": list(dict.fromkeys([*listed((body or {}).get("aliases")), *aliases])),
                }
            networks[key] = body
        for key, body in asked.items():
            if key in theirs:
                continue
            aliases += listed((body or {}).get("aliases"))
            if (body or {}).get("ipv4_address"):
                self._note(name, f"networks.{key}.ipv4_address", "dropped: services find each other by name")
        shared = {"aliases": list(dict.fromkeys(aliases))} if aliases else {}
        return {NETWORK: shared, **networks}

    def _networks_of_others(self, name: str) -> list[str]:
        """Return the external networks that a service is on; who names none is on the one called default."""
        declared = mapping(self._a.document.get("networks"))
        asked = mapping(self._services[name].get("networks")) or {"default": None}
        return [key for key in asked if yes((declared.get(key) or {}).get("external"))]

    def _but(self, name: str) -> str:
        theirs = self._networks_of_others(name) if name in self._a.coloured else []
        return f", others on {joined(theirs)} do not: both colours would have it there" if theirs else ""

    def _extra_aliases(self) -> dict[str, list[str]]:
        """Names by which others know a service beside its own: links and container names."""
        found: dict[str, list[str]] = {}
        for name, body in self._services.items():
            if body.get("container_name") and "$" not in str(body["container_name"]):
                found.setdefault(name, []).append(str(body["container_name"]))
            for link in listed(body.get("links")):
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
        where = f"services.{name}.build"
        full["context"] = self._context(where, str(full.get("context") or "."))
        if more := full.get("additional_contexts"):
            pairs = more.items() if isinstance(more, dict) else (str(each).split("=", 1) for each in listed(more))
            full["additional_contexts"] = {
                key: self._context(f"{where}.additional_contexts.{key}", str(path))
                for key, *rest in pairs
                for path in rest
            }
        return full

    def _context(self, where: str, path: str) -> str:
        """Return where a folder that a build reads is on a host. All of them travel, or nothing could be built."""
        if _NO_RELATIVE_PATH.match(path):
            return path
        inside = posixpath.normpath(posixpath.join(self._a.at, path))
        if inside == ".." or inside.startswith("../"):
            raise self._a.wrong(
                where, f"{path} lies outside of the source", "let deploy.source be a folder that holds it"
            )
        return f"./source/{inside}".removesuffix("/.")

    def _env_files(self, name: str, asked: Any) -> list[Any]:
        found: list[Any] = []
        for each in asked if isinstance(asked, list) else [asked]:
            path = str(each.get("path", "")) if isinstance(each, dict) else str(each)
            where = f"services.{name}.env_file"
            if posixpath.normpath(path) in self._a.env_files:
                new = "${GREENROOM_ENV_FILE}"
            elif "$" in path or path.startswith("/"):
                new = path
            elif isinstance(each, dict) and not yes(each.get("required", "true")) and not self._known(path):
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
        for each in listed(self._services[name].get("volumes")):
            _, source, target, read_only = mount_of(each) or (each, "/", "", False)
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
        key = anonymous_key(name, target)
        if key not in self._kept:
            self._note(name, "volumes", f"{target} has no name: what today's container holds there does not come along")
            return each
        self._note(name, "volumes", f"{target} has no name, and is {self._kept[key]} from now on, for both colours")
        return {**each, "source": key} if isinstance(each, dict) else f"{key}:{target}"

    def _relative(self, name: str, each: Any, source: str, target: str, *, read_only: bool) -> Any:
        """A relative folder or file: of the source, or of what only the host has."""
        where = f"services.{name}.volumes"
        place, kind = self._place(where, source)
        if kind == "folder" and self._is_in_the_image(name, place):
            self._note(name, "volumes", f"{source} is of the source, which the image has: not mounted over {target}")
            return None
        if kind and not read_only:
            self._note(name, "volumes", f"{source} is of the source, which each deploy replaces: mounted read only")
        if isinstance(each, dict):
            return {**each, "source": place, **({"read_only": True} if kind else {})}
        options = TOKENS.findall(str(each))[2:]
        if kind and not read_only:
            options = [",".join([*(o for o in ",".join(options).split(",") if o and o != "rw"), "ro"])]
        return ":".join([place, target, *options])

    def _is_in_the_image(self, name: str, place: str) -> bool:
        """Say whether a service brings a folder of the source itself. A mount of it would be the next release's from
        prepare on, under a worker that still runs this one, and would stay so after an undo.

        The app's image counts as having all of the source. One that is built from something else has its context for
        sure; of a folder inside that (init scripts of a database) nobody knows, and such are mounted as they were.
        """
        if name in self._a.coloured:
            return True
        if name not in self._shape.workers:
            return False
        if any(same_image(self._services[name], self._services[each]) for each in self._a.coloured):
            return True
        return bool(self._build(name)["context"] == place)

    # The proxy, and what stands below the services.

    def _proxy(self, template: Mapping[str, Any]) -> dict[str, Any]:
        """Greenroom's own nginx. Of the one whose place it takes it has the ports, and the mounts but for its conf."""
        published = self._shape.published
        taken = [host for name in self._shape.settings for host, _ in ports(self._services[name])]
        volumes = [mount for mount in listed(template.get("volumes")) if str(mount).startswith("./")]
        more = []
        if self._a.front:
            front = self._services[self._a.front]
            kept = [m[0] for m in mounts(front) if m[1] and not f"{m[2]}/".startswith("/etc/nginx/")]
            self._services[self._a.front] = {"volumes": kept}
            volumes += self._volumes(self._a.front)
            more = [f"{host}:{target}" for host, target in ports(front) if host and host != published]
            if more:
                self._note(self._a.front, "ports", f"{joined(more)} too: templates/nginx has to listen there")
        blue, green = _doors([*taken, published, *more])
        http = published if "$" in published else f"${{HTTP_PORT:-{published}}}"
        return {
            **template,
            "volumes": volumes,
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
        declared = mapping(self._a.document.get("networks"))
        used = {key for body in services.values() for key in mapping(body.get("networks"))} - {NETWORK}
        document: dict[str, Any] = {
            "services": services,
            "networks": {
                NETWORK: {"external": True, "name": "${GREENROOM_NETWORK}"},
                **{key: declared[key] for key in declared if key in used},
            },
        }
        mounted = {source for body in services.values() for _, source, _, _ in mounts(body) if is_volume(source)}
        stated = mapping(self._a.document.get("volumes"))
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
        asking = [*services.values(), *(body["build"] for body in services.values() if "build" in body)]
        wanted = {
            str(each.get("source")) if isinstance(each, dict) else str(each)
            for body in asking
            for each in listed(body.get(kind))
        }
        found = {}
        for key, body in mapping(self._a.document.get(kind)).items():
            if key in wanted:
                path = str((body or {}).get("file") or "")
                relative = path and not path.startswith(("/", "~", "$"))
                found[key] = {**body, "file": self._place(f"{kind}.{key}", path)[0]} if relative else body
        return found


def _doors(taken: Iterable[str]) -> tuple[int, int]:
    """Choose two host ports for the colours' doors that nothing in the file mentions as published."""
    used = {int(number) for host in taken for number in re.findall(r"\d+", host)}
    blue, green = [port for port in range(DOORS, DOORS + 2 + len(used)) if port not in used][:2]
    return blue, green


# --- nginx -----------------------------------------------------------------------------------------------------


def confs(templates: Mapping[str, bytes], service: str, port: int) -> dict[str, bytes]:
    """Fit Greenroom's own nginx confs to an app of which nothing is known but where it listens.

    It serves its files itself.
    """
    colours = templates["colours.conf"].decode()
    for colour in ("blue", "green"):
        colours = colours.replace(f"server web-{colour}:8000 ", f"server {service}-{colour}:{port} ")
    return {**templates, "colours.conf": colours.encode(), "files.conf": _FILES}


_FILES = b"""# Locations that nginx serves by itself, from volumes or folders that the proxy mounts. As:
# location /static/ { alias /srv/static/; }
"""
