"""A whole network lowered: its calls in Keras's order, and its kernels as torch's convolutions want them in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import torch
from keras.src.backend.torch.core import get_device, to_torch_dtype
from keras.src.models.functional import Functional

from kerascnn.data.formats import Pixels
from kerascnn.errors import NotLoweredError
from kerascnn.training.lowering.torch.layers import (
    IMAGE,
    LOWERINGS,
    ROW,
    Function,
    to_channels_first,
    to_channels_last,
)
from kerascnn.training.lowering.torch.rewrites import Readers, is_pooled_first, is_relu_in_place, relu_in_place


@dataclass(frozen=True)
class _Call:
    """One call of a layer. ``spent`` are the values that no later call reads."""

    function: Function
    inputs: tuple[int, ...]
    spent: tuple[int, ...]


class TorchGraph:
    """Computes what a Keras network computes, over the network's own variables."""

    def __init__(self, calls: Sequence[_Call], dtype: Any) -> None:
        """Take the calls in order: the value of the first is 1, the input is 0, the last is the output."""
        self._calls = calls
        self._dtype = dtype

    def __call__(self, pixels: Any, *, training: bool = False) -> Any:
        """The network's output, with gradients where torch records them.

        Args:
            pixels: a tensor ``(batch, height, width, channels)`` on the device of the variables.
            training: as Keras's own.
        """
        values = [to_channels_first(pixels.to(self._dtype))]
        for call in self._calls:
            values.append(call.function(*[values[place] for place in call.inputs], training=training))
            for place in call.spent:
                values[place] = None
        return to_channels_last(values[-1])

    def predict(self, pixels: Pixels) -> Any:
        """The network's output for a batch in inference mode, as an array."""
        with torch.no_grad():
            # Torch doesn't take an image out of a read-only file as it lies.
            output = self(torch.from_numpy(np.require(pixels, requirements="W")).to(get_device()))
            # NumPy has no bfloat16.
            return output.to(torch.promote_types(output.dtype, torch.float32)).cpu().numpy()


def lower(model: keras.Model) -> TorchGraph:
    """Lower a built network.

    Raises:
        NotLoweredError: it isn't a graph from images to one output, or has a layer or a setting that isn't in the set.
    """
    if type(model) is not Functional or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise NotLoweredError(f"{model.name}: expected a functional network from one input to one output")
    places = {id(model.inputs[0]): 0}
    functions: list[tuple[Function, tuple[int, ...]]] = []
    nodes = list(_nodes(model))
    readers = Readers(nodes)
    for node in nodes:
        function = relu_in_place if is_relu_in_place(node, readers) else _lower_node(node)
        inputs = tuple(places[id(x)] for x in node.input_tensors)
        if is_pooled_first(node, readers):
            convolution, before = functions[inputs[0] - 1]
            functions[inputs[0] - 1] = (function, before)
            function = convolution
        functions.append((function, inputs))
        places[id(node.outputs[0])] = len(functions)
    if places[id(model.outputs[0])] != len(functions):
        raise NotLoweredError(f"{model.name}: expected the output to come last")
    return TorchGraph(_calls(functions), to_torch_dtype(model.inputs[0].dtype))


def lay_out(variables: Sequence[keras.Variable]) -> None:
    """Store kernels, and what an optimizer keeps for each, with a filter's inputs side by side.

    Shape and values stay. Torch's convolutions then take them as they lie, and gradients, moments and kernels are
    combined in one pass.
    """
    for variable in variables:
        tensor = variable._value
        if tensor.dim() == IMAGE:
            height, width, inputs, filters = tensor.shape
            # As a matrix: torch turns one of two axes around twice as fast as one of four.
            turned = tensor.data.reshape(-1, filters).t().contiguous()
            tensor.data = turned.view(filters, height, width, inputs).permute(1, 2, 3, 0)


def _nodes(model: Any) -> Iterator[Any]:
    """The calls of layers in Keras's own order."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if not node.is_input)


def _lower_node(node: Any) -> Function:
    layer, inputs = node.operation, node.input_tensors
    if type(layer) not in LOWERINGS:
        raise NotLoweredError(f"{layer.name} ({type(layer).__name__})")
    # Whether it trains is said anew at each call, by Keras too.
    named = [value for name, value in node.arguments.kwargs.items() if name != "training"]
    others = [x for x in keras.tree.flatten((node.arguments.args, named)) if not isinstance(x, keras.KerasTensor)]
    if any(value is not None for value in others):
        raise NotLoweredError(f"{layer.name} ({type(layer).__name__}): expected tensors alone, got {others}")
    ranks = {len(x.shape) for x in (*inputs, *node.outputs)}
    if getattr(layer, "data_format", "channels_last") != "channels_last" or not ranks <= {IMAGE, ROW}:
        raise NotLoweredError(f"{layer.name} ({type(layer).__name__}): expected images, channels last, or rows")
    return _with_casts(LOWERINGS[type(layer)](layer, inputs), layer, inputs)


def _with_casts(function: Function, layer: Any, inputs: Sequence[keras.KerasTensor]) -> Function:
    """Cast what comes in another type than the layer computes in, as Keras does for a mixed precision."""
    if not isinstance(layer, keras.layers.Layer) or all(x.dtype == layer.compute_dtype for x in inputs):
        return function
    floats = all("float" in x.dtype for x in inputs)
    if isinstance(layer, keras.layers.Rescaling) and not floats:
        # Its multiplication makes numbers of bytes.
        return function
    if not floats:
        raise NotLoweredError(f"{layer.name} ({type(layer).__name__}): expected floats, got {inputs[0].dtype}")
    dtype = to_torch_dtype(layer.compute_dtype)
    return lambda *xs, training: function(*(x.to(dtype) for x in xs), training=training)


def _calls(functions: Sequence[tuple[Function, tuple[int, ...]]]) -> list[_Call]:
    last = {place: number for number, (_, inputs) in enumerate(functions) for place in inputs}
    return [
        _Call(function, inputs, tuple(place for place in set(inputs) if last[place] == number))
        for number, (function, inputs) in enumerate(functions)
    ]
