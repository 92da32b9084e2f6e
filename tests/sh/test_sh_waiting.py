"""What a host writes down of a colour that waits, and what it makes of that later."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from rig import NGINX_PS, of_stack

from deploy.recipe import shell

if TYPE_CHECKING:
    from rig import Rig

OF_GREEN = of_stack("green")
UP_GREEN = (
    "compose -p app-green --project-directory . --env-file releases/r1/.env -f releases/r1/colour.yml up -d --no-build"
)


@pytest.fixture(autouse=True)
def _idle(rig: Rig) -> None:
    """Blue is live, and nginx does not run: the switch says so."""
    rig.rooms()
    rig.docker(NGINX_PS)
    (rig.base / "switch" / "blue").touch()


def let_wait(rig: Rig, *idents: str) -> None:
    rig.colour_runs("green", *idents)
    assert rig.run(shell.command("let_wait", "green", json.dumps({"as": "staged", "who": "ann o'neil"}))).finished


def runs_no_more(rig: Rig) -> list[str]:
    return [call for call in rig.said if call.startswith(("docker stop", "docker rm"))]


def test_what_waits_is_written_down_with_its_containers_whatever_their_order(rig: Rig) -> None:
    let_wait(rig, "bbb", "aaa")
    first, second = (rig.base / "waiting").read_text().splitlines()
    said = json.loads(second)
    assert first == "green aaa bbb"
    assert said.pop("at") > 1_000_000
    assert said == {"as": "staged", "who": "ann o'neil"}


def test_a_live_colour_does_not_wait(rig: Rig) -> None:
    outcome = rig.run(shell.command("let_wait", "blue", "{}"))
    assert outcome.ends == {0: 75}
    assert not (rig.base / "waiting").exists()


def test_a_colour_of_which_nothing_is_there_does_not_wait(rig: Rig) -> None:
    rig.docker(OF_GREEN)
    assert rig.run(shell.command("let_wait", "green", "{}")).ends == {0: 1}
    assert not (rig.base / "waiting").exists()


def test_an_engine_that_does_not_answer_is_not_an_empty_colour(rig: Rig) -> None:
    rig.docker(OF_GREEN, status=1)
    assert rig.run(shell.command("let_wait", "green", "{}")).ends == {0: 1}
    assert not (rig.base / "waiting").exists()


def test_what_waits_is_not_withdrawn(rig: Rig) -> None:
    let_wait(rig, "aaa", "bbb")
    rig.colour_runs("green", "bbb", "aaa")
    assert rig.run(shell.command("withdraw", "green", "0")).finished
    assert runs_no_more(rig) == []
    assert (rig.base / "waiting").exists()


@pytest.mark.parametrize("now", [("aaa", "ccc"), ("aaa",), ("aaa", "bbb", "ccc")], ids=["other", "fewer", "more"])
def test_what_is_not_what_waited_is_withdrawn(rig: Rig, now: tuple[str, ...]) -> None:
    let_wait(rig, "aaa", "bbb")
    rig.colour_runs("green", *now)
    rig.docker(f"stop {' '.join(now)}")
    rig.docker(f"rm {' '.join(now)}")
    outcome = rig.run(shell.command("withdraw", "green", "0"))
    assert outcome.finished, outcome.text
    assert runs_no_more(rig) == [f"docker stop {' '.join(now)}", f"docker rm {' '.join(now)}"]
    assert not (rig.base / "waiting").exists()


def test_what_is_withdrawn_is_drained_first(rig: Rig) -> None:
    rig.nginx_runs()
    rig.colour_runs("green", "aaa")
    rig.program("curl", "echo blue", inside=True)
    rig.program("cat", "echo '0: 060012AC:D6D2 030012AC:1F41 01'", inside=True)
    rig.docker("stop aaa")
    rig.docker("rm aaa")
    outcome = rig.run(shell.command("withdraw", "green", "0"))
    assert outcome.finished
    assert outcome.one("found") == "1 connections to green were still open after 0 s, and are cut"


def test_an_engine_that_does_not_answer_takes_nothing_away(rig: Rig) -> None:
    let_wait(rig, "aaa")
    rig.docker(OF_GREEN, status=1)
    assert rig.run(shell.command("withdraw", "green", "0")).ends == {0: 1}
    assert (rig.base / "waiting").exists()


def test_a_colour_that_nobody_said_anything_of_is_withdrawn(rig: Rig) -> None:
    rig.colour_runs("green", "aaa")
    rig.docker("stop aaa")
    rig.docker("rm aaa")
    outcome = rig.run(shell.command("withdraw", "green", "0"))
    assert outcome.finished
    assert outcome.lines == []


@pytest.mark.parametrize("word", ["stop", "clear_colour"])
def test_whatever_stops_a_colour_takes_its_word_away_first(rig: Rig, word: str) -> None:
    let_wait(rig, "aaa")
    rig.docker("stop aaa", status=1)
    rig.docker("rm -f aaa", status=1)
    assert rig.run(shell.command(word, "green")).ends == {0: 1}
    assert not (rig.base / "waiting").exists()


def test_the_word_on_the_other_colour_stays(rig: Rig) -> None:
    let_wait(rig, "aaa")
    (rig.base / "switch" / "blue").rename(rig.base / "switch" / "green")
    rig.colour_runs("blue", "bbb")
    rig.docker("stop bbb")
    rig.docker("rm bbb")
    assert rig.run(shell.command("stop", "blue")).finished
    assert (rig.base / "waiting").exists()


# --- a standby that is wanted ----------------------------------------------------------------------------------


def wanted(rig: Rig, answers: str) -> tuple[int, list[str]]:
    """Ask for a standby, where the colour answers as a curl of this text does; how it ended, and what was called."""
    rig.nginx_runs()
    rig.colour_runs("green", "aaa")
    rig.program("curl", f'case "$*" in *8002/) echo blue ;; *) {answers} ;; esac', inside=True)
    rig.docker("rm -f aaa")
    rig.docker(UP_GREEN, does=f"true >{rig.base}/started")
    outcome = rig.run(shell.command("revive", "green", "colour.yml", "30"))
    return outcome.ends[0], [call for call in rig.said if call.startswith(("docker rm", "docker compose"))]


def test_a_standby_that_answers_is_left_as_it_is(rig: Rig) -> None:
    assert wanted(rig, "echo 172.18.0.3:8000") == (0, [])
    assert len([call for call in rig.said if " sh -c " in call]) == 1


def test_a_standby_that_does_not_answer_is_started_anew_and_gated(rig: Rig) -> None:
    status, calls = wanted(rig, f"[ -f {rig.base}/started ] && echo 172.18.0.3:8000")
    assert (status, calls) == (0, ["docker rm -f aaa", f"docker {UP_GREEN}"])


# --- the way for a look ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("colour", "port"), [("blue", "8000"), ("green", "8001")])
def test_the_door_of_a_colour_is_told_by_nginx_s_own_address(rig: Rig, colour: str, port: str) -> None:
    rig.nginx_runs()
    rig.docker("inspect -f {{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}} ngx1", "172.18.0.2 172.19.0.2 \n")
    outcome = rig.run(shell.command("find_door", colour))
    assert outcome.values("door") == [("172.18.0.2", port)]


def test_without_nginx_there_is_no_door(rig: Rig) -> None:
    outcome = rig.run(shell.command("find_door", "green"))
    assert outcome.ends == {0: 1}
    assert outcome.lines == ["nginx does not run here; start it: inv settings.up"]
