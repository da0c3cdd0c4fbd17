"""The bench: blocks of steps that take turns, what their figures say, and the networks that it holds ours against."""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from kerascnn.bench.figures import median_interval, quartiles
from kerascnn.bench.turns import Finished, Turns
from kerascnn.bench.twins import BENCHED, CHANNELS_FIRST, CHANNELS_LAST, TF_FUNCTION, TF_FUNCTION_XLA
from kerascnn.catalog import list_models, load_recipe
from kerascnn.cli import app
from kerascnn.cli.bench import check_by_hand, make_variants
from kerascnn.errors import UsageError
from kerascnn.recipe import Recipe
from kerascnn.training import backend as backends
from kerascnn.training.allocator import set_allocator
from tests.conftest import OWN_CATALOG, Command
from tests.test_lowering import narrow


def test_an_interval_of_the_median_is_between_two_of_the_values() -> None:
    """For 6, 9 and 15 values the table for the sign test leaves out none, one and three at either end."""
    for count, skipped in ((3, 0), (6, 0), (9, 1), (15, 3)):
        found = median_interval([float(value) for value in range(count)])
        assert (found.low, found.median, found.high) == (skipped, (count - 1) / 2, count - 1 - skipped)


def test_an_interval_holds_the_true_median_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = [
        (found := median_interval(random.exponential(size=15).tolist())).low < math.log(2) < found.high
        for _ in range(2000)
    ]
    assert 0.95 <= np.mean(held) < 0.98


