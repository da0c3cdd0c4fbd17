"""``kerascnn overfit``: one small batch by heart, or what keeps a network from it."""

from __future__ import annotations

import json
import math
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import kerascnn
from kerascnn.catalog import load_recipe
from kerascnn.cli import app
from kerascnn.data.dataset import chosen_order, drawn_in_turn, load_dataset
from kerascnn.data.statistics import constants_of
from kerascnn.diagnosis.record import Chance
from kerascnn.errors import NotLoweredError, RunError, UsageError
from kerascnn.recipe import Recipe
from kerascnn.training import overfit as module
from kerascnn.training import session
from kerascnn.training.overfit import Overfit, judge, one_batch, overfit
from kerascnn.training.session import Options
from tests.conftest import GIVE_UP_S, OWN_CATALOG, Command, write_image_folder
from tests.test_zoo import numpy_of

OFFLINE = Options(download=False)
# Nine convolutions with sigmoid, small enough for a test: the lecture's first failure.
DEEP_SIGMOID = {"activation": "sigmoid", "initializer": "glorot_uniform", "filters": [4, 4, 4], "convs_per_group": 3}


def recipe_of(name: str = "tiny", **changes: Any) -> Recipe:
    return load_recipe(name, {key.replace("__", "."): value for key, value in changes.items()}, catalog=OWN_CATALOG)


def arguments(model: str = "tiny", **changes: Any) -> list[str]:
    """The command's, with changes to the recipe."""
    sets = [word for key, value in changes.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]
    return ["overfit", model, "--catalog", str(OWN_CATALOG), "--offline", *sets]


def unlowerable(recipe_of_builder: Callable[..., Recipe]) -> Recipe:
    """A network of which neither torch nor TensorFlow computes anything but by Keras's own layers."""
    return recipe_of_builder(
        "grouped",
        "from keras import layers\n"
        "def build(x, *, classes, **style):\n"
        "    x = layers.GroupNormalization(1)(layers.Flatten()(x))\n"
        "    return layers.Dense(classes)(x)\n",
        {"train.optimizer": "sgd", "train.limit_train": 50, "train.limit_val": 10},
    )


# ── Verdicts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SIXTEEN = np.arange(16) % 10
LN_10 = math.log(10)


@pytest.mark.parametrize(
    ("losses", "right", "verdict"),
    [
        ([2.3, 1.0, 0.11, 0.11, 0.11], 1.0, "memorised"),
        ([2.3, 1.0, 0.11, 0.11], 1.0, "learns, but hasn't memorised"),
        ([2.3, 1.0, 0.11, 0.12, 0.11], 1.0, "learns, but hasn't memorised"),
        ([2.3, 1.0, 0.11, 0.11, 0.11], 15 / 16, "learns, but hasn't memorised"),
        ([2.4, *[2.31] * 30], 0.1, "stuck at chance"),
        ([2.4, *[2.26] * 30], 0.1, "stuck at chance"),
        ([2.4, *[2.2] * 30], 0.3, "learns, but hasn't memorised"),
        # All that can be known of these 16 without looking at them: which classes come twice.
        ([2.4, *[Chance.of_labels(SIXTEEN, 10).loss] * 30], 0.125, "stuck at chance"),
        # The last 20 count, not where it was before.
        ([*[2.3] * 80, *[1.5] * 20], 0.5, "learns, but hasn't memorised"),
        ([*[1.5] * 80, *[2.3] * 20], 0.1, "stuck at chance"),
        ([2.3, 8.0, math.nan], 0.1, "diverged"),
        ([2.3, 8.0, math.inf], 0.1, "diverged"),
        ([2.3, *[470.0] * 30], 0.1, "diverged"),
        # A leap at the beginning isn't the end.
        ([2.4, 90.0, 2.2, 2.1, 2.0, 1.9], 0.3, "learns, but hasn't memorised"),
        ([2.4, 8.0, 50.0, 2.0], 0.3, "stuck at chance"),
        # Unscaled pixels can make a beginning that is far above chance.
        ([90.0, *[30.0] * 30], 0.1, "stuck at chance"),
    ],
)
def test_a_curve_is_judged_by_where_it_ends(losses: list[float], right: float, verdict: str) -> None:
    assert judge(losses, [right] * len(losses), SIXTEEN, 10) == verdict


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        (math.log(1000), "stuck at chance"),
        (0.985 * math.log(1000), "stuck at chance"),
        (0.975 * math.log(1000), "learns, but hasn't memorised"),
        (1.025 * math.log(16), "learns, but hasn't memorised"),
        (1.015 * math.log(16), "stuck at chance"),
        (0.985 * math.log(16), "stuck at chance"),
        (0.975 * math.log(16), "learns, but hasn't memorised"),
    ],
)
def test_chance_is_that_of_all_the_networks_classes(loss: float, verdict: str) -> None:
    """Sixteen classes out of a thousand: the two levels lie far apart, each with its 2 %."""
    assert judge([loss] * 30, [0.0] * 30, np.arange(16), 1000) == verdict


