"""A request on its way to a colour that no user sees: it has to look like one of theirs."""

from __future__ import annotations

import re

LONGEST = 1 << 16
"""Bytes that the head of a request may have; nginx takes no more by far."""

_OURS = re.compile(rb"(?:127\.0\.0\.1|localhost)(?::\d+)?", re.IGNORECASE)
_ORIGIN = re.compile(rb"http://" + _OURS.pattern, re.IGNORECASE)


def is_whole(head: bytes) -> bool:
    """Say whether all headers have come, or never will."""
    return b"\r\n\r\n" in head or len(head) >= LONGEST


def path_of(head: bytes) -> str:
    return head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")[2].partition(" ")[0]


def as_user(head: bytes, host: str) -> bytes:
    """Return what begins a connection with the Host, Origin and Referer that users of `host` send.

    An app answers the hosts that it knows, and forms from its own origin alone. A request for another host than ours
    stays as it is. It is the last on its connection (RFC 9112 §9.6), for the next one would not be read; but one that
    upgrades the connection has it for itself.
    """
    top, blank, body = head.partition(b"\r\n\r\n")
    if not blank:
        return head
    first, *fields = top.split(b"\r\n")
    upgrades = any(field.lower().startswith(b"upgrade:") for field in fields)
    kept = [
        _renamed(field, host.encode())
        for field in fields
        if upgrades or not field.lower().startswith((b"connection:", b"keep-alive:"))
    ]
    return b"\r\n".join([first, *kept, *([] if upgrades else [b"Connection: close"])]) + blank + body


def _renamed(field: bytes, host: bytes) -> bytes:
    name, _, value = field.partition(b":")
    match name.lower():
        case b"host" if _OURS.fullmatch(value.strip()):
            return name + b": " + host
        case b"origin" | b"referer":
            return name + b":" + _ORIGIN.sub(b"http://" + host, value, count=1)
    return field
