"""How fast a trained network is put to use, beside the forward pass that validates it in a training.

    python benchmarks/inference.py resnet20_cifar --images 1000 --rounds 7 --backend torch

Prints one JSON object: images/s of three ways over the same images, in turns in one process, and the ratios of each
round to the first of them; each a median and its 95 % interval.

- ``forward``: training's own validation step, on batches that lie in memory.
- ``evaluate``: what ``kerascnn evaluate`` does once the network is loaded, reading the dataset included.
- ``predict``: what ``kerascnn predict`` does then, with a PNG file for each image.

On TensorFlow the first is traced once, before what counts; each of the others is a command's own, which traces once.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from PIL import Image

import kerascnn
from kerascnn.bench.figures import median_interval
from kerascnn.catalog import load_recipe
from kerascnn.data.batches import ValidationBatches
from kerascnn.data.dataset import load_dataset
from kerascnn.data.known import EMBEDDED
from kerascnn.runs.directory import open_run
from kerascnn.training import inference


def main() -> None:
    """Train one step, and measure what comes of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    changes = {
        "dataset": EMBEDDED,
        "train.batch_size": asked.batch_size,
        "train.epochs": 1,
        "train.limit_train": asked.batch_size,
        "train.limit_val": asked.images,
    }
    recipe = load_recipe(asked.model, changes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kerascnn.train(recipe, run_dir=folder / "run", options=kerascnn.Options(backend=asked.backend))
        run = open_run(folder / "run")
        model = inference.load_network(run, which="final")
        images = load_dataset(recipe, download=False).validation
        batches = ValidationBatches(images, asked.batch_size)
        in_memory = [batches.make(number) for number in range(batches.count)]
        files = []
        for number, image in enumerate(image for pixels, _ in in_memory for image in pixels):
            files.append(folder / f"{number}.png")
            Image.fromarray(image.squeeze()).save(files[-1])

        from kerascnn.training.network import make_network

        steps = make_network(model, recipe.train).steps

        def forward() -> None:
            for pixels, labels in in_memory:
                float(steps.evaluate(pixels, labels)[0])

        ways: dict[str, Callable[[], object]] = {
            "forward": forward,
            "evaluate": lambda: inference.evaluate(run, model, which="final", download=False),
            "predict": lambda: inference.predict(run, model, files),
        }
        found = measured(ways, len(files), asked.rounds)
    print(json.dumps({**vars(asked), **found}))


def measured(ways: dict[str, Callable[[], object]], images: int, rounds: int) -> dict[str, object]:
    """Images/s of each way, and of each round its ratio to the first way; a round comes before what counts."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:
                rates[name].append(images / (time.perf_counter() - began))
    first = rates[next(iter(ways))]
    ratios = {name: [rate / other for rate, other in zip(found, first, strict=True)] for name, found in rates.items()}
    return {
        "images_per_s": {name: asdict(median_interval(found)) for name, found in rates.items()},
        "over_forward": {name: asdict(median_interval(found)) for name, found in ratios.items()},
    }


if __name__ == "__main__":
    main()
