"""Who we are to a host: the agent's keys, and those in files.

Every key file is opened before the first connection, by one thread: a passphrase is asked for once, on the terminal,
and Ctrl-C reaches who asks.
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import io
import os
import socket
from typing import TYPE_CHECKING

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from paramiko.agent import SSH2_AGENT_IDENTITIES_ANSWER, SSH2_AGENT_SIGN_RESPONSE, AgentSSH

from deploy.errors import Unreachable
from deploy.machine.known_hosts import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from deploy.machine.ssh_config import Hop

TRIES = 3
"""How often a passphrase may be mistyped, as in OpenSSH."""

AGENT_ANSWERS = 10
"""Seconds that an agent has for an answer. One that was forwarded may be gone with its link."""

KINDS: dict[bytes, type[paramiko.PKey]] = {
    b"ssh-ed25519": paramiko.Ed25519Key,
    b"ecdsa-sha2": paramiko.ECDSAKey,
    b"ssh-rsa": paramiko.RSAKey,
}


def terminal() -> Callable[[str], str] | None:
    """Return a way to ask for a passphrase, or None where nobody sits."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return None
    return getpass.getpass


class Unsigned(Unreachable):
    """The agent did not sign with a key, and the connection went with it. The next one does without that key."""


class _AgentError(paramiko.SSHException):
    """The agent does not do what it is asked for."""


class Keys:
    """The key files of a run, each read once. What cannot be used is remembered with its reason."""

    def __init__(self, ask: Callable[[str], str] | None) -> None:
        self._ask = ask
        self._keys: dict[Path, paramiko.PKey] = {}
        self._troubles: dict[Path, str] = {}
        self._unsigned: dict[tuple[str, bytes], str] = {}

    def read(self, hops: Iterable[Hop]) -> None:
        """Read the keys of these hops; ask for a passphrase where a hop has no other way in that we can see."""
        for hop in hops:
            for path in hop.identities:
                if path not in self._keys and path not in self._troubles:
                    self._read(path, hop)

    def _read(self, path: Path, hop: Hop) -> None:
        try:
            self._take(path, _load(path, None))
        except paramiko.PasswordRequiredException:
            with _agent_keys(hop.agent) as held:
                lies_there = any(_is_of(key, path) for key in held)
                # Nobody named this one, and the agent has others: it would be asked for in vain, most of the time.
                if not lies_there and (hop.named or not held):
                    self._unlock(path)
        except (OSError, paramiko.SSHException) as error:
            missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
            if missing and not hop.named:  # one of the usual keys; who has them all?
                return
            if not _lies_in(hop.agent, path):
                self._troubles[path] = _trouble(path, error)

    def _unlock(self, path: Path) -> None:
        if not self._ask:
            self._troubles[path] = (
                f"{path} is encrypted, and there is no terminal to ask for its passphrase (ssh-add {path} gives it "
                "to an agent)"
            )
            return
        for _ in range(TRIES):
            try:
                passphrase = self._ask(f"Passphrase of {path} (empty: do without this key): ")
            except EOFError:  # Ctrl-D
                passphrase = ""
            if not passphrase:
                self._troubles[path] = f"{path} is encrypted, and was left out"
                return
            with contextlib.suppress(paramiko.SSHException):
                self._take(path, _load(path, passphrase))
                return
        self._troubles[path] = f"the passphrase of {path} was wrong {TRIES} times"

    def _take(self, path: Path, key: paramiko.PKey) -> None:
        """Keep a key, with the certificate beside it. Where that one is broken, the plain key may do."""
        self._keys[path] = key
        certificate = path.with_name(f"{path.name}-cert.pub")
        try:
            if certificate.exists():
                key.load_certificate(str(certificate))
        except (OSError, ValueError) as error:
            self._troubles[path] = f"{certificate} cannot be used: {getattr(error, 'strerror', '') or error}"

    def of(self, hop: Hop) -> list[paramiko.PKey]:
        return [self._keys[path] for path in hop.identities if path in self._keys]

    def leave_out(self, hop: Hop, key: paramiko.PKey, why: str) -> None:
        """Do without an agent's key in this run: whoever declined once would be asked again for every host."""
        blob = key.asbytes()
        self._unsigned[hop.agent, blob] = f"the agent did not sign with {fingerprint(blob)}: {why}"

    def left_out(self, hop: Hop, key: paramiko.PKey) -> bool:
        return (hop.agent, key.asbytes()) in self._unsigned

    def troubles(self, hop: Hop) -> list[str]:
        unsigned = tuple(self._unsigned.items())  # other threads add to it
        return [
            *(self._troubles[path] for path in hop.identities if path in self._troubles),
            *(why for (agent, _), why in unsigned if agent == hop.agent),
        ]


