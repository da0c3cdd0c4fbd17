"""The networks: their sizes, their layers, their first weights, one step of each."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import kerascnn
from kerascnn.catalog import list_models, load_recipe
from kerascnn.errors import RecipeError, UsageError
from kerascnn.recipe import Recipe, Vgg
from kerascnn.zoo import build_model
from tests.test_lowering import narrow

pytestmark = pytest.mark.backend

# The constants of any three-channel dataset, for networks that standardise.
MEAN, DEVIATION = [125.3, 123.0, 113.9], [63.0, 62.1, 66.7]


def built(name: str, **overrides: object) -> Any:
    recipe = load_recipe(name, overrides)
    channels = recipe.input_shape[2]
    return build_model(recipe, mean=MEAN[:channels], deviation=DEVIATION[:channels])


def numpy_of(value: Any) -> np.ndarray:
    from keras import ops

    return np.array(ops.convert_to_numpy(value))


@pytest.mark.parametrize("name", list_models())
def test_a_network_is_as_its_card_says_and_takes_a_step(keras: Any, backend: str, name: str) -> None:
    from kerascnn.training.optimizer import make_optimizer
    from kerascnn.training.steps import make_steps
    from kerascnn.zoo.counting import count

    recipe = load_recipe(name)
    model = built(name)
    card = recipe.card.model_dump(include={"trainable_weights", "total_weights", "multiply_adds"})
    assert asdict(count(model)) == card
    assert model.output.shape == (None, recipe.classes)
    watched = [model.trainable_variables[0], *model.trainable_variables[-2:]]
    before = [numpy_of(variable) for variable in watched]
    steps = make_steps(model, make_optimizer(recipe.train, model.trainable_variables), recipe.train)
    # On TensorFlow BatchNorm and Adam are.
    some = recipe.batch_norm != "none" or recipe.train.optimizer.name == "adam"
    lowered = backend == "torch" or (backend == "tensorflow" and some)
    assert steps.execution == ("lowered" if lowered else "keras")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (2, *recipe.input_shape), dtype=np.uint8)
    loss, right, _ = steps.train(pixels, random.integers(0, recipe.classes, 2))
    assert math.isfinite(float(numpy_of(loss)))
    assert 0 <= int(numpy_of(right)) <= 2
    after = [numpy_of(variable) for variable in watched]
    assert all(not np.array_equal(old, new) for old, new in zip(before, after, strict=True))


def test_the_published_sizes(keras: Any) -> None:
    """What the papers, or the repositories that the figures belong to, print."""
    published = {
        "vgg16_imagenet": 138_357_544,
        "vgg16_cifar": 14_914_378,
        "vgg16_bn_cifar": 14.73e6,
        "vgg16_bn_imagenet": 138_365_992,
        "resnet20_cifar": 0.27e6,
        "resnet110_cifar": 1.73e6,
        "resnet18_cifar": 11.17e6,
        "wrn28_10_cifar": 36.5e6,
        "densenet40_k12_cifar": 1.02e6,
        "densenet_bc100_k12_cifar": 0.77e6,
    }
    for name, weights in published.items():
        assert load_recipe(name).card.trainable_weights == pytest.approx(
            weights, rel=0 if isinstance(weights, int) else 5e-3
        )


def test_vgg16_takes_keras_weights_and_gives_keras_softmax(keras: Any) -> None:
    theirs = keras.applications.VGG16(weights=None)
    ours = kerascnn.build_model("vgg16_imagenet")
    random = np.random.default_rng(0)
    for layer in theirs.layers:
        if layer.weights:
            values = [
                random.standard_normal(v.shape, dtype=np.float32) * (2 / math.prod(v.shape[:-1] or (1,))) ** 0.5
                for v in layer.weights
            ]
            layer.set_weights(values)
            ours.get_layer(layer.name).set_weights(values)
    pixels = random.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    prepared = keras.applications.vgg16.preprocess_input(pixels.astype(np.float32))
    expected = numpy_of(theirs(prepared, training=False))
    found = numpy_of(keras.ops.softmax(ours(pixels, training=False)))
    assert expected.max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("unit", lambda p: p / 255),
        ("symmetric", lambda p: p / 127.5 - 1),
        ("standardize", lambda p: (p - MEAN) / DEVIATION),
        ("caffe", lambda p: p[..., ::-1] - np.array([103.939, 116.779, 123.68])),
        ("none", lambda p: p),
    ],
)
def test_pixels_are_scaled_once_inside_the_network(keras: Any, scaling: str, expected: Any) -> None:
    from kerascnn.zoo.scaling import scale_pixels

    inputs = keras.Input((2, 2, 3), dtype="uint8")
    model = keras.Model(inputs, scale_pixels(inputs, scaling, MEAN, DEVIATION))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 3), dtype=np.uint8)
    np.testing.assert_allclose(numpy_of(model(pixels)), expected(pixels.astype(np.float64)), rtol=1e-5, atol=2e-5)


def test_a_convolution_is_a_correlation_with_rows_before_columns(keras: Any) -> None:
    """A kernel whose height and width are swapped, or flipped, gives other values."""
    model = built("cnn2_cifar", filters=[4], hidden=[8])
    layer = model.get_layer("block1_conv1")
    pixels = np.random.default_rng(0).random((1, 32, 32, 3), dtype=np.float32)
    kernel, bias = (numpy_of(v) for v in layer.weights)
    padded = np.pad(pixels[0], ((1, 1), (1, 1), (0, 0)))
    expected = np.einsum("hwc,hwcf->f", padded[5:8, 9:12], kernel) + bias
    np.testing.assert_allclose(numpy_of(layer(pixels))[0, 5, 9], expected, rtol=1e-4, atol=1e-5)


def test_the_group_skip_pads_by_one_on_every_side(keras: Any) -> None:
    """Keras's own ``same`` begins a stride of 2 one pixel later."""
    model = built("plain12_residual")
    skip = model.get_layer("block1_skip")
    padded = model.get_layer("block1_skip_pad")
    pixels = np.random.default_rng(0).random((1, 32, 32, 3), dtype=np.float32)
    kernel, bias = (numpy_of(v) for v in skip.weights)
    found = numpy_of(skip(padded(pixels)))
    assert found.shape == (1, 16, 16, 64)
    expected = np.einsum("hwc,hwcf->f", np.pad(pixels[0], ((1, 1), (1, 1), (0, 0)))[0:3, 0:3], kernel) + bias
    np.testing.assert_allclose(found[0, 0, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("batch_norm", "order", "bias"),
    [
        ("none", ["conv1", "conv1_relu"], True),
        ("after", ["conv1", "conv1_relu", "conv1_bn"], True),
        ("before", ["conv1", "conv1_bn", "conv1_relu"], False),
    ],
)
def test_batch_norm_stands_where_the_recipe_says(keras: Any, batch_norm: str, order: list[str], bias: bool) -> None:
    model = built("plain12_relu", batch_norm=batch_norm)
    names = [layer.name for layer in model.layers if layer.name.startswith("block1_conv1")]
    assert names == [f"block1_{name}" for name in order]
    assert model.get_layer("block1_conv1").use_bias is bias
    for layer in model.layers:
        if layer.name.endswith("_bn"):
            assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)


