"""An image goes through a registry: pushed once, pulled by digest, with a login that is nowhere else."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from deploy import operate
from deploy.errors import ConfigError, Failed
from deploy.flow import Options
from deploy.run import Batching

PASSWORD = "mark3r-of-registry"  # noqa: S105  # it is looked for


@pytest.fixture
def operator(operator_of: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    return with_registry(operator_of(3), monkeypatch)


def with_registry(operator: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("REGISTRY_PASSWORD", PASSWORD)
    operator.data["registry"] = {
        "image": "registry.example.com/team/app",
        "username": "deploy",
        "password": "REGISTRY_PASSWORD",
    }
    return operator


def did(operator: Any, *words: str) -> list[tuple[str, str]]:
    return [(host, command.words[0]) for host, command in operator.world.log if command.words[0] in words]


def test_one_host_pushes_and_the_others_pull(operator: Any) -> None:
    operator.deploy()
    assert sorted(did(operator, "build", "push_image", "pull_image", "send_image", "tell_layers")) == [
        ("web1", "build"),
        ("web1", "push_image"),
        ("web2", "pull_image"),
        ("web3", "pull_image"),
    ]
    (release,) = set(operator.live())
    assert operator.world.tags == [f"registry.example.com/team/app:{release}"]
    operator.assert_whole()


def test_the_login_goes_to_each_host_as_content_and_shows_nowhere(operator: Any) -> None:
    operator.deploy()
    for box in operator.world.boxes.values():
        (login,) = box.logins
        assert list(json.loads(login)["auths"]) == ["registry.example.com"]
    assert PASSWORD not in operator.text
    assert not [command for _, command in operator.world.log if PASSWORD in str(command)]


def test_without_a_login_the_hosts_own_counts(operator: Any) -> None:
    operator.data["registry"] = {"image": "team/app"}
    operator.deploy()
    assert [box.logins for box in operator.world.boxes.values()] == [[b""]] * 3


def test_one_host_alone_pushes_too(operator_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = with_registry(operator_of(1), monkeypatch)
    operator.deploy()
    assert did(operator, "push_image", "pull_image") == [("web1", "push_image")]


def test_each_architecture_has_a_tag_of_its_own(operator: Any) -> None:
    list(operator.world.boxes.values())[1].architecture = "arm64"
    operator.deploy()
    (release,) = set(operator.live())
    assert sorted(operator.world.tags) == [f"registry.example.com/team/app:{release}-{a}" for a in ("amd64", "arm64")]


def test_a_password_that_is_not_set_refuses_a_deploy_and_no_rollback(
    operator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.deploy()
    before = set(operator.live())
    operator.write("2")
    operator.deploy()
    monkeypatch.delenv("REGISTRY_PASSWORD")
    said = len(operator.world.log)
    operator.write("3")
    with pytest.raises(ConfigError, match=r"neither .* sets the variable that it names"):
        operator.deploy()
    assert len(operator.world.log) == said
    operator.rollback()
    assert set(operator.live()) == before


@pytest.mark.parametrize("word", ["push_image", "pull_image"])
def test_a_registry_that_says_no_undoes_the_deploy(operator: Any, word: str) -> None:
    operator.deploy()
    before = set(operator.live())
    for box in operator.world.boxes.values():
        box.refuse[word] = 1
    operator.write("2")
    with pytest.raises(Failed, match=word.replace("_", " the ")):
        operator.deploy()
    assert set(operator.live()) == before
    operator.deploy()
    operator.assert_whole()


def test_a_host_that_got_another_image_undoes_the_deploy(operator: Any) -> None:
    operator.world.boxes[operator.setup().hosts[2]].gets_another = True
    with pytest.raises(Failed, match="web3: pull the image: what came is another image than the one on web1"):
        operator.deploy()
    assert set(operator.live()) == {""}


def test_later_batches_pull_what_the_first_one_pushed(operator: Any) -> None:
    operator.deploy(batching=Batching(1))
    assert did(operator, "push_image", "pull_image") == [
        ("web1", "push_image"),
        ("web2", "pull_image"),
        ("web3", "pull_image"),
    ]
    operator.assert_whole()


@pytest.mark.long
@pytest.mark.parametrize("away", [0, 2])
def test_a_link_that_is_lost_on_the_way_is_mended(operator_of: Any, monkeypatch: pytest.MonkeyPatch, away: int) -> None:
    for cut in itertools.count(12):
        operator = with_registry(operator_of(3), monkeypatch)
        operator.world.cuts = {cut}
        list(operator.world.boxes.values())[away].away = 1
        try:
            operator.deploy()
        except Failed:
            assert operator.world.writes()[cut - 1] == "migrate"
            break
        operator.assert_whole()
    assert cut > 20


def test_an_env_push_needs_no_registry(operator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    operator.deploy()
    before = set(operator.live())
    monkeypatch.delenv("REGISTRY_PASSWORD")
    (operator.folder / ".env.prod").write_text("DJANGO_SECRET_KEY=another-marker\n")
    operator.does(operate.push_env, Options())
    assert set(operator.live()) != before
    assert len(operator.world.tags) == 1
    operator.assert_whole()
