"""The form for a new run: what it makes of the recipe, the command that does the same, the estimate, the start."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion
from textual.widgets import Button, Input, Static
from typer.testing import CliRunner

from kerascnn.catalog import list_models, load_recipe
from kerascnn.cli import app as command
from kerascnn.errors import RunError
from kerascnn.machine import machine
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run
from kerascnn.training import session
from kerascnn.training.backend import BackendChoice
from kerascnn.wording import command_line
from tests.screens import SIZES, screen_text
from tests.tui_runs import BEGAN, living, looked, make_app, make_run, said, settled, step_done
from tui.messages import NewRun
from tui.places import Places
from tui.reading.ledger import Ledger
from tui.screens.new_run import NewRunScreen
from tui.screens.run import RunScreen
from tui.screens.zoo import ZooScreen
from tui.starting.estimate import Estimate, estimate, training_images, validation_images
from tui.starting.form import FIELDS, changes_of, check, default_rate, fields_of, texts_of, where_data_lies
from tui.starting.launch import train_arguments
from tui.widgets.choice import Choice

HERE = Places(Path("runs"))


# -- the form without a screen


def trained_by(line: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Recipe, session.Options]:
    """What the real command would train if a user typed this line."""
    asked: list[tuple[Recipe, session.Options]] = []

    def train(recipe: Recipe, *, options: session.Options, **_: Any) -> session.Result:
        asked.append((recipe, options))
        return session.Result(Path("run"), "finished", "", 0, {})

    monkeypatch.setattr(session, "train", train)
    monkeypatch.setattr(session, "check", lambda *_, **__: BackendChoice("torch", "told"))
    result = CliRunner().invoke(command, shlex.split(line)[1:])
    assert result.exit_code == 0, result.output
    return asked[0]


VALUES: dict[str, st.SearchStrategy[str]] = {
    "int": st.integers(1, 10_000).map(str),
    "float": st.floats(1e-7, 0.9).map(str),
}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_command_below_the_form_trains_what_the_form_shows(
    data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_recipe(data.draw(st.sampled_from(list_models())))
    texts = texts_of(base)
    if base.dataset == "folder":
        texts["dataset"] = "cifar10"
    fields = fields_of(base)
    for field in data.draw(st.lists(st.sampled_from(fields), unique=True)):
        if field.key == "dataset":
            texts["dataset"] = data.draw(
                st.sampled_from(["cifar10", "cifar100", "fashion_mnist_mini", "folder:/a b/'c"])
            )
        elif field.kind == "choice":
            texts[field.key] = data.draw(st.sampled_from(field.options))
        else:
            texts[field.key] = data.draw(VALUES[field.kind])
    checked = check(base, texts)
    if checked.recipe is None:
        assert "caffe" in checked.error or "pad" in checked.error, checked.error
        return
    line = command_line(["kerascnn", *train_arguments(base.name, checked.changes, "tensorflow", HERE)])
    recipe, options = trained_by(line, monkeypatch)
    assert recipe == checked.recipe
    assert options.backend == "tensorflow"
    trained = texts_of(recipe)
    for field in fields:
        number = field.kind != "choice" and texts[field.key]
        assert (
            (float(trained[field.key]) == float(texts[field.key])) if number else trained[field.key] == texts[field.key]
        )


def test_an_untouched_form_changes_nothing() -> None:
    for name in list_models():
        recipe = load_recipe(name)
        assert changes_of(recipe, texts_of(recipe)) == {}
    assert (
        command_line(["kerascnn", *train_arguments("plain12_bn", {}, "torch", HERE)])
        == "kerascnn train plain12_bn --backend torch"
    )


def test_places_go_into_the_command_quoted() -> None:
    places = Places(Path("my runs"), Path("o'wn.toml"), Path("/data sets"))
    line = command_line(["kerascnn", *train_arguments("mine", {"dataset": "folder:/my photos"}, "torch", places)])
    assert shlex.split(line) == [
        *("kerascnn", "train", "mine", "--backend", "torch", "--dataset", "folder:/my photos"),
        *("--runs-dir", "my runs", "--catalog", "o'wn.toml", "--data-dir", "/data sets"),
    ]


def test_only_the_keys_that_a_network_has_are_asked_for() -> None:
    keys = {name: {field.key for field in fields_of(load_recipe(name))} for name in list_models()}
    assert "skip" in keys["plain12_bn"]
    assert "skip" not in keys["vgg16_cifar"]
    assert "dropout" in keys["vgg16_cifar"]
    assert "shortcut" in keys["resnet20_cifar"]
    assert all("train.epochs" in asked for asked in keys.values())


@pytest.mark.parametrize(
    ("name", "key", "text", "told"),
    [
        ("plain12_bn", "train.epochs", "0", "greater than 0"),
        ("plain12_bn", "train.epochs", "many", "valid integer"),
        ("plain12_bn", "train.epochs", "", "valid integer"),
        ("plain12_bn", "train.batch_size", "1e9", "valid integer"),
        ("plain12_bn", "train.optimizer.learning_rate", "-1", "greater than 0"),
        ("plain12_bn", "train.optimizer.learning_rate", "nan", ""),
        ("plain12_bn", "train.seed", "-1", "greater than or equal to 0"),
        ("plain12_bn", "train.limit_train", "0", "greater than 0"),
        ("cnn2_fmnist", "train.scaling", "caffe", "three channels"),
        ("vgg16_cifar", "dropout", "1", "less than 1"),
        ("plain12_bn", "dataset", "folder:", "PATH"),
    ],
)
def test_what_cant_be_meant_is_told_at_its_field(name: str, key: str, text: str, told: str) -> None:
    base = load_recipe(name)
    checked = check(base, {**texts_of(base), key: text})
    assert checked.recipe is None
    assert checked.field == key
    assert told in checked.error
    assert not checked.error.startswith("--set")


LIMITED = """
[models.short]
base = "cnn2_fmnist"
train.limit_train = 500
"""


def test_a_limit_of_the_catalog_isnt_lifted_by_emptying_its_field(tmp_path: Path) -> None:
    catalog = tmp_path / "own.toml"
    catalog.write_text(LIMITED)
    base = load_recipe("short", catalog=catalog)
    checked = check(base, {**texts_of(base), "train.limit_train": " "}, catalog)
    assert (checked.recipe, checked.field) == (None, "train.limit_train")
    assert "the catalog's limit of 500 holds" in checked.error
    lifted = check(base, {**texts_of(base), "train.limit_train": "60000", "train.limit_val": ""}, catalog)
    assert lifted.recipe is not None
    assert training_images(lifted.recipe) == training_images(load_recipe("cnn2_fmnist"))


async def test_a_field_says_all_only_where_an_empty_one_means_all(tmp_path: Path) -> None:
    catalog = tmp_path / "own.toml"
    catalog.write_text(LIMITED)
    app = make_app(tmp_path, places=Places(tmp_path / "runs", catalog))
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await formed(app, pilot, "short")
        limit = screen.query_one("#train-limit_train", Input)
        assert (limit.placeholder, screen.query_one("#train-limit_val", Input).placeholder) == ("", "all")
        limit.value = ""
        assert "the catalog's limit of 500 holds" in await settled(app, pilot)
        assert screen.query_one("#start", Button).disabled


def test_another_dataset_brings_its_classes() -> None:
    base = load_recipe("plain12_bn")
    checked = check(base, {**texts_of(base), "dataset": "cifar100"})
    assert checked.recipe is not None
    assert checked.recipe.classes == 100
    assert checked.changes == {"dataset": "cifar100"}


def test_every_literal_of_the_schema_can_be_chosen() -> None:
    for field in FIELDS:
        for value in field.options if field.key not in ("dataset", "train.scaling") else ():
            for name in list_models():
                base = load_recipe(name)
                if field in fields_of(base):
                    rate = default_rate(value) if field.key == "train.optimizer.name" else None
                    texts = texts_of(base) | {field.key: value}
                    texts |= {"train.optimizer.learning_rate": rate} if rate else {}
                    texts |= {"dataset": "cifar10"}
                    assert check(base, texts).error == ""
                    break


def test_where_data_lies(tmp_path: Path) -> None:
    assert "embedded: 6,000 images" in where_data_lies("fashion_mnist_mini", None)
    assert where_data_lies("cifar10", None) == "not here: 170 MB to download first"
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (folder / name).touch()
    assert where_data_lies("cifar10", tmp_path) == f"on disk: {folder} (--data-dir)"
    assert where_data_lies(f"folder:{tmp_path}", None) == f"folder of images at {tmp_path}"
    assert "no folder" in where_data_lies("folder:/no/where", None)


# -- the estimate


def measured(run: Run, *, memory: int | None = None, processor: str | None = None) -> None:
    here = machine() | ({"processor": processor} if processor else {})
    run.environment_file.write_text(json.dumps({"machine": here}))
    if memory is not None:
        run.result_file.write_text(json.dumps({"figures": {"peak_memory_bytes": memory}}))


def estimated(folder: Path, name: str, backend: str = "torch", **changes: Any) -> Estimate:
    return estimate(load_recipe(name, changes), backend, Ledger(folder / "runs").refresh(), machine())


def test_nothing_measured_nothing_told(tmp_path: Path) -> None:
    assert estimated(tmp_path, "cnn2_fmnist").epoch_s is None
    make_run(tmp_path)
    assert estimated(tmp_path, "cnn2_fmnist").epoch_s is None, "a run of unknown machine"
    measured(Ledger(tmp_path / "runs").refresh()[0].run, processor="another")
    assert estimated(tmp_path, "cnn2_fmnist").epoch_s is None, "a run of another machine"
    assert "not known yet" in estimated(tmp_path, "cnn2_fmnist").sentence()


def test_the_same_network_is_estimated_by_images_and_with_memory(tmp_path: Path) -> None:
    measured(make_run(tmp_path), memory=1_900_000_000)
    told = estimated(tmp_path, "cnn2_fmnist")
    # 6,000 images took 50 s, their validation by 1,000 others 10; Fashion-MNIST has 60,000 and 10,000.
    assert told.epoch_s == pytest.approx(600)
    assert told.sentence() == "about 10 min an epoch here, 1.9 GB, from 1 run of cnn2_fmnist on torch"
    assert estimated(tmp_path, "cnn2_fmnist", **{"train.limit_train": 600}).epoch_s == pytest.approx(105)
    short = {"train.limit_train": 600, "train.limit_val": 100}
    assert estimated(tmp_path, "cnn2_fmnist", **short).epoch_s == pytest.approx(6)
    assert estimated(tmp_path, "cnn2_fmnist", **{"train.batch_size": 16}).memory_bytes is None


def test_another_network_is_estimated_by_multiply_adds(tmp_path: Path) -> None:
    measured(make_run(tmp_path), memory=1)
    ratio = 361_436_160 / 18_118_656
    told = estimated(tmp_path, "plain12_relu")
    assert told.epoch_s == pytest.approx((50_000 / 120 + 10_000 * 0.01) * ratio)
    assert told.memory_bytes is None
    assert "from cnn2_fmnist on torch by multiply-adds" in told.sentence()


def test_the_same_backend_counts_before_another(tmp_path: Path) -> None:
    measured(make_run(tmp_path, "a-aaaa", model="cnn2_cifar"))
    measured(make_run(tmp_path, "b-bbbb", model="plain9_relu", backend="tensorflow", began=BEGAN + 99))
    assert "cnn2_cifar on torch" in estimated(tmp_path, "cnn3_cifar").sentence()
    assert "plain9_relu on tensorflow" in estimated(tmp_path, "cnn3_cifar", "tensorflow").sentence()
    assert "plain9_relu on tensorflow" in estimated(tmp_path, "cnn3_cifar", "jax").sentence()


def test_a_short_trial_does_not_outweigh_a_long_run(tmp_path: Path) -> None:
    measured(make_run(tmp_path, "a-aaaa"))
    trial = make_run(tmp_path, "b-bbbb", epochs=(), end=None, began=BEGAN + 99)
    measured(trial)
    writer = ev.EventWriter(trial.events_file)
    writer.write(step_done(3, BEGAN).model_copy(update={"images_per_s": 1.0}))
    writer.close()
    told = estimated(tmp_path, "cnn2_fmnist")
    assert told.epoch_s == pytest.approx(600)
    assert told.basis == "the longest of 2 runs of cnn2_fmnist on torch"


def test_images_of_an_epoch() -> None:
    assert validation_images(load_recipe("plain12_bn")) == 10_000
    assert validation_images(load_recipe("plain12_bn", {"train.val_split": 0.1})) == 5_000
    assert validation_images(load_recipe("plain12_bn", {"train.limit_val": 10})) == 10
    assert validation_images(load_recipe("plain12_bn", {"dataset": "folder:/x"})) == 0
    assert training_images(load_recipe("plain12_bn")) == 50_000
    assert training_images(load_recipe("plain12_bn", {"train.val_split": 0.1})) == 45_000
    assert training_images(load_recipe("plain12_bn", {"train.limit_train": 10})) == 10
    assert training_images(load_recipe("plain12_bn", {"dataset": "folder:/x"})) is None


# -- the screen


async def formed(app: Any, pilot: Any, model: str = "cnn2_fmnist") -> NewRunScreen:
    await looked(app, pilot)
    app.post_message(NewRun(model))
    await settled(app, pilot)
    assert isinstance(app.screen, NewRunScreen)
    return app.screen


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model", ["cnn2_fmnist", "resnet18_cifar"])
async def test_the_form_at_every_size(
    tmp_path: Path, size: tuple[int, int], model: str, snapshot: SnapshotAssertion
) -> None:
    app = make_app(tmp_path, places=Places(Path("runs")))
    async with app.run_test(size=size) as pilot:
        await formed(app, pilot, model)
        assert await settled(app, pilot) == snapshot


async def test_keys_lead_through_the_fields_and_change_the_command(tmp_path: Path) -> None:
    app = make_app(tmp_path, places=Places(Path("runs")))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await formed(app, pilot)
        assert screen.focused is screen.query_one("#start")
        await pilot.press("tab", "right")
        assert "--backend tensorflow" in await settled(app, pilot)
        await pilot.press("right")
        assert screen.backend == "torch", "jax isn't installed"
        assert "pip install jax" in screen_text(app)
        await pilot.press("down", "left", "down", "end", "backspace", "backspace", "3", "down", "up")
        text = await settled(app, pilot)
        assert "kerascnn train cnn2_fmnist --backend torch --dataset cifar100 --epochs 3" in text
        assert screen._checked.recipe is not None
        assert screen._checked.recipe.classes == 100
        await pilot.press("enter")
        assert screen.focused is screen.query_one("#start")


async def test_a_wrong_field_is_marked_and_cant_be_started(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await formed(app, pilot)
        field = screen.query_one("#train-epochs", Input)
        field.value = "0"
        text = await settled(app, pilot)
        assert "train.epochs should be greater than 0, got 0" in text
        assert field.has_class("-wrong")
        assert screen.query_one("#start", Button).disabled
        await pilot.press("ctrl+s")
        await settled(app, pilot)
        assert app.screen is screen
        field.value = "1"
        assert "should be" not in await settled(app, pilot)
        assert not field.has_class("-wrong")
        assert not screen.query_one("#start", Button).disabled


async def test_an_optimizer_brings_its_own_learning_rate(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await formed(app, pilot)
        choice = screen.query_one("#train-optimizer-name", Choice)
        choice.value = "sgd"
        await settled(app, pilot)
        assert screen.query_one("#train-optimizer-learning_rate", Input).value == "0.01"
        assert screen._checked.changes == {"train.optimizer.name": "sgd"}
        choice.value = "adam"
        await settled(app, pilot)
        assert screen._checked.changes == {}


async def test_a_folder_of_images_asks_for_its_path(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await formed(app, pilot, "vgg16_imagenet")
        assert screen.query_one("#folder-row").display
        assert screen.query_one("#start", Button).disabled
        screen.query_one("#folder", Input).value = str(tmp_path)
        text = await settled(app, pilot)
        assert "folder of images at" in text
        assert screen._checked.changes == {"dataset": f"folder:{tmp_path}"}


@pytest.mark.parametrize(
    ("path", "told"),
    # A name that is too long raises in older versions of Python and is that of no folder in newer ones.
    [("~nobody-of-this-name/images", "whose home is unknown"), ("x" * 300, "")],
)
async def test_a_path_that_cant_be_looked_at_is_no_folder(tmp_path: Path, path: str, told: str) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await formed(app, pilot, "vgg16_imagenet")
        screen.query_one("#folder", Input).value = path
        await settled(app, pilot)
        assert told in screen._checked.error
        assert f"no folder at {path}" in str(screen.query_one("#where", Static).content)


async def test_y_copies_the_command(tmp_path: Path) -> None:
    app = make_app(tmp_path, places=Places(Path("runs")))
    async with app.run_test(size=(80, 24)) as pilot:
        await formed(app, pilot)
        await pilot.press("y")
        assert app.clipboard == "kerascnn train cnn2_fmnist --backend torch"
        assert "copied" in said(app)


async def test_clicks_choose(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await formed(app, pilot)
        await pilot.click("#backend", offset=(12, 0))
        assert screen.backend == "tensorflow"
        await pilot.click("#backend", offset=(28, 0))
        assert screen.backend == "tensorflow", "jax isn't installed"
        await pilot.click("#dataset", offset=(8, 0))
        assert screen.query_one("#dataset", Choice).value == "mnist"


def started_by(answer: Callable[[list[str]], Run]) -> Any:
    async def start(arguments: list[str], *, report: Callable[[str], None]) -> Run:
        report("downloading 3 of 170 MB")
        await asyncio.sleep(0)
        return answer(list(arguments))

    return start


async def test_start_opens_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, end=None)
    app = make_app(tmp_path)
    asked: list[list[str]] = []

    def answer(arguments: list[str]) -> Run:
        asked.append(arguments)
        return run

    with living(run):
        async with app.run_test(size=(80, 24)) as pilot:
            screen = await formed(app, pilot)
            screen._start = started_by(answer)
            await pilot.press("enter", "enter")
            await settled(app, pilot)
            assert isinstance(app.screen, RunScreen)
            assert app.screen.run.path == run.path
            assert len(asked) == 1, "a second Enter starts no second run"
            await pilot.press("escape")
            assert isinstance(app.screen, ZooScreen), "the form is done with"


async def test_a_start_doesnt_tear_one_away_from_another_screen(tmp_path: Path) -> None:
    run = make_run(tmp_path, end=None)
    app = make_app(tmp_path)
    away = asyncio.Event()

    async def start(_: list[str], *, report: Callable[[str], None]) -> Run:
        await away.wait()
        return run

    async with app.run_test(size=(80, 24)) as pilot:
        screen = await formed(app, pilot)
        screen._start = start
        await pilot.press("enter", "2")
        away.set()
        await settled(app, pilot)
        assert "has started" in said(app)
        await pilot.press("1")
        await settled(app, pilot)
        assert app.screen is screen
        assert not screen.query_one("#start", Button).disabled


async def test_what_the_command_says_is_shown_and_the_form_stays(tmp_path: Path) -> None:
    def answer(_: list[str]) -> Run:
        raise RunError("no dataset cifar10 in any of the places")

    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await formed(app, pilot)
        screen._start = started_by(answer)
        await pilot.press("enter")
        assert "no dataset cifar10 in any of the places" in await settled(app, pilot)
        assert app.screen is screen
        assert not screen.query_one("#start", Button).disabled


async def test_escape_goes_back_to_the_zoo(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await formed(app, pilot)
        await pilot.press("escape")
        await settled(app, pilot)
        assert isinstance(app.screen, ZooScreen)


async def test_a_digit_beside_its_field_leaves_the_form_as_it_is(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await formed(app, pilot)
        before = screen.arguments
        screen.query_one(Choice).focus()
        await pilot.press("1", "2")
        await settled(app, pilot)
        assert app.screen is screen
        assert screen.arguments == before
        assert "Escape leaves the form" in said(app)
