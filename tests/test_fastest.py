"""``--backend auto``: what is measured is remembered until something that it rests on changes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kerascnn.bench import fastest
from kerascnn.bench.fastest import Speeds, fastest_backend, fingerprint
from kerascnn.bench.measuring import PassingError
from kerascnn.catalog import load_recipe
from kerascnn.errors import BackendError
from kerascnn.machine import nvidia_gpus
from kerascnn.recipe import Recipe
from kerascnn.training import backend as backends
from tests.conftest import OWN_CATALOG, Command

RATES = {"torch": 412.0, "tensorflow": 1020.0}
RECIPE = load_recipe("plain12_bn")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two backends, torch and TensorFlow, and the names of the networks that were measured on them."""
    networks: list[str] = []

    def measure(recipe: Recipe, names: Sequence[str], device: str) -> Speeds:
        networks.append(recipe.name)
        return Speeds(model=recipe.name, images_per_s={name: RATES[name] for name in names}, left_out={})

    monkeypatch.setattr(backends, "installed_backends", lambda: ["torch", "tensorflow"])
    monkeypatch.setattr(fastest, "measure", measure)
    return networks


def choose(recipe: Recipe = RECIPE, device: str = "cpu") -> tuple[str, list[str]]:
    told: list[str] = []
    return fastest_backend(recipe, device, told.append), told


def test_the_fastest_is_taken_and_remembered(measured: list[str], own_home: Path) -> None:
    file = own_home / "cache" / "speeds.json"
    name, told = choose()
    assert name == "tensorflow"
    assert told[-1] == f"torch: 412 images/s, tensorflow: 1,020 images/s; taking tensorflow, remembered in {file}"
    assert json.loads(file.read_text())["networks"]
    name, told = choose(load_recipe("plain12_bn", {"train.epochs": 3, "train.optimizer.learning_rate": 1e-4}))
    assert name == "tensorflow"
    assert told == [f"torch: 412 images/s, tensorflow: 1,020 images/s; taking tensorflow, as remembered in {file}"]
    assert measured == ["plain12_bn"]


def change_version(monkeypatch: pytest.MonkeyPatch) -> None:
    old = backends.versions
    monkeypatch.setattr(backends, "versions", lambda name: {**old(name), "keras": "99"})


def change_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "17")


def change_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.Process.cpu_affinity", lambda self: list(range(1000)), raising=False)


