"""The verbs, on the strict World: every command is followed by a look at whether users are served."""

from __future__ import annotations

import datetime
import re
import time
from concurrent import futures
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from world import LOOKS, WorldMachine

from deploy import clock, fleet
from deploy.apply import ask
from deploy.console import Console
from deploy.errors import Failed, GreenroomError, Interrupted, NeedsHuman, Refused
from deploy.recipe import facts
from deploy.run import observe
from deploy.source import Templates

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import Box

    from deploy.console.events import Event

HOSTS = pytest.mark.parametrize("hosts", [1, 3])


@HOSTS
def test_a_first_deploy_on_bare_hosts_serves_users(operator_of: Any, hosts: int) -> None:
    operator = operator_of(hosts)
    operator.deploy()
    operator.assert_whole()


@HOSTS
def test_the_second_deploy_goes_to_the_other_colour(operator_of: Any, hosts: int) -> None:
    operator = operator_of(hosts)
    operator.deploy()
    operator.write("2")
    operator.deploy()
    operator.assert_whole()
    assert {box.switch for box in operator.world.boxes.values()} == {"green"}


def test_ten_deploys_in_a_row_leave_only_what_keep_says(operator_of: Any) -> None:
    operator = operator_of(1)
    for version in range(10):
        operator.write(str(version))
        operator.deploy()
    operator.assert_whole()
    (box,) = operator.world.boxes.values()
    assert len(box.releases) == 5


