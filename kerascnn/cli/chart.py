"""A curve over a logarithmic axis as lines of text, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

BRAILLE = 0x2800
# The bit of each of the 4×2 dots of a braille cell, by row and column.
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def curve_chart(
    x: Sequence[float], y: Sequence[float], *, width: int, height: int, marks: Mapping[str, float]
) -> list[str]:
    """Draw a curve.

    Args:
        x: positive and rising by the same factor from one to the next.
        y: as long as ``x``, finite.
        width: of the whole chart, in characters.
        height: of the curve, in lines.
        marks: what to point at from below, by what it is called.
    """
    low, high = min(y), max(y)
    labels = [f"{high:.3g}", *[""] * (height - 2), f"{low:.3g}"]
    margin = max(len(label) for label in labels)
    inner = width - margin - 2
    lines = [f"{label:>{margin}} │{row}" for label, row in zip(labels, _braille(y, inner, height), strict=True)]
    lines.append(f"{'':>{margin}} └{'─' * inner}")

    def place(value: float) -> int:
        return round((math.log(value) - math.log(x[0])) / (math.log(x[-1]) - math.log(x[0])) * (inner - 1))

    powers = range(math.ceil(round(math.log10(x[0]), 9)), math.floor(round(math.log10(x[-1]), 9)) + 1)
    below = [_written([(place(10.0**power), f"1e{power}") for power in powers], inner)]
    below += [_written([(place(value), f"↑ {name}")], inner) for name, value in marks.items() if x[0] <= value <= x[-1]]
    return lines + [f"{'':>{margin}}  {text}".rstrip() for text in below]


def _braille(y: Sequence[float], width: int, height: int) -> list[str]:
    low, high = min(y), max(y)
    values = np.interp(np.linspace(0, len(y) - 1, 2 * width), np.arange(len(y)), y)
    rows = np.round((high - values) / ((high - low) or 1.0) * (4 * height - 1)).astype(int).tolist()
    dots: NDArray[np.bool_] = np.zeros((4 * height, 2 * width), bool)
    for column, (row, before) in enumerate(zip(rows, [rows[0], *rows], strict=False)):
        # A steep piece of the curve has no gaps.
        dots[min(row, before) : max(row, before) + 1, column] = True
    cells = BRAILLE + (dots.reshape(height, 4, width, 2) * DOTS[:, None, :]).sum(axis=(1, 3))
    return ["".join(map(chr, line)) for line in cells.tolist()]


def _written(labels: Sequence[tuple[int, str]], width: int) -> str:
    """Labels at their places in one line, moved left where it ends; what would touch the one before is left out."""
    text = ""
    for place, label in labels:
        start = max(0, min(place, width - len(label)))
        if not text or start > len(text):
            text = f"{text:<{start}}{label}"
    return text