def test_quartiles() -> None:
    found = quartiles([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (found.low, found.median, found.high) == (2, 3, 4)
    assert quartiles([7.0]) == quartiles([7.0, 7.0])


def test_between_blocks_a_process_waits_and_its_clock_stands_still() -> None:
    told = io.StringIO()
    turns = Turns(io.StringIO("2\n3\n\n"), told)
    synchronised: list[int] = []
    turns.begin(synchronise=lambda: synchronised.append(1))
    for step in range(5):
        turns.between_steps(step)
    with pytest.raises(Finished):
        turns.between_steps(5)
    answers = [json.loads(line) for line in told.getvalue().splitlines()]
    assert [answer.keys() for answer in answers] == [{"seconds"}] * 2
    assert synchronised == [1, 1]


@pytest.mark.backend
def test_a_network_is_measured_and_its_variants_take_turns(kerascnn_command: Command, backend: str) -> None:
    arguments = ["bench", "tiny", "--catalog", OWN_CATALOG, "--seconds", 0.2, "--batch-size", 16, "--json"]
    arguments += ["--against", "allocator"] if backend == "torch" else []
    done = kerascnn_command(*arguments)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["machine"]["cores"]
    (found,) = content["models"]
    assert (found["model"], found["batch_size"]) == ("tiny", 16)
    names = [variant["variant"] for variant in found["variants"]]
    assert names == (["torch, default allocator", "torch"] if backend == "torch" else [backend])
    blocks = found["blocks"]
    assert all(one["began"] + one["seconds"] <= other["began"] for one, other in itertools.pairwise(blocks))
    assert [block["variant"] for block in blocks] == turns_there_and_back(names, len(blocks))
    for variant in found["variants"]:
        rate = variant["images_per_s"]
        assert 0 < rate["low"] <= rate["median"] <= rate["high"]
        assert variant["to_first_step_s"] > variant["importing_s"] + variant["building_s"] + variant["first_step_s"]
        assert variant["peak_memory_bytes"] > 50_000_000
        assert found["product_flops"] >= variant["product_flops"] > 1e8
        assert variant["versions"].keys() >= {"keras", backend}
        assert variant["allocator"] == (set_allocator(backend) if variant["variant"] == backend else "default")
        for ratio in variant["ratios"].values():
            assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    assert [list(variant["ratios"]) for variant in found["variants"]] == [[], names[:1]][: len(names)]


def turns_there_and_back(names: Sequence[str], blocks: int) -> list[str]:
    rounds = itertools.cycle([names, names[::-1]])
    return list(itertools.islice(itertools.chain.from_iterable(rounds), blocks))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--against", "pytorch"], "expected plain or allocator, got 'pytorch'"),
        (["cnn2_cifra"], "did you mean 'cnn2_cifar'"),
        (["cnn2_cifar", "--precision", "bfloat16"], "mixed_bfloat16"),
        (["--backend", "pytorch"], "did you mean 'torch'"),
    ],
)
def test_what_the_bench_cannot_mean(arguments: list[str], said: str, kerascnn_command: Command) -> None:
    done = kerascnn_command("bench", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_each_backend_is_held_against_what_there_is_to_hold_it_against(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "installed_backends", lambda: ["torch", "tensorflow"])
    found = {each.name: each.against for each in make_variants(["tensorflow", "torch"], ["plain", "allocator"])}
    plain = (CHANNELS_FIRST, CHANNELS_LAST)
    assert found == {
        TF_FUNCTION: (),
        TF_FUNCTION_XLA: (TF_FUNCTION,),
        CHANNELS_FIRST: (),
        CHANNELS_LAST: (CHANNELS_FIRST,),
        "tensorflow": (TF_FUNCTION, TF_FUNCTION_XLA),
        "torch, default allocator": plain,
        "torch": (*plain, "torch, default allocator"),
    }
    assert [each.name for each in make_variants(["torch"], ["plain"])] == [*plain, "torch"]
    assert [each.name for each in make_variants(["tensorflow"], [])] == ["tensorflow"]
    with pytest.raises(UsageError, match="expected torch, whose setting it is, got tensorflow"):
        make_variants(["tensorflow"], ["allocator"])


def test_a_variant_that_fails_is_named_with_its_last_words(kerascnn_command: Command) -> None:
    done = kerascnn_command("bench", "tiny", "--catalog", OWN_CATALOG, "--device", "gpu", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1
    assert "expected a GPU (--device gpu)" in done.stderr


def test_what_is_written_in_tensorflow_is_held_against_in_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "installed_backends", lambda: ["tensorflow"])
    asked = ["bench", "cnn2_cifar", "--backend", "tensorflow", "--against", "plain", "--precision", "mixed_float16"]
    shown = CliRunner().invoke(app, asked)
    assert isinstance(shown.exception, UsageError)
    assert "expected float32" in str(shown.exception)


def test_another_network_of_the_same_name_is_not_held_against_the_zoos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "installed_backends", lambda: ["tensorflow"])
    catalog = tmp_path / "own.toml"
    changed = load_recipe("plain12_bn", {"filters": [8, 16]})
    catalog.write_text(changed.to_toml())
    asked = ["bench", "plain12_bn", "--catalog", str(catalog), "--backend", "tensorflow", "--against", "plain"]
    shown = CliRunner().invoke(app, asked)
    assert isinstance(shown.exception, UsageError)
    assert "the catalog's is another network" in str(shown.exception)


@pytest.mark.parametrize(("library", "name"), [("torch", "mine"), ("tensorflow", "resnet110_cifar")])
def test_what_is_not_written_by_hand_is_refused(
    library: str, name: str, recipe_of_builder: Callable[..., Recipe]
) -> None:
    recipe = load_recipe(name) if name == "resnet110_cifar" else recipe_of_builder("mine", "def build(x): return x\n")
    with pytest.raises(UsageError, match=f"written by hand in .* too.*got '.*{name}"):
        check_by_hand(library, recipe)


@pytest.mark.backend
@pytest.mark.parametrize("name", list_models())
def test_a_twin_has_as_many_weights_as_its_network(name: str, keras: Any, backend: str) -> None:
    if backend != "torch":
        pytest.skip("PyTorch's twins")
    import torch

    from kerascnn.bench.torch_networks import make_twin

    recipe = load_recipe(name)
    with torch.device("meta"):
        twin = make_twin(recipe)
    assert sum(weight.numel() for weight in twin.parameters()) == recipe.card.trainable_weights


