"""The switch, the gate, the watch and the drain, on real shells; nginx's container is a folder with stand-ins."""

from __future__ import annotations

import ctypes
import itertools
import os
import struct
import time
from pathlib import Path

import pytest
from rig import NGINX_PS, Rig

from deploy.recipe import shell
from deploy.recipe.shell import Alive, End, Line

DOORS = {"blue": 8000, "green": 8001}
CREATE, DELETE = 0x100, 0x200


class Watch:
    """What the kernel says happened in a directory, in order: inotify."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        assert self._fd >= 0
        assert libc.inotify_add_watch(self._fd, os.fsencode(folder), CREATE | DELETE) >= 0

    def happened(self) -> list[tuple[str, str]]:
        found = []
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            data = b""
        while data:
            _, mask, _, length = struct.unpack_from("iIII", data)
            name = data[16 : 16 + length].rstrip(b"\0").decode()
            found.append(("made" if mask & CREATE else "gone", name))
            data = data[16 + length :]
        os.close(self._fd)
        return found


def live(there: set[str]) -> str:
    """Who is live, as nginx reads the directory: green wins, and blue counts where nothing was ever set."""
    return "green" if "green" in there else "blue" if "blue" in there else "none"


def moments(rig: Rig, before: tuple[str, ...], target: str) -> list[str]:
    """Switch, and return who was live at each moment: before, after every system call that changed anything."""
    rig.rooms()
    for name in before:
        (rig.base / "switch" / name).touch()
    there = set(before)
    watch = Watch(rig.base / "switch")
    assert rig.run(shell.command("switch", target)).finished
    seen = [live(there)]
    for what, name in watch.happened():
        there = there | {name} if what == "made" else there - {name}
        seen.append(live(there))
    assert there == {path.name for path in (rig.base / "switch").iterdir()}
    return seen


STARTS = [(), ("blue",), ("green",), ("blue", "green")]


@pytest.mark.parametrize("target", ["blue", "green"])
@pytest.mark.parametrize("before", STARTS, ids=lambda names: "+".join(names) or "none")
def test_every_moment_of_a_switch_is_one_of_its_two_ends(rig: Rig, before: tuple[str, ...], target: str) -> None:
    seen = moments(rig, before, target)
    assert seen[-1] == target
    assert len([key for key, _ in itertools.groupby(seen)]) <= 2
    assert {path.name for path in (rig.base / "switch").iterdir()} == {target}


@pytest.mark.parametrize("before", STARTS, ids=lambda names: "+".join(names) or "none")
def test_switching_to_nobody_passes_by_nobody_else(rig: Rig, before: tuple[str, ...]) -> None:
    seen = moments(rig, before, "none")
    assert seen[-1] == "none"
    assert len([key for key, _ in itertools.groupby(seen)]) <= 2


def test_a_switch_may_be_done_twice(rig: Rig) -> None:
    rig.rooms()
    twice = shell.command("switch", "green")
    assert rig.run(twice, twice).finished
    assert [path.name for path in (rig.base / "switch").iterdir()] == ["green"]


@pytest.mark.parametrize("before", STARTS, ids=lambda names: "+".join(names) or "none")
def test_the_library_reads_the_switch_as_nginx_does(rig: Rig, before: tuple[str, ...]) -> None:
    rig.rooms()
    for name in before:
        (rig.base / "switch" / name).touch()
    rig.docker(NGINX_PS)
    assert rig.run(shell.command("live_colour")).lines == [live(set(before))]


@pytest.mark.parametrize("colour", ["blue", "green", "none"])
def test_what_nginx_says_counts_more_than_the_switch(rig: Rig, colour: str) -> None:
    rig.rooms()
    (rig.base / "switch" / ("blue" if colour == "green" else "green")).touch()
    rig.nginx_runs()
    rig.program("curl", f'[ "$*" = "-sf -m 5 http://127.0.0.1:8002/" ] && echo {colour}', inside=True)
    assert rig.run(shell.command("live_colour")).lines == [colour]


def test_who_is_live_is_not_known_where_docker_does_not_say_whether_nginx_runs(rig: Rig) -> None:
    rig.rooms()
    (rig.base / "switch" / "green").touch()
    rig.docker(NGINX_PS, status=1)
    outcome = rig.run(shell.command("live_colour"))
    assert (outcome.ends, outcome.lines) == ({0: 1}, [])


@pytest.mark.parametrize("answer", ["exit 7", "echo '<html>welcome</html>'", "echo", "printf 'blue\\ngreen\\n'"])
def test_an_answer_that_names_no_colour_leaves_the_switch_to_say_it(rig: Rig, answer: str) -> None:
    rig.rooms()
    (rig.base / "switch" / "green").touch()
    rig.nginx_runs()
    rig.program("curl", answer, inside=True)
    assert rig.run(shell.command("live_colour")).lines == ["green"]


def test_a_switch_that_cannot_be_set_fails_the_step_and_not_the_script(rig: Rig) -> None:
    """A special builtin's failed redirection would end dash without a word."""
    assert rig.run(shell.command("switch", "green")).ends.keys() == {0}


