"""The diagnosis of real networks on real images: what it finds, what it refuses, and that it leaves no trace."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import kerascnn
from kerascnn.cli import app
from kerascnn.diagnosis.subjects import Examiner, diagnose_recipe
from kerascnn.errors import UsageError
from kerascnn.runs import events as ev
from kerascnn.runs.directory import open_run
from kerascnn.training.session import Options
from tests.conftest import OWN_CATALOG
from tests.test_training import own

pytestmark = pytest.mark.backend

SAMPLE = Path(kerascnn.__file__).parent / "data" / "sample" / "fashion_mnist_mini.npz"


@pytest.fixture(scope="module")
def clothes() -> tuple[Any, Any]:
    """1,600 images of 14×14, from 0 to 1, in 10 classes."""
    with np.load(SAMPLE) as sample:
        images, labels = sample["x_train"][:1600, ::2, ::2, None], sample["y_train"][:1600]
    return (images / 255).astype(np.float32), labels.astype(np.int64)


def network(keras: Any, depth: int = 1, activation: str = "relu", **options: Any) -> Any:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = layers.Input((14, 14, 1))
    x = inputs
    for number in range(depth):
        x = layers.Conv2D(8, 3, padding="same", activation=activation, name=f"conv{number + 1}", **options)(x)
    x = layers.Dense(16, activation=activation, name="hidden", **options)(layers.Flatten()(layers.MaxPooling2D()(x)))
    return keras.Model(inputs, layers.Dense(10, name="logits")(x))


def test_a_healthy_network_is_left_in_peace(keras: Any, clothes: Any) -> None:
    found = kerascnn.diagnose(network(keras, kernel_initializer="he_normal"), *clothes)
    assert found.healthy
    assert found.findings == ()
    assert not found.undecided
    assert found.steps < 200
    assert found.losses[-1] < 2
    # The short run has answered already.
    assert found.one_batch is None
    assert [look.step for look in found.signals][:5] == [1, 2, 5, 10, 20]
    assert found.label_score is not None
    assert found.label_score > 10
    assert json.loads(json.dumps(found.to_dict()))["healthy"] is True


def test_sigmoids_in_depth_are_named_and_the_model_is_untouched(keras: Any, clothes: Any) -> None:
    model = network(keras, depth=8, activation="sigmoid")
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]
    found = kerascnn.diagnose(model, *clothes, steps=100)
    verdict = found.findings[0]
    assert not found.healthy
    assert (verdict.severity, verdict.rule, verdict.layer) == ("verdict", "vanishing gradient", "conv1")
    assert verdict.remedies[0].name == "relu_he"
    assert verdict.remedies[0].changes == {}
    after = [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    # What doesn't let the gradient through can't learn sixteen images by heart either.
    assert found.one_batch is not None
    assert (found.one_batch.verdict, found.one_batch.images, found.one_batch.steps) == ("stuck at chance", 16, 200)
    assert "nor can it learn 16 images by heart" in verdict.cause
    assert json.loads(json.dumps(found.to_dict()))["one_batch"]["accuracy"] < 0.5


def test_units_that_begin_alike_are_named(keras: Any, clothes: Any) -> None:
    found = kerascnn.diagnose(network(keras, kernel_initializer=keras.initializers.Constant(0.05)), *clothes, steps=100)
    assert found.findings[0].rule == "constant initialisation"


def test_units_are_alike_only_where_all_are(keras: Any, clothes: Any) -> None:
    from kerascnn.diagnosis.architecture import read_architecture
    from kerascnn.diagnosis.signals import kernel_layers

    alike = network(keras, kernel_initializer=keras.initializers.Constant(0.05))
    but_the_third, nan = np.full((3, 3, 1, 8), 0.05, np.float32), np.full((3, 3, 1, 8), np.nan, np.float32)
    but_the_third[2, 2, 0, 2] = 0.06
    for kernel, expected in ((None, True), (but_the_third, False), (nan, False)):
        if kernel is not None:
            alike.get_layer("conv1").kernel.assign(kernel)
        facts = read_architecture(alike, kernel_layers(alike), clothes[0][:8]).layers
        assert [layer.equal_units for layer in facts] == [expected, True, False]


def test_each_kind_of_layer_tells_its_initializer(keras: Any, clothes: Any) -> None:
    from kerascnn.diagnosis.architecture import read_architecture
    from kerascnn.diagnosis.signals import kernel_layers

    class Own(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(shape[-1], 10), initializer="ones")

        def call(self, inputs: Any) -> Any:
            return keras.ops.matmul(inputs, self.kernel)

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((14, 14, 1)),
            layers.DepthwiseConv2D(3, depth_multiplier=4, depthwise_initializer="he_normal"),
            layers.DepthwiseConv2D(3, depthwise_initializer="he_normal"),
            layers.SeparableConv2D(4, 3, depthwise_initializer="ones", pointwise_initializer="lecun_uniform"),
            layers.Conv2D(4, 3),
            layers.Flatten(),
            Own(),
        ]
    )
    found = read_architecture(model, kernel_layers(model), clothes[0][:8])
    assert [layer.initializer for layer in found.layers] == [
        "he_normal",
        "he_normal",
        "lecun_uniform",
        "glorot_uniform",
        "initial weights of its own",
    ]
    assert found.has("He initialisation")


def test_labels_of_other_images_are_found_out(keras: Any, clothes: Any) -> None:
    images, labels = clothes
    mixed_up = np.random.default_rng(0).permutation(labels)
    found = kerascnn.diagnose(network(keras, kernel_initializer="he_normal"), images, mixed_up, steps=100)
    assert found.findings[0].rule == "labels"
    # Any sixteen labels can be learnt by heart: the network is in order.
    assert found.one_batch is not None
    assert found.one_batch.memorised
    assert found.one_batch.steps < 200
    assert "knows 16 of the images by heart" in found.findings[0].cause
    assert found.findings[1].rule == "can overfit a batch"


def test_one_batch_is_memorised_without_what_works_against_it(keras: Any, clothes: Any) -> None:
    """Dropout and weight decay that no network could bear: they are why it doesn't learn, not what it can't."""
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((14, 14, 1)), layers.Flatten(), layers.Dropout(0.99), layers.Dense(32, "relu"), layers.Dense(10)]
    )
    optimizer = keras.optimizers.AdamW(3e-3, weight_decay=300.0)
    found = kerascnn.diagnose(model, *clothes, optimizer=optimizer, steps=100)
    assert not found.healthy
    assert found.one_batch is not None
    assert found.one_batch.memorised
    assert (model.layers[1].rate, optimizer.weight_decay) == (0.99, 300.0)


def test_steps_that_are_too_large_are_named(keras: Any, clothes: Any) -> None:
    found = kerascnn.diagnose(network(keras, depth=4), *clothes, optimizer=keras.optimizers.Adam(0.3), steps=100)
    assert found.findings[0].rule == "steps too large"


# As the events have them.
NO_NUMBERS = {"NaN", "Infinity", "-Infinity"}


class StopError(Exception):
    pass


def test_a_diagnosis_that_diverges_at_once_is_one_too(keras: Any, clothes: Any) -> None:
    images, labels = clothes
    found = kerascnn.diagnose(network(keras), images * 1e4, labels, optimizer=keras.optimizers.SGD(1e8), steps=20)
    assert found.findings[0].symptom == "diverges"
    assert found.findings[0].rule == "input scale"
    assert found.steps < 5
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["losses"][-1] in NO_NUMBERS
    assert next(one["value"] for one in told["findings"][0]["evidence"] if one["measure"] == "loss") == "NaN"
    texts = {one for look in told["signals"] for one in look["gradient_norm"] if isinstance(one, str)}
    assert texts <= NO_NUMBERS


def test_a_recipes_network_begins_with_its_warm_up(keras: Any) -> None:
    rates: list[float] = []

    def listener(event: ev.Event) -> None:
        if isinstance(event, ev.StepDone):
            rates.append(event.learning_rate)

    recipe = own("tiny", train__warm_up={"steps": 4, "factor": 0.2, "shape": "flat"})
    diagnose_recipe(recipe, Options(download=False), steps=6, listener=listener)
    assert rates == pytest.approx([2e-4] * 4 + [1e-3] * 2)


def stateful(keras: Any) -> Any:
    """A compiled model, trained for a step, with all kinds of state."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((14, 14, 1)),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.5, seed=1),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize("error", [None, StopError, KeyboardInterrupt])
