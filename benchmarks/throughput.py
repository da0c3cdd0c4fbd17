"""Training throughput of a network of the zoo against the lecture's own loop in plain PyTorch.

Both train the same network from images in memory, in turn, in one process: a round is a few steps of the one, then as
many of the other, so what disturbs the machine disturbs both. Each round gives a ratio; the median is the figure.

    python benchmarks/throughput.py cnn2_cifar --data-dir DIR
    python benchmarks/throughput.py plain12_bn --batch-size 64 --rounds 8
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
import torch
from torch import nn

from kerascnn.catalog import load_recipe
from kerascnn.data.batches import TrainingBatches, read_ahead
from kerascnn.data.dataset import load_dataset
from kerascnn.recipe import Plain, Recipe, Vgg
from kerascnn.training.backend import activate, machine, versions

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "silu": nn.SiLU, "tanh": nn.Tanh}


def plain_pytorch(recipe: Recipe) -> nn.Module:
    """The recipe's network as one would write it in PyTorch, channels first.

    Raises:
        SystemExit: the family isn't a sequence of layers.
    """
    if not isinstance(recipe, (Plain, Vgg)) or getattr(recipe, "skip", "none") != "none":
        raise SystemExit(f"expected a network without skips, such as plain12_bn or vgg16_cifar, got {recipe.name}")
    height, width, channels = recipe.input_shape
    depths = recipe.convs_per_group if isinstance(recipe, Vgg) else [recipe.convs_per_group] * len(recipe.filters)
    layers: list[nn.Module] = []
    for out, depth in zip(recipe.filters, depths, strict=True):
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, out, 3, padding=1))
            if recipe.batch_norm == "before":
                layers.append(nn.BatchNorm2d(out))
            layers.append(ACTIVATIONS[recipe.activation]())
            if recipe.batch_norm == "after":
                layers.append(nn.BatchNorm2d(out))
            channels = out
        layers.append(nn.MaxPool2d(2))
        height, width = height // 2, width // 2
    layers.append(nn.Flatten())
    inputs = channels * height * width
    for out in recipe.hidden:
        layers += [nn.Linear(inputs, out), ACTIVATIONS[recipe.activation]()]
        inputs = out
    return nn.Sequential(*layers, nn.Linear(inputs, recipe.classes))


def pytorch_loop(recipe: Recipe, pixels: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
    """The lecture's loop: float images in memory, Adam, cross-entropy, NCHW, eager."""
    model = plain_pytorch(recipe).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255
    targets = torch.from_numpy(labels)
    random = np.random.default_rng(0)
    size = recipe.train.batch_size

    def run(steps: int) -> None:
        # Repeatable kernels are our promise, not the lecture's.
        torch.use_deterministic_algorithms(False)
        for _ in range(steps):
            chosen = torch.from_numpy(random.choice(len(images), size, replace=False))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[chosen]), targets[chosen])
            loss.backward()
            optimizer.step()
        loss.item()
        torch.use_deterministic_algorithms(True, warn_only=True)

    return run


def kerascnn_loop(recipe: Recipe, batches: TrainingBatches) -> Callable[[int], None]:
    """Our step with our batches, read ahead as the engine does."""
    from keras import ops

    from kerascnn.training.initial_weights import assign_initial_weights
    from kerascnn.training.optimizer import make_optimizer
    from kerascnn.training.steps import make_steps
    from kerascnn.zoo import build_model

    model = build_model(recipe)
    assign_initial_weights(model, 0)
    steps_of = make_steps(model, make_optimizer(recipe.train, model.trainable_variables), recipe.train)
    whole = len(batches.images) // batches.batch_size
    numbers = ((epoch, number) for epoch in itertools.count() for number in range(whole))

    def run(steps: int) -> None:
        for pixels, labels in read_ahead(lambda key: batches.make(*key), itertools.islice(numbers, steps)):  # type: ignore[arg-type]
            loss, _, _ = steps_of.train(pixels, labels)
        float(ops.convert_to_numpy(loss))

    return run


def seconds(run: Callable[[int], None], steps: int) -> float:
    """How long so many steps take."""
    began = time.perf_counter()
    run(steps)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print one line a round, then the medians as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--dataset", help="by default the recipe's own")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6, help="steps of each in a round")
    parser.add_argument("--rounds", type=int, default=8, help="counted rounds, after one that isn't")
    asked = parser.parse_args()
    # The lecture's training, whatever the recipe's own.
    changes = {"train.batch_size": asked.batch_size, "train.scaling": "unit", "train.weight_decay": 0.0}
    changes |= {"train.optimizer": "adam", "train.augment": {"pad_crop": 0, "flip": False}}
    changes |= {"dataset": asked.dataset} if asked.dataset else {}
    recipe = load_recipe(asked.model, changes)
    activate("torch")
    data = load_dataset(recipe, data_dir=asked.data_dir)
    ours = kerascnn_loop(recipe, TrainingBatches(data.train, asked.batch_size, 0, recipe.train.augment))
    some = np.arange(min(len(data.train), 5000))
    theirs = pytorch_loop(recipe, data.train.read(some), data.train.labels[some])
    images = asked.steps * asked.batch_size
    rounds = []
    for number in range(asked.rounds + 1):
        our_s, their_s = seconds(ours, asked.steps), seconds(theirs, asked.steps)
        if number:
            rounds.append((images / our_s, images / their_s))
            print(f"round {number}: kerascnn {images / our_s:.1f}, PyTorch {images / their_s:.1f} images/s", flush=True)
    ratios = [a / b for a, b in rounds]
    print(
        json.dumps(
            {
                "model": asked.model,
                "batch_size": asked.batch_size,
                "kerascnn_images_per_s": round(statistics.median(a for a, _ in rounds), 1),
                "pytorch_images_per_s": round(statistics.median(b for _, b in rounds), 1),
                "ratio": round(statistics.median(ratios), 3),
                "ratio_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
                "threads": torch.get_num_threads(),
                "versions": versions("torch"),
                "processor": machine()["processor"],
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
