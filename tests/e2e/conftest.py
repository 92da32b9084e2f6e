"""Real hosts with real users: every deploy here is typed as its user would, while a load runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

sys.path.insert(0, str(Path(__file__).parent))

from stage import Stage

import testbed
from testbed.project import Project

HERE = Path(__file__).parent
BEDS = (("trixie", 1), ("trixie", 3), ("bookworm", 1), ("bookworm", 3))
"""Compose v2 on a new engine and compose v1 on an old one; one host and three."""

EITHER = (BEDS[1], BEDS[2])
"""Two of them have both engines, and both counts."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(900))


class ByHosts(LoadScopeScheduling):  # type: ignore[misc]  # xdist is not typed
    """Stories on one kind of hosts are told by one process, in their order; those on the other kind beside them.

    The kind is the parameter of a test; one without it is told on the first.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((kind for kind, _ in BEDS if kind in nodeid), BEDS[0][0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return ByHosts(config, log)


@pytest.fixture(scope="module", params=BEDS, ids=lambda bed: f"{bed[0]}-{bed[1]}")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A bare stage: hosts with docker and sshd, a project, nothing deployed."""
    kind, count = request.param
    targets = testbed.up(count, kind)
    testbed.reset(targets)
    return Stage(targets, Project.create(tmp_path_factory.mktemp("project"), targets))


@pytest.fixture
def three(stage: Stage) -> Stage:
    if len(stage.targets) < 3:
        pytest.skip("a story of three hosts")
    return stage


@pytest.fixture
def either(stage: Stage) -> None:
    if (stage.targets[0].kind, len(stage.targets)) not in EITHER:
        pytest.skip("told on one host with the old engine, and on three with the new one")


@pytest.fixture
def one(stage: Stage) -> Stage:
    if len(stage.targets) > 1:
        pytest.skip("one host tells this story as well as three")
    return stage
