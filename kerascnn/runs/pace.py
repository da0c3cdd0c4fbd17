"""How long a run still takes."""

from __future__ import annotations

from collections import deque

from kerascnn.runs import events as ev

# Recorded steps over which the time left is estimated.
RECENT = 20
# The share of the recent paces that an interval leaves out at each end.
LEFT_OUT = 0.1


class Pace:
    """How long a run still takes, from its recent steps. Start-up, compilation and validation don't count as steps."""

    def __init__(self) -> None:
        self.epochs = 0
        self.steps_per_epoch = 0
        self._last: ev.StepDone | None = None
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT)
        self._validation_s = 0.0
        self._validating_since: float | None = None
        self._epochs_done = 0

    def see(self, event: ev.Event) -> None:
        """Take one event into account."""
        if isinstance(event, ev.StepDone):
            self._see_step(event)
        elif isinstance(event, (ev.RunStarted, ev.Resumed)):
            self.epochs = event.epochs
            self._epochs_done = event.epoch if isinstance(event, ev.Resumed) else 0
            # Another process may have another pace.
            self._last = None
            self._recent.clear()
        elif isinstance(event, ev.ControlApplied):
            self.epochs = event.epochs
        elif isinstance(event, ev.DataLoaded):
            self.steps_per_epoch = event.steps_per_epoch
        elif isinstance(event, ev.Phase):
            self._validating_since = event.time if event.phase == "validating" else None
        elif isinstance(event, ev.EpochDone):
            self._epochs_done = event.epoch
            if self._validating_since is not None:
                self._validation_s = event.time - self._validating_since

    def _see_step(self, event: ev.StepDone) -> None:
        last, self._last = self._last, event
        # Between two epochs lies a validation, which is counted by itself.
        if last is not None and last.epoch == event.epoch and event.step > last.step:
            self._recent.append((event.step - last.step, event.elapsed - last.elapsed))

    def seconds_left(self) -> float | None:
        """An estimate, or None before the second recorded step."""
        if not self._recent:
            return None
        return self._left(sum(seconds for _, seconds in self._recent) / sum(steps for steps, _ in self._recent))

    def interval_left(self) -> tuple[float, float] | None:
        """The time left at the fast and at the slow end of the recent paces, or None before the second recorded step.

        A tenth of the recent paces is left out at each end, so one slow step doesn't widen it.
        """
        if not self._recent:
            return None
        paces = sorted(seconds / steps for steps, seconds in self._recent)
        out = round(LEFT_OUT * len(paces))
        return self._left(paces[out]), self._left(paces[-1 - out])

    def _left(self, seconds_per_step: float) -> float:
        done = self._last.step if self._last else 0
        steps = max(self.epochs * self.steps_per_epoch - done, 0)
        return steps * seconds_per_step + max(self.epochs - self._epochs_done, 0) * self._validation_s
