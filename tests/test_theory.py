"""What the lecture states as theory, found again in the layers and first weights that our networks are made of.

Its worked examples print two digits, cut off and not rounded, so they are compared cut off.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import fields
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import kerascnn
from kerascnn.catalog import load_recipe
from kerascnn.data.images import ArrayImages
from kerascnn.data.statistics import pixel_statistics
from kerascnn.recipe import Initializer
from tests.test_zoo import built, numpy_of

pytestmark = pytest.mark.backend

# The relative error of rounding to float32.
ROUNDING = 2.0**-24
# So many standard errors are allowed to what is drawn; the seeds are fixed, so what passes once passes always.
STANDARD_ERRORS = 5

few = settings(max_examples=20, deadline=None, database=None, derandomize=True)


def style(**changes: object) -> Any:
    """The conventions that the networks of a recipe share, as their builders make them."""
    from kerascnn.zoo.blocks import Style

    network = load_recipe("plain12_bn", changes).network()
    return Style(**{field.name: network[field.name] for field in fields(Style)})


def two_digits(values: Any) -> list[Any]:
    """Cut off behind the second digit, as the slides print; no -0.0."""
    cut: list[Any] = (np.trunc(100 * np.asarray(values, np.float64)) / 100 + 0.0).tolist()
    return cut


# ── BatchNorm ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def batch_norm(keras: Any, channels: int) -> Any:
    """A network of nothing but BatchNorm, made as all networks make theirs."""
    inputs = keras.Input((None, None, channels))
    return keras.Model(inputs, style().norm(inputs, "only"))


def train_on(model: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pass a batch through in training mode: the output, and the batch's mean and variance as the layer found them.

    They are read from the moving averages, which begin at 0 and 1 and take a tenth of them.
    """
    y = numpy_of(model(x.astype(np.float32), training=True)).astype(np.float64)
    layer = model.get_layer("only_bn")
    mean = numpy_of(layer.moving_mean).astype(np.float64) / 0.1
    return y, mean, (numpy_of(layer.moving_variance).astype(np.float64) - 0.9) / 0.1


def test_batch_norm_of_three_samples_is_the_lectures(keras: Any) -> None:
    x = np.array([[[7, 5], [0, 4]], [[0, 7], [3, 1]], [[2, 0], [0, 1]]])
    y, mean, variance = train_on(batch_norm(keras, 1), x[..., None])
    assert mean == pytest.approx(2.5, rel=1e-5)
    assert two_digits(variance) == [6.58]
    assert two_digits(y[..., 0]) == [
        [[1.75, 0.97], [-0.97, 0.58]],
        [[-0.97, 1.75], [0.19, -0.58]],
        [[-0.19, -0.97], [-0.97, -0.58]],
    ]


def test_batch_norm_of_six_values_is_the_lectures(keras: Any) -> None:
    y, mean, variance = train_on(batch_norm(keras, 1), np.array([1, 3, 9, 4, 6, 7]).reshape(6, 1, 1, 1))
    assert mean == pytest.approx(5, rel=1e-5)
    assert two_digits(np.sqrt(variance)) == [2.64]
    assert two_digits(y.ravel()) == [-1.51, -0.75, 1.51, -0.37, 0.37, 0.75]


def test_batch_norm_of_two_channels_prints_the_unbiased_variance_and_uses_the_biased(keras: Any) -> None:
    channels = np.stack([[[0, 5], [3, 0]], [[7, 2], [0, 3]]], axis=-1)[None]
    y, mean, variance = train_on(batch_norm(keras, 2), channels)
    assert mean == pytest.approx([2, 3], rel=1e-5)
    assert variance == pytest.approx([4.5, 6.5], rel=1e-5)
    printed = variance * 4 / 3
    assert printed.round(2).tolist() == [6.0, 8.67]
    slide = [[[-0.94, 1.41], [0.47, -0.94]], [[1.56, -0.39], [-1.17, 0.0]]]
    assert [two_digits(y[0, ..., channel]) for channel in (0, 1)] == slide
    with_the_printed = y * np.sqrt((variance + 1e-5) / (printed + 1e-5))
    assert [two_digits(with_the_printed[0, ..., channel]) for channel in (0, 1)] != slide


@few
@given(
    x=arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.just(2)),
        elements=st.floats(-100, 100, width=32, allow_subnormal=False),
    )
)
def test_batch_norm_can_be_the_identity(keras: Any, x: np.ndarray) -> None:
    """With γ = √(σ² + ε) and β = μ.

    On torch and JAX Keras computes σ² as E[x²] - μ², whose error is some roundings of E[x²]. Where a channel hardly
    varies about a large mean that is more than σ² itself, so such channels are left out.
    """
    model = batch_norm(keras, 2)
    layer = model.get_layer("only_bn")
    exact = x.astype(np.float64)
    mean, variance = exact.mean(axis=(0, 1, 2)), exact.var(axis=(0, 1, 2))
    assume((variance >= 1e-3 * mean**2).all())
    layer.gamma.assign(np.sqrt(variance + layer.epsilon))
    layer.beta.assign(mean)
    spread = np.abs(exact - mean).max(axis=(0, 1, 2)) * (variance + mean**2) / (variance + layer.epsilon)
    error = np.abs(numpy_of(model(x, training=True)) - exact).max(axis=(0, 1, 2))
    assert (error <= 16 * ROUNDING * (np.abs(exact).max(axis=(0, 1, 2)) + spread)).all()


