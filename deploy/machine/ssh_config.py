"""~/.ssh/config: which way leads to a host, and who goes it. paramiko reads it all but Include (paramiko #1609)."""

from __future__ import annotations

import getpass
import glob
import os
import re
import shlex
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko

from deploy.errors import ConfigError, Unreachable
from deploy.keys import Ssh
from deploy.machine.known_hosts import SSH_PORT, listed
from deploy.recipe.shell import Command, command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.recipe.model import Host

DEEPEST = 16
"""Files that may include one another, as in OpenSSH."""

ALONE = {"all", "canonical", "final"}
CRITERIA = {*ALONE, "host", "originalhost", "user", "localuser", "exec"}
"""What paramiko can decide on in a Match line, in lower case; anything else it would take for true."""

USUAL = ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519")

_SETTING = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.+)")
_JUMP = re.compile(r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<ip6>[^\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>\d+))?/?")


def _local_user() -> str:
    """Return who we are on this machine; '' for a uid without a name, as in many CI containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the one up to Python 3.12, the other from 3.13
        return ""


# paramiko asks at every look into a configuration, needed or not, and has no answer for a uid without a name.
paramiko.config.getpass = types.SimpleNamespace(getuser=_local_user)  # type: ignore[attr-defined]  # the module's own import


@dataclass(frozen=True)
class Hop:
    """One host on the way, the last one included. `agent` is the path of its socket, or empty."""

    address: str
    user: str
    port: int
    identities: tuple[Path, ...]
    named: bool
    """Somebody named these identities; otherwise they are the usual ones."""
    only: bool
    """Of an agent's keys, only those that are among the identities."""
    agent: str
    known_as: str
    by_hand: str
    """What to type to hear it in OpenSSH's own words: with the name that the user wrote, which goes the same way."""

    def __str__(self) -> str:
        return f"{self.user}@{self.address}" + (f":{self.port}" if self.port != SSH_PORT else "")


class Directions:
    """Knows the way to every host."""

    def __init__(self, ssh: Ssh) -> None:
        self._ssh = ssh
        self._path = Path(ssh.config).expanduser()
        try:
            lines = list(_lines(self._path, "", 0)) if self._path.exists() else []
            self._config = paramiko.SSHConfig.from_text("\n".join(lines))
        except (OSError, ValueError, paramiko.ssh_exception.ConfigParseError) as error:
            raise ConfigError(f"{self._path} cannot be read: {error}") from None

    def route(self, target: Host) -> list[Hop]:
        """Return the hops to a host: the jump hosts in the order in which they are passed, and the host itself.

        Raises:
            Unreachable: what the configuration says of it leads nowhere.

        """
        try:
            return self._route(target.address, target.user or "", target.port or 0, ())
        except (ValueError, KeyError, paramiko.ssh_exception.SSHException) as error:
            raise Unreachable(f"its part of {self._path} cannot be used: {error}") from None

    def _route(self, name: str, user: str, port: int, through: tuple[str, ...]) -> list[Hop]:
        if name in through:
            raise Unreachable(
                f"its part of {self._path} cannot be used: {name} is its own jump host",
                mend=f"say `ProxyJump none` for {name}, above the line that catches it",
            )
        known = self._config.lookup(name)
        hop = self._hop(name, known, user, port)
        # Of ProxyJump and ProxyCommand the first one counts, as in OpenSSH.
        way = next((key for key in known if key in {"proxyjump", "proxycommand"}), "")
        if way == "proxycommand" and known[way]:
            raise Unreachable(
                f"{self._path} gives it a ProxyCommand, which Greenroom does not start",
                mend=f"say `ProxyJump` instead, in a `Host {name}` above it",
            )
        jumps = str(known[way] or "none") if way else "none"
        if jumps.lower() == "none":
            return [hop]
        # The first jump host may have a jump host of its own; the others are reached from the one before.
        first, *others = (self._jump(jump.strip()) for jump in jumps.split(","))
        before = self._route(*first, (*through, name))
        return [*before, *(self._hop(each[0], self._config.lookup(each[0]), *each[1:]) for each in others), hop]

    def _jump(self, text: str) -> tuple[str, str, int]:
        found = _JUMP.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} is no jump host")
        return found["ip6"] or found["name"], found["user"] or "", int(found["port"] or 0)

    def _hop(self, name: str, known: paramiko.SSHConfigDict, user: str, port: int) -> Hop:
        address = str(known["hostname"])
        by_hand = self._by_hand(name, user, port)
        port = port or int(known.get("port", SSH_PORT))
        named = [self._ssh.identity] if self._ssh.identity else known.get("identityfile", [])
        paths = [Path(each).expanduser() for each in named or USUAL if each.lower() != "none"]
        user = user or known.get("user") or _local_user()
        if not user:
            raise Unreachable(
                f"nothing says as whom to log in there, and the user id {os.getuid()} has no name here",
                mend=f"write NAME@{name} among the env's hosts, or set USER=NAME",
            )
        return Hop(
            address=address,
            user=user,
            port=port,
            identities=tuple(paths),
            named=bool(named),
            only=str(known.get("identitiesonly", "no")).lower() == "yes",
            agent=_agent(str(known.get("identityagent", "SSH_AUTH_SOCK"))),
            known_as=str(known.get("hostkeyalias", "")).lower() or listed(address, port),
            by_hand=by_hand,
        )

    def _by_hand(self, name: str, user: str, port: int) -> str:
        words: list[object] = []
        words += ["-F", self._path] if self._path != Path(Ssh().config).expanduser() else []
        words += ["-i", Path(self._ssh.identity).expanduser()] if self._ssh.identity else []
        words += ["-p", port] if port else []
        return str(command("ssh", *words, f"{user}@{name}" if user else name))


