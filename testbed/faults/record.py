"""What was played, in a file: a line of JSON a case, so that several runs make one matrix, and none plays a case twice.

Only what was played on the product as it lies here counts: a fix makes everything before it history.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from testbed.faults.matrix import Result
from testbed.project import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PRODUCT = ("deploy", "templates", "examples")


def product() -> str:
    """Return a digest of all that is deployed and deploys."""
    digest = hashlib.sha256()
    for folder in PRODUCT:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


class Record:
    """The results in a file that were played on this product; without a file, those of one run.

    `events` says how many events an undisturbed run of each verb has, once they were counted.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.product = product()
        self.events: dict[str, int] = {}
        self.results: list[Result] = []
        self.old = 0
        for line in path.read_text().splitlines() if path and path.exists() else []:
            self._take(json.loads(line))

    def _take(self, found: dict[str, Any]) -> None:
        if found["product"] != self.product:
            self.old += "events" not in found
        elif "events" in found:
            self.events = found["events"]
        else:
            self.results.append(Result(**found | {"codes": tuple(found["codes"]), "broken": tuple(found["broken"])}))

    def add(self, result: Result) -> None:
        self.results.append(result)
        self._write(asdict(result))

    def count(self, events: dict[str, int]) -> None:
        self.events = events
        self._write({"product": self.product, "events": events})

    def _write(self, line: dict[str, Any]) -> None:
        if self._path:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def has(self, group: str, moment: str) -> bool:
        """Say whether a case went well already; one that failed is to be played again."""
        return any((r.group, r.moment) == (group, moment) and not r.failed for r in self.results)
