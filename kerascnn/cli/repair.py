"""``kerascnn diagnose --fix``: the remedies as they are tried, and the recipe change that works."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
import typer

from kerascnn.catalog import nested
from kerascnn.cli.options import whole_changes
from kerascnn.cli.output import print_json, print_table, repeated, say
from kerascnn.diagnosis.repair import MOST_TRAININGS, Repair, Training, Trial, needs_repair, try_remedies
from kerascnn.diagnosis.subjects import Examiner
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.training.session import Options
from kerascnn.wording import percent

if TYPE_CHECKING:
    from kerascnn.diagnosis.outcome import Diagnosis

SIGN_OF_LIFE_EVERY = 100


def repair(
    recipe: Recipe,
    found: Diagnosis,
    examiner: Examiner,
    changes: Mapping[str, Any],
    catalog: Path | None,
    options: Options,
    *,
    as_json: bool,
) -> int:
    """Try the remedies of a diagnosis, show what each did, and return the exit code.

    Args:
        recipe: the network, changed as the command says.
        found: its diagnosis, which is printed already, but for JSON.
        examiner: trains changed recipes.
        changes: the command's changes of the network in the catalog.
        catalog: the user's own.
        options: the command's, which the one that is printed repeats.
        as_json: print one JSON object of both.
    """
    trials: list[Trial] = []
    interrupted = False
    if needs_repair(found):
        say(f"--fix: at most {MOST_TRAININGS} trainings of at most {examiner.steps} steps; Ctrl-C ends it")
    try:
        for trial in try_remedies(
            recipe, found, lambda changed: examiner.diagnose(changed, _tell, by_heart=False), tell=say
        ):
            trials.append(trial)
            say("; ".join(f"seed {one.seed} {_in_words(one)}" for one in trial.trainings), style="bold")
    except KeyboardInterrupt:
        interrupted = True
    repaired = Repair(tuple(trials))
    if as_json:
        content = {"model": recipe.name, "dataset": recipe.dataset, **found.to_dict()}
        print_json({**content, "repair": {**repaired.to_dict(), "interrupted": interrupted}})
    elif not needs_repair(found):
        needed = f" yet: --steps {found.steps_for_a_verdict} would tell" if found.undecided else ""
        typer.echo(f"\nnothing to fix{needed}")
    else:
        _print(repaired, recipe, found, changes, catalog, options)
    if interrupted:
        return 130
    return 0 if not needs_repair(found) or repaired.solution is not None else 1


def _tell(event: ev.Event) -> None:
    if isinstance(event, ev.LayerStatistics) and event.step % SIGN_OF_LIFE_EVERY == 0:
        say(f"step {event.step} …", style="dim")


def _in_words(training: Training) -> str:
    return f"{training.outcome}, loss {training.loss:.3f} after {training.steps} steps"


def _print(
    repaired: Repair,
    recipe: Recipe,
    found: Diagnosis,
    changes: Mapping[str, Any],
    catalog: Path | None,
    options: Options,
) -> None:
    if not repaired.trials:
        typer.echo("\nno remedy was tried: none is a change of this recipe")
        return
    typer.echo(f"\nwhat the remedies did (chance: loss {found.chance.loss:.3f}, {percent(found.chance.accuracy)})")
    columns = [("remedy", "left"), ("seed", "right"), ("loss", "right"), ("accuracy", "right"), ("steps", "right")]
    rows = [
        [
            str(trial.candidate) if number == 0 else "",
            str(training.seed),
            f"{training.loss:.3f}",
            percent(training.accuracy),
            str(training.steps),
            training.outcome,
        ]
        for trial in repaired.trials
        for number, training in enumerate(trial.trainings)
    ]
    print_table([*columns, ("", "left")], rows)
    if (solution := repaired.solution) is not None:
        typer.echo(f"\nit learns with: {solution.candidate}")
        together = {**whole_changes(recipe, changes, catalog), **solution.candidate.changes}
        typer.echo(f"   {repeated('train', recipe.name, together, catalog, options)}")
        typer.echo(f"\nas an entry of a catalog:\n\n{entry(recipe.name, together)}", nl=False)
    elif (nearest := repaired.nearest) is not None:
        typer.echo(f"\nnothing works; nearest comes: {nearest.candidate} ({_in_words(nearest.trainings[-1])})")


def entry(name: str, changes: Mapping[str, Any]) -> str:
    """A changed network as an entry of a catalog."""
    return tomli_w.dumps({"models": {f"{name}_fixed": {"base": name, **nested(changes)}}})
