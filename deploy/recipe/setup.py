"""What a bare host lacks, and the steps that bring it. Their lines stand in host/setup.sh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.recipe import shell
from deploy.recipe.steps import Phase, Plan, Step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy.recipe.model import App
    from deploy.recipe.shell import Answer, Command

OF_DEBIAN = ("docker.io", "?docker-cli", "docker-compose-v2|docker-compose", "?docker-buildx", "iptables", "?apparmor")
"""Debian's and Ubuntu's names, which differ from release to release (packages.debian.org, packages.ubuntu.com)."""

OF_DOCKER = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin", "docker-compose-plugin")
"""Docker's own packages (docs.docker.com, Install Docker Engine)."""

REPOSITORIES = {"debian": "debian", "ubuntu": "ubuntu"}
RPM_REPOSITORIES = {
    "fedora": "fedora", "rhel": "rhel", "centos": "centos", "rocky": "centos", "almalinux": "centos", "ol": "centos",
}  # fmt: skip
"""Where docker's own packages lie for a distribution, by its ID in os-release."""

PACKAGE_OF = {"flock": "util-linux", "awk": "gawk", "find": "findutils", "tar": "tar", "gzip": "gzip"}
"""The package that brings a tool; coreutils brings what is not named."""


@dataclass(frozen=True)
class Ground:
    """A host before it is ready, as it answered `setup_survey`."""

    uid: str = ""
    os: str = ""
    like: tuple[str, ...] = ()
    codename: str = ""
    name: str = ""
    lacks: tuple[str, ...] = ()
    installed: bool = False
    docker: str = ""
    compose: str = ""
    podman: bool = False
    user: bool = False
    member: bool = False
    keys: bool = False
    keys_missing: bool = False
    base: bool = False
    firewalls: tuple[str, ...] = ()


def survey(user: str, app: App) -> Command:
    return shell.command("setup_survey", user, app.base)


def variables() -> tuple[tuple[str, str], ...]:
    return (("OS_RELEASE", "/etc/os-release"),)


def read(answers: Iterable[Answer]) -> Ground:
    known: dict[str, list[tuple[str, ...]]] = {}
    for answer in answers:
        known.setdefault(answer.key, []).append(answer.values)

    def one(key: str, part: int = 0) -> str:
        return known[key][0][part] if key in known else ""

    return Ground(
        uid=one("uid"),
        os=one("os"),
        like=tuple(one("os", 1).split()),
        codename=one("os", 2),
        name=one("os", 3),
        lacks=tuple(values[0] for values in known.get("lacks", ())),
        installed="docker" in known,
        docker=one("docker"),
        compose=one("compose"),
        podman="podman" in known,
        user="user" in known,
        member="member" in known,
        keys="keys" in known,
        keys_missing="keys_missing" in known,
        base="base" in known,
        firewalls=tuple(values[0] for values in known.get("firewall", ())),
    )


def plan(app: App, user: str, ground: Ground, *, of_docker: bool = False) -> Plan:
    """Decide what brings a host from what it is to one that can be deployed to, as `user`. Nothing, where it is one.

    `of_docker` takes docker's own packages where the distribution has some, too.
    """
    steps: list[Step] = []
    if not (ground.installed and ground.compose) or ground.lacks:
        steps += _packages(ground, of_docker=of_docker)
    if not ground.docker:
        steps.append(
            Step("start docker", "it runs, now and after each boot", shell.command("setup_engine"), deadline=120)
        )
    if user != "root":
        if not (ground.user and ground.member):
            because = "it may use docker, which is as much as root may" if ground.user else "deploys log in as it"
            steps.append(Step(f"make the user {user}"[:40], because, shell.command("setup_user", user)))
        if ground.keys_missing or not ground.user:
            because = "whoever logs in as you do now may deploy"
            steps.append(Step("let your keys log in", because, shell.command("setup_keys", user)))
        if not ground.base:
            steps.append(
                Step("make the app's directory", f"{app.base} is {user}'s", shell.command("setup_base", user, app.base))
            )
    return Plan(
        note=f"{ground.name or 'an unknown system'}, docker {ground.docker or 'not there'}, "
        f"{ground.compose or 'no compose'}",
        steps={Phase.PREPARE: tuple(steps)} if steps else {},
        refusals=_refusals(ground, of_docker=of_docker) if steps else (),
        variables=variables(),
    )


def _packages(ground: Ground, *, of_docker: bool) -> list[Step]:
    tools = sorted({PACKAGE_OF.get(tool, "coreutils") for tool in ground.lacks})
    engine = not (ground.installed and ground.compose)
    because = f"missing: {', '.join([*(['docker or compose'] if engine else []), *ground.lacks])}"
    if not _is_debian(ground):
        words = shell.command("setup_dnf", RPM_REPOSITORIES.get(ground.os, ""), *(OF_DOCKER if engine else ()), *tools)
        return [Step("install packages of docker's own", because, words, deadline=1800)]
    if of_docker and engine:
        source = shell.command("setup_apt_source", ground.os, ground.codename)
        return [
            Step("add docker's own repository", "you asked for its packages", source, deadline=600),
            Step("install packages", because, shell.command("setup_apt", *OF_DOCKER, *tools), deadline=1800),
        ]
    words = shell.command("setup_apt", *(OF_DEBIAN if engine else ()), *tools)
    return [Step("install packages", because, words, deadline=1800)]


def _is_debian(ground: Ground) -> bool:
    return bool({"debian", "ubuntu"} & {ground.os, *ground.like})


def _refusals(ground: Ground, *, of_docker: bool) -> tuple[str, ...]:
    reasons = []
    if ground.uid != "0":
        reasons.append("only root can do this: say --login=root, or a login that may sudo without a password")
    if ground.podman:
        reasons.append("docker is podman here: remove podman-docker first, the two do not go together")
    if not _is_debian(ground) and ground.os not in RPM_REPOSITORIES:
        reasons.append(f"{ground.name or 'this system'} is not known: install docker and compose by hand")
    if of_docker and _is_debian(ground) and ground.os not in REPOSITORIES:
        reasons.append(f"docker has no packages for {ground.name}: leave --docker-packages out")
    return tuple(reasons)


def lacking(user: str, ground: Ground) -> tuple[str, ...]:
    """Say what a host still lacks after all steps; empty when it is ready."""
    found = [f"{tool} is not installed" for tool in ground.lacks]
    found += ["docker does not answer"] if not ground.docker else []
    found += ["there is no compose"] if not ground.compose else []
    if user != "root" and not ground.member:
        found.append(f"{user} may not use docker")
    return tuple(found)


def hints(user: str, ground: Ground, ports: Iterable[str]) -> tuple[str, ...]:
    """Say what is the operator's own to do: nothing here touches a firewall."""
    doors = " and ".join(ports)
    found = []
    if user != "root" and not ground.keys:
        found.append(f"nobody can log in as {user} yet: put a key into its ~/.ssh/authorized_keys")
    if "ufw" in ground.firewalls:
        found.append(
            f"ufw is active: keep ssh allowed. Ports that docker publishes go past it: {doors} is open whatever it says"
        )
    if "firewalld" in ground.firewalls:
        found.append(f"firewalld is active: keep ssh allowed. Docker opens what it publishes by itself: {doors}")
    if not ground.firewalls:
        found.append(f"no firewall is active here: let your provider's pass ssh and {doors}, and nothing else")
    return tuple(found)
