"""What a compose file that is deployed as it is asks of a host beyond the templates: its volumes, its other images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.recipe import shell

if TYPE_CHECKING:
    from rig import Rig

USERS = 'ps -a --filter volume=shop_pgdata --format {{.Names}} {{.Label "com.docker.compose.project"}}'
LIKES = (
    "volume ls --filter label=com.docker.compose.volume=pgdata"
    ' --format {{.Name}} {{.Label "com.docker.compose.project"}}'
)
VOLUMES = "volume ls -q"
LOOK = shell.command("look_at_volumes", "pgdata", "shop_pgdata")


def said(rig: Rig, command: shell.Command = LOOK) -> list[tuple[str, ...]]:
    outcome = rig.run(command)
    assert outcome.finished
    return [(answer.key, *answer.values) for answer in outcome.answers]


def test_containers_of_others_on_a_volume_are_named_and_ours_are_not(rig: Rig) -> None:
    rig.docker(VOLUMES, "other\nshop_pgdata\n")
    rig.docker(USERS, "shop-db-1 shop\nmine app-setting-prod\nblue app-blue\ngreen app-green\nbackup \n")
    assert said(rig) == [
        ("volume", "shop_pgdata"),
        ("volume_user", "shop_pgdata", "shop-db-1", "shop"),
        ("volume_user", "shop_pgdata", "backup", ""),
    ]


def test_of_a_volume_that_is_not_there_those_are_named_that_it_may_have_been(rig: Rig) -> None:
    rig.docker(VOLUMES, "old_pgdata\nnot_shop_pgdata\n")
    rig.docker(LIKES, "old_pgdata old\napp-blue_pgdata app-blue\n")
    assert said(rig) == [("volume_like", "pgdata", "old_pgdata", "old")]


def test_each_of_several_volumes_is_looked_at(rig: Rig) -> None:
    rig.docker(VOLUMES, "x_a\nx_b\n")
    for name in ("a", "b"):
        rig.docker(USERS.replace("shop_pgdata", f"x_{name}"))
    assert said(rig, shell.command("look_at_volumes", "a", "x_a", "b", "x_b")) == [("volume", "x_a"), ("volume", "x_b")]


@pytest.mark.parametrize("question", [VOLUMES, USERS, LIKES])
def test_volumes_and_their_users_are_not_absent_where_docker_does_not_say(rig: Rig, question: str) -> None:
    """A deploy is refused while somebody else has a volume: it must not go on because nobody could be asked."""
    rig.docker("version")
    rig.docker(VOLUMES, "" if question == LIKES else "shop_pgdata\n")
    rig.docker(question, does="echo 'no answer' >&2", status=1)
    outcome = rig.run(LOOK)
    assert (outcome.ends, outcome.lines, outcome.answers) == ({0: 1}, ["no answer"], [])


def test_of_an_engine_that_is_away_the_facts_tell_and_not_its_volumes(rig: Rig) -> None:
    rig.docker(VOLUMES, status=1)
    rig.docker("version", status=1)
    assert said(rig) == []


BUILD = (
    "compose -p app-blue --project-directory . --env-file releases/r1/.env -f releases/r1/colour.yml build api jobs",
    shell.command("build_others", "blue", "colour.yml", "api", "jobs"),
)
FILES = "-f releases/r1/setting_prod.yml -f releases/r1/definitions.json"
BUILD_SETTINGS = (
    f"compose -p app-setting-prod --project-directory . --env-file releases/r1/.env {FILES} build api jobs",
    shell.command("build_settings", "api", "jobs"),
)


@pytest.mark.parametrize(("call", "command"), [BUILD, BUILD_SETTINGS], ids=["colour", "settings"])
def test_images_beside_the_app_s_are_built_unless_all_are_here(rig: Rig, call: str, command: shell.Command) -> None:
    rig.docker("image inspect app:r1.api")
    rig.docker("image inspect app:r1.jobs", status=1)
    rig.docker(call, status=[0, 1])
    assert rig.run(command).finished
    assert rig.run(command).ends == {0: 1}
    rig.docker("image inspect app:r1.jobs")
    before = len(rig.calls)
    assert rig.run(command).finished
    assert [line for line in rig.calls[before:] if "build" in line] == []


def test_images_beside_the_app_s_go_with_their_releases(rig: Rig) -> None:
    rig.docker("images --format {{.Tag}} --filter reference=app:r1.*", "r1.api\nr1.jobs\n")
    rig.docker("images --format {{.Tag}} --filter reference=app:r2.*", "")
    rig.docker("image rm app:r1.api", status=1)  # something still has it
    rig.docker("image rm app:r1.jobs")
    assert rig.run(shell.command("forget_others", "r1", "r2")).finished
    assert len(rig.calls) == 4


def test_a_docker_that_does_not_say_which_images_there_are_has_not_forgotten_them(rig: Rig) -> None:
    rig.docker("images --format *", status=1)
    assert rig.run(shell.command("forget_others", "r1")).ends == {0: 1}
