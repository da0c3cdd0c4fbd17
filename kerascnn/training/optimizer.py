"""The recipe's optimizer as Keras's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from kerascnn.recipe import AdamW, Sgd, Train
from kerascnn.training.steps import is_kernel


def make_optimizer(train: Train, variables: list[keras.Variable]) -> keras.optimizers.Optimizer:
    """Build the optimizer for these variables, with clipping, moving average and loss scaling as the recipe says."""
    asked = train.optimizer
    common: dict[str, Any] = {"learning_rate": asked.learning_rate, "name": "optimizer"}
    if train.clip_norm:
        common["global_clipnorm"] = train.clip_norm
    if train.ema:
        common |= {"use_ema": True, "ema_momentum": train.ema, "ema_overwrite_frequency": None}
    optimizer: keras.optimizers.Optimizer
    if isinstance(asked, Sgd):
        optimizer = keras.optimizers.SGD(momentum=asked.momentum, nesterov=asked.nesterov, **common)
    else:
        common |= {"beta_1": asked.beta_1, "beta_2": asked.beta_2, "epsilon": asked.epsilon}
        if isinstance(asked, AdamW):
            optimizer = keras.optimizers.AdamW(weight_decay=asked.decoupled_weight_decay, **common)
            optimizer.exclude_from_weight_decay([v for v in variables if not is_kernel(v)])
        else:
            optimizer = keras.optimizers.Adam(**common)
    if train.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
    optimizer.build(variables)
    return optimizer


@contextmanager
def averaged_weights(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Inside, the model has the moving average of its weights, if the optimizer keeps one; outside, its own."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not inner.use_ema:
        yield
        return
    variables = model.trainable_variables
    own = [ops.convert_to_numpy(variable).copy() for variable in variables]
    for variable, average in zip(variables, inner._model_variables_moving_average, strict=True):
        variable.assign(average)
    try:
        yield
    finally:
        for variable, value in zip(variables, own, strict=True):
            variable.assign(value)
