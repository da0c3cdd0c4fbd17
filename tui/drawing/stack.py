"""A recipe's layers, drawn as text and counted, without building the network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kerascnn.recipe import Densenet, Plain, Recipe, Resnet, Vgg, WideResnet
from tui.drawing.glyphs import plain

Shape = tuple[int, ...]

# The gutter: where a skip leaves, runs, and comes back by addition or concatenation.
TRUNK, LEAVES, RUNS, ADDED, JOINED = "   ", "╭─ ", "│  ", "╰⊕ ", "╰⧺ "

SCALINGS = {
    "unit": "pixels to [0, 1]",
    "symmetric": "pixels to [-1, 1]",
    "standardize": "pixels to mean 0, deviation 1",
    "caffe": "BGR less ImageNet's mean",
    "none": "pixels 0 to 255",
}
_ACTIVATIONS = {"relu": "ReLU", "silu": "SiLU", "gelu": "GELU", "elu": "ELU", "leaky_relu": "leaky ReLU"}

# Below this width a drawing has no room for the multiply-adds.
WIDE = 62
SHAPE_COLUMNS, FIGURE_COLUMNS = 12, 10


@dataclass(frozen=True)
class Line:
    """One line of the drawing. ``shape`` is what leaves it, None where the next line goes on with the same block."""

    gutter: str
    text: str
    shape: Shape | None
    weights: int = 0
    """Trainable weights."""
    multiply_adds: int = 0


@dataclass
class _Stack:
    """The lines so far, the shape that they end in, and what the layers of the next line cost."""

    recipe: Recipe
    shape: Shape
    lines: list[Line] = field(default_factory=list)
    weights: int = 0
    multiply_adds: int = 0

    @property
    def bare(self) -> bool:
        """Whether BatchNorm follows a convolution at once."""
        return self.recipe.batch_norm == "before"

    def conv(self, width: int, *, kernel: int = 3, strides: int = 1, norm_next: bool = False) -> None:
        """A convolution, padded so that only its stride shrinks the image."""
        rows, columns, channels = self.shape
        self.shape = (-(-rows // strides), -(-columns // strides), width)
        kernel_weights = kernel * kernel * channels * width
        bias = not norm_next if self.recipe.conv_bias is None else self.recipe.conv_bias
        self.weights += kernel_weights + (width if bias else 0)
        self.multiply_adds += kernel_weights * self.shape[0] * self.shape[1]

    def norm(self) -> None:
        """BatchNorm, if the network has any."""
        if self.recipe.batch_norm != "none":
            self.weights += 2 * self.shape[-1]

    def unit(self, width: int, *, strides: int = 1) -> None:
        """A convolution with its activation."""
        self.conv(width, strides=strides, norm_next=self.bare)
        self.norm()

    def linear(self, width: int, *, kernel: int = 3, strides: int = 1) -> None:
        """A convolution without an activation."""
        self.conv(width, kernel=kernel, strides=strides, norm_next=self.recipe.batch_norm != "none")
        self.norm()

    def preactivated(self, width: int, *, kernel: int = 3, strides: int = 1) -> None:
        """The activation first, then a convolution."""
        self.norm()
        self.conv(width, kernel=kernel, strides=strides, norm_next=self.bare)

    def pool(self) -> None:
        """A 2×2 pool."""
        self.shape = (self.shape[0] // 2, self.shape[1] // 2, self.shape[2])

    def dense(self, width: int) -> None:
        """A fully connected layer on all values."""
        inputs = math.prod(self.shape)
        self.shape = (width,)
        self.weights += inputs * width + width
        self.multiply_adds += inputs * width

    @contextmanager
    def beside(self, source: Shape) -> Iterator[None]:
        """Count a skip's own layers, which start from ``source``; the trunk's shape stays."""
        trunk, self.shape = self.shape, source
        yield
        self.shape = trunk

    def line(self, gutter: str, text: str) -> None:
        """End a line with the shape that it has led to."""
        self.lines.append(Line(gutter, text, self.shape, self.weights, self.multiply_adds))
        self.weights = self.multiply_adds = 0

    def part(self, gutter: str, text: str) -> None:
        """A line that the next one goes on with."""
        self.lines.append(Line(gutter, text, None))

    def then(self, *names: str) -> str:
        """Layers in a row, the activation with its BatchNorm on their right."""
        return " · ".join(name for name in names if name)

    @property
    def activated(self) -> str:
        """The activation with its BatchNorm in the recipe's order."""
        name = _ACTIVATIONS.get(self.recipe.activation, self.recipe.activation)
        order = {"before": ("BN", name), "after": (name, "BN"), "none": (name,)}
        return " · ".join(order[self.recipe.batch_norm])

    @property
    def normed(self) -> str:
        """BatchNorm, or nothing."""
        return "BN" if self.recipe.batch_norm != "none" else ""

    @property
    def act(self) -> str:
        """The activation alone."""
        return _ACTIVATIONS.get(self.recipe.activation, self.recipe.activation)


