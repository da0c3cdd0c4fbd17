"""Looking into the layers: the figures are what NumPy makes of the same numbers, and looking changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import kerascnn
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.runs.directory import open_run
from kerascnn.training.checkpoint import differences
from kerascnn.training.session import Options
from tests.live import final_state
from tests.test_training import own

pytestmark = pytest.mark.backend


def pixels(count: int, shape: tuple[int, ...] = (28, 28, 1)) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def statistics_of(run_dir: Any) -> list[ev.LayerStatistics]:
    return list(ev.of_kind(open_run(run_dir).events(), ev.LayerStatistics))


def test_a_layer_is_judged_by_the_activation_after_it(keras: Any) -> None:
    from kerascnn.diagnosis.signals import kernel_layers

    model = kerascnn.build_model(own("stateful", train__scaling="unit"))
    layers = kernel_layers(model)
    assert [(layer.name, layer.activation) for layer in layers] == [
        ("block1_conv1", "relu"),
        ("block2_conv1", "relu"),
        ("fc1", "relu"),
        ("predictions", "linear"),
    ]
    # BatchNorm stands before the activation here.
    assert layers[0].output is model.get_layer("block1_conv1_relu").output
    assert [model.trainable_variables[layer.kernel].path for layer in layers][:2] == [
        "block1_conv1/kernel",
        "block2_conv1/kernel",
    ]


def test_every_kind_of_kernel_is_found_in_models_inside_models_too(keras: Any) -> None:
    from kerascnn.diagnosis.signals import Probe, kernel_layers

    layers = keras.layers
    norm_inside = keras.Sequential(
        [layers.Input((8, 8, 4)), layers.Conv2D(4, 3, name="inner"), layers.BatchNormalization(), layers.ReLU()]
    )
    one_relu, twice = layers.ReLU(), layers.Conv2D(4, 3, padding="same", name="twice")
    inputs = layers.Input((8, 8, 1))
    x = norm_inside(one_relu(layers.Conv2D(4, 3, padding="same", name="conv")(inputs)))
    x = keras.ops.relu(layers.SeparableConv2D(4, 3, name="separable")(x))
    x = one_relu(layers.DepthwiseConv2D(3, name="depthwise")(x))
    x = layers.Conv2DTranspose(4, 3, activation="silu", name="transposed")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([twice(x), twice(twice(x))]))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="last")(x))
    found = kernel_layers(model)
    assert [(layer.name, layer.activation) for layer in found] == [
        ("conv", "relu"),
        ("inner", "relu"),
        ("separable", "relu"),
        ("depthwise", "relu"),
        ("transposed", "silu"),
        ("twice", "linear"),
        ("last", "softmax"),
    ]
    paths = [model.trainable_variables[layer.kernel].path for layer in found]
    assert [path.split("/")[-2] for path in paths] == [layer.name for layer in found]
    images = np.random.default_rng(0).random((9, 8, 8, 1), dtype=np.float32)
    figures = Probe(found, images).look()
    assert (figures.between_images > 0).all()
    assert (np.isfinite(figures.dead) == [layer.activation == "relu" for layer in found]).all()
    model.save("nested.keras")
    assert keras.models.load_model("nested.keras").count_params() == model.count_params()


def test_the_figures_are_those_of_the_outputs(keras: Any) -> None:
    from kerascnn.diagnosis.signals import Probe, kernel_layers

    model = kerascnn.build_model(own("tiny"))
    layers = kernel_layers(model)
    images = pixels(7)
    # One channel that never fires.
    model.get_layer("block1_conv1").bias.assign(np.array([-1e4] + [0] * 7, dtype=np.float32))
    figures = Probe(layers, images).look()
    for index, layer in enumerate(layers):
        output = np.asarray(keras.Model(model.inputs, layer.output).predict_on_batch([images]), dtype=np.float64)
        assert figures.between_images[index] == pytest.approx(np.sqrt(output.var(axis=0).mean()), rel=1e-4)
        if layer.activation == "relu":
            dead = (output.max(axis=tuple(range(output.ndim - 1))) <= 0).mean()
            assert figures.dead[index] == pytest.approx(dead)
    assert figures.dead[0] == 1 / 8
    assert np.isnan(figures.dead[-1])
    assert np.isnan(figures.saturated).all()


def test_activations_are_known_in_each_of_their_forms(keras: Any) -> None:
    from kerascnn.diagnosis.signals import kernel_layers

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((16, 16, 1)),
            layers.Conv2D(2, 3),
            layers.ReLU(6.0),
            layers.Conv2D(2, 3, activation=layers.ReLU()),
            layers.Conv2D(2, 3),
            layers.MaxPooling2D(),
            layers.ReLU(),
            layers.Conv2D(2, 3),
            layers.MaxPooling2D(),
            layers.Conv2D(2, 1),
        ]
    )
    assert [layer.activation for layer in kernel_layers(model)] == ["relu6", "relu", "relu", "linear", "linear"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_channels_are_counted_where_they_are(keras: Any, wrapped: bool) -> None:
    from kerascnn.diagnosis.signals import Probe, kernel_layers

    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no such convolution on CPUs")
    convolution = keras.layers.Conv2D(8, 3, activation="relu", data_format="channels_first")
    layer = keras.layers.SpectralNormalization(convolution) if wrapped else convolution
    model = keras.Sequential([keras.layers.Input((1, 8, 8)), layer, keras.layers.Flatten()])
    convolution.bias.assign(np.array([1] + [-1e4] * 7, dtype=np.float32))
    images = np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)
    assert Probe(kernel_layers(model), images).look().dead[0] == 7 / 8


# All that draws in training, each strongly, as functions of a tensor of shape (images, 8, 16), made of Keras's layers.
DRAWING: dict[str, Callable[[Any], Callable[[Any], Any]]] = {
    "dropout": lambda layers: layers.Dropout(0.9),
    "of one's own": lambda layers: type("OwnDropout", (layers.Dropout,), {})(0.9),
    "of channels": lambda layers: layers.SpatialDropout1D(0.9),
    "gaussian": lambda layers: layers.GaussianDropout(0.9),
    "alpha": lambda layers: layers.AlphaDropout(0.9),
    "noise": lambda layers: layers.GaussianNoise(0.9),
    "inside a layer": lambda layers: layers.TimeDistributed(layers.Dropout(0.9)),
    "in an attention": lambda layers: lambda x: layers.MultiHeadAttention(2, 8, dropout=0.9)(x, x),
    "in a plain attention": lambda layers: lambda x: layers.Attention(dropout=0.9)([x, x]),
}


@pytest.mark.parametrize("kind", DRAWING)
def test_nothing_is_drawn_in_a_look(keras: Any, kind: str) -> None:
    """Images that are the same stay the same all the way; in training they are drawn apart as before."""
    from kerascnn.diagnosis.architecture import read_architecture
    from kerascnn.diagnosis.signals import Probe, kernel_layers

    layers = keras.layers
    inputs = layers.Input((8, 16, 1))
    x = DRAWING[kind](layers)(layers.Reshape((8, 16))(inputs))
    model = keras.Model(inputs, layers.Dense(4, activation="sigmoid")(x))
    images = np.repeat(np.random.default_rng(0).random((1, 8, 16, 1), dtype=np.float32), 32, axis=0)
    found = kernel_layers(model)
    probe = Probe(found, images)
    for _ in range(2):
        assert probe.look().between_images[-1] < 1e-6
    assert np.asarray(keras.ops.convert_to_numpy(model(images, training=True))).std(axis=0).max() > 0.01
    assert read_architecture(model, found, images).dropout == (0 if kind == "noise" else 0.9)


@pytest.mark.parametrize("kind", ["GaussianDropout", "AlphaDropout", "GaussianNoise"])
def test_what_draws_may_stand_before_an_activation(keras: Any, kind: str) -> None:
    from kerascnn.diagnosis.signals import kernel_layers

    layers = keras.layers
    model = keras.Sequential([layers.Input((4,)), layers.Dense(3), getattr(layers, kind)(0.1), layers.ReLU()])
    assert [layer.activation for layer in kernel_layers(model)] == ["relu"]


def test_a_wrapped_layer_is_known_by_what_it_wraps(keras: Any) -> None:
    from kerascnn.diagnosis.architecture import read_architecture
    from kerascnn.diagnosis.signals import Probe, kernel_layers

    layers = keras.layers
    bias = keras.initializers.Constant(-99)
    convolution = layers.Conv2D(8, 3, activation="relu", kernel_initializer="he_normal", bias_initializer=bias)
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.SpectralNormalization(convolution, name="wrapped"),
            layers.TimeDistributed(layers.Dense(3, kernel_initializer="zeros"), name="each_row"),
            layers.TimeDistributed(layers.ReLU()),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    images = np.random.default_rng(0).random((4, 8, 8, 1), dtype=np.float32)
    found = kernel_layers(model)
    assert [(layer.name, layer.activation) for layer in found[:2]] == [("wrapped", "relu"), ("each_row", "relu")]
    assert Probe(found, images).look().dead[0] == 1
    facts = read_architecture(model, found, images).layers
    assert [(one.kind, one.initializer) for one in facts[:2]] == [("Conv2D", "he_normal"), ("Dense", "zeros")]


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_units_in_the_flat_part_are_counted(keras: Any, activation: str) -> None:
    from kerascnn.diagnosis.signals import Probe, kernel_layers

    model = kerascnn.build_model(own("tiny", activation=activation))
    probe = Probe(kernel_layers(model), pixels(5))
    assert probe.look().saturated[0] < 0.5
    model.get_layer("block1_conv1").kernel.assign(model.get_layer("block1_conv1").kernel * 1000)
    assert probe.look().saturated[0] > 0.9


def test_looking_changes_nothing(keras: Any) -> None:
    """BatchNorm's averages, dropout's generators and torch's own stay as they are: the run is the same to the bit."""
    recipe = own("stateful", train__epochs=1)
    looked = kerascnn.train(recipe)
    blind = kerascnn.train(recipe, options=Options(observe=False))
    assert len(statistics_of(looked.run_dir)) >= 5
    assert statistics_of(blind.run_dir) == []
    assert differences(final_state(looked.run_dir), final_state(blind.run_dir)) == []


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_step_of_plain_sgd_is_its_gradient_times_the_learning_rate(keras: Any, precision: str) -> None:
    recipe = own(
        "tiny", train__optimizer={"name": "sgd", "learning_rate": 0.5, "momentum": 0.0}, train__precision=precision
    )
    run_dir = kerascnn.train(recipe).run_dir
    first = statistics_of(run_dir)[0]
    assert first.step == 1
    assert first.layers == ("block1_conv1", "block2_conv1", "hidden1", "logits")
    from kerascnn.training.initial_weights import assign_initial_weights

    model = kerascnn.build_model(recipe)
    assign_initial_weights(model, recipe.train.seed)
    for name, gradient, update in zip(first.layers, first.gradient_norm, first.update_over_weight, strict=True):
        kernel = np.asarray(keras.ops.convert_to_numpy(model.get_layer(name).kernel), dtype=np.float64)
        assert gradient is not None
        assert update == pytest.approx(0.5 * gradient / np.sqrt((kernel**2).sum()), rel=2e-3)


