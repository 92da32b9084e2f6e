"""Compose files as they are written. What they mean is for the host's own compose to say."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from deploy.errors import ConfigError

_Fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Safe both; the one in C is ten times as fast, and not everywhere."""


class _Loader(_Fast):  # type: ignore[misc]  # which one is known at run time
    """Reads what files say, for a look at it."""


def _tagged(loader: Any, tag: str, node: yaml.Node) -> list[Any]:
    """Read `!reset` and `!override` of compose v2: what they mean is its business, that they are there counts."""
    if isinstance(node, yaml.MappingNode):
        return [f"!{tag}", loader.construct_mapping(node, deep=True)]
    if isinstance(node, yaml.SequenceNode):
        return [f"!{tag}", loader.construct_sequence(node, deep=True)]
    return [f"!{tag}", node.value]


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


def read(content: bytes, name: str) -> dict[str, Any]:
    """Read a compose file for a look at it.

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


def _checked(content: bytes, name: str, loader: Any) -> dict[str, Any]:
    try:
        data: Any = yaml.load(content, Loader=loader)  # noqa: S506  # safe: see there
        json.dumps(data, default=str)  # an alias may lead to itself
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{name} is no YAML: {' '.join(str(error).split())}") from None
    services = data.get("services") if isinstance(data, dict) else None
    if not isinstance(services, dict):
        raise ConfigError(f"{name}: expected a compose file with `services:`")
    for service, body in services.items():
        if not isinstance(service, str):
            raise ConfigError(f"{name}: services.{service}: expected a name", mend="put it in quotes")
        if not isinstance(body, (dict, list, type(None))):
            raise ConfigError(f"{name}: services.{service}: expected keys below it, got {body!r}")
    return dict(data)
