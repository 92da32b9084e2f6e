"""What operators do between deploys, as stories: look, run something in what is live, change what is beside it."""

from __future__ import annotations

import collections
import heapq
import queue
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from deploy import envfile, lock, release, source
from deploy.apply import ask, listen
from deploy.console.events import Event
from deploy.errors import Failed, GreenroomError, Interrupted, NeedsHuman, Refused
from deploy.fleet import AT_ONCE
from deploy.flow import (
    answering,
    consent,
    finish,
    fit,
    purposes,
    tell_of_maintenance,
    tell_of_trouble,
    tell_of_waiting,
    with_purpose,
)
from deploy.lock import LEASE
from deploy.recipe import facts as questions
from deploy.recipe import logs as log_words
from deploy.recipe import shell, standing, upkeep, waiting
from deploy.recipe.logs import LogLine, Wanted
from deploy.recipe.shapes import joined
from deploy.recipe.shell import Script
from deploy.recipe.steps import Phase
from deploy.run import STOPPED, Terms, engaged, no_parcels, observe
from deploy.source import Templates, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from deploy.apply import Machine
    from deploy.config import Setup
    from deploy.console import Console
    from deploy.fleet import Fleet
    from deploy.flow import Options
    from deploy.recipe.model import App, Facts, Host, Release
    from deploy.recipe.steps import Parcel, Plan
    from deploy.run import Plans, Run

    Connect = Callable[[], Fleet]

HOUR = 3_600
DAY = 86_400
"""Seconds: logs are read for an hour at most, and followed for a day; so long may a command take, too."""

AHEAD = 1000
"""Lines that are read of one host's logs before those of another come."""

# --- looking ---------------------------------------------------------------------------------------------------


def ps(setup: Setup, connect: Connect, console: Console) -> None:
    """Show every container of the app, on every host."""
    app = setup.app
    seen = observe(app, connect())
    rows = {host: _containers(app, host, facts) for host, facts in seen.items()}
    console.table(
        *with_purpose(("host", "stack", "service", "state", "health", "restarts", "since (UTC)", "image"), rows)
    )
    tell_of_trouble(console, seen)


def _containers(app: App, host: Host, facts: Facts) -> list[tuple[str, ...]]:
    live = app.stack(facts.switch) if facts.switch else ""
    what = waiting.waiting(app, facts)
    idle = what.kind if what else "idle"
    stacks = {app.stack(standing.idle_colour(facts)): idle, app.settings_stack: "", live: "live"}
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
    seen = observe(app, connect())
    rows = [
        (stored.id, str(host), _use(app, facts, stored.id), *_origin(stored.record))
        for host, facts in seen.items()
        for stored in facts.releases
    ]
    console.table(("release", "host", "is", "replaced", "made by", "of"), sorted(rows, reverse=True))
    tell_of_trouble(console, seen)


def _use(app: App, facts: Facts, release_id: str) -> str:
    stored = facts.stored(release_id)
    if release_id == standing.live_release(app, facts):
        return "live"
    what = waiting.waiting(app, facts)
    if what and release_id == waiting.release_of(app, facts, what.colour):
        return what.kind
    if not standing.can_start(facts, release_id):
        return "incomplete"
    return "a way back" if stored and stored.served else "never live"


def _origin(record: Release | None) -> tuple[str, str, str]:
    return (record.replaces or "-", record.who, record.origin) if record else ("-", "-", "-")


def logs(setup: Setup, connect: Connect, console: Console, wanted: Wanted) -> None:
    """Show what the containers of all hosts have written, in the order of time.

    Raises:
        Refused: no host has such a service.

    """
    fleet = connect()
    tell = _teller(console, [machine.host for machine in fleet.machines])
    _tell_in_order(setup.app, fleet, wanted, tell, lambda: console.unheard or fleet.stop(patient=True))


