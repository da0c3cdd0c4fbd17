"""A run's events as the curves that claims are judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kerascnn.runs import events as ev

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """How one run went. Losses in nats, accuracies from 0 to 1.

    ``steps`` are those that were recorded, ``losses`` theirs; ``totals`` is the sum of the losses of all steps up to
    and with each of them, recorded or not. ``epochs`` are the closed ones, ``last`` is the last step, recorded or not.
    """

    classes: int
    steps: NDArray[np.int64]
    losses: Numbers
    totals: Numbers
    epochs: tuple[ev.EpochDone, ...]
    layers: tuple[ev.LayerStatistics, ...]
    last: int
    state: str
    seconds: float

    @property
    def chance(self) -> float:
        """The loss of a network that knows nothing of its images: ln C."""
        return math.log(self.classes)

    @property
    def ended(self) -> bool:
        """Whether the run has had its whole budget, or has diverged."""
        return self.state in ("finished", "diverged")

    def means(self, window: int) -> tuple[NDArray[np.int64], Numbers]:
        """The mean loss over the last ``window`` steps, or a few more, at each recorded step from there on.

        Late steps are recorded in part, so a mean begins at the nearest recorded step that is far enough back.
        """
        begins = np.searchsorted(self._from_zero, self.steps - window, side="right") - 1
        whole = begins >= 0
        first, last = begins[whole], np.flatnonzero(whole) + 1
        totals = np.concatenate([[0.0], self.totals])
        means = (totals[last] - totals[first]) / (self._from_zero[last] - self._from_zero[first])
        return self.steps[whole], means

    @cached_property
    def _from_zero(self) -> NDArray[np.int64]:
        return np.concatenate([[0], self.steps]).astype(np.int64)


def read_curve(events: Sequence[ev.Event], state: str, classes: int) -> Curve:
    """The curve of a run's effective events.

    Args:
        events: as :meth:`kerascnn.runs.directory.Run.events` gives them.
        state: how the run stands, as its summary says.
        classes: of the run's recipe.
    """
    loaded = [event for event in events if isinstance(event, ev.DataLoaded)]
    per_epoch = loaded[-1].steps_per_epoch if loaded else 0
    epochs = tuple(event for event in events if isinstance(event, ev.EpochDone))
    recorded = [event for event in events if isinstance(event, ev.StepDone)]
    # What all epochs before one have summed up to, by the epoch's number.
    before = np.concatenate([[0.0], np.cumsum([epoch.loss * per_epoch for epoch in epochs])])
    totals = [
        before[min(step.epoch - 1, len(epochs))] + step.mean_loss * (step.step - (step.epoch - 1) * per_epoch)
        for step in recorded
    ]
    return Curve(
        classes=classes,
        steps=np.array([step.step for step in recorded], np.int64),
        losses=np.array([step.loss for step in recorded], np.float64),
        totals=np.array(totals, np.float64),
        epochs=epochs,
        layers=tuple(event for event in events if isinstance(event, ev.LayerStatistics)),
        last=max((e.step for e in events if isinstance(e, (ev.StepDone, ev.EpochDone, ev.RunEnded))), default=0),
        state=state,
        seconds=max((e.elapsed for e in events if isinstance(e, (ev.StepDone, ev.RunEnded))), default=0.0),
    )
