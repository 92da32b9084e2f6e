"""The light hosts of `python -m bench.light` are deployed to for real: what it measures there is a whole deploy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.light.__main__ import Bench
from bench.light.hosts import running

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("program")
def test_a_deploy_to_light_hosts_goes_through_in_as_many_commands_as_are_claimed(tmp_path: Path) -> None:
    with running(2, tmp_path / "room") as hosts:
        bench = Bench(tmp_path / "room", hosts)
        bench.deploy(2, "--settle=0")
        took = bench.deploy(2)
        assert [(host.base / "switch" / "green").exists() for host in hosts] == [True, True]
    # Lock, facts, prepare, start, flip, settle, finish; one host migrates and is read, the other takes the image.
    # And a spare one on each, which was made ready for a script that did not come.
    assert (took.connections, took.commands) == (2, 2 * (7 + 1) + 3)
    assert took.to_hosts < 2 * 1_000_000
    assert 0 < took.cpu < took.wall
    assert took.hosts_cpu > 0
    assert list(took.phases) == ["before", "prepare", "ship", "migrate", "start", "flip", "settle", "finish"]
