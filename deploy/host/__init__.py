"""The words that plans use on a host: a small library of POSIX sh, sent along with every script.

Nothing is installed on a host. The files are read as they lie here, so that shellcheck, dash and busybox can
test the very lines that will run.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PARTS = ("core.sh", "lock.sh", "facts.sh", "files.sh", "docker.sh", "image.sh", "nginx.sh", "operate.sh")
RARE = {"setup_": "setup.sh", "push_image": "registry.sh", "pull_image": "registry.sh", "here_": "here.sh"}
"""Parts that travel only with a script that uses one of their words, by how these begin."""


def library(words: Iterable[str] = ()) -> str:
    """Return the library that a script of these words needs, without its comments and blank lines."""
    rare = {part for word in words for beginning, part in RARE.items() if word.startswith(beginning)}
    return _text((*PARTS, *sorted(rare)))


@functools.cache
def _text(parts: tuple[str, ...]) -> str:
    here = resources.files(__package__)
    lines = (line for part in parts for line in (here / part).read_text().splitlines())
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#")) + "\n"
