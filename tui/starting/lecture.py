"""What training steps of the lecture will take: which command, how long at most, from which data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kerascnn.lecture.argument import Step
from kerascnn.lecture.folder import Settings
from kerascnn.lecture.running import recipe_of
from kerascnn.recipe import Recipe
from kerascnn.wording import command_line, duration
from tui.places import Places
from tui.reading.lecture import Look
from tui.reading.ledger import Entry
from tui.starting.estimate import estimate
from tui.starting.form import where_data_lies
from tui.starting.launch import lecture_arguments


@dataclass(frozen=True)
class Plan:
    """Trainings that can be started: the command, and what is to be known before."""

    settings: Settings
    arguments: list[str]
    trainings: int
    cost: str
    data: tuple[str, ...]


def in_words(plans: Sequence[Plan]) -> str:
    """What is to be known before one of these is started; several differ in their budget alone."""
    command = command_line(["kerascnn", *plans[0].arguments])
    if len(plans) == 1:
        return "\n".join([command, *plans[0].data, f"{_many(plans[0])}: {plans[0].cost}"])
    summaries = [f"{one.settings.budget}: {_summary(one)}; {_many(one)}, {one.cost}" for one in plans]
    return "\n".join([f"{command} [--full]", *plans[0].data, "", *summaries])


def _many(plan: Plan) -> str:
    return f"{plan.trainings} training{'s' if plan.trainings > 1 else ''}"


def _summary(plan: Plan) -> str:
    return plan.settings.the_budget().summary


def undecided(steps: Sequence[Step], look: Look, backend: str) -> list[tuple[Step, int]]:
    """The steps and seeds that still have something to train with a backend."""
    done = {
        (one.step_run.step.id, one.step_run.seed)
        for one in look.trainings
        if one.decided and one.step_run.backend == backend
    }
    return [(step, seed) for seed in range(look.seeds) for step in steps if (step.id, seed) not in done]


def plan(
    steps: Sequence[Step],
    only: Sequence[Step],
    settings: Settings,
    look: Look,
    backend: str,
    places: Places,
    *,
    entries: Sequence[Entry],
    machine: dict[str, Any],
) -> Plan:
    """Think the trainings of these steps through. Asks the disk.

    Args:
        steps: to be trained.
        only: those that the command names; none for all.
        settings: of the folder, or those that it is to be begun with.
        look: what has been trained so far.
        backend: what computes.
        places: the folder and the data.
        entries: runs to estimate from.
        machine: this machine, as ``environment.json`` describes one.

    Raises:
        UsageError: the folder's dataset doesn't fit or doesn't exist.
    """
    todo = undecided(steps, look, backend)
    recipes = [recipe_of(step, settings, seed) for step, seed in todo]
    datasets = dict.fromkeys(recipe.dataset for recipe in recipes)
    lies = [(name, where_data_lies(name, places.data_dir)) for name in datasets]
    return Plan(
        settings,
        lecture_arguments(settings, only, look.seeds, backend, places),
        len(todo),
        _cost(recipes, settings, backend, entries, machine),
        tuple(f"{name}: {where}" for name, where in lies if where),
    )


def _cost(
    recipes: Sequence[Recipe], settings: Settings, backend: str, entries: Sequence[Entry], machine: dict[str, Any]
) -> str:
    epochs = [(recipe, estimate(recipe, backend, entries, machine).epoch_s) for recipe in recipes]
    seconds = sum(recipe.train.epochs * epoch_s for recipe, epoch_s in epochs if epoch_s is not None)
    if any(epoch_s is None for _, epoch_s in epochs):
        return "how long isn't known yet"
    early = "; each ends as soon as it has learnt" if settings.the_budget().ends_when_learnt else ""
    return f"at most about {duration(max(seconds, 1.0))}, by what has run here{early}"
