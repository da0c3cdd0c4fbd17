"""Controlling a live run: every command is confirmed by an event, and a resume repeats what changed the training."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import kerascnn
from kerascnn.errors import RunError, UsageError
from kerascnn.runs import control
from kerascnn.runs.directory import Run, create_run, open_run
from kerascnn.runs.events import (
    CheckpointWritten,
    ControlApplied,
    EpochDone,
    Event,
    EventWriter,
    Phase,
    StepDone,
    of_kind,
)
from kerascnn.runs.process import full_name_of_process
from kerascnn.training.checkpoint import differences, list_checkpoints
from kerascnn.training.control import Control
from kerascnn.training.session import Options
from tests.conftest import GIVE_UP_S, OWN_CATALOG, Command, events_of
from tests.live import events_of_live, final_state, train_arguments, wait_for
from tests.test_training import own

LONG = ["train", "tiny", "--catalog", OWN_CATALOG, "--epochs", 500, "--limit-train", 6000]


@pytest.mark.backend
def test_a_live_run_is_paused_changed_resumed_and_stopped(
    tmp_path: Path, kerascnn_command: Command, start_command: Callable[..., subprocess.Popen[str]]
) -> None:
    run_dir = tmp_path / "run"
    process = start_command(*LONG, "--run-dir", run_dir)
    wait_for(lambda: len(events_of_live(run_dir, "step")) >= 3, process)
    paused = kerascnn_command("control", run_dir, "pause")
    assert paused.returncode == 0, paused.stderr
    assert "paused after step" in paused.stderr
    assert open_run(run_dir).summary().state == "paused"
    for arguments in (["set-lr", "5e-4"], ["extend", "2"], ["resume"], ["stop"]):
        done = kerascnn_command("control", run_dir, *arguments)
        assert done.returncode == 0, done.stderr
    _, said = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 0, said
    applied = events_of(run_dir, "control")
    assert [event["command"] for event in applied] == ["pause", "set-lr", "extend", "resume", "stop"]
    # Nothing was trained between the pause and its end.
    assert len({event["step"] for event in applied[:4]}) == 1
    assert applied[2]["epochs"] == 502
    after = [event for event in events_of(run_dir, "step") if event["step"] > applied[0]["step"]]
    assert all(event["learning_rate"] == pytest.approx(5e-4) for event in after)
    events = events_of(run_dir)
    assert [events[-2]["kind"], events[-1]["state"]] == ["checkpoint", "stopped"]
    assert final_state(run_dir).progress.epochs == 502
    assert open_run(run_dir).summary().epochs == 502


@pytest.mark.backend
def test_a_pause_between_two_steps_saves_the_run_first(keras: object, tmp_path: Path) -> None:
    """Who reads of the pause may switch the machine off. What can't be written is no reason to end the run."""
    run, gone = Run(tmp_path / "run"), tmp_path / "gone"
    saved: list[list[str]] = []

    def listen(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            for _ in range(2):
                control.ask(run, control.make_command("pause", None))
        if isinstance(event, StepDone) and event.step == 7:
            run.checkpoints.rename(gone)
            control.ask(run, control.make_command("pause", None))
        if isinstance(event, ControlApplied) and event.command == "pause":
            if gone.exists():
                gone.rename(run.checkpoints)
            saved.append([path.stem for path in list_checkpoints(run.checkpoints)])
            control.ask(run, control.make_command("resume", None))

    result = kerascnn.train(own("tiny"), run_dir=run.path, listeners=[listen])
    assert result.state == "finished"
    assert saved == [["step-000000003"]] * 3
    reasons = [(event["step"], event["reason"]) for event in events_of(run.path, "checkpoint")]
    assert reasons == [(3, "pause"), (10, "epoch")]


@pytest.mark.backend
def test_a_pause_in_a_validation_saves_nothing(keras: object, tmp_path: Path) -> None:
    """The weights are then their moving average."""
    run = Run(tmp_path / "run")
    saved: list[list[Path]] = []

    def listen(event: Event) -> None:
        if isinstance(event, Phase) and event.phase == "validating":
            control.ask(run, control.make_command("pause", None))
        if isinstance(event, ControlApplied) and event.command == "pause":
            saved.append(list_checkpoints(run.checkpoints))
            control.ask(run, control.make_command("resume", None))

    recipe = own("stateful", train__epochs=1)
    paused = kerascnn.train(recipe, run_dir=run.path, listeners=[listen])
    assert saved == [[]]
    straight = kerascnn.train(recipe)
    assert differences(final_state(paused.run_dir), final_state(straight.run_dir)) == []


@pytest.mark.backend
def test_a_resume_repeats_a_changed_learning_rate_at_its_step(
    tmp_path: Path, kerascnn_command: Command, start_command: Callable[..., subprocess.Popen[str]]
) -> None:
    whole, before = tmp_path / "whole", tmp_path / "before"
    process = start_command(*train_arguments(whole), "--epochs", 6)
    wait_for(lambda: len(events_of_live(whole, "checkpoint")) >= 2, process)
    assert kerascnn_command("control", whole, "pause").returncode == 0
    shutil.copytree(whole, before)
    for arguments in (["resume"], ["set-lr", "0.001"], ["extend", "1"]):
        assert kerascnn_command("control", whole, *arguments).returncode == 0
    _, said = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 0, said
    # As if the process had been killed at its end and all newer checkpoints lost.
    killed = tmp_path / "killed"
    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "checkpoints")
    shutil.copytree(before / "checkpoints", killed / "checkpoints")
    changed = [event["step"] for event in events_of(whole, "control") if event["command"] == "set-lr"]
    assert final_state(killed).progress.step < changed[0]
    assert kerascnn_command("train", "--resume", killed).returncode == 0
    assert final_state(killed).progress.epochs == 7
    assert differences(final_state(whole), final_state(killed)) == []


