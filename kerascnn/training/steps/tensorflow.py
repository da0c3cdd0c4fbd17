"""Steps on TensorFlow, each traced once to a graph for batches of any size."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from kerascnn.data.formats import Labels, Pixels
from kerascnn.errors import NotLoweredError
from kerascnn.recipe import Train
from kerascnn.training.lowering.tensorflow.adam import fuse_adam
from kerascnn.training.lowering.tensorflow.batch_norm import FusedNetwork
from kerascnn.training.steps import count_right, cross_entropy, decayed, has_penalties, may_add_losses


class TensorflowSteps:
    """See :class:`kerascnn.training.steps.Steps`."""

    execution = "keras"
    not_lowered = ""

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        train: Train,
        observed: Sequence[int],
        pixels: str,
        execution: str,
    ) -> None:
        """Lower the network and its optimizer, as far as that goes, unless ``execution`` is ``keras``.

        Raises:
            NotLoweredError: ``execution`` is ``lowered``, and there is nothing to lower.
        """
        self._model = model
        self._compute: Callable[..., Any] = model
        self._adds_losses = may_add_losses(model)
        if execution != "keras":
            if fuse_adam(optimizer):
                self.execution = "lowered"
            # Regularizers add to the loss as Keras calls the layers.
            if not has_penalties(model):
                with contextlib.suppress(NotLoweredError):
                    self._compute, self.execution = FusedNetwork(model), "lowered"
        if execution == "lowered" and self.execution != "lowered":
            raise NotLoweredError(f"{model.name}: neither BatchNorm nor Adam to fuse")
        self._optimizer = optimizer
        self._recipe = train
        self._variables = model.trainable_variables
        self._observed = observed
        self._decayed = decayed(self._variables)
        signature = [
            tf.TensorSpec((None, *model.input_shape[1:]), tf.as_dtype(pixels)),
            tf.TensorSpec((None,), tf.int64),
        ]
        self._train = tf.function(self._train_eagerly, input_signature=signature)
        self._evaluate = tf.function(self._evaluate_eagerly, input_signature=signature)

    def train(self, pixels: Pixels, labels: Labels, *, observe: bool = False) -> tuple[Any, Any, Any]:
        loss, right, norms = self._train(tf.constant(pixels), tf.constant(labels))
        return loss, right, norms

    def evaluate(self, pixels: Pixels, labels: Labels) -> tuple[Any, Any]:
        loss, right = self._evaluate(tf.constant(pixels), tf.constant(labels))
        return loss, right

    def _train_eagerly(self, x: Any, y: Any) -> tuple[Any, Any, Any]:
        with tf.GradientTape() as tape:
            logits = self._compute(x, training=True)
            loss = cross_entropy(y, logits, self._recipe.label_smoothing)
            penalised = loss + sum(self._model.losses) if self._adds_losses else loss
            scaled = self._optimizer.scale_loss(penalised)
        gradients = tape.gradient(scaled, [variable.value for variable in self._variables])
        # The gradients are those of the scaled loss.
        scale = self._optimizer.scale_loss(tf.constant(1.0))
        norms = tf.stack([_norm(gradients[place]) / scale for place in self._observed])
        if self._recipe.weight_decay:
            decay = self._optimizer.scale_loss(tf.constant(self._recipe.weight_decay))
            gradients = [
                gradient + decay * variable if wanted and gradient is not None else gradient
                for gradient, variable, wanted in zip(gradients, self._variables, self._decayed, strict=True)
            ]
        self._optimizer.apply(gradients, self._variables)
        return loss, count_right(y, logits), norms

    def _evaluate_eagerly(self, x: Any, y: Any) -> tuple[Any, Any]:
        logits = self._compute(x, training=False)
        return cross_entropy(y, logits, 0.0), count_right(y, logits)


def _norm(gradient: Any) -> Any:
    """A kernel that the loss doesn't depend on has no gradient."""
    return tf.constant(0.0) if gradient is None else tf.norm(tf.cast(gradient, tf.float32))
