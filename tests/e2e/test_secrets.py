"""Secrets on real hosts: planted, then looked for everywhere, on both sides, while deploys run, succeed and fail."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import testbed
from deploy.console.redact import HIDDEN
from testbed.project import SECRET, Said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage import Stage

pytestmark = pytest.mark.parametrize("stage", [("bookworm", 1)], indirect=True, ids=["bookworm-1"], scope="module")
"""One host tells this as well as three, and compose v1 is the one that has told secrets."""

BASE = "/home/deploy/greenroom/app"
PLANTED = {
    "API_TOKEN": "mark3r-one-5f1c",
    "SIGNING_KEY": "mark3r.*two[a-z]+(b|c)\\d^",
    "PAYMENT_PASSWORD": "mark3r'three\"with<signs>&more",
    "CACHE_URL": "redis://:mark3r-four%21@cache:6379/0",
    "OPAQUE": "mark3rFive5f1c0000opaque",
    "PRIVATE_KEY": "-----BEGIN mark3r-six-----\nmark3r-seven\n-----END mark3r-six-----",
}
MARKERS = ("mark3r", SECRET)

HEALTH = "    with connection.cursor() as cursor:"
HEALTH_THAT_TELLS = f"""    import base64, json, os, urllib.parse
    told = {{name: os.environ[name] for name in {[*PLANTED, "DATABASE_URL"]!r}}}
    print("I tell all:", told, json.dumps(told), urllib.parse.urlencode(told), flush=True)
    print("\\n".join(told.values()), flush=True)
    print(base64.b64encode(repr(told).encode()).decode(), flush=True)
    return HttpResponse(status=500)
{HEALTH}"""


@pytest.fixture(scope="module")
def planted(stage: Stage) -> Stage:
    lines = (f'{name}="{value}"' if "\n" in value else f"{name}={value}" for name, value in PLANTED.items())
    path = stage.project.folder / ".env.prod"
    path.write_text(path.read_text() + "\n".join(lines) + "\n")
    return stage


class Watch:
    """Looks at command lines and environments of every process, on the host and below a process of ours."""

    def __init__(self, target: testbed.Target) -> None:
        self._target = target
        self._ended = threading.Event()
        self._operator = 0
        self.looks = 0
        self.found: set[str] = set()

    @contextlib.contextmanager
    def on(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        self._operator = process.pid
        host = threading.Thread(target=self._look_at_host)
        here = threading.Thread(target=self._look_here)
        testbed.shell(self._target, WATCH_BEGINS.replace("MARKERS", "\n".join(MARKERS)))
        host.start()
        here.start()
        try:
            yield
        finally:
            self._ended.set()
            testbed.shell(self._target, "rm -f /root/watching")
            host.join()
            here.join()

    def _look_at_host(self) -> None:
        *found, looks = testbed.shell(self._target, WATCH, timeout=300).splitlines()
        self.found |= {f"on the host: {line}" for line in found}
        self.looks = int(looks)

    def _look_here(self) -> None:
        while not self._ended.wait(0.02):
            for pid in descendants(self._operator):
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        text = Path(f"/proc/{pid}/{name}").read_text(errors="replace")
                        if any(marker in text for marker in MARKERS):
                            self.found.add(f"here, {name}: {text[:200]!r}")


WATCH_BEGINS = """umask 077
cat >/root/markers <<'END'
MARKERS
END
touch /root/watching
"""

WATCH = """own=$(readlink /proc/1/ns/pid)
looks=0
while [ -e /root/watching ]; do
    looks=$((looks + 1))
    for file in $(grep -alsFf /root/markers /proc/[0-9]*/cmdline /proc/[0-9]*/environ); do
        [ "$(readlink "${file%/*}/ns/pid")" = "$own" ] || continue   # a container's own process
        echo "$file $(tr '\\0\\n' '  ' <"${file%/*}/cmdline" | cut -c1-200)"
    done
    sleep 0.02
done
rm -f /root/markers
echo "$looks"
"""
"""The markers are in a file: a grep that had them in its command line would find itself."""


def descendants(root: int) -> list[int]:
    """Return a process and all that it started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def watched(stage: Stage, *words: str, terminal: bool = False) -> tuple[Said, Watch]:
    """Run `inv` as a user would, while both sides are looked at; on a terminal if asked."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "invoke", *words],
        cwd=stage.project.folder,
        env=stage.project.environment() | {"TERM": "xterm", "COLUMNS": "200"},
        stdin=theirs if terminal else subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    watch = Watch(stage.targets[0])
    heard = bytearray()
    with watch.on(process):
        with contextlib.suppress(OSError):  # a terminal whose other side has gone
            while block := os.read(ours, 1 << 16):
                heard += block
        code = process.wait(timeout=60)
    os.close(ours)
    return Said(code, heard.decode(errors="replace"), "", time.monotonic() - began), watch


def assert_silent(said: Said, watch: Watch) -> None:
    assert not watch.found, watch.found
    assert watch.looks > 10
    lines = [line for line in said.text.splitlines() if any(marker in line for marker in MARKERS)]
    assert not lines, lines[:3]


def test_a_deploy_that_succeeds_shows_no_secret(planted: Stage) -> None:
    said, watch = watched(planted, "deploy", "--settle=1", "--verbose")
    assert said.code == 0, said.text
    assert_silent(said, watch)


@pytest.mark.parametrize("how", ["json", "terminal"])
def test_a_release_that_prints_its_environment_shows_no_secret(planted: Stage, how: str) -> None:
    before = planted.live()
    planted.project.edit("invoke.yaml", '"timeout": 60', '"timeout": 10')
    planted.project.edit("board/views.py", HEALTH, HEALTH_THAT_TELLS)
    planted.commit()
    words = ("deploy", "--settle=0", *(["--json"] if how == "json" else []))
    said, watch = watched(planted, *words, terminal=how == "terminal")
    planted.project.edit("board/views.py", HEALTH_THAT_TELLS, HEALTH)
    planted.project.edit("invoke.yaml", '"timeout": 10', '"timeout": 60')
    assert said.code == 1, said.text
    assert "I tell all:" in said.text, "the log of the release that failed is shown"
    assert HIDDEN in said.text
    assert_silent(said, watch)
    encoded = re.findall(r"[A-Za-z0-9+/]{60,}", said.text)
    assert not [text for text in encoded if any(marker in decoded(text) for marker in MARKERS)]
    assert planted.live() == before


def decoded(text: str) -> str:
    done = subprocess.run(["base64", "-di"], input=text.encode(), capture_output=True, check=False)
    return done.stdout.decode(errors="replace")


def test_no_file_holds_a_secret_but_the_env_file_of_a_release_that_is_kept(planted: Stage) -> None:
    target, live = planted.targets[0], planted.live()
    found = testbed.shell(target, GREP.replace("MARKERS", "\n".join(MARKERS)))
    assert found.split() == [f"{BASE}/releases/{live}/.env"]
    here = subprocess.run(
        ["grep", "-rlF", *(word for marker in MARKERS for word in ("-e", marker)), "."],
        cwd=planted.project.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert here.stdout.split() == ["./.env.prod"]


GREP = """umask 077
cat >/root/markers <<'END'
MARKERS
END
grep -rlaFf /root/markers /home /tmp /var/tmp /var/log /etc /run 2>/dev/null | grep -v '^/run/docker/' || true
rm /root/markers
"""


def test_an_env_file_is_for_its_owner_only_and_so_is_its_folder(planted: Stage) -> None:
    modes = testbed.shell(planted.targets[0], f"find {BASE}/releases -mindepth 1 -printf '%y %m\\n' | sort -u")
    assert modes.splitlines() == ["d 700", "f 600"], modes


def test_an_image_holds_no_secret(planted: Stage) -> None:
    image = f"app:{planted.live()}"
    history = testbed.shell(planted.targets[0], f"docker history --no-trunc {image}; docker image inspect {image}")
    assert not [marker for marker in MARKERS if marker in history]
    inside = testbed.shell(
        planted.targets[0],
        f"docker run --rm --entrypoint grep {image} -rlF {' '.join(f'-e {m}' for m in MARKERS)} /app /srv /home /tmp"
        " || [ $? = 1 ]",
    )
    assert inside == ""