# What no network of the zoo has.
UNUSUAL: list[tuple[str, dict[str, Any]]] = [
    ("plain12_residual", {"batch_norm": "before", "activation": "leaky_relu", "input_shape": [38, 38, 1]}),
    ("plain12_longskip", {"batch_norm": "after", "conv_bias": False, "input_shape": [38, 38, 3]}),
    ("plain12_fullskip", {"activation": "gelu", "input_shape": [16, 32, 3]}),
    ("vgg16_cifar", {"activation": "elu", "batch_norm": "after", "dropout": 0.3}),
    ("resnet20_cifar", {"batch_norm": "none", "activation": "tanh", "shortcut": "projection"}),
    ("wrn28_10_cifar", {"batch_norm": "after", "activation": "silu", "dropout": 0.3}),
    ("densenet_bc100_k12_cifar", {"batch_norm": "after", "conv_bias": True, "dropout": 0.2, "classes": 7}),
    ("resnet20_cifar", {"batch_norm_momentum": 0.5, "batch_norm_epsilon": 0.1, "input_shape": [33, 33, 3]}),
]


@pytest.mark.backend
@pytest.mark.parametrize(("name", "changes"), [*((name, {}) for name in list_models()), *UNUSUAL], ids=str)
def test_a_twin_is_the_same_network(
    name: str, changes: dict[str, Any], keras: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same weights the same logits; narrow, with two of each block."""
    if backend != "torch":
        pytest.skip("PyTorch's twins")
    import torch

    from kerascnn.bench.torch_networks import make_twin
    from kerascnn.zoo import build_model

    recipe = narrow(name, {"initializer": "he_normal", **changes, "train.scaling": "unit"})
    called: list[Any] = []
    call = keras.layers.Layer.__call__

    def noted(layer: Any, *arguments: Any, **more: Any) -> Any:
        called.append(layer)
        return call(layer, *arguments, **more)

    # A model lists its layers by depth, not as they were made.
    monkeypatch.setattr(keras.layers.Layer, "__call__", noted)
    model = build_model(recipe)
    monkeypatch.undo()
    layers = [layer for layer in called if layer is not model]
    twin = make_twin(recipe).eval()
    copy_weights(layers, twin)
    assert [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)] == [
        module.p for module in twin.modules() if isinstance(module, torch.nn.Dropout)
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (2, *recipe.input_shape), np.uint8)
    with torch.no_grad():
        expected = model(torch.from_numpy(pixels), training=False).numpy()
        found = twin(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).numpy()
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.backend
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_twin_computes_in_the_precision_that_is_asked_for(precision: str, keras: Any, backend: str) -> None:
    if backend != "torch":
        pytest.skip("PyTorch's twins")
    import torch

    from kerascnn.bench import plain_torch

    seen = []

    class Watched(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = torch.nn.Linear(12, 10)

        def forward(self, x: Any) -> Any:
            logits = self.dense(x.flatten(1))
            seen.append((logits.dtype, self.dense.weight.dtype, self.dense.weight.sum().item()))
            return logits

    pixels = np.random.default_rng(0).integers(0, 256, (8, 2, 2, 3), np.uint8)
    train = load_recipe("cnn2_cifar", {"train.precision": precision, "train.batch_size": 4}).train
    turns = Turns(io.StringIO("2\n\n"), io.StringIO())
    with pytest.raises(Finished):
        plain_torch.train_plain(Watched(), train, pixels, np.arange(8), turns, channels_last=True, device="cpu")
    computed = {"mixed_bfloat16": torch.bfloat16, "mixed_float16": torch.float16}.get(precision, torch.float32)
    assert [one[:2] for one in seen] == [(computed, torch.float32)] * 2
    assert seen[0][2] != seen[1][2]


@pytest.mark.backend
@pytest.mark.parametrize("name", BENCHED)
def test_a_twin_in_tensorflow_is_the_same_network(name: str, keras: Any, backend: str) -> None:
    """Same number of weights, and with the same weights the same logits in training."""
    if backend != "tensorflow":
        pytest.skip("TensorFlow's twins")
    import tensorflow as tf

    from kerascnn.bench.plain_tensorflow import TWINS, Weights
    from kerascnn.zoo import build_model

    # The first weights of the twin are TensorFlow's draw, and our processes draw none without a seed.
    tf.random.set_seed(0)
    recipe = load_recipe(name, {"train.scaling": "unit"})
    model, weights = build_model(recipe), Weights()
    twin = TWINS[name](weights)
    assert sum(np.prod(weight.shape) for weight in weights.trainable) == recipe.card.trainable_weights
    for ours, theirs in (
        (model.trainable_variables, weights.trainable),
        (model.non_trainable_variables, weights.moving),
    ):
        assert [tuple(one.shape) for one in ours] == [tuple(one.shape) for one in theirs]
        for one, other in zip(ours, theirs, strict=True):
            other.assign(one.value)
    pixels = np.random.default_rng(0).integers(0, 256, (8, *recipe.input_shape), np.uint8)
    expected = np.array(model(pixels, training=True))
    found = twin(tf.cast(pixels, tf.float32) / 255).numpy()
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.backend
@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "adam", "learning_rate": 0.01},
        {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9},
        {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True},
    ],
    ids=str,
)
def test_what_is_written_in_tensorflow_updates_as_keras_does(
    optimizer: dict[str, Any], keras: Any, backend: str
) -> None:
    if backend != "tensorflow":
        pytest.skip("TensorFlow's twins")
    import tensorflow as tf

    from kerascnn.bench.plain_tensorflow import Weights, make_update
    from kerascnn.training.optimizer import make_optimizer

    train = load_recipe("resnet20_cifar", {"train.optimizer": optimizer, "train.weight_decay": 0.0}).train
    weights, ours = Weights(), keras.Variable([0.1, -0.2, 0.3])
    weights.trainable.append(tf.Variable([0.1, -0.2, 0.3]))
    update, by_keras = make_update(weights, train), make_optimizer(train, [ours])
    by_keras.learning_rate = optimizer["learning_rate"]
    for gradient in ([1.0, 0.5, -2.0], [0.3, -0.1, 0.2], [1.0, 1.0, 1.0]):
        update([tf.constant(gradient)])
        by_keras.apply([tf.constant(gradient)], [ours])
    np.testing.assert_allclose(weights.trainable[0].numpy(), np.array(ours.value), rtol=1e-4)


def copy_weights(layers: Sequence[Any], twin: Any) -> None:
    """Give both the same weights; what begins as zeros or ones is drawn."""
    import torch

    random = np.random.default_rng(1)
    ours = [layer for layer in layers if layer.weights]
    theirs = [module for module in twin.modules() if list(module.parameters(recurse=False))]
    for layer, module in zip(ours, theirs, strict=True):
        if isinstance(module, torch.nn.BatchNorm2d):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
        elif len(layer.get_weights()) == 2:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, random.uniform(-0.1, 0.1, bias.shape)])
        values = [torch.from_numpy(value) for value in layer.get_weights()]
        with torch.no_grad():
            if isinstance(module, torch.nn.BatchNorm2d):
                places = [module.weight, module.bias, module.running_mean, module.running_var]
            else:
                places = [place for place in (module.weight, module.bias) if place is not None]
                values[0] = torch.from_numpy(as_pytorch(layer, values[0].numpy()))
            for place, value in zip(places, values, strict=True):
                place.copy_(value)


def as_pytorch(layer: Any, kernel: np.ndarray) -> np.ndarray:
    """A kernel in PyTorch's order; after Flatten ours runs over channels last, PyTorch's over them first."""
    if kernel.ndim == 4:
        return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    flattened = getattr(layer.input._keras_history.operation, "input", layer.input)
    if len(flattened.shape) == 4 and type(layer.input._keras_history.operation).__name__ == "Flatten":
        _, rows, columns, channels = flattened.shape
        kernel = kernel.reshape(rows, columns, channels, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    return np.ascontiguousarray(kernel.T)
