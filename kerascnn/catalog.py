"""models.toml → recipes. An entry inherits with ``base``; the user's own file and ``--set`` come on top."""

from __future__ import annotations

import codecs
import copy
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kerascnn.errors import RecipeError, UnknownNameError, brief, nearest
from kerascnn.recipe import DEFAULT_KINDS, Card, Recipe, parse_recipe, schema_of, table_of

Entries = dict[str, dict[str, Any]]

# Far beyond any recipe; what goes beyond them was made to cost time or memory.
MAX_BYTES = 2**20
MAX_DEPTH = 32
MAX_BASES = 32
MAX_DOTS_IN_A_LINE = 200


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
        with path.open("rb") as file:
            encoded = file.read(MAX_BYTES + 1)
        if len(encoded) > MAX_BYTES:
            raise RecipeError(f"{path}: expected a catalog of up to {MAX_BYTES:,} bytes, got more")
        content = _parse_toml(_decode(encoded))
    except OSError as error:
        raise RecipeError(f"expected a catalog at {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}: expected text in UTF-8, and line {line} isn't: save the file as UTF-8") from None
    except ValueError as error:
        raise RecipeError(f"{path}: expected TOML: {error}") from None
    unknown = [key for key in content if key != "models"]
    if unknown:
        raise RecipeError(f"{path}: expected only tables named [models.NAME], got {brief(unknown[0])}")
    _check_values(content, str(path))
    models = content.get("models", {})
    if not isinstance(models, dict) or not all(isinstance(entry, dict) for entry in models.values()):
        raise RecipeError(f"{path}: expected tables named [models.NAME]")
    for name, entry in models.items():
        _check_name(name, entry, path)
    return models


def _check_name(name: str, entry: Mapping[str, Any], path: Path) -> None:
    """To TOML a dot in ``[models.net.v2]`` begins a table in the table ``net``.

    Raises:
        RecipeError: there is such a name.
    """
    if "base" in entry or "builder" in entry:
        return
    for rest, inner in entry.items():
        if isinstance(inner, Mapping) and ("base" in inner or "builder" in inner):
            whole = brief(f"{name}.{rest}").strip("'\"")
            raise RecipeError(f'{path}: a name with a dot stands in quotes: expected [models."{whole}"]')


@cache
def _builtin_entries() -> Entries:
    return read_catalog(builtin_catalog())


def entries(catalog: str | Path | None = None) -> Entries:
    """All raw entries: the built-in ones, and over them those of the user's own file."""
    own = read_catalog(Path(catalog)) if catalog else {}
    return {**_builtin_entries(), **own}


def list_models(catalog: str | Path | None = None) -> list[str]:
    """The names of all networks, in the catalog's order."""
    return list(entries(catalog))


