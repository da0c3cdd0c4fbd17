"""``kerascnn-tui``: what may stand on its command line."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tui.places import LECTURE_DIR

if TYPE_CHECKING:
    from kerascnn.runs.directory import Run


def parser() -> argparse.ArgumentParser:
    """The command's options. argparse, because it costs a tenth of Typer's import."""
    made = argparse.ArgumentParser(
        prog="kerascnn-tui", description="Pick a network, pick a backend, watch it learn.", allow_abbrev=False
    )
    made.add_argument("run", nargs="?", metavar="RUN", help="open this run: a directory, model/id, id, or `last`")
    made.add_argument("--demo", action="store_true", help="replay a recorded run")
    made.add_argument(
        "--lecture",
        nargs="?",
        type=Path,
        const=LECTURE_DIR,
        metavar="DIR",
        help=f"open the lecture in this folder, by default {LECTURE_DIR}",
    )
    made.add_argument("--serve", action="store_true", help="open the interface in a browser")
    made.add_argument("--runs-dir", type=Path, metavar="DIR", help="the folder that runs are kept in")
    made.add_argument("--catalog", type=Path, metavar="FILE", help="a TOML file of your own networks")
    made.add_argument("--data-dir", type=Path, metavar="DIR", help="a folder to look for datasets in first")
    made.add_argument("--ascii", action="store_true", help="draw with ASCII alone")
    made.add_argument("--theme", metavar="NAME", help="dark, light, colour-blind, ansi-dark, ansi-light, …")
    return made


def main(argv: list[str] | None = None) -> None:
    """Run the interface; a mistake on the command line is one sentence and exit code 2."""
    arguments = parser().parse_args(argv)
    from kerascnn.errors import KerascnnError

    try:
        if arguments.serve:
            _serve(list(sys.argv[1:] if argv is None else argv))
            return
        message = _show(arguments)
    except KerascnnError as error:
        sys.stderr.write(f"kerascnn-tui: {error}\n")
        sys.exit(error.exit_code)
    if message:
        sys.stderr.write(f"{message}\n")


def _show(arguments: argparse.Namespace) -> str | None:
    from tui.app import KerascnnApp
    from tui.places import Places
    from tui.settings import Keeper, settings_file

    keeper = Keeper(settings_file())
    places = Places(
        runs_dir=arguments.runs_dir or Path(keeper.settings.runs_dir),
        catalog=arguments.catalog,
        data_dir=arguments.data_dir,
        lecture_dir=arguments.lecture or LECTURE_DIR,
    )
    overrides = {"ascii": True} if arguments.ascii else {}
    overrides |= {"theme": arguments.theme} if arguments.theme else {}
    run = _run(arguments, places.runs_dir)
    app = KerascnnApp(
        places,
        keeper=keeper,
        overrides=overrides,
        run=run,
        replay=arguments.demo,
        lecture=arguments.lecture is not None,
    )
    return app.run()


def _run(arguments: argparse.Namespace, runs_dir: Path) -> Run | None:
    """The run to open at once."""
    from kerascnn.errors import UsageError
    from kerascnn.runs.directory import find_run

    if arguments.demo and arguments.run:
        raise UsageError(f"--demo replays its own run: expected no RUN beside it, got {arguments.run!r}")
    if arguments.lecture and (arguments.demo or arguments.run):
        other = "--demo" if arguments.demo else repr(arguments.run)
        raise UsageError(f"--lecture opens the lecture: expected no run beside it, got {other}")
    if arguments.demo:
        from tui.demo import demo_run

        return demo_run()
    return find_run(arguments.run, runs_dir) if arguments.run else None


def _serve(argv: list[str]) -> None:
    """One interface for each visit of a browser; runs outlive them all."""
    from kerascnn.errors import KerascnnError

    if importlib.util.find_spec("textual_serve") is None:
        raise KerascnnError("--serve needs textual-serve: pip install textual-serve")
    from textual_serve.server import Server

    from kerascnn.wording import command_line

    passed = [argument for argument in argv if argument != "--serve"]
    Server(command_line([sys.executable, "-m", "tui", *passed]), title="kerascnn").serve()


if __name__ == "__main__":
    main()
