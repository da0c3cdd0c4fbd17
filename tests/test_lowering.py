"""The lowered network against Keras's own: outputs, gradients, BatchNorm, what isn't in the set, going on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import kerascnn
from kerascnn.catalog import list_models, load_recipe
from kerascnn.errors import NotLoweredError, UsageError
from kerascnn.recipe import Recipe
from kerascnn.runs.directory import open_run
from kerascnn.runs.files import write_json
from kerascnn.training import session
from kerascnn.training.checkpoint import differences, list_checkpoints, read_checkpoint
from tests.conftest import OWN_CATALOG, Command, events_of

pytestmark = pytest.mark.backend

Arrays = list[np.ndarray]


@pytest.fixture(autouse=True)
def torch_alone(backend: str) -> Iterator[None]:
    """On one thread: these networks are too small to share."""
    if backend != "torch":
        pytest.skip("what is torch's")
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


def narrow(name: str, more: Mapping[str, Any] = MappingProxyType({})) -> Recipe:
    """A network of the zoo a few channels wide, with two of each block, for images of 32 pixels at the most."""
    whole = load_recipe(name).model_dump()
    thin = {"widen": 1, "growth": 2, "blocks_per_stage": 2, "hidden": [6] * len(whole.get("hidden", []))}
    thin["filters"] = [4 + 2 * place for place in range(len(whole.get("filters", [])))]
    thin["depth"] = 4 + 2 * (6 if whole.get("bottleneck") or "widen" in whole else 3)
    changes: dict[str, Any] = {key: value for key, value in thin.items() if whole.get(key)}
    changes["input_shape"] = [min(side, 32) for side in whole["input_shape"]]
    return load_recipe(name, {**changes, **more})


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
    from kerascnn.training.lowering.torch.graph import lower

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


ADAMS: list[dict[str, Any]] = [
    {"optimizer": {"name": "adamw", "learning_rate": 0.01, "decoupled_weight_decay": 0.1}, "ema": 0.5},
    {
        "optimizer": {"name": "adam", "learning_rate": 0.1, "epsilon": 0.1},
        "weight_decay": 0.1,
        "label_smoothing": 0.2,
        "clip_norm": 5.0,
    },
    {"optimizer": {"name": "adam", "learning_rate": 0.01}, "precision": "mixed_float16"},
]


@pytest.mark.parametrize("changes", [*ADAMS, {"optimizer": {"name": "sgd", "learning_rate": 0.1}}])
def test_every_optimizer_steps_as_keras_own(keras: Any, in_doubles: None, changes: dict[str, Any]) -> None:
    recipe = load_recipe("tiny", {f"train.{key}": value for key, value in changes.items()}, catalog=OWN_CATALOG)
    model = in_float64(kerascnn.zoo.build_model(recipe))
    begin = arrays_of(model.variables)
    losses, _, _, weights = three_steps(model, recipe, "keras")
    assert not np.allclose(weights[0], begin[0], rtol=1e-3)
    put(model.variables, begin)
    found = three_steps(model, recipe, "lowered")
    assert found[0] == pytest.approx(losses, rel=1e-5)
    assert_equal(found[3], weights)


@pytest.mark.parametrize("settings", [{}, {"amsgrad": True}, {"gradient_accumulation_steps": 2}], ids=str)
def test_an_adam_of_another_kind_is_left_to_keras(keras: Any, settings: dict[str, Any]) -> None:
    from kerascnn.training.lowering.torch.adam import fuse_adam

    optimizer = keras.optimizers.Adam(**settings)
    fuse_adam(optimizer)
    assert ("_backend_update_step" in vars(optimizer)) == (not settings)


@pytest.mark.parametrize("name", ["cnn2_cifar", "resnet20_cifar", "densenet40_k12_cifar"])
def test_a_step_is_that_of_keras_own_trainer(keras: Any, in_doubles: None, name: str) -> None:
    from kerascnn.training.optimizer import make_optimizer
    from kerascnn.training.steps import make_steps

    recipe = narrow(name)
    train = recipe.train.model_copy(update={"weight_decay": 0.0})
    model = in_float64(kerascnn.zoo.build_model(recipe, mean=[120.0] * 3, deviation=[60.0] * 3))
    begin, random = arrays_of(model.variables), np.random.default_rng(1)
    pixels = random.integers(0, 256, (4, *recipe.input_shape), dtype=np.uint8)
    labels = random.integers(0, recipe.classes, 4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(make_optimizer(train, model.trainable_variables), loss)
    expected = float(model.train_on_batch(pixels, labels)), gradients_of(model), arrays_of(model.variables)
    put(model.variables, begin)
    steps = make_steps(model, make_optimizer(train, model.trainable_variables), train, execution="lowered")
    found, _, _ = steps.train(pixels, labels)
    assert float(found) == pytest.approx(expected[0], rel=1e-5)
    assert_equal(gradients_of(model), expected[1])
    assert_equal(arrays_of(model.variables), expected[2])


def graph(body: Callable[[Any], Any], shape: tuple[int, ...] = (7, 8, 4)) -> Any:
    import keras

    inputs = keras.Input(shape, dtype="float64")
    return in_float64(keras.Model(inputs, body(inputs)))


def compared(model: Any, *, images: int = 3, training: bool = True) -> tuple[Arrays, Arrays]:
    """Output, gradients by input and weights, what isn't trained: of the lowered graph after a call, and of Keras."""
    import torch

    from kerascnn.training.lowering.torch.graph import lower

    pixels = np.random.default_rng(3).standard_normal((images, *model.input_shape[1:]))
    begin, results = arrays_of(model.variables), []
    for compute in (model, lower(model)):
        put(model.variables, begin)
        x = torch.from_numpy(pixels).requires_grad_()
        model.zero_grad()
        y = compute(x, training=training)
        (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
        gradients = [variable.value.grad for variable in model.trainable_variables]
        results.append([y.detach().numpy(), x.grad.numpy(), *(g.numpy() for g in gradients if g is not None)])
        results[-1] += arrays_of(model.non_trainable_variables)
    return results[1], results[0]


def pooled(convolution: Any) -> Callable[[Any], Any]:
    """A convolution, then means of 2×2 pixels."""
    import keras

    return lambda x: keras.layers.AveragePooling2D(2)(convolution(x))


def convolved(x: Any) -> Any:
    import keras

    return keras.layers.Conv2D(4, 3, padding="same")(x)


def in_a_chain(x: Any) -> Any:
    """Two ReLUs between layers that need neither their outputs nor, going back, their gradients."""
    from keras import layers

    x = layers.Activation("relu")(layers.BatchNormalization()(convolved(x)))
    return layers.MaxPooling2D(2)(layers.Activation("relu")(convolved(x)))


def of_layers() -> dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]]:
    """Settings that no network of the zoo has, each with the shape of its images."""
    from keras import layers, ops

    image, odd, row = (7, 8, 4), (5, 9, 2), (6,)

    def twice(x: Any) -> Any:
        shared = layers.Conv2D(4, 3, padding="same")
        return shared(shared(x))

    def read_twice(x: Any) -> Any:
        y = layers.Conv2D(6, 1)(x)
        return layers.AveragePooling2D(2)(y) + layers.MaxPooling2D(2)(y)

    def relu_of_a_sigmoid(x: Any) -> Any:
        return convolved(layers.Activation("relu")(layers.Conv2D(3, 1, activation="sigmoid")(x)))

    def relu_of_what_is_read_twice(x: Any) -> Any:
        y = layers.Conv2D(4, 1)(x)
        return convolved(layers.Activation("relu")(y)) + y

    def relus_to_add(x: Any) -> Any:
        one, two = (layers.Activation("relu")(layers.Conv2D(4, 1)(x)) for _ in range(2))
        return layers.Add()([one, two])

    def relu_read_twice(x: Any) -> Any:
        y = layers.Activation("relu")(layers.BatchNormalization()(x))
        return convolved(y) + y

    def relu_of_a_sum_of_one(x: Any) -> Any:
        y = layers.Conv2D(4, 1)(x)
        return convolved(layers.Activation("relu")(layers.Add()([y]))) + y

    def relu_before_a_pool_of_one(x: Any) -> Any:
        y = layers.Conv2D(4, 1)(x)
        return layers.MaxPooling2D(1)(layers.Activation("relu")(layers.BatchNormalization()(y))) + y

    return {
        "same, stride 2": (layers.Conv2D(3, 3, 2, "same"), image),
        "same, stride 2, odd sides": (layers.Conv2D(3, 3, 2, "same"), odd),
        "same, even kernel": (layers.Conv2D(3, 4, 1, "same", use_bias=False), image),
        "same, dilated": (layers.Conv2D(3, 3, 1, "same", dilation_rate=2, activation="tanh"), image),
        "groups, small images": (layers.Conv2D(512, 3, padding="same", groups=2), (2, 2, 256)),
        "groups": (layers.Conv2D(6, 3, groups=2, activation="gelu"), image),
        "kernel of other sides": (layers.Conv2D(3, (1, 3), (2, 1), "same"), image),
        "one convolution twice": (twice, image),
        "pool, same on both sides": (layers.MaxPooling2D(3, 1, "same"), image),
        "pool, odd sides": (layers.MaxPooling2D(2), odd),
        "every second pixel": (layers.MaxPooling2D(1, 2), odd),
        "mean pool, same on both sides": (layers.AveragePooling2D(3, 1, "same"), image),
        "mean pool after a 1×1 convolution": (pooled(layers.Conv2D(6, 1)), odd),
        "mean pool after one that is read twice": (read_twice, image),
        "mean of each channel": (layers.GlobalAveragePooling2D(keepdims=True), image),
        "padding of each side": (layers.ZeroPadding2D(((1, 0), (2, 3))), image),
        "cropping of each side": (layers.Cropping2D(((1, 0), (2, 3))), image),
        "channels named by 3": (lambda x: layers.Concatenate(axis=3)([x, layers.ReLU()(x), x]), image),
        "rows side by side": (lambda x: layers.Concatenate(axis=1)([x, layers.LeakyReLU(0.3)(x)]), image),
        "ReLU of a sum of one": (relu_of_a_sum_of_one, image),
        "ReLU before a pool of one": (relu_before_a_pool_of_one, image),
        "operators": (lambda x: layers.Activation("silu")(x) * x + x, image),
        "gates": (lambda x: layers.Multiply()([x, layers.Activation("sigmoid")(x)]), image),
        "three to add": (lambda x: layers.Add()([x, layers.Activation("elu")(x), layers.Activation("selu")(x)]), image),
        "ReLU in place": (in_a_chain, image),
        "ReLU of what its maker's gradient needs": (relu_of_a_sigmoid, image),
        "ReLU of what is read twice": (relu_of_what_is_read_twice, image),
        "ReLUs whose gradient is the same": (relus_to_add, image),
        "ReLU read twice": (relu_read_twice, image),
        "flipped columns": (lambda x: ops.flip(x, axis=2), image),
        "padded with zeros": (lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 3), (2, 1))), image),
        "flat": (lambda x: layers.Dense(3, activation="softplus")(layers.Flatten()(x)), image),
        "BatchNorm alone": (layers.BatchNormalization(scale=False, center=False, axis=3), image),
        "BatchNorm of rows": (layers.BatchNormalization(momentum=0.5), row),
        "BatchNorm frozen": (layers.BatchNormalization(trainable=False), image),
        "constants for each channel": (layers.Rescaling([1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4]), image),
        "dropout": (layers.Dropout(0.5, seed=1), image),
        "dropout of channels": (layers.SpatialDropout2D(0.5, seed=1), image),
    }