def stack(recipe: Recipe) -> list[Line]:
    """The layers of a recipe's network from the image to the logits, the multiply-adds and weights of each line."""
    drawn = _Stack(recipe, recipe.input_shape)
    drawn.line(TRUNK, f"image, {SCALINGS[recipe.train.scaling]}")
    match recipe:
        case Plain():
            _plain(drawn, recipe)
        case Vgg():
            _vgg(drawn, recipe)
        case Resnet():
            _resnet(drawn, recipe)
        case WideResnet():
            _wide_resnet(drawn, recipe)
        case Densenet():
            _densenet(drawn, recipe)
        case _:
            drawn.part(TRUNK, f"the layers that {recipe.builder} builds")
            drawn.shape = (recipe.classes,)
            drawn.line(TRUNK, f"{recipe.classes} logits")
    return drawn.lines


def draw(lines: Sequence[Line], width: int, *, ascii: bool = False) -> list[tuple[str, str]]:  # noqa: A002
    """Each line as what stands left and what stands right, together ``width`` columns."""
    figures = width >= WIDE
    rows = []
    for line in lines:
        shape = "×".join(map(str, line.shape)) if line.shape else ""
        right = f"{shape:>{SHAPE_COLUMNS}}"
        if figures:
            right += f"{_millions(line.multiply_adds):>{FIGURE_COLUMNS}}"
        # A card may be squeezed to a few columns while the terminal is too small.
        room = max(width - len(right), 1)
        left = f"{line.gutter}{line.text}"
        left = left if len(left) <= room else f"{left[: room - 1]}…"
        rows.append((plain(f"{left:<{room}}", ascii=ascii), plain(right, ascii=ascii)))
    return rows


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 50_000 else ""


def _times(count: int) -> str:
    return f"{count}× " if count > 1 else ""


def _head(drawn: _Stack, hidden: Sequence[int], dropout: float = 0.0) -> None:
    for width in hidden:
        drawn.dense(width)
        drawn.line(TRUNK, drawn.then(f"dense {width}", drawn.act, f"dropout {dropout:g}" if dropout else ""))
    drawn.dense(drawn.recipe.classes)
    drawn.line(TRUNK, f"dense {drawn.recipe.classes}, the logits")


def _averaged_head(drawn: _Stack) -> None:
    drawn.shape = drawn.shape[-1:]
    drawn.line(TRUNK, "average over the image")
    _head(drawn, [])


def _plain(drawn: _Stack, recipe: Plain) -> None:
    after_first: Shape = ()
    last = len(recipe.filters)
    for group, width in enumerate(recipe.filters, start=1):
        source = drawn.shape
        widened = source[-1] != width
        for index in range(recipe.convs_per_group):
            drawn.unit(width)
            if recipe.skip == "full" and index == 0 and widened:
                with drawn.beside(drawn.shape[:2] + source[-1:]):
                    drawn.conv(width, kernel=1)
        drawn.pool()
        convs = drawn.then(f"{_times(recipe.convs_per_group)}conv {width}", drawn.activated)
        if recipe.skip == "group":
            drawn.part(LEAVES, f"{convs} ─ pool")
            with drawn.beside(source):
                drawn.conv(width, strides=2)
            drawn.line(ADDED, drawn.then(f"skip: conv {width}, stride 2", drawn.act))
        elif recipe.skip == "full":
            drawn.part(LEAVES, convs)
            first = ", first by 1×1" if widened else ""
            drawn.line(ADDED, f"each conv{first} ─ pool")
        elif recipe.skip == "dense":
            drawn.part(LEAVES, f"{convs} ─ pool")
            drawn.shape = (*drawn.shape[:2], drawn.shape[2] + source[2])
            drawn.line(JOINED, "with the group's input, pooled")
        else:
            gutter = TRUNK
            if recipe.skip == "long" and group > 1:
                gutter = LEAVES if group == 2 else RUNS
            drawn.line(gutter, f"{convs} ─ pool")
        after_first = after_first or drawn.shape
        if recipe.skip == "long" and group == last:
            strides = after_first[0] // drawn.shape[0]
            with drawn.beside(after_first):
                drawn.conv(width, strides=strides)
            drawn.line(ADDED, f"skip: conv {width}, stride {strides}")
    _head(drawn, recipe.hidden)


