"""Each test of this folder meets every shell that a host may have for /bin/sh."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rig import EACH_SHELL, Rig, lacks


@pytest.fixture(params=EACH_SHELL)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A host with one of the shells."""
    if reason := lacks(request.param):
        pytest.skip(reason)
    rig = Rig(tmp_path / "rig", request.param)
    try:
        yield rig
    finally:
        rig.close()
    rig.assert_nothing_unknown()
