"""What screens with a list and a filter over it have in common."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input


class WordFilter(Input):
    """Where words are typed that a line of the list must hold."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "screen.focus_list", "list", show=False, id="filter.down"),
        Binding("escape", "screen.clear_filter", "clear", show=False, id="filter.clear"),
    ]

    def __init__(self) -> None:
        super().__init__(placeholder="/ filter", compact=True)


class ListedScreen(Screen[None]):
    """A screen with one list, which ``AUTO_FOCUS`` names, and one :class:`WordFilter`."""

    def fill(self) -> None:
        """Put into the list what the filter lets through."""
        raise NotImplementedError

    @property
    def filter_text(self) -> str:
        """The words that were typed."""
        return self.query_one(WordFilter).value

    def action_focus_filter(self) -> None:
        """Go to the filter."""
        self.query_one(WordFilter).focus()

    @on(WordFilter.Submitted)
    def action_focus_list(self) -> None:
        """Go from the filter to the list."""
        self.query_one(str(self.AUTO_FOCUS)).focus()

    @on(WordFilter.Changed)
    def _filter_changed(self) -> None:
        self.fill()

    def action_clear_filter(self) -> None:
        """Show all again."""
        self.query_one(WordFilter).value = ""
        self.action_focus_list()
