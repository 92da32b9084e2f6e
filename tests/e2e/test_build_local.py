"""This machine's own engine builds for hosts of two kinds of engines."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import light
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from light import Light


@pytest.fixture(scope="module", params=["bookworm"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Light]:
    if not shutil.which("docker-compose") and subprocess.call(("docker", "compose", "version")):
        pytest.skip("there is no compose on this machine")
    yield light.stage(tmp_path_factory.mktemp("project"), (request.param, "forky"), {"build": "local"})
    for tag in built_here("{{.Tag}}"):
        subprocess.run(("docker", "image", "rm", f"{light.APP}:{tag}"), capture_output=True, check=True)


def built_here(form: str) -> list[str]:
    words = ("docker", "images", "--no-trunc", "--format", form, light.APP)
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def test_hosts_get_what_was_built_here_and_nothing_else_stays(two: Light) -> None:
    two.deploy("--json")
    done = [each for each in two.said.events() if each["kind"] == "done"]
    built = [each["host"] for each in done if each["title"] == "build the image"]
    assert built == ["this machine"]
    (ident,) = built_here("{{.ID}}")
    assert two.images() == [{f"{light.APP}:{two.live()} {ident}"}] * 2
    two.deploy("--json")
    notes = [each["text"] for each in two.said.events() if "this machine sent" in each.get("text", "")]
    assert [": the image without " in note for note in notes] == [True]
    assert built_here("{{.Tag}}") == [two.live()]
    assert not list((two.project.folder.parent / "state" / "greenroom").glob("*.build"))


def test_a_machine_whose_docker_is_away_says_so_and_touches_no_host(
    two: Light, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = two.live()
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    said = two.inv("deploy", "--force")
    assert said.code == 2, said.text
    assert "docker does not answer on this machine" in said.text
    assert two.live() == before
