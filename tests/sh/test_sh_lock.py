"""One run at a time: the lease, and the fence behind which nothing of an earlier run is still at work."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

import pytest
from rig import Rig, eventually

from deploy.recipe import shell
from deploy.recipe.shell import FENCE, Answer, Begin, Command, End, Line

ANN = '{"who": "ann@laptop", "doing": "deploy r9"}'
BOB = '{"who": "bob\'s \\"box\\"", "doing": "rollback"}'


def short(rig: Rig) -> float:
    """Return a short lease; busybox knows whole seconds only."""
    return 1 if rig.kind == "busybox" else 0.6


def hold(run: str = "one", lease: float = 30, holder: str = ANN, how: str = "first") -> Command:
    return shell.command("hold", run, lease, holder, how)


def since_boot() -> int:
    return int(Path("/proc/uptime").read_text().partition(".")[0])


def is_answer(signal: object) -> bool:
    return isinstance(signal, Answer)


def holds(rig: Rig, run: str) -> None:
    """Let the lock be held by a run, as `hold` leaves it."""
    rig.base.mkdir(exist_ok=True)
    rig.lock()
    (rig.base / "run").write_text(f"{run}\n")
    (rig.base / "holder").write_text(f"{ANN}\n")
    one_offs(rig, "*")


def one_offs(rig: Rig, stack: str, *says: str) -> None:
    """Let a stack have these one-off containers, one list after the other."""
    question = f"ps -aq --filter label=com.docker.compose.project={stack}"
    rig.docker(f"{question} --filter label=com.docker.compose.oneoff=True --filter label=greenroom.run", says or "")


def test_a_free_lock_is_taken_and_the_rooms_of_the_house_are_made(rig: Rig) -> None:
    with rig.started(hold(), holds=True) as one:
        assert one.until(is_answer) == Answer("held", ())
        assert (rig.base / "run").read_text() == "one\n"
        assert (rig.base / "holder").read_text() == f"{ANN}\n"
        assert {p.name for p in rig.base.iterdir() if p.is_dir()} == {"releases", "switch", "nginx"}


def test_a_second_holder_is_told_who_has_it(rig: Rig) -> None:
    with rig.started(hold(holder=BOB), holds=True) as one:
        one.until(is_answer)
        outcome = rig.run(hold("two"))
        ((holder, silence),) = outcome.values("held_by")
        assert (holder, int(silence) < 30) == (BOB, True)
        assert outcome.ends == {0: 75}
        assert (rig.base / "run").read_text() == "one\n"


def test_a_hold_ends_when_its_operator_lets_go(rig: Rig) -> None:
    with rig.started(hold(), holds=True) as one:
        one.until(is_answer)
        outcome = one.rest()
        assert outcome.ends == {0: 0}
        assert not (rig.base / "run").exists()
        assert not (rig.base / "holder").exists()
        assert rig.run(hold("two")).values("held") == [()]


def test_a_hold_ends_when_the_dots_stop_for_the_time_of_the_lease(rig: Rig) -> None:
    """The connection of an operator that vanished stays open for a long time."""
    with rig.started(hold(lease=short(rig)), holds=True) as one:
        one.until(is_answer)
        began = time.monotonic()
        assert one.leave().finished
        assert time.monotonic() - began < 20
        assert not (rig.base / "run").exists()
        assert rig.run(hold("two")).values("held") == [()]


def test_a_hold_lasts_longer_than_its_lease_while_the_dots_come(rig: Rig) -> None:
    rig.short_sleeps()  # the second holder waits a second before it reads, which is the whole lease here
    with rig.started(hold(lease=short(rig)), holds=True) as one:
        one.until(is_answer)
        for _ in range(3):
            time.sleep(short(rig) / 2)
            one.send(b".")
        assert one.process.poll() is None
        assert (rig.base / "run").read_text() == "one\n"


def test_a_holder_that_is_killed_holds_nothing(rig: Rig) -> None:
    with rig.started(hold(), holds=True) as one:
        one.until(is_answer)
        os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()
        assert rig.run(hold("two")).values("held") == [()]


def test_a_second_holder_is_told_how_long_nothing_was_heard_of_the_first(rig: Rig) -> None:
    with rig.started(hold(), holds=True) as one:
        one.until(is_answer)
        (rig.base / "heard").write_text(f"{since_boot() - 12}\n")
        ((_, silence),) = rig.run(hold("two")).values("held_by")
        assert 12 <= int(silence) < 22  # a busy machine takes its time
        one.send(b".")
        eventually(lambda: int((rig.base / "heard").read_text()) > since_boot() - 5)


def test_a_clock_that_is_set_makes_nobody_older(rig: Rig) -> None:
    rig.program("date", f"echo {int(time.time())}")
    with rig.started(hold(), holds=True) as one:
        one.until(is_answer)
        rig.program("date", f"echo {int(time.time()) + 86_400}")
        ((_, silence),) = rig.run(hold("two")).values("held_by")
        assert int(silence) < 30


# --- a connection that was lost --------------------------------------------------------------------------------


def test_a_run_gets_the_lock_back_that_its_lost_connection_still_holds(rig: Rig) -> None:
    with rig.started(hold(), holds=True) as lost:
        lost.until(is_answer)
        with rig.started(hold(how="again"), holds=True) as one:
            assert one.until(is_answer) == Answer("held", ())
            lost.process.wait(timeout=10)
            assert (rig.base / "run").read_text() == "one\n"
            assert rig.run(hold("two")).values("held_by")[0][0] == ANN
            assert rig.run(shell.command("complain", "at work"), run="one").lines == ["at work"]


def test_a_run_gets_the_lock_back_that_its_lost_connection_let_go(rig: Rig) -> None:
    with rig.started(hold(), holds=True) as lost:
        lost.until(is_answer)
        lost.rest()
    assert rig.run(shell.command("complain", "x"), run="one").ends == {FENCE: 75}
    with rig.started(hold(how="again"), holds=True) as one:
        assert one.until(is_answer) == Answer("held", ())
        assert rig.run(shell.command("complain", "at work"), run="one").lines == ["at work"]


def test_a_run_gets_no_lock_back_that_somebody_else_has(rig: Rig) -> None:
    with rig.started(hold("two", holder=BOB), holds=True) as two:
        two.until(is_answer)
        assert rig.run(hold(how="again")).values("held_by")[0][0] == BOB
        assert two.process.poll() is None


def test_a_run_gets_no_lock_back_that_somebody_else_had_meanwhile(rig: Rig) -> None:
    for run in ("one", "two"):
        with rig.started(hold(run), holds=True) as each:
            each.until(is_answer)
            each.rest()
    outcome = rig.run(hold(how="again"))
    assert outcome.values("held_since") == [()]
    assert outcome.ends == {0: 75}


def test_a_run_gets_no_lock_back_on_a_host_where_it_never_had_one(rig: Rig) -> None:
    assert rig.run(hold(how="again")).values("held_since") == [()]


# --- a full disk -----------------------------------------------------------------------------------------------


def fill(rig: Rig, *names: str) -> None:
    """Let there be no room for the next content of these files. A rename takes none."""
    for name in names:
        (rig.base / f"{name}.new").symlink_to("/dev/full")


JOTTED = ("keeper", "heard", "holder")


@pytest.mark.parametrize("full", [(*JOTTED, "run"), ("run",)], ids=["all-along", "since-the-last-file"])
def test_nobody_holds_what_could_not_be_written_down(rig: Rig, full: tuple[str, ...]) -> None:
    fill(rig, *full)
    outcome = rig.run(hold())
    assert outcome.ends == {0: 1}
    assert outcome.answers == []
    assert outcome.lines[-1] == f"nothing can be written in {rig.base}: is the disk full?"
    assert {path.name for path in rig.base.iterdir() if path.is_file()} == {"lock"}
    assert rig.run(hold("two")).values("held") == [()]


def test_the_name_of_the_run_before_outlives_one_that_found_no_room(rig: Rig) -> None:
    """That one did nothing: the run before may come again."""
    for run in ("one", "two"):
        fill(rig, *(("run",) if run == "two" else ()))
        with rig.started(hold(run), holds=True) as each:
            each.until(is_answer if run == "one" else lambda signal: isinstance(signal, End))
            each.rest()
    assert rig.run(hold(how="again")).values("held") == [()]


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_gets_its_lock_back_although_the_disk_has_filled_up(rig: Rig, killed: bool) -> None:
    with rig.started(hold(), holds=True) as lost:
        lost.until(is_answer)
        if killed:
            os.killpg(lost.process.pid, signal.SIGKILL)
            lost.process.wait()
        else:
            lost.rest()
    fill(rig, *JOTTED, "run", "leader")
    with rig.started(hold(how="again"), holds=True) as one:
        assert one.until(is_answer) == Answer("held", ())
        assert rig.run(shell.command("complain", "at work"), run="one").lines == ["at work"]
        fill(rig, "heard")
        one.send(b".")
        assert one.rest().lines == []
    assert {path.name for path in rig.base.iterdir() if path.is_file()} == {"lock", "last", "fence", "turn"}


def test_nobody_is_ended_in_the_stead_of_a_script_that_could_not_write_itself_down(rig: Rig) -> None:
    holds(rig, "one")
    with rig.started(works_on(rig, "while :; do sleep 0.05; done"), run="one") as left:
        begun(rig)
        os.killpg(left.process.pid, signal.SIGKILL)
        left.process.wait()
    with (rig.base / "fence").open("a") as fence:
        fcntl.flock(fence, fcntl.LOCK_EX)  # a child of its shell may outlive that for a moment
    fill(rig, "leader")
    one_offs(rig, "*")
    assert rig.run(shell.command("complain", "at work"), run="one").lines == ["at work"]
    assert not (rig.base / "leader").exists()


# --- a person's lock -------------------------------------------------------------------------------------------


def test_a_person_s_lock_keeps_everybody_off_but_who_takes_it_away(rig: Rig) -> None:
    holds(rig, "one")
    assert rig.run(shell.command("lock_for", ANN), run="one").finished
    rig.let_go()
    outcome = rig.run(hold("two"))
    assert outcome.values("locked_by") == [(ANN,)]
    assert outcome.ends == {0: 75}
    assert (rig.base / "run").read_text() == "one\n"
    with rig.started(hold("two", how="through"), holds=True) as two:
        assert two.until(is_answer) == Answer("held", ())
        assert rig.run(shell.command("unlock"), run="two").finished
    assert rig.run(hold("three")).values("held") == [()]


def test_a_person_who_comes_to_take_it_away_waits_for_a_run_like_everybody(rig: Rig) -> None:
    with rig.started(hold(), holds=True) as one:
        one.until(is_answer)
        assert rig.run(hold("two", how="through")).values("held_by")[0][0] == ANN


def test_an_engine_that_comes_back_is_waited_for(rig: Rig) -> None:
    rig.short_sleeps()
    rig.docker("version *", status=[1, 1, 0])
    assert rig.run(shell.command("await_engine", 30)).ends == {0: 0}
    assert len(rig.calls) == 3


def test_an_engine_that_does_not_come_back_says_why(rig: Rig) -> None:
    rig.docker("version *", does="echo 'Client: 26' >&2; echo 'cannot connect' >&2", status=1)
    rig.short_sleeps()
    outcome = rig.run(shell.command("await_engine", 0))
    assert outcome.ends == {0: 1}
    assert outcome.lines == ["docker does not answer: cannot connect"]


# --- the fence -------------------------------------------------------------------------------------------------


def test_the_run_that_holds_the_lock_passes_the_fence(rig: Rig) -> None:
    holds(rig, "one")
    outcome = rig.run(shell.command("complain", "at work"), run="one")
    assert outcome.signals[:3] == (Begin(FENCE), End(FENCE, 0), Begin(0))
    assert outcome.lines == ["at work"]
    assert outcome.finished


LATE = "this script came too late: a later one of its run has been here"


def test_a_script_that_was_overtaken_by_a_later_one_of_its_run_does_nothing(rig: Rig) -> None:
    """Broken off before it began; the undo has been here, and gone."""
    holds(rig, "one")
    assert rig.run(shell.command("complain", "undone"), run="one", turn=10).finished
    outcome = rig.run(shell.command("mkdir", "touched"), run="one", turn=9)
    assert outcome.signals == (Begin(FENCE), Line(LATE), End(FENCE, 75))
    assert not (rig.base / "touched").exists()
    assert rig.run(shell.command("complain", "next"), run="one", turn=11).finished


@pytest.mark.parametrize(("run", "turn", "said"), [("one", 9, LATE), ("none", 11, "this run has lost the lock")])
def test_a_script_that_may_not_go_on_ends_nobody_s_work(rig: Rig, run: str, turn: int, said: str) -> None:
    holds(rig, "one")
    left = works_on(rig, "while :; do sleep 0.05; done")
    script = rig.script(left, run="one", turn=10)
    with rig.started_script(script):
        child = begun(rig)
        outcome = rig.run(shell.command("mkdir", "touched"), run=run, turn=turn)
        assert outcome.lines[0].startswith(said)
        assert is_at_work(child)
    assert not (rig.base / "touched").exists()


def test_the_turns_of_a_run_outlast_its_lost_connection_and_not_its_lock(rig: Rig) -> None:
    one_offs(rig, "*")
    with rig.started(hold(), holds=True) as one:
        one.until(is_answer)
        assert rig.run(shell.command("complain", "at work"), run="one", turn=10).finished
    with rig.started(hold(how="again"), holds=True) as one:
        one.until(is_answer)
        assert rig.run(shell.command("complain", "at work"), run="one", turn=9).lines == [LATE]
    with rig.started(hold("two"), holds=True) as two:
        two.until(is_answer)
        assert rig.run(shell.command("complain", "at work"), run="two", turn=1).finished


def test_the_turn_takes_no_room_that_it_has_not_got_already(rig: Rig) -> None:
    """A full disk would refuse a new file, and what is appended."""
    holds(rig, "one")
    assert rig.run(shell.command("complain", "at work"), run="one", turn=9).finished
    before = (rig.base / "turn").stat()
    assert rig.run(shell.command("complain", "at work"), run="one", turn=123_456).finished
    after = (rig.base / "turn").stat()
    assert (before.st_ino, before.st_size) == (after.st_ino, after.st_size)


def test_a_run_that_lost_the_lock_does_nothing_and_says_who_has_it(rig: Rig) -> None:
    holds(rig, "two")
    outcome = rig.run(shell.command("mkdir", "touched"), run="one")
    assert outcome.signals == (
        Begin(FENCE),
        Line(f"this run has lost the lock of this host; now: {ANN}"),
        End(FENCE, 75),
    )
    assert outcome.status == 75
    assert not (rig.base / "touched").exists()


def test_a_run_whose_keeper_was_killed_does_nothing(rig: Rig) -> None:
    """The kernel let go of the lock; the files still say who had it."""
    with rig.started(hold(), holds=True) as one:
        one.until(is_answer)
        assert rig.run(shell.command("complain", "at work"), run="one").lines == ["at work"]
        os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()
        assert (rig.base / "run").read_text() == "one\n"
        outcome = rig.run(shell.command("mkdir", "touched"), run="one")
    assert outcome.ends == {FENCE: 75}
    assert not (rig.base / "touched").exists()


def test_without_a_lock_there_is_nobody_to_pass(rig: Rig) -> None:
    outcome = rig.run(shell.command("mkdir", "touched"), run="one")
    assert outcome.lines == ["this run has lost the lock of this host; now: nobody"]
    assert not (rig.base / "touched").exists()


def test_two_scripts_of_a_run_pass_one_after_the_other(rig: Rig) -> None:
    holds(rig, "one")
    for _ in range(2):
        assert rig.run(shell.command("complain", "x"), run="one").lines == ["x"]


def works_on(rig: Rig, what: str) -> Command:
    """A command that notes its pid, begins, and works on."""
    return shell.command("sh", "-c", f"echo $$ >{rig.home}/pid; : >{rig.home}/began; {what}")


def begun(rig: Rig) -> int:
    eventually((rig.home / "began").exists)
    return int((rig.home / "pid").read_text())


def is_at_work(pid: int) -> bool:
    """Say whether a process lives; one that has ended and was not waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_what_a_dead_operator_left_at_work_is_ended_before_anything_else_begins(rig: Rig) -> None:
    holds(rig, "one")
    ticks = rig.home / "ticks"
    left = works_on(rig, f"while :; do echo tick >>{ticks}; sleep 0.05; done")
    with rig.started(left, run="one"):
        child = begun(rig)
        holds(rig, "two")
        outcome = rig.run(shell.command("cat", str(ticks)), run="two")
        assert outcome.lines[0] == "a command of an earlier run is still at work here: ending it"
        assert outcome.finished
        assert not is_at_work(child)
        seen = len(outcome.lines) - 1
        assert ticks.read_text().count("tick") == seen
        time.sleep(0.15)
        assert ticks.read_text().count("tick") == seen


