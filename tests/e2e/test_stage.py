"""A deploy in two halves, and the way back that starts nothing, under the eyes of users."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from stage import BRISK, Stage, assert_nothing_lost

import testbed
from testbed.load import Load
from testbed.project import HOST_HEADER, Project

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT = 18800 + os.getpid() % 1000
RATE = 15


@pytest.fixture(scope="module", params=["trixie"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Two hosts that got their first release; from then on, what was live stays on standby."""
    targets = testbed.up(2, request.param)
    testbed.reset(targets)
    project = Project.create(tmp_path_factory.mktemp("project"), targets, {"standby": True, "settle": 1})
    stage = Stage(targets, project)
    said = stage.inv("deploy", "--settle=0")
    assert said.code == 0, said.text
    return stage


@contextmanager
def users(stage: Stage) -> Iterator[Load]:
    with Load(stage.hosts, host_header=HOST_HEADER, rate=RATE, kinds=BRISK) as load:
        yield load


@contextmanager
def previewed(stage: Stage) -> Iterator[str]:
    """Have `inv preview` run as its user would, until Ctrl-C; what it says."""
    process = subprocess.Popen(
        [sys.executable, "-m", "invoke", "preview", f"--port={PORT}", f"--hosts={stage.hosts[1]}"],
        cwd=stage.project.folder,
        env=stage.project.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C ends it" in line:
                break
        yield said
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=20)[0]
        assert (process.returncode, rest) == (0, ""), said + rest
    finally:
        process.kill()
        process.wait()


def look(path: str = "/") -> tuple[str, bytes]:
    """Ask the local port, as a browser does; the release that answered, and the page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=30) as answer:
        return answer.headers["X-Release"], answer.read()


def webs(stage: Stage) -> list[int]:
    """Return how many colours run on each host."""
    return [sum(service == "web" for _, service in stage.containers(target)) for target in stage.targets]


def test_what_is_staged_is_seen_through_preview_alone_until_it_is_promoted(stage: Stage) -> None:
    before = stage.live()
    with users(stage) as load:
        stage.commit()
        said = stage.inv("stage")
        assert said.code == 0, said.text
        (staged,) = {each for each in re.findall(r"\d{8}-\d{6}-[0-9a-f]{7}", said.text) if each != before}
        assert stage.live() == before
        assert webs(stage) == [2, 2]
        assert f"staged: {staged}, by " in stage.inv("status").out
        with previewed(stage) as told:
            assert f"staged: {staged}" in told
            assert f"users see {before}." in told
            with ThreadPoolExecutor(12) as browsers:
                seen = list(browsers.map(lambda _: look(), range(60)))
            assert {release for release, _ in seen} == {staged}
            assert all(f"<!-- version v{stage.version} -->".encode() in page for _, page in seen)
            (style,) = re.findall(r'href="(/static/[^"]+\.css)"', seen[0][1].decode())
            assert look(style)[1]
        assert stage.live() == before
        said = stage.inv("promote")
        assert said.code == 0, said.text
        assert stage.live() == staged
    assert_nothing_lost(load.report(), stage.hosts)


def test_the_way_back_to_a_standby_starts_nothing(stage: Stage) -> None:
    (before,) = {line.split()[0] for line in stage.inv("releases").out.splitlines() if " standby " in line}
    started = [
        stage.docker(target, "ps", "-q", "--filter", "label=com.docker.compose.service=web") for target in stage.targets
    ]
    with users(stage) as load:
        said = stage.inv("rollback", "--settle=0")
        assert said.code == 0, said.text
        assert stage.live() == before
    assert_nothing_lost(load.report(), stage.hosts)
    for target, containers in zip(stage.targets, started, strict=True):
        now = stage.docker(target, "ps", "-q", "--filter", "label=com.docker.compose.service=web")
        assert sorted(now) == sorted(containers)
        workers = stage.docker(
            target, "ps", "--filter", "label=com.docker.compose.service=celery", "--format", "'{{.Image}}'"
        )
        assert workers == [f"app:{before}"]
