"""``kerascnn train``: a new run or the rest of an old one, here or left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from kerascnn.bench.fastest import AUTO, fastest_backend
from kerascnn.cli.options import (
    Assignments,
    Catalog,
    DataDir,
    DatasetName,
    Device,
    Execution,
    LearningRate,
    Offline,
    Seed,
    changes_of,
    recipe_of,
)
from kerascnn.cli.output import print_json, say
from kerascnn.cli.progress import make_display
from kerascnn.errors import RunError, UsageError
from kerascnn.recipe import Recipe
from kerascnn.runs.directory import RUNS_FOLDER, Run, check_free, find_run, new_run_path, removed_unless_begun
from kerascnn.training import session
from kerascnn.training.backend import choose_backend_for_run
from kerascnn.wording import command_line

STARTED_WITHIN_S = 30.0
# What makes a child outlive its parent's terminal.
_APART: dict[str, Any]
if sys.platform == "win32":
    _APART = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    _APART = {"start_new_session": True}


def train(
    model: Annotated[str | None, typer.Argument(help="A network out of `kerascnn models`.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="torch, tensorflow, jax; or auto: measure them once and take the fastest.")
    ] = None,
    device: Device = "auto",
    execution: Execution = "auto",
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in an optimizer step.")] = None,
    learning_rate: LearningRate = None,
    limit_train: Annotated[int | None, typer.Option(help="Use only so many training images.")] = None,
    limit_val: Annotated[int | None, typer.Option(help="Use only so many validation images.")] = None,
    val_split: Annotated[float | None, typer.Option(help="Hold this share of the training images out.")] = None,
    seed: Seed = None,
    assignments: Assignments = None,
    catalog: Catalog = None,
    run_dir: Annotated[Path | None, typer.Option(help="The run's directory; by default a new one.")] = None,
    runs_dir: Annotated[Path, typer.Option(help="The folder that runs are kept in.")] = RUNS_FOLDER,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run from its last checkpoint.")
    ] = None,
    init_from: Annotated[
        str | None, typer.Option(metavar="RUN", help="Begin a new run with the weights of another, on any backend.")
    ] = None,
    checkpoint_minutes: Annotated[float, typer.Option(min=0.0001, help="Between checkpoints in an epoch.")] = 5.0,
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", help="Leave a folder's broken files out.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave the run behind and print its directory.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a network. Ctrl-C saves a checkpoint first; --resume goes on from it."""
    options = session.Options(
        backend=backend,
        device=device,
        data_dir=data_dir,
        download=not offline,
        skip_bad_images=skip_bad_images,
        checkpoint_every_s=60 * checkpoint_minutes,
        execution=execution,
    )
    given = {
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.optimizer.learning_rate": learning_rate,
        "train.limit_train": limit_train,
        "train.limit_val": limit_val,
        "train.val_split": val_split,
        "train.seed": seed,
    }
    if backend == AUTO and execution != "auto":
        raise UsageError(f"--backend auto measures with --execution auto: expected no other one, got {execution}")
    changes = changes_of(dataset, given, assignments)
    if resume is not None:
        if changes or any(other is not None for other in (model, run_dir, init_from, catalog)):
            raise UsageError(
                "--resume takes the run's own recipe: expected no MODEL, --catalog, --run-dir or changes beside it; "
                f"`{command_line(['--init-from', resume])}` begins a new run with its weights"
            )
        if backend == AUTO:
            raise UsageError("--backend auto chooses for a new run; --resume takes the run's own backend")
        _go_on(find_run(resume, runs_dir), options, detach=detach, as_json=as_json)
    else:
        source = _source(init_from, runs_dir)
        recipe = recipe_of(model, changes, catalog, source)
        if model is None and source is not None:
            # It is the other run's recipe, dataset and all.
            options = replace(options, data_dir=options.data_dir or Run(source).data_dir())
        path = run_dir or new_run_path(recipe.name, runs_dir)
        _begin(recipe, path, source, options, detach=detach, as_json=as_json)


def _go_on(run: Run, options: session.Options, *, detach: bool, as_json: bool) -> None:
    session.check_resumable(run)
    if detach:
        # The one that works on it would be taken for the one that is started.
        check_free(run)
        _leave_behind(run, options, as_json=as_json)
        return
    choice = choose_backend_for_run(options.backend, run.environment().get("backend"))
    begun = "going on with" if run.events_file.exists() else "beginning"
    say(f"{begun} {run.path} with {choice.name} ({choice.reason})")
    with make_display() as display:
        result = session.resume(run, options=options, listeners=[display.show])
    _finish(result, as_json=as_json)


def _begin(
    recipe: Recipe, path: Path, source: Path | None, options: session.Options, *, detach: bool, as_json: bool
) -> None:
    if options.backend == AUTO:
        # What is wrong with the rest is said before anything is measured.
        session.check(recipe, replace(options, backend=None), report=say)
        options = replace(
            options, backend=fastest_backend(recipe, options.device, say), backend_reason="--backend auto"
        )
    choice = session.check(recipe, options, report=say)
    say(f"{recipe.name} on {recipe.dataset} with {choice.name} ({choice.reason})")
    if detach:
        run = session.new_run(path, recipe, options, source)
        with removed_unless_begun(run):
            _leave_behind(run, options, as_json=as_json)
        return
    with make_display() as display:
        result = session.train(recipe, run_dir=path, init_from=source, options=options, listeners=[display.show])
    _finish(result, as_json=as_json)


def _finish(result: session.Result, *, as_json: bool) -> None:
    say(f"run: {result.run_dir}")
    if as_json:
        print_json(result.to_dict())
    raise typer.Exit(result.exit_code)


def _source(name: str | None, runs_dir: Path) -> Path | None:
    """The run, or the checkpoint file, whose weights a new run begins with."""
    if name is None or Path(name).is_file():
        return Path(name) if name else None
    return find_run(name, runs_dir).path


def _leave_behind(run: Run, options: session.Options, *, as_json: bool) -> None:
    """Start a process that outlives this one; it takes the run up as a resume does. Print the run's directory.

    Raises:
        RunError: the process ended before it took the run up.
    """
    command = [sys.executable, "-m", "kerascnn", "train", "--resume", str(run.path.absolute())]
    command += ["--device", options.device, "--checkpoint-minutes", str(options.checkpoint_every_s / 60)]
    command += ["--execution", options.execution]
    command += ["--backend", options.backend] if options.backend else []
    command += ["--data-dir", str(options.data_dir.absolute())] if options.data_dir else []
    command += ["--offline"] if not options.download else []
    command += ["--skip-bad-images"] if options.skip_bad_images else []
    with run.log_file.open("ab") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_APART)
    try:
        _wait_until_taken_up(run, child)
    except BaseException:
        # Whoever interrupts the start wants no run that goes on unseen.
        child.terminate()
        child.wait()
        raise
    if as_json:
        print_json({"run_dir": str(run.path)})
    else:
        typer.echo(run.path)


def _wait_until_taken_up(run: Run, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTED_WITHIN_S
    while run.owner() is None and time.monotonic() < deadline:
        if child.poll() == 0:
            return
        if child.poll() is not None:
            last = run.log_file.read_text(errors="replace").strip().splitlines()
            raise RunError(f"the run didn't start: {last[-1] if last else f'exit code {child.returncode}'}")
        time.sleep(0.05)
