"""The events of a run as lines; the newest in sight, or those around the cursor."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui.drawing.colors import style_of
from tui.drawing.glyphs import plain
from tui.reading.story import Line
from tui.widgets.listing import Listing

ALARMING = ("finding", "warning")
# What comes after an epoch's figures and says less than they do; how a run ended is told above the log.
LESS = ("checkpoint", "run ended")


class LogTail(Listing):
    """Follows its end until it is scrolled up."""

    def __init__(self, *, ascii_only: bool = False, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes="-ascii" if ascii_only else "")
        self._ascii = ascii_only
        self._lines: Sequence[Line] = ()
        self._chosen: int | None = None
        self._follows = True
        self.border_title = "log"

    def show(self, lines: Sequence[Line], at: float | None) -> None:
        """Show lines; the last one up to step ``at`` is marked, if that is given."""
        self._see_the_end()
        self._lines = lines
        self.resize_list(len(lines))
        self._chosen = None
        if at is not None:
            before = [index for index, line in enumerate(lines) if line.step <= at]
            self._chosen = before[-1] if before else None
        self._place()
        self.refresh()

    def _see_the_end(self) -> None:
        """A list that was short had no place to scroll back to."""
        if self._chosen is None:
            self._follows = self._follows or self.scroll_y >= self.max_scroll_y

    def _place(self) -> None:
        """Scroll to what is to be in sight, at once: scrolled after the next refresh, it would undo a later place."""
        if self._chosen is not None:
            self.scroll_to(y=self._chosen - self.size.height // 2, animate=False, force=True)
        elif self._follows:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Who scrolls up wants to read, and who scrolls down to the end to follow again; the cursor says neither."""
        super().watch_scroll_y(old_value, new_value)
        if self._chosen is None:
            self._follows = new_value >= self.max_scroll_y

    def on_resize(self) -> None:
        """With less room the end lies further down."""
        self._see_the_end()
        self._place()

    def render_line(self, y: int) -> Strip:
        """One line of the log."""
        return self._line(y).apply_style(self.rich_style)

    def _line(self, y: int) -> Strip:
        row = self._telling(y + self.scroll_offset.y)
        width = self.size.width
        if row >= len(self._lines):
            return Strip.blank(width)
        line = self._lines[row]
        chosen = row == self._chosen
        pointer = (">" if self._ascii else "▸") if chosen else " "
        text = f"{pointer}{line.step:>7,}  " if line.step else f"{pointer}{'':>7}  "
        style = style_of("warning", self.app.theme_variables) if line.kind in ALARMING else Style.null()
        muted = style_of("quiet", self.app.theme_variables)
        message = set_cell_size(plain(line.text, ascii=self._ascii), max(width - len(text), 0))
        return Strip([Segment(text, muted), Segment(message, style + Style(bold=chosen))]).adjust_cell_length(width)

    def _telling(self, row: int) -> int:
        """The row to draw: where there is room for one alone, the newest that says something."""
        newest = self.size.height == 1 and row == len(self._lines) - 1 and row != self._chosen
        while newest and row > 0 and self._lines[row].kind in LESS:
            row -= 1
        return row
