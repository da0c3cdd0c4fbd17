"""Why a classifier doesn't learn, found out on a copy of it in a short run: the work of ``kerascnn.diagnose``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kerascnn.data.batches import random_for
from kerascnn.data.formats import Labels
from kerascnn.diagnosis.architecture import Architecture, read_architecture
from kerascnn.diagnosis.checks import gives_probabilities, label_score, mixing
from kerascnn.diagnosis.copying import check_kind, ending_in_logarithm, randomness_put_back, trainable_copy
from kerascnn.diagnosis.findings import Finding, find
from kerascnn.diagnosis.measures import MEASURES
from kerascnn.diagnosis.one_batch import memorise_a_few
from kerascnn.diagnosis.outcome import Diagnosis
from kerascnn.diagnosis.record import Chance, Record
from kerascnn.diagnosis.rules import the_rules
from kerascnn.diagnosis.signals import kernel_layers
from kerascnn.errors import reason_of
from kerascnn.recipe import Recipe, Train
from kerascnn.runs import events as ev
from kerascnn.training.imports import tensorflow_left_alone
from kerascnn.training.observer import FIRST_STEPS, Observer, probe_size
from kerascnn.training.overfit import Overfit, Watch
from kerascnn.training.schedule import LearningRate
from kerascnn.training.steps import make_steps

LOOK_EVERY = 20
FEWEST_IMAGES = 32
# By default what Keras's own Adam has.
LEARNING_RATE = 1e-3

Array = NDArray[Any]
Listener = Callable[[ev.Event], None]


def examine(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    optimizer: keras.optimizers.Optimizer | str | None,
    loss: Any = None,
    steps: int,
    batch_size: int,
    seed: int,
    recipe: Recipe | None = None,
    total_steps: int = 0,
    by_heart: bool = True,
    watch: Watch = lambda *_: None,
    listener: Listener,
) -> Diagnosis:
    """As :func:`kerascnn.diagnose`, and for a network of a ``recipe`` as its training would begin.

    Schedule, warm-up, weight decay and label smoothing are then the recipe's, over ``total_steps``, and the remedies
    name the keys to change. ``by_heart``: where the network doesn't learn, let it try one batch alone; ``watch`` is
    called after each of those steps.
    """
    if steps < 1 or batch_size < 1:
        raise ValueError(f"expected steps and batch_size of at least 1, got {steps} and {batch_size}")
    check_kind(model)
    images = _images(x)
    with randomness_put_back(seed):
        network, softmax = trainable_copy(model, images.shape[1:], seed)
        # A model that isn't built has no weights yet: those of its copy are the first ones.
        drawn = None if model.built else [ops.convert_to_numpy(variable.value) for variable in network.weights]
        labels = _labels(y, images, network)
        # Such as the mean of several softmaxes, which no layer at the end tells of.
        probabilities = not softmax and gives_probabilities(network, _few(images))
        if probabilities:
            network = ending_in_logarithm(network)
        chosen = random_for(seed, 0).permutation(len(images))[: max(steps * batch_size, FEWEST_IMAGES)]
        images, labels = images[chosen], labels[chosen]
        if len(np.unique(labels)) == 1:
            raise ValueError(
                f"y: all of the {len(labels):,} images that {steps} steps of {batch_size} see are of class "
                f"{labels[0]}: expected more steps, or images of each class"
            )
        classes = int(network.outputs[0].shape[1])
        with tensorflow_left_alone():
            copy = _copied(optimizer, model)
        record = Record(
            chance=Chance.of_labels(labels, classes),
            architecture=_architecture(network, images),
            base_rate=float(ops.convert_to_numpy(copy.learning_rate)),
            warm_up_steps=recipe.train.warm_up.steps if recipe is not None else _warm_up_steps(copy),
            label_score=label_score(images, labels, classes),
            mixing=mixing(network, _few(images)),
            misfit=_misfit(model, loss, softmax or probabilities),
        )
        schedule = LearningRate(recipe.train, total_steps) if recipe is not None else None
        run = _ShortRun(network, copy, record, recipe, schedule, listener)
        found = run.carry_out(images, labels, steps, min(batch_size, len(images)), seed)
        # A network that learns, or that has left every number, has answered already.
        if not by_heart or record.diverged or (found.healthy and not found.undecided):
            return found
        untrained, _ = trainable_copy(model, images.shape[1:], seed)
        if probabilities:
            untrained = ending_in_logarithm(untrained)
        if drawn is not None:
            untrained.set_weights(drawn)
        with tensorflow_left_alone():
            one_batch = memorise_a_few(untrained, _copied(optimizer, model), images, labels, watch)
        return replace(
            found, one_batch=one_batch, findings=run.findings(one_batch) if not found.healthy else found.findings
        )


class _ShortRun:
    """Trains the copy and keeps what is seen."""

    def __init__(
        self,
        network: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        record: Record,
        recipe: Recipe | None,
        schedule: LearningRate | None,
        listener: Listener,
    ) -> None:
        self._network = network
        self._optimizer = optimizer
        self._record = record
        self._recipe = recipe
        self._schedule = schedule
        self._listener = listener
        self._signals: list[ev.LayerStatistics] = []
        self._losses: list[float] = []
        self._accuracies: list[float] = []

    def carry_out(self, images: Array, labels: Labels, steps: int, batch_size: int, seed: int) -> Diagnosis:
        layers = kernel_layers(self._network)
        self._optimizer.build(self._network.trainable_variables)
        places = [layer.kernel for layer in layers]
        train = self._recipe.train if self._recipe is not None else Train()
        backend = make_steps(self._network, self._optimizer, train, places, pixels=images.dtype.name)
        observer = Observer(self._network, layers, _few(images))
        # The rules read events, here as in a training run.
        self._see(ev.RunStarted(model="", dataset="", backend="", epochs=1, batch_size=batch_size, pid=0))
        self._see(
            ev.DataLoaded(
                train_images=steps * batch_size, val_images=0, steps_per_epoch=steps, classes=0, where="memory"
            )
        )
        total = right = 0.0
        for step, taken in enumerate(_batches(len(images), batch_size, steps, seed), start=1):
            if self._schedule is not None:
                self._optimizer.learning_rate = self._schedule.at(step - 1)
            look = step in FIRST_STEPS or step % LOOK_EVERY == 0 or step == steps
            if look:
                observer.before_step()
            loss, count, norms = backend.train(images[taken], labels[taken], observe=look)
            self._losses.append(float(ops.convert_to_numpy(loss)))
            self._accuracies.append(float(ops.convert_to_numpy(count)) / len(taken))
            total, right = total + self._losses[-1], right + self._accuracies[-1]
            if np.isfinite(total):
                self._see(self._step_done(step, total / step, right / step))
            if look:
                self._signals.append(observer.after_step(step, norms))
                self._see(self._signals[-1])
            if not np.isfinite(total):
                self._see(ev.RunEnded(state="diverged", message="", step=step, elapsed=0.0, exit_code=1))
            if self._record.diverged or self._learns():
                break
        self._record.spent = True
        return Diagnosis(
            findings=self.findings(),
            signals=tuple(self._signals),
            batch_size=batch_size,
            losses=tuple(self._losses),
            accuracies=tuple(self._accuracies),
            chance=self._record.chance,
            architecture=self._record.architecture,
            label_score=self._record.label_score,
            warm_up_steps=self._record.warm_up_steps,
        )

    def findings(self, one_batch: Overfit | None = None) -> tuple[Finding, ...]:
        """What the figures say, with what became of one batch where somebody tried it."""
        if one_batch is not None:
            self._record.one_batch_error = 1 - one_batch.accuracy
            self._record.one_batch_steps = one_batch.steps
        return tuple(finding.for_recipe(self._recipe) for finding in find(self._record))

    def _step_done(self, step: int, mean_loss: float, accuracy: float) -> ev.StepDone:
        return ev.StepDone(
            step=step,
            epoch=1,
            loss=self._losses[-1],
            mean_loss=mean_loss,
            accuracy=accuracy,
            learning_rate=float(ops.convert_to_numpy(self._optimizer.learning_rate)),
            images_per_s=0.0,
            elapsed=0.0,
        )

    def _see(self, event: ev.Event) -> None:
        self._record.see(event)
        self._listener(event)

    def _learns(self) -> bool:
        gate = the_rules().gate
        window = self._record.window(gate.window)
        if window is None or window.loss > gate.learnt_share * self._record.chance.loss:
            return False
        largest = MEASURES["largest step"](self._record)
        return largest is None or largest.value <= gate.steady_step


def _batches(count: int, batch_size: int, steps: int, seed: int) -> Iterator[Array]:
    """Places of whole batches, an epoch's order drawn anew each time."""
    an_epoch = count // batch_size
    for step in range(steps):
        epoch, number = divmod(step, an_epoch)
        order = random_for(seed, 1, epoch).permutation(count)
        yield order[number * batch_size : (number + 1) * batch_size]


