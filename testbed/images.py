"""The images of the hosts, and those that the hosts are born with: pulled where that works, else made here.

An image that is made here says in a label what it was made from, so that a changed recipe, base or machine makes it
anew. It is made under a temporary name and takes its own name when it is whole: one that stopped halfway is never used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import selectors
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import engine, surroundings
from .commands import docker, docker_agrees, in_parallel, pipe, run
from .errors import CommandError
from .model import KINDS, Kind, Target

if TYPE_CHECKING:
    from .surroundings import Surroundings

APPS: Final = {
    "python:3.13-slim": "python",
    "nginx:1.30": "nginx",
    "redis:8": "redis",
    "postgres:17": "postgres",
}
"""The official images that a deployed app builds on, and the folder of the recipe for each one's stand-in."""

APP_BASE: Final = KINDS["trixie"].base
"""What all stand-ins are made from: they share its layer, on disk and on the way to a host."""

LATER: Final = {"node:22-slim": "node"}
"""The same for what only some tests need: `Shelf.bring` takes it to a host."""

BORN_WITH: Final = (APP_BASE, *APPS)
"""What every host's engine holds from the start."""

_RECIPE: Final = "greenroom.testbed.recipe"
"""The label that says what an image was made from."""

_WORKSHOP: Final = "greenroom-testbed/unfinished"
_PULLED: Final = "greenroom-testbed/pulled"
"""A second name for what we pulled, so that we remove no image that was here before us."""

_RECIPES: Final = Path(__file__).parent / "images"

_FIRST_SIGN: Final = 10.0
"""Seconds that a registry has to say anything at all; a network that swallows packets would keep us for minutes."""
_PULL: Final = 900.0
_BUILD: Final = 900.0
_BOOTSTRAP: Final = 600.0
"""Seconds that each of these may take on a slow machine or line."""

_BOOTSTRAP_VERSION: Final = 1
"""To be raised when what `_bootstrap` makes changes, since no file tells."""

_APT: Final = ('Acquire::Languages "none";',)
_DPKG: Final = (
    "force-unsafe-io",
    *(f"path-exclude=/usr/share/{folder}/*" for folder in ("doc", "groff", "info", "lintian", "locale", "man")),
    "path-include=/usr/share/doc/*/copyright",
)
"""As in the official slim images: no documentation, and no waiting for the disk."""

_log = logging.getLogger("testbed")


class Shelf:
    """The images, for one run: what it learns about the registry holds as long as the run."""

    def __init__(self) -> None:
        """Begin without having asked the registry anything."""
        self._registry_answers = True
        self._tools = threading.Lock()

    def ensure(self, kind: Kind) -> None:
        """Have everything that hosts of this kind need. Raises ProvisionError."""
        in_parallel(self._ensure_base, dict.fromkeys((APP_BASE, kind.base)))
        in_parallel(
            lambda work: work(),
            [partial(_ensure_host, kind), *(partial(self._ensure_app, name, folder) for name, folder in APPS.items())],
        )

    def bring(self, name: str, target: Target) -> None:
        """Have a host hold one of the images of LATER. Raises ProvisionError."""
        self._ensure_base(APP_BASE)
        self._ensure_app(name, LATER[name])
        load = ["docker", "exec", "--interactive", target.container, "docker", "load"]
        pipe(["docker", "save", name], load, timeout=_BUILD)

    def _ensure_base(self, name: str) -> None:
        """Have a minimal Debian."""
        recipe = _recipe_of(name)
        if recipe == "" or (recipe is None and self._pull(name)):
            return
        around = surroundings.detect()
        suite = name.removeprefix("debian:").removesuffix("-slim")
        wanted = _digest(str(_BOOTSTRAP_VERSION), suite, *_APT, *_DPKG, repr(around), around.as_tar())
        if recipe == wanted:
            return
        with self._tools:
            if not shutil.which("mmdebstrap"):
                engine.install(("mmdebstrap", "debian-archive-keyring"))
        _bootstrap(name, suite, around, wanted)

    def _ensure_app(self, name: str, folder: str) -> None:
        """Have an official image, or its stand-in."""
        recipe = _recipe_of(name)
        if recipe == "" or (recipe is None and self._pull(name)):
            return
        _build(name, _RECIPES / folder, {"BASE": APP_BASE}, found=recipe)

    def _pull(self, name: str) -> bool:
        """Pull an image if that works. Where it did not, it is not tried again."""
        if not self._registry_answers:
            return False
        _log.info("pulling %s", name)
        self._registry_answers = _pull(name)
        if self._registry_answers:
            docker("tag", name, _pulled_name(name))
        else:
            _log.info("pulling %s does not work here: making stand-ins", name)
        return self._registry_answers


def digest(kind: Kind) -> str:
    """Return what changes when any image that hosts of this kind are made from does. They must be there."""
    return _digest(*(_id(name) for name in (kind.image, *BORN_WITH)))


