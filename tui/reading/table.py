"""Columns of numbers that grow at their end."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Table:
    """Rows of floats with named columns. The first column rises from row to row."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = {name: array("d") for name in columns}
        self._arrays = tuple(self._columns.values())
        self._first = self._arrays[0]
        self._read: dict[str, Floats] = {}
        self.generation = 0
        """How often rows have been taken back."""

    def __len__(self) -> int:
        return len(self._first)

    def append(self, row: Sequence[float]) -> None:
        """Add a row. It replaces the rows whose first value isn't below its own."""
        if self._first and row[0] <= self._first[-1]:
            self.keep_up_to(math.nextafter(row[0], -math.inf))
        for column, value in zip(self._arrays, row, strict=True):
            column.append(value)

    def keep_up_to(self, last: float) -> None:
        """Take back the rows whose first value is above ``last``."""
        length = bisect_right(self._first, last)
        if length < len(self):
            for column in self._arrays:
                del column[length:]
            self._read.clear()
            self.generation += 1

    def column(self, name: str) -> Floats:
        """A column as it stands; later rows don't change what was returned."""
        known = self._read.get(name)
        if known is None or len(known) != len(self):
            known = self._read[name] = np.array(self._columns[name], dtype=np.float64)
        return known

    def last(self, name: str) -> float:
        """A column's newest value, NaN in an empty table."""
        column = self._columns[name]
        return column[-1] if column else math.nan
