"""A team that runs `docker compose up` today: its one compose file is deployed as it is, and its data goes on."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import testbed
from testbed import state
from testbed.load import FORM, GET, GET_FRESH, Kind, Load
from testbed.project import ROOT, Project

HOST = os.environ.get("GREENROOM_ADOPT_ON", "trixie-1")
"""Compose v2 unless told otherwise: `bookworm-1` is the same with compose v1."""

POST = Kind("post", "/posts", content=FORM, fresh=True)


@pytest.fixture(scope="module")
def target() -> testbed.Target:
    kind, _, number = HOST.partition("-")
    one = testbed.up(int(number), kind)[-1]
    testbed.reset([one])
    return one


@pytest.fixture(scope="module")
def project(target: testbed.Target, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The example as it lies, and what `greenroom init` writes beside it."""
    return adopt("counter", tmp_path_factory.mktemp("adopt"), target)


def adopt(name: str, folder: Path, target: testbed.Target) -> Project:
    """Lay an example out in a folder of its name, and have `greenroom init` make a project of it."""
    shutil.copytree(ROOT / "examples" / name, folder / name)
    project = Project(folder / name, (target,))
    project.git("init", "--quiet", "--initial-branch=main")
    greenroom = "from deploy.tasks import main; main()"
    words = [sys.executable, "-c", greenroom, "init", f"--hosts=deploy@{target.address}", "--yes"]
    done = subprocess.run(
        words, cwd=project.folder, env=project.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "to be mended" not in done.stdout
    shutil.copy(project.folder / ".env.example", project.folder / ".env.prod")
    project.edit("invoke.yaml", "settle: 30", "settle: 1")
    with (project.folder / "invoke.yaml").open("a") as file:  # what only these hosts need
        file.write(f"  ssh: {{identity: {state.KEY}, known_hosts: {state.KNOWN_HOSTS}, config: /dev/null}}\n")
    commit(project)
    return project


def commit(project: Project) -> None:
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message=next")


def get(target: testbed.Target, path: str = "/") -> tuple[str, str]:
    """Return what a visitor is told, and the release that says so."""
    link = http.client.HTTPConnection(target.address, timeout=10)
    link.request("GET", path)
    answer = link.getresponse()
    assert answer.status == 200
    return answer.read().decode().strip(), str(answer.headers["X-Release"])


def answers(target: testbed.Target) -> bool:
    try:
        get(target, "/healthz")
    except (OSError, http.client.HTTPException):
        return False
    return True


def awaited(target: testbed.Target) -> None:
    """Compose returns when the container runs; the program in it needs a moment to listen."""
    deadline = time.monotonic() + 30
    while not answers(target):
        assert time.monotonic() < deadline, "it never answered"
        time.sleep(0.1)


def test_compose_up_as_it_was_before(project: Project, target: testbed.Target) -> None:
    """The team's own stack, from the same file: three visitors are counted."""
    compose = "docker-compose" if target.name.startswith("bookworm") else "docker compose"
    files = ("app.py", "Dockerfile", "compose.yaml")
    written = "\n".join(f"cat >{name} <<'END'\n{(project.folder / name).read_text()}\nEND" for name in files)
    script = f"mkdir counter && cd counter\n{written}\n{compose} up -d --build 2>&1"
    testbed.shell(target, script, user="deploy", timeout=120)
    awaited(target)
    for _ in range(3):
        told, release = get(target)
    assert (told, release) == ("Hello, visitor 3", "local")


def test_a_plan_prints_what_it_makes_of_the_file_and_sees_who_has_the_data(project: Project) -> None:
    said = project.inv("plan")
    assert said.code == 0, said.text
    assert "image: ${GREENROOM_IMAGE}" in said.out
    assert "goes on with the data in counter_data" in said.out
    assert "docker rm -f $(docker ps -aq --filter label=com.docker.compose.project=counter)" in said.out
    assert project.inv("deploy").code == 2


def test_the_first_deploy_goes_on_with_the_data(project: Project, target: testbed.Target) -> None:
    testbed.shell(target, "docker rm -f $(docker ps -aq --filter label=com.docker.compose.project=counter)")
    said = project.inv("deploy")
    assert said.code == 0, said.text
    told, release = get(target)
    assert told == "Hello, visitor 4"
    assert release in said.out


def test_a_second_deploy_under_load_loses_nothing(project: Project, target: testbed.Target) -> None:
    _, before = get(target)
    project.edit("app.py", 'GREETING = "Hello"', 'GREETING = "Welcome"')
    commit(project)
    with Load([target.address], host_header="localhost", rate=20, kinds=(GET, GET_FRESH, POST)) as load:
        said = project.inv("deploy")
    assert said.code == 0, said.text
    report = load.report()
    assert report.failed == 0, str(report)
    assert [seen.release for seen in report.releases(target.address)] == [before, get(target)[1]]
    assert get(target)[0].startswith("Welcome, visitor ")


def test_a_rollback_builds_nothing_and_keeps_counting(project: Project, target: testbed.Target) -> None:
    told, _ = get(target)
    said = project.inv("rollback")
    assert said.code == 0, said.text
    assert get(target)[0] == f"Hello, visitor {int(told.rpartition(' ')[2]) + 1}"


def test_what_config_prints_is_what_the_host_has(project: Project, target: testbed.Target) -> None:
    said = project.inv("config", "--ref=HEAD~1", "--json")
    assert said.code == 0, said.text
    printed = {event["name"]: event["text"] for event in said.events() if event["kind"] == "file"}
    live = f"greenroom/counter/releases/{get(target)[1]}"
    for name, text in printed.items():
        assert testbed.shell(target, f"cat {live}/{name}", user="deploy") == text.strip()
    assert set(printed) == {"colour.yml", "setting_prod.yml"}


# --- web sockets: a FastAPI app --------------------------------------------------------------------------------


class Socket:
    """A web socket as a browser opens one (RFC 6455): short texts, one frame each."""

    def __init__(self, address: str, path: str) -> None:
        self._link = socket.create_connection((address, 80), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        self._link.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._from = self._link.makefile("rb")
        assert b" 101 " in self._from.readline()
        while self._from.readline().strip():
            pass

    def say(self, text: str) -> str:
        """Send a text and return its answer; '' when the other side has closed."""
        try:
            self._send(0x81, text.encode())
            while head := self._from.read(2):
                content = self._from.read(head[1])
                if head[0] == 0x81:
                    return content.decode()
                if head[0] == 0x89:  # a ping, every 20 s; without an answer the app would close
                    self._send(0x8A, content)
                else:
                    break
        except OSError:
            pass
        return ""

    def _send(self, kind: int, content: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(letter ^ mask[n % 4] for n, letter in enumerate(content))
        self._link.sendall(bytes([kind, 0x80 | len(content)]) + mask + masked)


@pytest.fixture(scope="module")
def chat(target: testbed.Target, tmp_path_factory: pytest.TempPathFactory) -> Project:
    testbed.reset([target])
    project = adopt("chat", tmp_path_factory.mktemp("adopt"), target)
    project.edit("invoke.yaml", "settle: 1", "settle: 1\n  drain: 5")
    commit(project)
    said = project.inv("deploy")
    assert said.code == 0, said.text
    return project


def test_a_web_socket_stays_where_it_is_while_the_others_are_sent_on(chat: Project, target: testbed.Target) -> None:
    before = get(target)[1]
    link = Socket(target.address, "/chat")
    heard: list[tuple[str, str]] = []

    def talk() -> None:
        """Talk until the socket ends; who answers a new visitor at the same moment is written down."""
        while answer := link.say("hi"):
            heard.append((answer, get(target)[1]))
            time.sleep(0.1)

    talking = threading.Thread(target=talk)
    talking.start()
    chat.edit("app.py", 'GREETING = "hello"', 'GREETING = "welcome"')
    commit(chat)
    said = chat.inv("deploy", "--verbose")
    talking.join(30)
    assert said.code == 0, said.text
    after = get(target)[1]
    assert {answer for answer, _ in heard} == {f"{before}: hi"}
    assert {release for _, release in heard} == {before, after}  # the flip was under this socket, not through it
    assert "1 connections to blue were still open after 5 s, and are cut" in said.out
    assert Socket(target.address, "/chat").say("hi") == f"{after}: hi"
