"""What happens while hosts come up, for people: the package itself only logs, to the logger `testbed`."""

from __future__ import annotations

import logging
import sys
import time


def show() -> None:
    """Print what happens, a line an event, with the seconds since the start."""
    began = time.time()

    class Elapsed(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return f"{record.created - began:6.1f} s  {record.getMessage()}"

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Elapsed())
    logger = logging.getLogger("testbed")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
