"""ansible-core: a playbook of one play, rsync and then a shell task a step.

Pipelining is on, forks = hosts, ssh is OpenSSH with ControlPersist, and no facts are gathered. The modules for docker
and rsync are collections of their own, not part of ansible-core; what they would run is what stands here.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.contestants.lines import lines

if TYPE_CHECKING:
    from bench.ground import Ground


def deploy(ground: Ground) -> None:
    tasks: list[dict[str, Any]] = [
        {
            "name": "upload",
            "ansible.builtin.shell": ground.rsync(),
            "delegate_to": "localhost",
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
        },
        *(
            {"name": line.title, "ansible.builtin.shell": f"{{% raw %}}{line.text}{{% endraw %}}"}
            for line in lines(ground.app)
        ),
    ]
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    way = {"ansible_host": "bench", "ansible_ssh_common_args": f"-F {ground.ssh_config}"}
    way["ansible_python_interpreter"] = "/usr/bin/python3"
    inventory = {"all": {"hosts": {"bench": way}}}
    playbook = ground.file("playbook.yml", json.dumps([play]))  # JSON is YAML
    hosts = ground.file("inventory.yml", json.dumps(inventory))
    settings = ground.file("ansible.cfg", SETTINGS.format(sockets=ground.folder / "cp"))
    ground.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(hosts), str(playbook)],
        {**os.environ, "ANSIBLE_CONFIG": str(settings), "LC_ALL": "C.UTF-8"},
    )


SETTINGS = """\
[defaults]
forks = 1
host_key_checking = true
[ssh_connection]
pipelining = true
ssh_args = -o ControlMaster=auto -o ControlPersist=60s
control_path_dir = {sockets}
"""
