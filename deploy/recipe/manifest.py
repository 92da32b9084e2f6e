"""What a source is made of: one line a file, as host/facts.sh writes it, and digests of them.

A line is a stamp, two blanks, and the path below the source; a stamp is a kind (f file, x executable, l link) and a
sha256.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def digest(stamps: Mapping[str, str]) -> str:
    """Return what `manifest | sha256sum` prints on a host that has exactly these files."""
    return _digest(_line(path, stamp) for path, stamp in stamps.items())


def parts(stamps: Mapping[str, str]) -> dict[str, str]:
    """Return digests of parts of the manifest (eight digits), by the two digits that the files' own begin with.

    Where few files differ, few parts do: a host tells only those (`tell_parts` in host/facts.sh).
    """
    lines: dict[str, list[bytes]] = {}
    for path, stamp in stamps.items():
        lines.setdefault(part_of(stamp), []).append(_line(path, stamp))
    return {part: _digest(each)[:8] for part, each in sorted(lines.items())}


def part_of(stamp: str) -> str:
    return stamp.partition(" ")[2][:2]


def read(line: str) -> tuple[str, str]:
    """Split a line into path and stamp: `f <sha256>  ./path` -> (`path`, `f <sha256>`)."""
    stamp, _, path = line.partition("  ./")
    if stamp[2:3] == "\\":
        path = re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), path)
        stamp = stamp[:2] + stamp[3:]
    return path, stamp


def _line(path: str, stamp: str) -> bytes:
    """A name that holds a newline, a return or a backslash is marked by a backslash before the digest."""
    kind, _, value = stamp.partition(" ")
    if re.search(r"[\\\n\r]", path):
        path = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        value = "\\" + value
    return f"{kind} {value}  ./{path}".encode("utf-8", "surrogateescape")


def _digest(lines: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(line + b"\n" for line in sorted(lines))).hexdigest()
