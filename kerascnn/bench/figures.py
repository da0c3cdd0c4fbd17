"""What blocks of steps say: rates with their spread, and paired ratios with their interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kerascnn.bench.measuring import Measured
from kerascnn.recipe import Recipe

# A training step costs about three forward passes: that one, the gradients of the inputs and those of the weights.
PASSES = 3
# Of each of which a multiply-add is two operations.
OPERATIONS = 2


@dataclass(frozen=True)
class Spread:
    """A median between a lower and an upper bound."""

    median: float
    low: float
    high: float


def quartiles(values: Sequence[float]) -> Spread:
    """The median and the quartiles around it."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return Spread(median, low, high)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Spread:
    """The median and an interval that holds the true one with this confidence, whatever the distribution.

    As many values lie below the true median as heads fall in as many throws of a coin, so the k-th from either end
    bound it. Below six values no interval reaches 95 %: then it is the lowest to the highest.
    """
    ordered = sorted(values)
    outside = (1 - confidence) / 2
    skipped, tail = 0, 0.5 ** len(ordered)
    while tail + math.comb(len(ordered), skipped + 1) * 0.5 ** len(ordered) <= outside:
        skipped += 1
        tail += math.comb(len(ordered), skipped) * 0.5 ** len(ordered)
    return Spread(statistics.median(ordered), ordered[skipped], ordered[-1 - skipped])


def rates(measured: Measured, batch_size: int) -> dict[int, float]:
    """Images a second in each round."""
    return {block.round: block.steps * batch_size / block.seconds for block in measured.blocks}


def ratio(one: Measured, other: Measured) -> Spread:
    """How many times as fast ``one`` was as ``other``, round by round."""
    of_one, of_other = rates(one, 1), rates(other, 1)
    return median_interval([of_one[number] / of_other[number] for number in of_one])


def report(recipe: Recipe, found: Sequence[Measured]) -> dict[str, Any]:
    """One network's figures, for programs."""
    by_name = {measured.variant.name: measured for measured in found}
    peak = max(measured.facts["product_flops"] for measured in found)
    operations = None
    # The product is one of float32.
    if recipe.card.multiply_adds is not None and recipe.train.precision == "float32":
        operations = PASSES * OPERATIONS * recipe.card.multiply_adds
    blocks = sorted((block for measured in found for block in measured.blocks), key=lambda block: block.began)
    start = blocks[0].began
    variants = []
    for measured in found:
        rate = quartiles(list(rates(measured, recipe.train.batch_size).values()))
        variants.append(
            {
                "variant": measured.variant.name,
                "backend": measured.variant.backend,
                "images_per_s": asdict(rate),
                "share_of_peak": None if operations is None else rate.median * operations / peak,
                "to_first_step_s": measured.to_first_step_s,
                "first_step_s": measured.first_step_s,
                **measured.facts,
                "ratios": {name: asdict(ratio(measured, by_name[name])) for name in measured.variant.against},
            }
        )
    return {
        "model": recipe.name,
        "batch_size": recipe.train.batch_size,
        "precision": recipe.train.precision,
        "product_flops": peak,
        "variants": variants,
        "blocks": [{**asdict(block), "began": block.began - start} for block in blocks],
    }
