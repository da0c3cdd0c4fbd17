"""What ``kerascnn diagnose`` is asked about: a network of a catalog, or one out of a file, with images for it.

Importing this module imports no Keras; its functions do.
"""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascnn.data.batches import random_for
from kerascnn.data.dataset import Dataset, absolute, classes_of, require
from kerascnn.data.formats import Labels, Pixels
from kerascnn.data.statistics import constants_of
from kerascnn.errors import UsageError, reason_of
from kerascnn.machine import free_memory
from kerascnn.recipe import Recipe
from kerascnn.training import backend as backends
from kerascnn.training.overfit import Watch
from kerascnn.training.session import Options, read_dataset

Tell = Callable[[str], None]

if TYPE_CHECKING:
    import keras

    from kerascnn.diagnosis.diagnose import Listener
    from kerascnn.diagnosis.outcome import Diagnosis


class Examiner:
    """Diagnoses a recipe's network, and changed forms of it, all on the same images, which are loaded once."""

    def __init__(self, recipe: Recipe, options: Options, *, steps: int, tell: Tell = lambda _: None) -> None:
        """Import the backend and load the images of ``steps`` steps at the most; ``tell`` hears how they are adapted.

        Raises:
            BackendError, DatasetError: the backend or the dataset isn't here.
        """
        backends.activate(backends.choose_backend(options.backend).name, options.device)
        self.steps = steps
        self._dataset = read_dataset(recipe, options, tell)
        self._images = _some(self._dataset, steps * recipe.train.batch_size, recipe.train.seed)

    def diagnose(
        self,
        recipe: Recipe,
        listener: Listener = lambda _: None,
        *,
        by_heart: bool = True,
        watch: Watch = lambda *_: None,
    ) -> Diagnosis:
        """Diagnose a network with its initial weights, its optimizer, batch and seed.

        ``by_heart``: where it doesn't learn, let it try one batch alone; ``watch`` is called after each of those steps
        with its number, its loss and its accuracy.

        Raises:
            RecipeError: its builder rejects the recipe.
            UsageError: there are too few images.
        """
        from kerascnn.training.network import initial_model
        from kerascnn.training.optimizer import make_optimizer

        model = initial_model(recipe, constants_of(recipe, self._dataset))
        optimizer = make_optimizer(recipe.train, model.trainable_variables)
        train = recipe.train
        an_epoch = -(-len(self._dataset.train) // train.batch_size)
        # What the last network leaves behind refers to itself, and stays in memory until it is looked for.
        gc.collect()
        return _diagnose(
            model,
            self._images,
            train.batch_size,
            train.seed,
            self.steps,
            listener,
            recipe=recipe,
            optimizer=optimizer,
            total_steps=train.epochs * an_epoch,
            by_heart=by_heart,
            watch=watch,
        )


def diagnose_recipe(recipe: Recipe, options: Options, *, steps: int, listener: Listener) -> Diagnosis:
    """Diagnose a recipe's network with its initial weights, its optimizer, batch and seed.

    Raises:
        BackendError, DatasetError: the backend or the dataset isn't here.
        UsageError: there are too few images.
    """
    return Examiner(recipe, options, steps=steps).diagnose(recipe, listener)


def diagnose_file(
    path: Path,
    dataset: str,
    options: Options,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    unit: bool,
    listener: Listener,
    watch: Watch = lambda *_: None,
    tell: Tell = lambda _: None,
) -> Diagnosis:
    """Diagnose a network out of a ``.keras`` file, with the weights that are in it and the optimizer it was saved with.

    Args:
        path: a file of layers that come with Keras; it is never allowed to bring code.
        dataset: a name or ``folder:PATH``; its images are adapted to the network's input.
        options: backend, device, where data lies.
        steps: of the short run.
        batch_size: images in a step.
        seed: of the choice and the order of images.
        unit: give the network pixels from 0 to 1 instead of 0 to 255.
        listener: called with each event of the short run.
        watch: called after each step on one batch alone.
        tell: hears which backend it is, and how the images are adapted.

    Raises:
        UsageError: it is no such file, or the network can't be diagnosed or fed with the dataset.
        BackendError, DatasetError: the backend or the dataset isn't here.
    """
    choice = backends.choose_backend(options.backend)
    tell(f"{path.name} with {choice.name} ({choice.reason})")
    backends.activate(choice.name, options.device)
    model = _read_model(path, tell)
    if not model.built:
        raise UsageError(f"{path}: expected a model that knows the shape of its input; build it before it is saved")
    if len(model.inputs) != 1:
        raise UsageError(f"{path}: expected a model with one input, got {len(model.inputs)}")
    shape = tuple(model.inputs[0].shape[1:])
    if len(shape) != 3 or None in shape or shape[2] not in (1, 3):
        raise UsageError(f"{path}: expected an input of height, width and 1 or 3 channels, got {shape}")
    name = absolute(dataset)
    require(name, options.data_dir, download=options.download)
    classes = classes_of(name) or model.outputs[0].shape[-1]
    recipe = Recipe(name="network", builder="file", dataset=name, input_shape=shape, classes=classes)
    scaled = np.dtype(np.float32) if unit else None
    pixels, labels = _some(read_dataset(recipe, options, tell), steps * batch_size, seed, scaled)
    fed = np.divide(pixels, 255, dtype=scaled) if unit else pixels
    return _diagnose(model, (fed, labels), batch_size, seed, steps, listener, watch=watch)


def _diagnose(
    model: keras.Model,
    images: tuple[Any, Labels],
    batch_size: int,
    seed: int,
    steps: int,
    listener: Listener,
    *,
    recipe: Recipe | None = None,
    optimizer: keras.optimizers.Optimizer | None = None,
    total_steps: int = 0,
    by_heart: bool = True,
    watch: Watch,
) -> Diagnosis:
    from kerascnn.diagnosis.diagnose import examine

    try:
        return examine(
            model,
            *images,
            optimizer=optimizer,
            steps=steps,
            batch_size=batch_size,
            seed=seed,
            recipe=recipe,
            total_steps=total_steps,
            by_heart=by_heart,
            watch=watch,
            listener=listener,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _some(dataset: Dataset, count: int, seed: int, scaled: np.dtype[np.float32] | None = None) -> tuple[Pixels, Labels]:
    """Images to be diagnosed on; ``scaled`` is what they will be turned into, if they are."""
    chosen = random_for(seed, 0).permutation(len(dataset.train))[:count]
    # They are in memory all at once, and once more in the order of the short run.
    bytes_each = 2 if scaled is None else 1 + 2 * scaled.itemsize
    needed, there = bytes_each * len(chosen) * math.prod(dataset.train.shape), free_memory()
    if needed > there:
        raise UsageError(
            f"{len(chosen):,} images of {'×'.join(map(str, dataset.train.shape))} take {needed / 1e9:.1f} GB, and "
            f"{there / 1e9:.1f} GB are free: fewer --steps or a smaller --batch-size; `kerascnn train` finds the same "
            "while it trains, and reads its images as it goes"
        )
    return dataset.train.read(chosen), dataset.train.labels[chosen]


def _read_model(path: Path, tell: Tell) -> keras.Model:
    import keras

    if path.suffix != ".keras":
        raise UsageError(f"--keras: expected a file NAME.keras, got {path}")
    if not path.is_file():
        raise UsageError(f"--keras: expected a file at {path}, and there is none")
    try:
        with warnings.catch_warnings():
            # The diagnosis begins with an optimizer without state, as one that was compiled and never trained has.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            try:
                model = keras.models.load_model(path, safe_mode=True)
            except (TypeError, ValueError):
                # It may be only what it was compiled with that isn't Keras's: a loss, a metric.
                model = keras.models.load_model(path, safe_mode=True, compile=False)
                tell(f"{path.name}: what it was compiled with can't be read, so it gets Keras's own Adam")
    except Exception as error:
        # Keras, zipfile and HDF5 each raise whatever they stumble over in a file that isn't theirs.
        raise UsageError(f"{path}: expected a model of Keras's own layers: {reason_of(error)}") from None
    for layer in model._flatten_layers(include_self=False):
        if not type(layer).__module__.startswith("keras."):
            raise UsageError(f"{path}: expected layers that come with Keras, got {type(layer).__name__} ({layer.name})")
    return model
