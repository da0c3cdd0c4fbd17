"""A copy of somebody's classifier that can be trained while the model itself stays as it is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from kerascnn.diagnosis.signals import Node, activation_of, graph_of, kernel_of, nodes_of
from kerascnn.errors import reason_of
from kerascnn.training.imports import tensorflow_left_alone

# What may come after a softmax and leaves its probabilities as they are: layers, and operations by their class.
PASSING = ("Activation", "Identity", "Reshape", "Flatten", "Squeeze", "Cast")


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
    check_kind(model)
    _check_shared(model)
    copy = _clone(model)
    if not copy.built:
        copy.build((None, *shape))
    if model.built:
        _take_weights(copy, model)
    for number, layer in enumerate(copy._flatten_layers(include_self=False)):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(np.array([seed % 2**31, number], dtype=np.int64))
    _name_apart(copy)
    graph = graph_of(copy)
    _check_ends(graph)
    return _ending_in_logits(graph)


def ending_in_logarithm(network: keras.Model) -> keras.Model:
    """The same network on the logarithm of its probabilities.

    These are logits: a softmax gives the probabilities back, and the cross-entropy over it is theirs.
    """
    return keras.Model(network.inputs, _Logarithm()(network.outputs[0]))


class _Logarithm(keras.layers.Layer):
    """In float32, and cut off where Keras's loss cuts off, which takes a gradient away where the model's is."""

    def __init__(self) -> None:
        # No layer of somebody's has this name.
        super().__init__(name="kerascnn_logarithm", dtype="float32")

    def call(self, probabilities: Any) -> Any:
        least = keras.config.epsilon()
        return ops.log(ops.clip(probabilities, least, 1 - least))


def check_kind(model: keras.Model) -> None:
    """Tell what can be followed and trained, before anything is copied.

    Raises:
        ValueError: the model is neither functional nor sequential, has several inputs or outputs, or all is frozen.
    """
    if not isinstance(model, keras.Sequential) and not hasattr(model, "_run_through_graph"):
        raise ValueError(f"expected a functional or sequential model, got {_kind(model)}: its layers can't be followed")
    if model.built:
        _check_ends(model)
    if not model.trainable_variables and (model.built or not model.trainable):
        raise ValueError("expected a model with weights to train, got none: is its `trainable` or its layers' False?")


def _check_ends(model: keras.Model) -> None:
    for what, tensors in (("input", model.inputs), ("output", model.outputs)):
        if len(tensors) != 1:
            raise ValueError(f"expected a model with one {what}, got {len(tensors)}")


def _check_shared(model: keras.Model) -> None:
    """Keras copies a model inside a model by itself: a layer of both becomes two."""
    of_model: dict[int, str] = {}
    for part in (model, *model._flatten_layers(include_self=False)):
        if isinstance(part, keras.Model):
            for layer in {id(layer): layer for layer in part.layers if layer.weights}.values():
                if of_model.setdefault(id(layer), part.name) != part.name:
                    raise ValueError(
                        f"{layer.name}: expected a layer that is used in the model or in one model inside it, got one "
                        f"that {of_model[id(layer)]} and {part.name} share: the copy that is trained can't share it"
                    )


def _clone(model: keras.Model) -> keras.Model:
    layers = model._flatten_layers(include_self=False)
    for layer in layers:
        followed = isinstance(layer, keras.Sequential) or hasattr(layer, "_run_through_graph")
        if isinstance(layer, keras.Model) and not followed:
            raise ValueError(f"{layer.name}: expected a functional or sequential model inside, got {_kind(layer)}")
    # A Lambda's function is here already; out of a configuration Keras takes it for code that came with a file.
    lambdas = any(isinstance(layer, keras.layers.Lambda) for layer in layers)
    options: dict[str, Any] = {"clone_function": _made_again, "recursive": True} if lambdas else {}
    try:
        with tensorflow_left_alone(), _as_if_not_compiled([model, *layers]):
            copy: keras.Model = keras.models.clone_model(model, **options)
    except Exception as error:
        # Whatever a layer's own code stumbles over when it is made again from its configuration.
        raise ValueError(f"the model can't be copied to be trained: {reason_of(error)}") from error
    theirs = {id(variable) for variable in model.variables}
    if any(id(variable) in theirs for variable in copy.variables):
        raise ValueError(
            "the model can't be copied to be trained: its copy has weights that are the model's own; a layer's "
            "`get_config` hands over a layer, where it should hand over what that is made from"
        )
    return copy


@contextmanager
def _as_if_not_compiled(layers: Sequence[Any]) -> Iterator[None]:
    """Keras would make metrics, loss and optimizer again for the copy, which needs none and fails on somebody's own."""
    compiled: list[Any] = [layer for layer in layers if getattr(layer, "compiled", False)]
    for model in compiled:
        model.compiled = False
    try:
        yield
    finally:
        for model in compiled:
            model.compiled = True


