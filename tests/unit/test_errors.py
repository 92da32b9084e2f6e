"""The tree of errors: drawn as it is, and with the exit codes that the drawing promises."""

from __future__ import annotations

import re

import pytest

from deploy import errors
from deploy.errors import (
    ConfigError,
    Failed,
    GreenroomError,
    HostFailures,
    Interrupted,
    LinkLost,
    Locked,
    NeedsHuman,
    Refused,
    StepFailed,
    Unreachable,
)


def drawn() -> dict[str, tuple[str, int]]:
    """Read the drawing: name -> (its parent, its exit code, which a child has from its parent unless it says one)."""
    found: dict[str, tuple[str, int]] = {}
    above = {-1: ("Exception", 1)}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"((?:│   |    )*(?:[├└]── )?)([A-Z]\w+)(?: +exit (\d))?", line)
        if match and (match[1] or match[2] == "GreenroomError"):
            depth = len(match[1]) // 4
            parent, code = above[depth - 1]
            code = int(match[3]) if match[3] else code
            above[depth] = (match[2], code)
            found[match[2]] = (parent, code)
    return found


def classes() -> dict[str, type[GreenroomError]]:
    return {
        name: each for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, GreenroomError)
    }


def test_the_drawing_shows_every_error_under_its_parent() -> None:
    assert {name: parent for name, (parent, _) in drawn().items()} == {
        name: each.__base__.__name__ for name, each in classes().items() if each.__base__
    }


def test_every_error_has_the_exit_code_that_the_drawing_says() -> None:
    assert {name: code for name, (_, code) in drawn().items()} == {n: each.exit_code for n, each in classes().items()}


def test_a_message_says_what_happened_and_then_what_to_type() -> None:
    assert str(Refused("no", mend="do that")) == "no\ndo that"
    assert str(Refused("no")) == "no"


def test_a_failed_step_keeps_what_it_printed_last() -> None:
    assert StepFailed("gate", tail=("a", "b")).tail == ("a", "b")
    assert str(StepFailed("gate", tail=("a", "b"))) == "gate"


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([Unreachable("x")], 2),
        ([Unreachable("x"), Locked("x"), ConfigError("x")], 2),
        ([Unreachable("x"), StepFailed("x")], 1),
        ([StepFailed("x"), Unreachable("x")], 1),
        ([LinkLost("x"), Interrupted("x")], 1),
        ([Unreachable("x"), NeedsHuman("x"), Failed("x")], 3),
    ],
)
def test_failures_of_several_hosts_have_the_gravest_exit_code(parts: list[GreenroomError], code: int) -> None:
    """A refusal of one host is not "nothing was touched" when another one failed."""
    assert HostFailures({f"web{n}": error for n, error in enumerate(parts)}).exit_code == code


def test_failures_of_several_hosts_name_each_host() -> None:
    failures = HostFailures({"web1": Unreachable("gone", mend="look"), "web2": Failed("broke")})
    assert str(failures) == "web1: gone\nlook\nweb2: broke"


def test_the_exit_code_of_one_failure_does_not_stick_to_the_next() -> None:
    HostFailures({"web1": NeedsHuman("x")})
    assert HostFailures({"web1": Failed("x")}).exit_code == 1
    assert HostFailures.exit_code == 1
