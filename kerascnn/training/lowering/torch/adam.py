"""Keras's Adam in one pass over the weights, where Keras's own takes ten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import torch
from keras import ops
from keras.src.backend.torch.optimizers.torch_adam import Adam
from keras.src.backend.torch.optimizers.torch_adamw import AdamW

from kerascnn.training.lowering.adam import plain_adam


def fuse_adam(optimizer: keras.optimizers.Optimizer) -> None:
    """Let an Adam or AdamW update its weights by torch's fused kernel. Its state, and any other optimizer, stay."""
    adam = plain_adam(optimizer, (Adam, AdamW))
    if adam is not None:
        adam._backend_update_step = partial(_update, adam)


def _update(adam: Any, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
    weights = [variable._value for variable in variables]
    places = [adam._get_variable_index(variable) for variable in variables]
    # Torch corrects the moments for their start, with epsilon after the correction; Keras has it before, in the rate.
    # After endless steps torch's correction is 1.
    endless = torch.full((), math.inf, device=weights[0].device)
    torch._fused_adam_(
        weights,
        [_lying_like(gradient, weight) for gradient, weight in zip(gradients, weights, strict=True)],
        [adam._momentums[place]._value for place in places],
        [adam._velocities[place]._value for place in places],
        [],
        [endless] * len(weights),
        lr=_corrected_rate(adam, learning_rate, weights[0].dtype),
        beta1=adam.beta_1,
        beta2=adam.beta_2,
        weight_decay=0.0,
        eps=adam.epsilon,
        amsgrad=False,
        maximize=False,
    )


def _corrected_rate(adam: Any, learning_rate: Any, dtype: Any) -> Any:
    """The rate with the correction of both moments, on the device, with Keras's own rounding."""
    step = (adam.iterations._value + 1).to(dtype)
    first, second = (torch.full_like(step, beta) for beta in (adam.beta_1, adam.beta_2))
    return ops.convert_to_tensor(learning_rate).to(dtype) * torch.sqrt(1 - second**step) / (1 - first**step)


def _lying_like(gradient: Any, weight: Any) -> Any:
    """The kernel goes through memory, whatever the strides say."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
