"""One line with something at its left and something at its right end."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget


class TwoEnds(Widget):
    """Keeps its right end whole, in fewer words where it has them; then the left one is cut if there isn't room."""

    DEFAULT_CSS = "TwoEnds { height: 1; width: 1fr; }"

    def __init__(self, *, ascii_only: bool = False, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._ellipsis = not ascii_only
        self._left = Content("")
        self._rights: tuple[Content, ...] = ()

    def show(self, left: Content, *rights: Content) -> None:
        """Show these from now on: of the right ends the first that leaves the left one whole, or else the last."""
        if (self._left, self._rights) != (left, rights):
            self._left, self._rights = left, rights
            self.refresh()

    def render(self) -> Content:
        """Both ends and the room between them."""
        width = self.size.width
        room = width - self._left.cell_length - 2
        fitting = (right for right in self._rights if right.cell_length <= room)
        right = next(fitting, self._rights[-1] if self._rights else Content("")).truncate(width)
        left = self._left.truncate(max(width - right.cell_length - 2, 0), ellipsis=self._ellipsis)
        gap = width - left.cell_length - right.cell_length
        return Content.assemble(left, " " * max(gap, 0), right)