def _architecture(network: keras.Model, images: Array) -> Architecture:
    layers = kernel_layers(network)
    if not layers:
        raise ValueError("expected a model with trainable convolutions or dense layers, got none")
    return read_architecture(network, layers, _few(images))


def _few(images: Array) -> Array:
    """The images that the layers are judged by."""
    height, width, channels = images.shape[1:] if images.ndim == 4 else (1, 1, 1)
    return images[: probe_size((height, width, channels))]


def _images(x: Any) -> Array:
    if isinstance(x, dict) or (isinstance(x, (list, tuple)) and x and len(np.shape(x[0])) > 3):
        raise ValueError(f"x: expected one array of images, got a {type(x).__name__} of {len(x)}")
    images = np.asarray(x)
    if images.dtype.kind not in "uifb" or images.ndim < 2:
        raise ValueError(f"x: expected numbers of shape (images, …), got {images.dtype} of shape {images.shape}")
    if len(images) < FEWEST_IMAGES:
        raise ValueError(f"x: expected at least {FEWEST_IMAGES} images, got {len(images)}")
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    if images.dtype == np.float32 and not np.isfinite(images).all():
        broken = int((~np.isfinite(images)).sum())
        raise ValueError(f"x: expected finite numbers, got NaN or infinity in {broken:,} of {images.size:,} places")
    return images