@pytest.mark.parametrize("training", [True, False])
def test_every_setting_in_the_set_computes_what_keras_computes(keras: Any, in_doubles: None, training: bool) -> None:
    for name, (body, shape) in of_layers().items():
        found, expected = compared(graph(body, shape), training=training)
        for one, two in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("convolution", "share"),
    [
        ({"kernel_size": 1}, 1 / 4),
        ({"kernel_size": 1, "padding": "same", "groups": 2}, 1 / 4),
        ({"kernel_size": 1, "activation": "relu"}, 1),
        ({"kernel_size": 2, "padding": "same"}, 1),
    ],
    ids=str,
)
def test_means_are_pooled_before_a_convolution_without_neighbours(
    keras: Any, in_doubles: None, convolution: dict[str, Any], share: float
) -> None:
    """It then has a quarter of the pixels to multiply, where nothing lies between the two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from kerascnn.training.lowering.torch.graph import lower

    model = graph(pooled(keras.layers.Conv2D(6, **convolution)), (8, 8, 4))
    with FlopCounterMode(display=False) as counter:
        lower(model)(torch.ones((2, 8, 8, 4), dtype=torch.float64))
    kernel = math.prod(model.layers[1].kernel.shape)
    assert counter.get_total_flops() == 2 * 2 * 8 * 8 * kernel * share


@pytest.mark.parametrize(
    ("shape", "settings", "share"),
    [
        ((4, 4), {}, 100 / 144),
        ((2, 2), {"activation": "relu"}, 4 / 9),
        ((1, 1), {"use_bias": False}, 1 / 9),
        ((1, 3), {"activation": "sigmoid"}, 7 / 27),
        ((2, 5), {"kernel_size": (5, 3)}, 26 / 75),
        ((2, 2), {"kernel_size": 7}, 4 / 49),
        ((5, 5), {}, 1),
        ((2, 2), {"dilation_rate": 2}, 1),
        ((2, 2), {"kernel_size": 2}, 1),
        ((4, 4), {"strides": 2}, 1),
    ],
    ids=str,
)
def test_what_lies_in_the_padding_of_a_small_image_is_not_multiplied(
    keras: Any, in_doubles: None, monkeypatch: pytest.MonkeyPatch, shape: Any, settings: dict[str, Any], share: float
) -> None:
    """The numbers are Keras's; only the places of the window inside the image cost anything, in every pass."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from kerascnn.training.lowering.torch import small_images
    from kerascnn.training.lowering.torch.graph import lower

    def of_product(_: Any, one: Any, other: Any, **__: Any) -> int:
        return int(2 * math.prod(one) * other[1])

    monkeypatch.setattr(small_images, "FEWEST_CHANNELS", 4)
    convolution = keras.layers.Conv2D(6, **{"kernel_size": 3, "padding": "same", **settings})
    model = graph(lambda x: keras.layers.Activation("relu")(convolution(x)), (*shape, 4))
    for images, expected in ((small_images.FEWEST_IMAGES, share), (small_images.FEWEST_IMAGES - 1, 1)):
        found, keras_own = compared(model, images=images)
        assert_equal(found, keras_own, 1e-9)
        with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: of_product}) as counter:
            x = torch.ones((images, *shape, 4), dtype=torch.float64, requires_grad=True)
            y = lower(model)(x, training=True)
            y.sum().backward()
        whole = 3 * 2 * y[..., 0].numel() * math.prod(model.layers[1].kernel.shape)
        assert counter.get_total_flops() == pytest.approx(whole * expected)


