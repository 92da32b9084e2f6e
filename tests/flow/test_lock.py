"""One run at a time on an env, whichever hosts it is limited to; a lost link is mended, lock and all; batches."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

import pytest
from world import WorldHold, WorldMachine

from deploy import clock, lock
from deploy.errors import Failed, GreenroomError, Interrupted, Locked, NeedsHuman, StepFailed
from deploy.recipe import plan
from deploy.recipe.steps import Phase
from deploy.run import Batching, Run, no_parcels


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let waits pass at once; the list tells how long they were, in seconds."""
    waits: list[float] = []
    monkeypatch.setattr(clock, "monotonic", lambda: sum(waits))

    def pause(seconds: float, wake: Any) -> bool:
        if wake.is_set() or seconds == 5:  # the heartbeat is not what is waited for here
            return bool(wake.wait(0.01))
        waits.append(seconds)
        return False

    monkeypatch.setattr(clock, "pause", pause)
    return waits


def outcomes(operator: Any, host: int = 0) -> list[tuple[str, str]]:
    """What a host's history says: verb, outcome."""
    lines = [json.loads(line) for line in list(operator.world.boxes.values())[host].history]
    return [(line["what"], line["outcome"]) for line in lines]


# --- one at a time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "theirs"), [("web2", "web3"), ("web2", "web2"), ("", "web3"), ("web3", "")])
def test_runs_exclude_each_other_whichever_hosts_they_are_limited_to(operator_of: Any, ours: str, theirs: str) -> None:
    operator = operator_of(3)
    operator.deploy()
    operator.write("2")
    before = len(operator.world.writes())
    with operator.at_work(hosts=ours), pytest.raises(Locked, match=r"at work here since .*: deploy r9; last heard of"):
        operator.deploy(hosts=theirs)
    assert len(operator.world.writes()) == before
    assert not any(box.run for box in operator.world.boxes.values())
    operator.deploy()
    operator.assert_whole()


