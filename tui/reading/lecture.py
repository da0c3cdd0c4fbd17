"""A lecture's folder as it stands, read cheaply: only what has been added since the last look."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from kerascnn.errors import KerascnnError
from kerascnn.lecture.argument import Step, the_argument
from kerascnn.lecture.curves import Curve
from kerascnn.lecture.folder import LectureFolder, Settings, StepRun, is_decided, judged
from kerascnn.lecture.verdicts import Judgement, together
from kerascnn.runs import events as ev
from kerascnn.runs.directory import epochs_of

Standing = Literal["as claimed", "not as claimed", "undecided within this budget", "no claim", "running", "not run"]


@dataclass(frozen=True, eq=False)
class Training:
    """One training of a step: its curve so far, the verdict on it, and whether a process works on it."""

    step_run: StepRun
    curve: Curve
    judgement: Judgement
    live: bool
    decided: bool
    """Whether it needs no further step."""
    steps_in_all: int
    """0 while that isn't known."""
    phase: str
    """What its process does, or did last: ``importing`` to ``validating``; empty before it says so."""

    @property
    def step(self) -> int:
        """The last recorded step."""
        return int(self.curve.steps[-1]) if len(self.curve.steps) else 0

    @property
    def seconds_left(self) -> float | None:
        """At most, by its own pace; it may end earlier."""
        if not self.step or self.steps_in_all < self.step:
            return None
        return self.curve.seconds / self.step * (self.steps_in_all - self.step)


@dataclass(frozen=True)
class Look:
    """What a look at the folder has found."""

    settings: Settings | None = None
    """None before the lecture has been begun, or where they are damaged."""
    problem: str = ""
    owner: int | None = None
    """The process that runs the lecture now."""
    trainings: tuple[Training, ...] = ()

    def of(self, step: Step) -> list[Training]:
        """The trainings of a step, by backend and seed."""
        return [one for one in self.trainings if one.step_run.step.id == step.id]

    @property
    def seeds(self) -> int:
        """How many seeds the folder is about: those that have been begun, at least one."""
        return max((one.step_run.seed + 1 for one in self.trainings), default=1)

    def under_way(self) -> list[Training]:
        """Those that a process works on."""
        return [one for one in self.trainings if one.live]

    def standing(self, step: Step) -> Standing:
        """How a step stands, over all backends and seeds."""
        trainings = self.of(step)
        if not trainings:
            return "not run"
        if any(one.live for one in trainings):
            return "running"
        verdict = together([one.judgement.verdict for one in trainings])
        if verdict == "no claim" and not all(one.decided for one in trainings):
            return "undecided within this budget"
        return verdict


@dataclass
class _Digest:
    """What has been read of one training."""

    stamp: object = None
    offset: int = 0
    seen: list[ev.Event] = field(default_factory=list)
    training: Training | None = None

    def forget(self) -> None:
        """Keep the curve alone; should the file grow after all, it is read again from its start."""
        self.offset, self.seen = 0, []


class LectureReader:
    """Follows a folder. :meth:`refresh` may be called from any thread; readers take :attr:`look`."""

    def __init__(self, folder: LectureFolder) -> None:
        self.folder = folder
        self.look = Look()
        self._digests: dict[StepRun, _Digest] = {}
        self._lock = threading.Lock()

    def refresh(self) -> Look:
        """Look again. Costs a few ``stat`` a training where nothing has changed; then it is the same object."""
        with self._lock:
            found = self._look()
            if found != self.look:
                self.look = found
            return self.look

    def _look(self) -> Look:
        owner = self.folder.owner()
        if not self.folder.settings_file.is_file():
            return Look(owner=owner)
        try:
            settings = self.folder.settings()
        except KerascnnError as error:
            return Look(problem=str(error), owner=owner)
        problem, trainings = "", []
        for one in self.folder.step_runs(the_argument()):
            try:
                training = self._read(one, settings)
            except (KerascnnError, OSError) as error:
                problem = problem or f"step {one.step.id}: {error}"
                continue
            trainings.append(training)
        return Look(settings, problem, owner, tuple(trainings))

    def _read(self, one: StepRun, settings: Settings) -> Training:
        digest = self._digests.setdefault(one, _Digest())
        # Asked before reading: what a process wrote before it ended is then read in any case.
        owner, host = one.run.holder()
        size = one.run.events_file.stat().st_size if one.run.events_file.exists() else 0
        stamp = (size, owner is not None, host, settings)
        if digest.training is not None and stamp == digest.stamp:
            return digest.training
        if size < digest.offset:
            digest.forget()
        new, digest.offset = ev.read_events(one.run.events_file, digest.offset)
        digest.seen += new
        digest.training = _training(one, digest.seen, settings, owner, host)
        digest.stamp = stamp
        if owner is None:
            digest.forget()
        return digest.training


def _training(
    one: StepRun, seen: Sequence[ev.Event], settings: Settings, owner: int | None, host: str | None
) -> Training:
    happened = ev.effective(seen)
    shown = judged(one, happened, settings, owner, host)
    loaded = list(ev.of_kind(happened, ev.DataLoaded))
    phases = list(ev.of_kind(happened, ev.Phase))
    return Training(
        step_run=one,
        # Figures of the layers aren't drawn here, and there are many.
        curve=replace(shown.curve, layers=()),
        judgement=shown.judgement,
        live=owner is not None,
        decided=owner is None and is_decided(shown.curve, shown.judgement, settings.the_budget()),
        steps_in_all=epochs_of(happened) * loaded[-1].steps_per_epoch if loaded else 0,
        phase=phases[-1].phase if phases else "",
    )
