"""Keras's Adam by TensorFlow's fused kernel, where Keras's own goes over each weight a dozen times."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kerascnn.training.lowering.adam import plain_adam


def fuse_adam(optimizer: keras.optimizers.Optimizer) -> bool:
    """Let an Adam or AdamW that is built update its weights by the fused kernel, which computes Keras's own formula.

    Its state stays. Nothing is changed of any other optimizer, where weights are spread over several devices, or where
    they are of half precision: 1 - beta_2 would be rounded to that.

    Returns:
        Whether it does so now.
    """
    adam = plain_adam(optimizer, (keras.optimizers.Adam, keras.optimizers.AdamW))
    if adam is None or tf.distribute.has_strategy():
        return False
    if any(variable.dtype not in ("float32", "float64") for variable in adam._trainable_variables):
        return False
    adam._backend_update_step = partial(_update, adam)
    return True


def _update(adam: Any, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
    for gradient, variable in zip(gradients, variables, strict=True):
        place, dtype = adam._get_variable_index(variable), variable.dtype
        step = ops.cast(adam.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.value.handle,
            m=adam._momentums[place].value.handle,
            v=adam._velocities[place].value.handle,
            # Keras rounds what it takes powers of to float32 first.
            beta1_power=ops.cast(adam.beta_1, dtype) ** step,
            beta2_power=ops.cast(adam.beta_2, dtype) ** step,
            lr=ops.cast(learning_rate, dtype),
            beta1=tf.constant(adam.beta_1, dtype),
            beta2=tf.constant(adam.beta_2, dtype),
            epsilon=tf.constant(adam.epsilon, dtype),
            grad=ops.cast(gradient, dtype),
        )
