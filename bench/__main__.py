"""`make bench`: measures what docs/performance.md says, on real hosts, and writes it there.

make bench                                  all of it: some twenty-five minutes
make bench BENCH="--only uploads starts"    parts of it; the others stay as they are
make bench BENCH="--report"                 nothing is measured, the report is made anew
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import testbed
from bench import deploys, images, report, results, starts, uploads

PARTS = {"starts": starts.measure, "uploads": uploads.measure, "images": images.measure, "deploys": deploys.measure}
HOSTS = {"starts": 0, "images": 2}
"""How many hosts a part needs, if not one."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures, and writes docs/performance.md.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts")
    parser.add_argument("--rounds", type=int, default=3, help="how often each thing is measured (3)")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    failed = [] if asked.report else [part for part in asked.only if not _measured(part, asked.rounds)]
    report.write()
    if failed:
        results.say(f"not measured: {', '.join(failed)}")
    return len(failed)


def _measured(part: str, rounds: int) -> bool:
    """Measure a part; one that breaks leaves what was known before, and the others go on."""
    began = time.time()
    command = f'make bench BENCH="--only {part} --rounds {rounds}"'
    try:
        count = HOSTS.get(part, 1)
        with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as folder:
            tables, more = PARTS[part](Path(folder), testbed.up(count) if count else [], rounds)
    except Exception as error:  # noqa: BLE001  # told, and the exit code says it too
        results.say(f"{part}: FAILED: {type(error).__name__}: {error}")
        return False
    results.save(part, command, began, tables, **more)
    return True


if __name__ == "__main__":
    sys.exit(main())
