"""The plan as a value: what each host will go through, seen from what it is and what it shall become."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import chain, product

import pytest

from deploy.recipe import docker, nginx, plan, standing, waiting
from deploy.recipe.model import ENDING, App, Colour, Container, Facts, Health, Host, Release, StoredRelease
from deploy.recipe.steps import Cargo, Phase, Plan, Step

WEB1, WEB2 = Host("web1"), Host("web2")
APP = App(
    "app",
    "prod",
    (WEB1, WEB2),
    health=Health("/healthz", "app.example.com", 60),
    migrate=("python", "manage.py", "migrate"),
    workers=("celery", "celery-beat"),
    singletons=("postgres", "celery-beat"),
    settle=30,
    keep=3,
)
DEFINITIONS = tuple((name, f"d-{name}") for name in ("celery", "celery-beat", "nginx", "postgres", "redis"))
STAMPS = {"app.py": "f 1"}


def release(ident: str, conf: str = "c1", replaces: str = "") -> Release:
    return Release(ident, f"finger-{ident}", conf, definitions=DEFINITIONS, replaces=replaces)


def stored(ident: str, served: int, replaces: str = "") -> StoredRelease:
    return StoredRelease(ident, served, release(ident, replaces=replaces), has_image=True)


def container(stack: str, service: str, image: str = "", state: str = "running", definition: str = "") -> Container:
    return Container(
        f"{stack}-{service}", stack, service, image or f"{service}:1", state, definition=definition or f"d-{service}"
    )


def settings(ident: str, *names: str) -> tuple[Container, ...]:
    stack = "app-setting-prod"
    return tuple(container(stack, n, f"app:{ident}" if n in APP.workers else "") for n in names)


BARE = Facts(docker="26", compose="docker compose", disk_free=50 << 30)
RUNS = replace(
    BARE,
    base="/home/deploy/greenroom/app",
    switch=Colour.BLUE,
    proxy_runs=True,
    conf="c1",
    confs=("c1",),
    containers=(
        container("app-blue", "web", "app:r1"),
        *settings("r1", "nginx", "redis", "postgres", "celery", "celery-beat"),
    ),
    releases=(stored("r1", 100),),
)
"""The first host of the fleet with r1 live on blue, and nothing left over."""


def about_to_end(facts: Facts, *names: str) -> Facts:
    return replace(
        facts, containers=tuple(replace(c, state=ENDING) if c.service in names else c for c in facts.containers)
    )


def deploy(facts: Facts, to: Release | None = None, *, app: App = APP, host: Host = WEB1, leader: Host = WEB1) -> Plan:
    return plan.plan_deploy(app, host, facts, to or release("r2", replaces="r1"), STAMPS, leader)


def told(planned: Plan) -> dict[str, list[str]]:
    """The phases that have steps, and their titles."""
    return {str(phase): [step.title for step in planned.of(phase)] for phase in Phase if planned.of(phase)}


def words(planned: Plan, phase: Phase) -> list[str]:
    return [step.command.words[0] for step in planned.of(phase)]


def the(planned: Plan, phase: Phase, word: str) -> tuple[str, ...]:
    """The arguments of the one step of a phase that says this word."""
    (found,) = [step.command.words[1:] for step in planned.of(phase) if step.command.words[0] == word]
    return found


# --- whole plans -----------------------------------------------------------------------------------------------


def test_a_first_deploy() -> None:
    planned = deploy(BARE, release("r1"))
    assert told(planned) == {
        "prepare": [
            "receive files", "ensure the network", "ensure the volumes", "validate the compose files",
            "build the image", "test the nginx configuration", "hand nginx its configuration",
            "start settings services", "wait for the settings services",
        ],
        "migrate": ["migrate the database"],
        "start": ["start blue", "gate blue"],
        "flip": ["switch nginx to blue", "mark the release as served", "see nginx serve blue"],
        "settle": ["watch blue for 30 s"],
        "finish": ["hand the workers the new release", "write history"],
        "undo": [
            "switch nginx to none", "see that docker answers", "unmark the release",
            "drain blue", "stop blue", "forget old releases",
        ],
    }  # fmt: skip
    assert (planned.note, planned.live) == ("nobody is live", "")
    assert the(planned, Phase.PREPARE, "settings_up") == ("nginx", "postgres", "redis")


def test_a_second_deploy() -> None:
    planned = deploy(RUNS)
    assert told(planned) == {
        "prepare": [
            "receive files", "ensure the network", "ensure the volumes", "validate the compose files",
            "build the image",
        ],
        "migrate": ["migrate the database"],
        "start": ["start green", "gate green"],
        "flip": ["switch nginx to green", "mark the release as served", "see nginx serve green"],
        "settle": ["watch green for 30 s"],
        "finish": ["hand the workers the new release", "drain blue", "stop blue", "write history"],
        "undo": [
            "see that blue is up", "switch nginx to blue", "see that docker answers", "unmark the release",
            "drain green", "stop green", "forget old releases",
        ],
    }  # fmt: skip
    assert (planned.note, planned.live) == ("blue is live with r1", "r1")
    assert dict(planned.variables)["RELEASE"] == "r2"
    assert dict(planned.variables)["COMPOSE"] == "docker compose"


def test_a_rollback_neither_sends_nor_builds_nor_migrates() -> None:
    facts = replace(RUNS, releases=(stored("r0", 50), stored("r1", 100, "r0")))
    assert told(plan.plan_rollback(APP, WEB1, facts, release("r0"))) == {
        "start": ["start green", "gate green"],
        "flip": ["switch nginx to green", "mark the release as served", "see nginx serve green"],
        "settle": ["watch green for 30 s"],
        "finish": ["hand the workers the new release", "drain blue", "stop blue", "write history"],
        "undo": [
            "see that blue is up", "switch nginx to blue", "see that docker answers", "drain green", "stop green",
        ],
    }  # fmt: skip


# --- what makes a difference -----------------------------------------------------------------------------------


def test_a_changed_nginx_conf_is_tested_before_and_used_with_the_flip() -> None:
    planned = deploy(RUNS, release("r2", conf="c2"))
    assert the(planned, Phase.PREPARE, "test_conf") == ("c2",)
    assert words(planned, Phase.FLIP)[:2] == ["use_conf", "switch"]
    assert the(planned, Phase.FLIP, "use_conf") == ("c2",)
    assert words(planned, Phase.UNDO)[:4] == ["await_return", "switch", "await_engine", "use_conf"]
    assert the(planned, Phase.UNDO, "await_return") == ("blue", "60", "c1")
    assert the(planned, Phase.UNDO, "use_conf") == ("c1",)


def test_an_nginx_that_does_not_run_gets_its_conf_before_it_is_started() -> None:
    down = replace(RUNS, proxy_runs=False, containers=tuple(c for c in RUNS.containers if c.service != "nginx"))
    planned = deploy(down)
    prepare = words(planned, Phase.PREPARE)
    assert prepare[-4:] == ["test_conf", "use_conf", "settings_up", "settings_ready"]
    assert "use_conf" not in words(planned, Phase.FLIP)


def test_an_unchanged_conf_is_left_alone() -> None:
    everything = chain.from_iterable(words(deploy(RUNS), phase) for phase in Phase)
    assert not {"use_conf", "test_conf"} & set(everything)


def test_leftovers_of_the_idle_colour_are_drained_and_stopped_first() -> None:
    planned = deploy(replace(RUNS, containers=(*RUNS.containers, container("app-green", "web", "app:r0", "exited"))))
    assert [s.title for s in planned.of(Phase.PREPARE)][:3] == ["receive files", "drain green", "stop green"]


def test_a_rollback_clears_leftovers_too() -> None:
    left = replace(RUNS, containers=(*RUNS.containers, container("app-green", "web")))
    planned = plan.plan_rollback(APP, WEB1, left, release("r0"))
    assert [s.title for s in planned.of(Phase.PREPARE)] == ["drain green", "stop green"]


def test_without_workers_nothing_is_refreshed() -> None:
    assert "settings_up" not in words(deploy(RUNS, app=replace(APP, workers=())), Phase.FINISH)


def test_without_a_settle_delay_there_is_no_settle_phase() -> None:
    assert "settle" not in told(deploy(RUNS, app=replace(APP, settle=0)))


def test_without_a_migration_nobody_migrates() -> None:
    assert "migrate" not in told(deploy(RUNS, app=replace(APP, migrate=())))


def test_only_the_leader_migrates() -> None:
    assert "migrate" not in told(deploy(RUNS, leader=WEB2))
    assert "migrate" in told(deploy(RUNS, host=WEB2, leader=WEB2))


def test_a_singleton_is_neither_started_nor_refreshed_on_another_host() -> None:
    planned = deploy(BARE, host=WEB2, leader=WEB2)
    assert the(planned, Phase.PREPARE, "settings_up") == ("nginx", "redis")
    assert the(planned, Phase.FINISH, "settings_up") == ("celery",)


def test_a_singleton_belongs_to_the_env_s_first_host_even_when_another_one_leads() -> None:
    planned = deploy(BARE, host=WEB1, leader=WEB2)
    assert "postgres" in the(planned, Phase.PREPARE, "settings_up")
    assert the(planned, Phase.FINISH, "settings_up") == ("celery", "celery-beat")


def test_a_service_that_does_not_run_is_started_and_the_others_are_left_alone() -> None:
    ended = tuple(replace(c, state="exited") if c.service == "redis" else c for c in RUNS.containers)
    planned = deploy(replace(RUNS, containers=ended))
    assert the(planned, Phase.PREPARE, "settings_up") == ("redis",)
    assert the(planned, Phase.PREPARE, "settings_ready") == ("60", "redis")
    assert planned.asks == ()


def test_a_changed_definition_is_asked_for_and_named_in_the_reason() -> None:
    changed = tuple(replace(c, definition="old") if c.service == "redis" else c for c in RUNS.containers)
    planned = deploy(replace(RUNS, containers=changed))
    assert planned.asks == ("redis of app-setting-prod will be recreated: its definition changed",)
    (up,) = [s for s in planned.of(Phase.PREPARE) if s.command.words[0] == "settings_up"]
    assert up.because == "redis changed"


def test_workers_with_another_definition_ask_for_nothing() -> None:
    changed = tuple(replace(c, definition="old") if c.service in APP.workers else c for c in RUNS.containers)
    assert deploy(replace(RUNS, containers=changed)).asks == ()


def test_a_rollback_does_not_recreate_what_was_changed_since() -> None:
    changed = tuple(replace(c, definition="newer") if c.service == "redis" else c for c in RUNS.containers)
    planned = plan.plan_rollback(APP, WEB1, replace(RUNS, containers=changed), release("r0"))
    assert planned.of(Phase.PREPARE) == ()


def test_a_host_that_is_unfit_says_so_in_its_plan() -> None:
    assert deploy(replace(RUNS, lacks=("flock",))).refusals == ("flock is not installed",)


def test_an_undo_of_a_release_that_was_served_before_keeps_it_served() -> None:
    back = plan.plan_rollback(APP, WEB1, replace(RUNS, releases=(stored("r0", 50), *RUNS.releases)), release("r0"))
    assert "unmark_served" not in words(back, Phase.UNDO)
    never = plan.plan_rollback(APP, WEB1, replace(RUNS, releases=(stored("r0", 0), *RUNS.releases)), release("r0"))
    assert "unmark_served" in words(never, Phase.UNDO)


def test_every_undo_begins_with_the_switch_and_destroys_last() -> None:
    """To nobody at once, and to a colour when that is up."""
    for facts in (BARE, RUNS, replace(RUNS, switch=Colour.GREEN), replace(RUNS, conf="c0")):
        undo = words(deploy(facts), Phase.UNDO)
        assert undo[: undo.index("switch")] == (["await_return"] if facts.switch else [])
        assert undo[-3:] == ["drain", "stop", "forget"]


def test_nothing_ever_signals_the_live_colour_before_the_flip() -> None:
    for facts in (BARE, RUNS, replace(RUNS, switch=Colour.GREEN)):
        planned = deploy(facts)
        for phase in (Phase.PREPARE, Phase.MIGRATE, Phase.START, Phase.FLIP, Phase.SETTLE, Phase.UNDO):
            touched = {
                s.command.words[1] for s in planned.of(phase) if s.command.words[0] in {"stop", "start", "drain"}
            }
            assert str(facts.switch) not in touched


def test_a_service_that_left_the_file_is_asked_for_and_removed_at_the_end() -> None:
    facts = replace(RUNS, containers=(*RUNS.containers, *settings("r1", "flower")))
    planned = deploy(facts)
    assert planned.asks == ("flower of app-setting-prod will be removed: setting_prod.yml has it no more",)
    assert words(planned, Phase.FINISH)[:2] == ["hand_over", "settings_down"]
    assert the(planned, Phase.FINISH, "settings_down") == ("flower",)
    assert not standing.is_unchanged(APP, WEB1, facts, SAME)


def test_a_rollback_removes_no_service() -> None:
    facts = replace(RUNS, containers=(*RUNS.containers, *settings("r1", "flower")))
    assert "settings_down" not in words(plan.plan_rollback(APP, WEB1, facts, release("r0")), Phase.FINISH)


def test_a_rollback_hands_its_release_only_to_workers_that_it_knows() -> None:
    older = replace(release("r0"), definitions=(("celery", "d"), ("nginx", "d-nginx")))
    planned = plan.plan_rollback(APP, WEB1, RUNS, older)
    assert the(planned, Phase.FINISH, "hand_over") == ("blue", str(APP.drain), "celery")


def test_a_singleton_that_runs_where_it_does_not_belong_stops_the_deploy() -> None:
    planned = deploy(RUNS, host=WEB2)
    assert [text.split(" runs here")[0] for text in planned.refusals] == ["postgres", "celery-beat"]
    assert "belongs to web1 alone" in planned.refusals[0]
    assert planned.refusals[0].endswith("docker rm -f app-setting-prod-postgres")


# --- titles ----------------------------------------------------------------------------------------------------


def every_step() -> list[Step]:
    """Every step that any plan of these tests can hold, and more: big hosts with long histories."""
    many = tuple(stored(f"r{n}", n) for n in range(1, 9))
    full = replace(RUNS, releases=many, confs=("c1", "c8", "c9"), source=(("old.py", "f 1"),))
    left = replace(full, containers=(*full.containers, container("app-green", "web")))
    app = replace(APP, settle=99_999)
    plans = [
        deploy(f, release(i, conf=c), app=app)
        for f, i, c in product((BARE, RUNS, full, left), ("r2", "r99"), ("c1", "c2"))
    ]
    plans.append(plan.plan_rollback(app, WEB1, left, release("r3", conf="c3")))
    plans.append(deploy(full, release("r99"), app=replace(app, images=(("api",), ("jobs",)))))
    builders = {WEB1: WEB1, WEB2: WEB1}
    plans += [plan.plan_deploy(app, h, BARE, release("r2"), STAMPS, WEB1, builders) for h in builders]
    return [step for each in plans for phase in Phase for step in each.of(phase)]


def test_titles_are_short_imperatives_in_lower_case_about_one_thing() -> None:
    titles = {step.title for step in every_step()}
    assert len(titles) > 20
    for title in titles:
        assert len(title) <= 40, title
        assert title == title.lower(), title
        assert " and " not in title, title
        assert title == title.strip(" ."), title
        assert not re.match(r"\w+(ing|ed)\b", title), title


def test_every_step_says_why_and_has_a_deadline() -> None:
    for step in every_step():
        assert step.because, step.title
        assert step.because != step.title
        assert step.deadline > 0, step.title


def test_only_steps_that_merely_look_may_be_broken_off() -> None:
    patient = {step.command.words[0] for step in every_step() if step.patient}
    assert patient == {"gate", "watch_colour", "settings_ready"}


def test_only_the_steps_that_receive_have_a_parcel() -> None:
    assert {step.command.words[0] for step in every_step() if step.parcel} == {"receive", "take_image"}


def test_steps_with_a_parcel_are_alone_with_it_in_their_phase() -> None:
    """A script has one standard input."""
    for each in (
        plan.plan_deploy(APP, h, RUNS, release("r2"), STAMPS, WEB1, {WEB1: WEB1, WEB2: WEB1}) for h in (WEB1, WEB2)
    ):
        for phase in Phase:
            assert len([step for step in each.of(phase) if step.parcel]) <= 1


# --- who builds ------------------------------------------------------------------------------------------------


def test_a_host_that_another_builds_for_takes_the_image_before_anybody_migrates() -> None:
    builders = {WEB1: WEB1, WEB2: WEB1}
    one = plan.plan_deploy(APP, WEB1, BARE, release("r2"), STAMPS, WEB1, builders)
    other = plan.plan_deploy(APP, WEB2, BARE, release("r2"), STAMPS, WEB1, builders)
    assert {"build", "tell_built"} < set(words(one, Phase.PREPARE))
    assert words(one, Phase.SHIP) == []
    assert "build" not in words(other, Phase.PREPARE)
    assert words(other, Phase.SHIP) == ["take_image"]
    assert [step.parcel for step in other.of(Phase.SHIP)] == [Cargo("r2", WEB1, WEB2)]
    assert list(Phase).index(Phase.PREPARE) < list(Phase).index(Phase.SHIP) < list(Phase).index(Phase.MIGRATE)


def test_a_host_that_builds_for_itself_alone_tells_nobody() -> None:
    assert "tell_built" not in words(deploy(BARE), Phase.PREPARE)


# --- prunable --------------------------------------------------------------------------------------------------


def kept(keep: int, live: str, to: Release, *there: StoredRelease) -> set[str]:
    facts = replace(RUNS, releases=there, containers=(container("app-blue", "web", f"app:{live}"),))
    gone, _ = standing.prunable(replace(APP, keep=keep), facts, to)
    return {r.id for r in there} - set(gone)


FIVE = tuple(stored(f"r{n}", n * 10) for n in range(1, 6))


def test_the_last_releases_that_were_live_are_kept() -> None:
    assert kept(3, "r5", release("r6", replaces="r5"), *FIVE, stored("r6", 0)) == {"r4", "r5", "r6"}


def test_keep_counts_the_release_to_come() -> None:
    assert len(kept(5, "r5", release("r6", replaces="r5"), *FIVE, stored("r6", 0))) == 5


def test_the_live_one_is_kept_however_long_ago_it_went_live() -> None:
    assert "r1" in kept(2, "r1", release("r6", replaces="r5"), *FIVE)


def test_the_way_back_is_kept() -> None:
    assert "r2" in kept(2, "r5", release("r6", replaces="r2"), *FIVE)


def test_what_never_went_live_is_not_kept() -> None:
    assert "r9" not in kept(5, "r5", release("r6", replaces="r5"), *FIVE, stored("r9", 0))


def test_the_order_is_that_of_going_live_and_not_that_of_ids() -> None:
    back = stored("r1", 999)
    assert kept(2, "r1", release("r6", replaces="r1"), back, *FIVE[1:]) == {"r1"}


def test_the_target_of_a_rollback_is_kept() -> None:
    assert "r2" in kept(2, "r5", release("r2", replaces="r1"), *FIVE)


def test_confs_of_kept_releases_stay_and_others_go() -> None:
    there = tuple(StoredRelease(f"r{n}", n * 10, release(f"r{n}", conf=f"c{n}"), has_image=True) for n in range(1, 6))
    facts = replace(RUNS, releases=there, confs=("c1", "c2", "c3", "c4", "c5", "c6"))
    gone, confs = standing.prunable(replace(APP, keep=3), facts, release("r6", conf="c6", replaces="r5"))
    assert gone == ("r2", "r3")
    assert confs == ("c2", "c3")


def test_an_image_without_a_release_goes_unless_it_is_wanted() -> None:
    facts = replace(RUNS, orphans=("r1", "r2", "r7", "r8"))
    gone, _ = standing.prunable(APP, facts, release("r2", replaces="r8"))
    # The release before cannot be gone back to, nor the live one: their files are not there.
    assert gone == ("r1", "r7", "r8")


def test_nothing_old_is_no_step() -> None:
    assert not {"forget", "forget_confs"} & set(words(deploy(RUNS), Phase.FINISH))


# --- is_unchanged ----------------------------------------------------------------------------------------------

SAME = release("r1")


def test_the_same_release_on_a_whole_host_is_unchanged() -> None:
    assert standing.is_unchanged(APP, WEB1, RUNS, replace(SAME, id="r2"))


def without(*services: str) -> tuple[Container, ...]:
    return tuple(c for c in RUNS.containers if c.service not in services)


@pytest.mark.parametrize(
    "facts",
    [
        BARE,
        replace(RUNS, switch=None),
        replace(RUNS, releases=()),
        replace(RUNS, releases=(StoredRelease("r1", 100, None, has_image=True),)),
        replace(RUNS, releases=(replace(RUNS.releases[0], record=replace(SAME, fingerprint="other")),)),
        replace(RUNS, containers=without("web")),
        replace(RUNS, containers=without("redis")),
        replace(RUNS, containers=without("celery")),
        replace(RUNS, containers=(*without("redis"), container("app-setting-prod", "redis", definition="old"))),
        replace(RUNS, containers=(*without("celery"), container("app-setting-prod", "celery", "app:r0"))),
        replace(RUNS, containers=(*RUNS.containers, container("app-setting-prod", "celery-beat", "app:r1"))),
        replace(RUNS, containers=(*RUNS.containers, container("app-green", "web", "app:r0", "exited"))),
        replace(RUNS, conf="c0"),
        about_to_end(RUNS, "redis"),
        about_to_end(RUNS, "celery"),
    ],
    ids=[
        "bare", "nobody-live", "no-release", "no-record", "other-fingerprint", "live-colour-gone", "service-gone",
        "worker-gone", "definition-changed", "worker-of-another-release", "beat-doubled", "leftovers", "other-conf",
        "service-ends", "worker-ends",
    ],
)  # fmt: skip
def test_a_host_with_anything_to_do_is_not_unchanged(facts: Facts) -> None:
    assert not standing.is_unchanged(APP, WEB1, facts, SAME)


def test_a_worker_of_two_replicas_is_as_unchanged_as_one() -> None:
    facts = replace(RUNS, containers=(*RUNS.containers, container("app-setting-prod", "celery", "app:r1")))
    assert standing.is_unchanged(APP, WEB1, facts, SAME)


def test_a_singleton_that_is_not_on_a_second_host_is_not_missed_there() -> None:
    facts = replace(RUNS, containers=without("postgres", "celery-beat"))
    assert standing.is_unchanged(APP, WEB2, facts, SAME)
    assert not standing.is_unchanged(APP, WEB1, facts, SAME)


# --- live_release, rollback_target -----------------------------------------------------------------------------


def test_the_live_release_is_the_tag_of_what_the_live_colour_runs() -> None:
    assert standing.live_release(APP, RUNS) == "r1"
    assert standing.live_release(APP, replace(RUNS, switch=None)) == ""
    assert standing.live_release(APP, replace(RUNS, switch=Colour.GREEN)) == ""
    ended = tuple(replace(c, state="exited") for c in RUNS.containers)
    assert standing.live_release(APP, replace(RUNS, containers=ended)) == ""


def serves(ident: str, *there: StoredRelease) -> Facts:
    return replace(RUNS, containers=(container("app-blue", "web", f"app:{ident}"),), releases=there)


R1, R2, R3 = stored("r1", 10), stored("r2", 20, "r1"), stored("r3", 30, "r2")


def test_a_rollback_goes_to_what_the_live_release_replaced() -> None:
    assert standing.rollback_target(APP, {WEB1: serves("r3", R1, R2, R3)}) == "r2"
    assert standing.rollback_target(APP, {WEB1: serves("r2", R1, R2, R3)}) == "r1"


def test_on_a_split_fleet_a_rollback_goes_to_what_the_newest_live_one_replaced() -> None:
    for fleet in (("r2", "r3"), ("r3", "r2")):
        facts = {host: serves(ident, R1, R2, R3) for host, ident in zip((WEB1, WEB2), fleet, strict=True)}
        assert standing.rollback_target(APP, facts) == "r2"


def test_the_newest_live_release_is_the_one_that_replaced_the_other_whatever_the_clocks_said() -> None:
    ahead, behind = stored("2099", 20, "r1"), stored("1999", 30, "2099")
    fleet = {WEB1: serves("2099", R1, ahead, behind), WEB2: serves("1999", R1, ahead, behind)}
    assert standing.newest_live(APP, fleet.values()) == "1999"
    assert standing.rollback_target(APP, fleet) == "2099"


def test_live_releases_that_replaced_one_another_have_a_newest_one_all_the_same() -> None:
    ring = stored("r2", 20, "r3"), stored("r3", 30, "r2")
    assert standing.newest_live(APP, [serves("r2", *ring), serves("r3", *ring)]) == "r3"
    assert standing.newest_live(APP, [BARE]) == ""


def test_a_live_release_without_files_does_not_hide_the_way_back() -> None:
    """Docker may have started a worker, late, for a release that was undone."""
    fleet = {WEB1: serves("r2", R1, R2), WEB2: serves("r9", R1, R2)}
    assert standing.newest_live(APP, fleet.values()) == "r2"
    assert standing.rollback_target(APP, fleet) == "r1"
    assert standing.newest_live(APP, [serves("r9")]) == ""


def test_an_id_that_is_taken_is_no_new_release() -> None:
    """A clock that stands or went back makes the same id twice; an image that is there is not built again."""
    planned = deploy(RUNS, release("r1"))
    assert planned.refusals == (
        "release r1 is there already: the clock of the machine you deploy from stands, or went back",
    )


def test_a_host_that_serves_nobody_does_not_decide_where_a_rollback_goes() -> None:
    assert standing.rollback_target(APP, {WEB1: replace(BARE, releases=(R2,)), WEB2: serves("r3", R1, R2, R3)}) == "r2"


def test_any_host_that_knows_the_record_will_do() -> None:
    torn = StoredRelease("r3", 30, None, has_image=True)
    assert standing.rollback_target(APP, {WEB1: serves("r3", R2, torn), WEB2: serves("r3", R2, R3)}) == "r2"


def test_a_release_that_one_host_cannot_start_is_passed_over_for_the_one_before() -> None:
    for lacking in (replace(R2, has_image=False), replace(R2, record=None)):
        fleet = {WEB1: serves("r3", R1, R2, R3), WEB2: serves("r3", R1, lacking, R3)}
        assert standing.rollback_target(APP, fleet) == "r1"
    assert standing.rollback_target(APP, {WEB1: serves("r3", R1, R2, R3), WEB2: serves("r3", R3)}) == ""


def test_releases_that_replaced_one_another_are_no_endless_way() -> None:
    ring = stored("r2", 20, "r3"), stored("r3", 30, "r2")
    gone = tuple(replace(each, has_image=False) for each in ring)
    assert standing.rollback_target(APP, {WEB1: serves("r3", *gone)}) == ""


def test_there_is_no_way_back_from_a_first_release_or_from_nothing() -> None:
    assert standing.rollback_target(APP, {WEB1: serves("r1", R1)}) == ""
    assert standing.rollback_target(APP, {WEB1: BARE}) == ""
    assert standing.rollback_target(APP, {}) == ""


# --- fitness ---------------------------------------------------------------------------------------------------


def test_a_host_with_all_it_needs_is_fit() -> None:
    assert standing.fitness(APP, BARE) == ()


BY_GROUP_OR_SUDO = " (add the login to the group docker there, or set deploy.ssh.sudo: true)"


@pytest.mark.parametrize(
    ("facts", "reasons"),
    [
        (replace(BARE, lacks=("tar", "flock")), ("tar is not installed", "flock is not installed")),
        (Facts(trouble="is it running?"), ("docker does not answer: is it running?",)),
        (
            Facts(trouble="permission denied"),
            (f"docker does not answer: permission denied{BY_GROUP_OR_SUDO}",),
        ),
        (replace(BARE, compose=""), ("neither `docker compose` nor `docker-compose` is installed",)),
        (replace(BARE, disk_free=1023 << 20), ("only 1023 MiB of disk are free, 1024 are needed",)),
        (
            replace(BARE, containers=(container("app-setting-dev", "redis", state="exited"), *RUNS.containers)),
            ("this host belongs to env dev: app-setting-dev is here; a host serves one env of a project",),
        ),
        (Facts(lacks=("docker",), trouble="x"), ("docker is not installed", "docker does not answer: x")),
    ],
)
def test_a_host_that_is_unfit_says_why(facts: Facts, reasons: tuple[str, ...]) -> None:
    assert standing.fitness(APP, facts) == reasons


# --- describe --------------------------------------------------------------------------------------------------


def test_a_host_is_described_by_what_users_get() -> None:
    assert standing.describe(APP, BARE) == "nobody is live"
    assert standing.describe(APP, RUNS) == "blue is live with r1"
    assert standing.describe(APP, replace(RUNS, containers=())) == "blue is live with nothing that runs"


SLOW = replace(
    APP,
    health=Health("/healthz", "app.example.com", 900),
    settle=901,
    drain=902,
    build_timeout=903,
    migrate_timeout=904,
)


@pytest.mark.parametrize(
    ("step", "limit"),
    [
        (nginx.gate(SLOW, Colour.BLUE, {}), 900),
        (nginx.await_return(SLOW, Colour.BLUE, ""), 900),
        (waiting.revive(SLOW, Colour.BLUE), 900),
        (docker.workers_ready(SLOW, ["celery"]), 900),
        (docker.workers_back(SLOW, ["celery"]), 900),
        (nginx.watch(SLOW, Colour.BLUE, {}), 901),
        (docker.watch_workers(SLOW, ["celery"]), 901),
        (nginx.drain(SLOW, Colour.BLUE), 902),
        (waiting.withdraw(SLOW, Colour.BLUE), 902),
    ],
    ids=lambda each: each.title if isinstance(each, Step) else "",
)
def test_a_step_has_longer_than_its_word_is_told_to_wait(step: Step, limit: int) -> None:
    """Or it would be broken off before it could say what it waited for in vain."""
    assert str(limit) in step.command.words
    assert step.deadline > limit


def test_a_build_and_a_migration_have_the_time_that_the_operator_gives_them() -> None:
    planned = deploy(RUNS, app=SLOW)
    times = {step.command.words[0]: step.deadline for phase in Phase for step in planned.of(phase)}
    assert (times["build"], times["migrate"]) == (903, 904)


def test_a_container_may_take_minutes_to_stop() -> None:
    assert docker.stop(Colour.BLUE, "").deadline >= 600


@pytest.mark.parametrize("runs", [(), ("celery",)], ids=["users", "workers"])
def test_no_step_of_an_undo_is_broken_off_because_another_host_failed(runs: tuple[str, ...]) -> None:
    host = replace(WEB1, runs=runs)
    planned = deploy(replace(RUNS, runs=runs), host=host)
    assert planned.of(Phase.UNDO)
    assert [step.title for step in planned.of(Phase.UNDO) if step.patient] == []


def test_a_worker_that_was_sick_before_is_handed_back_and_not_waited_for() -> None:
    """It is no reason to call a human."""
    celery, beat = settings("r1", "celery", "celery-beat")
    facts = replace(BARE, runs=APP.workers, containers=(replace(celery, health="unhealthy"), beat))
    host = replace(WEB1, runs=APP.workers)
    undo = [step.command.words for step in deploy(facts, host=host, leader=WEB2).of(Phase.UNDO)]
    assert ("settings_back", "r1", "celery", "celery-beat") in undo
    assert [words[2:] for words in undo if words[0] == "settings_ready"] == [("celery-beat",)]


@pytest.mark.parametrize(("releases", "safe"), [((stored("r1", 100),), True), ((), False)])
def test_a_changed_service_goes_back_only_to_a_release_that_lies_there(
    releases: tuple[StoredRelease, ...], safe: bool
) -> None:
    redis = container("app-setting-prod", "redis", definition="before")
    others = tuple(c for c in RUNS.containers if c.service != "redis")
    planned = deploy(replace(RUNS, containers=(*others, redis), releases=releases))
    assert ("settings_safe" in {step.command.words[0] for step in planned.of(Phase.UNDO)}) is safe


def test_what_is_about_to_end_is_started_and_comes_back_when_a_run_is_undone() -> None:
    """Docker calls it running, and it will not be."""
    facts = about_to_end(RUNS, "redis", "celery")
    for planned in (deploy(facts), plan.plan_rollback(APP, WEB1, facts, release("r1"))):
        assert the(planned, Phase.PREPARE, "settings_up") == ("redis",)
        assert the(planned, Phase.UNDO, "settings_safe")[2:] == ("celery", "redis")


def test_a_worker_that_is_about_to_end_was_there_and_is_handed_back() -> None:
    """An undo takes away those that were not."""
    facts = about_to_end(replace(BARE, runs=APP.workers, containers=settings("r1", *APP.workers)), "celery")
    host = replace(WEB1, runs=APP.workers)
    assert ("settings_back", "r1", "celery", "celery-beat") in [
        step.command.words for step in deploy(facts, host=host, leader=WEB2).of(Phase.UNDO)
    ]


def test_what_is_tidied_up_is_never_the_conf_in_use() -> None:
    """Somebody may have reloaded another one than the release came with."""
    planned = plan.plan_tidy(APP, WEB1, replace(RUNS, conf="c2", confs=("c1", "c2", "c3")), release("r1"))
    commands = [step.command.words for step in planned.of(Phase.FINISH)]
    assert [words for words in commands if words[0] == "forget_confs"] == [("forget_confs", "c3")]
