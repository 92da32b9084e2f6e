"""One thin Invoke task per verb. No logic: it reads the flags, calls the story, and turns errors into exit codes.

Everything but Invoke is imported when a task runs: `inv --list` and completion stay quick.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.program import Program
from invoke.tasks import task

from deploy import __version__, halves, operating
from deploy.front import BATCHES, SKIP, WAIT, Opened, batching, patience, remember, said, told, verb, whole

if TYPE_CHECKING:
    from types import TracebackType

    from invoke.context import Context

SOURCE = {
    "ref": "the git commit, branch or tag to deploy; HEAD when left out",
    "dirty": "deploy the files as they lie, uncommitted changes included",
}


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
    """Bring every host to a new release, or none.

    It is the release that the source makes. The idle colour is built, started and gated on health on every host; then
    every host switches; the new colour is watched for the settle delay; only then the old one is drained and stopped.
    Any failure before that puts every host back. Exit codes: 0 done, 1 failed and undone, 2 refused and nothing
    touched, 3 a human is needed.
    """
    from deploy import flow

    remember(opened, "deploy")
    options = flow.Options(ref, dirty, force, yes, patience(wait), batching(opened.setup, batch, pause))
    flow.deploy(*opened, options)


@verb(
    to="the id of the release to go back to (see `inv history`); the one before when left out",
    settle="as for deploy",
    **WAIT,
    **BATCHES,
    **SKIP,
)
def rollback(opened: Opened, to: str = "", wait: str = "", batch: str = "", pause: str = "") -> None:
    """Go back to the release before, on every host.

    Its env and nginx configuration come back with it. Nothing is built. With --to=ID of what is live already it flips
    nobody, and clears away what a run left beside it.
    """
    from deploy import flow

    remember(opened, "rollback")
    options = flow.Options(wait=patience(wait), batching=batching(opened.setup, batch, pause))
    flow.rollback(*opened, to, options)


@verb(**SOURCE, settle="as for deploy", force="plan even if nothing has changed")
def plan(opened: Opened, ref: str = "", dirty: bool = False, force: bool = False) -> None:
    """Print what a deploy would do, and why.

    Nothing is written on any host.
    """
    from deploy import flow

    flow.plan(*opened, flow.Options(ref, dirty, force))


@verb(**SOURCE)
def config(opened: Opened, ref: str = "", dirty: bool = False) -> None:
    """Print the compose files that every host would get.

    Derived or not; no host is asked.
    """
    from deploy import flow

    flow.config(opened.setup, opened.console, flow.Options(ref, dirty))


@verb(**SKIP)
def status(opened: Opened) -> None:
    """Show what is live on each host, and how it feels.

    Colour, release, since when, health, containers, settings stack; a lock, maintenance.
    """
    from deploy import flow

    flow.status(*opened)


@verb(lines="how many entries of each host")
def history(opened: Opened, lines: str = "20") -> None:
    """Show who deployed what, when, and how it ended."""
    from deploy import flow

    flow.history(*opened, whole(lines, "--lines", "a number of lines"))


@verb(out="where to write the page")
def report(opened: Opened, out: str = "report.html") -> None:
    """Write the last run from this machine as one page.

    A timeline of each host, failures, all steps.
    """
    from deploy import report as reports

    page = reports.page(reports.read(reports.journal(opened.setup.app.project, opened.setup.app.env)))
    reports.write(Path(out), page)
    opened.console.say(f"the last run stands in {out}")


@verb(files_only="only the files of a release: no host is asked, as in CI")
def check(opened: Opened, files_only: bool = False) -> None:
    """Name all that would stop a deploy, or be lost by one.

    Each reason with its place and the mend. Nothing is written. Exit codes: 0 nothing of the kind, 1 a deploy would go
    through and lose something, 2 something would stop it. What is only worth knowing changes no exit code.
    """
    from deploy import check as story

    story.check(*opened, files_only=files_only)


@verb(reason="why; whoever wants to deploy is told", **SKIP)
def lock(opened: Opened, reason: str = "") -> None:
    """Keep every run off the hosts, until `inv unlock`."""
    from deploy import flow

    flow.put_lock(*opened, said(reason, "lock"))


@verb(reason="why; it goes into the history", **SKIP)
def unlock(opened: Opened, reason: str = "") -> None:
    """Let runs in again after `inv lock`.

    The lock of a run that is at work, or died, goes by itself.
    """
    from deploy import flow

    flow.take_lock_away(*opened, said(reason, "unlock"))


@verb(
    login="who logs in to do it: root, or a login that may sudo without a password",
    docker_packages="docker's own packages, also where the distribution has some",
    yes="agree to what it says it will do",
)
def setup(opened: Opened, docker_packages: bool = False, yes: bool = False) -> None:
    """Make bare hosts ready: docker, compose, a deploy user.

    Debian, Ubuntu, RHEL and their kin; the app's directory is made, too. It says first what it will do, and asks. A
    host that is ready is left alone; firewalls are only talked about.
    """
    from deploy import setup as story

    story.setup(*opened, story.Options(docker_packages, yes))


@task(
    help={
        "project": "its name on the hosts; the compose file's, or the folder's, when left out",
        "hosts": "user@address of each host, separated by commas",
        "domain": "the host name that users type; the health check asks for it",
        "health": "a path that answers 2xx or 3xx when the app is fit",
        "service": "the service of the compose file that users reach",
        "port": "where it listens, inside its container",
        "yes": "ask nothing; what is there already stays",
    },
    auto_shortflags=False,
    positional=[],
)
def init(
    _: Context,
    project: str = "",
    hosts: str = "",
    domain: str = "",
    health: str = "",
    service: str = "",
    port: str = "",
    yes: bool = False,
) -> None:
    """Make this folder a Greenroom project.

    Nothing that is there is overwritten unasked.
    """
    from deploy import adopt
    from deploy.console import Console

    console = Console()
    with told(console):
        adopt.init(Path.cwd(), console, adopt.Answers(project, hosts, domain, health, service, port, yes))


ns = Collection(
    init,
    deploy,
    rollback,
    plan,
    config,
    status,
    history,
    report,
    check,
    lock,
    unlock,
    setup,
    *halves.TASKS,
    *operating.TASKS,
)


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
    # The name for completion is said, too: Invoke would take the one that it was called by, whatever that was.
    _Program(name="Greenroom", binary="greenroom", binary_names=["greenroom"], namespace=ns, version=__version__).run()
