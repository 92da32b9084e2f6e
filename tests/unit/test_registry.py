"""The login at a registry: a name from invoke.yaml, a password from elsewhere, and neither of them is shown."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from deploy import config, registry
from deploy.console.redact import HIDDEN, redactor
from deploy.errors import ConfigError
from deploy.keys import RegistryKeys

if TYPE_CHECKING:
    from pathlib import Path

NAME = "CI_REGISTRY_PASSWORD"
SECRET = "s3cret-marker"  # noqa: S105  # it is looked for


def login(image: str = "registry.example.com/team/app", **env: str) -> registry.Login:
    found = registry.login(RegistryKeys(image, "ci", NAME), env)
    assert found
    return found


@pytest.mark.parametrize(
    ("image", "called"),
    [
        ("registry.example.com/team/app", "registry.example.com"),
        ("registry:5000/app", "registry:5000"),
        ("localhost/app", "localhost"),
        ("team/app", registry.HUB),
        ("docker.io/team/app", registry.HUB),
        ("index.docker.io/team/app", registry.HUB),
    ],
)
def test_docker_finds_the_login_under_what_it_calls_the_registry(image: str, called: str) -> None:
    ((name, each),) = json.loads(login(image, **{NAME: SECRET}).papers())["auths"].items()
    assert name == called
    assert base64.b64decode(each["auth"]).decode() == f"ci:{SECRET}"


def test_the_environment_goes_before_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "from-the-environment")
    assert login(**{NAME: "from-the-file"}).password == "from-the-environment"  # noqa: S105  # none of anybody's


def test_a_password_that_nobody_set_is_missed_when_it_is_needed() -> None:
    found = login()
    assert found.secrets == ()
    with pytest.raises(ConfigError, match="nor the env file sets the variable that it names"):
        found.papers()


def test_a_password_where_the_name_of_its_variable_belongs_is_not_shown() -> None:
    found = registry.login(RegistryKeys("team/app", "ci", SECRET), {})
    assert found
    with pytest.raises(ConfigError, match="never the password itself") as caught:
        found.papers()
    assert SECRET not in f"{caught.value}{found!r}"


def test_neither_the_password_nor_the_login_passes_the_printer() -> None:
    found = login(**{NAME: SECRET})
    hide = redactor({}, found.secrets)
    auth = base64.b64encode(f"ci:{SECRET}".encode()).decode()
    assert hide(f"auth {auth} of {SECRET}") == f"auth {HIDDEN} of {HIDDEN}"
    assert SECRET not in repr(found)


def test_a_password_of_the_environment_is_hidden_like_one_of_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, SECRET)
    (tmp_path / ".env.prod").write_text("A=1\n")
    keys = {"image": "team/app", "username": "ci", "password": NAME}
    setup = config.load({"project": "app", "registry": keys, "envs": {"prod": {"hosts": ["web1"]}}}, tmp_path)
    assert redactor(setup.env, setup.readings)(f"it was {SECRET}") == f"it was {HIDDEN}"
    assert SECRET not in repr(setup)


def test_without_a_login_the_hosts_own_counts() -> None:
    assert registry.login(None, {}) is None
    assert registry.login(RegistryKeys("team/app"), {NAME: SECRET}) is None


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"image": "registry.example.com/app:v1"}, r"deploy\.registry\.image: expected a repository without a tag"),
        ({"image": "https://registry.example.com/app"}, r"deploy\.registry\.image"),
        ({"image": "Team/App"}, r"deploy\.registry\.image"),
        ({"image": "team/app", "username": "ci"}, r"deploy\.registry\.password: expected it beside"),
        ({"image": "team/app", "password": "X"}, r"deploy\.registry\.username: expected it beside"),
        ({"image": "team/app", "user": "ci"}, r"deploy\.registry\.user: there is no such key; did you mean username"),
        ({}, r"deploy\.registry: .*image"),
    ],
)
def test_what_is_wrong_is_refused_by_its_path(tmp_path: Path, keys: dict[str, Any], complaint: str) -> None:
    (tmp_path / ".env.prod").write_text("A=1\n")
    with pytest.raises(ConfigError, match=complaint):
        config.load({"project": "app", "registry": keys, "envs": {"prod": {"hosts": ["web1"]}}}, tmp_path)


def test_hosts_that_build_for_themselves_have_nothing_to_push(tmp_path: Path) -> None:
    (tmp_path / ".env.prod").write_text("A=1\n")
    keys = {"project": "app", "registry": {"image": "team/app"}, "build": "each"}
    with pytest.raises(ConfigError, match="there is nothing to push"):
        config.load({**keys, "envs": {"prod": {"hosts": ["web1"]}}}, tmp_path)