@pytest.mark.parametrize("name", ["resnet20_cifar", "wrn28_10_cifar", "densenet40_k12_cifar", "vgg16_cifar"])
@pytest.mark.parametrize("batch_norm", ["none", "after", "before"])
def test_batch_norm_activation_and_initializer_are_keys_of_every_family(keras: Any, name: str, batch_norm: str) -> None:
    small = {"depth": 10, "widen": 1} if name.startswith("wrn") else {}
    model = built(name, batch_norm=batch_norm, activation="silu", initializer="glorot_uniform", **small)
    kinds = {type(layer).__name__ for layer in model.layers}
    assert ("BatchNormalization" in kinds) is (batch_norm != "none")
    activations = [layer for layer in model.layers if type(layer).__name__ == "Activation"]
    assert activations
    assert all(layer.activation.__name__ == "silu" for layer in activations)
    convs = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
    assert all(type(layer.kernel_initializer).__name__ == "GlorotUniform" for layer in convs)


def test_the_pad_shortcut_has_no_weights_and_keeps_every_second_pixel(keras: Any) -> None:
    from kerascnn.zoo.residual import pad_shortcut

    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, pad_shortcut(inputs, 6, strides=2, name="skip"))
    x = np.random.default_rng(0).random((1, 4, 4, 2), dtype=np.float32)
    found = numpy_of(model(x))
    assert model.weights == []
    np.testing.assert_array_equal(found[..., 2:4], x[:, ::2, ::2])
    assert not found[..., :2].any()
    assert not found[..., 4:].any()


