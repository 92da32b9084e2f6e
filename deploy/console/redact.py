"""Secrets do not pass the printer."""

from __future__ import annotations

import base64
import html
import json
import re
from typing import TYPE_CHECKING
from urllib import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

HIDDEN = "[redacted]"
_SECRET_NAME = re.compile(
    r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH|DSN|SALT|PRIVATE|SIGNATURE|CERT|COOKIE|JWT|HMAC|WEBHOOK"
    r"|(?<![A-Z])PWD?(?![A-Z])|(?<![A-Z])PIN(?![A-Z])",
    re.IGNORECASE,
)
SHORTEST = 4
"""Characters: to hide "1" or "abc" wherever it stands would garble every line, and tell what it is."""

LONG = 16
"""A value this long with letters and digits in it is taken for a secret, whatever its name."""

BASE64 = 8
"""Characters of base64 that must be sure, or it hides what it should not."""

PLAIN = frozenset({"true", "false", "none", "null", "auto", "basic", "default", "optional", "required", "disabled",
                   "enabled", "localhost"})  # fmt: skip
"""What a name like AUTH_METHOD holds when it is no secret."""


def redactor(env: Mapping[str, str], readings: Iterable[tuple[str, str]] = ()) -> Callable[[str], str]:
    """Return a function that hides the secrets of an env file in a text; `readings` are more values by name.

    Secret is what a name says (PASSWORD, SECRET_KEY, ...), the password inside any URL, and each long value that mixes
    letters and digits. Each line of a value of several lines counts by itself: logs are read by line. So does each
    secret as a program may print it: within JSON, a repr, HTML or a URL, or in base64.
    """
    found: set[str] = set()
    for name, value in {*env.items(), *readings}:
        if _SECRET_NAME.search(name) or _looks_secret(value):
            found.update((value, value.replace("$$", "$")))  # the second as compose v2 reads it
        found.update(_passwords(value))
    lines = {line.strip() for secret in found for line in (secret, *secret.split("\n"), *secret.splitlines())}
    shown = {form for line in lines if _can_hide(line) for form in _forms(line)}
    shown |= {text for form in shown for text in _in_base64(form.encode(errors="surrogateescape"))}
    secrets = sorted(shown, key=len, reverse=True)
    if not secrets:
        return str
    pattern = re.compile("|".join(map(re.escape, secrets)))
    return lambda text: pattern.sub(HIDDEN, text)


def _can_hide(line: str) -> bool:
    return len(line) >= SHORTEST and line.lower() not in PLAIN


def _looks_secret(value: str) -> bool:
    return len(value) >= LONG and "://" not in value and bool(re.search(r"\d", value) and re.search(r"[A-Za-z]", value))


def _passwords(value: str) -> set[str]:
    try:
        password = parse.urlsplit(value).password
    except ValueError:
        return set()
    return {password, parse.unquote(password)} if password else set()


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
    yield html.escape(secret)
    yield parse.quote(secret, safe="")
    yield parse.quote(secret)
    yield parse.quote_plus(secret)


def _in_base64(secret: bytes) -> Iterator[str]:
    """Base64 takes three bytes at a time: what a secret looks like depends on how many stand before it (RFC 4648 §4).

    Its first and last sign may hold bits of the neighbours: they are left out, and hide nothing alone.
    """
    for before in range(3):
        length = (before + len(secret)) * 8 // 6
        text = base64.b64encode(bytes(before) + secret)[-(-before * 8 // 6) : length].decode()
        if len(text) >= BASE64:
            yield text
            yield text.translate({ord("+"): "-", ord("/"): "_"})
