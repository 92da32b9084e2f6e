"""Everything that can go wrong, by what it means for the operator.

GreenroomError
├── Refused            exit 2   nothing was touched
│   ├── ConfigError             invoke.yaml, a dotenv file or a flag is wrong
│   ├── SourceError             the source cannot be read
│   ├── Unreachable             a host cannot be talked to
│   ├── Locked                  somebody else is deploying
│   └── Unfit                   a host cannot take the deploy as it is
├── Failed             exit 1   something broke; users are where they were
│   ├── StepFailed              a step on a host said no
│   ├── LinkLost                the link went away: the outcome is not known
│   ├── Overdue                 a script did not end in its time
│   ├── Interrupted             the operator asked to stop
│   ├── Unsafe                  a deploy would go through, and lose requests or data
│   └── HostFailures            what went wrong on which hosts; its exit code is that of the gravest part
└── NeedsHuman         exit 3   the message says where, what users see, what repairs it
"""

from __future__ import annotations


class GreenroomError(Exception):
    """A failure with a name. `exit_code` is what the shell gets; `mend` says what to type next."""

    exit_code = 1

    def __init__(self, what: str, *, mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.what}\n{self.mend}" if self.mend else self.what


class Refused(GreenroomError):
    """Nothing was touched."""

    exit_code = 2


class ConfigError(Refused):
    """invoke.yaml, a dotenv file or a flag is wrong; the message carries the key's path."""


class SourceError(Refused):
    """The source cannot be read, or does not hold what a deploy needs."""


class Unreachable(Refused):
    """A host cannot be talked to: name, address, key or login."""


class Locked(Refused):
    """Somebody else is deploying; the message says who, from where and since when."""


class Unfit(Refused):
    """A host cannot take this deploy as it is."""


class Failed(GreenroomError):
    """Something broke on the way; users are where they were."""


class StepFailed(Failed):
    """A step on a host said no. `tail` holds the last lines it printed."""

    def __init__(self, what: str, *, tail: tuple[str, ...] = (), mend: str = "") -> None:
        super().__init__(what, mend=mend)
        self.tail = tail


class LinkLost(Failed):
    """The link went away before the end was heard: the outcome is not known, unless the script was never `sent`."""

    def __init__(self, what: str, *, sent: bool = True) -> None:
        super().__init__(what)
        self.sent = sent


class Overdue(Failed):
    """A script on a host did not come to its end in its time, over a link that works."""


class Interrupted(Failed):
    """The operator asked to stop (Ctrl-C, SIGTERM or SIGHUP)."""


class Unsafe(Failed):
    """A deploy would go through, and lose requests or data by it. Only `inv check` says so."""


class NeedsHuman(GreenroomError):
    """Users are served, or not, in a way that a plain deploy should not decide."""

    exit_code = 3


class HostFailures(Failed):
    """What went wrong where: the failures of all hosts of one fan-out, none of them hidden.

    `exit_code` is the largest of its parts': one host that needs a human outweighs three that refused. `unreachable`
    says that none of these hosts could be talked to.
    """

    def __init__(self, failures: dict[str, GreenroomError]) -> None:
        super().__init__("\n".join(f"{host}: {error}" for host, error in failures.items()))
        self.failures = failures
        self.unreachable = all(isinstance(error, Unreachable) for error in failures.values())
        self.exit_code = max(
            (error.exit_code for error in failures.values()),
            key=lambda code: (code == NeedsHuman.exit_code, code == Failed.exit_code),
        )