# ── Initial weights ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "first", "total"),
    [
        ("plain12_relu", [-0.005502138752490282, -0.020631030201911926], 1.1607153773875325),
        ("plain12_he", [0.5185496211051941, 0.03398416191339493], -6.7092397160158725),
    ],
)
def test_initial_weights_are_the_same_on_every_backend(keras: Any, name: str, first: list[float], total: float) -> None:
    """The numbers were printed on torch; every backend must draw them: uniform ones and normal ones."""
    kernel = numpy_of(kerascnn.build_model(name, seed=7).get_layer("block1_conv1").kernel)
    np.testing.assert_array_equal(kernel[0, 2, :2, 0], np.array(first, np.float32))
    assert float(kernel.astype(np.float64).sum()) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("cut", [2.0, np.inf])
def test_normal_weights_have_the_normal_distributions_shares(keras: Any, cut: float) -> None:
    """Shares of a million draws below some bounds, each within four standard errors."""
    from kerascnn.training.initial_weights import fill_normal

    drawn = np.empty(1_000_003, np.float32)
    fill_normal(3.0, drawn, np.random.default_rng(0), mean=1.0, cut=cut)
    normal = NormalDist()
    lowest = normal.cdf(-cut)
    for bound in (-1.99, -1.5, -0.5, 0.0, 0.1, 1.0, 1.9):
        share = (normal.cdf(bound) - lowest) / (1 - 2 * lowest)
        allowed = 4 * np.sqrt(share * (1 - share) / drawn.size)
        assert (drawn < 1 + 3 * bound).mean() == pytest.approx(share, abs=allowed), bound
    # Neighbours say nothing about each other, though four come from one random number.
    for distance in (1, 2, 3, 4):
        assert abs(np.corrcoef(drawn[:-distance], drawn[distance:])[0, 1]) < 4 / np.sqrt(drawn.size)


def test_initial_weights_depend_on_the_seed_and_the_layers_name_alone(keras: Any) -> None:
    one, two = kerascnn.build_model("plain12_relu", seed=1), kerascnn.build_model("plain12_silu", seed=1)
    other = kerascnn.build_model("plain12_relu", seed=2)

    def kernel(model: Any, name: str) -> np.ndarray:
        return numpy_of(model.get_layer(name).kernel)

    assert np.array_equal(kernel(one, "block3_conv2"), kernel(two, "block3_conv2"))
    assert not np.array_equal(kernel(one, "block3_conv2"), kernel(other, "block3_conv2"))
    assert not np.array_equal(kernel(one, "block3_conv2"), kernel(one, "block3_conv3"))
    assert not any(numpy_of(layer.bias).any() for layer in one.layers if getattr(layer, "bias", None) is not None)


