"""Greenroom, as its user types it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.ground import Ground


def deploy(ground: Ground) -> None:
    said = ground.project.inv("deploy", "--settle=0")
    if said.code:
        raise RuntimeError(said.text)
