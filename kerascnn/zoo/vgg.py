"""VGG: Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, arXiv 1409.1556."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from keras import KerasTensor, initializers, layers

from kerascnn.zoo.blocks import Style, drop, pool


def build_vgg(
    x: KerasTensor,
    *,
    filters: list[int],
    convs_per_group: list[int],
    hidden: list[int],
    dense_deviation: float,
    dropout: float,
    classes: int,
    **style: Any,
) -> KerasTensor:
    """VGG with the layer names of ``keras.applications``, so that its published weights fit.

    Args:
        x: scaled pixels, shape ``(batch, height, width, channels)``.
        filters: the width of each group.
        convs_per_group: convolutions in each group.
        hidden: widths of the dense layers before the last.
        dense_deviation: of the dense layers' normal initial kernels; 0 leaves them to ``initializer``.
        dropout: share of the hidden units that is dropped after each hidden layer.
        classes: number of logits.
        style: activation, initializer and BatchNorm, see :class:`~kerascnn.zoo.blocks.Style`.

    Returns:
        Logits, shape ``(batch, classes)``.
    """
    conv = Style(**style)
    for group, (width, convs) in enumerate(zip(filters, convs_per_group, strict=True), start=1):
        for index in range(1, convs + 1):
            x = conv.conv_unit(x, width, name=f"block{group}_conv{index}")
        x = pool(x, f"block{group}_pool")
    x = layers.Flatten(data_format="channels_last", name="flatten")(x)
    head = replace(conv, initializer=initializers.RandomNormal(stddev=dense_deviation)) if dense_deviation else conv
    for index, width in enumerate(hidden, start=1):
        x = head.dense(x, width, name=f"fc{index}", activation=conv.activation)
        if dropout:
            x = drop(x, dropout, name=f"fc{index}_dropout")
    return head.logits(x, classes, name="predictions")
