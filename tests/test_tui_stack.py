"""The drawing of a network counts what it draws, so its lines can be held to the card."""

from __future__ import annotations

from typing import Any

import pytest

from kerascnn.catalog import list_models, load_recipe
from kerascnn.recipe import parse_recipe
from tui.drawing.stack import draw, stack


@pytest.mark.parametrize("name", list_models())
def test_the_lines_add_up_to_the_networks_card(name: str) -> None:
    recipe = load_recipe(name)
    lines = stack(recipe)
    assert sum(line.weights for line in lines) == recipe.card.trainable_weights
    assert sum(line.multiply_adds for line in lines) == recipe.card.multiply_adds
    assert lines[0].shape == recipe.input_shape
    assert lines[-1].shape == (recipe.classes,)


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("width", [40, 66, 100])
def test_every_line_is_as_wide_as_asked_and_ascii_when_asked(name: str, width: int) -> None:
    rows = [left + right for left, right in draw(stack(load_recipe(name)), width)]
    assert {len(row) for row in rows} == {width}
    assert not any("…" in row for row in rows if width > 60)
    plain = [left + right for left, right in draw(stack(load_recipe(name)), width, ascii=True)]
    assert all(row.isascii() and len(row) == width for row in plain)


@pytest.mark.parametrize("width", [1, 7, 13])
def test_where_there_is_no_room_the_sizes_are_drawn_all_the_same(width: int) -> None:
    rows = draw(stack(load_recipe("cnn2_fmnist")), width)
    assert [left for left, _ in rows] == ["…"] * len(rows)
    assert rows[0][1].strip() == "28×28×1"


def test_sizes_follow_each_pool() -> None:
    lines = stack(load_recipe("plain12_bn"))
    assert [line.shape for line in lines[:5]] == [(32, 32, 3), (16, 16, 64), (8, 8, 128), (4, 4, 256), (2, 2, 512)]
    assert [line.shape for line in lines[5:]] == [(512,), (10,)]
    assert "3× conv 64 · ReLU · BN ─ pool" in lines[1].text


@pytest.mark.parametrize(
    ("name", "marks"),
    [
        ("plain12_residual", "╭╰╭╰╭╰╭╰"),
        ("plain12_longskip", "╭││╰"),
        ("plain12_bn", ""),
        ("resnet20_cifar", "╭│╰╭│╰╭│╰"),
        ("densenet40_k12_cifar", "╭╰╭╰╭╰"),
    ],
)
def test_each_skip_leaves_the_trunk_and_comes_back(name: str, marks: str) -> None:
    assert "".join(line.gutter[0] for line in stack(load_recipe(name))).replace(" ", "") == marks


@pytest.mark.backend
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("plain12_longskip", {"batch_norm": "before", "filters": [4, 8, 16], "convs_per_group": 1}),
        ("plain12_residual", {"batch_norm": "after", "filters": [4, 8], "input_shape": [27, 27, 1]}),
        ("plain12_fullskip", {"conv_bias": False, "filters": [4, 4], "hidden": []}),
        ("vgg16_cifar", {"batch_norm": "after", "filters": [4, 4, 4, 4, 4], "dropout": 0.2}),
        ("resnet20_cifar", {"batch_norm": "none", "shortcut": "projection", "blocks_per_stage": 1}),
        ("wrn28_10_cifar", {"batch_norm": "after", "depth": 10, "widen": 1}),
        ("densenet40_k12_cifar", {"bottleneck": True, "compression": 0.5, "depth": 16, "batch_norm": "none"}),
    ],
)
def test_an_edited_network_is_counted_as_keras_builds_it(keras: Any, name: str, changes: dict[str, Any]) -> None:
    from kerascnn.zoo import build_model
    from kerascnn.zoo.counting import count

    recipe = load_recipe(name, {**changes, "train.scaling": "unit"})
    built = count(build_model(recipe))
    lines = stack(recipe)
    assert sum(line.weights for line in lines) == built.trainable_weights
    assert sum(line.multiply_adds for line in lines) == built.multiply_adds


def test_a_builder_of_ones_own_is_named_and_not_guessed() -> None:
    recipe = parse_recipe("mine", {"builder": "my:net", "dataset": "cifar10", "classes": 7}, file="own.toml")
    assert "my:net" in stack(recipe)[1].text
    assert stack(recipe)[-1].shape == (7,)
    assert sum(line.multiply_adds for line in stack(recipe)) == 0