def test_a_training_step_keeps_nine_tenths_of_the_moving_averages(keras: Any) -> None:
    """The variance that enters is the biased one, divided by n. PyTorch's own layer divides by n - 1."""
    from kerascnn.training.optimizer import make_optimizer
    from kerascnn.training.steps import make_steps

    recipe = load_recipe(
        "cnn2_fmnist", {"input_shape": [4, 4, 1], "filters": [3], "hidden": [4], "batch_norm": "before"}
    )
    model = kerascnn.build_model(recipe)
    layer = model.get_layer("block1_conv1_bn")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), dtype=np.uint8)
    before = numpy_of(keras.Model(model.input, layer.input)(pixels)).astype(np.float64)
    mean, biased = before.mean(axis=(0, 1, 2)), before.var(axis=(0, 1, 2))
    layer.moving_mean.assign([3.0, 3.0, 3.0])
    layer.moving_variance.assign([0.01, 0.01, 0.01])
    steps = make_steps(model, make_optimizer(recipe.train, model.trainable_variables), recipe.train)
    steps.train(pixels, np.array([0, 1]))
    np.testing.assert_allclose(numpy_of(layer.moving_mean), 0.9 * 3 + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(numpy_of(layer.moving_variance), 0.9 * 0.01 + 0.1 * biased, rtol=1e-5)
    kept = numpy_of(layer.moving_mean)
    steps.evaluate(pixels, np.array([0, 1]))
    np.testing.assert_array_equal(numpy_of(layer.moving_mean), kept)


# ── Standardised pixels ───────────────────────────────────────────────────────────────────────────────────────────────


def standardised(keras: Any, pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Pixels through the scaling layer with their own constants, and the smallest of their deviations."""
    from kerascnn.zoo.scaling import scale_pixels

    images = ArrayImages(pixels, np.zeros(len(pixels), np.int64))
    found = pixel_statistics(images, hashlib.sha256(pixels.tobytes()).hexdigest())
    inputs = keras.Input(pixels.shape[1:], dtype="uint8")
    model = keras.Model(inputs, scale_pixels(inputs, "standardize", found.mean, found.deviation))
    return numpy_of(model(pixels)), min(found.deviation)


@few
@given(a=st.integers(1, 4), data=st.data())
def test_standardised_pixels_do_not_depend_on_scale_and_offset(keras: Any, a: int, data: st.DataObject) -> None:
    """Y = aX + b with a > 0 standardises to what X does.

    The layer computes x·(1/σ) - μ/σ in float32: four roundings of numbers of up to 255/σ on either side.
    """
    x = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 60, (20, 4, 4, 3), dtype=np.uint8)
    b = data.draw(st.integers(0, 255 - a * 59))
    (first, deviation), (second, _) = standardised(keras, x), standardised(keras, (a * x + b).astype(np.uint8))
    np.testing.assert_allclose(first, second, rtol=0, atol=2 * 4 * ROUNDING * 255 / deviation)
    np.testing.assert_allclose(first.mean(axis=(0, 1, 2), dtype=np.float64), 0, atol=4 * ROUNDING * 255 / deviation)
    np.testing.assert_allclose(first.std(axis=(0, 1, 2), dtype=np.float64), 1, atol=4 * ROUNDING * 255 / deviation)


# ── Initial weights ───────────────────────────────────────────────────────────────────────────────────────────────────

# Of the normal distribution cut at two deviations, as Keras draws Glorot's, He's and LeCun's normal kinds: its
# deviation over that of the whole one, its fourth moment over its squared variance, and its density at both cuts.
CUT_DEVIATION, CUT_KURTOSIS, CUT_DENSITY = 0.879626, 2.3657, 0.1131
UNIFORM_KURTOSIS = 1.8


def stated_variance(initializer: str, n_in: int, n_out: int) -> float:
    """As the papers state it. Glorot's 1/n is, as implemented, one over the mean of inputs and outputs."""
    return {"glorot": 2 / (n_in + n_out), "he": 2 / n_in, "lecun": 1 / n_in}[initializer.partition("_")[0]]


@pytest.mark.parametrize("initializer", get_args(Initializer))
def test_initial_weights_have_the_variance_and_bounds_that_their_name_states(keras: Any, initializer: str) -> None:
    """The sample variance of n draws strays by a share of √((kurtosis - 1)/n).

    None lies beyond the bound, and the largest of n draws falls short of it by no more than leaves out 20 draws.
    PyTorch's ``kaiming_normal_`` isn't cut.
    """
    model = kerascnn.build_model(
        load_recipe("cnn2_fmnist", {"initializer": initializer, "filters": [64, 64], "hidden": [96]})
    )
    fans = {"block1_conv1": (9 * 1, 9 * 64), "block2_conv1": (9 * 64, 9 * 64), "hidden1": (49 * 64, 96)}
    for name, (n_in, n_out) in fans.items():
        kernel = numpy_of(model.get_layer(name).kernel).astype(np.float64)
        variance = stated_variance(initializer, n_in, n_out)
        if initializer.endswith("uniform"):
            kurtosis, bound, short = UNIFORM_KURTOSIS, math.sqrt(3 * variance), 20 / kernel.size
        else:
            kurtosis, bound = CUT_KURTOSIS, 2 * math.sqrt(variance) / CUT_DEVIATION
            short = 20 / (2 * CUT_DENSITY * kernel.size)
        allowed = STANDARD_ERRORS * math.sqrt((kurtosis - 1) / kernel.size)
        assert kernel.var() == pytest.approx(variance, rel=allowed), name
        assert abs(kernel.mean()) < STANDARD_ERRORS * math.sqrt(variance / kernel.size), name
        assert bound * (1 - short) < np.abs(kernel).max() <= bound * (1 + 1e-6), name


@pytest.mark.parametrize(
    ("activation", "initializer", "kept"),
    [("linear", "glorot_uniform", 1.0), ("relu", "glorot_uniform", 0.5), ("relu", "he_normal", 1.0)],
)
def test_glorot_keeps_the_variance_of_linear_layers_and_he_that_of_relu(
    keras: Any, activation: str, initializer: str, kept: float
) -> None:
    """The mean square before the activation, layer by layer; ReLU loses half of it, which He makes up for.

    At worst all images lie in one direction; then a layer's ratio is the mean of as many squared normal draws as it has
    units, each with a variance of 2.
    """
    from kerascnn.training.initial_weights import assign_initial_weights

    conv = style(activation=activation, initializer=initializer)
    units = 1024
    x = inputs = keras.Input((units,))
    signals = []
    for number in range(1, 6):
        signals.append(conv.dense(x, units, name=f"dense{number}"))
        x = conv.act(signals[-1], f"dense{number}")
    model = keras.Model(inputs, signals)
    assign_initial_weights(model, seed=0)
    drawn = np.random.default_rng(0).standard_normal((64, units)).astype(np.float32)
    squares = [float(np.square(numpy_of(signal)).mean()) for signal in model(drawn)]
    ratios = [after / before for before, after in pairwise(squares)]
    assert ratios == pytest.approx([kept] * 4, rel=STANDARD_ERRORS * math.sqrt(2 / units))


def test_separable_convolutions_are_drawn_and_decayed_like_others(keras: Any) -> None:
    from kerascnn.training.initial_weights import assign_initial_weights
    from kerascnn.training.steps import decayed

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.SeparableConv2D(4, 3, depthwise_initializer="he_normal", pointwise_initializer="he_normal"),
            layers.DepthwiseConv2D(3, depthwise_initializer="he_normal"),
        ]
    )
    drawn = []
    for seed in (0, 0, 1):
        assert assign_initial_weights(model, seed) == []
        drawn.append([numpy_of(variable.value) for variable in model.trainable_variables])
    kernels = [index for index, variable in enumerate(model.trainable_variables) if variable.name.endswith("kernel")]
    assert len(kernels) == 3
    for index in kernels:
        assert (drawn[0][index] == drawn[1][index]).all()
        assert not (drawn[0][index] == drawn[2][index]).any()
    assert [index for index, is_kernel in enumerate(decayed(model.trainable_variables)) if is_kernel] == kernels


