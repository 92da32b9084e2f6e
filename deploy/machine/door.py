"""How this run reaches hosts: the way there, whose key is believed, who we are; and how often a start is tried."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import fabric
import paramiko

from deploy import clock
from deploy.errors import Interrupted, LinkLost, Overdue, Unfit, Unreachable
from deploy.machine import login, wire
from deploy.machine.known_hosts import KnownHosts
from deploy.machine.link import SshMachine
from deploy.machine.ssh_config import Directions
from deploy.recipe import shell
from deploy.recipe.shell import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from deploy.keys import Ssh
    from deploy.machine.ssh_config import Hop
    from deploy.recipe.model import Host

T = TypeVar("T")

PAUSES = (0.5, 1.0, 2.0)
"""Seconds before a start is tried again, give or take a half: many operators, or hosts, must not come back as one."""

REFUSED_BY_POLICY = 1
"""What a jump host answers that must not pass anything on (RFC 4254 §5.1)."""


class Passing(Exception):
    """A start failed in a way that may be over in a second. `last` is what to say when it was not."""

    def __init__(self, last: Unreachable) -> None:
        super().__init__(str(last))
        self.last = last


class Door:
    """~/.ssh/config, known_hosts and key files, each read once and shared by all hosts.

    Once it is `interrupted`, no start is tried any more.
    """

    def __init__(
        self, ssh: Ssh, hosts: Iterable[Host], ask: Callable[[], Callable[[str], str] | None] = login.terminal
    ) -> None:
        """Read what there is, and ask for passphrases that these hosts need. Belongs into the main thread.

        Raises:
            ConfigError: a file is there and cannot be read.

        """
        self._timeout = ssh.connect_timeout
        self._sudo = ssh.sudo
        self._known = KnownHosts(Path(ssh.known_hosts).expanduser(), accept_new=ssh.host_keys == "accept-new")
        self._directions = Directions(ssh)
        self._keys = login.Keys(ask())
        self._starts = threading.BoundedSemaphore(ssh.limit)
        self.interrupted = threading.Event()
        for host in hosts:
            with contextlib.suppress(Unreachable):  # told by `connect`, with the host's name
                self._keys.read(self._directions.route(host))

    def connect(self, target: Host) -> SshMachine:
        """Open the one connection to a host.

        Raises:
            Unreachable: the name does not resolve, nothing listens, the key or the login is refused.
            Unfit: sudo is wanted, and does not work.
            Interrupted: nobody wants to be connected any more.

        """
        hops = self._directions.route(target)
        limit = self._timeout * len(hops)
        machine = SshMachine(
            target,
            lambda: persist(lambda left: self._walk(hops, left), limit, self._starts, self.interrupted),
            sudo=self._sudo,
        )
        if self._sudo:
            try:
                _try_sudo(machine, hops[-1].user)
            except BaseException:
                machine.close()
                raise
        return machine

    def _walk(self, hops: Sequence[Hop], left: float) -> list[fabric.Connection]:
        """Open hop after hop, each through the one before; all or none. `left` in seconds for all of them."""
        opened: list[fabric.Connection] = []
        deadline = clock.monotonic() + left
        try:
            for hop in hops:
                with _named(hop, last=hop is hops[-1]):
                    opened.append(self._enter(hop, opened, deadline))
        except BaseException:
            for connection in reversed(opened):
                connection.close()
            raise
        return opened

    def _enter(self, hop: Hop, before: Sequence[fabric.Connection], deadline: float) -> fabric.Connection:
        left = deadline - clock.monotonic()
        if left <= 0:
            raise TimeoutError
        carrier = wire.Wire(
            before[-1].transport.open_channel("direct-tcpip", (hop.address, hop.port), ("", 0), timeout=left)
            if before
            else wire.dial(hop.address, hop.port, left)
        )
        transport = _transport(carrier, self._known.kinds(hop.known_as))
        connection = fabric.Connection(
            host=hop.address,
            user=hop.user,
            port=hop.port,
            # One for each: a Connection writes to its Config, which is empty meanwhile (Invoke, Config.merge). And none
            # from an Invoke task, which ignores ~/.ssh/config (fabric #2111).
            config=fabric.Config(ssh_config=paramiko.SSHConfig()),
            connect_timeout=left,
            connect_kwargs={
                "sock": carrier,
                "banner_timeout": left / 3,  # so that there is time for another try
                "auth_timeout": left,
                "channel_timeout": left,
                "auth_strategy": login.Login(hop, self._keys),
                "transport_factory": lambda *_, **__: transport,
            },
        )
        connection.client.set_missing_host_key_policy(_Policy(self._known, hop.known_as))
        ending = threading.Timer(left, transport.close)
        ending.daemon = True
        ending.start()
        try:
            connection.open()
        except BaseException as error:
            expired = not ending.is_alive()
            connection.client.close()
            carrier.close()
            if expired and not isinstance(error, KeyboardInterrupt):
                raise TimeoutError from None
            raise
        finally:
            ending.cancel()
        wire.watch(connection.transport, carrier)
        return connection


def _try_sudo(machine: SshMachine, user: str) -> None:
    """Have nothing done in the way in which everything will be done."""
    try:
        heard = list(machine.run(Script((), ())))
    except (LinkLost, Overdue) as error:
        raise Unreachable(f"it let the login in, and then: {error}") from None
    said = "; ".join(signal.text for signal in heard if isinstance(signal, shell.Line))
    if shell.Finished() not in heard:
        raise Unfit(
            f"the login {user} does not get through sudo (deploy.ssh.sudo): {said or 'not a word'}",
            mend=f"let it in there without a password, in sudoers: {user} ALL=(root) NOPASSWD: ALL; "
            "or add it to the group docker, and set deploy.ssh.sudo: false",
        )


class _Policy(paramiko.MissingHostKeyPolicy):
    """Asked by paramiko at every connection, since it knows no key itself."""

    def __init__(self, known: KnownHosts, name: str) -> None:
        self._known = known
        self._name = name

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        del client, hostname  # HostKeyAlias may name it otherwise
        self._known.verify(self._name, key)


def _transport(carrier: wire.Wire, kinds: Sequence[str]) -> paramiko.Transport:
    """Make a transport that asks for a key of a known kind first."""
    transport = paramiko.Transport(carrier)  # type: ignore[arg-type]  # it does what paramiko needs of a socket
    security = transport.get_security_options()
    security.key_types = sorted(security.key_types, key=lambda kind: kind not in kinds)
    return transport


@contextlib.contextmanager
def _named(hop: Hop, *, last: bool) -> Any:
    """Say what went wrong in words, and on which hop."""
    where = "" if last else f"its jump host {hop}: "
    by_hand = f"try: {hop.by_hand}"
    try:
        yield
    except Unreachable as error:
        final = Unreachable(f"{where}{error.what}", mend=error.mend)
        raise (Passing(final) if isinstance(error, login.Unsigned) else final) from None
    except socket.gaierror as error:
        final = Unreachable(f"{where}its name does not resolve: {error.strerror}", mend="is it spelt right?")
        raise (Passing(final) if error.errno == socket.EAI_AGAIN else final) from None
    except paramiko.ChannelException as error:
        reason = (
            "may not be passed on to by its jump host (AllowTcpForwarding there?)"
            if error.code == REFUSED_BY_POLICY
            else f"cannot be reached from its jump host: {error.text.lower()}"
        )
        final = Unreachable(f"{where}it {reason}", mend=by_hand)
        raise (final if error.code == REFUSED_BY_POLICY else Passing(final)) from None
    except wire.GONE as error:
        final = Unreachable(f"{where}it cannot be reached: {_reason(error)}", mend=by_hand)
        raise (Passing(final) if _may_pass(error) else final) from None


def _may_pass(error: Exception) -> bool:
    """Say whether another try may help: a busy sshd drops what it has no room for, a starting one refuses."""
    if isinstance(error, OSError) and not isinstance(error, (ConnectionError, TimeoutError)):
        return error.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH}
    return not isinstance(error, paramiko.ssh_exception.IncompatiblePeer)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):  # paramiko's banner hides it
        return "it did not answer in time (deploy.ssh.connect_timeout)"
    if isinstance(error, EOFError) or "protocol banner" in str(error):
        return "it hung up before it said who it is (too many logins at once? --limit)"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def persist(
    attempt: Callable[[float], T],
    limit: float,
    starts: contextlib.AbstractContextManager[Any],
    stop: threading.Event,
    *,
    random: Callable[[], float] = random.random,
    pause: Callable[[float, threading.Event], bool] = clock.pause,
    now: Callable[[], float] = clock.monotonic,
) -> T:
    """Try until it works, the time is over, or trying again would not help.

    Args:
        attempt: gets the seconds that are left for it.
        limit: seconds for all attempts and the pauses between them; waiting for one's turn does not count.
        starts: held during an attempt, so that not too many run at once.
        stop: once it is set, no attempt begins, and no pause goes on.
        random: a number from 0 to 1.
        pause: waits for some seconds.
        now: seconds that only grow.

    Raises:
        Unreachable: the last attempt's reason.
        Interrupted: it was to `stop`.

    """
    left = limit
    for delay in (*PAUSES, None):
        try:
            with starts:
                if stop.is_set():
                    raise Interrupted("stopped by the operator")
                began = now()
                return attempt(left)
        except Passing as error:  # noqa: PERF203  # trying again is what this loop is for
            took = now() - began
            wait = (delay or 0) * (0.5 + random())
            left -= took
            if delay is None or left < wait + took:  # a try with less time than this one would only hide its reason
                raise error.last from None
            pause(wait, stop)
            left -= wait
    raise AssertionError("the last attempt returns or raises")
