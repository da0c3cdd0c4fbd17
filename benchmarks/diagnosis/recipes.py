"""Recipes that don't learn, each with a change that is meant to help; whether it does is found by training.

The networks are small: their depth lies behind two poolings, where a convolution costs next to nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

# The first number that puts at least two of each family into both parts; chosen before any was trained.
SPLIT = 0

RATE = "train.optimizer.learning_rate"
BASES: dict[str, dict[str, Any]] = {
    "stack": {"builder": "vgg", "filters": [8, 8, 8], "convs_per_group": [1, 1, 1], "hidden": []},
    "plain": {"builder": "plain", "filters": [8, 16], "convs_per_group": 1, "hidden": [32]},
}
IMAGES: dict[str, dict[str, Any]] = {
    "fashion": {"dataset": "fashion_mnist_mini", "input_shape": [28, 28, 1]},
    "cifar": {"dataset": "cifar10", "input_shape": [32, 32, 3]},
}
SGD = {"train.optimizer.name": "sgd"}
MOMENTUM = {**SGD, "train.optimizer.momentum": 0.9}
RELU_HE = {"activation": "relu", "initializer": "he_normal"}


@dataclass(frozen=True)
class Broken:
    """A recipe: a base with changes that break it. ``counterpart`` are those that are meant to bring it back."""

    family: str
    base: str
    data: str
    changes: Mapping[str, Any]
    counterpart: Mapping[str, Any]
    later: bool = False

    @property
    def name(self) -> str:
        """The family, the base, and what was changed, so that no two are called the same."""
        changes = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.changes.items())
        return f"{self.family}: {self.base} on {self.data}, {changes}"

    @property
    def part(self) -> str:
        """Whether anything may be fitted to it; by its name alone, so it stays when others come and go.

        Those that were written ``later``, when the held out ones had been seen, are held out by themselves.
        """
        if self.later:
            return "later"
        return "held-out" if int(self._hash[:8], 16) % 2 else "calibration"

    @property
    def place(self) -> str:
        """Where it stands in the order of work: mixed, so that a part of a list is a sample of it."""
        return self._hash[8:]

    @property
    def _hash(self) -> str:
        return hashlib.sha256(f"{SPLIT} {self.name}".encode()).hexdigest()


def a_family(name: str, *broken: tuple[str, str, Mapping[str, Any], Mapping[str, Any]]) -> Sequence[Broken]:
    """Recipes that fail for the same reason."""
    return [Broken(name, *one) for one in broken]


def deep(convolutions: int, **changes: Any) -> dict[str, Any]:
    """So many convolutions behind the second pooling of a stack."""
    return {"convs_per_group": [1, 1, convolutions], **changes}


FIRST: tuple[Broken, ...] = (
    *a_family(
        "sigmoid depth",
        ("stack", "fashion", deep(4, activation="sigmoid"), RELU_HE),
        ("stack", "fashion", deep(8, activation="sigmoid", initializer="lecun_normal"), RELU_HE),
        ("stack", "cifar", deep(6, activation="sigmoid"), RELU_HE),
        ("stack", "fashion", deep(6, activation="sigmoid") | {"train.scaling": "standardize"}, RELU_HE),
        ("plain", "fashion", {"activation": "sigmoid", "filters": [8, 8, 8], "convs_per_group": 2}, RELU_HE),
        ("stack", "fashion", deep(5, activation="sigmoid") | SGD | {RATE: 0.1}, {"batch_norm": "after"}),
        ("plain", "cifar", {"activation": "sigmoid", "filters": [8, 8, 16], "convs_per_group": 3}, RELU_HE),
    ),
    *a_family(
        "relu depth",
        ("stack", "fashion", deep(16) | {RATE: 5e-3}, {"initializer": "he_normal", RATE: 1e-3}),
        ("stack", "cifar", deep(16) | {RATE: 5e-3}, {"initializer": "he_normal", RATE: 1e-3}),
        ("stack", "fashion", deep(20, activation="silu") | SGD | {RATE: 0.01}, RELU_HE | {"batch_norm": "after"}),
        ("stack", "fashion", deep(16) | SGD | {RATE: 0.01}, {"initializer": "he_normal", "batch_norm": "after"}),
        ("stack", "fashion", deep(14, activation="gelu"), {"batch_norm": "after"}),
        ("stack", "fashion", deep(18, initializer="lecun_uniform"), {"batch_norm": "after"}),
        ("plain", "fashion", {"filters": [8, 8, 8], "convs_per_group": 5, RATE: 5e-3}, {"batch_norm": "after"}),
        ("stack", "cifar", deep(18, activation="silu"), {"batch_norm": "after"}),
    ),
    # With Glorot's or He's weights tanh learns at any depth that is quick to train; it takes large steps to saturate.
    *a_family(
        "saturation",
        ("stack", "fashion", deep(8, activation="tanh") | {RATE: 0.05}, {RATE: 1e-3}),
        ("stack", "cifar", deep(12, activation="tanh") | {RATE: 0.1}, {RATE: 1e-3}),
        (
            "stack",
            "fashion",
            deep(6, activation="tanh", initializer="he_uniform") | MOMENTUM | {RATE: 3.0},
            {RATE: 0.03},
        ),
        (
            "plain",
            "fashion",
            {"activation": "tanh", "filters": [8, 8, 8], "convs_per_group": 4, RATE: 0.1},
            {RATE: 1e-3},
        ),
        ("plain", "fashion", {"activation": "sigmoid", "hidden": [512], RATE: 0.03}, RELU_HE | {RATE: 1e-3}),
        ("plain", "cifar", {"activation": "sigmoid", "hidden": [512], RATE: 0.01}, RELU_HE | {RATE: 1e-3}),
    ),
    *a_family(
        "dead by rate",
        ("stack", "fashion", deep(2) | {RATE: 0.1}, {RATE: 1e-3}),
        ("stack", "cifar", deep(3, initializer="he_normal") | {RATE: 0.05}, {RATE: 1e-3}),
        ("plain", "fashion", {"initializer": "he_normal", RATE: 0.1}, {RATE: 1e-3}),
        ("plain", "cifar", {"initializer": "he_normal", RATE: 0.2}, {RATE: 1e-3}),
        ("stack", "fashion", deep(3, initializer="he_normal") | SGD | {RATE: 3.0}, {RATE: 0.03}),
        (
            "plain",
            "fashion",
            {"initializer": "he_uniform", "filters": [8, 8, 8]} | MOMENTUM | {RATE: 1.0},
            {RATE: 0.01},
        ),
    ),
    *a_family(
        "rate too high",
        ("stack", "fashion", deep(2, activation="tanh") | {RATE: 0.3}, {RATE: 1e-3}),
        ("stack", "cifar", deep(2, activation="elu") | {RATE: 1.0}, {RATE: 1e-3}),
        ("plain", "fashion", {"activation": "elu", "initializer": "he_normal"} | MOMENTUM | {RATE: 1.0}, {RATE: 0.01}),
        ("stack", "fashion", deep(2, activation="gelu", initializer="he_normal") | SGD | {RATE: 30.0}, {RATE: 0.1}),
        ("plain", "fashion", {"activation": "leaky_relu", RATE: 1.0}, {RATE: 1e-3}),
        ("plain", "cifar", {"activation": "sigmoid", RATE: 0.1}, RELU_HE | {RATE: 1e-3}),
    ),
    *a_family(
        "rate too low",
        ("stack", "fashion", deep(2, initializer="he_normal") | {RATE: 1e-6}, {RATE: 1e-3}),
        ("stack", "cifar", deep(2, initializer="he_normal", batch_norm="after") | {RATE: 1e-7}, {RATE: 1e-3}),
        ("plain", "fashion", {"initializer": "he_normal"} | SGD | {RATE: 1e-5}, {RATE: 0.03}),
        ("plain", "fashion", {"activation": "tanh", "train.scaling": "standardize", RATE: 1e-6}, {RATE: 1e-3}),
        ("plain", "cifar", {"initializer": "he_normal"} | MOMENTUM | {RATE: 1e-6}, {RATE: 0.01}),
        ("stack", "fashion", deep(3, activation="silu", initializer="he_normal") | {RATE: 1e-8}, {RATE: 1e-3}),
        ("plain", "fashion", {"initializer": "he_normal", "train.clip_norm": 1e-3} | SGD | {RATE: 0.01}, {RATE: 10.0}),
    ),
    *a_family(
        "raw pixels",
        ("plain", "fashion", {"train.scaling": "none", "activation": "sigmoid"}, {"train.scaling": "standardize"}),
        ("stack", "fashion", deep(1) | {"train.scaling": "none"} | SGD | {RATE: 0.1}, {"train.scaling": "standardize"}),
        (
            "stack",
            "cifar",
            deep(2, activation="tanh") | {"train.scaling": "none", RATE: 0.01},
            {"train.scaling": "standardize", RATE: 1e-3},
        ),
        (
            "plain",
            "fashion",
            {"train.scaling": "none", "initializer": "he_normal"} | SGD | {RATE: 0.01},
            {"train.scaling": "standardize"},
        ),
        (
            "plain",
            "cifar",
            {"train.scaling": "none", "initializer": "he_normal"} | MOMENTUM | {RATE: 0.01},
            {"train.scaling": "standardize"},
        ),
        ("stack", "cifar", deep(2) | {"train.scaling": "caffe"} | SGD | {RATE: 0.1}, {"train.scaling": "standardize"}),
        (
            "plain",
            "cifar",
            {"train.scaling": "none", "activation": "tanh", RATE: 0.01},
            {"train.scaling": "standardize", RATE: 1e-3},
        ),
    ),
    *a_family(
        "exploding signal",
        (
            "stack",
            "fashion",
            deep(20, activation="linear", initializer="he_normal") | SGD | {RATE: 0.1},
            RELU_HE | {"batch_norm": "after"},
        ),
        ("stack", "fashion", deep(16, activation="elu", initializer="he_normal") | SGD | {RATE: 1.0}, {RATE: 0.01}),
        (
            "stack",
            "cifar",
            deep(20, activation="linear", initializer="he_uniform") | {RATE: 0.03},
            RELU_HE | {RATE: 1e-3},
        ),
        (
            "stack",
            "cifar",
            deep(16, activation="leaky_relu", initializer="he_normal") | MOMENTUM | {RATE: 0.3},
            {"batch_norm": "after", RATE: 0.03},
        ),
        (
            "plain",
            "fashion",
            {"activation": "linear", "initializer": "he_normal", "filters": [8, 8, 8], "convs_per_group": 5, RATE: 0.1},
            RELU_HE | {RATE: 1e-3},
        ),
        (
            "stack",
            "fashion",
            deep(14, activation="linear", initializer="he_normal") | {"train.scaling": "none"} | SGD | {RATE: 0.01},
            RELU_HE | {"train.scaling": "standardize"},
        ),
    ),
    *a_family(
        "dropout",
        ("stack", "fashion", {"hidden": [32], "dropout": 0.97}, {"dropout": 0.2}),
        ("stack", "fashion", {"hidden": [64, 64], "dropout": 0.9, "initializer": "he_normal"}, {"dropout": 0.2}),
        ("stack", "cifar", {"hidden": [32, 32], "dropout": 0.9}, {"dropout": 0.2}),
        (
            "stack",
            "fashion",
            {"hidden": [32], "dropout": 0.98, "activation": "tanh"} | SGD | {RATE: 0.05},
            {"dropout": 0.2},
        ),
        ("stack", "cifar", {"hidden": [64], "dropout": 0.97, "initializer": "he_normal"}, {"dropout": 0.2}),
    ),
    *a_family(
        "two at once",
        ("stack", "fashion", deep(5, activation="sigmoid") | {RATE: 0.1}, RELU_HE | {RATE: 1e-3}),
        ("stack", "fashion", deep(5, activation="sigmoid") | {RATE: 1e-6}, RELU_HE | {RATE: 1e-3}),
        (
            "stack",
            "cifar",
            deep(5, activation="sigmoid") | {"train.scaling": "none"},
            RELU_HE | {"train.scaling": "standardize"},
        ),
        ("plain", "fashion", {"train.scaling": "none", RATE: 0.1}, {"train.scaling": "standardize", RATE: 1e-3}),
        (
            "stack",
            "fashion",
            deep(16) | {"train.scaling": "none"} | SGD | {RATE: 0.1},
            {"train.scaling": "standardize", "batch_norm": "after"},
        ),
        ("stack", "fashion", {"hidden": [32, 32], "dropout": 0.9, RATE: 1e-6}, {"dropout": 0.2, RATE: 1e-3}),
        ("stack", "cifar", deep(14) | {RATE: 0.1}, {"initializer": "he_normal", RATE: 1e-3}),
        ("stack", "fashion", deep(16) | SGD | {RATE: 1e-5}, {"batch_norm": "after", RATE: 0.03}),
    ),
)

# The remedies' learning rates were changed by what had been held out of the first. So these came, and were run once.
LATER: tuple[Broken, ...] = (
    *a_family(
        "sigmoid depth",
        ("stack", "fashion", deep(5, activation="sigmoid"), RELU_HE),
        ("stack", "cifar", deep(7, activation="sigmoid", initializer="he_normal"), RELU_HE),
        ("plain", "fashion", {"activation": "sigmoid", "filters": [8, 8, 8], "convs_per_group": 3}, RELU_HE),
    ),
    *a_family(
        "relu depth",
        ("stack", "fashion", deep(18) | {RATE: 5e-3}, {"initializer": "he_normal", RATE: 1e-3}),
        ("stack", "cifar", deep(20) | SGD | {RATE: 0.01}, {"batch_norm": "after"}),
        ("stack", "fashion", deep(22, activation="silu"), {"batch_norm": "after"}),
    ),
    *a_family(
        "saturation",
        ("stack", "fashion", deep(10, activation="tanh") | {RATE: 0.1}, {RATE: 1e-3}),
        ("stack", "cifar", deep(6, activation="tanh") | MOMENTUM | {RATE: 3.0}, {RATE: 0.03}),
        ("plain", "fashion", {"activation": "sigmoid", "hidden": [256], RATE: 0.1}, RELU_HE | {RATE: 1e-3}),
    ),
    *a_family(
        "dead by rate",
        ("stack", "fashion", deep(2, initializer="he_normal") | {RATE: 0.2}, {RATE: 1e-3}),
        ("stack", "cifar", deep(2) | SGD | {RATE: 5.0}, {RATE: 0.03}),
        ("plain", "cifar", {"filters": [8, 8, 8]} | MOMENTUM | {RATE: 2.0}, {RATE: 0.01}),
        ("plain", "fashion", {"filters": [8, 8, 8], RATE: 0.3}, {RATE: 1e-3}),
    ),
    *a_family(
        "rate too high",
        ("stack", "fashion", deep(3, activation="elu") | {RATE: 1.0}, {RATE: 1e-3}),
        ("plain", "cifar", {"activation": "gelu"} | SGD | {RATE: 30.0}, {RATE: 0.1}),
        ("plain", "fashion", {"activation": "tanh"} | MOMENTUM | {RATE: 10.0}, {RATE: 0.03}),
        ("stack", "cifar", deep(2, activation="leaky_relu", initializer="he_normal") | {RATE: 0.5}, {RATE: 1e-3}),
    ),
    *a_family(
        "rate too low",
        ("stack", "fashion", deep(3, activation="elu") | {RATE: 1e-7}, {RATE: 1e-3}),
        ("plain", "cifar", {"initializer": "he_normal"} | SGD | {RATE: 1e-6}, {RATE: 0.03}),
        ("plain", "fashion", {"activation": "silu"} | {RATE: 3e-6}, {RATE: 1e-3}),
        ("stack", "cifar", deep(2, activation="tanh") | MOMENTUM | {RATE: 1e-5}, {RATE: 0.03}),
    ),
    *a_family(
        "raw pixels",
        ("plain", "fashion", {"train.scaling": "none"} | SGD | {RATE: 0.03}, {"train.scaling": "standardize"}),
        (
            "stack",
            "cifar",
            deep(2) | {"train.scaling": "none"} | MOMENTUM | {RATE: 0.03},
            {"train.scaling": "standardize"},
        ),
        ("plain", "cifar", {"train.scaling": "none", "activation": "sigmoid"}, {"train.scaling": "standardize"}),
    ),
    *a_family(
        "exploding signal",
        (
            "stack",
            "fashion",
            deep(18, activation="elu", initializer="he_normal") | MOMENTUM | {RATE: 0.3},
            {RATE: 1e-3},
        ),
        (
            "stack",
            "cifar",
            deep(18, activation="linear", initializer="he_normal") | SGD | {RATE: 0.1},
            RELU_HE | {"batch_norm": "after"},
        ),
        (
            "stack",
            "fashion",
            deep(16, activation="gelu", initializer="he_uniform") | {"train.scaling": "none", RATE: 0.03},
            {"train.scaling": "standardize", "batch_norm": "after", RATE: 1e-3},
        ),
    ),
    *a_family(
        "dropout",
        ("stack", "fashion", {"hidden": [64], "dropout": 0.98}, {"dropout": 0.2}),
        ("stack", "cifar", {"hidden": [64, 64], "dropout": 0.9, "initializer": "he_normal"}, {"dropout": 0.2}),
        ("stack", "fashion", {"hidden": [32, 32], "dropout": 0.95}, {"dropout": 0.2}),
    ),
    *a_family(
        "two at once",
        ("stack", "fashion", deep(6, activation="sigmoid") | SGD | {RATE: 1e-4}, RELU_HE | {RATE: 0.03}),
        ("plain", "cifar", {"train.scaling": "none", RATE: 0.1}, {"train.scaling": "standardize", RATE: 1e-3}),
        ("stack", "fashion", {"hidden": [32], "dropout": 0.97, RATE: 1e-6}, {"dropout": 0.2, RATE: 1e-3}),
        ("stack", "fashion", deep(16) | {RATE: 0.1}, {"initializer": "he_normal", RATE: 1e-3}),
    ),
)

RECIPES: tuple[Broken, ...] = (*FIRST, *(replace(one, later=True) for one in LATER))
