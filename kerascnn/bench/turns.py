"""Turn-taking: a child process trains so many steps when its parent says so, and waits in between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import IO, Any


class Finished(BaseException):
    """The parent wants no more steps."""


class Turns:
    """The child's end: one line in asks for a block of steps, one line of JSON out tells how long it took.

    The first block is asked for when the network stands, so what comes before the first line is preparation.
    """

    def __init__(self, asked: IO[str], told: IO[str]) -> None:
        """``asked`` brings numbers of steps, a line each; its end means that no more are wanted."""
        self._asked = asked
        self._told = told
        self._synchronise: Callable[[], None] = lambda: None
        self._until = 0
        self._began = 0.0
        self._waited = 0.0

    def begin(self, synchronise: Callable[[], None]) -> None:
        """Preparation is over. ``synchronise`` waits for all that a device still has to compute."""
        self._synchronise = synchronise

    def between_steps(self, step: int) -> None:
        """Return at once within a block; at its end tell its time, and wait for the next.

        Raises:
            Finished: there is none.
        """
        if step < self._until:
            return
        if step:
            self._synchronise()
            self.tell({"seconds": self.clock() - self._began})
        waiting = time.perf_counter()
        line = self._asked.readline()
        self._waited += time.perf_counter() - waiting
        if not line.strip():
            raise Finished
        self._until = step + int(line)
        self._began = self.clock()

    def clock(self) -> float:
        """Seconds, without those that were waited for a turn."""
        return time.perf_counter() - self._waited

    def tell(self, facts: dict[str, Any]) -> None:
        """Send one line to the parent."""
        self._told.write(json.dumps(facts) + "\n")
        self._told.flush()
