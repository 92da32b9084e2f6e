"""What this machine's networks demand: a certificate authority, proxies, mirrors, a package index.

Stand-ins are built, and build in their turn, inside containers, which know nothing of this machine. So whatever apt,
pip and TLS are told here, a stand-in is told too. Only what is meaningful there is taken over: no local paths.
"""

from __future__ import annotations

import ast
import io
import os
import platform
import re
import shutil
import ssl
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .commands import run
from .errors import ProvisionError

if TYPE_CHECKING:
    from collections.abc import Iterable

_BUNDLE_IN_IMAGE: Final = "usr/local/share/ca-certificates/machine.crt"
"""Below this folder, update-ca-certificates finds it again when an image installs the package ca-certificates."""

_BUNDLE_VARIABLES: Final = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PIP_SETTINGS: Final = (
    *("index-url", "extra-index-url", "trusted-host"),
    *("proxy", "timeout", "default-timeout", "retries"),
)
_APT_SETTINGS: Final = re.compile(
    r"Acquire::(Check-Valid-Until|Check-Date|Retries|https?::(Proxy|Verify).*)", re.IGNORECASE
)


@dataclass(frozen=True)
class Surroundings:
    """What to tell apt, pip and TLS inside a stand-in."""

    mirror: str | None
    """The Debian mirror in use here, or None for the default one."""
    apt: tuple[str, ...]
    """Lines of apt configuration."""
    pip: tuple[str, ...]
    """Lines of pip.conf, below [global]."""
    bundle: bytes | None = field(repr=False)
    """The certificates that this machine trusts."""

    def as_tar(self) -> bytes:
        """Return the files to lay over a root directory."""
        files: dict[str, bytes] = {}
        pip = list(self.pip)
        if self.bundle:
            files[_BUNDLE_IN_IMAGE] = files["etc/ssl/certs/ca-certificates.crt"] = self.bundle
            pip.append(f"cert = /{_BUNDLE_IN_IMAGE}")
        if pip:
            files["etc/pip.conf"] = "\n".join(["[global]", *pip, ""]).encode()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o644
                archive.addfile(member, io.BytesIO(content))
        return buffer.getvalue()


def detect() -> Surroundings:
    """Ask this machine's tools what they were told."""
    return Surroundings(mirror=_mirror(), apt=tuple(_apt()), pip=tuple(_pip()), bundle=_bundle())


def _mirror() -> str | None:
    """Return where apt takes this machine's own release of Debian from."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return None
    if release.get("ID") != "debian" or not shutil.which("apt-get"):
        return None
    suite = release.get("VERSION_CODENAME", "")
    wanted = ["Created-By: Packages", f"Release: {suite}", "Component: main"]
    found = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted], timeout=30).split()
    return found[0] if found else None


def _apt() -> Iterable[str]:
    """Return this machine's settings on how to fetch packages. A proxy may also stand in the environment."""
    if shutil.which("apt-config"):
        for line in run(["apt-config", "dump"], timeout=30).splitlines():
            name = line.split(" ", 1)[0]
            if _APT_SETTINGS.fullmatch(name) and '""' not in line:
                yield line
    for scheme in ("http", "https"):
        proxy = _proxy(scheme)
        if proxy:
            yield f'Acquire::{scheme}::Proxy "{proxy}";'


def _pip() -> Iterable[str]:
    """Return this machine's settings on where packages come from, be they set in files or in the environment."""
    settings: dict[str, str] = {}
    try:
        listing = run([sys.executable, "-m", "pip", "config", "list"], timeout=60)
    except ProvisionError:  # a Python without pip was told nothing
        listing = ""
    for line in listing.splitlines():
        qualified, _, literal = line.partition("=")
        name = qualified.rpartition(".")[2]
        if name in _PIP_SETTINGS:
            words = [word for word in str(ast.literal_eval(literal)).split() if not word.startswith(("/", "file:"))]
            if words:
                settings[name] = " ".join(words)
    proxy = _proxy("https")
    if proxy:
        settings.setdefault("proxy", proxy)
    return [f"{name} = {value}" for name, value in sorted(settings.items())]


def _bundle() -> bytes | None:
    """Return the certificates that this machine trusts: a TLS proxy's own authority may be among them."""
    named = [os.environ.get(variable) for variable in _BUNDLE_VARIABLES]
    usual = [ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt"]
    for candidate in [*named, *usual]:
        if candidate and Path(candidate).is_file():
            return Path(candidate).read_bytes()
    return None


def _proxy(scheme: str) -> str | None:
    """Return the proxy that the environment names for a scheme."""
    return os.environ.get(f"{scheme}_proxy") or os.environ.get(f"{scheme.upper()}_PROXY")
