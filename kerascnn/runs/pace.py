"""How long a run still takes."""

from __future__ import annotations

from collections import deque

from kerascnn.runs import events as ev

# Steps over which the time left is estimated.
RECENT = 20


class Pace:
    """How long a run still takes, from its recent steps. Start-up and compilation don't count."""

    def __init__(self) -> None:
        self.epochs = 0
        self.steps_per_epoch = 0
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT)
        self._validation_s = 0.0
        self._validating_since: float | None = None
        self._epoch = 0

    def see(self, event: ev.Event) -> None:
        """Take one event into account."""
        if isinstance(event, (ev.RunStarted, ev.Resumed, ev.ControlApplied)):
            self.epochs = event.epochs
        elif isinstance(event, ev.DataLoaded):
            self.steps_per_epoch = event.steps_per_epoch
        elif isinstance(event, ev.StepDone):
            self._epoch = event.epoch
            self._recent.append((event.step, event.elapsed))
        elif isinstance(event, ev.Phase):
            self._validating_since = event.time if event.phase == "validating" else None
        elif isinstance(event, ev.EpochDone) and self._validating_since is not None:
            self._validation_s = event.time - self._validating_since

    def seconds_left(self) -> float | None:
        """An estimate, or None before the second recorded step."""
        if len(self._recent) < 2:
            return None
        (first, began), (last, now) = self._recent[0], self._recent[-1]
        if last <= first:
            return None
        steps = self.epochs * self.steps_per_epoch - last
        validations = self.epochs - self._epoch + 1
        return steps * (now - began) / (last - first) + validations * self._validation_s
