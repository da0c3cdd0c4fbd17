"""Curves as cells of text: NumPy in, characters and inks out. Knows no Textual.

A cell is 2×4 braille dots, or one character where there is only ASCII.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tui.reading.table import Floats

Weight = Literal["dim", "bold"]
Bools = NDArray[np.bool_]

BRAILLE = 0x2800
# The bit of each dot of a braille cell, by row and column.
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint32)
SPACE = ord(" ")
NO_INK = -1
# The difference of two such numbers is one still.
LARGEST = 1e300
# Cells between two marks on a curve without points of its own.
MARK_EVERY = 14
# Of the figures at an axis, before and after the point.
MOST_DIGITS = 12
# How a series is called at the beginning of a sentence, where its legend is shorter.
NAMES = {"train": "Training", "validation": "Validation"}


@dataclass(frozen=True, eq=False)
class Series:
    """One curve. ``ink`` names a colour of the theme; ``mark`` tells it apart where there is no colour.

    Args:
        label: its name in the legend; empty keeps it out of the legend.
        x: rising.
        y: as long as ``x``; NaN is a gap.
        ink: the colour's name.
        mark: a character on the curve.
        ascii_mark: the same where there is only ASCII, which then draws the whole curve.
        weight: raw figures are dim, smoothed ones bold.
        points: a mark on each point, joined by dashes, for a few points; else marks are spread along the line.
    """

    label: str
    x: Floats
    y: Floats
    ink: str
    mark: str = ""
    ascii_mark: str = "*"
    weight: Weight = "bold"
    points: bool = False


@dataclass(frozen=True)
class Bounds:
    """The part of the plane that is shown."""

    left: float
    right: float
    low: float
    high: float


@dataclass
class Grid:
    """Characters, and for each the index of the series that drew it, or -1."""

    characters: NDArray[np.uint32]
    inks: NDArray[np.int16]
    dots: Bools = field(repr=False)
    """Which cells hold braille dots, to which more dots can be added."""

    @classmethod
    def empty(cls, width: int, height: int) -> Grid:
        """A grid of spaces."""
        shape = (height, width)
        return cls(np.full(shape, SPACE, np.uint32), np.full(shape, NO_INK, np.int16), np.zeros(shape, np.bool_))


def draw(series: list[Series], bounds: Bounds, width: int, height: int, *, ascii_only: bool = False) -> Grid:
    """All series on one grid, in their order; bold covers dim."""
    grid = Grid.empty(width, height)
    if width < 1 or height < 1:
        return grid
    weights: dict[int, Weight] = {index: one.weight for index, one in enumerate(series)}
    for index in sorted(weights, key=lambda index: weights[index] == "bold"):
        one = series[index]
        if ascii_only:
            _stamp(grid, trace(one.x, one.y, bounds, width, height), ord(one.ascii_mark), index)
            continue
        mask = trace(one.x, one.y, bounds, 2 * width, 4 * height, dashed=one.points)
        _lay(grid, mask, index, covers=one.weight == "bold", weights=weights)
        _mark(grid, one, bounds, index)
    return grid


def trace(x: Floats, y: Floats, bounds: Bounds, columns: int, rows: int, *, dashed: bool = False) -> Bools:
    """Which dots a curve covers, the upper row first. Costs by columns, not by points; no spike is lost."""
    mask = np.zeros((rows, columns), np.bool_)
    column, row, run = _dots_of(x, y, bounds, columns, rows)
    if not len(column):
        return mask
    column, row, run = _reduce(column, row, run)
    lengths = np.maximum(np.abs(np.diff(column)), np.abs(np.diff(row)))
    joined = np.diff(run) == 0
    # A dot for each point, and between joined points as many as the longer way has.
    counts = np.append(np.where(joined, np.maximum(lengths, 1), 1), 1).astype(np.int64)
    start = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(start)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = place / counts[start]
    after = np.minimum(start + 1, len(column) - 1)
    columns_at = np.rint(column[start] + share * (column[after] - column[start])).astype(np.int64)
    rows_at = np.rint(row[start] + share * (row[after] - row[start])).astype(np.int64)
    inside = (columns_at >= 0) & (columns_at < columns) & (rows_at >= 0) & (rows_at < rows)
    if dashed:
        inside &= np.arange(len(start)) % 4 < 2
    mask[rows_at[inside], columns_at[inside]] = True
    return mask


def _dots_of(
    x: Floats, y: Floats, bounds: Bounds, columns: int, rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The dot of each finite point near the bounds, and the number of its gapless run."""
    # One point beyond each side, so that a line leaves the picture where it should.
    first = max(int(np.searchsorted(x, bounds.left, side="left")) - 1, 0)
    last = int(np.searchsorted(x, bounds.right, side="right")) + 1
    x, y = x[first:last], y[first:last]
    finite = np.isfinite(y) & np.isfinite(x)
    run: NDArray[np.int64] = np.cumsum(~finite, dtype=np.int64)[finite]
    x, y = x[finite], y[finite]
    with np.errstate(over="ignore"):
        row = (bounds.high - y) / _span(bounds.low, bounds.high) * (rows - 1)
    column = (x - bounds.left) / _span(bounds.left, bounds.right) * (columns - 1)
    # Far outside is as good as just outside, and fits an integer.
    column = np.clip(column, -4 * columns, 5 * columns)
    row = np.clip(row, -4 * rows, 5 * rows)
    return np.rint(column).astype(np.int64), np.rint(row).astype(np.int64), run


