"""What can go wrong.

ProvisionError          anything that stops a testbed from being made, used or removed
├── CommandError        a program failed, or took too long
└── EngineMissingError  there is no docker engine, and it cannot be started from here
"""

from __future__ import annotations


class ProvisionError(Exception):
    """The testbed cannot do what was asked; says what happened, and what to do about it."""

    def __init__(self, what: str, todo: str) -> None:
        """Take what happened and, as an imperative, what the reader should do next."""
        super().__init__(f"{what}\nTo do: {todo}")
        self.what = what
        self.todo = todo


class CommandError(ProvisionError):
    """A program failed, or took too long; `status` is None in the second case."""

    def __init__(self, command: str, status: int | None, outcome: str, output: str) -> None:
        """Take the command as text, its exit status, what became of it in words, and all that it printed."""
        printed = output.strip()
        super().__init__(
            f"`{command}` {outcome}" + (f":\n{printed}" if printed else ", and printed nothing"),
            "read what it printed above; if it looks like stale state, `python -m testbed down` and `up` start afresh",
        )
        self.status = status
        self.output = output


class EngineMissingError(ProvisionError):
    """There is no docker engine to talk to, and it cannot be started from here."""
