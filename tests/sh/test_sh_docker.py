"""Build, start, look and stop: what docker and compose are asked, and what is made of their answers."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from rig import NGINX_PS, of_stack

from deploy.recipe import shell
from deploy.recipe.shell import Alive

if TYPE_CHECKING:
    from rig import Outcome, Rig

SETTINGS_PS = "--filter label=com.docker.compose.project=app-setting-prod --filter label=com.docker.compose.service"
OWN = "--filter label=com.docker.compose.oneoff=False"
OF_BLUE = of_stack("blue")


def colour_call(words: str, colour: str = "blue", file: str = "colour.yml") -> str:
    return f"compose -p app-{colour} --project-directory . --env-file releases/r1/.env -f releases/r1/{file} {words}"


def settings_call(words: str) -> str:
    return (
        "compose -p app-setting-prod --project-directory . --env-file releases/r1/.env"
        f" -f releases/r1/setting_prod.yml -f releases/r1/definitions.json {words}"
    )


def idle(rig: Rig) -> None:
    """Let nobody be live: nginx does not run, and the switch says nothing."""
    rig.docker(NGINX_PS)


# --- compose ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compose", ["docker compose", "docker-compose"])
def test_both_composes_are_called_alike(rig: Rig, compose: str) -> None:
    program, *first = compose.split()
    rig.announce(program, " ".join([*first, colour_call("config -q").removeprefix("compose ")]))
    rig.announce(program, " ".join([*first, settings_call("config -q").removeprefix("compose ")]))
    assert rig.run(shell.command("validate", "blue", "colour.yml"), COMPOSE=compose).finished
    assert len(rig.calls) == 2


def test_compose_is_told_of_the_release_and_of_nothing_else(rig: Rig) -> None:
    """COMPOSE_PROJECT_NAME would win over -p inside the file; COMPOSE_FILE over -f. ps shows what v1 gives a client."""
    rig.docker(
        colour_call("up -d --no-build", "green"),
        does="""for name in PROJECT RELEASE IMAGE NETWORK ENV_FILE COLOUR HEALTH_HOST HEALTH_PATH; do
            eval "echo $name=\\$GREENROOM_$name"
        done
        echo "left:${COMPOSE_PROJECT_NAME-}${COMPOSE_FILE-}${COMPOSE_PROFILES-}"
        echo "no client of docker's own: $COMPOSE_INTERACTIVE_NO_CLI" """,
    )
    rig.colour_runs("green")
    idle(rig)
    outcome = rig.run(
        shell.command("eval", "export COMPOSE_PROJECT_NAME=x COMPOSE_FILE=y COMPOSE_PROFILES=z"),
        shell.command("start", "green", "colour.yml"),
    )
    assert outcome.lines == [
        "PROJECT=app", "RELEASE=r1", "IMAGE=app:r1", "NETWORK=settings", "ENV_FILE=releases/r1/.env", "COLOUR=green",
        "HEALTH_HOST=app.example.com", "HEALTH_PATH=/healthz", "left:", "no client of docker's own: 1",
    ]  # fmt: skip


def test_compose_works_in_the_app_s_directory_and_reads_no_input(rig: Rig) -> None:
    rig.docker(colour_call("config -q"), does="pwd; cat")
    rig.docker(settings_call("config -q"))
    outcome = rig.run(shell.command("validate", "blue", "colour.yml"), payload=b"not for compose\n")
    assert outcome.lines == [str(rig.base.resolve())]


@pytest.mark.parametrize("broken", ["colour", "settings"])
def test_either_compose_file_that_cannot_be_read_fails_the_validation(rig: Rig, broken: str) -> None:
    rig.docker(colour_call("config -q"), status=15 if broken == "colour" else 0)
    rig.docker(settings_call("config -q"), status=15 if broken == "settings" else 0)
    assert rig.run(shell.command("validate", "blue", "colour.yml")).ends == {0: 15}


def test_a_network_that_is_there_is_left_alone(rig: Rig) -> None:
    rig.docker("network inspect settings", "[]\n")
    assert rig.run(shell.command("ensure_network", "settings")).signals[1:2] == (shell.End(0, 0),)


def test_a_network_that_is_missing_is_made(rig: Rig) -> None:
    rig.docker("network inspect settings", status=1)
    rig.docker("network create settings", "id\n")
    assert rig.run(shell.command("ensure_network", "settings")).finished
    assert rig.said[-1] == "docker network create settings"


def test_every_volume_is_made_and_a_failure_is_not_swallowed(rig: Rig) -> None:
    rig.docker("volume create app-static", "app-static\n")
    rig.docker("volume create app-media", "app-media\n", status=[0, 1])
    command = shell.command("ensure_volumes", "app-media", "app-static")
    assert rig.run(command).finished
    assert sorted(rig.said) == ["docker volume create app-media", "docker volume create app-static"]
    assert rig.run(command).ends == {0: 1}


def test_no_volumes_are_no_work(rig: Rig) -> None:
    assert rig.run(shell.command("ensure_volumes")).finished


# --- build, migrate, start -------------------------------------------------------------------------------------


def build(rig: Rig) -> tuple[int, str]:
    outcome = rig.run(shell.command("build", "blue", "colour.yml", "web"))
    return outcome.ends[0], outcome.text


def test_an_image_that_is_here_is_not_built_again(rig: Rig) -> None:
    rig.docker("image inspect app:r1")
    assert build(rig) == (0, "")
    assert len(rig.calls) == 1


def test_an_image_is_built_by_compose_and_seen_afterwards(rig: Rig) -> None:
    rig.docker("image inspect app:r1", status=[1, 0])
    rig.docker(colour_call("build web"), "Step 1/9\n")
    assert build(rig) == (0, "Step 1/9")


def test_a_build_that_fails_fails_the_step_with_its_output(rig: Rig) -> None:
    rig.docker("image inspect app:r1", status=1)
    rig.docker(colour_call("build web"), "no space left\n", status=17)
    assert build(rig) == (17, "no space left")


def test_a_build_that_makes_another_image_is_told_the_line_that_it_lacks(rig: Rig) -> None:
    rig.docker("image inspect app:r1", status=1)
    rig.docker(colour_call("build web"))
    status, said = build(rig)
    assert status == 1
    assert "made no image app:r1" in said
    assert said.endswith("give the service web in colour.yml the line  image: ${GREENROOM_IMAGE}")


@pytest.mark.parametrize(
    "words",
    [
        ("python", "manage.py", "migrate"),
        ("sh", "-c", "echo \"two words\" '$HOME' `id`; exit 3"),
        ("a  b", "", "*", "--"),
    ],
)
def test_a_migration_gets_its_words_unharmed(rig: Rig, words: tuple[str, ...]) -> None:
    (rig.base / "run").write_text("one\n")
    rig.docker(colour_call("run --rm --no-deps -T --label greenroom.run=one web *"), "migrated\n", status=3)
    outcome = rig.run(shell.command("migrate", "blue", "colour.yml", "web", *words))
    (call,) = rig.calls
    assert tuple(call[call.index("web") + 1 :]) == words
    assert (outcome.ends, outcome.lines) == ({0: 3}, ["migrated"])


def test_a_colour_is_started_from_nothing(rig: Rig) -> None:
    idle(rig)
    rig.docker(OF_BLUE, "aaa\nbbb\n")
    rig.docker("rm -f aaa bbb", "aaa\nbbb\n")
    rig.docker(colour_call("up -d --no-build"))
    assert rig.run(shell.command("start", "blue", "colour.yml")).finished
    assert rig.said[0] == f"docker {OF_BLUE}"
    assert rig.said[-2:] == ["docker rm -f aaa bbb", f"docker {colour_call('up -d --no-build')}"]


def test_what_cannot_be_cleared_away_is_not_started_upon(rig: Rig) -> None:
    idle(rig)
    rig.docker(OF_BLUE, "aaa\n")
    rig.docker("rm -f aaa", status=1)
    assert rig.run(shell.command("start", "blue", "colour.yml")).ends == {0: 1}


def test_a_colour_that_is_not_there_needs_no_clearing(rig: Rig) -> None:
    idle(rig)
    rig.docker(OF_BLUE)
    rig.docker(colour_call("up -d --no-build"), status=4)
    assert rig.run(shell.command("start", "blue", "colour.yml")).ends == {0: 4}


# --- stop ------------------------------------------------------------------------------------------------------


def test_a_colour_is_stopped_gently_and_then_removed(rig: Rig) -> None:
    idle(rig)
    rig.docker(OF_BLUE, "aaa\nbbb\n")
    rig.docker("stop aaa bbb", "aaa\nbbb\n")
    rig.docker("rm aaa bbb", "aaa\nbbb\n")
    outcome = rig.run(shell.command("stop", "blue"))
    assert outcome.finished
    assert outcome.lines == []
    assert rig.said[2:] == ["docker stop aaa bbb", "docker rm aaa bbb"]


@pytest.mark.parametrize("verb", ["stop", "clear_colour"])
def test_what_a_person_runs_in_an_idle_colour_is_theirs_to_end_and_what_we_ran_there_is_not(
    rig: Rig, verb: str
) -> None:
    """By docker's labels: `oneoff`, and behind it ours, if it has one."""
    idle(rig)
    rig.docker(OF_BLUE, "aaa False\nbbb True\nccc Trueone\n")
    for words in ("stop", "rm", "rm -f"):
        rig.docker(f"{words} aaa ccc")
    assert rig.run(shell.command(verb, "blue")).finished
    assert (
        rig.said[2:]
        == {"stop": ["docker stop aaa ccc", "docker rm aaa ccc"], "clear_colour": ["docker rm -f aaa ccc"]}[verb]
    )


