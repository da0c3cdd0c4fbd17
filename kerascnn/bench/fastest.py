"""Which installed backend trains a network fastest on this machine: measured once, then remembered."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from kerascnn.bench.measuring import LostError, PassingError, Trainer, Variant
from kerascnn.data.locate import cache_folder
from kerascnn.errors import BackendError
from kerascnn.machine import machine, nvidia_gpus, usable_cores
from kerascnn.recipe import Recipe
from kerascnn.runs.files import write_text
from kerascnn.training import backend as backends
from kerascnn.training.allocator import asked_allocator

Tell = Callable[[str], None]

AUTO = "auto"
# All backends together have so long, imports and tracing included, and each an equal part of what is left; each trains
# so long.
WITHIN_S = 60.0
TRAINED_S = 3.0
# What a step's speed doesn't depend on.
_NO_MATTER = {"name", "family", "summary", "paper", "dataset", "card"}
_NO_MATTER_IN_TRAIN = {
    "epochs",
    "seed",
    "schedule",
    "warm_up",
    "early_stopping",
    "val_split",
    "limit_train",
    "limit_val",
}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "CUDA_VISIBLE_DEVICES")


class Speeds(BaseModel):
    """What was measured of one network: images a second, and why a backend has no figure."""

    model: str
    images_per_s: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    left_out: dict[str, str]
    passing: bool = Field(default=False, exclude=True)
    """Whether one of them might have a figure the next time."""

    def sentence(self) -> str:
        """The figures in words."""
        figures = [f"{name}: {rate:,.0f} images/s" for name, rate in self.images_per_s.items()]
        return ", ".join([*figures, *(f"{name} left out: {reason}" for name, reason in self.left_out.items())])


class Remembered(BaseModel):
    """The cache's file. ``made_by`` is what all figures in it depend on."""

    made_by: dict[str, Any]
    networks: dict[str, Speeds] = {}


def fastest_backend(recipe: Recipe, device: str, tell: Tell) -> str:
    """The backend to train a recipe's network on here.

    Measures once for each network, batch size, set of versions and number of threads; what it finds is kept in the
    cache folder, in ``speeds.json``.

    Args:
        recipe: what is to be trained.
        device: as for training.
        tell: is told what was measured, and what follows from it.

    Raises:
        BackendError: no backend is installed, or none of them trains this network.
    """
    installed = backends.installed_backends()
    if len(installed) < 2:
        only = backends.choose_backend(installed[0] if installed else None).name
        tell(f"only {only} is installed: nothing to measure")
        return only
    file = cache_folder() / "speeds.json"
    made_by, key = circumstances(installed, device), fingerprint(recipe)
    remembered = read(file, made_by)
    speeds = remembered.networks.get(key)
    if speeds is None:
        tell(f"measuring {', '.join(installed)} with {recipe.name}, up to {WITHIN_S:.0f} s")
        speeds = measure(recipe, installed, device)
        if not speeds.images_per_s:
            raise BackendError(f"--backend auto: {speeds.sentence()}; --backend {installed[0]} goes without measuring")
        remembered.networks[key] = speeds
        if speeds.passing:
            where = "not remembered: the next time may be quieter"
        else:
            where = f"remembered in {file}" if keep(file, remembered) else f"not remembered: {file} can't be written"
    else:
        where = f"as remembered in {file}"
    name = max(speeds.images_per_s, key=lambda name: speeds.images_per_s[name])
    tell(f"{speeds.sentence()}; taking {name}, {where}")
    return name


def measure(recipe: Recipe, names: Sequence[str], device: str) -> Speeds:
    """Train on each backend for a moment, one after the other: only one of them needs memory at a time."""
    speeds = Speeds(model=recipe.name, images_per_s={}, left_out={})
    end = time.monotonic() + WITHIN_S
    for number, name in enumerate(names):
        now = time.monotonic()
        until = now + (end - now) / (len(names) - number)
        try:
            with Trainer(Variant(name, "kerascnn", name), recipe, device) as trainer:
                trainer.start(until)
                # Its last block counts: what a network needs once is over by then.
                steps, seconds = trainer.warm_up(TRAINED_S, until)
                speeds.images_per_s[name] = steps * recipe.train.batch_size / seconds
        except LostError as lost:
            speeds.left_out[name] = str(lost)
            speeds.passing |= isinstance(lost, PassingError)
    return speeds


def circumstances(installed: Sequence[str], device: str) -> dict[str, Any]:
    """What makes all figures void when it changes."""
    return {
        "processor": machine()["processor"],
        "cores": usable_cores(),
        "threads": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
        "device": device,
        "gpus": nvidia_gpus(),
        "allocator": asked_allocator(),
        "versions": {name: backends.versions(name) for name in installed},
    }


def fingerprint(recipe: Recipe) -> str:
    """The same for recipes whose steps cost the same."""
    kept = recipe.model_dump(mode="json", exclude=_NO_MATTER)
    kept["train"] = {key: value for key, value in kept["train"].items() if key not in _NO_MATTER_IN_TRAIN}
    kept["train"]["optimizer"].pop("learning_rate")
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def read(file: Path, made_by: dict[str, Any]) -> Remembered:
    """What is remembered and still holds: nothing, where something else made the file."""
    try:
        remembered = Remembered.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return Remembered(made_by=made_by)
    return remembered if remembered.made_by == made_by else Remembered(made_by=made_by)


def keep(file: Path, remembered: Remembered) -> bool:
    """Write the file, and say whether that could be done: without it the next run measures again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, remembered.model_dump_json(indent=2) + "\n")
    except OSError:
        return False
    return True
