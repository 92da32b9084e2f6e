"""What hosts get of the templates, run as far as that goes without docker."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.recipe import documents

ROOT = Path(__file__).parent.parent.parent
TEMPLATES = ROOT / "templates"


class Asked(http.server.BaseHTTPRequestHandler):
    """Remembers which host was asked for which path; answers with the status that the path names, or 200."""

    seen: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.seen.append((self.headers["Host"], self.path))
        self.send_response(int(self.path[1:]) if self.path[1:].isdecimal() else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def port() -> Iterator[int]:
    Asked.seen = []
    with http.server.HTTPServer(("127.0.0.1", 0), Asked) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def checks(program: str, port: int, **env: str) -> int:
    """Run a health check as docker would, and return its exit status."""
    words = [sys.executable, "-c", program.replace("8000", str(port))]
    return subprocess.run(words, env={**os.environ, **env}, check=False).returncode


def of_colour(**said: str) -> str:
    stack = yaml.safe_load((TEMPLATES / "colour.yml").read_text())
    *_, program = documents.interpolate(stack, said)["services"]["web"]["healthcheck"]["test"]
    return str(program)


def test_docker_asks_what_the_gate_asks(port: int) -> None:
    """Of a host that ALLOWED_HOSTS lacks Django logs a traceback, and mails it, at each look."""
    program = of_colour(GREENROOM_HEALTH_HOST="shop.example.com", GREENROOM_HEALTH_PATH="/up?deep=1")
    assert checks(program, port) == 0
    assert Asked.seen == [("shop.example.com", "/up?deep=1")]


@pytest.mark.parametrize(("status", "fit"), [("404", True), ("500", False)])
def test_docker_takes_any_answer_below_500(port: int, status: str, *, fit: bool) -> None:
    assert (checks(of_colour(GREENROOM_HEALTH_PATH=f"/{status}"), port) == 0) is fit


@pytest.mark.parametrize(
    ("hosts", "host"),
    [
        ("shop.example.com, other", "shop.example.com"),
        (".example.com", "example.com"),
        ("*", "localhost"),
        ("", "localhost"),
    ],
)
def test_the_image_by_itself_asks_for_a_host_that_django_allows(port: int, hosts: str, host: str) -> None:
    text = (TEMPLATES / "Dockerfile").read_text().replace("\\\n", "")
    found = re.search(r'HEALTHCHECK .* CMD python -c "(.*)"', text)
    assert found
    assert checks(found[1], port, ALLOWED_HOSTS=hosts) == 0
    assert Asked.seen == [(host, "/healthz")]


def test_nginx_leaves_an_idle_connection_before_any_app_does() -> None:
    """Of their own, gunicorn closes one after 2 s, uvicorn and Node after 5: a POST that meets that is lost."""
    text = (TEMPLATES / "nginx" / "colours.conf").read_text()
    assert re.findall(r"^ *keepalive_timeout (\w+);", text, re.MULTILINE) == ["1s", "1s"]


def test_a_development_env_without_passwords_reaches_its_database_and_its_broker() -> None:
    stack = yaml.safe_load((TEMPLATES / "setting_dev.yml").read_text())
    services = documents.interpolate(stack, {"POSTGRES_PASSWORD": "", "REDIS_PASSWORD": ""})["services"]
    assert services["redis"]["environment"] == {"REDISCLI_AUTH": ""}
    database = services["postgres"]["environment"]
    assert (database["POSTGRES_PASSWORD"], database["POSTGRES_HOST_AUTH_METHOD"]) == ("", "trust")


@pytest.mark.parametrize("name", ["setting_prod.yml", "setting_dev.yml"])
def test_queries_in_parallel_have_more_to_share_than_docker_gives(name: str) -> None:
    """Of 64 MiB a VACUUM of a large table may want all, and ends with an error."""
    assert yaml.safe_load((TEMPLATES / name).read_text())["services"]["postgres"]["shm_size"] == "256m"


@pytest.mark.parametrize(
    ("started", "publishes"),
    [("gunicorn", True), ("uvicorn", True), ("daphne", True), ("celery", False), ("sh", False)],
)
def test_static_files_are_published_for_any_web_server_and_for_nothing_else(
    tmp_path: Path, started: str, *, publishes: bool
) -> None:
    for name in ("python", started):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*"\n')
        (tmp_path / name).chmod(0o755)
    said = subprocess.run(
        ["/bin/sh", str(TEMPLATES / "docker-entrypoint.sh"), started, "x"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    published = ["python - /app/static_root /srv/static"] if publishes else []
    assert said.stdout.splitlines() == [*published, f"{started} x"]