@pytest.mark.parametrize("verb", ["stop", "clear_colour"])
def test_a_colour_in_which_only_a_person_runs_something_is_empty(rig: Rig, verb: str) -> None:
    idle(rig)
    rig.docker(OF_BLUE, "bbb True\n")
    assert rig.run(shell.command(verb, "blue")).finished
    assert not [call for call in rig.said if " rm " in call or " stop " in call]


def test_stopping_what_is_not_there_is_no_work(rig: Rig) -> None:
    idle(rig)
    rig.docker(OF_BLUE)
    assert rig.run(shell.command("stop", "blue")).finished


def test_what_did_not_stop_is_not_removed(rig: Rig) -> None:
    idle(rig)
    rig.docker(OF_BLUE, "aaa\n")
    rig.docker("stop aaa", status=1)
    assert rig.run(shell.command("stop", "blue")).ends == {0: 1}


@pytest.mark.parametrize("words", [("stop", "blue"), ("start", "blue", "colour.yml")], ids=["stop", "start"])
@pytest.mark.parametrize("nginx", [True, False], ids=["says-nginx", "says-the-switch"])
def test_the_colour_that_users_are_sent_to_is_never_touched(rig: Rig, words: tuple[str, ...], nginx: bool) -> None:
    """Whatever the plan believed when it was made."""
    rig.rooms()
    rig.docker(OF_BLUE, "aaa\n")
    (rig.base / "switch" / ("green" if nginx else "blue")).touch()
    if nginx:
        rig.nginx_runs()
        rig.program("curl", "echo blue", inside=True)
    else:
        rig.docker(NGINX_PS)
    outcome = rig.run(shell.command(*words))
    assert outcome.ends == {0: 75}
    assert outcome.lines == ["blue is live here: it is neither stopped nor started anew"]
    assert not [call for call in rig.said if " rm " in call or " stop " in call]


