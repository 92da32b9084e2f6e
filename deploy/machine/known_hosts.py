"""The keys that hosts are known by: known_hosts, read once, line by line, with OpenSSH's own meaning (sshd(8)).

paramiko's loader dies on one @cert-authority line (paramiko #771), knows no wildcards, and takes the first of two keys
of one type for the only one; fabric accepts what is missing (fabric #1804, #2071).
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from paramiko.hostkeys import HostKeys

from deploy.errors import ConfigError, Unreachable

if TYPE_CHECKING:
    from pathlib import Path

    import paramiko

SSH_PORT = 22
KEY, REVOKED, AUTHORITY = "", "@revoked", "@cert-authority"


@dataclass(frozen=True)
class _Line:
    """One line that says something: about whom, and what."""

    number: int
    marker: str
    names: tuple[str, ...]
    kind: str
    blob: bytes

    def is_about(self, name: str) -> bool:
        """OpenSSH lets a `!` win over whatever else matches."""
        if any(_means(n[1:], name) for n in self.names if n.startswith("!")):
            return False
        return any(_means(n, name) for n in self.names)


class KnownHosts:
    """Decides whether the key that a host shows is its own."""

    def __init__(self, path: Path, *, accept_new: bool) -> None:
        self._path = path
        self._accept_new = accept_new
        self._one_at_a_time = threading.Lock()
        try:
            text = path.read_text(errors="replace") if path.exists() else ""
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
        found = (_read(line, number) for number, line in enumerate(text.split("\n"), 1))
        self._lines = [line for line in found if line]

    def kinds(self, name: str) -> list[str]:
        """Return the algorithms a host's keys are known by: asked for first, or it would show a key nobody knows."""
        kinds = [line.kind for line in self._about(name, KEY)]
        return [each for kind in kinds for each in (("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,))]

    def verify(self, name: str, key: paramiko.PKey) -> None:
        """Return if the key belongs to the host of that name (`listed`), or was new and has been written down.

        Raises:
            Unreachable: it is revoked, another one is known, or none is and new ones are not accepted.

        """
        with self._one_at_a_time:  # a jump host shows its key once for each host behind it; it is written down once
            self._verify(name.lower(), key)

    def _verify(self, name: str, key: paramiko.PKey) -> None:
        shown = f"its host key {fingerprint(key.asbytes())} ({key.get_name()})"
        plain = name.removeprefix("[").rpartition("]:")[0] or name  # revoked for a host is revoked for all its ports
        for line in self._about(name, REVOKED) + self._about(plain, REVOKED):
            if line.blob == key.asbytes():
                raise Unreachable(
                    f"{shown} is revoked, in line {line.number} of {self._path}",
                    mend="whoever revoked it knows why; the host needs a new key (ssh-keygen -A there)",
                )
        own = self._about(name, KEY)
        if any(line.blob == key.asbytes() for line in own):
            return
        if own:
            before = next((line for line in own if line.kind == key.get_name()), own[0])
            raise Unreachable(
                f"its host key has changed: {fingerprint(key.asbytes())} ({key.get_name()}) now, "
                f"{fingerprint(before.blob)} ({before.kind}) in line {before.number} of {self._path}",
                mend=f"if that is right (a new machine), say: ssh-keygen -f {self._path} -R '{name}'",
            )
        if self._accept_new:
            self._remember(name, key)
            return
        authority = self._about(name, AUTHORITY)
        if authority:
            raise Unreachable(
                f"{shown} is not in {self._path}; line {authority[0].number} there trusts a certificate authority for "
                "it, and Greenroom cannot check host certificates",
                mend=f"log in once with ssh, then write down the key itself: {_scan(name)} >> {self._path}",
            )
        raise Unreachable(
            f"{shown} is not in {self._path}",
            mend="compare it with the host's own, log in once with ssh, or set deploy.ssh.host_keys: accept-new",
        )

    def _about(self, name: str, marker: str) -> list[_Line]:
        return [line for line in self._lines if line.marker == marker and line.is_about(name)]

    def _remember(self, name: str, key: paramiko.PKey) -> None:
        """Append a line; the last one that somebody wrote by hand may lack its end."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(self._path, "a+b", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                start = b""
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    start = b"" if file.read(1) == b"\n" else b"\n"
                file.write(start + f"{name} {key.get_name()} {key.get_base64()}\n".encode())
        except OSError as error:
            raise Unreachable(
                f"its host key is new, and cannot be written into {self._path}: {error.strerror}"
            ) from None
        self._lines.append(_Line(0, KEY, (name,), key.get_name(), key.asbytes()))


def listed(address: str, port: int) -> str:
    """Return a host's name as known_hosts writes it."""
    return address.lower() if port == SSH_PORT else f"[{address.lower()}]:{port}"


def fingerprint(blob: bytes) -> str:
    """As ssh prints it: SHA256, base64, without padding (RFC 4648 §3.2)."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _scan(name: str) -> str:
    address, _, port = name.removeprefix("[").partition("]:")
    return f"ssh-keyscan -p {port} {address}" if port else f"ssh-keyscan {name}"


def _read(line: str, number: int) -> _Line | None:
    """Read a line, or skip what OpenSSH, too, would skip."""
    words = line.split()
    marker = words.pop(0) if words and words[0] in {REVOKED, AUTHORITY} else KEY
    if len(words) < 3 or words[0][0] in "#@":  # noqa: PLR2004  # names, kind, key; what follows is a comment
        return None
    try:
        blob = base64.b64decode(words[2], validate=True)
    except ValueError:  # no base64; or not even ASCII
        return None
    kind = words[1].encode()
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind):  # a key says its own kind (RFC 4253 §6.6)
        return None
    return _Line(number, marker, tuple(words[0].split(",")), words[1], blob)


def _means(written: str, name: str) -> bool:
    """Hashed names, [name]:port, wildcards. Case never counts."""
    if not written.startswith("|1|"):
        return fnmatchcase(name, written.lower().replace("[", "[[]"))
    try:
        return HostKeys.hash_host(name, written) == written
    except (ValueError, AssertionError):
        return False  # no salt that could be one
