"""The app's own env file: what we need to know of it, and what no two programs would read alike.

The app gets its values from compose on the host, to which the file goes as it is. Here it is read for what must be
redacted and what definitions depend on. python-dotenv (which compose v1 uses) and compose v2 do not agree on everything
(tests/unit/test_envfile.py has the table, as measured): a line that one of them reads and another does not is refused;
where they differ in what `$` means, each reading counts.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from deploy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_OF_DOCKER = frozenset({"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"})
_REFERENCE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::?[-+?](?P<other>[^}]*))?\}|(?P<bare>\w+))")


@dataclass(frozen=True, repr=False)
class EnvFile:
    """An env file, byte for byte; its values as python-dotenv reads them, uninterpolated; and every other reading."""

    content: bytes
    values: dict[str, str]
    readings: tuple[tuple[str, str], ...]


def read(path: Path, where: str) -> EnvFile:
    """Read an env file. `where` is the key of the configuration that names it.

    Raises:
        ConfigError: it cannot be read, or not by everybody; with file and line, and never a value.

    """
    try:
        # A pipe would be waited for, a device might never end.
        content = path.read_bytes() if path.is_file() or not path.exists() else b"\0"
    except OSError as error:
        raise ConfigError(
            f"{where}: cannot read {path}: {error.strerror}",
            mend="it holds the app's own environment; it may be empty, but it must be there",
        ) from None
    if b"\0" in content:
        raise ConfigError(
            f"{where}: {path} is no text file", mend="it holds the app's own environment, NAME=value a line"
        )
    return parse(content, str(path))


def parse(content: bytes, place: str) -> EnvFile:
    """Read the content of an env file; `place` is what to call it.

    Raises:
        ConfigError: not everybody would read it alike; with the line, and never a value.

    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{place}: not UTF-8 at byte {error.start}", mend="save it as UTF-8") from None
    pairs = tuple(_pairs(text, place))
    return EnvFile(content, {name: value for name, value, _ in pairs}, _readings(pairs))


def with_values(file: EnvFile, own: Mapping[str, str], place: str) -> EnvFile:
    """Return an env file that ends with values of one host: of a name that is there twice every compose takes the last.

    Raises:
        ConfigError: not everybody would read a value as it is written; with its name, and never the value.

    """
    lines = b""
    for name, value in own.items():
        line = f"{name}='{value}'\n".encode(errors="surrogatepass")
        try:
            alike = set(parse(line, place).readings) == {(name, value)}
        except ConfigError:
            alike = False
        if not alike:
            _refuse(
                f"{place}.{name}",
                "a name or value that not every compose would read as it is written",
                "a name of letters, digits and _; a value without quotes, backslash and $",
            )
        lines += line
    return parse(b"\n".join((file.content.removesuffix(b"\n"), b"# of this host alone", lines)), place)


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> dict[str, str]:
    """Return what would become of each name whose value differs: added, changed or removed. Never a value."""
    return {
        name: "added" if name not in there else "removed" if name not in here else "changed"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    }


def _pairs(text: str, path: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and the value as it is written, in order."""
    from dotenv.parser import parse_stream  # start-up time: --list and --help never need it

    for each in parse_stream(io.StringIO(text, newline="")):
        whole = each.original.string
        before = whole[: len(whole) - len(whole.lstrip())]
        place = f"{path}:{each.original.line + len(re.findall(_LINE_END, before))}"
        written = whole.partition("=")[2].strip()
        if each.error:
            _refuse(place, "this is no NAME=value that every compose would read", "close the quotes, quote the value")
        if each.key is None:
            continue
        if not _NAME.fullmatch(each.key) or "'" in whole.partition("=")[0]:
            _refuse(place, "a name that not every compose takes", "letters, digits, _ . and -, without quotes")
        if each.value is None:
            _refuse(place, "a line without =", "write NAME= if it is to be empty; quote a value of several lines")
        if "\r" in whole.replace("\r\n", ""):
            _refuse(place, f"{each.key} holds a return without a newline", "end lines with a newline")
        if "\t#" in written and written[0] not in "'\"":
            _refuse(place, f"a tab before # in {each.key}: compose v2 takes both for the value", "a blank, or quotes")
        if each.key in _OF_DOCKER:
            _refuse(
                place, f"{each.key} would send compose v1 to another engine", "set it in the compose file, for the app"
            )
        yield each.key, each.value, written


_LINE_END = r"\r\n|\n|\r"


def _refuse(place: str, what: str, mend: str) -> NoReturn:
    raise ConfigError(f"{place}: {what}", mend=mend)


def _readings(pairs: Iterable[tuple[str, str, str]]) -> tuple[tuple[str, str], ...]:
    """Return name and value of everything that any compose may make of the variables.

    compose v1 resolves ${A}, everywhere; v2 resolves $A, too, but nothing within single quotes, reads $$ as $, and
    takes the backslash from a quoted $.
    """
    found: dict[tuple[str, str], None] = {}
    before: dict[str, str] = {}
    for name, value, written in pairs:
        plain = value.replace("\\$", "\0").replace("$$", "\0")
        resolved = _resolved(plain, before, bare=True).replace("\0", "$")
        readings = (
            value,
            written.strip("'\""),
            plain.replace("\0", "$"),
            _resolved(value, before, bare=False),
            resolved,
        )
        found.update(dict.fromkeys((name, each) for each in readings))
        before[name] = resolved
    return tuple(found)


def _resolved(value: str, before: Mapping[str, str], *, bare: bool) -> str:
    def put(found: re.Match[str]) -> str:
        if found["bare"]:
            return before.get(found["bare"], "") if bare else found[0]
        return before.get(found["braced"]) or found["other"] or ""

    return _REFERENCE.sub(put, value)