def _span(low: float, high: float) -> float:
    return high - low if high > low else 1.0


def _reduce(
    column: NDArray[np.int64], row: NDArray[np.int64], run: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of all points in one column the first, the lowest, the highest and the last."""
    begins = np.flatnonzero(np.concatenate(([True], (np.diff(column) != 0) | (np.diff(run) != 0))))
    if 4 * len(begins) >= len(column):
        return column, row, run
    ends = np.append(begins[1:], len(column)) - 1
    kept = (row[begins], np.minimum.reduceat(row, begins), np.maximum.reduceat(row, begins), row[ends])
    return np.repeat(column[begins], 4), np.stack(kept, axis=1).ravel(), np.repeat(run[begins], 4)


def _lay(grid: Grid, mask: Bools, index: int, *, covers: bool, weights: dict[int, Weight]) -> None:
    """Add dots to a grid. A bold line replaces dim dots, so that it reads clearly."""
    height, width = grid.characters.shape
    cells = mask.reshape(height, 4, width, 2).transpose(0, 2, 1, 3)
    codes = (cells * DOTS).sum(axis=(2, 3), dtype=np.uint32)
    hit = codes > 0
    dim = np.array([weights[number] == "dim" for number in sorted(weights)] + [False])[grid.inks]
    shared = hit & grid.dots & ~(dim & covers)
    grid.characters[hit] = np.where(shared, grid.characters, BRAILLE)[hit] | codes[hit]
    grid.inks[hit] = index
    grid.dots |= hit


def _mark(grid: Grid, series: Series, bounds: Bounds, index: int) -> None:
    """Put a series' mark on its points, or here and there on its line."""
    if not series.mark:
        return
    height, width = grid.characters.shape
    column, row, _ = _dots_of(series.x, series.y, bounds, width, height)
    if not series.points and len(column):
        _, once = np.unique(column, return_index=True)
        column, row = column[once], row[once]
        chosen = column % MARK_EVERY == (MARK_EVERY // 2 + 3 * index) % MARK_EVERY
        column, row = column[chosen], row[chosen]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = column[inside], row[inside]
    grid.characters[row, column] = ord(series.mark)
    grid.inks[row, column] = index
    grid.dots[row, column] = False


def _stamp(grid: Grid, mask: Bools, character: int, index: int) -> None:
    grid.characters[mask] = character
    grid.inks[mask] = index


def fit(
    series: list[Series], left: float | None = None, right: float | None = None, ceiling: float = LARGEST
) -> Bounds:
    """Bounds that hold all finite points up to ``ceiling``, between ``left`` and ``right`` where given."""
    spans = [(one.x[0], one.x[-1]) for one in series if len(one.x)]
    left = min((span[0] for span in spans), default=0.0) if left is None else left
    right = max((span[1] for span in spans), default=1.0) if right is None else right
    low, high = math.inf, -math.inf
    for one in series:
        first, last = np.searchsorted(one.x, [left, right])
        values = one.y[first : last + 1]
        values = values[np.isfinite(values)]
        if len(values):
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    low, high = max(low, -LARGEST), min(high, LARGEST, max(ceiling, low))
    if not low <= high:
        low, high = 0.0, 1.0
    if high - low < 1e-12 * max(abs(high), 1.0):
        room = abs(high) * 0.1 or 0.5
        low, high = low - room, high + room
    return Bounds(float(left), float(right) if right > left else float(left) + 1.0, low, high)


def logarithmic(series: Series) -> Series:
    """A series of which the logarithm is drawn. What isn't above 0 is a gap."""
    above = series.y > 0
    return replace(series, y=np.where(above, np.log10(np.where(above, series.y, 1.0)), np.nan))


def power(exponent: float) -> float:
    """The number of a logarithm, at most the largest that there is."""
    return float(10.0 ** min(exponent, 308.0))


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers between two."""
    if most < 1 or not high > low:
        return []
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    for factor in (1, 2, 5, 10, 20, 50):
        step = factor * size
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            # Rounding must not put a tick beside the axis.
            return [min(max(number * step, low), high) for number in range(first, last + 1)]
    return []


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """At most so many logarithms of round numbers between two logarithms."""
    for factors in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        powers = range(math.floor(low), math.ceil(high) + 1)
        found = [power + math.log10(factor) for power in powers for factor in factors]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= most:
            return (
                found
                if len(found) > 1
                else [math.log10(tick) for tick in ticks(power(low), power(high), most) if tick > 0]
            )
    every = math.ceil((high - low) / max(most, 1))
    return [float(power) for power in range(math.ceil(low), math.floor(high) + 1, max(every, 1))]


def number(value: float) -> str:
    """A figure in few characters: 1,204, 0.82, 3.1e-05."""
    if not math.isfinite(value):
        return "NaN" if value != value else "infinite" if value > 0 else "-infinite"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.4g}" if size < 1000 else f"{value:,.0f}"


def numbers(places: Sequence[float]) -> list[str]:
    """The figures of an axis, rising: short ones, or with as many digits as tell each from the next."""
    places = [round(place, MOST_DIGITS) for place in places]
    apart = min((after - before for before, after in itertools.pairwise(places)), default=math.inf)
    short = [number(place) for place in places]
    off = [abs(float(text.replace(",", "")) - place) for text, place in zip(short, places, strict=True)]
    # Where as many digits would fill the chart, short ones have to do.
    if max(off, default=0.0) < apart / 10 or not apart or max(map(abs, places)) > 10**MOST_DIGITS:
        return short
    decimals = max(math.ceil(-math.log10(apart) - 1e-9), 0)
    return [f"{place:,.{decimals}f}" for place in places]


class Smoother:
    """An exponential moving average that isn't drawn to its start, over a series that grows. NaN stays a gap."""

    def __init__(self, past: float) -> None:
        """``past`` is the weight of the past, from 0 (none) to below 1."""
        self._past = past
        self._restart(-1)

    def _restart(self, generation: int) -> None:
        self._generation = generation
        self._average = 0.0
        self._weight = 0.0
        self._smoothed = array("d")

    def smooth(self, values: Floats, generation: int = 0) -> Floats:
        """The averages of all values. Costs by what is new since the last call of the same generation."""
        if generation != self._generation or len(values) < len(self._smoothed):
            self._restart(generation)
        past, average, weight = self._past, self._average, self._weight
        for value in values[len(self._smoothed) :].tolist():
            if math.isfinite(value):
                average = past * average + (1 - past) * value
                weight = past * weight + (1 - past)
                self._smoothed.append(average / weight)
            else:
                self._smoothed.append(math.nan)
        self._average, self._weight = average, weight
        return np.array(self._smoothed, dtype=np.float64)


def value_at(series: Series, x: float) -> float:
    """The value of the newest point at or before ``x``, NaN before the first."""
    index = int(np.searchsorted(series.x, x, side="right"))
    return float(series.y[index - 1]) if index else math.nan


def describe(name: str, axis: str, series: Sequence[Series], write: Callable[[float], str] = number) -> str:
    """What a chart shows, in a sentence for each series that the legend has. ``write`` tells places on the axis."""
    said = [_described(name, axis, one, write) for one in series if one.label and np.isfinite(one.y).any()]
    return " ".join(said) if said else f"Nothing is drawn yet: no {name} has been recorded."


def _described(name: str, axis: str, series: Series, write: Callable[[float], str]) -> str:
    finite = np.isfinite(series.y)
    x, y = series.x[finite], series.y[finite]
    places = [f"{axis} {write(float(place))}" for place in (x[0], x[-1])]
    who = f"{NAMES.get(series.label, series.label)} {name}"
    gaps = int((~finite).sum())
    rest = f" {gaps} of its values are no numbers." if gaps > 1 else " One of its values is no number." if gaps else ""
    if len(y) == 1:
        return f"{who} was {number(y[0])} at {places[0]}.{rest}"
    first, last = float(y[0]), float(y[-1])
    change = "fell" if last < first else "rose" if last > first else "came back"
    down = first - y.min() >= y.max() - first
    best = int(y.argmin() if down else y.argmax())
    extreme = f"its {'lowest' if down else 'highest'} was {number(y[best])} at {axis} {write(float(x[best]))}"
    if best == len(y) - 1:
        extreme = f"it has never been {'lower' if down else 'higher'}"
    return f"{who} {change} from {number(first)} at {places[0]} to {number(last)} at {places[1]}; {extreme}.{rest}"
