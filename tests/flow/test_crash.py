"""The operator dies after every single command, and the next plain deploy heals what was left."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from world import Died

from deploy.errors import Failed

HOSTS = pytest.mark.parametrize("hosts", [1, pytest.param(3, marks=pytest.mark.long)])
GOES_ON = pytest.mark.parametrize("host_goes_on", [False, True], ids=["script-ends-too", "script-goes-on"])


def crash_everywhere(operator_of: Any, hosts: int, host_goes_on: bool, verb: str, prepare: int) -> int:
    """Let the operator die after write 1, 2, 3, ... of `verb`; return how many deaths there were."""
    before = operator_of(hosts)
    for version in range(prepare):
        before.write(str(version))
        before.deploy()
    for deaths in itertools.count():
        operator = before.twin()
        operator.write("next")
        world = operator.world
        world.die_after = len(world.writes()) + deaths + 1
        world.host_goes_on = host_goes_on
        try:
            getattr(operator, verb)()
        except Died:
            world.revive()
            operator.write("healed")
            operator.deploy()
            operator.assert_whole()
        else:
            return deaths
    raise AssertionError("unreachable")


@HOSTS
@GOES_ON
def test_a_first_deploy_that_dies_anywhere_is_healed_by_the_next(
    operator_of: Any, hosts: int, host_goes_on: bool
) -> None:
    assert crash_everywhere(operator_of, hosts, host_goes_on, "deploy", prepare=0) > 10


@HOSTS
@GOES_ON
def test_a_deploy_that_dies_anywhere_is_healed_by_the_next(operator_of: Any, hosts: int, host_goes_on: bool) -> None:
    assert crash_everywhere(operator_of, hosts, host_goes_on, "deploy", prepare=1) > 10


@HOSTS
@GOES_ON
def test_a_rollback_that_dies_anywhere_is_healed_by_the_next_deploy(
    operator_of: Any, hosts: int, host_goes_on: bool
) -> None:
    assert crash_everywhere(operator_of, hosts, host_goes_on, "rollback", prepare=2) > 6


@HOSTS
def test_an_undo_that_dies_anywhere_is_healed_by_the_next_deploy(operator_of: Any, hosts: int) -> None:
    before = operator_of(hosts)
    before.deploy()
    for deaths in itertools.count(1):
        operator = before.twin()
        operator.write("2")
        boxes = list(operator.world.boxes.values())
        boxes[-1].refuse["watch_colour"] = 1
        operator.world.die_after = len(operator.world.writes()) + deaths
        try:
            operator.deploy()
        except Died:
            operator.world.revive()
            boxes[-1].refuse.clear()
            operator.write("healed")
            operator.deploy()
            operator.assert_whole()
        except Failed:
            assert deaths > 10 * hosts  # the operator lived through the whole undo
            return
