"""Secrets do not pass the printer."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib import parse

import pytest

from deploy.console.redact import HIDDEN, redactor

ENV = {
    "DJANGO_SECRET_KEY": "s3cret",
    "DATABASE_URL": "postgres://app:p%40ss@postgres:5432/app",
    "BROKER": "redis://:hunter22@redis:6379/0",
    "OPAQUE": "AKIAIOSFODNN7EXAMPLE",
    "DEBUG": "false",
    "SITE_NAME": "My own site",
    "PIN_TOKEN": "123",
}


@pytest.mark.parametrize(
    "name",
    ["PASSWORD", "redis_pass", "SECRET", "API_TOKEN", "KEY", "credential", "AUTH", "SENTRY_DSN", "SALT", "PRIVATE",
     "SIGNATURE", "TLS_CERT", "COOKIE", "JWT", "HMAC", "SLACK_WEBHOOK", "DB_PWD", "PW", "PIN"],
)  # fmt: skip
def test_what_a_name_calls_secret_is_hidden(name: str) -> None:
    assert redactor({name: "quiet"})("it is quiet here") == f"it is {HIDDEN} here"


def test_what_is_not_secret_is_shown() -> None:
    hide = redactor(ENV)
    assert hide("DEBUG=false on My own site at postgres:5432/app") == "DEBUG=false on My own site at postgres:5432/app"


def test_the_password_inside_a_url_is_hidden_as_written_and_as_meant() -> None:
    hide = redactor(ENV)
    assert hide("p%40ss p@ss hunter22") == f"{HIDDEN} {HIDDEN} {HIDDEN}"


def test_the_rest_of_a_url_helps_and_is_shown() -> None:
    assert redactor(ENV)(ENV["DATABASE_URL"]) == f"postgres://app:{HIDDEN}@postgres:5432/app"


def test_a_long_value_of_letters_and_digits_is_taken_for_a_secret() -> None:
    assert redactor(ENV)("AKIAIOSFODNN7EXAMPLE") == HIDDEN


def test_a_value_too_short_to_be_a_secret_would_hide_half_the_text() -> None:
    assert redactor(ENV)("port 12345") == "port 12345"


def test_a_secret_inside_another_does_not_leave_the_rest_of_it() -> None:
    assert redactor({"A_KEY": "abcd", "B_KEY": "abcdefgh"})("abcdefgh abcd") == f"{HIDDEN} {HIDDEN}"


def test_each_line_of_a_secret_of_several_lines_is_hidden() -> None:
    hide = redactor({"PRIVATE_KEY": "-----BEGIN-----\nMIIBVgIB\n-----END-----"})
    assert hide("log: MIIBVgIB") == f"log: {HIDDEN}"


def test_a_secret_of_signs_is_hidden_as_it_stands() -> None:
    assert redactor({"PASSWORD": "a.*[b]$"})("a.*[b]$ axxb") == f"{HIDDEN} axxb"


def test_a_secret_is_hidden_inside_json_too() -> None:
    word = 'pa"ss\\word\té'
    text = json.dumps({"text": f"login with {word}"}, ensure_ascii=False)
    assert json.loads(redactor({"PASSWORD": word})(text)) == {"text": f"login with {HIDDEN}"}


def test_a_secret_is_hidden_as_compose_reads_it() -> None:
    assert redactor({"PASSWORD": "pa$$word"})("pa$word pa$$word") == f"{HIDDEN} {HIDDEN}"


@pytest.mark.parametrize("before", ["", "u", "us", "app:", "https://example.com/"])
def test_a_secret_is_hidden_in_base64_wherever_it_begins(before: str) -> None:
    word = "s3cret/+?with~signs"
    hide = redactor({"API_TOKEN": word})
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(f"{before}{word}:after".encode()).decode()
        shown = hide(f"Authorization: Basic {text}")
        assert HIDDEN in shown
        left = shown.removeprefix("Authorization: Basic ").split(HIDDEN)
        assert len("".join(left)) < len(text) - len(word)


@pytest.mark.parametrize(
    "encode",
    [parse.quote, lambda word: parse.quote(word, safe=""), parse.quote_plus, html.escape, json.dumps, repr],
    ids=["url", "url-strict", "form", "html", "json", "repr"],
)
def test_a_secret_is_hidden_as_programs_print_it(encode: Callable[[str], str]) -> None:
    word = "pa ss/w&o<r>d'\"\\é"
    assert "ss" not in redactor({"PASSWORD": word})(f"it is {encode(word)}")


def test_a_word_that_everybody_uses_is_no_secret() -> None:
    hide = redactor({"AUTH_METHOD": "none", "USE_TOKEN": "True", "SECRET": ""})
    assert hide("nobody is live: none, True") == "nobody is live: none, True"


@pytest.mark.parametrize(("name", "secret"), [("DB_PW", True), ("DB_PWD", True), ("CARD_PIN", True), ("UPWARD", False),
                                              ("SPINNER", False), ("SESSION_COOKIE", True)])  # fmt: skip
def test_short_names_count_as_words(name: str, secret: bool) -> None:
    assert (redactor({name: "quiet"})("quiet") == HIDDEN) is secret


def test_a_secret_with_line_breaks_of_other_kinds_is_hidden() -> None:
    hide = redactor({"PASSWORD": "first\x0bsecond\u2028third\r\nfourth"})
    assert hide("first\x0bsecond\u2028third") == HIDDEN
    assert hide("second fourth") == f"{HIDDEN} {HIDDEN}"


def test_without_secrets_every_text_is_shown_as_it_is() -> None:
    assert redactor({"DEBUG": "true"})("anything") == "anything"
    assert redactor({})("anything") == "anything"


def test_a_url_that_cannot_be_read_is_no_reason_to_fail() -> None:
    assert redactor({"ODD": "http://[::1"})("http://[::1") == "http://[::1"
