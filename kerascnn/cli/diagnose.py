"""``kerascnn diagnose``: why a network doesn't learn, with the numbers and a picture of its signal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kerascnn.cli import options as common
from kerascnn.cli.output import print_json, print_table, say
from kerascnn.cli.progress import counted
from kerascnn.cli.repair import repair
from kerascnn.data.dataset import absolute
from kerascnn.diagnosis import BATCH_SIZE, STEPS
from kerascnn.diagnosis.rules import the_rules
from kerascnn.diagnosis.subjects import Examiner, diagnose_file
from kerascnn.errors import UsageError
from kerascnn.runs import events as ev
from kerascnn.training import session
from kerascnn.wording import percent

if TYPE_CHECKING:
    from kerascnn.diagnosis.outcome import Diagnosis

BAR = 16
# An empty bar: a signal that is weaker by so many powers of ten.
DECADES = 8


def diagnose(
    model: Annotated[str | None, typer.Argument(help="A network out of `kerascnn models`.")] = None,
    file: Annotated[Path | None, typer.Option("--keras", metavar="FILE", help="A saved .keras file instead.")] = None,
    dataset: common.DatasetName = None,
    steps: Annotated[int, typer.Option(min=20, help="Optimizer steps of the short run, at most.")] = STEPS,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help=f"Images in a step; else the recipe's, {BATCH_SIZE} for FILE.")
    ] = None,
    learning_rate: common.LearningRate = None,
    seed: common.Seed = None,
    assignments: common.Assignments = None,
    catalog: common.Catalog = None,
    fix: Annotated[bool, typer.Option("--fix", help="Try the remedies until one works.")] = False,
    unit: Annotated[bool, typer.Option("--unit", help="Feed FILE pixels from 0 to 1, not 0 to 255.")] = False,
    backend: common.Backend = None,
    device: common.Device = "auto",
    data_dir: common.DataDir = None,
    offline: common.Offline = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find out in a short run whether a network learns, and if not, why. Exit code 1 where it doesn't.

    With --fix the exit code is 0 as well where a remedy makes it learn.
    """
    options = session.Options(backend=backend, device=device, data_dir=data_dir, download=not offline)
    if (model is None) == (file is None):
        raise UsageError("expected a MODEL out of `kerascnn models`, or --keras FILE")
    if file is not None:
        if fix:
            raise UsageError("--fix changes a MODEL's recipe and --keras FILE has none: there the remedies are advice")
        if dataset is None or learning_rate is not None or assignments or catalog is not None:
            raise UsageError("--keras FILE takes the file's own optimizer: expected --dataset beside it, and no recipe")
        with _shown(steps) as shown:
            found = diagnose_file(
                file,
                dataset,
                options,
                steps=steps,
                batch_size=batch_size or BATCH_SIZE,
                seed=seed or 0,
                unit=unit,
                listener=shown.event,
                watch=shown.one_batch,
                tell=say,
            )
        _show(found, str(file), absolute(dataset), as_json=as_json)
        raise typer.Exit(0 if found.healthy else 1)
    if unit:
        raise UsageError("--unit is about --keras FILE; a MODEL scales its pixels itself: --set train.scaling=…")
    given = {
        "train.batch_size": batch_size,
        "train.optimizer.learning_rate": learning_rate,
        "train.seed": seed,
    }
    changes = common.changes_of(dataset, given, assignments)
    recipe = common.recipe_of(model, changes, catalog)
    choice = session.check(recipe, options, report=say)
    say(
        f"{recipe.name} on {recipe.dataset} with {choice.name} ({choice.reason}), at most {steps} steps of "
        f"{recipe.train.batch_size} images"
    )
    examiner = Examiner(recipe, options, steps=steps, tell=say)
    with _shown(steps) as shown:
        found = examiner.diagnose(recipe, shown.event, watch=shown.one_batch)
    if not fix:
        _show(found, recipe.name, recipe.dataset, as_json=as_json)
        raise typer.Exit(0 if found.healthy else 1)
    if not as_json:
        _print(found)
    raise typer.Exit(repair(recipe, found, examiner, changes, catalog, options, as_json=as_json))


def _show(found: Diagnosis, model: str, dataset: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"model": model, "dataset": dataset, **found.to_dict()})
    else:
        _print(found)