# --- the configuration -----------------------------------------------------------------------------------------

RELOAD = "nginx -s reload -c /etc/nginx/greenroom/live/nginx.conf"


def confs(rig: Rig, *names: str, use: str = "") -> None:
    rig.rooms()
    for name in names:
        (rig.base / "nginx" / name).mkdir()
        (rig.base / "nginx" / name / "nginx.conf").write_text(name)
    if use:
        (rig.base / "nginx" / "live").symlink_to(use)


def test_a_changed_configuration_is_linked_and_reloaded(rig: Rig) -> None:
    confs(rig, "c1", "c2", use="c1")
    rig.docker(NGINX_PS, "ngx1\n")
    rig.docker(f"exec ngx1 {RELOAD}")
    assert rig.run(shell.command("use_conf", "c2")).finished
    assert (rig.base / "nginx" / "live").readlink() == Path("c2")
    assert rig.said.count(f"docker exec ngx1 {RELOAD}") == 1


def test_a_configuration_whose_link_is_there_is_reloaded_all_the_same(rig: Rig) -> None:
    """Who moved the link may have died before the reload."""
    confs(rig, "c1", use="c1")
    rig.docker(NGINX_PS, "ngx1\n")
    rig.docker(f"exec ngx1 {RELOAD}")
    assert rig.run(shell.command("use_conf", "c1")).finished
    assert rig.said[-1] == f"docker exec ngx1 {RELOAD}"


def test_the_first_configuration_is_linked_though_nginx_does_not_run(rig: Rig) -> None:
    confs(rig, "c1")
    rig.docker(NGINX_PS)
    assert rig.run(shell.command("use_conf", "c1")).finished
    assert (rig.base / "nginx" / "live").readlink() == Path("c1")


def test_the_link_is_replaced_in_one_step_and_not_followed(rig: Rig) -> None:
    """A `mv` without -T would move the new link into the directory that the old one names."""
    confs(rig, "c1", "c2", use="c1")
    rig.docker(NGINX_PS)
    watch = Watch(rig.base / "nginx")
    assert rig.run(shell.command("use_conf", "c2")).finished
    assert ("gone", "live") not in watch.happened()
    assert [path.name for path in (rig.base / "nginx" / "c1").iterdir()] == ["nginx.conf"]
    assert sorted(path.name for path in (rig.base / "nginx").iterdir()) == ["c1", "c2", "live"]


def test_what_a_dead_run_left_of_a_link_does_not_hinder(rig: Rig) -> None:
    confs(rig, "c1", "c2", use="c1")
    (rig.base / "nginx" / "live.new").symlink_to("c1")
    rig.docker(NGINX_PS)
    assert rig.run(shell.command("use_conf", "c2")).finished
    assert (rig.base / "nginx" / "live").readlink() == Path("c2")


def test_a_reload_that_fails_fails_the_step(rig: Rig) -> None:
    confs(rig, "c1", "c2", use="c1")
    rig.docker(NGINX_PS, "ngx1\n")
    rig.docker(f"exec ngx1 {RELOAD}", status=1)
    assert rig.run(shell.command("use_conf", "c2")).ends == {0: 1}


def test_a_link_that_cannot_be_moved_fails_the_step(rig: Rig) -> None:
    """The proxy would read what it had, and the flip go on."""
    confs(rig, "c2")
    (rig.base / "nginx" / "live").mkdir()
    rig.docker(NGINX_PS, "ngx1\n")
    rig.docker(f"exec ngx1 {RELOAD}")
    assert rig.run(shell.command("use_conf", "c2")).ends == {0: 1}
    assert f"docker exec ngx1 {RELOAD}" not in rig.said


def test_a_configuration_is_not_moved_where_docker_does_not_say_whether_nginx_runs(rig: Rig) -> None:
    """A link that is moved and not reloaded would be taken for the configuration in use."""
    confs(rig, "c1", "c2", use="c1")
    rig.docker(NGINX_PS, status=1)
    assert rig.run(shell.command("use_conf", "c2")).ends == {0: 1}
    assert (rig.base / "nginx" / "live").readlink() == Path("c1")


def test_a_configuration_is_tested_by_the_nginx_that_runs(rig: Rig) -> None:
    rig.docker(NGINX_PS, "ngx1\n")
    rig.docker("exec ngx1 nginx -t -q -c /etc/nginx/greenroom/c2/nginx.conf", "emerg\n", status=1)
    outcome = rig.run(shell.command("test_conf", "c2"))
    assert (outcome.ends, outcome.lines) == ({0: 1}, ["emerg"])


def test_a_configuration_is_tested_in_a_container_of_its_own_where_no_nginx_runs(rig: Rig) -> None:
    (rig.base / "run").write_text("one\n")
    rig.docker(NGINX_PS)
    rig.docker(
        "compose -p app-setting-prod --project-directory . --env-file releases/r1/.env -f releases/r1/setting_prod.yml"
        " -f releases/r1/definitions.json run --rm --no-deps -T --label greenroom.run=one nginx nginx -t -q"
        " -c /etc/nginx/greenroom/c2/nginx.conf"
    )
    assert rig.run(shell.command("test_conf", "c2")).finished


