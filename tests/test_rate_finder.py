"""``kerascnn lr-find``: a learning rate that is worth beginning with, or the word that there is none."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from kerascnn.catalog import load_recipe, parse_assignments
from kerascnn.cli import app
from kerascnn.cli.chart import curve_chart
from kerascnn.data.dataset import load_dataset
from kerascnn.errors import NotLoweredError, UsageError
from kerascnn.recipe import Recipe
from kerascnn.training import session
from kerascnn.training.rate_finder import RateSweep, find_learning_rate, sweep_of
from kerascnn.training.session import Options
from tests.conftest import OWN_CATALOG
from tests.test_overfit import DEEP_SIGMOID, recipe_of, unlowerable
from tests.test_zoo import numpy_of

OFFLINE = Options(download=False)
LN_10 = math.log(10)
# Quick to train for some dozens of steps.
SMALL = {"filters": [4, 8], "train__batch_size": 25}
RATES = np.geomspace(1e-6, 10, 141).tolist()


def made_up(*corners: tuple[float, float], ended: Any = "all rates", noise: float = 0.0) -> RateSweep:
    """A sweep whose loss runs straight from corner to corner, each a rate and a loss."""
    rates, losses = zip(*corners, strict=True)
    curve = np.interp(np.log(RATES), np.log(rates), losses)
    curve += noise * np.random.default_rng(0).standard_normal(len(curve))
    return sweep_of(RATES, curve.tolist(), chance=LN_10, ended=ended, steps=len(RATES))


# ── What a curve says ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("end", [2.5, 1e6])
def test_the_minimum_and_the_steepest_fall_are_where_they_are(noise: float, end: float) -> None:
    """Neither the noise of the batches nor a loss that leaves for good at the end moves them far."""
    curve = ((1e-6, 2.5), (1e-4, 2.5), (1e-3, 2.2), (3e-3, 1.1), (2e-2, 0.8), (1e-1, 2.5), (10, end))
    found = made_up(*curve, noise=noise)
    assert list(found.suggestions) == ["tenth of the minimum", "steepest"]
    assert found.recommended == found.suggestions["tenth of the minimum"]
    assert 0.7e-3 < found.suggestions["tenth of the minimum"] < 3e-3
    assert 0.9e-3 < found.suggestions["steepest"] < 3.3e-3
    assert not found.flat
    assert not found.still_falling


@pytest.mark.parametrize("start", [2.31, 2.6, 90.0])
def test_a_loss_that_only_comes_down_to_chance_is_flat(start: float) -> None:
    found = made_up((1e-6, start), (1e-4, start), (1e-2, 2.31), (10, 2.31))
    assert found.flat
    assert found.suggestions == {}
    assert found.recommended is None


def test_a_loss_that_falls_to_the_last_rate_says_so() -> None:
    assert made_up((1e-6, 2.3), (1e-1, 2.3), (10, 1.0)).still_falling
    assert not made_up((1e-6, 2.3), (1e-1, 2.3), (10, 1.0), ended="the loss rose").still_falling


def test_a_sweep_that_begins_without_a_number_is_flat() -> None:
    found = sweep_of([1e-6], [math.nan], chance=LN_10, ended="the loss is no number", steps=100)
    assert found.flat
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["losses"] == [None]


# ── Sweeps of real networks ───────────────────────────────────────────────────────────────────────────────────────────


def loss_after_training(recipe: Recipe, rate: float, steps: int = 60) -> float:
    """The mean of the last ten losses, at one rate all along."""
    from kerascnn.data.batches import TrainingBatches
    from kerascnn.training.network import initial_model, make_network

    network = make_network(initial_model(recipe, None), recipe.train)
    network.optimizer.learning_rate = rate
    dataset = load_dataset(recipe, download=False)
    batches = TrainingBatches(dataset.train, recipe.train.batch_size, 1, recipe.train.augment)
    keys = [divmod(step, batches.per_epoch) for step in range(steps)]
    return float(np.mean([numpy_of(network.steps.train(*batches.make(*key))[0]) for key in keys][-10:]))


@pytest.mark.backend
def test_a_network_learns_better_with_what_is_found_than_far_from_it(keras: Any) -> None:
    recipe = recipe_of(**SMALL)
    found = find_learning_rate(recipe, options=OFFLINE)
    learnt = [loss_after_training(recipe, rate) for rate in found.suggestions.values()]
    assert max(learnt) < 1.8
    # Far below, hardly anything has happened; far above, nothing will.
    assert found.recommended is not None
    for far in (found.recommended / 100, found.recommended * 100):
        assert loss_after_training(recipe, far) > max(learnt) + 0.4


@pytest.mark.backend
def test_nine_sigmoid_layers_learn_at_no_rate(keras: Any) -> None:
    found = find_learning_rate(recipe_of(**DEEP_SIGMOID, train__batch_size=20), steps=40, options=OFFLINE)
    assert found.flat
    assert found.suggestions == {}


@pytest.mark.backend
def test_a_loss_that_leaves_ends_the_sweep(keras: Any) -> None:
    seen: list[int] = []
    recipe = recipe_of(**SMALL, activation="linear", train__scaling="none", train__optimizer="sgd")
    found = find_learning_rate(recipe, options=OFFLINE, watch=lambda step, *_: seen.append(step))
    assert found.ended in ("the loss rose", "the loss is no number")
    assert seen == list(range(1, len(found.losses) + 1))
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 100
    assert found.rates == pytest.approx(np.geomspace(1e-6, 10, 100)[: len(seen)])


@pytest.mark.backend
def test_schedule_and_warm_up_are_off_and_what_else_a_recipe_has_is_on(keras: Any) -> None:
    def losses(**changes: Any) -> tuple[float, ...]:
        return find_learning_rate(
            recipe_of("stateful", train__batch_size=10, **changes), lowest=1e-3, highest=1e-1, steps=10, options=OFFLINE
        ).losses

    own = losses()
    assert losses(train__schedule="constant", train__warm_up={"steps": 0}) == own
    assert losses(train__optimizer={"name": "sgd", "learning_rate": 7.0, "momentum": 0.9, "nesterov": True}) == own
    for key, value in (
        ("weight_decay", 1.0),
        ("clip_norm", 0.01),
        ("label_smoothing", 0.0),
        ("augment", {"pad_crop": 0, "flip": False}),
    ):
        assert losses(**{f"train__{key}": value}) != own, key


@pytest.mark.backend
def test_the_execution_that_is_asked_for_computes_the_layers(
    keras: Any, backend: str, recipe_of_builder: Callable[..., Recipe]
) -> None:
    # On JAX nothing is lowered.
    with pytest.raises(UsageError if backend == "jax" else NotLoweredError):
        find_learning_rate(unlowerable(recipe_of_builder), options=replace(OFFLINE, execution="lowered"))


# ── The command ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"lowest": 1e-2, "highest": 1e-3}, "--from and --to: expected rates with 0 < from < to <= 1000, got 0.01 and"),
        ({"lowest": 1e-2, "highest": 1e-2}, "--from and --to"),
        ({"lowest": 0.0}, "--from and --to"),
        ({"lowest": math.nan}, "--from and --to"),
        ({"highest": math.inf}, "--from and --to"),
        ({"steps": 9}, "--steps: expected at least 10, got 9"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused_before_anything_is_loaded(
    numbers: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "load_dataset", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(UsageError, match=said):
        find_learning_rate(recipe_of(), options=OFFLINE, **numbers)


def command(*arguments: object, model: str = "tiny") -> Any:
    asked = ["lr-find", model, "--catalog", OWN_CATALOG, "--offline", *arguments]
    return CliRunner().invoke(app, list(map(str, asked)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "1", "--to", "0.1"], "--from and --to"),
        (["--plot", "curve.pdf"], r"--plot: expected a file NAME.svg or NAME.png, got curve.pdf"),
        (["--plot", "nowhere/curve.svg"], "--plot: expected a folder at .*nowhere, and there is none"),
    ],
)
def test_wrong_usage_writes_nothing(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = command(*arguments)
    assert isinstance(done.exception, UsageError)
    with pytest.raises(UsageError, match=said):
        raise done.exception
    assert list(tmp_path.iterdir()) == []


@pytest.mark.backend
def test_the_command_shows_the_curve_and_the_option_to_take(keras: Any, tmp_path: Path) -> None:
    done = command("--dataset", "fashion_mnist_mini", "--batch-size", 25, "--set", "filters=[4,8]", "--steps", 60)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "loss, smoothed, at rising learning rates"
    axis = next(line for line in lines if "└" in line)
    assert len(axis) == 80
    assert "1e-6" in lines[lines.index(axis) + 1]
    rate = next(line.split()[4] for line in lines if line.startswith("tenth of the minimum"))
    words = shlex.split(lines[-1])
    assert words[:5] == ["kerascnn", "train", "tiny", "--catalog", str(OWN_CATALOG)]
    changed = load_recipe("tiny", parse_assignments(words[6::2]), catalog=OWN_CATALOG)
    assert (changed.dataset, changed.train.batch_size) == ("fashion_mnist_mini", 25)
    assert changed.filters == [4, 8]
    assert changed.train.optimizer.learning_rate == float(rate)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.backend
def test_where_nothing_is_learnt_the_command_points_at_the_diagnosis(keras: Any, backend: str) -> None:
    sets = [word for key, value in DEEP_SIGMOID.items() for word in ("--set", f"{key}={value}")]
    done = command("--steps", 20, "--batch-size", 10, *sets, "--backend", backend, "--data-dir", ".")
    assert done.exit_code == 1, done.output
    assert "flat: at no rate does the loss come below chance" in done.stdout
    assert re.search(rf"kerascnn diagnose tiny .* --backend {backend} --data-dir \.\. A deep", done.stdout)
    assert "kerascnn train" not in done.stdout


@pytest.mark.backend
@pytest.mark.parametrize(("name", "begins"), [("curve.svg", b"<?xml"), ("curve.png", b"\x89PNG")])
def test_json_holds_it_all_and_the_plot_is_written_where_asked(
    keras: Any, tmp_path: Path, name: str, begins: bytes
) -> None:
    done = command("--json", "--batch-size", 25, "--steps", 40, "--to", 1, "--plot", name)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["model"], found["dataset"]) == ("tiny", "fashion_mnist_mini")
    assert len(found["learning_rates"]) == len(found["losses"]) == len(found["smoothed"]) <= 40
    assert found["learning_rates"][0] == pytest.approx(1e-6)
    assert set(found["suggestions"]) == {"tenth of the minimum", "steepest"}
    assert found["recommended"] == found["suggestions"]["tenth of the minimum"]
    assert (found["flat"], found["chance"]) == (False, pytest.approx(LN_10, rel=1e-2))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert Path(name).read_bytes().startswith(begins)


def test_a_curve_is_drawn_from_edge_to_edge() -> None:
    lines = curve_chart([1e-3, 1e-2, 1e-1], [3.0, 1.0, 2.0], width=24, height=4, marks={"here": 1e-2, "outside": 1.0})
    assert lines == [
        "3 │⠙⠲⣄⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀",
        "  │⠀⠀⠈⠙⢦⣀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀",
        "  │⠀⠀⠀⠀⠀⠈⠳⢤⡀⠀⠀⠀⠀⠀⠀⢀⣠⠤⠖⠚⠉",
        "1 │⠀⠀⠀⠀⠀⠀⠀⠀⠉⠳⣄⡤⠴⠒⠋⠉⠀⠀⠀⠀⠀",
        "  └─────────────────────",
        "   1e-3      1e-2   1e-1",
        "             ↑ here",
    ]
