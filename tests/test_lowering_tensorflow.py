"""The network with fused BatchNorm against Keras's own, on TensorFlow: steps, settings, going on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kerascnn
from kerascnn.catalog import list_models, load_recipe
from kerascnn.errors import NotLoweredError
from kerascnn.recipe import Recipe
from kerascnn.runs.directory import open_run
from kerascnn.training import session
from kerascnn.training.checkpoint import differences, list_checkpoints, read_checkpoint
from tests.conftest import OWN_CATALOG, events_of
from tests.test_lowering import ADAMS, in_float64, narrow

pytestmark = pytest.mark.backend


@pytest.fixture(autouse=True)
def tensorflow_alone(backend: str) -> None:
    if backend != "tensorflow":
        pytest.skip("what is TensorFlow's")


def arrays_of(variables: Any) -> list[np.ndarray]:
    return [np.array(variable.value) for variable in variables]


def put(variables: Any, values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def assert_near(found: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> None:
    """Up to a share of each array's largest value, or of a thousandth where that is nothing but rounding."""
    for one, two in zip(found, expected, strict=True):
        assert np.abs(one - two).max(initial=0) <= tolerance * max(np.abs(two).max(initial=0), 1e-3)


@pytest.mark.parametrize("name", [name for name in list_models() if load_recipe(name).batch_norm != "none"])
def test_a_step_of_a_network_of_the_zoo_is_as_exact_as_keras_own(
    keras: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both in float32, held against Keras in float64: rounding that a deep network amplifies is in both of them."""
    recipe = narrow(name)
    model = kerascnn.zoo.build_model(recipe, mean=[120.0] * 3, deviation=[60.0] * 3)
    exact = in_float64(model)
    begin = [value.astype(np.float32) for value in arrays_of(exact.variables)]
    by_keras, found = (one_step(model, begin, recipe, execution) for execution in ("keras", "lowered"))
    # Keras's BatchNorm computes in float32 whatever its policy says.
    module = "keras.src.layers.normalization.batch_normalization.backend"
    monkeypatch.setattr(f"{module}.result_type", lambda *types: "float64")
    expected = one_step(exact, begin, recipe, "keras")
    for one, other, true in zip(found, by_keras, expected, strict=True):
        error, usual = (np.abs(values - true).max(initial=0) for values in (one, other))
        assert error <= 4 * usual + 1e-5 * max(np.abs(true).max(initial=0), 1e-3)


def one_step(model: Any, begin: list[np.ndarray], recipe: Recipe, execution: str) -> list[np.ndarray]:
    """Loss and right answers before and in a step of plain descent, and what it changes: gradients and statistics."""
    import keras

    from kerascnn.training.steps import make_steps

    put(model.variables, begin)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (16, *recipe.input_shape), dtype=np.uint8)
    labels = random.integers(0, recipe.classes, 16)
    train = recipe.train.model_copy(update={"weight_decay": 0.0})
    steps = make_steps(model, keras.optimizers.SGD(1.0), train, execution=execution)
    assert (steps.execution, steps.not_lowered) == (execution, "")
    before = steps.evaluate(pixels, labels)
    loss, right, _ = steps.train(pixels, labels)
    changes = [now - old for now, old in zip(arrays_of(model.variables), begin, strict=True)]
    return [*(np.array(float(value)) for value in (*before, loss, right)), *changes]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "settings",
    [{"scale": False, "center": False}, {"axis": 3, "momentum": 0.5, "epsilon": 1e-7}, {"trainable": False}],
    ids=str,
)
def test_every_setting_computes_what_keras_computes(keras: Any, settings: dict[str, Any], training: bool) -> None:
    inputs = keras.Input((5, 6, 4))
    assert_the_same(keras.Model(inputs, keras.layers.BatchNormalization(**settings)(inputs)), training=training)


def test_a_layer_that_is_called_twice(keras: Any) -> None:
    inputs = keras.Input((5, 6, 3))
    shared = keras.layers.BatchNormalization()
    assert_the_same(keras.Model(inputs, shared(keras.layers.ReLU()(shared(inputs)))), training=True)


def assert_the_same(model: Any, *, training: bool) -> None:
    """The output, and all variables after it: by Keras, and with BatchNorm fused."""
    from kerascnn.training.lowering.tensorflow.batch_norm import FusedNetwork

    random = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    begin, results = arrays_of(model.variables), []
    # Differences between images that are small beside another epsilon.
    pixels = (3e-3 * random.standard_normal((3, *model.input_shape[1:]))).astype(np.float32)
    for compute in (model, FusedNetwork(model)):
        put(model.variables, begin)
        results.append([np.array(compute(pixels, training=training)), *arrays_of(model.variables)])
    assert_near(results[1], results[0], 1e-5)


def test_bytes_become_numbers_as_keras_makes_them(keras: Any) -> None:
    from kerascnn.training.lowering.tensorflow.batch_norm import FusedNetwork

    inputs = keras.Input((5, 6, 3))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs)))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), np.uint8)
    np.testing.assert_allclose(FusedNetwork(model).predict(pixels), model.predict_on_batch(pixels), rtol=1e-5)


def test_one_value_a_channel_has_no_variance(keras: Any) -> None:
    from kerascnn.training.lowering.tensorflow.batch_norm import FusedNetwork

    inputs = keras.Input((1, 1, 2))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
    found = np.array(FusedNetwork(model)(np.ones((1, 1, 1, 2), np.float32), training=True))
    assert np.abs(found).max() < 1e-6
    assert np.allclose(model.layers[-1].moving_variance, 0.99)


def test_what_the_fused_kernel_does_not_compute_is_left_to_keras(keras: Any) -> None:
    from kerascnn.training.lowering.tensorflow.batch_norm import FusedNetwork, is_fusible

    inputs = keras.Input((4, 4, 3))
    norm = keras.layers.BatchNormalization
    mixed = keras.Model(inputs, norm(renorm=True)(norm(axis=1)(norm()(inputs))))
    assert [is_fusible(layer) for layer in mixed.layers] == [False, True, False, False]
    pixels = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(FusedNetwork(mixed)(pixels), mixed(pixels), atol=1e-5)
    rows = keras.Sequential([keras.Input((4, 4, 3)), norm(), keras.layers.Flatten()])
    with pytest.raises(NotLoweredError, match="expected a functional network"):
        FusedNetwork(rows)
    without = keras.Model(inputs, keras.layers.Flatten()(inputs))
    with pytest.raises(NotLoweredError, match="no BatchNorm to fuse"):
        FusedNetwork(without)


def test_dropout_draws_and_precision_stays_as_keras_has_it(keras: Any) -> None:
    """Dropout is drawn in training alone, from the generator that a checkpoint holds; float16 layers stay float16."""
    from kerascnn.training.lowering.tensorflow.batch_norm import FusedNetwork

    changes = {"train.precision": "mixed_float16", "train.scaling": "unit"}
    model = kerascnn.build_model(load_recipe("stateful", changes, catalog=OWN_CATALOG))
    network = FusedNetwork(model)
    pixels = np.random.default_rng(0).integers(0, 256, (8, *model.input_shape[1:]), dtype=np.uint8)
    begin, outputs = arrays_of(model.variables), []
    for compute in (model, network):
        put(model.variables, begin)
        outputs.append(np.array(compute(pixels, training=True)))
    np.testing.assert_allclose(outputs[1], outputs[0], atol=0.02 * np.abs(outputs[0]).max())
    np.testing.assert_allclose(
        network.predict(pixels), model.predict_on_batch(pixels), atol=0.02 * np.abs(outputs[0]).max()
    )


def stateful(**changes: Any) -> Recipe:
    return load_recipe("stateful", {f"train.{key}": value for key, value in changes.items()}, catalog=OWN_CATALOG)


def test_a_run_goes_on_as_it_began_and_says_when_it_does_not(keras: Any) -> None:
    """A resume is exact on its own path; told the other one, it goes on and says that it isn't."""
    from kerascnn.runs import control

    whole = Path("whole")
    session.train(stateful(epochs=2, limit_train=150), run_dir=whole)
    assert open_run(whole).environment()["execution"] == "lowered"
    for asked in ("auto", "keras"):
        run_dir = Path(asked)
        session.train(stateful(epochs=2, limit_train=150), run_dir=run_dir, options=session.Options())
        run = open_run(run_dir)
        control.ask(run, control.make_command("extend", 1.0))
        session.resume(run, options=session.Options(execution=asked))
        assert run.environment()["execution"] == ("lowered" if asked == "auto" else "keras")
        said = [event["message"] for event in events_of(run_dir, "warning")]
        assert any("execution changed since the run began" in text for text in said) == (asked == "keras")
    ends = [read_checkpoint(list_checkpoints(Path(name) / "checkpoints")[0]) for name in ("auto", "keras")]
    assert ends[0].progress.step == ends[1].progress.step
    assert differences(*ends)


@pytest.mark.parametrize("changes", ADAMS, ids=str)
def test_adam_steps_as_keras_own(keras: Any, changes: dict[str, Any]) -> None:
    """Three steps in double precision: losses, weights, and what the optimizer keeps."""
    from kerascnn.training.optimizer import make_optimizer
    from kerascnn.training.steps import make_steps

    recipe = load_recipe("tiny", {f"train.{key}": value for key, value in changes.items()}, catalog=OWN_CATALOG)
    model = in_float64(kerascnn.zoo.build_model(recipe))
    begin, results = arrays_of(model.variables), []
    for execution in ("keras", "lowered"):
        put(model.variables, begin)
        optimizer = make_optimizer(recipe.train, model.trainable_variables)
        steps = make_steps(model, optimizer, recipe.train, execution=execution)
        assert steps.execution == execution
        random = np.random.default_rng(1)
        batches = [(random.integers(0, 256, (4, 28, 28, 1), np.uint8), random.integers(0, 10, 4)) for _ in range(3)]
        losses = [np.array(float(steps.train(*batch)[0])) for batch in batches]
        kept = [value for value in arrays_of(optimizer.variables) if value.dtype.kind == "f"]
        results.append([*losses, *arrays_of(model.variables), *kept])
    assert not np.allclose(arrays_of(model.variables)[0], begin[0], rtol=1e-3)
    assert_near(results[1], results[0], 1e-5)


@pytest.mark.parametrize("settings", [{"amsgrad": True}, {"gradient_accumulation_steps": 2}], ids=str)
def test_an_adam_of_another_kind_is_left_to_keras(keras: Any, settings: dict[str, Any]) -> None:
    from kerascnn.training.lowering.tensorflow.adam import fuse_adam

    halves, floats = ([keras.Variable(np.ones(2), dtype=dtype)] for dtype in ("float16", "float32"))
    for optimizer, variables, fused in (
        (keras.optimizers.Adam(), floats, True),
        (keras.optimizers.Adam(**settings), floats, False),
        (keras.optimizers.Adam(), halves, False),
        (keras.optimizers.Nadam(), floats, False),
    ):
        optimizer.build(variables)
        assert fuse_adam(optimizer) == fused
        assert ("_backend_update_step" in vars(optimizer)) == fused


def test_a_network_with_nothing_to_fuse_is_keras_own_and_no_one_is_warned(keras: Any) -> None:
    changes = {"train.epochs": 1, "train.limit_train": 50, "train.optimizer": {"name": "sgd", "learning_rate": 0.01}}
    recipe = load_recipe("tiny", changes, catalog=OWN_CATALOG)
    session.train(recipe, run_dir=Path("run"))
    assert open_run(Path("run")).environment()["execution"] == "keras"
    assert not events_of(Path("run"), "warning")
    with pytest.raises(NotLoweredError, match="neither BatchNorm nor Adam to fuse"):
        session.train(copy.deepcopy(recipe), run_dir=Path("other"), options=session.Options(execution="lowered"))