def test_a_relu_between_layers_fetches_no_memory(keras: Any, in_doubles: None) -> None:
    """It overwrites what it is given, and the gradient that comes back; each only where nobody else has it."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from kerascnn.training.lowering.torch.graph import lower

    class Written(TorchDispatchMode):
        def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            counts[str(operation)] += 1
            return operation(*arguments, **(named or {}))

    counts: Counter[str] = Counter()
    with Written():
        lower(graph(in_a_chain))(torch.ones((2, 7, 8, 4), dtype=torch.float64), training=True).sum().backward()
    assert (counts["aten.relu_.default"], counts["aten.relu.default"]) == (2, 0)
    assert (counts["aten.threshold_backward.grad_input"], counts["aten.threshold_backward.default"]) == (2, 0)


def test_one_value_a_channel_has_no_variance(keras: Any, in_doubles: None) -> None:
    """Torch's own unbiased variance would be 0/0."""
    found, expected = compared(graph(keras.layers.BatchNormalization(), (1, 1, 4)), images=1)
    assert_equal(found, expected)
    assert all(np.isfinite(array).all() for array in found)


def test_freezing_after_lowering_is_seen(keras: Any, in_doubles: None) -> None:
    import torch

    from kerascnn.training.lowering.torch.graph import lower

    model = graph(lambda x: keras.layers.BatchNormalization(name="bn")(keras.layers.Conv2D(3, 1, name="conv")(x)))
    lowered = lower(model)
    model.get_layer("bn").trainable = model.get_layer("conv").trainable = False
    before = arrays_of(model.variables)
    x = torch.ones((2, 7, 8, 4), dtype=torch.float64)
    assert not lowered(x, training=True).requires_grad
    assert_equal(arrays_of(model.variables), before, 0.0)
    model.get_layer("conv").kernel.assign(np.zeros((1, 1, 4, 3)))
    assert_equal([lowered(x).numpy()], [model(x).numpy()])


