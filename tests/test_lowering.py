"""The lowered network against Keras's own: outputs, gradients, BatchNorm, what isn't in the set, going on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kerascnn
from kerascnn.catalog import list_models, load_recipe
from kerascnn.errors import NotLoweredError, UnknownNameError, UsageError
from kerascnn.recipe import Recipe
from kerascnn.runs.directory import open_run
from kerascnn.training import session
from kerascnn.training.checkpoint import differences, list_checkpoints, read_checkpoint
from tests.conftest import OWN_CATALOG, Command, events_of

pytestmark = pytest.mark.backend

Arrays = list[np.ndarray]


@pytest.fixture(autouse=True)
def torch_alone(backend: str) -> None:
    if backend != "torch":
        pytest.skip("networks are lowered on torch alone")


@pytest.fixture
def in_doubles(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras's BatchNorm computes in float32 whatever its policy says; its rounding would hide a real difference."""
    module = "keras.src.layers.normalization.batch_normalization.backend"
    monkeypatch.setattr(f"{module}.result_type", lambda *types: "float64")


def in_float64(model: Any) -> Any:
    import keras

    def again(operation: Any) -> Any:
        computes = {"dtype": "float64"} if isinstance(operation, keras.layers.Layer) else {}
        return type(operation).from_config({**operation.get_config(), **computes})

    inputs = keras.Input(model.input_shape[1:], dtype=model.inputs[0].dtype, name="pixels")
    copy = keras.models.clone_model(model, input_tensors=inputs, clone_function=again)
    random = np.random.default_rng(0)
    for variable in copy.variables:
        if "seed" not in variable.path and variable.dtype == "float64":
            near = 1.0 if variable.name in ("gamma", "moving_variance") else 0.0
            spread = math.sqrt(2 / math.prod(variable.shape[:-1])) if variable.name == "kernel" else 0.1
            variable.assign(near + spread * random.uniform(-1, 1, variable.shape))
    return copy


def arrays_of(variables: Any) -> Arrays:
    return [variable.value.detach().numpy().copy() for variable in variables]


def put(variables: Any, values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def gradients_of(model: Any) -> Arrays:
    return [variable.value.grad.numpy().copy() for variable in model.trainable_variables]


def assert_equal(found: Arrays, expected: Arrays, tolerance: float = 1e-5) -> None:
    """Up to a share of each array's largest value, or of 1 where a gradient is nothing but rounding."""
    for one, two in zip(found, expected, strict=True):
        assert np.abs(one - two).max(initial=0) <= tolerance * max(np.abs(two).max(initial=0), 1e-3)


def narrow(name: str) -> Recipe:
    """A network of the zoo a few channels wide, with two of each block, for images of 32 pixels at the most."""
    whole = load_recipe(name).model_dump()
    thin = {"widen": 1, "growth": 2, "blocks_per_stage": 2, "hidden": [6] * len(whole.get("hidden", []))}
    thin["filters"] = [4 + 2 * place for place in range(len(whole.get("filters", [])))]
    thin["depth"] = 4 + 2 * (6 if whole.get("bottleneck") or "widen" in whole else 3)
    changes: dict[str, Any] = {key: value for key, value in thin.items() if whole.get(key)}
    changes["input_shape"] = [min(side, 32) for side in whole["input_shape"]]
    return load_recipe(name, changes)


def three_steps(model: Any, recipe: Recipe, execution: str) -> tuple[list[float], list[Arrays], Arrays, Arrays]:
    """Losses, gradients of each step, the statistics of BatchNorm and the weights after three."""
    from kerascnn.training.optimizer import make_optimizer
    from kerascnn.training.steps import make_steps

    train = recipe.train.model_copy(update={"clip_norm": 5.0})
    optimizer = make_optimizer(train, model.trainable_variables)
    steps = make_steps(model, optimizer, train, execution=execution)
    assert (steps.execution, steps.not_lowered) == (execution, "")
    random = np.random.default_rng(1)
    losses, gradients = [], []
    for _ in range(3):
        pixels = random.integers(0, 256, (4, *recipe.input_shape), dtype=np.uint8)
        loss, _, _ = steps.train(pixels, random.integers(0, recipe.classes, 4))
        losses.append(float(loss))
        gradients.append(gradients_of(model))
    return losses, gradients, arrays_of(model.non_trainable_variables), arrays_of(model.trainable_variables)


@pytest.mark.parametrize("name", list_models())
def test_a_network_of_the_zoo_computes_what_keras_computes(keras: Any, in_doubles: None, name: str) -> None:
    """Outputs, and three steps from the same state: loss, gradients, statistics of BatchNorm, weights."""
    from kerascnn.training.lowering.graph import lower

    recipe = narrow(name)
    channels = recipe.input_shape[2]
    model = in_float64(kerascnn.zoo.build_model(recipe, mean=[120.0] * channels, deviation=[60.0] * channels))
    pixels = np.random.default_rng(2).integers(0, 256, (3, *recipe.input_shape), dtype=np.uint8)
    assert_equal([lower(model).predict(pixels)], [model.predict_on_batch(pixels)])
    begin = arrays_of(model.variables)
    losses, gradients, statistics, weights = three_steps(model, recipe, "keras")
    put(model.variables, begin)
    found = three_steps(model, recipe, "lowered")
    assert found[0] == pytest.approx(losses, rel=1e-5)
    for one, two in zip(found[1], gradients, strict=True):
        assert_equal(one, two)
    assert_equal(found[2], statistics)
    assert_equal(found[3], weights)
