"""The story of `inv check`: every reason why a deploy would stop, or lose something, before there is one."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from deploy import clock, lock, papers, release
from deploy.apply import ask
from deploy.console.events import Event
from deploy.errors import ConfigError, Refused, SourceError, Unfit, Unsafe
from deploy.recipe import facts as questions
from deploy.recipe import hosts, nginx, preflight, standing, waiting
from deploy.recipe.preflight import Finding, Weight
from deploy.run import means_of, observe
from deploy.source import Templates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from deploy.apply import Machine
    from deploy.config import Setup
    from deploy.console import Console
    from deploy.fleet import Fleet
    from deploy.recipe.model import App, Facts, Host
    from deploy.recipe.shell import Answer


def check(setup: Setup, connect: Callable[[], Fleet], console: Console, *, files_only: bool = False) -> None:
    """Say what would stop a deploy, what would be lost by one, and what is worth knowing. Nothing is written anywhere.

    Raises:
        Unfit: something would stop a deploy.
        Unsafe: a deploy would go through, and lose requests or data.

    """
    found = _tell(console, _of_files(setup, console))
    if not files_only:
        found += _tell(console, _of_hosts(setup, connect(), console))
    _conclude(console, found)


def _of_files(setup: Setup, console: Console) -> list[Finding]:
    templates = Templates(setup.templates)
    try:
        tree = release.read(setup, templates, dirty=True)
        made = release.make(setup, tree, templates)
        read = papers.of(setup, tree, made)
    except (ConfigError, SourceError) as error:
        return [Finding(Weight.STOPS, "configuration", "", error.what, error.mend)]
    count = len(setup.app.hosts)
    console.say(f"configuration: {count} host{'s' * (count != 1)}, source {setup.source}, {len(tree.leaves)} files")
    return [replace(each, where=_written(setup, each.where)) for each in preflight.findings(read)]


def _written(setup: Setup, where: str) -> str:
    """Return the place in the compose file that is deployed as it is, where a finding is about what was made of it."""
    _, _, place = where.partition(": services.")
    if setup.adopted and re.split(r"[.\[]", place)[0] in setup.adopted.document["services"]:
        return f"{setup.adopted.file}: services.{place}"
    return where


def _of_hosts(setup: Setup, fleet: Fleet, console: Console) -> list[Finding]:
    app = setup.app
    seen = observe(app, fleet)
    unfit = {
        host: hosts.unfit(app, facts, lock.describe(facts.locked) if facts.locked else "")
        for host, facts in seen.items()
    }
    able = fleet.part(host for host in seen if not unfit[host])
    examined = able.each(lambda machine: _examine(setup, machine, seen[machine.host])) if able.machines else {}
    found = _of_this_machine(setup, seen)
    for host, facts in seen.items():
        if host in examined:
            answers, skew = examined[host]
            console.say(f"{host}: {_described(app, facts, answers)}")
            unfit[host] = hosts.findings(app, facts, answers, skew)
        found += [replace(each, where=str(host)) for each in unfit[host]]
    return found


def _of_this_machine(setup: Setup, seen: Mapping[Host, Facts]) -> list[Finding]:
    """What a deploy needs where it is typed: a docker that builds for these hosts, a password for the registry."""
    try:
        if workshop := means_of(setup).workshop:
            workshop.fit(seen)
    except Refused as error:
        return [Finding(Weight.STOPS, "this-machine", "", error.what, error.mend)]
    return []


def _examine(setup: Setup, machine: Machine, facts: Facts) -> tuple[list[Answer], float]:
    """Ask a host what only `check` wants to know; with how many seconds its clock is ahead of ours."""
    question = questions.examine(*_ports(setup, machine.host))
    before = clock.utc_now().timestamp()
    answers = ask(machine, questions.variables(setup.app, compose=facts.compose), question)
    return answers, _skew(answers, before, clock.utc_now().timestamp())


def _ports(setup: Setup, host: Host) -> list[str]:
    """Return the ports that nginx publishes on a host; one that only compose knows is left out."""
    if not host.takes(setup.app.service):
        return []
    own = {"HTTP_PORT": setup.shape.published} if setup.shape else {}
    defaults = {name: str(default) for name, default in nginx.PORTS.items() if not setup.shape} | own
    stated = [(setup.env_of(host).values.get(name) or default).rpartition(":")[2] for name, default in defaults.items()]
    return [port for port in stated if port.isdecimal()]


def _described(app: App, facts: Facts, answers: Iterable[Answer]) -> str:
    told = {answer.key: answer.values[0] for answer in answers if answer.values}
    return (
        f"docker {facts.docker}, {facts.compose} {told.get('compose_version', '?')}, "
        f"nginx {told.get('nginx_version', 'not running')}, {facts.disk_free >> 30} GiB free, "
        f"{'; '.join(filter(None, (standing.describe(app, facts), waiting.describe(app, facts))))}"
    )


def _skew(answers: Iterable[Answer], before: float, after: float) -> float:
    """Return how many seconds a host's clock is ahead of ours, by what it said between two looks at ours.

    It tells whole seconds; whatever lies between the looks is no difference.
    """
    said = next((float(answer.values[0]) for answer in answers if answer.key == "clock"), before)
    return min(said + 1 - before, 0) + max(said - after, 0)


def _tell(console: Console, findings: Iterable[Finding]) -> list[Finding]:
    told = list(findings)
    for each in told:
        console.emit(
            Event("finding", weight=str(each.weight), rule=each.rule, where=each.where, text=each.what, mend=each.mend)
        )
    return told


def _conclude(console: Console, found: Iterable[Finding]) -> None:
    count = Counter(each.weight for each in found)
    stops, loses = count[Weight.STOPS], count[Weight.LOSES]
    lost = f"{loses} would lose requests or data"
    if stops:
        raise Unfit("; ".join([f"findings: {stops} would stop a deploy", *([lost] if loses else [])]))
    if loses:
        raise Unsafe(f"findings: none would stop a deploy; {lost}")
    console.say("nothing would stop a deploy, and nothing would be lost by one")