def _made_again(layer: keras.layers.Layer) -> keras.layers.Layer:
    if not isinstance(layer, keras.layers.Lambda):
        return type(layer).from_config(layer.get_config())
    return keras.layers.Lambda(
        layer.function,
        output_shape=layer._output_shape,
        mask=layer.mask,
        arguments=layer.arguments,
        name=layer.name,
        dtype=layer.dtype_policy,
    )


def _name_apart(copy: keras.Model) -> None:
    """Give what shares a name in models inside one of its own: one graph of all layers can't have both."""
    taken: set[str] = set()
    # Once each: a model inside may be used several times.
    for operation in {id(one): one for one in _operations(copy)}.values():
        name, number = operation.name, 1
        while name in taken:
            number += 1
            name = f"{operation.name}_{number}"
        operation.name = name
        taken.add(name)


def _operations(model: keras.Model) -> list[Any]:
    """What a model is made of, its own before that of models inside."""
    own: list[Any] = []
    inside: list[keras.Model] = []
    for operation in getattr(getattr(model, "_functional", model), "operations", ()):
        (inside if isinstance(operation, keras.Model) else own).append(operation)
    return own + [operation for one in inside for operation in _operations(one)]


def _take_weights(copy: keras.Model, model: keras.Model) -> None:
    theirs, ours = model.weights, copy.weights
    if [tuple(v.shape) for v in theirs] != [tuple(v.shape) for v in ours]:
        raise ValueError("the model can't be copied to be trained: its copy has other weights")
    trained = {id(variable) for variable in model.trainable_variables}
    for own, other in zip(ours, theirs, strict=True):
        own.assign(ops.convert_to_numpy(other.value))
        # A weight can be frozen by itself, whatever its layer says.
        own.trainable = id(other) in trained
    for layer in copy._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _ending_in_logits(graph: keras.Model) -> tuple[keras.Model, bool]:
    output = graph.outputs[0]
    last, after = _last_that_computes(graph)
    activation = activation_of(last.operation)
    if activation in ("sigmoid", "hard_sigmoid", "tanh"):
        raise ValueError(f"expected logits or a softmax at the end, got {activation} of {last.operation.name}")
    if activation == "softmax" and kernel_of(last.operation) is not None:
        # One that is a layer has to go before a function can take its place.
        del last.operation.activation
        last.operation.activation = keras.activations.linear
    elif activation == "softmax":
        output = last.input_tensors[0]
        for node in after:
            output = node.operation(output)
    if len(output.shape) != 2 or output.shape[1] is None or output.shape[1] < 2:
        raise ValueError(f"expected an output of shape (images, classes), at least 2 classes, got {output.shape}")
    return keras.Model(graph.inputs, output), activation == "softmax"


def _last_that_computes(graph: keras.Model) -> tuple[Node, list[Node]]:
    """The node that makes the output, and those after it that only reshape or cast it."""
    makers = {id(tensor): node for node in nodes_of(graph) for tensor in node.outputs}
    node = makers[id(graph.outputs[0])]
    after: list[Node] = []
    while type(node.operation).__name__ in PASSING and activation_of(node.operation) == "linear":
        before = makers.get(id(node.input_tensors[0]))
        if before is None:
            break
        after.insert(0, node)
        node = before
    return node, after


def _kind(model: Any) -> str:
    return type(model).__name__
