"""The lecture's argument as a list: how each step stands, its network and what it changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from kerascnn.lecture.argument import Step
from tui.drawing.glyphs import VERDICTS, plain
from tui.reading.lecture import Standing

_MARK_AND_ID = 6
_NETWORK = (17, 31)
# From this width on a line has room for the network beside what changes.
_ROOM_FOR_BOTH = 52


class ArgumentList(OptionList):
    """One line a step."""

    HELP = (
        "The lecture's argument, a step a line. Before each stands how it stands: ✓ as claimed, ✗ not as claimed, "
        "? undecided within the budget, ◇ trained and nothing claimed, … running, · not run. Up and down, or j and k, "
        "walk through it; the curve and the words follow. Enter opens the step's run. r trains the step, a all of "
        "them, s stops."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "open run", id="lecture.open"),
    ]
    DEFAULT_CSS = """
    ArgumentList {
        border: round $foreground 30%; border-title-color: $foreground; border-subtitle-color: $foreground 60%;
        background: $background; background-tint: $background 0%; padding: 0; height: 1fr; max-height: 100%;
    }
    ArgumentList > .option-list--option { padding: 0 1; }
    ArgumentList:focus { border: round $accent; }
    ArgumentList.-ascii { border: ascii $foreground 30%; }
    ArgumentList.-ascii:focus { border: ascii $accent; }
    """

    def __init__(self, steps: Sequence[Step], *, ascii: bool = False) -> None:  # noqa: A002
        super().__init__(*(Option("", id=step.id) for step in steps), classes="-ascii" if ascii else None)
        self.border_title = "the argument"
        self._steps = list(steps)
        self._ascii = ascii
        self._standings: Sequence[Standing] = ["not run"] * len(self._steps)
        self._written: list[Content] = []

    @property
    def step(self) -> Step:
        """The step under the cursor."""
        return self._steps[self.highlighted or 0]

    def show(self, standings: Sequence[Standing]) -> None:
        """Show how the steps stand."""
        self._standings = standings
        self._write()

    def on_click(self, event: events.Click) -> None:
        """A click goes to a step, as the keys do; only a second one opens its run."""
        if event.chain == 1:
            event.prevent_default()
            clicked = event.style.meta.get("option")
            if clicked is not None:
                self.highlighted = clicked

    def on_resize(self) -> None:
        """Columns come and go with the room for them."""
        self._write()

    def _write(self) -> None:
        """Only lines that have changed: the cursor stays, and nothing flickers."""
        lines = [self._line(step, how) for step, how in zip(self._steps, self._standings, strict=True)]
        for number, line in enumerate(lines):
            if number >= len(self._written) or line != self._written[number]:
                self.replace_option_prompt_at_index(number, line)
        self._written = lines

    def _line(self, step: Step, standing: Standing) -> Content:
        width = max(
            self.scrollable_content_region.width - self.get_component_styles("option-list--option").padding.width, 20
        )
        room = width - _MARK_AND_ID
        unchanged = step.changes == "–"
        changes = step.network if unchanged else step.changes
        network = ""
        if width >= _ROOM_FOR_BOTH and not unchanged:
            columns = min(max(room - 52, _NETWORK[0]), _NETWORK[1])
            network = _fitted(step.network, columns - 1) + " "
        return Content.assemble(
            (plain(f"{VERDICTS[standing]} ", ascii=self._ascii), "bold"),
            f"{step.id:<3} ",
            plain(network, ascii=self._ascii),
            plain(_fitted(changes, room - len(network)), ascii=self._ascii),
        )


def _fitted(text: str, columns: int) -> str:
    """The text in exactly so many columns."""
    return f"{text:<{columns}}" if len(text) <= columns else text[: columns - 1] + "…"
