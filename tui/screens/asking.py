"""A number that is asked for before something is done to a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from kerascnn.errors import UsageError


class AskNumber(ModalScreen[float | None]):
    """A question that is answered by a number, checked as it is typed."""

    CSS_PATH = "asking.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "back", id="ask.back")]

    def __init__(
        self, question: str, value: str, check: Callable[[float], object], *, ascii_only: bool = False
    ) -> None:
        """``check`` raises a UsageError for a number that can't be."""
        super().__init__(classes="-ascii" if ascii_only else "")
        self._question = question
        self._value = value
        self._check = check

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._question, markup=False)
            yield Input(self._value, compact=True)
            yield Static("", classes="wrong", markup=False)
            yield Static("enter: do it    escape: back", classes="hint", markup=False)

    def _number(self, text: str) -> float | None:
        """The number that was typed, or None, with the reason below it."""
        wrong = self.query_one(".wrong", Static)
        try:
            number = float(text)
            self._check(number)
        except ValueError:
            wrong.update(f"expected a number, got {text!r}" if text else "")
            return None
        except UsageError as error:
            # Which command it is for, the question says.
            wrong.update(str(error).partition(": ")[2] or str(error))
            return None
        wrong.update("")
        return number

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say at once what is wrong."""
        self._number(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer, if the number can be."""
        number = self._number(event.value)
        if number is not None:
            self.dismiss(number)
