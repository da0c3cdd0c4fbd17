"""All runs in a folder at a glance, kept up to date cheaply: only what has been added to an event file is read."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kerascnn.errors import KerascnnError
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run, list_runs

LIVE = ("running", "paused", "starting")
# A step's line is worth parsing only if it may be the last one; most of a file is steps.
_STEP = b'{"kind":"step"'
_RECENT_STEPS = 20
# A new directory without a process is a run that starts, for so long.
_STARTS_WITHIN_S = 30.0


@dataclass(frozen=True)
class Entry:
    """One line about a run."""

    run: Run
    state: str
    """``running``, ``paused``, ``starting``, ``killed``, or the end state of the last process."""
    model: str
    backend: str
    dataset: str
    epoch: int
    epochs: int
    step: int
    best_val_accuracy: float | None
    seconds: float
    started: float
    seconds_per_image: float | None
    """Of an epoch with its validation, a training image; before the first epoch's end of the steps alone."""

    @property
    def live(self) -> bool:
        """Whether a process works on it."""
        return self.state in LIVE


@dataclass
class _Digest:
    """What an event file says so far."""

    stamp: tuple[int, int] = (0, 0)
    offset: int = 0
    started: float | None = None
    model: str = ""
    backend: str = ""
    dataset: str = ""
    epochs_asked: int = 0
    end: str | None = None
    paused: bool = False
    step: int = 0
    seconds: float = 0.0
    train_images: int = 0
    epochs: list[ev.EpochDone] = field(default_factory=list)
    speeds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_STEPS))

    def read(self, path: Path) -> None:
        """Take in what has been added to the file."""
        with path.open("rb") as file:
            file.seek(self.offset)
            content = file.read()
        finished = content.rfind(b"\n") + 1
        self.offset += finished
        steps: deque[bytes] = deque(maxlen=_RECENT_STEPS)
        for line in content[:finished].splitlines():
            if line.startswith(_STEP):
                steps.append(line)
                continue
            self._see_all(steps)
            steps.clear()
            self._see_all([line])
        self._see_all(steps)

    def _see_all(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if (event := ev.parse_event(line)) is not None:
                self.see(event)

    def see(self, event: ev.Event) -> None:
        """Take one event into account."""
        match event:
            case ev.RunStarted():
                self.started = event.time if self.started is None else self.started
                self.model, self.backend, self.dataset = event.model, event.backend, event.dataset
                self.epochs_asked, self.end, self.paused = event.epochs, None, False
            case ev.DataLoaded():
                self.train_images = event.train_images
            case ev.StepDone():
                self.step, self.seconds = max(self.step, event.step), max(self.seconds, event.elapsed)
                self.speeds.append(event.images_per_s)
            case ev.EpochDone():
                self.epochs.append(event)
                self.step = max(self.step, event.step)
            case ev.Resumed():
                self.epochs_asked, self.step, self.seconds = event.epochs, event.step, event.elapsed
                self.epochs = [epoch for epoch in self.epochs if epoch.epoch <= event.epoch]
            case ev.ControlApplied():
                self.epochs_asked = event.epochs
                if event.command in ("pause", "resume"):
                    self.paused = event.command == "pause"
            case ev.RunEnded():
                self.end, self.seconds = event.state, max(self.seconds, event.elapsed)

    def seconds_per_image(self) -> float | None:
        """What the run has measured, or None."""
        if self.epochs and self.train_images:
            return statistics.median(epoch.seconds for epoch in self.epochs) / self.train_images
        speeds = [speed for speed in self.speeds if speed > 0]
        return 1 / statistics.median(speeds) if speeds else None


class Ledger:
    """The runs in a folder. :meth:`refresh` may be called from any thread; readers take :attr:`entries`."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.entries: tuple[Entry, ...] = ()
        self._clock = clock
        self._digests: dict[Path, _Digest] = {}
        self._lock = threading.Lock()

    def refresh(self) -> tuple[Entry, ...]:
        """Look through the folder again. Costs a few ``stat`` a run where nothing has changed."""
        with self._lock:
            try:
                found = list(list_runs(self.folder))
            except OSError:
                # A run was deleted while the folder was read; the next look finds it gone.
                return self.entries
            entries = [entry for run in found if (entry := self._entry(run)) is not None]
            self._digests = {entry.run.path: self._digests[entry.run.path] for entry in entries}
            self.entries = tuple(entries)
            return self.entries

    def _entry(self, run: Run) -> Entry | None:
        # Asked before reading: what a process wrote before it ended is then read in any case.
        alive = (run.path / "owner.json").exists() and run.owner() is not None
        digest = self._digests.setdefault(run.path, _Digest())
        try:
            created = run.recipe_file.stat().st_mtime
            digest = self._digests[run.path] = _up_to_date(digest, run.events_file)
        except OSError:
            return None
        best = [epoch.val_accuracy for epoch in digest.epochs if epoch.val_accuracy == epoch.val_accuracy]
        if not digest.model:
            digest.model, digest.dataset, digest.epochs_asked = _told_by_recipe(run)
        return Entry(
            run=run,
            state=_state(digest, alive=alive, age=self._clock() - created),
            model=digest.model,
            backend=digest.backend,
            dataset=digest.dataset,
            epoch=digest.epochs[-1].epoch if digest.epochs else 0,
            epochs=digest.epochs_asked,
            step=digest.step,
            best_val_accuracy=max(best, default=None),
            seconds=digest.seconds,
            started=digest.started if digest.started is not None else created,
            seconds_per_image=digest.seconds_per_image(),
        )


def _up_to_date(digest: _Digest, path: Path) -> _Digest:
    try:
        status = path.stat()
    except FileNotFoundError:
        return _Digest()
    stamp = (status.st_mtime_ns, status.st_size)
    if stamp == digest.stamp:
        return digest
    if status.st_size < digest.offset:
        digest = _Digest()
    digest.stamp = stamp
    digest.read(path)
    return digest


def _state(digest: _Digest, *, alive: bool, age: float) -> str:
    if alive:
        return "paused" if digest.paused else "running"
    if digest.started is None and 0 <= age < _STARTS_WITHIN_S:
        return "starting"
    return digest.end or "killed"


def _told_by_recipe(run: Run) -> tuple[str, str, int]:
    try:
        recipe = run.recipe()
    except KerascnnError:
        return run.path.parent.name, "", 0
    return recipe.name, recipe.dataset, recipe.train.epochs