def test_nothing_that_the_process_or_the_model_has_is_changed(keras: Any, clothes: Any, error: Any) -> None:
    images, labels = clothes
    model = stateful(keras)
    model.train_on_batch(images[:64], labels[:64])

    def state() -> list[Any]:
        variables = [*model.variables, *model.optimizer.variables]
        variables += [layer.seed_generator.state for layer in model.layers if hasattr(layer, "seed_generator")]
        return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]

    def listener(event: ev.Event) -> None:
        if error is not None and isinstance(event, ev.StepDone) and event.step == 3:
            raise error

    def generators() -> list[Any]:
        torch = sys.modules.get("torch")
        return [random.getstate(), torch.get_rng_state().tolist() if torch else None]

    before, drawn_from = state(), generators()
    if error is None:
        kerascnn.diagnose(model, images, labels, steps=4)
    else:
        with pytest.raises(error):
            kerascnn.diagnose(model, images, labels, steps=4, listener=listener)
    after = state()
    assert len(before) == len(after) > 10
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert generators() == drawn_from


def test_the_same_seed_finds_the_same(keras: Any, clothes: Any) -> None:
    model = stateful(keras)
    one, two = (kerascnn.diagnose(model, *clothes, steps=6, seed=3) for _ in range(2))
    assert one.losses == two.losses
    assert kerascnn.diagnose(model, *clothes, steps=6, seed=4).losses != one.losses


