"""What operators do between deploys, against a world of hosts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deploy import operate
from deploy.errors import HostFailures, Refused
from deploy.recipe.logs import Wanted


def stamped(second: int, text: str) -> str:
    """Return a line as `docker logs -t` prints it."""
    return f"2026-11-22T10:00:{second:02}.123456789Z {text}"


# --- looking ---------------------------------------------------------------------------------------------------


def test_ps_shows_each_container_of_each_host_and_which_colour_is_live(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.does(operate.ps)
    rows = [re.split(r"  +", row) for row in operator.text.splitlines()]
    assert [row[:5] for row in rows if row[2] == "web"] == [
        ["web1", "app-blue (live)", "web", "running", "healthy"],
        ["web2", "app-blue (live)", "web", "running", "healthy"],
    ]
    assert [row[0] for row in rows if row[2] == "postgres"] == ["web1"]
    assert len(rows) == 1 + 6 + 4


def test_ps_shows_no_container_of_a_project_that_only_begins_alike(operator_of: Any) -> None:
    operator = operator_of()
    operator.deploy()
    box = next(iter(operator.world.boxes.values()))
    box.containers[0].stack = "app-shop-blue"
    operator.world.excused.add(box.name)
    operator.does(operate.ps)
    assert "app-shop" not in operator.text


def test_releases_tells_the_live_one_from_the_ways_back(operator_of: Any) -> None:
    operator = operator_of()
    operator.deploy()
    (first,) = operator.live()
    operator.write("2")
    operator.deploy()
    (second,) = operator.live()
    operator.does(operate.releases)
    rows = [re.split(r"  +", row)[:4] for row in operator.text.splitlines()[1:]]
    assert rows == [[second, "web1", "live", first], [first, "web1", "a way back", "-"]]


def test_logs_of_all_hosts_come_in_the_order_of_time_with_names_and_without_secrets(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    one, two = operator.world.boxes.values()
    one.logs = {"web": [stamped(1, "a"), stamped(4, "the key is s3cret-marker")], "redis": [stamped(3, "c")]}
    two.logs = {"web": [stamped(2, "b\tand more"), "what docker says itself", stamped(5, "e")]}
    operator.does(operate.logs, Wanted())
    assert operator.text.splitlines() == [
        "web1 blue/web | a",
        "web2 blue/web | b\tand more",
        "web2 blue/web | what docker says itself",
        "web1 redis | c",
        "web1 blue/web | the key is [redacted]",
        "web2 blue/web | e",
    ]


def test_grep_and_json(operator_of: Any) -> None:
    operator = operator_of()
    operator.deploy()
    next(iter(operator.world.boxes.values())).logs = {"web": [stamped(1, "ValueError: x"), stamped(2, "fine")]}
    operator.does(operate.logs, Wanted(grep=re.compile("^[A-Z].*Error")), as_json=True)
    (said,) = [json.loads(line) for line in operator.text.splitlines()]
    assert said == {
        "at": "2026-11-22T10:00:01.123456789Z",
        "host": "web1",
        "service": "blue/web",
        "text": "ValueError: x",
    }


@pytest.mark.parametrize("story", [operate.logs, operate.follow])
def test_logs_of_a_service_that_nobody_has_are_refused(operator_of: Any, story: Any) -> None:
    operator = operator_of()
    operator.deploy()
    with pytest.raises(Refused, match="no container of wbe"):
        operator.does(story, Wanted(("wbe",)))


def test_following_goes_on_where_one_host_is_lost_and_names_it(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    _, two = operator.world.boxes.values()
    two.logs = {"web": [stamped(1, "b")]}
    with pytest.raises(HostFailures, match=r"^web1: "):
        operator.does(operate.follow, Wanted(("web",)))
    lines = operator.text.splitlines()
    assert sorted(lines) == ["web1 - | not followed any more: failed (exit status 1)", "web2 blue/web | b"]


# --- running something -----------------------------------------------------------------------------------------


def test_a_command_s_output_and_exit_code_are_passed_on(operator_of: Any) -> None:
    operator = operator_of()
    operator.deploy()
    before = operator.world.writes()
    box = next(iter(operator.world.boxes.values()))
    box.commands = {("manage", "check --deploy"): (7, "s3cret-marker is weak")}
    assert operator.does(operate.execute, "web", ("manage", "check --deploy")) == 7
    assert operator.text == "[redacted] is weak\n"
    assert operator.world.writes() == before


def test_on_several_hosts_each_line_has_a_name_and_the_largest_exit_code_counts(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    one, two = operator.world.boxes.values()
    one.commands, two.commands = {("id",): (0, "fine")}, {("id",): (3, "not here")}
    assert operator.does(operate.execute, "web", ("id",)) == 3
    assert sorted(operator.text.splitlines()) == [
        "web1 | fine",
        "web2 | not here",
        "web2: exit code 3",
    ]


def test_where_nothing_is_live_nothing_is_run(operator_of: Any) -> None:
    operator = operator_of()
    with pytest.raises(HostFailures, match="no container of web runs here; live is none"):
        operator.does(operate.execute, "web", ("id",))


def test_a_shell_wants_one_host_and_a_terminal(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    with pytest.raises(Refused, match="one host"):
        operator.does(operate.open_shell, "web", ())
    with pytest.raises(Refused, match="needs a terminal"):
        operator.does(operate.open_shell, "web", (), hosts="web2")
