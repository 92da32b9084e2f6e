"""What operators do between deploys, against a world of hosts."""

from __future__ import annotations

import functools
import itertools
import json
import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from world import Died

from deploy import flow, operate, staging
from deploy.errors import Failed, GreenroomError, HostFailures, Interrupted, Locked, NeedsHuman, Refused
from deploy.fleet import Fleet
from deploy.flow import Options
from deploy.recipe import shell
from deploy.recipe.logs import Wanted
from deploy.recipe.model import App, Host
from deploy.recipe.steps import Phase
from deploy.run import Run
from deploy.source import Templates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.recipe.shell import Script


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


DOWN = "Cannot connect to the Docker daemon"


@pytest.mark.parametrize("story", [flow.status, operate.ps, operate.releases])
def test_a_docker_that_does_not_answer_on_one_host_is_told_beside_what_the_others_say(
    operator_of: Any, story: Any
) -> None:
    operator = operator_of(2)
    operator.deploy()
    list(operator.world.boxes.values())[1].no_docker = DOWN
    operator.does(story)
    assert operator.live()[0] in operator.text
    assert f"web2: docker does not answer: {DOWN}" in operator.text.splitlines()
    assert not [row for row in operator.text.splitlines() if row.startswith("web2  ") and "?" not in row]
    assert "nothing is live" not in operator.text


@pytest.mark.parametrize(
    "story",
    [staging.unstage, functools.partial(staging.preview, port=0), operate.prune, operate.diff_env],
    ids=["unstage", "preview", "prune", "env.diff"],
)
def test_a_docker_that_does_not_answer_is_not_taken_for_a_host_that_has_nothing(operator_of: Any, story: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.write("2")
    operator.stage()
    list(operator.world.boxes.values())[1].no_docker = DOWN
    before = operator.world.writes()
    with pytest.raises(HostFailures, match=f"^web2: docker does not answer: {DOWN}$") as refused:
        operator.does(story, hosts="web2" if "preview" in str(story) else "")
    assert refused.value.exit_code == 2
    assert operator.world.writes() == before


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


def test_the_log_of_a_host_is_read_no_further_than_some_lines_ahead_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operate, "AHEAD", 10)
    ended, told = threading.Event(), []

    class Writes:
        """A host that writes a line every two seconds; the late one begins when the other had time to end."""

        def __init__(self, first: int) -> None:
            self.host = Host(f"web{first}")
            self._first = first

        def run(self, _script: Script, **_: Any) -> Iterator[shell.Signal]:
            late = self._first == 2  # web2
            yield shell.Answer("log_of", ("app-blue/web",))
            if late:
                assert not ended.wait(0.5)
            for second in range(self._first, 60, 2):
                yield shell.Answer("logged", ("app-blue/web", f"2026-11-22T10:00:{second:02}Z", str(second)))
            if not late:
                ended.set()
            yield shell.Finished()

    machines: Any = [Writes(1), Writes(2)]
    operate._tell_in_order(
        App("app", "prod", ()), Fleet(machines), Wanted(), lambda _, line: told.append(line.text), lambda: False
    )
    assert told == [str(second) for second in range(1, 60)]


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


# --- tidying up ------------------------------------------------------------------------------------------------


def deployed(operator: Any, *versions: str) -> list[str]:
    """Deploy one version after the other; their releases."""
    found = []
    for version in versions:
        operator.write(version)
        operator.deploy()
        found.append(operator.live()[0])
    return found


def test_prune_keeps_what_is_live_and_the_way_back(operator_of: Any) -> None:
    operator = operator_of(2)
    ids = deployed(operator, "1", "2", "3", "4")
    operator.does(operate.prune, 1)
    for box in operator.world.boxes.values():
        assert sorted(box.releases) == ids[-2:]
        assert box.images == {f"app:{ident}" for ident in ids[-2:]}
        assert json.loads(box.history[-1])["what"] == "prune"
    operator.rollback()
    assert set(operator.live()) == {ids[-2]}


def test_prune_leaves_alone_what_a_container_runs(operator_of: Any) -> None:
    """A run that died after the flip leaves the other colour running, with connections that still end."""
    operator = operator_of()
    first, *_ = deployed(operator, "1", "2", "3")
    (box,) = operator.world.boxes.values()
    box.containers.append(replace(box.of(f"app-{box.switch}")[0], stack="app-green", image=f"app:{first}"))
    if box.switch == "green":
        box.containers[-1].stack = "app-blue"
    operator.does(operate.prune, 1)
    assert first in box.releases


