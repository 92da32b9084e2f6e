"""Nothing that holds data begins anew without a word, and no two projects share it."""

from __future__ import annotations

from dataclasses import replace

from deploy.recipe import data, facts, plan, upkeep
from deploy.recipe.model import App, Colour, Facts, Host, Release
from deploy.recipe.shell import Answer
from deploy.recipe.steps import Phase

WEB1 = Host("web1")
APP = App("shop", "prod", (WEB1,), volumes=(), kept=(("pgdata", "shop_pgdata"), ("up", "shop_up")))
BARE = Facts(docker="26", compose="docker compose", disk_free=50 << 30)


def read(*answers: tuple[str, ...]) -> Facts:
    return facts.read(Answer(key, values) for key, *values in answers)  # type: ignore[arg-type]  # a list will do


def test_what_a_host_says_of_its_volumes_is_read() -> None:
    seen = read(
        ("volume", "shop_up"), ("volume_user", "shop_up", "db", "old"), ("volume_like", "pgdata", "old_pgdata", "old")
    )
    assert seen.volumes == {"shop_up"}
    assert seen.volume_users == (("shop_up", "db", "old"),)
    assert seen.volume_likes == (("pgdata", "old_pgdata"),)


def test_only_an_app_that_keeps_volumes_asks() -> None:
    (command,) = facts.volumes(APP)
    assert command.words == ("look_at_volumes", "pgdata", "shop_pgdata", "up", "shop_up")
    assert facts.volumes(replace(APP, kept=())) == ()


def test_another_project_s_containers_on_our_volumes_stop_a_deploy() -> None:
    users = (("shop_pgdata", "shop-db-1", "shop"), ("shop_up", "shop-web-1", "shop"))
    (said,) = data.refusals(replace(BARE, volume_users=users))
    assert "shop-db-1 has shop_pgdata, shop-web-1 has shop_up" in said
    assert "docker rm -f $(docker ps -aq --filter label=com.docker.compose.project=shop)" in said


def test_a_container_of_nobody_s_project_is_asked_about() -> None:
    seen = replace(BARE, volumes=frozenset({"shop_up"}), volume_users=(("shop_up", "backup", ""),))
    assert data.refusals(seen) == ()
    assert data.asks(APP, seen) == ("container backup has the app's volume shop_up, and is no part of it",)


def test_a_volume_that_would_begin_empty_beside_one_of_its_key_is_asked_about() -> None:
    (said,) = data.asks(APP, replace(BARE, volume_likes=(("pgdata", "old_pgdata"),)))
    assert "shop_pgdata is not there and will begin empty, while old_pgdata is there" in said
    assert "deploy.stack.name: old" in said


def test_a_first_deploy_says_what_goes_on_and_what_begins() -> None:
    seen = replace(BARE, volumes=frozenset({"shop_pgdata"}))
    assert data.goes_on(APP, seen) == ("goes on with the data in shop_pgdata", "begins with empty volumes: shop_up")
    assert data.goes_on(APP, replace(seen, switch=Colour.BLUE)) == ()


def test_the_plan_says_all_of_it() -> None:
    seen = replace(
        BARE,
        volumes=frozenset({"shop_up"}),
        volume_likes=(("pgdata", "old_pgdata"),),
        volume_users=(("shop_up", "old-web-1", "old"),),
    )
    planned = plan.plan_deploy(APP, WEB1, seen, Release("r1", "f", "c"), {}, WEB1)
    assert planned.note == "nobody is live"  # what an undo says that users have, too
    assert planned.data == ("goes on with the data in shop_up", "begins with empty volumes: shop_pgdata")
    assert len(planned.asks) == len(planned.refusals) == 1


def test_images_beside_the_app_s_are_built_after_it() -> None:
    app = replace(APP, images=(("api",), ("jobs",)))
    steps = plan.plan_deploy(app, WEB1, BARE, Release("r1", "f", "c"), {}, WEB1).of(Phase.PREPARE)
    words = [step.command.words for step in steps]
    at = [each[0] for each in words].index("build")
    assert words[at + 1 : at + 3] == [("build_others", "blue", "colour.yml", "api"), ("build_settings", "jobs")]


def test_another_env_for_the_live_release_builds_none_of_its_images() -> None:
    app = replace(APP, images=(("api",), ("jobs",)))
    steps = upkeep.plan_push(app, WEB1, BARE, Release("r2", "f", "c"), WEB1).of(Phase.PREPARE)
    words = [step.command.words for step in steps if step.command.words[0].startswith(("build", "tag"))]
    assert words == [("tag", "", "api", "jobs")]
