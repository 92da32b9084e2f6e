"""The floor: rsync, and then the very docker commands as one script over one ssh.

It knows no failure and no second try. Both go over one connection (ControlMaster), which is opened anew for
each deploy, as for every contestant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.contestants.lines import lines

if TYPE_CHECKING:
    from bench.ground import Ground


def deploy(ground: Ground) -> None:
    script = ground.file("floor.sh", SCRIPT.format(ssh=ground.ssh, rsync=ground.rsync()))
    on_host = "\n".join(f"(\n{line.text})" for line in lines(ground.app))
    ground.run(["sh", str(script), str(ground.file("floor.host.sh", f"set -e\n{on_host}\n"))])


SCRIPT = """\
set -eu
trap '{ssh} -q -O exit bench 2>/dev/null' EXIT
{rsync}
{ssh} bench sh -s <"$1"
"""
