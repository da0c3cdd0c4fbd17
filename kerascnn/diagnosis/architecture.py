"""What a network is, as far as a diagnosis needs it: activations, initial weights, BatchNorm, skips, input scaling."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

    from kerascnn.data.formats import Pixels
    from kerascnn.diagnosis.signals import KernelLayer


@dataclass(frozen=True)
class LayerFacts:
    """One layer with a kernel. ``equal_units`` says that all its units have the same weights."""

    name: str
    kind: str
    activation: str
    initializer: str
    equal_units: bool


@dataclass(frozen=True)
class Architecture:
    """A network's layers with kernels, and what it has besides.

    ``input_mean`` and ``input_deviation`` are of what enters the first of those layers: the images, scaled, or with
    ``features`` what frozen layers before it make of them. ``dropout`` is the largest rate.
    """

    layers: tuple[LayerFacts, ...]
    batch_norm: bool
    skips: bool
    dropout: float
    standardised: bool
    input_mean: float
    input_deviation: float
    features: bool = False

    @property
    def activation(self) -> str:
        """The commonest activation of the hidden layers."""
        return _commonest(layer.activation for layer in self._hidden if layer.activation != "linear")

    @property
    def initializer(self) -> str:
        """The commonest initializer of the hidden layers' kernels."""
        return _commonest(layer.initializer for layer in self._hidden)

    @property
    def _hidden(self) -> tuple[LayerFacts, ...]:
        return self.layers[:-1]

    def has(self, what: str) -> bool:
        """Whether it has what a remedy would bring, by the remedy's ``unless``."""
        activation = self.activation
        return {
            "standardised pixels": self.standardised,
            "BatchNorm": self.batch_norm,
            "He initialisation": self.initializer.startswith("he_"),
            "SiLU": activation == "silu",
            "ReLU": activation == "relu",
            "skips": self.skips,
        }[what]


def read_architecture(model: keras.Model, layers: Sequence[KernelLayer], pixels: Pixels) -> Architecture:
    """Read a network with its initial weights; ``pixels`` are a few of the images that it is to learn."""
    import keras

    from kerascnn.diagnosis.signals import kernel_of, nodes_of, unwrapped
    from kerascnn.training.randomness import largest_dropout

    kinds = {type(node.operation).__name__ for node in nodes_of(model)}
    up_to_first = keras.Model(keras.utils.get_source_inputs(layers[0].input), layers[0].input)
    entering = _output_in_training(up_to_first, pixels)
    return Architecture(
        layers=tuple(_facts(layer) for layer in layers),
        batch_norm=bool(kinds & {"BatchNormalization", "LayerNormalization", "GroupNormalization"}),
        skips=bool(kinds & {"Add", "Concatenate"}),
        dropout=largest_dropout(model),
        standardised=abs(float(entering.mean())) < 0.2 and 0.5 < float(entering.std()) < 2,
        input_mean=float(entering.mean()),
        input_deviation=float(entering.std()),
        features=any(kernel_of(unwrapped(node.operation)) is not None for node in nodes_of(up_to_first)),
    )


def _output_in_training(model: keras.Model, pixels: Pixels) -> Any:
    """With this batch's statistics in BatchNorm, which has no others before a training; nothing is assigned."""
    from keras import ops

    trained, others = (
        [variable.value for variable in group] for group in (model.trainable_variables, model.non_trainable_variables)
    )
    values, _ = model.stateless_call(trained, others, ops.convert_to_tensor(pixels), training=True)
    return np.asarray(ops.convert_to_numpy(ops.stop_gradient(values)), np.float64)


def _facts(layer: KernelLayer) -> LayerFacts:
    from kerascnn.diagnosis.signals import kernel_of, unwrapped

    inner = unwrapped(layer.layer)
    return LayerFacts(
        name=layer.name,
        kind=type(inner).__name__,
        activation=layer.activation,
        initializer=_initializer_of(inner),
        equal_units=_all_equal(kernel_of(inner)),
    )


def _initializer_of(layer: keras.layers.Layer) -> str:
    """By its name in Keras. A separable convolution, which has two, is told by its pointwise kernel's."""
    for kernel in ("kernel", "pointwise", "depthwise"):
        initializer = getattr(layer, f"{kernel}_initializer", None)
        if initializer is not None:
            return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(initializer).__name__).lower()
    return "initial weights of its own"


def _all_equal(kernel: keras.Variable) -> bool:
    """Whether there are several units and all have the same weights; mostly the first two answer it."""
    from keras import ops

    units = kernel.shape[-1]
    others = (ops.all(ops.equal(kernel.value[..., 0], kernel.value[..., other])) for other in range(1, units))
    return units > 1 and all(bool(same) for same in others)


def _commonest(names: Any) -> str:
    counted = Counter(names).most_common(1)
    return counted[0][0] if counted else "linear"
