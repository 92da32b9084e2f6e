"""An image's way through a registry: words that push and pull, what they leave behind, what they complain of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from deploy.recipe import shell

if TYPE_CHECKING:
    from rig import Outcome, Rig

NAME = "registry.example.com/team/app"
DIGEST = "sha256:" + "d" * 64
HERE = "image inspect app:r1"
LOGIN = json.dumps({"auths": {"registry.example.com": {"auth": "bWFyazNy"}}}).encode()
LOOK = """echo "$DOCKER_CONFIG" >"$HOME/config"
/bin/ls -ld login login/config.json >"$HOME/modes"
cat login/* >"$HOME/held\""""


def pushes(rig: Rig, status: int = 0, says: str = f"r1: digest: {DIGEST} size: 1\n") -> None:
    rig.rooms()
    rig.docker(f"tag app:r1 {NAME}:r1")
    rig.docker(f"push {NAME}:r1", f"The push refers to repository\n{says}", status, does=LOOK)
    rig.docker(f"image rm {NAME}:r1")


def pulls(rig: Rig, status: int = 0, says: str = "") -> None:
    rig.rooms()
    rig.docker(f"pull {NAME}@{DIGEST}", says, status)
    rig.docker(f"tag {NAME}@{DIGEST} app:r1")
    rig.docker(f"image rm {NAME}@{DIGEST}")
    rig.docker("image inspect -f {{range .RootFS.Layers}}{{.}} {{end}}|{{.Id}} app:r1", "sha256:a |sha256:i\n")
    rig.docker("info --format {{.DriverStatus}}", "[]\n")


def push(rig: Rig, login: bytes = LOGIN) -> Outcome:
    return rig.run(shell.command("push_image", NAME, "r1"), payload=b"\n" + login)


def pull(rig: Rig, login: bytes = LOGIN) -> Outcome:
    return rig.run(shell.command("pull_image", NAME), payload=DIGEST.encode() + b"\n" + login)


def left(rig: Rig) -> bool:
    return (rig.base / "login").exists()


def test_an_image_is_pushed_and_its_digest_told(rig: Rig) -> None:
    pushes(rig)
    outcome = push(rig)
    assert outcome.finished, outcome.text
    assert outcome.one("pushed") == DIGEST
    assert rig.said[-1] == f"docker image rm {NAME}:r1"
    assert not left(rig)


def test_docker_logs_in_by_a_file_that_nobody_else_may_read(rig: Rig) -> None:
    pushes(rig)
    push(rig)
    assert (rig.home / "config").read_text() == f"{rig.base}/login\n"
    assert [line[:10] for line in (rig.home / "modes").read_text().splitlines()] == ["drwx------", "-rw-------"]
    assert LOGIN.decode() in (rig.home / "held").read_text()
    assert not [each for each in rig.said if "bWFyazNy" in each]


def test_without_a_login_docker_uses_its_own(rig: Rig) -> None:
    pushes(rig)
    assert push(rig, b"").finished
    assert (rig.home / "config").read_text() == "\n"


def test_the_context_that_docker_uses_is_not_lost_with_its_configuration(rig: Rig) -> None:
    pushes(rig)
    (rig.home / ".docker" / "contexts").mkdir(parents=True)
    rig.docker("context inspect -f {{.Name}}", "elsewhere\n")
    rig.docker(
        f"push {NAME}:r1",
        f"digest: {DIGEST}",
        does='echo "$DOCKER_CONTEXT" >"$HOME/context"; /bin/ls login >>"$HOME/context"',
    )
    assert push(rig).finished
    assert (rig.home / "context").read_text().split() == ["elsewhere", "config.json", "contexts", "name"]
    assert (rig.home / ".docker" / "contexts").exists()


def test_an_image_is_pulled_by_its_digest_and_gets_the_release_s_name_alone(rig: Rig) -> None:
    rig.docker(HERE, status=1)
    pulls(rig)
    outcome = pull(rig)
    assert outcome.finished, outcome.text
    assert outcome.values("built") == [("sha256:a", "sha256:i")]
    assert rig.said[-1] == f"docker image rm {NAME}@{DIGEST}"
    assert not left(rig)


def test_an_image_that_is_there_is_not_pulled_again(rig: Rig) -> None:
    rig.docker(HERE)
    pulls(rig)
    assert pull(rig).values("built")
    assert not [each for each in rig.said if "docker pull" in each]


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        (
            "Get https://r/v2/: x509: certificate signed by unknown authority",
            "/etc/docker/certs.d/registry.example.com",
        ),
        ("http: server gave HTTP response to HTTPS client", "insecure-registries"),
        ("unauthorized: authentication required", "refused the login: look at deploy.registry.username"),
        ("denied: requested access to the resource is denied", "does not let this login push registry.example.com"),
        ("write /var/lib/x: no space left on device", "the disk is full"),
        ("dial tcp: lookup registry.example.com: no such host", "can it be reached from here?"),
        ("dial tcp 10.0.0.1:443: connect: connection refused", "can it be reached from here?"),
    ],
)
def test_a_push_that_fails_says_why_and_what_mends_it(rig: Rig, said: str, mend: str) -> None:
    pushes(rig, 1, f"{said}\n")
    outcome = push(rig)
    assert outcome.ends[0] == 1
    assert said in outcome.text
    assert mend in outcome.text
    assert not left(rig)


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        ("manifest unknown: manifest unknown", "has not got what was pushed"),
        (f"manifest verification failed for digest {DIGEST}", "something else under this digest"),
        ("pull access denied for team/app", "does not let this login pull"),
    ],
)
def test_a_pull_that_fails_says_why(rig: Rig, said: str, mend: str) -> None:
    rig.docker(HERE, status=1)
    pulls(rig, 1, f"{said}\n")
    outcome = pull(rig)
    assert outcome.ends[0] == 1
    assert mend in outcome.text
    assert not left(rig)


def test_a_host_that_nobody_logged_in_is_told_how(rig: Rig) -> None:
    pushes(rig, 1, "no basic auth credentials\n")
    assert "docker login registry.example.com here" in push(rig, b"").text


def test_a_push_that_tells_no_digest_is_none(rig: Rig) -> None:
    pushes(rig, says="done\n")
    assert "told no digest" in push(rig).text


def test_the_next_script_of_any_run_sweeps_what_a_dead_one_left(rig: Rig) -> None:
    rig.rooms()
    rig.release()
    rig.lock()
    (rig.base / "run").write_text("next\n")
    (rig.base / "login").mkdir()
    (rig.base / "login" / "config.json").write_text("bWFyazNy")
    (rig.base / "login" / "name").write_text(f"{NAME}@{DIGEST}\n")
    rig.docker(f"image rm {NAME}@{DIGEST}")
    outcome = rig.run(shell.command("mark_served"), run="next", turn=1)
    assert outcome.finished, outcome.text
    assert not left(rig)
    assert rig.said == [f"docker image rm {NAME}@{DIGEST}"]