class Login:
    """Logs in to one hop; what paramiko calls an authentication strategy."""

    def __init__(self, hop: Hop, keys: Keys) -> None:
        self._hop = hop
        self._keys = keys

    def authenticate(self, transport: paramiko.Transport) -> list[str]:
        """Try key after key.

        Raises:
            Unreachable: none was taken; it says which were tried, and what kept others from it.
            Unsigned: another try may do.

        """
        tried = 0
        with _agent_keys(self._hop.agent) as every:
            held = [key for key in every if not self._keys.left_out(self._hop, key)]
            own = [key for key in held if any(_is_of(key, path) for path in self._hop.identities)]
            others = [] if self._hop.only else [key for key in held if key not in own]
            blobs = {key.asbytes() for key in held}
            files = [key for key in self._keys.of(self._hop) if key.asbytes() not in blobs]
            # Keys that somebody named come before those that happen to lie in the agent.
            for key in [*own, *files, *others] if self._hop.named else [*own, *others, *files]:
                tried += 1
                try:
                    wanted = transport.auth_publickey(self._hop.user, key)
                except paramiko.BadAuthenticationType as error:
                    raise self._refused(f"it takes no keys, only {', '.join(error.allowed_types)}") from None
                except paramiko.AuthenticationException:
                    if not transport.is_active():
                        raise self._refused(f"it hung up after {_keys(tried)}") from None
                    continue
                except _AgentError as error:
                    self._keys.leave_out(self._hop, key, str(error))
                    refused = self._refused("it was not shown all keys")
                    raise Unsigned(refused.what, mend=refused.mend) from None
                if wanted:
                    raise self._refused(f"it takes the key, and wants {' or '.join(wanted)} as well")
                return []
        raise self._refused(f"it took none of {_keys(tried)}" if tried else "there is no key to show")

    def _refused(self, why: str) -> Unreachable:
        reasons = "; ".join([why, *self._keys.troubles(self._hop)])
        return Unreachable(f"the login as {self._hop.user} is refused: {reasons}", mend=f"try: {self._hop.by_hand}")


def _keys(number: int) -> str:
    return "1 key" if number == 1 else f"{number} keys"


class _Agent(AgentSSH):
    """An agent whose keys may have comments of any bytes: they are for people, and paramiko reads them as UTF-8.

    What goes wrong has one name: it happens in the transport's thread, which would not survive a plain TimeoutError.
    """

    def _send_message(self, msg: bytes | paramiko.Message) -> tuple[int, paramiko.Message]:
        try:
            kind, answer = super()._send_message(msg)  # type: ignore[misc]  # paramiko's stubs leave it out
        except TimeoutError:
            raise _AgentError(f"it did not answer within {AGENT_ANSWERS} s") from None
        except (OSError, paramiko.SSHException) as error:
            raise _AgentError(f"it is gone ({error})") from None
        if kind not in {SSH2_AGENT_IDENTITIES_ANSWER, SSH2_AGENT_SIGN_RESPONSE}:
            raise _AgentError("it refused")
        return kind, _Lenient(answer.get_remainder())


class _Lenient(paramiko.Message):
    def get_text(self) -> str:
        return self.get_string().decode(errors="replace")