def outside_the_set() -> dict[str, Callable[[Any], Any]]:
    from keras import layers, models, ops

    class Ours(layers.Conv2D):
        pass

    def nested(x: Any) -> Any:
        return models.Sequential([layers.Conv2D(2, 1)], name="inner")(x)

    return {
        "norm (GroupNormalization)": layers.GroupNormalization(2, name="norm"),
        "ours (Ours)": Ours(2, 1, name="ours"),
        "inner (Sequential)": nested,
        "the activation softmax": layers.Activation("softmax"),
        "bn (BatchNormalization): expected axis = -1, got 1": layers.BatchNormalization(axis=1, name="bn"),
        "bn (BatchNormalization): expected renorm = False": layers.BatchNormalization(renorm=True, name="bn"),
        "relu (ReLU): expected no max_value": layers.ReLU(6, name="relu"),
        "conv (Conv2D): expected images, channels last": layers.Conv2D(2, 1, data_format="channels_first", name="conv"),
        "pool (AveragePooling2D): expected padding": layers.AveragePooling2D(3, 2, "same", name="pool"),
        "(Add): expected tensors alone": lambda x: ops.add(x, 1.0),
        "reshape (Reshape)": layers.Reshape((-1, 4), name="reshape"),
    }


def test_a_network_with_anything_else_is_left_to_keras(keras: Any) -> None:
    from kerascnn.recipe import Train
    from kerascnn.training.optimizer import make_optimizer
    from kerascnn.training.steps import make_steps

    random = np.random.default_rng(0)
    for said, body in outside_the_set().items():
        inputs = keras.Input((8, 8, 4))
        model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(body(inputs))))
        optimizer = make_optimizer(Train(), model.trainable_variables)
        steps = make_steps(model, optimizer, Train())
        assert steps.execution == "keras", said
        assert said in steps.not_lowered
        # Keras itself has no gradient here for this one.
        if "channels last" not in said:
            loss, _, _ = steps.train(random.random((2, 8, 8, 4), np.float32), np.array([0, 2]))
            assert math.isfinite(float(loss))
        with pytest.raises(NotLoweredError):
            make_steps(model, optimizer, Train(), execution="lowered")


