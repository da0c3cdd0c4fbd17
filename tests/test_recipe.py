"""Recipes and catalogs: what is accepted, what is refused, and how it says so."""

from __future__ import annotations

import codecs
import re
import tomllib
from pathlib import Path

import pytest

from kerascnn.catalog import (
    change_recipe,
    list_models,
    load_recipe,
    merge,
    parse_assignments,
    read_catalog,
    read_recipe,
)
from kerascnn.errors import RecipeError, UnknownNameError
from kerascnn.recipe import Adam, AdamW, Card, Cosine, Resnet, Sgd, Vgg
from tests.conftest import OWN_CATALOG

# As the issue of the lecture and the papers demand them.
ZOO = """
    vgg16_imagenet vgg16_cifar cnn2_fmnist cnn2_cifar cnn3_cifar plain9_sigmoid plain9_relu plain12_relu
    plain12_standardized plain12_symmetric plain12_bn plain12_he plain12_silu plain12_residual plain12_dense
    plain12_longskip plain12_fullskip plain12_lowlr vgg16_bn_imagenet vgg16_bn_cifar resnet20_cifar resnet110_cifar
    resnet18_cifar wrn28_10_cifar densenet40_k12_cifar densenet_bc100_k12_cifar
""".split()  # noqa: SIM905 - one name after the other reads better


def test_the_zoo_is_complete() -> None:
    assert sorted(list_models()) == sorted(ZOO)


@pytest.mark.parametrize("name", ZOO)
def test_every_recipe_reads_back_from_its_own_toml(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml())
    assert read_recipe(path) == recipe


# Each step of the lecture against the step before it: what changes, and that nothing else does.
LECTURE = [
    ("cnn2_cifar", "cnn2_fmnist", {"dataset", "input_shape"}),
    ("cnn3_cifar", "cnn2_cifar", {"filters"}),
    ("plain9_sigmoid", "cnn3_cifar", {"convs_per_group"}),
    ("plain9_relu", "plain9_sigmoid", {"activation"}),
    ("plain12_relu", "plain9_relu", {"filters"}),
    ("plain12_standardized", "plain12_relu", {"train.scaling"}),
    ("plain12_symmetric", "plain12_relu", {"train.scaling"}),
    ("plain12_bn", "plain12_relu", {"batch_norm"}),
    ("plain12_he", "plain12_relu", {"initializer"}),
    ("plain12_silu", "plain12_relu", {"activation"}),
    ("plain12_residual", "plain12_relu", {"skip"}),
    ("plain12_fullskip", "plain12_relu", {"skip"}),
    ("plain12_dense", "plain12_relu", {"skip"}),
    ("plain12_longskip", "plain12_relu", {"skip"}),
    ("plain12_lowlr", "plain12_relu", {"train.optimizer.learning_rate"}),
]


@pytest.mark.parametrize(("name", "before", "changed"), LECTURE)
def test_a_step_of_the_lecture_changes_one_thing(name: str, before: str, changed: set[str]) -> None:
    def flat(model: str) -> dict[str, object]:
        table = load_recipe(model).model_dump(exclude={"name", "summary", "paper", "card"})
        out: dict[str, object] = {}

        def walk(values: dict[str, object], prefix: str) -> None:
            for key, value in values.items():
                if isinstance(value, dict):
                    walk(value, f"{prefix}{key}.")
                else:
                    out[prefix + key] = value

        walk(table, "")
        return out

    new, old = flat(name), flat(before)
    assert {key for key in new if new[key] != old[key]} == changed


def test_the_lectures_common_settings() -> None:
    recipe = load_recipe("plain12_relu")
    assert recipe.train.optimizer.model_dump() == {
        "name": "adam",
        "learning_rate": 1e-3,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-8,
    }
    assert (recipe.train.batch_size, recipe.train.scaling, recipe.initializer) == (256, "unit", "glorot_uniform")
    assert (recipe.batch_norm_epsilon, recipe.batch_norm_momentum) == (1e-5, 0.9)


