"""The words that plans use on a host: a small library of POSIX sh, sent along with every script.

Nothing is installed on a host. The files are read as they lie here, so that shellcheck, dash and busybox can
test the very lines that will run.
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PARTS = ("core.sh", "lock.sh", "facts.sh", "files.sh", "docker.sh", "image.sh", "nginx.sh", "operate.sh", "setup.sh")

FRAME = frozenset({"mark", "step", "fence", "unfence"})
"""What every script may say beside its own words (recipe/shell.py)."""


def library(words: Iterable[str] | None = None) -> str:
    """Return what a script of these words needs of the library, or all of it, without comments and blank lines.

    A host takes its time to read what it gets, and the operator to send it, to all of them, at each phase.
    """
    pieces = _pieces()
    return "".join(pieces.values()) if words is None else _needed(FRAME.union(words).intersection(pieces))


@functools.cache
def _needed(words: frozenset[str]) -> str:
    """Whatever is named by what is needed is needed: a name in a text, too, rather than one too few."""
    pieces = _pieces()
    needed: set[str] = set()
    new = set(words)
    while new:
        needed |= new
        new = {name for each in new for name in re.findall(r"\w+", pieces[each])} & pieces.keys() - needed
    return "".join(text for name, text in pieces.items() if name in needed)


@functools.cache
def _pieces() -> dict[str, str]:
    """Return the library's functions and constants by name: each begins a line of its own, and ends before the next."""
    here = resources.files(__package__)
    lines = (line for part in PARTS for line in (here / part).read_text().splitlines())
    text = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#")) + "\n"
    return {
        re.split(r"\W", piece, maxsplit=1)[0]: piece
        for piece in re.split(r"^(?=\w+(?:\(\)|=))", text, flags=re.MULTILINE)
        if piece
    }
