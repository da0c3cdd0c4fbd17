"""A recipe's network as every training begins with it: first weights, optimizer, steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras

from kerascnn.data.statistics import PixelStatistics
from kerascnn.diagnosis.signals import KernelLayer, kernel_layers
from kerascnn.recipe import Recipe, Train
from kerascnn.training.backend import seed_backend
from kerascnn.training.initial_weights import build_initial
from kerascnn.training.optimizer import make_optimizer
from kerascnn.training.steps import Steps, make_steps


@dataclass(frozen=True)
class Network:
    """A network that is ready to be trained."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    steps: Steps
    layers: list[KernelLayer]


def initial_model(
    recipe: Recipe, statistics: PixelStatistics | None, tell: Callable[[str], None] = lambda _: None
) -> keras.Model:
    """Build a recipe's network with the first weights of its seed.

    Args:
        recipe: what to build.
        statistics: the constants of ``standardize``, from :func:`kerascnn.data.statistics.constants_of`.
        tell: as for :func:`kerascnn.training.initial_weights.build_initial`.
    """
    seed_backend(keras.backend.backend(), recipe.train.seed % 2**32)
    return build_initial(
        recipe,
        recipe.train.seed,
        mean=statistics.mean if statistics else None,
        deviation=statistics.deviation if statistics else None,
        tell=tell,
    )


def make_network(model: keras.Model, train: Train, execution: str = "auto") -> Network:
    """Give a model the optimizer and the steps that a recipe asks for; ``execution`` as for ``make_steps``."""
    optimizer = make_optimizer(train, model.trainable_variables)
    layers = kernel_layers(model)
    steps = make_steps(model, optimizer, train, [layer.kernel for layer in layers], execution=execution)
    return Network(model, optimizer, steps, layers)