@settings(max_examples=50, deadline=None, derandomize=True)
@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=60), images=st.integers(1, 60))
def test_a_batch_takes_the_classes_in_turn(labels: list[int], images: int) -> None:
    drawn = drawn_in_turn(np.array(labels))
    assert sorted(drawn.tolist()) == list(range(len(labels)))
    taken = np.array(labels)[drawn[:images]].tolist()
    counts = {label: taken.count(label) for label in labels}
    for label, count in counts.items():
        # A class may only lag behind where it has no more images.
        assert count == labels.count(label) or count >= max(counts.values()) - 1
        own = [index for index in drawn if labels[index] == label]
        assert own == [index for index in chosen_order(len(labels)).tolist() if labels[index] == label]


def test_all_right_and_not_sure_yet_is_told_as_that() -> None:
    def of(accuracy: float) -> Overfit:
        return Overfit("learns, but hasn't memorised", 9, 0.4, accuracy, math.log(10), 16, (0.4,))

    assert of(1.0).in_words == "learns, and isn't sure yet (memorised is a loss below 0.115, 3 steps running)"
    assert of(15 / 16).in_words == "learns, but hasn't memorised"
    assert replace(of(1.0), verdict="stuck at chance").in_words == "stuck at chance"


# ── Training on one batch ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.backend
def test_a_small_network_memorises_sixteen_images(keras: Any) -> None:
    seen: list[tuple[int, float, float]] = []
    recipe = recipe_of(train__optimizer__learning_rate=0.01)
    found = overfit(recipe, options=OFFLINE, watch=lambda *step: seen.append(step))
    assert found.verdict == "memorised"
    assert found.memorised
    assert found.accuracy == 1
    assert found.images == 16
    assert found.chance == pytest.approx(LN_10)
    assert max(found.losses[-3:]) < 0.05 * LN_10
    # It stops at once.
    assert found.losses[-4] >= 0.05 * LN_10
    assert len(found.losses) == found.steps < 500
    assert [step for step, _, _ in seen] == list(range(1, found.steps + 1))
    assert tuple(loss for _, loss, _ in seen) == found.losses


@pytest.mark.backend
def test_nine_sigmoid_layers_stay_at_chance(keras: Any) -> None:
    found = overfit(recipe_of(train__optimizer__learning_rate=0.01, **DEEP_SIGMOID), steps=60, options=OFFLINE)
    assert found.verdict == "stuck at chance"
    assert found.steps == 60
    assert not found.memorised


@pytest.mark.backend
def test_too_high_a_learning_rate_diverges(keras: Any) -> None:
    found = overfit(recipe_of(train__optimizer={"name": "sgd", "learning_rate": 1000.0}), steps=60, options=OFFLINE)
    assert found.verdict == "diverged"
    assert not found.memorised


@pytest.mark.backend
def test_it_begins_as_training_does(keras: Any) -> None:
    """The first loss is that of the first weights, the constants of the whole split, and no dropout."""
    recipe = recipe_of("stateful", batch_norm="none", train__seed=5)
    found = overfit(recipe, steps=1, options=OFFLINE)
    dataset = load_dataset(recipe, download=False)
    constants = constants_of(recipe, dataset)
    assert constants is not None
    model = kerascnn.build_model(recipe, mean=constants.mean, deviation=constants.deviation)
    pixels, labels = one_batch(dataset, 16)
    logits = numpy_of(model(pixels, training=False)).astype(np.float64)
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert found.losses[0] == pytest.approx(-log_softmax[np.arange(16), labels].mean(), rel=1e-5)


@pytest.mark.backend
def test_what_works_against_memorising_is_left_out_and_said(keras: Any) -> None:
    said: list[str] = []
    with_all = overfit(recipe_of("stateful"), steps=4, options=OFFLINE, tell=said.append)
    assert with_all.set_aside == (
        "augmentation",
        "weight decay",
        "label smoothing",
        "the cosine schedule",
        "warm-up",
        "dropout",
    )
    assert any("left out" in text and "label smoothing" in text for text in said)
    without = recipe_of(
        "stateful",
        dropout=0.0,
        train__augment={"pad_crop": 0, "flip": False},
        train__weight_decay=0.0,
        train__label_smoothing=0.0,
        train__schedule="constant",
        train__warm_up={"steps": 0},
    )
    bare = overfit(without, steps=4, options=OFFLINE)
    assert bare.set_aside == ()
    assert bare.losses == with_all.losses


@pytest.mark.backend
def test_every_kind_of_dropout_and_noise_is_left_out(keras: Any, recipe_of_builder: Callable[..., Recipe]) -> None:
    source = (
        "from keras import layers\n"
        "def build(x, *, classes, **style):\n"
        "    x = layers.Flatten()(x)\n"
        "    for draw in DRAWS:\n"
        "        x = draw(x)\n"
        "    return layers.Dense(classes, name='logits')(x)\n"
    )
    draws = "[layers.GaussianDropout(0.9), layers.AlphaDropout(0.9), layers.GaussianNoise(0.9)]"
    changes = {"train.limit_train": 50, "train.limit_val": 10}
    drawing = recipe_of_builder("drawing", source.replace("DRAWS", draws), changes)
    plain = recipe_of_builder("plain", source.replace("DRAWS", "[]"), changes)
    with_all = overfit(drawing, steps=4, options=OFFLINE)
    assert with_all.set_aside[-2:] == ("dropout", "noise")
    assert with_all.losses == pytest.approx(overfit(plain, steps=4, options=OFFLINE).losses)


