"""A few titles with a text beside each, wrapped for the width that there is."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from tui.drawing.titled import titled


class Words(Widget):
    """Titles and texts, as high as they are."""

    DEFAULT_CSS = "Words { height: auto; padding: 0 1; }"

    def __init__(self, *, ascii: bool = False) -> None:  # noqa: A002
        super().__init__()
        self._ascii = ascii
        self._facts: Sequence[tuple[str, str]] = ()

    def show(self, facts: Sequence[tuple[str, str]]) -> None:
        """Show these from now on."""
        if facts != self._facts:
            self._facts = facts
            self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as the texts need in this width."""
        return len(self._lines(width))

    def render(self) -> Content:
        """The texts, wrapped."""
        return Content("\n").join(self._lines(self.content_size.width))

    def _lines(self, width: int) -> list[Content]:
        columns = max((len(title) for title, _ in self._facts), default=0) + 2
        return titled(self._facts, width, columns, ascii=self._ascii)