def test_a_colour_of_which_nothing_runs_is_not_started_where_users_are_sent_to_it(rig: Rig) -> None:
    """Nothing is there to be lost, so that nginx is not asked; but what starts there would have passed no gate."""
    rig.rooms()
    (rig.base / "switch" / "blue").touch()
    rig.docker(OF_BLUE)
    outcome = rig.run(shell.command("start", "blue", "colour.yml"))
    assert outcome.ends == {0: 75}
    assert rig.said == [f"docker {OF_BLUE}"]


@pytest.mark.parametrize("words", [("stop", "blue"), ("start", "blue", "colour.yml")], ids=["stop", "start"])
def test_a_colour_is_not_touched_where_docker_does_not_say_who_is_live(rig: Rig, words: tuple[str, ...]) -> None:
    rig.rooms()
    rig.docker(OF_BLUE, "aaa\n")
    rig.docker(NGINX_PS, status=1)
    assert rig.run(shell.command(*words)).ends == {0: 1}
    assert set(rig.said) <= {f"docker {NGINX_PS}", f"docker {OF_BLUE}"}


# --- the settings stack ----------------------------------------------------------------------------------------


def test_only_the_named_services_of_the_settings_stack_are_touched(rig: Rig) -> None:
    rig.docker(settings_call("up -d --no-deps --no-build celery celery-beat"))
    assert rig.run(shell.command("settings_up", "celery", "celery-beat")).finished
    assert len(rig.calls) == 1


