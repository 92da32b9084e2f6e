"""Secrets do not pass the printer."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HIDDEN = "[redacted]"
_SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH|DSN|SALT|PRIVATE|SIGNATURE", re.IGNORECASE)
SHORTEST = 4
LONG = 16
"""A value this long with letters and digits in it is taken for a secret, whatever its name."""


def redactor(env: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that hides the secrets of an env file in a text.

    Secret is what a name says (PASSWORD, SECRET_KEY, ...), the password inside any URL, and each long value that mixes
    letters and digits. Each line of a value of several lines counts by itself: logs are read by line. So does each
    secret as JSON writes it.
    """
    found: set[str] = set()
    for name, value in env.items():
        if _SECRET_NAME.search(name) or _looks_secret(value):
            found.update(value.splitlines())
        found.update(_passwords(value))
    found |= {secret.replace("$$", "$") for secret in found}  # as compose reads it
    found |= {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in found}
    secrets = sorted((s for s in found if len(s) >= SHORTEST), key=len, reverse=True)
    if not secrets:
        return str
    pattern = re.compile("|".join(map(re.escape, secrets)))
    return lambda text: pattern.sub(HIDDEN, text)


def _looks_secret(value: str) -> bool:
    return len(value) >= LONG and "://" not in value and bool(re.search(r"\d", value) and re.search(r"[A-Za-z]", value))


def _passwords(value: str) -> set[str]:
    try:
        password = urlsplit(value).password
    except ValueError:
        return set()
    return {password, unquote(password)} if password else set()
