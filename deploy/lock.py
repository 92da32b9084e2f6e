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
from deploy.errors import Locked, Refused
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
        Refused: two names of the fleet lead to one machine: the first has the lock, and the second meets it.

    """
    since = f"{clock.utc_now():%Y-%m-%d %H:%M:%S} UTC"
    taken: list[Hold] = []

    def take(machine: Machine) -> None:
        holder = {"who": who, "doing": purpose, "since": since, "run": run, "host": str(machine.host)}
        script = Script((shell.command("hold", run, LEASE, json.dumps(holder)),), variables, holds=True)
        hold = machine.hold(script)
        if hold.answer.key == "held":
            taken.append(hold)
            return
        hold.release()
        raise _refusal(hold.answer.values[0], run)

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


def _refusal(holder: str, run: str) -> Refused:
    try:
        facts = json.loads(holder)
        if facts.get("run") == run:
            return Refused(
                f"it is the same machine as {facts['host']}, under another name",
                mend="one host cannot deploy from two sides: name it once in deploy.envs",
            )
        text = f"{facts['who']} is at work here since {facts['since']}: {facts['doing']}"
    except (ValueError, KeyError, TypeError, AttributeError):
        text = "somebody is at work here"
    return Locked(f"{text}; the lock goes with that run, or {LEASE} s after it died")
