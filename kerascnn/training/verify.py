"""Whether a run's last checkpoint interval, trained again, comes out equal to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from kerascnn.errors import CheckpointError, RunError
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run
from kerascnn.training import session
from kerascnn.training.checkpoint import (
    Checkpoint,
    checkpoint_name,
    differences,
    newest_whole,
    write_checkpoint,
)


@dataclass(frozen=True)
class Verification:
    """What a replay of the steps after ``first_step`` up to ``last_step`` showed.

    ``differences`` holds a line for each array, figure and loss that came out otherwise; ``losses`` says how many
    steps were recorded both times.
    """

    first_step: int
    last_step: int
    losses: int
    differences: list[str]

    @property
    def equal(self) -> bool:
        """Whether the replay is equal to the bit."""
        return not self.differences


def verify(run: Run, *, options: session.Options, listeners: Sequence[ev.Listener] = ()) -> Verification:
    """Train the steps between a run's two newest checkpoints again, elsewhere, and compare. The run stays as it is.

    Args:
        run: a run with a checkpoint; with only one, its steps are replayed from the start.
        options: as for a resume.
        listeners: called with each event of the replay.

    Raises:
        CheckpointError: the run has no whole checkpoint.
        RunError: the replay didn't get to the newest checkpoint.
    """
    newest_file, newest, _ = newest_whole(run.checkpoints)
    try:
        _, before, _ = newest_whole(run.checkpoints, before=newest_file)
    except CheckpointError:
        before = None
    with TemporaryDirectory(prefix="kerascnn-verify-") as folder:
        again = _prepare_replay(run, Run(Path(folder) / "replay"), before, newest)
        apart = replace(options, checkpoint_every_s=float("inf"))
        result = session.replay(again, newest.progress.position, options=apart, listeners=listeners)
        path, replayed, _ = newest_whole(again.checkpoints)
        if replayed.progress.position != newest.progress.position:
            raise RunError(f"the replay ended after step {replayed.progress.step} ({path.name}): {result.message}")
        first_step = before.progress.step if before else 0
        then = _losses(run, first_step, newest.progress.step)
        now = _losses(again, first_step, newest.progress.step)
    common = sorted(then.keys() & now.keys())
    lines = [f"loss of step {step}: {then[step]!r} and {now[step]!r}" for step in common if then[step] != now[step]]
    return Verification(first_step, newest.progress.step, len(common), differences(newest, replayed) + lines)


def _prepare_replay(run: Run, again: Run, before: Checkpoint | None, newest: Checkpoint) -> Run:
    """A run directory that a resume takes from the one checkpoint to the other."""
    again.checkpoints.mkdir(parents=True)
    for file in (run.recipe_file, run.environment_file, run.initial_weights_file):
        if file.is_file():
            shutil.copy(file, again.path)
    if before:
        write_checkpoint(again.checkpoints / checkpoint_name(before.progress.step), before)
    writer = ev.EventWriter(again.events_file)
    for event in ev.of_kind(run.events(), ev.ControlApplied):
        # What came after the newest checkpoint would be applied at its step, before it is written.
        if event.id in newest.progress.applied:
            writer.write(event)
    writer.close()
    return again


def _losses(run: Run, first_step: int, last_step: int) -> dict[int, float]:
    return {
        event.step: event.loss
        for event in ev.of_kind(run.events(), ev.StepDone)
        if first_step < event.step <= last_step
    }
