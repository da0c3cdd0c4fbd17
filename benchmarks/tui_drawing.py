"""How quick the terminal UI is, without a terminal: Textual draws into memory.

    python benchmarks/tui_drawing.py refresh     # CPU of a refresh of four charts of 10,000 points each, at 120x40
    python benchmarks/tui_drawing.py open        # from opening a run of 100,000 events until all of it is shown

Each figure is the median of several rounds, with the lowest and the highest, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from textual.app import App, ComposeResult
from textual.containers import Grid

from kerascnn.catalog import load_recipe
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run
from tui.drawing.curves import Curves
from tui.reading.story import RunStory
from tui.screens.run import RunScreen
from tui.settings import Settings
from tui.widgets.chart import Chart, Picture

SIZE = (120, 40)
POINTS = 10_000
EVENTS = 100_000
STEPS_PER_EPOCH = 390


def recorded_steps(count: int) -> list[ev.Event]:
    """The events of a run with so many recorded steps, noisy as real ones."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.1, count)
    happened: list[ev.Event] = [
        ev.RunStarted(
            model="plain12_bn", dataset="cifar10", backend="torch", epochs=300, batch_size=128, pid=os.getpid()
        ),
        ev.DataLoaded(
            train_images=128 * STEPS_PER_EPOCH,
            val_images=1,
            steps_per_epoch=STEPS_PER_EPOCH,
            classes=10,
            where="a benchmark",
        ),
    ]
    for step in range(1, count + 1):
        loss = 2.3 * step**-0.1 + float(noise[step - 1])
        epoch = (step - 1) // STEPS_PER_EPOCH + 1
        happened.append(
            ev.StepDone(
                step=step,
                epoch=epoch,
                loss=loss,
                mean_loss=loss,
                accuracy=min(max(1 - loss / 2.5, 0.0), 1.0),
                learning_rate=1e-3,
                images_per_s=400.0,
                elapsed=step * 0.3,
            )
        )
        if step % STEPS_PER_EPOCH == 0:
            happened.append(
                ev.EpochDone(
                    epoch=epoch,
                    step=step,
                    loss=loss,
                    accuracy=0.5,
                    val_loss=loss + 0.1,
                    val_accuracy=0.5,
                    learning_rate=1e-3,
                    seconds=117.0,
                    images_per_s=400.0,
                    best=False,
                )
            )
    return happened


def spread(values: Sequence[float], digits: int) -> dict[str, float]:
    """Median, lowest and highest."""
    return {
        "median": round(statistics.median(values), digits),
        "lowest": round(min(values), digits),
        "highest": round(max(values), digits),
    }


class FourCharts(App[None]):
    """Loss and accuracy of one story, twice."""

    CSS = "Grid { grid-size: 2 2; } Chart { height: 1fr; width: 1fr; }"

    def compose(self) -> ComposeResult:
        with Grid():
            for number in range(4):
                yield Chart(("loss", "accuracy")[number % 2], id=f"chart{number}")


async def refresh(rounds: int) -> dict[str, object]:
    """CPU of one refresh: an event comes, curves are smoothed on, all four charts are drawn and put together."""
    happened = recorded_steps(POINTS + rounds)
    story = RunStory(Run(Path("nowhere")))
    for event in happened[: POINTS + 2]:
        story.take(event)
    curves = Curves(story, 0.9)
    app = FourCharts()
    spent = []
    async with app.run_test(size=SIZE) as pilot:
        charts = list(app.query(Chart))
        for event in happened[-rounds:]:
            await pilot.pause()
            gc.collect()
            before = time.process_time()
            story.take(event)
            series = curves.series("step")
            for chart in charts:
                chart.show(Picture(series=series[chart.name or ""], left=0, right=float(story.step)))
            app.screen._compositor.render_strips()
            spent.append(1000 * (time.process_time() - before))
    return {"points": [4, POINTS], "size": SIZE, "rounds": rounds, "cpu_ms": spread(spent, 1)}


class OneRun(App[None]):
    """Opens a run."""

    settings = Settings()


async def open_run(rounds: int) -> dict[str, object]:
    """Seconds until all events are on the screen, and the longest that a key would have waited meanwhile."""
    waited, longest = [], []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        run.recipe_file.write_text(load_recipe("plain12_bn").to_toml())
        happened = recorded_steps(EVENTS)[:EVENTS]
        run.events_file.write_bytes(b"".join(event.model_dump_json().encode() + b"\n" for event in happened))
        size = run.events_file.stat().st_size
        for _ in range(rounds):
            app = OneRun()
            async with app.run_test(size=SIZE):
                screen = RunScreen(run)
                began = last = time.perf_counter()
                gaps = []
                await app.push_screen(screen)
                while screen.story.behind or not screen.story.version:
                    await asyncio.sleep(0)
                    now = time.perf_counter()
                    gaps.append(now - last)
                    last = now
                app.screen._compositor.render_strips()
                waited.append(time.perf_counter() - began)
                longest.append(1000 * max(gaps, default=0.0))
    return {
        "events": EVENTS,
        "megabytes": round(size / 1e6, 1),
        "rounds": rounds,
        "seconds": spread(waited, 2),
        "longest_ms_without_a_key": spread(longest, 0),
    }


MEASURES = {"refresh": (refresh, 40), "open": (open_run, 5)}


def main() -> None:
    """Measure one thing and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=MEASURES)
    parser.add_argument("--rounds", type=int)
    asked = parser.parse_args()
    measure, rounds = MEASURES[asked.measure]
    figures = asyncio.run(measure(asked.rounds or rounds))
    versions = {name: importlib.metadata.version(name) for name in ("textual", "rich", "numpy", "pydantic")}
    setting = {"python": platform.python_version(), **versions, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(json.dumps({"measure": asked.measure, **figures, **setting}, indent=2))


if __name__ == "__main__":
    main()