def test_it_begins_with_the_models_own_weights(keras: Any, clothes: Any) -> None:
    model = network(keras)
    # A logit of 20 for the first class costs nearly 20 nats on nine images of ten.
    model.get_layer("logits").bias.assign(np.array([20.0] + [0.0] * 9, dtype=np.float32))
    found = kerascnn.diagnose(model, *clothes, steps=2)
    assert found.losses[0] > 15
    assert [one.rule for one in found.findings] == ["loss at start"]


def test_a_softmax_at_the_end_is_the_same_network(keras: Any, clothes: Any) -> None:
    layers = keras.layers
    logits = network(keras)
    separate = keras.Model(logits.inputs, layers.Softmax()(logits.outputs[0]))
    inside = keras.Sequential([layers.Input((14, 14, 1)), logits, layers.Activation("softmax")])
    expected = kerascnn.diagnose(logits, *clothes, steps=3).losses
    # As mixed precision has it, and with a layer in the place of a function.
    cast = keras.Model(
        logits.inputs, layers.Reshape((10,))(layers.Activation("linear")(layers.Softmax()(logits.outputs[0])))
    )
    last = layers.Dense(10, activation=layers.Softmax(), name="logits")
    own_softmax = keras.Model(logits.inputs, last(logits.layers[-1].input))
    last.set_weights(logits.layers[-1].get_weights())
    for model in (separate, inside, cast, own_softmax):
        model.compile("adam", "sparse_categorical_crossentropy")
        found = kerascnn.diagnose(model, *clothes, steps=3)
        assert found.losses == pytest.approx(expected, rel=1e-4)
        assert found.signals[0].layers == ("conv1", "hidden", "logits")
        assert found.findings == ()


def test_blocks_whose_layers_have_the_same_names_are_looked_into(keras: Any, clothes: Any) -> None:
    layers = keras.layers

    def block(units: int) -> Any:
        return keras.Sequential([layers.Dense(units, name="dense"), layers.Activation("sigmoid", name="activation")])

    model = keras.Sequential([layers.Input((14, 14, 1)), layers.Flatten(), *(block(16) for _ in range(8))])
    model.add(layers.Dense(10, name="dense"))
    found = kerascnn.diagnose(model, *clothes)
    assert found.findings[0].rule == "vanishing gradient"
    assert len(found.signals[0].layers) == len(set(found.signals[0].layers)) == 9
    assert {layer.activation for layer in found.architecture.layers[:-1]} == {"sigmoid"}


def test_what_is_frozen_stays_so_and_its_features_are_no_pixels(keras: Any, clothes: Any) -> None:
    layers = keras.layers
    base = keras.Sequential([layers.Input((14, 14, 1)), layers.Conv2D(4, 3, name="base"), layers.Flatten()])
    base.layers[0].kernel.assign(base.layers[0].kernel * 1000)
    base.trainable = False
    model = keras.Sequential([layers.Input((14, 14, 1)), base, layers.Dense(10, name="head")])
    found = kerascnn.diagnose(model, *clothes, steps=3)
    assert found.signals[0].layers == ("head",)
    assert found.architecture.input_deviation > 5
    assert "input scale" not in [one.rule for one in found.findings]


