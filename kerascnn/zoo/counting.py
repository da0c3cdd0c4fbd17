"""The counts on a network's card."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Counts:
    """Sizes of a network; ``multiply_adds`` is for one forward pass of one image."""

    trainable_weights: int
    total_weights: int
    multiply_adds: int


def count(model: keras.Model) -> Counts:
    """Count the weights of a built model and the multiply-adds of its convolutions and dense layers."""
    return Counts(
        trainable_weights=sum(math.prod(v.shape) for v in model.trainable_weights),
        # The state of a dropout's random generator is a variable but not a weight.
        total_weights=sum(math.prod(v.shape) for v in model.weights if not v.path.endswith("seed_generator_state")),
        multiply_adds=sum(_multiply_adds(layer) for layer in model.layers),
    )


def _multiply_adds(layer: keras.layers.Layer) -> int:
    if isinstance(layer, keras.layers.Conv2D):
        _, rows, columns, _ = layer.output.shape
        return math.prod(layer.kernel.shape) * rows * columns
    if isinstance(layer, keras.layers.Dense):
        return math.prod(layer.kernel.shape)
    return 0
