"""The trainings of a lecture's step as the series of its charts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kerascnn.lecture.argument import Claim, Rule
from kerascnn.lecture.curves import Curve
from tui.drawing.plotting import Series
from tui.reading.lecture import Training
from tui.reading.table import Floats

# What tells the seeds of a step apart; one alone needs no mark.
MARKS = "●■▲▼★"
ASCII_MARKS = "ox^v+"
INK, COMPARED_INK = "train", "series-2"
# How a training begins would hide what comes of it: up to so many times chance is shown.
_ABOVE_CHANCE = 1.1
_NOTHING = np.empty(0)


def loss_series(
    shown: Sequence[Training],
    compared: Sequence[Training],
    names: tuple[str, str],
    rule: Rule,
    classes: int,
    until: int,
) -> list[Series]:
    """The mean loss over the rule's window, that of the compared step faint, chance, and where learning begins.

    Args:
        shown: the trainings of the step.
        compared: those of the step that it is a change to.
        names: what the legend calls the two steps.
        rule: of the verdicts.
        classes: of the step's data.
        until: the step that the lines of chance go to, at least.
    """
    window = rule.window
    ends = [until, *(training.step for training in (*shown, *compared))]
    edge = np.array([0.0, float(max(ends))])
    chance = math.log(classes)
    learnt = rule.learns_at * chance
    lines = [
        Series("chance", edge, np.full(2, chance), "quiet", ascii_mark="-", weight="dim"),
        Series(f"learns below {learnt:.2f}", edge, np.full(2, learnt), "quiet", ascii_mark=":", weight="dim"),
    ]
    faint = [
        Series(names[1] if number == 0 else "", *_means(one.curve, window), COMPARED_INK, "○", ".", "dim")
        for number, one in enumerate(compared)
    ]
    return [*_bold(shown, names[0], [_means(one.curve, window) for one in shown]), *faint, *lines]


def highest_loss(series: Sequence[Series], classes: int) -> float:
    """Up to which loss curves are shown: a little above chance, and above where each curve comes down to."""
    lows = [float(np.nanmin(one.y)) for one in series if np.isfinite(one.y).any()]
    return _ABOVE_CHANCE * max([math.log(classes), *lows])


def accuracy_series(shown: Sequence[Training], claim: Claim, name: str) -> list[Series]:
    """Training and validation accuracy of each epoch, and the figures that the lecture claims."""
    last = float(max([1, *(epoch.step for one in shown for epoch in one.curve.epochs)]))
    lines = [
        Series(f"claim: {what}", np.array([0.0, last]), np.full(2, share), "quiet", "", "-", "dim")
        for what, share in (("train", claim.train), ("validation", claim.val))
        if share is not None
    ]
    at = [np.array([epoch.step for epoch in one.curve.epochs], np.float64) for one in shown]
    train = [np.array([epoch.accuracy for epoch in one.curve.epochs], np.float64) for one in shown]
    validation = [
        Series(
            "validation" if number == 0 else "",
            at[number],
            np.array([epoch.val_accuracy for epoch in one.curve.epochs], np.float64),
            *("validation", "◆", "o"),
            points=True,
        )
        for number, one in enumerate(shown)
    ]
    return [*_bold(shown, name, list(zip(at, train, strict=True))), *validation, *lines]


def _bold(shown: Sequence[Training], name: str, curves: Sequence[tuple[Floats, Floats]]) -> list[Series]:
    if len(shown) == 1:
        return [Series(name, *curves[0], INK)]
    return [
        Series(f"{name} {label}", *curves[number], INK, MARKS[number % 5], ASCII_MARKS[number % 5])
        for number, label in enumerate(labels(shown))
    ]


def labels(trainings: Sequence[Training]) -> list[str]:
    """The fewest words that tell a step's trainings apart."""
    backends = {one.step_run.backend for one in trainings}
    seeds = {one.step_run.seed for one in trainings}
    return [
        " ".join(
            ([one.step_run.backend] if len(backends) > 1 else [])
            + ([f"seed {one.step_run.seed}"] if len(seeds) > 1 else [])
        )
        for one in trainings
    ]


def _means(curve: Curve, window: int) -> tuple[Floats, Floats]:
    if not len(curve.steps):
        return _NOTHING, _NOTHING
    steps, means = curve.means(window)
    return np.maximum.accumulate(steps.astype(np.float64)), means
