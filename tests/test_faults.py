"""What befalls a run on a real machine. Each time: no file is corrupt, something says what happened, and it goes on.

The faults are real, done to real processes: SIGKILL, a full file system, an address-space limit.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import kerascnn
from kerascnn.errors import CheckpointError, RunError, UnknownNameError
from kerascnn.runs import control
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run, Writer, create_run, delete_run, open_run
from kerascnn.runs.files import PARTIAL
from kerascnn.training.checkpoint import (
    differences,
    list_checkpoints,
    newest_whole,
    read_checkpoint,
    weights_of,
    write_checkpoint,
)
from kerascnn.training.inference import load_network
from kerascnn.training.session import Options
from kerascnn.training.transfer import put_weights
from tests.conftest import GIVE_UP_S, OWN_CATALOG, Command, events_of, write_image_folder
from tests.live import events_of_live, final_state, train_arguments, wait_for
from tests.test_training import own

Start = Callable[..., subprocess.Popen[str]]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults that Linux can be made to have")

# A hundred steps, with a checkpoint about each second step.
EPOCHS = 5


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing befell."""
    run_dir = tmp_path_factory.mktemp("untouched") / "run"
    command = [sys.executable, "-m", "kerascnn", *map(str, train_arguments(run_dir)), "--epochs", str(EPOCHS)]
    subprocess.run(command, check=True, capture_output=True)
    return run_dir


def weights_by_path(model: Any) -> dict[str, np.ndarray]:
    from keras import ops

    return {variable.path: np.array(ops.convert_to_numpy(variable)) for variable in model.weights}


def starting(run_dir: Path) -> list[object]:
    """The arguments that begin a run, or go on with it."""
    if (run_dir / "recipe.toml").is_file():
        return ["train", "--resume", run_dir, "--checkpoint-minutes", 0.0005]
    return [*train_arguments(run_dir), "--epochs", EPOCHS]


def begin(run_dir: Path, start_command: Start, kind: str = "checkpoint", **environment: str) -> subprocess.Popen[str]:
    """A run in a process of its own, past its third checkpoint, or third step."""
    process = start_command(*starting(run_dir), **environment)
    wait_for(lambda: len(events_of_live(run_dir, kind)) >= 3, process)
    return process


def expect_a_sentence(code: int, said: str, sentence: str) -> None:
    """It failed, and said why without a traceback."""
    assert code == 1
    assert sentence in said
    assert "Traceback" not in said


def expect_it_to_go_on(run_dir: Path, untouched: Path, kerascnn_command: Command) -> None:
    """Resumed, it ends as the run that nothing befell."""
    done = kerascnn_command(*starting(run_dir))
    assert done.returncode == 0, done.stderr
    expect_untouched(run_dir, untouched)


def lines_of(run_dir: Path) -> int:
    path = run_dir / "events.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def expect_untouched(run_dir: Path, untouched: Path) -> None:
    """The run is finished, and equal to the bit to the one that nothing befell."""
    assert open_run(run_dir).summary().state == "finished"
    assert differences(final_state(run_dir), final_state(untouched)) == []
    one, two = recorded_losses(run_dir), recorded_losses(untouched)
    common = one.keys() & two.keys()
    assert len(common) >= 50
    assert {step: one[step] for step in common} == {step: two[step] for step in common}


def recorded_losses(run_dir: Path) -> dict[int, float]:
    """The last word on each step. A full disk and a kill cut lines off, which a reader skips."""
    return {event.step: event.loss for event in events_of_live(run_dir, "step") if isinstance(event, ev.StepDone)}


def expect_whole_files(run_dir: Path) -> None:
    """All checkpoints of the run are whole; JSON and TOML read back."""
    run = open_run(run_dir)
    assert run.recipe().name
    for path in list_checkpoints(run.checkpoints):
        read_checkpoint(path)


# ── kill -9 ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def kill_after_lines(process: subprocess.Popen[str], run_dir: Path, lines: int) -> None:
    """Kill a process when its run has recorded so many more events."""
    before = lines_of(run_dir)
    wait_for(lambda: lines_of(run_dir) >= before + lines, process)
    process.kill()
    process.communicate()