@pytest.mark.backend
def test_an_epoch_tells_the_rate_of_its_own_steps_after_a_resume_too(keras: object, tmp_path: Path) -> None:
    """A new rate that came between two epochs is repeated before the first one's validation, at the same step."""
    whole, early = Run(tmp_path / "whole"), tmp_path / "early"

    def listen(event: Event) -> None:
        if isinstance(event, CheckpointWritten) and event.step == 5:
            shutil.copytree(whole.checkpoints, early)
        if isinstance(event, EpochDone) and event.epoch == 1:
            control.ask(whole, control.make_command("set-lr", 1e-4))
            control.ask(whole, control.make_command("extend", 1.0))

    recipe = own("tiny", train__epochs=2)
    kerascnn.train(recipe, run_dir=whole.path, options=Options(checkpoint_every_s=0), listeners=[listen])
    killed = Run(tmp_path / "killed")
    shutil.copytree(whole.path, killed.path)
    shutil.rmtree(killed.checkpoints)
    shutil.copytree(early, killed.checkpoints)
    kerascnn.resume(killed)
    rates = [epoch["learning_rate"] for epoch in final_state(killed.path).progress.history]
    assert rates == [recipe.train.optimizer.learning_rate, pytest.approx(1e-4), pytest.approx(1e-4)]
    assert differences(final_state(whole.path), final_state(killed.path)) == []


@pytest.mark.backend
def test_a_finished_run_is_extended(tmp_path: Path, kerascnn_command: Command) -> None:
    run_dir = tmp_path / "my run"
    arguments = ["train", "tiny", "--catalog", OWN_CATALOG, "--run-dir", run_dir, "--limit-train", 100]
    assert kerascnn_command(*arguments).returncode == 0
    noted = kerascnn_command("control", run_dir, "extend", 1)
    assert noted.returncode == 0
    assert f"`kerascnn train --resume '{run_dir}'` does it" in noted.stderr
    assert kerascnn_command("train", "--resume", run_dir).returncode == 0
    summary = open_run(run_dir).summary()
    assert (summary.state, summary.epoch, summary.epochs) == ("finished", 2, 2)
    # As soon as it goes on again, whoever looks sees two epochs, not the recipe's one.
    assert kerascnn_command("train", "--resume", run_dir).returncode == 0
    assert [event["epochs"] for event in events_of(run_dir, "run started")] == [1, 1, 2]
    assert len(list_checkpoints(run_dir / "checkpoints")) == 2


