"""Commands to a run in training: those that come in now, and those that a resume has to repeat."""

from __future__ import annotations

import time
from collections.abc import Callable

from kerascnn.runs import events as ev
from kerascnn.runs.control import Command, Inbox
from kerascnn.runs.directory import Run

PAUSE_POLL_S = 0.2
# What a resume repeats at its step. A pause or a stop was for the process that it came to.
REPEATED = ("set-lr", "extend")


class Control:
    """Hands commands to the engine between two steps."""

    def __init__(self, run: Run, applied: set[str], sleep: Callable[[float], None] = time.sleep) -> None:
        """``applied`` holds the commands that are part of the state in training; others that once were come again."""
        events = list(ev.of_kind(ev.read_events(run.events_file)[0], ev.ControlApplied))
        self._inbox = Inbox(run.control_file, applied | {event.id for event in events})
        self._sleep = sleep
        again = {event.id: event for event in events if event.id not in applied and event.command in REPEATED}
        self._due = sorted(again.values(), key=lambda event: event.step)

    def commands(self, step: int) -> list[Command]:
        """What is to be done now, after ``step`` steps: repeated commands first."""
        due = [event for event in self._due if event.step <= step]
        self._due = self._due[len(due) :]
        repeated = [Command(id=event.id, command=event.command, value=event.value) for event in due]
        return [*repeated, *self._inbox.new()]

    def wait(self) -> None:
        """A moment of a pause; uses no processor time."""
        self._sleep(PAUSE_POLL_S)