def kill_while_writing_a_checkpoint(process: subprocess.Popen[str], run_dir: Path) -> None:
    """Kill a process of which half a checkpoint lies on the disk."""
    while True:
        wait_for(lambda: any((run_dir / "checkpoints").glob(f"{PARTIAL}*")), process)
        process.send_signal(signal.SIGSTOP)
        if any((run_dir / "checkpoints").glob(f"{PARTIAL}*")):
            break
        process.send_signal(signal.SIGCONT)
    process.kill()
    process.communicate()
    assert any((run_dir / "checkpoints").glob(f"{PARTIAL}*"))


@pytest.mark.backend
@pytest.mark.parametrize(
    ("kills", "seed"), [(4, 0), *(pytest.param(20, seed, marks=pytest.mark.slow) for seed in range(1, 6))]
)
def test_a_run_that_is_killed_again_and_again_ends_equal_to_the_bit(
    kills: int, seed: int, tmp_path: Path, untouched: Path, start_command: Start, kerascnn_command: Command
) -> None:
    """In start-up, in mid-epoch, in validation, and every fourth time with half a checkpoint on the disk."""
    run_dir = tmp_path / "run"
    moments = random.Random(seed)
    for kill in range(kills):
        process = start_command(*starting(run_dir))
        if kill % 4 == 3:
            kill_while_writing_a_checkpoint(process, run_dir)
        else:
            kill_after_lines(process, run_dir, moments.randint(1, 16))
        assert open_run(run_dir).summary().state == "killed"
        expect_whole_files(run_dir)
    expect_it_to_go_on(run_dir, untouched, kerascnn_command)
    # What the kills left half written is gone.
    assert not list(run_dir.rglob(f"{PARTIAL}*"))


def test_a_kill_takes_its_parent_but_not_a_run_that_was_left_behind(tmp_path: Path, untouched: Path) -> None:
    run_dir = tmp_path / "run"
    train = [sys.executable, "-m", "kerascnn", *map(str, starting(run_dir)), "--detach"]
    # As a terminal that is closed: the shell and everything in its session.
    shell = subprocess.Popen(["sh", "-c", '"$@"; exec sleep 1000', "sh", *train], start_new_session=True)
    while open_run_or_none(run_dir) is None or open_run(run_dir).owner() is None:
        assert shell.poll() is None
        time.sleep(0.01)
    os.killpg(shell.pid, signal.SIGHUP)
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
    worker = psutil.Process(open_run(run_dir).owner())
    psutil.wait_procs([worker], timeout=GIVE_UP_S)
    expect_untouched(run_dir, untouched)


def open_run_or_none(path: Path) -> Run | None:
    return open_run(path) if (path / "recipe.toml").is_file() else None


def test_a_reader_of_the_output_that_goes_away_takes_no_run_with_it(
    tmp_path: Path, untouched: Path, start_command: Start
) -> None:
    """As `2>&1 | head -1` does."""
    run_dir = tmp_path / "run"
    process = start_command(*starting(run_dir), "--json")
    assert process.stderr is not None
    assert process.stdout is not None
    assert process.stderr.readline().startswith("stateful on")
    process.stderr.close()
    assert json.load(process.stdout)["state"] == "finished"
    assert process.wait(GIVE_UP_S) == 0
    expect_untouched(run_dir, untouched)
    expect_a_note(run_dir, "BrokenPipeError: [Errno 32] Broken pipe")


def test_a_terminal_that_vanishes_without_a_word_takes_no_run_with_it(tmp_path: Path, untouched: Path) -> None:
    run_dir = tmp_path / "run"
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "kerascnn", *map(str, starting(run_dir))]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, text=True)
    os.close(theirs)
    os.set_blocking(ours, False)

    def three_steps_shown() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.read(ours, 100_000)
        return len(events_of_live(run_dir, "step")) >= 3

    wait_for(three_steps_shown, process)
    os.close(ours)
    assert process.wait(GIVE_UP_S) == 0
    expect_untouched(run_dir, untouched)
    expect_a_note(run_dir, "OSError: [Errno 5] Input/output error")


def expect_a_note(run_dir: Path, reason: str) -> None:
    said = f"a listener failed and hears no more: {reason}"
    assert [event["message"] for event in events_of(run_dir, "warning") if "listener" in event["message"]] == [said]