@pytest.mark.backend
def test_an_epoch_that_an_early_stopped_run_was_extended_by_survives_a_kill(
    tmp_path: Path, kerascnn_command: Command, start_command: Callable[..., subprocess.Popen[str]]
) -> None:
    run_dir = tmp_path / "run"
    # So small a rate that the second epoch can't be better than the first.
    stop_early = ["--set", 'train.early_stopping={monitor="val_accuracy", patience=1}', "--learning-rate", "1e-30"]
    # Long enough an epoch to be killed in.
    arguments = ["train", "tiny", "--catalog", OWN_CATALOG, "--run-dir", run_dir, "--limit-train", 5000, *stop_early]
    assert kerascnn_command(*arguments, "--epochs", 9).returncode == 0
    assert open_run(run_dir).summary().epoch == 2
    assert kerascnn_command("control", run_dir, "extend", 1).returncode == 0
    process = start_command("train", "--resume", run_dir, "--checkpoint-minutes", 0.0001)
    wait_for(
        lambda: any(event.reason == "minutes" for event in of_kind(open_run(run_dir).events(), CheckpointWritten)),
        process,
    )
    process.kill()
    process.communicate()
    assert open_run(run_dir).summary().epoch == 2
    resumed = kerascnn_command("train", "--resume", run_dir)
    assert resumed.returncode == 0, resumed.stderr
    summary = open_run(run_dir).summary()
    assert (summary.state, summary.epoch) == ("finished", 3)


def test_a_stop_for_a_process_that_is_gone_does_not_stop_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "control.jsonl"
    path.write_text(
        f'{{"id": "old", "command": "stop", "process": "{os.getpid()} of another start"}}\n'
        f'{{"id": "mine", "command": "pause", "process": "{full_name_of_process(os.getpid())}"}}\n'
    )
    assert [command.id for command in control.Inbox(path, set()).new()] == ["mine"]


def test_a_command_that_no_checkpoint_holds_is_given_again(tmp_path: Path) -> None:
    """A run is killed after it was extended and before its next checkpoint, both after the same step."""
    run = create_run(tmp_path / "run", own("tiny"), [])
    writer = EventWriter(run.events_file)
    for name, command in (("a", "set-lr"), ("b", "extend"), ("c", "pause")):
        writer.write(ControlApplied(id=name, command=command, value=None if name == "c" else 2.0, step=8, epochs=3))  # type: ignore[arg-type]
    writer.close()
    assert [command.id for command in Control(run, {"a"}).commands(8)] == ["b"]
    assert Control(run, {"a", "b"}).commands(8) == []
    assert Control(run, set()).commands(7) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("wait", None), "expected pause, resume, stop, set-lr or extend, got 'wait'"),
        (("set-lr", None), "expected a learning rate above 0"),
        (("set-lr", -1.0), "expected a learning rate above 0"),
        (("extend", 1.5), "expected a whole number of epochs"),
        (("extend", 0.0), "expected a whole number of epochs"),
        (("pause", 3.0), "takes no value"),
        (("set-lr", float("nan")), "finite"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(arguments: tuple[str, float | None], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        control.make_command(*arguments)


def test_a_run_without_a_process_cannot_be_paused(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", own("tiny"), [])
    with pytest.raises(RunError, match="no process works on this run"):
        control.ask(run, control.make_command("pause", None))
    assert not run.control_file.exists()


def test_the_inbox_skips_what_is_no_command_and_what_was_applied(tmp_path: Path) -> None:
    path = tmp_path / "control.jsonl"
    path.write_bytes(
        b'{"id": "a", "command": "pause"}\n'
        b"not json\n"
        b'{"id": "b", "command": "explode"}\n'
        b'{"id": "c", "command": "set-lr", "value": "NaN"}\n'
        b'{"id": "d", "command": "extend", "value": 1e99}\n'
        b"[" * 2000 + b"\n"
        b'{"id": "e", "command": "extend", "value": 2}\n'
        b'{"id": "f", "comm'
    )
    inbox = control.Inbox(path, {"a"})
    assert [(command.id, command.value) for command in inbox.new()] == [("e", 2.0)]
    with path.open("ab") as file:
        file.write(b'and": "stop"}\n')
    assert [command.id for command in inbox.new()] == ["f"]
    assert inbox.new() == []
