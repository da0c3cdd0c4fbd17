"""Run directories as the interface finds them, written by the same code that trains, with fixed times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from kerascnn.catalog import load_recipe
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run, Writer, create_run
from tests.screens import screen_text
from tui.app import KerascnnApp
from tui.places import Places
from tui.settings import Keeper

# 14 November 2023, 22:13:20 UTC.
BEGAN = 1_700_000_000.0


def make_app(folder: Path, backends: Sequence[str] = ("torch", "tensorflow"), **options: Any) -> KerascnnApp:
    """The app on a folder of runs, with settings and backends of its own."""
    places = options.pop("places", Places(folder / "runs"))
    return KerascnnApp(places, keeper=Keeper(folder / "config" / "tui.toml"), backends=backends, **options)


async def settled(app: KerascnnApp, pilot: Pilot[str]) -> str:
    """The screen once every message and every worker is done."""
    await pilot.pause()
    while any(not worker.is_finished for worker in app.workers):
        await pilot.pause(0.01)
    await pilot.pause()
    return screen_text(app)


async def looked(app: KerascnnApp, pilot: Pilot[str]) -> str:
    """The screen once the app has looked at the runs."""
    await settled(app, pilot)
    app.look_at_runs()
    return await settled(app, pilot)


def said(app: KerascnnApp) -> str:
    """What the app has notified of."""
    return "\n".join(notification.message for notification in app._notifications)


def make_run(
    folder: Path,
    name: str = "20231114-221320-aaaa",
    *,
    model: str = "cnn2_fmnist",
    epochs: Sequence[float] = (0.5, 0.75),
    end: str | None = "finished",
    began: float = BEGAN,
    backend: str = "torch",
    **changes: Any,
) -> Run:
    """A run with an epoch for each validation accuracy, 60 s each, ended as told or left without an end."""
    recipe = load_recipe(model, {"train.epochs": max(len(epochs), 1), **changes})
    run = create_run(folder / "runs" / model / name, recipe, ["kerascnn", "train", model])
    writer = ev.EventWriter(run.events_file)
    for event in history(recipe.name, recipe.dataset, epochs, end, began=began, backend=backend):
        writer.write(event)
    writer.close()
    return run


def history(
    model: str, dataset: str, epochs: Sequence[float], end: str | None, *, began: float = BEGAN, backend: str = "torch"
) -> Iterator[ev.Event]:
    """The events of such a run: 100 steps an epoch of 6,000 images."""
    total = max(len(epochs), 1)
    yield ev.RunStarted(time=began, model=model, dataset=dataset, backend=backend, epochs=total, batch_size=60, pid=1)
    yield ev.DataLoaded(
        time=began + 1, train_images=6000, val_images=1000, steps_per_epoch=100, classes=10, where="here"
    )
    for epoch, accuracy in enumerate(epochs, start=1):
        for step in range(100 * (epoch - 1) + 1, 100 * epoch + 1):
            yield step_done(step, began)
        yield ev.EpochDone(
            time=began + 60 * epoch,
            epoch=epoch,
            step=100 * epoch,
            loss=1.0,
            accuracy=accuracy,
            val_loss=1.0,
            val_accuracy=accuracy,
            learning_rate=1e-3,
            seconds=60.0,
            images_per_s=120.0,
            best=True,
        )
    if end is not None:
        elapsed = 60.0 * len(epochs)
        yield ev.RunEnded(
            time=began + elapsed, state=end, message="", step=100 * len(epochs), elapsed=elapsed, exit_code=0
        )


def step_done(step: int, began: float = BEGAN) -> ev.StepDone:
    """One step, 0.6 s after the one before."""
    return ev.StepDone(
        time=began + 0.6 * step,
        step=step,
        epoch=(step - 1) // 100 + 1,
        loss=1.0,
        mean_loss=1.0,
        accuracy=0.5,
        learning_rate=1e-3,
        images_per_s=100.0,
        elapsed=0.6 * step,
    )


@contextmanager
def living(run: Run) -> Iterator[Writer]:
    """The run with a process at work on it: this one."""
    writer = Writer(run)
    try:
        yield writer
    finally:
        writer.close()
