"""A list of lines that scrolls up and down and leaves the other keys to its screen."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView


class Listing(ScrollView, can_focus=True, inherit_bindings=False):
    """Lines drawn one by one by who inherits, as ``render_line``."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", "up", show=False, id="list.up"),
        Binding("down", "scroll_down", "down", show=False, id="list.down"),
        Binding("pageup", "page_up", "page up", show=False, id="list.page_up"),
        Binding("pagedown", "page_down", "page down", show=False, id="list.page_down"),
    ]

    DEFAULT_CSS = """
    Listing {
        border: round $foreground 30%; border-title-color: $foreground; border-subtitle-color: $foreground 60%;
        scrollbar-size-vertical: 1; overflow-x: hidden;
    }
    Listing:focus { border: round $accent; }
    Listing.-ascii { border: ascii $foreground 30%; }
    Listing.-ascii:focus { border: ascii $accent; }
    /* A scroll bar's ends are blocks. */
    Listing.-ascii { scrollbar-size: 0 0; }
    """

    def resize_list(self, lines: int) -> None:
        """There are so many lines now."""
        if self.virtual_size.height != lines:
            self.virtual_size = Size(0, lines)
