"""The simulator's modules on the path, and the strict World that it stands on."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parent.parent / "flow"):
    sys.path.insert(0, str(folder))
