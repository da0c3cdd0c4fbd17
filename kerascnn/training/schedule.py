"""The learning rate as a function of the step, so that any step's rate can be told without those before it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kerascnn.recipe import Cosine, Step, Train


@dataclass(frozen=True)
class LearningRate:
    """The rate of each step of a run of ``total_steps``; beyond its end the last step's rate holds."""

    train: Train
    total_steps: int

    def at(self, step: int) -> float:
        """The learning rate of step ``step``, counted from 0."""
        step = min(step, self.total_steps - 1)
        return self.train.optimizer.learning_rate * self._schedule(step) * self._warm_up(step)

    def _schedule(self, step: int) -> float:
        schedule = self.train.schedule
        if isinstance(schedule, Step):
            return schedule.factor ** sum(step >= round(at * self.total_steps) for at in schedule.at)
        if isinstance(schedule, Cosine):
            # The warm-up's steps belong to the half cosine, as in the schedules of the papers that use both.
            along = step / self.total_steps
            return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * along))
        return 1.0

    def _warm_up(self, step: int) -> float:
        warm_up = self.train.warm_up
        if step >= warm_up.steps:
            return 1.0
        if warm_up.shape == "flat":
            return warm_up.factor
        return warm_up.factor + (1 - warm_up.factor) * step / warm_up.steps


def long_warm_up(train: Train, total_steps: int) -> str | None:
    """What to say of a warm-up that takes at least half of a run of ``total_steps``; None of a shorter one.

    A warm-up is counted in steps, so a run of fewer epochs keeps all of it.
    """
    warm_up, rate = train.warm_up, train.optimizer.learning_rate
    if 2 * warm_up.steps < total_steps or warm_up.factor == 1:
        return None
    never = f", so the learning rate never reaches its full {rate:g}" if warm_up.steps >= total_steps else ""
    return (
        f"warm-up takes {warm_up.steps:,} steps and the run has {total_steps:,}{never}; "
        f"try --set train.warm_up.steps={total_steps // 10}"
    )