def test_no_container_is_made_for_a_test_where_docker_does_not_say_whether_nginx_runs(rig: Rig) -> None:
    rig.docker(NGINX_PS, status=1)
    assert rig.run(shell.command("test_conf", "c2")).ends == {0: 1}
    assert len(rig.calls) == 1


# --- the gate --------------------------------------------------------------------------------------------------


def asks_for(colour: str, who: str = "") -> str:
    """The arguments of curl in a look at a colour's door; the gate also wants to know `who` answers."""
    return f"-sf -o /dev/null -m 5 {who}-H Host: app.example.com http://127.0.0.1:{DOORS[colour]}/healthz"


def curl(rig: Rig, colour: str, after: int = 1, come: str = "172.18.0.3:8000", code: int = 503) -> None:
    """Let a colour answer the gate from the look `after` on, 0 is never; the door says where answers `come` from.

    The last look of a gate that is not passed gets the status `code`.
    """
    looks = rig.home / "looks"
    asked = asks_for(colour, "-w %header{greenroom-upstream} ")
    rig.program(
        "curl",
        f"""echo x >>{looks}
case $* in
*"-w status"*) printf 'status {code} from {come}\\n' ;;
"{asked}") [ {after} != 0 ] && [ "$(cat {looks} | while read -r x; do printf x; done)" != "" ] &&
    n=0 && while read -r x; do n=$((n + 1)); done <{looks} && [ "$n" -ge {after} ] && printf %s '{come}' ;;
*) echo "curl $*"; exit 99 ;;
esac""",
        inside=True,
    )
    rig.program("sleep", "exit 0", inside=True)


def gate(rig: Rig, colour: str = "green", seconds: int = 30) -> tuple[int, str]:
    outcome = rig.run(shell.command("gate", colour, seconds))
    return outcome.ends[0], outcome.text


@pytest.mark.parametrize("colour", ["blue", "green"])
def test_a_colour_that_answers_passes_the_gate(rig: Rig, colour: str) -> None:
    rig.nginx_runs()
    rig.colour_runs(colour, "aaa")
    curl(rig, colour)
    assert gate(rig, colour) == (0, "")


@pytest.mark.parametrize("come", ["", "172.18.0.4:8000", "172.18.0.9:8000, 172.18.0.4:8000"])
def test_an_answer_counts_when_it_comes_from_the_colour_or_the_door_does_not_say(rig: Rig, come: str) -> None:
    rig.nginx_runs()
    rig.colour_runs("green", "aaa", "bbb")
    curl(rig, "green", come=come)
    assert gate(rig) == (0, "")


@pytest.mark.parametrize("come", ["172.18.0.5:8000", "172.18.0.33:8000", "172.18.0.3:8000, 172.18.0.5:8000"])
def test_an_answer_of_another_container_does_not_count(rig: Rig, come: str) -> None:
    """The proxy may still use the address that the colour had last time; somebody else may have it now."""
    rig.nginx_runs()
    rig.colour_runs("green", "aaa", "bbb")
    curl(rig, "green", come=come)
    status, said = gate(rig, seconds=0)
    assert status == 1
    assert f"status 503 from {come}" in said


def test_an_address_that_begins_that_of_the_colour_is_another_container_s(rig: Rig) -> None:
    rig.nginx_runs()
    rig.colour_runs("green", "aaa")
    rig.addresses("aaa", say=" 172.18.0.33 \n")
    curl(rig, "green", come="172.18.0.3:8000")
    assert gate(rig, seconds=0)[0] == 1


def test_a_colour_that_answers_late_passes_the_gate(rig: Rig) -> None:
    rig.nginx_runs()
    rig.colour_runs("green", "aaa")
    curl(rig, "green", after=15)
    assert gate(rig) == (0, "")
    assert len([call for call in rig.said if " sh -c " in call]) == 2


def test_a_gate_goes_on_where_docker_does_not_say_who_is_there(rig: Rig) -> None:
    rig.nginx_runs()
    rig.colour_runs("green", "aaa")
    rig.docker("ps -a *", ("", "aaa\n"), (1, 0))
    rig.short_sleeps()
    curl(rig, "green")
    assert gate(rig) == (0, "")
    assert len([call for call in rig.said if " sh -c " in call]) == 1


def test_a_gate_that_times_out_says_what_was_asked_what_came_and_shows_the_log(rig: Rig) -> None:
    rig.nginx_runs()
    rig.colour_runs("green", "aaa", "bbb")
    curl(rig, "green", after=0)
    status, said = gate(rig, seconds=0)
    assert status == 1
    assert said.splitlines() == [
        "green did not answer GET /healthz (Host: app.example.com) with 2xx or 3xx within 0 s; it said:",
        "status 503 from 172.18.0.3:8000",
        "--- last lines of app-green-web-1",
        "log of aaa",
        "--- last lines of app-green-web-1",
        "log of bbb",
    ]


