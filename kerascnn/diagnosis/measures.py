"""The figures that rules speak of, each by its name: a value with the layer and the step that it belongs to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kerascnn.diagnosis.record import Record
from kerascnn.runs import events as ev

# Where a layer's kernel begins as zeros, a step is infinitely large beside it and says nothing.
FROM_ZERO = 1e3
# A logits layer alone has nothing before it that could be compared.
FEWEST_LAYERS = 2

Values = Sequence[float | None]


@dataclass(frozen=True)
class Measured:
    """A value, the step that it was measured at, and the layer if it belongs to one."""

    value: float
    step: int
    layer: str | None = None


Measure = Callable[[Record], Measured | None]


def _first(record: Record) -> ev.LayerStatistics | None:
    looks = record.looks
    return looks[0] if looks and len(looks[0].layers) >= FEWEST_LAYERS else None


def _latest(record: Record) -> ev.LayerStatistics | None:
    looks = record.looks
    return looks[-1] if looks and len(looks[-1].layers) >= FEWEST_LAYERS else None


def _at(look: ev.LayerStatistics | None, values: Callable[[ev.LayerStatistics], Values], place: int) -> Measured | None:
    if look is None or (value := values(look)[place]) is None:
        return None
    return Measured(value, look.step, look.layers[place])


def _first_gradient(record: Record) -> Measured | None:
    """The first layer's gradient at the start; None where a last kernel of zeros lets none through, to any layer."""
    before_last = _at(_first(record), _gradients, -2)
    return None if before_last is None or before_last.value == 0 else _at(_first(record), _gradients, 0)


def _over(above: Measured | None, below: Measured | None) -> Measured | None:
    """One figure as a share of another, told of the first one's layer."""
    if above is None or below is None:
        return None
    return Measured(above.value / below.value if below.value else math.nan, above.step, above.layer)


def _largest(
    looks: Sequence[ev.LayerStatistics | None], values: Callable[[ev.LayerStatistics], Values]
) -> Measured | None:
    found = [
        Measured(value, look.step, layer)
        for look in looks
        if look is not None
        for layer, value in zip(look.layers, values(look), strict=True)
        if value is not None and math.isfinite(value)
    ]
    return max(found, key=lambda measured: measured.value, default=None)


def _between(look: ev.LayerStatistics) -> Values:
    return look.between_images


def _gradients(look: ev.LayerStatistics) -> Values:
    return look.gradient_norm


def _dead(look: ev.LayerStatistics) -> Values:
    return look.dead


def _saturated(look: ev.LayerStatistics) -> Values:
    return look.saturated


def _steps(look: ev.LayerStatistics) -> Values:
    return [None if value is None or value > FROM_ZERO else value for value in look.update_over_weight]


def _dead_early(record: Record) -> Measured | None:
    """The layer that is dead now, at the last of the early looks, where it was less so."""
    now = _largest([_latest(record)], _dead)
    looks = [look for look in record.early if now is not None and look.step < now.step]
    if now is None or now.layer is None or not looks:
        return None
    look = looks[-1]
    value = look.dead[look.layers.index(now.layer)]
    return None if value is None or value >= now.value else Measured(value, look.step, now.layer)


def _equal_units(record: Record) -> Measured | None:
    hidden = record.architecture.layers[:-1]
    if not hidden:
        return None
    equal = [layer.name for layer in hidden if layer.equal_units]
    return Measured(len(equal) / len(hidden), 0, equal[0] if equal else None)


def _first_loss(record: Record) -> Measured:
    """Over ln C: before a network knows how frequent the classes are, they are all alike to it."""
    return Measured(record.first_loss / math.log(record.chance.classes), 1)


def _input(record: Record) -> Measured | None:
    """None where frozen layers make features of the images: how those are scaled isn't the images' doing."""
    architecture = record.architecture
    if architecture.features:
        return None
    size = max(abs(architecture.input_mean), architecture.input_deviation)
    return Measured(size, 0, architecture.layers[0].name)


def _loss_now(record: Record, window: int) -> Measured | None:
    now = record.window(window)
    return None if now is None else Measured(now.loss / record.chance.loss, now.step)


def _lowest_loss(record: Record) -> Measured | None:
    lowest = record.lowest
    return None if lowest is None else Measured(lowest.loss / record.chance.loss, lowest.step)


def _one_batch(record: Record) -> Measured | None:
    error = record.one_batch_error
    return None if error is None else Measured(error, record.one_batch_steps)


# Small enough to be of the present, wide enough not to jump.
LOSS_WINDOW = 20

MEASURES: dict[str, Measure] = {
    "signal at start": lambda r: _over(_at(_first(r), _between, -2), _at(_first(r), _between, 0)),
    "logits now": lambda r: _at(_latest(r), _between, -1),
    "first gradient at start": _first_gradient,
    "first gradient over last at start": lambda r: _over(_first_gradient(r), _at(_first(r), _gradients, -1)),
    "last gradient but one now": lambda r: _at(_latest(r), _gradients, -2),
    "largest gradient": lambda r: _largest(r.looks, _gradients),
    "dead at start": lambda r: _largest([_first(r)], _dead),
    "dead early": _dead_early,
    "dead now": lambda r: _largest([_latest(r)], _dead),
    "saturated now": lambda r: _largest([_latest(r)], _saturated),
    "largest step": lambda r: _largest(r.looks, _steps),
    "loss at start over chance": _first_loss,
    "loss now over chance": lambda r: _loss_now(r, LOSS_WINDOW),
    "lowest loss over chance": _lowest_loss,
    "loss that is no number": lambda r: Measured(float(r.diverged), r.step),
    "size of the input": _input,
    "share of layers with equal units": _equal_units,
    "dropout": lambda r: Measured(r.architecture.dropout, 0),
    "change by other images": lambda r: None if r.mixing is None else Measured(r.mixing, 0),
    "loss that doesn't fit the output": lambda r: Measured(float(r.misfit), 0),
    "error on one batch": _one_batch,
    "simple classifier over chance": lambda r: None if r.label_score is None else Measured(r.label_score, 0),
}
