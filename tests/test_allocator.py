"""What a training process does with memory that it frees: seen by the page faults of freeing and taking it again."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from kerascnn.runs.directory import Run
from kerascnn.training.allocator import set_allocator
from tests.conftest import OWN_CATALOG, Command

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")

# Ten times 64 MiB written and freed: 16,384 pages of 4 KiB each time.
FAULTS = """
import ctypes, resource
from kerascnn.training.allocator import set_allocator
kept, libc = set_allocator('torch'), ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(10):
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
print(kept, faults() - before)
"""


def kept_and_faults(monkeypatch: pytest.MonkeyPatch, asked: str) -> tuple[str, int]:
    monkeypatch.setenv("KERASCNN_ALLOCATOR", asked)
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@on_glibc
def test_freed_memory_stays_unless_the_variable_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, faults = kept_and_faults(monkeypatch, "")
    default, more_faults = kept_and_faults(monkeypatch, "default")
    assert (kept, default) == ("keeping", "default")
    assert faults < more_faults / 5


def test_elsewhere_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set_allocator("tensorflow") == set_allocator("jax") == "default"
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert set_allocator("torch") == "default"


def test_an_unknown_setting_is_refused_before_anything_is_written(kerascnn_command: Command, tmp_path: Path) -> None:
    done = kerascnn_command("train", "tiny", "--catalog", OWN_CATALOG, KERASCNN_ALLOCATOR="defualt")
    assert done.returncode == 2
    assert "expected keeping or default, got 'defualt'; did you mean 'default'" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.backend
def test_a_run_records_it(kerascnn_command: Command, tmp_path: Path) -> None:
    arguments = ["train", "tiny", "--catalog", OWN_CATALOG, "--epochs", 1, "--limit-train", 32, "--run-dir", "run"]
    assert kerascnn_command(*arguments, KERASCNN_ALLOCATOR="default").returncode == 0
    assert Run(tmp_path / "run").environment()["allocator"] == "default"
