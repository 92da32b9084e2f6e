"""The words of `inv setup`, with stand-ins for apt, dnf, systemd and the programs that make users."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy.recipe import setup, shell
from deploy.recipe.model import App
from deploy.recipe.setup import Ground

if TYPE_CHECKING:
    from rig import Outcome, Rig

APP = App("app", "prod", ())
KEY = "ssh-ed25519 AAAA ann"
UBUNTU = 'ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n'
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_CODENAME=trixie\n'
ROCKY = 'ID="rocky"\nID_LIKE="rhel centos fedora"\nPRETTY_NAME="Rocky Linux 9.5 (Blue Onyx)"\n'


IN_ENGLISH = '[ "${LC_ALL-}" = C ]'
"""A host may speak German: what its programs ask before they say anything in English."""


@pytest.fixture
def bare(rig: Rig) -> Rig:
    """A host with what every distribution has, and root on it."""
    for name in ("grep", "wc", "install", "chmod"):
        rig.program(name, f'exec {shutil.which(name)} "$@"')
    rig.announce("id", "-u", "0\n")
    rig.announce("id", "deploy", status=1)
    rig.announce("systemctl", "is-active --quiet firewalld", status=3)
    return rig


def has_user(rig: Rig, *groups: str) -> Path:
    """Let there be a user `deploy`, who is whoever runs the test; return the home."""
    home = rig.home.parent / "deploy"
    home.mkdir()
    rig.announce("id", "deploy", "uid=1000(deploy)\n")
    rig.announce("id", "-gn deploy", f"{Path.home().group()}\n")
    rig.announce("id", "-Gn deploy", " ".join(("deploy", *groups)) + "\n")
    rig.announce("getent", "passwd deploy", f"deploy:x:1000:1000::{home}:/bin/bash\n")
    return home


def survey(rig: Rig, release: str, user: str = "deploy") -> Ground:
    path = rig.home / "os-release"
    path.write_text(release)
    outcome = rig.look(setup.survey(user, APP), OS_RELEASE=str(path))
    assert outcome.finished, outcome.text
    return setup.read(outcome.answers)


@pytest.mark.parametrize(
    ("release", "os", "like", "codename", "name"),
    [
        (UBUNTU, "ubuntu", ("debian",), "noble", "Ubuntu 24.04.1 LTS"),
        (DEBIAN, "debian", (), "trixie", "Debian GNU/Linux 13 (trixie)"),
        (ROCKY, "rocky", ("rhel", "centos", "fedora"), "", "Rocky Linux 9.5 (Blue Onyx)"),
    ],
)
def test_a_bare_host_says_what_it_is(
    bare: Rig, release: str, os: str, like: tuple[str, ...], codename: str, name: str
) -> None:
    assert survey(bare, release) == Ground(uid="0", os=os, like=like, codename=codename, name=name)


def test_a_host_without_os_release_is_unknown(bare: Rig) -> None:
    outcome = bare.look(setup.survey("deploy", APP), OS_RELEASE="/nowhere")
    assert setup.read(outcome.answers) == Ground(uid="0")


def test_a_survey_tells_of_the_engine_and_the_firewalls(bare: Rig) -> None:
    bare.docker("--version", "Docker version 26.1.5\n")
    bare.docker("version --format {{.Server.Version}}", "26.1.5\n")
    bare.docker("compose version", "Docker Compose version 2.26.1\n")
    bare.announce("ufw", "status", "Status: active\n\nTo  Action  From\n", does=f"{IN_ENGLISH} || exit 0")
    bare.announce("systemctl", "is-active --quiet firewalld")
    found = survey(bare, DEBIAN)
    assert (found.installed, found.docker, found.compose, found.podman) == (True, "26.1.5", "docker compose", False)
    assert found.firewalls == ("ufw", "firewalld")


def test_an_engine_that_does_not_run_and_one_that_is_none_are_told_apart(bare: Rig) -> None:
    bare.docker("--version", "podman version 4.9.4\n")
    bare.docker("version *", status=1)
    bare.docker("compose version", status=1)
    found = survey(bare, ROCKY)
    assert (found.installed, found.docker, found.compose, found.podman) == (True, "", "", True)


def test_a_survey_sees_what_the_user_has_already(bare: Rig) -> None:
    home = has_user(bare, "docker")
    found = survey(bare, DEBIAN)
    assert (found.user, found.member, found.keys, found.keys_missing, found.base) == (True, True, False, False, False)
    (bare.home / ".ssh").mkdir()
    (bare.home / ".ssh" / "authorized_keys").write_text(f"{KEY}\n")
    assert survey(bare, DEBIAN).keys_missing
    (home / ".ssh").mkdir()
    (home / ".ssh" / "authorized_keys").write_text(f"{KEY}\n")
    found = survey(bare, DEBIAN)
    assert (found.keys, found.keys_missing) == (True, False)


def test_whose_the_apps_directory_is_counts(bare: Rig) -> None:
    home = has_user(bare)
    (home / "greenroom" / "app").mkdir(parents=True)
    bare.program("find", f'[ "$*" = "{home}/greenroom/app -prune -user deploy" ] && echo "$1"')
    assert survey(bare, DEBIAN).base
    bare.program("find", "exit 0")
    assert not survey(bare, DEBIAN).base


# --- packages --------------------------------------------------------------------------------------------------


def repository(rig: Rig, *names: str) -> None:
    """Let apt know these packages, and no other."""
    arms = "".join(f"{name}) echo '  Candidate: 1.0' ;;\n" for name in names)
    rig.program("apt-cache", f'{IN_ENGLISH} || exit 0\ncase $2 in\n{arms}*) echo "  Candidate: (none)" ;;\nesac')
    rig.announce("apt-get", "-o DPkg::Lock::Timeout=120 -q update")
    rig.announce("apt-get", "-o DPkg::Lock::Timeout=120 -q install -y --no-install-recommends *")


def installed(rig: Rig, *words: str) -> list[str]:
    outcome = rig.look(shell.command(*words))
    assert outcome.ends[0] == 0, outcome.text
    prefix = "apt-get -o DPkg::Lock::Timeout=120 -q install -y --no-install-recommends "
    (line,) = [call for call in rig.said if call.startswith(prefix)]
    return line.removeprefix(prefix).split()


@pytest.mark.parametrize(
    ("has", "gets"),
    [
        (("docker.io", "docker-compose", "iptables"), "docker.io docker-compose iptables"),
        (
            ("docker.io", "docker-cli", "docker-compose", "docker-buildx", "iptables", "apparmor"),
            "docker.io docker-cli docker-compose docker-buildx iptables apparmor",
        ),
        (
            ("docker.io", "docker-compose-v2", "docker-compose", "docker-buildx", "iptables"),
            "docker.io docker-compose-v2 docker-buildx iptables",
        ),
    ],
    ids=["bookworm", "trixie", "noble"],
)
def test_apt_gets_what_the_release_calls_it(bare: Rig, has: tuple[str, ...], gets: str) -> None:
    repository(bare, *has)
    assert installed(bare, "setup_apt", *setup.OF_DEBIAN) == gets.split()


def test_apt_without_a_compose_is_told_so_and_installs_nothing(bare: Rig) -> None:
    repository(bare, "docker.io", "iptables")
    outcome = bare.look(shell.command("setup_apt", *setup.OF_DEBIAN))
    assert outcome.ends[0] == 1
    assert outcome.lines == ["this distribution has no package docker-compose-v2|docker-compose"]
    assert not [call for call in bare.said if " install " in call]


def test_apt_that_cannot_update_is_the_end_of_it(bare: Rig) -> None:
    bare.announce("apt-get", "-o DPkg::Lock::Timeout=120 -q update", "E: no network\n", status=100)
    outcome = bare.look(shell.command("setup_apt", "docker.io"))
    assert (outcome.ends[0], outcome.lines) == (100, ["E: no network"])


@pytest.mark.parametrize("tool", ["dnf", "yum"])
def test_rhel_like_hosts_get_docker_s_own_repository_and_packages(bare: Rig, tool: str) -> None:
    bare.announce(
        "curl", "-fsSL https://download.docker.com/linux/centos/docker-ce.repo -o /etc/yum.repos.d/docker-ce.repo"
    )
    bare.announce(tool, "-y install docker-ce tar")
    outcome = bare.look(shell.command("setup_dnf", "centos", "docker-ce", "tar"))
    assert outcome.ends[0] == 0, outcome.text
    assert bare.said[-1] == f"{tool} -y install docker-ce tar"


def test_a_repository_that_cannot_be_reached_is_the_end_of_it(bare: Rig) -> None:
    bare.announce("curl", "*", "curl: (6) Could not resolve host\n", status=6)
    bare.program("dnf", "exit 99")
    assert bare.look(shell.command("setup_dnf", "centos", "docker-ce")).ends[0] == 6


# --- the engine ------------------------------------------------------------------------------------------------


def start_engine(rig: Rig) -> Outcome:
    rig.short_sleeps()
    return rig.look(shell.command("setup_engine"))


def test_docker_is_started_and_waited_for(bare: Rig) -> None:
    systemd = Path("/run/systemd/system").is_dir()
    bare.docker("version", status=[1, 1, 0])
    bare.announce(*(("systemctl", "enable --now docker") if systemd else ("service", "docker start")))
    assert start_engine(bare).ends[0] == 0
    assert len([call for call in bare.said if call == "docker version"]) == 3


def test_docker_that_never_answers_is_said_with_its_words(bare: Rig) -> None:
    bare.fast_clock()
    bare.docker("version", "Cannot connect to the Docker daemon\n", status=1)
    bare.program("systemctl", "exit 0")
    bare.program("service", "exit 0")
    outcome = start_engine(bare)
    assert (outcome.ends[0], outcome.lines) == (1, ["docker does not answer: Cannot connect to the Docker daemon"])


# --- the user --------------------------------------------------------------------------------------------------


def test_a_user_is_made_once_and_may_use_docker(bare: Rig) -> None:
    bare.announce("useradd", "--create-home --shell /bin/bash deploy")
    bare.announce("usermod", "-aG docker deploy")
    assert bare.look(shell.command("setup_user", "deploy")).ends[0] == 0
    has_user(bare)
    assert bare.look(shell.command("setup_user", "deploy")).ends[0] == 0
    assert [call.split()[0] for call in bare.said if not call.startswith("id")] == ["useradd", "usermod", "usermod"]


def test_keys_that_may_log_in_are_let_in_once_and_none_is_lost(bare: Rig) -> None:
    home = has_user(bare)
    bare.program("install", f'exec {shutil.which("install")} -d -m "$3" "$8"')
    bare.announce("chown", "deploy:*")
    (home / ".ssh").mkdir()
    (home / ".ssh" / "authorized_keys").write_text("ssh-ed25519 BBBB bob")
    (bare.home / ".ssh").mkdir()
    keys = f'# mine\n\ncommand="echo no" ssh-ed25519 CCCC x\nno-pty,command="x" ssh-rsa D d\n{KEY}\n'
    (bare.home / ".ssh" / "authorized_keys").write_text(keys)
    for _ in range(2):
        assert bare.look(shell.command("setup_keys", "deploy")).ends[0] == 0
    file = home / ".ssh" / "authorized_keys"
    assert file.read_text() == f"ssh-ed25519 BBBB bob\n{KEY}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_login_without_keys_of_its_own_leaves_no_broken_file(bare: Rig) -> None:
    home = has_user(bare)
    bare.program("install", f'exec {shutil.which("install")} -d -m 0700 "{home}/.ssh"')
    assert bare.look(shell.command("setup_keys", "deploy")).ends[0] == 0
    assert not (home / ".ssh" / "authorized_keys").exists()


def test_a_directory_below_home_is_made_by_the_user_itself(bare: Rig) -> None:
    home = has_user(bare)
    bare.announce("su", f'-s /bin/sh deploy -c mkdir -p "$0" {home}/greenroom/app')
    assert bare.look(shell.command("setup_base", "deploy", "greenroom/app")).ends[0] == 0


def test_an_absolute_directory_is_made_for_the_user(bare: Rig) -> None:
    has_user(bare)
    bare.program("install", 'printf "%s\\n" "install $*"')
    outcome = bare.look(shell.command("setup_base", "deploy", "/srv/apps/app"))
    assert outcome.lines[0] == "install -d /srv/apps"
    assert outcome.lines[1].startswith("install -d -o deploy -g ")
    assert outcome.lines[1].endswith(" /srv/apps/app")
