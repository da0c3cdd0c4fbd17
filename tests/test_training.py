"""Training: the order of batches, the step, the loop's files and events, and coming back after a kill."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import kerascnn
from kerascnn.catalog import load_recipe
from kerascnn.cli import app
from kerascnn.data.batches import TrainingBatches, ValidationBatches, read_ahead, vary
from kerascnn.data.images import ArrayImages
from kerascnn.data.known import DATASETS
from kerascnn.errors import BackendError, CheckpointError, DatasetError, RunError, UnknownNameError
from kerascnn.recipe import Augment, Recipe, Train
from kerascnn.runs import control
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run, Writer, create_run, list_runs, open_run
from kerascnn.runs.files import write_text
from kerascnn.training.allocator import set_allocator
from kerascnn.training.backend import BACKENDS, choose_backend, device_name, installed_backends, tf32, thread_count
from kerascnn.training.checkpoint import (
    Checkpoint,
    Progress,
    checkpoint_name,
    differences,
    keep_newest,
    list_checkpoints,
    newest_whole,
    read_checkpoint,
    weights_of,
    write_checkpoint,
)
from kerascnn.training.schedule import LearningRate, long_warm_up
from kerascnn.training.session import Options, new_run, replay
from kerascnn.training.signals import Interruption
from kerascnn.training.verify import verify
from tests.conftest import GIVE_UP_S, OWN_CATALOG, Command, effective_steps, events_of, write_image_folder
from tests.live import events_of_live, final_state, train_arguments, wait_for
from tests.test_data import write_mnist

# ── Batches ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def numbered_images(count: int) -> ArrayImages:
    return ArrayImages(np.zeros((count, 2, 2, 1), np.uint8), np.arange(count))


def epoch_labels(batches: TrainingBatches, epoch: int) -> list[int]:
    return [label for n in range(batches.per_epoch) for label in batches.make(epoch, n)[1].tolist()]


def test_every_epoch_is_another_permutation_of_all_images() -> None:
    batches = TrainingBatches(numbered_images(103), 10, 3, Augment())
    epochs = [epoch_labels(batches, epoch) for epoch in range(3)]
    assert batches.per_epoch == 11
    assert all(sorted(labels) == list(range(103)) for labels in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[1] == epoch_labels(TrainingBatches(numbered_images(103), 10, 3, Augment()), 1)
    assert epochs[1] != epoch_labels(TrainingBatches(numbered_images(103), 10, 4, Augment()), 1)


def test_batches_are_the_same_on_every_machine() -> None:
    labels = TrainingBatches(numbered_images(1000), 5, 42, Augment()).make(2, 7)[1]
    assert labels.tolist() == BATCH_2_7


BATCH_2_7 = [33, 561, 466, 173, 813]


def test_validation_keeps_its_order_and_its_rest() -> None:
    batches = ValidationBatches(numbered_images(25), 10)
    assert [batches.make(n)[1].tolist() for n in range(batches.count)] == [
        list(range(10)),
        list(range(10, 20)),
        list(range(20, 25)),
    ]


def test_reading_ahead_keeps_the_order_and_passes_errors_on() -> None:
    assert list(read_ahead(lambda n: n * n, range(20))) == [n * n for n in range(20)]

    def fail_at_three(n: int) -> int:
        if n == 3:
            raise RuntimeError("three")
        return n

    reading = read_ahead(fail_at_three, range(10))
    assert [next(reading) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="three"):
        next(reading)


@pytest.mark.backend
def test_the_next_epoch_is_read_while_this_one_is_validated(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    waited: list[bool] = []
    make = TrainingBatches.make

    def make_and_tell(self: TrainingBatches, epoch: int, number: int) -> Any:
        if (epoch, number) == (1, 0):
            begun.set()
        return make(self, epoch, number)

    def wait_for_it(event: ev.Event) -> None:
        if isinstance(event, ev.Phase) and event.phase == "validating":
            waited.append(begun.wait(GIVE_UP_S))

    monkeypatch.setattr(TrainingBatches, "make", make_and_tell)
    recipe = own("tiny", train__epochs=2, train__limit_train=100, train__limit_val=10)
    result = kerascnn.train(recipe, run_dir=tmp_path / "run", listeners=[wait_for_it])
    assert result.state == "finished"
    assert waited == [True, True]


def test_each_image_is_cropped_and_flipped_by_a_draw_of_its_own() -> None:
    image = np.arange(1, 1 + 8 * 8, dtype=np.uint8).reshape(1, 8, 8, 1)
    pixels = np.repeat(image, 200, axis=0)
    varied = vary(pixels, Augment(pad_crop=2, flip=True), np.random.default_rng(0))
    assert varied.shape == pixels.shape
    padded = np.pad(image[0], ((2, 2), (2, 2), (0, 0)))
    windows = {}
    for top in range(5):
        for left in range(5):
            window = padded[top : top + 8, left : left + 8]
            windows[window.tobytes()] = (top, left, False)
            windows[window[:, ::-1].tobytes()] = (top, left, True)
    drawn = [windows[one.tobytes()] for one in varied]
    # All 5 × 5 places and both directions come up in 200 images, and none is much preferred.
    assert len({place[:2] for place in drawn}) == 25
    assert 60 < sum(place[2] for place in drawn) < 140


def test_augmentation_depends_on_seed_epoch_and_number_alone() -> None:
    images = ArrayImages(np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), np.arange(40))
    batches = TrainingBatches(images, 10, 1, Augment(pad_crop=2, flip=True))
    again = TrainingBatches(images, 10, 1, Augment(pad_crop=2, flip=True))
    batches.make(0, 0)
    assert np.array_equal(batches.make(1, 2)[0], again.make(1, 2)[0])
    assert not np.array_equal(batches.make(0, 2)[0], batches.make(1, 2)[0])


# ── Learning rates ────────────────────────────────────────────────────────────────────────────────────────────────────


def rates(steps: int, **train: Any) -> list[float]:
    schedule = LearningRate(Train(optimizer={"learning_rate": 1.0}, **train), steps)
    return [schedule.at(step) for step in range(steps)]


def test_schedules_are_what_their_papers_draw() -> None:
    assert rates(4) == [1.0] * 4
    stepped = rates(8, schedule={"name": "step", "at": [0.5, 0.75], "factor": 0.1})
    assert stepped == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = rates(100, schedule={"name": "cosine", "final": 0.1})
    assert cosine[0] == 1
    assert cosine[50] == pytest.approx(0.55)
    assert cosine == sorted(cosine, reverse=True)
    assert rates(4, warm_up={"steps": 2, "factor": 0.1, "shape": "flat"}) == pytest.approx([0.1, 0.1, 1, 1])
    assert rates(4, warm_up={"steps": 2, "factor": 0.5}) == pytest.approx([0.5, 0.75, 1, 1])


def test_a_warm_up_that_takes_half_of_a_run_is_told_with_one_that_does_not() -> None:
    train = load_recipe("vgg16_bn_cifar", {"train.epochs": 5}).train
    assert long_warm_up(train, 1955) == (
        "warm-up takes 1,955 steps and the run has 1,955, so the learning rate never reaches its full 0.1; "
        "try --set train.warm_up.steps=195"
    )
    assert long_warm_up(train, 3910) == (
        "warm-up takes 1,955 steps and the run has 3,910; try --set train.warm_up.steps=391"
    )
    assert long_warm_up(train, 3911) is None
    assert long_warm_up(load_recipe("plain9_relu").train, 1) is None


@pytest.mark.backend
def test_a_run_says_at_its_start_that_its_warm_up_is_long(keras: Any) -> None:
    def said(run_dir: Path) -> list[str]:
        return [event["message"] for event in events_of(run_dir, "warning") if "warm-up" in event["message"]]

    short = kerascnn.train(own("tiny", train__warm_up={"steps": 4})).run_dir
    long = kerascnn.train(own("tiny", train__warm_up={"steps": 5})).run_dir
    assert said(short) == []
    assert len(said(long)) == 1
    control.ask(open_run(long), control.make_command("extend", 1))
    assert kerascnn.resume(open_run(long)).figures["epochs"] == 2
    assert len(said(long)) == 1


def test_beyond_the_end_the_last_rate_holds() -> None:
    schedule = LearningRate(load_recipe("resnet20_cifar").train, 100)
    assert schedule.at(1000) == schedule.at(99) == pytest.approx(0.001)


# ── What a run depends on ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.backend
def test_a_run_on_a_gpu_records_whether_products_are_rounded(
    keras: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded() -> Any:
        return open_run(kerascnn.train(own("tiny", train__limit_train=50)).run_dir).environment()["tf32"]

    assert recorded() is None
    monkeypatch.setattr("kerascnn.training.backend.device_name", lambda _: "NVIDIA H200")
    if backend == "torch":
        import torch

        assert recorded() == {"convolutions": True, "matrix_products": False}
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = False
        try:
            assert tf32(backend, "NVIDIA H200") == {"convolutions": False, "matrix_products": True}
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = True
    elif backend == "tensorflow":
        import tensorflow as tf

        assert recorded() == {"convolutions": True, "matrix_products": True}
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            assert tf32(backend, "/physical_device:GPU:0") == {"convolutions": False, "matrix_products": False}
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(True)
    else:
        assert recorded() is None


# ── Checkpoints ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_weights_of_a_checkpoint_are_their_averages_once_there_are_any() -> None:
    identity = {
        "variables": [
            ["a/kernel", [2]],
            ["b/mean", [2]],
            ["optimizer/iteration", []],
            ["optimizer/a_kernel_average", [2]],
        ]
    }
    arrays = {"model/00000": np.ones(2), "model/00001": np.full(2, 5.0)}

    def weights(steps: int, average: float) -> dict[str, list[float]]:
        kept = {"optimizer/00000": np.array(steps), "optimizer/00001": np.full(2, average)}
        found = weights_of(Checkpoint(arrays | kept, Progress(), identity))
        return {path: array.tolist() for path, array in found.items()}

    assert weights(0, 0.0) == {"a/kernel": [1, 1], "b/mean": [5, 5]}
    assert weights(3, 0.5) == {"a/kernel": [0.5, 0.5], "b/mean": [5, 5]}


def a_checkpoint(step: int = 3) -> Checkpoint:
    arrays = {
        "model/00000": np.random.default_rng(step).standard_normal((3, 4)).astype(np.float32),
        "optimizer/00000": np.array(7, np.int64),
        "torch/cpu": np.arange(10, dtype=np.uint8),
        "empty": np.zeros((0, 2), np.float32),
        "halves": np.ones(3, np.float16),
        "flags": np.array([True, False, True]),
    }
    return Checkpoint(arrays, Progress(step=step, epochs=2, loss_sum=0.1, best=0.3), {"backend": "torch"})


def test_a_checkpoint_reads_back_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / checkpoint_name(3)
    written = a_checkpoint()
    assert write_checkpoint(path, written) == path.stat().st_size
    read = read_checkpoint(path)
    assert read.progress == written.progress
    assert read.identity == written.identity
    for name, array in written.arrays.items():
        assert read.arrays[name].dtype == array.dtype
        assert read.arrays[name].shape == array.shape
        assert read.arrays[name].tobytes() == array.tobytes()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_any_flipped_bit_and_any_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / checkpoint_name(3)
    write_checkpoint(path, a_checkpoint())
    whole = path.read_bytes()
    damaged = [whole[:cut] for cut in range(0, len(whole), 37)]
    for at in range(0, len(whole), 11):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=path.name):
            read_checkpoint(path)


def test_the_newest_whole_checkpoint_is_found_and_the_damaged_one_named(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write_checkpoint(tmp_path / checkpoint_name(step), a_checkpoint(step))
    (tmp_path / checkpoint_name(3)).write_bytes(b"")
    path, checkpoint, said = newest_whole(tmp_path)
    assert (path.name, checkpoint.progress.step) == (checkpoint_name(2), 2)
    assert checkpoint_name(3) in said[0]
    for step in (1, 2):
        (tmp_path / checkpoint_name(step)).write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match="expected a whole checkpoint"):
        newest_whole(tmp_path)


def test_the_two_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        write_checkpoint(tmp_path / checkpoint_name(step), a_checkpoint(step))
    keep_newest(tmp_path, best=checkpoint_name(2))
    assert [path.name for path in list_checkpoints(tmp_path)] == [checkpoint_name(n) for n in (5, 4, 2)]


# ── Backends ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_backend_is_chosen_by_flag_then_variable_then_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = installed_backends()
    last = installed[-1]
    assert choose_backend(last).reason == "--backend"
    monkeypatch.setenv("KERAS_BACKEND", last)
    assert (choose_backend().name, choose_backend().reason) == (last, "KERAS_BACKEND")
    assert choose_backend(installed[0]).name == installed[0]
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    assert choose_backend().name == installed[0]
    monkeypatch.setattr("kerascnn.training.backend.installed_backends", list)
    with pytest.raises(BackendError, match="pip install torch"):
        choose_backend()
    with pytest.raises(BackendError, match=r"jax .*not installed: pip install jax"):
        choose_backend("jax")


@pytest.mark.parametrize("changes", [{"device": "gpuu"}, {"execution": "kears"}])
def test_options_that_do_not_exist_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(UnknownNameError, match=f"expected auto, .*got '{next(iter(changes.values()))}'"):
        Options(**changes)  # type: ignore[arg-type]


def test_the_number_of_threads_is_what_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume on another number says that it isn't exact."""
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setattr("psutil.Process.cpu_affinity", lambda self: [0, 3, 5], raising=False)
    assert (thread_count("tensorflow"), thread_count("jax")) == (3, 3)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    assert (thread_count("tensorflow"), thread_count("jax")) == (7, 3)


