"""A run directory: what is in it, who works on it, and in which state it is."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import filelock
from pydantic import BaseModel, ConfigDict, Field, StrictBool, TypeAdapter, ValidationError
from pydantic_core import from_json

from kerascnn.catalog import read_recipe
from kerascnn.errors import RunError, UnknownNameError, nearest
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.runs.files import remove_unfinished, write_json, write_text
from kerascnn.runs.process import identity_of_machine, identity_of_process
from kerascnn.wording import resume_command

RUNS_FOLDER = Path("runs")
OWNER_FILE = "owner.json"
LOCK_FILE = ".lock"
MAX_PID = 2**32

EPOCH_COLUMNS = ("epoch", "step", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")


_Figure = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _LearntFrom(BaseModel):
    """``dataset`` in environment.json."""

    name: str = ""
    where: str = ""
    fingerprint: str = ""
    class_names: list[str] = []


class _PixelStatistics(BaseModel):
    """``pixel_statistics`` in environment.json."""

    model_config = ConfigDict(extra="forbid")

    mean: list[_Figure]
    deviation: list[_Figure]


# What readers take from environment.json and result.json.
_TYPES: dict[str, TypeAdapter[Any]] = {
    "backend": TypeAdapter(str),
    "device": TypeAdapter(str),
    "execution": TypeAdapter(str),
    "versions": TypeAdapter(dict[str, str]),
    "dataset": TypeAdapter(_LearntFrom),
    "pixel_statistics": TypeAdapter(_PixelStatistics | None),
    "skip_bad_images": TypeAdapter(StrictBool),
    "data_dir": TypeAdapter(str | None),
    "command": TypeAdapter(list[str]),
    "message": TypeAdapter(str),
}


@dataclass(frozen=True)
class Run:
    """One run directory. Reading it needs no Keras and changes nothing."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        """What was asked for, with every default."""
        return self.path / "recipe.toml"

    @property
    def environment_file(self) -> Path:
        """Versions, machine, data, command."""
        return self.path / "environment.json"

    @property
    def events_file(self) -> Path:
        """What happened."""
        return self.path / "events.jsonl"

    @property
    def control_file(self) -> Path:
        """What is asked of the live run."""
        return self.path / "control.jsonl"

    @property
    def metrics_file(self) -> Path:
        """One row an epoch."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def initial_weights_file(self) -> Path:
        """The weights that the run begins with, where they are another run's (``--init-from``)."""
        return self.path / "initial.safetensors"

    @property
    def model_file(self) -> Path:
        """The network with its final weights."""
        return self.path / "model.keras"

    @property
    def best_weights_file(self) -> Path:
        """The weights of the epoch with the best validation accuracy."""
        return self.path / "best.weights.h5"

    @property
    def result_file(self) -> Path:
        """How it ended."""
        return self.path / "result.json"

    @property
    def log_file(self) -> Path:
        """What a detached run would have printed."""
        return self.path / "log.txt"

    @property
    def name(self) -> str:
        """``model/id`` inside a runs folder, else the directory's own name."""
        return f"{self.path.parent.name}/{self.path.name}" if self.path.parent.name else self.path.name

    def recipe(self) -> Recipe:
        """The recipe that the run was started with.

        Raises:
            RecipeError: ``recipe.toml`` is missing or damaged.
        """
        return read_recipe(self.recipe_file)

    def environment(self) -> dict[str, Any]:
        """What ``environment.json`` holds, less what is damaged; empty while it isn't written yet."""
        return _well_typed(_read_object(self.environment_file))

    def skips_bad_images(self) -> bool:
        """Whether the run learns from a folder without the files in it that don't decode."""
        return bool(self.environment().get("skip_bad_images"))

    def data_dir(self) -> Path | None:
        """The folder that the run looks for its data in first, where it was told one that is there."""
        folder = self.environment().get("data_dir")
        # What isn't a folder's name, too long a text for one, isn't there either.
        with contextlib.suppress(OSError):
            return Path(folder) if folder and Path(folder).is_dir() else None
        return None

    def result(self) -> dict[str, Any]:
        """What ``result.json`` holds, less what is damaged; empty before the run's first end."""
        return _well_typed(_read_object(self.result_file))

    def events(self) -> list[ev.Event]:
        """All events, without what resumes took back."""
        return ev.effective(ev.read_events(self.events_file)[0])

    def owner(self) -> int | None:
        """The process of this machine that works on this run now, or None."""
        return owner_of(self.path)

    def host(self) -> str | None:
        """The other machine that took the run over and hasn't left it; whether it lives can't be seen from here."""
        return self.holder()[1]

    def holder(self) -> tuple[int | None, str | None]:
        """:meth:`owner` and :meth:`host` out of one reading; at most one of them is there."""
        return holder_of(self.path)

    def summary(self) -> RunSummary:
        """One line about the run for lists."""
        return summarise(self)


