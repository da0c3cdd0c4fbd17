"""Convolutions of images that are hardly larger than the window, as products of matrices without the padding.

Over an image of 2×2 a window of 3×3 meets the image with four of its nine places, over one of 4×4 with two thirds of
them. Here those are multiplied and no others: for each place of the window, and each column of the image, the pixels of
all images that lie under it are one matrix, and the window's weights at that place the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

LARGEST_SHARE = 0.7
"""Of a window's places inside the image, on average. Torch's own convolutions are the faster ones beyond it."""
FEWEST_CHANNELS, FEWEST_IMAGES = 256, 16
"""Smaller matrices cost more to call than they save."""


@dataclass(frozen=True)
class Product:
    """A place of the window, a column of the output, and the image's column under it; of both, the rows that meet."""

    place: tuple[int, int]
    output: tuple[int, slice]
    image: tuple[int, slice]


def products(size: Sequence[int], window: Sequence[int]) -> list[Product]:
    """What there is to multiply, or an empty list where torch's own convolution is quicker.

    Args:
        size: height and width of the image; those of the output are the same, and the stride is 1.
        window: height and width, both odd.
    """
    rows, columns = (_meetings(*sides) for sides in zip(size, window, strict=True))
    met = sum(map(len, rows)) * sum(map(len, columns))
    if met > LARGEST_SHARE * math.prod(size) * math.prod(window):
        return []
    down, right = (side // 2 for side in window)
    return [
        Product((row, column), (here, _slice(outputs)), (here + column - right, _slice(outputs, row - down)))
        for column, across in enumerate(columns)
        for here in across
        for row, outputs in enumerate(rows)
        if outputs
    ]


def _meetings(size: int, window: int) -> list[range]:
    """Along one side, for each place of the window: the outputs that have a pixel of the image under it."""
    shifts = (place - window // 2 for place in range(window))
    return [range(max(0, -shift), min(size, size - shift)) for shift in shifts]


def _slice(numbers: range, shift: int = 0) -> slice:
    return slice(numbers.start + shift, numbers.stop + shift)


def pays(x: Any) -> bool:
    """Whether a batch is one that this is quicker for."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and x.shape[0] >= FEWEST_IMAGES


class Convolution(torch.autograd.Function):  # type: ignore[misc]
    """Of images ``(batch, in, height, width)``, a kernel ``(rows, columns, in, out)``, a bias or None, and products."""

    @staticmethod
    def forward(ctx: Any, x: Any, kernel: Any, bias: Any, terms: Sequence[Product]) -> Any:
        ctx.save_for_backward(x, kernel)
        ctx.terms = terms
        images = _by_columns(x)
        y = images.new_zeros((*images.shape[:3], kernel.shape[3]))
        if bias is not None:
            y += bias
        for term in terms:
            _pixels(y, term.output).addmm_(_pixels(images, term.image), kernel[term.place])
        return _as_images(y)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> tuple[Any, ...]:
        x, kernel = ctx.saved_tensors
        gradients = _by_columns(gradient)
        to_x = to_kernel = to_bias = None
        if ctx.needs_input_grad[0]:
            to_x = gradients.new_zeros((*gradients.shape[:3], kernel.shape[2]))
            for term in ctx.terms:
                _pixels(to_x, term.image).addmm_(_pixels(gradients, term.output), kernel[term.place].t())
            to_x = _as_images(to_x)
        if ctx.needs_input_grad[1]:
            images, to_kernel = _by_columns(x), torch.zeros_like(kernel)
            for term in ctx.terms:
                to_kernel[term.place].addmm_(_pixels(images, term.image).t(), _pixels(gradients, term.output))
        if ctx.needs_input_grad[2]:
            to_bias = gradients.sum((0, 1, 2))
        return to_x, to_kernel, to_bias, None


def _by_columns(images: Any) -> Any:
    """``(width, height, batch, channels)``: one pixel of all images lies together, and before the pixels below it."""
    return images.permute(3, 2, 0, 1).contiguous()


def _as_images(columns: Any) -> Any:
    """Back, channels last in memory, as a tensor of its own: an activation may overwrite it."""
    images = columns.permute(2, 3, 1, 0)
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)


def _pixels(columns: Any, where: tuple[int, slice]) -> Any:
    """A matrix of all images' pixels in some rows of one column."""
    return columns[where].flatten(0, 1)