def _labels(y: Any, images: Array, network: keras.Model) -> Labels:
    expected = tuple(network.inputs[0].shape[1:])
    if len(expected) != images.ndim - 1 or any(
        size not in (None, got) for size, got in zip(expected, images.shape[1:], strict=True)
    ):
        raise ValueError(f"x: expected images of shape {expected}, got {images.shape[1:]}")
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != len(images):
        hint = "; `y.argmax(axis=1)` makes classes of one-hot rows" if labels.ndim == 2 else ""
        raise ValueError(f"y: expected {len(images)} classes, one an image, got shape {np.shape(y)}{hint}")
    if labels.dtype.kind not in "ui":
        raise ValueError(f"y: expected integers, got {labels.dtype}")
    classes = int(network.outputs[0].shape[1])
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        raise ValueError(f"y: expected classes from 0 to {classes - 1}, got {lowest} to {highest}")
    if lowest == highest:
        raise ValueError(f"y: expected at least two classes, got {lowest} alone")
    return labels.astype(np.int64)


def _copied(asked: keras.optimizers.Optimizer | str | None, model: keras.Model) -> keras.optimizers.Optimizer:
    """An optimizer like the one that is asked for, or the model's own, without its state."""
    if asked is None:
        asked = getattr(model, "optimizer", None) if getattr(model, "compiled", False) else None
    if asked is None:
        return keras.optimizers.Adam(learning_rate=LEARNING_RATE)
    if isinstance(asked, str):
        return keras.optimizers.get(asked)
    if not isinstance(asked, keras.optimizers.Optimizer):
        raise ValueError(f"optimizer: expected one of Keras's or its name, got {type(asked).__name__}")
    if isinstance(asked, keras.optimizers.LossScaleOptimizer):
        return _wrapped_like(asked, _copied(asked.inner_optimizer, model))
    config = asked.get_config()
    schedule = getattr(asked, "_learning_rate", None)
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        # It has no state, and somebody's own can't be found by its name.
        config["learning_rate"] = schedule
    try:
        copy: keras.optimizers.Optimizer = type(asked).from_config(config)
    except Exception as error:
        # Whatever somebody's own optimizer stumbles over.
        raise ValueError(f"optimizer: it can't be copied: {reason_of(error)}") from error
    return copy


def _wrapped_like(
    asked: keras.optimizers.LossScaleOptimizer, inner: keras.optimizers.Optimizer
) -> keras.optimizers.LossScaleOptimizer:
    """The wrapper that `compile` puts around the optimizer of a model in mixed precision."""
    config = {name: value for name, value in asked.get_config().items() if name != "inner_optimizer"}
    return type(asked)(inner, **config)


def _warm_up_steps(optimizer: keras.optimizers.Optimizer) -> int:
    """Those of a Keras schedule that begins with a warm-up."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return int(getattr(getattr(optimizer, "_learning_rate", None), "warmup_steps", None) or 0)


def _misfit(model: keras.Model, asked: Any, probabilities: bool) -> bool:
    """Whether a loss takes the model's logits for probabilities, or its probabilities for logits."""
    if asked is None:
        asked = getattr(model, "loss", None) if getattr(model, "compiled", False) else None
    if isinstance(asked, dict):
        asked = list(asked.values())
    # Keras takes a list or a dict of losses by their outputs, of which there is one here.
    if isinstance(asked, (list, tuple)) and len(asked) == 1:
        asked = asked[0]
    if asked is None:
        return False
    if not isinstance(asked, (keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy)):
        name = asked if isinstance(asked, str) else getattr(asked, "__name__", type(asked).__name__)
        if name not in CROSS_ENTROPIES:
            expected = "sparse_categorical_crossentropy or categorical_crossentropy"
            raise ValueError(f"loss: expected {expected}, got {name!r}")
    from_logits = getattr(asked, "from_logits", None)
    if from_logits is None:
        from_logits = getattr(asked, "_fn_kwargs", {}).get("from_logits", False)
    return bool(from_logits) == probabilities


CROSS_ENTROPIES = (
    "sparse_categorical_crossentropy",
    "categorical_crossentropy",
    "SparseCategoricalCrossentropy",
    "CategoricalCrossentropy",
)
