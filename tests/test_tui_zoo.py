"""The zoo: the list of networks and the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from kerascnn.catalog import list_models, load_recipe
from tests.screens import SIZES, screen_text
from tests.tui_runs import BEGAN, looked, make_app, make_run, settled
from tui.places import Places
from tui.screens.new_run import NewRunScreen
from tui.screens.zoo import Networks, ZooScreen
from tui.starting.zoo import best_here, matching, ordered, read_zoo


@pytest.mark.parametrize("size", SIZES)
async def test_the_zoo_at_every_size(tmp_path: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    make_run(tmp_path, model="plain12_residual", epochs=(0.5, 0.625))
    app = make_app(tmp_path)
    async with app.run_test(size=size) as pilot:
        await looked(app, pilot)
        screen_of(app).query_one(Networks).highlighted = 1 + list_models().index("plain12_residual")
        assert await settled(app, pilot) == snapshot


def screen_of(app: Any) -> ZooScreen:
    assert isinstance(app.screen, ZooScreen)
    return app.screen


def names(app: Any) -> list[str]:
    return [option.id for option in screen_of(app).query_one(Networks).options if option.id]


def words(text: str) -> str:
    return " ".join(text.split())


async def test_every_network_can_be_shown(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        for name in list_models():
            text = await settled(app, pilot)
            assert name in text.splitlines()[1], text
            assert load_recipe(name).summary.split()[0] in text
            await pilot.press("down")


@pytest.mark.parametrize("sizes", [((120, 40), (80, 24)), ((80, 24), (120, 40))])
async def test_a_terminal_that_changes_while_another_screen_is_shown(
    tmp_path: Path, sizes: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=sizes[0]) as pilot:
        await settled(app, pilot)
        await pilot.press("enter")
        await pilot.resize_terminal(*sizes[1])
        await settled(app, pilot)
        assert isinstance(app.screen, NewRunScreen)
        await pilot.press("escape")
        changed = await settled(app, pilot)
    app = make_app(tmp_path)
    async with app.run_test(size=sizes[1]) as pilot:
        assert await settled(app, pilot) == changed


async def test_typing_filters_and_escape_shows_all_again(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        await pilot.press("slash", *"resnet cifar")
        assert names(app) == ["resnet20_cifar", "resnet110_cifar", "resnet18_cifar"]
        assert "resnet20_cifar" in screen_text(app).splitlines()[1]
        await pilot.press(*"q1")
        assert "no network fits the filter" in await settled(app, pilot)
        await pilot.press("escape")
        assert names(app) == list_models()
        await pilot.press("slash", *"densenet", "enter", "down", "enter")
        await settled(app, pilot)
        assert isinstance(app.screen, NewRunScreen)
        assert "densenet_bc100_k12_cifar" in screen_text(app)


async def test_sorting_goes_through_the_orders_and_back(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(app, pilot)
        await pilot.press("s")
        assert names(app) == sorted(list_models())
        for key in ("trainable_weights", "multiply_adds"):
            await pilot.press("s")
            figures = [getattr(load_recipe(name).card, key) for name in names(app)]
            assert figures == sorted(figures)
            assert "cnn2_fmnist" in screen_text(app).splitlines()[1], "the cursor stays on its network"
        await pilot.press("s")
        assert names(app) == list_models()


async def test_a_result_here_stands_on_the_card(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        assert "not run yet" in await looked(app, pilot)
        make_run(tmp_path, epochs=(0.5, 0.75))
        make_run(tmp_path, "20231114-231320-bbbb", epochs=(0.25,), began=BEGAN + 9, backend="tensorflow")
        assert "best validation 75.00 % on fashion_mnist with torch (2 runs)" in await looked(app, pilot)


def test_runs_without_a_finished_epoch_are_counted(tmp_path: Path) -> None:
    from tui.reading.ledger import Ledger

    make_run(tmp_path, epochs=(), end="stopped")
    entries = Ledger(tmp_path / "runs").refresh()
    assert best_here("cnn2_fmnist", entries) == "1 run, no epoch finished"
    assert best_here("plain12_bn", entries) == "not run yet"


async def test_a_catalog_that_is_no_toml_is_shown_with_its_line(tmp_path: Path) -> None:
    catalog = tmp_path / "own.toml"
    catalog.write_text('[models.mine]\nbase = "cnn2_fmnist"\nfilters = = 1\n')
    app = make_app(tmp_path, places=Places(tmp_path / "runs", catalog))
    async with app.run_test(size=(120, 40)) as pilot:
        text = words(await settled(app, pilot))
        assert "own.toml: expected TOML" in text
        assert "(at line 3, column 11)" in text
        assert names(app) == list_models()
        catalog.write_text('[models.mine]\nbase = "cnn2_fmnist"\nfilters = [8, 8]\n')
        await pilot.press("r")
        assert "own.toml" not in await settled(app, pilot)
        assert names(app) == [*list_models()[:16], "mine", *list_models()[16:]]


async def test_a_wrong_entry_is_shown_with_its_key_and_leaves_the_others(tmp_path: Path) -> None:
    catalog = tmp_path / "own.toml"
    catalog.write_text('[models.good]\nbase = "cnn2_fmnist"\n[models.bad]\nbase = "cnn2_fmnist"\nfilter = [8]\n')
    app = make_app(tmp_path, places=Places(tmp_path / "runs", catalog))
    async with app.run_test(size=(120, 40)) as pilot:
        text = words(await settled(app, pilot))
        assert "own.toml: bad: unknown key 'filter'; did you mean 'filters'?" in text
        assert "good" in names(app)
        assert "bad" not in names(app)


def test_words_are_sought_in_name_summary_family_and_dataset() -> None:
    recipes, problems = read_zoo(None)
    assert not problems
    assert [recipe.name for recipe in matching(recipes, "WIDER ten")] == []
    assert [recipe.name for recipe in matching(recipes, "ten times WIDE")] == ["wrn28_10_cifar"]
    assert len(matching(recipes, "")) == len(recipes)
    assert [group for group, _ in ordered(recipes, "family")] == ["lecture", "vgg", "residual", "dense"]


async def test_backends_are_marked(tmp_path: Path) -> None:
    app = make_app(tmp_path, backends=["jax"])
    async with app.run_test(size=(80, 24)) as pilot:
        assert "torch ○ tensorflow ○ jax ●" in await settled(app, pilot)
