"""The words that plans use on a host: a small library of POSIX sh, sent along with every script.

Nothing is installed on a host. The files are read as they lie here, so that shellcheck, dash and busybox can
test the very lines that will run.
"""

from __future__ import annotations

import functools
from importlib import resources

PARTS = ("core.sh", "lock.sh", "facts.sh", "files.sh", "docker.sh", "image.sh", "nginx.sh", "operate.sh")


@functools.cache
def library() -> str:
    """Return the whole library, without its comments and blank lines: they would only travel."""
    here = resources.files(__package__)
    lines = (line for part in PARTS for line in (here / part).read_text().splitlines())
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#")) + "\n"