def test_prune_tells_what_is_gone_and_not_what_it_asked_for(operator_of: Any) -> None:
    """Docker keeps an image that a person's own container has."""
    operator = operator_of()
    first, *_ = deployed(operator, "1", "2", "3", "4")
    (box,) = operator.world.boxes.values()
    box.in_use = {first}
    operator.does(operate.prune, 1)
    assert first in box.releases
    assert "forgotten: 1 releases, 0 nginx confs of 2 releases, 0 nginx confs; the rest is in use" in operator.text


def test_prune_leaves_a_standby_all_that_it_takes_to_go_back_to_it(operator_of: Any) -> None:
    operator = operator_of(standby=True)
    deployed(operator, "1")
    conf(operator, "events {}")
    (newest,) = deployed(operator, "2")
    operator.rollback()
    operator.does(operate.prune, 1)
    operator.rollback(newest)
    assert operator.live() == [newest]


def test_with_nothing_to_prune_nothing_is_written(operator_of: Any) -> None:
    operator = operator_of()
    deployed(operator, "1", "2")
    before = operator.world.writes()
    operator.does(operate.prune)
    assert "nothing to do" in operator.text
    assert operator.world.writes() == before


def test_prune_is_refused_where_nothing_tells_what_is_needed(operator_of: Any) -> None:
    operator = operator_of()
    with pytest.raises(HostFailures, match="deploy first") as refused:
        operator.does(operate.prune)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("story", [operate.prune, functools.partial(operate.push_env, options=Options())])
def test_who_writes_waits_for_nobody_and_is_told_who_is_at_work(operator_of: Any, story: Any) -> None:
    operator = operator_of()
    deployed(operator, "1", "2")
    before = operator.world.writes()
    with operator.at_work(), pytest.raises(Locked, match="deploy r9"):
        operator.does(story)
    assert operator.world.writes() == before


# --- the env ---------------------------------------------------------------------------------------------------


def env(operator: Any, text: str) -> None:
    (operator.folder / ".env.prod").write_text(text)


def test_env_diff_tells_names_and_never_a_value(operator_of: Any) -> None:
    operator = operator_of()
    env(operator, "DJANGO_SECRET_KEY=s3cret-marker\nGONE=old-value\nSAME=same-value\n")
    operator.deploy()
    before = operator.world.writes()
    env(operator, "SAME='same-value'\nDJANGO_SECRET_KEY=an0ther-marker\nNEW=new-value\n")
    operator.does(operate.diff_env)
    assert [line.split() for line in operator.text.splitlines()[1:]] == [
        ["web1", "DJANGO_SECRET_KEY", "changed"],
        ["web1", "GONE", "removed"],
        ["web1", "NEW", "added"],
    ]
    for value in ("marker", "-value"):
        assert value not in operator.text
    assert operator.world.writes() == before


def test_env_diff_of_the_same_env(operator_of: Any) -> None:
    operator = operator_of()
    operator.deploy()
    operator.does(operate.diff_env)
    assert operator.text == f"no difference: web1 has it with {operator.live()[0]}\n"


