"""Light hosts: an sshd, a key and a home for each, and one stand-in for docker that sleeps where docker would work."""

from __future__ import annotations

import contextlib
import getpass
import os
import random
import re
import shutil
import socket
import subprocess
import tarfile
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LAYER = 500_000
"""Bytes of noise in the layer that no host has: what a commit of the Django example is, packed."""

CONFIG = """\
Port {port}
ListenAddress {address}
HostKey {folder}/key
PidFile none
AuthorizedKeysFile {room}/login.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
LogLevel VERBOSE
SetEnv HOME={folder}/home PATH={room}/bin:{path} LIGHT_LAYERS={room}/layers
ForceCommand cd && eval "$SSH_ORIGINAL_COMMAND"
"""


@dataclass(frozen=True)
class LightHost:
    """One of them. Its sshd says in `log` who came and what was started."""

    address: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        return f"{getpass.getuser()}@{self.address}:{self.port}"

    @property
    def base(self) -> Path:
        return self.folder / "home" / "greenroom" / "app"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def cpu(self) -> float:
        """Return the seconds of processor that it took so far, with all that has ended on it."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def flipped(self) -> float:
        """Return when its switch was moved last, by its own clock, which all of them share: seconds since 1970."""
        return max(path.stat().st_mtime_ns for path in (self.base / "switch").iterdir()) / 1e9


@dataclass(frozen=True)
class Traffic:
    """What the sshds of some hosts counted."""

    connections: int
    commands: int
    to_hosts: int
    from_hosts: int

    @classmethod
    def read(cls, hosts: Sequence[LightHost]) -> Traffic:
        logs = [host.log for host in hosts]
        sent = [pair for log in logs for pair in re.findall(r"Transferred: sent (\d+), received (\d+) bytes", log)]
        return cls(
            sum(log.count("Accepted publickey") for log in logs),
            sum(log.count("Starting session:") for log in logs),
            sum(int(received) for _, received in sent),
            sum(int(sent) for sent, _ in sent),
        )

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.connections - other.connections,
            self.commands - other.commands,
            self.to_hosts - other.to_hosts,
            self.from_hosts - other.from_hosts,
        )


@contextlib.contextmanager
def running(number: int, room: Path) -> Iterator[list[LightHost]]:
    """Have so many hosts up for the time of the block. What they are made of lies in `room`.

    Raises:
        RuntimeError: there is no sshd, or one of them does not come up.

    """
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not program:
        raise RuntimeError("there is no sshd here: install openssh-server")
    _furnish(room)
    hosts: list[LightHost] = []
    port = _free_port()
    try:
        for index in range(number):
            hosts += [
                _start(program, room, index, port)
            ]  # as it comes up: what was started is ended, whatever comes next
        for host in hosts:
            _await(host)
        (room / "known_hosts").write_text(
            "".join(f"[{host.address}]:{host.port} {_public(host.folder / 'key')}\n" for host in hosts)
        )
        yield hosts
    finally:
        for host in hosts:
            host.process.terminate()
        for host in hosts:
            host.process.wait()


def _furnish(room: Path) -> None:
    """Make what all hosts share: the login key, the programs, the layers of an image."""
    room.mkdir(exist_ok=True)
    _keygen(room / "login")
    (room / "bin").mkdir()
    (room / "bin" / "docker").symlink_to(Path(__file__).with_name("docker.sh"))
    (room / "layers").mkdir()
    noise = random.Random(0)  # noqa: S311  # bytes that do not pack, and the same each time
    for name, size in (("base", 4 * LAYER), ("app", LAYER)):
        with tarfile.open(room / "layers" / f"{name}.tar", "w") as tar:
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, BytesIO(noise.randbytes(size)))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # an sshd of root refuses to start without


def _start(program: str, room: Path, index: int, port: int) -> LightHost:
    folder = room / f"host{index}"
    for name in ("containers", "images"):
        (folder / "home" / "engine" / name).mkdir(parents=True)
    _keygen(folder / "key")
    address = f"127.88.{1 + index // 250}.{1 + index % 250}"
    config = CONFIG.format(port=port, address=address, folder=folder, room=room, path="/usr/bin:/bin")
    (folder / "config").write_text(config)
    process = subprocess.Popen([program, "-D", "-f", folder / "config", "-E", folder / "log"])
    return LightHost(address, port, folder, process)


def _free_port() -> int:
    """Return one that no other fleet of light hosts has, on the first address of them all."""
    with socket.socket() as sock:
        sock.bind(("127.88.1.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _await(host: LightHost) -> None:
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host.address, host.port), timeout=1):
            return
        if host.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"sshd at {host.address} does not come up: {host.log}")
        time.sleep(0.02)


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "light", "-f", path], check=True)


def _public(path: Path) -> str:
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])
