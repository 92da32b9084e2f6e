"""What a host says of itself, read by the house's own parser."""

from __future__ import annotations

import json
import os
import shlex
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rig import NGINX_PS, VARIABLES, Rig

from deploy.recipe import facts
from deploy.recipe.model import App, Colour, Container, Facts, Host, Release

if TYPE_CHECKING:
    from deploy.recipe.shell import Command

PS = 'ps -a --format {{.ID}} {{.Label "com.docker.compose.project"}}'


def has_docker(rig: Rig) -> None:
    """Announce an engine of which nothing has been asked yet."""
    rig.docker("version --format {{.Server.Version}} {{.Server.Arch}}", "26.1.5 amd64\n")
    rig.docker("compose version", "Docker Compose version 2.26.1\n")
    rig.docker(PS)
    rig.docker("images --format {{.Repository}}:{{.Tag}}")
    rig.docker(NGINX_PS)
    rig.docker("info --format {{.DockerRootDir}}", "/nowhere\n")


def observe(rig: Rig, source: dict[str, str] | None = None) -> Facts:
    outcome = rig.look(facts.observe(source))
    assert outcome.finished, outcome.text
    return facts.read(outcome.answers, source)


@pytest.fixture
def bare(rig: Rig) -> Rig:
    """A host with docker, on which nothing was ever deployed."""
    has_docker(rig)
    rig.base.rmdir()
    return rig


def test_a_bare_host_has_docker_and_nothing_else(bare: Rig) -> None:
    seen = observe(bare)
    assert seen == Facts(docker="26.1.5", architecture="amd64", compose="docker compose", disk_free=seen.disk_free)
    assert seen.disk_free > 1 << 20


def test_looking_writes_nothing(bare: Rig) -> None:
    observe(bare)
    assert list(bare.home.iterdir()) == [bare.base.parent]
    assert not bare.base.exists()


def test_a_host_without_docker_says_so_and_is_asked_no_further(rig: Rig) -> None:
    outcome = rig.look(facts.observe())
    seen = facts.read(outcome.answers)
    assert seen.lacks == ("docker",)
    assert "not found" in seen.trouble
    assert (seen.docker, seen.compose, seen.disk_free) == ("", "", 0)
    assert outcome.finished


def test_a_docker_that_does_not_answer_is_trouble_with_its_last_words(rig: Rig) -> None:
    rig.docker("*", does="echo 'Client: 26' >&2; echo 'permission denied while trying to connect' >&2", status=1)
    seen = observe(rig)
    assert seen.trouble == "permission denied while trying to connect"
    assert seen.lacks == ()


def test_a_lacking_tool_is_named(bare: Rig) -> None:
    tools = Path(bare.path.split(":")[1])
    bare.path = f"{bare.path.split(':')[0]}:{bare.home}/tools"
    (bare.home / "tools").mkdir()
    for tool in tools.iterdir():
        if tool.name not in {"flock", "gzip"}:
            (bare.home / "tools" / tool.name).symlink_to(tool.resolve())
    assert observe(bare).lacks == ("flock", "gzip")


def test_compose_of_old_is_found(bare: Rig) -> None:
    bare.docker("compose version", status=1)
    bare.announce("docker-compose", "*")
    assert observe(bare).compose == "docker-compose"


def test_docker_s_own_compose_is_preferred(bare: Rig) -> None:
    bare.announce("docker-compose", "*")
    assert observe(bare).compose == "docker compose"


def test_a_host_without_compose_has_none(bare: Rig) -> None:
    bare.docker("compose version", status=1)
    assert observe(bare).compose == ""


def inspected(*parts: str) -> str:
    return "\t".join(parts) + "\n"