@pytest.mark.backend
def test_decoupled_weight_decay_is_left_out_too(keras: Any) -> None:
    table = {"name": "adamw", "decoupled_weight_decay": 10.0}
    decayed = overfit(recipe_of(train__optimizer=table), steps=4, options=OFFLINE)
    assert decayed.set_aside == ("weight decay",)
    assert decayed.losses == overfit(recipe_of(), steps=4, options=OFFLINE).losses


@pytest.mark.backend
def test_the_execution_that_is_asked_for_computes_the_layers(
    keras: Any, backend: str, recipe_of_builder: Callable[..., Recipe]
) -> None:
    # On JAX nothing is lowered.
    with pytest.raises(UsageError if backend == "jax" else NotLoweredError):
        overfit(unlowerable(recipe_of_builder), options=replace(OFFLINE, execution="lowered"))


@pytest.mark.backend
def test_no_memory_is_said_in_a_sentence(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> Overfit:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(module, "memorise", no_memory)
    with pytest.raises(RunError, match="try --images below 16"):
        overfit(recipe_of(), options=OFFLINE)


# ── The command ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"images": 0}, "--images: expected at least 1, got 0"),
        ({"steps": 0}, "--steps: expected at least 1, got 0"),
        ({"images": 501}, "--images: expected up to 500, as many as there are for training, got 501"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused_before_anything_is_loaded(
    numbers: dict[str, int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "load_dataset", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(UsageError, match=said):
        overfit(recipe_of(), options=OFFLINE, **numbers)  # type: ignore[arg-type]


def test_more_images_than_a_folder_has_are_refused(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "photos", images=3)
    recipe = recipe_of(dataset=f"folder:{tmp_path / 'photos'}", classes=2)
    with pytest.raises(UsageError, match="expected up to 5"):
        overfit(recipe, options=OFFLINE)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["overfit"], "expected a MODEL"),
        (["overfit", "vgg16_cifra"], "did you mean 'vgg16_cifar'"),
        (["overfit", "tiny", "--catalog", str(OWN_CATALOG), "--images", "9999"], "--images: expected up to 500"),
        (["overfit", "cnn2_fmnist", "--device", "tpu"], "expected auto, cpu, gpu"),
    ],
)
def test_wrong_usage_is_exit_code_2(kerascnn_command: Command, tmp_path: Path, wrong: list[str], said: str) -> None:
    done = kerascnn_command(*wrong)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.backend
def test_the_command_ends_with_0_where_the_batch_is_memorised(keras: Any, backend: str, tmp_path: Path) -> None:
    places = ["--backend", backend, "--data-dir", "."]
    done = CliRunner().invoke(app, [*arguments(train__optimizer__learning_rate=0.01), "--images", "4", *places])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("memorised: 4 of 4 images right after ")
    assert "chance is ln 10 = 2.3026" in done.stdout
    assert f"kerascnn train tiny --catalog {OWN_CATALOG} --set " in done.stdout
    assert done.stdout.endswith(f"--set train.optimizer.learning_rate=0.01 {' '.join(places)}\n")
    assert "step 1/500 loss" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_ends_with_1_and_what_to_try_where_it_is_not(kerascnn_command: Command, tmp_path: Path) -> None:
    done = kerascnn_command(*arguments(**DEEP_SIGMOID, train__optimizer__learning_rate=0.01), "--steps", 60)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("stuck at chance: ")
    assert [line.split()[1] for line in done.stdout.splitlines()[2:]] == [
        "activation=relu",
        "train.scaling=standardize",
        "batch_norm=after",
        "initializer=he_normal",
        "activation=silu",
        "skip=group",
        "train.optimizer.learning_rate=0.001",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.backend
def test_json_is_whole_and_null_where_a_loss_is_no_number(keras: Any) -> None:
    too_high = arguments(activation="linear", train__optimizer='{name="sgd",learning_rate=1000.0}')
    done = CliRunner().invoke(app, [*too_high, "--json", "--steps", "200"])
    assert done.exit_code == 1, done.stderr

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(done.stdout, parse_constant=refuse)
    assert (found["model"], found["dataset"], found["images"]) == ("tiny", "fashion_mnist_mini", 16)
    assert (found["verdict"], found["memorised"], found["set_aside"]) == ("diverged", False, [])
    assert len(found["losses"]) == found["steps"]
    assert found["loss"] is None
    assert found["losses"][-1] is None
    assert found["chance"] == pytest.approx(LN_10)


def test_ctrl_c_ends_it_with_130_and_without_a_word(
    start_command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start_command(*arguments(train__optimizer__learning_rate=1e-9), "--steps", 10**9)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 1/"):
            break
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in rest
    assert "Aborted" not in rest
    assert list(tmp_path.iterdir()) == []
