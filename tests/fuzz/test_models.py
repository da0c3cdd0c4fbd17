"""Model files: only weights are taken from them, into a network built from the recipe."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from kerascnn.catalog import load_recipe
from kerascnn.cli import app
from kerascnn.errors import RunError
from kerascnn.runs.directory import Run, create_run
from kerascnn.training.inference import load_network
from tests.conftest import OWN_CATALOG
from tests.fuzz.harness import answer, edited, edits, fuzzed

pytestmark = pytest.mark.backend
RECIPE = load_recipe("tiny", {"filters": [2], "hidden": [], "train.limit_val": 50}, catalog=OWN_CATALOG)


def make_run(path: Path) -> Run:
    """A run with weights, as training leaves it."""
    import kerascnn

    run = create_run(path, RECIPE, [])
    run.environment_file.write_text(json.dumps({"backend": os.environ["KERAS_BACKEND"]}))
    model = kerascnn.build_model(RECIPE)
    model.save(run.model_file)
    model.save_weights(run.best_weights_file)
    return run


@functools.cache
def weights() -> tuple[bytes, bytes]:
    """``best.weights.h5`` and ``model.keras``, whole."""
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run")
        return run.best_weights_file.read_bytes(), run.model_file.read_bytes()


@pytest.fixture(scope="module")
def run(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("models") / "run")


@pytest.fixture
def copied(run: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(run.path, tmp_path / "run")))


def lambda_file(keras: Any, path: Path, canary: Path) -> None:
    """A whole model with a Lambda layer that leaves a trace when it is called."""

    # Keras writes the code of a true lambda into the file, without what is around it.
    leave_a_trace = eval(f"lambda x: (open({str(canary)!r}, 'w').close(), x)[1]")
    inputs = keras.Input(RECIPE.input_shape)
    model = keras.Model(inputs, keras.layers.Lambda(leave_a_trace, output_shape=RECIPE.input_shape)(inputs))
    model.save(path)
    canary.unlink(missing_ok=True)


def everything_that_reads_weights(run: Run, image: Path) -> list[str]:
    """What each way of using a run's network says when it is refused."""
    said = []
    for which in ("best", "final"):
        with pytest.raises(RunError) as caught:
            load_network(run, which=which)  # type: ignore[arg-type]
        said.append(str(caught.value))
        for command in (["evaluate", str(run.path), "--offline"], ["predict", str(run.path), str(image)]):
            told = CliRunner().invoke(app, [*command, "--weights", which])
            assert isinstance(told.exception, RunError), (command, told.exception)
    return said


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(path)
    return path


def test_a_model_file_with_a_lambda_layer_is_refused_and_runs_nothing(
    keras: Any, copied: Run, image: Path, tmp_path: Path
) -> None:
    canary, evil = tmp_path / "canary", tmp_path / "evil.keras"
    lambda_file(keras, evil, canary)
    for file in (copied.model_file, copied.best_weights_file):
        shutil.copy(evil, file)
    for message in everything_that_reads_weights(copied, image):
        assert "expected the weights of tiny" in message
    assert not canary.exists()
    keras.saving.load_model(evil, safe_mode=False)(np.zeros((1, *RECIPE.input_shape), np.float32))
    assert canary.exists(), "the file runs nothing even where it may"


def test_a_config_with_a_lambda_layer_beside_the_right_weights_is_not_read(
    keras: Any, copied: Run, image: Path, tmp_path: Path
) -> None:
    canary, evil, both = tmp_path / "canary", tmp_path / "evil.keras", tmp_path / "both.keras"
    lambda_file(keras, evil, canary)
    with (
        zipfile.ZipFile(both, "w") as archive,
        zipfile.ZipFile(evil) as theirs,
        zipfile.ZipFile(copied.model_file) as ours,
    ):
        for name in ("config.json", "metadata.json"):
            archive.writestr(name, theirs.read(name))
        archive.writestr("model.weights.h5", ours.read("model.weights.h5"))
    shutil.copy(both, copied.model_file)
    loaded = load_network(copied, which="final")
    told = CliRunner().invoke(app, ["predict", str(copied.path), str(image), "--weights", "final"])
    assert told.exit_code == 0, told.exception
    assert [layer.name for layer in loaded.layers if "lambda" in layer.name] == []
    assert not canary.exists()


def test_the_best_weights_are_used_without_a_look_at_the_model_file(
    keras: Any, copied: Run, image: Path, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    lambda_file(keras, copied.model_file, canary)
    for command in (["evaluate", str(copied.path), "--offline"], ["predict", str(copied.path), str(image)]):
        told = CliRunner().invoke(app, command)
        assert told.exit_code == 0, told.exception
    assert not canary.exists()


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "zip"])
def test_garbage_in_place_of_weights_is_named(content: bytes, copied: Run, image: Path) -> None:
    for file in (copied.model_file, copied.best_weights_file):
        file.write_bytes(content)
    best, final = everything_that_reads_weights(copied, image)
    assert f"{copied.best_weights_file}: expected the weights of tiny: " in best
    assert f"{copied.model_file}: expected the weights of tiny: " in final
    assert "\n" not in best + final


def test_weights_that_link_to_another_file_are_refused(copied: Run, run: Run, image: Path) -> None:
    """HDF5 can take its numbers from any file that the user can read."""
    import h5py

    with h5py.File(copied.best_weights_file, "a") as file:
        del file["layers"]
        file["layers"] = h5py.ExternalLink(str(run.best_weights_file), "/layers")
    shutil.copy(copied.best_weights_file, copied.model_file)
    everything_that_reads_weights(copied, image)


def test_weights_that_claim_more_than_is_there_cost_no_memory(copied: Run, image: Path) -> None:
    import h5py

    with h5py.File(copied.best_weights_file, "a") as file:
        names: list[str] = []
        file.visititems(lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) else None)
        del file[names[0]]
        file.create_dataset(names[0], shape=(2**38,), dtype="f4", chunks=(2**20,), compression="gzip")
    size = copied.best_weights_file.stat().st_size
    assert answer(lambda: load_network(copied), size=size) is None


@pytest.mark.usefixtures("keras")
@fuzzed("weights", short=40, long=1500, changes=edits(), which=st.sampled_from(["best", "final"]))
def test_damaged_weights(folder: Path, changes: list[Any], which: Any) -> None:
    best, final = weights()
    run = Run(folder / "run")
    if not run.path.exists():
        create_run(run.path, RECIPE, [])
        run.environment_file.write_text(json.dumps({"backend": os.environ["KERAS_BACKEND"]}))
    run.best_weights_file.write_bytes(edited(best, changes))
    run.model_file.write_bytes(edited(final, changes))
    answer(lambda: load_network(run, which=which), size=len(best) + len(final))


@pytest.mark.usefixtures("keras")
def test_a_heap_that_is_no_heap_is_refused(copied: Run) -> None:
    """HDF5 tells this as a RuntimeError, out of h5py's depths."""
    content = copied.best_weights_file.read_bytes()
    assert b"HEAP" in content
    copied.best_weights_file.write_bytes(content.replace(b"HEAP", b"DEEP"))
    with pytest.raises(RunError, match="expected the weights of tiny"):
        load_network(copied)
