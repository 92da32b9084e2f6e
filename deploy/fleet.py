"""The same work on every host at once: waits for all, collects all failures."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

from deploy.errors import Failed, GreenroomError, HostFailures, Interrupted, Unfit, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from deploy.apply import Machine
    from deploy.recipe.model import Host

T = TypeVar("T")
K = TypeVar("K")

AT_ONCE = 512
"""Threads at most: one a host. Hosts beyond that wait their turn: each phase lasts twice as long for them, and the last
flip comes that much later than the first."""


class Fleet:
    """All machines of one run, in the order of the configuration; the first one leads.

    `open_first` opens the env's first host for a run that is limited to others: its lock comes before any other.
    """

    def __init__(self, machines: Sequence[Machine], open_first: Callable[[], Machine] | None = None) -> None:
        self.machines = tuple(machines)
        self._open_first = open_first
        self._beside: list[Machine] = []
        self._interrupted = threading.Event()
        self._failed = threading.Event()

    @property
    def leader(self) -> Host:
        return self.machines[0].host

    def first(self) -> Machine:
        """Return the machine whose lock comes first; it need not be one that the run works on.

        Raises:
            Unreachable: the env's first host cannot be talked to.
            Unfit: its login cannot work there.

        """
        if self._open_first is None:
            return self.machines[0]
        if not self._beside:
            self._beside.append(self._open_first())
        return self._beside[0]

    def part(self, hosts: Iterable[Host], *beside: Machine) -> Fleet:
        """Return a fleet of some of these machines, and others. It closes nothing of its own, and stops for itself."""
        wanted = set(hosts)
        return Fleet([*(machine for machine in self.machines if machine.host in wanted), *beside])

    def stop(self, patient: bool) -> bool:
        """Say whether to break off: any step when the operator asks, a mere look also when another host failed."""
        return self._interrupted.is_set() or (patient and self._failed.is_set())

    def each(self, work: Callable[[Machine], T]) -> dict[Host, T]:
        """Do `work` on every machine at once and return its results by host.

        Raises:
            HostFailures: at least one host failed; it names each of them.
            Interrupted: the operator asked to stop; every host has been told, and has stopped.

        """
        self._interrupted.clear()
        self._failed.clear()
        return _collect(
            {machine.host: lambda machine=machine: work(machine) for machine in self.machines},  # type: ignore[misc]
            failed=self._failed,
            interrupted=self._interrupted,
        )

    def close(self) -> None:
        for machine in (*self.machines, *self._beside):
            machine.close()


def connect(
    hosts: Iterable[Host],
    open_one: Callable[[Host], Machine],
    first: Host | None = None,
    skip: Callable[[HostFailures], None] | None = None,
    interrupted: threading.Event | None = None,
) -> Fleet:
    """Connect to every host at once, each in a thread of its own (opening is not thread-safe within one connection).

    `first` is the env's first host, among them or not. With `skip` the unreachable ones are told to it and left out, as
    long as there is one that can be reached. `interrupted` is set when the operator asks to stop; each start under way
    is waited for.

    Raises:
        HostFailures: hosts that cannot be reached, or worked on, all of them by name.
        Interrupted: the operator asked to stop; what was opened is closed.

    """
    opened: dict[Host, Machine] = {}
    hosts = tuple(hosts)

    def keep(host: Host) -> None:
        opened[host] = open_one(host)

    try:
        _collect({host: lambda host=host: keep(host) for host in hosts}, interrupted=interrupted)  # type: ignore[misc]
    except BaseException as error:
        if skip and opened and isinstance(error, HostFailures) and error.unreachable:
            skip(error)
        else:
            for machine in opened.values():
                machine.close()
            raise
    machines = [opened[host] for host in hosts if host in opened]
    if first is None or first in opened or (skip and first in hosts):
        return Fleet(machines)

    def open_first() -> Machine:
        try:
            return _open_beside(first, open_one)
        except Unreachable as error:
            if not skip:
                raise
            skip(HostFailures({str(first): error}))
            return machines[0]

    return Fleet(machines, open_first)


def _open_beside(first: Host, open_one: Callable[[Host], Machine]) -> Machine:
    try:
        return open_one(first)
    except Unreachable as error:
        raise Unreachable(
            f"{first}: {error.what}\nEvery run takes the lock of the env's first host, also one on other hosts.",
            mend="; ".join(filter(None, (error.mend, "to go on without it: --skip-unreachable"))),
        ) from None
    except Unfit as error:
        raise Unfit(f"{first}: {error.what}", mend=error.mend) from None


def _collect(
    jobs: dict[Host, Callable[[], T]],
    *,
    failed: threading.Event | None = None,
    interrupted: threading.Event | None = None,
) -> dict[Host, T]:
    with ThreadPoolExecutor(max_workers=min(len(jobs), AT_ONCE)) as pool:
        futures: dict[Host, Future[T]] = {}
        try:
            for host, job in jobs.items():
                futures[host] = pool.submit(job)
            if wait(futures.values(), return_when=FIRST_EXCEPTION).not_done and failed:
                failed.set()
            wait(futures.values())
        except KeyboardInterrupt:
            if interrupted:
                interrupted.set()
            wait(futures.values())
            raise Interrupted("stopped by the operator") from None
    failures: dict[str, GreenroomError] = {}
    for host, future in futures.items():
        error = future.exception()
        if isinstance(error, GreenroomError):
            failures[str(host)] = error
        elif isinstance(error, Exception):  # one host's surprise must not hide what the others say
            failures[str(host)] = Failed(f"unexpected {type(error).__name__}: {error}")
        elif error is not None:
            raise error
    named = {host: error for host, error in failures.items() if not isinstance(error, Interrupted)}
    if failures:
        raise HostFailures(named or failures)
    return {host: future.result() for host, future in futures.items()}
