"""Hooks in a run: when they run, here and on hosts, and what becomes of the run when one fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from deploy.errors import Failed, NeedsHuman, Refused
from deploy.run import Batching

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Operator

PHASES = ("prepare", "ship", "migrate", "start", "flip", "settle", "finish")


def hooked(operator: Operator, *fails: str, **keys: Any) -> None:
    """Give every moment a hook that writes its name down; those named in `fails` say no."""
    script = operator.folder / "hook"
    script.write_text(f'#!/bin/sh\necho "$GREENROOM_HOOK" >>"{operator.folder}/ran"\n[ "$1" != no ]\n')
    script.chmod(0o755)
    moments = [f"{when}-{phase}" for phase in PHASES for when in ("before", "after")] + ["failure"]
    operator.data["hooks"] = {moment: [f"./hook {'no' if moment in fails else 'yes'}"] for moment in moments}
    operator.data.update(keys)


def ran(operator: Operator) -> list[str]:
    path = operator.folder / "ran"
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def test_every_phase_has_its_hooks_before_and_after_it(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(2)
    hooked(operator)
    operator.deploy()
    assert ran(operator) == [f"{when}-{phase}" for phase in PHASES for when in ("before", "after")]
    operator.assert_whole()


def test_a_rollback_has_them_for_the_phases_that_it_has(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(1)
    operator.deploy()
    operator.write("2")
    operator.deploy()
    hooked(operator)
    operator.rollback()
    own = [phase for phase in PHASES if phase not in {"prepare", "ship", "migrate"}]
    assert ran(operator) == [f"{when}-{phase}" for phase in own for when in ("before", "after")]


@pytest.mark.parametrize("phase", PHASES)
def test_a_hook_that_says_no_before_a_phase_has_the_run_undone(
    operator_of: Callable[..., Operator], phase: str
) -> None:
    operator = operator_of(2)
    operator.deploy()
    before = operator.live()
    operator.write("2")
    hooked(operator, f"before-{phase}")
    with pytest.raises(Failed, match=f"hook before-{phase}.*\n(.*\n)*Undone on every host"):
        operator.deploy()
    assert operator.live() == before
    assert ran(operator)[-2:] == [f"before-{phase}", "failure"]
    operator.assert_whole()


@pytest.mark.parametrize("moment", [*(f"after-{phase}" for phase in PHASES), "failure"])
def test_a_hook_that_fails_after_a_phase_changes_nothing(operator_of: Callable[..., Operator], moment: str) -> None:
    operator = operator_of(2)
    hooked(operator, moment)
    operator.deploy()
    operator.assert_whole()
    assert ("a run does not hang on this" in operator.text) == (moment != "failure")


def test_a_failure_is_told_once_it_is_undone_and_may_fail_itself(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(2)
    operator.deploy()
    operator.write("2")
    hooked(operator, "failure")
    list(operator.world.boxes.values())[1].refuse = {"start": 1}
    with pytest.raises(Failed, match="Undone on every host"):
        operator.deploy()
    assert ran(operator)[-3:] == ["after-migrate", "before-start", "failure"]
    operator.assert_whole()


def test_what_needs_a_human_is_told_too(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(1)
    operator.deploy()
    operator.write("2")
    hooked(operator)
    next(iter(operator.world.boxes.values())).refuse = {"drain": 9}
    with pytest.raises(NeedsHuman):
        operator.deploy()
    assert ran(operator)[-2:] == ["before-finish", "failure"]


def test_nothing_to_do_and_what_is_refused_run_no_hook(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(1)
    hooked(operator)
    operator.deploy()
    assert ran(operator)
    operator.deploy()
    assert "nothing to do" in operator.text
    assert ran(operator) == []


# --- Ctrl-C ----------------------------------------------------------------------------------------------------


def stopped_in(operator: Operator, moment: str, host: str = "") -> None:
    """Have the operator press Ctrl-C while a hook of this moment runs, for this host if one is named."""
    script = operator.folder / "endless"
    script.write_text(
        f'#!/bin/sh\ncase " $GREENROOM_HOSTS " in *{host}*) kill -INT "$PPID"; exec sleep 60;; esac\n',
    )
    script.chmod(0o755)
    operator.data["hooks"] = {moment: ["./endless"]}


@pytest.mark.parametrize(("batching", "host"), [(Batching(), ""), (Batching(1), "web2")])
def test_ctrl_c_once_all_hosts_are_done_breaks_off_who_is_told_and_not_the_run(
    operator_of: Callable[..., Operator], batching: Batching, host: str
) -> None:
    operator = operator_of(2)
    stopped_in(operator, "after-finish", host)
    operator.deploy(batching=batching)
    assert "hook after-finish: broken off" in operator.text
    assert f"{operator.live()[0]} is live on web1, web2" in operator.text
    operator.assert_whole()


def test_ctrl_c_once_a_batch_is_done_leaves_it_done_and_the_next_ones_alone(
    operator_of: Callable[..., Operator],
) -> None:
    operator = operator_of(3)
    operator.deploy()
    (old,) = set(operator.live())
    operator.write("2")
    stopped_in(operator, "after-finish")
    with pytest.raises(NeedsHuman) as caught:
        operator.deploy(batching=Batching(1))
    new, *others = operator.live()
    assert others == [old, old] != [new, new]
    assert caught.value.what == f"stopped by the operator\n{new} is live on web1; not touched: web2, web3."
    del operator.data["hooks"]
    operator.deploy()
    operator.assert_whole()


def test_ctrl_c_after_an_earlier_phase_has_the_run_undone(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(2)
    operator.deploy()
    before = operator.live()
    operator.write("2")
    stopped_in(operator, "after-settle")
    with pytest.raises(Failed, match="stopped by the operator\nUndone on every host"):
        operator.deploy()
    assert operator.live() == before


@pytest.mark.parametrize(("word", "kind", "why"), [("start", Failed, "Undone"), ("drain", NeedsHuman, "not cleared")])
def test_ctrl_c_while_a_failure_is_told_hides_neither_its_reason_nor_what_it_means(
    operator_of: Callable[..., Operator], word: str, kind: type[Exception], why: str
) -> None:
    operator = operator_of(1)
    operator.deploy()
    operator.write("2")
    stopped_in(operator, "failure")
    next(iter(operator.world.boxes.values())).refuse = {word: 1}
    with pytest.raises(kind, match=why):
        operator.deploy()
    assert "hook failure: broken off" in operator.text


# --- on hosts --------------------------------------------------------------------------------------------------


def test_hooks_on_hosts_run_on_each_of_them_around_their_phases(operator_of: Callable[..., Operator]) -> None:
    operator = operator_of(2)
    operator.data["host_hooks"] = {
        "after-prepare": ["bin/warm"],
        "before-flip": ["bin/out"],
        "after-finish": ["bin/in"],
    }
    operator.deploy()
    for box in operator.world.boxes.values():
        assert [moment for moment, _ in box.hooks] == ["after-prepare", "before-flip", "after-finish"]
        words = operator.world.words(box.name)
        assert words.index("hook", words.index("gate")) < words.index("switch")
    operator.assert_whole()


@pytest.mark.parametrize("moment", ["before-migrate", "before-start", "before-flip", "before-settle", "before-finish"])
def test_one_host_whose_hook_says_no_has_all_of_them_undone(operator_of: Callable[..., Operator], moment: str) -> None:
    operator = operator_of(2)
    operator.deploy()
    before = operator.live()
    operator.write("2")
    operator.data["host_hooks"] = {moment: ["bin/out no"], "failure": ["bin/in"]}
    with pytest.raises(Failed, match="Undone on every host"):
        operator.deploy()
    assert operator.live() == before
    assert all(box.hooks[-1] == ("failure", ("bin/in",)) for box in operator.world.boxes.values())
    operator.assert_whole()


def test_one_that_fails_after_a_phase_on_a_host_is_told_and_changes_nothing(
    operator_of: Callable[..., Operator],
) -> None:
    operator = operator_of(2)
    operator.data["host_hooks"] = {"after-flip": ["bin/in no"]}
    operator.deploy()
    operator.assert_whole()
    assert operator.text.count("it failed (exit status 1); the run does not hang on it") == 2


def test_a_hook_whose_program_is_missing_is_found_before_anything_is_touched(
    operator_of: Callable[..., Operator],
) -> None:
    operator = operator_of(1)
    locked = operator.folder / "locked"
    locked.write_text("#!/bin/sh\n")
    operator.data["hooks"] = {"after-settle": ["true", "./gone now"], "failure": ["./locked", "no-such-program"]}
    with pytest.raises(Refused) as caught:
        operator.deploy()
    assert str(caught.value).splitlines() == [
        f"hook after-settle: {operator.folder}/gone is not there, or may not be run",
        f"hook failure: {operator.folder}/locked is not there, or may not be run",
        "hook failure: no-such-program is not there, or may not be run",
        "mend deploy.hooks, or chmod +x the program",
    ]
    assert operator.world.writes() == []