ASK_FOR_STOPS = (
    "events --since 20m --until * --filter type=container --filter event=kill --filter event=start"
    " --format {{.Action}} {{.Actor.ID}} {{.Actor.Attributes.signal}}"
)


def cut_off(rig: Rig, told: str) -> None:
    """A script was ended a moment ago, and this is what became of two containers of one service and one of another."""
    (rig.base / "cut_off").touch()
    rig.docker(f"ps -q --no-trunc {SETTINGS_PS}=celery {OWN}", "aaa\nbbb\n")
    rig.docker(f"ps -q --no-trunc {SETTINGS_PS}=beat {OWN}", "ccc\n")
    rig.docker(ASK_FOR_STOPS, told)
    rig.docker("stop *", "")
    rig.docker(settings_call("up -d --no-deps --no-build celery beat"))


@pytest.mark.parametrize(
    ("told", "stopped"),
    [
        ("", []),
        ("start aaa \nkill aaa 15\n", ["aaa"]),
        ("kill aaa 15\nstart aaa \n", []),
        ("kill bbb 3\nkill ccc 9\n", ["bbb", "ccc"]),
        ("kill aaa 1\nkill bbb 10\nkill ccc 12\n", []),
        ("kill other 15\n", []),
    ],
    ids=["nothing", "asked", "started-since", "by-other-signals", "by-signals-that-end-nobody", "another-container"],
)
def test_what_docker_is_still_about_to_stop_is_stopped_before_compose_takes_it_for_running(
    rig: Rig, told: str, stopped: list[str]
) -> None:
    cut_off(rig, told)
    assert rig.run(shell.command("settings_up", "celery", "beat")).finished
    assert rig.said[3:-1] == ([f"docker stop {' '.join(stopped)}"] if stopped else [])
    assert rig.said[-1].endswith("up -d --no-deps --no-build celery beat")


def test_what_docker_was_told_in_this_very_second_counts(rig: Rig) -> None:
    """It prints only seconds that are over."""
    cut_off(rig, "")
    rig.program("date", "echo 1700000000")
    assert rig.run(shell.command("settings_up", "celery", "beat")).finished
    (asked,) = (call for call in rig.calls if "events" in call)
    assert asked[asked.index("--until") + 1] == "1700000001"


def test_what_cannot_be_stopped_or_asked_for_fails_the_step(rig: Rig) -> None:
    cut_off(rig, "kill aaa 15\n")
    rig.docker("stop aaa", status=1)
    assert rig.run(shell.command("settings_up", "celery", "beat")).ends == {0: 1}
    rig.docker(ASK_FOR_STOPS, status=1)
    assert rig.run(shell.command("settings_up", "celery", "beat")).ends == {0: 1}


def test_of_a_script_that_was_cut_off_long_ago_nothing_is_under_way_any_more(rig: Rig) -> None:
    cut_off(rig, "")
    os.utime(rig.base / "cut_off", (0, time.time() - 1300))
    assert rig.run(shell.command("settings_up", "celery", "beat")).finished
    assert len(rig.calls) == 1


