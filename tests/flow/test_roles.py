"""Hosts that differ: by values of their own, and by what they are for."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from typing import Any

import pytest
from world import Died

from deploy import flow, operate
from deploy.errors import ConfigError, Failed, HostFailures, NeedsHuman, Refused
from deploy.flow import Options
from deploy.recipe.logs import Wanted
from deploy.run import Batching

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


# --- what hosts are for ----------------------------------------------------------------------------------------

JOBS = {"jobs1": ["celery", "celery-beat"]}
PARTS = {"web1": ["web"], "web2": ["web"], "jobs1": ["celery"], "data1": ["redis", "postgres", "celery-beat"]}


def with_jobs(operator_of: Any) -> Any:
    """A fleet of one host that runs all but beat, and one for workers."""
    operator = operator_of(["web1", "jobs1"], runs=JOBS)
    operator.world.once = {"celery-beat", "postgres"}
    return operator


def in_parts(operator_of: Any) -> Any:
    """A fleet of two web hosts, one for workers, and one for the settings services."""
    operator = operator_of(list(PARTS), runs=PARTS)
    operator.world.once = {"celery-beat", "postgres", "redis"}
    return operator


FLEETS = pytest.mark.parametrize("fleet", [with_jobs, in_parts])


def services(operator: Any, host: str) -> dict[str, str]:
    """Return what runs on a host: image by service."""
    (box,) = [box for box in operator.world.boxes.values() if box.name == host]
    return {c.service: c.image for c in box.containers}


@FLEETS
def test_each_host_runs_what_it_is_for_and_all_have_one_release(operator_of: Any, fleet: Any) -> None:
    operator = fleet(operator_of)
    for version in ("1", "2", "3"):
        operator.write(version)
        operator.deploy()
        operator.assert_whole()
    newest = operator.live()
    operator.deploy()
    assert operator.live() == newest, "there was nothing to do"
    operator.rollback()
    operator.assert_whole()
    assert operator.live() != newest


def test_a_host_for_workers_has_no_nginx_and_no_colour(operator_of: Any) -> None:
    operator = with_jobs(operator_of)
    operator.deploy()
    assert services(operator, "jobs1").keys() == {"celery", "celery-beat"}
    assert services(operator, "web1").keys() == {"web", "nginx", "redis", "postgres", "celery"}
    words = operator.world.words("jobs1")
    assert not {"switch", "gate", "start", "use_conf", "test_conf", "drain"} & set(words)
    assert not any(
        name.startswith("nginx/") for box in operator.world.boxes.values() if box.runs for name in box.received
    )


def test_workers_of_their_own_host_are_handed_over_when_the_others_flip(operator_of: Any) -> None:
    operator = with_jobs(operator_of)
    operator.deploy()
    operator.write("2")
    begin = len(operator.world.log)
    operator.deploy()
    story = [(host, command.words[0]) for host, command in operator.world.log[begin:]]
    handed = story.index(("jobs1", "settings_up"))
    assert story.index(("web1", "gate")) < handed < story.index(("web1", "watch_colour"))
    assert handed < story.index(("jobs1", "settings_ready")) < story.index(("jobs1", "watch_services"))


@FLEETS
@pytest.mark.parametrize("trouble", ["sick", "dies_in_settle"])
@pytest.mark.parametrize("where", ["web1", "jobs1"])
def test_whoever_fails_all_go_back_the_workers_too(operator_of: Any, fleet: Any, trouble: str, where: str) -> None:
    operator = fleet(operator_of)
    operator.deploy()
    before, (live, *_) = [dict(services(operator, host)) for host in ("web1", "jobs1")], operator.live()
    operator.write("2")
    (box,) = [box for box in operator.world.boxes.values() if box.name == where]
    box.sick = box.dies_in_settle = set()
    setattr(box, trouble, Later(live))
    with pytest.raises(Failed, match="Undone on every host"):
        operator.deploy()
    assert [services(operator, host) for host in ("web1", "jobs1")] == before
    operator.assert_whole()


class Later(set[str]):
    """Every image but that of one release."""

    def __init__(self, release: str) -> None:
        super().__init__()
        self._image = f"app:{release}"

    def __contains__(self, image: object) -> bool:
        return str(image).startswith("app:") and image != self._image


@FLEETS
def test_a_first_deploy_that_fails_leaves_no_worker(operator_of: Any, fleet: Any) -> None:
    operator = fleet(operator_of)
    next(iter(operator.world.boxes.values())).refuse["watch_colour"] = 1
    with pytest.raises(Failed):
        operator.deploy()
    assert not {"celery"} & services(operator, "jobs1").keys()
    operator.deploy()
    operator.assert_whole()


@pytest.mark.parametrize(
    ("fleet", "verb", "goes_on"),
    [
        (with_jobs, "deploy", False),
        pytest.param(with_jobs, "deploy", True, marks=pytest.mark.long),
        pytest.param(with_jobs, "rollback", False, marks=pytest.mark.long),
        pytest.param(in_parts, "deploy", False, marks=pytest.mark.long),
    ],
)
def test_an_operator_may_die_anywhere(operator_of: Any, fleet: Any, verb: str, goes_on: bool) -> None:
    before = fleet(operator_of)
    for version in ("1", "2") if verb == "rollback" else ("1",):
        before.write(version)
        before.deploy()
    for deaths in itertools.count():
        operator = before.twin()
        operator.write("3")
        operator.world.die_after = len(operator.world.writes()) + deaths + 1
        operator.world.host_goes_on = goes_on
        try:
            getattr(operator, verb)()
        except Died:
            operator.world.revive()
            operator.write("healed")
            operator.deploy()
            operator.assert_whole()
        else:
            assert deaths > 10
            return


@pytest.mark.long
def test_a_link_may_be_cut_anywhere(operator_of: Any) -> None:
    before = with_jobs(operator_of)
    before.deploy()
    operator = before.twin()
    operator.write("2")
    operator.deploy()
    count = len(operator.world.writes()) - len(before.world.writes())
    for cut in range(1, count + 1):
        operator = before.twin()
        operator.write("2")
        operator.world.cuts = {len(operator.world.writes()) + cut}
        with contextlib.suppress(Failed):  # a migration whose link was cut is undone
            operator.deploy()
        operator.assert_whole()


@FLEETS
def test_batches_of_one(operator_of: Any, fleet: Any) -> None:
    operator = fleet(operator_of)
    operator.deploy()
    operator.write("2")
    operator.deploy(batching=Batching(1))
    operator.assert_whole()


def test_another_web_host_does_not_start_the_settings_services(operator_of: Any) -> None:
    operator = in_parts(operator_of)
    operator.deploy()
    assert services(operator, "web2").keys() == {"web", "nginx"}
    assert services(operator, "data1").keys() == {"redis", "postgres", "celery-beat"}
    asked = [host for host, command in operator.world.log if command.words[0] == "migrate"]
    assert len(asked) == 1


def test_a_host_that_gets_another_purpose_gives_its_workers_up_and_its_data_never(operator_of: Any) -> None:
    operator = operator_of(["web1", "jobs1"])
    operator.deploy()
    operator.data["envs"]["prod"]["runs"] = {
        "web1": ["web", "redis", "postgres", "celery-beat"],
        "jobs1": ["web", "celery"],
    }
    operator.write("2")
    with pytest.raises(HostFailures) as caught:
        operator.deploy(yes=True)
    assert "redis runs here and deploy.envs.prod.runs does not name it for this host" in str(caught.value)
    box = list(operator.world.boxes.values())[1]
    box.containers = [c for c in box.containers if c.service != "redis"]
    with pytest.raises(Refused, match="celery of app-setting-prod will be removed"):
        operator.deploy()
    operator.deploy(yes=True)
    assert services(operator, "web1").keys() == {"web", "nginx", "redis", "postgres", "celery-beat"}
    assert services(operator, "jobs1").keys() == {"web", "nginx", "celery"}


def test_a_host_that_still_has_users_is_not_taken_for_workers(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.data["envs"]["prod"]["runs"] = {"web2": ["celery", "redis"]}
    operator.write("2")
    with pytest.raises(HostFailures, match="nginx, web still run here, and this host is for celery, redis") as caught:
        operator.deploy(yes=True)
    assert "web2" in str(caught.value)
    box = list(operator.world.boxes.values())[1]
    box.containers = [c for c in box.containers if c.service not in {"web", "nginx"}]
    box.switch, box.was_served = "none", False
    box.runs = ("celery", "redis")
    operator.deploy()
    operator.assert_whole()


def test_a_service_that_no_file_has_is_refused_before_any_host_is_asked(operator_of: Any) -> None:
    operator = operator_of(["web1", "jobs1"], runs={"jobs1": ["celeri"]})
    with pytest.raises(ConfigError, match="no service celeri; did you mean celery"):
        operator.deploy()
    assert not operator.world.log


@FLEETS
def test_verbs_say_what_each_host_is_for(operator_of: Any, fleet: Any) -> None:
    operator = fleet(operator_of)
    jobs = ", ".join(operator.setup().hosts[-1].runs)
    operator.plan()
    assert f"{operator.setup().hosts[-1]} ({jobs}): {jobs} of no release yet" in operator.text
    operator.deploy()
    (ended,) = [line for line in operator.text.splitlines() if " is live on web1" in line]
    assert f"({jobs})" in ended
    for story in (flow.status, operate.ps):
        operator.does(story)
        head, *rows = operator.text.splitlines()
        assert head.split()[1] == "runs"
        assert any(f"  {jobs}  " in row for row in rows)


def test_a_fleet_of_hosts_that_do_all_is_told_of_as_ever(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.does(flow.status)
    assert operator.text.split()[:2] == ["host", "live"]


@FLEETS
def test_what_operators_do_between_deploys_knows_hosts_without_users(operator_of: Any, fleet: Any) -> None:
    operator = fleet(operator_of)
    operator.deploy()
    operator.does(operate.settings_reload)
    operator.does(operate.maintenance, "moving")
    operator.does(operate.maintenance)
    operator.does(operate.settings_up)
    assert "nothing to do" in operator.text
    operator.does(operate.logs, Wanted())
    (operator.folder / ".env.prod").write_text("DJANGO_SECRET_KEY=an0ther-marker\n")
    operator.does(operate.push_env, Options())
    operator.assert_whole()
    operator.does(operate.diff_env)
    assert "no difference" in operator.text
    operator.write("2")
    operator.deploy()
    operator.does(operate.prune, 1)
    operator.assert_whole()
    operator.check()
    operator.rollback()
    operator.assert_whole()


@pytest.mark.parametrize(
    ("story", "said"),
    [
        (functools.partial(operate.maintenance, reason="moving"), "users see the maintenance page of web1\n"),
        (operate.maintenance, "open again: web1\n"),
        (operate.settings_reload, " on web1\n"),
    ],
    ids=["on", "off", "reload"],
)
def test_nothing_is_said_to_be_done_on_a_host_that_has_no_nginx(operator_of: Any, story: Any, said: str) -> None:
    operator = with_jobs(operator_of)
    operator.deploy()
    operator.does(operate.maintenance, "it is on")
    operator.does(story)
    assert said in operator.text
    with pytest.raises(Refused, match="no user is sent to jobs1"):
        operator.does(story, hosts="jobs1")


def test_the_check_of_a_host_without_users_asks_for_no_port(operator_of: Any) -> None:
    operator = with_jobs(operator_of)
    operator.check()
    asked = {host: command.words[1:] for host, command in operator.world.log if command.words[0] == "examine"}
    assert asked == {"web1": ("80", "8000", "8001"), "jobs1": ()}


def test_history_of_a_host_for_workers_is_written(operator_of: Any) -> None:
    operator = with_jobs(operator_of)
    operator.deploy()
    (box,) = [box for box in operator.world.boxes.values() if box.runs]
    assert [json.loads(line)["outcome"] for line in box.history] == ["done"]
    assert list(box.served) == operator.live()[1:]


def test_workers_that_cannot_be_handed_back_need_a_human(operator_of: Any) -> None:
    operator = with_jobs(operator_of)
    operator.deploy()
    operator.write("2")
    (box,) = [box for box in operator.world.boxes.values() if box.runs]
    box.refuse = {"watch_services": 1, "settings_back": 1}
    with pytest.raises(NeedsHuman, match="It could not be undone everywhere"):
        operator.deploy()
    operator.deploy(force=True)
    operator.assert_whole()