@pytest.mark.backend
def test_a_session_that_runs_keras_already_goes_on_with_its_backend(
    keras: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asked for another one, be it the first that is installed."""
    monkeypatch.delenv("KERAS_BACKEND")
    others = [name for name in BACKENDS if name != backend]
    monkeypatch.setattr("kerascnn.training.backend.installed_backends", lambda: [*others, backend])
    assert (choose_backend().name, choose_backend().reason) == (backend, "Keras runs on it in this process")
    assert choose_backend(others[0]).name == others[0]


@pytest.mark.backend
@pytest.mark.parametrize("before", ["", "import tensorflow as tf; tf.random.set_seed(5)"], ids=["no seed", "a seed"])
def test_a_network_of_the_zoo_is_fitted_by_keras_itself(backend: str, before: str) -> None:
    """Whose order of the images is drawn from TensorFlow's own generator there; a seed of the user's stays."""
    if before and backend != "tensorflow":
        pytest.skip("what is TensorFlow's")
    code = (
        f"{before}\n"
        "import kerascnn, numpy\n"
        "changes = {'input_shape': [8, 8, 1], 'filters': [2], 'hidden': [2]}\n"
        "model = kerascnn.build_model(kerascnn.load_recipe('cnn2_fmnist', changes))\n"
        "model.compile('sgd', 'sparse_categorical_crossentropy')\n"
        "model.fit(numpy.zeros((4, 8, 8, 1), 'uint8'), numpy.zeros(4, int), verbose=0)\n"
    )
    if before:
        code += "from tensorflow.python.eager.context import global_seed\nassert global_seed() == 5\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.backend
@pytest.mark.skipif(sys.platform == "win32", reason="a shell's way to start a process without the channel")
def test_keras_is_imported_in_a_process_without_an_error_channel(backend: str) -> None:
    code = f"from kerascnn.training.backend import activate; activate({backend!r}); print('active')"
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code], stdout=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "active\n")


def test_a_library_that_ends_the_process_is_heard(tmp_path: Path) -> None:
    """As Intel's OpenMP does where it is there twice; here a stand-in for torch has its words."""
    (tmp_path / "torch.py").write_text("import os\nos.write(2, b'OMP: Error #15')\nos._exit(3)\n")
    code = "from kerascnn.training.backend import activate; activate('torch')"
    paths = os.pathsep.join([str(tmp_path), str(Path(kerascnn.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "OMP: Error #15")


@pytest.mark.backend
def test_a_process_that_runs_one_backend_refuses_another(keras: Any, backend: str) -> None:
    from kerascnn.training.backend import activate

    other = next(name for name in BACKENDS if name != backend)
    with pytest.raises(BackendError, match="one process, one backend"):
        activate(other)


@pytest.mark.backend
def test_a_backend_that_the_process_cannot_change_to_leaves_no_run(keras: Any, backend: str) -> None:
    others = [name for name in installed_backends() if name != backend]
    if not others:
        pytest.skip("one backend is installed")
    with pytest.raises(BackendError, match="one process, one backend"):
        kerascnn.train(own("tiny"), options=Options(backend=others[0]))
    assert not Path("runs").exists()


@pytest.mark.backend
def test_a_gpu_that_is_not_there_leaves_no_run(keras: Any, backend: str, kerascnn_command: Command) -> None:
    if device_name(backend) != "cpu":
        pytest.skip("there is one")
    with pytest.raises(BackendError, match=f"expected a GPU .*, and {backend} sees none"):
        kerascnn.train(own("tiny"), options=Options(device="gpu"))
    done = kerascnn_command("train", "tiny", "--catalog", OWN_CATALOG, "--device", "gpu")
    assert done.returncode == 1
    assert f"expected a GPU (--device gpu), and {backend} sees none" in done.stderr
    assert not Path("runs").exists()


# ── One step ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def numpy_of(value: Any) -> np.ndarray:
    from keras import ops

    return np.array(ops.convert_to_numpy(value))


def prepared(changes: dict[str, Any]) -> tuple[Any, Any, Any]:
    from kerascnn.training.optimizer import make_optimizer
    from kerascnn.training.steps import make_steps

    recipe = load_recipe("tiny", changes, catalog=OWN_CATALOG)
    model = kerascnn.build_model(recipe)
    optimizer = make_optimizer(recipe.train, model.trainable_variables)
    return model, optimizer, make_steps(model, optimizer, recipe.train)


def batch(count: int = 16) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8), random.integers(0, 10, count)


def weights_after_a_step(changes: dict[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    model, _, steps = prepared(changes)
    for variable in model.trainable_variables:
        if variable.name == "bias":
            # Zero would hide what is multiplied by it.
            variable.assign(np.full(variable.shape, 0.3, np.float32))
    before = [numpy_of(variable) for variable in model.trainable_variables]
    steps.train(*batch())
    after = [numpy_of(variable) for variable in model.trainable_variables]
    return before, after, [variable.name for variable in model.trainable_variables]


@pytest.mark.backend
@pytest.mark.parametrize("norm", ["", "x = layers.BatchNormalization()(x)"], ids=["no norm", "norm"])
def test_what_a_layer_of_ones_own_adds_to_the_loss_is_in_its_gradients(
    keras: Any, recipe_of_builder: Callable[..., Recipe], norm: str
) -> None:
    """It adds 1000 times the mean of its scaled input, whose gradient is that of the scale by far."""
    recipe = recipe_of_builder(
        "adding",
        "from keras import layers, ops\n"
        "class Adding(layers.Layer):\n"
        "    def build(self, shape):\n"
        "        self.scale = self.add_weight(shape=(), initializer='ones', name='scale')\n"
        "    def call(self, x):\n"
        "        self.add_loss(1000 * self.scale * ops.mean(ops.ones_like(x)))\n"
        "        return x\n"
        "def build(x, *, classes, **style):\n"
        f"    {norm or 'pass'}\n"
        "    return layers.Dense(classes)(layers.Flatten()(Adding(name='adding')(x)))\n",
        {**SGD, "input_shape": [28, 28, 1]},
    )
    from kerascnn.training.network import initial_model, make_network

    network = make_network(initial_model(recipe, None), recipe.train)
    scale = network.model.get_layer("adding").scale
    loss, _, _ = network.steps.train(*batch())
    assert numpy_of(loss) < 100, "what is reported is the cross-entropy"
    assert numpy_of(scale.value) == pytest.approx(1 - 0.1 * 1000)


SGD = {"train.optimizer.name": "sgd", "train.optimizer.learning_rate": 0.1}


@pytest.mark.backend
def test_weight_decay_adds_the_kernels_to_their_gradients(keras: Any) -> None:
    """As in the papers: w - lr (g + λ w), kernels only."""
    before, without, names = weights_after_a_step(SGD)
    _, decayed, _ = weights_after_a_step({**SGD, "train.weight_decay": 0.5})
    for w, one, two, name in zip(before, without, decayed, names, strict=True):
        expected = one - 0.1 * 0.5 * w if name == "kernel" else one
        np.testing.assert_allclose(two, expected, rtol=1e-5, atol=1e-7)
    assert "bias" in names


@pytest.mark.backend
def test_weight_decay_is_the_same_under_loss_scaling(keras: Any) -> None:
    # Larger weights can have gradients that overflow half precision at the first scale: then the step is left out.
    plain = {**SGD, "train.weight_decay": 0.5, "initializer": "glorot_uniform"}
    before, one, _ = weights_after_a_step(plain)
    _, scaled, _ = weights_after_a_step({**plain, "train.precision": "mixed_float16"})
    for w, a, b in zip(before, one, scaled, strict=True):
        np.testing.assert_allclose(b - w, a - w, rtol=0.1, atol=3e-3)


@pytest.mark.backend
def test_clipping_bounds_the_norm_of_all_gradients_together(keras: Any) -> None:
    before, after, _ = weights_after_a_step({**SGD, "train.clip_norm": 0.01})
    norm = math.sqrt(sum(float(((b - a) ** 2).sum()) for a, b in zip(before, after, strict=True)))
    assert norm == pytest.approx(0.1 * 0.01, rel=1e-3)


@pytest.mark.backend
def test_the_loss_is_the_smoothed_cross_entropy_of_the_logits(keras: Any) -> None:
    pixels, labels = batch()
    for smoothing in (0.0, 0.2):
        model, _, steps = prepared({"train.label_smoothing": smoothing})
        logits = numpy_of(model(pixels)).astype(np.float64)
        log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        picked = log_softmax[np.arange(len(labels)), labels]
        expected = -((1 - smoothing) * picked + smoothing * log_softmax.mean(axis=1)).mean()
        val_loss, val_right = steps.evaluate(pixels, labels)
        loss, right, _ = steps.train(pixels, labels)
        assert float(numpy_of(loss)) == pytest.approx(expected, rel=1e-5)
        assert float(numpy_of(val_loss)) == pytest.approx(-picked.mean(), rel=1e-5)
        assert int(numpy_of(right)) == int(numpy_of(val_right)) == int((logits.argmax(axis=1) == labels).sum())


@pytest.mark.backend
def test_the_moving_average_is_used_for_validation_and_leaves_the_weights_alone(keras: Any) -> None:
    from kerascnn.training.optimizer import averaged_weights

    model, optimizer, steps = prepared({"train.ema": 0.75, **SGD})
    history = []
    for _ in range(3):
        steps.train(*batch())
        history.append(numpy_of(model.trainable_variables[0]))
    expected = history[0]
    for weights in history[1:]:
        expected = 0.75 * expected + 0.25 * weights
    with averaged_weights(model, optimizer):
        np.testing.assert_allclose(numpy_of(model.trainable_variables[0]), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(numpy_of(model.trainable_variables[0]), history[-1])


# Losses of the first ten steps, printed on torch; every backend must give them.
CNN2_LOSSES = [
    2.679001569747925,
    4.483213901519775,
    4.18449592590332,
    3.624354839324951,
    4.822770595550537,
    3.2271180152893066,
    2.868208885192871,
    3.642102003097534,
    3.700244665145874,
    3.1845812797546387,
]


@pytest.mark.backend
def test_the_first_losses_are_the_same_on_every_backend(keras: Any) -> None:
    changes = {"dataset": "fashion_mnist_mini", "train.limit_train": 640, "train.batch_size": 64}
    changes |= {"train.limit_val": 64, "train.epochs": 1}
    result = kerascnn.train(load_recipe("cnn2_cifar", changes))
    losses = [event["loss"] for event in events_of(result.run_dir, "step")]
    assert losses[0] == pytest.approx(CNN2_LOSSES[0], rel=1e-5)
    assert losses == pytest.approx(CNN2_LOSSES, rel=1e-3)


@pytest.mark.backend
def test_the_first_loss_of_vgg16_is_the_same_on_every_backend(keras: Any) -> None:
    """The number was printed on torch."""
    changes = {"dataset": "fashion_mnist_mini", "train.limit_train": 16, "train.limit_val": 16}
    changes |= {"train.batch_size": 16, "train.epochs": 1}
    result = kerascnn.train(load_recipe("vgg16_cifar", changes))
    (step,) = events_of(result.run_dir, "step")
    assert step["loss"] == pytest.approx(VGG16_FIRST_LOSS, rel=1e-5)


VGG16_FIRST_LOSS = 2.271324634552002


@pytest.mark.backend
@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("a kernel is missing\nand much more", "RuntimeError: a kernel is missing$"),
        ("CUDA out of memory. Tried to allocate 2 GiB", "out of memory: try a train.batch_size below 50$"),
        ("OOM when allocating tensor with shape[9]", "out of memory: try a train.batch_size below 50$"),
    ],
)
def test_a_failure_of_any_kind_is_the_runs_last_event(
    keras: Any, monkeypatch: pytest.MonkeyPatch, raised: str, said: str
) -> None:
    from kerascnn.training.engine import Engine

    def fail(self: Engine) -> str:
        raise RuntimeError(raised)

    monkeypatch.setattr(Engine, "run", fail)
    with pytest.raises(RunError, match=said):
        kerascnn.train(own("tiny"), run_dir=Path("run"))
    last = events_of(Path("run"))[-1]
    assert (last["state"], last["exit_code"]) == ("failed", 1)
    assert open_run("run").owner() is None


@pytest.mark.backend
def test_a_resume_without_the_memory_says_what_can_be_done(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kerascnn.training.engine import Engine

    def fail(self: Engine) -> str:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    run = open_run(kerascnn.train(own("tiny", train__limit_train=50), run_dir=Path("a run")).run_dir)
    left_behind = new_run(Path("left"), run.recipe(), Options(), None)
    with monkeypatch.context() as failing:
        failing.setattr(Engine, "run", fail)
        with pytest.raises(RunError) as said:
            kerascnn.resume(run)
        with pytest.raises(RunError, match=r"try a train\.batch_size below 50"):
            kerascnn.resume(left_behind)
        with pytest.raises(RunError, match="a replay takes as much as the run did"):
            verify(run, options=Options())
    asked = str(said.value).partition("`")[2].partition("` with N below 50 begins a new run")[0]
    done = CliRunner().invoke(app, [*shlex.split(asked.replace("N", "25"))[1:], "--run-dir", "smaller"])
    assert done.exit_code == 0, done.output
    assert open_run("smaller").recipe().train.batch_size == 25


@pytest.mark.backend
def test_a_network_is_put_to_use_in_smaller_batches(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kerascnn.training import inference

    result = kerascnn.train(own("tiny", train__limit_train=100), run_dir=tmp_path / "run")
    run = open_run(result.run_dir)
    model = inference.load_network(run, which="final")
    sizes: list[int] = []
    predictor = inference._predictor

    def noted(model: Any) -> Callable[[np.ndarray], Any]:
        compute = predictor(model)

        def note(pixels: np.ndarray) -> Any:
            sizes.append(len(pixels))
            return compute(pixels)

        return note

    monkeypatch.setattr(inference, "_predictor", noted)
    found = inference.evaluate(run, model, which="final", batch_size=30)
    assert sizes == [30] * 6 + [20]
    assert found.accuracy == pytest.approx(result.figures["val_accuracy"], abs=1e-9)
    sizes.clear()
    write_image_folder(tmp_path / "images", classes=1, images=5)
    files = sorted((tmp_path / "images").rglob("*.png"))
    assert len(inference.predict(run, model, files, batch_size=2)) == 3
    assert sizes == [2, 1]
    with pytest.raises(UnknownNameError, match="expected auto, cpu, gpu, got 'tpu'"):
        inference.load_network(run, device="tpu")


@pytest.mark.backend
def test_a_disk_that_fills_ends_the_run_with_its_checkpoints_whole(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second checkpoint on, nothing can be written any more, not even the last event."""
    written = []

    def full(path: Path, write: Callable[[Path], None]) -> None:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        write(path)

    monkeypatch.setattr("kerascnn.training.checkpoint.write_atomically", full)
    with pytest.raises(RunError, match="No space left on device"):
        kerascnn.train(own("tiny", train__epochs=3, train__limit_train=100), run_dir=Path("run"))
    assert read_checkpoint(list_checkpoints(Path("run/checkpoints"))[0]).progress.epoch == 1
    assert open_run("run").owner() is None
    monkeypatch.undo()


@pytest.mark.backend
def test_a_table_of_epochs_that_cannot_be_written_ends_no_run(keras: Any) -> None:
    run = Run(Path("run"))

    def stand_in_the_way(event: ev.Event) -> None:
        if isinstance(event, ev.EpochDone) and event.epoch == 1:
            run.metrics_file.mkdir()
        if isinstance(event, ev.CheckpointWritten) and event.step == 2:
            run.metrics_file.rmdir()

    recipe = own("tiny", train__epochs=2, train__limit_train=100)
    assert kerascnn.train(recipe, run_dir=run.path, listeners=[stand_in_the_way]).state == "finished"
    (said,) = [event["message"] for event in events_of(run.path, "warning") if "metrics.csv" in event["message"]]
    assert "Is a directory; its rows are written with the next epoch's" in said
    assert len(run.metrics_file.read_text().splitlines()) == 3


def test_a_file_that_somebody_has_open_on_windows_is_replaced_when_they_leave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, refused = Path.replace, []

    def held_twice(self: Path, target: Path) -> Path:
        if len(refused) < 2:
            refused.append(target)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self), None, str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", held_twice)
    monkeypatch.setattr("kerascnn.runs.files.HELD_FOR_S", 0.0)
    with pytest.raises(PermissionError):
        write_text(tmp_path / "a", "elsewhere nothing is tried again")
    monkeypatch.setattr("kerascnn.runs.files.HELD_FOR_S", GIVE_UP_S)
    write_text(tmp_path / "a", "after the second refusal")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "after the second refusal"


@pytest.mark.backend
def test_best_weights_that_somebody_keeps_open_on_windows_stay_those_of_the_best_epoch(
    keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(Path("run"))
    replace, kept = Path.replace, []

    def hold(event: ev.Event) -> None:
        if isinstance(event, ev.EpochDone) and event.epoch == 1:
            kept.append(run.best_weights_file.read_bytes())

    def held(self: Path, target: Path) -> Path:
        if kept and target == run.best_weights_file:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self), None, str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", held)
    result = kerascnn.train(own("tiny", train__epochs=3), run_dir=run.path, listeners=[hold])
    assert (result.state, result.figures["best_epoch"]) == ("finished", 1)
    first, *others = events_of(run.path, "epoch")
    assert max(epoch["val_accuracy"] for epoch in others) > first["val_accuracy"] == result.figures["best_val_accuracy"]
    assert [epoch["best"] for epoch in (first, *others)] == [True, False, False]
    assert kept == [run.best_weights_file.read_bytes()]
    said = [event["message"] for event in events_of(run.path, "warning") if "best.weights.h5" in event["message"]]
    assert said[0] == "run/best.weights.h5: Permission denied; epoch 2 doesn't count as the best one"


@pytest.mark.backend
@pytest.mark.parametrize("error", [ValueError("plot failed"), SystemExit(1)])
def test_a_listener_that_fails_hears_no_more_and_ends_no_run(keras: Any, error: BaseException) -> None:
    heard: list[ev.Event] = []
    failing: list[ev.Event] = []

    def fail(event: ev.Event) -> None:
        failing.append(event)
        raise error

    recipe = own("tiny", train__limit_train=100)
    result = kerascnn.train(recipe, run_dir=Path("run"), listeners=[fail, heard.append])
    assert result.state == "finished"
    assert len(failing) == 1
    assert isinstance(heard[-1], ev.RunEnded)
    (said,) = [event["message"] for event in events_of(Path("run"), "warning") if "listener" in event["message"]]
    assert said == f"a listener failed and hears no more: {type(error).__name__}: {error}"


@pytest.mark.backend
def test_folders_may_be_given_as_texts(keras: Any, tmp_path: Path) -> None:
    options = kerascnn.Options(data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(kerascnn.UsageError, match="nowhere"):
        kerascnn.train(own("tiny"), options=options)
    result = kerascnn.train(own("tiny", train__limit_train=10, train__limit_val=10), runs_folder=str(tmp_path / "runs"))
    assert result.run_dir.parent == tmp_path / "runs" / "tiny"


@pytest.mark.backend
def test_a_network_with_dropout_is_resumed_in_the_process_that_trained_it(keras: Any, tmp_path: Path) -> None:
    """Keras counts the generators of dropout on from one network to the next; that makes no other network of it."""
    recipe = own("stateful", train__epochs=1, train__limit_train=20, train__limit_val=10)
    run = open_run(kerascnn.train(recipe, run_dir=tmp_path / "run").run_dir)
    control.ask(run, control.make_command("extend", 1.0))
    assert kerascnn.resume(run).figures["epochs"] == 2


@pytest.mark.backend
def test_a_network_of_ones_own_is_resumed_in_the_process_that_trained_it(
    keras: Any, recipe_of_builder: Callable[..., Recipe], tmp_path: Path
) -> None:
    """Its layers have the names that Keras gives them, with a number that it counts on."""
    source = (
        "from keras import layers\n"
        "def build(x, *, classes, **style):\n"
        "    return layers.Dense(classes)(layers.Flatten()(x))\n"
    )
    changes = {"input_shape": [28, 28, 1], "train.epochs": 1, "train.limit_train": 20, "train.limit_val": 10}
    recipe = recipe_of_builder("unnamed", source, changes)
    run = open_run(kerascnn.train(recipe, run_dir=tmp_path / "run").run_dir)
    control.ask(run, control.make_command("extend", 1.0))
    assert kerascnn.resume(run).figures["epochs"] == 2


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.backend
def test_a_run_whose_checkpoints_are_gone_does_not_begin_again(keras: Any, tmp_path: Path) -> None:
    recipe = own("tiny", train__limit_train=100, train__limit_val=10)
    run = open_run(kerascnn.train(recipe, run_dir=tmp_path / "run").run_dir)
    best = run.best_weights_file.read_bytes()
    for checkpoint in list_checkpoints(run.checkpoints):
        checkpoint.unlink()
    before = files_of(run.path)
    with pytest.raises(CheckpointError, match="expected the run's checkpoints, and they are gone"):
        kerascnn.resume(run)
    assert run.best_weights_file.read_bytes() == best
    assert files_of(run.path) == before, "it stays as it ended"


@pytest.mark.backend
def test_a_run_that_gets_more_epochs_has_the_patience_for_them(keras: Any, tmp_path: Path) -> None:
    """With a learning rate this small no epoch is better than the first."""
    recipe = own(
        "tiny",
        train__epochs=9,
        train__limit_train=50,
        train__limit_val=10,
        train__optimizer__learning_rate=1e-30,
        train__early_stopping={"monitor": "val_accuracy", "patience": 2},
    )
    run = open_run(kerascnn.train(recipe, run_dir=tmp_path / "run").run_dir)
    assert run.summary().epoch == 3
    assert kerascnn.resume(run).figures["epochs"] == 3
    control.ask(run, control.make_command("extend", 5.0))
    assert kerascnn.resume(run).figures["epochs"] == 5


@pytest.mark.backend
def test_a_dataset_that_has_shrunk_is_told_in_a_sentence(keras: Any, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    write_image_folder(folder, classes=2, images=8)
    recipe = own("tiny", dataset=f"folder:{folder}", classes=2, train__batch_size=2, train__val_split=0.25)
    run = create_run(tmp_path / "run", recipe, [])
    assert replay(run, (0, 5), options=Options()).state == "stopped"
    for image in sorted(folder.rglob("*.png")):
        image.unlink()
    with pytest.raises(RunError, match="expected at least the 5 batches that the run has taken of its epoch"):
        kerascnn.resume(run)


def test_a_checkpoint_that_cannot_be_read_now_is_not_taken_for_damaged(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / checkpoint_name(3), a_checkpoint())
    # A link to itself: the system refuses to read it.
    (tmp_path / checkpoint_name(4)).symlink_to(checkpoint_name(4))
    with pytest.raises(RunError, match="can't be read") as refused:
        newest_whole(tmp_path)
    assert not isinstance(refused.value, CheckpointError)


# ── A whole run ───────────────────────────────────────────────────────────────────────────────────────────────────────


def own(name: str, **changes: Any) -> kerascnn.Recipe:
    return load_recipe(name, {key.replace("__", "."): value for key, value in changes.items()}, catalog=OWN_CATALOG)


@pytest.mark.backend
@pytest.mark.parametrize("name", ["my net", "x+y", "é", "_"])
def test_every_name_that_is_allowed_can_be_trained_and_read_again(keras: Any, backend: str, name: str) -> None:
    from kerascnn.training.inference import load_network

    recipe = own("tiny", train__limit_train=100).model_copy(update={"name": name})
    run = open_run(kerascnn.train(recipe).run_dir)
    assert run.summary().state == "finished"
    saved = keras.models.load_model(run.model_file)
    for which in ("best", "final"):
        model = load_network(run, which=which)
        assert [variable.path for variable in model.variables] == [variable.path for variable in saved.variables]
        for one, other in zip(model.get_weights(), saved.get_weights(), strict=True):
            assert np.array_equal(one, other)


@pytest.mark.backend
def test_a_run_of_a_model_under_another_name_goes_on(keras: Any, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before models had names that TensorFlow takes, torch trained them under the recipe's."""
    from kerascnn.training.inference import load_network
    from kerascnn.training.verify import verify

    if backend == "tensorflow":
        pytest.skip("TensorFlow never took such a name")
    recipe = own("tiny", train__limit_train=100).model_copy(update={"name": "my net"})
    with monkeypatch.context() as before:
        before.setattr("kerascnn.zoo._scope_name", str)
        run = open_run(kerascnn.train(recipe).run_dir)
    assert keras.models.load_model(run.model_file).name == "my net"
    assert load_network(run, which="final").name == load_network(run).name == "my_net"
    assert verify(run, options=Options()).equal


@pytest.mark.backend
def test_a_network_learns_and_its_run_tells_how(keras: Any, backend: str, tmp_path: Path) -> None:
    heard: list[ev.Event] = []
    recipe = own("tiny", train__epochs=3, train__limit_train=1500)
    result = kerascnn.train(recipe, run_dir=tmp_path / "run", listeners=[heard.append])
    run = open_run(tmp_path / "run")
    assert (result.state, result.exit_code, result.figures["steps"]) == ("finished", 0, 90)
    assert result.figures["val_accuracy"] > 0.6
    assert result.figures["loss"] < 1.2
    # The files of a run.
    names = {path.name for path in run.path.iterdir()}
    assert names >= {
        "recipe.toml",
        "environment.json",
        "events.jsonl",
        "metrics.csv",
        "checkpoints",
        "model.keras",
        "best.weights.h5",
        "result.json",
    }
    assert run.recipe() == recipe
    assert run.environment()["backend"] == backend
    assert run.environment()["versions"].keys() >= {"keras", backend, "numpy", "python"}
    assert run.environment()["allocator"] == set_allocator(backend)
    assert not list(run.path.rglob("*partial*"))
    assert not (run.path / "owner.json").exists()
    # The events, on disk and to the listener alike.
    events = run.events()
    assert [event.kind for event in events] == [event.kind for event in heard]
    phases = [event.phase for event in ev.of_kind(events, ev.Phase)]
    assert phases[:3] == ["importing", "loading data", "building"]
    assert phases.count("validating") == 3
    steps = list(ev.of_kind(events, ev.StepDone))
    assert [step.step for step in steps][:50] == list(range(1, 51))
    assert np.mean([step.loss for step in steps[:5]]) > np.mean([step.loss for step in steps[-5:]])
    epochs = list(ev.of_kind(events, ev.EpochDone))
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert isinstance(events[-1], ev.RunEnded)
    with run.metrics_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == [epoch.val_loss for epoch in epochs]
    assert json.loads(run.result_file.read_text())["figures"]["val_accuracy"] == epochs[-1].val_accuracy
    assert len(list_checkpoints(run.checkpoints)) in (2, 3)


@pytest.mark.backend
def test_the_best_weights_are_as_keras_writes_and_reads_them(keras: Any, tmp_path: Path) -> None:
    from kerascnn.training.network import initial_model
    from kerascnn.training.state import weights_file

    written, read = (
        initial_model(own("stateful", train__scaling="unit"), None),
        initial_model(own("stateful", train__scaling="unit", train__seed=1), None),
    )
    (tmp_path / "a.weights.h5").write_bytes(weights_file(written))
    read.load_weights(tmp_path / "a.weights.h5")
    assert all((a == b).all() for a, b in zip(written.get_weights(), read.get_weights(), strict=True))


@pytest.mark.backend
def test_an_epochs_figures_are_means_over_its_images(keras: Any) -> None:
    """The last batch is smaller and counts less."""
    result = kerascnn.train(own("tiny", train__limit_train=130, train__batch_size=50))
    steps = [event["loss"] for event in events_of(result.run_dir, "step")]
    (epoch,) = events_of(result.run_dir, "epoch")
    assert len(steps) == 3
    assert epoch["loss"] == pytest.approx((50 * steps[0] + 50 * steps[1] + 30 * steps[2]) / 130, rel=1e-12)


@pytest.mark.backend
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(keras: Any) -> None:
    changes = {"train__optimizer": {"name": "sgd", "learning_rate": 1000.0, "momentum": 0.9}}
    changes |= {"train__scaling": "none", "train__epochs": 2}
    result = kerascnn.train(own("tiny", **changes))
    assert (result.state, result.exit_code) == ("diverged", 1)
    assert "loss of step" in result.message
    last = events_of(result.run_dir)[-1]
    assert (last["kind"], last["state"]) == ("run ended", "diverged")


@pytest.mark.backend
def test_a_validation_loss_that_is_no_number_is_one_in_python_and_a_text_in_files(
    keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kerascnn.training.engine import Engine

    monkeypatch.setattr(Engine, "_evaluate", lambda *_: (math.inf, 0.1))
    result = kerascnn.train(own("tiny", train__limit_train=50), run_dir=Path("run"))
    assert result.state == "diverged"
    assert result.figures.keys() == FIGURES
    assert result.figures["val_loss"] == math.inf
    assert 0 < result.figures["loss"] < 10
    assert (result.figures["epochs"], result.figures["steps"], result.figures["best_epoch"]) == (1, 1, None)
    written = Path("run/result.json").read_text()
    assert json.loads(written, parse_constant=pytest.fail) == result.to_dict()
    assert json.loads(written)["figures"]["val_loss"] == "Infinity"


@pytest.mark.backend
def test_a_run_that_is_interrupted_before_its_first_step_has_all_figures(keras: Any) -> None:
    def interrupt(event: ev.Event) -> None:
        if isinstance(event, ev.DataLoaded):
            raise Interruption("SIGTERM")

    result = kerascnn.train(own("tiny", train__limit_train=50), run_dir=Path("run"), listeners=[interrupt])
    assert result.state == "interrupted"
    assert result.figures.pop("peak_memory_bytes") > 50_000_000
    assert result.figures == dict.fromkeys(FIGURES - {"peak_memory_bytes"})


FIGURES = {"epochs", "steps", "seconds", "loss", "accuracy", "val_loss", "val_accuracy"}
FIGURES |= {"best_val_accuracy", "best_epoch", "peak_memory_bytes"}


@pytest.mark.backend
def test_a_run_that_diverges_later_keeps_its_good_checkpoint(keras: Any) -> None:
    changes = {"train__optimizer": {"name": "sgd", "learning_rate": 1e-9, "momentum": 0.9}, "train__scaling": "none"}
    # ReLUs could die before the loss is no number.
    run = open_run(kerascnn.train(own("tiny", activation="linear", train__limit_train=500, **changes)).run_dir)
    (good,) = list_checkpoints(run.checkpoints)
    kept = good.read_bytes()
    for name, value in (("extend", 2.0), ("set-lr", 1000.0)):
        control.ask(run, control.make_command(name, value))
    result = kerascnn.resume(run)
    assert result.state == "diverged"
    assert good.read_bytes() == kept
    for path in list_checkpoints(run.checkpoints):
        assert all(np.isfinite(array).all() for array in read_checkpoint(path).arrays.values())


@pytest.mark.backend
def test_early_stopping_ends_a_run_that_no_longer_improves(keras: Any) -> None:
    changes = {"train__optimizer": {"name": "sgd", "learning_rate": 1e-9}, "train__epochs": 50}
    changes |= {"train__early_stopping": {"monitor": "val_accuracy", "patience": 2}, "train__limit_train": 50}
    result = kerascnn.train(own("tiny", **changes))
    assert result.figures["epochs"] == 3
    assert "hasn't improved for 2 epochs" in result.message
    # Going on with it changes nothing.
    again = kerascnn.resume(open_run(result.run_dir))
    assert (again.figures["epochs"], again.message) == (3, result.message)


@pytest.mark.backend
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns(keras: Any, precision: str) -> None:
    result = kerascnn.train(own("tiny", train__precision=precision, train__epochs=2, train__limit_train=1000))
    assert result.figures["loss"] < 1.8


@pytest.mark.backend
def test_a_folder_of_images_is_trained_on(keras: Any, tmp_path: Path) -> None:
    write_image_folder(tmp_path / "images" / "train", images=20)
    write_image_folder(tmp_path / "images" / "val", images=5)
    changes = {"dataset": f"folder:{tmp_path / 'images'}", "classes": 2, "input_shape": [16, 16, 3]}
    changes |= {"train__augment": {"random_resized_crop": True, "flip": True}, "train__epochs": 6}
    changes |= {"train__batch_size": 10, "train__scaling": "standardize"}
    result = kerascnn.train(own("tiny", **changes))
    assert result.figures["val_accuracy"] == 1.0


@pytest.mark.backend
def test_what_a_run_leaves_out_its_evaluation_its_resume_and_its_replay_leave_out(keras: Any, tmp_path: Path) -> None:
    """Otherwise they would stumble over it, or hold out another tenth of the images."""
    from kerascnn.training.inference import evaluate, load_network

    folder = tmp_path / "images"
    write_image_folder(folder, images=20)
    (folder / "class0" / "00.jpg").write_bytes(b"no picture")
    recipe = own("tiny", dataset=f"folder:{folder}", classes=2, input_shape=[16, 16, 3], train__batch_size=10)
    options = Options(skip_bad_images=True)
    run = open_run(kerascnn.train(recipe, run_dir=tmp_path / "run", options=options).run_dir)
    control.ask(run, control.make_command("extend", 1.0))
    resumed = kerascnn.resume(run)
    assert (resumed.state, resumed.figures["epochs"]) == ("finished", 2)
    said: list[str] = []
    evaluated = evaluate(run, load_network(run, which="final"), which="final", tell=said.append)
    assert evaluated.images == 4
    assert evaluated.loss == pytest.approx(resumed.figures["val_loss"], rel=1e-4)
    assert any("left out, as they don't decode" in text for text in said)
    assert not any("expected what the run was trained on" in text for text in said)
    assert verify(run, options=Options()).equal
    image = next((folder / "class1").iterdir())
    os.utime(image, (1, 1))
    evaluate(run, load_network(run), tell=said.append)
    assert "expected what the run was trained on" in said[-1]


@pytest.mark.backend
def test_a_run_that_got_no_further_than_its_directory_knows_what_to_leave_out(keras: Any, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    write_image_folder(folder, images=10)
    (folder / "class0" / "00.jpg").write_bytes(b"no picture")
    recipe = own("tiny", dataset=f"folder:{folder}", classes=2, input_shape=[16, 16, 3], train__batch_size=10)
    run = new_run(tmp_path / "run", recipe, Options(skip_bad_images=True), None)
    assert kerascnn.resume(run).state == "finished"


@pytest.mark.backend
def test_a_run_on_a_relative_folder_goes_on_from_elsewhere(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image_folder(tmp_path / "images", images=10)
    recipe = own("tiny", dataset="folder:images", classes=2, input_shape=[16, 16, 3], train__batch_size=10)
    run = open_run(kerascnn.train(recipe, run_dir=tmp_path / "run").run_dir)
    left_behind = new_run(tmp_path / "left", recipe, Options(), None)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for one in (run, left_behind):
        assert one.recipe().dataset == f"folder:{tmp_path / 'images'}"
        assert kerascnn.resume(one).state == "finished"
    assert next(ev.of_kind(run.events(), ev.RunStarted)).dataset == f"folder:{tmp_path / 'images'}"


@pytest.mark.backend
def test_a_run_that_was_told_once_where_its_data_lies_finds_it_again(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command to go on with doesn't repeat ``--data-dir``; another copy, or a download, would be other data."""
    from kerascnn.training.inference import evaluate, load_network

    known = replace(DATASETS["mnist"], train_images=60, test_images=20)
    monkeypatch.setitem(DATASETS, "mnist", known)
    write_mnist(tmp_path / "disk" / "mnist", known, compress=False)
    recipe = own("tiny", dataset="mnist")
    told, untold = Options(data_dir=Path("disk")), Options(download=False)
    run = open_run(kerascnn.train(recipe, run_dir=tmp_path / "run", options=told).run_dir)
    left_behind = new_run(tmp_path / "left", recipe, told, None)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert kerascnn.resume(left_behind, options=untold).state == "finished"
    for epochs in (2, 3):
        control.ask(run, control.make_command("extend", 1.0))
        assert kerascnn.resume(run, options=untold).figures["epochs"] == epochs
    assert evaluate(run, load_network(run), download=False).images == 20
    assert verify(run, options=untold).equal
    (tmp_path / "disk").rename(tmp_path / "away")
    with pytest.raises(DatasetError, match="mnist is not on this machine"):
        kerascnn.resume(run, options=untold)


def test_a_start_that_is_interrupted_before_its_first_event_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the lists it would be called killed, though it never was a run."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kerascnn.training.session._carry_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kerascnn.train(own("tiny"), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ── Coming back ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.backend
# In float32 runs are killed in test_faults.py, and stopped and resumed in test_control.py.
@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.slow), "mixed_float16"])
def test_a_killed_run_goes_on_to_the_bit(
    precision: str, tmp_path: Path, kerascnn_command: Command, start_command: Callable[..., subprocess.Popen[str]]
) -> None:
    """With dropout, augmentation, BatchNorm, a schedule, a moving average, smoothing and clipping."""
    assert kerascnn_command(*train_arguments(tmp_path / "whole", precision)).returncode == 0
    killed = tmp_path / "killed"
    process = start_command(*train_arguments(killed, precision))
    # In the middle of the first epoch, past a checkpoint.
    wait_for(lambda: (killed / "events.jsonl").exists() and len(events_of_live(killed, "checkpoint")) >= 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < len(events_of_live(killed, "step")) < 40
    resumed = kerascnn_command("train", "--resume", killed)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after step" in resumed.stderr
    whole_end, killed_end = final_state(tmp_path / "whole"), final_state(killed)
    assert killed_end.progress.step == 40
    assert differences(whole_end, killed_end) == []
    one, two = effective_steps(tmp_path / "whole"), effective_steps(killed)
    common = one.keys() & two.keys()
    assert len(common) >= 30
    assert {step: one[step] for step in common} == {step: two[step] for step in common}
    keep = ("loss", "accuracy", "val_loss", "val_accuracy")
    assert [[e[k] for k in keep] for e in whole_end.progress.history] == [
        [e[k] for k in keep] for e in killed_end.progress.history
    ]
    assert open_run(killed).summary().state == "finished"


@pytest.mark.backend
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 75), ("SIGUSR1", 75), ("SIGHUP", 75)])
def test_a_signal_saves_a_checkpoint_and_says_how_to_go_on(
    name: str, code: int, tmp_path: Path, start_command: Callable[..., subprocess.Popen[str]], kerascnn_command: Command
) -> None:
    if signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
        pytest.skip("the tests run under nohup")
    run_dir = tmp_path / "my run"
    process = start_command(
        "train", "tiny", "--catalog", OWN_CATALOG, "--run-dir", run_dir, "--epochs", 500, "--limit-train", 6000
    )
    wait_for(lambda: len(events_of_live(run_dir, "step")) >= 3, process)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == code
    assert f"`kerascnn train --resume '{run_dir}'` goes on" in said
    assert "Traceback" not in said
    events = events_of(run_dir)
    assert [events[-2]["kind"], events[-1]["kind"]] == ["checkpoint", "run ended"]
    assert events[-1]["state"] == "interrupted"
    assert final_state(run_dir).progress.step == events[-1]["step"]


@pytest.mark.backend
def test_a_run_has_one_writer(keras: Any, tmp_path: Path) -> None:
    result = kerascnn.train(own("tiny", train__limit_train=50))
    run = open_run(result.run_dir)
    writer = Writer(run)
    try:
        with pytest.raises(RunError, match=f"process {os.getpid()} works on this run"):
            kerascnn.resume(run)
    finally:
        writer.close()


def test_a_run_that_ends_while_it_is_read_is_not_called_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run(tmp_path / "run", load_recipe("plain12_bn"), [])
    writer = Writer(run)
    begun = ev.RunStarted(model="a", dataset="b", backend="torch", epochs=1, batch_size=1, pid=os.getpid())
    writer.events.write(begun)
    read = Run.events

    def read_and_end(self: Run) -> list[ev.Event]:
        happened = read(self)
        writer.events.write(ev.RunEnded(state="finished", message="", step=0, elapsed=0, exit_code=0))
        writer.close()
        return happened

    with monkeypatch.context() as ending:
        ending.setattr(Run, "events", read_and_end)
        assert run.summary().state == "running"
    assert run.summary().state == "finished"


def test_a_run_that_is_deleted_while_others_are_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, deleted = (create_run(tmp_path / "a" / name, load_recipe("plain12_bn"), []) for name in ("kept", "deleted"))
    glob = Path.glob

    def glob_and_delete(self: Path, pattern: str) -> list[Path]:
        found = list(glob(self, pattern))
        shutil.rmtree(deleted.path, ignore_errors=True)
        return found

    monkeypatch.setattr(Path, "glob", glob_and_delete)
    assert [run.path for run in list_runs(tmp_path)] == [kept.path]


@pytest.mark.backend
def test_a_checkpoint_of_another_backend_is_refused(keras: Any, backend: str) -> None:
    run = open_run(kerascnn.train(own("tiny", train__limit_train=100)).run_dir)
    (path,) = list_checkpoints(run.checkpoints)
    checkpoint = read_checkpoint(path)
    checkpoint.identity["backend"] = "another"
    write_checkpoint(path, checkpoint)
    with pytest.raises(CheckpointError, match=f"expected backend to be '{backend}', the checkpoint has 'another'"):
        kerascnn.resume(run)


@pytest.mark.backend
def test_a_checkpoint_of_another_batch_size_is_refused(keras: Any) -> None:
    result = kerascnn.train(own("tiny", train__limit_train=100))
    run = open_run(result.run_dir)
    run.recipe_file.write_text(run.recipe_file.read_text().replace("batch_size = 50", "batch_size = 25"))
    with pytest.raises(CheckpointError, match="expected batch_size to be 25, the checkpoint has 50"):
        kerascnn.resume(run)


@pytest.mark.backend
def test_a_damaged_checkpoint_falls_back_to_the_one_before(keras: Any) -> None:
    result = kerascnn.train(own("tiny", train__limit_train=100, train__epochs=2))
    run = open_run(result.run_dir)
    newest = list_checkpoints(run.checkpoints)[0]
    whole = read_checkpoint(newest)
    newest.write_bytes(newest.read_bytes()[:1000])
    again = kerascnn.resume(run)
    assert again.state == "finished"
    assert any(newest.name in event["message"] for event in events_of(run.path, "warning"))
    assert differences(read_checkpoint(newest), whole) == []
