"""A real registry between hosts of two kinds of engines: pushed once, pulled by digest, and not needed to go back."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import light
import pytest
import test_secrets
from test_secrets import assert_silent, watched

import testbed
from testbed import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from light import Light

    from testbed.registry import Registry

USER, PASSWORD = "deploy", "mark3r-registry-5f1c"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
FOUND = f"grep -rlsE 'mark3r|{BASIC[:24]}' /home/deploy /root /tmp --exclude=.env --exclude=markers || true"


@pytest.fixture(scope="module", params=["bookworm"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Light:
    """One host with an old engine, which builds, and one with a new one, which nobody else deploys to."""
    keys = {"image": f"{registry.NAME}/team/app", "username": USER, "password": "REGISTRY_PASSWORD"}
    folder = tmp_path_factory.mktemp("project")
    return light.stage(folder, (request.param, "forky"), {"registry": keys}, f"REGISTRY_PASSWORD={PASSWORD}\n")


@pytest.fixture(scope="module")
def shelf(two: Light) -> Iterator[Registry]:
    with registry.running(USER, PASSWORD, two.targets) as running:
        yield running


@pytest.mark.usefixtures("shelf")
def test_an_engine_that_does_not_trust_the_registry_says_what_mends_it(two: Light) -> None:
    said = two.inv("deploy")
    assert said.code == 1, said.text
    assert "x509: certificate signed by unknown authority" in said.text
    assert f"into /etc/docker/certs.d/{registry.NAME} here" in said.text
    assert "Undone on every host" in said.text


def test_an_image_is_pushed_once_and_pulled_and_no_secret_shows(
    two: Light, shelf: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_secrets, "MARKERS", (*test_secrets.MARKERS, BASIC[:24]))
    shelf.trusted_by(two.targets)
    said, watch = watched(two, "deploy", "--verbose")
    assert said.code == 0, said.text
    assert_silent(said, watch)
    live = two.live()
    assert shelf.tags("team/app") == [live]
    one, other = two.images()
    assert one == other
    assert [name.split(" ")[0] for name in one] == [f"{light.APP}:{live}"]  # and no name of the registry's
    for target in two.targets:
        assert testbed.shell(target, FOUND) == ""
        assert "login" not in testbed.shell(target, f"ls {light.BASE}").split()


def test_nobody_needs_the_registry_to_go_back(two: Light, shelf: Registry) -> None:
    before = two.live()
    two.deploy()
    assert shelf.tags("team/app") == [before, two.live()]
    shelf.stop()
    assert two.inv("rollback").code == 0, two.said.text
    assert two.live() == before
