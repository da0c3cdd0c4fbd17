"""A lecture's folder as the interface finds it, with curves of our own making."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from kerascnn.lecture.argument import Step, the_argument
from kerascnn.lecture.folder import LectureFolder, Settings, StepRun
from kerascnn.lecture.running import recipe_of
from kerascnn.runs import events as ev
from kerascnn.runs.directory import create_run
from tests.tui_runs import BEGAN

QUICK = Settings(budget="quick")
STEPS = 300

Loss = Callable[[int], float]


def learning(step: int) -> float:
    """From above chance down to 1.5, away from chance after about 60 steps."""
    return float(1.5 + 1.2 * np.exp(-step / 80))


def slowly(step: int) -> float:
    """The same, but away from chance after about 170 steps."""
    return float(1.9 + 0.8 * np.exp(-step / 150))


def at_chance(step: int) -> float:
    """A little above ln 10, for ever."""
    return 2.31 + 0.005 * float(np.sin(step))


def step_of(name: str) -> Step:
    """A step of the argument."""
    return the_argument().chosen([name])[0]


def train(
    folder: LectureFolder,
    name: str,
    loss: Loss,
    steps: int,
    *,
    end: ev.EndState | None,
    seed: int = 0,
    backend: str = "torch",
) -> StepRun:
    """A training of a step that has come so far, ended as told or left without an end."""
    if not folder.settings_file.exists():
        folder.begin(QUICK)
    settings = folder.settings()
    one = folder.step_run(step_of(name), backend, seed)
    create_run(one.run.path, recipe_of(one.step, settings, seed), ["kerascnn", "lecture", "run"])
    write(one, [*begun(one), *steps_done(loss, 1, steps)])
    if end is not None:
        write(one, [ended(end, steps)])
    return one


def begun(one: StepRun) -> Iterator[ev.Event]:
    """What comes before the first step."""
    yield ev.RunStarted(
        time=BEGAN, model=one.step.model, dataset="cifar10", backend=one.backend, epochs=1, batch_size=64, pid=1
    )
    yield ev.Phase(time=BEGAN, phase="importing")
    yield ev.DataLoaded(
        time=BEGAN, train_images=64 * STEPS, val_images=1000, steps_per_epoch=STEPS, classes=10, where="here"
    )
    yield ev.Phase(time=BEGAN, phase="training", epoch=1)


def steps_done(loss: Loss, first: int, last: int) -> Iterator[ev.Event]:
    """Steps of the first epoch, half a second each."""
    losses = [loss(step) for step in range(1, last + 1)]
    for step in range(first, last + 1):
        yield ev.StepDone(
            time=BEGAN + step / 2,
            step=step,
            epoch=1,
            loss=losses[step - 1],
            mean_loss=float(np.mean(losses[:step])),
            accuracy=0.1,
            learning_rate=1e-3,
            images_per_s=128.0,
            elapsed=step / 2,
        )


def ended(state: ev.EndState, step: int) -> ev.Event:
    """The end of a process."""
    return ev.RunEnded(time=BEGAN + step, state=state, message="", step=step, elapsed=step / 2, exit_code=0)


def write(one: StepRun, happened: list[ev.Event]) -> None:
    """Add events to a training's file, as its process does."""
    writer = ev.EventWriter(one.run.events_file)
    for event in happened:
        writer.write(event)
    writer.close()


def a_lecture(path: Path) -> LectureFolder:
    """A quick lecture with every verdict that a step can have."""
    folder = LectureFolder(path)
    train(folder, "1", learning, 100, end="stopped")
    train(folder, "2", at_chance, STEPS, end="finished")
    train(folder, "4", at_chance, STEPS, end="finished")
    train(folder, "5", at_chance, 40, end="interrupted")
    train(folder, "6", slowly, 220, end="stopped")
    train(folder, "8", learning, 100, end="stopped")
    train(folder, "8", learning, 90, end="stopped", seed=1)
    train(folder, "11b", learning, 100, end="stopped")
    return folder