def test_kernels_gradients_and_moments_lie_alike(keras: Any) -> None:
    """A filter's inputs side by side, also under mixed precision; else torch copies at every step."""
    from kerascnn.training.optimizer import make_optimizer
    from kerascnn.training.steps import make_steps

    recipe = load_recipe("tiny", {"train.ema": 0.9, "train.precision": "mixed_bfloat16"}, catalog=OWN_CATALOG)
    model = kerascnn.build_model(recipe)
    optimizer = make_optimizer(recipe.train, model.trainable_variables)
    before = arrays_of(model.variables)
    steps = make_steps(model, optimizer, recipe.train)
    assert_equal(arrays_of(model.variables), before, 0.0)
    steps.train(np.zeros((2, 28, 28, 1), np.uint8), np.zeros(2, np.int64))
    kernel = model.get_layer("block2_conv1").kernel
    rows, columns, inputs, _ = kernel.shape
    expected = (columns * inputs, inputs, 1, rows * columns * inputs)
    alike = [variable for variable in optimizer.variables if variable.shape == kernel.shape]
    assert len(alike) == 3
    assert {tensor.stride() for tensor in (kernel.value, kernel.value.grad, *(v.value for v in alike))} == {expected}


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_keras_own(keras: Any, precision: str) -> None:
    """Each layer in the type that its policy says: the logits are equal up to that type's digits."""
    from kerascnn.training.lowering.torch.graph import lower

    recipe = load_recipe("stateful", {"train.precision": precision, "train.scaling": "unit"}, catalog=OWN_CATALOG)
    model = kerascnn.build_model(recipe)
    pixels = np.random.default_rng(0).integers(0, 256, (8, *recipe.input_shape), dtype=np.uint8)
    found, expected = lower(model).predict(pixels), model.predict_on_batch(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("place", ["pooling", "scaling"])
def test_a_layer_of_another_precision_than_those_around_it(
    keras: Any, recipe_of_builder: Callable[..., Recipe], place: str
) -> None:
    """Mean pooling in float32 of a convolution in bfloat16, and the other way round for a scale."""
    between = {
        "pooling": "layers.AveragePooling2D(2, dtype='float32')(layers.Conv2D(4, 1)(x))",
        "scaling": "layers.Conv2D(4, 1)(layers.Rescaling(0.5)(layers.Conv2D(4, 1, dtype='float32')(x)))",
    }
    recipe = recipe_of_builder(
        "between",
        "from keras import layers\n"
        "def build(x, *, classes, **style):\n"
        f"    return layers.Dense(classes)(layers.Flatten()({between[place]}))\n",
        {"input_shape": [8, 8, 1], "train.precision": "mixed_bfloat16"},
    )
    from kerascnn.training.lowering.torch.graph import lower

    model = kerascnn.build_model(recipe)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    expected = model(pixels)
    found = lower(model)(keras.ops.convert_to_tensor(pixels))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.detach().float(), expected.detach().float(), rtol=0.05, atol=0.02)


