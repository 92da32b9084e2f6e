"""pyinfra: rsync by its local shell, and one shell operation a step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.contestants.lines import lines

if TYPE_CHECKING:
    from bench.ground import Ground


def deploy(ground: Ground) -> None:
    way = {
        "ssh_hostname": ground.target.address,
        "ssh_port": ground.port,
        "ssh_user": "deploy",
        "ssh_key": str(ground.key),
        "ssh_known_hosts_file": str(ground.known_hosts),
        "ssh_strict_host_key_checking": "yes",
    }
    inventory = ground.file("pyinfra_inventory.py", f"hosts = [('bench', {way!r})]\n")
    steps = "".join(SHELL.format(title=line.title, text=line.text) for line in lines(ground.app))
    deployment = ground.file("pyinfra_deploy.py", RSYNC.format(command=ground.rsync()) + steps)
    ground.run([str(Path(sys.executable).with_name("pyinfra")), "-y", str(inventory), str(deployment)])


RSYNC = """\
from pyinfra import local
from pyinfra.operations import server

local.shell({command!r})
"""

SHELL = "server.shell(name={title!r}, commands=[{text!r}])\n"
