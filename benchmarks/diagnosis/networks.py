"""The networks: plain Keras layers, none of the zoo, and each with neighbours that only a measurement tells apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

# The first number that puts at least 21 networks of either kind, and both kinds of each family, into both parts; chosen
# before any was diagnosed. Those that came later fall where it puts them.
SPLIT = 62


@dataclass(frozen=True)
class Network:
    """A network with its training. ``fails`` says what its parameters are meant to do; the truth is found apart."""

    family: str
    fails: bool
    data: str = "fashion"
    depth: int = 3
    width: int = 12
    activation: str = "relu"
    initializer: str = "glorot_uniform"
    bias: float = 0.0
    first: str = "none"
    norm: str = "none"
    skip: bool = False
    hidden: int = 0
    head: str = "logits"
    scaling: str = "unit"
    optimizer: str = "adam"
    rate: float = 1e-3
    labels: str = "true"

    @property
    def name(self) -> str:
        """The family and what differs from the defaults, so that no two are called the same."""
        changes = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)[2:]
            if getattr(self, field.name) != field.default
        ]
        return f"{self.family}: {', '.join(changes) or 'plain'}"

    @property
    def part(self) -> str:
        """Whether the rules may be fitted to it; by its name alone, so it stays when others come and go."""
        return "held-out" if int(self._hash[:8], 16) % 2 else "calibration"

    @property
    def _hash(self) -> str:
        return hashlib.sha256(f"{SPLIT} {self.name}".encode()).hexdigest()

    @property
    def place(self) -> str:
        """Where it stands in the order of work: mixed, so that a part of a list is a sample of it."""
        return self._hash[8:]


def a_family(name: str, common: dict[str, Any], fails: Sequence[Any], learns: Sequence[Any]) -> list[Network]:
    """Networks that are alike but for what makes some of them fail."""
    return [
        Network(name, meant, **{**common, **own}) for meant, group in ((True, fails), (False, learns)) for own in group
    ]


NETWORKS = (
    *a_family(
        "sigmoid depth",
        {"activation": "sigmoid"},
        fails=[
            {"depth": 5, "width": 16},
            {"depth": 6, "data": "cifar"},
            {"depth": 8, "width": 8, "scaling": "standardize"},
            {"depth": 6, "activation": "hard_sigmoid"},
            {"depth": 6, "optimizer": "sgd", "rate": 0.1, "head": "softmax"},
        ],
        learns=[
            {"depth": 1, "width": 16, "rate": 3e-3},
            {"depth": 6, "norm": "batch"},
            {"depth": 5, "norm": "batch", "data": "cifar", "width": 16},
            {"depth": 6, "skip": True, "scaling": "standardize"},
            {"depth": 1, "scaling": "standardize", "head": "softmax"},
        ],
    ),
    *a_family(
        "tanh depth",
        {"activation": "tanh"},
        fails=[
            {"depth": 8, "initializer": "normal 0.003"},
            {"depth": 10, "initializer": "normal 0.01", "data": "cifar"},
            {"depth": 8, "initializer": "normal 0.003", "activation": "softsign"},
            {"depth": 12, "width": 8, "initializer": "normal 0.02", "scaling": "standardize"},
        ],
        learns=[
            {"depth": 8, "scaling": "standardize"},
            {"depth": 5, "width": 16, "data": "cifar"},
            {"depth": 8, "initializer": "normal 0.02", "norm": "batch"},
            {"depth": 6, "initializer": "orthogonal", "head": "softmax"},
        ],
    ),
    *a_family(
        "relu depth",
        {},
        fails=[
            # Narrow layers have large weights, beside which 1e-3 is a small step: what it is in wide ones takes 5e-3.
            {"depth": 18, "rate": 5e-3},
            {"depth": 16, "rate": 5e-3, "data": "cifar"},
            {"depth": 20, "rate": 5e-3, "width": 8},
            {"depth": 14, "activation": "silu", "optimizer": "sgd", "rate": 0.01},
            {"depth": 16, "optimizer": "sgd", "rate": 0.01, "head": "softmax"},
        ],
        learns=[
            {"depth": 6, "data": "cifar", "width": 16},
            {"depth": 16, "data": "cifar"},
            {"depth": 14, "initializer": "he_normal", "scaling": "standardize"},
            {"depth": 16, "norm": "batch"},
            {"depth": 16, "skip": True},
            {"depth": 10, "initializer": "he_normal", "activation": "silu"},
        ],
    ),
    *a_family(
        "exponential",
        {"activation": "exponential"},
        fails=[
            {"depth": 6, "width": 16},
            {"depth": 5, "data": "cifar", "width": 8},
            {"depth": 3, "width": 16, "scaling": "standardize", "initializer": "he_normal"},
            {"depth": 6, "rate": 1e-4},
        ],
        learns=[
            {"depth": 1, "rate": 3e-4},
            {"depth": 6, "activation": "elu"},
            {"depth": 8, "activation": "selu", "initializer": "lecun_normal"},
            {"depth": 3, "norm": "batch", "rate": 3e-4},
            {"depth": 5, "activation": "elu", "data": "cifar", "scaling": "standardize"},
        ],
    ),
    *a_family(
        "dead by bias",
        {"initializer": "he_normal"},
        fails=[
            {"bias": -3.0},
            {"bias": -2.0, "depth": 5, "width": 16},
            {"bias": -5.0, "depth": 2, "data": "cifar", "scaling": "standardize"},
            {"bias": -4.0, "depth": 4, "hidden": 32, "optimizer": "sgd", "rate": 0.05},
        ],
        learns=[
            {"bias": -0.05},
            {"bias": 0.1, "depth": 5, "data": "cifar"},
            {"bias": -3.0, "depth": 4, "norm": "batch"},
            {"bias": -0.5, "activation": "leaky_relu"},
        ],
    ),
    *a_family(
        "dead by rate",
        {"depth": 4},
        fails=[
            {"rate": 0.1},
            {"rate": 0.05, "data": "cifar", "depth": 5},
            {"rate": 0.1, "hidden": 32, "initializer": "he_normal", "head": "softmax"},
            {"optimizer": "sgd", "rate": 3.0, "initializer": "he_normal"},
        ],
        learns=[
            {"rate": 3e-3},
            {"rate": 0.01, "norm": "batch", "data": "cifar"},
            {"rate": 1e-3, "hidden": 32, "initializer": "he_normal"},
            {"optimizer": "sgd", "rate": 0.05, "initializer": "he_normal"},
        ],
    ),
    *a_family(
        "rate too high",
        {"activation": "tanh"},
        fails=[
            {"rate": 0.3},
            {"rate": 1.0, "activation": "elu", "data": "cifar", "depth": 4},
            {"optimizer": "momentum", "rate": 1.0, "activation": "elu", "initializer": "he_normal"},
            {"optimizer": "sgd", "rate": 30.0, "activation": "gelu", "initializer": "he_normal"},
        ],
        learns=[
            {"rate": 3e-3},
            {"rate": 2e-3, "activation": "elu", "data": "cifar", "depth": 4},
            {"rate": 0.03, "norm": "batch"},
            {"optimizer": "sgd", "rate": 0.1, "activation": "gelu", "initializer": "he_normal"},
        ],
    ),
    *a_family(
        "rate too low",
        {"initializer": "he_normal"},
        fails=[
            {"rate": 1e-6},
            {"rate": 1e-7, "data": "cifar", "norm": "batch"},
            {"optimizer": "sgd", "rate": 1e-5, "depth": 4, "head": "softmax"},
            {"rate": 1e-6, "activation": "tanh", "scaling": "standardize"},
        ],
        learns=[
            {"rate": 3e-4},
            {"rate": 3e-4, "data": "cifar", "norm": "batch"},
            {"optimizer": "momentum", "rate": 0.01, "depth": 4},
            {"optimizer": "rmsprop", "rate": 3e-4, "activation": "tanh"},
        ],
    ),
    *a_family(
        "raw pixels",
        {"scaling": "raw"},
        fails=[
            {"activation": "sigmoid", "depth": 2},
            {"optimizer": "sgd", "rate": 0.1},
            {"activation": "tanh", "depth": 3, "rate": 0.01, "data": "cifar"},
            {"initializer": "he_normal", "optimizer": "sgd", "rate": 0.01, "depth": 4},
            {"initializer": "he_normal", "optimizer": "momentum", "rate": 0.01, "data": "cifar", "hidden": 32},
        ],
        learns=[
            {"depth": 3},
            {"depth": 4, "norm": "batch", "data": "cifar"},
            {"depth": 4, "first": "batch_norm", "activation": "tanh"},
            {"depth": 5, "first": "rescaling", "initializer": "he_normal"},
        ],
    ),
    *a_family(
        "constant",
        {},
        fails=[
            {"initializer": "zeros"},
            {"initializer": "zeros", "activation": "tanh", "hidden": 32},
            {"initializer": "constant 0.2", "depth": 4, "activation": "tanh"},
            {"initializer": "constant 0.05", "depth": 3, "activation": "tanh", "data": "cifar"},
            {"initializer": "zeros", "norm": "batch", "head": "softmax"},
        ],
        learns=[
            {"initializer": "orthogonal", "depth": 4},
            {"initializer": "normal 0.1", "data": "cifar"},
            {"initializer": "he_uniform", "head": "zeros"},
            {"initializer": "lecun_normal", "activation": "tanh"},
        ],
    ),
    *a_family(
        "labels",
        {"initializer": "he_normal"},
        fails=[
            {"labels": "shuffled"},
            {"labels": "shuffled", "data": "cifar", "norm": "batch", "depth": 4},
            {"labels": "shifted", "activation": "tanh"},
            {"labels": "shuffled", "depth": 6, "skip": True, "head": "softmax"},
        ],
        learns=[
            {"labels": "0.3 noise"},
            {"labels": "0.4 noise", "norm": "batch", "depth": 4},
            {"labels": "renamed", "activation": "tanh"},
            {"labels": "0.1 noise", "data": "cifar", "norm": "batch", "depth": 4},
        ],
    ),
)