def test_a_run_under_nohup_outlives_its_terminal(tmp_path: Path, untouched: Path) -> None:
    run_dir = tmp_path / "run"
    command = ["nohup", sys.executable, "-m", "kerascnn", *map(str, starting(run_dir))]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True)
    wait_for(lambda: len(events_of_live(run_dir, "step")) >= 3, process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(GIVE_UP_S) == 0
    expect_untouched(run_dir, untouched)


# ── Names ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.backend
def test_a_broken_image_whose_name_is_no_utf8_is_left_out_and_told(keras: object, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    write_image_folder(folder)
    (folder / "class0" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"no image")
    changes = {"dataset": f"folder:{folder}", "classes": 2, "train__val_split": 0.5, "train__batch_size": 2}
    options = Options(skip_bad_images=True, command=["kerascnn", os.fsdecode(b"caf\xe9")])
    run = open_run(kerascnn.train(own("tiny", **changes), options=options).run_dir)
    assert run.summary().state == "finished"
    assert any("don't decode: " in note and "caf?.png" in note for note in notes_of(run))
    assert run.environment()["command"] == ["kerascnn", "caf?"]
    assert run.result()["state"] == "finished"


def notes_of(run: Run) -> list[str]:
    return [event.message for event in ev.of_kind(run.events(), ev.Warned)]


@pytest.mark.backend
def test_a_run_that_fails_on_a_name_that_is_no_utf8_says_so(keras: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), os.fsdecode(b"caf\xe9"))

    monkeypatch.setattr("kerascnn.training.engine.Engine.run", fail)
    with pytest.raises(RunError):
        kerascnn.train(own("tiny"), run_dir=Path("run"))
    assert open_run("run").result()["message"] == events_of(Path("run"))[-1]["message"] == "caf?: Input/output error"


# ── Damaged files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


def empty(content: bytes) -> bytes:
    return b""


@pytest.mark.backend
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    keras: object, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    run = open_run(kerascnn.train(own("tiny", train__limit_train=100, train__epochs=3)).run_dir)
    newest = list_checkpoints(run.checkpoints)[0]
    whole = read_checkpoint(newest)
    newest.write_bytes(damage(newest.read_bytes()))
    assert kerascnn.resume(run).state == "finished"
    assert any(newest.name in event["message"] for event in events_of(run.path, "warning"))
    assert differences(read_checkpoint(newest), whole) == []
    assert newest.with_name(f"{newest.name}.damaged").is_file()


@pytest.mark.backend
def test_a_run_without_a_whole_checkpoint_says_so_and_stays_as_it_is(keras: object) -> None:
    run = open_run(kerascnn.train(own("tiny", train__limit_train=100, train__epochs=2)).run_dir)
    for path in list_checkpoints(run.checkpoints):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="expected a whole checkpoint to go on from"):
        kerascnn.resume(run)
    assert len(list_checkpoints(run.checkpoints)) == 2
    assert run.summary().state == "failed"


