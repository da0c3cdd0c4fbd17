"""``kerascnn overfit``: whether a network can memorise one small batch, and what to try where it can't."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from kerascnn.cli.options import (
    Assignments,
    Backend,
    Catalog,
    DataDir,
    DatasetName,
    Device,
    Offline,
    changes_of,
    recipe_of,
    whole_changes,
)
from kerascnn.cli.output import print_json, repeated, say
from kerascnn.cli.progress import counted
from kerascnn.diagnosis.rules import as_options, the_rules
from kerascnn.recipe import Recipe
from kerascnn.runs.compare import flat
from kerascnn.training import session
from kerascnn.training.overfit import IMAGES, STEPS, Overfit
from kerascnn.training.overfit import overfit as overfit_one_batch
from kerascnn.wording import percent

RATE = "train.optimizer.learning_rate"
# Where a recipe has any other value than this, it has a form of the remedy already.
NOTHING = {"batch_norm": "none", "skip": "none"}


def overfit(
    model: Annotated[str | None, typer.Argument(help="A network out of `kerascnn models`.")] = None,
    images: Annotated[int, typer.Option(help="Training images in the batch.")] = IMAGES,
    steps: Annotated[int, typer.Option(help="Optimizer steps at the most.")] = STEPS,
    backend: Backend = None,
    device: Device = "auto",
    dataset: DatasetName = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    seed: Annotated[int | None, typer.Option(help="Of initial weights.")] = None,
    assignments: Assignments = None,
    catalog: Catalog = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Can a network memorise one small batch? Exit code 0: it can; 1: it can't. Leaves no run."""
    changes = changes_of(dataset, {"train.seed": seed}, assignments)
    recipe = recipe_of(model, changes, catalog)
    options = session.Options(backend=backend, device=device, data_dir=data_dir, download=not offline)
    with counted("overfitting", steps) as show:
        found = overfit_one_batch(
            recipe,
            images=images,
            steps=steps,
            options=options,
            tell=say,
            watch=lambda step, loss, accuracy: show(step, f"loss {loss:.4f}  acc {percent(accuracy)}"),
        )
    if as_json:
        print_json(_plain(recipe, found))
    else:
        training = repeated("train", recipe.name, whole_changes(recipe, changes, catalog), catalog, options)
        typer.echo("\n".join(_sentences(recipe, found, training)))
    raise typer.Exit(0 if found.memorised else 1)


def _plain(recipe: Recipe, found: Overfit) -> dict[str, Any]:
    """The result for programs. JSON has no NaN: null is a loss that is no number."""
    return {
        "model": recipe.name,
        "dataset": recipe.dataset,
        "memorised": found.memorised,
        **asdict(found),
        "loss": _number(found.loss),
        "losses": [_number(loss) for loss in found.losses],
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _sentences(recipe: Recipe, found: Overfit, training: str) -> list[str]:
    """The verdict with its figures, what it means, and what to try next, a line each."""
    chance = f"ln {recipe.classes:,} = {found.chance:.4f}"
    images, steps = _counted(found.images, "image"), _counted(found.steps, "step")
    right = f"{round(found.accuracy * found.images)} of {images} right"
    figures = f"{found.in_words}: {right} after {steps}, loss {found.loss:.4f} (chance is {chance})."
    if found.verdict == "memorised":
        return [figures, f"{recipe.name} can fit data; the next step is all of it: {training}"]
    if found.verdict == "diverged":
        return [figures, "The steps are too large for this network. Try, one at a time:", *_remedies(_smaller(recipe))]
    if found.verdict == "stuck at chance":
        meaning = (
            "In these steps it has told no two images apart: the signal, or its gradient, may be lost between the "
            "layers, or it begins later. Try, one at a time:"
        )
        return [figures, meaning, *_remedies(_brought_back(recipe))]
    more = (f"--steps {4 * found.steps}", "more steps")
    meaning = "It gets through to the images, too slowly or too roughly to know them by heart. Try, one at a time:"
    if found.accuracy == 1:
        return [figures, "It is on its way:", *_remedies([more])]
    return [figures, meaning, *_remedies([more, *_brought_back(recipe)])]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _remedies(options: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(options)
    width = max(len(option) for option, _ in rows)
    return [f"  {option:<{width}}  {words}" for option, words in rows]


def _smaller(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Against steps that are too large."""
    return _lacking(recipe, ("lower_rate", "clip", "standardize", "batch_norm"))


def _brought_back(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """The lecture's solutions that a recipe doesn't have yet."""
    first = ("relu_he",) if recipe.activation in ("sigmoid", "tanh") else ()
    return _lacking(recipe, (*first, "standardize", "batch_norm", "he", "silu", "skip", "lower_rate"))


def _lacking(recipe: Recipe, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Remedies of the diagnosis that this recipe has keys for and doesn't have yet, as options and in words."""
    own = flat(recipe.model_dump())
    for name in names:
        remedy = the_rules().remedies[name]
        changes = remedy.changes({RATE: recipe.train.optimizer.learning_rate})
        has_its_own = any(key in NOTHING and own.get(key) != NOTHING[key] for key in changes)
        known = changes.keys() <= own.keys()
        if known and not has_its_own and any(own[key] != value for key, value in changes.items()):
            yield as_options(changes), remedy.words
