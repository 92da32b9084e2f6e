"""Where contestants meet: one host, one project that is live on it, one way there, and their papers in one folder."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import testbed
from bench.contestants.lines import App
from testbed.project import HOST_HEADER, ROOT, Project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LIMIT = 300
"""Seconds that anything here may take."""

DJANGO = App("app", "settings", "colour.yml", HOST_HEADER, "python manage.py migrate --noinput", "celery celery-beat")
COUNTER = App("counter", "counter", "colour.yml", HOST_HEADER)


@dataclass(frozen=True)
class Ground:
    """`port` is where its sshd is found: its own, or that of a relay. `folder` holds source/, release/ and papers."""

    folder: Path
    target: testbed.Target
    app: App
    project: Project
    port: int = 22

    @classmethod
    def prepare(cls, folder: Path, target: testbed.Target, app: App) -> Ground:
        """Bare the host, have the app's first release live there, and fetch what others need to bring the next one."""
        testbed.reset([target])
        folder.mkdir(parents=True)
        made = Project.create if app is DJANGO else _counter
        ground = cls(folder, target, app, made(folder / "source", [target])).reached_by(22)
        ground.must("deploy", "--settle=0")
        release = testbed.shell(target, f"ls ~deploy/greenroom/{app.project}/releases").split()[-1]
        (folder / "release").mkdir()
        (folder / "cp").mkdir()
        place = f"/home/deploy/greenroom/{app.project}/releases/{release}"
        for name in testbed.shell(target, f"ls -A {place}").split():
            if name not in {"release.json", "served"}:
                (folder / "release" / name).write_text(testbed.shell(target, f"cat {place}/{name}") + "\n")
        return ground

    def reached_by(self, port: int) -> Ground:
        """Return the same ground at the end of another way."""
        there = replace(self, port=port)
        address = self.target.address
        keys = [line.split(" ", 1) for line in testbed.KNOWN_HOSTS.read_text().splitlines()]
        (key,) = [key for names, key in keys if address in names.split(",")]
        self.file("known_hosts", f"{address} {key}\n[{address}]:{port} {key}\n")
        self.file(
            "ssh_config",
            SSH_CONFIG.format(address=address, port=port, key=self.key, known=self.known_hosts, at=self.folder),
        )
        settings = json.loads((self.project.folder / "invoke.yaml").read_text())
        settings["deploy"]["ssh"] = {
            "identity": str(self.key),
            "known_hosts": str(self.known_hosts),
            "config": "/dev/null",
        }
        settings["deploy"]["envs"]["prod"]["hosts"] = [f"deploy@{address}:{port}"]
        (self.project.folder / "invoke.yaml").write_text(json.dumps(settings))
        return there

    @property
    def key(self) -> Path:
        return testbed.KEY

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def ssh(self) -> str:
        """The words that begin each ssh to the host, which is called `bench`; the first opens a connection for all."""
        return f"ssh -F {self.ssh_config}"

    def rsync(self) -> str:
        """Return the line that brings source/ and release/: what is committed and no more, quickly compared."""
        left_out = (
            "--exclude=/source/.git --exclude=/source/.env* --exclude=/source/invoke.yaml --exclude=/source/tasks.py"
        )
        here = self.folder
        there = f"bench:greenroom/{self.app.project}/"
        return f"rsync -az --delete {left_out} -e '{self.ssh}' {here}/source {here}/release {there}"

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def hang_up(self) -> None:
        """End the connection that OpenSSH keeps, if any: the next deploy opens its own."""
        for socket in (self.folder / "cp").glob("*"):
            subprocess.run(["ssh", "-O", "exit", "-S", str(socket), "bench"], capture_output=True, check=False)

    def run(self, words: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        """Run a program; one that fails is an error that tells what it said last."""
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=self.folder,
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-1500:]
            raise RuntimeError(f"{Path(words[0]).name} ended with {done.returncode}: {said}")
        return done.stdout

    def must(self, *words: str) -> None:
        said = self.project.inv(*words)
        if said.code:
            raise RuntimeError(said.text)

    def commit(self, text: str) -> None:
        """Change a line of the app, and commit it."""
        if self.app is DJANGO:
            self.project.commit(text)
            return
        page = self.project.folder / "app.py"
        page.write_text(re.sub(r'GREETING = ".*"', f'GREETING = "{text}"', page.read_text()))
        self.project.git("commit", "--quiet", "--all", f"--message={text}")

    def live(self) -> str:
        """Return the release that the host's users get."""
        url = f"http://{self.target.address}/"
        request = urllib.request.Request(url, headers={"Host": HOST_HEADER})  # loopback only
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # the same
            return str(answer.headers["X-Release"])


SSH_CONFIG = """\
Host bench
    HostName {address}
    Port {port}
    User deploy
    IdentityFile {key}
    IdentitiesOnly yes
    UserKnownHostsFile {known}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    ControlMaster auto
    ControlPersist 60
    ControlPath {at}/cp/%C
"""


def _counter(folder: Path, targets: Sequence[testbed.Target]) -> Project:
    """Lay out the app that boots at once: its compose file is deployed as it is."""
    shutil.copytree(ROOT / "examples" / "counter", folder)
    project = Project(folder, tuple(targets))
    (folder / ".gitignore").write_text(".env*\n/invoke.yaml\n/tasks.py\n")
    (folder / "tasks.py").write_text("from deploy.tasks import ns\n")
    (folder / ".env.prod").write_text("")
    settings = {
        "project": "counter",
        "health": {"path": "/healthz", "host": HOST_HEADER},
        "network": "counter",
        "stack": {"file": "compose.yaml", "coloured": ["web"]},
        "envs": {"prod": {}},
    }
    (folder / "invoke.yaml").write_text(json.dumps({"deploy": settings}))
    project.git("init", "--quiet", "--initial-branch=main")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message=first")
    return project


@contextlib.contextmanager
def tools(targets: Sequence[testbed.Target]) -> Iterator[None]:
    """For the block, hosts have what Greenroom does not need and others do: rsync, and Python for Ansible."""
    for target in targets:
        testbed.shell(target, INSTALL, timeout=LIMIT)
    try:
        yield
    finally:
        for target in targets:
            testbed.shell(target, REMOVE, timeout=LIMIT)


INSTALL = """
export DEBIAN_FRONTEND=noninteractive
command -v rsync >/dev/null && command -v python3 >/dev/null || {
    apt-get update -qq && apt-get install -y -qq --no-install-recommends rsync python3; } >/tmp/apt 2>&1 || {
    tail -n 5 /tmp/apt; exit 1; }
"""
REMOVE = "DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq --autoremove rsync python3 >/dev/null 2>&1"