def test_a_last_line_that_is_half_written_costs_nothing_else(
    tmp_path: Path, untouched: Path, kerascnn_command: Command
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(untouched, run_dir)
    with (run_dir / "events.jsonl").open("ab") as file:
        file.write(b'{"kind":"step","time":1.0,"step":201,"lo')
    before = open_run(run_dir).events()
    shown = kerascnn_command("watch", run_dir)
    assert (shown.returncode, "Traceback" in shown.stderr) == (0, False)
    assert kerascnn_command("control", run_dir, "extend", 1).returncode == 0
    assert kerascnn_command("train", "--resume", run_dir).returncode == 0
    summary = open_run(run_dir).summary()
    assert (summary.state, summary.epoch) == ("finished", EPOCHS + 1)
    lines = (run_dir / "events.jsonl").read_bytes().splitlines()
    assert sum(ev.parse_event(line) is None for line in lines) == 1
    assert open_run(run_dir).events()[: len(before) - 1] == before[:-1]


# ── The disk ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def mount(*arguments: object) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", disk)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    """Take the last byte of a file system."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1024 * 1024
        while size:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 2
    return filler


def test_a_full_disk_ends_the_run_with_its_last_checkpoint_whole(
    small_disk: Path, untouched: Path, start_command: Start, kerascnn_command: Command
) -> None:
    run_dir = small_disk / "run"
    process = begin(run_dir, start_command)
    filler = fill(small_disk)
    _, said = process.communicate(timeout=GIVE_UP_S)
    expect_a_sentence(process.returncode, said, "No space left on device")
    expect_whole_files(run_dir)
    # Still full: it says so again and does no harm.
    again = kerascnn_command(*starting(run_dir))
    expect_a_sentence(again.returncode, again.stderr, "No space left on device")
    expect_whole_files(run_dir)
    filler.unlink()
    expect_it_to_go_on(run_dir, untouched, kerascnn_command)


def test_a_disk_without_room_for_the_best_weights_ends_the_run(
    tmp_path: Path, kerascnn_command: Command, small_disk: Path
) -> None:
    """HDF5 on a full disk would end the process instead, without a word."""
    mount("-o", "remount,size=64k", small_disk)
    run_dir = small_disk / "run"
    done = kerascnn_command("train", "tiny", "--catalog", OWN_CATALOG, "--run-dir", run_dir)
    expect_a_sentence(done.returncode, done.stderr, f"{run_dir / 'best.weights.h5'}: No space left on device")
    assert open_run(run_dir).summary().state == "failed"


def test_a_disk_that_is_full_while_the_run_is_paused_is_not_even_noticed(
    small_disk: Path, untouched: Path, start_command: Start, kerascnn_command: Command
) -> None:
    run_dir = small_disk / "run"
    process = begin(run_dir, start_command)
    assert kerascnn_command("control", run_dir, "pause").returncode == 0
    filler = fill(small_disk)
    filler.unlink()
    assert kerascnn_command("control", run_dir, "resume").returncode == 0
    process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 0
    expect_untouched(run_dir, untouched)


def test_a_run_directory_that_becomes_read_only_ends_the_run(
    tmp_path: Path, untouched: Path, start_command: Start, kerascnn_command: Command
) -> None:
    run_dir = tmp_path / "run"
    process = begin(run_dir, start_command)
    mount("--bind", run_dir, run_dir)
    try:
        mount("-o", "remount,bind,ro", run_dir)
        _, said = process.communicate(timeout=GIVE_UP_S)
        expect_a_sentence(process.returncode, said, "Read-only file system")
        assert events_of(run_dir)[-1]["state"] == "failed"
        refused = kerascnn_command(*starting(run_dir))
        assert refused.returncode == 1
        assert "can't be written: Read-only file system" in refused.stderr
    finally:
        subprocess.run(["umount", "--lazy", run_dir], check=True)
    expect_whole_files(run_dir)
    expect_it_to_go_on(run_dir, untouched, kerascnn_command)


def test_a_run_directory_that_is_removed_ends_the_run(tmp_path: Path, start_command: Start) -> None:
    run_dir = tmp_path / "run"
    process = begin(run_dir, start_command)
    # Renamed first: a directory that is being written to can't be removed in one go.
    shutil.rmtree(run_dir.rename(tmp_path / "gone"))
    _, said = process.communicate(timeout=GIVE_UP_S)
    expect_a_sentence(process.returncode, said, "the run directory has been removed")
    assert not run_dir.exists()


# ── Signals, clocks, memory ───────────────────────────────────────────────────────────────────────────────────────────


def test_sigterm_twice_saves_one_whole_checkpoint(
    tmp_path: Path, untouched: Path, start_command: Start, kerascnn_command: Command
) -> None:
    run_dir = tmp_path / "run"
    process = begin(run_dir, start_command, "step")
    process.terminate()
    process.terminate()
    _, said = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 75
    assert "Traceback" not in said
    assert events_of(run_dir)[-1]["state"] == "interrupted"
    assert final_state(run_dir).progress.step == events_of(run_dir)[-1]["step"]
    expect_it_to_go_on(run_dir, untouched, kerascnn_command)


def test_a_machine_that_was_suspended_goes_on(tmp_path: Path, untouched: Path, start_command: Start) -> None:
    run_dir = tmp_path / "run"
    process = begin(run_dir, start_command, "step")
    process.send_signal(signal.SIGSTOP)
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    assert open_run(run_dir).summary().state == "running"
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 0
    expect_untouched(run_dir, untouched)


@pytest.mark.backend
def test_a_clock_that_is_set_back_changes_nothing(keras: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which process works on the run, and which steps count, doesn't hang on the time of day."""
    recipe = own("tiny", train__epochs=2)
    straight = kerascnn.train(recipe)
    real, owners = time.time, set[int | None]()

    def set_back(event: ev.Event) -> None:
        if isinstance(event, ev.StepDone) and event.step == 5:
            monkeypatch.setattr(time, "time", lambda: real() - 86_400)
            monkeypatch.setattr(psutil, "boot_time", lambda: real() - 90_000)
        if isinstance(event, ev.StepDone) and event.step == 7:
            owners.update(run.owner() for run in kerascnn_runs())

    result = kerascnn.train(recipe, listeners=[set_back])
    assert owners == {None, os.getpid()}
    assert result.figures["loss"] == straight.figures["loss"]
    assert differences(final_state(result.run_dir), final_state(straight.run_dir)) == []
    summary = open_run(result.run_dir).summary()
    assert (summary.state, summary.epoch, summary.step) == ("finished", 2, 20)


def kerascnn_runs() -> Iterator[Run]:
    from kerascnn.runs.directory import list_runs

    return list_runs(Path("runs"))


def test_a_run_that_gets_no_more_memory_says_so_and_goes_on_with_more(
    tmp_path: Path, untouched: Path, start_command: Start, kerascnn_command: Command
) -> None:
    run_dir = tmp_path / "run"
    # A run that keeps what it freed may ask for nothing more until its end. This one asks the system for each block.
    process = begin(run_dir, start_command, KERASCNN_ALLOCATOR="default", MALLOC_MMAP_THRESHOLD_="4096")
    worker = psutil.Process(process.pid)
    half = worker.memory_info().vms // 2
    worker.rlimit(psutil.RLIMIT_AS, (half, half))
    _, said = process.communicate(timeout=GIVE_UP_S)
    expect_a_sentence(process.returncode, said, "out of memory: try a train.batch_size below 50")
    assert events_of(run_dir)[-1]["state"] == "failed"
    expect_whole_files(run_dir)
    expect_it_to_go_on(run_dir, untouched, kerascnn_command)


@pytest.mark.backend
def test_what_a_backend_cannot_repeat_is_said_once(keras: object, backend: str) -> None:
    from kerascnn.training.backend import unrepeatable_told

    if backend != "torch":
        pytest.skip("only torch warns and goes on")
    import torch

    said: list[str] = []
    with unrepeatable_told(said.append):
        for _ in range(3):
            torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))
    assert len(said) == 1
    assert "can't be repeated to the bit: put_" in said[0]


