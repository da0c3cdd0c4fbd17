"""The zoo's networks as one would write them in PyTorch, with PyTorch's own layers and initial weights.

They follow the recipes: each network of the zoo has a twin to be held against, and so has each that its builders make.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kerascnn.recipe import Densenet, Plain, Recipe, Resnet, Vgg, WideResnet

# Keras's leaky ReLU keeps a fifth of what is below zero, PyTorch's a hundredth.
ACTIVATIONS: dict[str, Callable[[], Any]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "leaky_relu": partial(nn.LeakyReLU, 0.2),
    "linear": nn.Identity,
}


def make_twin(recipe: Recipe) -> Any:
    """The network of a recipe as a ``torch.nn.Module``: images ``(n, channels, height, width)`` to logits."""
    make: dict[type[Recipe], Callable[[Any], Any]] = {
        Plain: PlainNetwork,
        Vgg: make_vgg,
        Resnet: make_resnet,
        WideResnet: make_wide_resnet,
        Densenet: make_densenet,
    }
    return make[type(recipe)](recipe)


@dataclass(frozen=True)
class Style:
    """How a network's layers are made: its activation, its BatchNorm, and where a convolution has a bias."""

    recipe: Recipe

    def act(self) -> Any:
        """The activation."""
        return ACTIVATIONS[self.recipe.activation]()

    def norm(self, width: int) -> Any:
        """BatchNorm; PyTorch's momentum is the share of the new value."""
        return nn.BatchNorm2d(width, self.recipe.batch_norm_epsilon, 1 - self.recipe.batch_norm_momentum)

    def conv(self, inputs: int, width: int, kernel: int = 3, stride: int = 1, *, norm_next: bool = False) -> Any:
        """A convolution that keeps the images' size, or divides it by the stride."""
        bias = not norm_next if self.recipe.conv_bias is None else self.recipe.conv_bias
        return nn.Conv2d(inputs, width, kernel, stride, padding=kernel // 2, bias=bias)

    def bare(self, inputs: int, width: int, kernel: int = 3, stride: int = 1) -> Any:
        """A convolution in networks in which BatchNorm and activation come before each."""
        return self.conv(inputs, width, kernel, stride, norm_next=self.recipe.batch_norm == "before")

    def activated(self, width: int) -> list[Any]:
        """The activation with its BatchNorm."""
        if self.recipe.batch_norm == "before":
            return [self.norm(width), self.act()]
        return [self.act(), self.norm(width)] if self.recipe.batch_norm == "after" else [self.act()]

    def unit(self, inputs: int, width: int, stride: int = 1) -> Any:
        """A convolution and its activation."""
        return nn.Sequential(self.bare(inputs, width, stride=stride), *self.activated(width))

    def linear_unit(self, inputs: int, width: int, kernel: int = 3, stride: int = 1) -> Any:
        """A convolution with BatchNorm alone, as it stands before an addition."""
        if self.recipe.batch_norm == "none":
            return self.conv(inputs, width, kernel, stride)
        return nn.Sequential(self.conv(inputs, width, kernel, stride, norm_next=True), self.norm(width))

    def hidden(self, inputs: int, widths: list[int], dropout: float = 0.0) -> Any:
        """Dense layers and the logits."""
        layers: list[Any] = [nn.Flatten()]
        for before, width in itertools.pairwise([inputs, *widths]):
            layers += [nn.Linear(before, width), self.act(), *dropped(dropout)]
        return nn.Sequential(*layers, nn.Linear([inputs, *widths][-1], self.recipe.classes))


def dropped(rate: float) -> list[Any]:
    """Dropout, where there is any."""
    return [nn.Dropout(rate)] if rate else []


def pixels_after(recipe: Recipe, pools: int) -> int:
    """How many pixels 2×2 pools leave of an image."""
    return (recipe.input_shape[0] >> pools) * (recipe.input_shape[1] >> pools)


def cropped(x: Any, like: Any) -> Any:
    """Without the rows and columns that the other doesn't have."""
    return x[:, :, : like.shape[2], : like.shape[3]]


# ── The lecture's networks and VGG ────────────────────────────────────────────────────────────────────────────────────


class Skipped(nn.Module):  # type: ignore[misc]
    """A convolution's output and its input, which a 1×1 convolution widens where it has to."""

    def __init__(self, style: Style, inputs: int, width: int) -> None:
        super().__init__()
        self.unit = style.unit(inputs, width)
        self.shortcut = style.conv(inputs, width, 1) if inputs != width else nn.Identity()

    def forward(self, x: Any) -> Any:
        return self.unit(x) + self.shortcut(x)


class Group(nn.Module):  # type: ignore[misc]
    """Convolutions, a 2×2 max pool, and the lecture's skips around them."""

    def __init__(self, style: Style, inputs: int, width: int, convs: int, skip: str) -> None:
        super().__init__()
        make = partial(Skipped, style) if skip == "full" else style.unit
        widths = [inputs] + [width] * convs
        self.inside = nn.Sequential(*itertools.starmap(make, itertools.pairwise(widths)), nn.MaxPool2d(2))
        self.skip, self.width = skip, width
        if skip == "group":
            self.shortcut = nn.Sequential(style.conv(inputs, width, stride=2), style.act())
        elif skip == "dense":
            self.shortcut, self.width = nn.MaxPool2d(2), width + inputs

    def forward(self, x: Any) -> Any:
        out = self.inside(x)
        if self.skip == "group":
            return out + cropped(self.shortcut(x), out)
        return torch.cat([out, self.shortcut(x)], 1) if self.skip == "dense" else out


class PlainNetwork(nn.Module):  # type: ignore[misc]
    """Groups of convolutions, then dense layers."""

    def __init__(self, recipe: Plain) -> None:
        super().__init__()
        style, width = Style(recipe), recipe.input_shape[2]
        self.groups = nn.ModuleList()
        for filters in recipe.filters:
            self.groups.append(Group(style, width, filters, recipe.convs_per_group, recipe.skip))
            width = self.groups[-1].width
        groups = len(recipe.filters)
        sides = recipe.input_shape[0] >> 1, recipe.input_shape[0] >> groups
        long = recipe.skip == "long"
        self.shortcut = style.conv(recipe.filters[0], width, stride=sides[0] // sides[1]) if long else None
        self.head = style.hidden(width * pixels_after(recipe, groups), recipe.hidden)

    def forward(self, x: Any) -> Any:
        first = x = self.groups[0](x)
        for group in self.groups[1:]:
            x = group(x)
        if self.shortcut is not None:
            x = x + cropped(self.shortcut(first), x)
        return self.head(x)


def make_vgg(recipe: Vgg) -> Any:
    """Simonyan and Zisserman (2014)."""
    style, layers = Style(recipe), []
    width: int = recipe.input_shape[2]
    for filters, convs in zip(recipe.filters, recipe.convs_per_group, strict=True):
        layers.append(Group(style, width, filters, convs, "none"))
        width = filters
    pixels = pixels_after(recipe, len(recipe.filters))
    return nn.Sequential(*layers, style.hidden(width * pixels, recipe.hidden, recipe.dropout))


# ── Residual networks ─────────────────────────────────────────────────────────────────────────────────────────────────


class PadShortcut(nn.Module):  # type: ignore[misc]
    """A shortcut without weights: every second pixel, zeros in the new channels."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, width - inputs

    def forward(self, x: Any) -> Any:
        half = self.extra // 2
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.extra - half))


class BasicBlock(nn.Module):  # type: ignore[misc]
    """Two convolutions, and the block's input added before the second activation."""

    def __init__(self, style: Style, inputs: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.inside = nn.Sequential(style.unit(inputs, width, stride), style.linear_unit(width, width))
        if stride == 1 and inputs == width:
            self.shortcut = nn.Identity()
        elif shortcut == "projection":
            self.shortcut = style.linear_unit(inputs, width, 1, stride)
        else:
            self.shortcut = PadShortcut(inputs, width, stride)
        self.act = style.act()

    def forward(self, x: Any) -> Any:
        return self.act(self.inside(x) + self.shortcut(x))


def make_resnet(recipe: Resnet) -> Any:
    """He (2015), for CIFAR."""
    style, inputs = Style(recipe), recipe.filters[0]
    layers: list[Any] = [style.unit(recipe.input_shape[2], inputs)]
    for stage, width in enumerate(recipe.filters):
        for block in range(recipe.blocks_per_stage):
            layers.append(BasicBlock(style, inputs, width, 2 if stage and not block else 1, recipe.shortcut))
            inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), style.hidden(inputs, []))


class PreactivatedBlock(nn.Module):  # type: ignore[misc]
    """BatchNorm and activation before each of two convolutions; a 1×1 convolution where the size changes."""

    def __init__(self, style: Style, inputs: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(*style.activated(inputs))
        changes = inputs != width or stride > 1
        self.shortcut = style.bare(inputs, width, 1, stride) if changes else None
        self.inside = nn.Sequential(
            style.bare(inputs, width, stride=stride),
            *style.activated(width),
            *dropped(dropout),
            style.bare(width, width),
        )

    def forward(self, x: Any) -> Any:
        activated = self.first(x)
        return self.inside(activated) + (x if self.shortcut is None else self.shortcut(activated))


def make_wide_resnet(recipe: WideResnet) -> Any:
    """Zagoruyko and Komodakis (2016)."""
    style, inputs = Style(recipe), 16
    layers: list[Any] = [style.bare(recipe.input_shape[2], inputs)]
    for stage, base in enumerate((16, 32, 64)):
        for block in range((recipe.depth - 4) // 6):
            width, stride = base * recipe.widen, 2 if stage and not block else 1
            layers.append(PreactivatedBlock(style, inputs, width, stride, recipe.dropout))
            inputs = width
    return nn.Sequential(*layers, *style.activated(inputs), nn.AdaptiveAvgPool2d(1), style.hidden(inputs, []))


# ── DenseNet ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def preactivated(style: Style, inputs: int, width: int, kernel: int, dropout: float) -> list[Any]:
    """BatchNorm, activation, convolution."""
    return [*style.activated(inputs), style.bare(inputs, width, kernel), *dropped(dropout)]


class DenseLayer(nn.Module):  # type: ignore[misc]
    """``growth`` new channels behind those that came in."""

    def __init__(self, style: Style, inputs: int, recipe: Densenet) -> None:
        super().__init__()
        layers, growth, dropout = [], recipe.growth, recipe.dropout
        if recipe.bottleneck:
            layers += preactivated(style, inputs, 4 * growth, 1, dropout)
            inputs = 4 * growth
        self.new = nn.Sequential(*layers, *preactivated(style, inputs, growth, 3, dropout))

    def forward(self, x: Any) -> Any:
        return torch.cat([x, self.new(x)], 1)


def make_densenet(recipe: Densenet) -> Any:
    """Huang (2016)."""
    style, width = Style(recipe), 2 * recipe.growth if recipe.bottleneck else 16
    layers: list[Any] = [style.bare(recipe.input_shape[2], width)]
    for block in range(3):
        for _ in range((recipe.depth - 4) // (6 if recipe.bottleneck else 3)):
            layers.append(DenseLayer(style, width, recipe))
            width += recipe.growth
        if block < 2:
            kept = int(width * recipe.compression)
            layers += [*preactivated(style, width, kept, 1, recipe.dropout), nn.AvgPool2d(2)]
            width = kept
    return nn.Sequential(*layers, *style.activated(width), nn.AdaptiveAvgPool2d(1), style.hidden(width, []))
