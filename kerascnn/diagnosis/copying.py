"""A copy of somebody's classifier that can be trained while the model itself stays as it is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from kerascnn.diagnosis.signals import activation_of, graph_of, kernel_of, nodes_of
from kerascnn.training.backend import tensorflow_left_alone


@contextmanager
def randomness_put_back(seed: int) -> Iterator[None]:
    """Inside, what draws without a seed of its own draws from ``seed``; outside, the process's generators go on."""
    python = random.getstate()
    random.seed(seed)
    try:
        with ExitStack() as stack:
            if keras.backend.backend() == "torch":
                import torch

                # Of all devices, as the seed is.
                stack.enter_context(torch.random.fork_rng())
                torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)


def trainable_copy(model: keras.Model, shape: tuple[int, ...], seed: int) -> tuple[keras.Model, bool]:
    """A copy with the same weights that ends in logits, as one graph of layers.

    The second value says whether the model itself ends in a softmax.

    Args:
        model: functional or sequential, one input, one output of a logit or a probability a class.
        shape: of one image, for a sequential model that isn't built.
        seed: of dropout's masks.

    Raises:
        ValueError: the model is of another kind, or one of its layers can't be copied.
    """
    if not isinstance(model, keras.Sequential) and not hasattr(model, "_run_through_graph"):
        raise ValueError(f"expected a functional or sequential model, got {_kind(model)}: its layers can't be followed")
    copy = _clone(model)
    if not copy.built:
        copy.build((None, *shape))
    if model.built:
        _take_weights(copy, model)
    for number, layer in enumerate(copy._flatten_layers(include_self=False)):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(np.array([seed % 2**31, number], dtype=np.int64))
    graph = graph_of(copy)
    for what, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        if len(tensors) != 1:
            raise ValueError(f"expected a model with one {what}, got {len(tensors)}")
    return _ending_in_logits(graph)


def _clone(model: keras.Model) -> keras.Model:
    for layer in model._flatten_layers(include_self=False):
        followed = isinstance(layer, keras.Sequential) or hasattr(layer, "_run_through_graph")
        if isinstance(layer, keras.Model) and not followed:
            raise ValueError(f"{layer.name}: expected a functional or sequential model inside, got {_kind(layer)}")
    try:
        with tensorflow_left_alone():
            copy: keras.Model = keras.models.clone_model(model)
    except Exception as error:
        # Whatever a layer's own code stumbles over when it is made again from its configuration.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"the model can't be copied to be trained: {reason}") from error
    return copy


def _take_weights(copy: keras.Model, model: keras.Model) -> None:
    theirs, ours = model.weights, copy.weights
    if [tuple(v.shape) for v in theirs] != [tuple(v.shape) for v in ours]:
        raise ValueError("the model can't be copied to be trained: its copy has other weights")
    for own, other in zip(ours, theirs, strict=True):
        own.assign(ops.convert_to_numpy(other.value))
    for layer in copy._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _ending_in_logits(graph: keras.Model) -> tuple[keras.Model, bool]:
    output = graph.outputs[0]
    last = next(node for node in nodes_of(graph) if any(tensor is output for tensor in node.outputs))
    activation = activation_of(last.operation)
    if activation in ("sigmoid", "hard_sigmoid", "tanh"):
        raise ValueError(f"expected logits or a softmax at the end, got {activation} of {last.operation.name}")
    if activation == "softmax":
        if kernel_of(last.operation) is None:
            output = last.input_tensors[0]
        else:
            last.operation.activation = keras.activations.linear
    if len(output.shape) != 2 or output.shape[1] is None or output.shape[1] < 2:
        raise ValueError(f"expected an output of shape (images, classes), at least 2 classes, got {output.shape}")
    return keras.Model(graph.inputs, output), activation == "softmax"


def _kind(model: Any) -> str:
    return type(model).__name__
