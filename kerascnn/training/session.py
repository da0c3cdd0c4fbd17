"""One run from its command to its last event: backend, data, network, engine, result.

Importing this module imports no Keras; :func:`train` does, once the backend is chosen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from kerascnn.data.batches import TrainingBatches, ValidationBatches
from kerascnn.data.dataset import Dataset, absolute, classes_of, load_dataset, require
from kerascnn.data.formats import Pixels
from kerascnn.data.locate import check_data_dir
from kerascnn.data.statistics import PixelStatistics, constants_of
from kerascnn.diagnosis.architecture import read_architecture
from kerascnn.diagnosis.live import Watcher
from kerascnn.errors import (
    CheckpointError,
    DivergedError,
    KerascnnError,
    RunError,
    UsageError,
    is_out_of_memory,
    kind_and_reason,
    system_error,
)
from kerascnn.machine import machine
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.runs.directory import (
    RUNS_FOLDER,
    Run,
    Writer,
    create_run,
    epochs_of,
    new_run_path,
    noted,
    removed_unless_begun,
)
from kerascnn.runs.files import patiently, write_atomically, write_json
from kerascnn.training import backend as backends
from kerascnn.training.allocator import asked_allocator, set_allocator
from kerascnn.training.imports import tensorflow_left_alone
from kerascnn.training.schedule import long_warm_up
from kerascnn.training.signals import Interruption, Signals
from kerascnn.wording import command_line, resume_command
from kerascnn.zoo import check_builder

if TYPE_CHECKING:
    from kerascnn.training.checkpoint import Position, Progress
    from kerascnn.training.engine import Engine
    from kerascnn.training.network import Network


@dataclass(frozen=True)
class Options:
    """How a run is carried out: what may change between a run and its resume.

    Raises:
        UnknownNameError: there is no such device or execution.
    """

    backend: str | None = None
    backend_reason: str = "--backend"
    """Where ``backend`` comes from, for messages and ``environment.json``."""
    device: str = "auto"
    data_dir: Path | None = None
    """A folder to look for the dataset in first; a text is taken too. A resume without one takes the run's own."""
    download: bool = True
    skip_bad_images: bool = False
    """Go on without a folder's files that don't decode. A run that began without them goes on without them."""
    checkpoint_every_s: float = 300.0
    observe: bool = True
    """Whether the run looks into its layers while it trains."""
    execution: str = "auto"
    """One of :data:`kerascnn.training.backend.EXECUTIONS`; ``auto`` lowers where it can, and goes on as a run began."""
    command: Sequence[str] = field(default_factory=lambda: list(sys.argv))

    def __post_init__(self) -> None:
        if self.data_dir is not None:
            object.__setattr__(self, "data_dir", Path(self.data_dir))
        backends.check_device(self.device)
        backends.check_execution(self.execution)


