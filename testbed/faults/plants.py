"""Is what is said of faults to be believed? Bugs are planted in the product, and must be found on the real hosts.

`python -m testbed.faults.plants` deploys under load, with nothing broken but `inv` itself (altered.py), and looks at
what the same judges say that judge the faults. The product as it is comes first: of it they must have nothing to say.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import testbed
from testbed import events
from testbed.faults import altered, cases
from testbed.faults.bed import Bed
from testbed.faults.campaign import play
from testbed.load import SLEEP

if TYPE_CHECKING:
    from testbed.faults.matrix import Result

HOSTS = 2
LONG = replace(SLEEP, path="/sleep?seconds=8", lasts=8.0)
"""On a busy machine docker may need seconds to kill a colour, and shorter requests have ended by then."""

COSTS_NOBODY = "leave-the-old-colour"
"""The one that loses no request: it is told by what it leaves on the hosts."""


def main() -> int:
    events.show()
    with tempfile.TemporaryDirectory() as folder:
        bed = Bed.make(testbed.up(HOSTS), Path(folder) / "project")
        bed.kinds = (*bed.kinds, LONG)
        wrong = [name for name in ("", *altered.PLANTS) if not _as_expected(bed, name)]
    print(f"NOT AS EXPECTED: {', '.join(name or 'the product' for name in wrong)}" if wrong else "\nall were found")
    return 1 if wrong else 0


def _as_expected(bed: Bed, name: str) -> bool:
    result = planted(bed, name)
    print(f"\n{name or 'the product as it is'}: {result}", flush=True)
    if not name:
        return not result.failed
    return not result.lost and not result.healed if name == COSTS_NOBODY else result.lost > 0


def planted(bed: Bed, name: str) -> Result:
    """Deploy under load with a bug, and heal with the same one; what it left is cleared away by the product."""
    bed.altered = name
    try:
        return play(bed, cases.undisturbed())
    finally:
        bed.altered = ""
        if name and not (healing := bed.heal()).healed:
            raise RuntimeError(f"the product cannot mend what {name} left: {healing.said}")


if __name__ == "__main__":
    sys.exit(main())