def test_a_deploy_ends_with_what_is_live_the_way_back_and_what_was_seen_while_it_settled(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    assert "the way back" not in operator.text
    (first,) = set(operator.live())
    operator.write("2")
    operator.deploy()
    (second,) = set(operator.live())
    assert f"{second} is live on web1, web2; the way back to {first}: inv rollback --env=prod\n" in operator.text
    assert operator.text.count(": 30 looks, 0 of them without an answer\n") == 4
    assert " ".join(operator.text.splitlines()[-3].split()) == "seconds prepare ship migrate start flip settle finish"
    assert operator.text.splitlines()[-2].startswith("web1 ")


def test_an_unchanged_deploy_says_so_and_writes_nothing(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    before = len(operator.world.writes())
    operator.deploy()
    assert "nothing to do" in operator.text
    assert len(operator.world.writes()) == before


def test_force_deploys_what_has_not_changed_without_sending_a_source_file(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    operator.deploy(force=True)
    (box,) = operator.world.boxes.values()
    assert not [name for name in box.received if name.startswith("source/")]


def test_only_changed_files_travel_and_stale_ones_go(operator_of: Any) -> None:
    operator = operator_of(1)
    (operator.folder / "old.py").write_text("1")
    operator.deploy()
    (operator.folder / "old.py").unlink()
    operator.write("2")
    operator.deploy()
    (box,) = operator.world.boxes.values()
    assert [name for name in box.received if name.startswith("source/")] == ["source/app.py"]
    assert "old.py" not in box.source


def test_env_files_never_travel_with_the_source(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    (box,) = operator.world.boxes.values()
    assert ".env.prod" not in box.source


@HOSTS
def test_migrations_run_once_before_any_flip(operator_of: Any, hosts: int) -> None:
    operator = operator_of(hosts)
    operator.deploy()
    words = operator.world.words()
    assert words.count("migrate") == 1
    assert words.index("migrate") < words.index("switch")


def test_no_host_flips_before_every_host_is_gated(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    words = operator.world.words()
    last_gate = len(words) - 1 - words[::-1].index("gate")
    assert last_gate < words.index("switch")


def test_a_host_that_never_becomes_healthy_flips_nobody_and_shows_its_log(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    (before,) = set(operator.live())
    operator.write("2")
    second = list(operator.world.boxes.values())[1]
    second.refuse["gate"] = 1
    with pytest.raises(Failed, match="web2: gate green"):
        operator.deploy()
    assert set(operator.live()) == {before}
    assert "gate does not work here" in operator.text
    operator.assert_whole()


def test_a_release_that_dies_during_settle_puts_every_host_back(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    (before,) = set(operator.live())
    operator.write("2")
    list(operator.world.boxes.values())[2].refuse["watch_colour"] = 1
    with pytest.raises(Failed, match="Undone on every host"):
        operator.deploy()
    assert set(operator.live()) == {before}
    operator.assert_whole()


@pytest.mark.parametrize(
    "word",
    ["receive", "ensure_network", "ensure_volumes", "validate", "build", "migrate", "start", "gate", "switch",
     "mark_served", "await_serving", "watch_colour"],
)  # fmt: skip
@HOSTS
def test_any_failure_before_finish_is_undone_everywhere(operator_of: Any, hosts: int, word: str) -> None:
    operator = operator_of(hosts)
    operator.deploy()
    (before,) = set(operator.live())
    operator.write("2")
    next(iter(operator.world.boxes.values())).refuse[word] = 1
    with pytest.raises(Failed, match="Undone on every host") as caught:
        operator.deploy()
    assert caught.value.exit_code == 1
    assert set(operator.live()) == {before}
    operator.assert_whole()


@pytest.mark.parametrize("word", ["drain", "stop", "hand_over", "record"])
def test_a_failure_in_finish_leaves_the_new_release_live_and_the_next_deploy_heals(operator_of: Any, word: str) -> None:
    operator = operator_of(3)
    operator.deploy()
    (before,) = set(operator.live())
    operator.write("2")
    list(operator.world.boxes.values())[1].refuse[word] = 1
    with pytest.raises(NeedsHuman, match="is live on web1, web2, web3"):
        operator.deploy()
    assert before not in operator.live()
    operator.write("3")
    operator.deploy()
    operator.assert_whole()


def test_an_undo_that_fails_asks_for_a_human(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    operator.write("2")
    (box,) = operator.world.boxes.values()
    box.refuse = {"gate": 1, "stop": 1}
    with pytest.raises(NeedsHuman, match="could not be undone"):
        operator.deploy()
    operator.deploy()
    operator.assert_whole()


@HOSTS
def test_rollback_goes_back_without_build_or_migration(operator_of: Any, hosts: int) -> None:
    operator = operator_of(hosts)
    operator.deploy()
    (first,) = set(operator.live())
    operator.write("2")
    operator.deploy()
    before = len(operator.world.log)
    operator.rollback()
    assert set(operator.live()) == {first}
    assert not {"build", "migrate", "receive"} & {command.words[0] for _, command in operator.world.log[before:]}
    operator.assert_whole()


def test_rollback_to_names_any_kept_release(operator_of: Any) -> None:
    operator = operator_of(3)
    lives: list[str] = []
    for version in "123":
        operator.write(version)
        operator.deploy()
        lives += set(operator.live())
    operator.rollback(lives[0])
    assert set(operator.live()) == {lives[0]}
    operator.rollback(lives[2])
    assert set(operator.live()) == {lives[2]}
    operator.assert_whole()


def test_a_rollback_after_a_rollback_and_a_deploy_goes_to_what_was_live_before_that_deploy(operator_of: Any) -> None:
    operator = operator_of(1)
    lives: list[str] = []
    for version in "123":
        operator.write(version)
        operator.deploy()
        lives += operator.live()
    operator.rollback()
    operator.write("4")
    operator.deploy()
    operator.rollback()
    assert operator.live() == [lives[1]]
    operator.rollback()
    assert operator.live() == [lives[0]]


def test_rollback_to_a_release_that_is_not_there_is_refused_with_those_that_are(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    before = len(operator.world.writes())
    with pytest.raises(Refused, match=f"there are: {operator.live()[0]}"):
        operator.rollback("20200101-000000")
    assert len(operator.world.writes()) == before


def test_rollback_of_a_first_deploy_is_refused(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    with pytest.raises(Refused, match="no release before"):
        operator.rollback()


def test_a_sick_old_release_undoes_the_rollback_and_keeps_it(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    (first,) = operator.live()
    operator.write("2")
    operator.deploy()
    (box,) = operator.world.boxes.values()
    box.sick = {f"app:{first}"}
    with pytest.raises(Failed, match="Undone"):
        operator.rollback()
    assert first in box.releases
    operator.assert_whole()


def test_plan_writes_nothing_and_says_why(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.plan()
    assert not operator.world.writes()
    assert "hold" not in operator.world.words()
    assert "a flip that nobody saw is none" in operator.text


def test_settings_services_that_run_are_left_alone(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    (box,) = operator.world.boxes.values()
    before = {c.service: c.id for c in box.of("app-setting-prod")}
    operator.write("2")
    operator.deploy()
    after = {c.service: c.id for c in box.of("app-setting-prod")}
    for service in ("redis", "postgres", "nginx"):
        assert before[service] == after[service]
    assert before["celery"] != after["celery"]


def test_a_settings_service_that_does_not_run_is_started(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    (box,) = operator.world.boxes.values()
    box.containers = [c for c in box.containers if c.service != "redis"]
    operator.write("2")
    operator.deploy()
    operator.assert_whole()


def test_a_changed_definition_asks_and_is_refused_without_a_yes(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    (box,) = operator.world.boxes.values()
    before = len(operator.world.writes())
    templates = operator.folder / "templates"
    templates.mkdir()
    settings = Templates(templates).read("setting_prod.yml").replace(b"redis:8", b"redis:8.2")
    (templates / "setting_prod.yml").write_bytes(settings)
    with pytest.raises(Refused, match="redis of app-setting-prod will be recreated"):
        operator.deploy()
    assert len(operator.world.writes()) == before
    redis = box.of("app-setting-prod", "redis")[0].id
    postgres = box.of("app-setting-prod", "postgres")[0].id
    operator.deploy(yes=True)
    assert box.of("app-setting-prod", "redis")[0].id != redis
    assert box.of("app-setting-prod", "postgres")[0].id == postgres


def with_another_nginx(operator: Any) -> None:
    templates = operator.folder / "templates"
    templates.mkdir()
    text = Templates(templates).read("setting_prod.yml")
    (templates / "setting_prod.yml").write_bytes(text.replace(b"nginx:1.30", b"nginx:1.30-alpine"))


def test_a_settings_service_that_does_not_come_up_changed_is_as_it_was_when_a_run_is_undone(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    before = operator.live()
    with_another_nginx(operator)
    _, second, _ = operator.world.boxes.values()
    second.spoils["nginx"] = 1
    with pytest.raises(Failed, match="Undone on every host"):
        operator.deploy(yes=True)
    assert operator.live() == before
    (nginx,) = second.of("app-setting-prod", "nginx")
    assert nginx.healthy
    assert nginx.definition == second.releases[before[1]]["definitions"]["nginx"]
    assert "not well, and as it was before: nginx" in operator.text


def test_nothing_is_called_undone_where_a_settings_service_does_not_come_back(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    with_another_nginx(operator)
    (box,) = operator.world.boxes.values()
    box.spoils["nginx"] = 2
    with pytest.raises(NeedsHuman, match="web1: see the settings services run: failed"):
        operator.deploy(yes=True)


def test_a_changed_settings_service_that_runs_stays_when_a_run_is_undone(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    with_another_nginx(operator)
    (box,) = operator.world.boxes.values()
    box.refuse["gate"] = 1
    (before,) = box.of("app-setting-prod", "nginx")
    with pytest.raises(Failed, match="Undone on every host"):
        operator.deploy(yes=True)
    (now,) = box.of("app-setting-prod", "nginx")
    assert now.definition != before.definition


def redis_is_ending(operator: Any) -> Box:
    """A run was cut off while it made redis anew: docker calls it running for some seconds."""
    box: Box
    (box,) = operator.world.boxes.values()
    box.ending = {c.id for c in box.of("app-setting-prod", "redis")}
    return box


def test_a_settings_service_that_docker_is_about_to_end_runs_after_the_next_deploy(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    box = redis_is_ending(operator)
    operator.deploy()
    assert box.of("app-setting-prod", "redis")
    operator.deploy()
    assert "nothing to do" in operator.text


@pytest.mark.parametrize("verb", ["deploy", "stage"])
def test_a_settings_service_that_docker_is_about_to_end_is_back_when_the_next_run_is_undone(
    operator_of: Any, verb: str
) -> None:
    operator = operator_of(1)
    operator.deploy()
    box = redis_is_ending(operator)
    operator.write("2")
    box.refuse["receive"] = 1
    with pytest.raises(Failed, match="Undone on every host"):
        getattr(operator, verb)()
    assert box.of("app-setting-prod", "redis")


def test_a_service_that_the_live_release_has_no_more_is_not_brought_back_by_an_undo(operator_of: Any) -> None:
    """The run that was cut off was removing it."""
    operator = operator_of(1)
    operator.deploy()
    (box,) = operator.world.boxes.values()
    box.containers.append(replace(box.of("app-setting-prod", "redis")[0], id="f" * 64, service="flower"))
    box.ending = {"f" * 64}
    operator.write("2")
    box.refuse["build"] = 1
    with pytest.raises(Failed, match="Undone on every host"):
        operator.deploy(yes=True)


def test_a_singleton_on_a_host_that_is_not_the_first_is_refused(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    first, second, _ = operator.world.boxes.values()
    (beat,) = first.of("app-setting-prod", "celery-beat")
    second.containers.append(beat)
    operator.write("2")
    before = len(operator.world.writes())
    with pytest.raises(GreenroomError, match="web2: celery-beat runs here and belongs to web1 alone") as caught:
        operator.deploy()
    assert caught.value.exit_code == 2
    assert len(operator.world.writes()) == before


def test_a_service_that_left_the_settings_file_is_asked_about_and_removed(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    (box,) = operator.world.boxes.values()
    box.containers.append(replace(box.of("app-setting-prod", "celery")[0], service="old-worker"))
    operator.write("2")
    with pytest.raises(Refused, match="old-worker of app-setting-prod will be removed"):
        operator.deploy()
    operator.deploy(yes=True)
    operator.assert_whole()


def test_whatever_goes_wrong_on_our_side_is_undone_like_a_failure(operator_of: Any, monkeypatch: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    (before,) = set(operator.live())
    operator.write("2")
    show = Console.emit

    def stumble(console: Console, event: Event) -> None:
        if (event.kind, event.phase) == ("phase", "settle"):
            raise RuntimeError("a fault of ours")
        show(console, event)

    monkeypatch.setattr(Console, "emit", stumble)
    with pytest.raises(Failed, match="a fault of ours"):
        operator.deploy()
    assert set(operator.live()) == {before}
    operator.assert_whole()


def test_a_rollback_skips_a_release_that_not_every_host_has(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    (first,) = set(operator.live())
    operator.write("2")
    operator.deploy(hosts="web1")
    operator.write("3")
    operator.deploy()
    operator.rollback()
    assert set(operator.live()) == {first}


def test_a_second_operator_is_told_who_deploys(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    box = list(operator.world.boxes.values())[2]
    box.run, box.holder = "other", '{"who": "ann@laptop", "doing": "deploy r9", "since": "2026-11-22 10:00:00 UTC"}'
    operator.write("2")
    before = len(operator.world.writes())
    with pytest.raises(GreenroomError, match=r"web3: ann@laptop is at work here since .*: deploy r9") as caught:
        operator.deploy()
    assert caught.value.exit_code == 2
    assert len(operator.world.writes()) == before
    assert {each.run for each in operator.world.boxes.values()} == {"", "other"}


def test_a_host_that_cannot_take_a_deploy_is_refused_before_anything_is_touched(operator_of: Any) -> None:
    operator = operator_of(3)
    list(operator.world.boxes.values())[1].lacks = ("flock",)
    with pytest.raises(GreenroomError, match="web2: flock is not installed") as caught:
        operator.deploy()
    assert caught.value.exit_code == 2
    assert not operator.world.writes()


def test_a_deploy_to_a_subset_splits_the_fleet_and_the_next_heals_it(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    operator.write("2")
    operator.deploy(hosts="web2")
    assert len(set(operator.live())) == 2
    operator.status()
    assert "split:" in operator.text
    operator.deploy()
    operator.assert_whole()
    assert {box.switch for box in operator.world.boxes.values()} == {"green", "blue"}


def test_a_host_that_was_added_and_has_nothing_yet_is_no_split(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.status()
    assert "nothing is live" not in operator.text
    operator.deploy(hosts="web1")
    operator.status()
    assert "nothing is live on web2; the next deploy" in operator.text
    assert "split:" not in operator.text


def test_a_deploy_takes_at_most_twelve_remote_commands_a_host(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    operator.write("2")
    before = dict(operator.world.scripts)
    operator.deploy()
    assert max(operator.world.scripts[host] - before[host] for host in before) <= 8


@pytest.mark.parametrize(
    ("hosts", "only", "hook", "scripts"),
    [(1, "", "", 7), (1, "", "after-start", 7), (1, "", "before-start", 8), (1, "", "after-migrate", 8), (2, "", "", 8),
     (2, "web1", "", 7), (2, "web2", "", 8)],
)  # fmt: skip
def test_on_a_host_alone_start_travels_with_what_comes_before_it(
    operator_of: Any, hosts: int, only: str, hook: str, scripts: int
) -> None:
    """Not where a hook stands between them, nor where the env's first host, whose lock the run has, is another one."""
    operator = operator_of(hosts)
    operator.deploy()
    operator.data["hooks"] = {hook: ["true"]} if hook else {}
    operator.write("2")
    before = dict(operator.world.scripts)
    operator.deploy(hosts=only)
    leader = only or "web1"
    assert operator.world.scripts[leader] - before[leader] == scripts
    told = re.findall(r"s \[(\w+)\] on", operator.text)
    assert told[-5:] == ["migrate", "start", "flip", "settle", "finish"]


@pytest.mark.parametrize(("word", "phase"), [("migrate", "migrate"), ("start", "start"), ("gate", "start")])
def test_what_fails_is_told_of_the_phase_that_it_belongs_to(operator_of: Any, word: str, phase: str) -> None:
    operator = operator_of(1)
    operator.deploy()
    operator.write("2")
    next(iter(operator.world.boxes.values())).refuse[word] = 1
    with pytest.raises(Failed, match="Undone on every host"):
        operator.deploy()
    assert re.findall(r"web1 \[(\w+)\] [^\n]*: failed", operator.text) == [phase]
    operator.assert_whole()


def test_history_tells_how_each_run_ended(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    operator.write("2")
    next(iter(operator.world.boxes.values())).refuse["gate"] = 1
    with pytest.raises(Failed):
        operator.deploy()
    operator.history()
    assert "done" in operator.text
    assert "undone: web1: gate green: failed" in operator.text


def test_the_history_of_a_rollback_names_who_went_back_and_not_who_made_the_release(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    (box,) = operator.world.boxes.values()
    for record in box.releases.values():
        record["who"] = "ann@laptop"
    operator.write("2")
    operator.deploy()
    operator.rollback()
    assert "rollback" in box.history[-1]
    assert "ann@laptop" not in box.history[-1]


def test_no_secret_is_ever_printed_or_put_into_a_command(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    said = operator.text + "".join(str(command) for _, command in operator.world.log)
    assert "s3cret-marker" not in said


def test_the_looks_of_the_world_are_those_of_the_library() -> None:
    from deploy.host import library

    assert all(f"{word}()" in library(LOOKS) for word in LOOKS)


def test_a_host_of_another_env_is_left_alone(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    operator.data["envs"] = {"dev": operator.data["envs"]["prod"]}
    (operator.folder / ".env.dev").write_text("A=1\n")
    operator.data |= {"settings": "setting_prod.yml"}
    before = len(operator.world.writes())
    for verb in (operator.deploy, operator.rollback):
        with pytest.raises(GreenroomError, match="web1: this host belongs to env prod") as caught:
            verb()
        assert caught.value.exit_code == 2
    assert len(operator.world.writes()) == before


def test_clocks_that_are_wrong_do_not_decide_what_is_live_or_where_a_rollback_goes(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operator_of(1)
    lives = []
    for version, year in (("1", 2030), ("2", 2010), ("3", 2020)):
        monkeypatch.setattr(clock, "utc_now", lambda y=year: datetime.datetime(y, 1, 1, tzinfo=datetime.timezone.utc))
        operator.write(version)
        operator.deploy()
        lives += operator.live()
    assert [live[:4] for live in lives] == ["2030", "2010", "2020"]
    operator.rollback()
    assert operator.live() == [lives[1]]
    operator.rollback()
    assert operator.live() == [lives[0]]


def test_a_clock_that_stands_is_refused_before_anything_is_touched(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.utc_now()
    monkeypatch.setattr(clock, "utc_now", lambda: now)
    operator = operator_of(1)
    monkeypatch.setattr(clock, "utc_now", lambda: now)
    operator.deploy()
    operator.write("2")
    before = len(operator.world.writes())
    with pytest.raises(GreenroomError, match="is there already: the clock of the machine you deploy from") as caught:
        operator.deploy()
    assert caught.value.exit_code == 2
    assert len(operator.world.writes()) == before


def test_one_machine_under_two_names_is_refused_before_anything_is_touched(operator_of: Any) -> None:
    operator = operator_of(2)
    one, other = operator.world.boxes
    operator.world.boxes[other] = operator.world.boxes[one]
    with pytest.raises(GreenroomError, match=r"web\d: it is the same machine as web\d, under another name") as caught:
        operator.deploy()
    assert caught.value.exit_code == 2
    assert operator.world.writes() == []
    assert operator.world.boxes[one].run == "", "the lock is free again"


def test_a_file_that_changes_after_it_was_compared_stops_the_deploy_and_is_named(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operator_of(3)
    operator.deploy()
    (before,) = set(operator.live())
    operator.write("2")
    connect = operator._connect

    def change_and_connect(setup: Any, *, skip: bool) -> Any:
        operator.write("3")
        return connect(setup, skip=skip)

    with monkeypatch.context() as patched:
        patched.setattr(operator, "_connect", change_and_connect)
        with pytest.raises(Failed, match=r"web1: source/app.py has changed since the deploy began") as caught:
            operator.deploy()
    assert "Undone on every host" in str(caught.value)
    assert set(operator.live()) == {before}
    operator.assert_whole()


def test_ctrl_c_is_heard_by_hosts_that_are_looked_at_and_do_not_answer(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operator_of(2)
    setup = operator.setup()
    reached = fleet.connect(setup.hosts, operator.world.open)
    heard: list[bool] = []

    def hangs(_machine: WorldMachine, _script: Any, *, stop: Callable[[], bool] = lambda: False) -> Any:
        deadline = time.monotonic() + 5
        while not stop() and time.monotonic() < deadline:
            time.sleep(0.01)
        heard.append(stop())
        yield from ()

    def wait(*what: Any, **how: Any) -> Any:
        if how:
            raise KeyboardInterrupt
        return futures.wait(*what)

    monkeypatch.setattr(WorldMachine, "run", hangs)
    monkeypatch.setattr(fleet, "wait", wait)
    with pytest.raises(Interrupted, match="stopped by the operator"):
        observe(setup.app, reached)
    assert heard == [True, True]


def test_a_question_that_was_broken_off_is_not_called_a_lost_link(operator_of: Any) -> None:
    operator = operator_of(1)
    machine = operator.world.open(operator.setup().hosts[0])
    with pytest.raises(Interrupted):
        ask(machine, (), facts.history(1), stop=lambda: True)
