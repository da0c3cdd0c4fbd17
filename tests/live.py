"""Runs in processes of their own: how the tests start them, wait for them, and read what they left."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kerascnn.runs import events as ev
from kerascnn.training.checkpoint import Checkpoint, list_checkpoints, read_checkpoint
from tests.conftest import GIVE_UP_S, OWN_CATALOG


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Put a program of ours in the place of Python with ``-m kerascnn``."""
    script = tmp_path / "program"
    script.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{text}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until something is there, or the process that should bring it is gone."""
    deadline = time.monotonic() + GIVE_UP_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def events_of_live(run_dir: Path, kind: str) -> list[ev.Event]:
    return [event for event in ev.read_events(run_dir / "events.jsonl")[0] if event.kind == kind]


def final_state(run_dir: Path) -> Checkpoint:
    return read_checkpoint(list_checkpoints(run_dir / "checkpoints")[0])


def train_arguments(run_dir: Path, precision: str = "float32") -> list[object]:
    return [
        "train",
        "stateful",
        "--catalog",
        OWN_CATALOG,
        "--run-dir",
        run_dir,
        "--set",
        f"train.precision={precision}",
        "--checkpoint-minutes",
        0.0005,
    ]