def test_containers_of_the_app_are_described_and_those_of_others_are_not_asked_for(bare: Rig) -> None:
    bare.docker(PS, "aaa app-blue\nbbb app-setting-prod\nccc application-blue\nddd other-app-blue\neee \nfff app\n")
    bare.docker(
        "inspect -f * aaa bbb",
        inspected("a" * 64, "app-blue", "web", "app:r1", "running", "healthy", "0", "2026-11-22T10:00:00Z", "", "False")
        + inspected(
            "b" * 64, "app-setting-prod", "redis", "redis:8", "exited", "", "2", "2026-11-21T10:00:00Z", "d1", "False"
        ),
    )
    assert observe(bare).containers == (
        Container("a" * 12, "app-blue", "web", "app:r1", "running", "healthy", 0, "2026-11-22T10:00:00Z", ""),
        Container("b" * 12, "app-setting-prod", "redis", "redis:8", "exited", "", 2, "2026-11-21T10:00:00Z", "d1"),
    )


def test_the_question_to_docker_has_a_part_for_each_thing_that_is_read(bare: Rig) -> None:
    bare.docker(PS, "aaa app-blue\n")
    bare.docker("inspect *", inspected("a", "app-blue", "web", "i", "running", "", "0", "s", "", ""))
    observe(bare)
    (question,) = [call[3] for call in bare.calls if call[1] == "inspect"]
    assert question.count("\t") == 9
    assert question.split("\t")[5] == "{{if .State.Health}}{{.State.Health.Status}}{{end}}"


TOLD_TO_END = f"kill {'a' * 64} 15\nkill {'b' * 64} 15\nkill {'c' * 64} 15\nkill {'d' * 64} 15\nstart {'d' * 64} \n"


@pytest.mark.parametrize(
    ("minutes", "states"),
    [(1, ["running", "ending", "exited", "running"]), (21, ["running", "running", "exited", "running"])],
    ids=["lately", "long-ago"],
)
def test_what_docker_is_still_about_to_stop_for_a_script_that_was_cut_off_is_ending(
    rig: Rig, minutes: int, states: list[str]
) -> None:
    """Docker calls it running until it is not. Of the colours the switch tells, and nobody else."""
    has_docker(rig)
    rig.docker(PS, "a app-blue\nb app-setting-prod\nc app-setting-prod\nd app-setting-prod\n")
    of, found = {"a": "app-blue"}, {"c": "exited"}
    lines = (
        inspected(
            each * 64, of.get(each, "app-setting-prod"), each, "i", found.get(each, "running"), "", "0", "s", "", ""
        )
        for each in "abcd"
    )
    rig.docker("inspect *", "".join(lines))
    rig.docker("events *", TOLD_TO_END)
    cut_off = rig.base / "cut_off"
    cut_off.touch()
    os.utime(cut_off, (0, time.time() - 60 * minutes))
    assert [c.state for c in observe(rig).containers] == states


def test_a_docker_that_does_not_say_what_it_stops_is_no_answer(rig: Rig) -> None:
    has_docker(rig)
    rig.docker(PS, "b app-setting-prod\n")
    rig.docker("inspect *", inspected("b", "app-setting-prod", "redis", "i", "running", "", "0", "s", "", ""))
    rig.docker("events *", status=1)
    (rig.base / "cut_off").touch()
    assert not rig.look(facts.observe()).finished


def test_one_off_containers_are_nobody_s_service(bare: Rig) -> None:
    bare.docker(PS, "aaa app-blue\n")
    bare.docker("inspect *", inspected("a", "app-blue", "web", "i", "running", "", "0", "s", "", "True"))
    assert observe(bare).containers == ()


def test_a_docker_that_fails_half_way_is_no_answer(bare: Rig) -> None:
    """A host that seems to run nothing would be taken for a bare one."""
    bare.docker(PS, "aaa app-blue\n")
    bare.docker("inspect *", status=1)
    assert not bare.look(facts.observe()).finished


@pytest.mark.parametrize("left", ["aaa app-blue\n", ""], ids=["others-stay", "it-was-the-last"])
def test_a_container_that_goes_while_it_is_asked_for_is_not_there_and_no_failure(bare: Rig, left: str) -> None:
    bare.docker(PS, (f"{left}bbb app-green\n", left))
    bare.docker("inspect -f *", inspected("a" * 64, "app-blue", "web", "i", "running", "", "0", "s", "", ""))
    bare.docker("inspect -f * bbb", does="echo 'Error: No such object: bbb' >&2", status=1)
    assert [c.stack for c in observe(bare).containers] == (["app-blue"] if left else [])


