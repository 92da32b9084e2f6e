"""What differs, what goes, and what a settings service is made of."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import yaml

from deploy.recipe import files, manifest
from deploy.recipe.model import Facts, Host, Release
from deploy.recipe.steps import Parcel

RELEASE = Release("r1", "finger", "c1", who="ann")
WEB1 = Host("web1")


# --- digests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((b"ab", b"c"), (b"a", b"bc")),
        ((b"a",), (b"a", b"")),
        ((), (b"",)),
        ((b"1:a",), (b"a",)),
        ((b"a", b"b"), (b"b", b"a")),
    ],
)
def test_the_borders_between_parts_count(one: tuple[bytes, ...], other: tuple[bytes, ...]) -> None:
    assert files.digest(*one) != files.digest(*other)


def test_a_digest_is_the_same_in_every_run() -> None:
    assert files.digest(b"a", b"b") == hashlib.sha256(b"1:a1:b").hexdigest()


def test_a_manifest_is_lines_in_the_order_of_bytes() -> None:
    stamps = {"b": "f 02", "a b": "x 01", "é": "f 02", "z": "l 03"}
    text = "f 02  ./b\nf 02  ./é\nl 03  ./z\nx 01  ./a b\n"
    assert manifest.digest(stamps) == hashlib.sha256(text.encode()).hexdigest()


def test_lines_are_sorted_without_their_ends_as_sort_does() -> None:
    """A tab is smaller than a newline."""
    text = "f 00  ./a\nf 00  ./a\tb\n"
    assert manifest.digest({"a\tb": "f 00", "a": "f 00"}) == hashlib.sha256(text.encode()).hexdigest()


def test_names_of_files_and_links_are_escaped() -> None:
    text = "f \\00  ./a\\\\b\\nc\\rd\nl \\00  ./a\\\\b\n"
    stamps = {"a\\b\nc\rd": "f 00", "a\\b": "l 00"}
    assert manifest.digest(stamps) == hashlib.sha256(text.encode()).hexdigest()


def test_names_that_are_no_unicode_keep_their_bytes() -> None:
    assert manifest.digest({"\udcff": "f 00"}) == hashlib.sha256(b"f 00  ./\xff\n").hexdigest()


# --- lacking, stale, send --------------------------------------------------------------------------------------

STAMPS = {"same": "f 1", "changed": "f 2", "new": "f 3", "bit": "x 4"}
HOST = Facts(source=(("same", "f 1"), ("changed", "f 9"), ("bit", "f 4"), ("old", "f 5"), ("gone", "l 6")))


def test_a_host_lacks_what_is_new_or_differs() -> None:
    assert files.lacking(STAMPS, HOST) == {"changed", "new", "bit"}


def test_stale_is_what_the_source_no_longer_has() -> None:
    assert files.stale(STAMPS, HOST) == ("gone", "old")


def test_a_host_with_the_same_source_lacks_nothing_and_has_nothing_stale() -> None:
    same = Facts(source_same=True)
    assert files.lacking(STAMPS, same) == frozenset()
    assert files.stale(STAMPS, same) == ()


def test_a_bare_host_lacks_everything() -> None:
    assert files.lacking(STAMPS, Facts()) == STAMPS.keys()


def test_stale_files_go_before_new_ones_come() -> None:
    remove, receive = files.send(RELEASE, STAMPS, WEB1, HOST)
    assert remove.command.words == ("remove_stale", "gone", "old")
    assert receive.command.words == ("receive",)
    assert receive.parcel == Parcel("r1", frozenset({"changed", "new", "bit"}), host=WEB1)
    assert receive.because == "3 of 4 source files differ"


@pytest.mark.parametrize(("conf", "sent"), [("c1", False), ("c0", True), ("", True)])
def test_a_conf_in_use_is_not_sent_over_itself(conf: str, sent: bool) -> None:
    (receive,) = files.send(RELEASE, {}, WEB1, Facts(source_same=True, conf=conf))
    assert isinstance(receive.parcel, Parcel)
    assert receive.parcel.conf is sent


def test_the_release_s_own_files_go_even_when_no_source_file_does() -> None:
    (receive,) = files.send(RELEASE, STAMPS, WEB1, Facts(source_same=True))
    assert receive.parcel == Parcel("r1", frozenset(), host=WEB1)
    assert receive.because == "the sources are there; only the release's own files go"


# --- definitions -----------------------------------------------------------------------------------------------

NGINX, PORTS = "image: nginx:1.30", 'ports: ["${HTTP_PORT:-80}:80"]'
COMPOSE = """
x-app: &app
  image: ${GREENROOM_IMAGE:-app}
  env_file: ["${GREENROOM_ENV_FILE:-.env}"]
