"""Faults on real hosts under load, in short: `make faults` plays them all."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

import testbed
from testbed.faults import cases
from testbed.faults.bed import Bed
from testbed.faults.campaign import play

if TYPE_CHECKING:
    from testbed.faults.cases import Case

HOSTS = ["127.0.0.11", "127.0.0.12", "127.0.0.13"]
TELLING = (
    cases.killed("deploy", cases.step("switch nginx", done=True)),
    cases.interrupted(cases.step("watch "), signal.SIGINT),
    cases.harmed("dockerd killed", cases.step("gate ", host=HOSTS[cases.VICTIM])),
    cases.cut("link silent for 20 s", "deploy", cases.step("build the image")),
)
ALONE = (
    cases.killed("deploy", cases.step("gate ")),
    cases.cut("link silent for 20 s", "deploy", cases.step("start ")),
)
"""Where the script goes on from what comes before *start*: a host that no other one waits for."""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    made = Bed.make(testbed.up(len(HOSTS)), tmp_path_factory.mktemp("faults") / "project")
    assert made.hosts == HOSTS
    return made


@pytest.mark.parametrize("case", TELLING, ids=lambda case: f"{case.group}, {case.moment}")
def test_a_fault_costs_no_request_and_the_next_deploy_heals(bed: Bed, case: Case) -> None:
    result = play(bed, case)
    assert result.struck, "it had ended before"
    assert not result.failed, str(result)
    assert result.sent > 100, "that is no load"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    return Bed.make(testbed.up(1), tmp_path_factory.mktemp("alone") / "project")


@pytest.mark.parametrize("case", ALONE, ids=lambda case: f"{case.group}, {case.moment}")
def test_nor_does_it_on_a_host_alone(alone: Bed, case: Case) -> None:
    test_a_fault_costs_no_request_and_the_next_deploy_heals(alone, case)
