"""What a whole graph allows beyond its layers one by one: the same numbers with less work or less memory traffic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from keras import activations, layers

FRESH = (layers.Add, layers.BatchNormalization, layers.Conv2D)
"""Layers whose output is a tensor of its own that their gradients don't need: it may be overwritten."""
FRESH_GRADIENT = (layers.BatchNormalization, layers.Conv2D, layers.MaxPooling2D)
"""Layers that hand a gradient to their input which nobody else has, as the other half of a sum's would."""


class Readers:
    """Who makes a network's tensors, and who reads them."""

    def __init__(self, nodes: Sequence[Any]) -> None:
        """Look at all calls of a network."""
        self._maker = {id(node.outputs[0]): node for node in nodes}
        self._readers = defaultdict(list)
        for node in nodes:
            for tensor in node.input_tensors:
                self._readers[id(tensor)].append(node)

    def only_maker(self, node: Any) -> Any:
        """The call whose output nobody but ``node`` reads, and which is its first input; None where there is none."""
        tensor = node.input_tensors[0]
        return self._maker.get(id(tensor)) if len(self._readers[id(tensor)]) == 1 else None

    def only_reader(self, node: Any) -> Any:
        """The one call that reads a call's output; None where there are others, or none."""
        readers = self._readers[id(node.outputs[0])]
        return readers[0] if len(readers) == 1 else None


def _is_of(node: Any, *kinds: type) -> bool:
    """Whether there is a call, and it is of one of these layers, not of a subclass."""
    return node is not None and type(node.operation) in kinds


def is_pooled_first(pooling: Any, readers: Readers) -> bool:
    """Whether a call pools means of what a 1×1 convolution gives to nobody else.

    The mean of products with one matrix is the product with the mean. So the pooling may come first, and a window of
    2×2 leaves the convolution a quarter of the work: of a DenseNet's transitions, a tenth of its step.
    """
    maker = readers.only_maker(pooling)
    if not _is_of(pooling, layers.AveragePooling2D) or not _is_of(maker, layers.Conv2D):
        return False
    convolution = maker.operation
    return (
        convolution.kernel_size == convolution.strides == (1, 1) != pooling.operation.strides
        and convolution.activation is activations.linear
        and maker.input_tensors[0].dtype == maker.outputs[0].dtype == pooling.operation.compute_dtype
    )


def is_relu_in_place(node: Any, readers: Readers) -> bool:
    """Whether a call is a ReLU that may overwrite what it is given, and the gradient that comes back to it.

    Half of a ReLU's time, and a fifth of its gradient's, would go into fetching other memory to write to: 3 % of a
    DenseNet's step, and a tenth of its memory.
    """
    maker, reader = readers.only_maker(node), readers.only_reader(node)
    return (
        _is_of(node, layers.Activation)
        and node.operation.activation is activations.relu
        and _is_of(maker, *FRESH)
        and not _is_nothing(maker)
        and getattr(maker.operation, "activation", activations.linear) is activations.linear
        and _is_of(reader, *FRESH_GRADIENT)
        and not _is_nothing(reader)
        and maker.outputs[0].dtype == node.operation.compute_dtype == reader.operation.compute_dtype
    )


def _is_nothing(node: Any) -> bool:
    """Whether a call hands on the very tensor that it is given, and the very gradient."""
    if _is_of(node, layers.Add):
        return len(node.input_tensors) == 1
    return _is_of(node, layers.MaxPooling2D) and node.operation.pool_size == (1, 1)


class _ReluInPlace(torch.autograd.Function):  # type: ignore[misc]
    """ReLU that overwrites its input and, going back, its output's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.mark_dirty(x)
        y = torch.relu_(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)


def relu_in_place(x: Any, *, training: bool) -> Any:
    """See :func:`is_relu_in_place`. On a GPU a call costs more than the memory that it saves."""
    if x.device.type == "cpu" and x.requires_grad:
        return _ReluInPlace.apply(x)
    return torch.relu_(x)
