"""Where products of matrices are quicker than torch's own convolution: layers of 3×3, forwards and backwards.

    python benchmarks/small_images.py --rounds 15

Prints a line of JSON for each layer: milliseconds of both, and the median of each round's ratio with its 95 % interval.
Both are computed in turn in one process, with the memory of a training. The thresholds in
``kerascnn/training/lowering/torch/small_images.py`` are out of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from unittest import mock

import torch
from torch.nn import functional

from kerascnn.bench.figures import median_interval
from kerascnn.training.allocator import set_allocator
from kerascnn.training.lowering.torch import small_images

# Images, channels in and out, and the side of an image.
LAYERS = [
    (64, 512, 512, 2),
    (64, 256, 512, 4),
    (64, 512, 512, 4),
    (64, 256, 256, 4),
    (64, 512, 512, 7),
    (64, 256, 256, 8),
    (64, 128, 128, 2),
    (64, 128, 128, 4),
    (64, 64, 64, 4),
    (256, 512, 512, 2),
    (256, 512, 512, 4),
    (16, 512, 512, 2),
    (16, 512, 512, 4),
    (4, 512, 512, 4),
]


def main() -> None:
    """Measure every layer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    set_allocator("torch")
    for images, inputs, outputs, side in LAYERS:
        both = layer_both_ways(images, inputs, outputs, side)
        seconds: list[list[float]] = [[], []]
        for _ in range(asked.rounds + 1):
            for taken, way in zip(seconds, both, strict=True):
                began = time.perf_counter()
                way()
                taken.append(time.perf_counter() - began)
        # The first round fetches memory and prepares kernels.
        own, products = (taken[1:] for taken in seconds)
        print(
            json.dumps(
                {
                    "layer": f"{images} images, {inputs} to {outputs} channels, {side}×{side}",
                    "torch_ms": round(1e3 * statistics.median(own), 2),
                    "products_ms": round(1e3 * statistics.median(products), 2),
                    "times_as_fast": asdict(median_interval([a / b for a, b in zip(own, products, strict=True)])),
                }
            )
        )


def layer_both_ways(images: int, inputs: int, outputs: int, side: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A convolution and all its gradients, by torch's own and by products."""
    torch.manual_seed(0)
    x = torch.randn(images, inputs, side, side).to(memory_format=torch.channels_last).requires_grad_()
    # As a lowered network's kernels lie.
    filters = torch.randn(outputs, inputs, 3, 3).to(memory_format=torch.channels_last)
    kernel = filters.permute(2, 3, 1, 0).requires_grad_()
    bias = torch.randn(outputs, requires_grad=True)
    gradient = torch.randn(images, outputs, side, side).to(memory_format=torch.channels_last)
    with mock.patch.object(small_images, "LARGEST_SHARE", 1.0):
        products = small_images.products((side, side), (3, 3))

    def own() -> None:
        functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=1).backward(gradient)
        x.grad = kernel.grad = bias.grad = None

    def by_products() -> None:
        small_images.Convolution.apply(x, kernel, bias, products).backward(gradient)
        x.grad = kernel.grad = bias.grad = None

    return own, by_products


if __name__ == "__main__":
    main()
