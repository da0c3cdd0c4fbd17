"""Looks into the layers while a network trains, no oftener than a small share of the time allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerascnn.data.formats import Pixels
from kerascnn.data.images import Shape
from kerascnn.diagnosis.signals import Activity, Figures, KernelLayer, Probe
from kerascnn.runs import events as ev

# Of the time since the last look, at most so much is spent on the next.
SHARE = 0.005
# The beginning, where networks die, is looked at in any case.
FIRST_STEPS = (1, 2, 5, 10, 20)
PROBE_IMAGES = 32
# Larger images are fewer, so that the outputs of all layers fit beside a training batch.
PROBE_PIXELS = 32 * 64 * 64
FEWEST_IMAGES = 8
# Of a larger kernel, as VGG16 for ImageNet has, so many weights tell how far a step moved them: a copy of all would be
# a quarter of the memory that its training takes.
MOST_WEIGHTS = 2**22


def probe_size(shape: Shape) -> int:
    """How many images of a shape to look at."""
    return max(FEWEST_IMAGES, min(PROBE_IMAGES, PROBE_PIXELS // (shape[0] * shape[1])))


class Observer:
    """Says before a step whether to look, and after it what was seen."""

    def __init__(
        self,
        model: keras.Model,
        layers: Sequence[KernelLayer],
        pixels: Pixels,
        clock: Callable[[], float] = time.monotonic,
        first_steps: Sequence[int] | None = None,
    ) -> None:
        """Look at these layers of a model that is trained.

        Args:
            model: the network.
            layers: its layers with a kernel.
            pixels: the few images that the layers' outputs are judged by.
            clock: seconds.
            first_steps: what is looked at in any case, by default :data:`FIRST_STEPS`.
        """
        self._layers = layers
        # Keras gathers this list anew each time it is asked.
        variables = model.trainable_variables
        self._kernels = [variables[layer.kernel] for layer in self._layers]
        self._probe = Probe(layers, pixels) if layers else None
        self._clock = clock
        self._first_steps = FIRST_STEPS if first_steps is None else first_steps
        self._before: list[Any] = []
        self._activity: Activity | None = None
        self._last = clock()
        self._cost = 0.0
        self._spent = 0.0

    def wants(self, step: int) -> bool:
        """Whether to look at this step, counted from 1."""
        if self._probe is None:
            return False
        return step in self._first_steps or (self._clock() - self._last) * SHARE >= self._cost

    def before_step(self) -> None:
        """Look at the weights that the step's gradients will belong to, and keep the kernels as they are."""
        assert self._probe is not None
        began = self._clock()
        self._activity = self._probe.look()
        self._before = [ops.copy(_of_some_units(kernel)) for kernel in self._kernels]
        self._spent = self._clock() - began

    def after_step(self, step: int, gradient_norms: Any) -> ev.LayerStatistics:
        """What the step saw and did.

        Args:
            step: the step that was done, counted from 1.
            gradient_norms: L2 norms of the gradients of the layers' kernels, in their order.
        """
        assert self._activity is not None
        began = self._clock()
        updates = ops.convert_to_numpy(
            ops.stack([_change(a, b) for a, b in zip(self._kernels, self._before, strict=True)])
        )
        self._before = []
        activity, self._activity = self._activity, None
        now = self._clock()
        # The first look compiles; only what the next ones cost counts.
        self._cost = self._spent + now - began if self._cost else 1e-9
        self._last = now
        return ev.LayerStatistics(
            step=step,
            layers=tuple(layer.name for layer in self._layers),
            gradient_norm=_figures(ops.convert_to_numpy(gradient_norms)),
            update_over_weight=_figures(updates),
            between_images=_figures(activity.between_images),
            dead=_figures(activity.dead, missing=True),
            saturated=_figures(activity.saturated, missing=True),
        )


def _of_some_units(kernel: keras.Variable) -> Any:
    """A kernel, or where it is large the weights of some of its units, evenly spread."""
    every = -(-math.prod(kernel.shape) // MOST_WEIGHTS)
    return kernel.value[..., ::every]


def _change(kernel: keras.Variable, before: Any) -> Any:
    """The norm of the change over the norm of the kernel, in float32."""
    old = ops.cast(before, "float32")
    change = ops.cast(_of_some_units(kernel), "float32") - old
    return ops.sqrt(ops.sum(change * change) / ops.maximum(ops.sum(old * old), 1e-30))


def _figures(values: Figures | Sequence[float], *, missing: bool = False) -> tuple[float | None, ...]:
    """Four digits are enough to look at; NaN is a figure that a layer doesn't have, where it may miss."""
    numbers = [float(f"{value:.4g}") for value in np.asarray(values).tolist()]
    return tuple(None if missing and math.isnan(number) else number for number in numbers)
