"""The training loop: batches in, events and checkpoints out.

Everything that the next step depends on is in ``Progress``, the variables, and the recipe, so a checkpoint between
any two steps is enough to go on as if nothing had happened.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kerascnn.data.batches import Batch, TrainingBatches, ValidationBatches, read_ahead
from kerascnn.errors import DivergedError, RunError, system_error
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run, write_metrics
from kerascnn.runs.files import write_bytes
from kerascnn.training.checkpoint import Checkpoint, Position, Progress, checkpoint_name, keep_newest, write_checkpoint
from kerascnn.training.control import Control
from kerascnn.training.network import Network
from kerascnn.training.observer import Observer
from kerascnn.training.optimizer import averaged_weights
from kerascnn.training.schedule import LearningRate
from kerascnn.training.signals import STOP, Interruption, Signals
from kerascnn.training.state import identity_of, take_state, weights_file

# All of the first steps are recorded, later ones about one in so many seconds.
STEPS_ALL_RECORDED = 50
RECORD_EVERY_S = 1.0


class Engine:
    """Trains one run to its end, or until a signal."""

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        network: Network,
        train: TrainingBatches,
        validation: ValidationBatches,
        progress: Progress,
        *,
        emit: Callable[[ev.Event], None],
        signals: Signals,
        control: Control,
        observer: Observer | None = None,
        checkpoint_every_s: float,
        until: Position | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a network whose variables are those of ``progress``; at ``until`` the run stops by itself.

        Raises:
            RunError: the dataset has become smaller than what the run has seen of its epoch.
        """
        self._run = run
        self._recipe = recipe
        self._network = network
        self._batches = train
        self._validation = validation
        self._progress = progress
        self._emit = emit
        self._signals = signals
        self._control = control
        self._observer = observer
        self._checkpoint_every_s = checkpoint_every_s
        self._until = until
        self._clock = clock
        if progress.step_in_epoch > train.per_epoch:
            raise RunError(
                f"expected at least the {progress.step_in_epoch} batches that the run has taken of its epoch, and the "
                f"dataset has {train.per_epoch} now"
            )
        self._learning_rate = LearningRate(recipe.train, recipe.train.epochs * train.per_epoch)
        self._rate_set = math.nan
        self._pending: list[tuple[Any, Any, int]] = []
        self._last_loss = math.nan
        self._tick = clock()
        self._last_record = self._tick
        self._last_checkpoint = self._tick
        self._saved_step = progress.step
        self._seen_at_record = 0
        self._compiled = keras.backend.backend() == "torch"

    @property
    def network(self) -> Network:
        """What is being trained."""
        return self._network

    def run(self) -> str:
        """Train until the last epoch is done.

        Returns:
            Why it ended, in words.

        Raises:
            Interruption: a signal came; a checkpoint has been written.
            DivergedError: the loss is no longer a number; the last checkpoint is from before.
        """
        # A finished run may have been asked for more epochs; one that had stopped early then goes on all the same,
        # and so does one that is in the middle of such an epoch.
        epochs = self._progress.epochs
        self._obey()
        unchanged = epochs == self._progress.epochs and self._progress.step_in_epoch == 0
        ended = self._early_stop() if unchanged else ""
        with closing(read_ahead(lambda make: make(), self._upcoming())) as batches:
            while self._progress.epoch < self._progress.epochs and not ended:
                self._train_rest_of_epoch(batches)
                ended = self._validate(batches)
        return ended or f"all {self._progress.epochs} epochs are done"

    def _upcoming(self) -> Iterator[Callable[[], Batch]]:
        """What makes each batch from here on: the rest of this epoch, its validation, the next epoch, without an end.

        One stream for all of them, so that no epoch begins by waiting for its first batch; without an end, since a run
        may be extended at any time.
        """
        first = self._progress.step_in_epoch
        for epoch in itertools.count(self._progress.epoch):
            yield from (partial(self._batches.make, epoch, number) for number in range(first, self._batches.per_epoch))
            yield from (partial(self._validation.make, number) for number in range(self._validation.count))
            first = 0

    def _train_rest_of_epoch(self, batches: Iterator[Batch]) -> None:
        progress = self._progress
        self._emit(ev.Phase(phase="training" if self._compiled else "compiling", epoch=progress.epoch + 1))
        self._seen_at_record = progress.seen
        self._last_record = self._clock()
        for pixels, labels in itertools.islice(batches, self._batches.per_epoch - progress.step_in_epoch):
            self._between_steps()
            self._apply_learning_rate()
            observer = self._observer if self._observer and self._observer.wants(progress.step + 1) else None
            if observer:
                observer.before_step()
            loss, right, norms = self._network.steps.train(pixels, labels, observe=observer is not None)
            self._pending.append((loss, right, len(labels)))
            progress.step += 1
            progress.step_in_epoch += 1
            if progress.step <= STEPS_ALL_RECORDED or self._clock() - self._last_record >= RECORD_EVERY_S:
                self._record_step()
            if observer:
                self._read_pending()
                self._emit(observer.after_step(progress.step, norms))
            if not self._compiled:
                self._compiled = True
                self._emit(ev.Phase(phase="training", epoch=progress.epoch + 1))
        self._read_pending()
        self._count_time()
        progress.epoch_training = progress.epoch_elapsed

    def _between_steps(self) -> None:
        """Where a run can be told something or be left, and the checkpoint of every few minutes."""
        self._obey(self._save_for_pause)
        if self._progress.position == self._until:
            self._signals.arrived = STOP
        if self._signals.arrived:
            self.checkpoint("stop" if self._signals.arrived == STOP else "interrupted")
            # Not without a checkpoint: a signal may come at any time, so one that comes now is for the next step.
            self._signals.raise_if_arrived()
        if self._clock() - self._last_checkpoint >= self._checkpoint_every_s:
            self.checkpoint("minutes")

    def _save_for_pause(self) -> None:
        """A machine may be switched off while nothing is computed."""
        if self._progress.step > self._saved_step:
            # What can't be written now may be by the time that the run goes on.
            with suppress(OSError):
                self.checkpoint("pause")

    def _obey(self, before_pause: Callable[[], None] = lambda: None) -> None:
        """Do what users have asked since the last call. Returns when no pause is on, or the run is to be left."""
        paused = self._apply_commands(before_pause, paused=False)
        if not paused:
            return
        self._count_time()
        while paused and not self._signals.arrived:
            self._control.wait()
            paused = self._apply_commands(before_pause, paused=True)
        # The pause isn't the run's own time.
        self._read_pending()
        self._tick = self._last_record = self._clock()
        self._seen_at_record = self._progress.seen

    def _apply_commands(self, before_pause: Callable[[], None], *, paused: bool) -> bool:
        progress = self._progress
        for command in self._control.commands(progress.step):
            if command.command == "pause":
                before_pause()
                paused = True
            elif command.command == "resume":
                paused = False
            elif command.command == "stop":
                self._signals.arrived = self._signals.arrived or STOP
            elif command.command == "set-lr" and command.value is not None:
                progress.learning_rate_scale = command.value / self._learning_rate.at(progress.step)
            elif command.command == "extend" and command.value is not None:
                progress.epochs += int(command.value)
                # By the step alone: a resume may repeat this on the other side of an epoch's validation.
                progress.patient_from = progress.step // self._batches.per_epoch
            progress.applied.append(command.id)
            self._emit(
                ev.ControlApplied(
                    id=command.id,
                    command=command.command,
                    value=command.value,
                    step=progress.step,
                    epochs=progress.epochs,
                )
            )
        return paused

    def _apply_learning_rate(self) -> None:
        progress = self._progress
        rate = self._learning_rate.at(progress.step) * progress.learning_rate_scale
        if rate != self._rate_set:
            self._network.optimizer.learning_rate = rate
            self._rate_set = progress.learning_rate = rate

    def _read_pending(self) -> None:
        """Fetch the losses that still lie on the device, all at once.

        Raises:
            DivergedError: one of them is no number.
        """
        if not self._pending:
            return
        losses, rights = (_fetched([pending[place] for pending in self._pending]) for place in (0, 1))
        counts = [count for _, _, count in self._pending]
        self._pending.clear()
        first_step = self._progress.step - len(losses) + 1
        for offset, (loss, right, count) in enumerate(zip(losses, rights, counts, strict=True)):
            if not math.isfinite(loss):
                self._last_loss = loss
                raise DivergedError(f"the loss of step {first_step + offset} is {loss}")
            self._progress.loss_sum += loss * count
            self._progress.right += right
            self._progress.seen += count
            self._last_loss = loss

    def _record_step(self) -> None:
        self._read_pending()
        self._count_time()
        progress = self._progress
        now = self._clock()
        images = progress.seen - self._seen_at_record
        self._emit(
            ev.StepDone(
                step=progress.step,
                epoch=progress.epoch + 1,
                loss=self._last_loss,
                mean_loss=progress.loss_sum / progress.seen,
                accuracy=progress.right / progress.seen,
                learning_rate=progress.learning_rate,
                images_per_s=images / max(now - self._last_record, 1e-9),
                elapsed=progress.elapsed,
            )
        )
        self._last_record = now
        self._seen_at_record = progress.seen

    def _count_time(self) -> None:
        """Add the time since the last call to the run's own."""
        now = self._clock()
        self._progress.elapsed += now - self._tick
        self._progress.epoch_elapsed += now - self._tick
        self._tick = now

    def _validate(self, batches: Iterator[Batch]) -> str:
        """Validate, close the epoch, write its checkpoint.

        Returns:
            Why the run ends here, or an empty text.
        """
        progress = self._progress
        self._between_steps()
        self._emit(ev.Phase(phase="validating", epoch=progress.epoch + 1))
        with averaged_weights(self._network.model, self._network.optimizer):
            evaluated = self._evaluate(batches)
            val_loss, val_accuracy = evaluated or (math.nan, math.nan)
            improved = math.isfinite(val_loss) and (progress.best is None or val_accuracy > progress.best)
            improved = improved and self._save_best_weights()
        if evaluated is None:
            self._between_steps()
        self._count_time()
        self._close_epoch(val_loss, val_accuracy, improved)
        if not math.isfinite(val_loss):
            raise DivergedError(f"the validation loss of epoch {progress.epoch} is {val_loss}")
        self.checkpoint("epoch")
        if progress.position == self._until:
            raise Interruption(STOP)
        return self._early_stop()

    def _save_best_weights(self) -> bool:
        """Write the weights of the best epoch so far; False where somebody has the last one's open and keeps them."""
        try:
            write_bytes(self._run.best_weights_file, weights_file(self._network.model))
        except PermissionError as error:
            # The file holds what the run calls its best epoch, so this one isn't it.
            epoch = self._progress.epoch + 1
            self._emit(ev.Warned(message=f"{system_error(error)}; epoch {epoch} doesn't count as the best one"))
            return False
        return True

    def _evaluate(self, batches: Iterator[Batch]) -> tuple[float, float] | None:
        """Mean loss and accuracy over the validation images.

        None when a signal came: a resume begins the validation again.
        """
        loss_sum, right_sum, seen = 0.0, 0, 0
        last_record = self._clock()
        for number, (pixels, labels) in enumerate(itertools.islice(batches, self._validation.count), start=1):
            self._obey()
            if self._signals.arrived:
                return None
            loss, right = self._network.steps.evaluate(pixels, labels)
            loss_sum += float(ops.convert_to_numpy(loss)) * len(labels)
            right_sum += int(ops.convert_to_numpy(right))
            seen += len(labels)
            if self._clock() - last_record >= RECORD_EVERY_S:
                last_record = self._clock()
                self._emit(
                    ev.ValidationProgress(epoch=self._progress.epoch + 1, done=number, batches=self._validation.count)
                )
        return loss_sum / max(seen, 1), right_sum / max(seen, 1)

    def _close_epoch(self, val_loss: float, val_accuracy: float, improved: bool) -> None:
        progress = self._progress
        event = ev.EpochDone(
            epoch=progress.epoch + 1,
            step=progress.step,
            loss=progress.loss_sum / progress.seen,
            accuracy=progress.right / progress.seen,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=progress.learning_rate,
            seconds=progress.epoch_elapsed,
            images_per_s=progress.seen / max(progress.epoch_training, 1e-9),
            best=improved,
        )
        if improved:
            progress.best, progress.best_epoch = val_accuracy, event.epoch
            progress.best_checkpoint = checkpoint_name(progress.step)
        progress.history.append(event.model_dump(mode="json"))
        progress.epoch += 1
        progress.step_in_epoch = 0
        progress.loss_sum, progress.right, progress.seen = 0.0, 0, 0
        progress.epoch_elapsed, progress.epoch_training = 0.0, 0.0
        self._emit(event)
        try:
            write_metrics(self._run.metrics_file, [ev.EpochDone(**epoch) for epoch in progress.history])
        except OSError as error:
            # On Windows a spreadsheet that shows it keeps it. Only what a run can't do without ends it.
            self._emit(ev.Warned(message=f"{system_error(error)}; its rows are written with the next epoch's"))

    def _early_stop(self) -> str:
        stopping = self._recipe.train.early_stopping
        if stopping is None or not self._progress.history:
            return ""
        values = [float(epoch[stopping.monitor]) for epoch in self._progress.history]
        better = max if stopping.monitor.endswith("accuracy") else min
        since = len(values) - 1 - values.index(better(values))
        # Whoever asks for more epochs wants to see them tried.
        since = min(since, len(values) - self._progress.patient_from)
        if since < stopping.patience:
            return ""
        return f"{stopping.monitor} hasn't improved for {since} epochs"

    def checkpoint(self, reason: ev.CheckpointReason) -> Path:
        """Write a checkpoint of the run as it stands between two steps."""
        self._read_pending()
        self._count_time()
        began = self._clock()
        network = self._network
        path = self._run.checkpoints / checkpoint_name(self._progress.step)
        state = take_state(network.model, network.optimizer)
        if not all(np.isfinite(array).all() for name, array in state.items() if name.startswith("model/")):
            raise DivergedError(f"a weight is no number after step {self._progress.step}")
        identity = identity_of(self._recipe, network.model, network.optimizer)
        size = write_checkpoint(path, Checkpoint(state, self._progress, identity))
        keep_newest(self._run.checkpoints, self._progress.best_checkpoint)
        self._last_checkpoint = self._clock()
        self._saved_step = self._progress.step
        self._emit(
            ev.CheckpointWritten(
                step=self._progress.step,
                file=path.relative_to(self._run.path).as_posix(),
                reason=reason,
                bytes=size,
                seconds=self._last_checkpoint - began,
            )
        )
        return path


def _fetched(values: list[Any]) -> list[Any]:
    """Numbers that lie on the device, in one go."""
    if keras.backend.backend() == "jax":
        # It would compile a stack anew for each number of values.
        import jax

        return [value.item() for value in jax.device_get(values)]
    numbers: list[Any] = ops.convert_to_numpy(ops.stack(values)).tolist()
    return numbers
