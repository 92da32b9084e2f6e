"""Words for the operator's own machine: what its docker is, a build for the hosts, and what goes afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig import of_stack

from deploy.recipe import image, shell

if TYPE_CHECKING:
    from rig import Rig

VERSION = "version --format {{.Server.Version}} {{.Server.Arch}}"
ARCH = "version --format {{.Server.Arch}}"
BUILD = shell.command("here_build", "arm64", "blue", "colour.yml", "web")
COMPOSE = "compose -p app-blue --project-directory . --env-file releases/r1/.env -f releases/r1/colour.yml build web"


def test_a_machine_tells_its_engine_and_what_its_builder_can(rig: Rig) -> None:
    rig.docker(VERSION, "28.5 amd64\n")
    rig.docker("compose version")
    rig.docker("buildx inspect", "Name: default\nDriver: docker\nPlatforms: linux/amd64*, linux/arm64\n")
    outcome = rig.look(image.look_here())
    assert outcome.finished
    assert {a.key: a.values[0] for a in outcome.answers} == {
        "docker": "28.5",
        "architecture": "amd64",
        "compose": "docker compose",
        "builds": "linux/amd64*, linux/arm64, ",
    }


def test_an_engine_that_does_not_answer_says_why(rig: Rig) -> None:
    rig.docker(VERSION, does="echo 'Cannot connect to the Docker daemon' >&2", status=1)
    assert rig.look(image.look_here()).one("no_docker") == "Cannot connect to the Docker daemon"


@pytest.mark.parametrize(("engine", "platform"), [("amd64", "linux/arm64"), ("arm64", "")])
def test_a_build_says_the_platform_only_where_it_is_not_the_engine_s_own(rig: Rig, engine: str, platform: str) -> None:
    rig.release()
    rig.docker(ARCH, f"{engine}\n")
    rig.docker("image inspect app:r1", status=[1, 0])
    rig.docker(COMPOSE, does='echo "${DOCKER_DEFAULT_PLATFORM-}" >"$HOME/platform"')
    rig.docker("image inspect -f {{.Architecture}} app:r1", "arm64\n")
    assert rig.run(BUILD).finished
    assert (rig.home / "platform").read_text() == f"{platform}\n"


def test_an_image_for_another_architecture_is_none(rig: Rig) -> None:
    rig.docker(ARCH, "amd64\n")
    rig.docker("image inspect app:r1")
    rig.docker("image inspect -f {{.Architecture}} app:r1", "amd64\n")
    outcome = rig.run(BUILD)
    assert outcome.ends == {0: 1}
    assert "the build made an image for amd64, and the hosts are arm64" in outcome.text


def stacks(rig: Rig, blue: str = "") -> None:
    rig.docker(of_stack("blue"), blue)
    rig.docker(of_stack("green"))


def test_only_images_of_earlier_releases_go(rig: Rig) -> None:
    stacks(rig)
    tags = ("r1", "latest", "20261123-011943-ef8442b", "20261123-011943", "20261123", "dev-20261123-011943")
    rig.docker("images --format {{.Tag}} app", "\n".join(tags) + "\n")
    rig.docker("image rm app:*")
    assert rig.run(image.forget_here().command).finished
    gone = [each.removeprefix("docker image rm app:") for each in rig.said if "image rm" in each]
    assert gone == ["20261123-011943-ef8442b", "20261123-011943"]


@pytest.mark.parametrize("question", [of_stack("blue"), of_stack("green"), "images *"])
def test_no_image_goes_where_docker_does_not_say_what_is_there(rig: Rig, question: str) -> None:
    stacks(rig)
    rig.docker("images --format {{.Tag}} app", "20261123-011943\n")
    rig.docker(question, does="echo 'no answer' >&2", status=1)
    outcome = rig.run(image.forget_here().command)
    assert outcome.finished
    assert outcome.lines == ["no answer"]
    assert "nothing is forgotten" in outcome.one("found")
    assert not [each for each in rig.said if "image rm" in each]


def test_where_the_app_itself_runs_every_image_stays(rig: Rig) -> None:
    stacks(rig, "c1\n")
    assert rig.run(image.forget_here().command).finished
    assert not [each for each in rig.said if "image" in each]
