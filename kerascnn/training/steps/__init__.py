"""One optimizer step and one validation batch, written for each backend in its own terms.

Keras's ``fit`` can't begin at a batch in the middle of an epoch, be left between two batches, or keep a moving average
without overwriting the weights at its end; these steps leave the loop to the engine. Network, loss and optimizer are
Keras's, or lowered from Keras's (:mod:`kerascnn.training.lowering`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import keras
from keras import ops

from kerascnn.data.formats import Labels, Pixels
from kerascnn.errors import NotLoweredError
from kerascnn.recipe import Train


class Steps(Protocol):
    """What the engine needs of a backend. Losses and counts stay on the device until somebody reads them."""

    execution: str
    """Who computes layers and optimizer: ``keras``, or ``lowered``, see :mod:`kerascnn.training.lowering`."""
    not_lowered: str
    """Why the network couldn't be lowered; empty where it is, where nobody wanted it, and on TensorFlow."""

    def train(self, pixels: Pixels, labels: Labels, *, observe: bool = False) -> tuple[Any, Any, Any]:
        """One optimizer step.

        Args:
            pixels: uint8 ``(batch, height, width, channels)``.
            labels: int64 ``(batch,)``.
            observe: whether the gradients' norms are wanted. A compiled step has them in any case.

        Returns:
            The batch's mean cross-entropy, its number of right answers, and the L2 norms of the loss's gradients by the
            observed variables, as tensors of the backend; None for norms that nobody wanted. What regularizers and
            layers add to the loss is in its gradients alone.
        """

    def evaluate(self, pixels: Pixels, labels: Labels) -> tuple[Any, Any]:
        """The mean cross-entropy and the number of right answers of one batch in inference mode."""


def make_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    train: Train,
    observed: Sequence[int] = (),
    *,
    pixels: str = "uint8",
    execution: str = "auto",
) -> Steps:
    """The steps of the active backend.

    ``observed`` are places among the trainable variables, ``pixels`` is the type that batches come in, ``execution``
    one of :data:`kerascnn.training.backend.EXECUTIONS`.

    Raises:
        NotLoweredError: ``execution`` is ``lowered``, and nothing of the network can be, or the backend is JAX.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        from kerascnn.training.steps.torch import TorchSteps

        return TorchSteps(model, optimizer, train, observed, execution)
    if backend == "tensorflow":
        from kerascnn.training.steps.tensorflow import TensorflowSteps

        return TensorflowSteps(model, optimizer, train, observed, pixels, execution)
    if execution == "lowered":
        raise NotLoweredError(f"a network can be lowered on torch and TensorFlow, and this is {backend}")
    from kerascnn.training.steps.jax import JaxSteps

    return JaxSteps(model, optimizer, train, observed)


def cross_entropy(labels: Any, logits: Any, label_smoothing: float) -> Any:
    """Mean softmax cross-entropy of a batch, in nats.

    With smoothing s the target is 1 - s + s/C for the label and s/C for every other class.
    """
    logits = ops.cast(logits, "float32")
    if not label_smoothing:
        return ops.mean(ops.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    classes = logits.shape[-1]
    target = ops.one_hot(labels, classes) * (1 - label_smoothing) + label_smoothing / classes
    return ops.mean(ops.categorical_crossentropy(target, logits, from_logits=True))


def count_right(labels: Any, logits: Any) -> Any:
    """How many images have their own class as the largest logit."""
    right = ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), ops.cast(labels, "int32"))
    return ops.sum(ops.cast(right, "int32"))


def has_penalties(model: keras.Model) -> bool:
    """Whether layers add something to the loss: regularizers of their weights or of what they pass on."""
    layers = model._flatten_layers(include_self=False)
    return any(getattr(variable, "regularizer", None) is not None for variable in model.trainable_variables) or any(
        getattr(layer, "activity_regularizer", None) is not None for layer in layers
    )


def may_add_losses(model: keras.Model) -> bool:
    """Whether layers may add something to the loss as Keras calls them: for regularizers, or by somebody's own code."""
    layers = model._flatten_layers(include_self=False)
    return has_penalties(model) or any(not type(layer).__module__.startswith("keras.") for layer in layers)


def decayed(variables: list[keras.Variable]) -> list[bool]:
    """Which of the variables weight decay applies to: the kernels, not biases and BatchNorm."""
    return [is_kernel(variable) for variable in variables]


def is_kernel(variable: keras.Variable) -> bool:
    """Whether a variable is a layer's kernel; a separable convolution has two, named ``…_kernel``."""
    return variable.name.endswith("kernel")
