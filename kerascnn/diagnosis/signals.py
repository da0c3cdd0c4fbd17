"""What happens inside a network's layers: which to look at, and what their outputs say about a few images.

Looking changes nothing: no variable, no moving average of BatchNorm, no random generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kerascnn.data.formats import Pixels
from kerascnn.training.randomness import turned_off

# A unit is in the flat part of its activation where the slope is below so much of the steepest.
FLAT = 0.05

# Activations that are layers or functions of their own, by their class.
ACTIVATIONS = {
    "LeakyReLU": "leaky_relu",
    "PReLU": "prelu",
    "ELU": "elu",
    "Softmax": "softmax",
    "Relu": "relu",
    "Relu6": "relu6",
    "LeakyRelu": "leaky_relu",
    "Elu": "elu",
    "Selu": "selu",
    "Gelu": "gelu",
    "Silu": "silu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Exp": "exponential",
}
# What may stand between a convolution and its activation.
TRANSPARENT = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.AlphaDropout,
    keras.layers.GaussianNoise,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
)

Figures = NDArray[np.float64]
Node = Any


@dataclass(frozen=True)
class KernelLayer:
    """A convolution or dense layer, with the output to judge it by: that of the activation that follows.

    ``kernel`` is its place among the model's trainable variables, ``input`` what enters its first use.
    """

    name: str
    kernel: int
    input: keras.KerasTensor
    output: keras.KerasTensor
    activation: str
    layer: keras.layers.Layer


@dataclass(frozen=True)
class Activity:
    """Figures of each kernel layer's output, in their order; NaN where a layer has no such figure.

    ``between_images`` is the root of the variance over the images, its mean over units; ``dead`` the share of channels
    that fire on no image (ReLU); ``saturated`` the share of units in the flat part (sigmoid, tanh).
    """

    between_images: Figures
    dead: Figures
    saturated: Figures


def kernel_layers(model: keras.Model) -> list[KernelLayer]:
    """The layers of a functional or sequential model that have a kernel to train, in the order of the model.

    Models inside the model are looked into. A separable convolution counts with its pointwise kernel; a layer that is
    used several times is judged by the output of its last use and the input of its first.
    """
    places = {id(variable): place for place, variable in enumerate(model.trainable_variables)}
    nodes = nodes_of(model)
    consumers: dict[int, list[Node]] = {}
    for node in nodes:
        for tensor in node.input_tensors:
            consumers.setdefault(id(tensor), []).append(node)
    found: dict[int, KernelLayer] = {}
    for node in nodes:
        place = places.get(id(kernel_of(unwrapped(node.operation))))
        if place is not None:
            judged = _judged_by(node, consumers)
            found[place] = KernelLayer(
                name=node.operation.name,
                kernel=place,
                input=found[place].input if place in found else node.input_tensors[0],
                output=judged.outputs[0],
                activation=activation_of(unwrapped(judged.operation)),
                layer=node.operation,
            )
    return list(found.values())


def nodes_of(model: keras.Model) -> list[Node]:
    """The operations of a model in the order in which they are done, those of models inside it among them."""
    return _nodes(graph_of(model))


def _nodes(graph: Any) -> list[Node]:
    depths = getattr(graph, "_nodes_by_depth", {})
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth] if not node.is_input]


def graph_of(model: keras.Model) -> keras.Model:
    """The model as one graph of layers: models inside it are taken apart."""
    graph: keras.Model = getattr(model, "_functional", model) or model
    if any(isinstance(layer, keras.Model) for layer in graph.layers) and hasattr(graph, "_run_through_graph"):
        return _flattened(graph)
    return graph


def _flattened(model: keras.Model) -> keras.Model:
    """The same layers, called anew one by one. Where two of them share a name, Keras can't: the model as it is."""
    inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in model.inputs]
    try:
        return keras.Model(inputs, _through(model, inputs))
    except ValueError:
        return model


def _through(model: Any, inputs: Any, **_: Any) -> Any:
    graph = getattr(model, "_functional", model) or model
    if not hasattr(graph, "_run_through_graph"):
        return model(inputs)

    def inside(operation: Any) -> Any:
        return partial(_through, operation) if isinstance(operation, keras.Model) else operation

    return graph._run_through_graph(inputs, operation_fn=inside)


def unwrapped(operation: Any) -> Any:
    """The layer inside a wrapper such as SpectralNormalization, which does the work; any other operation is itself."""
    while isinstance(operation, keras.layers.Wrapper):
        operation = operation.layer
    return operation


def kernel_of(operation: Any) -> Any:
    """The kernel that tells of a layer, or None."""
    kernel = getattr(operation, "kernel", None)
    return getattr(operation, "pointwise_kernel", None) if kernel is None else kernel