@dataclass(frozen=True)
class RunSummary:
    """One line about a run.

    ``state`` is an end state, ``running``, ``paused``, ``killed`` (no end, no process), or ``elsewhere`` (no end, and a
    process of another machine).
    """

    name: str
    path: str
    state: str
    model: str
    backend: str
    dataset: str
    epoch: int
    epochs: int
    step: int
    loss: float | None
    val_accuracy: float | None
    best_val_accuracy: float | None
    seconds: float
    started: float | None


def summarise(run: Run) -> RunSummary:
    """Read a run's events into one line."""
    # Asked before reading: what a process wrote before it ended is then read in any case.
    owner, host = run.holder()
    happened = run.events()
    started = list(ev.of_kind(happened, ev.RunStarted))
    epochs = list(ev.of_kind(happened, ev.EpochDone))
    steps = list(ev.of_kind(happened, ev.StepDone))
    return RunSummary(
        name=run.name,
        path=str(run.path),
        state=state_of(happened, owner, host),
        model=started[-1].model if started else "",
        backend=started[-1].backend if started else "",
        dataset=started[-1].dataset if started else "",
        epoch=epochs[-1].epoch if epochs else 0,
        epochs=epochs_of(happened),
        step=max([*(step.step for step in steps), *(epoch.step for epoch in epochs)], default=0),
        loss=_loss_of(steps, epochs),
        val_accuracy=epochs[-1].val_accuracy if epochs else None,
        best_val_accuracy=max((e.val_accuracy for e in epochs if e.val_accuracy == e.val_accuracy), default=None),
        seconds=max(
            (event.elapsed for event in happened if isinstance(event, (ev.StepDone, ev.RunEnded))), default=0.0
        ),
        started=started[0].time if started else None,
    )


def _loss_of(steps: Sequence[ev.StepDone], epochs: Sequence[ev.EpochDone]) -> float | None:
    """The mean loss of the epoch so far. Not every step is recorded, and the last one of an epoch seldom is."""
    if epochs and (not steps or epochs[-1].step >= steps[-1].step):
        return epochs[-1].loss
    return steps[-1].mean_loss if steps else None


def epochs_of(happened: Iterable[ev.Event]) -> int:
    """How many epochs the run is to have, extensions included."""
    told = [event.epochs for event in happened if isinstance(event, (ev.RunStarted, ev.Resumed, ev.ControlApplied))]
    return told[-1] if told else 0


def state_of(happened: list[ev.Event], owner: int | None, host: str | None) -> str:
    """How a run stands, see :class:`RunSummary`. :meth:`Run.holder` is asked before the events are read."""
    last = next((event for event in reversed(happened) if isinstance(event, (ev.RunEnded, ev.RunStarted))), None)
    end = last.state if isinstance(last, ev.RunEnded) else None
    return standing(owner, host, paused=is_paused(happened), end=end)


def standing(owner: int | None, host: str | None, *, paused: bool, end: str | None) -> str:
    """How a run stands that has this :meth:`Run.holder`; ``end`` is what its last process told, None where nothing."""
    if owner is not None:
        return "paused" if paused else "running"
    return end or ("killed" if host is None else "elsewhere")


