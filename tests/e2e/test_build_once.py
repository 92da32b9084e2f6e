"""One host builds, the other gets what it lacks: counted on the wire, on an old engine."""

from __future__ import annotations

import pytest
from stage import Stage

import testbed
from testbed.project import Project

LAYER = 12_000_000
"""Bytes of the layer that changes: noise, of which no packer makes fewer, and which nobody builds twice alike."""

BEFORE_THE_LAST = "USER app\n"
NOISE = f"RUN head -c {LAYER} /dev/urandom >/srv/noise\n"


@pytest.fixture(scope="module", params=["bookworm"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Two bare hosts, and a project each of whose commits makes a new layer of noise."""
    targets = testbed.up(2, request.param)
    testbed.reset(targets)
    project = Project.create(tmp_path_factory.mktemp("project"), targets, {"settle": 0})
    project.edit("Dockerfile", BEFORE_THE_LAST, NOISE + BEFORE_THE_LAST)
    return Stage(targets, project)


def arrived(target: testbed.Target) -> int:
    """Return the bytes that ever came to a host, from anybody."""
    return int(testbed.shell(target, "awk '$1 == \"eth0:\" { print $2 }' /proc/net/dev"))


def images(stage: Stage, target: testbed.Target) -> list[str]:
    return stage.docker(target, "images", "-q", "--no-trunc", "--filter", "reference=app")


def test_a_first_deploy_builds_on_one_host_and_both_have_its_image(two: Stage) -> None:
    two.commit()
    said = two.inv("deploy", "--json")
    assert said.code == 0, said.text
    done = [(event["title"], event["host"]) for event in said.events() if event["kind"] == "done"]
    assert [host for title, host in done if title == "build the image"] == two.hosts[:1]
    assert [host for title, host in done if title == "take the image"] == two.hosts[1:]
    (one,), (other,) = (images(two, target) for target in two.targets)
    assert one == other
    two.assert_whole()


def test_of_the_next_image_only_the_layers_that_changed_travel(two: Stage) -> None:
    before = arrived(two.targets[1])
    two.deploy()
    travelled = arrived(two.targets[1]) - before
    assert LAYER < travelled < 1.1 * LAYER, travelled
    assert images(two, two.targets[0]) == images(two, two.targets[1])
    two.assert_whole()