def test_a_gate_that_hears_400_says_what_django_means_by_it(rig: Rig) -> None:
    rig.nginx_runs()
    rig.colour_runs("green", "aaa")
    curl(rig, "green", after=0, code=400)
    status, said = gate(rig, seconds=0)
    assert status == 1
    assert said.splitlines()[1:3] == [
        "status 400 from 172.18.0.3:8000",
        "Django says 400 to a host that ALLOWED_HOSTS lacks: is app.example.com (health.host) there?",
    ]


@pytest.mark.parametrize("state", ["exited 1 0 /app-green-web-1", "restarting 1 2 /app-green-web-1"])
def test_a_container_that_exits_or_restarts_fails_the_gate_at_once(rig: Rig, state: str) -> None:
    rig.nginx_runs()
    rig.colour_runs("green", "aaa")
    rig.inspects("aaa", state)
    curl(rig, "green", after=0)
    status, said = gate(rig, seconds=9_999)
    assert status == 1
    assert said.splitlines()[0].startswith(f"container app-green-web-1 is {state.split(maxsplit=1)[0]}")
    assert said.splitlines()[-1] == "log of aaa"
    assert "did not answer" not in said


@pytest.mark.parametrize(("known", "hopeless"), [(("aaa:2",), False), ((), True)])
def test_what_began_anew_while_it_waited_has_its_time_at_the_gate(
    rig: Rig, known: tuple[str, ...], hopeless: bool
) -> None:
    rig.nginx_runs()
    rig.colour_runs("green", "aaa")
    rig.inspects("aaa", "running 0 2 /app-green-web-1")
    curl(rig, "green", after=15)
    outcome = rig.run(shell.command("gate", "green", 30, *known))
    assert (outcome.ends[0] != 0) is hopeless


def test_a_gate_with_a_health_path_of_many_signs_asks_for_exactly_that(rig: Rig) -> None:
    rig.nginx_runs()
    rig.colour_runs("green", "aaa")
    path = "/h?a=1&b=%20$x;`id`"
    rig.program(
        "curl", f"""[ "${{10}}" = 'http://127.0.0.1:8001{path}' ] || {{ echo "${{10}}"; exit 99; }}""", inside=True
    )
    outcome = rig.run(shell.command("gate", "green", 0), HEALTH_PATH=path)
    assert outcome.finished, outcome.text


# --- back to the colour before ---------------------------------------------------------------------------------


def doors(rig: Rig, *, before: str, now: str, after: int = 1, colour: str = "blue") -> None:
    """Let the door of the `colour` of before, and that of users' now, answer with these statuses.

    From the look `after` on, if that is more than 1, the one of before answers with 200.
    """
    was, other = DOORS[colour], DOORS["green" if colour == "blue" else "blue"]
    rig.nginx_runs()
    looks = rig.home / "looks"
    rig.program(
        "curl",
        f"""before={before} now={now}
case $* in
"-s -o /dev/null -m 5 -w %{{http_code}} -H Host: app.example.com http://127.0.0.1:{was}/healthz")
    echo x >>{looks}
    n=0 && while read -r x; do n=$((n + 1)); done <{looks}
    [ {after} = 1 ] || [ "$n" -lt {after} ] || before=200
    printf %s "$before"
    [ "$before" != 000 ] || exit 7 ;;
"-sf -o /dev/null -m 5 -H Host: app.example.com http://127.0.0.1:{other}/healthz")
    [ "$now" -ge 200 ] && [ "$now" -lt 400 ] || exit 22 ;;
*) echo "curl $*"; exit 99 ;;
esac""",
        inside=True,
    )
    rig.short_sleeps()


def back_to(rig: Rig, colour: str = "blue", seconds: int = 30, live: str = "green") -> tuple[int, str]:
    rig.rooms()
    (rig.base / "switch" / live).touch()
    outcome = rig.run(shell.command("await_return", colour, seconds))
    return outcome.ends[0], outcome.text


@pytest.mark.parametrize("down", ["502", "504", "000"])
@pytest.mark.parametrize(("colour", "live"), [("blue", "green"), ("green", "blue")])
def test_users_keep_a_colour_that_answers_until_the_one_before_does(
    rig: Rig, colour: str, live: str, down: str
) -> None:
    doors(rig, before=down, now="200", after=4, colour=colour)
    assert back_to(rig, colour, live=live) == (0, "")
    assert (rig.home / "looks").read_text().split() == ["x"] * 4


@pytest.mark.parametrize("status", ["200", "404", "500", "503"])
def test_a_colour_that_is_up_has_its_users_back_at_once_whatever_it_says(rig: Rig, status: str) -> None:
    """Its health check may have had another path, and it may have been as sick when the deploy began."""
    doors(rig, before=status, now="200")
    assert back_to(rig) == (0, "")
    assert (rig.home / "looks").read_text().split() == ["x"]


@pytest.mark.parametrize("sick", ["500", "502"])
def test_nobody_waits_for_a_colour_where_the_other_one_does_not_answer_either(rig: Rig, sick: str) -> None:
    doors(rig, before="502", now=sick)
    assert back_to(rig) == (0, "")
    assert (rig.home / "looks").read_text().split() == ["x"]


