"""What a screen asks the app to do for it."""

from __future__ import annotations

from textual.message import Message

from kerascnn.runs.directory import Run


class ResumeRun(Message):
    """Start a process that goes on with a run."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


class OpenRun(Message):
    """Show a run."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
