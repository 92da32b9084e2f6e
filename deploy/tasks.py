"""One thin Invoke task per verb. No logic: it reads the flags, calls the story, and turns errors into exit codes.

Everything but Invoke is imported when a task runs: `inv --list` and completion stay quick.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

SKIP = {"skip-unreachable": "go on without the hosts that cannot be reached; they stay as they are"}

COMMON = {
    "env": "which env of invoke.yaml, like prod; the configured default when left out",
    "hosts": "only these hosts of the env, separated by commas",
    "limit": "how many connections may be opening at once; deploy.ssh.limit when left out",
    "json": "one JSON object per line instead of text for people",
    "verbose": "also show what every program on the hosts prints",
}
SOURCE = {
    "ref": "the git commit, branch or tag to deploy; HEAD when left out",
    "dirty": "deploy the files as they lie, uncommitted changes included",
}


def verb(**flags: str) -> Callable[[Callable[..., None]], Any]:
    """Make a task. Automatic short flags are off: `hosts` would take -h, and `inv deploy -h` would deploy."""
    optional = [name for name in WAIT if name in flags]
    made: Callable[[Callable[..., None]], Any] = task(
        help={**COMMON, **flags}, auto_shortflags=False, positional=[], optional=optional
    )
    return made


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
    context: Context,
    env: str = "",
    hosts: str = "",
    limit: str = "",
    ref: str = "",
    dirty: bool = False,
    settle: str = "",
    force: bool = False,
    yes: bool = False,
    wait: str = "",
    batch: str = "",
    pause: str = "",
    skip_unreachable: bool = False,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Bring every host to the release that the source makes, or leave all as they are.

    The idle colour is built, started and gated on health on every host; then every host switches; the new colour is
    watched for the settle delay; only then the old one is drained and stopped. Any failure before that puts every host
    back. Exit codes: 0 done, 1 failed and undone, 2 refused and nothing touched, 3 a human is needed.
    """
    from deploy import flow

    with _opened(
        context, env, hosts, limit=limit, settle=settle, skip=skip_unreachable, as_json=json, verbose=verbose
    ) as (
        setup,
        console,
        connect,
    ):
        options = flow.Options(ref, dirty, force, yes, _patience(wait), _batching(setup, batch, pause))
        flow.deploy(setup, connect, console, options)


@verb(
    to="the id of the release to go back to (see `inv history`); the one before when left out",
    **WAIT,
    **BATCHES,
    **SKIP,
)
def rollback(
    context: Context,
    env: str = "",
    hosts: str = "",
    limit: str = "",
    to: str = "",
    settle: str = "",
    wait: str = "",
    batch: str = "",
    pause: str = "",
    skip_unreachable: bool = False,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Go back to the release before, on every host, with its env and nginx configuration. Nothing is built."""
    from deploy import flow

    with _opened(
        context, env, hosts, limit=limit, settle=settle, skip=skip_unreachable, as_json=json, verbose=verbose
    ) as (
        setup,
        console,
        connect,
    ):
        options = flow.Options(wait=_patience(wait), batching=_batching(setup, batch, pause))
        flow.rollback(setup, connect, console, to, options)


@verb(**SOURCE, settle="as for deploy", force="plan even if nothing has changed")
def plan(
    context: Context,
    env: str = "",
    hosts: str = "",
    limit: str = "",
    ref: str = "",
    dirty: bool = False,
    settle: str = "",
    force: bool = False,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Print what deploy would do on each host, and why. Nothing is written on any host."""
    from deploy import flow

    with _opened(context, env, hosts, limit=limit, settle=settle, as_json=json, verbose=verbose) as (
        setup,
        console,
        connect,
    ):
        flow.plan(setup, connect, console, flow.Options(ref, dirty, force))


@verb(**SKIP)
def status(
    context: Context,
    env: str = "",
    hosts: str = "",
    limit: str = "",
    skip_unreachable: bool = False,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Show what is live on each host: colour, release, since when, health, containers, settings stack."""
    from deploy import flow

    with _opened(context, env, hosts, limit=limit, skip=skip_unreachable, as_json=json, verbose=verbose) as (
        setup,
        console,
        connect,
    ):
        flow.status(setup, connect, console)


@verb(lines="how many entries of each host")
def history(
    context: Context,
    env: str = "",
    hosts: str = "",
    limit: str = "",
    lines: str = "20",
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Show who deployed what, when, and how it ended."""
    from deploy import flow

    with _opened(context, env, hosts, limit=limit, as_json=json, verbose=verbose) as (setup, console, connect):
        flow.history(setup, connect, console, _whole(lines, "--lines", "a number of lines"))


@verb()
def check(
    context: Context, env: str = "", hosts: str = "", limit: str = "", json: bool = False, verbose: bool = False
) -> None:
    """Say what would stop or spoil a deploy: configuration, ssh, docker, compose, disk, nginx, ports."""
    from deploy import flow

    with _opened(context, env, hosts, limit=limit, as_json=json, verbose=verbose) as (setup, console, connect):
        flow.check(setup, connect, console)


@verb(reason="why; whoever wants to deploy is told", **SKIP)
def lock(
    context: Context,
    env: str = "",
    hosts: str = "",
    limit: str = "",
    reason: str = "",
    skip_unreachable: bool = False,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Keep every deploy and rollback off the hosts, until `inv unlock`."""
    from deploy import flow

    with _opened(context, env, hosts, limit=limit, skip=skip_unreachable, as_json=json, verbose=verbose) as (
        setup,
        console,
        connect,
    ):
        flow.put_lock(setup, connect, console, _said(reason, "lock"))


@verb(reason="why; it goes into the history", **SKIP)
def unlock(
    context: Context,
    env: str = "",
    hosts: str = "",
    limit: str = "",
    reason: str = "",
    skip_unreachable: bool = False,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Let deploys in again after `inv lock`. The lock of a run that is at work, or died, goes by itself."""
    from deploy import flow

    with _opened(context, env, hosts, limit=limit, skip=skip_unreachable, as_json=json, verbose=verbose) as (
        setup,
        console,
        connect,
    ):
        flow.take_lock_away(setup, connect, console, _said(reason, "unlock"))


ns = Collection(deploy, rollback, plan, status, history, check, lock, unlock)


# --- around every task -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(
    context: Context,
    env: str,
    hosts: str,
    *,
    limit: str = "",
    settle: str = "",
    skip: bool = False,
    as_json: bool = False,
    verbose: bool = False,
) -> Iterator[tuple[Setup, Console, Callable[[], Fleet]]]:
    """Read the configuration, offer the fleet that it names, and close what was opened.

    What a story raises becomes a message and an exit code. SIGTERM, as CI sends it, counts as Ctrl-C.
    """
    from deploy.console import Console
    from deploy.errors import Failed, GreenroomError, Interrupted

    console = Console(as_json=as_json, verbose=verbose)
    opened: list[Fleet] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        setup = _setup(context, console, env, hosts, settle, limit)
        yield setup, console, lambda: _connect(setup, opened, console if skip else None)
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


def _setup(context: Context, console: Console, env: str, hosts: str, settle: str, limit: str) -> Setup:
    from deploy import config
    from deploy.console.redact import redactor
    from deploy.errors import Refused

    if context.config.run.dry:
        raise Refused("--dry would make every host's answer empty", mend="say `inv plan`: it looks, and does nothing")
    setup = config.load(_plain(context.config.get("deploy")), config.find(Path.cwd()), env, hosts, settle, limit)
    console.hide(redactor(setup.env, setup.readings))
    return setup


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
