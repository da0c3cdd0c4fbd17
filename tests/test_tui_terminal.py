"""The real program in a pseudo-terminal, training the embedded sample: runs and the interface outlive each other."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run, list_runs
from kerascnn.training.backend import BACKENDS
from tests.conftest import Command
from tui.starting.launch import NICENESS

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX's", allow_module_level=True)

from tests.terminal import Terminal


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose runs end with the test."""
    yield tmp_path
    for run in list_runs(tmp_path / "runs"):
        if (pid := run.owner()) is not None:
            with suppress(psutil.Error):
                psutil.Process(pid).kill()


def start_training(terminal: Terminal, backend: str, folder: Path, epochs: int = 500) -> Run:
    """From the first screen to a run of cnn2_fmnist on the embedded sample, by keys alone."""
    terminal.until_shown("cnn2_fmnist", "new run")
    terminal.press("enter")
    terminal.until_shown("new run of cnn2_fmnist", "not known yet")
    terminal.step("tab", "backend")
    for name in BACKENDS:
        if f"--backend {backend}" in terminal.text:
            break
        if importlib.util.find_spec(name):
            before = command_of(terminal)
            terminal.press("space")
            terminal.until(lambda before=before: command_of(terminal) != before, "another backend")
    terminal.step("tab", "dataset")
    terminal.press("space", "space")
    terminal.until_shown("--dataset fashion_mnist_mini", "embedded")
    for label, value in (("epochs", str(epochs)), ("batch size", "64")):
        terminal.step("tab", label)
        # A bound key is done after the letters that follow it at once.
        terminal.press("empty")
        terminal.until(lambda: command_of(terminal).endswith("''"), f"{label} emptied")
        terminal.press(value)
        terminal.until(lambda value=value: command_of(terminal).endswith(value), f"{label} {value}")
    for label in ("optimizer", "learning rate", "scaling", "activation", "initializer", "BatchNorm", "skip", "seed"):
        terminal.step("tab", label)
    for label, value in (("limit train", "256"), ("limit val", "128")):
        terminal.step("tab", label)
        terminal.press(value)
        terminal.until_shown(value)
    asked = f"--epochs {epochs} --batch-size 64 --limit-train 256 --limit-val 128"
    terminal.until(lambda: asked in " ".join(terminal.text.split()), asked)
    terminal.step("enter", "  Start")
    terminal.press("enter")
    terminal.until(lambda: list(list_runs(folder / "runs")), "a run directory")
    (run,) = list_runs(folder / "runs")
    terminal.until(lambda: run.summary().step > 2, "the third step")
    assert run.summary().backend == backend
    return run


def command_of(terminal: Terminal) -> str:
    """The command below the form."""
    return next((line for line in terminal.text.splitlines() if "kerascnn train" in line), "")


def leave_by_quitting(terminal: Terminal, answer: str) -> None:
    terminal.press("\x11")
    terminal.until_shown("A run is live")
    terminal.press(answer)
    assert terminal.wait() == 0


@pytest.mark.backend
def test_a_run_is_started_left_found_survives_a_kill_is_stopped_and_resumed(
    folder: Path, backend: str, kerascnn_command: Command
) -> None:
    terminal = Terminal("-m", "tui", folder=folder)
    run = start_training(terminal, backend, folder)
    owner = run.owner()
    assert owner is not None
    assert psutil.Process(owner).nice() == min(psutil.Process().nice() + NICENESS, 19)
    leave_by_quitting(terminal, "l")
    assert run.owner() == owner, "left running"

    terminal = Terminal("-m", "tui", folder=folder)
    terminal.until_shown("new run")
    terminal.press("2")
    terminal.until_shown("running", "fashion_mnist_mini", run.path.name[-4:])
    terminal.kill()
    step = run.summary().step
    terminal = Terminal("-m", "tui", run.path.name, folder=folder)
    terminal.until(lambda: run.summary().step > step, "a step after the interface was killed")
    assert run.owner() == owner
    terminal.until_shown("cnn2_fmnist")
    leave_by_quitting(terminal, "s")
    kerascnn_command("watch", run.path)
    stopped = run.summary()
    assert stopped.state == "stopped"

    terminal = Terminal("-m", "tui", folder=folder)
    terminal.until_shown("new run")
    terminal.press("2")
    terminal.until_shown("stopped")
    terminal.press("r")
    terminal.until(lambda: run.owner() is not None and run.summary().step > stopped.step, "steps after the resume")
    assert run.owner() != owner
    leave_by_quitting(terminal, "s")
    kerascnn_command("watch", run.path)


def applied(run: Run) -> list[str]:
    """The commands that the run has confirmed."""
    return [event.command for event in ev.of_kind(run.events(), ev.ControlApplied)]


@pytest.mark.backend
def test_a_run_is_paused_changed_stopped_reopened_and_resumed_to_its_end(folder: Path, backend: str) -> None:
    terminal = Terminal("-m", "tui", folder=folder)
    run = start_training(terminal, backend, folder, epochs=20)
    terminal.until_shown("p pause", "▶ training")
    terminal.press("p")
    terminal.until_shown("‖ paused")
    assert run.summary().state == "paused"
    terminal.press("l")
    terminal.until_shown("enter: do it")
    terminal.until(lambda: re.search(r"│ +0\.001 ", terminal.text), "the rate as it is")
    # A bound key is done after the letters that follow it at once.
    terminal.press("empty")
    terminal.until(lambda: not re.search(r"│ +0\.001 ", terminal.text), "the rate emptied")
    terminal.press("0.0005")
    terminal.until_shown("0.0005")
    terminal.press("enter")
    terminal.until(lambda: applied(run) == ["pause", "set-lr"], "the new learning rate")
    terminal.press("p")
    terminal.until(lambda: applied(run) == ["pause", "set-lr", "resume"], "the end of the pause")
    terminal.press("s")
    terminal.until_shown("■ stopped", "r resume")
    stopped = run.summary()
    assert (stopped.state, stopped.epochs) == ("stopped", 20)
    assert stopped.epoch < 20
    terminal.press("q")
    assert terminal.wait() == 0

    terminal = Terminal("-m", "tui", "last", folder=folder)
    terminal.until_shown("■ stopped", "r resume")
    terminal.press("r")
    terminal.until_shown("✓ finished")
    finished = run.summary()
    assert (finished.state, finished.epoch, finished.step) == ("finished", 20, 80)
    rates = [step.learning_rate for step in ev.of_kind(run.events(), ev.StepDone) if step.step > stopped.step]
    assert rates
    assert all(rate == pytest.approx(0.0005) for rate in rates)
    terminal.press("q")
    assert terminal.wait() == 0


@pytest.mark.backend
@pytest.mark.parametrize("other", ["torch", "tensorflow"])
def test_the_same_start_on_the_other_backend(folder: Path, backend: str, other: str, kerascnn_command: Command) -> None:
    if other == backend or importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is the one that the longer test runs on, or isn't installed")
    terminal = Terminal("-m", "tui", folder=folder)
    run = start_training(terminal, other, folder)
    leave_by_quitting(terminal, "s")
    kerascnn_command("watch", run.path)
    assert run.summary().state == "stopped"
