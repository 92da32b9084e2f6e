"""The operator's own machine builds, and every host gets what it lacks."""

from __future__ import annotations

from typing import Any

import pytest
from world import WorldHere

from deploy import here
from deploy.errors import Failed, HostFailures, NeedsHuman, Refused, Unfit
from deploy.run import Batching


@pytest.fixture
def operator(operator_of: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    operator = operator_of(3)
    operator.data["build"] = "local"
    monkeypatch.setenv("XDG_STATE_HOME", str(operator.folder.parent / "state"))
    monkeypatch.setattr(here, "Here", lambda: WorldHere(operator.world))
    return operator


def did(operator: Any, *words: str) -> list[tuple[str, str]]:
    return [(host, command.words[0]) for host, command in operator.world.log if command.words[0] in words]


def test_this_machine_builds_and_one_read_serves_every_host(operator: Any) -> None:
    operator.deploy()
    assert sorted(did(operator, "build", "here_build", "send_image", "take_image")) == [
        ("this machine", "here_build"),
        ("this machine", "send_image"),
        ("web1", "take_image"),
        ("web2", "take_image"),
        ("web3", "take_image"),
    ]
    operator.assert_whole()


def test_it_is_given_the_source_and_the_release_and_no_nginx_conf(operator: Any) -> None:
    operator.deploy()
    (release,) = set(operator.live())
    assert operator.world.here.source
    assert set(operator.world.here.files[release]) >= {"colour.yml", ".env"}
    assert not operator.world.here.confs
    assert not operator.world.here.history


def test_what_hosts_have_does_not_travel_and_what_was_built_before_goes(operator: Any) -> None:
    operator.deploy()
    operator.write("2")
    operator.deploy()
    (release,) = set(operator.live())
    assert operator.world.here.sent == [(), (0, 1)]
    assert operator.world.here.images == {f"app:{release}"}
    operator.assert_whole()


def test_a_build_that_fails_undoes_the_deploy(operator: Any) -> None:
    operator.deploy()
    before = set(operator.live())
    operator.world.here.refuse["here_build"] = 1
    operator.write("2")
    with pytest.raises(Failed, match="this machine: build the image: failed"):
        operator.deploy()
    assert set(operator.live()) == before
    operator.assert_whole()


def test_a_machine_without_docker_refuses_before_any_host_is_asked(operator: Any) -> None:
    operator.world.here.lacks = ("docker",)
    with pytest.raises(Refused, match=r"deploy\.build: local: there is no docker on this machine"):
        operator.deploy()
    assert {host for host, _ in operator.world.log} == {"this machine"}


def test_hosts_that_it_cannot_build_for_refuse_the_deploy(operator: Any) -> None:
    for box in operator.world.boxes.values():
        box.architecture = "arm64"
    with pytest.raises(Refused, match=r"web3 is arm64, and this machine builds for 386, amd64"):
        operator.deploy()
    assert operator.world.writes() == []


@pytest.mark.parametrize("down", [("web2",), ("web1", "web2", "web3")], ids=" ".join)
@pytest.mark.parametrize("verb", ["deploy", "stage"])
def test_a_host_without_docker_is_told_of_as_that(operator: Any, verb: str, down: tuple[str, ...]) -> None:
    for host, box in operator.world.boxes.items():
        box.no_docker = "Cannot connect to the Docker daemon" if str(host) in down else ""
    with pytest.raises(HostFailures) as caught:
        getattr(operator, verb)()
    assert tuple(caught.value.failures) == down
    assert "docker does not answer: Cannot connect" in str(caught.value)
    assert operator.world.writes() == []
    operator.plan()
    assert f"{down[-1]}: stops the deploy: docker does not answer: Cannot connect" in operator.text


def test_check_says_what_this_machine_lacks(operator: Any) -> None:
    operator.world.here.lacks = ("docker",)
    with pytest.raises(Unfit, match="1 would stop a deploy"):
        operator.check()
    assert "there is no docker on this machine" in operator.text


def test_batches_share_what_was_built(operator: Any) -> None:
    operator.deploy(batching=Batching(1))
    assert [host for host, _ in did(operator, "take_image")] == ["web1", "web2", "web3"]
    operator.assert_whole()


def test_a_plan_tells_what_this_machine_does_and_does_nothing(operator: Any) -> None:
    operator.plan()
    assert "this machine builds the image; only what is missing here is sent" in operator.text
    assert "it goes to web1, web2, web3" in operator.text
    assert operator.world.writes() == []


def test_what_it_builds_may_go_through_a_registry(operator: Any) -> None:
    operator.data["registry"] = {"image": "registry.example.com/team/app"}
    operator.deploy()
    assert sorted(did(operator, "push_image", "pull_image", "take_image")) == [
        ("this machine", "push_image"),
        ("web1", "pull_image"),
        ("web2", "pull_image"),
        ("web3", "pull_image"),
    ]
    operator.assert_whole()


def test_a_stage_that_is_broken_off_at_its_very_end_is_not_said_to_be_live(operator: Any) -> None:
    operator.deploy()
    before = operator.live()
    operator.write("2")
    operator.world.here.refuse["here_forget"] = 1
    with pytest.raises(NeedsHuman, match=r"is staged on web1, web2, web3; .*\nto clear it: inv stage --force"):
        operator.stage()
    assert operator.live() == before
    operator.stage(force=True)
    operator.promote()
    operator.assert_whole()