# ── The loss at chance ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_the_loss_of_equal_logits_is_the_logarithm_of_the_number_of_classes(keras: Any, classes: int) -> None:
    from kerascnn.training.optimizer import make_optimizer
    from kerascnn.training.steps import make_steps

    recipe = load_recipe("cnn2_fmnist", {"input_shape": [4, 4, 1], "filters": [3], "hidden": [4], "classes": classes})
    model = built("cnn2_fmnist", input_shape=[4, 4, 1], filters=[3], hidden=[4], classes=classes)
    logits = model.get_layer("logits")
    logits.set_weights([np.zeros(logits.kernel.shape), np.full(classes, 7.0)])
    steps = make_steps(model, make_optimizer(recipe.train, model.trainable_variables), recipe.train)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (8, 4, 4, 1), dtype=np.uint8)
    loss, _ = steps.evaluate(pixels, random.integers(0, classes, 8))
    assert float(numpy_of(loss)) == pytest.approx(math.log(classes), rel=1e-6)


@few
@given(
    classes=st.integers(2, 1000),
    logit=st.floats(-50, 50, width=32),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    data=st.data(),
)
def test_label_smoothing_leaves_the_loss_of_equal_logits_alone(
    keras: Any, classes: int, logit: float, smoothing: float, data: st.DataObject
) -> None:
    from kerascnn.training.steps import cross_entropy

    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=4)))
    logits = keras.ops.full((len(labels), classes), logit, dtype="float32")
    loss = float(numpy_of(cross_entropy(keras.ops.convert_to_tensor(labels), logits, smoothing)))
    # Softmax takes the largest logit off first; the smoothed sum adds a rounding for each class.
    assert loss == pytest.approx(math.log(classes), rel=2 * classes * ROUNDING if smoothing else 1e-6)
