"""What draws at random in a network while it trains: which layers do, how strongly, and how to turn them off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

Kinds = dict[type[keras.layers.Layer], str]

# The attribute that says how strongly. Keras reads it at each call or tracing; at 0 nothing is drawn.
DROPOUT: Kinds = {
    keras.layers.Dropout: "rate",
    keras.layers.GaussianDropout: "rate",
    keras.layers.AlphaDropout: "rate",
    keras.layers.Attention: "dropout",
}
NOISE: Kinds = {keras.layers.GaussianNoise: "stddev"}


def largest_dropout(model: keras.Model) -> float:
    """The largest rate of all dropout in a model, inside other layers too; 0 where there is none."""
    return max((float(getattr(layer, attribute)) for layer, attribute in _active(model, DROPOUT)), default=0.0)


def turn_off(model: keras.Model) -> list[str]:
    """Turn off all dropout and noise in a model, for good; which of the two there was."""
    found = {"dropout": _active(model, DROPOUT), "noise": _active(model, NOISE)}
    for layer, attribute in (*found["dropout"], *found["noise"]):
        setattr(layer, attribute, 0.0)
    return [name for name, there in found.items() if there]


@contextmanager
def turned_off(model: keras.Model) -> Iterator[None]:
    """Inside, a model has neither dropout nor noise."""
    found = _active(model, DROPOUT | NOISE)
    strengths = [getattr(layer, attribute) for layer, attribute in found]
    for layer, attribute in found:
        setattr(layer, attribute, 0.0)
    try:
        yield
    finally:
        for (layer, attribute), strength in zip(found, strengths, strict=True):
            setattr(layer, attribute, strength)


def _active(model: keras.Model, kinds: Kinds) -> list[tuple[keras.layers.Layer, str]]:
    """The layers of these kinds that draw, those inside other layers among them, each with its attribute."""
    return [
        (layer, attribute)
        for layer in model._flatten_layers(include_self=False)
        for kind, attribute in kinds.items()
        if isinstance(layer, kind) and getattr(layer, attribute) > 0
    ]
