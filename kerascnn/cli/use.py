"""``kerascnn evaluate`` and ``kerascnn predict``: a trained network put to use."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kerascnn.cli.options import Device
from kerascnn.cli.output import print_json, print_table, say
from kerascnn.errors import UsageError
from kerascnn.runs.directory import RUNS_FOLDER, Run, find_run
from kerascnn.training import inference
from kerascnn.training.backend import choose_backend_for_run
from kerascnn.wording import percent

if TYPE_CHECKING:
    import keras

RunName = Annotated[str, typer.Argument(metavar="RUN", help="A directory, model/id, id, or `last`.")]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="The folder that runs are kept in.")]
Backend = Annotated[str | None, typer.Option(help="By default the run's own.")]
Weights = Annotated[str, typer.Option(help="best: the best epoch's; final: the last's.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images at once. By default the run's own.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def evaluate(
    name: RunName,
    data_dir: Annotated[Path | None, typer.Option(help="A folder to look for datasets in first.")] = None,
    limit_val: Annotated[
        int | None, typer.Option(min=0, help="Use so many images; 0 uses all. By default the run's own.")
    ] = None,
    weights: Weights = "best",
    batch_size: BatchSize = None,
    backend: Backend = None,
    device: Device = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Never download.")] = False,
    runs_dir: RunsDir = RUNS_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Loss and accuracy of a run's network on its validation images."""
    run = find_run(name, runs_dir)
    which = _which(weights)
    model = _network(run, which, backend, device)
    found = inference.evaluate(
        run,
        model,
        which=which,
        data_dir=data_dir,
        limit=limit_val,
        batch_size=batch_size,
        download=not offline,
        tell=say,
    )
    if as_json:
        print_json(asdict(found))
    else:
        typer.echo(f"loss {found.loss:.4f}, accuracy {percent(found.accuracy)} on {found.images:,} images")


def predict(
    name: RunName,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="JPEG or PNG files.")],
    top: Annotated[int, typer.Option(min=1, help="So many classes an image.")] = 3,
    weights: Weights = "best",
    batch_size: BatchSize = None,
    backend: Backend = None,
    device: Device = "auto",
    runs_dir: RunsDir = RUNS_FOLDER,
    as_json: AsJson = False,
) -> None:
    """The likeliest classes of images."""
    run = find_run(name, runs_dir)
    model = _network(run, _which(weights), backend, device)
    predictions = inference.predict(run, model, images, top=top, batch_size=batch_size)
    if as_json:
        print_json([asdict(prediction) for prediction in predictions])
        return
    rows = [
        [prediction.file if rank == 0 else "", name, percent(share)]
        for prediction in predictions
        for rank, (name, share) in enumerate(prediction.classes)
    ]
    print_table([("image", "left"), ("class", "left"), ("softmax", "right")], rows)


def _network(run: Run, which: inference.Which, backend: str | None, device: str) -> keras.Model:
    choice = choose_backend_for_run(backend, run.environment().get("backend"))
    say(f"{which} weights of {run.name} with {choice.name} ({choice.reason})")
    return inference.load_network(run, which=which, backend=backend, device=device)


def _which(weights: str) -> inference.Which:
    if weights == "best":
        return "best"
    if weights == "final":
        return "final"
    raise UsageError(f"--weights: expected best or final, got {weights!r}")
