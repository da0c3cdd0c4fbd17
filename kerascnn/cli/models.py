"""``kerascnn models``: the zoo and the card of each network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from kerascnn.catalog import list_models, load_recipe, parse_assignments
from kerascnn.cli.output import print_fact, print_json, print_table, repeated, stdout
from kerascnn.errors import UsageError
from kerascnn.recipe import Recipe
from kerascnn.wording import short_number


def models(
    name: Annotated[str | None, typer.Argument(help="Show one network's card.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="A TOML file of your own, on top of the built-in one.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe.")
    ] = None,
    toml: Annotated[bool, typer.Option("--toml", help="Print the whole recipe as TOML.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the networks, or show one network's card."""
    if name is None and (toml or assignments):
        raise UsageError(f"{'--toml' if toml else '--set'}: expected the NAME of a network beside it")
    if name is None:
        recipes = [load_recipe(each, catalog=catalog) for each in list_models(catalog)]
        if as_json:
            print_json([card(recipe) for recipe in recipes])
        else:
            _print_list(recipes)
        return
    changes = parse_assignments(assignments or [])
    recipe = load_recipe(name, changes, catalog=catalog)
    if toml:
        typer.echo(recipe.to_toml(), nl=False)
    elif as_json:
        print_json(card(recipe))
    else:
        _print_card(recipe, repeated("train", name, changes, catalog))


def card(recipe: Recipe) -> dict[str, object]:
    """A network's card as plain values."""
    about = recipe.model_dump(
        mode="json", include={"name", "family", "summary", "paper", "input_shape", "classes", "dataset"}
    )
    return about | recipe.card.model_dump(mode="json")


def _print_list(recipes: list[Recipe]) -> None:
    columns = [("model", "left"), ("family", "left"), ("weights", "right"), ("mult-adds", "right")]
    columns += [("published", "right"), ("summary", "wrapped")]
    print_table(columns, [[*_figures(recipe), recipe.summary] for recipe in recipes])


def _figures(recipe: Recipe) -> list[str]:
    facts = recipe.card
    published = "–" if facts.published_accuracy is None else f"{facts.published_accuracy:.2f} %"
    return [
        recipe.name,
        recipe.family,
        short_number(facts.trainable_weights),
        short_number(facts.multiply_adds),
        published,
    ]


def _print_card(recipe: Recipe, train_it: str) -> None:
    facts, train = recipe.card, recipe.train
    console = stdout()
    console.print(Text(recipe.name, style="bold"), Text(f" {recipe.summary}"), sep=" ")
    rows = [
        ("paper", recipe.paper or "–"),
        ("input", "×".join(map(str, recipe.input_shape))),
        ("classes", str(recipe.classes)),
        ("dataset", recipe.dataset),
        ("weights", _weights(recipe)),
        ("multiply-adds", f"{facts.multiply_adds:,}" if facts.multiply_adds else "–"),
        (
            "network",
            f"{recipe.activation}, {recipe.starts_from()}, BatchNorm {recipe.batch_norm}, scaling {train.scaling}",
        ),
        ("optimizer", _table(train.optimizer.model_dump())),
        ("schedule", _table(train.schedule.model_dump())),
        ("training", f"{train.epochs} epochs of batches of {train.batch_size}, weight decay {train.weight_decay:g}"),
    ]
    if facts.published_accuracy is not None:
        rows.append(("published", f"{facts.published_accuracy:.2f} % ({facts.published_where})"))
    for key, value in rows:
        print_fact(console, key, value, 14)
    print_fact(console, "train it", train_it, 14)


def _weights(recipe: Recipe) -> str:
    facts = recipe.card
    if facts.trainable_weights is None or facts.total_weights is None:
        return "–"
    return f"{facts.trainable_weights:,} trainable, {facts.total_weights:,} in all"


def _table(values: dict[str, object]) -> str:
    name = values.pop("name")
    return ", ".join([str(name), *(f"{key.replace('_', ' ')} {value}" for key, value in values.items())])
