"""What is left running in an idle colour on purpose, and what only looks like it; the words of a preview."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.recipe import facts as questions
from deploy.recipe import plan, preview, stage, waiting
from deploy.recipe.model import STAGED, STANDBY, App, Colour, Container, Facts, Host, Release, StoredRelease, Waiting
from deploy.recipe.shell import Answer
from deploy.recipe.steps import Phase, Plan

HOST = Host("web1")
APP = App(project="app", env="prod", hosts=(HOST,), workers=("celery",), migrate=("migrate",))


def release(ident: str, **more: str) -> Release:
    return Release(ident, f"of {ident}", "conf", definitions=(("celery", "c"), ("nginx", "n"), ("redis", "r")), **more)


def web(colour: str, ident: str, *, state: str = "running") -> Container:
    return Container(f"{colour}-id", f"app-{colour}", "web", f"app:{ident}", state)


SETTINGS = tuple(
    Container(f"{name}-id", "app-setting-prod", name, f"{name}:1", "running", definition=name[0])
    for name in ("nginx", "redis")
)
FACTS = Facts(
    compose="docker compose",
    switch=Colour.BLUE,
    proxy_runs=True,
    conf="conf",
    containers=(web("blue", "r1"), web("green", "r2"), *SETTINGS),
    releases=(
        StoredRelease("r1", 100, release("r1"), has_image=True),
        StoredRelease("r2", 0, release("r2", replaces="r1"), has_image=True),
    ),
    disk_free=50 << 30,
    waiting=Waiting(STAGED, Colour.GREEN, frozenset({"green-id"}), "ann", 1),
)


def words(made: Plan, phase: Phase) -> list[str]:
    return [step.command.words[0] for step in made.of(phase)]


def test_what_waits_is_read_off_the_host_s_own_words() -> None:
    answer = Answer("waiting", ("green aaa bbb", '{"at": 7, "as": "staged", "who": "ann"}'))
    assert questions.read([answer]).waiting == Waiting(STAGED, Colour.GREEN, frozenset({"aaa", "bbb"}), "ann", 7)


@pytest.mark.parametrize(
    ("containers", "text"),
    [
        ("green aaa", ""),
        ("green aaa", '{"at": 7}'),
        ("", '{"at": 7, "as": "staged", "who": "ann"}'),
    ],
)
def test_half_a_word_on_what_waits_is_none(containers: str, text: str) -> None:
    assert questions.read([Answer("waiting", (containers, text))]).waiting is None


def test_a_staged_release_is_told_with_who_staged_it() -> None:
    assert waiting.describe(APP, FACTS) == "staged: r2, by ann"
    assert waiting.waits_there(APP, FACTS, STAGED) == "r2"
    assert waiting.waits_there(APP, FACTS, STANDBY) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"waiting": None},
        {"switch": Colour.GREEN},
        {"waiting": replace(FACTS.waiting or Waiting("", Colour.BLUE, frozenset()), containers=frozenset({"another"}))},
        {"containers": (web("blue", "r1"), web("green", "r2"), replace(web("green", "r2"), id="more"))},
        {"containers": (web("blue", "r1"), web("green", "r2", state="exited"))},
        {"containers": (web("blue", "r1"),)},
        {"releases": (StoredRelease("r2", 200, release("r2"), has_image=True),)},
        {"releases": ()},
    ],
    ids=["no-word", "live", "other-container", "one-more", "exited", "gone", "was-live", "files-gone"],
)
def test_what_is_not_whole_or_has_been_live_is_not_staged(changes: dict[str, object]) -> None:
    assert waiting.waiting(APP, replace(FACTS, **changes)) is None  # type: ignore[arg-type]  # fields of Facts


def test_a_standby_has_been_live() -> None:
    assert FACTS.waiting
    standby = replace(FACTS.waiting, kind=STANDBY)
    releases = (*FACTS.releases[:1], StoredRelease("r2", 50, release("r2"), has_image=True))
    assert waiting.describe(APP, replace(FACTS, waiting=standby, releases=releases)) == "standby: r2, by ann"


def test_a_stage_ends_at_the_gate_and_leaves_workers_and_switch_alone() -> None:
    facts = replace(FACTS, waiting=None, containers=(web("blue", "r1"), *SETTINGS))
    made = stage.plan_stage(APP, HOST, facts, release("r3"), {}, HOST)
    assert words(made, Phase.START) == ["start", "gate", "let_wait", "record"]
    assert words(made, Phase.MIGRATE) == ["migrate"]
    assert [phase for phase in (Phase.FLIP, Phase.SETTLE, Phase.FINISH) if made.of(phase)] == []
    assert words(made, Phase.UNDO) == ["await_engine", "drain", "stop", "forget"]


def test_a_promote_begins_at_the_gate_and_undoes_but_what_it_found() -> None:
    made = stage.plan_promote(APP, HOST, FACTS, release("r2", replaces="r1"))
    assert words(made, Phase.PREPARE) == []
    assert words(made, Phase.START) == ["gate"]
    assert words(made, Phase.FLIP) == ["switch", "mark_served", "await_serving"]
    assert words(made, Phase.FINISH)[:3] == ["hand_over", "drain", "stop"]
    assert words(made, Phase.UNDO) == ["await_return", "switch", "await_engine", "unmark_served", "withdraw"]


@pytest.mark.parametrize(("kind", "known"), [(STAGED, ("green-id:2",)), (STANDBY, ("green-id:2",)), ("", ())])
def test_what_began_anew_while_it_waited_is_no_reason_to_leave_it(kind: str, known: tuple[str, ...]) -> None:
    """And where nothing waits, the colour is started anew: its containers have no past."""
    waits = replace(FACTS.waiting, kind=kind) if kind and FACTS.waiting else None
    facts = replace(
        FACTS, waiting=waits, containers=(web("blue", "r1"), replace(web("green", "r2"), restarts=2), *SETTINGS)
    )
    made = stage.plan_promote(APP, HOST, facts, release("r2", replaces="r1"))
    (watch,) = [step for step in made.of(Phase.SETTLE) if step.command.words[0] == "watch_colour"]
    assert watch.command.words[3:] == known
    (gate,) = made.of(Phase.START)
    assert gate.command.words[3:] == known


def test_a_live_colour_of_which_nothing_runs_is_no_standby() -> None:
    """There would be nothing that could wait, and the end of the run would fail of it."""
    facts = replace(FACTS, containers=(web("blue", "r1", state="exited"), web("green", "r2"), *SETTINGS))
    finish = words(stage.plan_promote(replace(APP, standby=True), HOST, facts, release("r2")), Phase.FINISH)
    assert {"drain", "stop"} <= {*finish}
    assert "let_wait" not in finish


def test_a_promote_removes_what_left_the_settings_file_as_it_asked() -> None:
    flower = Container("flower-id", "app-setting-prod", "flower", "flower:1", "running")
    made = stage.plan_promote(APP, HOST, replace(FACTS, containers=(*FACTS.containers, flower)), release("r2"))
    assert made.asks == ("flower of app-setting-prod will be removed: setting_prod.yml has it no more",)
    commands = [step.command.words for step in made.of(Phase.FINISH)]
    assert ("settings_down", "flower") in commands


def test_with_standby_the_old_colour_waits_and_is_neither_drained_nor_stopped() -> None:
    made = stage.plan_promote(replace(APP, standby=True), HOST, FACTS, release("r2"))
    assert words(made, Phase.FINISH)[:2] == ["settings_up", "let_wait"]
    assert "drain" not in words(made, Phase.FINISH)


def test_a_deploy_drains_and_stops_what_waits_and_says_what_that_was() -> None:
    made = plan.plan_deploy(APP, HOST, FACTS, release("r3"), {}, HOST)
    (stop,) = [step for step in made.of(Phase.PREPARE) if step.command.words[0] == "stop"]
    assert stop.because == "staged: r2, by ann"
    assert words(made, Phase.UNDO) == ["await_return", "switch", "await_engine", "unmark_served", "withdraw", "forget"]


# --- a preview's requests --------------------------------------------------------------------------------------


def test_a_request_for_our_port_becomes_one_for_the_app_and_the_last_on_its_connection() -> None:
    head = (
        b"POST /in HTTP/1.1\r\nHost: 127.0.0.1:8800\r\nConnection: keep-alive\r\nOrigin: http://127.0.0.1:8800\r\n"
        b"Referer: http://localhost:8800/in?next=http://localhost:8800/\r\nContent-Length: 2\r\n\r\na="
    )
    assert preview.as_user(head, "app.example.com") == (
        b"POST /in HTTP/1.1\r\nHost: app.example.com\r\nOrigin: http://app.example.com\r\n"
        b"Referer: http://app.example.com/in?next=http://localhost:8800/\r\nContent-Length: 2\r\n"
        b"Connection: close\r\n\r\na="
    )


def test_a_request_for_another_host_keeps_its_name() -> None:
    head = b"GET / HTTP/1.1\r\nHost: other.example.com\r\n\r\n"
    assert b"Host: other.example.com\r\n" in preview.as_user(head, "app.example.com")


def test_a_web_socket_has_its_connection_for_itself() -> None:
    head = b"GET /ws HTTP/1.1\r\nHost: localhost:8800\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    told = preview.as_user(head, "app.example.com")
    assert b"Connection: Upgrade\r\n" in told
    assert b"Connection: close" not in told


def test_what_is_no_request_passes_as_it_is() -> None:
    assert preview.as_user(b"half a li", "app.example.com") == b"half a li"
    assert not preview.is_whole(b"GET / HTTP/1.1\r\n")
    assert preview.is_whole(b"x" * preview.LONGEST)
    assert preview.path_of(b"GET /static/a.css?b HTTP/1.1\r\nHost: a\r\n\r\n") == "/static/a.css?b"