def test_what_docker_tells_in_part_is_not_all_that_runs(bare: Rig) -> None:
    """Of two that are still there it told one: the other one may be the live one."""
    bare.docker(PS, "aaa app-blue\nbbb app-green\n")
    told = inspected("a" * 64, "app-blue", "web", "i", "running", "", "0", "s", "", "")
    bare.docker("inspect -f *", told, status=1)
    assert not bare.look(facts.observe()).finished


def test_a_release_has_an_image_when_docker_has_one_by_its_name(bare: Rig) -> None:
    bare.base.mkdir()
    bare.release("r1")
    bare.release("r2")
    bare.docker("images *", "app:r1\nother:r2\nmyapp:r2\napplication:r2\napp/x:r2\n<none>:<none>\n")
    assert [(r.id, r.has_image) for r in observe(bare).releases] == [("r1", True), ("r2", False)]


def test_a_release_carries_its_record_and_when_it_was_served(bare: Rig) -> None:
    bare.base.mkdir()
    release = Release(
        "r1", "finger", "conf1", "m", "1a2b3c4", 'main "quoted" \\ é', "ann@laptop", "r0", (("redis", "d"),)
    )
    bare.release("r1", **{"release.json": facts.record_text(release) + "\n", "served": "1795362457\n"})
    (stored,) = observe(bare).releases
    assert (stored.record, stored.served) == (release, 1795362457)


def test_a_release_without_a_record_is_there_and_was_never_served(bare: Rig) -> None:
    bare.base.mkdir()
    bare.release("r1")
    (stored,) = observe(bare).releases
    assert (stored.id, stored.record, stored.served, stored.has_image) == ("r1", None, 0, False)


def test_the_configuration_in_use_and_those_that_lie_there_are_told_apart(bare: Rig) -> None:
    for name in ("c1", "c2"):
        (bare.base / "nginx" / name).mkdir(parents=True)
    (bare.base / "nginx" / "live").symlink_to("c2")
    seen = observe(bare)
    assert (seen.conf, seen.confs) == ("c2", ("c1", "c2"))


def test_the_base_is_told_as_an_absolute_path(bare: Rig) -> None:
    bare.base.mkdir()
    outcome = bare.look(facts.observe(), BASE="greenroom/app")
    assert facts.read(outcome.answers).base == str(bare.base.resolve())


@pytest.mark.parametrize(
    ("there", "live"), [((), None), (("blue",), "blue"), (("green",), "green"), (("blue", "green"), "green")]
)
def test_where_nginx_does_not_run_the_switch_says_who_would_be_live(
    bare: Rig, there: tuple[str, ...], live: str | None
) -> None:
    (bare.base / "switch").mkdir(parents=True)
    for name in there:
        (bare.base / "switch" / name).touch()
    seen = observe(bare)
    assert seen.switch == (Colour(live) if live else None)
    assert not seen.proxy_runs


def test_what_nginx_serves_counts_more_than_the_switch(bare: Rig) -> None:
    (bare.base / "switch").mkdir(parents=True)
    (bare.base / "switch" / "blue").touch()
    bare.nginx_runs()
    bare.program("curl", '[ "$*" = "-sf -m 5 http://127.0.0.1:8002/" ] && echo green', inside=True)
    seen = observe(bare)
    assert (seen.switch, seen.proxy_runs) == (Colour.GREEN, True)


def test_an_nginx_that_does_not_answer_leaves_the_switch_to_say_it(bare: Rig) -> None:
    (bare.base / "switch").mkdir(parents=True)
    (bare.base / "switch" / "blue").touch()
    bare.nginx_runs()
    bare.program("curl", "exit 7", inside=True)
    seen = observe(bare)
    assert (seen.switch, seen.proxy_runs) == (Colour.BLUE, True)


