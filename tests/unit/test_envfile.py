"""The env file: what compose v1.29 and v2.26 were measured to make of each construct, and what we make of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deploy import envfile
from deploy.console.redact import HIDDEN, redactor
from deploy.errors import ConfigError

SAME = [
    (b"K=val1\n", "val1"),
    (b"export K=val1\n", "val1"),
    (b"K = val \n", "val"),
    (b"  K=val\n", "val"),
    (b"K=val", "val"),
    (b"K=\n", ""),
    (b"K=val # note\n", "val"),
    (b"K=val#note\n", "val#note"),
    (b"K='va l#1'\n", "va l#1"),
    (b"K='val' # note\n", "val"),
    (b'K="va l#1"\n', "va l#1"),
    (b"K='v$A{x}'\n", "v$A{x}"),
    (b"K='one\ntwo'\n", "one\ntwo"),
    (b'K="one\ntwo"\n', "one\ntwo"),
    (b"K='it\\'s'\n", "it's"),
    (b"K=it's\n", "it's"),
    (b'K={"a": "b"}\n', '{"a": "b"}'),
    (b"K=a=b=c\n", "a=b=c"),
    (b"K=a\\nb\\c\n", "a\\nb\\c"),
    (b'K="a\\nb\\"c"\n', 'a\nb"c'),
    (b"K=`id`\n", "`id`"),
    (b"K=pa$1word\n", "pa$1word"),
    (b"K=password$\n", "password$"),
    (b"K=first\nK=second\n", "second"),
    (b"\xef\xbb\xbfK=val\n", "val"),
    (b"K=val\r\nL=two\r\n", "val"),
    ("K=schlüssel\n".encode(), "schlüssel"),
    ("K=a\u00a0b\n".encode(), "a\u00a0b"),
    (b"# K=no\n\nK=val\n", "val"),
]
"""Every one of them reads the same: python-dotenv, compose v1, compose v2."""

DIFFERENT = [
    (b"A=one\nK=x$A-yyyy\n", "x$A-yyyy", "xone-yyyy"),
    (b'A=one\nK="x$A-yyyy"\n', "x$A-yyyy", "xone-yyyy"),
    (b"K=x$NOPE-yyyy\n", "x$NOPE-yyyy", "x-yyyy"),
    (b"A=one\nK=x${A}yyyy\n", "xoneyyyy", "xoneyyyy"),
    (b"K=x${NOPE:-dflt}y\n", "xdflty", "xdflty"),
    (b"K='${NOPE:-dflt}'\n", "dflt", "${NOPE:-dflt}"),
    (b"K=pa$$word\n", "pa$$word", "pa$word"),
    (b'K="a\\$dddd"\n', "a\\$dddd", "a$dddd"),
    (b"A=one\nB=${A}two\nK=x${B}y\n", "xonetwoy", "xonetwoy"),
]
"""What compose v1 makes of K, and what compose v2 does: no two agree, and both hide."""

REFUSED = [
    (b"K: zebra\n", 1, "no NAME=value"),
    (b"A=1\n\n\n!!! what\n", 4, "no NAME=value"),
    (b"A=1\r\n\r\nK X=zebra\r\n", 3, "no NAME=value"),
    (b"A='one\ntwo'\nK='zebra'junk\n", 3, "no NAME=value"),
    (b"K='one\nL=two\n", 1, "no NAME=value"),
    (b"=zebra\n", 1, "no NAME=value"),
    (b"zebra\n", 1, "a line without ="),
    (b"A=1\nexport zebra\n", 2, "a line without ="),
    (b"'K'=zebra\n", 1, "a name that not every compose takes"),
    (b"A=1\nK/X=zebra\n", 2, "a name that not every compose takes"),
    ("schlüssel=zebra\n".encode(), 1, "a name that not every compose takes"),
    (b"K=zebra\rL=two\n", 1, "a return without a newline"),
    (b"K='zebra\rL'\n", 1, "a return without a newline"),
    (b"A=1\nK=zebra\t# note\n", 2, "a tab before #"),
    (b"A=1\nDOCKER_HOST=zebra\n", 2, "DOCKER_HOST would send compose v1 to another engine"),
    (b"DOCKER_CONTEXT=zebra\n", 1, "DOCKER_CONTEXT would send compose v1 to another engine"),
    (b"DOCKER_TLS_VERIFY=zebra\n", 1, "DOCKER_TLS_VERIFY would send compose v1 to another engine"),
    (b"DOCKER_CERT_PATH=zebra\n", 1, "DOCKER_CERT_PATH would send compose v1 to another engine"),
]
"""compose v2 fails, or compose v1 passes over the line, or they read another value."""


def read(folder: Path, content: bytes) -> envfile.EnvFile:
    path = folder / ".env.prod"
    path.write_bytes(content)
    return envfile.read(path, "deploy.envs.prod.dotenv")


@pytest.mark.parametrize(("content", "value"), SAME, ids=[repr(case[0]) for case in SAME])
def test_what_all_read_alike_is_read_like_that(tmp_path: Path, content: bytes, value: str) -> None:
    found = read(tmp_path, content)
    assert found.values["K"] == value
    assert found.content == content


@pytest.mark.parametrize(("content", "v1", "v2"), DIFFERENT, ids=[repr(case[0]) for case in DIFFERENT])
def test_where_they_differ_every_reading_counts(tmp_path: Path, content: bytes, v1: str, v2: str) -> None:
    found = read(tmp_path, content.replace(b"K=", b"K_SECRET="))
    assert {("K_SECRET", v1), ("K_SECRET", v2)} <= set(found.readings)
    hide = redactor(found.values, found.readings)
    assert (hide(v1), hide(v2)) == (HIDDEN, HIDDEN)


@pytest.mark.parametrize(("content", "line", "said"), REFUSED, ids=[repr(case[0]) for case in REFUSED])
def test_what_one_of_them_would_not_read_is_refused_by_its_line(
    tmp_path: Path, content: bytes, line: int, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content)
    assert caught.value.what.startswith(f"{tmp_path}/.env.prod:{line}: ")
    assert said in caught.value.what
    assert caught.value.mend
    assert "zebra" not in str(caught.value)


def test_a_password_of_a_url_is_hidden_in_every_reading(tmp_path: Path) -> None:
    found = read(tmp_path, b"PW=hunter22\nDATABASE_URL=postgres://app:${PW}@db/app\nOTHER=redis://:pa$$word@r/0\n")
    hide = redactor(found.values, found.readings)
    assert hide("postgres://app:hunter22@db/app") == f"postgres://app:{HIDDEN}@db/app"
    assert hide("redis://:pa$word@r/0 pa$$word") == f"redis://:{HIDDEN}@r/0 {HIDDEN}"


def test_an_env_file_that_is_a_folder_or_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "pipe"):
        with pytest.raises(ConfigError, match=r"deploy\.envs\.prod\.dotenv: .* is no text file"):
            envfile.read(tmp_path / name, "deploy.envs.prod.dotenv")


def test_an_env_file_with_a_nul_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no text file"):
        read(tmp_path, b"K=a\0b\n")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("AK1=:'\"$#\\{}- \t\n\r!~é") | st.characters(codec="utf-8"), max_size=40))
@example("K='")
@example("K=\t#")
@example("=\t#")
def test_any_text_is_read_or_refused_by_its_line_without_showing_it(tmp_path: Path, text: str) -> None:
    try:
        found = read(tmp_path, text.encode())
    except ConfigError as error:
        said = error
    else:
        assert isinstance(redactor(found.values, found.readings)(text), str)
        return
    assert re.search(r"\.env\.prod(:\d+: | is no text file)", said.what)
    assert said.mend


def test_the_mark_that_windows_puts_before_utf_8_belongs_to_no_name() -> None:
    assert envfile.parse(b"\xef\xbb\xbfA=1\n", ".env").values == {"A": "1"}
