"""This machine's own engine builds for hosts of two kinds of engines."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from stage import Stage

import testbed
from testbed.project import Project


@pytest.fixture(scope="module", params=["bookworm"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    if not (shutil.which("docker-compose") or not subprocess.call(("docker", "compose", "version"))):
        pytest.skip("there is no compose on this machine")
    targets = [*testbed.up(1, request.param), *testbed.up(1, "forky")]
    testbed.reset(targets)
    return Stage(targets, Project.create(tmp_path_factory.mktemp("project"), targets, {"settle": 0, "build": "local"}))


def images(*words: str) -> list[str]:
    done = subprocess.run(("docker", "images", *words, "app"), capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_hosts_get_what_was_built_here_and_nothing_else_stays(two: Stage) -> None:
    two.deploy("--json")
    assert not [event for event in two.log[-1].events() if event["kind"] == "step" and event["title"] == "tell_layers"]
    built = [e["host"] for e in two.log[-1].events() if e["kind"] == "done" and e["title"] == "build the image"]
    assert built == ["this machine"]
    (ident,) = images("-q", "--no-trunc")
    assert [two.docker(target, "images", "-q", "--no-trunc", "app") for target in two.targets] == [[ident]] * 2
    two.deploy("--json")
    (note,) = [e["text"] for e in two.log[-1].events() if "this machine sent" in e.get("text", "")]
    assert ": the image without 6 of its 8 layers" in note
    assert images("--format", "{{.Tag}}") == [two.live()]
    assert not list((two.project.folder.parent / "state" / "greenroom").glob("*.build"))


def test_a_machine_without_docker_says_so_and_asks_no_host(two: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    before = two.live()
    two.commit()
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    said = two.inv("deploy")
    assert said.code == 2, said.text
    assert "docker does not answer on this machine" in said.text
    assert two.live() == before


@pytest.fixture(autouse=True, scope="module")
def cleared(two: Stage) -> object:
    assert two
    yield
    for tag in images("--format", "{{.Tag}}"):
        subprocess.run(("docker", "image", "rm", f"app:{tag}"), capture_output=True, check=True)
