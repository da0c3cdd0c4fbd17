"""A recorded run told again at a chosen speed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from kerascnn.runs import events as ev

SPEEDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# A pause, or the days between a kill and a resume, is told in so many seconds.
LONGEST_GAP_S = 3.0
# A replay that isn't told otherwise takes about so long.
WISHED_S = 45.0


class Replay:
    """Hands out events when their time has come by an injected clock."""

    def __init__(self, events: Sequence[ev.Event], clock: Callable[[], float]) -> None:
        self._events = events
        gaps = [after.time - before.time for before, after in itertools.pairwise(events)]
        kept = [0.0, *(min(max(gap, 0.0), LONGEST_GAP_S) for gap in gaps)]
        self._times = list(itertools.accumulate(kept)) if events else []
        self._clock = clock
        self._last = clock()
        self._next = 0
        self.position_s = 0.0
        self.playing = True
        self.speed = next((speed for speed in SPEEDS if self.length_s / speed <= WISHED_S), SPEEDS[-1])

    @property
    def length_s(self) -> float:
        """How long the recording takes at its own speed."""
        return self._times[-1] if self._times else 0.0

    @property
    def now(self) -> float:
        """What a clock beside the recording would show, in seconds since 1970."""
        told = max(self._next - 1, 0)
        return self._events[told].time + self.position_s - self._times[told] if self._events else 0.0

    @property
    def done(self) -> bool:
        """Whether all has been told."""
        return self._next >= len(self._events)

    def due(self) -> list[ev.Event]:
        """The events whose time has come since the last call."""
        now = self._clock()
        passed, self._last = now - self._last, now
        if self.playing:
            self.position_s = min(self.position_s + max(passed, 0.0) * self.speed, self.length_s)
        first = self._next
        while self._next < len(self._events) and self._times[self._next] <= self.position_s:
            self._next += 1
        return list(self._events[first : self._next])

    def change_speed(self, direction: int) -> None:
        """To the next faster or slower speed."""
        index = SPEEDS.index(self.speed) + direction
        self.speed = SPEEDS[min(max(index, 0), len(SPEEDS) - 1)]
