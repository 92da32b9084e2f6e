"""Compose files as they are written. What they mean is for the host's own compose to say."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

import yaml

from deploy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_Fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Safe both; the one in C is ten times as fast, and not everywhere."""


class _Loader(_Fast):  # type: ignore[misc]  # which one is known at run time
    """Reads what files say, for a look at it."""


class Tagged(list[Any]):
    """A tag and what it stands before: ["!override", {…}]."""


def _tagged(loader: Any, tag: str, node: yaml.Node) -> Tagged:
    """Read `!reset` and `!override` of compose v2: what they mean is its business, that they are there counts."""
    if isinstance(node, yaml.MappingNode):
        return Tagged([f"!{tag}", loader.construct_mapping(node, deep=True)])
    if isinstance(node, yaml.SequenceNode):
        return Tagged([f"!{tag}", loader.construct_sequence(node, deep=True)])
    return Tagged([f"!{tag}", node.value])


_Loader.add_multi_constructor("!", _tagged)


class Plain(str):
    """A scalar without quotes. What it is, a number or a text, differs from one YAML to the next: it stays as it is."""

    __slots__ = ()


class Quoted(str):
    """A scalar that had quotes, or was a block: a text to everybody."""

    __slots__ = ()


class _RawLoader(_Fast):  # type: ignore[misc]  # the same
    """Reads what files say, to be written again: `1.10`, `yes` and `22:22` come out as they went in."""

    # Of all that YAML resolves by itself, only the key << counts: it is a matter of the file, not of compose.
    yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile("^<<$"))]}  # noqa: RUF012  # PyYAML's own


def _scalar(_: Any, node: yaml.ScalarNode) -> Plain | Quoted | None:
    if node.style:
        return Quoted(node.value)
    return None if node.value in {"", "~", "null", "Null", "NULL"} else Plain(node.value)


_RawLoader.add_constructor("tag:yaml.org,2002:str", _scalar)


_TEXT = "tag:yaml.org,2002:str"
_RESOLVER: Any = yaml.resolver.Resolver()


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # PyYAML's signature
        """Write everything out: a person reads it."""
        return True


def _plain(dumper: _Dumper, text: Plain) -> yaml.Node:
    resolve: Any = dumper.resolve  # PyYAML's stubs leave it out
    tag = resolve(yaml.ScalarNode, str(text), (True, False))
    return dumper.represent_scalar(tag, str(text))


def _quoted(dumper: _Dumper, text: Quoted) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|" if "\n" in text else '"')


_Dumper.add_representer(Plain, _plain)
_Dumper.add_representer(Quoted, _quoted)


@functools.lru_cache(maxsize=16)  # the files of a release are read once to make it, and once for the rules
def read(content: bytes, name: str) -> Mapping[str, Any]:
    """Read a compose file for a look at it. One that was read before is the same document: nobody changes it.

    Raises:
        ConfigError: it is none; `name` says which.

    """
    return _checked(content, name, _Loader)


def read_raw(content: bytes, name: str) -> dict[str, Any]:
    """Read a compose file to write it again: every scalar is None, Plain or Quoted. Anchors are resolved.

    Raises:
        ConfigError: it is none; `name` says which.

    """
    return _checked(content, name, _RawLoader)


def write(document: dict[str, Any]) -> bytes:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True, encoding="utf-8")


def scalar(text: str) -> str:
    """Return a text as it has to be written behind a key: in quotes where it would be something else without."""
    try:
        safe = yaml.safe_load(f"key: {text}") == {"key": text}
    except yaml.YAMLError:
        safe = False
    return text if safe else json.dumps(text, ensure_ascii=False)


def _checked(content: bytes, name: str, loader: Any) -> dict[str, Any]:
    try:
        data: Any = yaml.load(content, Loader=loader)  # noqa: S506  # safe: see there
        json.dumps(data, default=str)  # an alias may lead to itself
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{name} is no YAML: {' '.join(str(error).split())}") from None
    services = data.get("services") if isinstance(data, dict) else None
    if not isinstance(services, dict):
        raise ConfigError(f"{name}: expected a compose file with `services:`")
    for where, what, mend in _faults(data):
        raise ConfigError(f"{name}: {where}: {what}", mend=mend)
    return dict(data)


_ENTRIES = {"ports": '"8080:80"', "volumes": '"data:/srv/data"', "links": '"db"'}
"""Lists in a service, and how one of their entries may look."""


def _faults(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what has another shape than compose takes there: its place, what is wrong, and the mend.

    Only what is read further on: the rest is for the host's own compose to say.
    """
    for section in ("services", "networks", "volumes", "secrets", "configs"):
        yield from _bodies(section, document.get(section))
    yield from _odd_keys("services", document["services"])
    for name, body in document["services"].items():
        if isinstance(body, dict):
            yield from _faults_of(f"services.{name}", body)


def _faults_of(where: str, service: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if not isinstance(service.get("networks"), list):
        yield from _bodies(f"{where}.networks", service.get("networks"))
    for key, example in _ENTRIES.items():
        entries = service.get(key)
        if entries is None or isinstance(entries, (dict, Tagged)):
            continue
        for number, each in enumerate(entries if isinstance(entries, list) else [entries]):
            if not _is_entry(key, each):
                yield f"{where}.{key}[{number}]", f"found {each!r}", f"take it out, or write it like {example}"


def _is_entry(key: str, entry: Any) -> bool:
    if isinstance(entry, dict):
        return key != "links"
    text = str(entry).partition("/")[0] if key == "ports" else str(entry)
    return entry is not None and not isinstance(entry, list) and bool(text.strip(":"))


def _bodies(where: str, bodies: Any) -> Iterator[tuple[str, str, str]]:
    """Look at what has to be names, each with keys below it or nothing."""
    if not isinstance(bodies, (dict, Tagged, type(None))):
        yield where, f"expected names below it, got {bodies!r}", "like NAME: {…}; or take it out"
    for key, body in bodies.items() if isinstance(bodies, dict) else ():
        if not isinstance(body, (dict, Tagged, type(None))):
            yield (
                f"{where}.{key}",
                f"expected keys below it, got {body!r}",
                f"like {key}: {{…}}; or nothing behind the colon",
            )


def _odd_keys(where: str, value: Any) -> Iterator[tuple[str, str, str]]:
    """Find keys that YAML 1.1 takes for something else than a text, as compose 1.29 does: NO, 1.10."""
    if isinstance(value, dict):
        for key, below in value.items():
            plain = isinstance(key, Plain) and _RESOLVER.resolve(yaml.ScalarNode, str(key), (True, False)) != _TEXT
            if plain or not isinstance(key, str):
                yield f"{where}.{key}", f"expected a name, got {key!r}", "put it in quotes"
            yield from _odd_keys(f"{where}.{key}", below)
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from _odd_keys(f"{where}[{number}]", below)