@pytest.mark.parametrize("initializer", ["he_normal", "glorot_uniform"])
def test_initial_weights_are_drawn_in_pieces_and_large_kernels_in_stripes(
    keras: Any, monkeypatch: pytest.MonkeyPatch, initializer: str
) -> None:
    """Pieces change nothing. Each stripe has a generator of its own; the first has the kernel's."""
    from kerascnn.training import initial_weights

    def drawn() -> np.ndarray:
        model = kerascnn.build_model(load_recipe("cnn2_fmnist", {"initializer": initializer}))
        return numpy_of(model.get_layer("block2_conv1").kernel).reshape(-1)

    whole = drawn()
    monkeypatch.setattr(initial_weights, "PIECE", 1000)
    np.testing.assert_array_equal(drawn(), whole)
    monkeypatch.setattr(initial_weights, "STRIPE", 4096)
    striped = drawn()
    np.testing.assert_array_equal(striped[:4096], whole[:4096])
    first, second, third = (striped[start : start + 4096] for start in (0, 4096, 8192))
    # One of 65,536 values can come twice.
    assert (first == second).sum() < 4
    assert (second == third).sum() < 4
    assert second.std() == pytest.approx(first.std(), rel=0.1)


@pytest.mark.parametrize("name", {load_recipe(name).builder: name for name in list_models()}.values())
def test_nothing_is_drawn_that_would_be_thrown_away_and_every_kernel_is(
    keras: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for distribution in ("truncated_normal", "normal", "uniform"):
        monkeypatch.setattr(f"keras.src.initializers.random_initializers.random.{distribution}", None)
    recipe = narrow(name)
    channels = recipe.input_shape[2]
    model = kerascnn.build_model(recipe, mean=MEAN[:channels], deviation=DEVIATION[:channels])
    kernels = [numpy_of(variable.value) for variable in model.trainable_variables if variable.name == "kernel"]
    assert len(kernels) >= 3
    assert all(np.count_nonzero(kernel) == kernel.size for kernel in kernels)


def test_a_deviation_for_vggs_dense_kernels_leaves_the_convolutions_their_initializer(keras: Any) -> None:
    whole = load_recipe("vgg16_bn_imagenet")
    assert isinstance(whole, Vgg)
    assert whole.dense_deviation == 0.01
    recipe = load_recipe(
        "vgg16_bn_cifar", {"hidden": [256, 128], "dense_deviation": 0.03, "train.scaling": "unit", "filters": [64] * 5}
    )
    model = kerascnn.build_model(recipe)

    def kernel(name: str) -> np.ndarray:
        return numpy_of(model.get_layer(name).kernel)

    for name in ("fc1", "fc2", "predictions"):
        assert kernel(name).std() == pytest.approx(0.03, rel=0.06), name
        # It isn't cut, and where it lies is the layer's own.
        assert np.abs(kernel(name)).max() > 0.03 * 2.6
    assert kernel("block2_conv1").std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.03)
    assert (kernel("predictions").reshape(-1) == kernel("fc1").reshape(-1)[: kernel("predictions").size]).sum() < 4


def test_an_initializer_of_ones_own_keeps_its_draw_and_is_told_of(keras: Any) -> None:
    from kerascnn.training.initial_weights import assign_initial_weights

    class Ones(keras.initializers.RandomNormal):  # type: ignore[misc,name-defined]
        def __call__(self, shape: tuple[int, ...], dtype: Any = None, **_: Any) -> Any:
            return keras.ops.ones(shape, dtype)

    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(4, kernel_initializer=Ones(), name="own"), layers.Dense(3, name="ours")]
    )
    assert assign_initial_weights(model, 0) == ["own/kernel"]
    assert (numpy_of(model.get_layer("own").kernel) == 1).all()


def test_a_builder_of_ones_own_keeps_kernels_that_nobody_assigns(
    keras: Any, recipe_of_builder: Callable[..., Recipe]
) -> None:
    recipe = recipe_of_builder(
        "hidden",
        "from keras import layers\n"
        "class Hidden(layers.Layer):\n"
        "    def build(self, shape):\n"
        "        self.matrix = self.add_weight(shape=(shape[-1], 4), initializer='he_normal', name='matrix')\n"
        "    def call(self, x):\n"
        "        return x @ self.matrix\n"
        "def build(x, *, classes, **style):\n"
        "    return layers.Dense(classes)(Hidden(name='hidden')(layers.Flatten()(x)))\n",
    )
    model = kerascnn.build_model(recipe)
    assert numpy_of(model.get_layer("hidden").matrix.value).all()


