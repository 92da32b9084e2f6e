"""The last run as it was told, on the operator's machine: what `inv report` is made from. Nothing else reads it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TextIO


def memory() -> Path:
    """Return the folder for what outlives a run on this machine (XDG Base Directory Specification, $XDG_STATE_HOME)."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "greenroom"


class Journal:
    """Writes the lines of a run to a file, from the moment at which the run begins to change something.

    A run that is refused, or has nothing to do, leaves the journal of the one before. One that cannot be written is
    none: no deploy fails for it. `begun` says that this moment has come.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self._file: TextIO | None = None
        self.begun = False

    def write(self, line: str, *, begins: bool = False) -> None:
        """Take a line; `begins` says that hosts change from here on."""
        self._lines.append(line)
        if begins and not self.begun:
            self.begun = True
            with contextlib.suppress(OSError):
                self._file = self._open()
        if self.begun:
            lines, self._lines = self._lines, []
            if self._file:
                with contextlib.suppress(OSError):
                    self._file.writelines(f"{line}\n" for line in lines)
                    self._file.flush()

    def _open(self) -> TextIO:
        """Take the place of the journal before; a run that still writes that one goes on beside."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        where = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        # A folder's name may be of any bytes: no run ends for that, and no page that is made of these lines.
        file = os.fdopen(where, "w", encoding="utf-8", errors="replace")
        new.replace(self._path)
        return file
