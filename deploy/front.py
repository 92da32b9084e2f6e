"""Around every task: its common flags, the configuration it reads, the hosts it reaches, and how it ends.

Everything but Invoke is imported when a task runs: `inv --list` and completion stay quick.
"""

from __future__ import annotations

import contextlib
import inspect
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from invoke.tasks import Task, task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from invoke.context import Context
    from invoke.parser.argument import Argument

    from deploy.config import Setup
    from deploy.console import Console
    from deploy.fleet import Fleet
    from deploy.recipe.model import Host
    from deploy.run import Batching

WAIT = {"wait": "wait until another run is done: --wait, or --wait=SECONDS"}
BATCHES = {
    "batch": "change so many hosts at a time, like 5 or 25%; all at once when left out",
    "pause": "seconds between two batches",
}
PATIENCE = 600
"""Seconds that --wait waits."""

SKIP = {"skip_unreachable": "go on without the hosts that cannot be reached; they stay as they are"}

COMMON = {
    "env": "which env of invoke.yaml, like prod; the configured default when left out",
    "hosts": "only these hosts of the env, separated by commas",
    "limit": "how many connections may be opening at once; deploy.ssh.limit when left out",
    "json": "one JSON object per line instead of text for people",
    "verbose": "also show what every program on the hosts prints: in full, or on a terminal its last lines",
}


class Opened(NamedTuple):
    """What every verb works with: one env's configuration, the way to its hosts, and whom to tell."""

    setup: Setup
    connect: Callable[..., Fleet]
    console: Console

    def on_first(self) -> Opened:
        """Return the same for the first of these hosts alone."""
        return self._on(self.setup.hosts[:1])

    def where(self, service: str) -> Opened:
        """Return the same for those of these hosts that run a service; for all of them where none is said to."""
        return self._on(tuple(host for host in self.setup.hosts if host.takes(service)) or self.setup.hosts)

    def _on(self, hosts: tuple[Host, ...]) -> Opened:
        setup = replace(self.setup, hosts=hosts)
        return self._replace(setup=setup, connect=lambda of=setup: self.connect(of))


OPENING = {
    "env": "", "hosts": "", "limit": "", "json": False, "verbose": False,
    "settle": "", "skip_unreachable": False, "login": "root",
}  # fmt: skip
"""The flags that `_opened` takes, and their defaults. Those from `settle` on are for the verbs that name them."""