@dataclass(frozen=True)
class Result:
    """How a run ended.

    ``figures`` holds epochs, steps, seconds, loss, accuracy, val_loss, val_accuracy, best_val_accuracy, best_epoch and
    peak_memory_bytes; losses in nats, accuracies from 0 to 1, those of the last whole epoch. What isn't known is None:
    loss and accuracy before the first epoch's end, all but the memory where the run ended before its network was there.
    """

    run_dir: Path
    state: str
    message: str
    exit_code: int
    figures: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, as ``result.json`` holds it: numbers that JSON lacks are texts, as in events."""
        figures = {
            name: ev.json_number(value) if isinstance(value, float) else value for name, value in self.figures.items()
        }
        return {**asdict(self), "run_dir": str(self.run_dir), "figures": figures}


def train(
    recipe: Recipe,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    runs_folder: str | os.PathLike[str] = RUNS_FOLDER,
    init_from: str | os.PathLike[str] | None = None,
    options: Options | None = None,
    listeners: Sequence[ev.Listener] = (),
) -> Result:
    """Train a recipe's network in this process, in a new run directory.

    Args:
        recipe: from :func:`kerascnn.load_recipe`.
        run_dir: the run's directory; by default a new one under ``runs_folder``.
        runs_folder: where runs are kept.
        init_from: a run's directory, or one of its checkpoints, whose weights to begin with. The optimizer, the
            schedule and the epochs begin anew, so the backend, the dataset and the batch size may be others. Where the
            number of classes is another, the logits begin anew too.
        options: backend, device, where data lies.
        listeners: called with each event as it is written; one that fails hears no more, and the run goes on.

    Returns:
        How it ended: finished, interrupted or diverged. A run that is interrupted can be resumed.

    Raises:
        UsageError, DatasetError, BackendError, CheckpointError: before anything is written.
        KerascnnError: what else ended the run; its last event says the same. Among them is what only building the
            network shows: that a builder of the user's own fails, or that ``execution="lowered"`` finds nothing to
            lower.
    """
    options = options or Options()
    choice = check(recipe, options)
    if options.device == "gpu":
        # Only the backend knows whether there is one; without it there is to be no run.
        backends.activate(choice.name, options.device)
    path = new_run_path(recipe.name, Path(runs_folder)) if run_dir is None else Path(run_dir)
    run = new_run(path, recipe, options, init_from)
    with removed_unless_begun(run):
        # What is written is what a resume will read.
        return _carry_out(run, run.recipe(), choice, options, listeners, resume=False)


def new_run(path: Path, recipe: Recipe, options: Options, init_from: str | os.PathLike[str] | None) -> Run:
    """Make a run directory, with a copy of the weights that it begins with where they are another run's.

    A relative folder of images becomes an absolute one: the run may be resumed, or evaluated, from elsewhere.

    Raises:
        RunError: the directory exists and holds something, or can't be written.
        CheckpointError: there is no whole checkpoint to begin with.
    """
    recipe = recipe.model_copy(update={"dataset": absolute(recipe.dataset)})
    create = partial(
        create_run,
        path,
        recipe,
        options.command,
        skip_bad_images=options.skip_bad_images,
        data_dir=options.data_dir,
    )
    if init_from is None:
        return create()
    from kerascnn.training.transfer import find_weights, store_weights

    weights = find_weights(Path(init_from))
    return create(lambda run: store_weights(run, weights))


def resume(run: Run, *, options: Options | None = None, listeners: Sequence[ev.Listener] = ()) -> Result:
    """Go on with a run from its newest whole checkpoint, or from its start if it has none.

    Raises:
        CheckpointError: its checkpoints are gone, which is said before anything is written, or don't fit this backend.
        KerascnnError: as :func:`train`.
    """
    return _go_on(run, options or Options(), listeners)


def replay(run: Run, until: Position, *, options: Options, listeners: Sequence[ev.Listener] = ()) -> Result:
    """Go on with a run until it stands at a position, and stop there with a checkpoint.

    Raises:
        KerascnnError: as :func:`resume`.
    """
    return _go_on(run, options, listeners, until)


def check_resumable(run: Run) -> None:
    """Refuse a run whose checkpoints were removed: to begin it again would overwrite what it came to.

    Raises:
        CheckpointError: it has written checkpoints, and there are none.
    """
    from kerascnn.training.checkpoint import list_checkpoints

    if not list_checkpoints(run.checkpoints) and any(ev.of_kind(run.events(), ev.CheckpointWritten)):
        raise CheckpointError(
            f"{run.checkpoints}: expected the run's checkpoints, and they are gone: it stays as it ended, and only a "
            "new run trains again"
        )


def check(recipe: Recipe, options: Options, report: Callable[[str], None] = lambda _: None) -> backends.BackendChoice:
    """What can be wrong before anything is written; a missing dataset is downloaded here."""
    choice = backends.choose_backend(options.backend, options.backend_reason)
    asked_allocator()
    check_builder(recipe.builder)
    if options.execution == "lowered" and choice.name == "jax":
        raise UsageError(f"--execution lowered: expected torch or tensorflow, got jax ({choice.reason})")
    check_data_dir(options.data_dir)
    classes = classes_of(recipe.dataset)
    if classes is not None and classes != recipe.classes:
        raise UsageError(f"{recipe.dataset} has {classes} classes: expected classes = {classes}, got {recipe.classes}")
    backends.check_process(choice.name, options.device)
    require(recipe.dataset, options.data_dir, download=options.download, report=report)
    return choice


def load(
    recipe: Recipe, options: Options, tell: Callable[[str], None] = lambda _: None
) -> tuple[backends.BackendChoice, Dataset]:
    """The backend and the dataset of what is trained without leaving a run; ``tell`` hears which they are."""
    choice = check(recipe, options, tell)
    tell(f"{recipe.name} on {recipe.dataset} with {choice.name} ({choice.reason})")
    return choice, read_dataset(recipe, options, tell)


def read_dataset(recipe: Recipe, options: Options, tell: Callable[[str], None]) -> Dataset:
    """A recipe's dataset, as the options say; ``tell`` hears what was left out, and how images are adapted."""
    dataset = load_dataset(
        recipe,
        data_dir=options.data_dir,
        download=options.download,
        skip_bad_images=options.skip_bad_images,
        report=tell,
    )
    for note in dataset.notes:
        tell(note)
    return dataset


