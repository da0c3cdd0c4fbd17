"""A chart of a few curves, drawn by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.theme import Theme
from textual.widget import Widget

from kerascnn.wording import duration
from tui.drawing import plotting
from tui.drawing.colors import color_of, style_of
from tui.drawing.glyphs import plain
from tui.drawing.plotting import Bounds, Grid, Series

GLYPHS = {
    "pause": ("‖", "="),
    "set-lr": ("▽", "v"),
    "extend": ("⇥", ">"),
    "stop": ("■", "#"),
    "resumed": ("↻", "~"),
    "finding": ("⚠", "!"),
}
MARK_INK, CURSOR_INK = -2, -3
LEAST_WIDTH, LEAST_HEIGHT = 12, 3


@dataclass(frozen=True)
class PlacedMark:
    """Something to be told at an ``x``. ``kind`` chooses its glyph."""

    kind: str
    x: float
    label: str


@dataclass(frozen=True, eq=False)
class Picture:
    """All that a chart draws. Curves above ``ceiling`` leave the picture at its top."""

    series: Sequence[Series] = ()
    marks: Sequence[PlacedMark] = ()
    left: float = 0.0
    right: float = 1.0
    cursor: float | None = None
    log: bool = False
    zoomed: bool = False
    axis: str = "step"
    ceiling: float = plotting.LARGEST


def format_x(axis: str) -> Callable[[float], str]:
    """How a place on an axis is written."""
    return duration if axis == "time" else plotting.number


def time_unit(longest_s: float) -> tuple[float, str]:
    """The unit in which a time axis is written, in seconds, and its name."""
    return (3600.0, " h") if longest_s >= 7200 else (60.0, " min") if longest_s >= 120 else (1.0, " s")


class Chart(Widget, can_focus=True):
    """Draws a :class:`Picture`: only when it is on the screen, and only when it has changed."""

    DEFAULT_CSS = """
    Chart { border: round $foreground 30%; border-title-color: $foreground; border-subtitle-color: $foreground 60%; }
    Chart:focus { border: round $accent; }
    Chart.-ascii { border: ascii $foreground 30%; }
    Chart.-ascii:focus { border: ascii $accent; }
    """

    class Zoomed(Message):
        """Show ``factor`` times as much, ``at`` staying where it is."""

        def __init__(self, factor: float, at: float) -> None:
            super().__init__()
            self.factor = factor
            self.at = at

    class Panned(Message):
        """Move by a share of what is shown."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

    class Pointed(Message):
        """A place has been clicked."""

        def __init__(self, x: float) -> None:
            super().__init__()
            self.x = x

    def __init__(self, name: str, *, ascii_only: bool = False, can_log: bool = False, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, name=name, classes="-ascii" if ascii_only else "")
        self._ascii = ascii_only
        self._can_log = can_log
        self._picture = Picture()
        self._lines: list[Strip] = []
        self._drawn_for: object = None
        self._plot_left = 0
        self._dragged_from: int | None = None
        self._dragged = False

    def on_mount(self) -> None:
        """The legend has the colours of the curves, whichever theme they are of."""
        self.app.theme_changed_signal.subscribe(self, self._dress_legend)

    def _dress_legend(self, _: Theme) -> None:
        self.border_title = self._legend()

    @property
    def picture(self) -> Picture:
        """What is drawn."""
        return self._picture

    def show(self, picture: Picture) -> None:
        """Draw this from now on."""
        self._picture = picture if self._can_log else replace(picture, log=False)
        self._drawn_for = None
        self.border_title = self._legend()
        self.border_subtitle = self._below()
        self.refresh()

    def describe(self) -> str:
        """What it shows, in plain words."""
        return plotting.describe(
            self.name or "", self._picture.axis, self._picture.series, format_x(self._picture.axis)
        )

    # Around the plot

    def _legend(self) -> Content:
        parts: list[str | Content | tuple[str, str]] = [(self.name or "", "bold")]
        for one in self._picture.series:
            if one.label:
                mark = one.ascii_mark if self._ascii else one.mark or "─"
                label = plain(one.label, ascii=self._ascii)
                parts += ["  ", (f"{mark} {label}", color_of(one.ink, self.app.theme_variables).hex)]
        return Content.assemble(*parts)

    def _below(self) -> Content:
        picture = self._picture
        dot = " - " if self._ascii else " · "
        if picture.cursor is None:
            words = [picture.axis, *(["log scale"] if picture.log else []), *(["zoomed"] if picture.zoomed else [])]
        else:
            words = [f"{picture.axis} {format_x(picture.axis)(picture.cursor)}"]
            for one in picture.series:
                value = plotting.value_at(one, picture.cursor)
                if one.label and value == value:
                    words.append(f"{one.label} {plotting.number(value)}")
        return Content(plain(dot.join(words), ascii=self._ascii))

    # Drawing

    def render_line(self, y: int) -> Strip:
        """One line of the picture, which is drawn as a whole when it has changed."""
        drawn_for = (self.size, self.app.theme)
        if drawn_for != self._drawn_for:
            self._lines = self._draw(self.size.width, self.size.height)
            self._drawn_for = drawn_for
        return self._lines[y] if y < len(self._lines) else Strip.blank(self.size.width, self.rich_style)

    def _draw(self, width: int, height: int) -> list[Strip]:
        if width < LEAST_WIDTH or height < LEAST_HEIGHT:
            return []
        picture = self._picture
        series = [plotting.logarithmic(one) for one in picture.series] if picture.log else list(picture.series)
        ceiling = math.log10(picture.ceiling) if picture.log else picture.ceiling
        bounds = plotting.fit(series, picture.left, picture.right, ceiling)
        rows = height - 1
        y_ticks = self._y_ticks(bounds, rows)
        gutter = max((len(label) for label in y_ticks.values()), default=0) + 1
        self._plot_left = gutter
        columns = width - gutter
        grid = plotting.draw(series, bounds, columns, rows, ascii_only=self._ascii)
        self._draw_marks(grid, bounds)
        self._draw_cursor(grid, bounds)
        base = self.rich_style
        styles = {index: base + style for index, style in self._styles().items()}
        muted = base + style_of("quiet", self.app.theme_variables)
        lines = []
        for row in range(rows):
            label = Segment(f"{y_ticks.get(row, ''):>{gutter - 1}} ", muted)
            lines.append(Strip([label, *_segments(grid.characters[row], grid.inks[row], styles)], width))
        lines.append(Strip([Segment(self._x_labels(bounds, gutter, columns), muted)], width))
        return lines

    def _styles(self) -> dict[int, Style]:
        variables = self.app.theme_variables
        styles = {
            index: style_of(one.ink, variables, dim=one.weight == "dim", bold=one.weight == "bold")
            for index, one in enumerate(self._picture.series)
        }
        return {
            **styles,
            plotting.NO_INK: Style.null(),
            MARK_INK: style_of("quiet", variables),
            CURSOR_INK: style_of("cursor", variables),
        }

    def _y_ticks(self, bounds: Bounds, rows: int) -> dict[int, str]:
        most = max(rows // 3, 2)
        log = self._picture.log
        places = (plotting.log_ticks if log else plotting.ticks)(bounds.low, bounds.high, most)
        span = bounds.high - bounds.low
        labels = plotting.numbers([plotting.power(place) if log else place for place in places])
        return {
            round((bounds.high - place) / span * (rows - 1)): label for place, label in zip(places, labels, strict=True)
        }

    def _x_labels(self, bounds: Bounds, gutter: int, columns: int) -> str:
        unit, name = time_unit(bounds.right) if self._picture.axis == "time" else (1.0, "")
        line = [" "] * columns
        free_from = 0
        places = plotting.ticks(bounds.left / unit, bounds.right / unit, max(columns // 12, 2))
        for tick, told in zip(places, plotting.numbers(places), strict=True):
            label = told + name
            column = round((tick * unit - bounds.left) / (bounds.right - bounds.left) * (columns - 1))
            begin = min(max(column - len(label) // 2, 0), columns - len(label))
            if begin >= free_from:
                line[begin : begin + len(label)] = label
                free_from = begin + len(label) + 2
        return " " * gutter + "".join(line)

    def _column(self, x: float, bounds: Bounds, columns: int) -> int | None:
        column = round((x - bounds.left) / (bounds.right - bounds.left) * (columns - 1))
        return column if 0 <= column < columns else None

    def _draw_marks(self, grid: Grid, bounds: Bounds) -> None:
        _, columns = grid.characters.shape
        found: dict[int, list[PlacedMark]] = {}
        for mark in self._picture.marks:
            if (column := self._column(mark.x, bounds, columns)) is not None:
                found.setdefault(column, []).append(mark)
        for column in found:
            free = grid.characters[:, column] == plotting.SPACE
            grid.characters[free, column] = ord(":" if self._ascii else "┊")
            grid.inks[free, column] = MARK_INK
        taken: set[int] = set()
        for column, marks in sorted(found.items()):
            glyphs = [GLYPHS.get(mark.kind, ("│", "|"))[self._ascii] for mark in marks]
            labels = [plain(mark.label, ascii=self._ascii) for mark in marks]
            words = list(zip(glyphs, labels, strict=True))
            begin, text = column, " ".join(f"{glyph} {label}" for glyph, label in words)
            if begin + len(text) > columns:
                text = " ".join(f"{label} {glyph}" for glyph, label in words)
                begin = column - len(text) + 1
            # A label that would touch another one, hide another mark or not fit the grid is left out; the log has it.
            around = set(range(begin - 1, begin + len(text) + 1))
            if begin < 0 or cell_len(text) != len(text) or around & (taken | (set(found) - {column})):
                begin, text = column, glyphs[-1]
            taken |= set(range(begin, begin + len(text)))
            grid.characters[0, begin : begin + len(text)] = [ord(character) for character in text]
            grid.inks[0, begin : begin + len(text)] = MARK_INK

    def _draw_cursor(self, grid: Grid, bounds: Bounds) -> None:
        if self._picture.cursor is None:
            return
        column = self._column(self._picture.cursor, bounds, grid.characters.shape[1])
        if column is not None:
            free = np.isin(grid.characters[:, column], [plotting.SPACE, ord("┊"), ord(":")])
            grid.characters[free, column] = ord("|" if self._ascii else "│")
            grid.inks[free, column] = CURSOR_INK

    # The mouse

    def _x_at(self, column: int) -> float:
        columns = max(self.size.width - self._plot_left, 2)
        share = (column - self._plot_left) / (columns - 1)
        return self._picture.left + min(max(share, 0.0), 1.0) * (self._picture.right - self._picture.left)

    def _on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.post_message(self.Zoomed(0.8, self._x_at(self._content_column(event))))

    def _on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.post_message(self.Zoomed(1.25, self._x_at(self._content_column(event))))

    async def _on_mouse_down(self, event: events.MouseDown) -> None:
        self._dragged_from, self._dragged = event.screen_x, False
        self.capture_mouse()

    def _on_mouse_move(self, event: events.MouseMove) -> None:
        if self._dragged_from is None or event.screen_x == self._dragged_from:
            return
        columns = max(self.size.width - self._plot_left, 2)
        self.post_message(self.Panned((self._dragged_from - event.screen_x) / columns))
        self._dragged_from, self._dragged = event.screen_x, True

    async def _on_mouse_up(self, event: events.MouseUp) -> None:
        if self._dragged_from is None:
            return
        self.release_mouse()
        if not self._dragged:
            self.post_message(self.Pointed(self._x_at(self._content_column(event))))
        self._dragged_from = None

    def _content_column(self, event: events.MouseEvent) -> int:
        return int(event.screen_x - self.content_region.x)


def _segments(characters: NDArray[np.uint32], inks: NDArray[np.int16], styles: dict[int, Style]) -> list[Segment]:
    """A row of cells, one segment for each stretch of one ink."""
    text = characters.astype("<u4").tobytes().decode("utf-32-le")
    cuts = [0, *(np.flatnonzero(np.diff(inks)) + 1).tolist(), len(inks)]
    return [Segment(text[begin:end], styles[int(inks[begin])]) for begin, end in itertools.pairwise(cuts)]
