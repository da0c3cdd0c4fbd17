"""``kerascnn lr-find``: the loss at rising learning rates, and which to begin with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from kerascnn.cli import options as common
from kerascnn.cli.chart import curve_chart
from kerascnn.cli.output import print_json, print_table, repeated, say, stdout
from kerascnn.cli.progress import counted
from kerascnn.errors import UsageError
from kerascnn.recipe import Recipe
from kerascnn.runs.files import write_atomically
from kerascnn.training import session
from kerascnn.training.rate_finder import HIGHEST, LOWEST, STEPS, RateSweep, find_learning_rate

RATE = "train.optimizer.learning_rate"
WIDTH, HEIGHT = 80, 12
FORMATS = (".svg", ".png")
DOTS_PER_INCH = 150
MEANINGS = {
    "tenth of the minimum": "a tenth of the rate at which the loss is lowest; recommended",
    "steepest": "where the loss falls fastest",
}


def lr_find(
    model: Annotated[str | None, typer.Argument(help="A network out of `kerascnn models`.")] = None,
    lowest: Annotated[float, typer.Option("--from", help="The first learning rate.")] = LOWEST,
    highest: Annotated[float, typer.Option("--to", help="The last learning rate.")] = HIGHEST,
    steps: Annotated[int, typer.Option(help="Optimizer steps at the most, a rate each.")] = STEPS,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the curve as NAME.svg or NAME.png.")] = None,
    dataset: common.DatasetName = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in an optimizer step.")] = None,
    seed: common.Seed = None,
    assignments: common.Assignments = None,
    catalog: common.Catalog = None,
    backend: common.Backend = None,
    device: common.Device = "auto",
    data_dir: common.DataDir = None,
    offline: common.Offline = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find a learning rate: train some steps at rising ones. Exit code 1 where the network learns at none."""
    _check_plot(plot)
    changes = common.changes_of(dataset, {"train.batch_size": batch_size, "train.seed": seed}, assignments)
    recipe = common.recipe_of(model, changes, catalog)
    options = session.Options(backend=backend, device=device, data_dir=data_dir, download=not offline)
    with counted("learning rates", steps) as show:
        found = find_learning_rate(
            recipe,
            lowest=lowest,
            highest=highest,
            steps=steps,
            options=options,
            tell=say,
            watch=lambda step, rate, loss: show(step, f"lr {rate:.1e}  loss {loss:.4f}"),
        )
    if plot is not None:
        write_atomically(plot, lambda path: _draw(recipe, found, path))
        say(f"plot: {plot}")
    if as_json:
        print_json({"model": recipe.name, "dataset": recipe.dataset, **found.to_dict()})
    else:
        whole = common.whole_changes(recipe, changes, catalog)
        _print(recipe, found, lambda command, more: repeated(command, recipe.name, {**whole, **more}, catalog, options))
    raise typer.Exit(1 if found.flat else 0)


def _check_plot(plot: Path | None) -> None:
    """Before a long sweep, whether its plot can be written."""
    if plot is None:
        return
    if plot.suffix not in FORMATS:
        raise UsageError(f"--plot: expected a file NAME.svg or NAME.png, got {plot}")
    if not plot.absolute().parent.is_dir():
        raise UsageError(f"--plot: expected a folder at {plot.absolute().parent}, and there is none")


def _print(recipe: Recipe, found: RateSweep, as_typed: Callable[[str, Mapping[str, Any]], str]) -> None:
    steps, batch = len(found.rates), recipe.train.batch_size
    if all(math.isfinite(loss) for loss in found.smoothed):
        width = min(WIDTH, stdout().width)
        typer.echo("loss, smoothed, at rising learning rates")
        for line in curve_chart(found.rates, found.smoothed, width=width, height=HEIGHT, marks=found.suggestions):
            typer.echo(line)
    typer.echo(
        f"{steps} steps of {batch} images with {recipe.train.optimizer.name}, to {found.rates[-1]:.2g}: {found.ended}; "
        f"lowest smoothed loss {min(found.smoothed):.4f}, chance {found.chance:.4f}"
    )
    if found.flat:
        typer.echo(
            f"flat: at no rate does the loss come below chance, so there is none to suggest. Why: "
            f"{as_typed('diagnose', {})}. A deep network may only need more steps: --steps {4 * steps}"
        )
        return
    typer.echo()
    rows = [[name, f"{rate:g}", MEANINGS[name]] for name, rate in found.suggestions.items()]
    rows.append(["the recipe's", f"{recipe.train.optimizer.learning_rate:g}", "for comparison"])
    print_table([("learning rate", "left"), ("", "right"), ("", "left")], rows)
    if found.still_falling:
        typer.echo(
            f"\nthe loss still fell at the last rate: higher ones may be better, --to {10 * found.rates[-1]:.2g}"
        )
    typer.echo(f"\n{as_typed('train', {RATE: found.recommended})}")


def _draw(recipe: Recipe, found: RateSweep, path: Path) -> None:
    """The curve with the batches' own losses and the suggestions, as a picture."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from kerascnn.lecture.figures import BLACK, COLORS, SETTINGS

    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(found.rates, found.losses, ".", color=COLORS[0], alpha=0.35, markersize=4, label="of each batch")
        axes.plot(found.rates, found.smoothed, color=COLORS[0], label="smoothed")
        axes.axhline(found.chance, color=BLACK, linestyle="--", linewidth=0.8, label="chance")
        for (name, rate), color in zip(found.suggestions.items(), COLORS[1:], strict=False):
            axes.axvline(rate, color=color, linewidth=1, label=f"{name}: {rate:g}")
        if all(math.isfinite(loss) for loss in found.smoothed):
            low, high = min(found.smoothed), max(found.smoothed)
            axes.set_ylim(low - 0.15 * (high - low), high + 0.25 * (high - low))
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, nats")
        axes.set_title(f"{recipe.name} on {recipe.dataset}, {recipe.train.optimizer.name}")
        axes.legend(frameon=False)
        metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata=metadata)
