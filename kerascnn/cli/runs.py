"""``kerascnn runs`` and ``kerascnn watch``: what has been run, what is running."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.text import Text

from kerascnn.cli.options import is_followed
from kerascnn.cli.output import print_fact, print_json, print_table, say, stdout
from kerascnn.cli.progress import make_display
from kerascnn.errors import UsageError, nearest
from kerascnn.runs import directory
from kerascnn.runs import events as ev
from kerascnn.runs.compare import recipe_differences
from kerascnn.wording import command_line, duration, percent, resume_command

if TYPE_CHECKING:
    from kerascnn.training.verify import Verification

app = typer.Typer(help="List, show, compare, verify and delete runs.", invoke_without_command=True)

RunsDir = Annotated[Path, typer.Option("--runs-dir", help="The folder that runs are kept in.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunNames = Annotated[list[str], typer.Argument(metavar="RUN...", help="A directory, model/id, id, or `last`.")]

STATES = ("running", "paused", "killed", "elsewhere", *get_args(ev.EndState))
WATCH_EVERY_S = 0.25
# A process of another machine that has written nothing for so long is waited for no more.
SILENT_S = 600.0
SHOWN_DIFFERENCES = 10


@app.callback()
def runs(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only runs of this network.")] = None,
    state: Annotated[str | None, typer.Option(help=f"Only runs in this state: {', '.join(STATES)}.")] = None,
    runs_dir: RunsDir = directory.RUNS_FOLDER,
    as_json: AsJson = False,
) -> None:
    """List the runs, oldest first."""
    if is_followed(context):
        return
    if state not in (None, *STATES):
        raise UsageError(f"--state: expected {', '.join(STATES)}, got {state!r}{nearest(str(state), STATES)}")
    summaries = [run.summary() for run in directory.list_runs(runs_dir)]
    summaries = [s for s in summaries if (model in (None, s.model)) and (state in (None, s.state))]
    if as_json:
        print_json([asdict(summary) for summary in summaries])
        return
    if not summaries:
        filtered = " that fit" if model or state else ""
        say(f"no runs{filtered} in {runs_dir}")
        return
    columns = [("run", "wrapped"), ("state", "left"), ("backend", "left"), ("dataset", "wrapped"), ("epoch", "right")]
    columns += [("loss", "right"), ("best val", "right"), ("time", "right")]
    print_table(
        columns,
        [
            [
                s.name,
                s.state,
                s.backend,
                s.dataset,
                f"{s.epoch}/{s.epochs}",
                "–" if s.loss is None else f"{s.loss:.4f}",
                percent(s.best_val_accuracy),
                duration(s.seconds),
            ]
            for s in summaries
        ],
    )


@app.command()
def show(names: RunNames, runs_dir: RunsDir = directory.RUNS_FOLDER, as_json: AsJson = False) -> None:
    """Show a run: how it stands, its epochs, its recipe."""
    shown = [_described(directory.find_run(name, runs_dir)) for name in names]
    if as_json:
        print_json(shown)
        return
    for run in shown:
        _print_run(run)


@app.command()
def compare(names: RunNames, runs_dir: RunsDir = directory.RUNS_FOLDER, as_json: AsJson = False) -> None:
    """Put runs side by side: only what differs in their recipes, and their figures."""
    if len(names) < 2:
        raise UsageError(f"expected at least two runs to compare, got {len(names)}")
    found = [directory.find_run(name, runs_dir) for name in names]
    summaries = [run.summary() for run in found]
    differing = recipe_differences([run.recipe() for run in found])
    figures: dict[str, list[Any]] = {
        "state": [s.state for s in summaries],
        "backend": [s.backend for s in summaries],
        "epochs done": [s.epoch for s in summaries],
        "loss": [s.loss for s in summaries],
        "best val accuracy": [s.best_val_accuracy for s in summaries],
        "seconds": [round(s.seconds, 1) for s in summaries],
    }
    if as_json:
        print_json({"runs": [s.name for s in summaries], "recipe": differing, "figures": figures})
        return
    rows = [[key, *(_cell(value) for value in values)] for key, values in (differing | figures).items()]
    print_table([("", "left"), *((s.name, "left") for s in summaries)], rows)


@app.command()
def verify(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A directory, model/id, id, or `last`.")],
    device: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    data_dir: Annotated[Path | None, typer.Option(help="A folder to look for datasets in first.")] = None,
    runs_dir: RunsDir = directory.RUNS_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Train the last checkpoint interval again and say whether it is equal to the bit. The run stays as it is."""
    from kerascnn.training.backend import choose_backend_for_run
    from kerascnn.training.session import Options
    from kerascnn.training.verify import verify as replay_and_compare

    options = Options(device=device, data_dir=data_dir, download=False)
    run = directory.find_run(name, runs_dir)
    choice = choose_backend_for_run(None, run.environment().get("backend"))
    say(f"replaying {run.name} with {choice.name} ({choice.reason})")
    with make_display() as display:

        def show(event: ev.Event) -> None:
            # The replay stops where it should; how to go on with it is nobody's question.
            if not isinstance(event, ev.RunEnded):
                display.show(event)

        found = replay_and_compare(run, options=options, listeners=[show])
    if as_json:
        print_json({**asdict(found), "run_dir": str(run.path), "equal": found.equal})
    else:
        _print_verification(found)
    raise typer.Exit(0 if found.equal else 1)


