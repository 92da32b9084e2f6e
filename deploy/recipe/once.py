"""Services of a compose file that run once and end: `deploy.migrate` does what they did, or somebody by hand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from deploy.recipe.shapes import mapping, same_image, words
from deploy.recipe.shell import typed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

AWAITED = "others wait for its end: it runs once, and is no part of a stack that stays"


NEVER = "nothing restarts it, so it runs once, and is no part of a stack that stays (if it stays: restart: always)"

_ENDS = re.compile(
    r"(?:migrate|makemigrations|collectstatic|compilemessages|createsuperuser|loaddata|db:\w+|(?:db[:_-]?)?(?:seed|setup)"
    r"|init[_-]?db|upgrade)(?:\.\w+)?"
)
"""Words of commands that end by themselves, in a project's usual tools."""


def run_once(services: Mapping[str, Mapping[str, Any]], stay: Sequence[str], main: str) -> dict[str, str]:
    """Return the services that run once, and how that is seen: in the file's order, what one waits for before it.

    Without `restart` compose runs everything once, and most of what says none is meant to stay all the same: there the
    command decides, of what runs the app's code.
    """
    awaited = {name for body in services.values() for name in _awaited(body)}
    ends = {}
    for name in _in_turn(services):
        body = services[name]
        restart = restart_of(body)
        if name in stay:
            continue
        if name in awaited:
            ends[name] = AWAITED
        elif restart in {"no", "none", "false"} or (not restart and ends_by_itself(command_of(body, services[main]))):
            ends[name] = NEVER
    return ends


def restart_of(body: Mapping[str, Any]) -> str:
    """Return what a service says of its restart, by either of the two keys; '' where it says nothing."""
    policy = mapping(mapping(body.get("deploy")).get("restart_policy"))
    return str(body.get("restart") or policy.get("condition") or ("any" if policy else "")).lower()


def ends_by_itself(command: str) -> bool:
    """Say whether the last of a line of commands is one that is known to end; what comes before it has to."""
    last = re.split(r"&&|;|\n", command.rstrip("'; \n"))[-1]
    return any(_ENDS.fullmatch(each.strip("'\"").rpartition("/")[2]) for each in last.split())


def _awaited(body: Mapping[str, Any]) -> Iterator[str]:
    for name, how in mapping(body.get("depends_on")).items():
        if isinstance(how, dict) and how.get("condition") == "service_completed_successfully":
            yield name


def _in_turn(services: Mapping[str, Mapping[str, Any]]) -> list[str]:
    seen: set[str] = set()
    turns: list[str] = []

    def visit(name: str) -> None:
        if name in services and name not in seen:
            seen.add(name)  # before the others: they may wait in a circle, which is for compose to say
            for other in mapping(services[name].get("depends_on")):
                visit(other)
            turns.append(name)

    for name in services:
        visit(name)
    return turns


def command_of(body: Mapping[str, Any], main: Mapping[str, Any]) -> str:
    """Return what a service runs as `deploy.migrate` would say it; '' where the app's own service cannot run it.

    `deploy.migrate` is run by the app's service: in its image, behind its entrypoint.
    """
    if not same_image(body, main) or body.get("entrypoint", main.get("entrypoint")) != main.get("entrypoint"):
        return ""
    return words(body.get("command"))


def together(commands: Iterable[str]) -> str:
    """Return one command line for several: each after the one before it has gone well."""
    every = list(dict.fromkeys(filter(None, commands)))
    return typed(["sh", "-c", " && ".join(every)]) if len(every) > 1 else "".join(every)


def does(migrate: Sequence[str], command: str) -> bool:
    """Say whether a command is among those of `deploy.migrate`, which may be several in a line for a shell."""
    return bool(command) and any(f" {command} " in f" {each} " for each in (typed(migrate), *migrate))
