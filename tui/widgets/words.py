"""A few titles with a text beside each, wrapped for the width that there is."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from tui.drawing.titled import titled


class Words(Static):
    """Titles and texts."""

    DEFAULT_CSS = "Words { height: auto; padding: 0 1; }"

    def __init__(self, *, ascii: bool = False) -> None:  # noqa: A002
        super().__init__(markup=False)
        self._ascii = ascii
        self._facts: Sequence[tuple[str, str]] = ()

    def show(self, facts: Sequence[tuple[str, str]]) -> None:
        """Show these from now on."""
        if facts != self._facts:
            self._facts = facts
            self._write()

    def on_resize(self) -> None:
        """Wrap for the new width."""
        self._write()

    def _write(self) -> None:
        if self.content_size.width:
            columns = max((len(title) for title, _ in self._facts), default=0) + 2
            lines = titled(self._facts, self.content_size.width, columns, ascii=self._ascii)
            self.update(Content("\n").join(lines))