BAD = [
    ({"actvation": "relu"}, "unknown key 'actvation'; did you mean 'activation'?"),
    ({"train.optimizer.learnig_rate": 1}, "did you mean 'train.optimizer.learning_rate'?"),
    ({"activation": "rellu"}, "activation should be 'relu'"),
    ({"train.epochs": 0}, "train.epochs should be greater than 0, got 0"),
    ({"train.epochs": "ten"}, "train.epochs should be a valid integer"),
    ({"train.batch_size": -3}, "train.batch_size should be greater than 0, got -3"),
    ({"train.optimizer.learning_rate": float("nan")}, "train.optimizer.learning_rate"),
    ({"train.optimizer.learning_rate": 0}, "greater than 0, got 0"),
    ({"train.scaling": "unti"}, "train.scaling should be 'unit'"),
    ({"filters": []}, "filters"),
    ({"filters": [0]}, "filters.0 should be greater than 0"),
    ({"train.optimizer.momentum": 0.9}, "unknown key 'train.optimizer.momentum'"),
    ({"train.schedule.step": [0.5]}, "unknown key 'train.schedule.step'; did you mean 'train.schedule.at'?"),
    (
        {"train.optimizer.name": "sdg"},
        "train.optimizer.name should be 'sgd', 'adam', 'adamw', got 'sdg'; did you mean 'sgd'",
    ),
    ({"train.optimizer": 3}, "plain12_relu: train.optimizer should be a table of keys, got 3"),
    ({"train.warm_up": 3}, "train.warm_up should be a table of keys, got 3"),
    ({"name": "mine"}, "keeps its name"),
    ({"train.scaling": "caffe", "input_shape": [32, 32, 1]}, "three channels"),
    ({"input_shape": [32, 32, 4]}, "input_shape.2 should be 1 or 3"),
    ({"train": 3}, "train should be"),
    ({"skip": "long", "filters": [8]}, "two groups"),
    ({"train.augment.flip": "perhaps"}, "train.augment.flip should be a valid boolean"),
]


@pytest.mark.parametrize(("overrides", "said"), BAD)
def test_a_bad_override_is_refused_in_one_sentence(overrides: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)) as caught:
        load_recipe("plain12_relu", overrides)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_unknown_model_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'vgg16_cifar'"):
        load_recipe("vgg16_cifra")


def test_another_optimizer_starts_from_its_own_defaults() -> None:
    recipe = load_recipe("plain12_relu", {"train.optimizer.name": "sgd", "train.optimizer.momentum": 0.9})
    assert recipe.train.optimizer.model_dump() == {
        "name": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "nesterov": False,
    }


def test_a_name_alone_stands_for_its_table() -> None:
    recipe = load_recipe("plain12_relu", {"train.schedule": "cosine", "train.optimizer": "sgd"})
    assert (recipe.train.schedule.name, recipe.train.optimizer.name) == ("cosine", "sgd")
    for changes in (
        {"train.optimizer": "sgd", "train.optimizer.learning_rate": 0.1},
        {"train.optimizer.learning_rate": 0.1, "train.optimizer": "sgd"},
    ):
        optimizer = load_recipe("plain12_relu", changes).train.optimizer
        assert (optimizer.name, optimizer.learning_rate) == ("sgd", 0.1)


FAMILY = """
[models.bare]
base = "plain12_relu"
[models.bare.train]
optimizer = "sgd"
schedule = "cosine"

[models.bare_child]
base = "bare"
[models.bare_child.train.optimizer]
learning_rate = 0.1

[models.unnamed]
builder = "plain"
dataset = "cifar10"
filters = [8]
[models.unnamed.train]
optimizer = { learning_rate = 3e-4 }

[models.other_kind]
base = "unnamed"
[models.other_kind.train]
optimizer = { name = "sgd", momentum = 0.9 }

[models.same_kind]
base = "unnamed"
[models.same_kind.train]
optimizer = { name = "adam", beta_1 = 0.8 }

[models.own]
builder = "mine:build"
dataset = "cifar10"
arguments = { optimizer = "sgd", block = { name = "a", width = 3 } }

[models.own_child]
base = "own"
arguments = { block = { name = "b" } }
"""


