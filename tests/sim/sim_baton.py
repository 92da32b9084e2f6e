"""Virtual time, and real threads of which exactly one runs: who holds the baton runs, everybody else waits.

What happens next is the earliest event on the heap; where several could happen at once, the seed decides. The product's
own threads (one a host, the heartbeat) are threads here, too, so the code under test is the code that ships: it only
finds another `threading`, another executor and another clock.
"""

from __future__ import annotations

import heapq
import threading
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from typing_extensions import Self


class Died(BaseException):
    """The operator whose thread this is has been killed: nothing of theirs runs any more, no undo either."""


class Life:
    """What threads belong to: an operator's process. `dead` ends all of them; `asleep_until` freezes them (a lid)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.asleep_until = 0.0
        self.interrupted = False
        self.interruptible = False
        self.tasks: list[Task] = []
        self.pokes: list[Callable[[], None]] = []

    def poke(self) -> None:
        """One host failed, or Ctrl-C was pressed: whoever reads from another looks up, as it does each 0.2 s."""
        for each in self.pokes:
            each()


class Task:
    """One thread's worth of the product's work."""

    __slots__ = ("act", "done", "life", "main", "ready", "worker")

    def __init__(self, life: Life, act: Callable[[], None], worker: Worker | None) -> None:
        self.life = life
        self.act = act
        self.worker = worker
        self.ready = False
        self.done = False
        self.main = False


class Worker:
    """A thread that is kept for the next history: starting one costs more than a whole phase."""

    idle: list[Worker] = []  # noqa: RUF012  # one pool for the process, on purpose

    def __init__(self) -> None:
        self.baton = threading.Lock()
        self.baton.acquire()
        self.task: Task | None = None
        self.clock: Scheduler | None = None

    @classmethod
    def hire(cls, clock: Scheduler) -> Worker:
        if cls.idle:
            worker = cls.idle.pop()
        else:
            worker = cls()
            threading.Thread(target=worker.life, daemon=True).start()
        worker.clock = clock
        return worker

    def life(self) -> None:
        while True:
            self.baton.acquire()
            assert self.task
            assert self.clock
            self.task.act()
            self.task.done = True
            clock, self.task = self.clock, None
            Worker.idle.append(self)
            clock.pass_on()


class Scheduler:
    """The clock, the heap and the baton. `after` is called when an event has happened: there the invariants live."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 0.0
        self.after: Callable[[], None] = lambda: None
        self.over = False
        self.error: BaseException | None = None
        self.events = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._ready: list[Task] = []
        self._tasks: list[Task] = []
        self.main = Task(Life("simulator"), lambda: None, None)
        self._main_baton = threading.Lock()
        self._main_baton.acquire()
        self.current = self.main

    def at(self, delay: float, act: Callable[[], None]) -> None:
        """Let `act` happen `delay` seconds from now."""
        heapq.heappush(self._heap, (self.now + delay, next(self._numbers), act))

    def wake(self, task: Task) -> None:
        """Let a thread go on, once it sits at the baton; a frozen one when it thaws."""
        if task.done or task.ready:
            return
        if task.life.asleep_until > self.now and not task.life.dead:
            self.at(task.life.asleep_until - self.now, lambda: self.wake(task))
            return
        task.ready = True
        self._ready.append(task)

    def spawn(self, life: Life, act: Callable[[], None]) -> Task:
        task = Task(life, act, Worker.hire(self))
        assert task.worker
        task.worker.task = task
        life.tasks.append(task)
        self._tasks.append(task)
        self.wake(task)
        return task

    def kill(self, life: Life) -> None:
        life.dead = True
        for task in life.tasks:
            self.wake(task)

    def alive(self) -> None:
        """Every door that the product's threads go through asks this first."""
        if self.over or self.current.life.dead:
            raise Died

    def block(self) -> None:
        """Let others go on until somebody wakes this thread. It may be woken for nothing: look again."""
        me, chosen = self.current, self._next()
        self._hand_to(chosen)
        if chosen is not me:  # never self.current: whoever has the baton now may hand it back before we look
            (me.worker.baton if me.worker else self._main_baton).acquire()
        if me.worker:
            self.alive()
        elif self.error and not self.over:
            raise self.error

    def sleep(self, seconds: float) -> None:
        task, until = self.current, self.now + seconds
        self.at(seconds, lambda: self.wake(task))
        while self.now < until:
            self.block()
            self.heed_ctrl_c()

    def heed_ctrl_c(self) -> None:
        """Let a Ctrl-C reach the main thread of an operator, where it waits for time or for others."""
        life = self.current.life
        if life.interrupted and self.current.main:
            life.interrupted = False
            raise KeyboardInterrupt

    def pass_on(self) -> None:
        """Go on with somebody else: this thread's work is done."""
        self._hand_to(self._next())

    def finish(self) -> None:
        """End every thread of a history that is over: each finds itself dead, and its worker is free again."""
        self.over = True
        self._heap.clear()
        for task in self._tasks:
            task.life.asleep_until = 0.0
            self.wake(task)
        while not all(task.done for task in self._tasks):
            self.block()

    def _hand_to(self, task: Task) -> None:
        before, self.current = self.current, task
        if task is not before:
            (task.worker.baton if task.worker else self._main_baton).release()

    def _next(self) -> Task:
        try:
            while not self._ready and not self.error and not self.over:
                self._happen()
        except BaseException as error:  # noqa: BLE001  # it belongs to the main thread, whoever ran into it
            self.error = self.error or error
        if (self.error and not self.over) or not self._ready:
            return self.main
        chosen = self.rng.randrange(len(self._ready)) if len(self._ready) > 1 else 0
        task = self._ready.pop(chosen)
        task.ready = False
        return task

    def _happen(self) -> None:
        if not self._heap:
            raise RuntimeError("nothing can happen any more, and somebody still waits")
        self.now, _, act = heapq.heappop(self._heap)
        self.events += 1
        act()
        self.after()


