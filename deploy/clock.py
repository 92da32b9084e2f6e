"""The one door to time. Deadlines use `monotonic`: a clock that is set back must not stretch a wait."""

from __future__ import annotations

import datetime
import threading
import time


def monotonic() -> float:
    """Return seconds that only grow; good for differences, meaningless alone."""
    return time.monotonic()


def utc_now() -> datetime.datetime:
    """Return the operator's idea of now, in UTC: for names and for people, never for decisions."""
    return datetime.datetime.now(datetime.timezone.utc)


def ago(epoch: float) -> str:
    """Say how long before now `epoch` (seconds since 1970) was, as a person would: `3 min`, `2 d`."""
    seconds = max(0, int(time.time() - epoch))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def pause(seconds: float, wake: threading.Event) -> bool:
    """Wait for `seconds`, or until `wake` is set; say whether it was."""
    return wake.wait(seconds)
