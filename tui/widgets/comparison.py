"""Runs side by side: their figures, and only what differs between their recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from kerascnn.wording import one_line
from tui.drawing.colors import style_of
from tui.widgets.listing import Listing

KEY_WIDTH = 26
LEAST_COLUMN = 12


@dataclass(frozen=True)
class Column:
    """A run: its name with the mark and the colour of its curves."""

    title: str
    ink: str


class Comparison(Listing):
    """A table with a column for each run, as many as there is room for."""

    def __init__(self, *, ascii_only: bool = False, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes="-ascii" if ascii_only else "")
        self._columns: Sequence[Column] = ()
        self._rows: Sequence[tuple[str, Sequence[str]]] = ()
        self.border_title = "what differs"

    def show(self, columns: Sequence[Column], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Show these from now on. A row is its key and a cell for each column."""
        if (columns, rows) != (self._columns, self._rows):
            self._columns, self._rows = columns, rows
            self.resize_list(len(rows) + 1)
            self._tell_room()
            self.refresh()

    def on_resize(self) -> None:
        """Columns come and go with the room for them."""
        self._tell_room()

    @property
    def _shown(self) -> int:
        """How many runs have a column."""
        return min(len(self._columns), max((self.size.width - KEY_WIDTH) // LEAST_COLUMN, 1))

    def _tell_room(self) -> None:
        missing = len(self._columns) - self._shown
        self.border_subtitle = f"{self._shown} of {len(self._columns)} runs: no room for more" if missing else ""

    def render_line(self, y: int) -> Strip:
        """The names of the runs, then a line for each row."""
        width = self.size.width
        row = y + self.scroll_offset.y
        each = max((width - KEY_WIDTH) // max(self._shown, 1), LEAST_COLUMN)
        variables = self.app.theme_variables
        if row == 0:
            titles = [
                Segment(_cell(column.title, each), style_of(column.ink, variables, bold=True))
                for column in self._columns[: self._shown]
            ]
            strip = Strip([Segment(" " * KEY_WIDTH), *titles])
        elif row <= len(self._rows):
            key, cells = self._rows[row - 1]
            same = len(set(cells)) == 1
            style = style_of("quiet", variables) if same else Style.null()
            strip = Strip(
                [
                    Segment(_cell(key, KEY_WIDTH), style_of("quiet", variables)),
                    *(Segment(_cell(cell, each), style) for cell in cells[: self._shown]),
                ]
            )
        else:
            strip = Strip.blank(width)
        return strip.adjust_cell_length(width).apply_style(self.rich_style)


def _cell(text: str, width: int) -> str:
    return set_cell_size(one_line(text), width - 1) + " "
