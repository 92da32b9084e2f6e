"""What operators do between deploys, typed as they would, on one host with compose v1."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
from typing import TYPE_CHECKING

import pytest
from stage import Stage

import testbed
from testbed.load import GET, GET_FRESH, POST
from testbed.project import ROOT, SECRET, Project

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["bookworm"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A bare host that got its first release."""
    targets = testbed.up(1, request.param)
    testbed.reset(targets)
    stage = Stage(targets, Project.create(tmp_path_factory.mktemp("project"), targets))
    said = stage.inv("deploy", "--settle=0")
    assert said.code == 0, said.text
    return stage


def at_work(stage: Stage, *names: str) -> list[str]:
    """Return the processes of a host whose command line holds one of these names."""
    lines = testbed.shell(stage.targets[0], "ps axo stat=,args=").splitlines()
    return [line for line in lines if any(name in line for name in names) and not line.startswith("Z")]


def gone(stage: Stage, *names: str) -> bool:
    deadline = time.monotonic() + 30
    while left := at_work(stage, *names):
        if time.monotonic() > deadline:
            raise AssertionError(left)
        time.sleep(0.2)
    return True


class Typed:
    """A command that goes on until Ctrl-C."""

    def __init__(self, stage: Stage, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "invoke", *words],
            cwd=stage.project.folder,
            env=stage.project.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""

    def until(self, what: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said += line
            if re.search(what, line):
                return
        raise AssertionError(f"it ended before it said {what!r}: {self.said}")

    def ctrl_c(self) -> int:
        self.process.send_signal(signal.SIGINT)
        self.said += self.process.communicate(timeout=20)[0]
        return self.process.returncode


@pytest.fixture
def typed(stage: Stage) -> Iterator[type]:
    started: list[Typed] = []

    class Here(Typed):
        def __init__(self, *words: str) -> None:
            super().__init__(stage, *words)
            started.append(self)

    yield Here
    for each in started:
        each.process.kill()
        each.process.wait()


# --- looking ---------------------------------------------------------------------------------------------------


def test_ps_and_releases(stage: Stage) -> None:
    live = stage.live()
    said = stage.inv("ps")
    assert re.search(rf"app-\w+ \(live\)\s+web\s+running\s+\w+\s+0\s+.*app:{live}", said.out), said.text
    assert {row.split()[2] for row in said.out.splitlines() if "app-setting-prod" in row} == {
        "celery", "celery-beat", "nginx", "postgres", "redis",
    }  # fmt: skip
    rows = [json.loads(line) for line in stage.inv("releases", "--json").out.splitlines()]
    assert [row["release"] for row in rows if row["is"] == "live"] == [live]


def test_logs_come_in_the_order_of_time(stage: Stage) -> None:
    rows = [
        json.loads(line) for line in stage.inv("logs", "--json", "--since=1h", "--service=web,nginx").out.splitlines()
    ]
    assert {row["service"].rpartition("/")[2] for row in rows} == {"web", "nginx"}
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)


def test_logs_are_followed_until_ctrl_c_and_nothing_stays_on_the_host(stage: Stage, typed: type) -> None:
    following = typed("logs", "-f", "--service=web,nginx", "--grep=find-me")
    deadline = time.monotonic() + 60
    while not at_work(stage, "docker logs -t -f"):
        assert time.monotonic() < deadline
    with pytest.raises(OSError, match="404"):
        stage.get("/find-me")
    following.until(r"nginx \| .*GET /find-me")
    assert following.ctrl_c() == 0
    assert "Traceback" not in following.said
    assert gone(stage, "docker logs -t", "dd bs=1")


# --- running something -----------------------------------------------------------------------------------------


def test_a_command_runs_in_the_live_release_and_its_exit_code_is_passed_on(stage: Stage) -> None:
    said = stage.inv("exec", "--", "sh", "-c", 'echo "$RELEASE  $0"; echo "$SECRET_KEY" >&2; exit 7', "a  b")
    assert said.code == 7
    assert sorted(said.out.splitlines()) == [f"{stage.live()}  a  b", "[redacted]"]  # of two streams, in any order
    assert SECRET not in said.text
    said = stage.inv("exec", "--command=printf 'one\\ntwo' | wc -l", "--service=redis")
    assert (said.code, said.out) == (0, "1\n")


def test_a_command_that_is_broken_off_does_not_run_on(stage: Stage, typed: type) -> None:
    running = typed("exec", "--", "sh", "-c", "echo began; sleep 1234 & sleep 4321")
    running.until("began")
    assert running.ctrl_c() == 1
    assert running.said.endswith("stopped by the operator\n")
    assert gone(stage, "sleep 1234", "sleep 4321", "docker exec", "dd bs=1")


# --- nginx, the env, and tidying up ----------------------------------------------------------------------------


def test_an_nginx_configuration_reaches_the_host_without_a_lost_request(stage: Stage) -> None:
    folder = stage.project.folder / "templates" / "nginx"
    shutil.copytree(ROOT / "templates" / "nginx", folder)
    page = folder / "maintenance.html"
    page.write_text(page.read_text().replace("We will be back soon", "Moving house"))
    with stage.users((GET, GET_FRESH, POST)) as load:
        said = stage.inv("settings.reload")
    assert said.code == 0, said.text
    assert load.report().failed == 0, str(load.report())
    shutil.rmtree(folder.parent)


def refused(stage: Stage, path: str, body: bytes | None = None) -> str:
    """Return the page that users get with a 503."""
    with pytest.raises(urllib.error.HTTPError) as error:
        stage.get(path, body=body)
    answer = error.value
    assert (answer.code, answer.headers["Retry-After"]) == (503, "60")
    return answer.read().decode()


def test_an_env_is_pushed_blue_green_while_users_see_the_page_of_maintenance(stage: Stage) -> None:
    before = stage.live()
    path = stage.project.folder / ".env.prod"
    path.write_text(path.read_text().replace(f"{SECRET}-key", f"{SECRET}-other-key") + "GREETING=hello\n")
    said = stage.inv("env.diff")
    assert [line.split()[1:] for line in said.out.splitlines()[1:]] == [
        ["GREETING", "added"],
        ["SECRET_KEY", "changed"],
    ]
    assert stage.inv("maintenance.on", "--reason=moving house").code == 0
    assert "Moving house" in refused(stage, "/")
    assert "Moving house" in refused(stage, "/anything", b"sent")
    assert stage.get("/healthz")[0] == 200
    said = stage.inv("env.push", "--settle=0")
    assert said.code == 0, said.text
    assert "see the maintenance page" in said.out
    assert "Moving house" in refused(stage, "/")
    assert "moving house" in stage.inv("status").out
    assert stage.inv("maintenance.off").code == 0
    assert stage.live() != before
    assert stage.inv("exec", "--command=echo $GREETING").out == "hello\n"


def test_prune_forgets_all_but_what_is_live_and_the_way_back(stage: Stage) -> None:
    live = stage.live()
    said = stage.inv("prune", "--keep=1")
    assert said.code == 0, said.text
    left = stage.docker(stage.targets[0], "images", "app", "--format", "{{.Tag}}")
    rows = [json.loads(line) for line in stage.inv("releases", "--json").out.splitlines()]
    assert [(row["release"] == live, row["is"]) for row in rows] == [(True, "live"), (False, "a way back")]
    assert sorted(left) == sorted(row["release"] for row in rows)
