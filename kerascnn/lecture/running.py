"""Carries the lecture out: one process a training, watched from outside, ended when its claim is decided."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock

from kerascnn.catalog import load_recipe
from kerascnn.data.dataset import classes_of
from kerascnn.data.known import DATASETS
from kerascnn.errors import RunError
from kerascnn.lecture.argument import Step, the_argument
from kerascnn.lecture.curves import read_curve
from kerascnn.lecture.folder import LectureFolder, Settings, Shown, StepRun, is_decided, overrides
from kerascnn.lecture.verdicts import judge
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.runs.control import ask, make_command
from kerascnn.runs.directory import disown, own
from kerascnn.training.session import Options, new_run

LOOK_EVERY_S = 0.25


@dataclass(frozen=True)
class Place:
    """Where the lecture stands: this training is number ``number`` of ``of``; ``left`` seconds at most, if known."""

    step_run: StepRun
    number: int
    of: int
    left: float | None


class Watcher:
    """What somebody who follows the lecture is told; each may be overridden."""

    def begins(self, place: Place) -> None:
        """A training begins, or goes on."""

    def sees(self, event: ev.Event) -> None:
        """An event of the training."""

    def ends(self, shown: Shown) -> None:
        """A training is decided."""


def recipe_of(step: Step, settings: Settings, seed: int) -> Recipe:
    """The recipe of one training.

    Raises:
        RecipeError, UnknownNameError: the dataset doesn't fit or doesn't exist.
    """
    name = settings.dataset or load_recipe(step.model).dataset
    images = DATASETS[name].train_images if name in DATASETS else None
    changes = {**overrides(settings.the_budget(), images, seed), "dataset": name}
    classes = classes_of(name)
    if classes is not None:
        changes["classes"] = classes
    return load_recipe(step.model, changes)


def run_lecture(
    folder: LectureFolder, steps: Sequence[Step], seeds: int, options: Options, backend: str, watcher: Watcher
) -> list[Shown]:
    """Train every step with every seed that isn't decided yet, all steps of a seed before the next seed.

    Raises:
        RunError: a training failed, or another process runs this lecture.
        KeyboardInterrupt, Interruption: the training that was under way has been asked to save a checkpoint.
    """
    settings = folder.settings()
    lock = filelock.FileLock(folder.path / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RunError(f"{folder.path}: another process runs this lecture; one at a time") from None
    try:
        own(folder.path)
        wanted = [folder.step_run(step, backend, seed) for seed in range(seeds) for step in steps]
        todo = [one for one in wanted if not (one.exists and _decided(folder, one, settings))]
        for number, one in enumerate(todo):
            left = _at_most_left(folder, todo[number:], settings)
            watcher.begins(Place(one, len(wanted) - len(todo) + number + 1, len(wanted), left))
            _carry_out(folder, one, settings, options, watcher)
            watcher.ends(folder.show(one, settings))
        return [folder.show(one, settings) for one in wanted]
    finally:
        disown(folder.path)
        lock.release()


def _decided(folder: LectureFolder, one: StepRun, settings: Settings) -> bool:
    shown = folder.show(one, settings)
    return one.run.owner() is None and is_decided(shown.curve, shown.judgement, settings.the_budget())


def _carry_out(folder: LectureFolder, one: StepRun, settings: Settings, options: Options, watcher: Watcher) -> None:
    if not one.exists:
        new_run(one.run.path, recipe_of(one.step, settings, one.seed), options, None)
    # One that somebody else began, or that outlived a killed lecture, is watched like our own.
    child = None if one.run.owner() is not None else _start(one, options)
    try:
        _watch(one, settings, child, watcher.sees)
    except BaseException:
        if child is not None and child.poll() is None:
            child.terminate()
            child.wait()
        raise
    if not _decided(folder, one, settings):
        message = one.run.result().get("message") or _last_line(one.run.log_file)
        raise RunError(f"step {one.step.id}, {one.step.model}: {message}")
    # Decided for good: what a resume would need is gigabytes over all steps.
    shutil.rmtree(one.run.checkpoints, ignore_errors=True)


def _start(one: StepRun, options: Options) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kerascnn", "train", "--resume", str(one.run.path), "--backend", one.backend]
    command += ["--device", options.device]
    command += ["--data-dir", str(options.data_dir)] if options.data_dir else []
    command += [] if options.download else ["--offline"]
    with one.run.log_file.open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _watch(
    one: StepRun, settings: Settings, child: subprocess.Popen[bytes] | None, see: Callable[[ev.Event], None]
) -> None:
    """Follow a training to its end; ask it to stop as soon as it has shown that it learns."""
    budget = settings.the_budget()
    classes = one.run.recipe().classes
    seen: list[ev.Event] = []
    offset, asked = 0, False
    while True:
        # Asked before reading: what a process wrote before it ended is then read in any case.
        alive = child.poll() is None if child is not None else one.run.owner() is not None
        new, offset = ev.read_events(one.run.events_file, offset)
        for event in new:
            see(event)
        seen += new
        if not alive:
            return
        if new and budget.ends_when_learnt and not asked:
            curve = read_curve(ev.effective(seen), "running", classes)
            if is_decided(curve, judge(one.step.claim, curve, budget, the_argument().rule), budget):
                asked = _ask_to_stop(one)
        time.sleep(LOOK_EVERY_S)


def _ask_to_stop(one: StepRun) -> bool:
    try:
        ask(one.run, make_command("stop", None))
    except RunError:
        # It came to its end by itself.
        return False
    return True


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].removeprefix("kerascnn: ") if lines else "its process ended and said nothing"


def _at_most_left(folder: LectureFolder, todo: Iterable[StepRun], settings: Settings) -> float | None:
    """Seconds that the rest takes if no training ends early, by the pace of those that are done; None before any is."""
    done = [one for one in folder.step_runs(the_argument()) if _decided(folder, one, settings)]
    shown = [folder.show(one, settings) for one in done]
    spent = sum(one.curve.seconds for one in shown)
    work = sum(_work(one.step_run, settings, int(one.curve.steps[-1])) for one in shown if len(one.curve.steps))
    if not work:
        return None
    return sum(_work(one, settings) for one in todo) * spent / work


def _work(one: StepRun, settings: Settings, steps: int | None = None) -> float:
    """Multiply-adds of the training's steps, of all that its budget allows where no number is given."""
    recipe = recipe_of(one.step, settings, one.seed)
    if steps is None:
        images = (recipe.train.limit_train or 50_000) * recipe.train.epochs
    else:
        images = steps * recipe.train.batch_size
    return float(images * (recipe.card.multiply_adds or 0))