def _vgg(drawn: _Stack, recipe: Vgg) -> None:
    for width, convs in zip(recipe.filters, recipe.convs_per_group, strict=True):
        for _ in range(convs):
            drawn.unit(width)
        drawn.pool()
        drawn.line(TRUNK, f"{drawn.then(f'{_times(convs)}conv {width}', drawn.activated)} ─ pool")
    _head(drawn, recipe.hidden, recipe.dropout)


def _resnet(drawn: _Stack, recipe: Resnet) -> None:
    drawn.unit(recipe.filters[0])
    drawn.line(TRUNK, drawn.then(f"conv {recipe.filters[0]}", drawn.activated))
    for stage, width in enumerate(recipe.filters, start=1):
        source = drawn.shape
        strides = 2 if stage > 1 else 1
        changes = strides > 1 or source[-1] != width
        for block in range(recipe.blocks_per_stage):
            drawn.unit(width, strides=strides if block == 0 else 1)
            drawn.linear(width)
        if changes and recipe.shortcut == "projection":
            with drawn.beside(source):
                drawn.linear(width, kernel=1, strides=strides)
        first = "" if strides == 1 else ", first stride 2"
        drawn.part(LEAVES, drawn.then(f"{_times(recipe.blocks_per_stage)}conv {width}", drawn.activated) + first)
        indent = " " * len(_times(recipe.blocks_per_stage))
        drawn.part(RUNS, indent + drawn.then(f"conv {width}", drawn.normed))
        by = {"projection": "conv 1×1", "pad": "zero channels"}[recipe.shortcut]
        drawn.line(ADDED, indent + drawn.act + (f", first skip by {by}" if changes else ""))
    _averaged_head(drawn)


def _wide_resnet(drawn: _Stack, recipe: WideResnet) -> None:
    drawn.conv(16, norm_next=drawn.bare)
    drawn.line(TRUNK, "conv 16")
    blocks = (recipe.depth - 4) // 6
    indent = " " * len(_times(blocks))
    dropout = f"dropout {recipe.dropout:g}" if recipe.dropout else ""
    for stage, base in enumerate((16, 32, 64), start=1):
        source, width = drawn.shape, base * recipe.widen
        strides = 2 if stage > 1 else 1
        changes = strides > 1 or source[-1] != width
        if changes:
            with drawn.beside(source):
                drawn.conv(width, kernel=1, strides=strides, norm_next=drawn.bare)
        for block in range(blocks):
            drawn.preactivated(width, strides=strides if block == 0 else 1)
            drawn.preactivated(width)
        first = "" if strides == 1 else ", first stride 2"
        drawn.part(LEAVES, drawn.then(f"{_times(blocks)}{drawn.activated}", f"conv {width}") + first)
        drawn.part(RUNS, indent + drawn.then(drawn.activated, dropout, f"conv {width}"))
        drawn.line(ADDED, (indent + "first skip by conv 1×1") if changes else "")
    drawn.norm()
    drawn.line(TRUNK, drawn.activated)
    _averaged_head(drawn)


def _densenet(drawn: _Stack, recipe: Densenet) -> None:
    first = 2 * recipe.growth if recipe.bottleneck else 16
    layers = (recipe.depth - 4) // (6 if recipe.bottleneck else 3)
    indent = " " * len(_times(layers))
    dropout = f"dropout {recipe.dropout:g}" if recipe.dropout else ""
    drawn.conv(first, norm_next=drawn.bare)
    drawn.line(TRUNK, f"conv {first}")
    for block in (1, 2, 3):
        for _ in range(layers):
            source = drawn.shape
            if recipe.bottleneck:
                drawn.preactivated(4 * recipe.growth, kernel=1)
            drawn.preactivated(recipe.growth)
            drawn.shape = (*source[:2], source[2] + recipe.growth)
        grown = drawn.then(drawn.activated, f"conv {recipe.growth}", dropout)
        if recipe.bottleneck:
            drawn.part(LEAVES, _times(layers) + drawn.then(drawn.activated, f"conv 1×1 {4 * recipe.growth}", dropout))
            drawn.part(RUNS, indent + grown)
        else:
            drawn.part(LEAVES, _times(layers) + grown)
        drawn.line(JOINED, f"{indent}each with its input")
        if block < 3:
            width = int(drawn.shape[-1] * recipe.compression)
            drawn.preactivated(width, kernel=1)
            drawn.pool()
            drawn.line(TRUNK, drawn.then(drawn.activated, f"conv 1×1 {width}", dropout) + " ─ pool")
    drawn.norm()
    drawn.line(TRUNK, drawn.activated)
    _averaged_head(drawn)
