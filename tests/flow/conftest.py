"""A small project, a world of hosts, and an operator with the real flow in hand."""

from __future__ import annotations

import copy
import io
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from world import OTHER, World

from deploy import check, clock, config, fleet, flow, run, staging
from deploy.console import Console
from deploy.console.redact import redactor
from deploy.recipe import standing, waiting

if TYPE_CHECKING:
    from collections.abc import Callable


class Operator:
    """Types what an operator would, against a world. `text` is all that was printed."""

    def __init__(self, folder: Path, hosts: int | list[str], **keys: Any) -> None:
        self.folder = folder
        names = [f"web{i + 1}" for i in range(hosts)] if isinstance(hosts, int) else hosts
        self.data: dict[str, Any] = {
            "project": "app",
            "health": {"path": "/healthz"},
            "migrate": "python manage.py migrate",
            "workers": ["celery", "celery-beat"],
            "singletons": ["postgres", "celery-beat"],
            "settle": 1,
            "envs": {"prod": {"hosts": names, **keys}},
        }
        (folder / ".env.prod").write_text("DJANGO_SECRET_KEY=s3cret-marker\n")
        self.write("1")
        self.world = World(self.setup().hosts)
        self.printed = io.StringIO()

    def twin(self) -> Operator:
        """Return another operator, of a world that stands as this one's does: what led there is done only once.

        They share the folder: what one writes there, the other finds.
        """
        other = copy.copy(self)
        other.world, other.printed = self.world.twin(), io.StringIO()
        return other

    @property
    def text(self) -> str:
        return self.printed.getvalue()

    def write(self, version: str) -> None:
        """Change the source."""
        (self.folder / "app.py").write_text(f"VERSION = {version!r}\n")

    def setup(self, hosts: str = "") -> config.Setup:
        return config.load(self.data, self.folder, hosts=hosts)

    def _console(self) -> Console:
        return Console(out=self.printed)

    def _connect(self, setup: config.Setup, *, skip: bool = False) -> fleet.Fleet:
        """Connect; `skip` leaves out what cannot be reached, as --skip-unreachable does."""
        return fleet.connect(setup.hosts, self.world.open, setup.app.hosts[0], (lambda _: None) if skip else None)

    def _env(self, hosts: str = "", *, skip: bool = False) -> tuple[config.Setup, Callable[[], fleet.Fleet]]:
        """Return the env as it is written down now, and the way to its hosts."""
        setup = self.setup(hosts)
        return setup, lambda: self._connect(setup, skip=skip)

    def deploy(self, *, hosts: str = "", **options: Any) -> None:
        flow.deploy(*self._env(hosts), self._console(), flow.Options(**options))

    def lock(self, reason: str, *, skip: bool = False) -> None:
        flow.put_lock(*self._env(skip=skip), self._console(), reason)

    def unlock(self, reason: str, *, skip: bool = False) -> None:
        flow.take_lock_away(*self._env(skip=skip), self._console(), reason)

    def at_work(self, hosts: str = "") -> Any:
        """Another run of ours holds its locks for the time of the block."""
        setup, connect = self._env(hosts)
        return run.engaged(setup.app, connect(), self._console(), "deploy r9")

    def rollback(self, to: str = "", **options: Any) -> None:
        flow.rollback(*self._env(), self._console(), to, flow.Options(**options))

    def stage(self, *, hosts: str = "", **options: Any) -> None:
        staging.stage(*self._env(hosts), self._console(), flow.Options(**options))

    def promote(self, *, hosts: str = "", **options: Any) -> None:
        staging.promote(*self._env(hosts), self._console(), flow.Options(**options))

    def unstage(self) -> None:
        staging.unstage(*self._env(), self._console())

    def plan(self) -> None:
        flow.plan(*self._env(), self._console(), flow.Options())

    def status(self) -> None:
        flow.status(*self._env(), self._console())

    def history(self) -> None:
        flow.history(*self._env(), self._console(), 20)

    def does(self, story: Any, *words: Any, hosts: str = "", as_json: bool = False) -> Any:
        """Play one of the stories of deploy/operate.py, on some hosts of the env or on all; `text` is what it said."""
        self.printed.seek(0)
        self.printed.truncate()
        console = Console(out=self.printed, as_json=as_json)
        setup, connect = self._env(hosts)
        console.hide(redactor(setup.env, setup.readings))
        return story(setup, connect, console, *words)

    def check(self, *, files_only: bool = False, as_json: bool = False) -> None:
        console = Console(out=self.printed, as_json=as_json)
        check.check(*self._env(), console, files_only=files_only)

    def live(self) -> list[str]:
        """Return the release that each host serves."""
        setup, connect = self._env()
        return [standing.live_release(setup.app, each) for each in run.observe(setup.app, connect()).values()]

    def waits(self) -> list[str]:
        """Say what waits in the idle colour of each host."""
        setup, connect = self._env()
        return [waiting.describe(setup.app, each) for each in run.observe(setup.app, connect()).values()]

    def assert_whole(self, *, waits: bool = False) -> None:
        """Every host serves the same release, from one colour, with its workers, and nothing is left over.

        But for one container of the idle colour, where that `waits`.
        """
        (release,) = set(self.live())
        named = {service for box in self.world.boxes.values() for service in box.runs}
        for number, box in enumerate(self.world.boxes.values()):
            stacks = sorted((c.stack, c.service) for c in box.containers)
            workers = [c.image for c in box.containers if c.service.startswith("celery")]
            serves = not box.runs or "web" in box.runs
            services = set(box.runs or ("celery", "redis")) - {"web"} | ({"nginx"} if serves else set())
            if number == 0 and not box.runs:
                services |= {"celery-beat", "postgres"} - named
            expected = [("app-setting-prod", service) for service in services]
            if serves:
                expected.append((f"app-{box.switch}", "web"))
            if serves and waits:
                expected.append((f"app-{OTHER[box.switch]}", "web"))
            assert stacks == sorted(expected), box.name
            assert set(workers) <= {f"app:{release}"}, box.name
            assert box.images == {f"app:{ident}" for ident in box.releases}, box.name
            assert box.run == "", box.name


@pytest.fixture
def operator_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a maker of operators; each release is a second younger than the one before."""
    seconds = count()
    real = clock.utc_now()
    monkeypatch.setattr(clock, "utc_now", lambda: real + __import__("datetime").timedelta(seconds=next(seconds)))
    made = count()

    def make(hosts: int | list[str] = 1, **keys: Any) -> Operator:
        folder = tmp_path / f"project-{next(made)}"
        folder.mkdir()
        return Operator(folder, hosts, **keys)

    return make