# ── Beginning with another's weights, and verifying ───────────────────────────────────────────────────────────────────


@pytest.mark.backend
def test_a_run_is_verified_by_its_last_interval(untouched: Path, kerascnn_command: Command, backend: str) -> None:
    done = kerascnn_command("runs", "verify", untouched)
    assert done.returncode == 0, done.stderr
    assert f"replaying {open_run(untouched).name} with {backend} (the run's own)" in done.stderr
    newest, before, *_ = [read_checkpoint(path).progress.step for path in list_checkpoints(untouched / "checkpoints")]
    assert f"steps {before + 1} to {newest}: equal to the bit" in done.stdout


def test_a_run_that_was_tampered_with_does_not_verify(
    tmp_path: Path, untouched: Path, kerascnn_command: Command
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(untouched, run_dir)
    path, checkpoint, _ = newest_whole(run_dir / "checkpoints")
    checkpoint.arrays["model/00000"].flat[0] += 1e-6
    write_checkpoint(path, checkpoint)
    done = kerascnn_command("runs", "verify", run_dir)
    assert done.returncode == 1
    assert "not equal, 1 difference" in done.stdout
    assert "block1_conv1/kernel: up to" in done.stdout


@pytest.mark.backend
def test_a_run_begins_with_the_weights_of_another(keras: object) -> None:
    first = kerascnn.train(own("stateful"))
    ended = final_state(first.run_dir)
    # What was saved is the moving average, which isn't where the weights themselves ended.
    saved = weights_by_path(load_network(open_run(first.run_dir), which="final"))
    # A learning rate this small moves no weight: the second run stays where the first ended.
    changes = {"train__epochs": 1, "train__batch_size": 100, "train__weight_decay": 0.0}
    second = kerascnn.train(own("stateful", **changes, train__optimizer__learning_rate=1e-30), init_from=first.run_dir)
    begun = final_state(second.run_dir)
    kernels = [index for index, (path, _) in enumerate(ended.identity["variables"]) if path.endswith("/kernel")]
    assert len(kernels) == 4
    for index in kernels:
        name, path = f"model/{index:05d}", ended.identity["variables"][index][0]
        assert (begun.arrays[name] == saved[path]).all()
        assert (begun.arrays[name] != ended.arrays[name]).any()
    assert begun.progress.step == 10
    assert any(
        "initial weights are those of stateful after 40 steps" in e["message"]
        for e in events_of(second.run_dir, "warning")
    )


def test_a_run_without_the_weights_that_it_was_to_begin_with_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, or the process is killed, when its directory is half made."""

    def no_room(_: Run) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RunError, match="No space left on device"):
        create_run(tmp_path / "run", own("tiny"), [], no_room)
    with pytest.raises(UnknownNameError, match="expected a run directory"):
        open_run(tmp_path / "run")
    # With room again the same command begins it.
    assert create_run(tmp_path / "run", own("tiny"), []).recipe_file.is_file()


def test_who_comes_second_to_an_empty_folder_leaves_the_firsts_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = create_run(tmp_path / "run", own("tiny"), ["first"])
    # Both had seen it empty.
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(()))
    with pytest.raises(RunError, match="File exists"):
        create_run(tmp_path / "run", own("tiny"), ["second"])
    assert first.recipe().name == "tiny"
    assert first.environment()["command"] == ["first"]


def test_a_run_that_another_machine_works_on_is_not_deleted(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", own("tiny"), [])
    writer = Writer(run)
    (run.path / "owner.json").write_text(json.dumps({"pid": os.getpid(), "process": "x", "host": "another"}))
    with pytest.raises(RunError, match="a process on another works on this run"):
        delete_run(run)
    assert run.recipe_file.is_file()
    writer.close()
    delete_run(run)
    assert not run.path.exists()


def test_a_run_stays_its_machines_own_when_the_host_name_changes(tmp_path: Path) -> None:
    """As a laptop's does in another network: what the process noted is its old name."""
    run = create_run(tmp_path / "run", own("tiny"), [])
    take = (
        "import pathlib, sys; from kerascnn.runs.directory import Run, Writer; "
        "writer = Writer(Run(pathlib.Path(sys.argv[1]))); print('taken', flush=True); input()"
    )
    command = [sys.executable, "-c", take, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        owner = json.loads((run.path / "owner.json").read_text())
        (run.path / "owner.json").write_text(json.dumps({**owner, "host": "before.local"}))
        assert run.holder() == (process.pid, None)
        control.ask(run, control.make_command("stop", None))
        process.kill()
    assert run.holder() == (None, None)
    assert run.summary().state == "killed"
    (run.path / "owner.json").write_text(json.dumps({**owner, "host": "before.local", "machine": "another"}))
    assert run.holder() == (None, "before.local")


@pytest.mark.backend
def test_a_run_for_other_classes_begins_with_the_weights_of_another_but_its_own_logits(
    keras: object, tmp_path: Path, kerascnn_command: Command
) -> None:
    """The commonest use of ``--init-from``: a folder of one's own."""
    from kerascnn.training.network import initial_model

    first = kerascnn.train(own("tiny", train__limit_train=100, train__seed=1))
    write_image_folder(tmp_path / "flowers", classes=3, images=8)
    run_dir = tmp_path / "run"
    # A learning rate this small moves no weight.
    changes = ["--dataset", f"folder:{tmp_path / 'flowers'}", "--learning-rate", 1e-30, "--seed", 2]
    done = kerascnn_command("train", "--init-from", first.run_dir, *changes, "--run-dir", run_dir)
    assert done.returncode == 0, done.stderr
    assert "without its 10 logits; this network's 3 logits, optimizer and schedule begin anew" in done.stderr
    assert open_run(run_dir).result()["state"] == "finished"
    ended, begun = weights_of(final_state(first.run_dir)), weights_of(final_state(run_dir))
    body = [path for path in begun if not path.startswith("logits/")]
    assert {path.partition("/")[0] for path in body} == {"block1_conv1", "block2_conv1", "hidden1"}
    assert all((begun[path] == ended[path]).all() for path in body)
    drawn = weights_by_path(initial_model(own("tiny", classes=3, train__seed=2), None))
    for path in ("logits/kernel", "logits/bias"):
        np.testing.assert_allclose(begun[path], drawn[path], rtol=0, atol=1e-20)


@pytest.mark.backend
@pytest.mark.parametrize("classes", [10, 3])
def test_weights_of_another_network_are_refused(classes: int, keras: object, tmp_path: Path) -> None:
    first = kerascnn.train(own("tiny", train__limit_train=50))
    write_image_folder(tmp_path / "images", classes=classes)
    other = own("tiny", hidden=[17], classes=classes, dataset=f"folder:{tmp_path / 'images'}")
    with pytest.raises(CheckpointError, match=r"expected hidden1/kernel of shape \(784, 17\), got \(784, 16\)"):
        kerascnn.train(other, init_from=first.run_dir)


@pytest.mark.backend
def test_logits_of_other_classes_are_refused_where_they_see_another_width_too(keras: object) -> None:
    from kerascnn.training.network import initial_model

    model = initial_model(own("tiny", classes=3), None)
    before = weights_by_path(model)
    given = {
        **before,
        "logits/kernel": np.zeros((17, 10)),
        "logits/bias": np.zeros(10),
        "block1_conv1/bias": np.ones(8),
    }
    with pytest.raises(CheckpointError, match=r"expected logits/kernel of shape \(16, 3\), got \(17, 10\)"):
        put_weights(model, given)
    assert all((value == before[path]).all() for path, value in weights_by_path(model).items())


@pytest.mark.backend
def test_a_run_begins_with_weights_from_another_backend(
    tmp_path: Path, untouched: Path, kerascnn_command: Command, backend: str
) -> None:
    """Left behind, too: the process that takes it up finds the weights in the run's own directory."""
    source = tmp_path / "source"
    shutil.copytree(untouched, source)
    path, checkpoint, _ = newest_whole(source / "checkpoints")
    checkpoint.identity["backend"] = "another"
    write_checkpoint(path, checkpoint)
    run_dir = tmp_path / "run"
    begun = kerascnn_command("train", "--init-from", source, "--run-dir", run_dir, "--epochs", 1, "--detach")
    assert begun.returncode == 0, begun.stderr
    shutil.rmtree(source)
    assert kerascnn_command("watch", run_dir).returncode == 0
    summary = open_run(run_dir).summary()
    assert (summary.state, summary.epochs, summary.backend) == ("finished", 1, backend)
    (said,) = [e["message"] for e in events_of(run_dir, "warning") if "initial weights" in e["message"]]
    assert "stateful after 100 steps with another" in said
    # It begins where the other ended, far below the loss of a network that knows nothing.
    assert events_of(run_dir, "step")[0]["loss"] == pytest.approx(events_of(untouched, "step")[-1]["loss"], abs=0.4)
    assert events_of(run_dir, "step")[0]["loss"] < events_of(untouched, "step")[0]["loss"] - 0.2


# ── SLURM ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_job_script_puts_itself_back_and_goes_on(tmp_path: Path, untouched: Path) -> None:
    """The script out of the documentation, with SLURM's two commands as scripts that do what it needs of them."""
    text = (Path(__file__).parents[1] / "docs/reliability.md").read_text()
    script = text.partition("<!-- slurm -->\n```sh\n")[2].partition("```")[0]
    assert "resnet20_cifar" in script
    short = " ".join(map(str, [*train_arguments(Path("RUN"))[1:], "--epochs", EPOCHS])).replace("--run-dir RUN ", "")
    (tmp_path / "job").write_text(script.replace("resnet20_cifar", short))
    for name, does in (
        ("srun", '"$@" & echo $! > worker; wait $!'),
        ("scontrol", 'echo "$@" >> requeued'),
        ("kerascnn", f'exec {sys.executable} -m kerascnn "$@"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    run_dir = tmp_path / "runs/slurm-17"
    job = subprocess.Popen(["bash", "job"], cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE)
    wait_for(lambda: len(events_of_live(run_dir, "step")) >= 3, job)
    os.kill(int((tmp_path / "worker").read_text()), signal.SIGUSR1)
    job.communicate(timeout=GIVE_UP_S)
    assert job.returncode == 75
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"
    again = subprocess.run(["bash", "job"], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"
    expect_untouched(run_dir, untouched)
