"""The command ``kerascnn``: one file a command, each thin. Data goes to stdout, messages and progress to stderr."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from kerascnn.cli import control, data, diagnose, lecture, lr_find, models, overfit, runs, train, use
from kerascnn.cli.output import say
from kerascnn.errors import KerascnnError, system_error

app = typer.Typer(
    name="kerascnn",
    help="Train convolutional networks, exactly and live, on torch, TensorFlow or JAX.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["KERASCNN_DEBUG"] = "1"


app.command("train")(train.train)
app.command("overfit")(overfit.overfit)
app.command("models")(models.models)
app.command("diagnose")(diagnose.diagnose)
app.command("lr-find")(lr_find.lr_find)
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.add_typer(lecture.app, name="lecture")
app.command("watch")(runs.watch)
app.command("control")(control.control)
app.command("evaluate")(use.evaluate)
app.command("predict")(use.predict)


def main() -> None:
    """Run the command; an error of ours is one sentence and its exit code."""
    try:
        app()
    except KerascnnError as error:
        if os.environ.get("KERASCNN_DEBUG"):
            raise
        say(f"kerascnn: {error}", style="red")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except MemoryError:
        say("kerascnn: out of memory", style="red")
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if os.environ.get("KERASCNN_DEBUG"):
            raise
        say(f"kerascnn: {system_error(error)}", style="red")
        sys.exit(1)