@app.command()
def delete(
    names: RunNames,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    runs_dir: RunsDir = directory.RUNS_FOLDER,
) -> None:
    """Remove run directories. Asks first."""
    found = [directory.find_run(name, runs_dir) for name in names]
    if not yes:
        for run in found:
            say(str(run.path))
        typer.confirm(f"Delete {len(found)} run{'s' if len(found) > 1 else ''}?", abort=True, err=True)
    for run in found:
        directory.delete_run(run)
        say(f"deleted {run.path}")


def watch(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A directory, model/id, id, or `last`.")] = "last",
    runs_dir: RunsDir = directory.RUNS_FOLDER,
) -> None:
    """Show the progress of a run, live until it ends. Ctrl-C stops watching, not the run."""
    run = directory.find_run(name, runs_dir)
    if (host := run.host()) is not None:
        say(f"{host} has taken this run; whether it is still at work can't be seen from here")
    offset, ended, heard = 0, False, time.monotonic()
    with make_display() as display:
        while True:
            # Asked before reading: what a process wrote before it ended is then read in any case.
            owner, host = run.holder()
            new, offset = ev.read_events(run.events_file, offset)
            for event in new:
                display.show(event)
                ended = isinstance(event, ev.RunEnded) or (ended and not isinstance(event, ev.RunStarted))
            heard = time.monotonic() if new else heard
            silent = time.monotonic() - heard >= SILENT_S
            if owner is None and (host is None or ended or silent):
                break
            time.sleep(WATCH_EVERY_S)
    state = run.summary().state
    if state == "failed":
        say(f"failed: {run.result().get('message', 'no reason recorded')}")
    if state == "killed":
        say(f"the process that worked on {run.path} is gone; `{resume_command(run.path)}` goes on")
    if state == "elsewhere":
        minutes = f"{SILENT_S / 60:.0f} minutes"
        say(f"nothing new for {minutes}; where {host} has gone, `{resume_command(run.path)}` goes on")


def _print_verification(found: Verification) -> None:
    steps = f"steps {found.first_step + 1:,} to {found.last_step:,}"
    if found.equal:
        typer.echo(f"{steps}: equal to the bit, network, optimizer, figures and {found.losses} recorded losses")
        return
    count = len(found.differences)
    typer.echo(f"{steps}: not equal, {count} difference{'s' if count > 1 else ''}")
    for line in found.differences[:SHOWN_DIFFERENCES]:
        typer.echo(f"  {line}")
    if count > SHOWN_DIFFERENCES:
        typer.echo(f"  and {count - SHOWN_DIFFERENCES} more")


def _described(run: directory.Run) -> dict[str, Any]:
    epochs = [
        epoch.model_dump(mode="json", exclude={"kind", "time"}) for epoch in ev.of_kind(run.events(), ev.EpochDone)
    ]
    environment = run.environment()
    return {
        **asdict(run.summary()),
        "result": run.result(),
        "environment": environment,
        "epoch_figures": epochs,
        "recipe": run.recipe().model_dump(mode="json"),
    }


def _print_run(run: dict[str, Any]) -> None:
    console = stdout()
    console.print(Text(run["name"], style="bold"), Text(f" {run['state']}"), sep=" ")
    environment = run["environment"]
    rows = {
        "path": run["path"],
        "message": run["result"].get("message", "–"),
        "backend": f"{run['backend']} {environment.get('versions', {}).get(run['backend'], '')}",
        "device": environment.get("device", "–"),
        "execution": environment.get("execution", "–"),
        "dataset": environment.get("dataset", {}).get("where", run["dataset"]),
        "time": duration(run["seconds"]),
        "command": command_line(environment.get("command", [])),
    }
    for key, value in rows.items():
        print_fact(console, key, value, 10)
    columns = [("epoch", "right"), ("loss", "right"), ("accuracy", "right"), ("val loss", "right")]
    columns += [("val accuracy", "right"), ("time", "right")]
    print_table(
        columns,
        [
            [
                str(epoch["epoch"]),
                f"{float(epoch['loss']):.4f}",
                percent(float(epoch["accuracy"])),
                f"{float(epoch['val_loss']):.4f}",
                percent(float(epoch["val_accuracy"])),
                duration(epoch["seconds"]),
            ]
            for epoch in run["epoch_figures"]
        ],
    )


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