def _tell_in_order(
    app: App, fleet: Fleet, wanted: Wanted, tell: Callable[[Host, LogLine], None], over: Callable[[], bool]
) -> None:
    """Merge the lines of all hosts as they come: a host is read no further than AHEAD of the others."""
    script = Script((log_words.tell(wanted),), questions.variables(app), deadline=HOUR)
    # Hosts that wait for a thread would be waited for by those that have one.
    size = AHEAD if len(fleet.machines) <= AT_ONCE else 0
    lines: dict[Host, queue.Queue[LogLine | None]] = {m.host: queue.Queue(size) for m in fleet.machines}
    services: set[str] = set()

    def read(machine: Machine) -> None:
        try:
            for each in log_words.read(app, listen(machine, script, over)):
                if isinstance(each, str):
                    services.add(each)
                elif wanted.takes(each):
                    lines[machine.host].put(each)
        finally:
            lines[machine.host].put(None)

    def taken(host: Host) -> Iterator[tuple[str, Host, LogLine]]:
        while line := lines[host].get():
            yield line.at, host, line

    def merge() -> None:
        merged = heapq.merge(*map(taken, lines), key=lambda each: each[0])
        try:
            for _, host, line in merged:
                tell(host, line)
        finally:
            collections.deque(merged, 0)  # whatever happened, no host waits for room

    with ThreadPoolExecutor(1) as pool:
        merging = pool.submit(merge)
        fleet.each(read)
    merging.result()
    if not services:
        raise Refused(f"no container of {' or '.join(wanted.services) or app.project} is there", mend="see: inv ps")


def follow(setup: Setup, connect: Connect, console: Console, wanted: Wanted) -> None:
    """Show what the containers of all hosts write, as they write it, until the operator has seen enough.

    Containers that begin meanwhile are followed, too: a flip, a restart. A host whose link is lost is told of, and the
    others are followed on.

    Raises:
        Refused: no host has such a service: its first line would be waited for in vain.
        HostFailures: hosts whose link was lost.

    """
    fleet = connect()
    tell = _teller(console, [machine.host for machine in fleet.machines])

    def over() -> bool:
        return console.unheard or fleet.stop(patient=False)

    _tell_in_order(setup.app, fleet, replace(wanted, lines="0"), tell, over)
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


# --- tidying up ------------------------------------------------------------------------------------------------


def prune(setup: Setup, connect: Connect, console: Console, keep: int = 0) -> None:
    """Forget what no host needs: releases beyond the last `keep` (0: as configured), and their images.

    Raises:
        HostFailures: on some host nothing tells what is needed.
        Failed: it did not work everywhere.

    """
    app = replace(setup.app, keep=keep or setup.app.keep)
    fleet = connect()
    with engaged(app, fleet, console, "prune") as run:
        before = run.observe()
        answering(before)
        planned = {host: upkeep.plan_prune(app, facts, release.who()) for host, facts in before.items()}
        consent(planned, console, yes=True)
        if not any(each.steps for each in planned.values()):
            console.emit(Event("ended", text=f"nothing to do: the last {app.keep} are kept"))
            return
        finish(run, planned, Failed("Other hosts may have it.", mend="say it again"))
        after = run.observe()
        for host, facts in after.items():
            mib = max(0, facts.disk_free - before[host].disk_free) >> 20
            gone = upkeep.forgotten(before[host], facts)
            kept = f" of {planned[host].note}; the rest is in use" if gone != planned[host].note else ""
            console.emit(Event("note", host=str(host), text=f"forgotten: {gone}{kept}; {mib} MiB are free again"))
        console.emit(Event("ended", text="pruned"))


# --- the env ---------------------------------------------------------------------------------------------------


def diff_env(setup: Setup, connect: Connect, console: Console) -> None:
    """Say by name in what the env file that lies here differs from that of the live release; never a value.

    Raises:
        Refused: nobody is live, or the live release lies not there.

    """
    app = setup.app
    fleet = connect()
    seen = observe(app, fleet)
    answering(seen)
    live = _lives(app, seen)
    theirs = fleet.each(lambda m: _own_files(app, m, live[m.host], ".env"))
    rows = []
    for host, found in theirs.items():
        there = envfile.parse(found[".env"], f"{host}: .env of {live[host]}").values
        rows += [
            (str(host), name, what) for name, what in envfile.differences(there, setup.env_of(host).values).items()
        ]
    if rows:
        console.table(("host", "name", "would be"), rows)
    else:
        console.say(f"no difference: {', '.join(f'{host} has it with {live[host]}' for host in theirs)}")


