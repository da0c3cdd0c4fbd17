"""How fast a folder of images is read, beside torchvision: each reader in a process of its own, an epoch each in turn.

    python benchmarks/image_folder.py make FOLDER --images 1024
    python benchmarks/image_folder.py read FOLDER --rounds 9
    python benchmarks/image_folder.py read FOLDER --validation
    python benchmarks/image_folder.py train FOLDER --backend torch

``make`` draws JPEG files of ImageNet's usual size, 500×375. ``read`` reads all of them, cut to 224×224 in batches
of 64: a random part of each, flipped half the time, or with ``--validation`` the middle; every reader has as many
threads or worker processes as there are cores. ``--pillow FOLDER`` adds both readers on another Pillow that was
installed there (``pip install --target FOLDER pillow-simd``). ``train`` trains a small network on the folder and
tells how long its loop waited for batches: for the first of each phase, and for the others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kerascnn.bench.figures import median_interval, quartiles

CLASSES = 4
BATCH, SIDE = 64, 224
SIZES = ((500, 375), (375, 500), (500, 333), (500, 500))
OURS = "kerascnn"


@dataclass(frozen=True)
class Reading:
    """A reader's process, and the seconds of each epoch that it read."""

    name: str
    process: subprocess.Popen[str]
    seconds: list[float]


