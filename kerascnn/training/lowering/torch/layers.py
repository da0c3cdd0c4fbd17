"""The set: how each kind of Keras layer is said in torch.

An image is ``(batch, channels, height, width)`` here with the channels last in memory, which is Keras's
``(batch, height, width, channels)`` seen from another side; going over is a permutation without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from keras import KerasTensor, activations, layers
from keras.src.backend.torch.core import to_torch_dtype
from keras.src.ops import numpy as operations

from kerascnn.errors import NotLoweredError
from kerascnn.training.lowering.torch import small_images

Function = Callable[..., Any]
"""From a layer's input tensors, and whether the network is being trained, to its output tensor."""
Lowering = Callable[[Any, Sequence[KerasTensor]], Function]
"""From a layer and what it was called with to its function. Raises NotLoweredError for a setting not in the set."""

IMAGE, ROW = 4, 2
"""Dimensions of a batch of images, and of a batch of rows."""

ACTIVATIONS: dict[Any, Callable[[Any], Any]] = {
    activations.linear: lambda x: x,
    activations.relu: torch.relu,
    activations.sigmoid: torch.sigmoid,
    activations.tanh: torch.tanh,
    activations.silu: F.silu,
    activations.gelu: F.gelu,
    activations.elu: F.elu,
    activations.selu: F.selu,
    activations.softplus: F.softplus,
    activations.leaky_relu: lambda x: F.leaky_relu(x, 0.2),
}


def to_channels_first(images: Any) -> Any:
    """Keras's view of images as torch's; rows stay as they are."""
    return images.permute(0, 3, 1, 2) if images.dim() == IMAGE else images


def to_channels_last(images: Any) -> Any:
    """Torch's view of images as Keras's; rows stay as they are."""
    return images.permute(0, 2, 3, 1) if images.dim() == IMAGE else images


