"""Residual networks for 32×32 images: He 2015 (arXiv 1512.03385) and Zagoruyko 2016 (arXiv 1605.07146)."""

from __future__ import annotations

from typing import Any

from keras import KerasTensor, layers, ops

from kerascnn.zoo.blocks import Style, drop


def build_resnet(
    x: KerasTensor,
    *,
    filters: list[int],
    blocks_per_stage: int,
    shortcut: str,
    classes: int,
    **style: Any,
) -> KerasTensor:
    """A first convolution, stages of basic blocks that halve the size and widen, global average pool, logits.

    Args:
        x: scaled pixels, shape ``(batch, height, width, channels)``.
        filters: the width of each stage.
        blocks_per_stage: blocks of two convolutions in each stage.
        shortcut: ``pad`` (option A of the paper) or ``projection`` (option B) where width or size changes.
        classes: number of logits.
        style: activation, initializer and BatchNorm, see :class:`~kerascnn.zoo.blocks.Style`.

    Returns:
        Logits, shape ``(batch, classes)``.
    """
    conv = Style(**style)
    x = conv.conv_unit(x, filters[0], name="conv1")
    for stage, width in enumerate(filters, start=1):
        for block in range(1, blocks_per_stage + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = basic_block(conv, x, width, strides=strides, shortcut=shortcut, name=f"stage{stage}_block{block}")
    x = layers.GlobalAveragePooling2D(data_format="channels_last", name="average")(x)
    return conv.logits(x, classes)


def basic_block(conv: Style, x: KerasTensor, width: int, *, strides: int, shortcut: str, name: str) -> KerasTensor:
    """Two 3×3 convolutions, the block's input added before the second activation."""
    block_input = x
    x = conv.conv_unit(x, width, name=f"{name}_conv1", strides=strides)
    x = conv.linear_unit(x, width, name=f"{name}_conv2")
    if strides > 1 or block_input.shape[-1] != width:
        if shortcut == "projection":
            block_input = conv.linear_unit(block_input, width, kernel=1, strides=strides, name=f"{name}_skip")
        else:
            block_input = pad_shortcut(block_input, width, strides=strides, name=f"{name}_skip")
    x = layers.Add(name=f"{name}_add")([x, block_input])
    return conv.act(x, f"{name}_out")


def pad_shortcut(x: KerasTensor, width: int, *, strides: int, name: str) -> KerasTensor:
    """Every ``strides``-th pixel, and zeros in the new channels, half on each side: a shortcut without weights."""
    if strides > 1:
        x = layers.MaxPooling2D(1, strides, data_format="channels_last", name=f"{name}_subsample")(x)
    extra = width - x.shape[-1]
    if extra <= 0:
        return x
    return ops.pad(x, ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))


def build_wide_resnet(
    x: KerasTensor,
    *,
    depth: int,
    widen: int,
    dropout: float,
    classes: int,
    **style: Any,
) -> KerasTensor:
    """WRN-depth-widen: three stages of pre-activated blocks, (depth - 4) / 6 in each.

    Args:
        x: scaled pixels, shape ``(batch, height, width, channels)``.
        depth: 6 n + 4.
        widen: the stages are 16, 32 and 64 times this wide.
        dropout: between the two convolutions of a block.
        classes: number of logits.
        style: activation, initializer and BatchNorm, see :class:`~kerascnn.zoo.blocks.Style`.

    Returns:
        Logits, shape ``(batch, classes)``.
    """
    conv = Style(**style)
    before = conv.batch_norm == "before"
    x = conv.conv(x, 16, name="conv1", batch_norm_next=before)
    for stage, base in enumerate((16, 32, 64), start=1):
        for block in range(1, (depth - 4) // 6 + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            name = f"stage{stage}_block{block}"
            x = preactivated_block(conv, x, base * widen, strides=strides, dropout=dropout, name=name)
    x = conv.activate(x, "last")
    x = layers.GlobalAveragePooling2D(data_format="channels_last", name="average")(x)
    return conv.logits(x, classes)


def preactivated_block(
    conv: Style, x: KerasTensor, width: int, *, strides: int, dropout: float, name: str
) -> KerasTensor:
    """BatchNorm, activation and 3×3 convolution, twice; a 1×1 convolution as shortcut where the width changes."""
    block_input = x
    # The convolutions here are followed by an addition or, at a distance, by BatchNorm: published without bias.
    bare = conv.batch_norm == "before"
    x = conv.activate(x, f"{name}_1")
    if block_input.shape[-1] != width or strides > 1:
        block_input = conv.conv(x, width, kernel=1, strides=strides, name=f"{name}_skip", batch_norm_next=bare)
    x = conv.conv(x, width, name=f"{name}_conv1", strides=strides, batch_norm_next=bare)
    x = conv.activate(x, f"{name}_2")
    if dropout:
        x = drop(x, dropout, name=f"{name}_dropout")
    x = conv.conv(x, width, name=f"{name}_conv2", batch_norm_next=bare)
    return layers.Add(name=f"{name}_add")([x, block_input])
