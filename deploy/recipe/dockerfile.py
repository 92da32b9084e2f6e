"""What a Dockerfile says of the image that it ends with: how it starts, how it is known to be well, what it keeps."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Instruction:
    """`words` is what follows it, where it is written as a list; else None, and docker puts `/bin/sh -c` before it."""

    line: int
    text: str
    words: tuple[str, ...] | None


@dataclass(frozen=True)
class Dockerfile:
    """The last instruction of each kind in the last stage, or in one that it is made from; None without one."""

    cmd: Instruction | None = None
    entrypoint: Instruction | None = None
    healthcheck: Instruction | None = None
    volume: Instruction | None = None


_KINDS = ("CMD", "ENTRYPOINT", "HEALTHCHECK", "VOLUME")


def read(text: str) -> Dockerfile:
    stages: dict[str, dict[str, Instruction]] = {}
    current: dict[str, Instruction] = {}
    for line, kind, rest in _instructions(text):
        if kind == "FROM":
            image, *name = [word.lower() for word in rest.split() if not word.startswith("--")] or [""]
            current = dict(stages.get(image, {}))
            stages[name[-1] if name else f"line {line}"] = current
        elif kind in _KINDS:
            current[kind] = Instruction(line, rest, _words(rest))
    return Dockerfile(*map(current.get, _KINDS))


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Give each instruction with the number of its first line; a comment between its lines is none of it."""
    began = 0
    parts: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not (line.strip() or parts):
            continue
        began = began or number
        parts.append(line.rstrip().removesuffix("\\"))
        if not line.rstrip().endswith("\\"):
            kind, _, rest = "\n".join(parts).strip().partition(" ")
            yield began, kind.upper(), rest.strip()
            began, parts = 0, []


def _words(text: str) -> tuple[str, ...] | None:
    """Read `["a", "b"]`, which is JSON (docker's documentation, "exec form")."""
    if not re.match(r"\[", text):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return tuple(map(str, found)) if isinstance(found, list) else None
