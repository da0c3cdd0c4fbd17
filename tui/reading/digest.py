"""What the event files of a folder's runs say, read cheaply: only what has been added since the last look."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kerascnn.errors import KerascnnError
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run, list_runs, standing
from tui.reading.ledger import Entry

# A step's line is worth parsing only if it may be the last one; most of a file is steps.
_STEP = b'{"kind":"step"'
_RECENT_STEPS = 20
# A new directory without a process is a run that starts, for so long.
_STARTS_WITHIN_S = 30.0


@dataclass
class Digest:
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
    batch_size: int = 0
    train_images: int = 0
    val_images: int = 0
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
                # What was added to the recipe's epochs still holds when the run goes on.
                self.epochs_asked = max(self.epochs_asked, event.epochs)
                self.batch_size = event.batch_size
                self.end, self.paused = None, False
            case ev.DataLoaded():
                self.train_images, self.val_images = event.train_images, event.val_images
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
        """Of training, by whole epochs, or before the first one's end by the latest steps; None if it isn't known."""
        speeds = [speed for speed in [epoch.images_per_s for epoch in self.epochs] or self.speeds if speed > 0]
        return 1 / statistics.median(speeds) if speeds else None

    def seconds_per_validation_image(self) -> float | None:
        """Of an epoch's time what isn't training, by validation image; None if it isn't known."""
        rests = [e.seconds - self.train_images / e.images_per_s for e in self.epochs if e.images_per_s > 0]
        return max(0.0, statistics.median(rests)) / self.val_images if rests and self.val_images else None


def look(folder: Path, digests: Mapping[Path, Digest], now: float) -> list[tuple[Entry, Digest]] | None:
    """Every run of a folder with its digest, or None if the folder changed under the look.

    Args:
        folder: the runs folder.
        digests: those of the last look; they are brought up to date.
        now: the time, in seconds since 1970.
    """
    try:
        runs = list(list_runs(folder))
    except OSError:
        # A run was deleted meanwhile; the next look finds it gone.
        return None
    looked = (look_at(run, digests.get(run.path, Digest()), now) for run in runs)
    return [found for found in looked if found is not None]


def look_at(run: Run, digest: Digest, now: float) -> tuple[Entry, Digest] | None:
    """One run with its digest, or None if it can't be read.

    Args:
        run: the run.
        digest: that of the last look.
        now: the time, in seconds since 1970.
    """
    # Asked before reading: what a process wrote before it ended is then read in any case.
    owner, host = run.holder()
    try:
        created = run.recipe_file.stat().st_mtime
        digest = _up_to_date(digest, run.events_file)
    except OSError:
        return None
    if not digest.model:
        digest.model, digest.dataset, digest.epochs_asked = _told_by_recipe(run)
    state = _state(digest, owner, host, age=now - created)
    return _entry(run, digest, state, created), digest


def _entry(run: Run, digest: Digest, state: str, created: float) -> Entry:
    best = [epoch.val_accuracy for epoch in digest.epochs if epoch.val_accuracy == epoch.val_accuracy]
    return Entry(
        run=run,
        state=state,
        model=digest.model,
        backend=digest.backend,
        dataset=digest.dataset,
        epoch=digest.epochs[-1].epoch if digest.epochs else 0,
        epochs=digest.epochs_asked,
        step=digest.step,
        best_val_accuracy=max(best, default=None),
        seconds=digest.seconds,
        started=digest.started if digest.started is not None else created,
        images_seen=digest.step * digest.batch_size,
        seconds_per_image=digest.seconds_per_image(),
        seconds_per_validation_image=digest.seconds_per_validation_image(),
    )


def _up_to_date(digest: Digest, path: Path) -> Digest:
    try:
        status = path.stat()
    except FileNotFoundError:
        return Digest()
    stamp = (status.st_mtime_ns, status.st_size)
    if stamp == digest.stamp:
        return digest
    if status.st_size < digest.offset:
        digest = Digest()
    digest.stamp = stamp
    digest.read(path)
    return digest


def _state(digest: Digest, owner: int | None, host: str | None, *, age: float) -> str:
    if owner is None and digest.started is None and 0 <= age < _STARTS_WITHIN_S:
        return "starting"
    return standing(owner, host, paused=digest.paused, end=digest.end)


def _told_by_recipe(run: Run) -> tuple[str, str, int]:
    try:
        recipe = run.recipe()
    except KerascnnError:
        return run.path.parent.name, "", 0
    return recipe.name, recipe.dataset, recipe.train.epochs
