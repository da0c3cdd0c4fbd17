"""What the commands that build a network share: a recipe out of a name and the changes to it, and the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerascnn.catalog import load_recipe
from kerascnn.cli.output import say
from kerascnn.data.dataset import classes_of
from kerascnn.errors import UnknownNameError, UsageError, nearest
from kerascnn.recipe import Recipe
from kerascnn.training.backend import DEVICES


def make_recipe(model: str | None, changes: dict[str, Any], catalog: Path | None) -> Recipe:
    """A network's recipe with the user's changes; for another dataset it gets as many logits as that has classes.

    Raises:
        UsageError: no network is named, none has this name, or a change can't be meant.
    """
    if model is None:
        raise UsageError("expected a MODEL, such as vgg16_cifar; `kerascnn models` lists them")
    if "dataset" in changes and "classes" not in changes:
        classes = classes_of(str(changes["dataset"]))
        if classes is not None and classes != load_recipe(model, catalog=catalog).classes:
            say(f"note: {model} gets {classes} logits for {changes['dataset']}")
            changes = {**changes, "classes": classes}
    return load_recipe(model, changes, catalog=catalog)


def check_device(device: str) -> None:
    """Refuse a device that doesn't exist.

    Raises:
        UnknownNameError: it is none of ours.
    """
    if device not in DEVICES:
        raise UnknownNameError(f"--device: expected {', '.join(DEVICES)}, got {device!r}{nearest(device, DEVICES)}")