def test_what_enters_a_shared_first_layer_is_pixels(keras: Any, clothes: Any) -> None:
    images, labels = clothes
    layers = keras.layers
    shared, inputs = layers.Dense(196, "relu", name="shared"), layers.Input((196,))
    model = keras.Model(inputs, layers.Dense(10)(shared(shared(shared(inputs)))))
    pixels = (images * 255).reshape(-1, 196)
    found = kerascnn.diagnose(model, pixels, labels, steps=3)
    assert not found.architecture.features
    assert found.architecture.input_mean == pytest.approx(pixels[:64].mean(), rel=0.3)
    assert ("input scale", "shared") in [(one.rule, one.layer) for one in found.findings]


def test_batch_norm_before_all_else_standardises_the_pixels(keras: Any, clothes: Any) -> None:
    images, labels = clothes
    layers = keras.layers
    model = keras.Sequential([layers.Input((14, 14, 1)), layers.BatchNormalization(), network(keras)])
    found = kerascnn.diagnose(model, (images * 255).astype(np.uint8), labels, steps=3)
    assert found.architecture.standardised
    assert found.findings == ()


def test_right_answers_with_a_large_loss_are_no_illness(keras: Any, clothes: Any) -> None:
    images, labels = clothes
    layers = keras.layers
    model = keras.Sequential([layers.Input((14, 14, 1)), layers.Flatten(), layers.Dense(10)])
    found = kerascnn.diagnose(model, (images * 255).astype(np.uint8), labels, optimizer=keras.optimizers.Adam(1e-3))
    loss, accuracy = found.at_the_end
    assert loss > 2 * found.chance.loss
    assert accuracy > 0.4
    assert found.healthy
    assert not found.undecided
    assert [(one.severity, one.rule) for one in found.findings] == [("warning", "input scale")]


def test_rare_and_missing_classes_are_no_illness(keras: Any, clothes: Any) -> None:
    images, labels = clothes
    layers = keras.layers
    # One of ten is rare, and a head may have classes that no image has.
    for classes, answers in ((2, labels == 6), (1000, labels)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([layers.Input((14, 14, 1)), layers.Flatten(), layers.Dense(classes)])
        found = kerascnn.diagnose(model, images, answers.astype(np.int64))
        assert found.findings == ()
        assert found.label_score is not None
        assert found.label_score > 3
    nobody = np.random.default_rng(0).permutation(labels == 6).astype(np.int64)
    score = kerascnn.diagnose(model, images, nobody, steps=32).label_score
    assert score is not None
    assert abs(score) < 3


def test_images_of_one_class_among_those_that_are_seen_are_refused(keras: Any, clothes: Any) -> None:
    images, labels = clothes
    single = np.zeros_like(labels)
    single[np.random.default_rng(1).integers(len(single))] = 1
    with pytest.raises(ValueError, match="of class 0: expected more steps"):
        kerascnn.diagnose(network(keras), images, single, steps=1, batch_size=1)


def test_a_regularizer_is_part_of_what_is_trained(keras: Any, clothes: Any) -> None:
    fast = keras.optimizers.Adam(0.01)
    strong = network(keras, kernel_regularizer=keras.regularizers.L2(100.0))
    found = kerascnn.diagnose(strong, *clothes, optimizer=fast, steps=100)
    # The penalty draws all weights to zero; the loss is that of the answers.
    assert found.losses[-1] == pytest.approx(found.chance.loss, rel=0.02)
    assert kerascnn.diagnose(network(keras), *clothes, optimizer=fast, steps=100).losses[-1] < 2


def test_one_batch_begins_with_the_first_weights_of_a_model_that_is_not_built(keras: Any, clothes: Any) -> None:
    from kerascnn.diagnosis import diagnose as module

    layers = keras.layers
    model = keras.Sequential([layers.Flatten(), layers.Dense(8, "sigmoid"), layers.Dense(10)])
    begun = []
    with pytest.MonkeyPatch.context() as patch:
        trained = module.memorise_a_few
        patch.setattr(
            module, "memorise_a_few", lambda net, *more: (begun.append(net.get_weights()), trained(net, *more))[1]
        )
        copied = module.trainable_copy

        def keep(*arguments: Any) -> Any:
            copy = copied(*arguments)
            begun.append(copy[0].get_weights())
            return copy

        patch.setattr(module, "trainable_copy", keep)
        kerascnn.diagnose(model, *clothes, steps=2, optimizer=keras.optimizers.SGD(1e-6))
    first, _, alone = begun
    assert all((one == two).all() for one, two in zip(first, alone, strict=True))
    assert not model.built


def test_a_schedule_of_ones_own_is_copied_and_a_warm_up_waited_for(keras: Any, clothes: Any) -> None:
    class Own(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        def __call__(self, step: Any) -> Any:
            return 1e-3

        def get_config(self) -> dict[str, Any]:
            return {}

    adam = keras.optimizers.Adam
    assert kerascnn.diagnose(network(keras), *clothes, optimizer=adam(Own()), steps=3).losses
    warming = keras.optimizers.schedules.CosineDecay(0.0, 10_000, warmup_target=1e-6, warmup_steps=2000)
    found = kerascnn.diagnose(network(keras), *clothes, optimizer=adam(warming))
    assert found.warm_up_steps == 2000
    assert found.undecided


def test_a_model_that_is_compiled_with_ones_own_is_diagnosed(keras: Any, clothes: Any) -> None:
    """Keras can't make them again, and the copy needs none of them but the optimizer."""

    class OwnAdam(keras.optimizers.Adam):  # type: ignore[misc]
        pass

    def own(y: Any, p: Any) -> Any:
        return keras.ops.mean(p)

    inside = network(keras)
    inside.compile("adam", "sparse_categorical_crossentropy", metrics=[own])
    model = keras.Sequential([keras.layers.Input((14, 14, 1)), inside])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = OwnAdam(1e-3)
    model.compile(optimizer, loss, metrics=[own])
    found = kerascnn.diagnose(model, *clothes, steps=3)
    assert (len(found.losses), found.findings) == (3, ())
    assert model.compiled
    assert inside.compiled
    assert model.optimizer is optimizer


def test_a_warm_up_is_waited_for_in_mixed_precision_too(keras: Any, clothes: Any) -> None:
    warming = keras.optimizers.schedules.CosineDecay(0.0, 10_000, warmup_target=1e-6, warmup_steps=2000)
    wrapped = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(warming))
    model = network(keras, dtype="mixed_float16")
    assert kerascnn.diagnose(model, *clothes, optimizer=wrapped, steps=2).warm_up_steps == 2000


def test_a_layer_that_is_used_inside_and_outside_a_model_is_refused_by_its_reason(keras: Any, clothes: Any) -> None:
    layers = keras.layers
    shared = layers.Conv2D(1, 3, padding="same", name="shared")
    inputs = layers.Input((14, 14, 1))
    inside = keras.Sequential([layers.Input((14, 14, 1)), shared])
    model = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(inside(shared(inputs)))))
    with pytest.raises(ValueError, match="shared: expected a layer that is used in the model or in one model inside"):
        kerascnn.diagnose(model, *clothes, steps=2)


