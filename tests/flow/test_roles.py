"""Hosts that differ: by values of their own, and by what they are for."""

from __future__ import annotations

from typing import Any

from deploy import operate
from deploy.flow import Options

# --- values ----------------------------------------------------------------------------------------------------


def values(operator: Any, **own: dict[str, Any]) -> None:
    operator.data["envs"]["prod"]["values"] = own


def env_files(operator: Any) -> list[bytes]:
    """Return the env file of what is live, host by host."""
    boxes = operator.world.boxes.values()
    return [box.files[live][".env"] for box, live in zip(boxes, operator.live(), strict=True)]


COMMON = b"DJANGO_SECRET_KEY=s3cret-marker\n"
OWN = COMMON + b"# of this host alone\nWEB_CONCURRENCY='4'\n"


def test_values_of_a_host_reach_that_host_and_changing_one_is_a_deploy(operator_of: Any) -> None:
    operator = operator_of(2)
    values(operator, web2={"WEB_CONCURRENCY": 4})
    operator.deploy()
    assert env_files(operator) == [COMMON, OWN]
    first = operator.live()
    operator.deploy()
    assert operator.live() == first
    values(operator, web2={"WEB_CONCURRENCY": 5})
    operator.deploy()
    assert operator.live() != first
    assert env_files(operator) == [COMMON, OWN.replace(b"4", b"5")]
    operator.rollback()
    assert env_files(operator) == [COMMON, OWN]
    operator.assert_whole()


def test_a_settings_service_that_a_value_of_one_host_changes_is_asked_for_there_alone(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    values(operator, web2={"REDIS_PASSWORD": "of-web2-alone"})
    operator.plan()
    asked = [line for line in operator.text.splitlines() if "asks (--yes)" in line]
    assert asked == [
        "web2: asks (--yes): redis of app-setting-prod will be recreated: its definition changed",
    ]
    operator.deploy(yes=True)
    operator.assert_whole()
    assert "of-web2-alone" not in operator.text


def test_env_diff_and_env_push_know_the_values_of_single_hosts(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    values(operator, web2={"WEB_CONCURRENCY": 4})
    operator.does(operate.diff_env)
    assert [line.split() for line in operator.text.splitlines()[1:]] == [["web2", "WEB_CONCURRENCY", "added"]]
    operator.does(operate.push_env, Options())
    assert env_files(operator) == [COMMON, OWN]
    operator.assert_whole()
    operator.does(operate.push_env, Options())
    assert "nothing to do" in operator.text
    operator.does(operate.diff_env)
    assert "no difference" in operator.text
