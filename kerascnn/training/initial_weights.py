"""The same initial weights on every backend: drawn with NumPy, keyed by the seed and the variable's name."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kerascnn.recipe import Recipe
from kerascnn.zoo import BUILDERS, build_model

# A normal distribution cut at two deviations has this deviation.
TRUNCATED_DEVIATION = 0.87962566103423978


def assign_initial_weights(model: keras.Model, seed: int) -> list[str]:
    """Replace each kernel's initial values by a draw that depends on the seed and its name alone.

    Variables that start from a constant (biases, BatchNorm) keep it. Dropout's random generators are seeded likewise.

    Returns:
        Paths of the variables whose initializer has no NumPy form here; they keep the backend's own draw.
    """
    unknown, kernels = [], []
    for layer in _innermost_layers(model):
        for variable in layer.weights:
            initializer = _initializer(layer, variable.name)
            if isinstance(initializer, keras.initializers.VarianceScaling):
                kernels.append((variable, initializer, random_for(seed, f"{layer.name}/{variable.name}")))
            elif initializer is not None and not isinstance(
                initializer, (keras.initializers.Zeros, keras.initializers.Ones, keras.initializers.Constant)
            ):
                unknown.append(f"{layer.name}/{variable.name}")
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            number = random_for(seed, f"{layer.name}/seed").integers(0, 2**31)
            generator.state.assign(np.array([number, 0], dtype=np.int64))
    # Each has a generator of its own, and NumPy draws without Python's lock.
    with ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="draw") as pool:
        values = pool.map(lambda each: draw(each[1], each[0].shape, each[2]).astype(np.float32), kernels)
        for (variable, _, _), drawn in zip(kernels, values, strict=True):
            variable.assign(drawn)
    return unknown


def build_undrawn(
    recipe: Recipe, *, mean: Sequence[float] | None = None, deviation: Sequence[float] | None = None
) -> keras.Model:
    """Build what gets its kernels afterwards: they begin as zeros, and Keras draws nothing that is thrown away.

    On torch it would draw four numbers for each of a truncated normal's, 2.2 GB for VGG16's 138 million weights.
    Somebody else's builder may have kernels that nobody assigns, and so it keeps Keras's draw. Arguments and errors are
    those of :func:`kerascnn.zoo.build_model`.
    """
    with _no_draw() if recipe.builder in BUILDERS else nullcontext():
        return build_model(recipe, mean=mean, deviation=deviation)


@contextmanager
def _no_draw() -> Iterator[None]:
    scaled: Any = keras.initializers.VarianceScaling
    drawn = scaled.__call__
    scaled.__call__ = lambda _, shape, dtype=None: ops.zeros(shape, dtype)
    try:
        yield
    finally:
        scaled.__call__ = drawn


def draw(
    initializer: keras.initializers.VarianceScaling, shape: Sequence[int], random: np.random.Generator
) -> NDArray[np.float64]:
    """Draw from Glorot's, He's or LeCun's distribution, as Keras defines them.

    Var W = scale / n, n the inputs of a unit (``fan_in``), its outputs, or their mean (``fan_avg``): 1 / fan_avg by
    Glorot and Bengio (2010), 2 / fan_in by He et al. (2015), 1 / fan_in by LeCun et al. (1998). Keras's normal
    distributions are cut at two deviations and widened to keep the variance; PyTorch's ``kaiming_normal_`` isn't cut.
    """
    receptive = math.prod(shape[:-2])
    fan_in, fan_out = (shape[-2] * receptive, shape[-1] * receptive) if len(shape) > 1 else (shape[0], shape[0])
    n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[initializer.mode]
    deviation = math.sqrt(initializer.scale / max(1.0, n))
    if initializer.distribution == "uniform":
        limit = math.sqrt(3) * deviation
        return random.uniform(-limit, limit, size=tuple(shape))
    if initializer.distribution == "untruncated_normal":
        return random.normal(0, deviation, size=tuple(shape))
    return truncated_normal(random, tuple(shape)) * (deviation / TRUNCATED_DEVIATION)


def truncated_normal(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal values, those beyond two deviations drawn again."""
    values = random.standard_normal(math.prod(shape))
    outside = np.flatnonzero(np.abs(values) > 2)
    while outside.size:
        values[outside] = random.standard_normal(outside.size)
        outside = outside[np.abs(values[outside]) > 2]
    return values.reshape(shape)


def random_for(seed: int, name: str) -> np.random.Generator:
    """A generator of its own for each name, the same on every machine."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, key])))


def _innermost_layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [
        layer for layer in model._flatten_layers(include_self=False) if not layer._flatten_layers(include_self=False)
    ]


def _initializer(layer: keras.layers.Layer, variable_name: str) -> object | None:
    """The initializer behind a variable: Keras names the attribute after the variable, but for the separable ones."""
    names = [variable_name, variable_name.removesuffix("_kernel")] + ["depthwise"] * (variable_name == "kernel")
    found = (getattr(layer, f"{name}_initializer", None) for name in names)
    return next((initializer for initializer in found if initializer is not None), None)