def test_the_disk_is_measured_where_docker_keeps_its_images(bare: Rig) -> None:
    place = bare.home / "docker root"
    place.mkdir()
    bare.docker("info *", f"{place}\n")
    there, here = "/dev/sda 100 40 3145728 40%% /\\n", "/dev/sdb 100 40 5242880 40%% /home\\n"
    bare.program("df", f'[ "$*" = "-Pk {place} ." ] && printf "Filesystem x\\n{there}{here}"')
    assert observe(bare).disk_free == 3 << 30
    bare.program("df", f'[ "$*" = "-Pk {place} ." ] && printf "Filesystem x\\n{here}{there}"')
    assert observe(bare).disk_free == 3 << 30


def test_a_disk_of_many_terabytes_is_still_a_whole_number(bare: Rig) -> None:
    bare.program("df", 'printf "Filesystem x\\n/dev/sda 100 40 98765432109 40%% /\\n"')
    assert observe(bare).disk_free == 98765432109 * 1024


# --- the source ------------------------------------------------------------------------------------------------


def test_a_source_that_is_as_it_should_be_is_not_listed(bare: Rig) -> None:
    (bare.base / "source").mkdir(parents=True)
    (bare.base / "source" / "a.py").write_text("1")
    stamps = dict(observe(bare, {}).source)
    assert list(stamps) == ["a.py"]
    seen = observe(bare, stamps)
    assert (seen.source_same, seen.source) == (True, ())


def test_a_source_that_differs_is_listed(bare: Rig) -> None:
    (bare.base / "source").mkdir(parents=True)
    (bare.base / "source" / "a.py").write_text("1")
    seen = observe(bare, {})
    assert not seen.source_same
    assert [path for path, _ in seen.source] == ["a.py"]


def test_a_source_that_nobody_asks_for_is_not_read(bare: Rig) -> None:
    (bare.base / "source").mkdir(parents=True)
    (bare.base / "source" / "a.py").write_text("1")
    bare.program("sha256sum", "echo 'read all the same'; exit 1")
    seen = observe(bare)
    assert (seen.source_same, seen.source) == (False, ())


def test_the_engine_is_asked_all_at_once(bare: Rig) -> None:
    """Two questions of which each waits for the other to have been asked."""
    asked = bare.home / "asked"
    asked.mkdir()
    for mine, other in (("images", "info"), ("info", "images")):
        call = "images *" if mine == "images" else "info *"
        bare.docker(call, does=f": >{asked}/{mine}; until [ -e {asked}/{other} ]; do sleep 0.01; done")
    assert observe(bare).docker == "26.1.5"


@pytest.mark.parametrize("question", ["images *", PS, NGINX_PS])
def test_one_question_that_fails_is_no_answer_at_all(bare: Rig, question: str) -> None:
    bare.docker(question, status=1)
    assert not bare.look(facts.observe()).finished


def test_no_source_is_neither_the_same_nor_listed(bare: Rig) -> None:
    bare.base.mkdir()
    seen = observe(bare, {})
    assert (seen.source_same, seen.source) == (False, ())


# --- probe, history, examine -----------------------------------------------------------------------------------


def test_a_probe_looks_at_each_colour_that_runs_through_its_own_door(rig: Rig) -> None:
    rig.nginx_runs()
    for colour in ("blue", "green"):
        rig.docker(f"ps -q --filter label=com.docker.compose.project=app-{colour}", "c1\n")
    rig.program(
        "curl",
        '[ "$*" = "-sf -o /dev/null -m 5 -H Host: app.example.com http://127.0.0.1:8001/healthz" ]',
        inside=True,
    )
    assert rig.look(facts.probe()).values("health") == [("blue", "sick"), ("green", "healthy")]


def test_a_probe_says_nothing_of_a_colour_that_does_not_run(rig: Rig) -> None:
    rig.nginx_runs()
    rig.docker("ps -q --filter label=com.docker.compose.project=app-blue")
    rig.docker("ps -q --filter label=com.docker.compose.project=app-green", "c1\n")
    rig.program("curl", "", inside=True)
    assert rig.look(facts.probe()).values("health") == [("green", "healthy")]


