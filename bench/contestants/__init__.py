"""Who deploys: each brings the same commit of the same app to the same host, blue-green, by its own best practice."""

from __future__ import annotations

from bench.contestants import ansible, floor, greenroom, pyinfra

NAMES = {
    "floor": floor.deploy,
    "greenroom": greenroom.deploy,
    "pyinfra": pyinfra.deploy,
    "ansible": ansible.deploy,
}
"""In the order in which they take their turns."""