def test_a_colour_that_does_not_come_back_is_not_what_users_are_sent_to(rig: Rig) -> None:
    doors(rig, before="502", now="200")
    rig.colour_runs("blue", "aaa")
    status, said = back_to(rig, seconds=0)
    assert status == 1
    assert said.splitlines() == [
        "blue is not back within 0 s, and green answers: users stay with green",
        "--- last lines of app-blue-web-1",
        "log of aaa",
    ]


def test_the_colour_before_is_looked_at_under_the_configuration_that_it_was_fit_under(rig: Rig) -> None:
    """The new one may name it wrongly: nginx takes a name that it cannot resolve."""
    doors(rig, before="502", now="200")
    confs(rig, "c1", "c2", use="c2")
    rig.docker(f"exec ngx1 {RELOAD}")
    rig.program("curl", f'[ "$(readlink {rig.base}/nginx/live)" = c1 ] && printf 200 || printf 502', inside=True)
    (rig.base / "switch").mkdir(exist_ok=True)
    (rig.base / "switch" / "green").touch()
    outcome = rig.run(shell.command("await_return", "blue", 0, "c1"))
    assert outcome.finished, outcome.text
    assert f"docker exec ngx1 {RELOAD}" in rig.said


def test_docker_is_not_asked_who_is_up_where_users_never_left(rig: Rig) -> None:
    assert back_to(rig, live="blue") == (0, "")
    assert rig.calls == []


def test_a_docker_that_does_not_say_who_is_up_keeps_nobody_from_the_way_back(rig: Rig) -> None:
    rig.docker(NGINX_PS, status=1)
    assert back_to(rig) == (0, "")


def test_nor_does_one_that_hangs(rig: Rig) -> None:
    rig.docker(NGINX_PS, does="exec /bin/sleep 30")
    rig.program("timeout", 'shift; exec /bin/timeout 0.3 "$@"')
    began = time.monotonic()
    assert back_to(rig) == (0, "")
    assert time.monotonic() - began < 20


# --- serving ---------------------------------------------------------------------------------------------------


def serves(rig: Rig, colour: str, *, public: bool) -> None:
    rig.nginx_runs()
    rig.program(
        "curl",
        f"""case $* in
"-sf -m 5 http://127.0.0.1:8002/" | "-s -m 5 http://127.0.0.1:8002/") echo {colour} ;;
"-s -m 5 -o /dev/null -w status %{{http_code}} -H Host: app.example.com http://127.0.0.1:80/healthz")
    printf 'status 503' ;;
"-sf -o /dev/null -m 5 -H Host: app.example.com http://127.0.0.1:80/healthz") exit {0 if public else 22} ;;
*) echo "curl $*"; exit 99 ;;
esac""",
        inside=True,
    )
    rig.program("sleep", "exec /bin/sleep 0.02", inside=True)


def serving(rig: Rig) -> tuple[int, str]:
    """Await green; fifteen seconds are over at once."""
    rig.fast_clock()
    outcome = rig.run(shell.command("await_serving", "green"))
    return outcome.ends[0], outcome.text


def test_a_colour_is_served_when_nginx_says_so_and_its_public_door_answers(rig: Rig) -> None:
    serves(rig, "green", public=True)
    assert serving(rig) == (0, "")


@pytest.mark.parametrize(("colour", "public"), [("blue", True), ("green", False), ("", True)])
def test_a_colour_is_not_served_while_either_door_says_otherwise(rig: Rig, colour: str, public: bool) -> None:
    """What is not told of a door, nobody can mend."""
    serves(rig, colour, public=public)
    status, said = serving(rig)
    assert status == 1
    assert said.endswith(
        f"public door: live there is {colour or 'nobody'}, and GET /healthz (Host: app.example.com) gets status 503"
    )


def test_a_health_check_that_has_another_path_since_maintenance_began_is_let_through_by_the_flip(rig: Rig) -> None:
    serves(rig, "green", public=True)
    assert rig.run(shell.command("maintain", "by ann"), HEALTH_PATH="/old").finished
    switch = rig.base / "switch"
    opens = f"[ -f {switch}/open/healthz/.open ] || exit 22"
    rig.program("curl", f"case $* in *:8002/) echo green ;; *) {opens} ;; esac", inside=True)
    assert serving(rig) == (0, "")
    assert (switch / "open" / "old" / ".open").exists()


def test_a_flip_that_maintenance_hides_says_so(rig: Rig) -> None:
    serves(rig, "green", public=False)
    assert rig.run(shell.command("maintain", "by ann")).finished
    status, said = serving(rig)
    assert status == 1
    assert said.splitlines()[1:] == [
        "maintenance is on here: does nginx let /healthz through, as maintenance.conf does?"
    ]


def test_without_maintenance_a_flip_opens_nothing(rig: Rig) -> None:
    serves(rig, "green", public=True)
    assert serving(rig) == (0, "")
    assert not (rig.base / "switch").exists()


# --- the watch -------------------------------------------------------------------------------------------------