def test_a_probe_without_nginx_has_nothing_to_say(rig: Rig) -> None:
    rig.docker(NGINX_PS)
    outcome = rig.look(facts.probe())
    assert outcome.finished
    assert outcome.answers == []


@pytest.mark.parametrize("question", [NGINX_PS, "ps -q --filter label=com.docker.compose.project=app-blue"])
def test_a_probe_that_docker_does_not_answer_is_no_answer(rig: Rig, question: str) -> None:
    rig.nginx_runs()
    rig.docker("ps -q --filter label=com.docker.compose.project=app-green")
    rig.docker("version")
    rig.docker(question, status=1)
    assert not rig.look(facts.probe()).finished


def test_a_probe_of_an_engine_that_does_not_answer_hides_nothing_else(rig: Rig) -> None:
    """`inv status` is what a person types then: `observe` tells of it, and the other hosts are to be seen."""
    rig.docker("*", status=1)
    outcome = rig.look(facts.probe())
    assert (outcome.finished, outcome.answers) == (True, [])


@pytest.mark.parametrize("words", [facts.observe(), facts.examine("80")], ids=["observe", "examine"])
def test_a_disk_is_not_looked_for_where_docker_does_not_say_where_it_is(rig: Rig, words: Command) -> None:
    has_docker(rig)
    rig.docker("compose version --short", "2.26.1\n")
    rig.docker("info --format {{.DockerRootDir}}", does="echo 'no answer' >&2", status=1)
    outcome = rig.look(words)
    assert (outcome.finished, outcome.text) == (False, "no answer")


