"""A deploy in two halves, on the strict World: what is staged is nobody's yet, and what was live may wait."""

from __future__ import annotations

import functools
import itertools
import threading
import urllib.request
from typing import Any

import pytest
from typing_extensions import Self
from world import Died

from deploy import flow, machine, operate, staging
from deploy.errors import Failed, NeedsHuman, Refused
from deploy.run import Batching
from deploy.source import Templates

HOSTS = pytest.mark.parametrize("hosts", [1, 3])


def staged(operator_of: Any, hosts: int = 1, **options: Any) -> Any:
    """Return an operator who has deployed one release and staged another."""
    operator = operator_of(hosts)
    operator.data.update(options)
    operator.deploy()
    operator.write("2")
    operator.stage()
    return operator


def newest(operator: Any) -> str:
    return str(max(next(iter(operator.world.boxes.values())).releases))


# --- stage -----------------------------------------------------------------------------------------------------


@HOSTS
def test_stage_brings_up_the_idle_colour_and_changes_nothing_for_users(operator_of: Any, hosts: int) -> None:
    operator = operator_of(hosts)
    operator.deploy()
    (before,) = set(operator.live())
    operator.write("2")
    operator.stage()
    assert set(operator.live()) == {before}
    assert newest(operator) != before
    for box in operator.world.boxes.values():
        assert [c.image for c in box.of("app-green")] == [f"app:{newest(operator)}"]
        assert {c.image for c in box.containers if c.service.startswith("celery")} == {f"app:{before}"}
        assert box.switch == "blue"
    assert operator.world.words("web1").count("migrate") == 2
    assert operator.waits() == [f"staged: {newest(operator)}, by {who(operator)}"] * hosts


def who(operator: Any) -> str:
    return str(operator.world.boxes[operator.setup().hosts[0]].releases[newest(operator)]["who"])


def test_stage_is_told_by_status_ps_releases_and_history(operator_of: Any) -> None:
    operator = staged(operator_of)
    operator.status()
    assert f"staged: {newest(operator)}, by {who(operator)}, " in operator.text
    operator.does(operate.ps)
    assert "app-green (staged)" in operator.text
    operator.does(operate.releases)
    assert [line.split()[:3] for line in operator.text.splitlines() if " staged " in line] == [
        [newest(operator), "web1", "staged"]
    ]
    operator.history()
    assert " stage " in operator.text