class Event:
    """What the product takes for a threading.Event."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[Task] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        clock = running()
        clock.alive()
        self._set = True
        for task in self._waiting:
            clock.wake(task)

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        clock = running()
        clock.alive()
        task, until = clock.current, clock.now + (timeout or 0)
        if timeout is not None and not self._set:
            clock.at(timeout, lambda: clock.wake(task))
        self._waiting.append(task)
        try:
            while not self._set and (timeout is None or clock.now < until):
                clock.block()
                clock.heed_ctrl_c()
        finally:
            self._waiting.remove(task)  # or whoever sets it would wake itself
        return self._set


class Future:
    """What the product takes for a concurrent.futures.Future."""

    def __init__(self) -> None:
        self.is_done = False
        self._result: Any = None
        self._error: BaseException | None = None

    def do(self, job: Callable[[], Any]) -> None:
        try:
            self._result = job()
        except BaseException as error:  # noqa: BLE001  # as the real one does
            self._error = error
        self.is_done = True

    def exception(self) -> BaseException | None:
        return self._error

    def result(self) -> Any:
        if self._error:
            raise self._error
        return self._result


class Executor:
    """What the product takes for a ThreadPoolExecutor. A single job is done where it stands: nobody could tell."""

    def __init__(self, max_workers: int) -> None:
        self._inline = max_workers == 1 and not running().current.life.interruptible
        self._futures: list[Future] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _wait_for(lambda: all(future.is_done for future in self._futures))

    def submit(self, job: Callable[[], Any]) -> Future:
        clock = running()
        clock.alive()
        future, submitter = Future(), clock.current
        self._futures.append(future)

        def act() -> None:
            future.do(job)
            if future.exception() or all(each.is_done for each in self._futures):
                clock.wake(submitter)

        if self._inline:
            future.do(job)
        else:
            clock.spawn(submitter.life, act)
        return future


def wait(futures: Iterable[Future], return_when: str = "ALL_COMPLETED") -> SimpleNamespace:
    """What the product takes for concurrent.futures.wait; here a Ctrl-C reaches the main thread of an operator."""
    mine = list(futures)

    def enough() -> bool:
        if return_when == "FIRST_EXCEPTION" and any(future.exception() for future in mine):
            return True
        return all(future.is_done for future in mine)

    _wait_for(enough)
    return SimpleNamespace(not_done=[future for future in mine if not future.is_done])


def _wait_for(enough: Callable[[], bool]) -> None:
    clock = running()
    clock.alive()
    clock.current.life.poke()
    while not enough():
        clock.block()
        clock.heed_ctrl_c()


class Thread:
    """What the product takes for a threading.Thread."""

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...] = (), daemon: bool | None = None) -> None:
        del daemon
        self._future = Future()
        self._job = lambda: target(*args)
        self._joining: list[Task] = []
        self._begun = False

    def is_alive(self) -> bool:
        return self._begun and not self._future.is_done

    def start(self) -> None:
        clock = running()
        clock.alive()
        self._begun = True
        clock.spawn(clock.current.life, self._act)

    def _act(self) -> None:
        self._future.do(self._job)
        for task in self._joining:
            running().wake(task)

    def join(self) -> None:
        clock = running()
        clock.alive()
        while not self._future.is_done:
            self._joining.append(clock.current)
            clock.block()
            clock.heed_ctrl_c()


class Lock:
    """A lock that somebody may hold for long in virtual time."""

    def __init__(self) -> None:
        self._held = False

    def __enter__(self) -> None:
        while self._held:
            running().sleep(0.05)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


THREADING = SimpleNamespace(Event=Event, Thread=Thread, Lock=threading.Lock)
THREADING_OF_IMAGES = SimpleNamespace(Lock=Lock)


def pause(seconds: float, wake: Event | threading.Event) -> bool:
    """What the product takes for clock.pause. A real event, which nothing in here can set, is a mere delay."""
    if isinstance(wake, Event):
        return wake.wait(seconds)
    running().alive()
    running().sleep(seconds)
    return wake.is_set()


_running: list[Scheduler] = []


def running() -> Scheduler:
    """Return the scheduler of the history that is under way: one at a time in a process."""
    return _running[-1]


def begin(clock: Scheduler) -> None:
    _running[:] = [clock]
