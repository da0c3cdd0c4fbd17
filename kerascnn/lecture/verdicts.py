"""Claim against curve: a mechanical verdict, the same for every network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kerascnn.lecture.argument import Budget, Claim, Rule
from kerascnn.lecture.curves import Curve
from kerascnn.runs import events as ev
from kerascnn.wording import percent, whole_percent

Behaviour = Literal["learns", "does not learn", "diverged", "undecided"]
Verdict = Literal["as claimed", "not as claimed", "undecided within this budget", "no claim"]

AS_CLAIMED: Verdict = "as claimed"
NOT_AS_CLAIMED: Verdict = "not as claimed"
UNDECIDED: Verdict = "undecided within this budget"
NO_CLAIM: Verdict = "no claim"


@dataclass(frozen=True)
class Measured:
    """What a curve shows: whether it learns, since which step, and the lowest mean loss with its step.

    Of ``chance``, ``learnt_share`` counts as learnt, and what is never below ``chance_share`` has not left it.
    ``last`` is the last step, ``ended`` says whether the budget is spent with it, and ``at_chance`` whether chance was
    never left until then: in too few steps that is no behaviour yet.
    """

    behaviour: Behaviour
    learnt_at: int | None
    lowest: float | None
    lowest_at: int | None
    chance: float
    learnt_share: float
    chance_share: float
    last: int
    ended: bool
    at_chance: bool


@dataclass(frozen=True)
class Judgement:
    """One run's verdict, with what it rests on in words."""

    verdict: Verdict
    measured: Measured
    words: str


def measure(curve: Curve, budget: Budget, rule: Rule) -> Measured:
    """Whether a network learns, by the mean loss over the rule's window."""
    steps, means = curve.means(rule.window)
    low = int(np.argmin(means)) if len(means) else None
    learnt = np.flatnonzero(means <= rule.learns_at * curve.chance)
    learnt_at = int(steps[learnt[0]]) if len(learnt) else None
    lowest = float(means[low]) if low is not None else None
    at_chance = (
        curve.ended and curve.state != "diverged" and lowest is not None and lowest > rule.chance_above * curve.chance
    )
    return Measured(
        behaviour=_behaviour(curve, budget, learnt_at, at_chance=at_chance),
        learnt_at=learnt_at,
        lowest=lowest,
        lowest_at=int(steps[low]) if low is not None else None,
        chance=curve.chance,
        learnt_share=rule.learns_at,
        chance_share=rule.chance_above,
        last=curve.last,
        ended=curve.ended,
        at_chance=at_chance,
    )


def _behaviour(curve: Curve, budget: Budget, learnt_at: int | None, *, at_chance: bool) -> Behaviour:
    if curve.state == "diverged":
        return "diverged"
    if learnt_at is not None:
        return "learns"
    # A training may have ended with fewer steps than it was to have, of a dataset that has lost images, say.
    long_enough = budget.confirms and curve.last >= (budget.steps or 0)
    return "does not learn" if at_chance and long_enough else "undecided"


def judge(claim: Claim, curve: Curve, budget: Budget, rule: Rule) -> Judgement:
    """Hold one run against the lecture's claim."""
    measured = measure(curve, budget, rule)
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
    # A loss that is no number comes here in either case: it is another failure than staying at chance.
    return NOT_AS_CLAIMED


def _judge_figures(claim: Claim, curve: Curve, budget: Budget, rule: Rule, measured: Measured) -> Judgement:
    """Figures are compared at the epoch whose training accuracy comes nearest to the claim.

    A claim without a validation accuracy is met by whatever comes near or beyond.
    """
    assert claim.train is not None
    train = claim.train
    words = _in_words(measured)
    if measured.behaviour == "diverged":
        return Judgement(NOT_AS_CLAIMED, measured, words)
    if not curve.epochs or not budget.refutes:
        return Judgement(UNDECIDED, measured, words)
    epoch = min(curve.epochs, key=lambda epoch: abs(epoch.accuracy - train))
    if claim.val is None:
        epoch = max(curve.epochs, key=lambda epoch: epoch.accuracy)
    words = (
        f"training {percent(epoch.accuracy)}, validation {percent(epoch.val_accuracy)} "
        f"in epoch {epoch.epoch} of {len(curve.epochs)}"
    )
    return Judgement(_judge_epoch(claim, epoch, curve, rule), measured, words)


def _judge_epoch(claim: Claim, epoch: ev.EpochDone, curve: Curve, rule: Rule) -> Verdict:
    assert claim.train is not None
    beyond = epoch.accuracy - claim.train
    if beyond < -rule.tolerance:
        return NOT_AS_CLAIMED if curve.ended else UNDECIDED
    if claim.val is None:
        return AS_CLAIMED
    if beyond > rule.tolerance:
        # The training accuracy leapt past the claim between two epochs: there is no pair to compare.
        return UNDECIDED
    return AS_CLAIMED if abs(epoch.val_accuracy - claim.val) <= rule.tolerance else NOT_AS_CLAIMED


def _in_words(measured: Measured) -> str:
    if measured.behaviour == "diverged":
        return "the loss is no longer a number"
    if measured.lowest is None:
        return "too few steps to say"
    if measured.learnt_at is not None:
        return f"learns: {whole_percent(measured.learnt_share)} of chance at step {measured.learnt_at}"
    if measured.at_chance:
        what = never_below(measured)
    else:
        what = "between chance and learning" if measured.ended else f"under way, step {measured.last}"
    return f"{what}: lowest mean loss {measured.lowest:.3f} at step {measured.lowest_at}, chance {measured.chance:.3f}"


def never_below(measured: Measured) -> str:
    """What a network that never left chance has done, in words."""
    return f"never below {whole_percent(measured.chance_share)} of chance in {measured.last} steps"


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict over all seeds: a claim holds when it holds for each, and fails when it fails for one."""
    if not verdicts:
        return UNDECIDED
    for verdict in (NOT_AS_CLAIMED, UNDECIDED, NO_CLAIM):
        if verdict in verdicts:
            return verdict
    return AS_CLAIMED