def test_a_stage_whose_gate_fails_on_one_host_leaves_nothing_behind(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    operator.write("2")
    last = list(operator.world.boxes.values())[-1]
    last.refuse["gate"] = 1
    with pytest.raises(Failed, match="Users have what they had: web1: blue is live"):
        operator.stage()
    operator.assert_whole()
    assert operator.waits() == ["", "", ""]


def test_what_is_staged_already_is_not_staged_again(operator_of: Any) -> None:
    operator = staged(operator_of)
    before = len(operator.world.writes())
    operator.stage()
    assert len(operator.world.writes()) == before
    assert f"nothing to do: {newest(operator)} is staged, and the same" in operator.text


def test_stage_takes_the_place_of_what_is_staged_and_says_so(operator_of: Any) -> None:
    operator = staged(operator_of, hosts=3)
    before = newest(operator)
    operator.write("3")
    operator.stage()
    assert f"staged: {before}" in operator.text
    assert "this run takes its place" in operator.text
    assert {each.partition(",")[0] for each in operator.waits()} == {f"staged: {newest(operator)}"}
    operator.promote()
    operator.assert_whole()


def test_a_changed_redis_is_left_to_promote(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    (box,) = operator.world.boxes.values()
    redis = next(c.id for c in box.containers if c.service == "redis")
    templates = operator.folder / "templates"
    templates.mkdir()
    shipped = Templates(operator.setup().templates).read("setting_prod.yml")
    (templates / "setting_prod.yml").write_bytes(shipped.replace(b"redis-server", b"redis-server --databases 3"))
    operator.stage()
    assert next(c.id for c in box.containers if c.service == "redis") == redis
    with pytest.raises(Refused, match="redis of app-setting-prod will be recreated"):
        operator.promote()
    operator.promote(yes=True)
    assert next(c.id for c in box.containers if c.service == "redis") != redis
    operator.assert_whole()


def test_an_nginx_that_does_not_run_is_started_by_a_stage_as_users_had_it(operator_of: Any) -> None:
    """The configuration of what is staged comes with the promote, and with no stage that is undone."""
    operator = operator_of(1)
    operator.deploy()
    (box,) = operator.world.boxes.values()
    before = box.conf
    operator.does(functools.partial(operate.settings_down, yes=True))
    folder = operator.folder / "templates" / "nginx"
    folder.mkdir(parents=True)
    (folder / "nginx.conf").write_text("another one")
    operator.stage()
    assert box.of("app-setting-prod", "nginx")
    assert box.conf == before
    operator.promote()
    assert box.conf != before
    operator.assert_whole()


# --- promote ---------------------------------------------------------------------------------------------------


@HOSTS
def test_promote_sends_users_to_what_is_staged_without_building_or_migrating(operator_of: Any, hosts: int) -> None:
    operator = staged(operator_of, hosts)
    wanted = newest(operator)
    before = len(operator.world.log)
    operator.promote()
    assert set(operator.live()) == {wanted}
    operator.assert_whole()
    words = {command.words[0] for _, command in operator.world.log[before:]}
    assert words.isdisjoint({"build", "migrate", "start", "receive", "take_image"})
    assert {"gate", "switch", "watch_colour", "hand_over", "drain", "stop"} <= words
    assert operator.waits() == [""] * hosts
    assert "the way back to" in operator.text
    operator.rollback()
    operator.assert_whole()


def test_promote_without_anything_staged_is_refused(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    with pytest.raises(Refused, match="nothing is staged\nfirst: inv stage --env=prod"):
        operator.promote()


def test_promote_is_refused_when_one_host_has_nothing_staged(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    operator.write("2")
    operator.stage(hosts="web1,web3")
    before = len(operator.world.writes())
    with pytest.raises(Refused, match=f"{newest(operator)} is not staged, whole and running, on web2"):
        operator.promote()
    assert len(operator.world.writes()) == before


def test_promote_is_refused_when_hosts_have_different_releases_staged(operator_of: Any) -> None:
    operator = staged(operator_of, hosts=2)
    before = newest(operator)
    operator.write("3")
    operator.stage(hosts="web2")
    with pytest.raises(
        Refused, match=rf"not the same release is staged everywhere: web1: {before}; web2: (?!{before})"
    ):
        operator.promote()


def test_promote_is_refused_when_a_container_is_not_the_one_that_was_gated(operator_of: Any) -> None:
    """Somebody typed docker compose up in between."""
    operator = staged(operator_of, hosts=2)
    list(operator.world.boxes.values())[1].of("app-green")[0].id = operator.world.ident()
    with pytest.raises(Refused, match="on web2"):
        operator.promote()


def test_a_staged_release_that_became_sick_is_not_promoted_and_stays(operator_of: Any) -> None:
    operator = staged(operator_of, hosts=3)
    before = operator.waits()
    sick = list(operator.world.boxes.values())[1].of("app-green")[0]
    sick.healthy = False
    with pytest.raises(Failed, match="gate green: failed"):
        operator.promote()
    assert {box.switch for box in operator.world.boxes.values()} == {"blue"}
    assert operator.waits() == before
    sick.healthy = True
    operator.promote()
    operator.assert_whole()


@pytest.mark.parametrize("word", ["switch", "await_serving", "watch_colour"])
def test_a_promote_that_fails_sends_users_back_and_leaves_it_staged(operator_of: Any, word: str) -> None:
    operator = staged(operator_of, hosts=3)
    before, live = operator.waits(), operator.live()
    list(operator.world.boxes.values())[1].refuse[word] = 1
    with pytest.raises(Failed, match="Users have what they had"):
        operator.promote()
    assert (operator.waits(), operator.live()) == (before, live)
    operator.promote()
    operator.assert_whole()


def test_promote_in_batches_can_be_finished_by_another_promote(operator_of: Any) -> None:
    operator = staged(operator_of, hosts=3)
    list(operator.world.boxes.values())[1].refuse["await_serving"] = 1
    with pytest.raises(NeedsHuman, match="inv promote --env=prod"):
        operator.promote(batching=Batching(1))
    assert len(set(operator.live())) == 2
    operator.promote()
    operator.assert_whole()


def test_a_promote_whose_finish_fails_names_a_command_that_clears_it(operator_of: Any) -> None:
    operator = staged(operator_of)
    (box,) = operator.world.boxes.values()
    box.refuse["stop"] = 1
    staged_one = newest(operator)
    operator.write("3")  # the source has gone on since; what was looked at and promoted is what stays
    with pytest.raises(NeedsHuman, match=f"inv rollback --to={staged_one} --env=prod"):
        operator.promote()
    operator.rollback(staged_one)
    assert operator.live() == [staged_one]
    operator.assert_whole()


def test_a_promote_whose_finish_fails_in_the_first_batch_names_a_command_for_all_hosts(operator_of: Any) -> None:
    operator = staged(operator_of, hosts=3)
    staged_one = newest(operator)
    next(iter(operator.world.boxes.values())).refuse["stop"] = 1
    with pytest.raises(NeedsHuman, match=f"inv rollback --to={staged_one} --env=prod"):
        operator.promote(batching=Batching(1))
    operator.rollback(staged_one)
    assert operator.live() == [staged_one] * 3
    operator.assert_whole()


# --- in the way of nobody --------------------------------------------------------------------------------------


@HOSTS
def test_a_deploy_takes_the_place_of_what_is_staged(operator_of: Any, hosts: int) -> None:
    operator = staged(operator_of, hosts)
    operator.write("3")
    operator.deploy()
    assert "this run takes its place" in operator.text
    operator.assert_whole()
    assert operator.waits() == [""] * hosts


def test_a_deploy_of_what_is_live_clears_what_is_staged(operator_of: Any) -> None:
    operator = staged(operator_of)
    operator.write("1")
    operator.deploy()
    operator.assert_whole()


def test_a_deploy_that_fails_before_it_needs_the_place_leaves_it_staged(operator_of: Any) -> None:
    operator = staged(operator_of, hosts=2)
    before = operator.waits()
    operator.write("3")
    list(operator.world.boxes.values())[1].refuse["receive"] = 1
    with pytest.raises(Failed):
        operator.deploy()
    assert operator.waits()[1] == before[1]


def test_a_rollback_takes_the_place_of_what_is_staged(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    (first,) = set(operator.live())
    operator.write("2")
    operator.deploy()
    operator.write("3")
    operator.stage()
    operator.rollback()
    assert set(operator.live()) == {first}
    assert "this run takes its place" in operator.text
    operator.assert_whole()


def test_an_env_push_takes_the_place_of_what_is_staged(operator_of: Any) -> None:
    operator = staged(operator_of, hosts=2)
    (operator.folder / ".env.prod").write_text("DJANGO_SECRET_KEY=s3cret-marker\nMORE=1\n")
    operator.does(operate.push_env, flow.Options())
    assert "this run takes its place" in operator.text
    operator.assert_whole()


@pytest.mark.parametrize("runs", [{}, {"web2": ["celery"]}], ids=["alike", "one-for-workers"])
def test_prune_leaves_what_is_staged(operator_of: Any, runs: dict[str, list[str]]) -> None:
    operator = operator_of(2, runs=runs)
    operator.deploy()
    operator.write("2")
    operator.stage()
    operator.does(operate.prune, 1)
    operator.promote()
    operator.assert_whole()


@HOSTS
def test_unstage_throws_it_away(operator_of: Any, hosts: int) -> None:
    operator = staged(operator_of, hosts)
    gone = newest(operator)
    operator.unstage()
    operator.assert_whole()
    assert gone not in next(iter(operator.world.boxes.values())).releases
    assert f"web1: staged: {gone}" in operator.text
    operator.unstage()
    assert "nothing to do: nothing is staged" in operator.text


@pytest.mark.parametrize("verb", ["stage", "promote", "unstage"])
@pytest.mark.parametrize("hosts", [1, pytest.param(3, marks=pytest.mark.long)])
def test_one_that_dies_anywhere_is_healed_by_the_next_deploy(operator_of: Any, hosts: int, verb: str) -> None:
    before = operator_of(hosts) if verb == "stage" else staged(operator_of, hosts)
    if verb == "stage":
        before.deploy()
    for deaths in itertools.count(1):
        operator = before.twin()
        operator.write("2")
        operator.world.die_after = len(operator.world.writes()) + deaths
        try:
            getattr(operator, verb)()
        except Died:
            operator.world.revive()
            operator.write("healed")
            operator.deploy()
            operator.assert_whole()
        else:
            assert deaths > 2 * hosts
            return


@HOSTS
def test_what_a_dead_promote_left_is_never_said_to_be_staged(operator_of: Any, hosts: int) -> None:
    """Its own colour has been seen by users; after another flip it is what they had, and no news."""
    before = staged(operator_of, hosts)
    for deaths in itertools.count(1):
        operator = before.twin()
        wanted = newest(operator)
        operator.world.die_after = len(operator.world.writes()) + deaths
        try:
            operator.promote()
        except Died:
            operator.world.revive()
        else:
            return
        for box in operator.world.boxes.values():
            if wanted in box.served:
                box.switch = "blue" if box.of("app-blue", "web") else box.switch
        for box, waits in zip(operator.world.boxes.values(), operator.waits(), strict=True):
            assert ("staged" in waits) == (box.switch == "blue" and wanted not in box.served)


@HOSTS
def test_a_promote_after_a_dead_one_does_what_that_one_left_undone(operator_of: Any, hosts: int) -> None:
    """Where users have it already, workers of the release before would run on for ever."""
    before = staged(operator_of, hosts)
    for deaths in itertools.count(1):
        operator = before.twin()
        operator.world.die_after = len(operator.world.writes()) + deaths
        try:
            operator.promote()
        except Died:
            operator.world.revive()
        else:
            assert deaths > 2 * hosts
            return
        try:
            operator.promote()
        except Refused:  # users of all hosts had it
            continue
        operator.assert_whole()


# --- standby ---------------------------------------------------------------------------------------------------


@HOSTS
def test_with_standby_what_users_had_runs_on_and_the_way_back_starts_nothing(operator_of: Any, hosts: int) -> None:
    operator = operator_of(hosts)
    operator.data["standby"] = True
    operator.deploy()
    (first,) = set(operator.live())
    operator.write("2")
    operator.deploy()
    (second,) = set(operator.live())
    operator.assert_whole(waits=True)
    assert {each.partition(",")[0] for each in operator.waits()} == {f"standby: {first}"}
    before = len(operator.world.log)
    operator.rollback()
    words = {command.words[0] for _, command in operator.world.log[before:]}
    assert words.isdisjoint({"start", "stop", "drain", "build"})
    assert set(operator.live()) == {first}
    operator.assert_whole(waits=True)
    assert {each.partition(",")[0] for each in operator.waits()} == {f"standby: {second}"}


def test_a_standby_is_no_reason_to_deploy_and_the_next_deploy_takes_it_down(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.data["standby"] = True
    for version in "12":
        operator.write(version)
        operator.deploy()
    operator.deploy()
    assert "nothing to do" in operator.text
    for version in "345":
        operator.write(version)
        operator.deploy()
        operator.assert_whole(waits=True)
    operator.data["standby"] = False
    operator.deploy()
    operator.assert_whole()


def test_a_standby_that_does_not_answer_is_started_anew(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.data["standby"] = True
    for version in "12":
        operator.write(version)
        operator.deploy()
    list(operator.world.boxes.values())[1].of("app-blue")[0].healthy = False
    operator.rollback()
    operator.assert_whole(waits=True)


@pytest.mark.parametrize("word", ["revive", "switch", "watch_colour"])
def test_a_rollback_to_a_standby_that_fails_leaves_it_on_standby(operator_of: Any, word: str) -> None:
    operator = operator_of(2)
    operator.data["standby"] = True
    for version in "12":
        operator.write(version)
        operator.deploy()
    before = operator.waits()
    list(operator.world.boxes.values())[1].refuse[word] = 1
    with pytest.raises(Failed):
        operator.rollback()
    assert operator.waits() == before
    operator.assert_whole(waits=True)


def test_unstage_takes_a_standby_down_and_leaves_the_way_back(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.data["standby"] = True
    for version in "12":
        operator.write(version)
        operator.deploy()
    operator.unstage()
    operator.assert_whole()
    operator.rollback()
    operator.assert_whole(waits=True)


def test_promote_with_standby_keeps_what_users_had(operator_of: Any) -> None:
    operator = staged(operator_of, hosts=2, standby=True)
    (first,) = set(operator.live())
    operator.promote()
    operator.assert_whole(waits=True)
    assert {each.partition(",")[0] for each in operator.waits()} == {f"standby: {first}"}


# --- preview ---------------------------------------------------------------------------------------------------


class Preview:
    """`inv preview` of a world, at whatever port is free; `ask` is a browser."""

    def __init__(self, operator: Any, patch: pytest.MonkeyPatch) -> None:
        self.over = threading.Event()
        self._ready = threading.Event()
        self.port = 0
        real = machine.Forward

        class Telling(machine.Forward):
            """It tells its port, and ends when the test says so."""

            def serve(me, _stop: Any) -> None:  # noqa: N805  # self is the preview
                self.port = me.port
                self._ready.set()
                real.serve(me, self.over.is_set)

        patch.setattr(machine, "Forward", Telling)
        self._thread = threading.Thread(
            target=staging.preview,
            args=(*operator._env("web1"), operator._console(), 0),
        )

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._thread.join(5)
        assert not self._thread.is_alive()

    def ask(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as answer:
            return str(answer.read().decode())


def test_preview_shows_what_is_staged_asked_as_users_ask(operator_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = staged(operator_of)
    with Preview(operator, monkeypatch) as preview:
        assert preview.ask() == f"app:{newest(operator)}, Host: localhost"
    (live,) = operator.live()
    assert f"shows green of web1: staged: {newest(operator)}" in operator.text
    assert f"users see {live}." in operator.text


def test_preview_on_a_host_for_workers_alone_names_one_that_has_users(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.data["envs"]["prod"]["runs"] = {"web1": ["celery"], "web2": ["web", "redis", "postgres", "celery-beat"]}
    setup, connect = operator._env("web1")
    with pytest.raises(Refused, match=r"^web1 runs no web \(deploy.envs.prod.runs\)") as caught:
        staging.preview(setup, connect, operator._console(), 0)
    assert "inv preview --env=prod --hosts=web2" in caught.value.mend


def test_preview_with_nothing_in_the_idle_colour_is_refused(operator_of: Any) -> None:
    operator = operator_of(1)
    operator.deploy()
    setup, connect = operator._env()
    with pytest.raises(Refused, match="nothing runs in the idle colour; blue is live"):
        staging.preview(setup, connect, operator._console(), 0)
