"""A zoo of convolutional networks, written once in Keras 3, trained exactly and live on torch, TensorFlow or JAX.

>>> import kerascnn
>>> recipe = kerascnn.load_recipe("cnn2_fmnist", {"dataset": "fashion_mnist_mini", "train.epochs": 1})
>>> result = kerascnn.train(recipe)  # doctest: +SKIP

Importing this package imports no backend; :func:`build_model` and :func:`train` do, the one that ``KERAS_BACKEND``
names, or else the one that Keras runs on already, or else the first that is installed.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from kerascnn.diagnosis import BATCH_SIZE, STEPS
from kerascnn.errors import (
    BackendError,
    CheckpointError,
    DatasetError,
    KerascnnError,
    RecipeError,
    RunError,
    UnknownNameError,
    UsageError,
)

if TYPE_CHECKING:
    import keras

    from kerascnn.catalog import list_models, load_recipe
    from kerascnn.diagnosis.findings import Finding
    from kerascnn.diagnosis.outcome import Diagnosis
    from kerascnn.recipe import Recipe
    from kerascnn.runs.directory import Run, open_run
    from kerascnn.runs.events import Listener
    from kerascnn.training.rate_finder import RateSweep, find_learning_rate
    from kerascnn.training.session import Options, Result, resume, train

# Imported when they are first asked for: the terminal UI paints, and the command's help prints, without them.
_LATER = {
    "list_models": "kerascnn.catalog",
    "load_recipe": "kerascnn.catalog",
    "Recipe": "kerascnn.recipe",
    "Diagnosis": "kerascnn.diagnosis.outcome",
    "Finding": "kerascnn.diagnosis.findings",
    "RateSweep": "kerascnn.training.rate_finder",
    "find_learning_rate": "kerascnn.training.rate_finder",
    "Options": "kerascnn.training.session",
    "Result": "kerascnn.training.session",
    "resume": "kerascnn.training.session",
    "train": "kerascnn.training.session",
    "Run": "kerascnn.runs.directory",
    "open_run": "kerascnn.runs.directory",
}

__all__ = [
    "BackendError",
    "CheckpointError",
    "DatasetError",
    "Diagnosis",
    "Finding",
    "KerascnnError",
    "Options",
    "RateSweep",
    "Recipe",
    "RecipeError",
    "Result",
    "Run",
    "RunError",
    "UnknownNameError",
    "UsageError",
    "build_model",
    "diagnose",
    "find_learning_rate",
    "list_models",
    "load_recipe",
    "open_run",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("kerascnn")
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def build_model(
    name_or_recipe: str | os.PathLike[str] | Recipe,
    *,
    mean: list[float] | None = None,
    deviation: list[float] | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Build a network of the zoo with its initial weights, the same on every backend.

    Args:
        name_or_recipe: a name out of :func:`list_models`, or a recipe.
        mean: mean pixel per channel of the training images, 0 to 255; needed by ``scaling = "standardize"``.
        deviation: deviation per channel, 0 to 255.
        seed: of the initial weights; by default the recipe's.

    Returns:
        A functional ``keras.Model`` from raw pixels, uint8 or float from 0 to 255 of shape
        ``(batch, height, width, channels)``, to logits of shape ``(batch, classes)``.

    Raises:
        UnknownNameError: no network has this name.
        BackendError: the backend isn't installed.
    """
    from kerascnn.catalog import load_recipe
    from kerascnn.recipe import Recipe
    from kerascnn.training.backend import activate, choose_backend

    recipe = name_or_recipe if isinstance(name_or_recipe, Recipe) else load_recipe(os.fspath(name_or_recipe))
    activate(choose_backend().name)

    from kerascnn.training.initial_weights import build_initial

    if recipe.train.scaling == "standardize" and mean is None:
        raise UsageError(
            f"{recipe.name} standardises its pixels: expected mean= and deviation= of the training images, 0 to 255, "
            "or the override train.scaling = 'unit'"
        )
    return build_initial(recipe, recipe.train.seed if seed is None else seed, mean=mean, deviation=deviation)


def diagnose(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    optimizer: keras.optimizers.Optimizer | str | None = None,
    loss: Any = None,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    listener: Listener = lambda _: None,
) -> Diagnosis:
    """Find out whether a classifier learns, and if not, why.

    A copy is trained for some steps; the model, its optimizer and its random generators stay as they are, to the bit.

    Args:
        model: functional or sequential, compiled or not, with one input and a logit or a probability a class.
        x: what the model takes, shape ``(images, …)``, of any number type.
        y: the classes, integers from 0, shape ``(images,)``.
        optimizer: by default the compiled model's, or else Adam with a learning rate of 1e-3. It is copied as well.
        loss: a cross-entropy over the classes; by default the compiled model's. What it says of logits and
            probabilities is held against the model's output; the copy is trained by the loss that fits.
        steps: at most so many; fewer where the network plainly learns.
        batch_size: images in a step.
        seed: of the batches' order and of dropout.
        listener: called with each event of the short run.

    Returns:
        The findings, the likeliest first, with the figures.

    Raises:
        ValueError: the model, the images or the labels aren't of these kinds.
    """
    if "keras" not in sys.modules:
        # Then it is no model of Keras's, which is told below.
        from kerascnn.training.backend import activate, choose_backend

        activate(choose_backend().name)
    from kerascnn.diagnosis.diagnose import examine

    return examine(
        model, x, y, optimizer=optimizer, loss=loss, steps=steps, batch_size=batch_size, seed=seed, listener=listener
    )
