"""Catalogs and ``--set``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import example
from hypothesis import strategies as st

from kerascnn.catalog import builtin_catalog, entries, list_models, load_recipe, parse_assignments, read_catalog
from kerascnn.data.dataset import require
from kerascnn.errors import KerascnnError
from kerascnn.recipe import FAMILIES, Recipe, known_keys
from kerascnn.runs.directory import new_run_path
from tests.conftest import OWN_CATALOG
from tests.fuzz.harness import WORDS, answer, deep, fuzzed, leaves, mutated, numbers, texts, values

KEYS = sorted({key for kind in (Recipe, *FAMILIES.values()) for key in known_keys(kind)} | {"base", "arguments.x"})
HUGE_INTEGER = "9" * 5000
HUGE_HEXADECIMAL = "0x" + "f" * 5000
MANY_DOTS = "a." * 5000 + "a"


def use_every_recipe(path: Path) -> None:
    """What ``kerascnn models --catalog FILE`` does, and a run that stores its recipe."""
    refused = 0
    for name in list(read_catalog(path))[:5]:
        try:
            recipe = load_recipe(name, catalog=path)
        except KerascnnError:
            refused += 1
            continue
        folder = path.parent / "runs"
        assert new_run_path(recipe.name, folder).resolve().is_relative_to(folder.resolve())
        stored = path.with_name("recipe.toml")
        stored.write_text(recipe.to_toml(), encoding="utf-8")
        assert load_recipe(recipe.name, catalog=stored) == recipe
        json.dumps(recipe.model_dump(mode="json"))
    if refused:
        # The errors themselves are looked at too, one by one.
        load_recipe(next(name for name in read_catalog(path)), catalog=path)


def read_text_catalog(folder: Path, content: bytes) -> None:
    path = folder / "own.toml"
    path.write_bytes(content)
    answer(lambda: use_every_recipe(path), size=len(content) + builtin_catalog().stat().st_size)


@fuzzed("models.toml", long=3000, content=mutated(OWN_CATALOG.read_bytes(), text=True))
@example(content=f"[models.huge_integer]\nbuilder = {HUGE_INTEGER}\n".encode())
@example(content=f"[models.huge_hexadecimal]\nbuilder = 'plain'\ntrain.epochs = {HUGE_HEXADECIMAL}\n".encode())
@example(content=f"[models.many_dots]\nbuilder = 'plain'\n{MANY_DOTS} = 1\n".encode())
@example(content=f"[models.many_dots_own]\nbuilder = 'a:b'\ndataset = 'mnist'\narguments.{MANY_DOTS} = 1\n".encode())
@example(content=f"[models.huge_own]\nbuilder = 'a:b'\ndataset = 'mnist'\narguments.x = {HUGE_HEXADECIMAL}\n".encode())
@example(content=b"[models.'../../climbs']\nbuilder = 'vgg'\ndataset = 'mnist'\n")
@example(content=b"[models.'/tmp/climbs']\nbuilder = 'vgg'\ndataset = 'mnist'\n")
@example(content="[models.windows]\nbuilder = 'vgg'\ndataset = 'mnist'\n".encode("utf-16"))
@example(content=b"\xff\xfe[\xd8")
@example(content=("".join(f"[models.m{n}]\nbase = 'm{n + 1}'\n" for n in range(3000))).encode())
def test_a_damaged_catalog(folder: Path, content: bytes) -> None:
    read_text_catalog(folder, content)


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as tables; one that collides with another wins."""
    table: dict[str, Any] = {}
    for key, value in flat.items():
        inner = table
        *parents, last = key.split(".")
        for parent in parents:
            if not isinstance(inner.get(parent), dict):
                inner[parent] = {}
            inner = inner[parent]
        inner[last] = value
    return table


def toml_of(content: Any) -> bytes:
    """TOML has no null and no lone surrogates."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(clean(key)): clean(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [clean(inner) for inner in value]
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode()
        if isinstance(value, int) and abs(value) > 10**4000:
            return 10**4000
        return "none" if value is None else value

    return tomli_w.dumps(clean(content)).encode()


entry = st.dictionaries(st.sampled_from(KEYS) | texts, values, max_size=5).map(nested)
plausible = st.builds(
    lambda builder, own: {"builder": builder, "dataset": "mnist", "filters": [8, 8], **own},
    st.sampled_from([*FAMILIES, "a:b"]),
    entry,
)


@fuzzed(
    "models.toml",
    long=3000,
    models=st.dictionaries(texts, plausible | entry | leaves, max_size=3) | values,
)
def test_a_catalog_of_the_wrong_types(folder: Path, models: Any) -> None:
    read_text_catalog(folder, toml_of({"models": models}))


@fuzzed(
    "--set",
    short=250,
    long=8000,
    model=st.sampled_from(["plain12_bn", "vgg16_cifar", "resnet20", "densenet40", "cnn2_fmnist"]) | texts,
    assignments=st.lists(
        st.one_of(
            st.builds(
                lambda key, value: f"{key}={value}", st.sampled_from(KEYS), st.sampled_from(WORDS) | numbers | values
            ),
            st.builds(lambda key, value: f"{key}={value}", texts, texts),
            texts,
        ),
        max_size=4,
    ),
)
@example(model="cnn2_fmnist", assignments=[f"train.epochs={HUGE_INTEGER}"])
@example(model="cnn2_fmnist", assignments=[f"train.epochs={HUGE_HEXADECIMAL}"])
@example(model="cnn2_fmnist", assignments=[f"{MANY_DOTS}=1"])
@example(model="cnn2_fmnist", assignments=["builder='a:b'", f"arguments.x={deep(300)}"])
@example(model="cnn2_fmnist", assignments=["summary='\ud800'"])
@example(model="cnn2_fmnist", assignments=["dataset=folder:~nobody-at-all/x"])
@example(model="cnn2_fmnist", assignments=["dataset=folder:a\0b"])
def test_settings_that_nobody_meant(folder: Path, model: str, assignments: list[str]) -> None:
    def read() -> None:
        recipe = load_recipe(model, parse_assignments(assignments))
        stored = folder / "recipe.toml"
        stored.write_text(recipe.to_toml(), encoding="utf-8")
        assert load_recipe(recipe.name, catalog=stored) == recipe
        require(recipe.dataset, None, download=False)

    answer(read, size=sum(map(len, assignments)) + builtin_catalog().stat().st_size)


def test_the_built_in_catalog_passes_the_same_test(tmp_path: Path) -> None:
    """Else the tests above might refuse everything."""
    path = tmp_path / "own.toml"
    path.write_bytes(OWN_CATALOG.read_bytes())
    use_every_recipe(path)
    assert set(list_models(path)) == set(entries(path))
