"""What is typed behind a flag, read or refused."""

from __future__ import annotations

import pytest

from deploy import flags
from deploy.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "docker"),
    [
        ("", ""),
        ("90s", "0h90s"),
        ("1h30m", "0h1h30m"),
        ("3d", "72h"),
        ("1d12h", "24h12h"),
        ("2026-11-22", "2026-11-22T00:00:00Z"),  # docker would take the host's own midnight
        ("2026-11-22T07:00:00", "2026-11-22T07:00:00Z"),
        ("2026-11-22T07:00Z", "2026-11-22T07:00Z"),
        ("2026-11-22T07:00:00.5+01:00", "2026-11-22T07:00:00.5+01:00"),
    ],
)
def test_since_is_said_as_docker_takes_it(typed: str, docker: str) -> None:
    assert flags.since(typed) == docker


@pytest.mark.parametrize("typed", ["yesterday", "10", "\u0967m", "m", "1h;id", "-1h", "--help", "1.5.2026"])
def test_what_is_no_time_is_refused(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"--since: .* is no time"):
        flags.since(typed)


def test_names_are_separated_by_commas_and_can_be_no_flags_of_docker() -> None:
    assert flags.names("web, redis,", "--service") == ("web", "redis")
    assert flags.names("", "--service") == ()
    with pytest.raises(ConfigError, match="--service: ' , ' names no service"):  # and not: all of them
        flags.names(" , ", "--service")
    with pytest.raises(ConfigError, match="--service: '--privileged'"):
        flags.names("web,--privileged", "--service")


def test_a_broken_pattern_is_refused_in_words() -> None:
    assert flags.pattern("", "--grep") is None
    with pytest.raises(ConfigError, match=r"--grep: '\(' is no regular expression"):
        flags.pattern("(", "--grep")


def test_a_command_is_said_word_by_word_or_as_one_string() -> None:
    assert flags.one_off("", ["inv", "exec", "--", "echo", "a  b", "--", "c"]) == ("echo", "a  b", "--", "c")
    assert flags.one_off("ls | wc -l", ["inv", "exec", "--command=ls | wc -l"]) == ("sh", "-c", "ls | wc -l")
    assert flags.one_off("", ["inv", "exec"]) == ()
    with pytest.raises(ConfigError, match="stands after -- as well"):
        flags.one_off("ls", ["inv", "exec", "--command=ls", "--", "ls"])


def test_how_many_releases_stay() -> None:
    assert flags.kept("") == 0
    assert flags.kept("3") == 3


@pytest.mark.parametrize(("text", "why"), [("0", "at least 1 stays"), ("-1", "whole number"), ("all", "whole number")])
def test_a_number_of_releases_that_cannot_stay_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        flags.kept(text)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http"])
def test_what_is_no_port_is_refused(text: str) -> None:
    assert flags.port("8800") == 8800
    with pytest.raises(ConfigError, match="--port"):
        flags.port(text)