def is_paused(happened: list[ev.Event]) -> bool:
    """Whether the last process to work on the run has been paused and not resumed."""
    for event in reversed(happened):
        if isinstance(event, ev.RunStarted):
            return False
        if isinstance(event, ev.ControlApplied) and event.command in ("pause", "resume"):
            return event.command == "pause"
    return False


class Writer:
    """The one process that may write into a run directory, until it closes."""

    def __init__(self, run: Run, listeners: tuple[ev.Listener, ...] = ()) -> None:
        """Take the directory over.

        Raises:
            RunError: another process works on it, or it can't be written.
        """
        self.run = run
        self._lock = _lock(run)
        try:
            remove_unfinished(run.path, run.checkpoints)
            own(run.path)
            self.events = ev.EventWriter(run.events_file, listeners)
        except OSError as error:
            self._lock.release()
            raise RunError(f"{run.path}: can't be written: {error.strerror or error}") from None

    def close(self) -> None:
        """Leave the directory to others."""
        try:
            with contextlib.suppress(OSError):
                self.events.close()
            with contextlib.suppress(OSError):
                disown(self.run.path)
        finally:
            self._lock.release()


def check_free(run: Run) -> None:
    """Refuse a run directory that can't be taken over now.

    Raises:
        RunError: a process works on it, or it can't be written.
    """
    _lock(run).release()


def _lock(run: Run) -> filelock.BaseFileLock:
    lock = filelock.FileLock(run.path / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RunError(f"{run.path}: {_who_works_on(run)} works on this run; one at a time") from None
    except OSError as error:
        raise RunError(f"{run.path}: can't be written: {error.strerror or error}") from None
    return lock


def _who_works_on(run: Run) -> str:
    owner, host = run.holder()
    return f"process {owner}" if owner is not None else f"a process on {host}" if host else "another process"


def own(folder: Path) -> None:
    """Note this process as the one that works in a folder, for whoever asks."""
    me = os.getpid()
    process, machine = identity_of_process(me), identity_of_machine()
    owner = {"pid": me, "process": process, "host": socket.gethostname(), "machine": machine}
    write_json(folder / OWNER_FILE, owner)


def disown(folder: Path) -> None:
    """Nobody works in the folder any more."""
    (folder / OWNER_FILE).unlink(missing_ok=True)


def owner_of(folder: Path) -> int | None:
    """The process of this machine that works in a folder now, or None."""
    return holder_of(folder)[0]


def holder_of(folder: Path) -> tuple[int | None, str | None]:
    """Who has taken a folder: a living process of this machine, or the name of another machine, or nobody."""
    content = _read_object(folder / OWNER_FILE)
    pid, host = content.get("pid"), content.get("host")
    # The process first: a laptop's host name may be another in each network.
    if type(pid) is int and 0 < pid < MAX_PID:
        identity = identity_of_process(pid)
        if identity is not None and identity == content.get("process"):
            return pid, None
    return None, host if isinstance(host, str) and not _is_this_machine(host, content.get("machine")) else None


def _is_this_machine(host: str, machine: object) -> bool:
    return host == socket.gethostname() or (machine is not None and machine == identity_of_machine())


def new_run_path(model: str, runs_folder: Path) -> Path:
    """A directory name that no other run has."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return runs_folder / model / f"{stamp}-{secrets.token_hex(2)}"


def create_run(
    path: Path,
    recipe: Recipe,
    command: Sequence[str],
    fill: Callable[[Run], None] = lambda _: None,
    *,
    skip_bad_images: bool = False,
    data_dir: Path | None = None,
) -> Run:
    """Make a new run directory with its recipe, the command that asked for it, and what ``fill`` puts there.

    Raises:
        RunError: the directory exists and holds something, or can't be made.
    """
    run = Run(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            goes_on = f"; `{resume_command(path)}` goes on with the run in it" if run.recipe_file.is_file() else ""
            raise RunError(f"{path}: expected a new or empty run directory{goes_on}")
        # One process alone can make it, and only that one may remove what it has made here.
        run.checkpoints.mkdir()
        with _removed_if_it_fails(path):
            environment = {"command": list(command), "skip_bad_images": skip_bad_images, "data_dir": noted(data_dir)}
            write_json(run.environment_file, environment)
            fill(run)
            # Last: it makes the folder a run, which may be resumed.
            write_text(run.recipe_file, recipe.to_toml())
    except OSError as error:
        raise RunError(f"{path}: can't make a run directory: {error.strerror or error}") from None
    return run


@contextlib.contextmanager
def _removed_if_it_fails(path: Path) -> Iterator[None]:
    """A directory that is half made is no run, and in its place no new run could be made."""
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


@contextlib.contextmanager
def removed_unless_begun(run: Run) -> Iterator[None]:
    """Remove a new run where its start fails or is interrupted before its first event: nothing has happened in it."""
    try:
        yield
    except BaseException:
        if not run.events():
            with contextlib.suppress(RunError):
                delete_run(run)
        raise


def noted(data_dir: Path | None) -> str | None:
    """A ``--data-dir`` as ``environment.json`` holds it: a resume may come from another folder."""
    return None if data_dir is None else str(data_dir.absolute())


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open a run by its directory.

    Raises:
        UnknownNameError: there is no run in this directory.
    """
    run = Run(Path(path))
    if not run.recipe_file.is_file():
        raise UnknownNameError(f"expected a run directory with a recipe.toml at {path}")
    return run


def find_run(name: str, runs_folder: Path = RUNS_FOLDER) -> Run:
    """Find a run by its directory, by ``model/id``, by its id, or by ``last``.

    Raises:
        UnknownNameError: no run or more than one has this name.
    """
    if (Path(name) / "recipe.toml").is_file():
        return Run(Path(name))
    every = list(list_runs(runs_folder))
    if name == "last" and every:
        return every[-1]
    matching = [run for run in every if name in (run.name, run.path.name) or run.path.name.endswith(f"-{name}")]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise UnknownNameError(f"{name} could be {' or '.join(run.name for run in matching)}")
    if Path(name).is_dir():
        raise UnknownNameError(f"{name}: expected a run directory, and there is no recipe.toml in it")
    known = [run.name for run in every]
    raise UnknownNameError(f"no run {name!r} in {runs_folder}{nearest(name, known)}; `kerascnn runs` lists them")


def list_runs(runs_folder: Path = RUNS_FOLDER) -> Iterator[Run]:
    """All runs in a folder, oldest first."""
    found = []
    for pattern in ("*/recipe.toml", "*/*/recipe.toml"):
        for path in runs_folder.glob(pattern):
            # A run may be deleted at this very moment.
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat().st_mtime_ns, path.parent))
    return (Run(path) for _, path in sorted(found))


