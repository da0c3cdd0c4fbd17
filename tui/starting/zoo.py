"""The networks to choose from, and what is known about each, without Textual."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kerascnn.catalog import list_models, load_recipe
from kerascnn.errors import KerascnnError
from kerascnn.recipe import Recipe
from kerascnn.wording import percent, short_number
from tui.reading.ledger import Entry

Order = Literal["family", "name", "weights", "multiply-adds"]
ORDERS: tuple[Order, ...] = ("family", "name", "weights", "multiply-adds")


def read_zoo(catalog: Path | None) -> tuple[list[Recipe], list[str]]:
    """All networks that can be read, and a sentence for what can't.

    A user's own catalog that is damaged leaves the built-in networks; an entry that is wrong leaves the others.
    """
    problems: list[str] = []
    try:
        names = list_models(catalog)
    except KerascnnError as error:
        problems.append(str(error))
        catalog = None
        names = list_models()
    recipes = []
    for name in names:
        try:
            recipes.append(load_recipe(name, catalog=catalog))
        except KerascnnError as error:
            problems.append(str(error))
    return recipes, problems


def matching(recipes: Sequence[Recipe], words: str) -> list[Recipe]:
    """The networks whose name, family, summary or dataset hold all words."""
    wanted = words.lower().split()
    return [recipe for recipe in recipes if all(word in _told(recipe) for word in wanted)]


def _told(recipe: Recipe) -> str:
    return f"{recipe.name} {recipe.family} {recipe.summary} {recipe.dataset} {recipe.paper}".lower()


def ordered(recipes: Sequence[Recipe], order: Order) -> list[tuple[str, list[Recipe]]]:
    """The networks in groups with a heading; only by family is there more than one."""
    if order == "family":
        families = dict.fromkeys(recipe.family for recipe in recipes)
        return [(family, [recipe for recipe in recipes if recipe.family == family]) for family in families]
    keys = {
        "name": lambda recipe: recipe.name,
        "weights": lambda recipe: recipe.card.trainable_weights or 0,
        "multiply-adds": lambda recipe: recipe.card.multiply_adds or 0,
    }
    return [(f"by {order}", sorted(recipes, key=keys[order]))]


def figure(recipe: Recipe, order: Order) -> str:
    """The number beside a network's name: what it is sorted by, else its weights."""
    card = recipe.card
    return short_number(card.multiply_adds if order == "multiply-adds" else card.trainable_weights)


def facts(recipe: Recipe, entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """What a card says beside the drawing, as titles and texts."""
    train, card = recipe.train, recipe.card
    optimizer = f"{train.optimizer.name} {train.optimizer.learning_rate:g}"
    schedule = "" if train.schedule.name == "constant" else f", {train.schedule.name} schedule"
    decay = f", weight decay {train.weight_decay:g}" if train.weight_decay else ""
    rows = [
        ("learns on", f"{recipe.dataset}, {recipe.classes:,} classes"),
        ("learns by", f"{optimizer}{schedule}{decay}, {train.epochs} epochs of batches of {train.batch_size}"),
        ("starts from", f"{recipe.starts_from()}, {_SCALING[train.scaling]}"),
    ]
    if card.published_accuracy is not None:
        rows.append(("published", f"{card.published_accuracy:.2f} % · {card.published_where}"))
    return [*rows, ("here", best_here(recipe.name, entries))]


_SCALING = {
    "unit": "pixels in [0, 1]",
    "symmetric": "pixels in [-1, 1]",
    "standardize": "standardised pixels",
    "caffe": "BGR pixels less ImageNet's mean",
    "none": "raw pixels",
}


def best_here(model: str, entries: Sequence[Entry]) -> str:
    """The best result of a network so far on this machine, with the data it was reached on."""
    runs = [entry for entry in entries if entry.model == model]
    if not runs:
        return "not run yet"
    live = sum(entry.live for entry in runs)
    count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}" + (f", {live} live" if live else "")
    measured = [entry for entry in runs if entry.best_val_accuracy is not None]
    if not measured:
        return f"{count}, no epoch finished"
    best = max(measured, key=lambda entry: entry.best_val_accuracy or 0.0)
    return f"best validation {percent(best.best_val_accuracy)} on {best.dataset} with {best.backend} ({count})"