def test_of_a_large_kernel_some_units_tell_how_far_it_moved(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kerascnn.diagnosis.signals import kernel_layers
    from kerascnn.training import observer

    monkeypatch.setattr(observer, "MOST_WEIGHTS", 50)
    model = kerascnn.build_model(own("tiny"))
    layers = kernel_layers(model)
    looks = observer.Observer(model, layers, pixels(3))
    looks.before_step()
    # A unit may be one too many.
    assert all(np.prod(before.shape) <= 50 + np.prod(before.shape[:-1]) for before in looks._before)
    for number, layer in enumerate(layers):
        kernel = model.trainable_variables[layer.kernel]
        kernel.assign(kernel * (1.25 + number))
    seen = looks.after_step(1, np.zeros(len(layers), dtype=np.float32))
    assert seen.update_over_weight == pytest.approx([0.25 + number for number in range(len(layers))], rel=1e-3)


def test_after_the_first_steps_looking_takes_a_two_hundredth_of_the_time(keras: Any) -> None:
    from kerascnn.diagnosis.signals import kernel_layers
    from kerascnn.training.observer import Observer

    now = 0.0

    def clock() -> float:
        return now

    model = kerascnn.build_model(own("tiny"))
    observer = Observer(model, kernel_layers(model), pixels(3), clock)
    norms = np.zeros(4, dtype=np.float32)
    observer.before_step()
    observer.after_step(1, norms)
    real_look = observer._probe.look

    def look_for_half_a_second() -> Any:
        nonlocal now
        now += 0.5
        return real_look()

    observer._probe.look = look_for_half_a_second
    observer.before_step()
    observer.after_step(2, norms)
    now += 99.9
    assert [step for step in range(1, 1000) if observer.wants(step)] == [1, 2, 5, 10, 20]
    now += 0.2
    assert observer.wants(1000)


def test_between_two_records_nothing_is_read_from_the_device(
    keras: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reading would wait for the device. Only the steps that are looked at, or recorded, may."""
    if backend != "torch":
        pytest.skip("counts what torch's tensors are asked for")
    import torch

    from kerascnn.training import engine, observer
    from kerascnn.training.steps.torch import TorchSteps

    reads: list[str] = []
    at_step: list[int] = []

    def counted(name: str) -> Any:
        original = getattr(torch.Tensor, name)

        def read(tensor: Any, *arguments: Any, **options: Any) -> Any:
            reads.append(name)
            return original(tensor, *arguments, **options)

        return read

    for name in ("item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__index__", "__array__"):
        monkeypatch.setattr(torch.Tensor, name, counted(name))
    train = TorchSteps.train

    def entered(steps: Any, *batch: Any, observe: bool = False) -> Any:
        at_step.append(len(reads))
        return train(steps, *batch, observe=observe)

    monkeypatch.setattr(TorchSteps, "train", entered)
    monkeypatch.setattr(engine, "STEPS_ALL_RECORDED", 0)
    monkeypatch.setattr(engine, "RECORD_EVERY_S", float("inf"))
    monkeypatch.setattr(observer, "FIRST_STEPS", (1, 5))
    monkeypatch.setattr(observer, "SHARE", 0.0)
    kerascnn.train(own("tiny"))
    read = [after - before for before, after in pairwise(at_step)]
    assert len(read) == 9
    # What step 5 looks at is read before it and after it; the first look is before the first step.
    assert [number for number, count in enumerate(read, start=1) if count] == [1, 4, 5]


def test_a_network_without_a_kernel_is_trained_unobserved(keras: Any, recipe_of_builder: Callable[..., Recipe]) -> None:
    recipe = recipe_of_builder(
        "scaling",
        "from keras import layers\n"
        "def build(x, *, classes, **style):\n"
        "    x = layers.GlobalAveragePooling2D()(x)\n"
        "    return layers.BatchNormalization()(layers.Concatenate()([x] * classes))\n",
        {"input_shape": [28, 28, 1], "train.limit_train": 100, "train.limit_val": 50, "train.epochs": 1},
    )
    result = kerascnn.train(recipe)
    assert result.state == "finished"
    assert statistics_of(result.run_dir) == []