# ── Building ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_standardised_networks_ask_for_their_constants(keras: Any) -> None:
    with pytest.raises(UsageError, match="mean= and deviation="):
        kerascnn.build_model("plain12_standardized")


def test_a_saved_network_takes_raw_images_without_any_code_of_ours(keras: Any, tmp_path: Any) -> None:
    for name in ("resnet20_cifar", "vgg16_cifar"):
        recipe = load_recipe(name, {"train.scaling": "caffe"})
        model = kerascnn.build_model(recipe)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
        pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
        np.testing.assert_allclose(numpy_of(loaded(pixels)), numpy_of(model(pixels)), rtol=1e-5, atol=1e-5)


def test_a_builder_of_the_users_own_is_found_by_name(keras: Any, tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "ours_builder.py").write_text(
        "from keras import layers\n"
        "def build(x, *, classes, width, **style):\n"
        "    assert sorted(style) == ['activation', 'batch_norm', 'batch_norm_epsilon', 'batch_norm_momentum',"
        " 'conv_bias', 'initializer'], style\n"
        "    x = layers.Conv2D(width, 3, activation=style['activation'])(x)\n"
        "    return layers.Dense(classes)(layers.GlobalMaxPooling2D()(x))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    catalog = tmp_path / "own.toml"
    catalog.write_text(
        '[models.own]\nbuilder = "ours_builder:build"\ndataset = "cifar10"\narguments = { width = 5 }\n'
        '[models.wrong]\nbuilder = "ours_builder:build"\ndataset = "cifar10"\n'
        '[models.missing]\nbuilder = "ours_builder:nothing"\ndataset = "cifar10"\n'
        '[models.typo]\nbuilder = "plian"\ndataset = "cifar10"\n'
        '[models.broken]\nbuilder = "broken_builder:build"\ndataset = "cifar10"\n'
        '[models.fails]\nbuilder = "failing_builder:build"\ndataset = "cifar10"\n'
        '[models.narrow]\nbuilder = "failing_builder:narrow"\ndataset = "cifar10"\n'
    )
    (tmp_path / "broken_builder.py").write_text("def build(x, **other:\n")
    (tmp_path / "failing_builder.py").write_text(
        "from keras import layers\n"
        "def build(x, **other):\n"
        "    return nothing\n"
        "def narrow(x, **other):\n"
        "    return layers.Dense(3)(layers.Flatten()(x))\n"
    )
    model = kerascnn.build_model(load_recipe("own", catalog=catalog))
    assert model.output.shape == (None, 10)
    for name, said in (
        ("wrong", "width"),
        ("missing", "ours_builder:nothing"),
        ("typo", "did you mean 'plain'"),
        ("broken", "expected a builder at broken_builder:build: SyntaxError"),
        ("fails", "the builder failing_builder:build fails: NameError: name 'nothing' is not defined"),
        ("narrow", r"expected 10 logits an image from the builder failing_builder:narrow, got the shape \(None, 3\)"),
    ):
        with pytest.raises(RecipeError, match=said):
            kerascnn.build_model(load_recipe(name, catalog=catalog))


def test_too_many_pools_are_refused_in_a_sentence(keras: Any) -> None:
    with pytest.raises(RecipeError, match="6 pools of 2×2 leave nothing of 32 pixels"):
        built("plain12_relu", filters=[4] * 6)


OWN_BLOCKS = """
import keras
from keras import layers

def block(name):
    return keras.Sequential(
        [layers.Conv2D(4, 3, padding="same", name="conv"), layers.Dropout(0.5, name="dropout")], name=name
    )

def build(x, *, classes, **style):
    x = layers.Conv2D(4, 3)(x)
    x = block("second")(block("first")(x))
    return layers.Dense(classes)(layers.Flatten()(x))
"""


def test_a_network_built_again_in_its_process_has_the_same_names_and_weights(
    keras: Any, recipe_of_builder: Callable[..., Recipe]
) -> None:
    """Keras gives a layer without a name the next number."""
    recipe = recipe_of_builder("again", OWN_BLOCKS)
    one, two = kerascnn.build_model(recipe), kerascnn.build_model(recipe)
    assert [variable.path for variable in one.variables] == [variable.path for variable in two.variables]
    for first, second in zip(one.variables, two.variables, strict=True):
        assert (numpy_of(first.value) == numpy_of(second.value)).all(), first.path
    # Whoever adds a layer to it gets another name.
    names = [layer.name for layer in one.layers]
    assert keras.layers.Dense(1).name not in names


def test_a_builder_may_take_layers_that_are_older_than_the_network(
    keras: Any, recipe_of_builder: Callable[..., Recipe]
) -> None:
    recipe = recipe_of_builder(
        "older",
        "from keras import layers\n"
        "before = layers.ReLU()\n"
        "def build(x, *, classes, **style):\n"
        "    return layers.Dense(classes)(layers.ReLU()(layers.Flatten()(before(x))))\n",
    )
    for _ in range(2):
        assert len(kerascnn.build_model(recipe).layers) == 6


def test_layers_of_the_same_name_have_a_draw_each(keras: Any, recipe_of_builder: Callable[..., Recipe]) -> None:
    model = kerascnn.build_model(recipe_of_builder("blocks", OWN_BLOCKS))
    first, second = (model.get_layer(name) for name in ("first", "second"))
    one, two = (numpy_of(block.get_layer("conv").kernel) for block in (first, second))
    assert not (one == two).any()
    one, two = (numpy_of(block.get_layer("dropout").seed_generator.state.value) for block in (first, second))
    assert one[0] != two[0]


def test_weights_that_a_builder_assigns_stay(keras: Any, recipe_of_builder: Callable[..., Recipe]) -> None:
    """As of a network that was trained elsewhere, whose kernels have initializers too."""
    from kerascnn.training.network import initial_model

    recipe = recipe_of_builder(
        "trained",
        "import keras\n"
        "from keras import layers\n"
        "def build(x, *, classes, **style):\n"
        "    images = keras.Input(x.shape[1:])\n"
        "    trained = keras.Model(images, layers.Conv2D(3, 3, name='known')(images), name='trained')\n"
        "    trained.set_weights([keras.ops.ones(weight.shape) for weight in trained.weights])\n"
        "    trained.trainable = False\n"
        "    return layers.Dense(classes, name='logits')(layers.Flatten()(trained(x)))\n",
        {"input_shape": [8, 8, 1]},
    )
    told: list[str] = []
    model = initial_model(recipe, None, told.append)
    assert all((numpy_of(weight.value) == 1).all() for weight in model.get_layer("trained").weights)
    (text,) = told
    assert text.endswith("known/kernel keeps what the builder assigned; the seed draws the rest")
    again = kerascnn.build_model(recipe, seed=1)
    assert all((numpy_of(weight.value) == 1).all() for weight in again.get_layer("trained").weights)
    logits = [numpy_of(one.get_layer("logits").kernel) for one in (model, again, initial_model(recipe, None))]
    assert (logits[0] == logits[2]).all()
    assert not (logits[0] == logits[1]).any()


def test_while_a_network_is_built_other_threads_draw_as_ever(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kerascnn.training import initial_weights

    recipe = load_recipe("cnn2_fmnist", {"input_shape": [8, 8, 1], "filters": [3], "hidden": [4]})
    build, inside, go_on = initial_weights.build_model, threading.Barrier(2), threading.Event()

    def build_slowly(*inputs: Any, **named: Any) -> Any:
        inside.wait()
        go_on.wait()
        return build(*inputs, **named)

    draw = keras.initializers.HeNormal(seed=0)
    before = numpy_of(draw((4, 4)))
    monkeypatch.setattr(initial_weights, "build_model", build_slowly)
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(initial_weights.build_undrawn, recipe)
        inside.wait()
        try:
            assert (numpy_of(draw((4, 4))) == before).all()
        finally:
            go_on.set()
        kernels = [weight for weight in building.result().weights if weight.name == "kernel"]
    assert kernels
    assert not any(numpy_of(kernel.value).any() for kernel in kernels)
    assert (numpy_of(draw((4, 4))) == before).all()