def _go_on(run: Run, options: Options, listeners: Sequence[ev.Listener], until: Position | None = None) -> Result:
    recipe = run.recipe()
    check_resumable(run)
    choice = backends.choose_backend_for_run(options.backend, run.environment().get("backend"))
    options = replace(
        options,
        skip_bad_images=options.skip_bad_images or run.skips_bad_images(),
        data_dir=options.data_dir or run.data_dir(),
    )
    check(recipe, replace(options, backend=choice.name))
    return _carry_out(run, recipe, choice, options, listeners, resume=True, until=until)


def _carry_out(
    run: Run,
    recipe: Recipe,
    choice: backends.BackendChoice,
    options: Options,
    listeners: Sequence[ev.Listener],
    *,
    resume: bool,
    until: Position | None = None,
) -> Result:
    writer = Writer(run, tuple(listeners))
    try:
        with (
            Signals() as signals,
            backends.unrepeatable_told(lambda text: writer.events.write(ev.Warned(message=text))),
        ):
            session = _Session(run, recipe, choice, options, writer.events.write, signals, until)
            return session.carry_out(resume=resume)
    finally:
        writer.close()


class _Session:
    """The phases of one process's work on a run."""

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        choice: backends.BackendChoice,
        options: Options,
        emit: Callable[[ev.Event], None],
        signals: Signals,
        until: Position | None,
    ) -> None:
        self._run = run
        self._recipe = recipe
        self._choice = choice
        self._options = options
        self._write = emit
        self._signals = signals
        self._until = until
        self._progress: Progress | None = None
        self._watcher: Watcher | None = None

    def _emit(self, event: ev.Event) -> None:
        """Write an event, and what it means for the diagnosis; the run's end comes last."""
        last = isinstance(event, ev.RunEnded)
        if not last:
            self._write(event)
        for finding in self._watcher.see(event) if self._watcher else []:
            self._write(finding)
        if last:
            self._write(event)

    def carry_out(self, *, resume: bool) -> Result:
        """All phases, and whatever ends them as the run's last event."""
        try:
            self._begin()
            engine = self._prepare(resume=resume)
            message = engine.run()
            self._save_model(engine)
            return self._end("finished", message, 0)
        except Interruption as interruption:
            message = f"{interruption}; `{resume_command(self._run.path)}` goes on"
            return self._end(interruption.state, message, interruption.exit_code)
        except KerascnnError as error:
            state: ev.EndState = "diverged" if isinstance(error, DivergedError) else "failed"
            return self._end(state, str(error), error.exit_code, error)
        except Exception as error:
            failure = self._explain(error, resume=resume)
            return self._end("failed", str(failure), 1, failure, cause=error)

    def _begin(self) -> None:
        # It tells how an earlier process ended; this one isn't at its end.
        patiently(lambda: self._run.result_file.unlink(missing_ok=True))
        self._emit(
            ev.RunStarted(
                model=self._recipe.name,
                dataset=self._recipe.dataset,
                backend=self._choice.name,
                # A run that was extended has more than its recipe says.
                epochs=max(self._recipe.train.epochs, epochs_of(self._run.events())),
                batch_size=self._recipe.train.batch_size,
                pid=os.getpid(),
            )
        )

    def _explain(self, error: Exception, *, resume: bool) -> RunError:
        """What ended the run and isn't an error of ours, in one sentence."""
        if is_out_of_memory(error):
            return RunError(f"out of memory: {self._what_takes_less(resume=resume)}")
        if not isinstance(error, OSError):
            return RunError(kind_and_reason(error))
        if not self._run.path.is_dir():
            return RunError(f"{self._run.path}: the run directory has been removed, and its checkpoints with it")
        return RunError(system_error(error))

    def _what_takes_less(self, *, resume: bool) -> str:
        """What to do where memory doesn't suffice. A run that has a checkpoint keeps the batch size that it is of."""
        from kerascnn.training.checkpoint import list_checkpoints

        batch_size = self._recipe.train.batch_size
        if self._until is not None:
            return "a replay takes as much as the run did"
        if not resume or not list_checkpoints(self._run.checkpoints):
            return f"try a train.batch_size below {batch_size}"
        smaller = command_line(["kerascnn", "train", "--init-from", str(self._run.path), "--batch-size", "N"])
        return f"`{smaller}` with N below {batch_size} begins a new run with its weights"

    def _prepare(self, *, resume: bool) -> Engine:
        self._emit(ev.Phase(phase="importing"))
        backends.activate(self._choice.name, self._options.device)
        if (warning := backends.what_cannot_be_repeated(self._choice.name)) is not None:
            self._emit(ev.Warned(message=warning))
        self._emit(ev.Phase(phase="loading data"))
        dataset = self._load_data()
        statistics = self._statistics(dataset)
        self._emit(ev.Phase(phase="building"))
        from kerascnn.training.observer import probe_size

        network = self._build(statistics)
        batches = self._batches(dataset)
        few = batches.few(probe_size(self._recipe.input_shape))
        architecture = read_architecture(network.model, network.layers, few) if network.layers else None
        progress = self._resume_point(network) if resume else self._fresh()
        if not progress.step:
            self._warn_of_long_warm_up(batches.per_epoch)
        if architecture is not None and self._options.observe:
            self._watcher = Watcher(self._recipe, architecture, self._run.events())
        self._write_environment(dataset, statistics, network.steps.execution)
        self._progress = progress
        engine = self._make_engine(network, dataset, batches, few, progress)
        self._signals.wait_for_step()
        return engine

    def _load_data(self) -> Dataset:
        dataset = read_dataset(self._recipe, self._options, lambda text: self._emit(ev.Warned(message=text)))
        batch = self._recipe.train.batch_size
        self._emit(
            ev.DataLoaded(
                train_images=len(dataset.train),
                val_images=len(dataset.validation),
                steps_per_epoch=-(-len(dataset.train) // batch),
                classes=len(dataset.class_names),
                where=dataset.where,
            )
        )
        return dataset

    def _statistics(self, dataset: Dataset) -> PixelStatistics | None:
        known = self._run.environment().get("pixel_statistics")
        return PixelStatistics(**known) if known else constants_of(self._recipe, dataset)

    def _build(self, statistics: PixelStatistics | None) -> Network:
        from kerascnn.training.network import initial_model, make_network
        from kerascnn.training.transfer import put_stored_weights

        model = initial_model(self._recipe, statistics, lambda text: self._emit(ev.Warned(message=text)))
        if self._run.initial_weights_file.is_file():
            self._emit(ev.Warned(message=put_stored_weights(model, self._run)))
        network = make_network(model, self._recipe.train, self._execution())
        if network.steps.not_lowered:
            text = (
                f"Keras's own layers compute this network, which is slower: {network.steps.not_lowered} isn't lowered"
            )
            self._emit(ev.Warned(message=text))
        return network

    def _execution(self) -> str:
        """What was asked, else what the run began with: only that goes on to the bit."""
        if self._options.execution == "auto" and self._begun().get("execution") == "keras":
            return "keras"
        return self._options.execution

    def _begun(self) -> dict[str, Any]:
        """The environment that the run began in, or went on in last."""
        before = self._run.environment()
        # Before there was a choice, Keras computed everything.
        return {"execution": "keras", **before} if "backend" in before else before

    def _fresh(self) -> Progress:
        from kerascnn.training.checkpoint import Progress

        return Progress(epochs=self._recipe.train.epochs)

    def _resume_point(self, network: Network) -> Progress:
        """Put the newest whole checkpoint back; a run that was killed before its first begins again."""
        from kerascnn.training.checkpoint import list_checkpoints, newest_whole, set_damaged_aside
        from kerascnn.training.state import identity_of, is_same, put_state

        if not list_checkpoints(self._run.checkpoints):
            if any(ev.of_kind(self._run.events(), ev.StepDone)):
                self._emit(ev.Resumed(step=0, epoch=0, epochs=self._recipe.train.epochs, elapsed=0.0, file=""))
            return self._fresh()
        path, checkpoint, damaged = newest_whole(self._run.checkpoints)
        set_damaged_aside(self._run.checkpoints, path)
        for message in damaged:
            self._emit(ev.Warned(message=f"{message}; going on from {path.name}"))
        expected = identity_of(self._recipe, network.model, network.optimizer)
        for key, value in expected.items():
            if not is_same(checkpoint.identity.get(key), value):
                found = "other variables" if key == "variables" else repr(checkpoint.identity.get(key))
                wanted = "those of this network" if key == "variables" else repr(value)
                raise CheckpointError(f"{path}: expected {key} to be {wanted}, the checkpoint has {found}")
        put_state(network.model, network.optimizer, checkpoint.arrays)
        progress = checkpoint.progress
        self._emit(
            ev.Resumed(
                step=progress.step,
                epoch=progress.epoch,
                epochs=progress.epochs,
                elapsed=progress.elapsed,
                file=path.relative_to(self._run.path).as_posix(),
            )
        )
        return progress

    def _batches(self, dataset: Dataset) -> TrainingBatches:
        train = self._recipe.train
        return TrainingBatches(dataset.train, train.batch_size, train.seed, train.augment)

    def _warn_of_long_warm_up(self, steps_per_epoch: int) -> None:
        train = self._recipe.train
        if (warning := long_warm_up(train, train.epochs * steps_per_epoch)) is not None:
            self._emit(ev.Warned(message=warning))

    def _make_engine(
        self, network: Network, dataset: Dataset, batches: TrainingBatches, few: Pixels, progress: Progress
    ) -> Engine:
        from kerascnn.training.control import Control
        from kerascnn.training.engine import Engine
        from kerascnn.training.observer import Observer

        return Engine(
            self._run,
            self._recipe,
            network,
            batches,
            ValidationBatches(dataset.validation, self._recipe.train.batch_size),
            progress,
            emit=self._emit,
            signals=self._signals,
            control=Control(self._run, set(progress.applied)),
            observer=Observer(network.model, network.layers, few) if self._options.observe else None,
            checkpoint_every_s=self._options.checkpoint_every_s,
            until=self._until,
        )

    def _write_environment(self, dataset: Dataset, statistics: PixelStatistics | None, execution: str) -> None:
        """What the run's figures depend on. A resume under others says so."""
        backend = self._choice.name
        device = backends.device_name(backend)
        now = {
            "backend": backend,
            "backend_reason": self._choice.reason,
            "device": device,
            "tf32": backends.tf32(backend, device),
            "execution": execution,
            "threads": backends.thread_count(backend),
            "allocator": set_allocator(backend),
            "versions": backends.versions(backend),
            "machine": machine(),
            "dataset": {
                "name": dataset.name,
                "where": dataset.where,
                "fingerprint": dataset.fingerprint,
                "class_names": list(dataset.class_names),
            },
            "skip_bad_images": self._options.skip_bad_images,
            # A folder that is away for once, as a disk may be, is looked into again when it is back.
            "data_dir": noted(self._options.data_dir) or self._run.environment().get("data_dir"),
            "pixel_statistics": asdict(statistics) if statistics else None,
            "seed": self._recipe.train.seed,
            "command": list(self._options.command),
        }
        before = self._begun()
        for key in ("versions", "machine", "threads", "device", "tf32", "execution", "dataset"):
            then = before.get(key)
            if then and _comparable(key, then) != _comparable(key, now[key]):
                self._emit(
                    ev.Warned(message=f"{key} changed since the run began: it goes on, but not equal to the bit")
                )
        write_json(self._run.environment_file, {**now, "command": before.get("command", now["command"])})

    def _save_model(self, engine: Engine) -> None:
        from kerascnn.training.optimizer import averaged_weights

        network = engine.network
        with tensorflow_left_alone(), averaged_weights(network.model, network.optimizer):
            write_atomically(self._run.model_file, network.model.save)

    def _end(
        self,
        state: ev.EndState,
        message: str,
        exit_code: int,
        error: KerascnnError | None = None,
        *,
        cause: Exception | None = None,
    ) -> Result:
        """Write the last event and the result; where even that fails, the error that ended the run still counts."""
        result = Result(self._run.path, state, message, exit_code, _figures(self._progress))
        step, elapsed = (self._progress.step, self._progress.elapsed) if self._progress else (0, 0.0)
        try:
            self._emit(ev.RunEnded(state=state, message=message, step=step, elapsed=elapsed, exit_code=exit_code))
            write_json(self._run.result_file, result.to_dict())
        except OSError as failure:
            if error is None:
                raise RunError(f"{self._run.path}: {failure.strerror or failure}") from None
        if error is not None and state == "failed":
            raise error from cause
        return result


def _figures(progress: Progress | None) -> dict[str, Any]:
    """See :class:`Result`; ``progress`` is None where the run ended before it was known."""
    last = progress.history[-1] if progress and progress.history else {}
    return {
        "epochs": progress.epoch if progress else None,
        "steps": progress.step if progress else None,
        "seconds": progress.elapsed if progress else None,
        # A checkpoint's header is JSON, and a loss that is no number a text in it.
        **{key: float(last[key]) if last else None for key in ("loss", "accuracy", "val_loss", "val_accuracy")},
        "best_val_accuracy": progress.best if progress else None,
        "best_epoch": (progress.best_epoch or None) if progress else None,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _comparable(key: str, value: Any) -> Any:
    return value.get("fingerprint") if key == "dataset" else value


def peak_memory_bytes() -> int:
    """The most memory that this process has had at once."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