def test_env_push_brings_the_env_and_nothing_else_blue_green(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    (first,) = set(operator.live())
    operator.write("not to be deployed")
    env(operator, "DJANGO_SECRET_KEY=an0ther-marker\n")
    before = len(operator.world.words())
    operator.does(operate.push_env, Options())
    operator.assert_whole()
    (second,) = set(operator.live())
    assert second != first
    words = operator.world.words()[before:]
    assert not {"build", "migrate", "remove_stale"} & set(words)
    assert words.count("tag") == words.count("gate") == words.count("drain") == 3
    for box in operator.world.boxes.values():
        old, new = box.files[first], box.files[second]
        assert new[".env"] == b"DJANGO_SECRET_KEY=an0ther-marker\n"
        assert new["colour.yml"] == old["colour.yml"]
        assert box.releases[second]["replaces"] == first
        assert box.releases[second]["manifest"] == box.releases[first]["manifest"]
        assert json.loads(box.history[-1])["what"] == "env.push"
    operator.rollback()
    assert set(operator.live()) == {first}


@pytest.mark.parametrize("end", ["\n", ""], ids=["newline", "none"])
def test_a_deploy_of_the_same_source_has_nothing_to_do_after_an_env_push(operator_of: Any, end: str) -> None:
    """Whether the compose file ends with a newline or not: a host tells it line by line."""
    operator = operator_of()
    (operator.folder / "templates").mkdir()
    colour = Templates(operator.setup().templates).read("colour.yml").decode()
    (operator.folder / "templates" / "colour.yml").write_text(colour.rstrip("\n") + end)
    operator.deploy()
    env(operator, "DJANGO_SECRET_KEY=an0ther-marker\n")
    operator.does(operate.push_env, Options())
    live = operator.live()
    operator.deploy()
    assert operator.live() == live


def test_env_push_of_the_same_env_does_nothing_unless_forced(operator_of: Any) -> None:
    operator = operator_of()
    operator.deploy()
    before = operator.live()
    operator.does(operate.push_env, Options())
    assert "nothing to do" in operator.text
    assert operator.live() == before
    operator.does(operate.push_env, Options(force=True))
    assert operator.live() != before


def test_an_env_that_would_recreate_a_service_asks_first(operator_of: Any) -> None:
    operator = operator_of()
    env(operator, "REDIS_PASSWORD=before-1234\n")
    operator.deploy()
    before = operator.live()
    env(operator, "REDIS_PASSWORD=after-12345\n")
    with pytest.raises(Refused, match="redis of app-setting-prod will be recreated"):
        operator.does(operate.push_env, Options())
    assert operator.live() == before
    operator.does(operate.push_env, Options(yes=True))
    assert operator.live() != before


def test_an_env_that_makes_the_app_sick_is_undone(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    before = operator.live()
    env(operator, "DJANGO_SECRET_KEY=an0ther-marker\n")
    list(operator.world.boxes.values())[1].refuse["gate"] = 1
    with pytest.raises(Failed, match="Undone on every host"):
        operator.does(operate.push_env, Options())
    assert operator.live() == before
    operator.assert_whole()


def test_env_push_wants_one_release_to_begin_from(operator_of: Any) -> None:
    operator = operator_of(2)
    with pytest.raises(Refused, match="no release is live"):
        operator.does(operate.push_env, Options())
    operator.deploy()
    operator.write("2")
    operator.deploy(hosts="web1")
    with pytest.raises(Refused, match=r"the hosts differ: \S+, \S+ are live"):
        operator.does(operate.push_env, Options())


def test_env_push_wants_one_nginx_configuration_to_begin_from(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    conf(operator, "events {}")
    operator.does(operate.settings_reload, hosts="web1")
    with pytest.raises(Refused, match=r"nginx has not the same configuration everywhere\ninv settings\.reload"):
        operator.does(operate.push_env, Options())
    operator.does(operate.settings_reload)
    operator.does(operate.push_env, Options(force=True))
    operator.assert_whole()


@pytest.mark.parametrize("hosts", [1, pytest.param(3, marks=pytest.mark.long)])
def test_an_operator_may_die_anywhere_in_an_env_push(operator_of: Any, hosts: int) -> None:
    before = operator_of(hosts)
    before.deploy()
    for deaths in itertools.count(1):
        operator = before.twin()
        env(operator, "DJANGO_SECRET_KEY=an0ther-marker\n")
        operator.world.die_after = len(operator.world.writes()) + deaths
        try:
            operator.does(operate.push_env, Options())
        except Died:
            operator.world.revive()
            operator.deploy()
            operator.assert_whole()
            for box in operator.world.boxes.values():
                assert box.files[operator.live()[0]][".env"] == b"DJANGO_SECRET_KEY=an0ther-marker\n"
        else:
            assert deaths > 10 * hosts
            return


# --- the settings stack ----------------------------------------------------------------------------------------


def test_settings_up_starts_what_is_missing_and_leaves_the_rest_alone(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    one, two = operator.world.boxes.values()
    kept = {c.id for c in one.containers if c.service != "celery-beat"}
    one.containers = [c for c in one.containers if c.service != "celery-beat"]
    before = len(operator.world.log)
    operator.does(operate.settings_up)
    operator.assert_whole()
    assert kept <= {c.id for c in one.containers}
    assert "web1: celery-beat started" in operator.text
    assert not [word for host, word in operator.world.log[before:] if host == two.name and word.words[0] != "observe"]
    operator.does(operate.settings_up)
    assert "nothing to do" in operator.text


def test_settings_down_asks_and_settings_up_serves_again(operator_of: Any) -> None:
    operator = operator_of()
    operator.deploy()
    live = operator.live()
    with pytest.raises(Refused, match="users get no answer until"):
        operator.does(functools.partial(operate.settings_down, yes=False))
    assert "users get no answer until" not in operator.text  # the refusal says it, and once is enough
    operator.assert_whole()
    operator.does(functools.partial(operate.settings_down, yes=True))
    (box,) = operator.world.boxes.values()
    assert not box.of("app-setting-prod")
    operator.does(operate.settings_up)
    operator.assert_whole()
    assert operator.live() == live


def test_what_is_done_again_another_day_is_in_the_history_again(operator_of: Any) -> None:
    operator = operator_of()
    operator.deploy()
    for _ in range(2):
        operator.does(functools.partial(operate.settings_restart, yes=False), ("redis",))
    (box,) = operator.world.boxes.values()
    told = [json.loads(line) for line in box.history[-2:]]
    assert [(line["what"], line["outcome"]) for line in told] == [("settings.restart", "redis")] * 2
    operator.history()
    assert operator.text.count("settings.restart") >= 2


def test_settings_restart_spares_nginx_unless_it_is_named_and_then_asks(operator_of: Any) -> None:
    operator = operator_of()
    operator.deploy()
    operator.does(functools.partial(operate.settings_restart, yes=False), ())
    assert "web1: celery, celery-beat, postgres, redis restarted" in operator.text
    operator.does(functools.partial(operate.settings_restart, yes=False), ("redis",))
    assert "web1: redis restarted" in operator.text
    with pytest.raises(Refused, match="users get no answer"):
        operator.does(functools.partial(operate.settings_restart, yes=False), ("nginx",))
    operator.does(functools.partial(operate.settings_restart, yes=True), ("nginx",))


def test_settings_restart_of_a_service_that_runs_nowhere_is_refused_and_touches_no_other(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    before = operator.world.writes()
    with pytest.raises(Refused, match="no redsi of app-setting-prod runs on web1, web2\nsee: inv ps"):
        operator.does(functools.partial(operate.settings_restart, yes=False), ("redis", "redsi"))
    assert operator.world.writes() == before
    operator.does(functools.partial(operate.settings_restart, yes=False), ("postgres",))  # web2 has none
    assert "web1: postgres restarted" in operator.text


def conf(operator: Any, text: str) -> None:
    """Give the project an nginx configuration of its own."""
    (operator.folder / "templates" / "nginx").mkdir(parents=True, exist_ok=True)
    (operator.folder / "templates" / "nginx" / "nginx.conf").write_text(text)


def confs(operator: Any) -> list[str]:
    return [box.conf for box in operator.world.boxes.values()]


def test_settings_reload_brings_the_configuration_to_every_host(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    (before,) = set(confs(operator))
    conf(operator, "events {}")
    operator.does(operate.settings_reload)
    (after,) = set(confs(operator))
    assert after != before
    operator.does(operate.settings_reload)  # what it refers to may be another one, like a certificate
    assert operator.world.words()[-8:].count("use_conf") == 2
    operator.write("2")
    operator.deploy()
    assert set(confs(operator)) == {after}
    operator.rollback()
    assert set(confs(operator)) == {before}


@pytest.mark.parametrize("word", ["receive", "test_conf", "use_conf", "await_serving"])
def test_a_configuration_that_one_nginx_refuses_reaches_none(operator_of: Any, word: str) -> None:
    operator = operator_of(2)
    operator.deploy()
    before = confs(operator)
    conf(operator, "events {}")
    list(operator.world.boxes.values())[1].refuse[word] = 1
    with pytest.raises(Failed, match="Undone on every host: all is as it was"):
        operator.does(operate.settings_reload)
    assert confs(operator) == before
    operator.does(operate.settings_reload)
    assert len(set(confs(operator))) == 1


def test_an_env_push_keeps_the_nginx_configuration_in_use(operator_of: Any) -> None:
    operator = operator_of()
    operator.deploy()
    conf(operator, "events {}")
    operator.does(operate.settings_reload)
    reloaded = confs(operator)
    env(operator, "DJANGO_SECRET_KEY=an0ther-marker\n")
    operator.does(operate.push_env, Options())
    assert confs(operator) == reloaded


def test_where_nothing_was_deployed_there_is_nothing_to_settle(operator_of: Any) -> None:
    operator = operator_of()
    for story in (operate.settings_up, operate.settings_reload, functools.partial(operate.maintenance, reason="x")):
        with pytest.raises(HostFailures) as refused:
            operator.does(story)
        assert refused.value.exit_code == 2
    assert not operator.world.writes()


# --- maintenance -----------------------------------------------------------------------------------------------


def test_maintenance_lasts_through_deploys_and_status_shows_it(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.does(operate.maintenance, "moving house")
    operator.write("2")
    operator.deploy()
    assert "users of web1, web2 see the maintenance page" in operator.text
    operator.does(flow.status)
    assert operator.text.count("users see the maintenance page: put up by") == 2
    assert "moving house" in operator.text
    operator.does(operate.maintenance)
    assert not any(box.maintenance for box in operator.world.boxes.values())
    operator.does(flow.status)
    assert "maintenance" not in operator.text
    operator.does(operate.maintenance)
    assert "nothing to do" in operator.text


def test_a_lock_that_is_lost_when_maintenance_is_on_already_calls_a_human(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on other hosts may lose the first one's to somebody else; what was touched by then must be said."""
    operator = operator_of(2)
    operator.deploy()
    real = Run.phase

    def phase(run: Run, each: Phase, *more: Any) -> None:
        real(run, each, *more)
        if each is Phase.FLIP:
            run.lock.lost = Locked("another run has been at work")

    monkeypatch.setattr(Run, "phase", phase)
    with pytest.raises(NeedsHuman, match=r"(?s)another run has been at work.*It is done on every host") as caught:
        operator.does(operate.maintenance, "moving house")
    assert caught.value.exit_code == 3
    assert all(box.maintenance for box in operator.world.boxes.values())


@pytest.mark.parametrize("before", ["", "moving house"])
def test_maintenance_that_one_nginx_does_not_look_at_is_undone_everywhere(operator_of: Any, before: str) -> None:
    operator = operator_of(2)
    operator.deploy()
    if before:
        operator.does(operate.maintenance, before)
    one, two = operator.world.boxes.values()
    texts = [one.maintenance, two.maintenance]
    two.looks_at_maintenance = False
    with pytest.raises(Failed, match="Undone on every host"):
        operator.does(operate.maintenance, "again")
    assert [one.maintenance, two.maintenance] == texts


def test_an_operator_may_die_anywhere_in_a_change_between_deploys(operator_of: Any) -> None:
    """Users are served after each command: the world sees to that. What was begun is done by saying it again."""
    before = operator_of(2)
    before.deploy()
    conf(before, "events {}")
    for box in before.world.boxes.values():
        box.containers = [c for c in box.containers if c.service != "celery"]
    for story in (operate.settings_up, operate.settings_reload, functools.partial(operate.maintenance, reason="x")):
        for deaths in itertools.count(1):
            operator = before.twin()
            operator.world.die_after = len(operator.world.writes()) + deaths
            try:
                operator.does(story)
            except Died:
                operator.world.revive()
                operator.does(story)
                operator.write("2")
                operator.deploy()
                operator.assert_whole()
            else:
                assert deaths > 4
                break


# --- Ctrl-C in what needs no undo --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Interrupted("stopped by the operator"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(
    ("story", "kind", "words"),
    [
        (functools.partial(operate.maintenance, reason="moving"), NeedsHuman, "It is done on every host"),
        (operate.settings_reload, NeedsHuman, "It is done on every host"),
        (functools.partial(operate.settings_restart, services=(), yes=True), Failed, r"Other hosts may have it\."),
        (staging.unstage, Failed, r"Users have what they had\."),
    ],
    ids=["maintenance", "reload", "restart", "unstage"],
)
def test_ctrl_c_in_the_last_phase_says_what_hosts_have(
    operator_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    story: Any,
    kind: type[GreenroomError],
    words: str,
) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.write("2")
    operator.stage()
    real = Run.phase

    def phase(run: Run, phase: Phase, *more: Any) -> None:
        if phase is Phase.FINISH:
            raise error
        real(run, phase, *more)

    monkeypatch.setattr(Run, "phase", phase)
    with pytest.raises(kind, match=f"^stopped by the operator\n{words}") as caught:
        operator.does(story)
    assert caught.value.mend == "say it again"