def looks(rig: Rig, *verdicts: int) -> None:
    """Let the looks at blue's door end like this, one after the other; the last stays."""
    rig.short_sleeps()
    rig.docker(NGINX_PS, "ngx1\n")
    rig.docker(f"exec -e no_proxy=* ngx1 curl {asks_for('blue')}", "", verdicts)


def watch(rig: Rig, seconds: int) -> tuple[int, list[str], int]:
    outcome = rig.run(shell.command("watch_colour", "blue", seconds))
    return outcome.ends[0], outcome.lines, outcome.signals.count(Alive())


def test_a_watch_ends_at_once_on_a_dead_container(rig: Rig) -> None:
    looks(rig, 0)
    rig.colour_runs("blue", "aaa")
    rig.inspects("aaa", "running 0 0 /app-blue-web-1", "exited 137 0 /app-blue-web-1")
    status, lines, alive = watch(rig, 9_999)
    assert (status, alive) == (1, 1)
    assert lines == [
        "container app-blue-web-1 is exited, exit status 137, restarted 0 times",
        "--- last lines of app-blue-web-1",
        "log of aaa",
    ]


@pytest.mark.parametrize(("restarts", "broken"), [(2, False), (3, True), (1, True)])
def test_a_watch_knows_how_often_a_container_began_anew_while_it_waited(rig: Rig, restarts: int, broken: bool) -> None:
    """A standby that docker restarted once answers its gate: it may be what users go back to."""
    looks(rig, 0)
    rig.colour_runs("blue", "aaa")
    rig.inspects("aaa", f"running 0 {restarts} /app-blue-web-1")
    rig.fast_clock(step=1)
    outcome = rig.run(shell.command("watch_colour", "blue", 4, "bbb:7", "aaa:2"))
    assert outcome.ends[0] == broken
    assert ("container app-blue-web-1 is running" in outcome.text) is broken


def test_a_container_that_ended_is_broken_however_often_it_began_anew_before(rig: Rig) -> None:
    looks(rig, 0)
    rig.colour_runs("blue", "aaa")
    rig.inspects("aaa", "restarting 1 2 /app-blue-web-1")
    assert rig.run(shell.command("watch_colour", "blue", 9_999, "aaa:2")).ends == {0: 1}


def test_a_watch_ends_after_three_missed_looks_in_a_row(rig: Rig) -> None:
    looks(rig, 0, 22, 22, 22)
    rig.colour_runs("blue", "aaa")
    status, lines, alive = watch(rig, 9_999)
    assert (status, alive) == (1, 3)
    assert lines[0] == "blue has stopped answering GET /healthz (three looks in a row)"
    assert lines[-1] == "log of aaa"


def test_a_watch_tolerates_two_missed_looks_again_and_again(rig: Rig) -> None:
    looks(rig, 22, 22, 0, 22, 22, 0, 22, 22, 0, 22, 22, 22)
    rig.colour_runs("blue", "aaa")
    _, _, alive = watch(rig, 9_999)
    assert alive == 11


def test_a_watch_misses_a_look_where_docker_does_not_say_how_the_colour_is(rig: Rig) -> None:
    looks(rig, 0)
    rig.colour_runs("blue", "aaa")
    rig.docker("ps -a *", ("", "", "aaa\n", ""), (1, 1, 0, 1))
    status, lines, alive = watch(rig, 9_999)
    assert (status, alive) == (1, 5)
    assert lines == ["docker does not say how blue is (three looks in a row)"]


def test_a_watch_of_a_healthy_colour_ends_with_its_time_and_speaks_meanwhile(rig: Rig) -> None:
    looks(rig, 0, 22, 0)
    rig.colour_runs("blue", "aaa")
    rig.fast_clock(step=1)  # asked twice a look
    outcome = rig.run(shell.command("watch_colour", "blue", 7))
    assert (outcome.ends[0], outcome.lines, outcome.signals.count(Alive())) == (0, [], 3)
    assert outcome.one("found") == "3 looks, 1 of them without an answer"


# --- the drain -------------------------------------------------------------------------------------------------

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
HEAD6 = "  sl  local_address                         remote_address                        st tx_queue\n"


def tcp(*pairs: tuple[str, str]) -> str:
    """Write lines of /proc/net/tcp: remote address, state."""
    return HEAD + "".join(
        f"   {n}: 060012AC:D6D2 {remote} {state} 00000000:00000000 00:00000000 00000000   101        0 1 1\n"
        for n, (remote, state) in enumerate(pairs)
    )


def tcp6(*pairs: tuple[str, str]) -> str:
    local = "0000000000000000FFFF0000060012AC:D6D2"
    return HEAD6 + "".join(
        f"   {n}: {local} {remote} {state} 00000000:00000000 00:00000000 00000000   101        0 1 1\n"
        for n, (remote, state) in enumerate(pairs)
    )


BLUE = "030012AC:1F40"  # 172.18.0.3:8000
GREEN = "040012AC:1F40"
CLIENT = "010012AC:C350"
MAPPED = "0000000000000000FFFF0000030012AC:1F40"


TABLES = "exec -e no_proxy=* ngx1 cat /proc/net/tcp /proc/net/tcp6"