def load_recipe(
    name: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    catalog: str | Path | None = None,
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
    file = "models.toml" if _builtin_entries().get(name) is every[name] else str(catalog)
    recipe = parse_recipe(name, entry, file=file)
    if not overrides:
        return recipe
    if "name" in overrides:
        raise RecipeError("--set: a recipe keeps its name; --run-dir names the run")
    _check_values(dict(overrides), "--set")
    return _with_its_card(recipe, parse_recipe(name, merge(entry, nested(overrides))))


def change_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A recipe with other values of some keys, dotted as in :func:`load_recipe`.

    Raises:
        RecipeError: an unknown key, a wrong type, a value out of range.
    """
    entry = merge(recipe.model_dump(exclude={"name"}), nested(changes))
    changed = parse_recipe(recipe.name, entry)
    return _with_its_card(recipe, changed)


def _with_its_card(recipe: Recipe, changed: Recipe) -> Recipe:
    """A changed recipe; what the card says is of one network and not of another."""
    one, other = ((of.builder, of.input_shape, of.network()) for of in (recipe, changed))
    return changed if one == other or changed.card != recipe.card else changed.model_copy(update={"card": Card()})


def nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as tables in tables: ``{"a.b": 1}`` as ``{"a": {"b": 1}}``."""
    tables: dict[str, Any] = {}
    # Together before they meet an entry: a new optimizer's name and its keys may come in any order.
    for key, value in changes.items():
        is_name = isinstance(value, str) and any(other.startswith(f"{key}.") for other in changes)
        tables = _merge_tables(tables, _nested(key, table_of(value) if is_name else value), kinds={})
    return tables


def read_recipe(path: Path) -> Recipe:
    """The one recipe in a run's ``recipe.toml``.

    Raises:
        RecipeError: the file is missing or damaged, or holds another number of recipes than one.
    """
    models = read_catalog(path)
    if len(models) != 1:
        raise RecipeError(f"{path}: expected one [models.NAME], got {len(models)}")
    ((name, entry),) = models.items()
    return parse_recipe(name, entry, file=str(path))


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
            raise RecipeError(f"--set: expected key=value, such as activation=silu, got {brief(assignment)}")
        try:
            parsed = _parse_toml(f"value = {text}")
            overrides[key] = parsed["value"] if len(parsed) == 1 else text
        except ValueError:
            overrides[key] = text.strip()
    return overrides


def _decode(encoded: bytes) -> str:
    """UTF-8, with or without a byte order mark, or UTF-16 with one: editors and shells of Windows write all three."""
    is_utf_16 = encoded.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return encoded.decode("utf-16" if is_utf_16 else "utf-8-sig")


def _parse_toml(text: str) -> dict[str, Any]:
    """TOML, or a ValueError. A key of n dots costs the parser n² of memory, so their number is limited."""
    if any(line.count(".") > MAX_DOTS_IN_A_LINE for line in text.split("\n")):
        raise ValueError(f"expected up to {MAX_DOTS_IN_A_LINE} dots in a line, got more")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _check_values(value: Any, where: str, depth: int = 0) -> None:
    """Refuse what can't be written back as TOML: endless nesting, numbers beyond 64 bits, broken text.

    Raises:
        RecipeError: there is such a value.
    """
    if depth > MAX_DEPTH:
        raise RecipeError(f"{where}: expected up to {MAX_DEPTH} tables and lists in one another, got more")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_values(key, where, depth)
            _check_values(inner, where, depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_values(inner, where, depth + 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise RecipeError(f"{where}: expected whole numbers of up to 64 bits, got {brief(value)}")
    elif isinstance(value, str) and value.encode(errors="ignore").decode() != value:
        raise RecipeError(f"{where}: expected text in UTF-8, got {brief(value)}")


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """One entry over another, table by table and key by key, ``over`` winning.

    What means nothing any more falls away: all keys of an optimizer or a schedule that another kind replaces, and the
    keys that the new builder doesn't have, where ``over`` changes it.
    """
    return _merge_tables(_for_builder(under, over.get("builder")), over, DEFAULT_KINDS)


def _for_builder(entry: Mapping[str, Any], builder: Any) -> Mapping[str, Any]:
    """An entry without the keys that its own builder has and another one hasn't."""
    own = entry.get("builder")
    if not isinstance(own, str) or not isinstance(builder, str):
        return entry
    left = schema_of(own).model_fields.keys() - schema_of(builder).model_fields.keys()
    return {key: value for key, value in entry.items() if key not in left}


def _merge_tables(
    under: Mapping[str, Any], over: Mapping[str, Any], kinds: Mapping[str, str], table: str = ""
) -> dict[str, Any]:
    """Tables merged key by key; one of ``kinds`` (its dotted key and the kind without a name) by :func:`_same_kind`."""
    merged = copy.deepcopy(dict(under))
    for key, value in over.items():
        path = f"{table}{key}"
        old = table_of(merged.get(key)) if path in kinds else merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and _same_kind(old, value, kinds.get(path)):
            merged[key] = _merge_tables(old, value, kinds, f"{path}.")
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _same_kind(old: Mapping[str, Any], new: Mapping[str, Any], default: str | None) -> bool:
    """Whether a table's new keys belong to its old ones: they name no kind, or the one it has."""
    return default is None or "name" not in new or new["name"] == old.get("name", default)


def _resolve(name: str, every: Entries, seen: list[str]) -> dict[str, Any]:
    """An entry with the keys of its ``base`` filled in. A card describes one network and isn't inherited."""
    if name not in every:
        asked = f" (the base of {brief(seen[-1])})" if seen else ""
        raise UnknownNameError(
            f"no model is named {brief(name)}{asked}{nearest(name, every)}; `kerascnn models` lists them"
        )
    if name in seen:
        raise RecipeError(f"base: {' -> '.join([*seen, name])} goes round in a circle")
    if len(seen) > MAX_BASES:
        raise RecipeError(f"base: expected up to {MAX_BASES} models that build on one another, got more")
    entry = dict(every[name])
    base = entry.pop("base", None)
    if base is None:
        return entry
    if not isinstance(base, str):
        raise RecipeError(f"{name}: base: expected a model's name, got {brief(base)}")
    inherited = _resolve(base, every, [*seen, name])
    inherited.pop("card", None)
    return merge(inherited, entry)


def _nested(key: str, value: Any) -> dict[str, Any]:
    """``a.b = 1`` as ``{"a": {"b": 1}}``."""
    if key.count(".") > MAX_DEPTH:
        raise RecipeError(f"--set: unknown key {brief(key)}")
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value)} if rest else {first: value}
