"""A user's project, ready to be deployed to target hosts: the example app in a git repository of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed import state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from testbed.model import Target

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "django"
HOST_HEADER = "app.example.com"
SECRET = "testbed-only-secret"  # noqa: S105  # these hosts live for a test


@dataclass(frozen=True)
class Said:
    """What a command line said: its exit code, standard output and error, and how long it took in seconds."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err

    def events(self) -> list[dict[str, Any]]:
        """Return the events of a run with --json."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]


@dataclass(frozen=True)
class Project:
    """A folder with invoke.yaml, tasks.py, .env.prod and the example's source under git."""

    folder: Path
    targets: tuple[Target, ...]

    @classmethod
    def create(cls, folder: Path, targets: Sequence[Target], changes: Mapping[str, Any] | None = None) -> Project:
        """Lay the project out anew in `folder`. `changes` win over the configuration's keys.

        The database of the first host serves all of them, as a fleet's would.
        """
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".env*"))
        project = cls(folder, tuple(targets))
        (folder / "tasks.py").write_text("from deploy.tasks import ns\n")
        (folder / ".gitignore").write_text(".env*\n/invoke.yaml\n/tasks.py\n__pycache__/\n")
        (folder / ".env.prod").write_text(project.dotenv())
        project.configure(changes or {})
        project.git("init", "--quiet", "--initial-branch=main")
        project.commit("v1")
        return project

    def dotenv(self) -> str:
        """Return the app's environment, shared by all hosts."""
        database = self.targets[0].inner
        names = ",".join((HOST_HEADER, "localhost", *(target.address for target in self.targets)))
        return (
            f"SECRET_KEY={SECRET}-key\n"
            f"ALLOWED_HOSTS={names}\n"
            f"POSTGRES_PASSWORD={SECRET}-postgres\n"
            f"POSTGRES_BIND={database}\n"
            f"DATABASE_URL=postgres://app:{SECRET}-postgres@{database}:5432/app\n"
            f"REDIS_PASSWORD={SECRET}-redis\n"
        )

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Write invoke.yaml (JSON is YAML)."""
        keys = {
            "project": "app",
            "source": ".",
            "health": {"path": "/healthz", "host": HOST_HEADER, "timeout": 60},
            "migrate": "python manage.py migrate --noinput",
            "workers": ["celery", "celery-beat"],
            "singletons": ["postgres", "celery-beat"],
            "settle": 3,
            "ssh": {"identity": str(state.KEY), "known_hosts": str(state.KNOWN_HOSTS), "config": "/dev/null"},
            "envs": {"prod": {"hosts": [f"deploy@{target.address}" for target in self.targets]}},
        }
        (self.folder / "invoke.yaml").write_text(json.dumps({"deploy": {**keys, **changes}}, indent=2))

    def git(self, *words: str) -> str:
        identity = ("-c", "user.name=Example", "-c", "user.email=example@example.com")
        done = subprocess.run(["git", *identity, *words], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, version: str) -> None:
        """Commit what lies there, as a version that people can see on the page."""
        page = self.folder / "board" / "templates" / "board" / "home.html"
        page.write_text(re.sub(r"<!-- version .* -->\n|\Z", f"<!-- version {version} -->\n", page.read_text(), count=1))
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", f"--message={version}")

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a file of the source; a text that is not there is an error."""
        path = self.folder / name
        text = path.read_text()
        if old not in text:
            raise ValueError(f"{name} does not hold {old!r}")
        path.write_text(text.replace(old, new))

    def inv(self, *words: str, limit: float = 600) -> Said:
        """Run `inv` as a user would; `limit` in seconds."""
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "invoke", *words],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=limit,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def environment(self) -> dict[str, str]:
        """What an operator of this checkout has around them, with a memory of runs that is not the developer's own.

        And a Python that compiles once: machines for tests have some that keep nothing, operators' have not.
        """
        state = str(self.folder.parent / "state")
        return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": state, "PYTHONDONTWRITEBYTECODE": ""}


def releases(said: Said) -> list[str]:
    """Return the release ids that a command printed, in order, each once."""
    return list(dict.fromkeys(re.findall(r"\d{8}-\d{6}(?:-[0-9a-f]{7})?(?:-dirty)?", said.text)))