def _agent(said: str) -> str:
    if said == "none":
        return ""
    if said == "SSH_AUTH_SOCK" or said.startswith("$"):
        return os.environ.get(said.removeprefix("$").strip("{}"), "")
    return str(Path(said).expanduser())


def _lines(path: Path, within: str, depth: int) -> Iterator[str]:
    """Yield a file's lines with those that it includes. `within` holds the criteria of the block around it.

    What is included ends with itself: the block that the Include stood in goes on behind it (ssh_config(5)).
    """
    if depth > DEEPEST:
        raise ValueError(f"{path} is included too deep")
    block = within
    for line in path.read_text().splitlines():
        found = _SETTING.match(line.strip())
        keyword, value = (found[1].lower(), found[2].strip()) if found else ("", "")
        if keyword == "include":
            for each in _included(value):
                yield from _lines(each, block, depth + 1)
            yield f"Match {block or 'all'}"
        elif keyword in {"host", "match"}:
            block = f"{within} {_criteria(keyword, value)}".strip()
            yield f"Match {block or 'all'}"
        else:
            yield line


def _criteria(keyword: str, value: str) -> str:
    """Return what a Host or Match line demands, as criteria of a Match line: those can be joined.

    paramiko takes them apart like a shell, so that they are quoted like a command.
    """
    words = shlex.split(value)
    if keyword == "host":
        return str(Command(("originalhost", ",".join(words))))
    criteria: list[str] = []
    left = iter(words)
    for word in left:
        kind = word.lower()
        if kind.removeprefix("!") not in CRITERIA:
            raise ValueError(f"`Match {word}` is not understood")
        criteria += [kind] if kind.removeprefix("!") in ALONE else [kind, next(left, "")]
    return "" if criteria == ["all"] else str(Command(tuple(criteria)))


def _included(value: str) -> Iterator[Path]:
    for pattern in shlex.split(value):
        full = Path("~/.ssh").expanduser() / Path(pattern).expanduser()
        yield from (Path(each) for each in sorted(glob.glob(str(full))) if Path(each).is_file())  # noqa: PTH207  # Path.glob takes no absolute pattern
