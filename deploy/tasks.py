"""One thin Invoke task per verb. No logic: it reads the flags, calls the story, and turns errors into exit codes.

Everything but Invoke is imported when a task runs: `inv --list` and completion stay quick.
"""

from __future__ import annotations

import contextlib
import inspect
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from invoke.collection import Collection
from invoke.program import Program
from invoke.tasks import task

from deploy import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from invoke.context import Context

    from deploy.config import Setup
    from deploy.console import Console
    from deploy.fleet import Fleet
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
    "json": "one JSON object per line instead of text for people",
    "verbose": "also show what every program on the hosts prints",
}
SOURCE = {
    "ref": "the git commit, branch or tag to deploy; HEAD when left out",
    "dirty": "deploy the files as they lie, uncommitted changes included",
}


class Opened(NamedTuple):
    """What every verb works with: one env's configuration, the way to its hosts, and whom to tell."""

    setup: Setup
    connect: Callable[[], Fleet]
    console: Console


OPENING = {"env": "", "hosts": "", "json": False, "verbose": False, "settle": "", "skip_unreachable": False}
"""The flags that `_opened` takes, and their defaults. The last two are for the verbs that name them."""


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
        return task(help=words, auto_shortflags=False, positional=[], optional=optional)(body)

    return make


@verb(
    **SOURCE,
    settle="seconds to watch the new colour before the old one goes; the configured delay when left out",
    force="deploy even if nothing has changed",
    yes="agree to what the plan asks for, like recreating redis after its definition changed",
    **WAIT,
    **BATCHES,
    **SKIP,
)
def deploy(
    opened: Opened,
    ref: str = "",
    dirty: bool = False,
    force: bool = False,
    yes: bool = False,
    wait: str = "",
    batch: str = "",
    pause: str = "",
) -> None:
    """Bring every host to the release that the source makes, or leave all as they are.

    The idle colour is built, started and gated on health on every host; then every host switches; the new colour is
    watched for the settle delay; only then the old one is drained and stopped. Any failure before that puts every host
    back. Exit codes: 0 done, 1 failed and undone, 2 refused and nothing touched, 3 a human is needed.
    """
    from deploy import flow

    _remember(opened, "deploy")
    options = flow.Options(ref, dirty, force, yes, _patience(wait), _batching(opened.setup, batch, pause))
    flow.deploy(*opened, options)


@verb(
    to="the id of the release to go back to (see `inv history`); the one before when left out",
    settle="as for deploy",
    **WAIT,
    **BATCHES,
    **SKIP,
)
def rollback(opened: Opened, to: str = "", wait: str = "", batch: str = "", pause: str = "") -> None:
    """Go back to the release before, on every host, with its env and nginx configuration. Nothing is built."""
    from deploy import flow

    _remember(opened, "rollback")
    options = flow.Options(wait=_patience(wait), batching=_batching(opened.setup, batch, pause))
    flow.rollback(*opened, to, options)


@verb(**SOURCE, settle="as for deploy", force="plan even if nothing has changed")
def plan(opened: Opened, ref: str = "", dirty: bool = False, force: bool = False) -> None:
    """Print what deploy would do on each host, and why. Nothing is written on any host."""
    from deploy import flow

    flow.plan(*opened, flow.Options(ref, dirty, force))


@verb(**SKIP)
def status(opened: Opened) -> None:
    """Show what is live on each host: colour, release, since when, health, containers, settings stack."""
    from deploy import flow

    flow.status(*opened)


@verb(lines="how many entries of each host")
def history(opened: Opened, lines: str = "20") -> None:
    """Show who deployed what, when, and how it ended."""
    from deploy import flow

    flow.history(*opened, _whole(lines, "--lines", "a number of lines"))


@verb(out="where to write the page")
def report(opened: Opened, out: str = "report.html") -> None:
    """Write the last deploy or rollback from this machine as one page: a timeline of each host, failures, all steps."""
    from deploy import report as reports

    page = reports.page(reports.read(reports.journal(opened.setup.app.project, opened.setup.app.env)))
    reports.write(Path(out), page)
    opened.console.say(f"the last run stands in {out}")


@verb()
def check(opened: Opened) -> None:
    """Say what would stop or spoil a deploy: configuration, ssh, docker, compose, disk, nginx, ports."""
    from deploy import flow

    flow.check(*opened)


@verb(reason="why; whoever wants to deploy is told", **SKIP)
def lock(opened: Opened, reason: str = "") -> None:
    """Keep every deploy and rollback off the hosts, until `inv unlock`."""
    from deploy import flow

    flow.put_lock(*opened, _said(reason, "lock"))


@verb(reason="why; it goes into the history", **SKIP)
def unlock(opened: Opened, reason: str = "") -> None:
    """Let deploys in again after `inv lock`. The lock of a run that is at work, or died, goes by itself."""
    from deploy import flow

    flow.take_lock_away(*opened, _said(reason, "unlock"))


ns = Collection(deploy, rollback, plan, status, history, report, check, lock, unlock)


