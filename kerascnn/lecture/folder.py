"""A lecture's folder: what was asked for, one run directory for each step, backend and seed, and the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kerascnn.errors import UsageError
from kerascnn.lecture.argument import Argument, Budget, Step, the_argument
from kerascnn.lecture.curves import Curve, read_curve
from kerascnn.lecture.verdicts import Judgement, judge
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run, owner_of, state_of
from kerascnn.runs.files import write_text

SETTINGS_FILE = "lecture.json"


class Settings(BaseModel):
    """What all runs of a folder have in common, as ``lecture.json`` holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    budget: str
    steps: int | None = Field(default=None, ge=1)
    """Instead of the budget's number of steps."""
    dataset: str | None = None
    """Instead of each network's own."""
    data_note: str = ""
    """Said in the report beside the data."""

    def the_budget(self) -> Budget:
        """The budget, with its number of steps replaced where another was asked for."""
        budget = the_argument().budgets[self.budget]
        return budget if self.steps is None else budget.with_steps(self.steps)


@dataclass(frozen=True)
class StepRun:
    """One training of the lecture."""

    step: Step
    backend: str
    seed: int
    run: Run

    @property
    def exists(self) -> bool:
        """Whether it has been begun."""
        return self.run.recipe_file.is_file()


@dataclass(frozen=True)
class Shown:
    """A training with its curve and the verdict on it."""

    step_run: StepRun
    curve: Curve
    judgement: Judgement


@dataclass(frozen=True)
class LectureFolder:
    """A folder that a lecture is run in. Reading it needs no Keras and changes nothing."""

    path: Path

    @property
    def runs_folder(self) -> Path:
        """A folder of run directories as every other."""
        return self.path / "runs"

    @property
    def settings_file(self) -> Path:
        """What was asked for."""
        return self.path / SETTINGS_FILE

    def owner(self) -> int | None:
        """The process that runs this lecture now, or None. It ends by SIGINT as by Ctrl-C, with a checkpoint."""
        return owner_of(self.path)

    def settings(self) -> Settings:
        """What was asked for.

        Raises:
            UsageError: no lecture was run here, or the file is damaged.
        """
        try:
            settings = Settings.model_validate_json(self.settings_file.read_bytes())
        except OSError:
            raise UsageError(
                f"expected a lecture's folder with a {SETTINGS_FILE} at {self.path}; `kerascnn lecture run` makes one"
            ) from None
        except ValidationError as error:
            raise UsageError(f"{self.settings_file}: {error.errors()[0]['msg']}") from None
        if settings.budget not in the_argument().budgets:
            raise UsageError(f"{self.settings_file}: expected one of {', '.join(the_argument().budgets)} as budget")
        return settings

    def begin(self, settings: Settings) -> None:
        """Make the folder, or go on in one that was asked for the same.

        Raises:
            UsageError: something else was asked for here before.
        """
        if not self.settings_file.is_file():
            self.path.mkdir(parents=True, exist_ok=True)
            self._write(settings)
            return
        before = self.settings().model_dump()
        for key, value in settings.model_dump().items():
            if key == "data_note":
                # Said of the data, not done to it: the newest word counts.
                continue
            if before[key] != value:
                raise UsageError(
                    f"{self.path}: a lecture with {key} = {before[key]!r} was begun here, expected the same, got "
                    f"{value!r}; --dir names another folder"
                )
        if settings.data_note:
            self._write(settings)

    def _write(self, settings: Settings) -> None:
        write_text(self.settings_file, settings.model_dump_json(indent=2) + "\n")

    def step_run(self, step: Step, backend: str, seed: int) -> StepRun:
        """Where a training is, or will be."""
        return StepRun(step, backend, seed, Run(self.runs_folder / f"{step.id}-{step.model}" / f"{backend}-seed{seed}"))

    def step_runs(self, argument: Argument) -> Iterator[StepRun]:
        """The trainings that have been begun, in the order of the argument."""
        for step in argument.steps:
            for path in sorted((self.runs_folder / f"{step.id}-{step.model}").glob("*-seed*")):
                backend, _, seed = path.name.rpartition("-seed")
                found = StepRun(step, backend, int(seed), Run(path)) if seed.isdigit() else None
                if found is not None and found.exists:
                    yield found

    def show(self, step_run: StepRun, settings: Settings) -> Shown:
        """Read a training and judge it."""
        # Asked before reading: what a process wrote before it ended is then read in any case.
        holder = step_run.run.holder()
        return judged(step_run, step_run.run.events(), settings, *holder)


def judged(
    step_run: StepRun, happened: list[ev.Event], settings: Settings, owner: int | None, host: str | None
) -> Shown:
    """Judge a training by its effective events; its :meth:`Run.holder` was asked before they were read."""
    curve = read_curve(happened, state_of(happened, owner, host), step_run.run.recipe().classes)
    return Shown(step_run, curve, judge(step_run.step.claim, curve, settings.the_budget(), the_argument().rule))


def is_decided(curve: Curve, judgement: Judgement, budget: Budget) -> bool:
    """Whether a training needs no further step."""
    return curve.ended or (budget.ends_when_learnt and judgement.measured.behaviour == "learns")


def overrides(budget: Budget, recipe: Recipe, train_images: int, seed: int) -> Mapping[str, Any]:
    """What a budget changes in a recipe.

    Args:
        budget: with its number of steps, or without for the recipe's own epochs.
        recipe: as it is in the catalog.
        train_images: how many there are to train on.
        seed: of initial weights and batches.
    """
    batch = budget.batch_size or recipe.train.batch_size
    changes: dict[str, Any] = {"train.seed": seed, "train.batch_size": batch}
    if budget.val_images is not None:
        changes["train.limit_val"] = budget.val_images
    if budget.steps is not None:
        # As few epochs as the images allow, all of the same length: rather a few steps more than one too few.
        epochs = -(-budget.steps // max(1, train_images // batch))
        changes["train.epochs"] = epochs
        changes["train.limit_train"] = -(-budget.steps // epochs) * batch
    return changes
