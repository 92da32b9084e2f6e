"""What happens in a run, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

VERSION = 1
"""Of the events that `--json` prints (docs/events.md): raised when one loses a field, or a field its meaning."""


@dataclass(frozen=True)
class Event:
    """Something that happened.

    `kind` is one of: note (the run says something), phase (a phase has begun everywhere), step (a step has begun on a
    host, `text` is why), done (it ended well after `seconds`; `text` is what it found), line (a program printed
    `text`), failed (a host failed, `text` says how), ended (the run is over, `text` says how), finding (of `inv check`:
    `text` is a reason, `weight` says how grave it is, `rule` is its name, `where` a file with its key or line, or a
    host, `mend` what to do).
    """

    kind: str
    host: str = ""
    phase: str = ""
    title: str = ""
    text: str = ""
    seconds: float = 0
    weight: str = ""
    rule: str = ""
    where: str = ""
    mend: str = ""

    def data(self) -> dict[str, Any]:
        """Return what is set, for JSON."""
        return {key: round(v, 3) if isinstance(v, float) else v for key, v in vars(self).items() if v}