def push_env(setup: Setup, connect: Connect, console: Console, options: Options) -> None:
    """Bring every host to its live release with the env file that lies here: a deploy without source and build.

    Raises:
        Refused: there is not one live release on all hosts to begin from.

    """
    app = setup.app
    fleet = connect()
    with engaged(app, fleet, console, "env.push", Terms(options.wait)) as run:
        seen = run.observe()
        fit(app, seen)
        tell_of_maintenance(console, seen)
        made, differs = _with_env(setup, fleet, seen, run.id)
        if not (differs or options.force):
            console.emit(
                Event("ended", text="nothing to do: the live release has this env (--force pushes all the same)")
            )
            return
        tell_of_waiting(app, console, seen)
        planned = {
            host: upkeep.plan_push(app, host, facts, made.of(host).release, fleet.leader)
            for host, facts in seen.items()
        }
        consent(planned, console, yes=options.yes)
        run.carry_out("env.push", planned, made.release, release.Parcels(NO_SOURCE, made).open, options.batching)
        console.emit(Event("ended", text=f"{made.release.id} is live on {purposes(seen)}"))


NO_SOURCE = Tree({}, "")


def _with_env(setup: Setup, fleet: Fleet, seen: Mapping[Host, Facts], run: str) -> tuple[release.Made, bool]:
    """Return the one live release with our env, and whether that differs from what it has."""
    app = setup.app
    live = set(_lives(app, seen).values())
    confs = {facts.conf for facts in seen.values() if facts.serves(app)}
    first = seen[fleet.leader].stored(max(live))
    if len(live) > 1 or not first or not first.record:
        raise Refused(
            f"the hosts differ: {', '.join(sorted(live))} are live", mend="a deploy brings the env, too: inv deploy"
        )
    if len(confs) > 1:
        raise Refused("the hosts differ: nginx has not the same configuration everywhere", mend="inv settings.reload")
    theirs = fleet.each(lambda m: _own_files(app, m, first.id, *(() if m.host == fleet.leader else (".env",)), run=run))
    differs = any(
        found[".env"].removesuffix(b"\n") != setup.env_of(host).content.removesuffix(b"\n")
        for host, found in theirs.items()
    )
    conf = max(confs, default=first.record.conf)
    return release.with_env(setup, first.record, conf, theirs[fleet.leader]), differs


def _lives(app: App, seen: Mapping[Host, Facts]) -> dict[Host, str]:
    live = {host: standing.live_release(app, facts) for host, facts in seen.items()}
    for host, ident in live.items():
        if not ident or not standing.can_start(seen[host], ident):
            raise Refused(
                f"{host}: no release is live there that it knows", mend="a deploy brings the env, too: inv deploy"
            )
    return live


def _own_files(app: App, machine: Machine, ident: str, *names: str, run: str = "") -> dict[str, bytes]:
    variables = questions.variables(app, release_id=ident)
    return questions.read_files(ask(machine, variables, questions.own_files(*names), run=run))


# --- the settings stack ----------------------------------------------------------------------------------------


def settings_up(setup: Setup, connect: Connect, console: Console) -> None:
    """Start what the settings stack lacks on any host, as the live release has it."""
    _settings(
        setup,
        connect,
        console,
        "settings.up",
        lambda host, facts: upkeep.plan_up(setup.app, host, facts, release.who()),
        yes=True,
    )


def settings_restart(setup: Setup, connect: Connect, console: Console, services: Sequence[str], *, yes: bool) -> None:
    """Restart services of the settings stack, each warmly: all but nginx, unless that one is named.

    Raises:
        Refused: one that is named runs on none of these hosts.

    """
    _settings(
        setup,
        connect,
        console,
        "settings.restart",
        lambda _, facts: upkeep.plan_restart(setup.app, facts, release.who(), services),
        yes=yes,
        named=services,
    )


def settings_down(setup: Setup, connect: Connect, console: Console, *, yes: bool) -> None:
    """Stop and remove the settings stack, nginx included."""
    _settings(
        setup,
        connect,
        console,
        "settings.down",
        lambda _, facts: upkeep.plan_down(setup.app, facts, release.who()),
        yes=yes,
    )