def test_workers_are_handed_back_as_their_earlier_release_has_them_and_nothing_else_is(rig: Rig) -> None:
    before = settings_call("up -d --no-deps --no-build celery").replace("releases/r1/", "releases/r0/")
    rig.docker(before, does='echo "$GREENROOM_IMAGE $GREENROOM_RELEASE $GREENROOM_ENV_FILE"')
    rig.docker(settings_call("up -d --no-deps --no-build flower"))
    outcome = rig.run(shell.command("settings_back", "r0", "celery"), shell.command("settings_up", "flower"))
    assert outcome.finished
    assert outcome.lines == ["app:r0 r0 releases/r0/.env"]


def test_workers_that_cannot_be_handed_back_fail_the_step(rig: Rig) -> None:
    before = settings_call("up -d --no-deps --no-build celery").replace("releases/r1/", "releases/r0/")
    rig.docker(before, status=1)
    assert rig.run(shell.command("settings_back", "r0", "celery")).ends == {0: 1}


def safe(rig: Rig, *services: str, told: str = "") -> Outcome:
    for service in services:
        rig.docker(f"ps -q --no-trunc {SETTINGS_PS}={service} {OWN}", f"{service}-id\n")
    rig.docker(ASK_FOR_STOPS, told)
    return rig.run(shell.command("settings_safe", "r0", 30, *services))


def test_a_changed_service_that_runs_well_stays_as_it_is(rig: Rig) -> None:
    states(rig, "redis", "Up 3 seconds")
    starts(rig, "redis", 0)
    outcome = safe(rig, "redis")
    assert (outcome.ends, outcome.lines) == ({0: 0}, [])
    assert not [call for call in rig.said if call.startswith("docker compose ")]


@pytest.mark.parametrize(("state", "count"), [("Restarting (1) 1 second ago", 4), ("Up 1 second", 1), ("", 0)])
def test_a_changed_service_that_does_not_run_well_comes_back_as_it_was(rig: Rig, state: str, count: int) -> None:
    """Users have no proxy until it does."""
    states(rig, "redis", "Up 3 seconds")
    starts(rig, "redis", 0)
    states(rig, "nginx", state, "Up 1 second")
    starts(rig, "nginx", count)
    rig.docker(settings_call("up -d --no-deps --no-build nginx").replace("releases/r1/", "releases/r0/"))
    outcome = safe(rig, "redis", "nginx")
    assert outcome.finished, outcome.text
    assert outcome.one("found") == "not well, and as it was before: nginx"


def test_what_docker_is_still_about_to_stop_is_not_taken_for_a_service_that_runs_well(rig: Rig) -> None:
    """A deploy was broken off while nginx was made anew: it served its last requests, was "Up", and then gone."""
    rig.docker("stop nginx-id", does="echo >stopped")
    states(rig, "nginx", "Up 2 hours")
    status = "test -s stopped && echo 'Exited (0)' || echo 'Up 2 hours'"
    rig.docker(f"ps -a --format {{{{.Status}}}} {SETTINGS_PS}=nginx {OWN}", does=status)
    starts(rig, "nginx", 0)
    up = settings_call("up -d --no-deps --no-build nginx").replace("releases/r1/", "releases/r0/")
    rig.docker(up, does=": >stopped")
    outcome = safe(rig, "nginx", told="kill nginx-id 3\n")
    assert outcome.one("found") == "not well, and as it was before: nginx"
    assert outcome.finished, outcome.text


def test_a_changed_service_that_still_starts_is_waited_for_and_stays(rig: Rig) -> None:
    states(rig, "redis", "Up 1 second (health: starting)", "Up 2 seconds (health: starting)", "Up 3 seconds (healthy)")
    starts(rig, "redis", 0)
    outcome = safe(rig, "redis")
    assert (outcome.ends, outcome.lines) == ({0: 0}, [])
    assert not [call for call in rig.said if call.startswith("docker compose ")]


def test_a_changed_service_that_does_not_come_back_fails_the_step(rig: Rig) -> None:
    states(rig, "nginx", "Exited (1) 1 second ago")
    starts(rig, "nginx", 0)
    rig.docker(settings_call("up -d --no-deps --no-build nginx").replace("releases/r1/", "releases/r0/"))
    outcome = safe(rig, "nginx")
    assert outcome.ends == {0: 1}
    assert outcome.lines[-1] == "log of nginx"


