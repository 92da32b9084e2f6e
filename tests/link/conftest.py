"""Real sshds, each with its own keys and address, and a home of the operator's that is nobody's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sshd import Place, find_sshd

import testbed.engine
from testbed.errors import EngineMissingError


@pytest.fixture(scope="session")
def program() -> str:
    """The path of sshd; on Debian, root gets it installed."""
    if not find_sshd():
        try:
            testbed.engine.install(["openssh-server"])
        except EngineMissingError as error:
            pytest.skip(f"there is no sshd: {error}")
    return find_sshd() or pytest.fail("openssh-server is installed, and there is no sshd")


@pytest.fixture
def place(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A home with a key that every sshd of this place takes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    place = Place(tmp_path, program)
    try:
        yield place
    finally:
        place.close()