@pytest.fixture
def family(tmp_path: Path) -> Path:
    path = tmp_path / "family.toml"
    path.write_text(FAMILY)
    return path


def test_a_key_of_a_kind_that_stands_as_its_name_alone_leaves_the_kind(family: Path) -> None:
    changed = load_recipe("bare", {"train.optimizer.learning_rate": 0.1}, catalog=family).train.optimizer
    inherited = load_recipe("bare_child", catalog=family).train.optimizer
    assert changed == inherited == Sgd(learning_rate=0.1)
    assert load_recipe("bare", {"train.schedule.final": 0.01}, catalog=family).train.schedule == Cosine(final=0.01)


def test_another_optimizer_takes_no_key_from_one_whose_kind_is_the_default(family: Path) -> None:
    assert load_recipe("other_kind", catalog=family).train.optimizer == Sgd(momentum=0.9)
    assert load_recipe("same_kind", catalog=family).train.optimizer == Adam(learning_rate=3e-4, beta_1=0.8)
    changed = load_recipe("unnamed", {"train.optimizer.name": "adamw"}, catalog=family)
    assert changed.train.optimizer == AdamW()


def test_a_name_means_a_kind_in_optimizers_and_schedules_alone(family: Path) -> None:
    assert load_recipe("own_child", catalog=family).network()["block"] == {"name": "b", "width": 3}
    changed = load_recipe("own", {"arguments.optimizer": {"rate": 1}}, catalog=family)
    assert changed.network()["optimizer"] == {"rate": 1}


def test_overrides_count_together_whatever_their_order() -> None:
    one = {"train.optimizer.learning_rate": 0.5, "train.optimizer.momentum": 0.9, "train.optimizer.name": "sgd"}
    two = dict(reversed(one.items()))
    assert load_recipe("plain12_relu", one) == load_recipe("plain12_relu", two)
    assert load_recipe("plain12_relu", one).train.optimizer.learning_rate == 0.5


def test_recipes_are_immutable() -> None:
    recipe = load_recipe("plain12_relu")
    with pytest.raises(ValueError, match="frozen"):
        recipe.activation = "silu"  # type: ignore[misc]


def test_assignments_are_typed_like_toml() -> None:
    assert parse_assignments(["a=1", "b=1e-4", "c=silu", "d=[1, 2]", "e=true", 'f="x=y"', "g=x=y"]) == {
        "a": 1,
        "b": 1e-4,
        "c": "silu",
        "d": [1, 2],
        "e": True,
        "f": "x=y",
        "g": "x=y",
    }


@pytest.mark.parametrize("text", ["nothing", "=3", ""])
def test_an_assignment_without_a_key_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="expected key=value"):
        parse_assignments([text])


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"train.epochs": 3, "dataset": "fashion_mnist_mini"}, True),
        ({"hidden": [256, 256]}, True),
        ({"hidden": [10]}, False),
        ({"classes": 100}, False),
        ({"input_shape": [64, 64, 3]}, False),
    ],
    ids=str,
)
def test_a_changed_network_has_no_card(changes: dict[str, object], kept: bool) -> None:
    recipe = load_recipe("vgg16_cifar")
    for changed in (change_recipe(recipe, changes), load_recipe("vgg16_cifar", changes)):
        assert changed.card == (recipe.card if kept else Card())
    assert load_recipe("vgg16_cifar", {**changes, "card.total_weights": 5}).card.total_weights == 5


def test_base_inherits_all_but_the_card() -> None:
    assert load_recipe("plain12_he").card != load_recipe("plain12_bn").card
    assert load_recipe("vgg16_bn_cifar").card.published_accuracy == 92.64
    assert load_recipe("vgg16_cifar").card.published_accuracy is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[models.a]\nbase = "b"\n[models.b]\nbase = "a"\n', "goes round in a circle"),
        ('[models.a]\nbase = "plain12_rely"\n', "did you mean 'plain12_relu'"),
        ("[models.a]\nbase = 3\n", "expected a model's name, got 3"),
        ("[models.a]\n", "expected the key 'base', the name of another model, or 'builder', one of plain"),
        ('[models.a.v2]\nbase = "plain12_relu"\n', 'a name with a dot stands in quotes: expected [models."a.v2"]'),
        ("[modles.a]\n", "expected only tables named [models.NAME], got 'modles'"),
        ("models = 3", "expected tables"),
        ("[models", "expected TOML"),
    ],
)
def test_a_bad_catalog_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises((RecipeError, UnknownNameError), match=re.escape(said)):
        load_recipe("a", catalog=path)


