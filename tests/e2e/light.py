"""A light stage: the example that counts, built in a second from what every host has, on hosts of two kinds."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from stage import Stage

import testbed
from testbed import state
from testbed.project import ROOT, Project, Said

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

APP = "counter"
BASE = f"/home/deploy/greenroom/{APP}"


class Light(Stage):
    """Hosts, and the example that counts. What a page says is not looked at; which release says it is."""

    def deploy(self, *words: str) -> str:
        """Commit another version, deploy it, and return its release."""
        self.version += 1
        self.project.edit(
            "app.py", f'GREETING = "Hello{self.version - 2 or ""}"', f'GREETING = "Hello{self.version - 1}"'
        )
        self.project.git("commit", "--quiet", "--all", f"--message=v{self.version}")
        assert self.inv("deploy", *words).code == 0, self.log[-1].text
        return self.live()

    @property
    def said(self) -> Said:
        return self.log[-1]

    def images(self) -> list[set[str]]:
        """Return name and id of all images that a deploy may have brought, by host. A build's cache has no names."""
        others = ("<none>:<none>", "debian:", "python:", "nginx:", "redis:", "postgres:")
        form = "'{{.Repository}}:{{.Tag}} {{.ID}}'"
        every = [testbed.shell(target, f"docker images --no-trunc --format {form}") for target in self.targets]
        return [{line for line in each.splitlines() if not line.startswith(others)} for each in every]


def stage(folder: Path, kinds: tuple[str, ...], keys: Mapping[str, Any], env: str = "") -> Light:
    """Have one bare host of each kind, and a project of these keys and this env file; nothing is deployed yet."""
    targets = [target for kind in kinds for target in testbed.up(1, kind)]
    testbed.reset(targets)
    shutil.copytree(ROOT / "examples" / APP, folder, dirs_exist_ok=True)
    project = Project(folder, tuple(targets))
    own = {
        "project": APP,
        "network": APP,
        "health": {"path": "/healthz", "host": "counter.example.com"},
        "stack": {"file": "compose.yaml", "coloured": ["web"]},
        "settle": 0,
        "ssh": {"identity": str(state.KEY), "known_hosts": str(state.KNOWN_HOSTS), "config": "/dev/null"},
        "envs": {"prod": {"hosts": [f"deploy@{target.address}" for target in targets]}},
    }
    (folder / "invoke.yaml").write_text(json.dumps({"deploy": {**own, **keys}}))
    (folder / "tasks.py").write_text("from deploy.tasks import ns\n")
    (folder / ".gitignore").write_text(".env*\n/invoke.yaml\n/tasks.py\n__pycache__/\n")
    (folder / ".env.prod").write_text(env)
    project.git("init", "--quiet", "--initial-branch=main")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message=v1")
    return Light(targets, project)
