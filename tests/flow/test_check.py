"""The story of `inv check`: files first, then every host; nothing is written; the exit code says how grave it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from deploy import check
from deploy.errors import ConfigError, HostFailures, Unfit, Unsafe
from deploy.recipe.shell import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Operator

GOOD = "nothing would stop a deploy, and nothing would be lost by one"


def colour(operator: Operator, line: str) -> None:
    """Give the project a colour file of its own: the templates' with one more line in the service web."""
    from deploy.source import PACKAGED

    folder = operator.folder / "templates"
    folder.mkdir(exist_ok=True)
    text = next(home for home in PACKAGED if home.is_dir()).joinpath("colour.yml").read_text()
    (folder / "colour.yml").write_text(text.replace("  web:\n", f"  web:\n    {line}\n"))


def test_a_project_and_hosts_that_are_well_are_told_so(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(2)
    operator.check()
    assert operator.text.endswith(f"{GOOD}\n")
    assert operator.world.writes() == []


def test_the_project_that_is_live_is_as_well(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(2)
    operator.deploy()
    before = operator.world.writes()
    operator.check()
    assert operator.text.endswith(f"{GOOD}\n")
    assert operator.world.writes() == before


def test_what_would_stop_a_deploy_is_told_from_what_would_be_lost_by_one(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(2)
    web1, web2 = operator.world.boxes.values()
    web1.clock_ahead, web2.lacks = 3600, ("tar",)
    colour(operator, "container_name: web")
    with pytest.raises(Unfit, match=r"^findings: 2 would stop a deploy; 1 would lose requests or data$"):
        operator.check()
    told = [line for line in operator.text.splitlines() if line.startswith(("stops", "loses", "note"))]
    assert [line.split(": ")[0] for line in told] == ["stops  colour.yml", "loses  web1", "stops  web2"]
    assert "       mend: remove that line: compose finds names by itself" in operator.text


def test_what_is_lost_alone_has_an_exit_code_of_its_own(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(1)
    operator.world.boxes[operator.setup().hosts[0]].clock_ahead = -3600
    with pytest.raises(Unsafe) as raised:
        operator.check()
    assert raised.value.exit_code == 1
    assert Unfit.exit_code == 2


def test_what_is_worth_knowing_changes_no_exit_code(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(1)
    operator.world.boxes[operator.setup().hosts[0]].clock_ahead = 20
    operator.check()
    assert "note   web1: its clock is" in operator.text
    (operator.folder / ".env").write_text("TOKEN=x\n")
    operator.check()
    assert "note   .env: it travels with the source" in operator.text
    assert operator.text.endswith(f"{GOOD}\n")


def test_a_clock_that_is_right_is_never_named_for_the_time_that_asking_takes(
    operator_of: Callable[..., Operator],
) -> None:
    """Every look at the operator's clock finds it a second later (conftest): that is no difference."""
    operator = operator_of(3)
    operator.check()
    assert "its clock" not in operator.text


def test_each_finding_is_an_event_for_programs(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(1)
    colour(operator, "container_name: web")
    with pytest.raises(Unfit):
        operator.check(as_json=True, files_only=True)
    events = [json.loads(line) for line in operator.text.splitlines()]
    (found,) = [event for event in events if event["kind"] == "finding"]
    del found["at"]
    assert found == {
        "v": 1,
        "kind": "finding",
        "weight": "stops",
        "rule": "container-name",
        "where": "colour.yml: services.web.container_name",
        "text": "web has a container_name, so blue and green cannot both exist",
        "mend": "remove that line: compose finds names by itself",
    }


def test_files_can_be_checked_without_any_host(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(1)
    operator.world.boxes.clear()
    operator.check(files_only=True)
    assert operator.text.endswith(f"{GOOD}\n")


def test_a_file_that_cannot_be_read_is_a_reason_and_hosts_are_asked_all_the_same(
    operator_of: Callable[..., Operator],
) -> None:
    operator = operator_of(1)
    operator.world.boxes[operator.setup().hosts[0]].lacks = ("gzip",)
    (operator.folder / "templates").mkdir()
    (operator.folder / "templates" / "colour.yml").write_text("services: [")
    with pytest.raises(Unfit, match=r"^findings: 2 would stop a deploy$"):
        operator.check()
    assert "stops  templates/colour.yml is no YAML" in operator.text
    assert "stops  web1: gzip is not installed" in operator.text


@pytest.mark.parametrize("line", ["container_name: web", 'ports: ["127.0.0.1:8000:8000"]'])
def test_a_deploy_refuses_what_could_not_exist_twice(operator_of: Callable[..., Operator], line: str) -> None:
    operator = operator_of(1)
    colour(operator, line)
    with pytest.raises(ConfigError, match=r"^templates/colour.yml: services.web\.") as raised:
        operator.deploy()
    assert "inv check" in raised.value.mend
    assert operator.world.log == []


def test_a_deploy_goes_through_with_what_only_check_objects_to(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(1)
    colour(operator, 'ports: ["8000"]')
    with pytest.raises(Unsafe):
        operator.check(files_only=True)
    operator.deploy()
    operator.assert_whole()


def test_hosts_that_cannot_be_asked_are_all_named(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(2)
    for box in operator.world.boxes.values():
        box.refuse = {"examine": 9}
    with pytest.raises(HostFailures) as raised:
        operator.check()
    assert set(raised.value.failures) == {"web1", "web2"}


@pytest.mark.parametrize(
    ("said", "skew"), [("100", 0.0), ("101", 0.0), ("99", -0.5), ("103", 2.0), ("90", -9.5)], ids=str
)
def test_whole_seconds_and_the_time_of_asking_are_no_difference(said: str, skew: float) -> None:
    """Ours was asked at 100.5 and 101."""
    assert check._skew([Answer("clock", (said,))], 100.5, 101) == skew