def test_the_env_s_first_host_is_not_touched_by_a_run_on_others(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.write("2")
    before = len(operator.world.words("web1"))
    operator.deploy(hosts="web2")
    assert operator.world.words("web1")[before:] == []
    first, second = operator.live()
    assert first < second


def test_a_run_on_one_host_needs_no_other_than_that_and_the_first(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    scripts = dict(operator.world.scripts)
    operator.write("2")
    operator.deploy(hosts="web3")
    assert operator.world.scripts["web2"] == scripts["web2"]
    assert operator.world.scripts["web1"] == scripts["web1"] + 1


def test_the_first_host_s_lock_is_taken_back_when_its_link_was_lost_beside_the_run(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.01)
    operator = operator_of(3)
    first = next(iter(operator.world.boxes.values()))
    first.away = 3
    beaten = threading.Event()
    with operator.at_work(hosts="web3") as run:
        first.let_go()
        until = clock.monotonic() + 10
        while first.run != run.id and clock.monotonic() < until:
            beaten.wait(0.01)
        assert (first.run, first.away) == (run.id, 0)


def test_the_other_hosts_leases_live_while_the_first_host_is_called_again(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sshd may let somebody in and answer nothing, for longer than a lease."""
    monkeypatch.setattr(lock, "BEAT", 0.01)
    operator = operator_of(3)
    called, beaten, over = threading.Event(), threading.Event(), threading.Event()

    def reconnect() -> None:
        called.set()
        over.wait(10)

    with operator.at_work(hosts="web3") as run:
        monkeypatch.setattr(run.lock.beside, "reconnect", reconnect)
        next(iter(operator.world.boxes.values())).let_go()
        assert called.wait(5)
        (hold,) = (hold for host, hold in run.lock._holds.items() if str(host) == "web3")
        monkeypatch.setattr(hold, "beat", beaten.set)
        assert beaten.wait(5)
        over.set()


def test_a_run_whose_first_host_s_lock_went_to_another_begins_nothing_more(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.01)
    operator = operator_of(3)
    operator.deploy()
    first = next(iter(operator.world.boxes.values()))
    beaten = threading.Event()
    with operator.at_work(hosts="web3") as run:
        first.let_go()
        first.last = "another"
        until = clock.monotonic() + 10
        while not run.lock.lost and clock.monotonic() < until:
            beaten.wait(0.01)
        planned = dict.fromkeys(operator.setup("web3").hosts, plan.plan_lock(run.app, "ann", "{}", "why"))
        with pytest.raises(Locked, match="another run has been at work"):
            run.phase(Phase.FINISH, planned, no_parcels)
    assert not any(box.locked for box in operator.world.boxes.values())


def test_a_host_where_nothing_can_be_written_is_refused_before_anything_is_touched(operator_of: Any) -> None:
    operator = operator_of(3)
    operator.deploy()
    operator.write("2")
    before = len(operator.world.writes())
    for number in (0, 2):
        full = list(operator.world.boxes.values())[number]
        full.full = True
        with pytest.raises(GreenroomError, match=r"web\d: its lock cannot be taken: nothing can") as caught:
            operator.deploy()
        assert caught.value.exit_code == 2
        full.full = False
    assert len(operator.world.writes()) == before
    assert not any(box.run for box in operator.world.boxes.values())
    operator.deploy()
    operator.assert_whole()


def test_a_fence_that_lets_nobody_past_is_a_refusal(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.write("2")
    before = len(operator.world.writes())
    list(operator.world.boxes.values())[1].engine_starts = True
    with pytest.raises(GreenroomError, match=r"web2: it cannot be taken over: .*docker does not answer") as caught:
        operator.deploy()
    assert caught.value.exit_code == 2
    assert len(operator.world.writes()) == before


def test_whoever_waits_is_told_for_whom_and_goes_on_when_that_run_is_over(operator_of: Any, time: list[float]) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.write("2")
    with operator.at_work():
        box = next(iter(operator.world.boxes.values()))
        real = clock.pause

        def pause(seconds: float, wake: Any) -> bool:
            if len(time) == 4:
                for each in operator.world.boxes.values():
                    each.let_go()
            return real(seconds, wake)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clock, "pause", pause)
            operator.deploy(wait=60)
    assert operator.text.count("waiting: ") == 1
    assert "deploy r9" in operator.text
    assert box.run == ""
    operator.assert_whole()


def test_patience_ends(operator_of: Any, time: list[float]) -> None:
    operator = operator_of(1)
    with operator.at_work(), pytest.raises(Locked):
        operator.deploy(wait=60)
    assert 60 <= sum(time) <= 64


# --- the end -----------------------------------------------------------------------------------------------------


def test_ctrl_c_while_the_locks_go_changes_nothing_of_how_a_run_ended(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operator_of(2)
    real = WorldHold.let_go

    def pressed(hold: WorldHold) -> None:
        real(hold)
        raise KeyboardInterrupt

    monkeypatch.setattr(WorldHold, "let_go", pressed)
    operator.deploy()
    operator.world.revive()  # connections that close let go of the rest
    operator.assert_whole()
    operator.write("2")
    list(operator.world.boxes.values())[1].refuse["gate"] = 1
    with pytest.raises(Failed, match="Undone on every host"):
        operator.deploy()


def test_locks_go_side_by_side_and_the_first_host_s_last(operator_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits looks at the first host's: once that is free, so are all."""
    operator = operator_of(4)
    told: list[tuple[str, bool]] = []

    def let_go(hold: WorldHold) -> None:
        told.append((hold._box.name, True))
        hold._box.let_go()

    monkeypatch.setattr(WorldHold, "let_go", let_go)
    monkeypatch.setattr(WorldHold, "gone", lambda hold, _: told.append((hold._box.name, False)))
    operator.deploy()
    first, *others = (box.name for box in operator.world.boxes.values())
    assert sorted(told[:3]) == [(name, True) for name in sorted(others)]
    assert sorted(told[3:6]) == [(name, False) for name in sorted(others)]
    assert told[6:] == [(first, True), (first, False)]


def test_ctrl_c_in_the_middle_of_a_lock_says_that_some_hosts_may_have_it(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def phase(*_: Any) -> None:
        raise Interrupted("stopped by the operator")

    monkeypatch.setattr(Run, "phase", phase)
    with pytest.raises(Failed, match="Other hosts may have it"):
        operator_of(2).lock("moving")


# --- a person's lock -------------------------------------------------------------------------------------------


def test_a_lock_that_a_person_puts_on_keeps_runs_off_until_it_is_taken_away(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.lock("moving the database")
    operator.write("2")
    for verb in (operator.deploy, operator.rollback, lambda: operator.lock("me, too")):
        with pytest.raises(Locked, match=r"locked by .* since .*: moving the database") as caught:
            verb()
        assert "inv unlock" in caught.value.mend
    operator.status()
    assert operator.text.count("moving the database") == 2 + 2  # the step's reason, and status, on each host
    operator.unlock("moved")
    operator.deploy()
    operator.assert_whole()
    told = [("deploy", "done"), ("lock", "moving the database"), ("unlock", "moved"), ("deploy", "done")]
    assert outcomes(operator) == outcomes(operator, 1) == told


@pytest.mark.parametrize("away", [0, 1])
def test_a_lock_is_put_on_and_taken_away_where_hosts_can_be_reached(operator_of: Any, away: int) -> None:
    operator = operator_of(2)
    operator.deploy()
    boxes = list(operator.world.boxes.values())
    gone, there = boxes[away], boxes[1 - away]
    gone.unreachable = True
    with pytest.raises(GreenroomError, match=rf"{gone.name}: .*no route to host"):
        operator.lock("moving")
    assert not there.locked
    operator.lock("moving", skip=True)
    assert (bool(gone.locked), bool(there.locked)) == (False, True)
    assert f"locked: {there.name}; left out, and as they were: {gone.name}" in operator.text
    gone.unreachable = False
    operator.write("2")
    with pytest.raises(GreenroomError, match="moving"):
        operator.deploy()
    operator.unlock("moved")
    operator.lock("moving again")
    gone.unreachable = True
    operator.unlock("moved", skip=True)
    assert (bool(gone.locked), bool(there.locked)) == (True, False)
    assert f"unlocked: {there.name}; left out, and as they were: {gone.name}" in operator.text
    gone.unreachable = False
    operator.unlock("moved")
    operator.deploy()
    operator.assert_whole()


def test_unlock_takes_no_lock_from_a_run_that_is_at_work(operator_of: Any) -> None:
    operator = operator_of(1)
    with operator.at_work(), pytest.raises(Locked, match="deploy r9"):
        operator.unlock("I am in a hurry")


# --- a link that goes away -------------------------------------------------------------------------------------


def cut_everywhere(operator_of: Any, hosts: int, verb: str, prepare: int) -> int:
    """Cut the link after write 1, 2, 3, ... of `verb`; return how many cuts there were."""
    before = operator_of(hosts)
    for version in range(prepare):
        before.write(str(version))
        before.deploy()
    for cuts in itertools.count(1):
        operator = before.twin()
        operator.write("next")
        number = len(operator.world.writes()) + cuts
        operator.world.cuts = {number}
        try:
            getattr(operator, verb)()
        except Failed:
            assert operator.world.writes()[number - 1] == "migrate"
            operator.deploy()
        else:
            assert [told for told in outcomes(operator) if told == (verb, "done")] == [(verb, "done")] * (
                prepare + 1 if verb == "deploy" else 1
            )
        operator.assert_whole()
        if len(operator.world.writes()) < number:
            return cuts
    raise AssertionError("unreachable")


@pytest.mark.parametrize("hosts", [1, pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize("prepare", [0, 1])
def test_a_deploy_goes_on_after_its_link_was_lost_anywhere(operator_of: Any, hosts: int, prepare: int) -> None:
    assert cut_everywhere(operator_of, hosts, "deploy", prepare) > 10


@pytest.mark.parametrize("hosts", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_rollback_goes_on_after_its_link_was_lost_anywhere(operator_of: Any, hosts: int) -> None:
    assert cut_everywhere(operator_of, hosts, "rollback", 2) > 6


def test_a_migration_is_not_run_again_by_itself(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.world.cuts = {operator_writes_until(operator_of, "migrate")}
    with pytest.raises(Failed, match="Undone"):
        operator.deploy()
    assert operator.world.words().count("migrate") == 1
    operator.deploy()
    operator.assert_whole()


def test_a_migration_that_was_never_begun_is_begun_when_the_link_is_back(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.world.cuts = {operator_writes_until(operator_of, "migrate") - 1}
    operator.deploy()
    assert operator.world.words().count("migrate") == 1
    operator.assert_whole()


def operator_writes_until(operator_of: Any, word: str) -> int:
    """Return which write of a first deploy on two hosts a word is."""
    operator = operator_of(2)
    operator.deploy()
    return int(operator.world.writes().index(word)) + 1


def test_a_host_that_is_away_for_a_while_is_waited_for(operator_of: Any, time: list[float]) -> None:
    operator = operator_of(3)
    operator.deploy()
    operator.write("2")
    operator.world.cuts = {len(operator.world.writes()) + 4}
    for box in operator.world.boxes.values():
        box.away = 5
    operator.deploy()
    assert sum(time) == 10
    assert "asking again" in operator.text
    operator.assert_whole()


def test_disks_may_come_back_after_their_host(
    operator_of: Any, time: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.write("2")
    operator.world.cuts = {len(operator.world.writes()) + 4}
    real = WorldMachine.hold
    refused: list[WorldMachine] = []

    def hold(machine: WorldMachine, script: Any) -> WorldHold:
        if script.commands[0].words[-1] == "again" and len(refused) < 3:
            refused.append(machine)
            raise StepFailed("mkdir: cannot create directory 'greenroom': Read-only file system")
        return real(machine, script)

    monkeypatch.setattr(WorldMachine, "hold", hold)
    operator.deploy()
    assert len(refused) == 3
    assert sum(time) == 6
    operator.assert_whole()


def test_docker_may_come_back_after_its_host(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.write("2")
    operator.world.cuts = {len(operator.world.writes()) + 4}
    for box in operator.world.boxes.values():
        box.reboots = True
    operator.deploy()
    assert "asking again" in operator.text
    operator.assert_whole()


def test_a_host_that_stays_away_is_named_and_the_others_are_undone(operator_of: Any, time: list[float]) -> None:
    operator = operator_of(3)
    operator.deploy()
    live = operator.live()
    operator.write("2")
    operator.world.cuts = {len(operator.world.writes()) + 4}
    boxes = list(operator.world.boxes.values())
    away = next(iter(boxes))
    for box in boxes:
        box.away = 10_000
    with pytest.raises(NeedsHuman, match="the host did not come back: it cannot be reached"):
        operator.deploy()
    assert sum(time) == 90
    for box in boxes:
        box.away = 0
    assert operator.live() == live
    assert away.run == ""
    operator.deploy()
    operator.assert_whole()


def test_who_asks_to_stop_is_not_kept_by_a_host_that_is_away(
    operator_of: Any, time: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operator_of(3)
    operator.deploy()
    live = operator.live()
    operator.write("2")
    operator.world.cuts = {len(operator.world.writes()) + 4}
    for box in operator.world.boxes.values():
        box.away = 10_000
    monkeypatch.setattr(
        lock.Lock, "mend", lambda self, machine, _stop, mend=lock.Lock.mend: mend(self, machine, lambda: True)
    )
    with pytest.raises(NeedsHuman, match="the host did not come back"):
        operator.deploy()
    assert sum(time) == 0
    for box in operator.world.boxes.values():
        box.away = 0
    assert operator.live() == live


@pytest.mark.parametrize(("tries", "error"), [(46, Failed), (47, NeedsHuman)])
def test_a_host_that_was_waited_for_in_vain_is_tried_once_more_in_the_undo(
    operator_of: Any, time: list[float], tries: int, error: type[Exception]
) -> None:
    operator = operator_of(3)
    operator.deploy()
    live = operator.live()
    operator.write("2")
    operator.world.cuts = {len(operator.world.writes()) + 4}
    for box in operator.world.boxes.values():
        box.away = tries
    with pytest.raises(error):
        operator.deploy()
    assert sum(time) == 90
    assert operator.live() == live
    for box in operator.world.boxes.values():
        box.away = 0
    operator.deploy()
    operator.assert_whole()


def test_a_host_whose_link_goes_in_the_undo_is_waited_for(operator_of: Any, time: list[float]) -> None:
    operator = operator_of(1)
    operator.deploy()
    live = operator.live()
    operator.write("2")
    (box,) = operator.world.boxes.values()
    box.refuse["gate"] = 1
    before = operator.world.writes()
    with pytest.raises(Failed):
        operator.deploy()
    undo = operator.world.writes()[len(before) :].index("switch")
    operator.write("3")
    box.refuse["gate"] = 1
    operator.world.cuts = {len(operator.world.writes()) + undo + 1}
    box.away = 20
    with pytest.raises(Failed, match="Undone"):
        operator.deploy()
    assert sum(time) == 40
    assert operator.live() == live


def test_a_run_whose_lock_somebody_else_had_meanwhile_touches_that_host_no_more(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operator_of(1)
    operator.deploy()
    operator.write("2")
    number = len(operator.world.writes()) + 4
    operator.world.cuts = {number}
    (box,) = operator.world.boxes.values()
    real = type(box).let_go

    def let_go(self: Any) -> None:
        real(self)
        self.last = "somebody else"

    with monkeypatch.context() as patch:
        patch.setattr(type(box), "let_go", let_go)
        with pytest.raises(NeedsHuman, match="another run has been at work here"):
            operator.deploy()
    assert len(operator.world.writes()) == number
    operator.deploy()
    operator.assert_whole()


# --- batches ---------------------------------------------------------------------------------------------------


def test_batches_go_one_after_the_other_with_a_pause(operator_of: Any, time: list[float]) -> None:
    operator = operator_of(3)
    operator.deploy()
    operator.write("2")
    before = len(operator.world.log)
    operator.deploy(batching=Batching(1, 7))
    story = [
        (host, c.words[0]) for host, c in operator.world.log[before:] if c.words[0] in {"migrate", "start", "stop"}
    ]
    assert story == [
        ("web1", "migrate"),
        *((f"web{n}", word) for n in (1, 2, 3) for word in ("start", "stop")),
    ]
    assert time == [7, 7]
    operator.assert_whole()


def test_the_first_batch_that_fails_is_the_last_and_says_what_is_where(operator_of: Any, time: list[float]) -> None:
    operator = operator_of(3)
    operator.deploy()
    (old,) = set(operator.live())
    operator.write("2")
    boxes = list(operator.world.boxes.values())
    boxes[1].refuse["gate"] = 1
    with pytest.raises(NeedsHuman) as caught:
        operator.deploy(batching=Batching(1))
    new, *others = operator.live()
    assert new != old
    assert others == [old, old]
    assert f"{new} is live on web1; web2 failed; not touched: web3." in str(caught.value)
    assert not time
    operator.deploy()
    operator.assert_whole()


def test_ctrl_c_between_two_batches_calls_nobody_failed_who_was_not_touched(
    operator_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.write("2")
    real = clock.pause

    def pause(seconds: float, wake: threading.Event) -> bool:
        if seconds == 7:
            raise KeyboardInterrupt
        return real(seconds, wake)

    monkeypatch.setattr(clock, "pause", pause)
    with pytest.raises(NeedsHuman) as caught:
        operator.deploy(batching=Batching(1, 7))
    new, _ = operator.live()
    assert caught.value.what == f"stopped by the operator\n{new} is live on web1; not touched: web2."


def test_a_first_batch_that_fails_is_a_deploy_that_failed(operator_of: Any) -> None:
    operator = operator_of(2)
    operator.deploy()
    live = operator.live()
    operator.write("2")
    next(iter(operator.world.boxes.values())).refuse["gate"] = 1
    with pytest.raises(Failed, match="Undone"):
        operator.deploy(batching=Batching(1))
    assert operator.live() == live


def test_a_rollback_has_batches_too(operator_of: Any) -> None:
    operator = operator_of(2)
    for version in "12":
        operator.write(version)
        operator.deploy()
    before = len(operator.world.log)
    operator.rollback(batching=Batching(1))
    story = [host for host, c in operator.world.log[before:] if c.words[0] in {"start", "stop"}]
    assert story == ["web1", "web1", "web2", "web2"]
    operator.assert_whole()


@pytest.mark.parametrize("way", ["on", "back"])
def test_a_rollback_that_ends_between_two_batches_says_how_to_go_on_and_how_back(operator_of: Any, way: str) -> None:
    operator = operator_of(2)
    operator.deploy()
    (first,) = set(operator.live())
    operator.write("2")
    operator.deploy()
    (second,) = set(operator.live())
    list(operator.world.boxes.values())[1].refuse["gate"] = 1
    with pytest.raises(NeedsHuman) as caught:
        operator.rollback(batching=Batching(1))
    assert operator.live() == [first, second]
    wanted = {"on": first, "back": second}[way]
    said = dict(each.split(": inv rollback --to=") for each in caught.value.mend.split("; "))
    assert said[f"to go {way}"] == f"{wanted} --env=prod"
    operator.rollback(wanted)
    assert set(operator.live()) == {wanted}
    operator.assert_whole()