def conv2d(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """A convolution with its bias and activation."""
    kernel, bias = _weights(layer)
    activate = _activation(layer.activation)
    pads = _padding(layer, inputs[0], layer.kernel_size, layer.dilation_rate)
    around = _symmetric(pads)
    settings = (layer.strides, around or 0, layer.dilation_rate, layer.groups)
    products = _products(layer, inputs[0]) if around else []

    def run(x: Any, *, training: bool) -> Any:
        if products and small_images.pays(x):
            return activate(small_images.Convolution.apply(x, kernel(), bias(), products))
        if around is None:
            x = F.pad(x, (*pads[1], *pads[0]))
        return activate(F.conv2d(x, kernel().permute(3, 2, 0, 1), bias(), *settings))

    return run


def dense(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """A fully connected layer with its bias and activation."""
    _expect(len(inputs[0].shape) == ROW, layer, "rows as input")
    kernel, bias = _weights(layer)
    activate = _activation(layer.activation)

    def run(x: Any, *, training: bool) -> Any:
        return activate(F.linear(x, kernel().t(), bias()))

    return run


def batch_normalization(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """BatchNorm over the channels, with Keras's moving variance: divided by n, where torch divides by n - 1."""
    dimensions = len(inputs[0].shape)
    _expect(layer.axis in (-1, dimensions - 1), layer, f"axis = -1, got {layer.axis}")
    _expect(not layer.renorm, layer, "renorm = False")
    _expect(not layer.synchronized, layer, "synchronized = False")
    gamma, beta = _reader(layer.gamma), _reader(layer.beta)
    mean, variance = _reader(layer.moving_mean), _reader(layer.moving_variance)
    keep, epsilon = layer.momentum, layer.epsilon
    alone = by_keras(layer, inputs)

    def run(x: Any, *, training: bool) -> Any:
        count = x.numel() // x.shape[1]
        training = training and layer.trainable
        if training and count == 1:
            # Torch's own variance of one value is 0/0.
            return alone(x, training=True)
        # Autograd keeps the tensor, without need, and would mind its change; not that of its data.
        now = variance().data
        kept = now * (keep / count) if training else None
        y = torch.batch_norm(x, gamma(), beta(), mean(), now, training, 1 - keep, epsilon, torch.backends.cudnn.enabled)
        if kept is not None:
            # Torch left keep · old + (1 - keep) · s² · n/(n - 1).
            torch.add(kept, now, alpha=(count - 1) / count, out=variance().data)
        return y

    return run


def activation(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """An activation by its name."""
    return _elementwise(_activation(layer.activation))


def relu(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """ReLU as a layer of its own."""
    plain = layer.max_value is None and not layer.threshold and not layer.negative_slope
    _expect(plain, layer, "no max_value, threshold or negative_slope")
    return _elementwise(torch.relu)


def leaky_relu(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """Leaky ReLU as a layer of its own."""
    slope = float(layer.negative_slope)
    return _elementwise(lambda x: F.leaky_relu(x, slope))


def rescaling(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """Scale and offset, one for all channels or one each. Pixels of a byte become numbers by the multiplication."""
    scale, offset = _per_channel(layer.scale, layer, inputs[0]), _per_channel(layer.offset, layer, inputs[0])
    shifts = bool(offset.any())
    at_hand: dict[Any, tuple[Any, Any]] = {}

    def run(x: Any, *, training: bool) -> Any:
        if x.device not in at_hand:
            at_hand[x.device] = (scale.to(x.device), offset.to(x.device))
        by, plus = at_hand[x.device]
        return torch.mul(x, by).add_(plus) if shifts else torch.mul(x, by)

    return run


def max_pooling2d(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """The largest of each window."""
    pool, strides = layer.pool_size, layer.strides
    around = _symmetric(_padding(layer, inputs[0], pool, (1, 1)))
    _expect(around is not None, layer, "padding that is the same on both sides")
    if tuple(pool) == (1, 1):
        return _elementwise(lambda x: x[:, :, :: strides[0], :: strides[1]])
    return _elementwise(lambda x: F.max_pool2d(x, pool, strides, around))


def average_pooling2d(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """The mean of each window, over what lies inside the image."""
    pool, strides = layer.pool_size, layer.strides
    around = _symmetric(_padding(layer, inputs[0], pool, (1, 1)))
    _expect(around is not None, layer, "padding that is the same on both sides")
    return _elementwise(lambda x: F.avg_pool2d(x, pool, strides, around, count_include_pad=False))


def global_average_pooling2d(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """The mean of each channel."""
    return _elementwise(lambda x: x.mean((2, 3), keepdim=layer.keepdims))


def flatten(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """A row of each image, in the order height, width, channel: as it lies in memory."""
    return _elementwise(lambda x: to_channels_last(x).flatten(1))


def zero_padding2d(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """Zeros around each image."""
    (top, bottom), (left, right) = layer.padding
    return _elementwise(lambda x: F.pad(x, (left, right, top, bottom)))


def cropping2d(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """Rows and columns off the edges."""
    (top, bottom), (left, right) = layer.cropping
    return _elementwise(lambda x: x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right])


def concatenate(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """Several tensors one after the other, along an axis of Keras's."""
    dimension = _dimension(layer.axis, len(inputs[0].shape))
    return lambda *xs, training: torch.cat(xs, dimension)


def add(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """The sum of several tensors."""
    return _fold(torch.add, layer, inputs)


def multiply(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """The product of several tensors."""
    return _fold(torch.mul, layer, inputs)


def pad(operation: Any, inputs: Sequence[KerasTensor]) -> Function:
    """``keras.ops.pad`` of images with zeros."""
    _expect(operation.mode == "constant", operation, f'mode = "constant", got {operation.mode!r}')
    _expect(len(operation.pad_width) == IMAGE, operation, "a pair for each of four axes")
    batch, rows, columns, channels = (tuple(pair) for pair in operation.pad_width)
    return _elementwise(lambda x: F.pad(x, (*columns, *rows, *channels, *batch)))


def flip(operation: Any, inputs: Sequence[KerasTensor]) -> Function:
    """``keras.ops.flip`` along one axis."""
    _expect(isinstance(operation.axis, int), operation, f"one axis, got {operation.axis}")
    dimension = _dimension(operation.axis, len(inputs[0].shape))
    return _elementwise(lambda x: torch.flip(x, (dimension,)))


def by_keras(layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    """The layer itself, on Keras's view of the tensor: for what draws from a generator that a checkpoint holds."""

    def run(x: Any, *, training: bool) -> Any:
        return to_channels_first(layer(to_channels_last(x), training=training))

    return run


LOWERINGS: dict[type, Lowering] = {
    layers.Activation: activation,
    layers.Add: add,
    layers.AveragePooling2D: average_pooling2d,
    layers.BatchNormalization: batch_normalization,
    layers.Concatenate: concatenate,
    layers.Conv2D: conv2d,
    layers.Cropping2D: cropping2d,
    layers.Dense: dense,
    layers.Dropout: by_keras,
    layers.Flatten: flatten,
    layers.GlobalAveragePooling2D: global_average_pooling2d,
    layers.LeakyReLU: leaky_relu,
    layers.MaxPooling2D: max_pooling2d,
    layers.Multiply: multiply,
    layers.ReLU: relu,
    layers.Rescaling: rescaling,
    layers.SpatialDropout2D: by_keras,
    layers.ZeroPadding2D: zero_padding2d,
    operations.Add: add,
    operations.Flip: flip,
    operations.Multiply: multiply,
    operations.Pad: pad,
}


def _expect(fits: bool, layer: Any, what: str) -> None:
    if not fits:
        raise NotLoweredError(f"{layer.name} ({type(layer).__name__}): expected {what}")


def _elementwise(function: Callable[[Any], Any]) -> Function:
    return lambda x, *, training: function(x)


def _fold(operator: Callable[[Any, Any], Any], layer: Any, inputs: Sequence[KerasTensor]) -> Function:
    _expect(len({len(x.shape) for x in inputs}) == 1, layer, "inputs with equally many axes")

    def run(first: Any, *others: Any, training: bool) -> Any:
        for other in others:
            first = operator(first, other)
        return first

    return run


def _activation(function: Any) -> Callable[[Any], Any]:
    if function is None:
        return ACTIVATIONS[activations.linear]
    if function not in ACTIVATIONS:
        raise NotLoweredError(f"the activation {getattr(function, '__name__', type(function).__name__)}")
    return ACTIVATIONS[function]


def _reader(variable: Any, dtype: str = "") -> Callable[[], Any]:
    """Reads a variable's own tensor, cast to ``dtype``; reads None where a layer does without.

    The tensor is the same for the variable's whole life. Its ``value`` takes 5 µs to say so.
    """
    if variable is None:
        return lambda: None
    if dtype in ("", variable.dtype):
        return lambda: variable._value
    wanted = to_torch_dtype(dtype)
    return lambda: variable._value.to(wanted)


def _weights(layer: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Readers of kernel and bias in the type that the layer computes in."""
    _expect(layer.quantization_mode is None, layer, "no quantization")
    _expect(not layer.lora_enabled, layer, "no LoRA")
    return _reader(layer.kernel, layer.compute_dtype), _reader(layer.bias, layer.compute_dtype)


def _products(layer: Any, images: KerasTensor) -> list[small_images.Product]:
    """What a convolution multiplies one by one, where its images are small and its channels many enough for it."""
    plain = layer.padding == "same" and layer.groups == 1 and {*layer.strides, *layer.dilation_rate} == {1}
    if not plain or min(images.shape[3], layer.filters) < small_images.FEWEST_CHANNELS:
        return []
    return small_images.products(images.shape[1:3], layer.kernel_size)


def _dimension(axis: int, dimensions: int) -> int:
    """Where an axis of Keras's view lies in torch's."""
    axis %= dimensions
    return (0, 2, 3, 1)[axis] if dimensions == IMAGE else axis


def _per_channel(numbers: Any, layer: Any, images: KerasTensor) -> Any:
    values = torch.as_tensor(numbers, dtype=to_torch_dtype(layer.compute_dtype), device="cpu")
    _expect(values.dim() <= 1, layer, "a number, or one for each channel")
    return values.reshape(1, -1, *(1 for _ in images.shape[2:]))


def _padding(layer: Any, images: KerasTensor, window: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    """Rows and columns that are added before and after each image."""
    if layer.padding == "valid":
        return [(0, 0), (0, 0)]
    sizes = images.shape[1:3]
    _expect(layer.padding == "same" and None not in sizes, layer, "padding valid or same, and images of a known size")
    pads = []
    for size, width, stride, spread in zip(sizes, window, layer.strides, dilation, strict=True):
        missing = max(0, (-(-size // stride) - 1) * stride + (width - 1) * spread + 1 - size)
        pads.append((missing // 2, missing - missing // 2))
    return pads


def _symmetric(pads: Sequence[tuple[int, int]]) -> tuple[int, ...] | None:
    """What torch pads by itself: as much before as after."""
    return tuple(before for before, _ in pads) if all(before == after for before, after in pads) else None
