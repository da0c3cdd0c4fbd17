"""What the tests share: a home of their own, small networks, and the command as a process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from kerascnn.catalog import load_recipe
from kerascnn.machine import usable_cores
from kerascnn.recipe import Recipe
from kerascnn.training import allocator

# One process, one backend: the tests run on the one that KERAS_BACKEND names.
os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Two workers of pytest-xdist with as many of torch's threads as there are cores wait for each other, and so do their
# trainings. TensorFlow keeps its own: with one thread its BatchNorm rounds otherwise.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(usable_cores() // _WORKERS, 1)))

# The tests' own process builds many networks and gives back what each took; a training by itself keeps it.
allocator._SETTINGS = ()

# In the background of a shell Ctrl-C is ignored, and then in every process of a test too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Long enough that a busy machine never reaches it: a test waits for what it awaits, and this ends one that hangs.
GIVE_UP_S = 600.0
OWN_CATALOG = Path(__file__).parent / "own.toml"

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def backend() -> str:
    return os.environ["KERAS_BACKEND"]


@pytest.fixture(scope="session")
def keras(backend: str) -> Any:
    """Keras, imported as kerascnn imports it."""
    from kerascnn.training.backend import activate

    activate(backend)
    import keras

    return keras


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the user's caches, data or runs, and none writes there."""
    home = tmp_path_factory.mktemp("home")
    for name in ("KERASCNN_DATA", "KERASCNN_MIRROR", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KERASCNN_CACHE", str(home / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(home / "keras"))
    monkeypatch.setattr("kerascnn.data.locate.SYSTEM_DATASETS", home / "system")
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture(autouse=True)
def no_training_outlives_its_test(tmp_path: Path) -> Iterator[None]:
    """A run that a failed test left behind would slow all that come after it."""
    yield
    for process in psutil.process_iter(["cmdline"]):
        if "kerascnn" in (line := " ".join(process.info["cmdline"] or [])) and str(tmp_path) in line:
            with contextlib.suppress(psutil.Error):
                process.kill()


@pytest.fixture
def kerascnn_command() -> Command:
    """Run ``kerascnn ARGUMENTS`` as a process of its own and wait for it."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kerascnn", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=GIVE_UP_S,
            env={**os.environ, "COLUMNS": "200", **environment},
            check=False,
        )

    return run


@pytest.fixture
def start_command() -> Callable[..., subprocess.Popen[str]]:
    """Start ``kerascnn ARGUMENTS`` and don't wait."""

    def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "kerascnn", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    return start


@pytest.fixture
def recipe_of_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    """A recipe, with changes, whose network comes from a file of one's own: a source with a function ``build``."""

    def make(name: str, source: str, changes: dict[str, Any] | None = None) -> Recipe:
        (tmp_path / f"{name}_builder.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        catalog = tmp_path / f"{name}.toml"
        catalog.write_text(f'[models.{name}]\nbuilder = "{name}_builder:build"\ndataset = "fashion_mnist_mini"\n')
        return load_recipe(name, changes, catalog=catalog)

    return make


def events_of(run_dir: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The raw events of a run, of one kind or all."""
    events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    return [event for event in events if kind in (None, event["kind"])]


def effective_steps(run_dir: Path) -> dict[int, float]:
    """The loss of each recorded step, the last word on each."""
    return {event["step"]: event["loss"] for event in events_of(run_dir, "step")}


def write_image_folder(root: Path, *, classes: int = 2, images: int = 6, size: tuple[int, int] = (40, 30)) -> None:
    """A folder of JPEG and PNG images, one folder a class, each class of its own brightness."""
    from PIL import Image

    random = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(images):
            low = 200 * label // max(classes - 1, 1)
            pixels = random.integers(low, low + 50, (*size, 3), dtype=np.uint8)
            suffix = "jpg" if number % 2 else "png"
            Image.fromarray(pixels).save(folder / f"{number}.{suffix}")
