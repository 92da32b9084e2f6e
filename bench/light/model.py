"""One deploy, in figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Round:
    """One deploy: seconds, bytes, counts. `cpu` is the operator's, `hosts_cpu` that of all hosts together."""

    hosts: int
    wall: float
    cpu: float
    system: float
    memory: int
    waits: int
    threads: int
    hosts_cpu: float
    skew: float
    connections: int
    commands: int
    to_hosts: int
    from_hosts: int
    phases: dict[str, float]
