"""``kerascnn train``: a new run or the rest of an old one, here or left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from kerascnn.catalog import load_recipe, parse_assignments
from kerascnn.cli.output import print_json, say
from kerascnn.cli.progress import make_display
from kerascnn.data.dataset import absolute, classes_of
from kerascnn.errors import RunError, UnknownNameError, UsageError, nearest
from kerascnn.recipe import Recipe
from kerascnn.runs.directory import RUNS_FOLDER, Run, create_run, find_run, new_run_path
from kerascnn.training import session
from kerascnn.training.backend import DEVICES, choose_backend_for_run

STARTED_WITHIN_S = 30.0
# What makes a child outlive its parent's terminal.
_APART: dict[str, Any]
if sys.platform == "win32":
    _APART = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    _APART = {"start_new_session": True}


def train(
    model: Annotated[str | None, typer.Argument(help="A network out of `kerascnn models`.")] = None,
    backend: Annotated[str | None, typer.Option(help="torch, tensorflow or jax.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    dataset: Annotated[str | None, typer.Option(help="A dataset's name, or folder:PATH.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="A folder to look for datasets in first.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download.")] = False,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in an optimizer step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of the optimizer, before its schedule.")] = None,
    limit_train: Annotated[int | None, typer.Option(help="Use only so many training images.")] = None,
    limit_val: Annotated[int | None, typer.Option(help="Use only so many validation images.")] = None,
    val_split: Annotated[float | None, typer.Option(help="Hold this share of the training images out.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of initial weights, batches and augmentation.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change any key of the recipe.")
    ] = None,
    catalog: Annotated[Path | None, typer.Option(help="A TOML file of your own networks.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="The run's directory; by default a new one.")] = None,
    runs_dir: Annotated[Path, typer.Option(help="The folder that runs are kept in.")] = RUNS_FOLDER,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run from its last checkpoint.")
    ] = None,
    checkpoint_minutes: Annotated[float, typer.Option(min=0.0001, help="Between checkpoints in an epoch.")] = 5.0,
    skip_bad_images: Annotated[bool, typer.Option("--skip-bad-images", help="Go on without broken files.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave the run behind and print its directory.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a network. Ctrl-C saves a checkpoint first; --resume goes on from it."""
    if device not in DEVICES:
        raise UnknownNameError(f"--device: expected {', '.join(DEVICES)}, got {device!r}{nearest(device, DEVICES)}")
    options = session.Options(
        backend=backend,
        device=device,
        data_dir=data_dir,
        download=not offline,
        skip_bad_images=skip_bad_images,
        checkpoint_every_s=60 * checkpoint_minutes,
    )
    changes: dict[str, Any] = {
        "dataset": absolute(dataset) if dataset else None,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.optimizer.learning_rate": learning_rate,
        "train.limit_train": limit_train,
        "train.limit_val": limit_val,
        "train.val_split": val_split,
        "train.seed": seed,
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    changes |= parse_assignments(assignments or [])
    if resume is not None:
        if model is not None or changes or run_dir is not None:
            raise UsageError("--resume takes the run's own recipe: expected no MODEL, --run-dir or changes beside it")
        run = find_run(resume, runs_dir)
    else:
        run = None
        recipe = _recipe(model, changes, catalog)
    if detach:
        run = run or _new_run(recipe, options, run_dir, runs_dir)
        _leave_behind(run, options)
        if as_json:
            print_json({"run_dir": str(run.path)})
        else:
            typer.echo(run.path)
        return
    if run is None:
        say(_what_is_trained(recipe, options))
    else:
        choice = choose_backend_for_run(backend, run.environment().get("backend"))
        say(f"going on with {run.path} with {choice.name} ({choice.reason})")
    with make_display() as display:
        if run is not None:
            result = session.resume(run, options=options, listeners=[display.show])
        else:
            result = session.train(
                recipe, run_dir=run_dir, runs_folder=runs_dir, options=options, listeners=[display.show]
            )
    say(f"run: {result.run_dir}")
    if as_json:
        print_json(result.to_dict())
    raise typer.Exit(result.exit_code)


def _recipe(model: str | None, changes: dict[str, Any], catalog: Path | None) -> Recipe:
    if model is None:
        raise UsageError("expected a MODEL, such as vgg16_cifar; `kerascnn models` lists them")
    if "dataset" in changes and "classes" not in changes:
        classes = classes_of(str(changes["dataset"]))
        if classes is not None and classes != load_recipe(model, catalog=catalog).classes:
            say(f"note: {model} gets {classes} logits for {changes['dataset']}")
            changes["classes"] = classes
    return load_recipe(model, changes, catalog=catalog)


def _what_is_trained(recipe: Recipe, options: session.Options) -> str:
    choice = session.check(recipe, options, report=say)
    return f"{recipe.name} on {recipe.dataset} with {choice.name} ({choice.reason})"


def _new_run(recipe: Recipe, options: session.Options, run_dir: Path | None, runs_dir: Path) -> Run:
    say(_what_is_trained(recipe, options))
    return create_run(run_dir or new_run_path(recipe.name, runs_dir), recipe, options.command)


def _leave_behind(run: Run, options: session.Options) -> None:
    """Start a process that outlives this one; it takes the run up as a resume does.

    Raises:
        RunError: the process ended before it took the run up.
    """
    command = [sys.executable, "-m", "kerascnn", "train", "--resume", str(run.path.absolute())]
    command += ["--device", options.device, "--checkpoint-minutes", str(options.checkpoint_every_s / 60)]
    command += ["--backend", options.backend] if options.backend else []
    command += ["--data-dir", str(options.data_dir.absolute())] if options.data_dir else []
    command += ["--offline"] if not options.download else []
    command += ["--skip-bad-images"] if options.skip_bad_images else []
    with run.log_file.open("ab") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_APART)
    deadline = time.monotonic() + STARTED_WITHIN_S
    while run.owner() is None and time.monotonic() < deadline:
        if child.poll() == 0:
            return
        if child.poll() is not None:
            last = run.log_file.read_text(errors="replace").strip().splitlines()
            raise RunError(f"the run didn't start: {last[-1] if last else f'exit code {child.returncode}'}")
        time.sleep(0.05)
