"""Settings from the environment, as the deployment's .env fills it."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote, unquote, urlsplit


def text(name: str, default: str = "") -> str:
    return os.environ.get(name) or default


def flag(name: str) -> bool:
    return text(name).lower() in {"1", "yes", "true", "on"}


def words(name: str) -> list[str]:
    return [word.strip() for word in text(name).split(",") if word.strip()]


def redis_url() -> str:
    """Where the broker is: in the settings stack, unless REDIS_URL says otherwise."""
    password = quote(text("REDIS_PASSWORD"), safe="")
    return text("REDIS_URL", f"redis://:{password}@redis:6379/0" if password else "redis://redis:6379/0")


def database_url() -> str:
    """Where the database is: in the settings stack, unless DATABASE_URL says otherwise."""
    user, password, name = (
        quote(text(variable, default), safe="")
        for variable, default in (("POSTGRES_USER", "app"), ("POSTGRES_PASSWORD", ""), ("POSTGRES_DB", "app"))
    )
    return text("DATABASE_URL", f"postgres://{user}:{password}@postgres:5432/{name}")


def database(url: str) -> dict[str, Any]:
    """Django's words for postgres://user:password@host:port/name or sqlite:///path."""
    parts = urlsplit(url)
    name = unquote(parts.path).removeprefix("/")
    if parts.scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or 5432),
        # A pool for each process. A connection kept by each of gunicorn's threads would be 32 for a colour, twice that
        # during a deploy, times the hosts that share the database, whose limit is 100 unless told.
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"pool": {"min_size": 1, "max_size": 8, "timeout": 10}},
    }
