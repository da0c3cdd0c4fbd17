"""What a screen asks of the app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from textual.screen import Screen

    from kerascnn.runs.directory import Run


class OpenRun(Message):
    """Show a run, or tell it from its start; instead of the form that started it."""

    def __init__(self, run: Run, *, replay: bool = False, instead_of: Screen[None] | None = None) -> None:
        super().__init__()
        self.run = run
        self.replay = replay
        self.instead_of = instead_of


class ResumeRun(Message):
    """Start a process that goes on with a run, and show the run."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


class NewRun(Message):
    """Fill in the form for a run of this network."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model


class Overlay(Message):
    """Lay the curves of several runs over one another."""

    def __init__(self, runs: Sequence[Run]) -> None:
        super().__init__()
        self.runs = list(runs)


class LedgerChanged(Message, bubble=False):
    """The app to a screen: a run has come, gone or moved on."""
