"""The command as its users run it: processes, exit codes, what is on stdout, what is left on disk."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

import kerascnn
from kerascnn.catalog import load_recipe
from kerascnn.cli import app, output
from kerascnn.errors import RunError
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run, Writer, create_run, find_run, open_run
from tests.conftest import GIVE_UP_S, OWN_CATALOG, Command, write_image_folder
from tests.live import program
from tests.recorded import append, disown
from tests.recorded import own as take_over
from tests.test_data import write_cifar
from tests.test_training import own, wait_for

HEAVY = ("keras", "torch", "tensorflow", "jax")


@pytest.mark.parametrize(
    "program",
    [
        "import kerascnn; kerascnn.list_models(); kerascnn.load_recipe('plain12_bn')",
        "from kerascnn import *",
        "from kerascnn import Diagnosis, diagnose",
        "run(['--help'])",
        "run(['models'])",
        "run(['models', 'vgg16_cifar'])",
        "run(['data'])",
        "run(['runs'])",
        "run(['lecture'])",
        "run(['train', '--help'])",
        "run(['overfit', '--help'])",
    ],
)
def test_what_needs_no_backend_imports_none(program: str) -> None:
    setup = (
        "import sys\n"
        "def run(arguments):\n"
        "    from kerascnn.cli import main\n"
        "    sys.argv = ['kerascnn', *arguments]\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n        assert not end.code, end.code\n"
    )
    check = f"\nprint('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", setup + program + check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_models_lists_every_network_with_its_card(kerascnn_command: Command) -> None:
    listed = kerascnn_command("models")
    assert all(name in listed.stdout for name in kerascnn.list_models())
    assert "92.64 %" in listed.stdout
    cards = json.loads(kerascnn_command("models", "--json").stdout)
    keys = {"name", "summary", "paper", "input_shape", "classes", "trainable_weights", "multiply_adds", "dataset"}
    assert all(keys <= card.keys() for card in cards)
    one = kerascnn_command("models", "vgg16_bn_cifar").stdout
    assert "14,728,266 trainable" in one
    assert "313,201,664" in one


def test_models_toml_is_a_catalog_that_trains_the_same(kerascnn_command: Command, tmp_path: Path) -> None:
    printed = kerascnn_command("models", "resnet20_cifar", "--toml", "--set", "activation=silu").stdout
    (tmp_path / "copy.toml").write_text(printed)
    assert load_recipe("resnet20_cifar", catalog=tmp_path / "copy.toml") == load_recipe(
        "resnet20_cifar", {"activation": "silu"}
    )


BAD_USAGE = [
    (["train", "vgg16_cifra"], "did you mean 'vgg16_cifar'"),
    (["train", "vgg"], "did you mean 'vgg16_cifar'"),
    (["train", "tiny", "--set", "actvation=relu"], "did you mean 'activation'"),
    (["train", "tiny", "--epochs", "0"], "train.epochs should be greater than 0, got 0"),
    (["train", "tiny", "--backend", "pytorch"], "did you mean 'torch'"),
    (["train", "tiny", "--dataset", "cifar11"], "did you mean 'cifar10'"),
    (["train", "tiny", "--device", "tpu"], "expected auto, cpu, gpu"),
    (["train", "tiny", "--limit-train", "-5"], "train.limit_train should be greater than 0"),
    (["train", "tiny", "--set", "filters=[0]"], "filters.0 should be greater than 0"),
    (["train"], "expected a MODEL"),
    (["train", "vgg16_imagenet"], "--dataset folder:PATH"),
    (["train", "cnn2_cifar", "--dataset", "cifar100", "--set", "classes=10"], "expected classes = 100, got 10"),
    (["train", "tiny", "--data-dir", "/nowhere/at/all"], "expected a folder at /nowhere/at/all"),
    (["train", "tiny", "--set", "builder=plian"], "did you mean 'plain'"),
    (["train", "tiny", "--resume", "x"], "--resume takes the run's own recipe"),
    (["train", "--resume", "my x"], "`--init-from 'my x'` begins a new run with its weights"),
    (["train", "tiny", "--init-from", "x"], "no run 'x' in runs"),
    (["train", "tiny", "--backend", "auto", "--execution", "keras"], "expected no other one, got keras"),
    (["diagnose", "tiny", "--unit"], "--unit is about --keras FILE"),
    (["models", "--set", "filters=[4]"], "--set: expected the NAME of a network"),
    (["models", "--toml"], "--toml: expected the NAME of a network"),
    (["diagnose", "--keras", "a.keras", "--dataset", "mnist", "--seed", "-1"], "Invalid value for '--seed'"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD_USAGE)
def test_bad_usage_is_one_sentence_exit_code_2_and_nothing_written(
    arguments: list[str], said: str, kerascnn_command: Command, tmp_path: Path
) -> None:
    done = kerascnn_command(*arguments, "--catalog", OWN_CATALOG)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_no_run_is_told_from_none(kerascnn_command: Command, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    done = kerascnn_command("watch", "photos")
    assert done.returncode == 2
    assert "photos: expected a run directory, and there is no recipe.toml in it" in done.stderr


def test_an_unknown_option_is_exit_code_2(kerascnn_command: Command) -> None:
    assert kerascnn_command("train", "tiny", "--epohcs", "3").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs", "--runs-dir", "elsewhere", "delete", "last", "--yes"], "--runs-dir: expected after `runs delete`"),
        (["data", "--json", "fetch", "fashion_mnist_mini"], "--json: expected after `data fetch`"),
        (["data", "--data-dir", "/nowhere/at/all"], "expected a folder at /nowhere/at/all"),
        (["lecture", "--json", "report", "folder"], "--json: expected after `lecture report`"),
        (["runs", "verify", "last", "--device", "tpu"], "expected auto, cpu, gpu"),
    ],
)
def test_an_option_that_would_not_be_heard_is_refused(
    arguments: list[str], said: str, kerascnn_command: Command
) -> None:
    done = kerascnn_command(*arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


def test_a_catalog_beside_the_run_that_names_the_network_is_refused(kerascnn_command: Command, tmp_path: Path) -> None:
    run = fake_run(tmp_path / "runs" / "tiny" / "1", accuracy=0.5, state="finished")
    done = kerascnn_command("train", "--init-from", run.path, "--catalog", OWN_CATALOG)
    assert done.returncode == 2
    assert "--catalog: expected a MODEL out of it" in done.stderr


@pytest.mark.parametrize("variable", ["KERASCNN_CACHE", "KERASCNN_DATA"])
def test_a_folder_in_the_home_of_nobody_is_a_sentence(variable: str, kerascnn_command: Command) -> None:
    done = kerascnn_command("data", **{variable: "~nobody-of-that-name/x"})
    assert done.returncode == 2
    assert f"{variable}: expected a folder" in done.stderr


def test_an_output_that_lacks_a_character_gets_the_others(kerascnn_command: Command) -> None:
    done = kerascnn_command("models", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert "vgg16_cifar" in done.stdout


def test_a_missing_backend_names_its_install_line(kerascnn_command: Command, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    blocker = (
        "import sys, importlib.util as u; f = u.find_spec\nu.find_spec = lambda n, *a: None if n == 'jax' else f(n, *a)"
    )
    (tmp_path / "none" / "sitecustomize.py").write_text(blocker)
    done = kerascnn_command(
        "train", "tiny", "--catalog", OWN_CATALOG, "--backend", "jax", PYTHONPATH=str(tmp_path / "none")
    )
    assert done.returncode == 1
    assert "pip install jax" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_missing_dataset_offline_is_exit_code_1_and_nothing_written(
    kerascnn_command: Command, tmp_path: Path
) -> None:
    done = kerascnn_command("train", "cnn2_cifar", "--offline")
    assert done.returncode == 1
    assert "Looked for in" in done.stderr
    assert "--dataset fashion_mnist_mini" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.backend
def test_a_damaged_dataset_ends_the_run_with_its_file_named(kerascnn_command: Command, tmp_path: Path) -> None:
    from dataclasses import replace

    from kerascnn.data.known import DATASETS

    write_cifar(tmp_path / "cifar-10-batches-py", replace(DATASETS["cifar10"], train_images=50, test_images=10))
    done = kerascnn_command("train", "cnn2_cifar", "--data-dir", tmp_path, "--run-dir", tmp_path / "run")
    assert done.returncode == 1
    assert "data_batch_1: expected bytes of the shape (10000, 3072)" in done.stderr
    assert "Traceback" not in done.stderr
    assert open_run(tmp_path / "run").summary().state == "failed"


@pytest.mark.backend
def test_a_bad_image_ends_the_run_or_is_skipped(kerascnn_command: Command, tmp_path: Path) -> None:
    write_image_folder(tmp_path / "images", images=10)
    (tmp_path / "images" / "class0" / "zz.jpg").write_bytes(b"no picture")
    arguments = ["train", "tiny", "--catalog", OWN_CATALOG, "--dataset", f"folder:{tmp_path / 'images'}"]
    arguments += ["--set", "input_shape=[16,16,3]", "--val-split", "0.2", "--batch-size", "8"]
    strict = kerascnn_command(*arguments)
    lenient = kerascnn_command(*arguments, "--skip-bad-images")
    assert strict.returncode == 1
    assert "zz.jpg" in strict.stderr
    assert "Traceback" not in strict.stderr
    assert lenient.returncode == 0, lenient.stderr
    assert "zz.jpg" in lenient.stderr


@pytest.mark.backend
def test_training_prints_progress_on_stderr_and_its_result_on_stdout(
    kerascnn_command: Command, backend: str, tmp_path: Path
) -> None:
    done = kerascnn_command("train", "stateful", "--catalog", OWN_CATALOG, "--epochs", 1, "--json", "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["state"], result["figures"]["epochs"]) == ("finished", 1)
    assert result["figures"]["peak_memory_bytes"] > 50_000_000
    said = done.stderr
    assert f"with {backend} (KERAS_BACKEND)" in said
    assert "1,000 training and 200 validation images" in said
    assert "padded with black" in said
    assert "epoch 1: loss" in said
    assert "\x1b[" not in said


def test_a_run_directory_in_use_is_not_overwritten(kerascnn_command: Command, tmp_path: Path) -> None:
    run, mine = tmp_path / "my run", tmp_path / "mine"
    create_run(run, own("tiny"), [])
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for folder, said in ((run, f"; `kerascnn train --resume '{run}'` goes on with the run in it\n"), (mine, "\n")):
        done = kerascnn_command("train", "tiny", "--catalog", OWN_CATALOG, "--run-dir", folder)
        assert done.returncode == 1
        assert done.stderr.endswith(f"{folder}: expected a new or empty run directory{said}")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.backend
def test_a_detached_run_outlives_the_command_and_can_be_watched(
    kerascnn_command: Command, start_command: Callable[..., subprocess.Popen[str]]
) -> None:
    left = kerascnn_command("train", "tiny", "--catalog", OWN_CATALOG, "--epochs", 2, "--detach")
    assert left.returncode == 0, left.stderr
    run = open_run(left.stdout.strip())
    watching = start_command("watch", run.path)
    _, said = watching.communicate(timeout=GIVE_UP_S)
    assert watching.returncode == 0
    assert "epoch 2: loss" in said
    assert "finished: all 2 epochs are done" in said
    assert run.summary().state == "finished"
    assert "--detach" in run.environment()["command"]


def test_a_run_that_is_worked_on_is_not_left_behind_a_second_time(kerascnn_command: Command, tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", own("tiny"), [])
    writer = Writer(run)
    try:
        done = kerascnn_command("train", "--resume", run.path, "--detach")
    finally:
        writer.close()
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"process {os.getpid()} works on this run; one at a time" in done.stderr
    assert not run.log_file.exists()


def test_a_detached_start_that_fails_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "sys.exit('no such luck')")
    arguments = ["train", "tiny", "--catalog", str(OWN_CATALOG), "--run-dir", "run", "--detach"]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, RunError)
    assert str(done.exception) == "the run didn't start: no such luck"
    assert not (tmp_path / "run").exists()


def test_a_detached_start_that_is_interrupted_leaves_no_run(
    start_command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """Its process would go on unseen."""
    run = tmp_path / "run"
    parent = start_command("train", "tiny", "--catalog", OWN_CATALOG, "--epochs", 1000, "--run-dir", run, "--detach")
    # It is made before the process that takes the run up.
    wait_for(lambda: (run / "log.txt").exists(), parent)
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=GIVE_UP_S)
    assert parent.returncode == 130
    assert not run.exists() or Run(run).summary().state == "interrupted"


def test_weights_of_another_run_are_begun_with_where_its_data_lies(kerascnn_command: Command, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    create_run(tmp_path / "run", own("tiny", dataset="mnist"), [], data_dir=Path("disk"))
    done = kerascnn_command("train", "--init-from", "run", "--offline")
    assert done.returncode == 1
    assert f"Looked for in\n  {tmp_path / 'disk'} (--data-dir)" in done.stderr


@pytest.mark.parametrize("more", [[], ["--detach"]])
def test_a_run_whose_checkpoints_were_removed_stays_as_it_ended(
    kerascnn_command: Command, tmp_path: Path, more: list[str]
) -> None:
    run = fake_run(tmp_path / "run", accuracy=0.5, state=None)
    writer = ev.EventWriter(run.events_file)
    writer.write(ev.CheckpointWritten(step=3, file="checkpoints/step-3", reason="epoch", bytes=9, seconds=0.1))
    writer.write(ev.RunEnded(state="finished", message="", step=3, elapsed=2.0, exit_code=0))
    writer.close()
    run.result_file.write_text('{"message": "all epochs are done"}')
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    done = kerascnn_command("train", "--resume", run.path, *more)
    assert (done.returncode, done.stdout) == (1, "")
    assert "expected the run's checkpoints, and they are gone" in done.stderr
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def fake_run(path: Path, *, accuracy: float, state: str | None, **changes: object) -> Run:
    """A run directory as a run leaves it, without the training."""
    recipe = own("tiny", **changes)
    run = create_run(path, recipe, ["kerascnn"])
    events: list[ev.Event] = [
        ev.RunStarted(model="tiny", dataset="fashion_mnist_mini", backend="torch", epochs=1, batch_size=50, pid=1),
        ev.StepDone(
            step=1, epoch=1, loss=2.0, mean_loss=2.0, accuracy=0.1, learning_rate=1e-3, images_per_s=9.0, elapsed=1.0
        ),
        ev.EpochDone(
            # The last recorded step is seldom the epoch's last.
            epoch=1,
            step=3,
            loss=1.5,
            accuracy=0.1,
            val_loss=float("nan"),
            val_accuracy=accuracy,
            learning_rate=1e-3,
            seconds=1.0,
            images_per_s=9.0,
            best=True,
        ),
    ]
    if state:
        events.append(ev.RunEnded(state=state, message="", step=1, elapsed=2.0, exit_code=0))  # type: ignore[arg-type]
    writer = ev.EventWriter(run.events_file)
    for event in events:
        writer.write(event)
    writer.close()
    return run


def test_runs_are_listed_filtered_compared_and_deleted(kerascnn_command: Command, tmp_path: Path) -> None:
    one = fake_run(tmp_path / "runs" / "tiny" / "20260101-000000-aaaa", accuracy=0.5, state="finished")
    two = fake_run(
        tmp_path / "runs" / "tiny" / "20260102-000000-bbbb", accuracy=0.75, state=None, train__seed=3, activation="silu"
    )
    listed = json.loads(kerascnn_command("runs", "--json").stdout)
    assert [(run["name"], run["state"], run["best_val_accuracy"]) for run in listed] == [
        ("tiny/20260101-000000-aaaa", "finished", 0.5),
        ("tiny/20260102-000000-bbbb", "killed", 0.75),
    ]
    assert [(run["loss"], run["step"]) for run in listed] == [(1.5, 3)] * 2
    killed = json.loads(kerascnn_command("runs", "--json", "--state", "killed").stdout)
    assert [run["name"] for run in killed] == ["tiny/20260102-000000-bbbb"]
    assert "75.00 %" in kerascnn_command("runs").stdout
    compared = json.loads(kerascnn_command("runs", "compare", "aaaa", "bbbb", "--json").stdout)
    assert compared["recipe"] == {"activation": ["relu", "silu"], "train.seed": [0, 3]}
    assert compared["figures"]["best val accuracy"] == [0.5, 0.75]
    assert "finished" in kerascnn_command("runs", "show", one.path).stdout
    refused = subprocess.run(
        [sys.executable, "-m", "kerascnn", "runs", "delete", "aaaa"],
        input="n\n",
        text=True,
        capture_output=True,
        check=False,
    )
    assert refused.returncode == 1
    assert one.path.exists()
    assert kerascnn_command("runs", "delete", "aaaa", "--yes").returncode == 0
    assert not one.path.exists()
    assert two.path.exists()
    unknown = kerascnn_command("runs", "show", "tiny/20260102-000000-bbbx")
    assert unknown.returncode == 2
    assert "did you mean 'tiny/20260102-000000-bbbb'" in unknown.stderr


@pytest.mark.parametrize("command", [["runs"], ["runs", "show", "run"], ["runs", "compare", "run", "run"]])
def test_a_loss_that_is_no_number_is_a_text_in_json(command: list[str], kerascnn_command: Command) -> None:
    run = fake_run(Path("runs/run"), accuracy=0.5, state=None)
    diverged = ev.StepDone(
        step=9,
        epoch=2,
        loss=float("nan"),
        mean_loss=float("nan"),
        accuracy=0.1,
        learning_rate=1.0,
        images_per_s=9.0,
        elapsed=2.0,
    )
    append(run, diverged)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    printed = kerascnn_command(*command, "--json").stdout
    assert '"NaN"' in json.dumps(json.loads(printed, parse_constant=refuse))


def test_runs_of_a_state_that_does_not_exist_are_refused(kerascnn_command: Command) -> None:
    done = kerascnn_command("runs", "--state", "finishd")
    assert done.returncode == 2
    assert "did you mean 'finished'" in done.stderr


def test_a_runs_command_is_shown_as_one_types_it(tmp_path: Path) -> None:
    command = ["kerascnn", "train", "tiny", "--data-dir", "my data"]
    run = create_run(tmp_path / "run", own("tiny"), command)
    shown = CliRunner().invoke(app, ["runs", "show", str(run.path)])
    assert shown.exit_code == 0, shown.output
    assert "kerascnn train tiny --data-dir 'my data'" in shown.stdout


def test_a_narrow_terminal_wraps_words_and_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["plain12_standardized", "361.44 M", "pixels that are standardised"], ["a", "1.00 M", "short"]]
    columns = [("model", "left"), ("multiply-adds", "right"), ("summary", "wrapped")]
    for width in (60, 40, 10):
        console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True, highlight=False)
        monkeypatch.setattr(output, "stdout", lambda console=console: console)
        output.print_table(columns, rows)
        shown = Text.from_ansi(console.file.getvalue()).plain
        assert "plain12_standardized" in shown
        assert "361.44 M" in shown
        assert " ".join(line[37:].strip() for line in shown.splitlines()[1:4]).startswith("pixels that are stand")
        assert "…" not in shown


def test_the_version_is_printed(kerascnn_command: Command) -> None:
    assert kerascnn_command("--version").stdout.strip() == kerascnn.__version__ == version("kerascnn")


def test_a_cards_last_line_trains_what_the_card_shows(kerascnn_command: Command) -> None:
    shown = kerascnn_command("models", "tiny", "--catalog", OWN_CATALOG, "--set", "activation=silu").stdout
    assert f"kerascnn train tiny --catalog {OWN_CATALOG} --set activation=silu" in shown


def test_last_is_the_newest_run(tmp_path: Path) -> None:
    fake_run(tmp_path / "runs" / "tiny" / "20260102-000000-bbbb", accuracy=0.5, state="finished")
    fake_run(tmp_path / "runs" / "other" / "20260101-000000-aaaa", accuracy=0.5, state="finished")
    # Begun last, whatever its name.
    assert find_run("last").path.name == "20260101-000000-aaaa"


def test_watching_a_killed_run_says_how_to_go_on(kerascnn_command: Command, tmp_path: Path) -> None:
    run = fake_run(tmp_path / "my run", accuracy=0.5, state=None)
    watched = kerascnn_command("watch", run.path)
    assert watched.returncode == 0
    assert f"`kerascnn train --resume '{run.path}'` goes on" in watched.stderr


def test_a_run_of_another_machine_is_elsewhere_and_is_watched_until_it_leaves(
    kerascnn_command: Command, tmp_path: Path
) -> None:
    run = fake_run(tmp_path / "runs" / "tiny" / "20260101-000000-aaaa", accuracy=0.5, state=None)
    take_over(run, host="node7")
    assert run.summary().state == "elsewhere"
    assert run.name in kerascnn_command("runs", "--state", "elsewhere").stdout
    paused = kerascnn_command("control", "last", "pause")
    assert paused.returncode == 1
    assert "node7 has taken this run; ask it to pause there" in paused.stderr
    assert "noted; node7 does it if it is still at work" in kerascnn_command("control", "last", "extend", 1).stderr
    command = [sys.executable, "-m", "kerascnn", "watch", str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("node7 has taken this run")
        append(run, ev.RunEnded(state="finished", message="", step=3, elapsed=2.0, exit_code=0))
        disown(run)
        assert "finished" in watching.stdout.read()
        assert watching.wait(GIVE_UP_S) == 0


def test_watching_a_run_of_a_machine_that_is_silent_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fake_run(tmp_path / "my run", accuracy=0.5, state=None)
    take_over(run, host="node7")
    monkeypatch.setattr("kerascnn.cli.runs.SILENT_S", 0.0)
    watched = CliRunner().invoke(app, ["watch", str(run.path)])
    assert watched.exit_code == 0
    assert f"where node7 has gone, `kerascnn train --resume '{run.path}'` goes on" in " ".join(watched.stderr.split())


def test_watching_an_ended_run_that_another_machine_never_left_ends(kerascnn_command: Command, tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", accuracy=0.5, state="finished")
    take_over(run, host="node7")
    watched = kerascnn_command("watch", run.path)
    assert watched.returncode == 0
    assert run.summary().state == "finished"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of some use, trained once."""
    path = tmp_path_factory.mktemp("trained") / "run"
    command = [sys.executable, "-m", "kerascnn", "train", "stateful", "--catalog", str(OWN_CATALOG)]
    subprocess.run(
        [*command, "--run-dir", str(path), "--epochs", "3", "--limit-train", "3000"], check=True, capture_output=True
    )
    return path


