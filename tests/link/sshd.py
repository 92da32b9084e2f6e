"""Starts real sshds on 127.0.0.0/8, and makes what goes with them: keys, config files, agents, relays."""

from __future__ import annotations

import contextlib
import getpass
import os
import select
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.keys import Ssh
from deploy.machine import Door, SshMachine
from deploy.recipe import shell
from deploy.recipe.model import Host
from deploy.recipe.shell import Script, Signal

if TYPE_CHECKING:
    from deploy.machine.link import Hold

ME = getpass.getuser()
CONFIG = """\
Port {port}
ListenAddress {address}
{keys}
PidFile none
AuthorizedKeysFile {authorized}
{more}
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
LogLevel VERBOSE
"""


def find_sshd() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def free_port(address: str) -> int:
    with socket.socket() as sock:
        sock.bind((address, 0))
        port: int = sock.getsockname()[1]
        return port


def keygen(*arguments: str | Path) -> None:
    subprocess.run(["ssh-keygen", "-q", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL, timeout=60)


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "", *more: str) -> Path:
    keygen("-t", kind, "-N", passphrase, "-C", "made for a test", "-f", path, *more)
    return path


def public(path: Path) -> str:
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])


def fingerprint(path: Path) -> str:
    shown = subprocess.run(["ssh-keygen", "-lf", f"{path}.pub"], capture_output=True, text=True, check=True, timeout=60)
    return shown.stdout.split()[1]


@dataclass
class Sshd:
    """One sshd. `log` holds what it says."""

    address: str
    port: int
    keys: list[Path]
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        return f"[{self.address}]:{self.port}"

    @property
    def host(self) -> Host:
        return Host(self.address, ME, self.port)

    def line(self, number: int = 0) -> str:
        """The line of known_hosts that knows one of its keys."""
        return f"{self.name} {public(self.keys[number])}"

    def logins(self) -> int:
        return self.log.read_text().count("Accepted publickey")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@dataclass
class Place:
    """An operator's home, and the hosts that can be reached from it."""

    home: Path
    program: str
    sshds: list[Sshd] = field(default_factory=list)
    relays: list[Relay] = field(default_factory=list)
    machines: list[SshMachine] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ssh_dir = self.home / ".ssh"
        self.ssh_dir.mkdir(0o700)
        self.key = make_key(self.ssh_dir / "id_ed25519")
        self.authorized = self.home / "authorized_keys"
        self.authorized.write_text(f"{public(self.key)}\n")

    @property
    def known_hosts(self) -> Path:
        return self.ssh_dir / "known_hosts"

    def sshd(self, *kinds: str, address: str = "127.0.0.1", more: str = "", known: bool = True) -> Sshd:
        """Start an sshd with a key of each kind; `known` writes the keys into known_hosts."""
        folder = self.home / f"sshd{len(self.sshds)}"
        folder.mkdir()
        keys = [make_key(folder / f"key_{kind}", kind) for kind in kinds or ("ed25519",)]
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # an sshd of root refuses to start without
        port = free_port(address)
        (folder / "config").write_text(
            CONFIG.format(
                port=port,
                address=address,
                keys="\n".join(f"HostKey {key}" for key in keys),
                authorized=self.authorized,
                more=more,
            )
        )
        log = folder / "log"
        process = subprocess.Popen([self.program, "-D", "-f", str(folder / "config"), "-E", str(log)])
        sshd = Sshd(address, port, keys, log, process)
        self.sshds.append(sshd)
        wait_for(lambda: log.exists() and "Server listening" in log.read_text(), "sshd to listen", process)
        if known:
            self.know(*(sshd.line(number) for number in range(len(keys))))
        return sshd

    def know(self, *lines: str) -> None:
        with self.known_hosts.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def relay(self, target: Sshd, *, delay: float = 0, rate: float = 0) -> Relay:
        """Put a box in front of an sshd, whose key is known under the box's port, too."""
        relay = Relay(target, delay=delay, rate=rate)
        self.relays.append(relay)
        self.know(f"[{target.address}]:{relay.port} {public(target.keys[0])}")
        return relay

    def config(self, text: str) -> None:
        (self.ssh_dir / "config").write_text(text)

    def connect(self, target: Host, ssh: Ssh | None = None, passphrases: list[str] | None = None) -> SshMachine:
        """Connect as a run would. `passphrases` are what somebody types; None means that nobody is there."""
        typed = iter(passphrases or [])
        door = Door(ssh or Ssh(), [target], lambda: None if passphrases is None else lambda _: next(typed))
        machine = door.connect(target)
        self.machines.append(machine)
        return machine

    def close(self) -> None:
        for machine in self.machines:
            machine.close()
        for relay in self.relays:
            relay.close()
        for sshd in self.sshds:
            sshd.stop()