def test_what_was_left_at_work_behind_sudo_is_ended_too(rig: Rig) -> None:
    holds(rig, "one")
    with rig.started(works_on(rig, "while :; do sleep 0.05; done"), run="one", led=True):
        child = begun(rig)
        holds(rig, "two")
        assert rig.run(shell.command("complain", "mine"), run="two").finished
        assert not is_at_work(child)


def test_the_next_run_waits_until_what_is_ending_has_ended(rig: Rig) -> None:
    holds(rig, "one")
    left = works_on(rig, "trap 'sleep 0.3; echo ended; : >ended; exit' TERM; while :; do sleep 0.05; done")
    with rig.started(left, run="one"):
        begun(rig)
        holds(rig, "two")
        outcome = rig.run(shell.command("cat", "ended"), run="two")
        assert outcome.ends == {FENCE: 0, 0: 0}


def test_a_child_that_outlives_its_script_is_behind_the_fence_too(rig: Rig) -> None:
    """The script has come to its end; what it put into the background has not."""
    holds(rig, "one")
    assert rig.run(works_on(rig, "sleep 30 >/dev/null 2>&1 &"), run="one").finished
    holds(rig, "two")
    outcome = rig.run(shell.command("complain", "mine"), run="two")
    assert outcome.lines[-1] == "mine"
    assert "still at work" in outcome.lines[0]