def test_services_that_left_the_file_are_stopped_gently_and_removed(rig: Rig) -> None:
    rig.docker(f"ps -aq {SETTINGS_PS}=flower {OWN}", "f1\nf2\n")
    rig.docker(f"ps -aq {SETTINGS_PS}=gone {OWN}")
    rig.docker("stop f1 f2", "f1\nf2\n")
    rig.docker("rm f1 f2", "f1\nf2\n")
    outcome = rig.run(shell.command("settings_down", "gone", "flower"))
    assert outcome.finished
    assert outcome.lines == []
    assert rig.said[-2:] == ["docker stop f1 f2", "docker rm f1 f2"]


def test_a_service_that_does_not_stop_fails_the_step_and_is_not_removed(rig: Rig) -> None:
    rig.docker(f"ps -aq {SETTINGS_PS}=flower {OWN}", "f1\n")
    rig.docker("stop f1", status=1)
    assert rig.run(shell.command("settings_down", "flower", "next")).ends == {0: 1}


def test_a_docker_that_does_not_say_whether_a_service_is_there_is_not_one_that_is_gone(rig: Rig) -> None:
    rig.docker(f"ps -aq {SETTINGS_PS}=flower {OWN}", status=1)
    assert rig.run(shell.command("settings_down", "flower")).ends == {0: 1}


def states(rig: Rig, service: str, *says: str) -> None:
    rig.docker(
        f"ps -a --format {{{{.Status}}}} {SETTINGS_PS}={service} {OWN}", [f"{text}\n" if text else "" for text in says]
    )
    rig.docker(f"ps -aq {SETTINGS_PS}={service} {OWN}", f"{service}1\n")
    rig.docker(f"logs --tail 20 {service}1", f"log of {service}\n")


def ready(rig: Rig, *services: str, seconds: int = 30) -> tuple[int, list[str]]:
    rig.short_sleeps()
    outcome = rig.run(shell.command("settings_ready", seconds, *services))
    return outcome.ends[0], outcome.lines


@pytest.mark.parametrize("state", ["Up 3 minutes (healthy)", "Up Less than a second", "Up 2 days"])
def test_a_service_that_is_up_is_ready(rig: Rig, state: str) -> None:
    states(rig, "redis", state)
    assert ready(rig, "redis") == (0, [])


def test_a_service_that_is_starting_is_waited_for(rig: Rig) -> None:
    states(
        rig, "redis", "", "Up 1 second (health: starting)", "Up 2 seconds (health: starting)", "Up 3 seconds (healthy)"
    )
    assert ready(rig, "redis") == (0, [])
    assert len(rig.calls) == 4


@pytest.mark.parametrize(
    "state", ["Up 1 minute (unhealthy)", "Exited (1) 2 seconds ago", "Restarting (1) 1 second ago", "Created", "Dead"]
)
def test_a_service_that_will_not_get_there_fails_at_once_with_its_log(rig: Rig, state: str) -> None:
    states(rig, "redis", state)
    assert ready(rig, "redis") == (1, [f"redis of app-setting-prod is {state}", "log of redis"])


# --- watch_services --------------------------------------------------------------------------------------------


def watched(rig: Rig, *services: str, seconds: int = 1) -> tuple[int, list[str]]:
    outcome = rig.run(shell.command("watch_services", seconds, *services))
    return outcome.ends[0], outcome.lines


def starts(rig: Rig, service: str, *numbers: int) -> None:
    """Let docker say how often it started the service's container anew, look by look."""
    rig.docker(f"inspect -f {{{{.Id}}}} {{{{.RestartCount}}}} {service}1", [f"{service}1 {n}\n" for n in numbers])


def test_workers_that_stay_up_pass_the_settle_delay(rig: Rig) -> None:
    for service in ("celery", "celery-beat"):
        states(rig, service, "Up 3 seconds")
        starts(rig, service, 7)
    assert watched(rig, "celery", "celery-beat") == (0, [])


