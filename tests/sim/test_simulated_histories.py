"""Thousands of histories of operators, hosts and bad luck: nobody loses users, and one deploy heals what is left.

A failure prints the shortest story that still fails, and the command that plays it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sim_history import KINDS, draw, installed, one_processor, play, play_many, season, shrink, tell
from sim_host import SimWords
from sim_plants import FAULTS, PLANTS

from deploy.host import library

SHARD = 400
SHARDS = 4
PLANTED = 2_000
SIMULATE = Path(__file__).parent / "simulate.py"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("shard", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, SHARDS))])
def test_every_history_keeps_its_users_and_is_healed_by_one_deploy(shard: int) -> None:
    with one_processor(), installed():
        tally = play_many(range(shard * SHARD, (shard + 1) * SHARD))
        if tally.failed:
            pytest.fail(tell(play(shrink(draw(tally.failed[0])))))
    assert tally.histories == SHARD
    assert set(tally.fired) >= set(KINDS)  # a fault that never strikes proves nothing
    assert set(tally.ends) == {0, 1, 2, 3, None}


@pytest.mark.long
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    with one_processor(), installed() as patch:
        season()
        PLANTS[name](patch)
        assert play_many(range(PLANTED), kinds=FAULTS.get(name, KINDS)).failed, (
            f"{PLANTED} histories, and nobody noticed that {name}"
        )


def test_a_history_follows_from_its_seed_alone() -> None:
    with one_processor(), installed():
        once = [tell(play(draw(seed))) for seed in range(30)]
        again = [tell(play(draw(seed))) for seed in reversed(range(30))]
    assert once == again[::-1]


@pytest.mark.long
def test_another_process_plays_the_same_history_in_every_detail() -> None:
    stories = {
        subprocess.run(
            [sys.executable, str(SIMULATE), "--replay", "18"],
            env={**os.environ, "PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashing in ("1", "2")
    }
    (story,) = stories
    assert story.endswith("=> healed\n")


def test_a_failing_history_is_made_shorter_and_says_how_to_play_it_again() -> None:
    with one_processor(), installed() as patch:
        season()
        PLANTS["nobody is drained"](patch)
        (seed,) = play_many(range(PLANTED)).failed
        before, after = draw(seed), shrink(draw(seed))
        story = tell(play(after))
    assert (len(after.faults), len(after.acts)) <= (len(before.faults), len(before.acts))
    assert "is signalled with requests open" in story
    assert f"--replay {seed}" in story


def test_the_words_of_the_simulator_are_those_of_the_library() -> None:
    words = {name.removeprefix("sim_") for name in vars(SimWords) if name.startswith("sim_")}
    assert {word for word in words if f"\n{word}()" not in library()} == set()