def hook(rig: Rig, text: str) -> Command:
    program = rig.base / "source" / "hook"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return shell.command("hook", 60, "must", "{}", "./hook")


@pytest.mark.parametrize(
    "text",
    ["exec sleep 60", "timeout 60 sh -c \"trap '' TERM; echo \\$\\$ >>../pids; while :; do sleep 0.1; done\""],
    ids=["one-that-ends", "in-a-group-of-its-own-and-deaf"],
)
def test_a_hook_that_a_dead_operator_left_at_work_is_ended_with_all_that_it_started(rig: Rig, text: str) -> None:
    """`timeout` leaves the group of its script, and takes the hook with it."""
    holds(rig, "one")
    one_offs(rig, "*")
    with rig.started(hook(rig, f"echo $$ >>../pids; : >{rig.home}/began\n{text}"), run="one"):
        eventually((rig.home / "began").exists)
        eventually(lambda: len((rig.base / "pids").read_text().split()) == 1 + ("trap" in text))
        holds(rig, "two")
        outcome = rig.run(shell.command("complain", "mine"), run="two")
        assert outcome.lines[-1] == "mine", outcome.text
        assert not [pid for pid in (rig.base / "pids").read_text().split() if is_at_work(int(pid))]
    assert not (rig.base / "hook").exists()