def test_a_watch_of_workers_speaks_each_second_so_that_it_ends_when_nobody_listens(rig: Rig) -> None:
    states(rig, "celery", "Up 3 seconds")
    starts(rig, "celery", 0)
    rig.short_sleeps()
    rig.fast_clock(step=1)  # asked twice a look
    outcome = rig.run(shell.command("watch_services", 7, "celery"))
    assert (outcome.ends[0], outcome.signals.count(Alive())) == (0, 3)


@pytest.mark.parametrize(
    "state", ["Up 1 minute (unhealthy)", "Restarting (1) 1 second ago", "Exited (0) 1 second ago", ""]
)
def test_a_worker_that_does_not_stay_up_fails_the_settle_delay_with_its_log(rig: Rig, state: str) -> None:
    states(rig, "celery", "Up 1 second", state)
    starts(rig, "celery", 0)
    rig.short_sleeps()
    status, lines = watched(rig, "celery", seconds=30)
    assert status == 1
    assert lines == [f"celery of app-setting-prod is {state}; its last lines:", "log of celery"]


def test_a_worker_that_begins_anew_between_two_looks_fails_the_settle_delay(rig: Rig) -> None:
    states(rig, "celery", "Up 1 second")
    starts(rig, "celery", 0, 0, 1)
    rig.short_sleeps()
    status, lines = watched(rig, "celery", seconds=30)
    assert status == 1
    assert "log of celery" in lines


def test_a_worker_of_which_docker_does_not_tell_how_it_is_has_not_ended_and_not_begun_anew(rig: Rig) -> None:
    states(rig, "celery", "Up 1 second")
    starts(rig, "celery", 0)
    for question in (f"ps -a --format * {SETTINGS_PS}=celery {OWN}", f"ps -aq {SETTINGS_PS}=celery {OWN}"):
        rig.docker(question, ("Up 1 second" if "-a " in question else "celery1", ""), (0, 1), "echo 'asked' >&2")
        status, lines = watched(rig, "celery", seconds=30)
        assert (status, set(lines)) == (1, {"asked"})


def test_a_service_that_docker_does_not_tell_of_is_waited_for_and_not_called_absent(rig: Rig) -> None:
    rig.short_sleeps()
    rig.docker(f"ps -a --format * {SETTINGS_PS}=redis {OWN}", ("", "", "Up 3 minutes"), (1, 1, 0))
    assert ready(rig, "redis") == (0, [])
    rig.docker("ps -a*", does="echo 'no answer' >&2", status=1)
    status, lines = ready(rig, "redis", seconds=0)
    assert status == 1
    assert lines[:3] == ["no answer", "no answer", "redis of app-setting-prod is not to be seen: docker does not say"]


def test_a_service_that_takes_too_long_fails_at_its_limit(rig: Rig) -> None:
    states(rig, "redis", "Up 1 second (health: starting)")
    status, lines = ready(rig, "redis", seconds=0)
    assert status == 1
    assert lines[0] == "redis of app-setting-prod is Up 1 second (health: starting)"


def test_every_service_must_be_ready_each_with_the_whole_limit(rig: Rig) -> None:
    states(rig, "redis", "Up 3 minutes (healthy)")
    states(rig, "postgres", "Up 1 minute (unhealthy)")
    status, lines = ready(rig, "redis", "postgres")
    assert status == 1
    assert lines[0] == "postgres of app-setting-prod is Up 1 minute (unhealthy)"


def test_of_several_containers_of_a_service_the_newest_counts(rig: Rig) -> None:
    states(rig, "redis", "Up 3 minutes (healthy)\nExited (0) 2 hours ago")
    assert ready(rig, "redis") == (0, [])


@pytest.mark.parametrize("worse", ["Up 3 minutes (unhealthy)", "Restarting (1) 2 seconds ago"])
def test_of_several_replicas_the_sick_one_counts(rig: Rig, worse: str) -> None:
    states(rig, "celery", f"Up 3 minutes (healthy)\n{worse}")
    status, lines = ready(rig, "celery")
    assert status == 1
    assert lines[0] == f"celery of app-setting-prod is {worse}"


