"""A network's BatchNorm by TensorFlow's fused kernel, where Keras composes it of many operations.

Every other layer is Keras's own call, which TensorFlow's graph runs about as fast as what is written by hand
(docs/results.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from keras.src.models.functional import Functional, operation_fn

from kerascnn.data.formats import Pixels
from kerascnn.errors import NotLoweredError

Call = Callable[..., Any]

IMAGE_RANK = 4
"""Dimensions of a batch of images."""


class FusedNetwork:
    """Computes what a Keras network computes, over the network's own variables."""

    def __init__(self, model: Functional) -> None:
        """Take a functional network.

        Raises:
            NotLoweredError: it is of another kind, or has no BatchNorm that the fused kernel computes.
        """
        if type(model) is not Functional:
            raise NotLoweredError(f"{model.name}: expected a functional network")
        self._model = model
        self._fused = {id(layer) for layer in model.layers if is_fusible(layer)}
        if not self._fused:
            raise NotLoweredError(f"{model.name}: no BatchNorm to fuse")
        self._predict = tf.function(
            partial(self, training=False), input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8)]
        )

    def __call__(self, pixels: Any, *, training: bool = False) -> Any:
        """The network's output.

        Args:
            pixels: a tensor ``(batch, height, width, channels)``.
            training: as Keras's own.
        """

        def call_of(operation: Any) -> Call:
            # The gradient through a frozen one's fixed statistics has no repeatable kernel on a GPU.
            if id(operation) in self._fused and (operation.trainable or not training):
                # What it was called with besides is Keras's default; images have no mask.
                return lambda images, **_: batch_norm(operation, images, training=training)
            call: Call = operation_fn(operation, training=training)
            return call

        inputs = self._model._standardize_inputs(pixels)
        (output,) = keras.tree.flatten(self._model._run_through_graph(inputs, operation_fn=call_of))
        return output

    def predict(self, pixels: Pixels) -> Any:
        """The network's output for a batch in inference mode, as an array."""
        return self._predict(tf.constant(pixels)).numpy()


def is_fusible(layer: Any) -> bool:
    """Whether the fused kernel computes what this layer does: BatchNorm of images over their channels, in float32."""
    if type(layer) is not keras.layers.BatchNormalization:
        return False
    asked: Any = layer
    # A layer that is called more than once has no single input.
    inputs = [x for node in asked._inbound_nodes for x in node.input_tensors]
    by_channel = asked.axis in (-1, IMAGE_RANK - 1) and all(len(x.shape) == IMAGE_RANK for x in inputs)
    return by_channel and asked.variable_dtype == "float32" and not asked.renorm and not asked.synchronized


def batch_norm(layer: Any, images: Any, *, training: bool) -> Any:
    """A BatchNorm layer's output; in training its moving statistics follow, as Keras's do.

    Args:
        layer: one that :func:`is_fusible`.
        images: ``(batch, height, width, channels)``, of any float type: Keras computes in float32, and so does this.
        training: whether the batch's own statistics count.
    """
    x = tf.cast(images, tf.float32)
    channels = x.shape[-1]
    gamma = tf.ones(channels) if layer.gamma is None else layer.gamma.value
    beta = tf.zeros(channels) if layer.beta is None else layer.beta.value
    mean, variance = layer.moving_mean, layer.moving_variance
    # TensorFlow's function around the kernel would raise a small epsilon; the kernel wants no statistics in training.
    statistics = (tf.zeros(0), tf.zeros(0)) if training else (mean.value, variance.value)
    y, batch_mean, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=gamma,
        offset=beta,
        mean=statistics[0],
        variance=statistics[1],
        epsilon=layer.epsilon,
        is_training=training,
    )
    y = tf.cast(y, layer.compute_dtype)
    if not training:
        return y
    count = tf.cast(tf.size(x) // channels, tf.float32)
    # Keras divides the variance by n, the kernel by n - 1.
    biased = unbiased * (tf.maximum(count - 1, 1) / count)
    for moving, now in ((mean, batch_mean), (variance, biased)):
        moving.assign(moving * layer.momentum + now * (1 - layer.momentum))
    return y