class _Shown:
    """Shows how far the short run is, and then, of what is still at chance, the steps on one batch."""

    def __init__(self, steps: int, show: Callable[[int, str], None]) -> None:
        self._steps = steps
        self._show = show

    def event(self, event: ev.Event) -> None:
        """A step of the short run."""
        if isinstance(event, ev.StepDone):
            self._show(event.step, f"loss {event.loss:.4f}")

    def one_batch(self, step: int, loss: float, accuracy: float) -> None:
        """A step on one batch alone."""
        self._show(self._steps, f"one batch: step {step}  loss {loss:.4f} acc {percent(accuracy)}")


@contextmanager
def _shown(steps: int) -> Iterator[_Shown]:
    with counted("short run", steps) as show:
        yield _Shown(steps, show)


def _print(found: Diagnosis) -> None:
    last = min(20, found.steps)
    loss, accuracy = (sum(values[-last:]) / last for values in (found.losses, found.accuracies))
    typer.echo(_headline(found))
    typer.echo(
        f"loss {loss:.3f} and accuracy {percent(accuracy)} over the last {last} of {found.steps} steps of "
        f"{found.batch_size} images, loss {found.losses[0]:.3f} at the start"
    )
    typer.echo(
        f"chance, the best that blank images allow: {found.chance.loss:.3f} and {percent(found.chance.accuracy)}"
    )
    architecture = found.architecture
    typer.echo(f"input: mean {architecture.input_mean:.3g}, deviation {architecture.input_deviation:.3g}")
    if found.label_score is not None:
        typer.echo(f"labels: a linear classifier comes {found.label_score:.0f} deviations above chance")
    if (batch := found.one_batch) is not None:
        typer.echo(
            f"one batch: {batch.in_words}, {round(batch.accuracy * batch.images)} of {batch.images} images right after "
            f"{batch.steps} steps on them alone, loss {batch.loss:.3f}"
        )
    typer.echo("\nthe signal: how much each layer's output differs from image to image")
    _print_picture(found)
    for number, finding in enumerate(found.findings, start=1):
        typer.echo(f"\n{number}. {finding.severity}: {finding.symptom}")
        for part in finding.cause.split("; "):
            typer.echo(f"   {part}")
        for remedy in finding.remedies:
            typer.echo(f"   try: {remedy}")


def _headline(found: Diagnosis) -> str:
    if found.undecided:
        relapsed = any(the_rules().is_of_relapse(finding.rule) for finding in found.findings)
        needed = found.steps_for_a_verdict
        takes = f"; a verdict takes {needed:,} steps of {found.batch_size} images" if found.steps < needed else ""
        return f"too few steps to say: it {'was better and is back' if relapsed else 'is still'} at chance{takes}"
    loss, accuracy = found.at_the_end
    if found.healthy and loss > found.chance.loss:
        return f"it learns: {percent(accuracy)} right, with a loss of {loss / found.chance.loss:.1f} times chance"
    if found.healthy:
        return "it learns" if not found.findings else "it learns, with a warning"
    return f"it does not learn: {found.findings[0].rule}"


def _print_picture(found: Diagnosis) -> None:
    first, last = found.signals[0], found.signals[-1]
    strongest = max((value for value in first.between_images if value and math.isfinite(value)), default=1.0)
    columns = [("layer", "left"), ("activation", "left")]
    columns += [(f"step {look.step}", "left") for look in (first, last)]
    columns += [("gradient", "right"), ("step/weight", "right"), ("dead", "right"), ("flat", "right")]
    rows = [
        [
            name,
            found.architecture.layers[place].activation,
            _bar(first.between_images[place], strongest),
            _bar(last.between_images[place], strongest),
            _figure(last.gradient_norm[place]),
            _figure(last.update_over_weight[place]),
            _share(last.dead[place]),
            _share(last.saturated[place]),
        ]
        for place, name in enumerate(first.layers)
    ]
    print_table(columns, rows)


def _bar(value: float | None, strongest: float) -> str:
    """A value and its bar, a power of ten being the same length anywhere."""
    if value is None or not math.isfinite(value):
        return _figure(value)
    decades = math.log10(value / strongest) if value > 0 else -math.inf
    length = round(BAR * min(1.0, max(0.0, 1 + decades / DECADES)))
    return f"{'█' * length}{'·' * (BAR - length)} {value:.1e}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
