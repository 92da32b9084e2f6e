"""The one primitive, and what is made of it. A plan is inert: it can be printed, compared, refused."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.recipe.model import Host
    from deploy.recipe.shell import Command


class Phase(str, enum.Enum):
    """The phases in their order. Each ends on every host before the next begins on any."""

    PREPARE = "prepare"
    PUSH = "push"
    SHIP = "ship"
    MIGRATE = "migrate"
    START = "start"
    FLIP = "flip"
    SETTLE = "settle"
    FINISH = "finish"
    UNDO = "undo"

    def __str__(self) -> str:
        return self.value


BEFORE_FINISH = (Phase.PREPARE, Phase.PUSH, Phase.SHIP, Phase.MIGRATE, Phase.START, Phase.FLIP, Phase.SETTLE)


@dataclass(frozen=True)
class Parcel:
    """What a host lacks: the files of a release, with or without its nginx conf, and these paths of the source.

    `host` says whose values the env file among them has; None: those of every host without values of its own.
    """

    release: str
    source: frozenset[str] = frozenset()
    conf: bool = True
    host: Host | None = None

    def __str__(self) -> str:
        return f"{len(self.source)} source files and release {self.release}"


@dataclass(frozen=True)
class Cargo:
    """The image of a release on its way from the host that built it: what host `to` lacks of it."""

    release: str
    source: Host
    to: Host

    def __str__(self) -> str:
        return f"the image of {self.release} for {self.to}"


@dataclass(frozen=True)
class Docket:
    """What goes with an image through a registry: the login of host `to`, and the digest that `source` has pushed.

    Where both are one host, it is the one that pushes, and there is no digest yet.
    """

    release: str
    source: Host
    to: Host

    def __str__(self) -> str:
        return f"the login of {self.to}"


@dataclass(frozen=True)
class Step:
    """What to do, and why. `title` is imperative, lower case, at most 40 characters: it is UI, log and test language.

    `deadline` is in seconds; every wait has one. A `patient` step only looks, and may be broken off at any time.
    """

    title: str
    because: str
    command: Command
    deadline: float = 60
    parcel: Parcel | Cargo | Docket | None = None
    patient: bool = False


@dataclass(frozen=True)
class Plan:
    """What one host will go through.

    `note` says where the host stands, `data` what becomes of its volumes, `live` is the release that it serves; `asks`
    are the changes that need a yes.
    """

    note: str = ""
    data: tuple[str, ...] = ()
    live: str = ""
    steps: dict[Phase, tuple[Step, ...]] = field(default_factory=dict)
    asks: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    def of(self, phase: Phase) -> tuple[Step, ...]:
        return self.steps.get(phase, ())
