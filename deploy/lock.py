"""One run at a time: on all hosts or on none.

The lock is a flock on each host, held by a connection that the operator's heartbeat keeps alive (host/lock.sh). A dead
operator's connection ends, or falls silent for LEASE seconds, and the kernel lets go: nobody has to break a lock.
"""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING

from deploy import clock
from deploy.errors import Locked
from deploy.recipe import shell
from deploy.recipe.shell import Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.apply import Hold, Machine
    from deploy.fleet import Fleet

LEASE = 30
BEAT = 5
"""Seconds: a lease outlives a few lost heartbeats, and a dead operator by no more than itself."""


@contextlib.contextmanager
def held(fleet: Fleet, variables: tuple[tuple[str, str], ...], run: str, who: str, purpose: str) -> Iterator[None]:
    """Hold the lock of every host of the fleet for the time of the block.

    Raises:
        Locked: somebody has one of them; nothing is held then.

    """
    holder = json.dumps({"who": who, "doing": purpose, "since": f"{clock.utc_now():%Y-%m-%d %H:%M:%S} UTC"})
    script = Script((shell.command("hold", run, LEASE, holder),), variables, holds=True)
    taken: list[Hold] = []

    def take(machine: Machine) -> None:
        hold = machine.hold(script)
        if hold.answer.key == "held":
            taken.append(hold)
            return
        hold.release()
        raise Locked(_describe(hold.answer.values[0]))

    ended = threading.Event()
    try:
        fleet.each(take)
        heart = threading.Thread(target=_beat, args=(taken, ended), daemon=True)
        heart.start()
        yield
        ended.set()
        heart.join()
    finally:
        ended.set()
        for hold in taken:
            hold.release()


def _beat(holds: list[Hold], ended: threading.Event) -> None:
    while not clock.pause(BEAT, ended):
        for hold in holds:
            hold.beat()  # a host that lost it says so itself: every script stands behind its fence


def _describe(holder: str) -> str:
    try:
        facts = json.loads(holder)
        text = f"{facts['who']} is at work here since {facts['since']}: {facts['doing']}"
    except (ValueError, KeyError, TypeError):
        text = "somebody is at work here"
    return f"{text}; the lock goes with that run, or {LEASE} s after it died"
