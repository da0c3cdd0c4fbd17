"""The lines that train, and the processes that they start apart from the interface: one run, or the lecture."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil
import tomli_w

from kerascnn.errors import RunError, system_error
from kerascnn.lecture.argument import Step, the_argument
from kerascnn.lecture.folder import LectureFolder, Settings
from kerascnn.runs.control import ask, make_command
from kerascnn.runs.directory import RUNS_FOLDER, Run
from kerascnn.wording import one_line
from tui.places import Places

# A run that uses every core leaves the interface its share.
NICENESS = 10

LINES_OF_AN_ERROR = 4
LISTEN_EVERY_S = 0.05

# Keys of a recipe that have an option of their own; all others are `--set`.
OPTIONS = {
    "dataset": "--dataset",
    "train.epochs": "--epochs",
    "train.batch_size": "--batch-size",
    "train.optimizer.learning_rate": "--learning-rate",
    "train.limit_train": "--limit-train",
    "train.limit_val": "--limit-val",
    "train.seed": "--seed",
}


def train_arguments(model: str, changes: Mapping[str, Any], backend: str, places: Places) -> list[str]:
    """The arguments of ``kerascnn`` that train a network with these changes to its recipe."""
    arguments = ["train", model, "--backend", backend]
    for key, value in changes.items():
        if key in OPTIONS:
            arguments += [OPTIONS[key], str(value)]
        else:
            arguments += ["--set", f"{key}={_value(value)}"]
    return arguments + _place_options(places)


def resume_arguments(run: Run, places: Places) -> list[str]:
    """The arguments of ``kerascnn`` that go on with a run."""
    options = ["--data-dir", str(places.data_dir)] if places.data_dir else []
    return ["train", "--resume", str(run.path.absolute()), *options]


def lecture_arguments(settings: Settings, steps: Sequence[Step], seeds: int, backend: str, places: Places) -> list[str]:
    """The arguments of ``kerascnn`` that train steps of the lecture, all where none is named."""
    arguments = ["lecture", "run", "--dir", str(places.lecture_dir), "--backend", backend]
    arguments += ["--full"] if settings.budget == "full" else []
    for step in steps:
        arguments += ["--only", step.id]
    arguments += ["--seeds", str(seeds)] if seeds > 1 else []
    arguments += ["--steps", str(settings.steps)] if settings.steps is not None else []
    arguments += ["--dataset", settings.dataset] if settings.dataset is not None else []
    arguments += ["--data-note", settings.data_note] if settings.data_note else []
    return arguments + (["--data-dir", str(places.data_dir)] if places.data_dir else [])


def _place_options(places: Places) -> list[str]:
    """Only what differs from the command's defaults."""
    options = [] if places.runs_dir == RUNS_FOLDER else ["--runs-dir", str(places.runs_dir)]
    options += ["--catalog", str(places.catalog)] if places.catalog else []
    return options + (["--data-dir", str(places.data_dir)] if places.data_dir else [])


def _value(value: Any) -> str:
    """A value that ``--set`` reads back as it is."""
    if isinstance(value, str):
        # Bare where that is as good, quoted where TOML would take it for a number or a table.
        return (
            value if value.replace("_", "").isalpha() and value not in ("true", "false", "inf", "nan") else _toml(value)
        )
    return _toml(value)


def _toml(value: Any) -> str:
    return tomli_w.dumps({"v": value}).partition("=")[2].strip()


