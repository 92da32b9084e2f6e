"""The command line: `python -m testbed --help`."""

from __future__ import annotations

import argparse
import sys

from . import SSH_CONFIG, down, engine, events, hosts, reset, up
from .errors import EngineMissingError, ProvisionError
from .model import KINDS, MOST, Target, target_named


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says and return the exit status: 0 done, 1 failed, 2 no engine or wrong arguments."""
    options = _parser().parse_args(arguments)
    events.show()
    try:
        if options.command == "up":
            up(options.count, options.kind)
            _show_hosts()
        elif options.command == "ls":
            _show_hosts()
        elif options.command == "reset":
            reset([target_named(name) for name in options.names] or _running())
        else:
            down(everything=options.all)
    except ProvisionError as error:
        sys.stderr.write(f"testbed: {error}\n")
        return 2 if isinstance(error, EngineMissingError) else 1
    except KeyboardInterrupt:
        sys.stderr.write("testbed: interrupted; the next `up` goes on from here\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m testbed",
        description="Real hosts to deploy to, on one machine: containers with sshd, docker and compose, each at its "
        "own loopback address with ports 22 and 80.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    up_ = commands.add_parser(
        "up",
        help="have hosts up",
        description="Have the first COUNT hosts of a kind up. Hosts that are up stay as they are; what stopped, or was "
        "left half made, heals. Makes what is missing: images, keys, and on Debian, as root, the docker engine.",
    )
    up_.add_argument(
        "count", type=int, choices=range(1, MOST + 1), metavar="COUNT", help=f"how many hosts: 1 to {MOST}"
    )
    up_.add_argument(
        "--kind",
        choices=KINDS,
        default="trixie",
        help="; ".join(f"{kind.name}: {kind.about}" for kind in KINDS.values()) + " (default: %(default)s)",
    )

    commands.add_parser("ls", help="list the hosts", description="List the hosts, and how to reach them.")

    reset_ = commands.add_parser(
        "reset",
        help="make hosts as new, in seconds",
        description="Bring hosts back to how they were just after `up`: without containers, networks, volumes, added "
        "images, processes and files of the user `deploy`. Their build caches stay.",
    )
    reset_.add_argument("names", nargs="*", metavar="NAME", help="a host, such as trixie-1 (default: all that are up)")

    down_ = commands.add_parser(
        "down",
        help="remove the hosts",
        description="Remove all hosts, their volumes, network and keys, and stop the docker engine if `up` started it. "
        "Images stay, so that the next `up` takes seconds.",
    )
    down_.add_argument("--all", action="store_true", help="remove the images and seed volumes, too")
    return parser


def _running() -> list[Target]:
    return [target for target, state in hosts.states().items() if state == "running"]


def _show_hosts() -> None:
    """Print a table of the hosts, and how to log in."""
    states = hosts.states() if engine.answers() else {}
    if not states:
        sys.stdout.write("no hosts; `python -m testbed up 3` makes some\n")
        return
    rows = [("HOST", "STATE", "ADDRESS", "AMONG HOSTS", "ENGINE")]
    rows += [(host.name, state, host.address, host.inner, KINDS[host.kind].about) for host, state in states.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", f"log in: ssh -F {SSH_CONFIG} {next(iter(states)).name}", ""]
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
