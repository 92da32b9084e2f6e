"""A Host we can talk to. The only room that imports fabric and paramiko: their traps are worked around here.

Laws of this room:
- A host key is verified at every connection, jump hosts included; nothing is accepted silently.
- Every wait has a deadline. A link that went away is noticed, and what it was doing is *unknown*, never failed.
- Nothing but a fixed line of sh is ever in an argument: scripts and secrets go in by the standard input.
"""

from __future__ import annotations

import logging

from deploy.machine.door import Door
from deploy.machine.forward import Forward
from deploy.machine.link import SshMachine

# What paramiko logs, its tracebacks too, would go to the terminal: all of it comes as an exception as well.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

__all__ = ["Door", "Forward", "SshMachine"]