services:
  redis:
    image: redis:8
    environment: {REDISCLI_AUTH: "${REDIS_PASSWORD:-}"}
  postgres:
    image: postgres:17
    environment: {POSTGRES_PASSWORD: $POSTGRES_PASSWORD}
  nginx:
    image: nginx:1.30
    ports: ["${HTTP_PORT:-80}:80"]
  celery:
    <<: *app
    command: [celery, worker]
"""
ENV = {"REDIS_PASSWORD": "r", "POSTGRES_PASSWORD": "p", "OTHER": "o"}


def definitions(text: str = COMPOSE, env: dict[str, str] | None = None, env_file: bytes = b"") -> dict[str, str]:
    return files.definitions(yaml.safe_load(text), ENV if env is None else env, env_file)


def changed_by(text: str = COMPOSE, env: dict[str, str] | None = None, env_file: bytes = b"") -> set[str]:
    """Return the services whose definition differs from that of the unchanged files."""
    before, after = definitions(), definitions(text, env, env_file)
    return {name for name in before | after if before.get(name) != after.get(name)}


def test_every_service_has_a_definition_that_fits_a_label() -> None:
    assert definitions().keys() == {"redis", "postgres", "nginx", "celery"}
    assert all(len(value) == 16 and value.isalnum() for value in definitions().values())


@pytest.mark.parametrize(
    ("old", "new", "services"),
    [
        ("redis:8", "redis:8.2", {"redis"}),
        ("[celery, worker]", "[celery, worker, -v]", {"celery"}),
        ("image: ${GREENROOM_IMAGE:-app}", "image: other", {"celery"}),
        ("x-app: &app", "x-app: &app  # a comment", set()),
        (f"    {NGINX}\n    {PORTS}", f"    {PORTS}\n    {NGINX}", set()),
        ("services:", "volumes: {data: {}}\nservices:", set()),
        ("    image: redis:8", "    image: redis:8\n    restart: always", {"redis"}),
    ],
    ids=["image", "command", "merged-anchor", "comment", "order-of-keys", "volumes", "new-key"],
)
def test_a_change_of_the_compose_file_changes_the_services_that_it_concerns(
    old: str, new: str, services: set[str]
) -> None:
    assert old in COMPOSE
    assert changed_by(COMPOSE.replace(old, new)) == services


@pytest.mark.parametrize(
    ("env", "services"),
    [
        ({**ENV, "REDIS_PASSWORD": "new"}, {"redis"}),
        ({**ENV, "POSTGRES_PASSWORD": "new"}, {"postgres"}),
        ({**ENV, "HTTP_PORT": "81"}, {"nginx"}),
        ({**ENV, "HTTP_PORT": ""}, {"nginx"}),
        ({**ENV, "OTHER": "new"}, set()),
        ({**ENV, "GREENROOM_IMAGE": "app:r2"}, set()),
    ],
    ids=["in-braces", "bare", "set-at-all", "set-to-nothing", "named-by-nobody", "greenroom"],
)
def test_a_change_of_a_variable_changes_the_services_that_name_it(env: dict[str, str], services: set[str]) -> None:
    assert changed_by(env=env) == services


@pytest.mark.parametrize("value", ["x${DEEP}y", "x$DEEP", "${DEEP:-none}"])
def test_a_variable_that_another_one_names_counts_too(value: str) -> None:
    env = {**ENV, "REDIS_PASSWORD": value, "DEEP": "${DEEPER}", "DEEPER": "1 ${DEEP}"}
    before = definitions(env=env)
    after = definitions(env={**env, "DEEPER": "2 ${DEEP}"})
    assert {name for name in before if before[name] != after[name]} == {"redis"}


def test_a_change_of_the_env_file_changes_the_services_that_read_it() -> None:
    assert changed_by(env_file=b"NEW=1\n") == {"celery"}


def test_a_service_without_a_body_has_a_definition_too() -> None:
    assert files.definitions({"services": {"odd": None}}, {}, b"").keys() == {"odd"}
    assert files.definitions({}, {}, b"") == {}


def test_no_value_of_a_variable_can_be_read_from_a_definition() -> None:
    assert not {"r", "p"} & set(definitions().values())


def test_labels_lie_on_top_of_the_user_s_file() -> None:
    overlay = json.loads(files.labels({"services": {"redis": {}}}, {"redis": "d1"}))
    assert overlay == {"services": {"redis": {"labels": {"greenroom.definition": "d1"}}}}


@pytest.mark.parametrize("version", ["3.8", "2.4"])
def test_labels_repeat_the_version_of_the_user_s_file(version: str) -> None:
    compose: dict[str, Any] = {"version": version, "services": {}}
    assert json.loads(files.labels(compose, {}))["version"] == version


# --- history ---------------------------------------------------------------------------------------------------


def test_a_record_of_history_says_who_did_what_and_where_from() -> None:
    step = files.record("deploy", RELEASE, "r0", "done")
    word, line = step.command.words
    assert word == "record"
    assert json.loads(line) == {"who": "ann", "what": "deploy", "release": "r1", "from": "r0", "outcome": "done"}
