"""The tasks of a deploy in two halves. As thin as those of deploy/tasks.py."""

from __future__ import annotations

from deploy.front import BATCHES, SKIP, WAIT, Opened, batching, patience, remember, verb

SOURCE = {
    "ref": "the git commit, branch or tag to stage; HEAD when left out",
    "dirty": "stage the files as they lie, uncommitted changes included",
}


@verb(
    **SOURCE,
    force="stage even if nothing has changed",
    yes="agree to what the plan asks for",
    **WAIT,
    **SKIP,
)
def stage(
    opened: Opened, ref: str = "", dirty: bool = False, force: bool = False, yes: bool = False, wait: str = ""
) -> None:
    """Bring up the idle colour, and leave it.

    The first half of a deploy: build, migrate, start, gate, on every host or on none. Users keep what they have, on
    data that is migrated from then on. Next: inv preview, inv promote, inv unstage. A deploy or a rollback takes its
    place.
    """
    from deploy import flow, staging

    remember(opened, "stage")
    staging.stage(*opened, flow.Options(ref, dirty, force, yes, patience(wait)))


@verb(
    settle="as for deploy",
    yes="agree to what the plan asks for, like recreating redis after its definition changed",
    **WAIT,
    **BATCHES,
    **SKIP,
)
def promote(opened: Opened, yes: bool = False, wait: str = "", batch: str = "", pause: str = "") -> None:
    """Send users to what is staged.

    The second half of a deploy: gate again, flip, settle, hand over the workers, drain, stop. Refused unless one and
    the same release is staged on every host, whole and running. What fails is undone, and stays staged.
    """
    from deploy import flow, staging

    remember(opened, "promote")
    options = flow.Options(yes=yes, wait=patience(wait), batching=batching(opened.setup, batch, pause))
    staging.promote(*opened, options)


@verb(**SKIP)
def unstage(opened: Opened) -> None:
    """Throw away what is staged, or the standby.

    Its containers are stopped; a staged release is forgotten. What it migrated stays migrated.
    """
    from deploy import staging

    staging.unstage(*opened)


@verb(port="the port of 127.0.0.1 to show it at")
def preview(opened: Opened, port: str = "8800") -> None:
    """Show the idle colour at a local port.

    Through the SSH connection to the first host, or the one that --hosts names, until Ctrl-C. Nothing is opened there.
    """
    from deploy import flags, staging

    staging.preview(*opened.on_first(), flags.port(port))


TASKS = (stage, promote, unstage, preview)
"""What goes into the namespace beside the verbs of a deploy."""