def test_a_lambda_and_a_named_loss_are_what_keras_takes_too(keras: Any, clothes: Any) -> None:
    layers = keras.layers
    inside = keras.Sequential([layers.Lambda(lambda x: x / 2, name="half"), network(keras)])
    model = keras.Sequential([layers.Input((14, 14, 1)), inside])
    named = keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="ce")
    model.compile("adam", loss=[named])
    found = kerascnn.diagnose(model, *clothes, steps=3)
    assert found.signals[0].layers == ("conv1", "hidden", "logits")
    assert found.findings == ()


@pytest.mark.parametrize("policy", ["float16", "float64", "mixed_bfloat16"])
def test_networks_of_other_types_are_trained_as_they_are(keras: Any, clothes: Any, policy: str) -> None:
    found = kerascnn.diagnose(network(keras, dtype=policy), *clothes, steps=3)
    assert np.isfinite(found.losses).all()


def test_a_loss_that_takes_logits_for_probabilities_is_warned_of(keras: Any, clothes: Any) -> None:
    model = network(keras)
    model.compile("adam", "sparse_categorical_crossentropy")
    assert [one.rule for one in kerascnn.diagnose(model, *clothes, steps=3).findings] == ["loss and output"]
    fitting = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert kerascnn.diagnose(model, *clothes, steps=3, loss=fitting).findings == ()


def mean_of_two(keras: Any) -> Any:
    """An ensemble: there are softmaxes, and none at the end."""
    keras.utils.set_random_seed(0)
    layers = keras.layers

    def member() -> Any:
        return keras.Sequential([layers.Flatten(), layers.Dense(32, "relu"), layers.Dense(10, "softmax")])

    # Layers of different names: on torch, Keras's own training lets the gradients of some that share one add up.
    inputs = layers.Input((14, 14, 1))
    return keras.Model(inputs, layers.Average()([member()(inputs), member()(inputs)]))


