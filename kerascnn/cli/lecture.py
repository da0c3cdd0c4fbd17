"""``kerascnn lecture``: the argument, its training, its report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kerascnn.cli.options import Backend, DataDir, Device, Offline, is_followed
from kerascnn.cli.output import print_json, print_table, say
from kerascnn.cli.progress import Display, make_display
from kerascnn.data.dataset import absolute
from kerascnn.errors import RunError, UsageError
from kerascnn.lecture.argument import the_argument
from kerascnn.lecture.folder import LectureFolder, Settings, Shown
from kerascnn.lecture.running import Place, Watcher, recipe_of, run_lecture
from kerascnn.runs import events as ev
from kerascnn.training import session
from kerascnn.training.signals import Interruption, Signals
from kerascnn.wording import command_line, duration

app = typer.Typer(
    help="The lecture that the zoo grew from: its argument, trained, claim beside measurement.",
    invoke_without_command=True,
)

Folder = Annotated[Path | None, typer.Option("--dir", help="The lecture's folder; by default lecture-quick or -full.")]


@app.callback()
def lecture(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print the steps as JSON.")] = False
) -> None:
    """Show the argument: its steps, networks and claims."""
    if is_followed(context):
        return
    steps = the_argument().steps
    if as_json:
        print_json([step.model_dump(mode="json") for step in steps])
        return
    columns = [("step", "right"), ("network", "wrapped"), ("what changes", "wrapped"), ("claim", "wrapped")]
    columns += [("model", "left")]
    print_table(columns, [[s.id, s.network, s.changes, s.claim.words, s.model] for s in steps])
    say("`kerascnn lecture run` trains them and writes a report; `kerascnn models NAME` shows a network")


@app.command()
def run(
    quick: Annotated[bool, typer.Option("--quick", help="Small steps until it is decided; the default.")] = False,
    full: Annotated[bool, typer.Option("--full", help="The lecture's batch and epochs, for a GPU.")] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="STEPS", help="Only these steps, such as 4,6,8.")] = None,
    backend: Backend = None,
    device: Device = "auto",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each step, with seeds 0, 1, …")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps a network, instead of the form's own length.")] = None,
    dataset: Annotated[str | None, typer.Option(help="One dataset for all steps, instead of each one's own.")] = None,
    data_dir: DataDir = None,
    data_note: Annotated[str, typer.Option(help="What the report is to say about the data.")] = "",
    offline: Offline = False,
    folder: Folder = None,
) -> None:
    """Train the steps and write the report. Ctrl-C saves; the same command goes on."""
    if quick and full:
        raise UsageError("expected --quick or --full, got both")
    budget = "full" if full else "quick"
    place = LectureFolder(folder or Path(f"lecture-{budget}"))
    chosen = the_argument().chosen([id_.strip() for text in only or [] for id_ in text.split(",")])
    settings = Settings(budget=budget, steps=steps, dataset=absolute(dataset) if dataset else None, data_note=data_note)
    options = session.Options(
        backend=backend, device=device, data_dir=data_dir, download=not offline, command=list(sys.argv)
    )
    for step in chosen:
        choice = session.check(recipe_of(step, settings, 0), options, report=say)
    place.begin(settings)
    say(f"the lecture, {budget}: {the_argument().budgets[budget].summary}; with {choice.name} ({choice.reason})")
    try:
        with Signals() as signals, _Reporter(signals) as reporter:
            shown = run_lecture(place, chosen, seeds, options, choice.name, reporter)
    except Interruption as interruption:
        say(f"{interruption}; what was under way is saved, and the same command goes on with it")
        raise typer.Exit(interruption.exit_code) from None
    except RunError:
        if any(place.step_runs(the_argument())):
            _write(place)
        raise
    _write(place)
    _print_verdicts(shown)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `kerascnn lecture run` made.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
) -> None:
    """Write lecture.md and lecture.html again from what has been trained so far."""
    place = LectureFolder(folder)
    settings = place.settings()
    shown = [place.show(one, settings) for one in place.step_runs(the_argument())]
    if not shown:
        command = command_line(["kerascnn", "lecture", "run", "--dir", str(folder)])
        raise UsageError(f"{folder}: no step has been trained yet; `{command}` does")
    _write(place)
    if as_json:
        print_json([_as_json(one) for one in shown])
    else:
        _print_verdicts(shown)


def _write(place: LectureFolder) -> None:
    from kerascnn.lecture.report import write_report

    for path in write_report(place):
        say(f"report: {path}")


def _print_verdicts(shown: list[Shown]) -> None:
    columns = [("step", "right"), ("network", "left"), ("backend", "left"), ("seed", "right")]
    columns += [("claim", "wrapped"), ("measured", "wrapped"), ("verdict", "left"), ("time", "right")]
    print_table(
        columns,
        [
            [
                one.step_run.step.id,
                one.step_run.step.model,
                one.step_run.backend,
                str(one.step_run.seed),
                one.step_run.step.claim.words,
                one.judgement.words,
                one.judgement.verdict,
                duration(one.curve.seconds),
            ]
            for one in shown
        ],
    )


def _as_json(one: Shown) -> dict[str, Any]:
    measured = one.judgement.measured
    return {
        "step": one.step_run.step.id,
        "model": one.step_run.step.model,
        "backend": one.step_run.backend,
        "seed": one.step_run.seed,
        "claim": one.step_run.step.claim.model_dump(mode="json"),
        "behaviour": measured.behaviour,
        "learnt_at": measured.learnt_at,
        "lowest_mean_loss": measured.lowest,
        "chance": measured.chance,
        "measured": one.judgement.words,
        "verdict": one.judgement.verdict,
        "seconds": one.curve.seconds,
        "run_dir": str(one.step_run.run.path),
    }


class _Reporter(Watcher):
    """A line where a training begins and one where it is decided; between them its own progress."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._display: Display | None = None

    def __enter__(self) -> _Reporter:
        return self

    def __exit__(self, *error: object) -> None:
        self._put_away()

    def begins(self, place: Place) -> None:
        one = place.step_run
        left = "" if place.left is None else f"; up to about {duration(place.left)} left"
        say(
            f"step {one.step.id} ({place.number} of {place.of}{left}): {one.step.model}, {one.step.changes}, "
            f"seed {one.seed}; claim: {one.step.claim.words}",
            style="bold",
        )
        self._display = make_display()
        self._display.__enter__()

    def sees(self, event: ev.Event) -> None:
        if self._display is not None and not isinstance(event, ev.RunEnded):
            self._display.show(event)

    def ends(self, shown: Shown) -> None:
        self._put_away()
        say(f"step {shown.step_run.step.id}: {shown.judgement.words}: {shown.judgement.verdict}")

    def _put_away(self) -> None:
        if self._display is not None:
            self._display.__exit__(None, None, None)
            self._display = None
