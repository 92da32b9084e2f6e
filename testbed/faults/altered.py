"""`inv` with one thing in it changed: python -m testbed.faults.altered CHANGE WORD...

Either so that a case ends sooner than its user would want it to, or with a bug that somebody might make: what breaks
things on purpose must find those.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from invoke.main import program

from deploy import lock
from deploy.recipe import plan
from deploy.recipe.steps import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.recipe.steps import Plan, Step

    Steps = tuple[Step, ...]

HURRIED = "hurried"
ABSENCE = 10
"""Seconds that it waits for a host that is away, instead of 90: there is nothing to wait for."""


def hurry() -> None:
    lock.ABSENCE = ABSENCE


def switch_before_the_gate() -> None:
    """Users are sent to an app that has only begun to start."""

    def changed(made: Plan) -> dict[Phase, Steps]:
        flip = made.of(Phase.FLIP)
        begin, *gate = made.of(Phase.START)
        return {Phase.START: (begin, *_only("switch", flip), *gate), Phase.FLIP: _without("switch", flip)}

    _replan(changed)


def cut_at_the_flip() -> None:
    """The old colour is killed as soon as nobody new is sent to it, with what its users have under way."""

    def changed(made: Plan) -> dict[Phase, Steps]:
        flip, finish = made.of(Phase.FLIP), made.of(Phase.FINISH)
        (switch,) = _only("switch", flip)
        after = flip.index(switch) + 1
        kill = tuple(map(_killing, _only("stop", finish)))
        return {Phase.FLIP: (*flip[:after], *kill, *flip[after:]), Phase.FINISH: _without("stop", finish)}

    _replan(changed)


def leave_the_old_colour() -> None:
    """Nobody notices, but for the host's memory."""
    _replan(lambda made: {Phase.FINISH: _without("stop", made.of(Phase.FINISH))})


CHANGES: dict[str, Callable[[], None]] = {
    HURRIED: hurry,
    "switch-before-the-gate": switch_before_the_gate,
    "cut-at-the-flip": cut_at_the_flip,
    "leave-the-old-colour": leave_the_old_colour,
}
PLANTS = tuple(name for name in CHANGES if name != HURRIED)


def _replan(change: Callable[[Plan], dict[Phase, Steps]]) -> None:
    real = plan.plan_deploy

    def changed(*args: Any) -> Plan:
        made = real(*args)
        return replace(made, steps={**made.steps, **change(made)})

    plan.plan_deploy = changed  # type: ignore[assignment]  # it takes what the real one takes


def _only(word: str, steps: Steps) -> Steps:
    return tuple(step for step in steps if step.command.words[0] == word)


def _without(word: str, steps: Steps) -> Steps:
    return tuple(step for step in steps if step.command.words[0] != word)


def _killing(step: Step) -> Step:
    """Make of "stop blue" what takes a colour away that no user can reach."""
    _, *rest = step.command.words
    return replace(step, command=replace(step.command, words=("clear_colour", *rest)))


if __name__ == "__main__":
    CHANGES[sys.argv.pop(1)]()
    program.run()
