"""A Host we can talk to. The only importer of fabric and paramiko: their traps are worked around here and nowhere else.

Laws of this file:
- A host key is verified at every connection, jump hosts included; nothing is accepted silently.
- Every wait has a deadline. A link that went away is noticed, and what it was doing is *unknown*, never failed.
- Nothing but a fixed line of sh is ever in an argument: scripts and secrets go in by the standard input.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
import socket
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

import fabric
import paramiko
from paramiko.hostkeys import HostKeyEntry, HostKeys, InvalidHostKey

from deploy import clock, host
from deploy.errors import ConfigError, LinkLost, Overdue, Unreachable
from deploy.recipe import shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.config import Ssh
    from deploy.recipe.model import Host
    from deploy.recipe.shell import Script, Signal

BLOCK = 1 << 16
SSH_PORT = 22
LOOK = 0.2
"""Seconds between two looks at whether somebody wants to break off."""

LINK_TIMEOUT_MS = 15_000
"""Milliseconds after which unacknowledged bytes mean that the link is dead. paramiko sends keep-alives and never
counts the answers (paramiko #2463), so the kernel has to."""


def never() -> bool:
    return False


class KnownHosts(paramiko.MissingHostKeyPolicy):
    """Verifies a host's key against a known_hosts file that is read once and line by line.

    paramiko's own loader dies on one @cert-authority line (paramiko #771), and fabric accepts what is missing
    (fabric #1804, #2071).
    """

    def __init__(self, path: Path, *, accept_new: bool) -> None:
        self._path = path
        self._accept_new = accept_new
        self._writing = threading.Lock()
        self._entries: list[HostKeyEntry] = []
        self._revoked: list[HostKeyEntry] = []
        if path.is_file():
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                self._learn(line.strip(), number)

    def _learn(self, line: str, number: int) -> None:
        into = self._entries
        if line.startswith("@revoked "):
            into, line = self._revoked, line.partition(" ")[2].strip()
        if not line or line[0] in "#@":
            return
        try:
            entry = HostKeyEntry.from_line(line, number)
        except (paramiko.SSHException, InvalidHostKey, ValueError):
            return  # a line that OpenSSH, too, would skip
        if entry is not None:
            into.append(entry)

    def keys_of(self, name: str) -> list[paramiko.PKey]:
        """Return the keys that are good for a host. paramiko asks a host for keys of these types, and compares."""
        return [e.key for e in self._entries if e.key and _matches(e, name) and not self._is_revoked(e.key, name)]

    def _is_revoked(self, key: paramiko.PKey, name: str) -> bool:
        return any(e.key == key and _matches(e, name) for e in self._revoked)

    def changed(self, name: str, got: paramiko.PKey, expected: paramiko.PKey) -> Unreachable:
        return Unreachable(
            f"its host key has changed: {_fingerprint(got)} now, {_fingerprint(expected)} in {self._path}",
            mend=f"if that is right (a new machine), say: ssh-keygen -f {self._path} -R '{name}'",
        )

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Decide on a key that is not among `keys_of`; called by paramiko at each connection."""
        del client
        if self._is_revoked(key, hostname):
            raise Unreachable(f"its host key {_fingerprint(key)} is revoked in {self._path}")
        if not self._accept_new:
            raise Unreachable(
                f"its host key {_fingerprint(key)} ({key.get_name()}) is not in {self._path}",
                mend="compare it with the host's own, log in once with ssh, or set deploy.ssh.host_keys: accept-new",
            )
        with self._writing, self._path.open("a") as file:
            file.write(f"{hostname} {key.get_name()} {key.get_base64()}\n")


def _matches(entry: HostKeyEntry, name: str) -> bool:
    """Say whether a line is about a host: OpenSSH lets a `!` win over whatever else matches."""
    names = entry.hostnames or []
    if any(_means(n[1:], name) for n in names if n.startswith("!")):
        return False
    return any(_means(n, name) for n in names)


def _means(written: str, name: str) -> bool:
    """Hashed names, [name]:port, and the wildcards that paramiko does not know."""
    from fnmatch import fnmatchcase  # only a few hosts ever need it

    if not written.startswith("|1|"):
        return fnmatchcase(name, written.replace("[", "[[]"))
    try:
        return HostKeys.hash_host(name, written) == written
    except (ValueError, AssertionError):
        return False  # no salt that could be one


def _by_hand(target: Host) -> str:
    """What to type to see the trouble with OpenSSH's own words."""
    port = f"-p {target.port} " if target.port else ""
    return f"ssh {port}{f'{target.user}@' if target.user else ''}{target.address}"


def _reason(error: Exception) -> str:
    """Say why a connect failed: paramiko hides it behind `[Errno None]`."""
    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        causes = error.errors.values()
        return "; ".join(sorted({str(getattr(each, "strerror", None) or each).lower() for each in causes}))
    return str(error) or type(error).__name__


def _fingerprint(key: paramiko.PKey) -> str:
    """As ssh prints it: SHA256, base64, without padding (RFC 4648 §3.2)."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


class Door:
    """How this run reaches hosts: ~/.ssh/config and known_hosts, each read once and shared."""

    def __init__(self, ssh: Ssh) -> None:
        self._ssh = ssh
        self._known = KnownHosts(Path(ssh.known_hosts).expanduser(), accept_new=ssh.host_keys == "accept-new")
        # An empty Config of our own: the one in an Invoke task ignores ~/.ssh/config (fabric #2111).
        self._config = fabric.Config(ssh_config=paramiko.SSHConfig())
        self._lookup = _ssh_config(Path(ssh.config).expanduser())

    def connect(self, target: Host) -> SshMachine:
        """Open the one connection to a host.

        Raises:
            Unreachable: the name does not resolve, nothing listens, the key or the login is refused.

        """
        return SshMachine(target, lambda: self._open(target))

    def _open(self, target: Host) -> fabric.Connection:
        try:
            connection = self._connection(target.address, target.user, target.port)
            connection.open()
        except paramiko.BadHostKeyException as error:
            raise self._known.changed(_listed(connection), error.key, error.expected_key) from None
        except socket.gaierror as error:
            raise Unreachable(
                f"its name does not resolve: {error.strerror}", mend="is it spelt right in deploy.envs?"
            ) from None
        except paramiko.AuthenticationException as error:
            raise Unreachable(
                f"the login as {connection.user} is refused: {error}", mend=f"try: {_by_hand(target)}"
            ) from None
        except (ValueError, RecursionError, paramiko.ssh_exception.ConfigParseError) as error:
            raise Unreachable(f"its part of {self._ssh.config} cannot be used: {error}") from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise Unreachable(f"it cannot be reached: {_reason(error)}", mend=f"try: {_by_hand(target)}") from None
        return connection

    def _connection(self, address: str, user: str | None = None, port: int | None = None) -> fabric.Connection:
        known = self._lookup.lookup(address)
        keys = [self._ssh.identity] if self._ssh.identity else known.get("identityfile", [])
        connection = fabric.Connection(
            host=known.get("hostname", address),
            user=user or known.get("user"),
            port=port or int(known.get("port", SSH_PORT)),
            config=self._config,
            gateway=self._gateway(known.get("proxyjump", "")),
            connect_timeout=self._ssh.connect_timeout,
            # A fresh dict a host: fabric writes into it, and host A's key would be offered to B.
            connect_kwargs={
                # Like OpenSSH, without those that do not exist.
                "key_filename": [str(path) for key in keys if (path := Path(key).expanduser()).exists()],
                "banner_timeout": self._ssh.connect_timeout,
                "auth_timeout": self._ssh.connect_timeout,
                "channel_timeout": self._ssh.connect_timeout,
            },
        )
        name = _listed(connection)
        for key in self._known.keys_of(name):
            connection.client.get_host_keys().add(name, key.get_name(), key)
        connection.client.set_missing_host_key_policy(self._known)
        return connection

    def _gateway(self, jumps: str) -> fabric.Connection | None:
        """Build the chain of jump hosts: fabric walks it in reverse (fabric #2203), and checks no key on it."""
        if not jumps or jumps == "none":
            return None
        *before, last = jumps.split(",")
        user, _, place = last.rpartition("@")
        name, _, port = place.partition(":")
        connection = self._connection(name, user or None, int(port) if port else None)
        if before:
            connection.gateway = self._gateway(",".join(before))
        return connection


def _listed(connection: fabric.Connection) -> str:
    """Return a host's name as known_hosts writes it."""
    return connection.host if connection.port == SSH_PORT else f"[{connection.host}]:{connection.port}"


def _ssh_config(path: Path) -> paramiko.SSHConfig:
    if not path.exists():
        return paramiko.SSHConfig()
    try:
        return paramiko.SSHConfig.from_path(str(path))
    except (OSError, ValueError, paramiko.ssh_exception.ConfigParseError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


class SshMachine:
    """One host behind one connection. Scripts run on it one after the other; a hold runs beside them."""

    def __init__(self, target: Host, open_connection: Callable[[], fabric.Connection]) -> None:
        self.host = target
        self._open = open_connection
        self._take(open_connection())

    def reconnect(self) -> None:
        """Close what is left of the connection, and open a new one in the same way, host keys included.

        Raises:
            Unreachable: as the first time.

        """
        self._connection.close()
        self._take(self._open())

    def _take(self, connection: fabric.Connection) -> None:
        self._connection = connection
        self._transport: paramiko.Transport = connection.transport
        self._transport.set_keepalive(5)
        sock = self._transport.sock
        if isinstance(sock, socket.socket):  # behind a jump host it is a channel
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LINK_TIMEOUT_MS)

    def close(self) -> None:
        self._connection.close()

    def run(
        self, script: Script, *, parcel: IO[bytes] | None = None, stop: Callable[[], bool] = never
    ) -> Iterator[Signal]:
        """Run a script and yield what it says, as it says it; break off when `stop` says so.

        Raises:
            LinkLost: the end was not heard: the outcome is unknown.

        """
        token = secrets.token_hex(8)
        channel = self._exec(script, token, parcel)
        try:
            for line in _lines(channel, script.deadline, stop):
                yield from shell.parse(line, token)
        finally:
            channel.close()

    def hold(self, script: Script) -> Hold:
        """Start a script that goes on until it is let go; returns when it has given its first answer."""
        token = secrets.token_hex(8)
        channel = self._exec(script, token, None)
        lines = _lines(channel, script.deadline, never)
        signals = (signal for line in lines for signal in shell.parse(line, token))
        heard: list[str] = []
        for signal in signals:
            if isinstance(signal, shell.Answer):
                return Hold(channel, signal)
            if isinstance(signal, shell.Line):
                heard.append(signal.text)
        raise LinkLost("\n".join(heard) or "it ended before it answered")

    def _exec(self, script: Script, token: str, parcel: IO[bytes] | None) -> paramiko.Channel:
        line, text = shell.wrap(script.render(host.library(), token))
        try:
            channel = self._transport.open_session(timeout=script.deadline)
            channel.exec_command(line)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise LinkLost(f"the link broke: {error or type(error).__name__}", sent=False) from None
        # A script that fails early closes its end of the stream: what it printed says why, and is read next.
        with contextlib.suppress(OSError):
            channel.settimeout(script.deadline)
            _send(channel, text)
            while parcel and (block := parcel.read(BLOCK)):
                _send(channel, block)
            if not script.holds:
                channel.shutdown_write()
        return channel


class Hold:
    """A script that keeps something for us while `beat` is called, and lets go by itself when it is not."""

    def __init__(self, channel: paramiko.Channel, answer: shell.Answer) -> None:
        self._channel = channel
        self.answer = answer

    def beat(self) -> bool:
        """Say that we are alive; False when nobody listens any more."""
        try:
            self._channel.sendall(b".")
        except OSError:
            return False
        return not self._channel.exit_status_ready()

    def release(self) -> None:
        """Let go, and wait until the other side has: the next operator must find it free."""
        try:
            self._channel.shutdown_write()
            self._channel.settimeout(5)
            while self._channel.recv(BLOCK):
                pass
        except OSError:
            pass  # the link is gone; the lease lets go by itself
        self._channel.close()


def _send(channel: paramiko.Channel, block: bytes) -> None:
    channel.sendall(memoryview(block))  # type: ignore[arg-type]  # bytes would be copied once per packet: quadratic


def _lines(channel: paramiko.Channel, limit: float, stop: Callable[[], bool]) -> Iterator[str]:
    """Yield whole lines, decoded: a UTF-8 character may be cut by any packet, a line never is."""
    channel.settimeout(LOOK)
    deadline = clock.monotonic() + limit
    rest = b""
    while not stop():
        if clock.monotonic() > deadline:
            raise Overdue(f"it had not come to an end after {limit:.0f} s")
        try:
            block = channel.recv(BLOCK)
        except TimeoutError:
            continue
        if not block:
            break
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")
