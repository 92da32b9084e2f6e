"""`inv`, as anybody would type it, with an account of what its own process took written down when it ends."""

from __future__ import annotations

import atexit
import json
import os
import resource
import sys
from pathlib import Path

from invoke.main import program


def account(path: Path) -> None:
    """Write down seconds of processor, bytes of memory at most, and how often it waited.

    Not ru_maxrss: a process inherits that from whoever started it.
    """
    own = resource.getrusage(resource.RUSAGE_SELF)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    taken = {
        "cpu": own.ru_utime + own.ru_stime,
        "system": own.ru_stime,
        "memory": int(status["VmHWM"].split()[0]) * 1024,
        "waits": own.ru_nvcsw,
    }
    path.write_text(json.dumps(taken))


if __name__ == "__main__":
    atexit.register(account, Path(os.environ["LIGHT_ACCOUNT"]))
    program.run(["inv", *sys.argv[1:]])
