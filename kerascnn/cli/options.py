"""The options that several commands have, and the recipe that they mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from kerascnn.catalog import load_recipe, parse_assignments
from kerascnn.cli.output import say
from kerascnn.data.dataset import absolute, classes_of
from kerascnn.errors import UsageError
from kerascnn.recipe import Recipe
from kerascnn.runs.directory import Run

Backend = Annotated[str | None, typer.Option(help="torch, tensorflow or jax.")]
Device = Annotated[str, typer.Option(help="auto, cpu or gpu.")]
Execution = Annotated[str, typer.Option(help="auto, lowered or keras: who computes the layers.")]
DatasetName = Annotated[str | None, typer.Option(help="A dataset's name, or folder:PATH.")]
DataDir = Annotated[Path | None, typer.Option(help="A folder to look for datasets in first.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never download.")]
LearningRate = Annotated[float | None, typer.Option(help="Of the optimizer, before its schedule.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Of initial weights, batches and augmentation.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change any key of the recipe.")
]
Catalog = Annotated[Path | None, typer.Option(help="A TOML file of your own networks.")]


def is_followed(group: typer.Context) -> bool:
    """Whether a subcommand follows a group's name; the group's own options have no place before it.

    Raises:
        UsageError: one of them stands there.
    """
    if group.invoked_subcommand is None:
        return False
    for parameter in group.command.params:
        source = group.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE":
            option, name = parameter.opts[0], f"{group.info_name} {group.invoked_subcommand}"
            raise UsageError(f"{option}: expected after `{name}`, if it takes it, got it before {name.split()[-1]!r}")
    return True


def changes_of(dataset: str | None, given: Mapping[str, Any], assignments: Iterable[str] | None) -> dict[str, Any]:
    """A recipe's keys that a command changes: by ``--dataset``, by options of its own where ``given``, by ``--set``.

    Raises:
        RecipeError: an assignment isn't key=value.
    """
    options = {"dataset": absolute(dataset) if dataset else None, **given}
    return {key: value for key, value in options.items() if value is not None} | parse_assignments(assignments or [])


def recipe_of(model: str | None, changes: dict[str, Any], catalog: Path | None, source: Path | None = None) -> Recipe:
    """The recipe that a command means: a network's, or that of the run whose weights it begins with, and changes.

    For another dataset a network gets as many logits as that has classes.

    Raises:
        UsageError: no network is named, none has this name, or a change can't be meant.
    """
    if model is None and source is not None and source.is_dir():
        if catalog is not None:
            raise UsageError("--catalog: expected a MODEL out of it; without one the network is that of --init-from")
        # A run's recipe reads back as a catalog.
        model, catalog = Run(source).recipe().name, Run(source).recipe_file
    if model is None:
        raise UsageError("expected a MODEL, such as vgg16_cifar; `kerascnn models` lists them")
    if "dataset" in changes and "classes" not in changes:
        classes = classes_of(str(changes["dataset"]))
        if classes is not None and classes != load_recipe(model, catalog=catalog).classes:
            say(f"note: {model} gets {classes} logits for {changes['dataset']}")
            changes = {**changes, "classes": classes}
    return load_recipe(model, changes, catalog=catalog)


def whole_changes(recipe: Recipe, changes: Mapping[str, Any], catalog: Path | None) -> dict[str, Any]:
    """A command's changes with the number of classes, where that follows from the dataset."""
    told = load_recipe(recipe.name, changes, catalog=catalog).classes == recipe.classes
    return {**changes} if told else {**changes, "classes": recipe.classes}
