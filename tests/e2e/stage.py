"""A stage: target hosts, the project that is deployed to them, and what their users see."""

from __future__ import annotations

import json
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import testbed
from testbed.load import GET, GET_FRESH, POST, POST_FRESH, SLEEP, Kind, Load
from testbed.project import HOST_HEADER, Project, Said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.load import Report

BRISK = (GET, GET_FRESH, POST, POST_FRESH, replace(SLEEP, path="/sleep?seconds=1", lasts=1.0))
"""Everything but the streams, whose end each drain would wait for."""

RATE = {1: 20, 3: 10}
"""Requests per second and host: the machine that sends them runs the hosts, too."""


@dataclass
class Stage:
    """Target hosts, the project that is deployed to them, and what their users see."""

    targets: list[testbed.Target]
    project: Project
    version: int = 1
    log: list[Said] = field(default_factory=list)

    @property
    def hosts(self) -> list[str]:
        return [target.address for target in self.targets]

    def inv(self, *words: str) -> Said:
        said = self.project.inv(*words)
        self.log.append(said)
        return said

    def deploy(self, *words: str) -> str:
        """Commit another version, deploy it, and return its release."""
        self.commit()
        said = self.inv("deploy", *words)
        assert said.code == 0, said.text
        for host in self.hosts:  # a release that says another name must be another page, too
            assert f"<!-- version v{self.version} -->".encode() in self.get("/", host)[2]
        return self.live()

    def commit(self) -> None:
        self.version += 1
        self.project.commit(f"v{self.version}")

    def get(
        self, path: str, host: str = "", *, body: bytes | None = None, port: int = 80
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask a host as a user would; status, headers, body."""
        url = f"http://{host or self.hosts[0]}:{port}{path}"
        request = urllib.request.Request(url, data=body, headers={"Host": HOST_HEADER})  # loopback only
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # loopback only
            return answer.status, dict(answer.headers), answer.read()

    def json(self, path: str, *, body: bytes | None = None) -> Any:
        return json.loads(self.get(path, body=body)[2])

    def live(self) -> str:
        """Return the one release that every host answers with."""
        (release,) = {self.get("/", host)[1]["X-Release"] for host in self.hosts}
        return release

    @contextmanager
    def users(self, kinds: tuple[Kind, ...] = BRISK) -> Iterator[Load]:
        with Load(self.hosts, host_header=HOST_HEADER, rate=RATE[len(self.hosts)], kinds=kinds) as load:
            yield load

    def docker(self, target: testbed.Target, *words: str) -> list[str]:
        return testbed.shell(target, " ".join(("docker", *words))).split()

    def containers(self, target: testbed.Target) -> set[tuple[str, str]]:
        form = '\'{{.Label "com.docker.compose.project"}}|{{.Label "com.docker.compose.service"}}\''
        return {
            (stack, service) for stack, service in (x.split("|") for x in self.docker(target, "ps", "--format", form))
        }

    def assert_whole(self) -> None:
        """One colour a host, the same release everywhere, workers of it, and nothing left of any other colour."""
        live = self.live()
        for number, target in enumerate(self.targets):
            stacks = [stack for stack, service in self.containers(target) if service == "web"]
            assert len(stacks) == 1, target
            services = {service for stack, service in self.containers(target) if stack == "app-setting-prod"}
            expected = {"nginx", "redis", "celery"} | ({"postgres", "celery-beat"} if number == 0 else set())
            assert services == expected, target
            for service in services & {"celery", "celery-beat"}:
                image = self.docker(
                    target, "ps", "--filter", f"label=com.docker.compose.service={service}", "--format", "'{{.Image}}'"
                )
                assert image == [f"app:{live}"], target


def assert_nothing_lost(report: Report, hosts: list[str]) -> None:
    assert report.failed == 0, str(report)
    assert [report.stale(host) for host in hosts] == [0] * len(hosts), str(report)
