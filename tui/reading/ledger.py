"""All runs in a folder at a glance. What reads their events is imported with the first look, after the first paint."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerascnn.runs.directory import Run
    from tui.reading.digest import Digest

LIVE = ("running", "paused", "starting")


def short_name(run: Run) -> str:
    """The last letters of a run's name, which are enough to name it on the command line."""
    return run.path.name.rpartition("-")[2]


@dataclass(frozen=True)
class Entry:
    """One line about a run."""

    run: Run
    state: str
    """As :class:`kerascnn.runs.directory.RunSummary` has it, or ``starting``."""
    model: str
    backend: str
    dataset: str
    epoch: int
    epochs: int
    step: int
    best_val_accuracy: float | None
    seconds: float
    started: float
    images_seen: int
    """In training, each as often as it was."""
    seconds_per_image: float | None
    """Of training."""
    seconds_per_validation_image: float | None

    @property
    def live(self) -> bool:
        """Whether a process works on it."""
        return self.state in LIVE


class Ledger:
    """The runs in a folder. :meth:`refresh` may be called from any thread; readers take :attr:`entries`."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.entries: tuple[Entry, ...] = ()
        self._clock = clock
        self._digests: dict[Path, Digest] = {}
        self._lock = threading.Lock()

    def refresh(self) -> tuple[Entry, ...]:
        """Look through the folder again. Costs a few ``stat`` a run where nothing has changed."""
        from tui.reading.digest import look

        with self._lock:
            found = look(self.folder, self._digests, self._clock())
            if found is not None:
                self._digests = {entry.run.path: digest for entry, digest in found}
                self.entries = tuple(entry for entry, _ in found)
            return self.entries
