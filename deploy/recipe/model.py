"""The nouns, frozen. A colour is a fact of one host; a release is the fact of the fleet."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Colour(str, enum.Enum):
    """Blue or green: live (nginx sends users to it) or idle, and that differs from host to host."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> Colour:
        return Colour.GREEN if self is Colour.BLUE else Colour.BLUE

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, order=True)
class Host:
    """Where: `address` as the user wrote it (an alias of ~/.ssh/config is fine), user and port if given.

    `runs` is what it is for: the services that it runs and no others, or () for all of them.
    """

    address: str
    user: str | None = None
    port: int | None = None
    runs: tuple[str, ...] = field(default=(), compare=False)

    def takes(self, service: str) -> bool:
        return not self.runs or service in self.runs

    @property
    def purpose(self) -> str:
        """Return what it is for, for people: `jobs1 (celery)`; a host that runs all needs no words."""
        return f"{self} ({', '.join(self.runs)})" if self.runs else str(self)

    def __str__(self) -> str:
        return self.address if self.port is None else f"{self.address}:{self.port}"


@dataclass(frozen=True)
class Health:
    """The rule by which a colour is fit: GET `path` with header `Host: host` answers 2xx or 3xx.

    `timeout` is how long, in seconds, a starting colour may take to get there.
    """

    path: str = "/"
    host: str = "localhost"
    timeout: int = 60


@dataclass(frozen=True)
class Hook:
    """A program of the user's: at which moment (before-flip, after-flip, failure), its words, and where it runs."""

    moment: str
    words: tuple[str, ...]
    on_host: bool = False


@dataclass(frozen=True)
class App:
    """What is deployed in one env: the part of the configuration that plans are made from.

    Of a compose file that is deployed as it is (recipe/adopted.py): `kept` are its volumes, key and name on the hosts;
    `images` are the services, of colours and settings stack, with an image of their own beside the app's.
    """

    project: str
    env: str
    hosts: tuple[Host, ...]
    root: str = "greenroom"
    network: str = "settings"
    volumes: tuple[str, ...] = ("static", "media")
    service: str = "web"
    proxy: str = "nginx"
    health: Health = field(default_factory=Health)
    colour_files: tuple[tuple[Colour, str], ...] = ((Colour.BLUE, "colour.yml"), (Colour.GREEN, "colour.yml"))
    settings_file: str = "setting_prod.yml"
    migrate: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    singletons: tuple[str, ...] = ()
    settle: int = 30
    drain: int = 30
    build_timeout: int = 1800
    migrate_timeout: int = 600
    keep: int = 5
    standby: bool = False
    build: str = "once"
    registry: str = ""
    kept: tuple[tuple[str, str], ...] = ()
    images: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    hooks: tuple[Hook, ...] = ()
    hook_timeout: int = 60

    def hooks_at(self, moment: str, *, on_host: bool = False) -> tuple[Hook, ...]:
        return tuple(hook for hook in self.hooks if (hook.moment, hook.on_host) == (moment, on_host))

    @property
    def base(self) -> str:
        """The app's directory on a host; relative to the login's home unless `root` is absolute."""
        return f"{self.root}/{self.project}"

    @property
    def settings_stack(self) -> str:
        return f"{self.project}-setting-{self.env}"

    def stack(self, colour: Colour) -> str:
        return f"{self.project}-{colour}"

    def colour_file(self, colour: Colour) -> str:
        return dict(self.colour_files)[colour]

    def image(self, release_id: str) -> str:
        return f"{self.project}:{release_id}"

    @property
    def volume_names(self) -> tuple[str, ...]:
        """The volumes that belong to no colour and no settings stack, as they are called on the hosts."""
        return (*(f"{self.project}-{name}" for name in self.volumes), *(name for _, name in self.kept))


@dataclass(frozen=True)
class Release:
    """An id and what belongs to it. `definitions` are digests by service of the settings stack.

    `fingerprint` covers everything that a host gets: two releases with the same one are the same release.
    `origin` says where the source came from, for people: a branch and commit, or a folder.
    """

    id: str
    fingerprint: str
    conf: str
    manifest: str = ""
    revision: str = ""
    origin: str = ""
    who: str = ""
    replaces: str = ""
    definitions: tuple[tuple[str, str], ...] = ()


ENDING = "ending"
"""The state of a container that runs, and that docker is about to end, for a script that was cut off."""


@dataclass(frozen=True)
class Container:
    """One container as docker's inspect and compose's labels describe it; `state` is docker's word, or ENDING."""

    id: str
    stack: str
    service: str
    image: str
    state: str
    health: str = ""
    restarts: int = 0
    since: str = ""
    definition: str = ""

    @property
    def runs(self) -> bool:
        return self.state in {"running", ENDING}

    @property
    def stays(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True)
class Waiting:
    """A colour that was left running for a time when it is idle: these containers of it, and no others.

    `kind` is STAGED (a release that nobody has seen yet) or STANDBY (the one that users had before); `at` is since when
    (epoch seconds).
    """

    kind: str
    colour: Colour
    containers: frozenset[str]
    who: str = ""
    at: int = 0


STAGED = "staged"
STANDBY = "standby"


@dataclass(frozen=True)
class StoredRelease:
    """A release that lies on a host. `served` is when it last went live there (epoch seconds), 0 if never."""

    id: str
    served: int
    record: Release | None
    has_image: bool


@dataclass(frozen=True)
class Facts:
    """One host, right now, as it answered. Nothing in here is remembered from an earlier run.

    `orphans` are releases of which only the image is there: docker did late what a dead run had asked for.
    `runs` is no answer: what the configuration says that the host is for, as in Host.
    `waiting` is what was said to wait in a colour, whatever has become of that since.
    Of the volumes that the app keeps: those that are there, who else has them (volume, container, compose project or
    '') and, for those that are not there, what other projects call by the same key (key, volume).
    """

    base: str = ""
    docker: str = ""
    architecture: str = ""
    compose: str = ""
    switch: Colour | None = None
    proxy_runs: bool = False
    conf: str = ""
    confs: tuple[str, ...] = ()
    containers: tuple[Container, ...] = ()
    releases: tuple[StoredRelease, ...] = ()
    orphans: tuple[str, ...] = ()
    source_same: bool = False
    source: tuple[tuple[str, str], ...] = ()
    disk_free: int = 0
    lacks: tuple[str, ...] = ()
    trouble: str = ""
    locked: str = ""
    maintenance: str = ""
    waiting: Waiting | None = None
    colour_health: tuple[tuple[Colour, str], ...] = ()
    volumes: frozenset[str] = frozenset()
    volume_users: tuple[tuple[str, str, str], ...] = ()
    volume_likes: tuple[tuple[str, str], ...] = ()
    runs: tuple[str, ...] = ()

    def of(self, stack: str, service: str | None = None) -> tuple[Container, ...]:
        """Return the containers of a stack, or of one of its services."""
        return tuple(c for c in self.containers if c.stack == stack and service in (None, c.service))

    def serves(self, app: App) -> bool:
        """Say whether the host is there for users: it has nginx and colours, not workers or data alone."""
        return not self.runs or app.service in self.runs

    def stored(self, release_id: str) -> StoredRelease | None:
        return next((r for r in self.releases if r.id == release_id), None)