def test_history_gives_the_newest_lines(rig: Rig) -> None:
    lines = [json.dumps({"at": n, "who": "a\tb  c\\n"}) for n in range(5)]
    (rig.base / "history.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert [value for (value,) in rig.look(facts.history(2)).values("history")] == lines[3:]


def test_a_host_without_history_has_none(rig: Rig) -> None:
    outcome = rig.look(facts.history(2))
    assert outcome.finished
    assert outcome.answers == []


MTU = 'network inspect -f {{index .Options "com.docker.network.driver.mtu"}} settings'
ROUTES = """Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
tun0 00000000 0100000A 0003 0 0 0 00000000 0 0 0
eth0 00000000 0100000A 0003 0 0 50 00000000 0 0 0
eth1 0000000A 00000000 0001 0 0 0 00FFFFFF 0 0 0
"""


@pytest.fixture
def examined(rig: Rig) -> Rig:
    """A host that can be examined; nginx does not run."""
    rig.docker("compose version --short", "2.26.1\n")
    rig.docker("info --format {{.DockerRootDir}}", "/nowhere\n")
    rig.docker(MTU, status=1)
    rig.docker(NGINX_PS)
    return rig


def test_examine_asks_nginx_for_its_version_and_its_tools(examined: Rig) -> None:
    examined.nginx_runs()
    examined.program("nginx", "echo 'nginx version: nginx/1.30.6' >&2", inside=True)
    outcome = examined.look(facts.examine("80"))
    assert outcome.one("compose_version") == "2.26.1"
    assert outcome.one("nginx_version") == "1.30.6"
    assert outcome.values("nginx_lacks") == [("curl",)]
    assert outcome.values("live_status") == []
    assert outcome.finished


def test_a_port_is_not_said_to_be_taken_where_docker_does_not_say_whether_nginx_has_it(examined: Rig) -> None:
    examined.docker(NGINX_PS, status=1)
    outcome = examined.look(facts.examine("80"))
    assert (outcome.finished, outcome.values("port_taken")) == (False, [])


def test_examine_asks_the_live_colour_what_the_gate_would_ask_of_one_like_it(examined: Rig) -> None:
    examined.nginx_runs()
    examined.program("nginx", "echo 'nginx version: nginx/1.30.6' >&2", inside=True)
    asked = "-s -o /dev/null -m 5 -w %{http_code} -H Host: app.example.com http://127.0.0.1:8001/healthz"
    examined.program(
        "curl",
        f'case "$*" in *:8002/) echo green ;; "{asked}") printf 400 ;; *) exit 7 ;; esac',
        inside=True,
    )
    assert examined.look(facts.examine("80")).one("live_status") == "400"


def test_examine_asks_nothing_of_a_colour_where_nobody_is_live(examined: Rig) -> None:
    examined.nginx_runs()
    examined.program("nginx", "echo 'nginx version: nginx/1.30.6' >&2", inside=True)
    examined.program("curl", "echo none", inside=True)
    outcome = examined.look(facts.examine("80"))
    assert outcome.values("live_status") == []
    assert outcome.finished


def test_examine_finds_a_port_that_another_program_has(examined: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as gone:
        free = gone.getsockname()[1]
        gone.close()
        examined.docker("compose version --short", status=1)
        outcome = examined.look(facts.examine(str(taken.getsockname()[1]), str(free)))
        assert outcome.values("port_taken") == [(str(taken.getsockname()[1]),)]
        assert outcome.finished


def test_examine_tells_the_time(examined: Rig) -> None:
    before = int(time.time())
    assert before <= int(examined.look(facts.examine()).one("clock")) <= time.time()


@pytest.mark.parametrize(
    ("says", "free"),
    [
        ("F Inodes IUsed IFree IUse% M\n/dev/a 900 1 899 1% /\n/dev/b 500 1 499 1% /home\n", [("499",)]),
        ("F Inodes IUsed IFree IUse% M\nbtrfs 0 0 0 - /\n/dev/b 500 1 499 1% /home\n", [("499",)]),
        ("F Inodes IUsed IFree IUse% M\nbtrfs 0 0 0 - /\n", []),
        ("F Inodes IUsed IFree IUse% M\n/dev/a 98765432109 1 98765432108 1% /\n", [("98765432108",)]),
        ("df: unknown option", []),
    ],
)
def test_examine_counts_the_inodes_that_are_free(examined: Rig, says: str, free: list[tuple[str]]) -> None:
    examined.program("df", f'[ "$*" = "-Pi . ." ] && printf %b {shlex.quote(says)}')
    assert examined.look(facts.examine()).values("inodes_free") == free


def test_examine_reads_the_real_inodes(examined: Rig) -> None:
    place = os.statvfs(examined.home)
    found = examined.look(facts.examine()).values("inodes_free")
    if place.f_files:
        assert abs(int(found[0][0]) - place.f_favail) < 100_000
    else:
        assert found == []


@pytest.mark.parametrize(("options", "network"), [("", "1500"), ("1400", "1400")])
def test_examine_compares_the_link_with_the_network(examined: Rig, options: str, network: str) -> None:
    """The smallest of the links with a default route; the network's own option, or docker's 1500."""
    examined.program(
        "cat",
        f"""case $1 in
/proc/net/route) printf '%s' {shlex.quote(ROUTES)} ;;
/sys/class/net/tun0/mtu) echo 1420 ;;
/sys/class/net/eth0/mtu) echo 9000 ;;
*) exit 1 ;;
esac""",
    )
    examined.docker(MTU, f"{options}\n")
    assert examined.look(facts.examine()).values("mtu") == [("1420", network)]


def test_examine_takes_dockers_default_for_a_network_that_is_not_there(examined: Rig) -> None:
    examined.program("cat", f"case $1 in *route) printf '%s' {shlex.quote(ROUTES)} ;; *) echo 1280 ;; esac")
    assert examined.look(facts.examine()).values("mtu") == [("1280", "1500")]


def test_examine_says_nothing_of_a_link_where_there_is_no_way_out(examined: Rig) -> None:
    examined.program("cat", "exit 1")
    outcome = examined.look(facts.examine())
    assert outcome.values("mtu") == []
    assert outcome.finished


def test_the_variables_of_these_tests_are_those_that_every_script_gets() -> None:
    app = App("app", "prod", (Host("web1"),))
    assert dict(facts.variables(app)).keys() == {*VARIABLES, "BASE"}
