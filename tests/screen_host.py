"""An app around one screen of the terminal UI, with a clock of our own and ticks by hand."""

from __future__ import annotations

from typing import Any

from textual.app import App
from textual.pilot import Pilot

from kerascnn.runs.directory import Run
from tests.recorded import BEGAN
from tui.messages import ResumeRun
from tui.screens.lecture import LectureScreen
from tui.screens.overlay import OverlayScreen
from tui.screens.run import RunScreen
from tui.settings import Settings


class Host(App[None]):
    """An app with one screen, and what that screen asks of it."""

    def __init__(self, screen: RunScreen | OverlayScreen | LectureScreen, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings or Settings()
        self.opened = screen
        self.said: list[str] = []
        self.cleared = 0
        self.to_resume: list[Run] = []

    def on_mount(self) -> None:
        self.push_screen(self.opened)

    def notify(self, message: str, **more: Any) -> None:
        self.said.append(message)

    def clear_notifications(self) -> None:
        self.cleared += 1

    def on_resume_run(self, message: ResumeRun) -> None:
        self.to_resume.append(message.run)


class Clock:
    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> float:
        return self.now


def host(run: Run, settings: Settings | None = None, **more: Any) -> Host:
    return Host(RunScreen(run, clock=more.pop("clock", Clock()), tick_s=None, **more), settings)


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


def tick(app: Host) -> None:
    assert isinstance(app.opened, RunScreen)
    app.opened.tick()


async def ticked(app: Host, pilot: Pilot[None]) -> None:
    """A tick, and what it shows is on the screen."""
    tick(app)
    await pilot.pause()
