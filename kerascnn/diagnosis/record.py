"""What is known of a training while it goes on: its curve against chance, and the figures of its layers.

Everything comes out of the run's events, so a resumed run, a replay and a finished run lead to the same findings.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from kerascnn.data.formats import Labels
from kerascnn.diagnosis.architecture import Architecture
from kerascnn.diagnosis.rules import the_rules
from kerascnn.runs import events as ev

# Later looks take the place of one another; the first ones stay.
EARLY = 20
# A sum of losses with fewer than six digits after the point.
ENORMOUS = 1e9


@dataclass(frozen=True)
class Chance:
    """What a network gets that knows the classes' frequencies and nothing of its images."""

    loss: float
    accuracy: float
    classes: int
    """Those of the network, also where some have no images."""

    @classmethod
    def of_equal(cls, classes: int) -> Chance:
        """With classes of equal frequency."""
        return cls(math.log(classes), 1 / classes, classes)

    @classmethod
    def of_labels(cls, labels: Labels, classes: int) -> Chance:
        """With the frequencies that these labels have, which is also the best that blank images allow."""
        shares = np.bincount(labels, minlength=classes) / len(labels)
        present = shares[shares > 0]
        return cls(float(-(present * np.log(present)).sum()), float(shares.max()), classes)


@dataclass(frozen=True)
class Stretch:
    """The steps between two records: the last one's number, the images, the sum of their losses, the right answers."""

    step: int
    steps: int
    images: int
    loss_sum: float
    right: float


@dataclass(frozen=True)
class Window:
    """Means over the last steps."""

    first_step: int
    step: int
    images: int
    loss: float
    accuracy: float


@dataclass
class Record:
    """One training so far."""

    chance: Chance
    architecture: Architecture
    base_rate: float
    """The optimizer's learning rate, before a schedule."""
    warm_up_steps: int = 0
    """Of the schedule: until then the learning rate is a lower one."""
    learning_rate: float = 0.0
    """What the last step had."""
    label_score: float | None = None
    """How far above chance a simple classifier comes, in standard deviations; None where nobody looked."""
    mixing: float | None = None
    """How much an image's logits change with the other images of its batch; None where nobody looked."""
    misfit: bool = False
    """The loss takes logits for probabilities, or the other way round."""
    one_batch_error: float | None = None
    """The share of a few images that is wrong after a training on them alone; None where nobody tried."""
    one_batch_steps: int = 0
    """How many steps that took."""
    batch_size: int = 0
    images_an_epoch: int = 0
    step: int = 0
    first_loss: float = math.nan
    spent: bool = False
    """The budget is spent: what has been seen has to do, also where the gate would wait."""
    diverged: bool = False
    early: list[ev.LayerStatistics] = field(default_factory=list)
    latest: ev.LayerStatistics | None = None
    lowest: Window | None = None
    """Of all windows as wide as the gate's, the one with the lowest loss so far."""
    _stretches: deque[Stretch] = field(default_factory=deque)
    _epoch: int = 0
    _steps: int = 0
    _sums: tuple[int, float, float] = (0, 0.0, 0.0)

    @property
    def epochs(self) -> float:
        """How often the images have been seen."""
        return self.step * self.batch_size / self.images_an_epoch if self.images_an_epoch else 0.0

    @property
    def settled_steps(self) -> int:
        """Steps at the full learning rate."""
        return max(0, self.step - self.warm_up_steps)

    @property
    def looks(self) -> list[ev.LayerStatistics]:
        """The figures of the first steps and the latest ones."""
        latest = [] if self.latest is None or self.latest in self.early else [self.latest]
        return [*self.early, *latest]

    def see(self, event: ev.Event) -> None:
        """Take note of an event."""
        if isinstance(event, ev.RunStarted):
            self.batch_size = event.batch_size
        elif isinstance(event, ev.DataLoaded):
            self.images_an_epoch = event.train_images
        elif isinstance(event, ev.StepDone):
            if event.step == 1:
                self.first_loss = event.loss
            self._see_curve(event, event.mean_loss)
        elif isinstance(event, ev.EpochDone):
            self._see_curve(event, event.loss)
        elif isinstance(event, ev.LayerStatistics):
            self.step = max(self.step, event.step)
            self.latest = event
            if event.step <= EARLY:
                self.early.append(event)
        elif isinstance(event, ev.RunEnded):
            self.diverged = event.state == "diverged"
            self.step = max(self.step, event.step)

    def window(self, steps: int) -> Window | None:
        """Means over at least the last ``steps`` steps, or None where there are fewer."""
        images, loss_sum, right, count = 0, 0.0, 0.0, 0
        for stretch in reversed(self._stretches):
            images += stretch.images
            loss_sum += stretch.loss_sum
            right += stretch.right
            count += stretch.steps
            if count >= steps:
                return Window(self.step - count + 1, self.step, images, loss_sum / images, right / images)
        return None

    def _see_curve(self, event: ev.StepDone | ev.EpochDone, mean_loss: float) -> None:
        self.learning_rate = event.learning_rate
        if not self.batch_size or not self.images_an_epoch:
            return
        an_epoch = -(-self.images_an_epoch // self.batch_size)
        in_epoch = event.step - (event.epoch - 1) * an_epoch
        seen = min(in_epoch * self.batch_size, self.images_an_epoch)
        sums = (seen, mean_loss * seen, event.accuracy * seen)
        # Both figures are means over the epoch so far: what two records differ by is what lies between them.
        before, steps = (self._sums, self._steps) if event.epoch == self._epoch else ((0, 0.0, 0.0), 0)
        images = sums[0] - before[0]
        if images > 0:
            loss_sum = sums[1] - before[1]
            # Beside one that was enormous, the difference of two sums has no digits left.
            if isinstance(event, ev.StepDone) and (in_epoch - steps == 1 or abs(sums[1]) > ENORMOUS):
                loss_sum = event.loss * images
            self._stretches.append(Stretch(event.step, in_epoch - steps, images, loss_sum, sums[2] - before[2]))
        self._epoch, self._steps, self._sums, self.step = event.epoch, in_epoch, sums, event.step
        while len(self._stretches) > 1000:
            self._stretches.popleft()
        window = self.window(the_rules().gate.window)
        if window is not None and (self.lowest is None or window.loss < self.lowest.loss):
            self.lowest = window
