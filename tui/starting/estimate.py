"""How long an epoch takes here and how much memory, from what has been measured here. Nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kerascnn.data.known import DATASETS
from kerascnn.errors import KerascnnError
from kerascnn.recipe import Recipe
from kerascnn.wording import duration
from tui.drawing.stack import stack
from tui.reading.ledger import Entry


@dataclass(frozen=True)
class Estimate:
    """What a run is likely to cost. None is what isn't known yet."""

    epoch_s: float | None = None
    memory_bytes: int | None = None
    basis: str = ""
    """Where the time comes from: a run of the same network, or of another one by its multiply-adds."""

    def sentence(self) -> str:
        """The estimate as it is shown."""
        if self.epoch_s is None:
            return "time and memory are not known yet: nothing has run here to go by"
        memory = f", {self.memory_bytes / 1e9:.1f} GB" if self.memory_bytes else "; memory not known yet"
        return f"about {_rough(self.epoch_s)} an epoch here{memory}, from {self.basis}"


def estimate(recipe: Recipe, backend: str, entries: Sequence[Entry], machine: dict[str, Any]) -> Estimate:
    """What a run of this recipe costs on this machine.

    Time comes from the longest run of the same network on the same backend, else of any network on it, else of any
    run, scaled by images and multiply-adds: a short one mostly measures its first steps. Memory comes only from runs of
    the same network, backend and batch size.

    Args:
        recipe: the run to be.
        backend: what it is to run on.
        entries: the runs so far.
        machine: this machine, as ``environment.json`` describes one.
    """
    images = training_images(recipe)
    cost = _multiply_adds(recipe)
    measured = [entry for entry in entries if entry.seconds_per_image and _was_here(entry, machine)]
    if images is None or not cost or not measured:
        return Estimate()
    same = [entry for entry in measured if (entry.model, entry.backend) == (recipe.name, backend)]
    alike = same or [entry for entry in measured if entry.backend == backend] or measured
    for entry in sorted(alike, key=lambda entry: (entry.images_seen, entry.started), reverse=True):
        its = _recipe_of(entry)
        its_cost = _multiply_adds(its) if its else 0
        if its_cost and entry.seconds_per_image:
            validating = validation_images(recipe) * (entry.seconds_per_validation_image or 0.0)
            seconds = (images * entry.seconds_per_image + validating) * cost / its_cost
            runs = f"the longest of {len(same)} runs" if len(same) > 1 else "1 run"
            basis = f"{runs} of {recipe.name} on {backend}"
            if not same:
                basis = f"{entry.model} on {entry.backend} by multiply-adds"
            return Estimate(seconds, _memory(recipe, same), basis)
    return Estimate()


def training_images(recipe: Recipe) -> int | None:
    """How many images an epoch has, where that is known without reading the dataset."""
    known = DATASETS.get(recipe.dataset)
    images = known.train_images if known else recipe.train.limit_train
    if images is None:
        return None
    images = int(images * (1 - recipe.train.val_split)) if known else images
    return min(images, recipe.train.limit_train or images)


def validation_images(recipe: Recipe) -> int:
    """How many images a validation has, 0 where that isn't known without reading the dataset."""
    known = DATASETS.get(recipe.dataset)
    if known is None:
        return recipe.train.limit_val or 0
    split = recipe.train.val_split
    images = int(known.train_images * split) if split else known.test_images
    return min(images, recipe.train.limit_val or images)


def _rough(seconds: float) -> str:
    """Two digits are all that an estimate is good for."""
    if seconds < 10:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 120:
        return f"{round(seconds)} s"
    return duration(round(seconds / 60) * 60).removesuffix(" 00 s")


def _was_here(entry: Entry, machine: dict[str, Any]) -> bool:
    its = entry.run.environment().get("machine")
    return isinstance(its, dict) and all(its.get(key) == machine.get(key) for key in ("processor", "cores"))


def _recipe_of(entry: Entry) -> Recipe | None:
    try:
        return entry.run.recipe()
    except KerascnnError:
        return None


def _multiply_adds(recipe: Recipe) -> int:
    return sum(line.multiply_adds for line in stack(recipe))


def _memory(recipe: Recipe, same: Sequence[Entry]) -> int | None:
    """The most that a run of the same network, backend and batch size has used; memory doesn't scale with work."""
    peaks = []
    for entry in same:
        its = _recipe_of(entry)
        if its is not None and its.train.batch_size == recipe.train.batch_size and its.dataset == recipe.dataset:
            peak = entry.run.result().get("figures", {}).get("peak_memory_bytes")
            peaks += [peak] if isinstance(peak, int) else []
    return max(peaks, default=None)