def test_what_a_hook_left_behind_that_ended_in_time_goes_on_and_holds_up_nobody(rig: Rig) -> None:
    holds(rig, "one")
    left = hook(rig, "trap '' TERM; sleep 60 >/dev/null 2>&1 & echo $! >../pids")
    assert rig.run(left, run="one").finished
    eventually(lambda: rig.kind != "busybox" or fence_is_free(rig))
    assert rig.run(shell.command("complain", "mine"), run="one").lines == ["mine"]
    pid = int((rig.base / "pids").read_text())
    assert is_at_work(pid)
    os.kill(pid, signal.SIGKILL)


def fence_is_free(rig: Rig) -> bool:
    """Busybox's `timeout` leaves a watcher behind for up to a second."""
    with (rig.base / "fence").open("a") as fence:
        try:
            fcntl.flock(fence, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("stack", ["app-blue", "app-green", "app-setting-prod"])
def test_a_one_off_container_that_a_dead_operator_left_is_ended_before_anything_else_begins(
    rig: Rig, stack: str
) -> None:
    """A migration, or a test of nginx's configuration: docker's own child, which no signal to the script reaches."""
    holds(rig, "one")
    left = works_on(rig, "while :; do sleep 0.05; done")
    with rig.started(left, run="one"):
        begun(rig)
        holds(rig, "two")
        one_offs(rig, stack, "aaa\n", "")
        rig.docker("stop aaa")
        rig.docker("rm -f aaa", status=1)  # it has removed itself
        outcome = rig.run(shell.command("complain", "mine"), run="two")
        assert outcome.lines[1:] == [
            f"an earlier run left a one-off container of {stack}: ending it",
            "mine",
        ]
    rig.forget_calls()
    assert rig.run(shell.command("complain", "mine"), run="two").lines[-1] == "mine"
    assert rig.calls == []


def test_a_one_off_container_of_a_person_goes_on(rig: Rig) -> None:
    """`docker compose run` in a stack of ours, by hand; the lock says nothing of that."""
    (rig.base / "unfinished").touch()
    holds(rig, "one")
    rig.docker("ps -aq *", "theirs\n")
    rig.docker("stop *")
    rig.docker("rm -f *")
    one_offs(rig, "*")
    assert rig.run(shell.command("complain", "mine"), run="one").lines == ["mine"]
    assert [call for call in rig.said if "theirs" in call] == []


def test_that_a_script_was_cut_off_is_known_to_those_after_it(rig: Rig) -> None:
    """Docker may be at work on what it was asked for."""
    holds(rig, "one")
    assert rig.run(shell.command("complain", "mine"), run="one").finished
    with rig.started(works_on(rig, "while :; do sleep 0.05; done"), run="one"):
        begun(rig)
        holds(rig, "two")
        for colour in ("app-blue", "app-green", "app-setting-prod"):
            one_offs(rig, colour)
        assert not (rig.base / "cut_off").exists()
        os.utime(rig.base / "unfinished", (0, 0))  # it took hours; what counts is when it was cut off
        assert rig.run(shell.command("complain", "mine"), run="two").finished
    assert time.time() - (rig.base / "cut_off").stat().st_mtime < 60


def test_a_one_off_container_that_stays_keeps_the_next_run_out(rig: Rig) -> None:
    holds(rig, "one")
    with rig.started(works_on(rig, "while :; do sleep 0.05; done"), run="one"):
        begun(rig)
        holds(rig, "two")
        one_offs(rig, "app-blue", "aaa\n")
        rig.docker("stop aaa", status=1)
        rig.docker("rm -f aaa", status=1)
        outcome = rig.run(shell.command("mkdir", "touched"), run="two")
        assert outcome.ends == {FENCE: 75}
        assert outcome.lines[-1] == "docker rm -f aaa"
    assert not (rig.base / "touched").exists()


@pytest.mark.parametrize("dies", ["at once", "when it was asked to end one"])
def test_a_docker_that_is_down_keeps_the_next_run_out_and_it_is_said_what_to_do(rig: Rig, dies: str) -> None:
    holds(rig, "one")
    with rig.started(works_on(rig, "while :; do sleep 0.05; done"), run="one"):
        begun(rig)
        holds(rig, "two")
        question = "ps -aq --filter label=com.docker.compose.project=app-blue"
        down, up = ("", 1), ("aaa\n", 0)
        answers = (down,) if dies == "at once" else (up, down)
        rig.docker(
            f"{question} --filter label=com.docker.compose.oneoff=True --filter label=greenroom.run",
            [text for text, _ in answers],
            [status for _, status in answers],
        )
        rig.docker("stop aaa", status=1)
        rig.docker("rm -f aaa", status=1)
        rig.docker("version *", status=1)
        rig.short_sleeps()
        rig.fast_clock()
        outcome = rig.run(shell.command("mkdir", "touched"), run="two")
        assert outcome.ends == {FENCE: 75}
        for words in ("docker does not answer", "users have what still runs", "systemctl start docker"):
            assert words in outcome.text
    assert not (rig.base / "touched").exists()


def test_a_docker_that_starts_again_is_waited_for_behind_the_fence(rig: Rig) -> None:
    """It may be why the script before was cut off; whoever undoes that comes a moment later."""
    holds(rig, "one")
    with rig.started(works_on(rig, "while :; do sleep 0.05; done"), run="one"):
        begun(rig)
        holds(rig, "two")
        question = "ps -aq --filter label=com.docker.compose.project=app-blue"
        rig.docker(
            f"{question} --filter label=com.docker.compose.oneoff=True --filter label=greenroom.run", ["", ""], [1, 0]
        )
        rig.docker("version *", status=[1, 1, 0])
        rig.short_sleeps()
        assert rig.run(shell.command("complain", "mine"), run="two").lines[-1] == "mine"


def test_what_cannot_be_ended_keeps_the_next_run_out(rig: Rig) -> None:
    real = Path(rig.path.split(":")[1]) / "timeout"
    rig.program("timeout", f'[ "$1" = 60 ] && shift && exec {real} {1 if rig.kind == "busybox" else 0.1} "$@"')
    holds(rig, "one")
    left = works_on(rig, "trap '' TERM; while :; do sleep 0.05; done")
    with rig.started(left, run="one") as one:
        child = begun(rig)
        holds(rig, "two")
        outcome = rig.run(shell.command("mkdir", "touched"), run="two")
        assert outcome.ends == {FENCE: 75}
        assert outcome.lines[-1] == f"it did not end within 60 s (process group {one.process.pid})"
        assert not (rig.base / "touched").exists()
        os.kill(child, signal.SIGKILL)


def test_the_lock_and_the_fence_do_not_stand_in_each_other_s_way(rig: Rig) -> None:
    with rig.started(hold(), holds=True) as one:
        one.until(is_answer)
        assert rig.run(shell.command("complain", "at work"), run="one").lines == ["at work"]
        one.send(b".")
        assert one.rest().ends == {0: 0}
