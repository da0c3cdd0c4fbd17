"""The curves of several runs. A stand-in until the real screen is merged."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Static

from kerascnn.runs.directory import Run


class OverlayScreen(Screen[None]):
    """The names of the runs."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.pop_screen", "back", id="overlay.back")]

    def __init__(self, runs: list[Run]) -> None:
        super().__init__()
        self.runs = runs

    def compose(self) -> ComposeResult:
        yield Static("\n".join(run.name for run in self.runs), markup=False)
        yield Footer()
