"""Logs, commands in the live release: what docker is asked, and that nothing is left when nobody listens any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from rig import NGINX_PS, eventually, lives

from deploy.recipe import facts as questions
from deploy.recipe import shell
from deploy.recipe.shell import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rig import Rig

PS = "ps -aq --filter label=com.docker.compose.oneoff=False"
FORM = (
    '{{.Id}}/{{.State.StartedAt}}/{{index .Config.Labels "com.docker.compose.project"}}'
    '/{{index .Config.Labels "com.docker.compose.service"}}'
)
WEB, NGINX, OTHER = "aa1/2026-11-22T10:00:00Z/app-blue/web", "bb2/T/app-setting-prod/nginx", "cc3/T/app-shop-blue/web"


def containers(rig: Rig, *entries: str) -> None:
    ids = [entry.partition("/")[0] for entry in entries]
    rig.docker(PS, "".join(f"{ident}\n" for ident in ids))
    rig.docker(f"inspect -f {FORM} {' '.join(ids)}", "".join(f"{entry}\n" for entry in entries))


AT = "2026-11-22T10:00:0{}.123456789Z"


def logged(rig: Rig, *words: str) -> list[tuple[str, ...]]:
    outcome = rig.look(shell.command("tell_logs", *words))
    assert outcome.finished
    assert outcome.lines == []
    return outcome.values("logged")


def test_logs_are_told_in_the_order_of_time_and_of_nobody_else(rig: Rig) -> None:
    """What has no time of its own comes behind the line before it."""
    third = "ee5/T/app-setting-prod/redis"
    containers(rig, WEB, NGINX, OTHER, third)
    one, two, three, four, five = map(AT.format, range(1, 6))
    rig.docker("logs -t --tail 5 aa1", f"{one} a\tb  c\n{four} \n  rest of it\n{five} e\n")
    rig.docker("logs -t --tail 5 bb2", f"{two} \\n $x\n{three} d\n")
    rig.docker("logs -t --tail 5 ee5", f"docker says\n{three} 2026-11-22T10:00:09.1Z\n")
    web, nginx, redis = "app-blue/web", "app-setting-prod/nginx", "app-setting-prod/redis"
    assert logged(rig, "", "5") == [
        (redis, "", "docker says"),
        (web, one, "a", "b  c"),
        (nginx, two, "\\n $x"),
        (nginx, three, "d"),
        (redis, three, "2026-11-22T10:00:09.1Z"),
        (web, four, ""),
        (web, four, "  rest of it"),
        (web, five, "e"),
    ]
    assert rig.look(shell.command("tell_logs", "", "5")).values("log_of") == [(web,), (nginx,), (redis,)]


def test_a_log_is_told_as_it_comes_and_not_kept(rig: Rig) -> None:
    """As many lines as there are would be too many for a host, or for whoever asked."""
    if rig.kind == "busybox":
        pytest.skip("its sort knows no -m, and reads all of it")
    containers(rig, WEB, NGINX)
    endless = "i=0; while echo {} $i; do i=$((i + 1)); done"
    rig.docker("logs -t --tail all aa1", does=endless.format(AT.format(1)))
    rig.docker("logs -t --tail all bb2", does=endless.format(AT.format(1)))
    with rig.started(shell.command("tell_logs", "", "all")) as script:
        script.until(lambda s: isinstance(s, Answer) and s.key == "logged" and s.values[2] == "40")


def test_logs_of_one_service_since_some_time(rig: Rig) -> None:
    containers(rig, WEB, NGINX)
    rig.docker("logs -t --tail all --since 2h bb2", f"{AT.format(3)} three\n")
    assert logged(rig, "2h", "all", "nginx") == [("app-setting-prod/nginx", AT.format(3), "three")]


def test_a_log_that_cannot_be_read_hides_no_other(rig: Rig) -> None:
    containers(rig, WEB, NGINX)
    rig.docker("logs -t --tail 5 aa1", "its driver does not support reading\n", status=1)
    rig.docker("logs -t --tail 5 bb2", f"{AT.format(3)} three\n")
    assert [said[2] for said in logged(rig, "", "5")] == [
        "its driver does not support reading",
        "its log cannot be read",
        "three",
    ]


def test_a_host_without_containers_has_no_logs(rig: Rig) -> None:
    rig.docker(PS)
    assert rig.look(shell.command("tell_logs", "", 5)).answers == []


def followed(rig: Rig, ident: str, *words: str, says: str) -> None:
    """Let docker follow a container: it says something, and never ends by itself."""
    rig.docker(
        f"logs -t -f {' '.join(words)} {ident}",
        does=f"echo $$ >>{rig.home}/following; printf '{says}\\n'; exec sleep 60",
    )


def following(rig: Rig) -> Sequence[int]:
    """Return the processes that follow, and live."""
    path = rig.home / "following"
    pids = [int(pid) for pid in path.read_text().split()] if path.exists() else []
    return [pid for pid in pids if lives(pid)]


def test_following_tells_what_is_new_and_finds_a_container_that_began_later(rig: Rig) -> None:
    containers(rig, WEB)
    followed(rig, "aa1", "--tail", "10", says="2026Z one\\ttab")
    green = "dd4/T/app-green/web"
    followed(rig, "dd4", "--tail", "all", says="2026Z new")
    with rig.started(shell.command("follow_logs", 30, "", 10)) as script:
        script.send(b".")
        assert script.until(lambda s: isinstance(s, Answer) and s.key == "log") == Answer(
            "log", ("app-blue/web", "2026Z one", "tab")
        )
        containers(rig, WEB, green)
        script.send(b".")
        script.until(lambda s: s == Answer("log", ("app-green/web", "2026Z new")))
        assert len(following(rig)) == 2
        script.rest()
    eventually(lambda: not following(rig))


def test_a_container_that_began_anew_is_followed_from_then_on(rig: Rig) -> None:
    containers(rig, WEB)
    rig.docker("logs -t -f --tail 10 aa1", "2026Z first life\n")
    rig.docker("logs -t -f --tail all --since 2026-11-22T11:00:00Z aa1", "2026Z second life\n")
    with rig.started(shell.command("follow_logs", 30, "", 10)) as script:
        script.send(b".")
        script.until(lambda s: s == Answer("log", ("app-blue/web", "2026Z first life")))
        containers(rig, WEB.replace("10:00", "11:00"))
        script.send(b".")
        script.until(lambda s: s == Answer("log", ("app-blue/web", "2026Z second life")))
        script.rest()


def test_following_ends_by_itself_when_nobody_says_that_he_listens(rig: Rig) -> None:
    containers(rig, WEB)
    followed(rig, "aa1", "--tail", "10", says="2026Z one")
    with rig.started(shell.command("follow_logs", 1, "", 10)) as script:
        script.send(b".")
        script.until(lambda s: isinstance(s, Answer) and s.key == "log")
        began = time.monotonic()
        script.leave()
        assert time.monotonic() - began < 10
    eventually(lambda: not following(rig))


# --- files of a release ----------------------------------------------------------------------------------------


def test_a_release_s_files_are_told_line_by_line_but_for_what_is_each_release_s_own(rig: Rig) -> None:
    text = "A=1\tx \\n\n  B='ä'"
    rig.release(
        **{".env": text, "colour.yml": "services:\n", "release.json": "{}", "definitions.json": "{}", "served": "1"}
    )
    outcome = rig.look(questions.own_files())
    assert questions.read_files(outcome.answers) == {".env": f"{text}\n".encode(), "colour.yml": b"services:\n"}
    assert questions.read_files(rig.look(questions.own_files(".env")).answers) == {".env": f"{text}\n".encode()}


def test_an_empty_file_is_told_of(rig: Rig) -> None:
    rig.release(**{".env": ""})
    assert questions.read_files(rig.look(questions.own_files()).answers) == {".env": b""}


def test_a_release_that_is_not_there_has_no_files(rig: Rig) -> None:
    assert not rig.look(questions.own_files()).finished


def test_images_are_taken_over_the_app_s_as_the_last(rig: Rig) -> None:
    rig.docker("tag app:r0 app:r1")
    rig.docker("tag app:r0.jobs app:r1.jobs")
    assert rig.run(shell.command("tag", "r0", "jobs")).finished
    assert rig.said == ["docker tag app:r0.jobs app:r1.jobs", "docker tag app:r0 app:r1"]


def test_an_image_that_is_not_there_is_not_passed_over(rig: Rig) -> None:
    rig.docker("tag app:r0.jobs app:r1.jobs", "No such image", status=1)
    assert not rig.run(shell.command("tag", "r0", "jobs")).finished


# --- inside a container ----------------------------------------------------------------------------------------


def inside_of(rig: Rig, stack: str, service: str, ident: str = "") -> None:
    rig.docker(
        f"ps -q --filter label=com.docker.compose.project={stack} --filter label=com.docker.compose.service={service}"
        " --filter label=com.docker.compose.oneoff=False",
        f"{ident}\n" if ident else "",
    )


def live(rig: Rig, colour: str) -> None:
    rig.docker(NGINX_PS, "ngx1\n")
    rig.docker("exec -e no_proxy=* ngx1 curl -sf -m 5 http://127.0.0.1:8002/", f"{colour}\n")


def test_a_command_is_run_in_the_colour_that_is_live(rig: Rig) -> None:
    live(rig, "green")
    inside_of(rig, "app-green", "web", "aa1")
    rig.docker("exec -e GREENROOM_EXEC=* aa1 echo a  b", "said\n", status=7)
    with rig.started(shell.command("run_inside", 30, "web", "echo", "a  b")) as script:
        script.send(b".")
        outcome = script.leave()
    assert outcome.lines == ["said"]
    assert outcome.one("exited") == "7"
    assert outcome.finished
    assert rig.calls[-1][-2:] == ["echo", "a  b"]


def test_a_service_of_the_settings_stack_is_found_whoever_is_live(rig: Rig) -> None:
    live(rig, "none")
    inside_of(rig, "app-setting-prod", "redis", "bb2")
    assert rig.look(shell.command("inside", "redis")).one("inside") == "bb2"


def test_a_service_that_does_not_run_is_named(rig: Rig) -> None:
    live(rig, "blue")
    for stack in ("app-blue", "app-setting-prod"):
        inside_of(rig, stack, "shop")
    outcome = rig.look(shell.command("inside", "shop"))
    assert outcome.lines == ["no container of shop runs here; live is blue"]
    assert not outcome.finished


def test_a_command_is_run_nowhere_else_because_docker_did_not_answer(rig: Rig) -> None:
    live(rig, "blue")
    inside_of(rig, "app-setting-prod", "web", "bb2")
    rig.docker("ps -q --filter label=com.docker.compose.project=app-blue *", status=1)
    outcome = rig.look(shell.command("inside", "web"))
    assert (outcome.finished, outcome.lines) == (False, [])


@pytest.mark.parametrize("words", [("inside", "web"), ("find_door", "green")], ids=["inside", "find_door"])
def test_nginx_is_not_said_to_be_absent_where_docker_does_not_say(rig: Rig, words: tuple[str, ...]) -> None:
    rig.docker(NGINX_PS, status=1)
    outcome = rig.look(shell.command(*words))
    assert (outcome.finished, outcome.lines) == (False, [])


@pytest.mark.parametrize("lease", [1, 60])
def test_a_command_is_ended_inside_and_here_when_nobody_listens_any_more(rig: Rig, lease: int) -> None:
    """Once because no sign came for the lease, once because the link ended."""
    live(rig, "blue")
    inside_of(rig, "app-blue", "web", "aa1")
    rig.docker("exec -e GREENROOM_EXEC=* aa1 work", does=f"echo $$ >>{rig.home}/following; exec sleep 60")
    rig.docker("exec aa1 sh -c *", does=f"echo ended >>{rig.home}/ended")
    with rig.started(shell.command("run_inside", lease, "web", "work")) as script:
        script.send(b".")
        eventually(lambda: following(rig))
        outcome = script.leave() if lease == 1 else script.rest()
    assert not outcome.finished
    eventually(lambda: not following(rig))
    (call,) = [call for call in rig.calls if call[1:5] == ["exec", "aa1", "sh", "-c"]]
    (run,) = [call for call in rig.calls if "work" in call]
    assert run[3] == f"GREENROOM_EXEC={call[-1]}"


# --- maintenance, the settings stack ---------------------------------------------------------------------------


def test_maintenance_is_two_files_beside_the_switch(rig: Rig) -> None:
    rig.rooms()
    switch = rig.base / "switch"
    (switch / "green").touch()
    text = '{"who": "me", "reason": "it\'s $(me)"}'
    assert rig.run(shell.command("maintain", text), HEALTH_PATH="/up/healthz?deep=1").finished
    assert (switch / "maintenance").read_text() == f"{text}\n"
    assert (switch / "open" / "up" / "healthz" / ".open").is_file()
    rig.docker("version --format {{.Server.Version}}", "26\n")
    assert rig.run(shell.command("end_maintenance")).finished
    assert [path.name for path in switch.iterdir()] == ["green"]
    assert rig.run(shell.command("end_maintenance")).finished


WELL = ":"
SICK = 'case "$1" in *f*) exit 22 ;; esac'
HANGS = "exit 28"


def looking(rig: Rig, header: str, *, closed: bool = False, app: str = WELL) -> None:
    """Let nginx answer a look with this header, and the health check with the page, or as the `app` does."""
    rig.nginx_runs()
    rig.program(
        "curl",
        f"""case "$*" in
            *"Host: app.example.com"*/.greenroom/look) printf '%s' '{header}'; [ '{header}' ] || {{ {app}; }} ;;
            *"Host: app.example.com"*:80/healthz) printf '%s' '{"on" if closed else ""}'; {app} ;;
            *) exit 9 ;;
        esac""",
        inside=True,
    )
    rig.program("sleep", "exec /bin/sleep 0.01", inside=True)


@pytest.mark.parametrize("app", [WELL, SICK, HANGS], ids=["well", "sick", "hangs"])
@pytest.mark.parametrize(("state", "header"), [("on", "on"), ("off", "")])
def test_nginx_itself_says_whether_users_see_the_page_however_the_app_is(
    rig: Rig, state: str, header: str, app: str
) -> None:
    looking(rig, header, app=app)
    outcome = rig.run(shell.command("await_maintenance", state))
    assert outcome.finished, outcome.text


@pytest.mark.parametrize(("header", "closed"), [("", False), ("on", True)])
def test_a_page_that_nobody_sees_or_that_closes_the_health_check_is_an_error(
    rig: Rig, header: str, closed: bool
) -> None:
    looking(rig, header, closed=closed)
    rig.fast_clock()
    outcome = rig.run(shell.command("await_maintenance", "on"))
    assert "include maintenance.conf" in outcome.text
    assert not outcome.finished


def test_services_are_restarted_one_after_the_other(rig: Rig) -> None:
    for service, ident in (("redis", "aa1"), ("flower", ""), ("celery", "bb2")):
        rig.docker(
            "ps -q --filter label=com.docker.compose.project=app-setting-prod"
            f" --filter label=com.docker.compose.service={service}"
            " --filter label=com.docker.compose.oneoff=False",
            ident,
        )
    rig.docker("restart aa1")
    rig.docker("restart bb2")
    assert rig.run(shell.command("settings_restart", "redis", "flower", "celery")).finished
    assert [" ".join(call[:2]) for call in rig.calls] == [
        "docker ps", "docker restart", "docker ps", "docker ps", "docker restart",
    ]  # fmt: skip
    assert [call for call in rig.said if "restart" in call] == ["docker restart aa1", "docker restart bb2"]
    rig.docker("restart aa1", status=1)
    assert rig.run(shell.command("settings_restart", "redis", "celery")).ends == {0: 1}
    assert rig.said[-1] == "docker restart aa1"
