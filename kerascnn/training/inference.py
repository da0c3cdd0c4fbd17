"""A trained run's network, put to use: its architecture from the recipe, its weights from the run, never its code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kerascnn.data.batches import ValidationBatches, read_ahead
from kerascnn.data.dataset import Dataset, is_folder, load_dataset
from kerascnn.data.formats import Pixels
from kerascnn.data.images import LARGEST_PADDING, Shape, adapt, fastest_map, open_image, resize_and_crop
from kerascnn.data.locate import check_data_dir
from kerascnn.errors import NotLoweredError, RunError, reason_of
from kerascnn.machine import usable_cores
from kerascnn.runs.directory import Run
from kerascnn.training import backend as backends

if TYPE_CHECKING:
    import keras

Which = Literal["best", "final"]


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy in nats and share of right answers."""

    loss: float
    accuracy: float
    images: int
    weights: str


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of an image, best first, with their softmax."""

    file: str
    classes: list[tuple[str, float]]


def load_network(run: Run, *, which: Which = "best", backend: str | None = None, device: str = "auto") -> keras.Model:
    """Rebuild a run's network and load its weights.

    Args:
        run: a run with at least one epoch (``best``) or a finished one (``final``).
        which: the epoch with the best validation accuracy, or the last.
        backend: by default the run's own; weights fit every backend.
        device: as for training.

    Raises:
        UnknownNameError: there is no such device.
        BackendError: as in training.
        RunError: the weights aren't there or don't fit.
    """
    backends.check_device(device)
    recipe = run.recipe()
    environment = run.environment()
    weights = run.best_weights_file if which == "best" else run.model_file
    if not weights.is_file():
        need = "one whole epoch" if which == "best" else "a finished run"
        raise RunError(f"{run.path}: expected {weights.name}, which {need} leaves behind")
    choice = backends.choose_backend_for_run(backend, environment.get("backend"))
    backends.activate(choice.name, device)
    from kerascnn.training.initial_weights import build_undrawn

    statistics = environment.get("pixel_statistics") or {}
    model = build_undrawn(recipe, mean=statistics.get("mean"), deviation=statistics.get("deviation"))
    try:
        model.load_weights(weights)
    except Exception as error:
        # Keras, zipfile and HDF5 each raise whatever they stumble over in a damaged file.
        raise RunError(f"{weights}: expected the weights of {recipe.name}: {reason_of(error)}") from None
    return model


def evaluate(
    run: Run,
    model: keras.Model,
    *,
    which: Which = "best",
    data_dir: Path | None = None,
    limit: int | None = None,
    batch_size: int | None = None,
    download: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Loss and accuracy on the run's validation images, or on all of them with ``limit=0``.

    Args:
        run: whose network, dataset and split it is.
        model: from :func:`load_network`.
        which: the weights that it has.
        data_dir: a folder to look for the dataset in first; by default the one that the run was told.
        limit: so many images; by default as many as the run's own validation took.
        batch_size: images at once, by default as many as in training; the figures don't depend on it.
        download: fetch what isn't found.
        tell: hears what was left out, how images are adapted, and that the data isn't what the run was trained on.

    Raises:
        UsageError: there is no such ``data_dir``.
        DatasetError: the dataset isn't here.
    """
    check_data_dir(data_dir)
    recipe = run.recipe()
    wanted = recipe.train.limit_val if limit is None else (limit or None)
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"limit_val": wanted})})
    dataset = load_dataset(
        recipe,
        data_dir=data_dir or run.data_dir(),
        download=download,
        skip_bad_images=run.skips_bad_images(),
        report=tell,
    )
    _tell_of(dataset, run, tell)
    images = dataset.validation
    batches = ValidationBatches(images, batch_size or recipe.train.batch_size)
    compute = _predictor(model)
    loss_sum, right = 0.0, 0
    with closing(read_ahead(batches.make, range(batches.count))) as ready:
        for pixels, labels in ready:
            log_softmax = _log_softmax(compute(pixels))
            loss_sum -= float(log_softmax[np.arange(len(labels)), labels].sum())
            right += int((log_softmax.argmax(axis=1) == labels).sum())
    return Evaluation(loss_sum / len(images), right / len(images), len(images), which)


def _tell_of(dataset: Dataset, run: Run, tell: Callable[[str], None]) -> None:
    for note in dataset.notes:
        tell(note)
    trained_on = run.environment().get("dataset", {}).get("fingerprint")
    if trained_on and trained_on != dataset.fingerprint:
        tell(
            f"{dataset.where}: expected what the run was trained on, and its images (of a folder their names, sizes or "
            "times) are others now: what it was trained on may be among those that it is evaluated on"
        )


def predict(
    run: Run, model: keras.Model, files: Sequence[Path], *, top: int = 5, batch_size: int | None = None
) -> list[Prediction]:
    """The likeliest classes of images in files of any size, ``batch_size`` (the run's own) at once.

    An image near the network's size is padded or cropped as in training, any other resized and cut to the middle.

    Raises:
        DatasetError: a file doesn't decode.
    """
    recipe = run.recipe()
    names = run.environment().get("dataset", {}).get("class_names", [])
    if len(names) != recipe.classes:
        names = [str(number) for number in range(recipe.classes)]
    compute = _predictor(model)
    shape = recipe.input_shape
    decode = partial(as_input, shape=shape, like_training=not is_folder(recipe.dataset))
    batch_size = batch_size or recipe.train.batch_size
    at_once = [files[first : first + batch_size] for first in range(0, len(files), batch_size)]
    predictions = []
    with (
        ThreadPoolExecutor(max_workers=usable_cores(), thread_name_prefix="decode") as pool,
        closing(
            read_ahead(lambda some: np.stack([*fastest_map(pool, some[0], shape)(decode, some)]), at_once)
        ) as ready,
    ):
        for some, pixels in zip(at_once, ready, strict=True):
            for file, softmax in zip(some, np.exp(_log_softmax(compute(pixels))), strict=True):
                order = np.argsort(-softmax, kind="stable")[:top]
                predictions.append(Prediction(str(file), [(names[i], float(softmax[i])) for i in order.tolist()]))
    return predictions


def as_input(file: Path, shape: Shape, *, like_training: bool) -> Pixels:
    """One image file as the network takes it, uint8 of ``shape``.

    ``like_training`` pads or crops an image that is near the network's size, as datasets of arrays are.
    """
    image = open_image(file)
    height, width, _ = shape
    near = max(abs(image.height - height), abs(image.width - width)) <= LARGEST_PADDING
    if not (like_training and near):
        image = resize_and_crop(image, (height, width))
    pixels = np.asarray(image, np.uint8)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    batch = adapt(pixels[None], shape)
    return batch.reshape(shape)


def _predictor(model: keras.Model) -> Callable[[Pixels], Any]:
    """From a batch to its logits, without gradients."""
    import keras

    with suppress(NotLoweredError):
        if keras.backend.backend() == "torch":
            from kerascnn.training.lowering.torch.graph import lay_out, lower

            graph = lower(model)
            lay_out(model.variables)
            return graph.predict
        if keras.backend.backend() == "tensorflow":
            from kerascnn.training.lowering.tensorflow.batch_norm import FusedNetwork

            return FusedNetwork(model).predict
    return model.predict_on_batch


def _log_softmax(outputs: Any) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    logits = np.asarray(outputs, np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    result: np.ndarray[tuple[int, int], np.dtype[np.float64]] = logits - np.log(
        np.exp(logits).sum(axis=1, keepdims=True)
    )
    return result