class Start:
    """A command on its way to its run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.run: Run | None = None
        """The run, once the command has left it behind."""
        self.left = False
        """Whether it goes on when nobody waits for it any more."""
        self.process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """End the command, and the training that it may have begun: that one saves a checkpoint if it has a step."""
        if self.process is None or self.process.poll() is not None:
            return
        with contextlib.suppress(psutil.Error):
            command = psutil.Process(self.process.pid)
            # Held, it begins no other.
            command.suspend()
            for training in command.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    training.terminate()
        self.process.kill()
        self.process.wait()


async def start(
    arguments: Sequence[str], *, report: Callable[[str], None] = lambda _: None, known_as: Start | None = None
) -> Run:
    """Start ``kerascnn ARGUMENTS --detach`` and wait until it has left its run behind.

    Args:
        arguments: from :func:`train_arguments` or :func:`resume_arguments`.
        report: called with each line that the command says meanwhile, such as a download's progress.
        known_as: where the command can be stopped meanwhile, or left. When nobody waits any more, it is stopped unless
            it is to be left.

    Returns:
        The run, which goes on without us.

    Raises:
        RunError: the command's own message.
    """
    noted = known_as or Start("")
    # Files, not pipes, and no process of the event loop's: that one ends with us, and a left command goes on.
    with tempfile.TemporaryDirectory(prefix="kerascnn-start-", ignore_cleanup_errors=True) as folder:
        answer, log = Path(folder) / "answer.json", Path(folder) / "log.txt"
        with answer.open("wb") as out, log.open("wb") as errors:
            noted.process = _start_apart([*arguments, "--detach", "--json"], out, errors)
        try:
            said = await _listen(noted.process, log, report)
        finally:
            if not noted.left:
                noted.stop()
        code, told = noted.process.returncode, answer.read_text(encoding="utf-8", errors="replace")
    if code != 0:
        raise RunError(complaint(said) or f"kerascnn ended with exit code {code} and said nothing")
    try:
        noted.run = Run(Path(json.loads(told)["run_dir"]))
    except (ValueError, KeyError, TypeError):
        raise RunError(f"expected the run's directory from kerascnn, got {told!r}") from None
    return noted.run


def start_lecture(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start ``kerascnn ARGUMENTS`` apart from us. What it says goes into a file, which outlives us as it does.

    Args:
        arguments: from :func:`lecture_arguments`.
        log: written anew.

    Raises:
        RunError: the file can't be written, or the process not be started.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            return _start_apart(arguments, file, file)
    except OSError as error:
        raise RunError(f"the lecture can't be started: {system_error(error)}") from None


def stop_lecture(folder: LectureFolder, pid: int) -> None:
    """Ask the process that runs a lecture to end as by Ctrl-C: what is under way saves a checkpoint.

    Raises:
        RunError: there is no such process, or it isn't ours.
    """
    try:
        if sys.platform != "win32":
            os.kill(pid, signal.SIGINT)
            return
        # There no such signal reaches a process of another group: the training is asked by itself.
        psutil.Process(pid).terminate()
    except (OSError, psutil.Error) as error:
        raise RunError(f"process {pid} can't be asked to stop: {error}") from None
    for one in folder.step_runs(the_argument()):
        if one.run.owner() is not None:
            ask(one.run, make_command("stop", None))


def said_in(log: Path) -> list[str]:
    """The lines of a command's log; a progress bar's carriage returns end a line, too."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [one_line(line) for line in text.replace("\r", "\n").splitlines() if line.strip()]


def complaint(said: Sequence[str]) -> str:
    """The first lines of the error that a command ended with, else its last line."""
    begins = [number for number, line in enumerate(said) if line.startswith("kerascnn: ")]
    lines = said[begins[-1] :][:LINES_OF_AN_ERROR] if begins else said[-1:]
    return "\n".join(lines).removeprefix("kerascnn: ")


def _start_apart(arguments: Sequence[str], out: IO[bytes], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*_politely(), sys.executable, "-m", "kerascnn", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=errors,
        **_apart(),
    )


def _politely() -> list[str]:
    """At a lower priority, which the child and the child that it leaves behind inherit."""
    nice = shutil.which("nice") if os.name == "posix" else None
    return [nice, "-n", str(NICENESS)] if nice else []


def _apart() -> dict[str, Any]:
    """Out of reach of the signals that the terminal sends us, and of its end."""
    if sys.platform == "win32":
        # A console without a window: with none at all, each training that a lecture starts would open its own.
        apart = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": apart | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    return {"start_new_session": True}


async def _listen(process: subprocess.Popen[bytes], log: Path, report: Callable[[str], None]) -> list[str]:
    """The lines that a command says until it ends, however long; a progress bar's carriage returns end one, too."""
    said: list[str] = []
    rest = ""
    going = True
    with log.open("rb") as file:
        while going:
            # Asked before reading: what it said before it ended is then read in any case.
            going = process.poll() is None
            *lines, rest = (rest + file.read().decode(errors="replace")).replace("\r", "\n").split("\n")
            for line in filter(str.strip, lines):
                said.append(line.strip())
                report(line.strip())
            if going:
                await asyncio.sleep(LISTEN_EVERY_S)
    return [*said, rest.strip()] if rest.strip() else said
