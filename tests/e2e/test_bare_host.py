"""A bare host, with sshd and nothing else, becomes one that a deploy needs nothing more of."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from testbed import engine, hosts, images
from testbed.model import KINDS, Target
from testbed.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BARE = Target("bare", "trixie", "127.0.0.47", "")
DOCKERFILE = f"""FROM {KINDS["trixie"].base}
RUN apt-get update && apt-get install -y --no-install-recommends openssh-server \\
    && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_*
RUN ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
RUN printf '#!/bin/sh\\nsetsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &\\n' >/usr/local/sbin/service \\
    && chmod +x /usr/local/sbin/service
COPY engine.sh /engine.sh
CMD ["sh", "-c", ". /engine.sh; open_kernel_files; mkdir -p /run/sshd; exec /usr/sbin/sshd -D"]
"""
"""A server as a provider hands it over: an ssh server, root's key, and no docker. Nor an init: `service` stands for it.

Debian's own start script of docker raises limits, which a container that is itself confined may not.
"""

pytestmark = pytest.mark.skipif("GREENROOM_BARE" not in os.environ, reason="minutes of apt: GREENROOM_BARE=1 runs it")


def docker(*words: str, given: bytes = b"") -> str:
    done = subprocess.run(["docker", *words], input=given or None, capture_output=True, check=True, timeout=300)
    return done.stdout.decode().strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    engine.ensure()
    images.Shelf().ensure(KINDS["trixie"])
    folder = tmp_path_factory.mktemp("image")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "engine.sh").write_bytes((images._RECIPES / "host" / "engine.sh").read_bytes())
    docker("build", "--quiet", "--tag", "greenroom-testbed/bare", str(folder))
    docker("rm", "--force", "--volumes", BARE.container)
    privileges = hosts._privileges(KINDS["trixie"])
    docker(
        *("run", "--detach", "--name", BARE.container, "--publish", f"{BARE.address}:22:22", *privileges),
        *("--volume", "/var/lib/docker", "greenroom-testbed/bare"),
    )
    try:
        yield _project(tmp_path_factory.mktemp("project"))
    finally:
        docker("rm", "--force", "--volumes", BARE.container)
        docker("image", "rm", "greenroom-testbed/bare")


def _project(folder: Path) -> Project:
    host_key = inside("cat /etc/ssh/ssh_host_ed25519_key.pub")
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f", str(key)], check=True)
    keys = f'# a comment\ncommand="true" {host_key}\n{key.with_suffix(".pub").read_text()}'
    inside("mkdir -p -m 0700 /root/.ssh && cat >/root/.ssh/authorized_keys", given=keys.encode())
    known = folder / "known_hosts"
    known.write_text(f"{BARE.address} {host_key}\n")
    project = Project.create(folder / "app", [BARE])
    project.configure(
        {"root": "/srv/apps", "ssh": {"identity": str(key), "known_hosts": str(known), "config": "/dev/null"}}
    )
    return project


def inside(script: str, given: bytes = b"") -> str:
    return docker("exec", "--interactive", BARE.container, "sh", "-c", script, given=given)


def test_without_a_yes_it_only_says_what_it_would_do(project: Project) -> None:
    before = inside("dpkg -l | sha256sum; ls -R /srv /home /etc/apt")
    said = project.inv("setup")
    assert said.code == 2, said.text
    for step in ("install packages", "start docker", "make the user deploy", "let your keys log in", "/srv/apps/app"):
        assert step in said.out, said.text
    assert "--yes" in said.err
    assert inside("dpkg -l | sha256sum; ls -R /srv /home /etc/apt") == before


def test_a_bare_host_becomes_ready(project: Project) -> None:
    assert project.inv("check").code == 2  # nobody called deploy is there
    said = project.inv("setup", "--yes", limit=300)
    assert said.code == 0, said.text
    assert "ready: 127.0.0.47" in said.out
    check = project.inv("check")
    assert check.code == 0, check.text
    assert "nothing would stop a deploy" in check.out
    assert inside("stat -c '%U %a' /srv/apps/app /home/deploy/.ssh /home/deploy/.ssh/authorized_keys").split() == [
        *("deploy", "755", "deploy", "700", "deploy", "600"),
    ]
    assert "command=" not in inside("cat /home/deploy/.ssh/authorized_keys")


def test_a_host_that_is_ready_is_left_alone(project: Project) -> None:
    before = inside("find /etc /home /srv -newer /etc/ssh/ssh_host_ed25519_key -type f | sort | xargs sha256sum")
    said = project.inv("setup")
    assert said.code == 0, said.text
    assert "it is ready, nothing to do" in said.out
    after = inside("find /etc /home /srv -newer /etc/ssh/ssh_host_ed25519_key -type f | sort | xargs sha256sum")
    assert after == before


def test_a_login_that_may_do_nothing_is_refused(project: Project) -> None:
    said = project.inv("setup", "--login=deploy")
    assert said.code != 0
    assert "sudo" in said.err, said.text