@pytest.mark.backend
def test_evaluate_finds_the_accuracy_that_training_recorded(kerascnn_command: Command, trained: Path) -> None:
    """With the moving average, standardised pixels and dropout off, rebuilt from the recipe."""
    best = json.loads((trained / "result.json").read_text())["figures"]["best_val_accuracy"]
    found = json.loads(kerascnn_command("evaluate", trained, "--json").stdout)
    assert found["images"] == 200
    assert found["accuracy"] == pytest.approx(best, abs=1e-9)
    smaller = ("--batch-size", 30, "--device", "cpu")
    final = json.loads(kerascnn_command("evaluate", trained, "--weights", "final", *smaller, "--json").stdout)
    last = json.loads((trained / "result.json").read_text())["figures"]
    assert final["accuracy"] == pytest.approx(last["val_accuracy"], abs=1e-9)
    assert final["loss"] == pytest.approx(last["val_loss"], rel=1e-4)


@pytest.mark.backend
def test_predict_names_the_classes_of_image_files(
    keras: Any, kerascnn_command: Command, trained: Path, tmp_path: Path
) -> None:
    from kerascnn.data.dataset import load_known
    from kerascnn.data.known import DATASETS
    from kerascnn.training.inference import load_network

    sample = load_known(DATASETS["fashion_mnist_mini"]).validation
    pixels = sample.read(np.arange(10))
    files = [tmp_path / f"{number}.png" for number in range(10)]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image[..., 0]).save(file)
    Image.new("RGB", (300, 200)).save(tmp_path / "large.jpg")
    more = ("--batch-size", 4, "--device", "cpu")
    done = kerascnn_command("predict", trained, *files, tmp_path / "large.jpg", "--json", "--top", 2, *more)
    assert done.returncode == 0, done.stderr
    predictions = json.loads(done.stdout)
    assert len(predictions) == 11
    names = DATASETS["fashion_mnist_mini"].class_names
    model = load_network(open_run(trained))
    padded = np.repeat(np.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0))), 3, axis=3)
    softmax = np.array(keras.ops.convert_to_numpy(keras.ops.softmax(model(padded, training=False))))
    for prediction, expected in zip(predictions, softmax, strict=False):
        first, second = np.argsort(-expected)[:2]
        assert [name for name, _ in prediction["classes"]] == [names[first], names[second]]
        assert prediction["classes"][0][1] == pytest.approx(expected[first], rel=1e-4)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    refused = kerascnn_command("predict", trained, bad)
    assert refused.returncode == 1
    assert "bad.png" in refused.stderr


