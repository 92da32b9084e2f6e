"""Rows under columns, in a window that may be too narrow for them."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GAP = 2
LEAST = 24
"""Characters that the last column must be left with, for its words to be folded below one another."""


def lines(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int = 0) -> Iterator[str]:
    """Yield the lines of a table that is to fit into `width` characters; 0 where there is no window.

    The last column is folded if the others leave it enough room; otherwise each row becomes a block, a line a column.
    """
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    before = sum(widths[:-1]) + GAP * (len(widths) - 1)
    if not width or before + widths[-1] <= width:
        yield from (_line(row, widths) for row in (columns, *rows))
    elif width - before >= LEAST:
        for row in (columns, *rows):
            first, *rest = textwrap.wrap(row[-1], width - before) or [""]
            yield _line((*row[:-1], first), widths)
            yield from (" " * before + each for each in rest)
    else:
        yield from _blocks(columns, rows, width)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return (" " * GAP).join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _blocks(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Yield each row under its first cell: what the column is called, and what it says."""
    names = max(map(len, columns[1:]), default=0)
    before = GAP + names + GAP
    for first, *rest in rows:
        yield first
        for name, cell in zip(columns[1:], rest, strict=True):
            folded = textwrap.wrap(cell, max(LEAST, width - before)) or [""]
            yield f"{' ' * GAP}{name.ljust(names)}{' ' * GAP}{folded[0]}".rstrip()
            yield from (" " * before + each for each in folded[1:])
