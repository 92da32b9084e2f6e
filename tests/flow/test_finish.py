"""A finish that broke: what the message says is typed, letter by letter, and then nothing is left."""

from __future__ import annotations

import re
from typing import Any

import pytest

from deploy import flow, operate
from deploy.errors import NeedsHuman
from deploy.run import Batching

HOSTS = pytest.mark.parametrize("hosts", [1, 3])
WORDS = ("hand_over", "drain", "stop", "record", "forget")


def two_ways_back(operator_of: Any, hosts: int = 1, **more: Any) -> Any:
    """Return an operator whose hosts have served three releases, and keep two."""
    operator = operator_of(hosts)
    operator.data |= {"keep": 2, **more}
    for version in "123":
        operator.write(version)
        operator.deploy()
    return operator


def breaks(operator: Any, word: str, times: int = 1) -> None:
    list(operator.world.boxes.values())[-1].refuse[word] = times


def type_what_it_says(operator: Any, error: NeedsHuman) -> None:
    """Type the command of the message: exactly that."""
    command = re.fullmatch(r"to clear it: inv (\S+) (--force|--to=(\S+)) --env=prod", error.mend)
    assert command, error.mend
    verb, flag, to = command.groups()
    if verb == "rollback":
        operator.rollback(to)
    elif verb == "deploy":
        operator.deploy(force=flag == "--force")
    else:
        assert verb == "env.push"
        operator.does(operate.push_env, flow.Options(force=flag == "--force"))


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("verb", ["deploy", "rollback", "promote", "env.push"])
def test_what_a_failed_finish_says_clears_what_it_left(operator_of: Any, verb: str, word: str) -> None:
    operator = two_ways_back(operator_of, 2)
    operator.write("4")
    if verb == "promote":
        operator.stage()
    if verb == "rollback" and word == "forget":  # a rollback finds nothing too old, but for what dead runs left
        for box in operator.world.boxes.values():
            box.images.add("app:20200101-000000")
    breaks(operator, word)
    run = getattr(operator, verb, lambda: operator.does(operate.push_env, flow.Options(force=True)))
    with pytest.raises(NeedsHuman, match="is not cleared away") as caught:
        run()
    (live,) = set(operator.live())
    type_what_it_says(operator, caught.value)
    operator.assert_whole()
    if verb == "rollback":
        assert set(operator.live()) == {live}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("verb", ["deploy", "rollback", "promote", "env.push"])
def test_what_a_failed_finish_of_a_batch_says_clears_what_it_left(operator_of: Any, verb: str, number: int) -> None:
    operator = two_ways_back(operator_of, 2)
    operator.write("4")
    if verb == "promote":
        operator.stage()
    list(operator.world.boxes.values())[number].refuse["stop"] = 1
    one_by_one = flow.Options(force=True, batching=Batching(1))
    run = getattr(operator, verb, lambda **_: operator.does(operate.push_env, one_by_one))
    with pytest.raises(NeedsHuman, match="is not cleared away") as caught:
        run(batching=Batching(1))
    type_what_it_says(operator, caught.value)
    operator.assert_whole()


@pytest.mark.parametrize("verb", ["deploy", "promote"])
def test_what_is_said_of_some_hosts_is_not_meant_for_all(operator_of: Any, verb: str) -> None:
    """Whoever tries a release on one host has not asked for it on the others."""
    operator = two_ways_back(operator_of, 3)
    operator.write("4")
    if verb == "promote":
        operator.stage()
    breaks(operator, "stop")
    with pytest.raises(NeedsHuman, match="is not cleared away") as caught:
        getattr(operator, verb)(hosts="web2,web3")
    assert caught.value.mend.endswith(" --env=prod --hosts=web2,web3")


@HOSTS
def test_a_rollback_to_what_is_live_flips_nobody_and_is_done_once(operator_of: Any, hosts: int) -> None:
    operator = two_ways_back(operator_of, hosts)
    breaks(operator, "drain")
    with pytest.raises(NeedsHuman):
        operator.rollback()
    (live,) = set(operator.live())
    before = len(operator.world.log)
    operator.rollback(live)
    words = {command.words[0] for _, command in operator.world.log[before:]}
    assert {"stop", "record"} <= words
    assert not {"start", "switch", "gate"} & words
    assert f"{live} was live already, and what was left beside it is cleared away on web1" in operator.text
    before = len(operator.world.writes())
    operator.rollback(live)
    assert "nothing to do" in operator.text
    assert len(operator.world.writes()) == before


def test_a_tidy_rollback_that_breaks_again_says_the_same_again(operator_of: Any) -> None:
    operator = two_ways_back(operator_of, 3)
    breaks(operator, "stop", times=2)
    with pytest.raises(NeedsHuman) as first:
        operator.rollback()
    with pytest.raises(NeedsHuman) as second:
        type_what_it_says(operator, first.value)
    assert first.value.mend == second.value.mend
    type_what_it_says(operator, second.value)
    operator.assert_whole()


@pytest.mark.parametrize("runs", [{}, {"web2": ["celery"]}])
def test_what_is_staged_meanwhile_is_left_alone(operator_of: Any, runs: dict[str, list[str]]) -> None:
    operator = operator_of(2, runs=runs)
    operator.deploy()
    (live,) = set(operator.live())
    operator.write("2")
    operator.stage()
    waits = operator.waits()
    operator.rollback(live)
    assert "nothing to do" in operator.text
    assert operator.waits() == waits
    operator.promote()
    assert live not in operator.live()


def test_a_standby_is_left_alone(operator_of: Any) -> None:
    operator = two_ways_back(operator_of, standby=True)
    operator.rollback()
    waits = operator.waits()
    operator.rollback(*operator.live())
    assert "nothing to do" in operator.text
    assert waits == operator.waits() != [""]


def test_workers_that_were_not_handed_over_get_what_is_live(operator_of: Any) -> None:
    operator = two_ways_back(operator_of)
    breaks(operator, "hand_over")
    with pytest.raises(NeedsHuman):
        operator.rollback()
    (live,) = operator.live()
    (box,) = operator.world.boxes.values()
    assert f"app:{live}" not in {c.image for c in box.containers if c.service == "celery"}
    operator.rollback(live)
    operator.assert_whole()


def test_a_host_for_workers_alone_that_was_not_told_what_it_serves_is_told(operator_of: Any) -> None:
    """Else it is the one host that lacks this way back, two deploys later."""
    operator = operator_of(2, runs={"web2": ["celery"]})
    operator.deploy()
    operator.write("2")
    operator.stage()
    breaks(operator, "mark_served")
    with pytest.raises(NeedsHuman) as caught:
        operator.promote()
    type_what_it_says(operator, caught.value)
    (live,) = set(operator.live())
    assert all(live in box.served for box in operator.world.boxes.values())
