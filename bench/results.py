"""What was measured, as it is kept between the measuring and the report: one JSON file, a part for each question."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = Path(__file__).resolve().parent.parent / "docs" / "performance.json"


@dataclass(frozen=True)
class Series:
    """One thing measured several times; `failed` says what stopped it, if anything did."""

    values: list[float] = field(default_factory=list)
    failed: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    def __bool__(self) -> bool:
        return bool(self.values)


class Table(dict[str, Series]):
    """Series by name; a work that fails leaves its words, and the others go on."""

    def measure(self, name: str, work: Callable[[], object], value: Callable[[], float] | None = None) -> bool:
        """Add the seconds that `work` takes, or what `value` tells after it; say whether it did its work.

        What has failed is not tried again: it is told, the others keep their time, and rounds stay pairs.
        """
        series = self.setdefault(name, Series())
        if series.failed:
            return False
        began = time.perf_counter()
        try:
            work()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told in the table
            self[name] = Series(series.values, str(error).strip() or type(error).__name__)
            say(f"{name}: FAILED: {self[name].failed[-600:]}")
            return False
        took = time.perf_counter() - began
        self.add(name, value() if value else took)
        return True

    def add(self, name: str, value: float) -> None:
        self.setdefault(name, Series()).values.append(round(value, 4))
        say(f"{name}: {value:.3f}")


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()


def ratios(of: Series, to: Series) -> list[float]:
    """Return ratios of what was measured in turn, in one run."""
    return [a / b for a, b in zip(of.values, to.values, strict=False)]


def save(part: str, command: str, began: float, tables: dict[str, Table], **more: Any) -> None:
    """Put what a part found into the file, in the place of what it found before. `began` in seconds since 1970."""
    everything = load()
    everything[part] = {
        "at": f"{datetime.datetime.now(datetime.timezone.utc):%d %B %Y, %H:%M} UTC",
        "command": command,
        "took": round(time.time() - began),
        "machine": machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[1], 1),
        "tables": {name: {key: asdict(series) for key, series in table.items()} for name, table in tables.items()},
        **more,
    }
    FILE.write_text(json.dumps(everything, indent=1) + "\n")


def load() -> dict[str, dict[str, Any]]:
    """Return the parts; of each its tables are `Table`s in `tables_of`."""
    found: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError):
        found = json.loads(FILE.read_text())
    return found


def tables_of(part: dict[str, Any]) -> dict[str, Table]:
    return {
        name: Table({key: Series(**series) for key, series in table.items()}) for name, table in part["tables"].items()
    }


def machine() -> str:
    """Say on what was measured, and how busy it was."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores {platform.machine()}, {memory:.0f} GB, Python {platform.python_version()}; "
        f"load {os.getloadavg()[1]:.0f} at the end"
    )