def test_of_several_replicas_the_sick_one_counts_more_than_the_one_that_starts(rig: Rig) -> None:
    states(rig, "celery", "Up 1 second (health: starting)\nUp 3 minutes (unhealthy)")
    assert ready(rig, "celery") == (1, ["celery of app-setting-prod is Up 3 minutes (unhealthy)", "log of celery"])


def test_of_several_replicas_the_one_that_starts_is_waited_for(rig: Rig) -> None:
    states(rig, "celery", "Up 1 second (healthy)\nUp 1 second (health: starting)", "Up 2 seconds\nUp 2 seconds")
    assert ready(rig, "celery") == (0, [])
    assert len([call for call in rig.said if "{{.Status}}" in call]) == 2


# --- broken stacks ---------------------------------------------------------------------------------------------


def broken(rig: Rig) -> tuple[bool, str]:
    outcome = rig.run(shell.command("stack_broken", "app-blue"))
    return outcome.ends[0] == 0, outcome.text


@pytest.mark.parametrize(
    "state", ["running 0 0 /app-blue-web-1", "created 0 0 /app-blue-web-1", "exited 0 0 /app-blue-init-1"]
)
def test_a_stack_that_runs_or_is_about_to_or_did_its_work_is_not_broken(rig: Rig, state: str) -> None:
    rig.colour_runs("blue", "aaa")
    rig.inspects("aaa", state)
    assert broken(rig) == (False, "")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("exited 137 0 /app-blue-web-1", "container app-blue-web-1 is exited, exit status 137, restarted 0 times"),
        ("exited 0 1 /app-blue-web-1", "container app-blue-web-1 is exited, exit status 0, restarted 1 times"),
        ("restarting 1 3 /app-blue-web-1", "container app-blue-web-1 is restarting, exit status 1, restarted 3 times"),
        ("running 0 1 /app-blue_web_1", "container app-blue_web_1 is running, exit status 0, restarted 1 times"),
        ("dead 0 0 /app-blue-web-1", "container app-blue-web-1 is dead, exit status 0, restarted 0 times"),
    ],
)
def test_a_container_that_ended_or_began_anew_breaks_its_stack(rig: Rig, state: str, said: str) -> None:
    rig.colour_runs("blue", "aaa")
    rig.inspects("aaa", state)
    assert broken(rig) == (True, said)


def test_one_broken_container_among_several_is_found(rig: Rig) -> None:
    rig.colour_runs("blue", "aaa", "bbb", "ccc")
    rig.inspects("ccc", "exited 1 0 /app-blue-web-3")
    assert broken(rig) == (True, "container app-blue-web-3 is exited, exit status 1, restarted 0 times")


def test_a_container_that_goes_while_one_looks_is_no_reason(rig: Rig) -> None:
    rig.docker(OF_BLUE, ("aaa\nbbb\n", "bbb\n"))
    rig.docker("inspect -f * aaa", status=1)
    rig.inspects("bbb", "running 0 0 /app-blue-web-2")
    assert broken(rig) == (False, "")


@pytest.mark.parametrize("question", [OF_BLUE, "inspect -f * aaa"], ids=["who-is-there", "how-it-is"])
def test_a_stack_that_docker_does_not_tell_of_is_neither_whole_nor_broken(rig: Rig, question: str) -> None:
    rig.colour_runs("blue", "aaa")
    rig.docker(question, does="echo 'no answer' >&2", status=1)
    outcome = rig.run(shell.command("stack_broken", "app-blue"))
    assert (outcome.ends, outcome.lines) == ({0: 2}, ["no answer"])


def test_a_container_has_not_gone_while_one_looks_where_docker_does_not_say_so(rig: Rig) -> None:
    rig.docker(OF_BLUE, ("aaa\n", ""), status=(0, 1))
    rig.docker("inspect -f * aaa", status=1)
    assert rig.run(shell.command("stack_broken", "app-blue")).ends == {0: 2}


def test_a_stack_without_containers_is_not_broken(rig: Rig) -> None:
    rig.colour_runs("blue")
    assert broken(rig) == (False, "")
