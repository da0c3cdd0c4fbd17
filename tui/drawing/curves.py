"""A run's story as the series and marks of its charts."""

from __future__ import annotations

import numpy as np

from tui.drawing.plotting import Series, Smoother
from tui.reading.story import RunStory
from tui.reading.table import Floats
from tui.widgets.chart import PlacedMark

# What a step and an epoch call the figure of a chart.
FIGURES = {"loss": ("loss", "val_loss"), "accuracy": ("recent_accuracy", "val_accuracy")}


class Curves:
    """The curves of one story. Smoothing goes on where it was, so a refresh costs by what is new."""

    def __init__(self, story: RunStory, smoothing: float) -> None:
        self.story = story
        self._smoothing = smoothing
        self._smoothers = {name: Smoother(smoothing) for name in FIGURES}

    def is_of(self, story: RunStory, smoothing: float) -> bool:
        """Whether these are the curves of a story, smoothed so."""
        return self.story is story and self._smoothing == smoothing

    def places(self, axis: str) -> Floats:
        """Where the recorded steps stand on an axis: ``step``, ``epoch`` or ``time``."""
        steps = self.story.steps
        if axis == "time":
            return np.maximum.accumulate(steps.column("elapsed"))
        if axis == "epoch" and self.story.pace.steps_per_epoch:
            return steps.column("step") / self.story.pace.steps_per_epoch
        return np.maximum.accumulate(steps.column(axis))

    def place_of(self, step: float, axis: str) -> float:
        """Where a step stands on an axis."""
        places = self.places(axis)
        return float(np.interp(step, self.story.steps.column("step"), places)) if len(places) else 0.0

    def step_at(self, place: float, axis: str) -> int:
        """The recorded step that is nearest to a place on an axis."""
        places = self.places(axis)
        nearest = int(np.abs(places - place).argmin())
        return int(self.story.steps.column("step")[nearest])

    def smoothed(self, name: str) -> Floats:
        """The training figure of a chart, smoothed."""
        steps = self.story.steps
        return self._smoothers[name].smooth(steps.column(FIGURES[name][0]), steps.generation)

    def validation(self, name: str, axis: str) -> tuple[Floats, Floats]:
        """Where each epoch ended, and its validation figure."""
        epochs = self.story.epochs
        if axis == "time":
            return np.maximum.accumulate(epochs.column("elapsed")), epochs.column(FIGURES[name][1])
        at = epochs.column("step")
        if axis == "epoch":
            at = epochs.column("epoch")
        return at, epochs.column(FIGURES[name][1])

    def series(self, axis: str) -> dict[str, list[Series]]:
        """The curves of both charts: raw dim, smoothed bold, validation as points."""
        places = self.places(axis)
        return {name: self._of(name, places, axis) for name in FIGURES}

    def _of(self, name: str, places: Floats, axis: str) -> list[Series]:
        raw = self.story.steps.column(FIGURES[name][0])
        at, validation = self.validation(name, axis)
        drawn = [Series("train", places, self.smoothed(name), "train", ascii_mark="*")]
        if self._smoothing:
            drawn.insert(0, Series("", places, raw, "train", ascii_mark=".", weight="dim"))
        return [*drawn, Series("validation", at, validation, "validation", "◆", "o", points=True)]

    def marks(self, axis: str) -> list[PlacedMark]:
        """What happened to the run, where it happened."""
        return [PlacedMark(mark.kind, self.place_of(mark.step, axis), mark.label) for mark in self.story.marks]
