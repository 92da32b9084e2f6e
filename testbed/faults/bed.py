"""The fleet that faults are tried on: its hosts, its project, its users, and how to say that it is whole."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import time
import urllib.request
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import testbed
from testbed.commands import in_parallel
from testbed.faults import inventory
from testbed.faults.operator import Operator
from testbed.faults.relay import Relay
from testbed.load import GET, GET_FRESH, POST, POST_FRESH, SLEEP, Kind, Load
from testbed.project import HOST_HEADER, Project

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

KINDS = (GET, GET_FRESH, POST, POST_FRESH, replace(SLEEP, path="/sleep?seconds=1", lasts=1.0))
RATE = 10
"""Requests per second and host: the machine that sends them runs the hosts, too."""

KEEP = 3
SETTINGS = {"settle": 0, "keep": KEEP, "drain": 10}
LEASE = 45.0
"""Seconds in which the lock of an operator who fell silent must be free again: a lease of 30, and a busy machine."""

BACK = 90.0
"""Seconds in which a host must serve again by itself after a fault that took it away."""

_AT_WORK = "is at work here"
_SETTLES = 8.0
"""Seconds in which what a run left at work on a host must have ended: sshd's sessions, docker's removals."""


@dataclass(frozen=True)
class Healing:
    """How the next plain deploys went: `waited` are the seconds until the lock of the dead one was free."""

    healed: bool
    waited: float
    said: str


@dataclass
class Bed:
    """Hosts and a project; the version is what the newest commit shows on its page.

    `altered` names a change to each operator (altered.py), those that heal among them.
    """

    targets: list[testbed.Target]
    project: Project
    version: int = 1
    operators: list[Operator] = field(default_factory=list)
    altered: str = ""
    kinds: tuple[Kind, ...] = KINDS

    @classmethod
    def make(cls, targets: Sequence[testbed.Target], folder: Path) -> Bed:
        """Begin on bare hosts, and deploy twice: from then on everything that there will be is there."""
        testbed.reset(targets)
        for target in targets:  # a reset spares the classic builder's cache, which would count as left behind
            testbed.shell(target, "docker image prune --force")
        bed = cls(list(targets), Project.create(folder, targets, SETTINGS))
        for version in (1, 2):
            if version > 1:
                bed.commit()
            operator = bed.operator("deploy")
            if operator.finish():
                raise RuntimeError(f"the hosts cannot be deployed to: {operator.said}")
        if found := bed.findings():
            raise RuntimeError(f"the fleet is not whole to begin with: {'; '.join(found)}")
        return bed

    @classmethod
    def found(cls, targets: Sequence[testbed.Target], folder: Path) -> Bed | None:
        """Return the bed that an earlier run left in `folder` and on the hosts, if it is whole."""
        if not (folder / ".git").exists():
            return None
        project = Project(folder, tuple(targets))
        project.configure(SETTINGS)  # one that was ended may have left the way through its relays
        bed = cls(list(targets), project, int(project.git("log", "-1", "--format=%s").removeprefix("v")))
        return None if bed.findings() else bed

    @property
    def hosts(self) -> list[str]:
        return [target.address for target in self.targets]

    def commit(self) -> None:
        self.version += 1
        self.project.commit(f"v{self.version}")

    def operator(self, *words: str, limit: float = 240, altered: str = "") -> Operator:
        self.operators.append(Operator(self.project, *words, limit=limit, altered=altered or self.altered))
        return self.operators[-1]

    def end_operators(self) -> None:
        """End those that still run: a case that broke leaves nobody at work."""
        for operator in self.operators:
            operator.send(signal.SIGKILL)
        self.operators.clear()

    @contextlib.contextmanager
    def users(self) -> Iterator[Load]:
        with Load(self.hosts, host_header=HOST_HEADER, rate=RATE, kinds=self.kinds) as load:
            yield load

    @contextlib.contextmanager
    def relayed(self) -> Iterator[dict[str, Relay]]:
        """For the block, operators reach the hosts through relays, which can be cut."""
        with contextlib.ExitStack() as stack:
            relays = {host: stack.enter_context(Relay(host)) for host in self.hosts}
            known = testbed.KNOWN_HOSTS.read_text()
            lines = [line.split(" ", 1) for line in known.splitlines()]
            folder = self.project.folder
            (folder / ".git" / "known_hosts").write_text(
                known
                + "".join(
                    f"[{host}]:{relay.port} {key}\n"
                    for host, relay in relays.items()
                    for names, key in lines
                    if host in names.split(",")
                )
            )
            (folder / ".git" / "ssh_config").write_text(
                "".join(f"Host {host}\n    Port {relay.port}\n" for host, relay in relays.items())
            )
            before = (folder / "invoke.yaml").read_text()
            text = before.replace(str(testbed.KNOWN_HOSTS), str(folder / ".git" / "known_hosts"))
            (folder / "invoke.yaml").write_text(text.replace('"/dev/null"', f'"{folder / ".git" / "ssh_config"}"'))
            try:
                yield relays
            finally:
                (folder / "invoke.yaml").write_text(before)

    def heal(self) -> Healing:
        """Type `inv deploy`, again while a dead operator's lease still runs, and once more to hear "nothing to do"."""
        began = time.monotonic()
        while True:
            tried = time.monotonic()
            operator = self.operator("deploy")
            code = operator.finish()
            if code != 2 or _AT_WORK not in operator.said or tried - began > LEASE:  # noqa: PLR2004  # Refused
                break
            time.sleep(1)
        if code:
            return Healing(False, tried - began, operator.said)
        again = self.operator("deploy")
        if again.finish() or "nothing to do" not in again.said:
            return Healing(False, tried - began, f"a second deploy found something to do: {again.said}")
        return Healing(True, tried - began, operator.said)

    def findings(self) -> list[str]:
        """Say what is not whole: versions that users see, and what lies on the hosts. Empty: everything is."""
        deadline = time.monotonic() + _SETTLES
        while True:
            found = [text for texts in in_parallel(self._findings_on, self.targets) for text in texts]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.5)

    def _findings_on(self, target: testbed.Target) -> list[str]:
        try:
            seen = inventory.take(target)
        except testbed.ProvisionError as error:
            return [f"{target.address}: cannot be looked at: {error.what}"]
        texts = list(inventory.leftovers(seen, first=target == self.targets[0], keep=KEEP))
        if (page := self.page(target.address)) != f"v{self.version}":
            texts.append(f"users see {page or 'nothing'} instead of v{self.version}")
        return [f"{target.address}: {text}" for text in texts]

    def page(self, host: str) -> str:
        """Return the version that a user sees on a host; "" when it does not answer well."""
        request = urllib.request.Request(f"http://{host}/", headers={"Host": HOST_HEADER})  # loopback only
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310  # loopback only
                found = re.search(rb"<!-- version (\w+) -->", answer.read())
        except (OSError, http.client.HTTPException):
            return ""
        return found[1].decode() if found else ""

    def pages(self) -> list[str]:
        return in_parallel(self.page, self.hosts)

    def await_back(self, host: str) -> float | None:
        """Wait until users of a host are served for a second on end; return when that began (monotonic), None: never.

        Nobody helps: this is how a host comes back by itself.
        """
        deadline = time.monotonic() + BACK
        since: float | None = None
        while time.monotonic() < deadline:
            served = self.page(host)
            now = time.monotonic()  # after the answer: it may have been asked while nobody was there
            since = (since or now) if served else None
            if since and now - since > 1:
                return since
            time.sleep(0.1)
        return None