def test_data_lists_what_is_where(kerascnn_command: Command) -> None:
    listed = json.loads(kerascnn_command("data", "--json").stdout)
    where = {row["name"]: row["source"] for row in listed}
    assert where["fashion_mnist_mini"] == "embedded"
    assert where.keys() == {"cifar10", "cifar100", "fashion_mnist", "mnist", "fashion_mnist_mini"}
    assert kerascnn_command("data", "fetch", "cifar11").returncode == 2


def test_events_are_read_up_to_the_last_whole_line_and_unknown_kinds_skipped(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", accuracy=0.5, state="finished")
    with run.events_file.open("ab") as file:
        file.write(b'{"kind": "of the future", "time": 1}\nnot json\n{"kind": "step", "step": "x"}\n{"kind": "warn')
    events, offset = ev.read_events(run.events_file)
    assert [event.kind for event in events] == ["run started", "step", "epoch", "run ended"]
    with run.events_file.open("ab") as file:
        file.write(b'ing", "message": "late"}\n')
    (late,), _ = ev.read_events(run.events_file, offset)
    assert isinstance(late, ev.Warned)
    # NaN survives JSON.
    (epoch,) = ev.of_kind(events, ev.EpochDone)
    assert epoch.val_loss != epoch.val_loss


def test_a_resume_takes_back_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", accuracy=0.5, state="interrupted")
    writer = ev.EventWriter(run.events_file)
    writer.write(ev.Resumed(step=0, epoch=0, epochs=1, elapsed=0.0, file=""))
    writer.close()
    assert [event.kind for event in run.events()] == ["run started", "resumed"]


def test_a_line_cut_off_by_a_kill_does_not_swallow_the_next_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind": "warning", "mess')
    writer = ev.EventWriter(path)
    writer.write(ev.Warned(message="whole"))
    writer.close()
    assert [event.kind for event in ev.read_events(path)[0]] == ["warning"]


@pytest.mark.backend
def test_a_run_without_a_terminal_can_be_found_while_it_runs(
    start_command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    process = start_command(
        "train", "tiny", "--catalog", OWN_CATALOG, "--run-dir", run_dir, "--epochs", 500, "--limit-train", 6000
    )
    try:
        wait_for(lambda: Run(run_dir).owner() == process.pid, process)
        assert open_run(run_dir).summary().state == "running"
    finally:
        process.kill()
        process.communicate()
    assert open_run(run_dir).summary().state == "killed"


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    from typer.main import get_command

    from kerascnn.cli import COMMANDS, make_app

    listed, loaded = get_command(make_app(used=())).commands, get_command(make_app()).commands
    assert set(listed) == set(loaded) == set(COMMANDS)
    assert {name: command.help for name, command in listed.items()} == {
        name: " ".join(command.help.partition("\n\n")[0].split()) for name, command in loaded.items()
    }


def test_help_imports_no_command_and_each_command_itself_alone() -> None:
    program = (
        "import sys\nfrom kerascnn.cli import main\nsys.argv = {}\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    )
    program += "print([name for name in sys.modules if name.startswith('kerascnn.cli.')], 'numpy' in sys.modules)"
    last = [
        subprocess.run(
            [sys.executable, "-c", program.format(arguments)], capture_output=True, text=True, check=True
        ).stdout.splitlines()[-1]
        for arguments in (["kerascnn", "--help"], ["kerascnn", "models"])
    ]
    assert last == ["['kerascnn.cli.output'] False", "['kerascnn.cli.output', 'kerascnn.cli.models'] False"]


@pytest.mark.backend
def test_one_backend_imports_no_other(backend: str) -> None:
    """Keras itself would import JAX beside any backend; a process that wants it afterwards still gets it."""
    program = (
        "import importlib.util, sys\n"
        "from kerascnn.training.backend import BACKENDS, activate\n"
        f"activate({backend!r})\n"
        "print([name for name in BACKENDS if name in sys.modules])\n"
        "if importlib.util.find_spec('jax'):\n    import jax; jax.numpy.zeros(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str([backend])


@pytest.mark.backend
def test_a_command_does_without_matplotlib_and_a_session_has_it(backend: str, tmp_path: Path) -> None:
    """Keras imports it for galleries of its own, where it is installed; here a stand-in says that it was."""
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("patches = None")
    (tmp_path / "matplotlib" / "pyplot.py").write_text("")
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from kerascnn.cli import main\n"
        "sys.argv = ['kerascnn', 'models']\n"
        "if {command}:\n    try:\n        main()\n    except SystemExit:\n        pass\n"
        "from kerascnn.training.backend import activate\n"
        f"activate({backend!r})\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
        "import matplotlib.pyplot\n"
    )
    imported = [
        subprocess.run(
            [sys.executable, "-c", program.format(command=command)], capture_output=True, text=True, check=True
        ).stdout.splitlines()[-1]
        for command in (True, False)
    ]
    assert imported == ["False", "True"]


@pytest.mark.backend
def test_who_compiles_gets_the_compiler_and_the_same_draws(backend: str) -> None:
    """Torch's compiler isn't imported for Keras, which would have it leave the draw of its seeds alone."""
    if backend != "torch":
        pytest.skip("torch's compiler")
    program = (
        "import sys\n"
        "from kerascnn.training.backend import activate\n"
        "activate('torch')\n"
        "import keras, torch\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "def draw():\n    return keras.random.uniform((3,), seed=1) * 2\n"
        "as_it_is = draw()\n"
        "compiled = torch.compile(draw, backend='eager')()\n"
        "assert 'torch._dynamo.eval_frame' in sys.modules\n"
        "keras.utils.clear_session()\n"
        "print(torch.equal(as_it_is, compiled))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True", done.stderr


@pytest.mark.backend
def test_a_whole_training_imports_no_other_backend(backend: str, tmp_path: Path) -> None:
    """To write a model Keras itself would import TensorFlow on any backend: seconds, and 0.3 GB.

    Nor does it import torch's compiler, which takes as long as torch.
    """
    program = (
        "import sys, kerascnn\n"
        "from kerascnn.training.backend import BACKENDS\n"
        f"recipe = kerascnn.load_recipe('tiny', {{'train.limit_train': 50, 'train.limit_val': 50}}, "
        f"catalog={str(OWN_CATALOG)!r})\n"
        f"kerascnn.train(recipe, run_dir={str(tmp_path / 'run')!r}, options=kerascnn.Options(backend={backend!r}))\n"
        "print([name for name in (*BACKENDS, 'torch._dynamo') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str([backend])
    assert (tmp_path / "run" / "model.keras").is_file()