def test_logits_of_half_precision_are_predicted_as_floats(keras: Any, recipe_of_builder: Callable[..., Recipe]) -> None:
    """The zoo's logits are float32 in any case; somebody's own builder needn't think of it."""
    from kerascnn.training.lowering.torch.graph import lower

    source = (
        "from keras import layers\n"
        "def build(x, *, classes, **style):\n"
        "    return layers.Dense(classes)(layers.Flatten()(x))\n"
    )
    recipe = recipe_of_builder("halved", source, {"train.precision": "mixed_bfloat16", "train.scaling": "unit"})
    model = kerascnn.build_model(recipe)
    pixels = np.random.default_rng(0).integers(0, 256, (8, *recipe.input_shape), dtype=np.uint8)
    assert "bfloat16" in str(model(pixels).dtype)
    assert lower(model).predict(pixels).dtype == np.float32


def own(**changes: Any) -> Recipe:
    return load_recipe("tiny", {f"train.{key}": value for key, value in changes.items()}, catalog=OWN_CATALOG)


def state_of(run_dir: Path) -> Any:
    return read_checkpoint(list_checkpoints(run_dir / "checkpoints")[0])


def test_a_run_goes_on_as_it_began_and_says_when_it_does_not(keras: Any) -> None:
    """By itself a resume takes the run's own; told otherwise, it goes on and isn't exact."""
    from kerascnn.runs import control

    recipe = own(epochs=1, limit_train=150)
    for execution, other in (("lowered", "keras"), ("keras", "lowered")):
        ends = []
        for asked in ("auto", other):
            run_dir = Path(f"{execution}-{asked}")
            session.train(recipe, run_dir=run_dir, options=session.Options(execution=execution))
            run = open_run(run_dir)
            assert run.environment()["execution"] == execution
            control.ask(run, control.make_command("extend", 1.0))
            session.resume(run, options=session.Options(execution=asked))
            assert run.environment()["execution"] == (execution if asked == "auto" else other)
            said = [event["message"] for event in events_of(run_dir, "warning")]
            assert any("execution changed since the run began" in text for text in said) == (asked == other)
            ends.append(state_of(run_dir))
        assert ends[0].progress.step == ends[1].progress.step == 6
        assert differences(*ends)


def test_a_run_from_before_there_was_a_choice_goes_on_with_keras(keras: Any) -> None:
    run_dir = Path("old")
    session.train(own(epochs=1, limit_train=50), run_dir=run_dir, options=session.Options(execution="keras"))
    run = open_run(run_dir)
    old = {key: value for key, value in run.environment().items() if key != "execution"}
    write_json(run.environment_file, old)
    session.resume(run)
    assert run.environment()["execution"] == "keras"
    write_json(run.environment_file, old)
    session.resume(run, options=session.Options(execution="lowered"))
    assert any("execution changed" in event["message"] for event in events_of(run_dir, "warning"))


def test_a_run_says_why_it_is_not_lowered(keras: Any, recipe_of_builder: Callable[..., Recipe]) -> None:
    recipe = recipe_of_builder(
        "softly",
        "from keras import layers\n"
        "def build(x, *, classes, **style):\n"
        "    x = layers.GroupNormalization(1, name='soft')(layers.Flatten()(x))\n"
        "    return layers.Dense(classes)(x)\n",
        {"train.epochs": 1, "train.limit_train": 20, "train.limit_val": 10},
    )
    kerascnn.train(recipe, run_dir=Path("run"))
    assert "soft (GroupNormalization) isn't lowered" in " ".join(
        e["message"] for e in events_of(Path("run"), "warning")
    )
    with pytest.raises(NotLoweredError, match=r"soft \(GroupNormalization\)"):
        session.train(recipe, options=session.Options(execution="lowered"))


def test_the_option_is_checked_before_anything_is_written(
    kerascnn_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerascnn.training.backend.installed_backends", lambda: ["torch", "jax"])
    typo = kerascnn_command("train", "cnn2_fmnist", "--execution", "lowerd")
    assert typo.returncode == 2
    assert "expected auto, lowered, keras, got 'lowerd'; did you mean 'lowered'?" in typo.stderr
    with pytest.raises(UsageError, match="--execution lowered: expected torch or tensorflow, got jax"):
        session.check(own(), session.Options(backend="jax", execution="lowered"))
    assert not Path("runs").exists()
