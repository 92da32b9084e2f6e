"""Plans between deploys, as values."""

from __future__ import annotations

from dataclasses import replace

from deploy.recipe import upkeep
from deploy.recipe.model import App, Colour, Container, Facts, Host, Release, StoredRelease
from deploy.recipe.steps import Phase, Plan

WEB1 = Host("web1")
APP = App("app", "prod", (WEB1,), migrate=("migrate",), workers=("celery",), keep=2)
DEFINITIONS = (("celery", "d"), ("nginx", "d"), ("redis", "d"))
LIVE = Release("r1", "finger", "c1", definitions=DEFINITIONS)
FACTS = Facts(
    docker="26",
    compose="docker compose",
    disk_free=50 << 30,
    switch=Colour.BLUE,
    proxy_runs=True,
    conf="c1",
    confs=("c1",),
    containers=(
        Container("1", "app-blue", "web", "app:r1", "running"),
        *(Container(name, "app-setting-prod", name, name, "running", definition="d") for name, _ in DEFINITIONS),
    ),
    releases=(StoredRelease("r1", 1, LIVE, has_image=True),),
)


def words(plan: Plan, phase: Phase) -> list[tuple[str, ...]]:
    return [step.command.words for step in plan.of(phase)]


def test_an_env_push_builds_and_migrates_nothing_images_beside_the_app_s_included() -> None:
    app = replace(APP, images=(("jobs",), ("mailer",)))
    plan = upkeep.plan_push(app, WEB1, FACTS, replace(LIVE, id="r2", replaces="r1"), WEB1)
    prepare = words(plan, Phase.PREPARE)
    assert ("tag", "r1", "jobs", "mailer") in prepare
    assert not [each for each in prepare if each[0].startswith("build")]
    assert words(plan, Phase.MIGRATE) == []
    assert words(plan, Phase.START)[0][:2] == ("start", "green")


def test_prune_forgets_the_images_beside_the_app_s_with_their_releases() -> None:
    old = [StoredRelease(f"r0{n}", 0, replace(LIVE, id=f"r0{n}"), has_image=True) for n in range(3)]
    facts = replace(FACTS, releases=(*old, *FACTS.releases), confs=("c0", "c1"))
    assert [each[0] for each in words(upkeep.plan_prune(APP, facts, "me"), Phase.FINISH)] == [
        "forget",
        "forget_confs",
        "record",
    ]
    beside = replace(APP, images=(("jobs",), ()))
    first, *_ = words(upkeep.plan_prune(beside, facts, "me"), Phase.FINISH)
    assert first == ("forget_others", "r00", "r01", "r02")


def test_a_conf_that_is_in_use_is_never_pruned_even_if_no_release_has_it() -> None:
    facts = replace(FACTS, conf="reloaded", confs=("c1", "reloaded"))
    assert upkeep.plan_prune(APP, facts, "me").steps == {}


def test_a_reload_sends_only_what_is_not_there_and_undoes_to_what_was_in_use() -> None:
    there = upkeep.plan_reload(APP, FACTS, "me", "c1")
    assert words(there, Phase.PREPARE) == [("test_conf", "c1")]
    new = upkeep.plan_reload(APP, FACTS, "me", "c2")
    assert words(new, Phase.PREPARE) == [("receive",), ("test_conf", "c2")]
    assert words(new, Phase.UNDO) == [("use_conf", "c1")]


def test_settings_up_starts_a_worker_that_is_away_and_nothing_that_runs() -> None:
    away = tuple(c for c in FACTS.containers if c.service != "celery")
    plan = upkeep.plan_up(APP, WEB1, replace(FACTS, containers=away), "me")
    assert ("settings_up", "celery") in words(plan, Phase.FINISH)
    assert ("RELEASE", "r1") in plan.variables
    assert upkeep.plan_up(APP, WEB1, FACTS, "me").steps == {}


def test_a_restart_of_everything_spares_the_proxy() -> None:
    plan = upkeep.plan_restart(APP, FACTS, "me", ())
    assert words(plan, Phase.FINISH)[0] == ("settings_restart", "celery", "redis")
    assert not plan.asks
    assert upkeep.plan_restart(APP, FACTS, "me", ("nginx",)).asks
