"""Write what the code knows better than any page: the reference of tasks and keys, and the schema for editors.

`python docs/generate.py` writes docs/reference.md and docs/invoke.schema.json; a test compares them with the code. The
words for a key are the comments of the commented sample, invoke.yaml.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from deploy.front import COMMON
from deploy.keys import EnvKeys, TopKeys
from deploy.tasks import ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from invoke.tasks import Task

DOCS = Path(__file__).parent
REFERENCE = DOCS / "reference.md"
SCHEMA = DOCS / "invoke.schema.json"

_KEY = re.compile(r"(?P<indent> *)(?:# )?(?P<key>[a-z_]+):(?: +[^#]*?)?(?: +# (?P<words>.*))?")
_MORE = re.compile(r" {10,}# (?P<words>.*)")
_ONE_ENV = "envs.prod."


def words(sample: str) -> dict[str, str]:
    """Return what the sample's comments say of each key, by its path below `deploy:`, like `health.path`."""
    said: dict[str, str] = {}
    path: list[str] = []
    for line in sample.splitlines():
        if more := _MORE.fullmatch(line):
            said[".".join(path)] += " " + more["words"]
        elif (found := _KEY.fullmatch(line)) and found["indent"]:
            path = [*path[: len(found["indent"]) // 2 - 1], found["key"]]
            said[".".join(path)] = found["words"] or ""
    return {path.removeprefix(_ONE_ENV): text for path, text in said.items() if text}


def schema(said: dict[str, str]) -> dict[str, Any]:
    """Return the JSON Schema of a whole invoke.yaml. Invoke's own keys may stand beside ours."""
    _, parts = msgspec.json.schema_components((TopKeys, EnvKeys), ref_template="#/$defs/{name}")
    for name, prefix in (
        ("TopKeys", ""),
        ("EnvKeys", ""),
        ("HealthKeys", "health."),
        ("Ssh", "ssh."),
        ("StackKeys", "stack."),
        ("RegistryKeys", "registry."),
    ):
        for key, each in parts[name]["properties"].items():
            if prefix + key not in said:
                raise LookupError(f"invoke.yaml: a comment must say what {prefix + key} means")
            each["description"] = said[prefix + key]
    parts["TopKeys"]["properties"]["envs"]["additionalProperties"] = {"$ref": "#/$defs/EnvKeys"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Greenroom's part of invoke.yaml",
        "type": "object",
        "properties": {"deploy": {"$ref": "#/$defs/TopKeys"}},
        "required": ["deploy"],
        "$defs": {name: _undented(part) for name, part in sorted(parts.items())},
    }


def _undented(part: dict[str, Any]) -> dict[str, Any]:
    """A docstring comes with its indentation before Python 3.13, and without from then on."""
    return {**part, "description": inspect.cleandoc(part["description"])} if "description" in part else part


def reference(schema: dict[str, Any]) -> str:
    """Return the page of all tasks and all keys."""
    return "\n".join((_HEAD, *_tasks(), _KEYS, *_keys(schema), _TAIL))


_HEAD = """# Reference

Made from the code by `python docs/generate.py`; a test fails when it is out of date.

## Tasks

`inv TASK`, or `greenroom TASK`. Flags come after the task's name. Every task but `init` has these:

| flag | meaning |
|---|---|"""

_KEYS = """## Keys of invoke.yaml

All stand under `deploy:`. The commented sample is `invoke.yaml` in Greenroom's repository; editors complete and check
the keys with [invoke.schema.json](invoke.schema.json). Every key but `project`, `source`, `templates`, `env` and `envs`
may also stand in an env, and wins there.

| key | type | default | meaning |
|---|---|---|---|"""

_TAIL = """
## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed, and undone: users are where they were |
| 2 | refused: nothing was touched |
| 3 | a human is needed: the message says where, what users see, and what to type |
"""


def _tasks() -> Iterator[str]:
    """The rows of the flags that all have, then a part for each task."""
    short = {"verbose": ", `-v`"}
    yield from (f"| `--{name}`{short.get(name, '')} | {text} |" for name, text in sorted(COMMON.items()))
    yield ""
    for name in sorted(ns.task_names):
        yield from _task(name, ns[name])


def _task(name: str, task: Task[Any]) -> Iterator[str]:
    yield f"### {name}\n"
    yield re.sub(r"\n +", "\n", (task.__doc__ or "").strip()) + "\n"
    own = [a for a in task.get_arguments() if name == "init" or a.names[0].replace("_", "-") not in COMMON]
    if not own:
        return
    yield "| flag | meaning |\n|---|---|"
    for argument in sorted(own, key=lambda a: str(a.names[0])):
        value = "" if argument.kind is bool else "[=...]" if argument.optional else "=..."
        yield f"| `{_flag(argument.names[0])}{value}` | {argument.help} |"
    yield ""


def _flag(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"


def _keys(schema: dict[str, Any]) -> Iterator[str]:
    """The rows of the keys: those that stand once first, then those that may differ from env to env."""
    defaults = msgspec.to_builtins(TopKeys())
    properties = schema["$defs"]["TopKeys"]["properties"]
    for key in sorted(properties, key=lambda key: key in EnvKeys.__struct_fields__):
        ways = (properties[key], *properties[key].get("anyOf", ()))
        nested = next((way["$ref"].rpartition("/")[2] for way in ways if "$ref" in way), "")
        yield _row(key, properties[key], "" if nested else defaults[key])
        for inner, each in schema["$defs"].get(nested, {}).get("properties", {}).items():
            yield _row(f"{key}.{inner}", each, (defaults[key] or {}).get(inner, each.get("default", "")))


def _row(path: str, each: dict[str, Any], default: Any) -> str:
    shown = f"`{json.dumps(default)}`" if default not in ("", [], {}) else ""
    words = each["description"].replace("<", "&lt;").replace("|", "&#124;")
    return f"| `{path}` | {_type(each)} | {shown} | {words} |"


def _type(each: dict[str, Any]) -> str:
    if "enum" in each:
        return " or ".join(f"`{value}`" for value in each["enum"])
    inner = f" of {each['items']['type']}s" if each.get("type") == "array" else ""
    return {"object": "keys", "array": "list", "integer": "whole number"}.get(
        each.get("type", "object"), str(each.get("type"))
    ) + inner


def pages() -> dict[Path, str]:
    """Return what each generated page should hold."""
    made = schema(words((DOCS.parent / "invoke.yaml").read_text()))
    return {REFERENCE: reference(made), SCHEMA: json.dumps(made, indent=2, ensure_ascii=False) + "\n"}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
