"""Claim against curve: a mechanical verdict, the same for every network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kerascnn.lecture.argument import Budget, Claim, Rule
from kerascnn.lecture.curves import Curve
from kerascnn.wording import percent

Behaviour = Literal["learns", "does not learn", "diverged", "undecided"]
Verdict = Literal["as claimed", "not as claimed", "undecided within this budget", "no claim"]

AS_CLAIMED: Verdict = "as claimed"
NOT_AS_CLAIMED: Verdict = "not as claimed"
UNDECIDED: Verdict = "undecided within this budget"
NO_CLAIM: Verdict = "no claim"


@dataclass(frozen=True)
class Measured:
    """What a curve shows: whether it learns, since which step, and the lowest mean loss with its step.

    ``ended`` says whether it has had its whole budget.
    """

    behaviour: Behaviour
    learnt_at: int | None
    lowest: float | None
    lowest_at: int | None
    chance: float
    ended: bool


@dataclass(frozen=True)
class Judgement:
    """One run's verdict, with what it rests on in words."""

    verdict: Verdict
    measured: Measured
    words: str


def measure(curve: Curve, rule: Rule) -> Measured:
    """Whether a network learns, by the mean loss over the rule's window."""
    steps, means = curve.means(rule.window)
    if not len(means):
        behaviour: Behaviour = "diverged" if curve.state == "diverged" else "undecided"
        return Measured(behaviour, None, None, None, curve.chance, curve.ended)
    lowest = int(np.argmin(means))
    learnt = np.flatnonzero(means <= rule.learns_at * curve.chance)
    learnt_at = int(steps[learnt[0]]) if len(learnt) else None
    return Measured(
        behaviour=_behaviour(curve, rule, learnt_at, float(means[lowest])),
        learnt_at=learnt_at,
        lowest=float(means[lowest]),
        lowest_at=int(steps[lowest]),
        chance=curve.chance,
        ended=curve.ended,
    )


def _behaviour(curve: Curve, rule: Rule, learnt_at: int | None, lowest: float) -> Behaviour:
    if curve.state == "diverged":
        return "diverged"
    if learnt_at is not None:
        return "learns"
    if curve.ended and lowest > rule.chance_above * curve.chance:
        return "does not learn"
    return "undecided"


def judge(claim: Claim, curve: Curve, budget: Budget, rule: Rule) -> Judgement:
    """Hold one run against the lecture's claim."""
    measured = measure(curve, rule)
    words = _in_words(measured)
    if claim.kind == "none":
        return Judgement(NO_CLAIM, measured, words)
    if claim.kind == "reaches":
        return _judge_figures(claim, curve, budget, rule, measured)
    return Judgement(_judge_behaviour(claim, measured, budget), measured, words)


def _judge_behaviour(claim: Claim, measured: Measured, budget: Budget) -> Verdict:
    if measured.behaviour == claim.kind:
        return AS_CLAIMED
    if measured.behaviour == "undecided":
        return UNDECIDED
    if measured.behaviour == "does not learn" and not budget.refutes:
        # It may well begin to learn later than this budget goes.
        return UNDECIDED
    return NOT_AS_CLAIMED


def _judge_figures(claim: Claim, curve: Curve, budget: Budget, rule: Rule, measured: Measured) -> Judgement:
    """Figures are compared at the first epoch whose training accuracy comes up to the claim, else at the best one."""
    assert claim.train is not None
    train = claim.train
    words = _in_words(measured)
    if measured.behaviour == "diverged":
        return Judgement(NOT_AS_CLAIMED, measured, words)
    if not curve.epochs or not budget.refutes:
        return Judgement(UNDECIDED, measured, words)
    there = [epoch for epoch in curve.epochs if epoch.accuracy >= train - rule.tolerance]
    epoch = there[0] if there else max(curve.epochs, key=lambda epoch: epoch.accuracy)
    if there and claim.val is not None:
        # The training accuracy goes on rising; the claim's pair is met where it comes nearest.
        epoch = min(there, key=lambda epoch: abs(epoch.accuracy - train))
    words = (
        f"training {percent(epoch.accuracy)}, validation {percent(epoch.val_accuracy)} "
        f"in epoch {epoch.epoch} of {len(curve.epochs)}"
    )
    if not there:
        return Judgement(NOT_AS_CLAIMED if curve.ended else UNDECIDED, measured, words)
    near = claim.val is None or abs(epoch.val_accuracy - claim.val) <= rule.tolerance
    return Judgement(AS_CLAIMED if near else NOT_AS_CLAIMED, measured, words)


def _in_words(measured: Measured) -> str:
    if measured.behaviour == "diverged":
        return "the loss is no longer a number"
    if measured.lowest is None:
        return "too few steps to say"
    if measured.learnt_at is not None:
        return f"learns: away from chance at step {measured.learnt_at}"
    if measured.behaviour == "does not learn":
        what = "does not learn"
    else:
        what = "between chance and learning" if measured.ended else "not at its end"
    return f"{what}: lowest mean loss {measured.lowest:.3f} at step {measured.lowest_at}, chance {measured.chance:.3f}"


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict over all seeds: a claim holds when it holds for each, and fails when it fails for one."""
    if not verdicts:
        return UNDECIDED
    for verdict in (NOT_AS_CLAIMED, UNDECIDED, NO_CLAIM):
        if verdict in verdicts:
            return verdict
    return AS_CLAIMED
