"""A real registry between hosts of two kinds of engines: pushed once, pulled by digest, and not needed to go back."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
import test_secrets
from stage import Stage
from test_secrets import assert_silent, watched

import testbed
from testbed import registry
from testbed.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.registry import Registry

USER, PASSWORD = "deploy", "mark3r-registry-5f1c"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
FOUND = f"grep -rlsE 'mark3r|{BASIC[:24]}' /home/deploy /root /tmp /run/user --exclude=.env --exclude=markers || true"


@pytest.fixture(scope="module", params=["bookworm"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """One host with an old engine, which builds, and one with a new one, which nobody else deploys to."""
    targets = [*testbed.up(1, request.param), *testbed.up(1, "forky")]
    testbed.reset(targets)
    keys = {"image": f"{registry.NAME}/team/app", "username": USER, "password": "REGISTRY_PASSWORD"}
    project = Project.create(tmp_path_factory.mktemp("project"), targets, {"settle": 0, "registry": keys})
    (project.folder / ".env.prod").open("a").write(f"REGISTRY_PASSWORD={PASSWORD}\n")
    return Stage(targets, project)


@pytest.fixture(scope="module")
def shelf(two: Stage) -> Iterator[Registry]:
    with registry.running(USER, PASSWORD, two.targets) as running:
        yield running


def names(stage: Stage) -> list[set[str]]:
    """Return every name that an image of the app or of the registry has, by host."""
    form = "'{{.Repository}}:{{.Tag}} {{.ID}}'"
    every = [testbed.shell(target, f"docker images --no-trunc --format {form}") for target in stage.targets]
    return [{line for line in each.splitlines() if line.startswith(("app:", registry.NAME))} for each in every]


def test_an_engine_that_does_not_trust_the_registry_says_what_mends_it(two: Stage, shelf: Registry) -> None:
    assert shelf.certificate
    said = two.inv("deploy")
    assert said.code == 1, said.text
    assert "x509: certificate signed by unknown authority" in said.text
    assert f"into /etc/docker/certs.d/{registry.NAME} here" in said.text
    assert "Undone on every host" in said.text


def test_an_image_is_pushed_once_and_pulled_and_no_secret_shows(
    two: Stage, shelf: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_secrets, "MARKERS", (*test_secrets.MARKERS, BASIC[:24]))
    shelf.trusted_by(two.targets)
    said, watch = watched(two, "deploy", "--verbose")
    assert said.code == 0, said.text
    assert_silent(said, watch)
    live = two.live()
    assert shelf.tags("team/app") == [live]
    one, other = names(two)
    assert one == other
    assert len(one) == 1, one  # under the app's own name, and no other
    for target in two.targets:
        assert testbed.shell(target, FOUND) == ""
        assert "login" not in testbed.shell(target, f"ls {test_secrets.BASE}").split()


def test_nobody_needs_the_registry_to_go_back(two: Stage, shelf: Registry) -> None:
    before = two.live()
    two.deploy()
    assert shelf.tags("team/app") == [before, two.live()]
    shelf.stop()
    said = two.inv("rollback")
    assert said.code == 0, said.text
    assert two.live() == before
