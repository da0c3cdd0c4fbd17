"""models.toml → recipes. An entry inherits with ``base``; the user's own file and ``--set`` come on top."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kerascnn.errors import RecipeError, UnknownNameError, nearest
from kerascnn.recipe import Recipe, parse_recipe

Entries = dict[str, dict[str, Any]]


def builtin_catalog() -> Path:
    """The models.toml that came with kerascnn: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).parent
    inside, beside = package / "models.toml", package.parent / "models.toml"
    return inside if inside.is_file() else beside


def read_catalog(path: Path) -> Entries:
    """The raw entries of one catalog file.

    Raises:
        RecipeError: the file is missing, isn't TOML, or holds anything but tables under ``models``.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"expected a catalog at {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(f"{path}: expected TOML: {error}") from None
    unknown = [key for key in content if key != "models"]
    if unknown:
        raise RecipeError(f"{path}: expected only tables named [models.NAME], got {unknown[0]!r}")
    models = content.get("models", {})
    if not isinstance(models, dict) or not all(isinstance(entry, dict) for entry in models.values()):
        raise RecipeError(f"{path}: expected tables named [models.NAME]")
    return models


@cache
def _builtin_entries() -> Entries:
    return read_catalog(builtin_catalog())


def entries(catalog: Path | None = None) -> Entries:
    """All raw entries: the built-in ones, and over them those of the user's own file."""
    own = read_catalog(catalog) if catalog else {}
    return {**_builtin_entries(), **own}


def list_models(catalog: Path | None = None) -> list[str]:
    """The names of all networks, in the catalog's order."""
    return list(entries(catalog))


def load_recipe(
    name: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    catalog: Path | None = None,
) -> Recipe:
    """One network's recipe with every default filled in.

    Args:
        name: a name in the catalog, such as ``"plain12_bn"``.
        overrides: dotted keys and their values, such as ``{"train.optimizer.learning_rate": 1e-4}``.
        catalog: a TOML file of the user's own, whose entries come on top of the built-in ones.

    Raises:
        UnknownNameError: no entry has this name.
        RecipeError: an unknown key, a wrong type, a value out of range, or a ``base`` that leads nowhere.
    """
    every = entries(catalog)
    entry = _resolve(name, every, [])
    where = str(catalog) if catalog and name in read_catalog(catalog) else "models.toml"
    recipe = parse_recipe(name, entry, where=where)
    if not overrides:
        return recipe
    if "name" in overrides:
        raise RecipeError("--set: a recipe keeps its name; --run-dir names the run")
    # Together first: a new optimizer's name and its keys may come in any order.
    changes: dict[str, Any] = {}
    for key, value in overrides.items():
        changes = merge(changes, _nested(key, value))
    return parse_recipe(name, merge(entry, changes), where="--set")


def read_recipe(path: Path) -> Recipe:
    """The one recipe in a run's ``recipe.toml``.

    Raises:
        RecipeError: the file is missing or damaged, or holds another number of recipes than one.
    """
    models = read_catalog(path)
    if len(models) != 1:
        raise RecipeError(f"{path}: expected one [models.NAME], got {len(models)}")
    ((name, entry),) = models.items()
    return parse_recipe(name, entry, where=str(path))


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """``key=value`` texts as overrides. A value is TOML where it can be, else the text itself.

    Raises:
        RecipeError: a text without ``=`` or without a key.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key = key.strip()
        if not equals or not key:
            raise RecipeError(f"--set: expected key=value, such as activation=silu, got {assignment!r}")
        try:
            parsed = tomllib.loads(f"value = {text}")
            overrides[key] = parsed["value"] if len(parsed) == 1 else text
        except (tomllib.TOMLDecodeError, RecursionError):
            overrides[key] = text.strip()
    return overrides


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merged key by key, ``over`` winning.

    A table whose ``name`` changes (another optimizer, another schedule) is replaced: the keys of the old kind mean
    nothing to the new one.
    """
    merged = copy.deepcopy(dict(under))
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and _same_kind(old, value):
            merged[key] = merge(old, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _same_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "name" not in old or "name" not in new or old["name"] == new["name"]


def _resolve(name: str, every: Entries, seen: list[str]) -> dict[str, Any]:
    """An entry with the keys of its ``base`` filled in. A card describes one network and isn't inherited."""
    if name not in every:
        asked = f" (the base of {seen[-1]!r})" if seen else ""
        raise UnknownNameError(f"no model is named {name!r}{asked}{nearest(name, every)}; `kerascnn models` lists them")
    if name in seen:
        raise RecipeError(f"base: {' -> '.join([*seen, name])} goes round in a circle")
    entry = dict(every[name])
    base = entry.pop("base", None)
    if base is None:
        return entry
    if not isinstance(base, str):
        raise RecipeError(f"{name}: base: expected a model's name, got {base!r}")
    inherited = _resolve(base, every, [*seen, name])
    inherited.pop("card", None)
    return merge(inherited, entry)


def _nested(key: str, value: Any) -> dict[str, Any]:
    """``a.b = 1`` as ``{"a": {"b": 1}}``."""
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value)} if rest else {first: value}
