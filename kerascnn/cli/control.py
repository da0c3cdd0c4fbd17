"""``kerascnn control``: ask something of a live run and wait for its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kerascnn.cli.output import say
from kerascnn.errors import RunError
from kerascnn.runs import control as asking
from kerascnn.runs import events as ev
from kerascnn.runs.directory import RUNS_FOLDER, find_run
from kerascnn.wording import resume_command


def control(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A directory, model/id, id, or `last`.")],
    command: Annotated[str, typer.Argument(help="pause, resume, stop, set-lr X, or extend N.")],
    value: Annotated[float | None, typer.Argument(help="The learning rate, or the number of epochs.")] = None,
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="The folder that runs are kept in.")] = RUNS_FOLDER,
) -> None:
    """Pause, resume or stop a live run, set its learning rate, or give it more epochs."""
    asked = asking.make_command(command, value)
    run = find_run(name, runs_dir)
    _, offset = ev.read_events(run.events_file)
    owner, host = run.holder()
    asking.ask(run, asked)
    if owner is None:
        say(f"noted; {asking.perhaps_there(host)}`{resume_command(run.path)}` does it")
        return
    confirmed = asking.wait_until_applied(run, asked, offset)
    if confirmed is None:
        raise RunError(f"{run.path}: the run ended before it could {command}")
    say(f"{_done(confirmed)} after step {confirmed.step}")


def _done(event: ev.ControlApplied) -> str:
    return {
        "pause": "paused",
        "resume": "going on",
        "stop": "stopping",
        "set-lr": f"learning rate {event.value:g}" if event.value else "",
        "extend": f"{event.epochs} epochs now",
    }[event.command]
