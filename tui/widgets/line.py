"""One line with something at its left and something at its right end."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget


class TwoEnds(Widget):
    """Keeps its right end whole; the left one is cut where there isn't room for both."""

    DEFAULT_CSS = "TwoEnds { height: 1; width: 1fr; }"

    def __init__(self, *, ascii_only: bool = False, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._ellipsis = not ascii_only
        self._ends = (Content(""), Content(""))

    def show(self, left: Content, right: Content = Content("")) -> None:  # noqa: B008 - it is immutable
        """Show these from now on."""
        if self._ends != (left, right):
            self._ends = (left, right)
            self.refresh()

    def render(self) -> Content:
        """Both ends and the room between them."""
        left, right = self._ends
        width = self.size.width
        right = right.truncate(width)
        left = left.truncate(max(width - right.cell_length - 2, 0), ellipsis=self._ellipsis)
        gap = width - left.cell_length - right.cell_length
        return Content.assemble(left, " " * max(gap, 0), right)