def draw_photo(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Blurred noise of all sizes, coarse parts strongest, as in photographs."""
    width, height = size
    picture = np.zeros((height, width, 3))
    for cells in (3, 8, 24, 64, 160):
        noise = random.normal(size=(cells, cells, 3)) * 60 / cells**0.45
        layers = [
            Image.fromarray(noise[..., channel].astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
            for channel in range(3)
        ]
        picture += np.stack([np.asarray(layer) for layer in layers], axis=2)
    picture += random.normal(size=picture.shape) * 6 + 120
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def make(folder: Path, images: int) -> dict[str, Any]:
    """``train/`` with so many files, and ``val/`` with an eighth as many."""
    random = np.random.default_rng(0)
    written = 0
    for split, count in (("train", images), ("val", images // 8)):
        for number in range(count):
            path = folder / split / f"class{number % CLASSES}" / f"{number:06}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_photo(random, SIZES[number % len(SIZES)]).save(path, quality=92)
            written += path.stat().st_size
    files = images + images // 8
    return {"files": files, "mean_kb": round(written / files / 1000, 1)}


def read_with_kerascnn(folder: Path, validation: bool) -> Callable[[int], int]:
    """Our own reading, as the engine does it."""
    from kerascnn.data.batches import TrainingBatches, ValidationBatches, read_ahead
    from kerascnn.data.dataset import load_folder
    from kerascnn.recipe import Augment

    images = load_folder(folder, (SIDE, SIDE, 3)).train
    training = TrainingBatches(images, BATCH, 0, Augment(random_resized_crop=True, flip=True))
    middle = ValidationBatches(images, BATCH)

    def epoch(number: int) -> int:
        if validation:
            batches = read_ahead(middle.make, range(middle.count))
        else:
            batches = read_ahead(lambda batch: training.make(number, batch), range(training.per_epoch))
        return sum(len(labels) for _, labels in batches)

    return epoch


def read_with_torchvision(folder: Path, validation: bool) -> Callable[[int], int]:
    """``ImageFolder`` and ``DataLoader`` with torchvision's own transforms, which decode and resize with Pillow."""
    import torch
    from torchvision import datasets, transforms

    shape = [transforms.Resize(256), transforms.CenterCrop(SIDE)]
    if not validation:
        shape = [transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip()]
    images = datasets.ImageFolder(str(folder / "train"), transforms.Compose([*shape, transforms.PILToTensor()]))
    loader = torch.utils.data.DataLoader(
        images, BATCH, shuffle=not validation, num_workers=os.cpu_count() or 1, persistent_workers=True
    )
    return lambda _: sum(len(labels) for _, labels in loader)


READERS = {OURS: read_with_kerascnn, "torchvision": read_with_torchvision}


def child(reader: str, folder: Path, validation: bool) -> None:
    """Read an epoch for each line that comes in."""
    epoch = READERS[reader](folder, validation)
    for number, _ in enumerate(sys.stdin):
        began = time.perf_counter()
        seen = epoch(number)
        print(json.dumps({"seconds": time.perf_counter() - began, "images": seen}), flush=True)


@contextlib.contextmanager
def started(name: str, asked: argparse.Namespace, **environment: str) -> Iterator[Reading]:
    """A reader's process, which waits for its first line."""
    command = [sys.executable, __file__, "read", str(asked.folder), "--reader", name]
    command += ["--validation"] if asked.validation else []
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        yield Reading(name, process, [])
    finally:
        process.kill()
        process.communicate()


def read_once(reading: Reading) -> dict[str, float]:
    """One epoch of one reader."""
    assert reading.process.stdin is not None
    assert reading.process.stdout is not None
    reading.process.stdin.write("\n")
    reading.process.stdin.flush()
    answer: dict[str, float] = json.loads(reading.process.stdout.readline())
    return answer


def read(asked: argparse.Namespace) -> dict[str, Any]:
    """Rates, and ours over each other's, epoch by epoch; a first epoch of each warms files and workers."""
    with contextlib.ExitStack() as stack:
        readers = {name: stack.enter_context(started(name, asked)) for name in READERS}
        if asked.pillow:
            path = os.pathsep.join(filter(None, [str(asked.pillow), os.environ.get("PYTHONPATH")]))
            readers |= {
                f"{name}, other Pillow": stack.enter_context(started(name, asked, PYTHONPATH=path)) for name in READERS
            }
        images = {name: read_once(reading)["images"] for name, reading in readers.items()}
        for number in range(asked.rounds):
            for reading in list(readers.values())[:: -1 if number % 2 else 1]:
                reading.seconds.append(read_once(reading)["seconds"])
        memory = {name: held_mb(reading.process.pid) for name, reading in readers.items()}
    ours = readers[OURS].seconds
    found: dict[str, Any] = {}
    for name, reading in readers.items():
        rate = quartiles([images[name] / seconds for seconds in reading.seconds])
        found[name] = {"images_per_s": [round(value) for value in (rate.median, rate.low, rate.high)]}
        found[name]["held_mb"] = memory[name]
        if name != OURS:
            over = median_interval([its / our for our, its in zip(ours, reading.seconds, strict=True)])
            found[name]["ours_over_it"] = [round(value, 2) for value in (over.median, over.low, over.high)]
    return {"images": images[OURS], "rounds": asked.rounds, "readers": found}


def held_mb(pid: int) -> int:
    """What a process and its workers hold of their own after their last epoch, in MB."""
    import psutil

    main = psutil.Process(pid)
    return round(sum(one.memory_full_info().uss for one in (main, *main.children(recursive=True))) / 1e6)


def train(asked: argparse.Namespace) -> dict[str, Any]:
    """How long the loop waited for the first batch of each phase, and for the others, in milliseconds."""
    import kerascnn
    from kerascnn.training.backend import activate

    activate(asked.backend, "cpu")
    from kerascnn.training import engine

    waits: list[float] = []

    def timed(make: Callable[[Any], Any], upcoming: Iterator[Any]) -> Iterator[Any]:
        batches = read_ahead(make, upcoming)
        began = time.perf_counter()
        for batch in batches:
            waits.append(1e3 * (time.perf_counter() - began))
            yield batch
            began = time.perf_counter()

    read_ahead, engine.read_ahead = engine.read_ahead, timed  # type: ignore[assignment]
    epochs, steps, validations = 4, 4, 2
    changes = {
        "dataset": f"folder:{asked.folder}",
        "input_shape": [SIDE, SIDE, 3],
        "classes": CLASSES,
        "blocks_per_stage": 1,
        "train.epochs": epochs,
        "train.batch_size": BATCH,
        "train.limit_train": steps * BATCH,
        "train.limit_val": validations * BATCH,
        "train.augment": {"random_resized_crop": True, "flip": True},
    }
    recipe = kerascnn.load_recipe("resnet20_cifar", changes)
    sizes = [len(list((asked.folder / split).rglob("*.jpg"))) for split in ("train", "val")]
    if sizes[0] < steps * BATCH or sizes[1] < validations * BATCH:
        raise SystemExit(f"expected a folder made with --images 1024 or more, got {sizes[0]} and {sizes[1]} files")
    with tempfile.TemporaryDirectory() as runs:
        kerascnn.train(recipe, runs_folder=runs, options=kerascnn.Options(backend=asked.backend, device="cpu"))
    waited: dict[str, list[float]] = {"first of the run": [], "first of an epoch": [], "first of a validation": []}
    for number, wait in enumerate(waits):
        place = number % (steps + validations)
        name = {0: "first of an epoch" if number else "first of the run", steps: "first of a validation"}
        waited.setdefault(name.get(place, "others"), []).append(wait)
    return {
        name: {"median_ms": round(statistics.median(ms), 1), "longest_ms": round(max(ms), 1)}
        for name, ms in waited.items()
    }


def main() -> None:
    """Print what was found as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "read", "train"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--validation", action="store_true", help="the middle of each image")
    parser.add_argument("--pillow", type=Path, help="where another Pillow is installed")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.reader:
        child(asked.reader, asked.folder, asked.validation)
    elif asked.what == "make":
        print(json.dumps(make(asked.folder, asked.images)))
    else:
        print(json.dumps({"read": read, "train": train}[asked.what](asked), indent=2))


if __name__ == "__main__":
    main()
