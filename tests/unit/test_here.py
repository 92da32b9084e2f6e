"""This machine as one that builds: real scripts under its own sh, and what it may build."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from deploy import here
from deploy.apply import ask
from deploy.errors import Interrupted, Overdue, Refused, StepFailed
from deploy.here import Here
from deploy.recipe import image, shell
from deploy.recipe.model import App, Facts, Host
from deploy.recipe.shell import Answer, End, Finished, Script

if TYPE_CHECKING:
    from pathlib import Path

APP = App(project="app", env="prod", hosts=(Host("web1"),))
AMD64 = {Host("web1"): Facts(architecture="amd64")}
FIT = Facts(docker="28", architecture="amd64", compose="docker compose")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker of this test's own, before any other."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def docker(folder: Path, text: str) -> None:
    (folder / "docker").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "docker").chmod(0o755)


def script(folder: Path, *words: str, run: str = "r", deadline: float = 20, sends: bool = False) -> Script:
    variables = (("BASE", str(folder)), ("PROJECT", "app"), ("RELEASE", "r1"))
    return Script((shell.command(*words),), variables, run=run, deadline=deadline, sends=sends)


# --- scripts ---------------------------------------------------------------------------------------------------


def test_a_script_is_done_in_its_folder_with_what_it_reads(path: Path) -> None:
    docker(path, "exit 1")
    given = io.BytesIO(b"sha256:d\n" + b'{"auths": {}}')
    signals = list(Here().run(script(path, "push_image", "team/app", "r1"), parcel=given))
    assert End(0, 1) in signals  # docker said no: the login was read, and went
    assert not (path / "login").exists()


def test_nothing_of_the_operator_s_environment_but_docker_s_reaches_compose(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "the-operators-own")
    monkeypatch.setenv("DOCKER_HOST", "unix:///elsewhere")
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/arm64")  # the hosts' is said, if any is
    docker(path, 'echo "${POSTGRES_PASSWORD-none} $DOCKER_HOST ${DOCKER_DEFAULT_PLATFORM-none}" >&2; exit 1')
    said = list(Here().run(script(path, "here_look", run="")))
    assert Answer("no_docker", ("none unix:///elsewhere none",)) in said


def test_a_script_that_is_broken_off_takes_with_it_what_it_started(path: Path) -> None:
    docker(path, f"echo $$ >{path}/pid; exec sleep 60")
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(Interrupted):
        list(Here().run(script(path, "here_look", run=""), stop=stop.is_set))
    pid = int((path / "pid").read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and (path / "pid").exists():
        try:
            state = (path.__class__(f"/proc/{pid}/stat")).read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("it is still at work")


def test_a_script_has_its_time(path: Path) -> None:
    docker(path, "exec sleep 60")
    with pytest.raises(Overdue):
        list(Here().run(script(path, "here_look", run="", deadline=0.5)))


def test_a_script_that_somebody_ended_is_no_success(path: Path) -> None:
    docker(path, "kill -KILL $PPID")
    with pytest.raises(StepFailed, match="was ended before"):
        list(Here().run(script(path, "here_build", "amd64", "blue", "c.yml", "web")))


def test_what_is_sent_comes_whole_or_not_at_all(path: Path) -> None:
    docker(path, "echo image")
    source = Here().fetch(script(path, "send_image", run="", sends=True))
    assert b"".join(iter(lambda: source.read(1 << 16), b""))[:2] == b"\x1f\x8b"
    source.close()
    docker(path, "echo half; exit 1")
    source = Here().fetch(script(path, "send_image", run="", sends=True))
    assert source.read(1 << 16)
    with pytest.raises(StepFailed, match="the image could not be read: save"):
        source.read(1 << 16)
    source.close()


# --- the folder, and what may be built -------------------------------------------------------------------------


def test_a_room_is_empty_private_and_gone_afterwards(path: Path) -> None:
    docker(path, "case $1 in version) echo 28.1 amd64 ;; esac")
    workshop = here.workshop(APP)
    folder = path / "state" / "greenroom" / "app-prod.build"
    folder.mkdir(parents=True)
    (folder / "left").touch()
    with workshop.room():
        assert folder.stat().st_mode & 0o777 == 0o700
        assert not list(folder.iterdir())
    assert not folder.exists()


def test_what_this_machine_has_is_asked(path: Path) -> None:
    docker(
        path, 'case "$1 $2" in "version "*) echo 28.1 amd64 ;; "buildx inspect") echo "Platforms: linux/arm64" ;; esac'
    )
    found = here.workshop(APP)
    assert (found.facts.docker, found.facts.architecture, found.builds) == ("28.1", "amd64", "linux/arm64, ")
    assert ask(Here(), (("BASE", "/"),), image.look_here())


def test_a_machine_without_docker_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sh", "awk"):
        (path / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(path))
    with pytest.raises(Refused, match=r"deploy\.build: local: there is no docker on this machine\ninstall"):
        here.workshop(APP)


@pytest.mark.parametrize(
    ("facts", "builds", "architectures", "what"),
    [
        (FIT, "", ["amd64", "amd64"], ""),
        (FIT, "linux/amd64*, linux/arm64/v8, ", ["arm64"], ""),
        (FIT, "linux/amd64, linux/386", ["arm64"], "web1 is arm64, and this machine builds for 386, amd64"),
        (FIT, "linux/arm64", ["amd64", "arm64"], "one image is built here, and the hosts differ"),
        (replace(FIT, compose=""), "", [], "neither `docker compose` nor `docker-compose`"),
        (replace(FIT, trouble="Cannot connect"), "", [], "docker does not answer on this machine: Cannot connect"),
        (replace(FIT, lacks=("docker",)), "", [], "there is no docker on this machine"),
    ],
)
def test_what_cannot_be_built_here_is_said_with_a_mend(
    facts: Facts, builds: str, architectures: list[str], what: str
) -> None:
    seen = {Host(f"web{n}"): Facts(architecture=each) for n, each in enumerate(architectures, 1)}
    said, mend = image.unfit_here(facts, builds, seen)
    assert said.startswith(what)
    assert bool(said) == bool(what)
    assert ("say build: once" in mend) == bool(what)


def test_a_finished_script_says_so(path: Path) -> None:
    docker(path, "[ $1 = version ] && echo 28.1 amd64")
    assert list(Here().run(script(path, "here_look", run="")))[-1] == Finished()
