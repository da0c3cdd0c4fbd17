"""What happens inside a network's layers: which to look at, and what their outputs say about a few images.

Looking changes nothing: no variable, no moving average of BatchNorm, no random generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kerascnn.data.formats import Pixels

# A unit is in the flat part of its activation where the slope is below so much of the steepest.
FLAT = 0.05

Figures = NDArray[np.float64]


@dataclass(frozen=True)
class KernelLayer:
    """A convolution or dense layer, with the output to judge it by: that of the activation that follows.

    ``kernel`` is its place among the model's trainable variables.
    """

    name: str
    kernel: int
    output: keras.KerasTensor
    activation: str


@dataclass(frozen=True)
class Activity:
    """Figures of each kernel layer's output, in their order; NaN where a layer has no such figure.

    ``between_images`` is the root of the variance over the images, its mean over units; ``dead`` the share of channels
    that fire on no image (ReLU); ``saturated`` the share of units in the flat part (sigmoid, tanh).
    """

    between_images: Figures
    dead: Figures
    saturated: Figures


def kernel_layers(model: keras.Model) -> list[KernelLayer]:
    """The layers of a functional model that have a kernel, in the order of the model."""
    places = {id(variable): place for place, variable in enumerate(model.trainable_variables)}
    found = []
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if id(kernel) in places:
            judged = _activation_after(layer)
            found.append(KernelLayer(layer.name, places[id(kernel)], judged.output, _activation_of(judged)))
    return found


def _activation_of(layer: keras.layers.Layer) -> str:
    function = getattr(layer, "activation", None)
    return getattr(function, "__name__", "linear")


def _activation_after(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer whose output tells what this one passes on: itself, or an activation after it, through BatchNorm."""
    following = layer
    while _activation_of(following) == "linear":
        consumers = [node.operation for node in following._outbound_nodes]
        if len(consumers) != 1 or not isinstance(
            consumers[0], (keras.layers.BatchNormalization, keras.layers.Activation)
        ):
            return layer
        following = consumers[0]
    return following


class Probe:
    """Looks at what a network's layers make of a few images, as in training but without dropout."""

    def __init__(self, model: keras.Model, layers: Sequence[KernelLayer], pixels: Pixels) -> None:
        """``pixels`` is a batch ``(images, height, width, channels)`` that stays the same."""
        self._model = keras.Model(model.inputs, [layer.output for layer in layers])
        self._activations = [layer.activation for layer in layers]
        self._pixels = ops.convert_to_tensor(pixels)
        self._figures = _compiled(self._compute)

    def look(self) -> Activity:
        """The figures as the network stands now."""
        groups = (self._model.trainable_variables, self._model.non_trainable_variables)
        values = [[variable.value for variable in group] for group in groups]
        with _without_dropout(self._model):
            table = ops.convert_to_numpy(self._figures(*values, self._pixels)).astype(np.float64)
        return Activity(*table)

    def _compute(self, trainable: list[Any], others: list[Any], pixels: Any) -> Any:
        """A table of three figures by layers."""
        # Without assigning anything: BatchNorm takes this batch's statistics and leaves its averages alone.
        outputs, _ = self._model.stateless_call(trainable, others, pixels, training=True)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        pairs = zip(outputs, self._activations, strict=True)
        columns = [ops.stack(_figures_of(ops.cast(output, "float32"), name)) for output, name in pairs]
        return ops.stack(columns, axis=1)


def _figures_of(output: Any, activation: str) -> list[Any]:
    nothing = ops.convert_to_tensor(np.float32(np.nan))
    between = ops.sqrt(ops.mean(ops.var(output, axis=0)))
    dead = saturated = nothing
    if activation in ("relu", "relu6"):
        highest = ops.max(output, axis=tuple(range(len(output.shape) - 1)))
        dead = ops.mean(ops.cast(highest <= 0, "float32"))
    elif activation == "sigmoid":
        saturated = ops.mean(ops.cast(4 * output * (1 - output) < FLAT, "float32"))
    elif activation == "tanh":
        saturated = ops.mean(ops.cast(1 - output * output < FLAT, "float32"))
    return [between, dead, saturated]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors as the active backend runs it fastest."""
    backend = keras.backend.backend()
    compiled: Callable[..., Any]
    if backend == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(function)
    elif backend == "jax":
        import jax

        compiled = jax.jit(function)
    else:
        import torch

        compiled = torch.no_grad()(function)
    return compiled


@contextmanager
def _without_dropout(model: keras.Model) -> Iterator[None]:
    """Dropout would make images differ that don't."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    rates = [layer.rate for layer in layers]
    for layer in layers:
        layer.rate = 0.0
    try:
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate
