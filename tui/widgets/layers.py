"""The layer table: each layer's figures, and one of them over time as a strip."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip

from kerascnn.wording import one_line
from tui.drawing.colors import style_of
from tui.drawing.glyphs import plain
from tui.reading.story import FIGURES, LayerHistory
from tui.reading.table import Floats
from tui.widgets.listing import Listing

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = ".:-=+*%@"
NAME_WIDTH = 22
COLUMN_WIDTH = 15
LEAST_STRIP = 24
# What is drawn in the warning's colour: more than this share of channels fires on no image.
MANY_DEAD = 0.5
# A smaller signal is written in powers of ten.
PLAIN_FROM = 0.1


@dataclass(frozen=True)
class Figure:
    """A column: how it is called, and whether it is a share or spans orders of magnitude."""

    title: str
    short: str
    is_share: bool


COLUMNS = dict(
    zip(
        FIGURES,
        (
            Figure("gradient", "gradient", is_share=False),
            Figure("update/weight", "upd/weight", is_share=False),
            Figure("between images", "between", is_share=False),
            Figure("dead", "dead", is_share=True),
            Figure("saturated", "saturated", is_share=True),
        ),
        strict=True,
    )
)


class LayerTable(Listing):
    """One line a layer; the columns that there is room for, the chosen one first, and its strip."""

    def __init__(self, *, ascii_only: bool = False, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes="-ascii" if ascii_only else "")
        self._ascii = ascii_only
        self._history = LayerHistory()
        self._at: float | None = None
        self._empty = ""
        self._heights: Floats = np.empty((0, 0))
        self._span = (0.0, 1.0)
        self._measured: tuple[LayerHistory, int, str] | None = None
        self.figure = FIGURES[0]
        """Which figure the strip shows."""

    def show(self, history: LayerHistory, at: float | None, empty: str) -> None:
        """Show the figures at a step, or the newest. ``empty`` is said while there are none."""
        self._history, self._at, self._empty = history, at, empty
        self._measure()
        found = history.at(at)
        self.border_title = "layers" if found is None else f"layers at step {found[0]:,}"
        self.border_subtitle = "" if found is None else f"{COLUMNS[self.figure].title} over time"
        self.resize_list(len(history.layers) + 1 if len(history) else 1)
        self.refresh()

    def _measure(self) -> None:
        """The strips' heights: the cursor changes none of them, nor does a step without figures."""
        measured = (self._history, self._history.version, self.figure)
        if measured != self._measured:
            self._measured = measured
            self._heights, self._span = heights_of(self._history.over_time(self.figure), COLUMNS[self.figure])

    def choose_next(self) -> None:
        """Let the strip show the next figure."""
        self.figure = FIGURES[(FIGURES.index(self.figure) + 1) % len(FIGURES)]
        self.show(self._history, self._at, self._empty)

    def on_resize(self) -> None:
        """Keep the whole list reachable."""
        self.virtual_size = Size(0, self.virtual_size.height)

    def render_line(self, y: int) -> Strip:
        """A title line, then a line for each layer."""
        return self._line(y).apply_style(self.rich_style)

    def _line(self, y: int) -> Strip:
        width = self.size.width
        row = y + self.scroll_offset.y
        found = self._history.at(self._at)
        if found is None:
            return Strip([Segment(self._empty[:width].ljust(width) if row == 0 else " " * width, self._muted)], width)
        shown, strip_width = self._columns(width)
        if row == 0:
            return self._title(shown, strip_width, width)
        if row > len(self._history.layers):
            return Strip.blank(width)
        return self._layer(row - 1, found[1], shown, strip_width, width)

    def _columns(self, width: int) -> tuple[list[str], int]:
        room = (width - NAME_WIDTH - LEAST_STRIP - 2) // COLUMN_WIDTH
        shown = [self.figure, *(figure for figure in FIGURES if figure != self.figure)][: max(room, 1)]
        shown = [figure for figure in FIGURES if figure in shown]
        return shown, max(width - NAME_WIDTH - COLUMN_WIDTH * len(shown) - 2, 0)

    @property
    def _muted(self) -> Style:
        return style_of("quiet", self.app.theme_variables)

    def _title(self, shown: list[str], strip_width: int, width: int) -> Strip:
        titles = "".join(f"{COLUMNS[figure].title:>{COLUMN_WIDTH}}" for figure in shown)
        text = f"{'':<{NAME_WIDTH}}{titles}  {'over time':<{strip_width}}"
        return Strip([Segment(text[:width].ljust(width), self._muted)], width)

    def _layer(self, index: int, figures: Floats, shown: list[str], strip_width: int, width: int) -> Strip:
        name = plain(one_line(self._history.layers[index]), ascii=self._ascii)
        if cell_len(name) >= NAME_WIDTH:
            name = set_cell_size(name, NAME_WIDTH - 2) + ("~" if self._ascii else "…")
        segments = [Segment(set_cell_size(name, NAME_WIDTH))]
        for figure in shown:
            value = float(figures[FIGURES.index(figure), index])
            alarming = figure == "dead" and value > MANY_DEAD
            style = style_of("warning", self.app.theme_variables, bold=True) if alarming else Style.null()
            written = plain(write_figure(figure, value), ascii=self._ascii)
            segments.append(Segment(f"{written:>{COLUMN_WIDTH}}", style))
        ink = style_of("train", self.app.theme_variables)
        blocks = ASCII_BLOCKS if self._ascii else BLOCKS
        text = heat_strip(self._heights[:, index], strip_width, self._span, blocks)
        return Strip([*segments, Segment("  "), Segment(text, ink)]).adjust_cell_length(width)


def write_figure(figure: str, value: float) -> str:
    """``3.1e-02``, ``0.42``, ``12 %``, or a dash where the layer has none."""
    if value != value:
        return "–"
    if COLUMNS[figure].is_share:
        return f"{100 * value:.0f} %"
    in_full = figure == "between_images" and value >= PLAIN_FROM
    return f"{value:.2f}" if in_full else f"{value:.1e}"


def heights_of(values: Floats, figure: Figure) -> tuple[Floats, tuple[float, float]]:
    """What a strip's blocks stand for, and from where to where: shares as they are, else logarithms."""
    if figure.is_share:
        return values, (0.0, 1.0)
    above = values > 0
    logs = np.where(above, np.log10(np.where(above, values, 1.0)), np.nan)
    finite = logs[np.isfinite(logs)]
    return logs, (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)


def heat_strip(heights: Floats, width: int, span: tuple[float, float], blocks: str) -> str:
    """Heights over time as blocks, the highest of those that share a cell; a space where there is no number."""
    if not len(heights) or width < 1:
        return " " * max(width, 0)
    # Few figures get a cell each, so that a strip grows from the left.
    count = len(heights)
    low, high = span
    best = np.where(np.isfinite(heights), heights, -math.inf)
    if count > width:
        # Each cell begins with the first of those whose index times width over count reaches its number.
        best = np.maximum.reduceat(best, (np.arange(width) * count + width - 1) // width)
    best = np.pad(best, (0, width - len(best)), constant_values=-math.inf)
    share = np.nan_to_num((best - low) / (high - low if high > low else 1.0), neginf=0.0)
    levels = np.clip(share * len(blocks), 0, len(blocks) - 1).astype(int)
    return "".join(" " if value == -math.inf else blocks[level] for value, level in zip(best, levels, strict=True))