def sockets(rig: Rig, *tables: str) -> None:
    """Let nginx have these socket tables, one after the other, and blue a running container with one address."""
    rig.short_sleeps()
    rig.docker(NGINX_PS, "ngx1\n")
    rig.docker(TABLES, tables or ("",))
    rig.colour_runs("blue", "aaa")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (tcp() + tcp6(), 0),
        (tcp((BLUE, "01"), (GREEN, "01"), (CLIENT, "01"), (BLUE, "01")), 2),
        (tcp((BLUE, "02")), 1),
        (tcp((BLUE, "03"), (BLUE, "04"), (BLUE, "06"), (BLUE, "08"), (BLUE, "0A")), 0),
        (tcp((GREEN, "01")) + tcp6((MAPPED, "01"), (MAPPED, "06")), 1),
        (tcp((BLUE, "01")) + tcp6((MAPPED, "01")), 2),
    ],
    ids=["nobody", "blue's", "being-opened", "other-states", "mapped-in-tcp6", "both-tables"],
)
def test_connections_to_a_colour_are_counted_in_both_tables(rig: Rig, table: str, expected: int) -> None:
    sockets(rig, table)
    assert rig.run(shell.command("connections", "blue")).lines == [str(expected)]


def test_connections_to_every_container_and_every_network_of_a_colour_count(rig: Rig) -> None:
    sockets(rig, tcp((BLUE, "01"), ("050012AC:1F40", "01"), ("0A00000A:1F40", "01"), ("0B00000A:1F40", "01")))
    rig.colour_runs("blue", "aaa", "bbb")
    rig.addresses("aaa", "bbb", say=" 172.18.0.3  10.0.0.10 \n 172.18.0.5 \n")
    assert rig.run(shell.command("connections", "blue")).lines == ["3"]


def test_a_host_without_ipv6_has_one_table(rig: Rig) -> None:
    """`cat` shows that, and says that the other one is not there."""
    sockets(rig)
    rig.docker(TABLES, tcp((BLUE, "01")), status=1)
    assert rig.run(shell.command("connections", "blue")).lines == ["1"]


@pytest.mark.parametrize("address", ["", "invalid IP"], ids=["none", "as-docker-29-says-it"])
def test_a_colour_whose_containers_have_no_address_has_no_connections(rig: Rig, address: str) -> None:
    sockets(rig, tcp((GREEN, "01"), ("00000000:0000", "0A")))
    rig.addresses("aaa", say=f" {address} \n")
    assert rig.run(shell.command("connections", "blue")).lines == ["0"]


@pytest.mark.parametrize("why", ["nginx-does-not-answer", "docker-does-not-answer"])
def test_not_to_be_able_to_look_is_not_to_see_nothing(rig: Rig, why: str) -> None:
    sockets(rig, tcp())
    if why == "nginx-does-not-answer":
        rig.docker(TABLES, status=1)
    else:
        rig.docker("inspect -f {{range *", status=1)
    outcome = rig.run(shell.command("connections", "blue"))
    assert (outcome.ends, outcome.lines) == ({0: 1}, [])
    outcome = rig.run(shell.command("drain", "blue", 0))
    assert outcome.finished
    said = "nginx's connections to blue could not be counted within 0 s; any that are open are cut"
    assert outcome.one("found") == said


def test_a_drain_waits_until_two_looks_in_a_row_see_nobody(rig: Rig) -> None:
    busy, free = tcp((BLUE, "01")), tcp()
    sockets(rig, busy, busy, free, busy, free, free)
    outcome = rig.run(shell.command("drain", "blue", 9_999))
    assert outcome.finished
    assert outcome.lines == []
    assert len([call for call in rig.said if "/proc/net/tcp" in call]) == 6


@pytest.mark.parametrize(("age", "rest"), [(0, (0.3, 1)), (40, (0, 0.6)), (100, (0, 0)), (6000, (0, 0))])
def test_a_drain_waits_for_what_is_left_of_the_second_after_the_switch(
    rig: Rig, age: int, rest: tuple[float, float]
) -> None:
    """`age` is in hundredths of a second, as the host writes it down."""
    sockets(rig, tcp())
    rig.program("sleep", f"echo $1 >>{rig.base}/naps")
    (rig.base / "switch").mkdir(exist_ok=True)
    assert rig.run(shell.command("switch", "green")).finished
    switched = rig.base / "switched"
    switched.write_text(f"{int(switched.read_text()) - age}\n")
    assert rig.run(shell.command("drain", "blue", 9_999)).finished
    first, second = map(float, (rig.base / "naps").read_text().split())
    assert (rest[0] <= first <= rest[1], second) == (True, 0.5)


@pytest.mark.parametrize("written", [None, "", "99999999999"], ids=["nothing", "an-empty-file", "before-a-reboot"])
def test_where_nobody_knows_when_the_switch_was_a_drain_waits_for_a_second(rig: Rig, written: str | None) -> None:
    sockets(rig, tcp())
    rig.program("sleep", f"echo $1 >>{rig.base}/naps")
    if written is not None:
        (rig.base / "switched").write_text(written and f"{written}\n")
    assert rig.run(shell.command("drain", "blue", 9_999)).finished
    assert (rig.base / "naps").read_text().split() == ["1", "0.5"]