def activation_of(operation: Any) -> str:
    """The activation that an operation applies, by its name in Keras; ``linear`` where it applies none."""
    function = getattr(operation, "activation", None)
    if isinstance(function, keras.layers.Layer):
        return activation_of(function)
    if function is not None:
        return str(getattr(function, "__name__", type(function).__name__))
    if isinstance(operation, keras.layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return {None: "relu", 6.0: "relu6"}.get(operation.max_value, "leaky_relu") if plain else "leaky_relu"
    return ACTIVATIONS.get(type(operation).__name__, "linear")


def _judged_by(node: Node, consumers: dict[int, list[Node]]) -> Node:
    """The node whose output tells what a layer passes on: its own, or an activation's after it.

    BatchNorm, dropout, noise and pooling may stand between.
    """
    following, operation = node, unwrapped(node.operation)
    while activation_of(operation) == "linear":
        after = consumers.get(id(following.outputs[0]), [])
        if len(after) != 1:
            return node
        following, operation = after[0], unwrapped(after[0].operation)
        if activation_of(operation) == "linear" and not isinstance(operation, TRANSPARENT):
            return node
        if kernel_of(operation) is not None or activation_of(operation) == "softmax":
            return node
    return following


class Probe:
    """Looks at what a network's layers make of a few images, as in training but without dropout and noise."""

    def __init__(self, layers: Sequence[KernelLayer], pixels: Pixels) -> None:
        """``pixels`` is a batch ``(images, height, width, channels)`` that stays the same."""
        self._layers = layers
        self._input = keras.utils.get_source_inputs(layers[0].output)[0]
        self._model = keras.Model(self._input, [layer.output for layer in layers])
        self._calls = _with_spent(_nodes(self._model))
        self._pixels = ops.convert_to_tensor(pixels)
        self._figures = _compiled(self._compute)

    def look(self) -> Activity:
        """The figures as the network stands now."""
        values = [variable.value for variable in self._model.variables]
        # Each drawn differently, equal images would differ.
        with turned_off(self._model):
            table = ops.convert_to_numpy(self._figures(values, self._pixels)).astype(np.float64)
        return Activity(*table)

    def _compute(self, values: list[Any], pixels: Any) -> Any:
        """A table of three figures by layers."""
        # Without assigning anything: BatchNorm takes this batch's statistics and leaves its averages alone.
        with keras.StatelessScope(state_mapping=list(zip(self._model.variables, values, strict=True))):
            figures = self._figures_by_output(pixels)
        return ops.stack([ops.stack(figures[id(layer.output)]) for layer in self._layers], axis=1)

    def _figures_by_output(self, pixels: Any) -> dict[int, list[Any]]:
        """Each layer's figures as soon as its output is there; Keras's own call would hold all outputs to the end."""
        judged = {id(layer.output): layer for layer in self._layers}
        found: dict[int, list[Any]] = {}
        at_hand = {id(self._input): ops.cast(pixels, self._input.dtype)}
        for node, spent in self._calls:
            inputs, named = node.arguments.fill_in(at_hand)
            if "training" in getattr(node.operation, "_call_context_args", ()):
                named["training"] = True
            outputs = keras.tree.flatten(node.operation(*inputs, **named))
            del inputs, named
            at_hand.update(zip(map(id, node.outputs), outputs, strict=True))
            for tensor in node.outputs:
                if id(tensor) in judged:
                    layer = judged[id(tensor)]
                    output = ops.cast(at_hand[id(tensor)], "float32")
                    found[id(tensor)] = _figures_of(output, layer.activation, _channel_axis(layer))
            for place in spent:
                del at_hand[place]
        return found


def _with_spent(nodes: Sequence[Node]) -> list[tuple[Node, list[int]]]:
    """Each call with the tensors, by identity, that no later call reads."""
    last: dict[int, int] = {}
    for number, node in enumerate(nodes):
        last.update((id(tensor), number) for tensor in (*node.input_tensors, *node.outputs))
    spent: list[list[int]] = [[] for _ in nodes]
    for place, number in last.items():
        spent[number].append(place)
    return list(zip(nodes, spent, strict=True))


def _channel_axis(layer: KernelLayer) -> int:
    """Where a layer's output has its channels, counted from the end."""
    first = getattr(unwrapped(layer.layer), "data_format", None) == "channels_first"
    return 1 - len(layer.output.shape) if first else -1


def _figures_of(output: Any, activation: str, channel_axis: int) -> list[Any]:
    nothing = ops.convert_to_tensor(np.float32(np.nan))
    between = ops.sqrt(ops.mean(ops.var(output, axis=0)))
    dead = saturated = nothing
    if activation in ("relu", "relu6"):
        places = tuple(axis for axis in range(-len(output.shape), 0) if axis != channel_axis)
        highest = ops.max(output, axis=places)
        dead = ops.mean(ops.cast(highest <= 0, "float32"))
    elif activation == "sigmoid":
        saturated = ops.mean(ops.cast(4 * output * (1 - output) < FLAT, "float32"))
    elif activation == "tanh":
        saturated = ops.mean(ops.cast(1 - output * output < FLAT, "float32"))
    return [between, dead, saturated]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors as the active backend runs it fastest."""
    backend = keras.backend.backend()
    compiled: Callable[..., Any]
    if backend == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(function)
    elif backend == "jax":
        import jax

        compiled = jax.jit(function)
    else:
        import torch

        compiled = torch.no_grad()(function)
    return compiled