class _Verb(Task[Any]):
    """A task of which one flag has a short name, too: all short names at once would give -h to `hosts`."""

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        options = super().arg_opts(name, default, taken_names)
        return {**options, "names": ["verbose", "v"]} if name == "verbose" else options

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the flags, as often as they are asked for: Invoke takes each help text out of the task as it goes."""
        words = dict(self.help)
        try:
            return super().get_arguments(ignore_unknown_help)
        finally:
            self.help = words


def verb(**flags: str) -> Callable[[Callable[..., None]], Any]:
    """Make a task of a function that takes an `Opened` and flags of its own, whose help `flags` are.

    Automatic short flags are off: `hosts` would take -h, and `inv deploy -h` would deploy.
    """
    words = {**COMMON, **flags}
    opening = {name: default for name, default in OPENING.items() if name in words}

    def make(story: Callable[..., None]) -> Any:
        first, *own = inspect.signature(story).parameters.values()
        named = [inspect.Parameter(name, first.kind, default=default) for name, default in opening.items()]
        signature = inspect.Signature([inspect.Parameter("context", first.kind), *named, *own])

        def body(*args: Any, **kwargs: Any) -> None:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            context, *_ = given.args
            with _opened(context, **{name: given.arguments[name] for name in opening}) as opened:
                story(opened, **{each.name: given.arguments[each.name] for each in own})

        body.__signature__ = signature  # type: ignore[attr-defined]  # what Invoke makes flags of
        body.__name__, body.__doc__ = story.__name__, story.__doc__
        optional = [name for name in WAIT if name in words]
        return task(help=words, auto_shortflags=False, positional=[], optional=optional, klass=_Verb)(body)

    return make


@contextlib.contextmanager
def _opened(
    context: Context,
    *,
    env: str,
    hosts: str,
    limit: str,
    json: bool,
    verbose: bool,
    settle: str = "",
    skip_unreachable: bool | None = None,
    login: str = "",
) -> Iterator[Opened]:
    """Read the configuration, offer the fleet that it names, and close what was opened.

    `skip_unreachable` is None for verbs that do not offer it.
    """
    from deploy import config
    from deploy.console import Console

    console = Console(as_json=json, verbose=verbose)
    opened: list[Fleet] = []
    with told(console):
        try:
            setup = _setup(context, console, env, hosts, settle, limit)
            reached = config.entered_by(setup, login) if login else setup
            yield Opened(setup, lambda of=reached: _connect(of, opened, console, skip=skip_unreachable), console)
        finally:
            with contextlib.suppress(KeyboardInterrupt):  # it has ended, and how is known
                for each in opened:
                    each.close()


@contextlib.contextmanager
def told(console: Console) -> Iterator[None]:
    """Turn what is raised into a message and an exit code. SIGTERM, as CI sends it, counts as Ctrl-C.

    So does SIGHUP, when the terminal goes away; not under nohup, which has it ignored.
    """
    from deploy.errors import Failed, GreenroomError, Interrupted

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except GreenroomError as error:
        console.fail(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        if not console.ended:
            console.fail(Interrupted("stopped by the operator"))
            sys.exit(Interrupted.exit_code)
    except Exception as error:  # noqa: BLE001  # a traceback helps nobody at 3 a.m.; a run undoes itself before it gets here
        console.fail(
            Failed(f"unexpected {type(error).__name__}: {error}", mend="this is a fault of Greenroom: please report it")
        )
        sys.exit(Failed.exit_code)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _setup(context: Context, console: Console, env: str, hosts: str, settle: str, limit: str) -> Setup:
    from deploy import config
    from deploy.console.redact import redactor
    from deploy.errors import Refused

    if context.config.run.dry:
        raise Refused("--dry would make every host's answer empty", mend="say `inv plan`: it looks, and does nothing")
    beside = context.config._project_prefix  # noqa: SLF001  # nothing else tells which invoke.yaml Invoke has read
    here = Path.cwd()
    directory = config.read_by_invoke(Path(beside).resolve(), here) if beside else config.find(here)
    setup = config.load(_plain(context.config.get("deploy")), directory, env, hosts, settle, limit)
    console.hide(redactor(setup.env, setup.readings))
    return setup


def remember(opened: Opened, verb: str) -> None:
    """Have this run written down, for `inv report`."""
    from deploy import clock, release, report

    app, hosts = opened.setup.app, [str(host) for host in opened.setup.hosts]
    began = f"{clock.utc_now():%Y-%m-%d %H:%M} UTC"
    path = report.journal(app.project, app.env)
    opened.console.record(
        path, verb=verb, project=app.project, env=app.env, hosts=hosts, who=release.who(), began=began
    )


def whole(text: str, flag: str, what: str) -> int:
    """Read a flag's number: Invoke would meet one that is none with a traceback."""
    from deploy import config

    return config.whole(text, flag, what)


def patience(wait: str | bool) -> int:
    """Read --wait, which may come without a number."""
    return PATIENCE if wait is True else whole(str(wait or "0"), "--wait", "seconds")


def batching(setup: Setup, batch: str, pause: str) -> Batching:
    from deploy import config
    from deploy.run import Batching

    return Batching(config.share(batch, len(setup.hosts)), whole(pause or "0", "--pause", "seconds"))


def said(reason: str, verb: str) -> str:
    from deploy.errors import Refused

    if not reason.strip():
        raise Refused("no reason was given", mend=f'say why: inv {verb} --reason="..."')
    return " ".join(reason.split())


def _connect(setup: Setup, opened: list[Fleet], console: Console, *, skip: bool | None) -> Fleet:
    """Connect. With `skip` hosts that cannot be reached are left out, and told of; None: that is not offered."""
    from deploy import fleet
    from deploy.errors import HostFailures
    from deploy.machine import Door

    tell = (lambda missing: console.say(f"left out:\n{missing}")) if skip else None
    door = Door(setup.ssh, {*setup.hosts, setup.app.hosts[0]})
    try:
        opened.append(fleet.connect(setup.hosts, door.connect, setup.app.hosts[0], tell, door.interrupted))
    except HostFailures as error:
        if skip is False and error.unreachable and len(error.failures) < len(setup.hosts):
            error.mend = "to go on without it: --skip-unreachable"
        raise
    return opened[-1]


def _plain(data: Any) -> Any:
    """Invoke wraps mappings in its DataProxy; validation wants the dicts inside."""
    return {key: _plain(value) for key, value in data.items()} if hasattr(data, "items") else data
