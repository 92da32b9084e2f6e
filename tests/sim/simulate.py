"""Plays histories: `python tests/sim/simulate.py --histories 1000000`; one of them again: `--replay SEED`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parent.parent / "flow", Path(__file__).parent.parent.parent):
    sys.path.insert(0, str(folder))

from sim_history import Tally, draw, installed, play, play_many, shrink, tell  # noqa: E402  # they lie there

PORTION = 500


def portion(seeds: range) -> Tally:
    """Play some seeds, in a process that keeps to one processor: threads that take turns are 3 times as fast there."""
    with installed():
        return play_many(seeds)


def _settle_down(processors: multiprocessing.Queue[int]) -> None:
    os.sched_setaffinity(0, {processors.get()})


def replay(seed: int) -> int:
    with installed():
        scenario = draw(seed)
        history = play(scenario)
        if history.clock.error:
            history = play(shrink(scenario))
    print(tell(history))
    return 1 if history.clock.error else 0


def simulate(histories: int, start: int) -> int:
    processors = sorted(os.sched_getaffinity(0))
    free: multiprocessing.Queue[int] = multiprocessing.Queue()
    for each in processors:
        free.put(each)
    began = time.monotonic()
    total = Tally()
    portions = [range(n, min(n + PORTION, start + histories)) for n in range(start, start + histories, PORTION)]
    with multiprocessing.Pool(len(processors), _settle_down, (free,)) as pool:
        for tally in pool.imap_unordered(portion, portions):
            total.histories += tally.histories
            total.events += tally.events
            took = time.monotonic() - began
            if tally.failed or total.histories % (20 * PORTION) == 0 or total.histories == histories:
                print(
                    f"{total.histories:9,} histories, {total.events:13,} events, {total.histories / took:7.0f} a second"
                )
                sys.stdout.flush()
            if tally.failed:
                (seed,) = tally.failed
                print(f"seed {seed} fails:")
                return replay(seed)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--replay", type=int, help="play this seed alone, and tell its story")
    given = parser.parse_args()
    sys.exit(replay(given.replay) if given.replay is not None else simulate(given.histories, given.seed))
