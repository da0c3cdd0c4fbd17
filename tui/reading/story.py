"""A run as its viewer knows it: the events read so far, as arrays, marks, lines and a state."""

from __future__ import annotations

import math
import os
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from kerascnn.errors import KerascnnError
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run, standing
from kerascnn.runs.lines import plain_line
from kerascnn.runs.pace import Pace
from kerascnn.wording import one_line
from tui.reading.table import Floats, Table

STEP_COLUMNS = (
    "step",
    "epoch",
    "elapsed",
    "loss",
    "mean_loss",
    "accuracy",
    "recent_accuracy",
    "learning_rate",
    "images_per_s",
)
EPOCH_COLUMNS = ("step", "epoch", "elapsed", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")
FIGURES = ("gradient_norm", "update_over_weight", "between_images", "dead", "saturated")

# Rows of layer statistics that there is room for at first; the room doubles when it is full.
FIRST_ROOM = 64

CHUNK = 256 * 1024
# A line that is longer than any event can be.
MAX_LINE = 8 * 1024 * 1024
LINES_KEPT = 5000
# Above it not every whole number is a float.
LARGEST = 2**53
TIMES = ("time", "elapsed", "seconds")
LOG_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Mark:
    """Something that happened at a step and belongs on the curves."""

    kind: str
    step: int
    label: str


@dataclass(frozen=True)
class Line:
    """A line of the log. ``kind`` is its event's."""

    step: int
    kind: str
    text: str


class LayerHistory:
    """The figures of all layers over time."""

    def __init__(self) -> None:
        self.layers: tuple[str, ...] = ()
        self.version = 0
        """Counts what has been added and taken back; whoever draws compares it with what was drawn."""
        self._steps: list[int] = []
        # As (time, figure, layer), with room at its end.
        self._rows: Floats = np.empty((FIRST_ROOM, len(FIGURES), 0))

    def __len__(self) -> int:
        return len(self._steps)

    def take(self, event: ev.LayerStatistics) -> None:
        """Add one event's figures. A network of other layers begins anew."""
        columns = [getattr(event, figure) for figure in FIGURES]
        if any(len(column) != len(event.layers) for column in columns):
            return
        if event.layers != self.layers:
            self.layers = event.layers
            self._steps.clear()
            self._rows = np.empty((FIRST_ROOM, len(FIGURES), len(event.layers)))
        self.keep_up_to(event.step - 1)
        if len(self) == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[len(self)] = [[math.nan if v is None else v for v in column] for column in columns]
        self._steps.append(event.step)
        self.version += 1

    def keep_up_to(self, step: int) -> None:
        """Take back what came after a step."""
        while self._steps and self._steps[-1] > step:
            self._steps.pop()
            self.version += 1

    def at(self, step: float | None) -> tuple[int, Floats] | None:
        """The step and figures (figure, layer) that were the newest at ``step``; None before the first."""
        index = len(self._steps) if step is None else bisect_right(self._steps, step)
        return (self._steps[index - 1], self._rows[index - 1]) if index else None

    def over_time(self, figure: str) -> Floats:
        """One figure of all layers over time, as (time, layer); later rows don't change what was returned."""
        # Each layer's together, as its strip reads them.
        return self._rows[: len(self), FIGURES.index(figure)].copy(order="F")

    @property
    def steps(self) -> list[int]:
        """The steps at which figures were taken."""
        return self._steps


class RunStory:
    """Takes events, from a run's directory or from whoever replays them."""

    def __init__(self, run: Run, *, offset: int = 0, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begin with no events.

        Args:
            run: the run.
            offset: where in its file to read from; whoever replays what is before hands it over.
            clock: measures the budget of a read.
        """
        self.run = run
        self._clock = clock
        self._offset = offset
        self._carry = b""
        self._skipping = False
        self.size = 0
        self.behind = False
        """Whether finished lines are still unread."""
        self.unreadable = 0
        """Lines that are no event, or of a kind that isn't known."""
        self._unread = ""
        self._shortened = False
        self.steps = Table(STEP_COLUMNS)
        self.epochs = Table(EPOCH_COLUMNS)
        self.layers = LayerHistory()
        self.marks: list[Mark] = []
        self.findings: list[ev.Found] = []
        self.lines: deque[Line] = deque(maxlen=LINES_KEPT)
        self._last_step: ev.StepDone | None = None
        self.confirmed: dict[str, ev.ControlApplied] = {}
        self.started: ev.RunStarted | None = None
        self.data: ev.DataLoaded | None = None
        self.phase: ev.Phase | None = None
        self.validating: ev.ValidationProgress | None = None
        self.ended: ev.RunEnded | None = None
        self.paused = False
        self.checkpointed = False
        """Whether the run has ever written a checkpoint."""
        self.pace = Pace()
        self.startup_s: float | None = None
        self.compiling_s: float | None = None
        self.last_time: float | None = None
        self.version = 0
        """Counts the events taken; whoever draws compares it with what was drawn."""

    # Reading

    @property
    def share_read(self) -> float:
        """How much of the file has been read, from 0 to 1."""
        return min(self._offset / self.size, 1.0) if self.size else 1.0

    def read(self, budget_s: float) -> bool:
        """Take the events that are new, for about so long.

        Returns:
            Whether anything has changed.
        """
        before = (self.version, self.trouble)
        until = self._clock() + budget_s
        try:
            with self.run.events_file.open("rb") as file:
                self._unread = ""
                self._find_place(file)
                self.behind = True
                while self.behind and self._clock() < until:
                    self.behind = self._read_chunk(file)
        except OSError as error:
            self.behind = False
            self._unread = self._why_unread(error)
        return (self.version, self.trouble) != before

    def _find_place(self, file: BinaryIO) -> None:
        self.size = os.fstat(file.fileno()).st_size
        if self.size < self._offset:
            self._offset, self._carry = self.size, b""
            self._shortened = True
        file.seek(self._offset)

    def _read_chunk(self, file: BinaryIO) -> bool:
        """Take the finished lines of a chunk; False at the end of the file."""
        chunk = file.read(CHUNK)
        self._offset += len(chunk)
        content = self._carry + chunk
        end = content.rfind(b"\n") + 1
        self._carry = content[end:]
        for line in content[:end].splitlines():
            if self._skipping:
                self._skipping = False
                continue
            if (event := ev.parse_event(line)) is not None:
                self.take(event)
            elif line.strip():
                self.unreadable += 1
        if len(self._carry) > MAX_LINE:
            self._carry, self._skipping = b"", True
            self.unreadable += 1
        return bool(chunk) and self._offset < self.size

    def _why_unread(self, error: OSError) -> str:
        path = self.run.path
        if self.version:
            gone = f"{path} is gone" if not path.is_dir() else f"events.jsonl can't be read: {error.strerror}"
            return f"{gone}; what had been read is still shown"
        if not path.is_dir():
            return f"no run here: there is no folder {path}"
        if not isinstance(error, FileNotFoundError):
            return f"events.jsonl can't be read: {error.strerror}"
        if not self.run.recipe_file.is_file():
            return f"no run here: expected recipe.toml and events.jsonl in {path}"
        return ""

    @property
    def trouble(self) -> str:
        """What is wrong with the directory, in a sentence; empty where nothing is."""
        if self._unread:
            return self._unread
        if self._shortened:
            return "events.jsonl has become shorter: what had been read before is still shown"
        if self.started is not None and self.started.format > ev.FORMAT:
            newer = f"written by a newer kerascnn, as format {self.started.format}"
            return f"{newer}: this one reads format {ev.FORMAT} and may miss some of it"
        if self.unreadable and not self.version:
            return f"no run here: no line of {self.run.events_file} is an event"
        return ""

    def recipe(self) -> Recipe | str:
        """The run's recipe, or why it can't be read."""
        try:
            return self.run.recipe()
        except KerascnnError as error:
            return str(error)

    def log_tail(self) -> list[str]:
        """The last lines of ``log.txt``: what a detached process said before it could write an event."""
        try:
            with self.run.log_file.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES))
                lines = [one_line(line) for line in file.read().decode(errors="replace").splitlines()]
                return [line for line in lines if line][-8:]
        except OSError:
            return []

    # Taking events

    def take(self, event: ev.Event) -> None:
        """Take one event into account. One whose step or time can't be drawn is left out."""
        if not _can_be_drawn(event):
            self.unreadable += 1
            return
        self.version += 1
        self.last_time = event.time
        self.pace.see(event)
        if isinstance(event, ev.StepDone):
            self._take_step(event)
            return
        if isinstance(event, ev.LayerStatistics):
            self.layers.take(event)
            return
        if isinstance(event, ev.ValidationProgress):
            self.validating = event
            return
        self._take_rare(event)
        self._take_line(event)

    def _take_step(self, event: ev.StepDone) -> None:
        self.steps.append(
            (
                event.step,
                event.epoch,
                event.elapsed,
                event.loss,
                event.mean_loss,
                event.accuracy,
                self._recent_accuracy(event),
                event.learning_rate,
                event.images_per_s,
            )
        )
        self._last_step = event

    def _recent_accuracy(self, event: ev.StepDone) -> float:
        """The accuracy since the last recorded step. The events' own is over the epoch so far, a saw's tooth."""
        last = self._last_step
        if not self.pace.steps_per_epoch:
            return event.accuracy
        now = (event.step - 1) % self.pace.steps_per_epoch + 1
        then = now - (event.step - last.step) if last is not None else 0
        if last is None or last.epoch != event.epoch or not 0 < then < now:
            return event.accuracy
        return min(max((event.accuracy * now - last.accuracy * then) / (now - then), 0.0), 1.0)

    def _take_rare(self, event: ev.Event) -> None:
        if isinstance(event, ev.RunStarted):
            self.started, self.ended, self.paused = event, None, False
        elif isinstance(event, ev.DataLoaded):
            self.data = event
        elif isinstance(event, ev.Phase):
            self._take_phase(event)
        elif isinstance(event, ev.EpochDone):
            self.epochs.append(
                (
                    event.step,
                    event.epoch,
                    self.steps.last("elapsed") if len(self.steps) else event.seconds,
                    event.loss,
                    event.accuracy,
                    event.val_loss,
                    event.val_accuracy,
                    event.seconds,
                )
            )
        elif isinstance(event, ev.Resumed):
            self._take_back(event)
        elif isinstance(event, ev.ControlApplied):
            self._take_control(event)
        elif isinstance(event, ev.Found):
            self.findings.append(event)
            self.marks.append(Mark("finding", event.step, one_line(event.symptom)))
        elif isinstance(event, ev.CheckpointWritten):
            self.checkpointed = True
        elif isinstance(event, ev.RunEnded):
            self.ended, self.paused = event, False

    def _take_phase(self, event: ev.Phase) -> None:
        before, self.phase, self.validating = self.phase, event, None
        if before is not None and before.phase == "compiling":
            self.compiling_s = event.time - before.time
        if event.phase in ("compiling", "training") and self.started is not None and self.startup_s is None:
            self.startup_s = event.time - self.started.time

    def _take_back(self, event: ev.Resumed) -> None:
        self.steps.keep_up_to(event.step)
        self._last_step = None
        while self.epochs.last("epoch") > event.epoch:
            self.epochs.keep_up_to(self.epochs.last("step") - 1)
        self.layers.keep_up_to(event.step)
        self.findings = [finding for finding in self.findings if finding.step <= event.step]
        self.marks = [mark for mark in self.marks if mark.kind != "finding" or mark.step <= event.step]
        self.marks.append(Mark("resumed", event.step, "resumed"))
        self.ended = None

    def _take_control(self, event: ev.ControlApplied) -> None:
        if event.command in ("pause", "resume"):
            self.paused = event.command == "pause"
        # A resume does again what came after its checkpoint, under the same id.
        again = event.id in self.confirmed
        self.confirmed[event.id] = event
        label = {
            "pause": "paused",
            "resume": "",
            "stop": "stopped",
            "set-lr": f"lr {event.value:g}" if event.value is not None else "lr",
            "extend": f"{event.epochs} epochs",
        }[event.command]
        if label and not again:
            self.marks.append(Mark(event.command, event.step, label))

    def _take_line(self, event: ev.Event) -> None:
        if isinstance(event, ev.Phase):
            text = f"{event.phase} …" if event.epoch is None else ""
        elif isinstance(event, ev.RunStarted):
            text = f"{event.model} on {event.dataset} with {event.backend}, process {event.pid}"
        elif isinstance(event, ev.CheckpointWritten):
            text = f"checkpoint after step {event.step}, {event.bytes / 1e6:.1f} MB ({event.reason})"
        else:
            text = plain_line(event)
        if text:
            self.lines.append(Line(getattr(event, "step", None) or self.step, event.kind, one_line(text)))

    # Asking

    @property
    def step(self) -> int:
        """The last step that is known to be done."""
        return int(np.nanmax([0, self.steps.last("step"), self.epochs.last("step")]))

    @property
    def epoch(self) -> int:
        """The epoch that is being trained or validated, or the last one."""
        if self.phase is not None and self.phase.epoch is not None:
            return self.phase.epoch
        return int(self.epochs.last("epoch")) if len(self.epochs) else 0

    @property
    def steps_in_all(self) -> int:
        """How many steps the run is to have; 0 while that isn't known."""
        return self.pace.epochs * self.pace.steps_per_epoch

    def state(self, owner: int | None, host: str | None) -> str:
        """As :class:`kerascnn.runs.directory.RunSummary` has it, or ``starting`` before the first event."""
        if owner is None and self.started is None:
            return "starting"
        return standing(owner, host, paused=self.paused, end=self.ended.state if self.ended is not None else None)


def _can_be_drawn(event: ev.Event) -> bool:
    """Whether an event's counts and times are exact as floats."""
    if isinstance(event, ev.StepDone):
        told: Iterable[float] = (event.step, event.epoch, event.elapsed, event.time)
    else:
        told = [value for name, value in event if isinstance(value, int) or (name in TIMES and value is not None)]
    return all(-LARGEST < value < LARGEST for value in told)
