"""The lecture's plain networks: groups of convolutions that stop learning when they get deep, and what saves them."""

from __future__ import annotations

from typing import Any

from keras import KerasTensor, layers

from kerascnn.zoo.blocks import Style, pool


def build_plain(
    x: KerasTensor,
    *,
    filters: list[int],
    convs_per_group: int,
    hidden: list[int],
    skip: str,
    classes: int,
    **style: Any,
) -> KerasTensor:
    """Groups of 3×3 convolutions, each closed by a 2×2 max pool; Flatten; hidden layers; logits.

    Args:
        x: scaled pixels, shape ``(batch, height, width, channels)``.
        filters: the width of each group.
        convs_per_group: convolutions in each group.
        hidden: widths of the dense layers before the last.
        skip: ``none``; ``group``, ``full``, ``dense`` or ``long``, each the function of that name below.
        classes: number of logits.
        style: activation, initializer and BatchNorm, see :class:`~kerascnn.zoo.blocks.Style`.

    Returns:
        Logits, shape ``(batch, classes)``.
    """
    conv = Style(**style)
    first_output = None
    for group, width in enumerate(filters, start=1):
        name = f"block{group}"
        group_input = x
        for index in range(1, convs_per_group + 1):
            conv_input = x
            x = conv.conv_unit(x, width, name=f"{name}_conv{index}")
            if skip == "full":
                x = full_skip(conv, conv_input, x, name=f"{name}_conv{index}")
        x = pool(x, f"{name}_pool")
        if skip == "group":
            x = group_skip(conv, group_input, x, name=name)
        elif skip == "dense":
            x = dense_skip(group_input, x, name=name)
        first_output = x if first_output is None else first_output
    if skip == "long" and first_output is not None:
        x = long_skip(conv, first_output, x)
    x = layers.Flatten(data_format="channels_last", name="flatten")(x)
    for index, width in enumerate(hidden, start=1):
        x = conv.dense(x, width, name=f"hidden{index}", activation=conv.activation)
    return conv.logits(x, classes)


def group_skip(conv: Style, group_input: KerasTensor, pooled: KerasTensor, *, name: str) -> KerasTensor:
    """Step 11: add an activated 3×3 stride-2 convolution of the group's input to the group's pooled output."""
    shortcut = conv.conv(group_input, pooled.shape[-1], name=f"{name}_skip", strides=2)
    # At an odd side the pool drops the last row and the padded convolution doesn't.
    shortcut = crop_to(conv.act(shortcut, f"{name}_skip"), pooled, f"{name}_skip")
    return layers.Add(name=f"{name}_add")([pooled, shortcut])


def full_skip(conv: Style, conv_input: KerasTensor, activated: KerasTensor, *, name: str) -> KerasTensor:
    """Step 11b: add the convolution's input to its output, through a 1×1 convolution where the width changes."""
    shortcut = conv_input
    if conv_input.shape[-1] != activated.shape[-1]:
        shortcut = conv.conv(conv_input, activated.shape[-1], kernel=1, name=f"{name}_skip")
    return layers.Add(name=f"{name}_add")([activated, shortcut])


def dense_skip(group_input: KerasTensor, pooled: KerasTensor, *, name: str) -> KerasTensor:
    """Step 11c: concatenate the group's pooled output with its pooled input."""
    return layers.Concatenate(axis=-1, name=f"{name}_concat")([pooled, pool(group_input, f"{name}_skip_pool")])


def long_skip(conv: Style, first_output: KerasTensor, last_output: KerasTensor) -> KerasTensor:
    """Step 11d: add the first group's output, brought to size by a strided 3×3 convolution, to the last group's."""
    strides = first_output.shape[1] // last_output.shape[1]
    shortcut = conv.conv(first_output, last_output.shape[-1], name="long_skip", strides=strides)
    shortcut = crop_to(shortcut, last_output, "long_skip")
    return layers.Add(name="long_skip_add")([last_output, shortcut])


def crop_to(x: KerasTensor, like: KerasTensor, name: str) -> KerasTensor:
    """Drop the last rows and columns until the sides are those of ``like``."""
    rows, columns = x.shape[1] - like.shape[1], x.shape[2] - like.shape[2]
    if not rows and not columns:
        return x
    return layers.Cropping2D(((0, rows), (0, columns)), data_format="channels_last", name=f"{name}_crop")(x)
