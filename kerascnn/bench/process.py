"""One variant in its process: ``python -m kerascnn.bench.process``, driven over its pipes by the bench.

The first line in is the task. Then come numbers of steps, see :mod:`kerascnn.bench.turns`; at their end this process
tells what memory it took and how fast the backend multiplies matrices.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascnn.bench.turns import Finished, Turns
from kerascnn.data.batches import Batch, TrainingBatches, ValidationBatches
from kerascnn.data.formats import Labels, Pixels
from kerascnn.data.images import ArrayImages
from kerascnn.data.statistics import PixelStatistics
from kerascnn.errors import KerascnnError
from kerascnn.recipe import Recipe, parse_recipe
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Writer, create_run
from kerascnn.training import backend as backends
from kerascnn.training.allocator import DEFAULT, set_allocator
from kerascnn.training.imports import unheard
from kerascnn.training.session import peak_memory_bytes
from kerascnn.training.signals import Signals

if TYPE_CHECKING:
    from kerascnn.runs.control import Command

# As many images as CIFAR-10 has, or as fit into this.
IMAGES = 50_000
IMAGE_BYTES = 256 * 2**20
PRODUCT_SIDE, PRODUCT_REPEATS = 2048, 5


@dataclass(frozen=True)
class EndlessBatches(TrainingBatches):
    """Whole batches of one epoch after another as a single one: no validation comes between."""

    @property
    def per_epoch(self) -> int:
        return 2**31

    def make(self, epoch: int, number: int) -> Batch:
        return super().make(*divmod(number, len(self.images) // self.batch_size))


def made_up_images(recipe: Recipe) -> tuple[Pixels, Labels]:
    """Random images of the recipe's shape with random labels: speed doesn't depend on what they show."""
    size = int(np.prod(recipe.input_shape))
    count = max(min(IMAGES, IMAGE_BYTES // size), 2 * recipe.train.batch_size)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, *recipe.input_shape), np.uint8)
    return pixels, random.integers(0, recipe.classes, count)


def train_kerascnn(recipe: Recipe, backend: str, device: str, turns: Turns) -> None:
    """The engine's own loop, as ``kerascnn train`` runs it: batches, metrics, events, looks into layers, findings."""
    began = time.perf_counter()
    backends.activate(backend, device)
    importing = time.perf_counter() - began
    from keras import ops

    from kerascnn.diagnosis.architecture import read_architecture
    from kerascnn.diagnosis.live import Watcher
    from kerascnn.training.checkpoint import Progress
    from kerascnn.training.control import Control
    from kerascnn.training.engine import Engine
    from kerascnn.training.network import initial_model, make_network
    from kerascnn.training.observer import Observer, probe_size

    class ControlInTurns(Control):
        """What the engine asks between two steps: this is where it waits for its turn."""

        def commands(self, step: int) -> list[Command]:
            turns.between_steps(step)
            return super().commands(step)

    pixels, labels = made_up_images(recipe)
    train = recipe.train
    batches = EndlessBatches(ArrayImages(pixels, labels), train.batch_size, train.seed, train.augment)
    few = batches.few(probe_size(recipe.input_shape))
    channels = recipe.input_shape[2]
    network = make_network(initial_model(recipe, PixelStatistics([127.5] * channels, [74.0] * channels)), train)
    watcher = Watcher(recipe, read_architecture(network.model, network.layers, few))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = create_run(Path(folder) / "run", recipe, [])
        writer = Writer(run)

        def emit(event: ev.Event) -> None:
            for each in (event, *watcher.see(event)):
                writer.events.write(each)

        engine = Engine(
            run,
            recipe,
            network,
            batches,
            ValidationBatches(batches.images, train.batch_size),
            Progress(epochs=train.epochs),
            emit=emit,
            signals=Signals(),
            control=ControlInTurns(run, set()),
            # The other looks at a run's beginning would weigh far more in half a minute than they do in a run.
            observer=Observer(network.model, network.layers, few, turns.clock, first_steps=(1, 2)),
            checkpoint_every_s=math.inf,
            clock=turns.clock,
        )
        turns.tell({"device": backends.device_name(backend), **_facts(backend, importing, began)})
        turns.begin(synchronise=lambda: ops.convert_to_numpy(network.optimizer.variables[0]))
        try:
            engine.run()
        finally:
            writer.close()


def train_pytorch_twin(recipe: Recipe, device: str, turns: Turns, *, channels_last: bool) -> None:
    """The same network in plain PyTorch."""
    began = time.perf_counter()
    from kerascnn.bench.plain_torch import train_plain
    from kerascnn.bench.torch_networks import make_twin

    importing = time.perf_counter() - began
    import torch

    cuda = device != "cpu" and torch.cuda.is_available()
    pixels, labels = made_up_images(recipe)
    twin = make_twin(recipe)
    turns.tell({"device": torch.cuda.get_device_name() if cuda else "cpu", **_facts("torch", importing, began)})
    train_plain(twin, recipe.train, pixels, labels, turns, channels_last=channels_last, device=device)


def train_tensorflow_twin(recipe: Recipe, device: str, turns: Turns, *, xla: bool) -> None:
    """The same network in TensorFlow's own operations."""
    began = time.perf_counter()
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with unheard():
        from kerascnn.bench.plain_tensorflow import share_gpus, train_plain

    importing = time.perf_counter() - began
    share_gpus()
    pixels, labels = made_up_images(recipe)
    turns.tell({"device": backends.device_name("tensorflow"), **_facts("tensorflow", importing, began)})
    train_plain(recipe.name, recipe.train, pixels, labels, turns, xla=xla)


def _facts(backend: str, importing: float, began: float) -> dict[str, Any]:
    return {
        "threads": backends.thread_count(backend),
        "versions": backends.versions(backend),
        "importing_s": importing,
        "building_s": time.perf_counter() - began - importing,
    }


def product_flops(backend: str, device: str) -> float:
    """The fastest of a few float32 matrix products on the backend's device, in floating-point operations a second."""
    backends.activate(backend, device)
    from keras import ops

    random = np.random.default_rng(0)
    matrix = ops.convert_to_tensor(random.standard_normal((PRODUCT_SIDE, PRODUCT_SIDE), np.float32))
    fastest = float("inf")
    for _ in range(PRODUCT_REPEATS):
        began = time.perf_counter()
        ops.convert_to_numpy(ops.matmul(matrix, matrix)[0, 0])
        fastest = min(fastest, time.perf_counter() - began)
    return float(2 * PRODUCT_SIDE**3 / fastest)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the task, train in turns, tell what it took."""
    # Whatever a backend prints must not come between the lines that the parent reads.
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    task = json.loads(sys.stdin.readline())
    entry = task["recipe"]
    recipe = parse_recipe(entry.pop("name"), entry, file="the bench")
    turns = Turns(sys.stdin, told)
    backend, device = task["backend"], task["device"]
    try:
        if task["kind"] == "kerascnn":
            train_kerascnn(recipe, backend, device, turns)
        elif backend == "torch":
            train_pytorch_twin(recipe, device, turns, channels_last=task["kind"] == "channels_last")
        else:
            train_tensorflow_twin(recipe, device, turns, xla=task["kind"] == "tf_function_xla")
    except KerascnnError as error:
        sys.exit(str(error))
    except Finished:
        peak = peak_memory_bytes()
    allocator = set_allocator(backend) if task["kind"] == "kerascnn" else DEFAULT
    turns.tell({"peak_memory_bytes": peak, "allocator": allocator, "product_flops": product_flops(backend, device)})


if __name__ == "__main__":
    main()