def test_an_own_catalog_comes_on_top(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[models.plain12_he]\nbase = "plain12_relu"\ninitializer = "he_uniform"\n')
    assert load_recipe("plain12_he", catalog=path).initializer == "he_uniform"
    assert load_recipe("plain12_he").initializer == "he_normal"


BUILDERS = """
[models.as_vgg]
base = "resnet20_cifar"
builder = "vgg"
convs_per_group = [2, 2, 2]

[models.own]
base = "plain12_relu"
builder = "mine:build"
arguments = { width = 5 }

[models.own_again]
base = "own"
builder = "mine:build_again"

[models.as_resnet]
base = "own"
builder = "resnet"

[models.misspelt]
builder = "resnet"
dataset = "cifar10"
shortcuts = "pad"

[models.misspelt_child]
base = "misspelt"
builder = "vgg"
"""


def test_another_builder_inherits_the_keys_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(BUILDERS)
    base = load_recipe("resnet20_cifar")
    as_vgg = load_recipe("as_vgg", catalog=path)
    assert isinstance(as_vgg, Vgg)
    assert (as_vgg.filters, as_vgg.convs_per_group) == ([16, 32, 64], [2, 2, 2])
    assert (as_vgg.train, as_vgg.batch_norm) == (base.train, base.batch_norm)
    own = load_recipe("own", catalog=path)
    assert own.network()["width"] == 5
    assert own.train == load_recipe("plain12_relu").train
    assert load_recipe("own_again", catalog=path).network()["width"] == 5
    assert isinstance(load_recipe("as_resnet", catalog=path), Resnet)
    with pytest.raises(RecipeError, match="unknown key 'shortcuts'"):
        load_recipe("misspelt_child", catalog=path)


def test_a_change_of_the_builder_drops_what_it_does_not_have() -> None:
    changes = {"builder": "vgg", "convs_per_group": [1, 1, 1]}
    resnet = load_recipe("resnet20_cifar")
    assert change_recipe(resnet, changes) == load_recipe("resnet20_cifar", changes)


@pytest.mark.parametrize(
    "encoded",
    [
        codecs.BOM_UTF8 + "[models.a]\r\nbase = 'plain12_relu'\r\nsummary = 'é'\r\n".encode(),
        "[models.a]\r\nbase = 'plain12_relu'\r\nsummary = 'é'\r\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + "[models.a]\nbase = 'plain12_relu'\nsummary = 'é'\n".encode("utf-16-be"),
    ],
    ids=["UTF-8 with a mark", "UTF-16", "UTF-16 the other way round"],
)
def test_a_catalog_may_be_as_windows_writes_it(encoded: bytes, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(encoded)
    assert load_recipe("a", catalog=path).summary == "é"


def test_a_catalog_in_another_encoding_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes("[models.a]\nsummary = 'é'\n".encode("cp1252"))
    with pytest.raises(RecipeError, match="expected text in UTF-8, and line 2 isn't: save the file as UTF-8"):
        load_recipe("a", catalog=path)


def test_merge_leaves_its_arguments_alone() -> None:
    under = {"train": {"augment": {"flip": True}}}
    assert merge(under, {"train": {"augment": {"pad_crop": 4}}}) == {
        "train": {"augment": {"flip": True, "pad_crop": 4}}
    }
    assert under == {"train": {"augment": {"flip": True}}}


def test_the_tests_own_catalog_is_valid() -> None:
    for name in read_catalog(OWN_CATALOG):
        assert tomllib.loads(load_recipe(name, catalog=OWN_CATALOG).to_toml())["models"][name]
