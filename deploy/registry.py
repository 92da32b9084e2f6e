"""Who logs in at a registry: a name from invoke.yaml, and a password that never stands there."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.keys import RegistryKeys

HUB = "https://index.docker.io/v1/"
"""What docker's config.json calls the registry of names that say none (docker/cli, cli/config/configfile)."""

OF_HUB = frozenset({"docker.io", "index.docker.io"})
"""What names may call it; docker finds no login under these."""


@dataclass(frozen=True, repr=False)
class Login:
    """A login at a registry. `password` is '' where nobody has set its variable; its repr does not show it."""

    registry: str
    username: str
    password: str

    def papers(self) -> bytes:
        """Return docker's config.json, which is all that docker needs: `docker login` would want the name in its argv.

        Raises:
            ConfigError: there is no password. The variable is not named: somebody may have written the password there.

        """
        if not self.password:
            raise ConfigError(
                "deploy.registry.password: neither this machine's environment nor the env file sets the variable that "
                "it names",
                mend="it is the name of a variable, like REGISTRY_PASSWORD, never the password itself; set that "
                "variable, or leave username and password out: the hosts' own `docker login` counts then",
            )
        return json.dumps({"auths": {self.registry: {"auth": self._auth()}}}).encode()

    @property
    def secrets(self) -> tuple[tuple[str, str], ...]:
        """What no output may show, by a name that says so."""
        return (("registry password", self.password), ("registry auth", self._auth())) if self.password else ()

    def _auth(self) -> str:
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def login(keys: RegistryKeys | None, env: Mapping[str, str]) -> Login | None:
    """Read who logs in; None where the hosts' own login counts. The environment goes before the env file.

    Raises:
        ConfigError: a name without a password, or a password without a name.

    """
    if keys is None or not (keys.username or keys.password):
        return None
    if not (keys.username and keys.password):
        lacking = "password" if keys.username else "username"
        raise ConfigError(
            f"deploy.registry.{lacking}: expected it beside the other one",
            mend="password names a variable, like REGISTRY_PASSWORD; without both the hosts' own `docker login` counts",
        )
    first = keys.image.partition("/")[0]
    is_own = first not in OF_HUB and ("." in first or ":" in first or first == "localhost")
    registry = first if is_own else HUB
    password = os.environ.get(keys.password) or env.get(keys.password) or ""
    return Login(registry, keys.username, password)
