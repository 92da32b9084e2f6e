"""What a bare host lacks, by what it answers, and what brings it there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.recipe import setup
from deploy.recipe.model import App, Host
from deploy.recipe.setup import Ground
from deploy.recipe.shell import Answer
from deploy.recipe.steps import Phase

APP = App("app", "prod", (Host("web1", "deploy"),))
DEBIAN = Ground(uid="0", os="debian", codename="trixie", name="Debian GNU/Linux 13 (trixie)")
UBUNTU = replace(DEBIAN, os="ubuntu", like=("debian",), codename="noble", name="Ubuntu 24.04 LTS")
ROCKY = Ground(uid="0", os="rocky", like=("rhel", "centos", "fedora"), name="Rocky Linux 9.5", lacks=("tar",))
READY = replace(
    DEBIAN, installed=True, docker="26.1.5", compose="docker compose", user=True, member=True, keys=True, base=True
)


def steps(ground: Ground, user: str = "deploy", *, of_docker: bool = False) -> list[str]:
    planned = setup.plan(APP, user, ground, of_docker=of_docker)
    assert planned.refusals == ()
    return [str(step.command) for step in planned.of(Phase.PREPARE)]


USER = ["setup_user deploy", "setup_keys deploy", "setup_base deploy greenroom/app"]
DISTRIBUTIONS = "docker.io '?docker-cli' 'docker-compose-v2|docker-compose' '?docker-buildx' iptables '?apparmor'"
OWN = "docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin"


@pytest.mark.parametrize("ground", [DEBIAN, UBUNTU, replace(UBUNTU, os="linuxmint", like=("ubuntu", "debian"))])
def test_debian_and_its_kin_get_the_distributions_packages(ground: Ground) -> None:
    assert steps(ground) == [f"setup_apt {DISTRIBUTIONS}", "setup_engine", *USER]


@pytest.mark.parametrize(("ground", "where"), [(DEBIAN, "debian trixie"), (UBUNTU, "ubuntu noble")])
def test_docker_s_own_packages_come_when_they_are_asked_for(ground: Ground, where: str) -> None:
    assert steps(ground, of_docker=True)[:2] == [f"setup_apt_source {where}", f"setup_apt {OWN}"]


@pytest.mark.parametrize(
    ("os", "repository"),
    [("rocky", "centos"), ("almalinux", "centos"), ("centos", "centos"), ("rhel", "rhel"), ("fedora", "fedora")],
)
def test_rhel_and_its_kin_get_docker_s_own(os: str, repository: str) -> None:
    assert steps(replace(ROCKY, os=os)) == [f"setup_dnf {repository} {OWN} tar", "setup_engine", *USER]


def test_a_host_that_is_ready_is_left_alone() -> None:
    planned = setup.plan(APP, "deploy", READY)
    assert (planned.steps, planned.refusals) == ({}, ())
    assert planned.note == "Debian GNU/Linux 13 (trixie), docker 26.1.5, docker compose"


def test_a_host_that_is_ready_needs_no_root_to_be_told_so() -> None:
    assert setup.plan(APP, "deploy", replace(READY, uid="1000")).refusals == ()


@pytest.mark.parametrize(
    ("ground", "does"),
    [
        (replace(READY, compose=""), [f"setup_apt {DISTRIBUTIONS}"]),
        (replace(READY, lacks=("flock", "awk")), ["setup_apt gawk util-linux"]),
        (replace(READY, docker=""), ["setup_engine"]),
        (replace(READY, member=False), ["setup_user deploy"]),
        (replace(READY, keys_missing=True), ["setup_keys deploy"]),
        (replace(READY, base=False), ["setup_base deploy greenroom/app"]),
    ],
)
def test_only_what_lacks_is_brought(ground: Ground, does: list[str]) -> None:
    assert steps(ground) == does


def test_root_needs_nobody_made() -> None:
    assert steps(DEBIAN, "root") == [f"setup_apt {DISTRIBUTIONS}", "setup_engine"]


@pytest.mark.parametrize(
    ("ground", "of_docker", "why"),
    [
        (replace(DEBIAN, uid="1000"), False, "only root can do this: say --login=root"),
        (replace(ROCKY, podman=True, installed=True), False, "docker is podman here"),
        (Ground(uid="0", os="opensuse-leap", name="openSUSE Leap 15.6"), False, "openSUSE Leap 15.6 is not known"),
        (Ground(uid="0"), False, "this system is not known"),
        (replace(UBUNTU, os="linuxmint", like=("ubuntu",), name="Mint 22"), True, "docker has no packages for Mint 22"),
    ],
)
def test_what_cannot_be_made_ready_is_refused_with_a_reason(ground: Ground, of_docker: bool, why: str) -> None:
    (reason,) = setup.plan(APP, "deploy", ground, of_docker=of_docker).refusals
    assert reason.startswith(why)


def test_a_survey_is_read() -> None:
    told = [
        ("uid", "0"), ("os", "ubuntu", "debian", "noble", "Ubuntu 24.04"), ("lacks", "flock"), ("docker", "26.1.5"),
        ("compose", "docker compose"), ("user", "deploy"), ("member",), ("keys",), ("base",), ("firewall", "ufw"),
    ]  # fmt: skip
    found = setup.read([Answer(key, tuple(values)) for key, *values in told])
    assert found == replace(
        READY,
        os="ubuntu",
        like=("debian",),
        codename="noble",
        name="Ubuntu 24.04",
        lacks=("flock",),
        firewalls=("ufw",),
    )
    assert setup.read([Answer("uid", ("0",)), Answer("docker", ("",))]) == Ground(uid="0", installed=True)


def test_what_still_lacks_is_said() -> None:
    assert setup.lacking("deploy", READY) == ()
    assert setup.lacking("deploy", replace(READY, docker="", member=False)) == (
        "docker does not answer",
        "deploy may not use docker",
    )


@pytest.mark.parametrize(
    ("ground", "hint"),
    [
        (READY, "no firewall is active here: let your provider's pass ssh and port 80"),
        (replace(READY, firewalls=("ufw",)), "ufw is active: keep ssh allowed. Ports that docker publishes go past it"),
        (replace(READY, firewalls=("firewalld",)), "firewalld is active: keep ssh allowed. Docker opens"),
        (replace(READY, keys=False, firewalls=("ufw",)), "nobody can log in as deploy yet"),
    ],
)
def test_hints_say_what_is_left_to_the_operator(ground: Ground, hint: str) -> None:
    assert setup.hints("deploy", ground, ["port 80"])[0].startswith(hint)