def change_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that lists one, where there was none."""
    folder = Path.cwd() / "driver"
    folder.mkdir()
    (folder / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA H200\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    assert nvidia_gpus() == ["NVIDIA H200"]


@pytest.mark.parametrize(
    "change",
    [
        change_version,
        change_threads,
        change_cores,
        pytest.param(change_gpu, marks=pytest.mark.skipif(sys.platform == "win32", reason="a script as a program")),
    ],
)
def test_figures_of_other_versions_and_threads_are_thrown_away(
    change: Callable[[pytest.MonkeyPatch], None],
    measured: list[str],
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choose()
    choose(load_recipe("cnn2_cifar"))
    change(monkeypatch)
    choose()
    assert measured == ["plain12_bn", "cnn2_cifar", "plain12_bn"]
    remembered = json.loads((own_home / "cache" / "speeds.json").read_text())
    assert [speeds["model"] for speeds in remembered["networks"].values()] == ["plain12_bn"]


@pytest.mark.parametrize(
    "change", [{"train.batch_size": 32}, {"activation": "silu"}, {"train.precision": "mixed_bfloat16"}]
)
def test_another_network_or_batch_size_is_measured_anew(change: dict[str, object], measured: list[str]) -> None:
    choose()
    choose(load_recipe("plain12_bn", change))
    choose()
    assert len(measured) == 2


def test_a_damaged_cache_is_measured_anew(measured: list[str], own_home: Path) -> None:
    choose()
    (own_home / "cache" / "speeds.json").write_text('{"made_by": {}, "networks": {"a": {"images_per_s": "fast"}}}')
    choose()
    assert len(measured) == 2


def test_a_cache_that_cannot_be_written_is_said(measured: list[str], own_home: Path) -> None:
    (own_home / "cache").write_text("a file where the folder should be")
    name, told = choose()
    assert name == "tensorflow"
    assert "not remembered" in told[-1]


def test_where_no_backend_trains_the_network_the_reasons_are_told(
    measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Speeds(
        model="x", images_per_s={}, left_out={"torch": "out of memory", "tensorflow": "it wasn't done in time"}
    )
    monkeypatch.setattr(fastest, "measure", lambda *_: lost)
    with pytest.raises(
        BackendError, match="torch left out: out of memory, tensorflow left out: it wasn't done in time"
    ):
        choose()


def test_one_backend_needs_no_measurement(measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "installed_backends", lambda: ["torch"])
    assert choose() == ("torch", ["only torch is installed: nothing to measure"])
    assert measured == []


def test_each_backend_has_an_equal_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]

    class Endless:
        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> Endless:
            return self

        def __exit__(self, *_: object) -> None: ...

        def start(self, until: float) -> None:
            clock.append(until)
            raise PassingError("it wasn't done in time")

    monkeypatch.setattr(fastest, "Trainer", Endless)
    monkeypatch.setattr("time.monotonic", lambda: clock[-1])
    found = fastest.measure(RECIPE, ["torch", "tensorflow", "jax"], "cpu")
    assert clock == [100, 120, 140, 160]
    assert found.passing
    assert found.left_out.keys() == {"torch", "tensorflow", "jax"}


def test_what_a_late_backend_might_have_won_is_measured_anew(
    measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(recipe: Recipe, names: Sequence[str], device: str) -> Speeds:
        measured.append(recipe.name)
        return Speeds(model="x", images_per_s={"torch": 1.0}, left_out={"tensorflow": "late"}, passing=True)

    monkeypatch.setattr(fastest, "measure", measure)
    for number in (1, 2):
        name, told = choose()
        assert name == "torch"
        assert told[-1].endswith("not remembered: the next time may be quieter")
        assert len(measured) == number


@pytest.mark.backend
def test_a_backend_that_fails_is_left_out(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "TRAINED_S", 0.01)
    found = fastest.measure(load_recipe("tiny", catalog=OWN_CATALOG), ["nonesuch", backend], "cpu")
    assert found.images_per_s.keys() == {backend}
    assert "nonesuch" in found.left_out["nonesuch"]


@pytest.mark.parametrize(
    ("end", "passing"),
    [
        ("import os; os.kill(os.getpid(), 9)", True),
        ("raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')", True),
        ("raise RuntimeError('no kernel for this')", False),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="its processes aren't killed by a signal")
def test_what_a_lack_of_memory_left_out_is_measured_anew(
    end: str, passing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{end}"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    found = fastest.measure(RECIPE, ["torch"], "cpu")
    assert found.left_out.keys() == {"torch"}
    assert found.passing is passing


@pytest.mark.backend
def test_a_run_takes_what_is_remembered(
    kerascnn_command: Command, backend: str, own_home: Path, tmp_path: Path
) -> None:
    recipe = load_recipe("tiny", catalog=OWN_CATALOG)
    installed = backends.installed_backends()
    rates = {name: 2.0 if name == backend else 1.0 for name in installed}
    known = {fingerprint(recipe): Speeds(model="tiny", images_per_s=rates, left_out={})}
    made_by = fastest.circumstances(installed, "cpu")
    assert fastest.keep(own_home / "cache" / "speeds.json", fastest.Remembered(made_by=made_by, networks=known))
    arguments = ["train", "tiny", "--catalog", OWN_CATALOG, "--device", "cpu", "--epochs", 1, "--limit-train", 32]
    done = kerascnn_command(*arguments, "--backend", "auto", "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    assert f"with {backend} (--backend auto)" in done.stderr
    assert len(installed) == 1 or f"taking {backend}, as remembered in" in done.stderr
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert (environment["backend"], environment["backend_reason"]) == (backend, "--backend auto")
    done = kerascnn_command("train", "--resume", "run", "--backend", "auto")
    assert done.returncode == 2
    assert "--resume takes the run's own backend" in done.stderr


def test_fingerprints_differ_with_what_a_step_costs_alone() -> None:
    same = [{}, {"train.seed": 3}, {"train.limit_train": 10}, {"dataset": "fashion_mnist"}]
    other = [{"train.augment.flip": True}, {"train.optimizer": "sgd"}, {"filters": [64, 128]}, {"train.ema": 0.9}]
    assert len({fingerprint(load_recipe("plain12_bn", change)) for change in same}) == 1
    assert len({fingerprint(load_recipe("plain12_bn", change)) for change in [{}, *other]}) == 5