@contextlib.contextmanager
def _agent_keys(path: str) -> Iterator[list[paramiko.PKey]]:
    """Offer the keys of the agent behind a socket; none if there is nobody."""
    agent = _Agent()
    with contextlib.suppress(OSError, paramiko.SSHException), contextlib.ExitStack() as stack:
        if path:
            wire = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            wire.settimeout(AGENT_ANSWERS)
            wire.connect(path)
            agent._connect(wire)  # type: ignore[attr-defined]  # noqa: SLF001  # paramiko's Agent knows SSH_AUTH_SOCK only
            stack.pop_all()
    try:
        yield list(agent.get_keys())
    finally:
        agent._close()  # type: ignore[attr-defined]  # noqa: SLF001  # the same


def _lies_in(agent: str, path: Path) -> bool:
    """Say whether an agent holds the key of which there is no more than the public half here."""
    if not _public_half(path):
        return False
    with _agent_keys(agent) as held:
        return any(_is_of(key, path) for key in held)


def _trouble(path: Path, error: OSError | paramiko.SSHException) -> str:
    if isinstance(error, OSError):
        return f"{path} cannot be read: {error.strerror}"
    if _public(path):
        return f"{path} is a public key, and no agent holds the private one"
    return f"{path} cannot be used: {error}"


def _is_of(key: paramiko.PKey, path: Path) -> bool:
    return key.asbytes() == _public_half(path)


def _public_half(path: Path) -> bytes:
    """Return the public key of a key file: an OpenSSH file says it in the clear, for others the .pub beside it does.

    The file may be a public key itself, or not be there at all: the agent holds its private half (ssh_config(5)). The
    format is that of PROTOCOL.key in OpenSSH's source.
    """
    try:
        first, *body = path.read_text(errors="replace").split("\n")
        if first == "-----BEGIN OPENSSH PRIVATE KEY-----":
            message = paramiko.Message(
                base64.b64decode("".join(body[: body.index("-----END OPENSSH PRIVATE KEY-----")]))
            )
            message.get_bytes(len("openssh-key-v1\0"))
            for _ in ("cipher", "key derivation", "its options"):
                message.get_binary()
            message.get_int()
            return message.get_binary()
    except (OSError, ValueError):
        pass
    return _public(path) or _public(path.with_name(f"{path.name}.pub"))


def _public(path: Path) -> bytes:
    """Return the key of a file that holds one public key, in its one line; nothing if it does not."""
    try:
        kind, text, *_ = path.read_text(errors="replace").split()
        blob = base64.b64decode(text)
    except (OSError, ValueError):
        return b""
    return blob if paramiko.Message(blob).get_binary() == kind.encode() else b""


def _load(path: Path, passphrase: str | None) -> paramiko.PKey:
    """Read a private key of any kind.

    Raises:
        OSError: it cannot be read.
        paramiko.PasswordRequiredException: it is encrypted.
        paramiko.SSHException: it is no key that paramiko knows, or the passphrase is wrong.

    """
    kind = paramiko.Message(_public_half(path)).get_binary().partition(b"-nistp")[0]
    # A passphrase costs half a second a try, on purpose; so only the right kind is tried, where the file says it.
    for each in [KINDS[kind]] if kind in KINDS else KINDS.values():
        try:
            return _open(each, path, passphrase)
        except paramiko.PasswordRequiredException:  # noqa: PERF203  # trying kind after kind is what this loop is for
            raise
        except (paramiko.SSHException, ValueError, UnsupportedAlgorithm):
            continue
    raise paramiko.SSHException("it is no RSA, ECDSA or Ed25519 key, or its passphrase is another")


def _open(kind: type[paramiko.PKey], path: Path, passphrase: str | None) -> paramiko.PKey:
    """Read a private key of one kind.

    Where what stands in an OpenSSH file needs no padding, paramiko takes the end of the comment for some, and loses
    the key: one ECDSA key without a comment in three. So the file is written anew, in memory, with padding.
    """
    try:
        return kind.from_private_key_file(str(path), passphrase)
    except paramiko.PasswordRequiredException:
        raise
    except paramiko.SSHException:
        key = serialization.load_ssh_private_key(path.read_bytes(), passphrase.encode() if passphrase else None)
    padded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return kind.from_private_key(io.StringIO(padded.decode()))
