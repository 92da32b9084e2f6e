"""The docker engine of this machine: find it, or install and start it; and stop the one that we started."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .commands import docker_agrees, run
from .errors import EngineMissingError, ProvisionError
from .state import DOCKERD_LOG, DOCKERD_PID

if TYPE_CHECKING:
    from collections.abc import Sequence

_PACKAGES: Final = ("docker.io", "iptables", "openssh-client")
_SYSTEM_PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
"""Where daemons lie; an ordinary user's PATH need not say so."""

_START: Final = 60.0
"""Seconds that dockerd has until it answers: it may have many containers to look at first."""

_STOP: Final = 60.0
"""Seconds that dockerd has to stop: it gives each container 10 of its own."""

_ANSWER: Final = 15.0
"""Seconds that an engine has to answer a question."""

_log = logging.getLogger("testbed")


def answers() -> bool:
    """Say whether there is an engine to talk to."""
    return shutil.which("docker") is not None and docker_agrees("info", timeout=_ANSWER)


def ensure() -> None:
    """Return with an engine that answers.

    Raises EngineMissingError if that is more than can be done from here.
    """
    if answers():
        return
    if os.environ.get("DOCKER_HOST"):
        raise EngineMissingError(
            "the docker engine that DOCKER_HOST names does not answer", "start it, or unset DOCKER_HOST"
        )
    if os.geteuid() != 0:
        raise EngineMissingError(
            "docker does not answer, and only root can install or start it",
            "start docker (`sudo systemctl start docker`), and let this user use it "
            "(`sudo usermod -aG docker $USER`, then log in again)",
        )
    if not (shutil.which("docker") and _dockerd()):
        install(_PACKAGES)
    if Path("/run/systemd/system").is_dir():
        if answers():  # the packages start their own service
            return
        raise EngineMissingError(
            "docker does not answer",
            "start it with `systemctl start docker`, and see `journalctl -u docker` if it fails",
        )
    _start()


def can_start() -> bool:
    """Say whether `ensure` would find an engine without installing one."""
    return answers() or (os.geteuid() == 0 and shutil.which("docker") is not None and _dockerd() is not None)


def install(packages: Sequence[str]) -> None:
    """Install Debian packages. Raises EngineMissingError elsewhere than on Debian, or if we are not root."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise EngineMissingError(
            f"{' and '.join(packages)} must be installed, which can be done from here only as root on Debian",
            "install them with this machine's own package manager, and try again",
        )
    _log.info("installing %s", ", ".join(packages))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], timeout=180, environment=environment)
    run(["apt-get", "install", "-y", "--no-install-recommends", *packages], timeout=600, environment=environment)


def stop() -> None:
    """Stop the engine if it is the one that we started; any other is none of our business.

    Raises ProvisionError if it does not stop in time.
    """
    pid = _recorded_pid()
    if pid is None:
        return
    _log.info("stopping dockerd, process %d", pid)
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP
    while _recorded_pid() is not None:
        if time.monotonic() > deadline:
            raise ProvisionError(
                f"dockerd, process {pid}, still runs {_STOP:g} s after it was asked to stop",
                f"see what it waits for; `kill -KILL {pid}` ends it",
            )
        time.sleep(0.1)


def _start() -> None:
    """Start dockerd in a session of its own, so that it outlives this process, and wait until it answers."""
    dockerd = _dockerd()
    if dockerd is None:
        raise EngineMissingError("there is no dockerd, though the package that has it is installed", "install docker")
    _forget_dead("/run/docker.pid", "dockerd")
    _forget_dead("/run/docker/containerd/containerd.pid", "containerd")
    process: subprocess.Popen[bytes] | None = None
    if not Path("/run/docker.pid").exists():
        _log.info("starting dockerd; it logs to %s", DOCKERD_LOG)
        with DOCKERD_LOG.open("ab") as log:
            process = subprocess.Popen(
                [dockerd],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PATH": _SYSTEM_PATH},
            )
        DOCKERD_PID.write_text(f"{process.pid} {_started_at(process.pid)}\n")
    deadline = time.monotonic() + _START
    while not answers():
        if process and process.poll() is not None:
            raise EngineMissingError(f"dockerd does not start:\n{_last_words()}", "mend what it complains of")
        if time.monotonic() > deadline:
            raise EngineMissingError(
                f"dockerd runs, but has not answered for {_START:g} s:\n{_last_words()}", f"read {DOCKERD_LOG}"
            )
        time.sleep(0.1)


def _dockerd() -> str | None:
    return shutil.which("dockerd", path=_SYSTEM_PATH)


def _forget_dead(pid_file: str, name: str) -> None:
    """Remove a pid file that a daemon left when it was killed: its number may belong to somebody else by now."""
    path = Path(pid_file)
    try:
        pid = int(path.read_text())
        alive = Path(f"/proc/{pid}/comm").read_text().strip() == name and _started_at(pid) is not None
    except (OSError, ValueError):
        alive = False
    if not alive:
        path.unlink(missing_ok=True)


def _recorded_pid() -> int | None:
    """Return the process that we started, if it still runs; a number that was given out again is told by its age."""
    try:
        pid, started = (int(word) for word in DOCKERD_PID.read_text().split())
    except (OSError, ValueError):
        return None
    return pid if _started_at(pid) == started else None


def _started_at(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot, or None if it has ended, reaped or not."""
    try:
        # The second field, the name, stands in parentheses and may hold anything; the state follows it, and the time
        # is field 22.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _last_words(lines: int = 15) -> str:
    """Return the end of dockerd's log."""
    try:
        return "\n".join(DOCKERD_LOG.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