def wait_for(condition: object, what: str, process: subprocess.Popen[bytes] | None = None, limit: float = 10) -> None:
    assert callable(condition)
    deadline = time.monotonic() + limit
    while not condition():
        assert process is None or process.poll() is None, f"it ended while I waited for {what}"
        assert time.monotonic() < deadline, f"waited {limit} s for {what}"
        time.sleep(0.01)


def says(machine: SshMachine, line: str, deadline: float = 60) -> list[Signal]:
    """Run a line of sh as a step of a script."""
    return list(machine.run(Script((shell.command("sh", "-c", line),), (), deadline=deadline)))


def printed(machine: SshMachine, line: str) -> list[str]:
    signals = says(machine, line)
    assert shell.Finished() in signals, signals
    return [signal.text for signal in signals if isinstance(signal, shell.Line)]


def lease(machine: SshMachine, base: Path) -> Hold:
    """Take the lock of a host whose files are in `base`, as a run does."""
    words = shell.command("hold", "run1", 60, "{}", "first")
    return machine.hold(Script((words,), (("BASE", str(base)),), holds=True))


class Relay:
    """A box on the way: passes bytes on, until it is told otherwise.

    `delay` in seconds each way, `rate` in bytes a second towards the host. While it `swallows`, it goes on reading and
    passes on nothing: its kernel acknowledges it all. While it `stalls`, it does not even read. The first `drops`
    connections are hung up on.
    """

    def __init__(self, target: Sshd, *, delay: float = 0, rate: float = 0) -> None:
        self._target = target
        self._delay = delay
        self._rate = rate
        self._listener = socket.create_server((target.address, 0))
        if rate:  # a thin line holds little: what waits, waits at the sender's
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.drops = 0
        self.swallows = threading.Event()
        self.stalls = threading.Event()
        self._ended = threading.Event()
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def host(self) -> Host:
        return Host(self._target.address, ME, self.port)

    def close(self) -> None:
        self._ended.set()
        self.cut()
        self._listener.close()

    def cut(self) -> None:
        """Reset every connection."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                end.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                if self.connections <= self.drops:
                    near.close()
                    continue
                far = socket.create_connection((self._target.address, self._target.port))
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._ends += [near, far]
                for source, sink, rate in ((near, far, self._rate), (far, near, 0)):
                    threading.Thread(target=self._carry, args=(source, sink, rate), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, rate: float) -> None:
        held: list[tuple[float, bytes]] = []
        with contextlib.suppress(OSError, ValueError):  # ended, or closed by `cut`
            while not self._ended.is_set():
                if self.stalls.is_set():
                    time.sleep(0.05)
                    continue
                if select.select([source], [], [], 0.02)[0]:
                    data = source.recv(4096)
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    held.append((time.monotonic() + self._delay, data))
                    if rate:
                        time.sleep(len(data) / rate)
                while held and held[0][0] <= time.monotonic():
                    data = held.pop(0)[1]
                    if not self.swallows.is_set():
                        sink.sendall(data)
