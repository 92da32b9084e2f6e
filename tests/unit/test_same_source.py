"""What a broken run says to type next brings the source that it brought itself."""

from __future__ import annotations

import pytest

from deploy import run
from deploy.recipe.model import Release


@pytest.mark.parametrize(
    ("verb", "ident", "revision", "said"),
    [
        ("deploy", "20261122-071955-1a2b3c4", "1a2b3c4", "deploy --ref=1a2b3c4 --force"),
        ("deploy", "20261122-071955-1a2b3c4-dirty", "1a2b3c4", "deploy --dirty --force"),
        ("deploy", "20261122-071955", "", "deploy --force"),
        ("stage", "20261122-071955-1a2b3c4", "1a2b3c4", "stage --ref=1a2b3c4 --force"),
        ("promote", "20261122-071955-1a2b3c4", "1a2b3c4", "rollback --to=20261122-071955-1a2b3c4"),
        ("env.push", "20261122-071955-1a2b3c4", "1a2b3c4", "env.push --force"),
    ],
)
def test_what_is_said_to_be_typed_brings_the_same_source(verb: str, ident: str, revision: str, said: str) -> None:
    assert run.to_clear(verb, Release(ident, "", "", revision=revision)) == said


def test_an_env_that_is_not_yet_everywhere_is_not_pushed_again() -> None:
    assert run.to_clear("env.push", Release("20261122-071955-1a2b3c4", "", "", revision="1a2b3c4"), more=True) == (
        "deploy --ref=1a2b3c4 --force"
    )