def _settings(
    setup: Setup,
    connect: Connect,
    console: Console,
    verb: str,
    plan: Callable[[Host, Facts], Plan],
    *,
    yes: bool,
    named: Sequence[str] = (),
) -> None:
    fleet = connect()
    with engaged(setup.app, fleet, console, verb) as run:
        seen = run.observe()
        answering(seen)
        stack = setup.app.settings_stack
        if unknown := set(named) - {c.service for facts in seen.values() for c in facts.of(stack) if c.runs}:
            raise Refused(
                f"no {' and no '.join(sorted(unknown))} of {stack} runs on {joined(seen)}",
                mend="see: inv ps; what is not running is started by: inv settings.up",
            )
        planned = {host: plan(host, facts) for host, facts in seen.items()}
        consent(planned, console, yes=yes)
        if not any(each.steps for each in planned.values()):
            console.emit(Event("ended", text="nothing to do"))
            return
        finish(run, planned, Failed("Other hosts may have it.", mend="say it again"))
        done = "; ".join(f"{host}: {each.note}" for host, each in planned.items() if each.note)
        console.emit(Event("ended", text=done))


def settings_reload(setup: Setup, connect: Connect, console: Console) -> None:
    """Hand nginx on every host the configuration that lies here, tested before and without a lost request; or on none.

    Raises:
        Failed: an nginx refuses it; every nginx has what it had.

    """
    conf, own = release.nginx_conf(setup, Templates(setup.templates))
    fleet = connect()
    with engaged(setup.app, fleet, console, "settings.reload") as run:
        seen = run.observe()
        served = _served(setup.app, seen)
        planned = {host: upkeep.plan_reload(setup.app, facts, release.who(), conf) for host, facts in seen.items()}
        consent(planned, console, yes=True)
        _all_or_none(run, planned, lambda _: source.pack(NO_SOURCE, (), release.aside(own)))
        console.emit(Event("ended", text=f"nginx has {conf} on {served}"))


# --- maintenance -----------------------------------------------------------------------------------------------


def maintenance(setup: Setup, connect: Connect, console: Console, reason: str = "") -> None:
    """Show users the maintenance page on every host; without a `reason` let them in again.

    Raises:
        Failed: some nginx does not look at the switch; nothing has changed for any user.

    """
    app = setup.app
    who = release.who()
    text = lock.manual(who, reason) if reason else ""
    verb = "maintenance.on" if reason else "maintenance.off"
    fleet = connect()
    with engaged(app, fleet, console, verb) as run:
        seen = run.observe()
        served = _served(app, seen)
        if not text and not any(facts.maintenance for facts in seen.values()):
            console.emit(Event("ended", text="nothing to do: users are let in"))
            return
        planned = {host: upkeep.plan_maintenance(app, facts, who, text, reason) for host, facts in seen.items()}
        consent(planned, console, yes=True)
        _all_or_none(run, planned, no_parcels)
        console.emit(
            Event("ended", text=f"users see the maintenance page of {served}" if text else f"open again: {served}")
        )


def _served(app: App, seen: Mapping[Host, Facts]) -> str:
    """Name the hosts to which users are sent: the others have no nginx.

    Raises:
        Refused: there is none.

    """
    answering(seen)
    found = [host for host, facts in seen.items() if facts.serves(app)]
    if not found:
        raise Refused(
            f"no user is sent to {joined(seen)} (deploy.envs.{app.env}.runs): no {app.proxy} is there",
            mend=f"say it of those that run {app.service}",
        )
    return joined(found)


def _all_or_none(run: Run, planned: Plans, parcels: Callable[[Parcel], IO[bytes]]) -> None:
    """Do it on every host, or leave every host as it was."""
    try:
        for phase in (Phase.PREPARE, Phase.FLIP):
            run.phase(phase, planned, parcels)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # whatever it is, hosts must not differ
        reason = str(error) or STOPPED
        try:
            run.phase(Phase.UNDO, planned, no_parcels)
        except (Exception, KeyboardInterrupt) as again:  # noqa: BLE001  # the same
            mend = f"see what users have now: inv status --env={run.app.env}; then say it again"
            raise NeedsHuman(f"{reason}\nIt could not be undone everywhere:\n{again}", mend=mend) from None
        raise Failed(f"{reason}\nUndone on every host: all is as it was.") from None
    finish(run, planned, NeedsHuman("It is done on every host, and not written down on all.", mend="say it again"))
