"""What nginx configurations say to whoever only wants to warn: where they send requests, and what they need."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Upstream:
    """A name that nginx connects to. `group` is the upstream block that it stands in, '' for a plain proxy_pass."""

    where: str
    group: str
    name: str
    resolves: bool


def upstreams(confs: Mapping[str, str]) -> list[Upstream]:
    """Return the names that nginx confs send requests to; addresses, sockets and variables are none."""
    found: list[Upstream] = []
    for file, text in sorted(confs.items()):
        plain = _without_comments(text)
        groups = [(m.start(), m.end(), m[1]) for m in re.finditer(r"\bupstream\s+(\S+)\s*\{[^}]*\}", plain)]
        for begin, end, group in groups:
            for server in re.finditer(r"\bserver\s+([^\s;{]+)([^;{]*);", plain[begin:end]):
                where = f"nginx/{file}:{_line(plain, begin + server.start())}"
                found.append(Upstream(where, group, server[1].rpartition(":")[0] or server[1], "resolve" in server[2]))
        for passed in re.finditer(r"\b\w+_pass\s+(?:\w+://)?([\w.-]+)(?::\d+)?[/;\s]", plain):
            where = f"nginx/{file}:{_line(plain, passed.start())}"
            found.append(Upstream(where, "", passed[1], resolves=False))
    named = {each.group for each in found}
    return [e for e in found if not re.fullmatch(r"unix|[\d.]+|\[.*", e.name) and (e.group or e.name not in named)]


def _without_comments(text: str) -> str:
    """Blank the comments; every place keeps its line."""
    return re.sub(r"(^|\s)#[^\n]*", r"\1", text)


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


SINCE = {
    r"\bserver\s+[^;{]*\bresolve\b": ("server ... resolve", (1, 27, 3)),
    r"\bkeepalive_min_timeout\b": ("keepalive_min_timeout", (1, 27, 4)),
    r"\bclient_body_early_read\b": ("client_body_early_read", (1, 31, 5)),
}
"""What confs may use, and the nginx that first knew it (nginx.org, in the open source edition)."""


def needs(confs: Mapping[str, str]) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Give what nginx confs use that not every nginx knows: the words, the version that brought it, and where."""
    for pattern, (words, since) in SINCE.items():
        for file, text in sorted(confs.items()):
            plain = _without_comments(text)
            found = re.search(pattern, plain)
            if found:
                yield words, since, f"nginx/{file}:{_line(plain, found.start())}"
                break


def version_of(text: str) -> tuple[int, ...]:
    """Read the numbers of a version, three at most: `v2.26.1-4` is (2, 26, 1)."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
