"""One run, live or finished. A stand-in until the real screen is merged."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Static

from kerascnn.runs.directory import Run


class RunScreen(Screen[None]):
    """The run's summary."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.pop_screen", "back", id="run.back")]

    def __init__(self, run: Run, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.run = run

    def compose(self) -> ComposeResult:
        yield Static(f"{self.run.name}\n{self.run.path}", markup=False)
        yield Footer()