def remove_all() -> None:
    """Remove every image that was made or pulled here, and none that was there before us."""
    interrupted = _interrupted_builds()
    if interrupted:
        docker("rm", "--force", "--volumes", *interrupted)
    kinds = KINDS.values()
    made = [
        name
        for name in (*APPS, *LATER, *(kind.image for kind in kinds), *(kind.base for kind in kinds))
        if _recipe_of(name)
    ]
    pulled = [name for name in (*APPS, *LATER, *(kind.base for kind in kinds)) if _same(name, _pulled_name(name))]
    dangling = docker("image", "ls", "--quiet", "--filter", f"label={_RECIPE}", "--filter", "dangling=true").split()
    for name in (*dangling, *_tags(_WORKSHOP), *_tags(_PULLED), *made, *pulled):
        _log.info("removing image %s", name)
        docker_agrees("image", "rm", "--force", name)


def _interrupted_builds() -> list[str]:
    """Return the containers of builds that were killed: only a build calls the image of a container by its id."""
    stopped = docker("ps", "--all", "--quiet", "--filter", f"label={_RECIPE}", "--filter", "status=exited").split()
    listing = docker("inspect", "--format", "{{.Id}} {{.Config.Image}}", *stopped) if stopped else ""
    return [line.split()[0] for line in listing.splitlines() if line.split()[1].startswith("sha256:")]


def _tags(repository: str) -> list[str]:
    """Return the full names of all images in a repository."""
    return [f"{repository}:{tag}" for tag in docker("image", "ls", "--format", "{{.Tag}}", repository).split()]


def _ensure_host(kind: Kind) -> None:
    """Have the image of the hosts themselves."""
    arguments = {"BASE": kind.base, "PACKAGES": " ".join(kind.packages)}
    _build(kind.image, _RECIPES / "host", arguments, found=_recipe_of(kind.image))


def _build(name: str, folder: Path, arguments: dict[str, str], *, found: str | None) -> None:
    """Build an image unless the one that was found is made from the very same things."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    described = [f"{path.relative_to(folder)} {path.stat().st_mode & 0o777:o}" for path in files]
    wanted = _digest(_id(arguments["BASE"]), repr(arguments), *described, *(path.read_bytes() for path in files))
    if found == wanted:
        return
    _log.info("building %s", name)
    draft = _draft_name(name)
    options = [option for key, value in arguments.items() for option in ("--build-arg", f"{key}={value}")]
    # Another default builder, if the user has set one, would keep the result to itself.
    environment = {**os.environ, "BUILDX_BUILDER": "default"}
    labels = ["--label", f"{_RECIPE}={wanted}"]
    run(
        ["docker", "build", "--force-rm", "--tag", draft, *labels, *options, str(folder)],
        timeout=_BUILD,
        environment=environment,
    )
    _publish(draft, name)


def _bootstrap(name: str, suite: str, around: Surroundings, wanted: str) -> None:
    """Make a minimal Debian from the archive's packages."""
    _log.info("bootstrapping %s", name)
    draft = _draft_name(name)
    with tempfile.TemporaryDirectory(prefix="greenroom-") as folder:
        overlay = Path(folder) / "overlay.tar"
        overlay.write_bytes(around.as_tar())
        pipe(
            [
                "mmdebstrap",
                "--variant=minbase",
                *(f"--aptopt={line}" for line in (*_APT, *around.apt)),
                *(f"--dpkgopt={line}" for line in _DPKG),
                f"--customize-hook=tar-in {shlex.quote(str(overlay))} /",
                suite,
                "-",
                *([around.mirror] if around.mirror else []),
            ],
            ["docker", "import", "--change", 'CMD ["bash"]', "--change", f"LABEL {_RECIPE}={wanted}", "-", draft],
            timeout=_BOOTSTRAP,
        )
    _publish(draft, name)


def _publish(draft: str, name: str) -> None:
    """Give a finished image its own name, and drop the one that had it."""
    old = _id(name) if _recipe_of(name) is not None else None
    docker("tag", draft, name)
    docker("image", "rm", draft)
    if old and old != _id(name):
        docker_agrees("image", "rm", old)  # where something was made from it, it stays


def _pull(name: str) -> bool:
    """Pull an image; a registry that stays silent for ten seconds counts as none."""
    deadline = time.monotonic() + _PULL
    with subprocess.Popen(
        ["docker", "pull", name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            with selectors.DefaultSelector() as selector:
                if process.stdout:
                    selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(_FIRST_SIGN):
                    return False
            process.communicate(timeout=max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        finally:
            process.kill()
    return process.returncode == 0


def _recipe_of(name: str) -> str | None:
    """Return what an image says it was made from: "" if it is not of our making, None if there is no such image."""
    try:
        labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", name))
    except CommandError:
        return None
    return str((labels or {}).get(_RECIPE, ""))


def _id(name: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", name)


def _same(name: str, other: str) -> bool:
    """Say whether two names stand for one image, which must exist."""
    return _recipe_of(name) is not None and _recipe_of(other) is not None and _id(name) == _id(other)


def _draft_name(name: str) -> str:
    return f"{_WORKSHOP}:{_slug(name)}"


def _pulled_name(name: str) -> str:
    return f"{_PULLED}:{_slug(name)}"


def _slug(name: str) -> str:
    """Return an image's name in a form that can be a tag."""
    return name.replace("/", "-").replace(":", "-")


def _digest(*parts: str | bytes) -> str:
    """Return a digest of the parts and of where each ends."""
    whole = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        whole.update(f"{len(content)}:".encode() + content)
    return whole.hexdigest()[:16]