def mean_of_places(keras: Any) -> Any:
    layers = keras.layers
    keras.utils.set_random_seed(0)
    convolution = layers.Conv2D(10, 3, activation="softmax")
    return keras.Sequential([layers.Input((14, 14, 1)), convolution, layers.GlobalAveragePooling2D()])


def softmax_of_ones_own(keras: Any) -> Any:
    def shares(x: Any) -> Any:
        return keras.ops.exp(x) / keras.ops.sum(keras.ops.exp(x), axis=1, keepdims=True)

    return keras.Sequential([network(keras), keras.layers.Lambda(shares)])


@pytest.mark.parametrize("make", [mean_of_two, mean_of_places, softmax_of_ones_own])
def test_probabilities_without_a_softmax_at_the_end_are_trained_as_keras_trains_them(
    keras: Any, clothes: Any, make: Any
) -> None:
    images, labels = (one[:32] for one in clothes)
    model = make(keras)
    model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    before = model.get_weights()
    found = kerascnn.diagnose(model, images, labels, steps=5, batch_size=32)
    assert "loss and output" not in [one.rule for one in found.findings]
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert found.losses == pytest.approx([float(model.train_on_batch(images, labels)) for _ in range(5)], rel=1e-3)
    from_logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = kerascnn.diagnose(model, images, labels, steps=1, loss=from_logits)
    (told,) = [one for one in found.findings if one.rule == "loss and output"]
    # Of a softmax there may be none.
    assert "softmax" not in " ".join([told.cause, *map(str, told.remedies)])


def test_an_ensemble_learns_one_batch_by_heart(keras: Any, clothes: Any) -> None:
    images, labels = clothes
    mixed_up = np.random.default_rng(0).permutation(labels)
    found = kerascnn.diagnose(mean_of_two(keras), images, mixed_up, steps=100)
    assert found.findings[0].rule == "labels"
    assert found.one_batch is not None
    # A second softmax, of values from 0 to 1, would come no lower than ln(1 + 9 / e) = 1.46.
    assert found.one_batch.loss < 0.5


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_rounded_probabilities_are_probabilities_too(keras: Any, clothes: Any, policy: str) -> None:
    logits = network(keras, dtype=policy)
    layers = keras.layers
    x = layers.Dense(2, activation="softmax", dtype=policy)(logits.layers[-1].input)
    model = keras.Model(logits.inputs, layers.Average(dtype=policy)([x, x]))
    model.compile("adam", "sparse_categorical_crossentropy")
    images, labels = clothes
    found = kerascnn.diagnose(model, images, labels % 2, steps=3)
    assert found.findings == ()
    assert np.isfinite(found.losses).all()


def test_a_saved_ensemble_is_the_same_one(keras: Any, clothes: Any, tmp_path: Path) -> None:
    model = mean_of_two(keras)
    model.compile("adam", "sparse_categorical_crossentropy")
    found = kerascnn.diagnose(model, *clothes, steps=3)
    model.save(tmp_path / "ensemble.keras")
    again = kerascnn.diagnose(keras.models.load_model(tmp_path / "ensemble.keras"), *clothes, steps=3)
    assert again.losses == pytest.approx(found.losses, rel=1e-5)
    assert again.findings == found.findings == ()


def test_what_is_no_model_is_refused_on_the_backend_that_is_chosen(backend: str) -> None:
    """It is the first in its process that imports Keras, which would take TensorFlow."""
    program = (
        "import os, kerascnn\n"
        "from kerascnn.training import backend\n"
        "del os.environ['KERAS_BACKEND']\n"
        f"backend.installed_backends = lambda: [{backend!r}]\n"
        "try:\n    kerascnn.diagnose(object(), [], [])\n"
        "except ValueError as error:\n    print(error)\n"
        "import keras\n"
        "print(keras.backend.backend())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    said, found = done.stdout.splitlines()
    assert said.startswith("expected a functional or sequential model")
    assert found == backend


def test_images_that_see_each_other_are_found(keras: Any, clothes: Any) -> None:
    inputs = keras.layers.Input((14, 14, 1))
    x = keras.layers.Flatten()(inputs)
    x = x - keras.ops.mean(x, axis=0, keepdims=True)
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Dense(8, activation="relu")(x)))
    assert "images mixed" in [one.rule for one in kerascnn.diagnose(model, *clothes, steps=3).findings]


