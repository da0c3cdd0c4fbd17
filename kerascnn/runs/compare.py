"""What differs between runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerascnn.recipe import Recipe


def recipe_differences(recipes: Sequence[Recipe]) -> dict[str, list[Any]]:
    """The keys whose values aren't the same in all recipes, with the value of each recipe, None where it has none."""
    tables = [flat(recipe.model_dump(mode="json", exclude={"card", "summary"})) for recipe in recipes]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    rows = {key: [table.get(key) for table in tables] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A table of tables as one, its keys dotted."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
