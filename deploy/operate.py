"""What operators do between deploys, as stories: look closer, run something in what is live."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deploy.apply import ask, listen
from deploy.errors import GreenroomError, Interrupted, Refused
from deploy.lock import LEASE
from deploy.recipe import facts as questions
from deploy.recipe import logs as log_words
from deploy.recipe import plan as plans
from deploy.recipe import shell
from deploy.recipe.logs import LogLine, Wanted
from deploy.recipe.shell import Script
from deploy.run import observe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from deploy.apply import Machine
    from deploy.config import Setup
    from deploy.console import Console
    from deploy.fleet import Fleet
    from deploy.recipe.model import App, Facts, Host, Release

    Connect = Callable[[], Fleet]

HOUR = 3_600
DAY = 86_400
"""Seconds: logs are read for an hour at most, and followed for a day; so long may a command take, too."""

# --- looking ---------------------------------------------------------------------------------------------------


def ps(setup: Setup, connect: Connect, console: Console) -> None:
    """Show every container of the app, on every host."""
    app = setup.app
    seen = observe(app, connect(), "")
    rows = [row for host, facts in seen.items() for row in _containers(app, host, facts)]
    console.table(("host", "stack", "service", "state", "health", "restarts", "since (UTC)", "image"), rows)
    for host, facts in seen.items():
        if facts.trouble:
            console.say(f"{host}: docker does not answer: {facts.trouble}")


def _containers(app: App, host: Host, facts: Facts) -> list[tuple[str, ...]]:
    live = app.stack(facts.switch) if facts.switch else ""
    stacks = {app.stack(plans.idle_colour(facts)): "idle", app.settings_stack: "", live: "live"}
    return [
        (
            str(host),
            f"{c.stack} ({stacks[c.stack]})" if stacks[c.stack] else c.stack,
            c.service,
            c.state,
            c.health or "-",
            str(c.restarts),
            c.since[:19].replace("T", " "),
            c.image,
        )
        for c in sorted(facts.containers, key=lambda c: (c.stack == app.settings_stack, c.stack != live, c.service))
        if c.stack in stacks
    ]


def releases(setup: Setup, connect: Connect, console: Console) -> None:
    """Show every release that lies on a host: the ways back, and what is live."""
    app = setup.app
    seen = observe(app, connect(), "")
    rows = [
        (stored.id, str(host), _use(app, facts, stored.id), *_origin(stored.record))
        for host, facts in seen.items()
        for stored in facts.releases
    ]
    console.table(("release", "host", "is", "replaced", "made by", "of"), sorted(rows, reverse=True))


def _use(app: App, facts: Facts, release_id: str) -> str:
    stored = facts.stored(release_id)
    if release_id == plans.live_release(app, facts):
        return "live"
    if not plans.can_start(facts, release_id):
        return "incomplete"
    return "a way back" if stored and stored.served else "never live"


def _origin(record: Release | None) -> tuple[str, str, str]:
    return (record.replaces or "-", record.who, record.origin) if record else ("-", "-", "-")


def logs(setup: Setup, connect: Connect, console: Console, wanted: Wanted) -> None:
    """Show what the containers of all hosts have written, in the order of time.

    Raises:
        Refused: no host has such a service.

    """
    told = _told(setup.app, connect(), wanted)
    found = [(line, host) for host, lines in told.items() for line in lines if isinstance(line, LogLine)]
    tell = _teller(console, told)
    for line, host in sorted(found, key=lambda each: each[0].at):
        if wanted.takes(line):
            tell(host, line)


def _told(app: App, fleet: Fleet, wanted: Wanted) -> dict[Host, list[LogLine | str]]:
    script = Script((log_words.tell(wanted),), questions.variables(app), deadline=HOUR)
    told = fleet.each(
        lambda machine: list(log_words.read(app, listen(machine, script, lambda: fleet.stop(patient=True))))
    )
    if not any(told.values()):
        raise Refused(f"no container of {' or '.join(wanted.services) or app.project} is there", mend="see: inv ps")
    return told


def follow(setup: Setup, connect: Connect, console: Console, wanted: Wanted) -> None:
    """Show what the containers of all hosts write, as they write it, until the operator has seen enough.

    Containers that begin meanwhile are followed, too: a flip, a restart. A host whose link is lost is told of, and the
    others are followed on.

    Raises:
        Refused: no host has such a service: its first line would be waited for in vain.
        HostFailures: hosts whose link was lost.

    """
    fleet = connect()
    _told(setup.app, fleet, replace(wanted, lines="0"))
    tell = _teller(console, [machine.host for machine in fleet.machines])

    def over() -> bool:
        return console.unheard or fleet.stop(patient=False)

    try:
        fleet.each(lambda machine: _follow(setup.app, machine, wanted, tell, over))
    except Interrupted:
        return


def _follow(
    app: App, machine: Machine, wanted: Wanted, tell: Callable[[Host, LogLine], None], over: Callable[[], bool]
) -> None:
    script = Script((log_words.follow(wanted, LEASE),), questions.variables(app), deadline=DAY, heard=True)
    try:
        for line in log_words.read(app, listen(machine, script, over)):
            if isinstance(line, LogLine) and wanted.takes(line):
                tell(machine.host, line)
    except GreenroomError as error:
        tell(machine.host, LogLine("", "-", f"not followed any more: {error}"))
        raise


def _teller(console: Console, hosts: Iterable[Host]) -> Callable[[Host, LogLine], None]:
    width = max(len(str(host)) for host in hosts)
    return lambda host, line: console.log(str(host).ljust(width), line.service, line.text, line.at)


# --- running something -----------------------------------------------------------------------------------------


def execute(setup: Setup, connect: Connect, console: Console, service: str, words: Sequence[str]) -> int:
    """Run a command in what is live, show what it says as it says it, and return its exit code: of several the largest.

    Raises:
        HostFailures: hosts on which it could not be run, or whose link was lost: then it is ended there.

    """
    fleet = connect()
    codes = fleet.each(lambda machine: _run_inside(setup.app, machine, fleet, console, service, words))
    for host, code in codes.items():
        if code and len(codes) > 1:
            console.say(f"{host}: exit code {code}")
    return max(codes.values())


def _run_inside(app: App, machine: Machine, fleet: Fleet, console: Console, service: str, words: Sequence[str]) -> int:
    command = shell.command("run_inside", LEASE, service, *words)
    script = Script((command,), questions.variables(app), deadline=DAY, heard=True)
    code = None
    host = str(machine.host) if len(fleet.machines) > 1 else ""
    for each in listen(machine, script, lambda: fleet.stop(patient=False)):
        match each:
            case shell.Answer("exited", (status,)):
                code = int(status)
            case shell.Line(text):
                console.log(host, "", text)
    if code is None:
        raise Interrupted("broken off; the command was ended")
    return code


def open_shell(setup: Setup, connect: Connect, console: Console, service: str, words: Sequence[str]) -> int:
    """Give the operator's terminal to a command in what is live on one host, a shell if none is named; its exit code.

    What passes through is the operator's own: nothing in it is hidden.

    Raises:
        Refused: there is no terminal, or more than one host.

    """
    if len(setup.hosts) > 1:
        names = ", ".join(map(str, setup.hosts))
        raise Refused("a shell is opened on one host", mend=f"say which: --hosts=NAME, one of {names}")
    terminal = console.terminal()
    if terminal is None:
        raise Refused("a shell needs a terminal", mend="to run one command: inv exec -- COMMAND")
    (machine,) = connect().machines
    (answer,) = ask(machine, questions.variables(setup.app), shell.command("inside", service))
    return terminal.join(machine.interact(shell.in_terminal(answer.values[0], words), terminal.kind, terminal.size()))
