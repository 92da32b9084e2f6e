"""Keys: the one that logs in, one for each host, and the files that tell ssh about them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

from .commands import run
from .model import KINDS, MOST, Target, targets
from .state import HOST_KEYS, KEY, KNOWN_HOSTS, SSH_CONFIG

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def prepare(wanted: Sequence[Target]) -> None:
    """Make what is missing: the login key, a host key for each host, and known_hosts and ssh_config for all of them.

    Host keys outlive their hosts, so that a host that is made again is still the one that known_hosts knows. Raises
    CommandError if ssh-keygen fails.
    """
    HOST_KEYS.mkdir(exist_ok=True)
    _make_key(KEY, "greenroom-testbed")
    for target in wanted:
        _make_key(_host_key(target), target.name)
    known = [target for kind in KINDS.values() for target in targets(MOST, kind) if _host_key(target).exists()]
    _write(KNOWN_HOSTS, "".join(f"{host.address},{host.inner} {_public(_host_key(host))}\n" for host in known))
    _write(SSH_CONFIG, "".join(map(_stanza, known)) + _COMMON.format(key=KEY, known_hosts=KNOWN_HOSTS))


def luggage(target: Target) -> bytes:
    """Return a tar of what a new host needs before its first boot: its host key, and who may log in."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (
            ("ssh_host_ed25519_key", _host_key(target).read_bytes()),
            ("authorized_keys", KEY.with_suffix(".pub").read_bytes()),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def fingerprint(target: Target) -> str:
    """Return what changes when a host's luggage does: then the host was made for other keys than ours."""
    return hashlib.sha256(luggage(target)).hexdigest()[:16]


_COMMON = """\
Host *
    User deploy
    IdentityFile "{key}"
    IdentitiesOnly yes
    UserKnownHostsFile "{known_hosts}"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
"""


def _stanza(target: Target) -> str:
    return f"Host {target.name}\n    HostName {target.address}\n\n"


def _host_key(target: Target) -> Path:
    return HOST_KEYS / target.name


def _make_key(path: Path, comment: str) -> None:
    """Make a key pair under a temporary name and rename it, the private half last: that is what says it is whole."""
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(draft)], timeout=30)
    draft.with_name(f"{draft.name}.pub").replace(path.with_name(f"{path.name}.pub"))
    draft.replace(path)


def _write(path: Path, text: str) -> None:
    """Replace a file at one stroke: somebody may be logging in meanwhile."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(text)
    draft.replace(path)


def _public(path: Path) -> str:
    """Return the public half of a key pair: its type and its base64 text, without the comment."""
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])
