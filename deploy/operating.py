"""The tasks of what operators do between deploys. As thin as those of deploy/tasks.py."""

from __future__ import annotations

import sys

from invoke.collection import Collection

from deploy.front import BATCHES, SKIP, WAIT, Opened, batching, patience, remember, verb, whole

LOOKED_THROUGH = 10_000
"""Lines of each container in which --grep looks, unless told otherwise."""


@verb(**SKIP)
def ps(opened: Opened) -> None:
    """Show every container of the app, on every host."""
    from deploy import operate

    operate.ps(*opened)


@verb(**SKIP)
def releases(opened: Opened) -> None:
    """Show the releases on each host, and the ways back."""
    from deploy import operate

    operate.releases(*opened)


@verb(
    follow="go on until Ctrl-C; containers that begin meanwhile are followed, too",
    f="the same",
    since="only lines since then: 90s, 10m, 2h, 3d or 2026-11-22T07:00:00",
    service="only these services, separated by commas: web is that of both colours",
    grep="only lines in which this regular expression is found; looked for in the newest 10000 of each container",
    lines="the newest lines of each container: 100, or 10 with --follow, or all with --since",
    **SKIP,
)
def logs(
    opened: Opened,
    follow: bool = False,
    f: bool = False,
    since: str = "",
    service: str = "",
    grep: str = "",
    lines: str = "",
) -> None:
    """Show what containers write, of all hosts; -f follows."""
    from deploy import flags, operate
    from deploy.recipe.logs import Wanted

    usual = "all" if since else "10" if follow or f else str(LOOKED_THROUGH) if grep else "100"
    wanted = Wanted(
        services=flags.names(service, "--service"),
        since=flags.since(since),
        lines=str(whole(lines, "--lines", "a number of lines")) if lines else usual,
        grep=flags.pattern(grep, "--grep"),
    )
    (operate.follow if follow or f else operate.logs)(*opened, wanted)


@verb(
    command="the command as one string, for the container's sh: pipes and all; or, word by word, after --",
    service="where: a service of the live colour, or of the settings stack; the app's own when left out",
    all="on every host of the env that runs it; otherwise on the first one, or on the one that --hosts names",
    tty="give it your terminal, as for psql or manage.py shell",
)
def exec(  # noqa: A001  # the verb's name
    opened: Opened,
    command: str = "",
    service: str = "",
    all: bool = False,  # noqa: A002  # a flag's name
    tty: bool = False,
) -> None:
    """Run a command in the live release, or open a shell there.

    As in: inv exec -- python manage.py check. It reads no input, unless with --tty. The exit code is that of the
    command; of several hosts, the largest. A deploy that stops the colour ends what runs in it.
    """
    from deploy import flags, operate

    words = flags.one_off(command, sys.argv)
    where = service or opened.setup.app.service
    opened = opened.where(where) if all else opened.where(where).on_first()
    run = operate.execute if words and not tty else operate.open_shell
    sys.exit(run(*opened, where, words))


@verb(keep="releases that stay: as many as configured when left out")
def prune(opened: Opened, keep: str = "") -> None:
    """Forget releases and images that nothing needs."""
    from deploy import flags, operate

    operate.prune(*opened, flags.kept(keep))


@verb(**SKIP)
def diff(opened: Opened) -> None:
    """Tell which names differ from the live env."""
    from deploy import operate

    operate.diff_env(*opened)


@verb(
    settle="as for deploy",
    force="push even if nothing has changed",
    yes="agree to what the plan asks for, like recreating redis after its password changed",
    **WAIT,
    **BATCHES,
    **SKIP,
)
def push(
    opened: Opened, force: bool = False, yes: bool = False, wait: str = "", batch: str = "", pause: str = ""
) -> None:
    """Bring the env to every host, blue-green.

    The live release gets the env file that lies here. A deploy without source, build and migration: gate, flip, settle
    and undo are the same, and so are the exit codes.
    """
    from deploy import flow, operate

    remember(opened, "env push")
    options = flow.Options(force=force, yes=yes, wait=patience(wait), batching=batching(opened.setup, batch, pause))
    operate.push_env(*opened, options)


YES = {"yes": "agree to what it asks for: users may notice"}


@verb()
def up(opened: Opened) -> None:
    """Start what the settings stack lacks.

    As the live release has it; what runs is left alone.
    """
    from deploy import operate

    operate.settings_up(*opened)


@verb(service="which services, separated by commas; all but nginx when left out", **YES)
def restart(opened: Opened, service: str = "", yes: bool = False) -> None:
    """Restart services of the settings stack."""
    from deploy import flags, operate

    operate.settings_restart(*opened, flags.names(service, "--service"), yes=yes)


@verb()
def reload(opened: Opened) -> None:
    """Bring the nginx configuration to every host.

    The one that lies here, without a lost request. It is tested on every host before any nginx reloads. The next deploy
    brings it, too; a rollback brings back what its release had.
    """
    from deploy import operate

    operate.settings_reload(*opened)


@verb(**YES)
def down(opened: Opened, yes: bool = False) -> None:
    """Remove the settings stack: users get no answer.

    Until `inv settings.up`, or a deploy. Its volumes stay.
    """
    from deploy import operate

    operate.settings_down(*opened, yes=yes)


@verb(reason="why; status tells it")
def on(opened: Opened, reason: str = "") -> None:
    """Show users the maintenance page.

    The path of the health check stays open, and so do static and media files. A deploy works as ever, and its users
    go on seeing the page. The page is maintenance.html in the folder of nginx's configuration.
    """
    from deploy import operate

    operate.maintenance(*opened, " ".join(reason.split()) or "no reason was given")


@verb()
def off(opened: Opened) -> None:
    """Let users in again."""
    from deploy import operate

    operate.maintenance(*opened)


TASKS = (
    *(ps, logs, exec, releases, prune),
    Collection("env", diff, push),
    Collection("settings", up, restart, reload, down),
    Collection("maintenance", on, off),
)
"""What goes into the namespace beside the verbs of a deploy."""
