"""Carries the lecture out: one process a training, watched from outside, ended when its claim is decided."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import filelock

from kerascnn.catalog import load_recipe
from kerascnn.data.dataset import classes_of, count_train_images
from kerascnn.errors import RunError
from kerascnn.lecture.argument import Step, the_argument
from kerascnn.lecture.curves import read_curve
from kerascnn.lecture.folder import LectureFolder, Settings, Shown, StepRun, is_decided, overrides
from kerascnn.lecture.verdicts import judge
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.runs.control import ask, make_command
from kerascnn.runs.directory import LOCK_FILE, disown, own
from kerascnn.runs.files import remove_unfinished
from kerascnn.training.session import Options, check_resumable, new_run

LOOK_EVERY_S = 0.25


@dataclass(frozen=True)
class Place:
    """Where the lecture stands: this training is number ``number`` of ``of``; about ``left`` seconds, if known."""

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
        RecipeError, UnknownNameError, DatasetError: the dataset doesn't fit or doesn't exist.
    """
    recipe = load_recipe(step.model)
    name = settings.dataset or recipe.dataset
    images = _train_images(name, recipe.train.val_split)
    changes = {**overrides(settings.the_budget(), recipe, images, seed), "dataset": name}
    classes = classes_of(name)
    if classes is not None:
        changes["classes"] = classes
    return load_recipe(step.model, changes)


# A folder of a million images takes seconds to count, and every training that is to come is asked about.
_train_images = cache(count_train_images)


def run_lecture(
    folder: LectureFolder, steps: Sequence[Step], seeds: int, options: Options, backend: str, watcher: Watcher
) -> list[Shown]:
    """Train every step with every seed that isn't decided yet, all steps of a seed before the next seed.

    Raises:
        RunError: a training failed, or another process runs this lecture.
        KeyboardInterrupt, Interruption: the training that was under way has saved a checkpoint and ended.
    """
    settings = folder.settings()
    lock = filelock.FileLock(folder.path / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RunError(f"{folder.path}: another process runs this lecture; one at a time") from None
    try:
        own(folder.path)
        wanted = [folder.step_run(step, backend, seed) for seed in range(seeds) for step in steps]
        todo = [one for one in wanted if not (one.exists and _decided(folder, one, settings))]
        for number, one in enumerate(todo):
            left = _left(folder, todo[number:], settings)
            watcher.begins(Place(one, len(wanted) - len(todo) + number + 1, len(wanted), left))
            _carry_out(folder, one, settings, options, watcher)
            _remove_checkpoints(one)
            watcher.ends(folder.show(one, settings))
        for one in wanted:
            _remove_checkpoints(one)
        return [folder.show(one, settings) for one in wanted]
    finally:
        disown(folder.path)
        lock.release()


def _decided(folder: LectureFolder, one: StepRun, settings: Settings) -> bool:
    shown = folder.show(one, settings)
    return one.run.owner() is None and is_decided(shown.curve, shown.judgement, settings.the_budget())


def _carry_out(folder: LectureFolder, one: StepRun, settings: Settings, options: Options, watcher: Watcher) -> None:
    if not one.exists:
        # A kill may have left a directory that was only half made.
        remove_unfinished(one.run.path)
        new_run(one.run.path, recipe_of(one.step, settings, one.seed), options, None)
    one.run.checkpoints.mkdir(exist_ok=True)
    child = None
    try:
        # One that somebody else began, or that outlived a killed lecture, is watched like our own.
        if one.run.owner() is None:
            check_resumable(one.run)
            child = _start(one, options)
        _watch(one, settings, child, watcher.sees)
    except BaseException:
        _end(one, child)
        raise
    if not _decided(folder, one, settings):
        raise RunError(f"step {one.step.id}, {one.step.model}: {_why_it_ended(one, child)}")


def _remove_checkpoints(one: StepRun) -> None:
    """Of a training that is decided: what a resume would need is gigabytes over all steps."""
    for path in one.run.checkpoints.glob("*"):
        path.unlink(missing_ok=True)


def _start(one: StepRun, options: Options) -> subprocess.Popen[bytes]:
    # It tells how an earlier process ended.
    one.run.result_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "kerascnn", "train", "--resume", str(one.run.path), "--backend", one.backend]
    command += ["--device", options.device, "--checkpoint-minutes", "1"]
    command += ["--data-dir", str(options.data_dir)] if options.data_dir else []
    command += [] if options.download else ["--offline"]
    with one.run.log_file.open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _end(one: StepRun, child: subprocess.Popen[bytes] | None) -> None:
    """Let a training write its checkpoint and go."""
    if child is None:
        if _ask_to_stop(one):
            while one.run.owner() is not None:
                time.sleep(LOOK_EVERY_S)
        return
    if sys.platform != "win32":
        child.terminate()
    elif one.run.owner() is None or not _ask_to_stop(one):
        # Windows knows no signal that a process could act on; this is its kill.
        child.terminate()
    child.wait()


def _watch(
    one: StepRun, settings: Settings, child: subprocess.Popen[bytes] | None, see: Callable[[ev.Event], None]
) -> None:
    """Follow a training to its end; ask it to stop as soon as it has shown that it learns."""
    budget = settings.the_budget()
    classes = one.run.recipe().classes
    # What an earlier process did is judged with the rest, but not shown again.
    seen, offset = ev.read_events(one.run.events_file)
    asked = False
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


def _why_it_ended(one: StepRun, child: subprocess.Popen[bytes] | None) -> str:
    message = one.run.result().get("message") or _said(one.run.log_file)
    if message:
        return str(message)
    code = "" if child is None else f" with exit code {child.returncode}"
    return f"its process ended{code} and gave no reason; {one.run.log_file} holds what it said"


def _said(log: Path) -> str:
    """The error that a command ended with, if it had the time."""
    try:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
    except OSError:
        last = []
    return last[0].removeprefix("kerascnn: ") if last and last[0].startswith("kerascnn: ") else ""


def _left(folder: LectureFolder, todo: Iterable[StepRun], settings: Settings) -> float | None:
    """Seconds that the rest takes if no training ends early; None before any has ended.

    Each is taken to go on at the pace of the ended one that is nearest in multiply-adds, on any backend.
    """
    paces: list[tuple[float, float]] = []
    for one in folder.step_runs(the_argument()):
        curve = folder.show(one, settings).curve
        if len(curve.steps) and one.run.owner() is None:
            images = int(curve.steps[-1]) * one.run.recipe().train.batch_size
            paces.append((_multiply_adds(one.run.recipe()), curve.seconds / images))
    if not paces:
        return None
    left = 0.0
    for one in todo:
        recipe = recipe_of(one.step, settings, one.seed)
        own = _multiply_adds(recipe)
        work, seconds = min(paces, key=lambda pace: abs(math.log(pace[0] / own)))
        left += _images(recipe) * seconds * own / work
    return left


def _multiply_adds(recipe: Recipe) -> float:
    return float(recipe.card.multiply_adds or 1)


def _images(recipe: Recipe) -> int:
    """How many images a training sees."""
    there = _train_images(recipe.dataset, recipe.train.val_split)
    return recipe.train.epochs * min(there, recipe.train.limit_train or there)
