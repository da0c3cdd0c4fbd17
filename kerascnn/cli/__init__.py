"""The command ``kerascnn``: one file a command, each thin. Data goes to stdout, messages and progress to stderr."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerascnn.cli.output import say
from kerascnn.errors import KerascnnError, is_out_of_memory, system_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    app: typer.Typer

# Where each command is, and what `kerascnn --help` says of it: it lists them all without importing one.
COMMANDS = {
    "train": (
        "kerascnn.cli.train:train",
        "Train a network. Ctrl-C saves a checkpoint first; --resume goes on from it.",
    ),
    "overfit": (
        "kerascnn.cli.overfit:overfit",
        "Can a network memorise one small batch? Exit code 0: it can; 1: it can't. Leaves no run.",
    ),
    "models": ("kerascnn.cli.models:models", "List the networks, or show one network's card."),
    "diagnose": (
        "kerascnn.cli.diagnose:diagnose",
        "Find out in a short run whether a network learns, and if not, why. Exit code 1 where it doesn't.",
    ),
    "lr-find": (
        "kerascnn.cli.lr_find:lr_find",
        "Find a learning rate: train some steps at rising ones. Exit code 1 where the network learns at none.",
    ),
    "bench": (
        "kerascnn.cli.bench:bench",
        "How fast networks train here: each variant in its own process, blocks of their steps in turn.",
    ),
    "watch": (
        "kerascnn.cli.runs:watch",
        "Show the progress of a run, live until it ends. Ctrl-C stops watching, not the run.",
    ),
    "control": (
        "kerascnn.cli.control:control",
        "Pause, resume or stop a live run, set its learning rate, or give it more epochs.",
    ),
    "evaluate": ("kerascnn.cli.use:evaluate", "Loss and accuracy of a run's network on its validation images."),
    "predict": ("kerascnn.cli.use:predict", "The likeliest classes of images."),
    "data": ("kerascnn.cli.data:app", "List the datasets and where they lie; fetch one."),
    "runs": ("kerascnn.cli.runs:app", "List, show, compare, verify and delete runs."),
    "lecture": (
        "kerascnn.cli.lecture:app",
        "The lecture that the zoo grew from: its argument, trained, claim beside measurement.",
    ),
}


def make_app(used: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line. Only the commands that are ``used`` can be called; the others are listed."""
    made = typer.Typer(
        name="kerascnn",
        help="Train convolutional networks, exactly and live, on torch, TensorFlow or JAX.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(_options)
    for name, (place, summary) in COMMANDS.items():
        if name not in used:
            made.command(name, help=summary)(_only_listed)
            continue
        module, _, attribute = place.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            made.add_typer(found, name=name)
        else:
            made.command(name)(found)
    return made


def __getattr__(name: str) -> Any:
    if name == "app":
        return make_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("kerascnn"))
        raise typer.Exit


def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if debug:
        os.environ["KERASCNN_DEBUG"] = "1"


def _only_listed() -> None:
    """A command that this process doesn't call."""


def _used(arguments: list[str]) -> Iterable[str]:
    """The command that is called; a shell that completes may need any."""
    if any(name.endswith("_COMPLETE") for name in os.environ):
        return COMMANDS
    return [next((argument for argument in arguments if not argument.startswith("-")), "")]


is_the_process = False
"""Whether this process is a command, and not somebody's Python session that has settings of its own."""


def main() -> None:
    """Run the command; an error of ours is one sentence and its exit code."""
    global is_the_process
    is_the_process = True
    for stream in (sys.stdout, sys.stderr):
        # What an old code page lacks (bars, dashes) becomes a question mark rather than a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        make_app(_used(sys.argv[1:]))()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        sentence, exit_code = _in_words(error)
        if not sentence or os.environ.get("KERASCNN_DEBUG"):
            raise
        say(f"kerascnn: {sentence}", style="red")
        sys.exit(exit_code)


def _in_words(error: Exception) -> tuple[str, int]:
    """An error as a sentence, empty where it is none that a user can do something about, and its exit code."""
    if isinstance(error, KerascnnError):
        return str(error), error.exit_code
    if is_out_of_memory(error):
        return "out of memory; a smaller --batch-size, where the command takes one, needs less", 1
    if isinstance(error, OSError):
        return system_error(error), 1
    return "", 1
