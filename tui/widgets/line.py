"""One line with something at its left and something at its right end."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget


class TwoEnds(Widget):
    """Keeps its right end whole, in fewer words where it has them; then the left one is cut if there isn't room.

    With more lines than one, the left one is wrapped before it is cut; a style sheet gives it the height ``auto``.
    """

    DEFAULT_CSS = "TwoEnds { height: 1; width: 1fr; }"

    def __init__(self, *, ascii_only: bool = False, most_lines: int = 1, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._most_lines = most_lines
        self._ellipsis = not ascii_only
        self._left = Content("")
        self._rights: tuple[Content, ...] = ()

    def show(self, left: Content, *rights: Content) -> None:
        """Show these from now on: of the right ends the first that leaves the left one whole, or else the last."""
        if (self._left, self._rights) != (left, rights):
            self._left, self._rights = left, rights
            self.refresh(layout=self._most_lines > 1)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as the left end needs in this width."""
        return len(self._ends(width)[0])

    def render(self) -> Content:
        """Both ends and the room between them."""
        width = self.size.width
        lefts, right = self._ends(width)
        gap = width - lefts[0].cell_length - right.cell_length
        first = Content.assemble(lefts[0], " " * max(gap, 0), right)
        return Content("\n").join([first, *lefts[1:]])

    def _ends(self, width: int) -> tuple[list[Content], Content]:
        """The lines of the left end, and the right one."""
        room = width - self._left.cell_length - 2
        fitting = (right for right in self._rights if right.cell_length <= room)
        right = next(fitting, self._rights[-1] if self._rights else Content("")).truncate(width)
        room = max(width - right.cell_length - 2, 0) if right.cell_length else width
        lines = self._left.wrap(room) if self._most_lines > 1 and room else [self._left]
        kept = lines[: self._most_lines]
        # What has no line is told by the last one's ellipsis.
        kept[-1] = Content(" ").join(lines[len(kept) - 1 :]).truncate(room, ellipsis=self._ellipsis)
        return kept, right