def two_headed(keras: Any) -> Any:
    model = network(keras)
    return keras.Model(model.inputs, [model.outputs[0], model.outputs[0]])


def subclassed(keras: Any) -> Any:
    class Own(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x

    return Own()


def without_weights(keras: Any) -> Any:
    return keras.Sequential([keras.layers.Input((14, 14, 1)), keras.layers.Flatten()])


def frozen(keras: Any) -> Any:
    """As a whole, whatever its last layer says: Keras's `fit` would train nothing."""
    model = network(keras)
    model.trainable = False
    model.layers[-1].trainable = True
    return model


def only_normalised(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential([layers.Input((14, 14, 1)), layers.Flatten(), layers.BatchNormalization()])


def handing_over(keras: Any) -> Any:
    class Block(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, inner: Any, **options: Any) -> None:
            super().__init__(**options)
            self.inner = inner

        def call(self, x: Any) -> Any:
            return self.inner(x)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "inner": self.inner}

    layers = keras.layers
    block = Block(layers.Conv2D(4, 3))
    return keras.Sequential([layers.Input((14, 14, 1)), block, layers.Flatten(), layers.Dense(10)])


def one_logit(keras: Any) -> Any:
    return keras.Sequential([keras.layers.Input((14, 14, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (two_headed, "one output, got 2"),
        (subclassed, "a functional or sequential model, got Own"),
        (without_weights, "weights to train, got none"),
        (frozen, "weights to train, got none"),
        (only_normalised, "trainable convolutions or dense layers, got none"),
        (one_logit, "at least 2 classes"),
        (handing_over, "its copy has weights that are the model's own"),
    ],
)
def test_a_model_of_another_kind_is_refused(keras: Any, clothes: Any, make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kerascnn.diagnose(make(keras), *clothes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: (x[:, :7], y), r"expected images of shape \(14, 14, 1\), got \(7, 14, 1\)"),
        (lambda x, y: (x[:8], y[:8]), "at least 32 images, got 8"),
        (lambda x, y: (np.where(x > 0.99, np.nan, x), y), "finite numbers, got NaN"),
        (lambda x, y: (x.astype(str), y), "x: expected numbers"),
        (lambda x, y: ([x, x], y), "one array of images, got a list of 2"),
        (lambda x, y: (x, y[:-1]), "1600 classes, one an image, got shape"),
        (lambda x, y: (x, np.eye(10)[y]), r"y.argmax\(axis=1\)"),
        (lambda x, y: (x, y + 1), "classes from 0 to 9, got 1 to 10"),
        (lambda x, y: (x, y / 2), "expected integers, got float64"),
        (lambda x, y: (x, y * 0), "at least two classes, got 0 alone"),
    ],
)
def test_images_and_labels_that_cannot_be_meant_are_refused(keras: Any, clothes: Any, change: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kerascnn.diagnose(network(keras), *change(*clothes))


def test_another_loss_or_optimizer_is_refused(keras: Any, clothes: Any) -> None:
    with pytest.raises(ValueError, match=r"loss: expected sparse_categorical_crossentropy or .*, got 'mse'"):
        kerascnn.diagnose(network(keras), *clothes, loss="mse")
    with pytest.raises(ValueError, match="optimizer: expected one of Keras's or its name, got float"):
        kerascnn.diagnose(network(keras), *clothes, optimizer=0.1)


def test_a_training_that_diverges_says_why_before_its_end(keras: Any) -> None:
    recipe = own("tiny", train__scaling="none", train__optimizer={"name": "sgd", "learning_rate": 1000.0})
    run = open_run(kerascnn.train(recipe).run_dir)
    *_, found, end = run.events()
    assert isinstance(found, ev.Found)
    assert isinstance(end, ev.RunEnded)
    assert (found.severity, found.symptom, found.rule) == ("verdict", "diverges", "input scale")
    assert (end.state, end.step) == ("diverged", found.step)
    warning = next(ev.of_kind(run.events(), ev.Found))
    assert (warning.rule, warning.step) == ("input scale", 1)
    assert "scale the pixels to [0, 1] (solution 1): --set train.scaling=unit" in warning.remedies


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["diagnose", *map(str, arguments)])


def test_the_command_shows_the_cause_and_ends_with_1(keras: Any) -> None:
    shown = command("tiny", "--catalog", OWN_CATALOG, "--learning-rate", 1e-8, "--steps", 128, "--offline")
    assert shown.exit_code == 1, shown.output
    assert "it does not learn: steps too small" in shown.stdout
    # The batches are the recipe's.
    assert "of 128 steps of 50 images, loss 2." in shown.stdout.splitlines()[1]
    assert "chance, the best that blank images allow: 2.2" in shown.stdout
    assert "2. verdict: does not learn\n   cannot overfit a batch: " in shown.stdout
    assert "one batch: stuck at chance, " in shown.stdout
    assert "of 16 images right after 200 steps on them alone" in shown.stdout
    assert "ten times the learning rate (solution 6): --set train.optimizer.learning_rate=1e-07" in shown.stdout
    layer = next(line for line in shown.stdout.splitlines() if line.startswith("block1_conv1"))
    assert "████████████████" in layer


def test_the_steps_on_one_batch_are_watched(keras: Any) -> None:
    watched: list[tuple[int, float, float]] = []
    recipe = own("tiny", train__optimizer__learning_rate=1e-8)
    examiner = Examiner(recipe, Options(download=False), steps=100)
    found = examiner.diagnose(recipe, watch=lambda *figures: watched.append(figures))
    assert found.one_batch is not None
    assert [step for step, _, _ in watched] == list(range(1, 201))
    assert watched[-1][1:] == (found.one_batch.loss, found.one_batch.accuracy)


def test_more_images_than_fit_into_memory_are_refused_before_they_are_read(
    keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerascnn.diagnosis.subjects.free_memory", lambda: 2 * 500 * 28 * 28 - 1)
    with pytest.raises(UsageError, match=r"500 images of 28×28×1 take 0.0 GB, and .* fewer --steps"):
        Examiner(own("tiny"), Options(download=False), steps=20)
    assert Examiner(own("tiny", train__limit_train=400), Options(download=False), steps=20)


def test_the_command_reads_a_saved_model(keras: Any, recwarn: pytest.WarningsRecorder) -> None:
    layers = keras.layers
    model = keras.Sequential([layers.Input((32, 32, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(10)])
    # Compiled and never trained: Keras has no state of the optimizer to load, and would warn of that.
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.save("saved.keras")
    shown = command("--keras", "saved.keras", "--dataset", "fashion_mnist_mini", "--steps", 120, "--json")
    assert shown.exit_code == 0, shown.output
    assert f"saved.keras with {keras.backend.backend()} (" in shown.stderr
    assert "images of 28×28×1 meet a network for 32×32×1" in shown.stderr
    assert not [str(one.message) for one in recwarn if "optimizer" in str(one.message)]
    found = json.loads(shown.stdout)
    assert (found["model"], found["dataset"]) == ("saved.keras", "fashion_mnist_mini")
    assert found["healthy"] is True
    assert found["signals"][0]["layers"] == [model.layers[-1].name]


def test_a_loss_of_ones_own_doesnt_keep_a_file_from_being_read(keras: Any) -> None:
    layers = keras.layers

    def own_loss(truth: Any, answer: Any) -> Any:
        return keras.losses.sparse_categorical_crossentropy(truth, answer, from_logits=True)

    model = keras.Sequential([layers.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)])
    model.compile(keras.optimizers.SGD(1e-3), own_loss)
    model.save("own_loss.keras")
    shown = command("--keras", "own_loss.keras", "--dataset", "fashion_mnist_mini", "--steps", 120, "--unit", "--json")
    assert shown.exit_code == 0, shown.output
    assert "own_loss.keras: what it was compiled with can't be read" in shown.stderr
    assert json.loads(shown.stdout)["input"]["mean"] < 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected a MODEL"),
        (["plain9_relu", "--keras", "a.keras"], "expected a MODEL"),
        (["--keras", "a.keras"], "expected --dataset beside it"),
        (["--keras", "a.h5", "--dataset", "fashion_mnist_mini"], "expected a file NAME.keras, got a.h5"),
        (["--keras", "a.keras", "--dataset", "fashion_mnist_mini"], "expected a file at a.keras, and there is none"),
        (["--keras", "broken.keras", "--dataset", "fashion_mnist_mini"], "expected a model of Keras's own layers"),
    ],
)
def test_the_command_refuses_what_cannot_be_meant(keras: Any, arguments: list[str], said: str) -> None:
    Path("broken.keras").write_bytes(b"no zip")
    shown = command(*arguments)
    assert isinstance(shown.exception, UsageError)
    assert said in str(shown.exception)