def test_a_switch_that_finds_no_room_for_its_time_is_made(rig: Rig) -> None:
    """And an older time than its own does not stay: the second after it would be cut short."""
    (rig.base / "switch").mkdir(exist_ok=True)
    (rig.base / "switched").write_text("1\n")
    rig.program("mv", "exit 1")
    assert rig.run(shell.command("switch", "green")).finished
    assert (rig.base / "switch" / "green").exists()
    assert not (rig.base / "switched").exists()


def test_while_workers_are_handed_over_nginx_is_looked_at_and_the_drain_goes_by_that(rig: Rig) -> None:
    sockets(rig, tcp((BLUE, "01")), tcp(), tcp())
    up = "compose * up -d --no-deps --no-build celery"
    rig.docker(up, does=f'until [ "$(cat {rig.base}/looks 2>/dev/null)" = xxx ]; do /bin/sleep 0.05; done')
    rig.docker(TABLES, (tcp((BLUE, "01")), tcp(), tcp()), does=f"printf x >>{rig.base}/looks")
    outcome = rig.run(shell.command("hand_over", "blue", 9_999, "celery"), shell.command("drain", "blue", 9_999))
    assert outcome.finished
    assert len([call for call in rig.said if "/proc/net/tcp" in call]) == 3


def test_a_hand_over_that_fails_leaves_nobody_looking(rig: Rig) -> None:
    """What it began has ended before it says so: the next script comes to a fence that nobody holds."""
    sockets(rig, tcp())
    rig.docker(NGINX_PS, "ngx1\n", does="/bin/sleep 0.3; echo looking >&2")
    rig.docker("compose * up -d --no-deps --no-build celery", status=3)
    outcome = rig.run(shell.command("hand_over", "blue", 9_999, "celery"), shell.command("drain", "blue", 9_999))
    assert outcome.ends == {0: 3}
    assert outcome.signals.index(Line("looking")) < outcome.signals.index(End(0, 3))


def test_a_drain_counts_from_the_hand_over_and_says_what_is_cut_in_its_own_step(rig: Rig) -> None:
    sockets(rig, tcp((BLUE, "01")))
    rig.docker("compose * up -d --no-deps --no-build celery")
    outcome = rig.run(shell.command("hand_over", "blue", 0, "celery"), shell.command("drain", "blue", 0))
    assert outcome.signals.index(shell.Begin(1)) < outcome.signals.index(outcome.answers[0])
    assert outcome.one("found") == "1 connections to blue were still open after 0 s, and are cut"


def test_a_drain_takes_no_look_before_the_second_after_the_switch_is_over(rig: Rig) -> None:
    sockets(rig, tcp())
    rig.docker(TABLES, tcp(), does=f"[ -f {rig.base}/over ] || echo early >>{rig.base}/looks")
    rig.program("sleep", f'/bin/sleep 0.3; [ "$1" = 0.5 ] || true >{rig.base}/over')
    (rig.base / "switch").mkdir(exist_ok=True)
    assert rig.run(shell.command("drain", "blue", 9_999)).finished
    assert not (rig.base / "looks").exists()


def test_a_drain_says_how_many_connections_are_cut_at_its_limit(rig: Rig) -> None:
    sockets(rig, tcp((BLUE, "01"), (BLUE, "01"), (GREEN, "01")))
    outcome = rig.run(shell.command("drain", "blue", 0))
    assert outcome.finished
    assert outcome.one("found") == "2 connections to blue were still open after 0 s, and are cut"


def test_a_colour_without_containers_needs_no_drain(rig: Rig) -> None:
    rig.colour_runs("blue")
    assert rig.run(shell.command("drain", "blue", 9_999)).finished
    assert len(rig.calls) == 1


def test_where_nginx_does_not_run_nobody_is_connected(rig: Rig) -> None:
    rig.colour_runs("blue", "aaa")
    rig.docker(NGINX_PS)
    assert rig.run(shell.command("drain", "blue", 9_999)).finished


@pytest.mark.parametrize("question", ["ps -a *", NGINX_PS], ids=["of-the-colour", "of-nginx"])
def test_a_drain_waits_where_docker_does_not_say_who_is_there(rig: Rig, question: str) -> None:
    sockets(rig, tcp())
    rig.docker(question, ("", "aaa\n" if question.startswith("ps -a") else "ngx1\n"), status=(1, 0))
    assert rig.run(shell.command("drain", "blue", 9_999)).finished
    assert len([call for call in rig.said if "/proc/net/tcp" in call]) == 2


def test_a_drain_that_never_hears_whether_nginx_runs_says_that_it_could_not_look(rig: Rig) -> None:
    sockets(rig, tcp())
    rig.docker(NGINX_PS, status=1)
    outcome = rig.run(shell.command("drain", "blue", 0))
    assert outcome.finished
    assert "could not be counted within 0 s" in outcome.one("found")