def delete_run(run: Run) -> None:
    """Remove a run directory.

    Raises:
        RunError: a process works on it, or it can't be removed.
    """
    if (pid := run.owner()) is not None:
        raise RunError(f"{run.path}: process {pid} works on this run; stop it first")
    try:
        # A process of another machine isn't known here, and holds the lock where the file system has locks.
        with filelock.FileLock(run.path / LOCK_FILE, timeout=0):
            pass
        shutil.rmtree(run.path)
    except filelock.Timeout:
        raise RunError(f"{run.path}: {_who_works_on(run)} works on this run; stop it first") from None
    except OSError as error:
        raise RunError(f"{run.path}: can't be removed: {error.strerror or error}") from None


def write_metrics(path: Path, epochs: list[ev.EpochDone]) -> None:
    """One row an epoch, whole or not at all."""
    rows = [EPOCH_COLUMNS, *(tuple(getattr(epoch, column) for column in EPOCH_COLUMNS) for epoch in epochs)]
    text = "\n".join(",".join(str(cell) for cell in row) for row in rows) + "\n"
    write_text(path, text)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = from_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _well_typed(content: dict[str, Any]) -> dict[str, Any]:
    """A value of another type than it was written in counts as not written."""
    return {key: value for key, value in content.items() if key not in _TYPES or _fits(_TYPES[key], value)}


def _fits(kind: TypeAdapter[Any], value: Any) -> bool:
    try:
        kind.validate_python(value)
    except ValidationError:
        return False
    return True
