"""The state directory: what is in it, and who may change it."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .errors import ProvisionError

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE: Final = Path(__file__).resolve().parent.parent / ".testbed"
"""Where the testbed keeps its files: a git-ignored folder in the root of the repository."""

KEY: Final = STATE / "id_ed25519"
"""The private key that logs in on every host, as the user `deploy`."""

KNOWN_HOSTS: Final = STATE / "known_hosts"
"""The host keys of all hosts, by outer and by inner address."""

SSH_CONFIG: Final = STATE / "ssh_config"
"""For `ssh -F`: every host by its name."""

HOST_KEYS: Final = STATE / "host_keys"
"""One private host key a file, named like its host."""

DOCKERD_LOG: Final = STATE / "dockerd.log"
DOCKERD_PID: Final = STATE / "dockerd.pid"

_PATIENCE: Final = 900.0
"""Seconds to wait for another testbed command: a little more than the longest `up` from nothing takes anywhere."""

_log = logging.getLogger("testbed")


@contextmanager
def locked() -> Iterator[None]:
    """Keep other testbed commands of this checkout out, for the length of the block; make the state directory.

    What is locked is the folder of this package, which is always there: a lock file could be removed under a waiter.
    Raises ProvisionError if another command does not finish in time, or the state directory cannot be written.
    """
    folder = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        _acquire(folder)
        _make_directory()
        yield
    finally:
        os.close(folder)


def clear() -> None:
    """Remove the state directory with all that is in it. Only the holder of the lock may do so."""
    shutil.rmtree(STATE, ignore_errors=True)


def _make_directory() -> None:
    try:
        STATE.mkdir(exist_ok=True)
        (STATE / ".gitignore").write_text("*\n")
    except OSError as error:
        raise ProvisionError(
            f"{STATE} cannot be written: {error.strerror}", "remove it, or give it to this user; was root at work here?"
        ) from None


def _acquire(lock: int) -> None:
    """Take the lock, and say so if that means waiting."""
    if _try(lock):
        return
    _log.info("waiting for another testbed command to finish")
    deadline = time.monotonic() + _PATIENCE
    while not _try(lock):
        if time.monotonic() > deadline:
            raise ProvisionError(
                f"another testbed command has been at work for {_PATIENCE:g} s", "see what it does, end it if it hangs"
            )
        time.sleep(0.2)


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
