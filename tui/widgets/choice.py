"""One out of a few: all of them side by side where there is room, else the chosen one between arrows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tui.drawing.glyphs import plain


@dataclass(frozen=True)
class Option:
    """A value that can be chosen, or, where it can't, why not."""

    value: str
    enabled: bool = True
    note: str = ""


class Choice(Widget, can_focus=True):
    """A field whose value is one of a few."""

    HELP = "Left and right take the option before and after. A greyed option isn't available; the line below says why."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "before", show=False, id="choice.before"),
        Binding("right,space", "move(1)", "after", show=False, id="choice.after"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"choice--chosen", "choice--disabled"}
    DEFAULT_CSS: ClassVar[str] = """
    Choice {
        height: 1;
        width: 1fr;
        & > .choice--chosen { text-style: bold; }
        & > .choice--disabled { color: $text-disabled; text-style: dim; }
        &:focus > .choice--chosen { text-style: bold reverse; }
    }
    """

    value: reactive[str] = reactive("")

    class Changed(Message):
        """Another option has been taken."""

        def __init__(self, choice: Choice, value: str) -> None:
            super().__init__()
            self.choice = choice
            self.value = value

        @property
        def control(self) -> Choice:
            """Whose value it is."""
            return self.choice

    def __init__(self, options: Sequence[Option], value: str, *, ascii: bool = False, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.options = list(options)
        self._ascii = ascii
        self.about = ""
        """What the field is for, for the help."""
        self.set_reactive(Choice.value, value)

    def watch_value(self, value: str) -> None:
        self.post_message(self.Changed(self, value))

    def action_move(self, by: int) -> None:
        """Take the next option that is available in this direction, round the end."""
        values = [option.value for option in self.options if option.enabled or option.value == self.value]
        if len(values) > 1:
            self.value = values[(values.index(self.value) + by) % len(values)]

    def render(self) -> Content:
        """The options, or the chosen one alone."""
        cells = self._cells()
        if sum(len(text) for text, _ in cells) <= self.size.width:
            chosen, disabled = self._style("choice--chosen"), self._style("choice--disabled")
            return Content.assemble(
                *(
                    (text, chosen if option.value == self.value else "" if option.enabled else disabled)
                    for text, option in cells
                )
            )
        place = [option.value for option in self.options].index(self.value) + 1
        return Content.assemble(
            plain("‹ ", ascii=self._ascii),
            (self.value, self._style("choice--chosen")),
            plain(" ›", ascii=self._ascii),
            (f"  {place} of {len(self.options)}", "dim"),
        )

    def _cells(self) -> list[tuple[str, Option]]:
        marks = {option.value: "●" if option.value == self.value else "○" for option in self.options}
        return [
            (plain(f"{marks[option.value]} {option.value}  ", ascii=self._ascii), option) for option in self.options
        ]

    def _style(self, name: str) -> str:
        return str(self.get_component_rich_style(name))

    def on_click(self, event: events.Click) -> None:
        """Take the option under the mouse; where only one is shown, the next."""
        cells = self._cells()
        if sum(len(text) for text, _ in cells) > self.size.width:
            self.action_move(-1 if event.x < 2 else 1)
            return
        end = 0
        for text, option in cells:
            end += len(text)
            if event.x < end:
                if option.enabled:
                    self.value = option.value
                return
