"""Finding a learning rate: the training's own steps, each with a larger rate than the one before (Smith 2015).

The loss stays where it is while the rate is too small, falls where it is right, and rises where it is too large.
Importing this module imports no Keras; :func:`find_learning_rate` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kerascnn.data.batches import Batch, TrainingBatches, read_ahead
from kerascnn.data.dataset import Dataset
from kerascnn.data.statistics import constants_of
from kerascnn.diagnosis.record import Chance
from kerascnn.diagnosis.rules import the_rules
from kerascnn.errors import RunError, UsageError, is_out_of_memory
from kerascnn.recipe import Recipe
from kerascnn.training import backend as backends
from kerascnn.training import session

End = Literal["all rates", "the loss rose", "the loss is no number"]
Tell = Callable[[str], None]
Watch = Callable[[int, float, float], None]
Floats = NDArray[np.float64]

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 100
# What a recipe may have.
MOST_RATE = 1e3
FEWEST_STEPS = 10
# A step counts for its neighbours by 1/e at this share of the sweep. More would move what is found to higher rates.
SMOOTHING = 0.05
# The sweep ends where the smoothed loss is so many times its lowest, as Lightning's finder does.
ROSE = 4.0
# Where the loss is lowest, the rate is at the edge of what the network bears.
BELOW_MINIMUM = 0.1


@dataclass(frozen=True)
class RateSweep:
    """The loss at rising learning rates, and what it says.

    ``losses`` are the batches' own, each from before its step; ``smoothed`` are their means over the neighbouring
    steps. ``chance`` is what the labels' frequencies alone allow.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    chance: float
    ended: End

    @property
    def flat(self) -> bool:
        """Whether the loss never left chance: at no rate has the network learnt in these steps."""
        return not min(self.smoothed) < the_rules().gate.loss_share * self.chance

    @property
    def still_falling(self) -> bool:
        """Whether the loss was lowest at the last rate, so that higher ones may be better."""
        near_the_end = len(self.smoothed) - 1 - self._lowest <= SMOOTHING * len(self.smoothed)
        return not self.flat and near_the_end and self.ended == "all rates"

    @property
    def suggestions(self) -> dict[str, float]:
        """Learning rates to two digits by what they are, the recommended one first; none where the curve is flat.

        ``tenth of the minimum``: a tenth of the rate at which the loss is lowest. ``steepest``: the rate at which it
        falls fastest.
        """
        if self.flat:
            return {}
        slope = np.gradient(np.array(self.smoothed), np.log(self.rates))
        steepest = int(slope[: self._lowest + 1].argmin())
        return {
            "tenth of the minimum": _two_digits(BELOW_MINIMUM * self.rates[self._lowest]),
            "steepest": _two_digits(self.rates[steepest]),
        }

    @property
    def recommended(self) -> float | None:
        """The rate to begin with."""
        return next(iter(self.suggestions.values()), None)

    @property
    def _lowest(self) -> int:
        return int(np.argmin(self.smoothed))

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values. JSON has no NaN: null is a loss that is no number."""
        return {
            "learning_rates": list(self.rates),
            "losses": [loss if math.isfinite(loss) else None for loss in self.losses],
            "smoothed": [loss if math.isfinite(loss) else None for loss in self.smoothed],
            "chance": self.chance,
            "ended": self.ended,
            "flat": self.flat,
            "still_falling": self.still_falling,
            "suggestions": self.suggestions,
            "recommended": self.recommended,
        }


def find_learning_rate(
    recipe: Recipe,
    *,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
    options: session.Options | None = None,
    tell: Tell = lambda _: None,
    watch: Watch = lambda *_: None,
) -> RateSweep:
    """Train a recipe's network for some steps at rising learning rates. No run is left.

    Weights, batches, augmentation, optimizer, clipping and weight decay are those that :func:`kerascnn.train` begins
    with. The recipe's own rate, schedule and warm-up are left out.

    Args:
        recipe: from :func:`kerascnn.load_recipe`.
        lowest: the first step's rate.
        highest: the last step's rate; the ratio of one rate to the next is always the same.
        steps: so many at the most; fewer where the loss rises far above its lowest, or is no number.
        options: backend, device, execution, where data lies.
        tell: is told what a user should know.
        watch: called after each step with its number, its rate and its loss.

    Raises:
        UsageError: the rates don't rise, or there are too few steps; nothing has been loaded.
        DatasetError, BackendError: as in training.
        RunError: there isn't enough memory.
    """
    options = options or session.Options()
    _check_numbers(lowest, highest, steps)
    choice, dataset = session.load(recipe, options, tell)
    backends.activate(choice.name, options.device)
    rates = np.geomspace(lowest, highest, steps)
    try:
        with backends.unrepeatable_told(tell):
            losses, ended = _sweep(recipe, dataset, rates, options.execution, tell, watch)
    except Exception as error:
        if is_out_of_memory(error):
            raise RunError(f"out of memory: try a train.batch_size below {recipe.train.batch_size}") from error
        raise
    return sweep_of(rates[: len(losses)].tolist(), losses, chance=_chance(dataset, recipe), ended=ended, steps=steps)


def sweep_of(rates: list[float], losses: list[float], *, chance: float, ended: End, steps: int) -> RateSweep:
    """A sweep with its smoothed losses. ``steps`` is how many it would have had to its end."""
    return RateSweep(tuple(rates), tuple(losses), tuple(_smoothed(losses, steps).tolist()), chance, ended)


def _sweep(
    recipe: Recipe, dataset: Dataset, rates: Floats, execution: str, tell: Tell, watch: Watch
) -> tuple[list[float], End]:
    from keras import ops

    from kerascnn.training.network import initial_model, make_network

    network = make_network(initial_model(recipe, constants_of(recipe, dataset), tell), recipe.train, execution)
    keep = math.exp(-1 / (SMOOTHING * len(rates)))
    losses: list[float] = []
    mean, best = 0.0, math.inf
    with closing(_batches(recipe, dataset, len(rates))) as batches:
        for rate, (pixels, labels) in zip(rates.tolist(), batches, strict=True):
            network.optimizer.learning_rate = rate
            loss = float(ops.convert_to_numpy(network.steps.train(pixels, labels)[0]))
            losses.append(loss)
            watch(len(losses), rate, loss)
            if not math.isfinite(loss):
                return losses, "the loss is no number"
            mean = keep * mean + (1 - keep) * loss
            # The first means would be too small: all that they lack is weight.
            corrected = mean / (1 - keep ** len(losses))
            best = min(best, corrected)
            if corrected > ROSE * best:
                return losses, "the loss rose"
    return losses, "all rates"


def _batches(recipe: Recipe, dataset: Dataset, count: int) -> Generator[Batch]:
    """The first batches of a training, but for the rest that closes an epoch: its loss would be noisier."""
    train = recipe.train
    batches = TrainingBatches(dataset.train, train.batch_size, train.seed, train.augment)
    whole = max(1, len(dataset.train) // train.batch_size)
    return read_ahead(lambda step: batches.make(*divmod(step, whole)), range(count))


def _smoothed(losses: list[float], steps: int) -> Floats:
    """Each loss as the mean of those around it, so that, unlike a running mean, it doesn't lag behind the rates.

    What is above the level of the beginning is no better than it, and would hide what is beside it.
    """
    values = np.array(losses)
    first = values[: max(1, round(SMOOTHING * steps))]
    ceiling = float(first[np.isfinite(first)].mean()) if np.isfinite(first).any() else math.inf
    values = np.minimum(np.where(np.isfinite(values), values, ceiling), ceiling)
    places = np.arange(len(values))
    weights = np.exp(-np.abs(places[:, None] - places) / (SMOOTHING * steps))
    smoothed: Floats = weights @ values / weights.sum(axis=1)
    return smoothed


def _chance(dataset: Dataset, recipe: Recipe) -> float:
    return Chance.of_labels(dataset.train.labels, recipe.classes).loss


def _check_numbers(lowest: float, highest: float, steps: int) -> None:
    """What can be told before anything is loaded."""
    if not 0 < lowest < highest <= MOST_RATE:
        raise UsageError(
            f"--from and --to: expected rates with 0 < from < to <= {MOST_RATE:g}, got {lowest:g} and {highest:g}"
        )
    if steps < FEWEST_STEPS:
        raise UsageError(f"--steps: expected at least {FEWEST_STEPS}, got {steps}")


def _two_digits(rate: float) -> float:
    return float(f"{rate:.2g}")
