"""Run directories with events of our own making, for what reads them."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from kerascnn.catalog import load_recipe
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run
from kerascnn.runs.process import full_name_of_process, identity_of_process

BEGAN = 1_800_000_000.0
STEPS_PER_EPOCH = 40
LAYERS = (*(f"block{group}_conv{index}" for group in (1, 2, 3) for index in (1, 2)), "dense", "logits")


def started(*, epochs: int = 3, pid: int = 4242, format_: int = ev.FORMAT) -> list[ev.Event]:
    """What comes before the first step."""
    return [
        ev.RunStarted(
            time=BEGAN,
            format=format_,
            model="plain12_bn",
            dataset="cifar10",
            backend="torch",
            epochs=epochs,
            batch_size=64,
            pid=pid,
        ),
        ev.Phase(time=BEGAN + 1, phase="importing"),
        ev.DataLoaded(
            time=BEGAN + 3,
            train_images=64 * STEPS_PER_EPOCH,
            val_images=640,
            steps_per_epoch=STEPS_PER_EPOCH,
            classes=10,
            where="a test",
        ),
        ev.Phase(time=BEGAN + 4, phase="training", epoch=1),
    ]


def step(number: int, *, loss: float | None = None, learning_rate: float = 0.001) -> ev.StepDone:
    """A step of a run that learns evenly, one a second."""
    in_epoch = (number - 1) % STEPS_PER_EPOCH + 1
    return ev.StepDone(
        time=BEGAN + 4 + number,
        step=number,
        epoch=(number - 1) // STEPS_PER_EPOCH + 1,
        loss=2.3 * math.exp(-number / 60) + 0.1 * math.sin(number) if loss is None else loss,
        mean_loss=2.3 * math.exp(-number / 60),
        accuracy=1 - 0.9 * math.exp(-(number - in_epoch / 2) / 60),
        learning_rate=learning_rate,
        images_per_s=64.0,
        elapsed=float(number),
    )


def epoch(number: int) -> ev.EpochDone:
    """An epoch of the same run."""
    last = number * STEPS_PER_EPOCH
    return ev.EpochDone(
        time=BEGAN + 4.5 + last,
        epoch=number,
        step=last,
        loss=2.3 * math.exp(-last / 60),
        accuracy=1 - 0.9 * math.exp(-last / 60),
        val_loss=2.4 * math.exp(-last / 80),
        val_accuracy=1 - 0.9 * math.exp(-last / 80),
        learning_rate=0.001,
        seconds=41.0,
        images_per_s=64.0,
        best=True,
    )


def layers(number: int) -> ev.LayerStatistics:
    """Layer figures at a step. One layer dies as the steps go on."""
    count = len(LAYERS)
    return ev.LayerStatistics(
        time=BEGAN + 4 + number,
        step=number,
        layers=LAYERS,
        gradient_norm=tuple(0.03 * 2.0 ** (index - number / 20) for index in range(count)),
        update_over_weight=tuple(1e-3 * (1 + index / 10) for index in range(count)),
        between_images=tuple(1 - index / 10 for index in range(count)),
        dead=tuple(
            min(number / 150, 1.0) if index == 4 else None if index == count - 1 else 0.02 for index in range(count)
        ),
        saturated=(None,) * count,
    )


def finding(number: int) -> ev.Found:
    """What the dead layer is told as."""
    return ev.Found(
        time=BEGAN + 4 + number,
        severity="warning",
        symptom="dead channels",
        layer="block3_conv1",
        step=number,
        cause="61 % of its channels never fire",
        remedies=("a smaller learning rate",),
    )


def control(name: str, number: int, *, id_: str = "", value: float | None = None, epochs: int = 3) -> ev.ControlApplied:
    """A command that was applied after a step."""
    return ev.ControlApplied(
        time=BEGAN + 4 + number,
        id=id_ or f"{name}{number}",
        command=name,
        value=value,
        step=number,
        epochs=epochs,  # type: ignore[arg-type]
    )


def whole_run(*, with_layers: bool = True) -> list[ev.Event]:
    """Three epochs with a pause, a changed learning rate, layer statistics, a finding and an end."""
    happened: list[ev.Event] = started()
    for number in range(1, 3 * STEPS_PER_EPOCH + 1):
        happened.append(step(number, learning_rate=0.001 if number <= 60 else 0.0001))
        if with_layers and number % 10 == 0:
            happened.append(layers(number))
        if number == 30:
            happened += [control("pause", 30), control("resume", 30)]
        if number == 60:
            happened.append(control("set-lr", 60, value=0.0001))
        if number == 90 and with_layers:
            happened.append(finding(90))
        if number % STEPS_PER_EPOCH == 0:
            done = number // STEPS_PER_EPOCH
            happened += [ev.Phase(time=BEGAN + 4.2 + number, phase="validating", epoch=done), epoch(done)]
            if done < 3:
                happened.append(ev.Phase(time=BEGAN + 4.6 + number, phase="training", epoch=done + 1))
    last = 3 * STEPS_PER_EPOCH
    return [
        *happened,
        ev.RunEnded(
            time=BEGAN + 6 + last,
            state="finished",
            message="all 3 epochs are done",
            step=last,
            elapsed=float(last),
            exit_code=0,
        ),
    ]


def record(folder: Path, happened: Iterable[ev.Event], *, model: str = "plain12_bn") -> Run:
    """A run directory that holds these events."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder)
    run.recipe_file.write_text(load_recipe(model).to_toml())
    run.environment_file.write_text('{"backend": "torch"}')
    run.events_file.write_bytes(lines(happened))
    return run


def lines(happened: Iterable[ev.Event]) -> bytes:
    """Events as a file holds them."""
    return b"".join(event.model_dump_json().encode() + b"\n" for event in happened)


def append(run: Run, *happened: ev.Event) -> None:
    """What a live run does."""
    with run.events_file.open("ab") as file:
        file.write(lines(happened))


def own(run: Run, pid: int | None = None, host: str | None = None) -> None:
    """Make a process the run's owner, by default this one of this machine."""
    pid = pid or os.getpid()
    process = identity_of_process(pid) if host is None else "another's"
    content = {"pid": pid, "process": process, "host": host or socket.gethostname()}
    (run.path / "owner.json").write_text(json.dumps(content))


def disown(run: Run) -> None:
    """Leave the run without a process."""
    (run.path / "owner.json").unlink()


def asked_of(run: Run) -> list[tuple[str, float | None]]:
    """What has been asked of a run."""
    if not run.control_file.exists():
        return []
    told = [json.loads(line) for line in run.control_file.read_text().splitlines()]
    assert all(command["process"] in (None, full_name_of_process(os.getpid())) for command in told)
    return [(command["command"], command["value"]) for command in told]