# --- around every task -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(
    context: Context,
    *,
    env: str,
    hosts: str,
    json: bool,
    verbose: bool,
    settle: str = "",
    skip_unreachable: bool = False,
) -> Iterator[Opened]:
    """Read the configuration, offer the fleet that it names, and close what was opened.

    What a story raises becomes a message and an exit code. SIGTERM, as CI sends it, counts as Ctrl-C.
    """
    from deploy.console import Console
    from deploy.errors import Failed, GreenroomError, Interrupted

    console = Console(as_json=json, verbose=verbose)
    opened: list[Fleet] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        setup = _setup(context, console, env, hosts, settle)
        yield Opened(setup, lambda: _connect(setup, opened, console if skip_unreachable else None), console)
    except GreenroomError as error:
        console.fail(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        if not console.ended:
            console.fail(Interrupted("stopped by the operator, before anything was touched"))
            sys.exit(Interrupted.exit_code)
    except Exception as error:  # noqa: BLE001  # a traceback helps nobody at 3 a.m.; a run undoes itself before it gets here
        console.fail(
            Failed(f"unexpected {type(error).__name__}: {error}", mend="this is a fault of Greenroom: please report it")
        )
        sys.exit(Failed.exit_code)
    finally:
        with contextlib.suppress(KeyboardInterrupt):  # it has ended, and how is known
            for each in opened:
                each.close()
        signal.signal(signal.SIGTERM, before)


def _setup(context: Context, console: Console, env: str, hosts: str, settle: str) -> Setup:
    from deploy import config
    from deploy.console.redact import redactor
    from deploy.errors import Refused

    if context.config.run.dry:
        raise Refused("--dry would make every host's answer empty", mend="say `inv plan`: it looks, and does nothing")
    setup = config.load(_plain(context.config.get("deploy")), config.find(Path.cwd()), env, hosts, settle)
    console.hide(redactor(setup.env, setup.readings))
    return setup


def _remember(opened: Opened, verb: str) -> None:
    from deploy import clock, release, report

    app, hosts = opened.setup.app, [str(host) for host in opened.setup.hosts]
    began = f"{clock.utc_now():%Y-%m-%d %H:%M} UTC"
    path = report.journal(app.project, app.env)
    opened.console.record(
        path, verb=verb, project=app.project, env=app.env, hosts=hosts, who=release.who(), began=began
    )


def _whole(text: str, flag: str, what: str) -> int:
    """Read a flag's number: Invoke would meet one that is none with a traceback."""
    from deploy import config

    return config.whole(text, flag, what)


def _patience(wait: str | bool) -> int:
    """Read --wait, which may come without a number."""
    return PATIENCE if wait is True else _whole(str(wait or "0"), "--wait", "seconds")


def _batching(setup: Setup, batch: str, pause: str) -> Batching:
    from deploy import config
    from deploy.run import Batching

    return Batching(config.share(batch, len(setup.hosts)), _whole(pause or "0", "--pause", "seconds"))


def _said(reason: str, verb: str) -> str:
    from deploy.errors import Refused

    if not reason.strip():
        raise Refused("no reason was given", mend=f'say why: inv {verb} --reason="..."')
    return " ".join(reason.split())


def _connect(setup: Setup, opened: list[Fleet], skips: Console | None) -> Fleet:
    """Connect; `skips` is told of hosts that cannot be reached and may be left out."""
    from deploy import fleet
    from deploy.machine import Door

    tell = (lambda missing: skips.say(f"left out:\n{missing}")) if skips else None
    opened.append(
        fleet.connect(
            setup.hosts, Door(setup.ssh, {*setup.hosts, setup.app.hosts[0]}).connect, setup.app.hosts[0], tell
        )
    )
    return opened[0]


def _plain(data: Any) -> Any:
    """Invoke wraps mappings in its DataProxy; validation wants the dicts inside."""
    return {key: _plain(value) for key, value in data.items()} if hasattr(data, "items") else data


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say what is wrong with a file that Invoke reads before any task runs: of itself it shows a traceback."""
    from deploy.config import FILE
    from deploy.console import Console
    from deploy.errors import ConfigError

    if not {"_load_file", "load_shell_env"} & {frame.f_code.co_name for frame, _ in traceback.walk_tb(trace)}:
        sys.__excepthook__(kind, error, trace)
        return
    what = " ".join(str(error).split())
    mend = "check its indentation, brackets and quotes; keys are text, so 1, yes, no, on and off need quotes"
    Console().fail(ConfigError(f"{FILE} cannot be read: {what}", mend=mend))
    sys.exit(ConfigError.exit_code)


sys.excepthook = _explain


class _Program(Program):
    """The console script: the same tasks as `inv`, with the invoke.yaml of the folder one stands in."""

    def parse_collection(self) -> None:
        from deploy.config import find
        from deploy.errors import ConfigError

        with contextlib.suppress(ConfigError):  # `greenroom --help` works anywhere; a task says what is missing
            self.config.set_project_location(find(Path.cwd()))
            self.config.load_project()
        super().parse_collection()


def main() -> None:
    """Run the console script `greenroom`."""
    _Program(name="Greenroom", binary="greenroom", namespace=ns, version=__version__).run()
