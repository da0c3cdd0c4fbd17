"""Densely connected networks for 32×32 images: Huang 2016, arXiv 1608.06993."""

from __future__ import annotations

from typing import Any

from keras import KerasTensor, layers

from kerascnn.zoo.blocks import Style, drop


def build_densenet(
    x: KerasTensor,
    *,
    depth: int,
    growth: int,
    bottleneck: bool,
    compression: float,
    dropout: float,
    classes: int,
    **style: Any,
) -> KerasTensor:
    """Three dense blocks with a transition between them, global average pool, logits.

    Args:
        x: scaled pixels, shape ``(batch, height, width, channels)``.
        depth: 3 n + 4, with bottleneck 6 n + 4; n layers in each block.
        growth: channels that each layer adds (k in the paper).
        bottleneck: a 1×1 convolution to 4 k channels before each 3×3 (DenseNet-B).
        compression: share of the channels that a transition keeps (θ, DenseNet-C).
        dropout: after each convolution; the published figures with augmentation have none.
        classes: number of logits.
        style: activation, initializer and BatchNorm, see :class:`~kerascnn.zoo.blocks.Style`.

    Returns:
        Logits, shape ``(batch, classes)``.
    """
    conv = Style(**style)
    bare = conv.batch_norm == "before"
    per_block = (depth - 4) // (6 if bottleneck else 3)
    first_width = 2 * growth if bottleneck else 16
    x = conv.conv(x, first_width, name="conv1", batch_norm_next=bare)
    for block in (1, 2, 3):
        for index in range(1, per_block + 1):
            name = f"block{block}_layer{index}"
            x = dense_layer(conv, x, growth, bottleneck=bottleneck, dropout=dropout, name=name)
        if block < 3:
            x = transition(conv, x, int(x.shape[-1] * compression), dropout=dropout, name=f"transition{block}")
    x = conv.activate(x, "last")
    x = layers.GlobalAveragePooling2D(data_format="channels_last", name="average")(x)
    return conv.logits(x, classes)


def dense_layer(
    conv: Style, x: KerasTensor, growth: int, *, bottleneck: bool, dropout: float, name: str
) -> KerasTensor:
    """BatchNorm, activation, 3×3 convolution to ``growth`` channels, concatenated to the input."""
    new = x
    if bottleneck:
        new = preactivated_conv(conv, new, 4 * growth, kernel=1, dropout=dropout, name=f"{name}_bottleneck")
    new = preactivated_conv(conv, new, growth, kernel=3, dropout=dropout, name=f"{name}_conv")
    return layers.Concatenate(axis=-1, name=f"{name}_concat")([x, new])


def transition(conv: Style, x: KerasTensor, width: int, *, dropout: float, name: str) -> KerasTensor:
    """BatchNorm, activation, 1×1 convolution, 2×2 average pool."""
    x = preactivated_conv(conv, x, width, kernel=1, dropout=dropout, name=f"{name}_conv")
    return layers.AveragePooling2D(2, data_format="channels_last", name=f"{name}_pool")(x)


def preactivated_conv(
    conv: Style, x: KerasTensor, width: int, *, kernel: int, dropout: float, name: str
) -> KerasTensor:
    """BatchNorm and activation first, then the convolution."""
    x = conv.activate(x, name)
    x = conv.conv(x, width, kernel=kernel, name=name, batch_norm_next=conv.batch_norm == "before")
    return drop(x, dropout, name=f"{name}_dropout") if dropout else x
