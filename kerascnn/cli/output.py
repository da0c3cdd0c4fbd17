"""How commands speak: tables and JSON on stdout, sentences on stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kerascnn.wording import command_line

if TYPE_CHECKING:
    from kerascnn.training.session import Options

# Piped output is for programs: never wrapped at a width that nobody chose.
PIPE_WIDTH = 10_000
# What is wrapped is not wrapped any narrower.
NARROWEST = 16


def stdout() -> Console:
    """A console for data."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def stderr() -> Console:
    """A console for messages and progress."""
    return Console(stderr=True, highlight=False)


def say(message: str, *, style: str | None = None) -> None:
    """One message for the user, unwrapped, so that a path in it can be copied."""
    stderr().print(Text(message, style=style or ""), soft_wrap=True)


def print_json(content: Any) -> None:
    """Data for programs; a number that JSON lacks is a text, as in events."""
    typer.echo(json.dumps(_in_json(content), indent=2, allow_nan=False))


def _in_json(content: Any) -> Any:
    # Here, because `kerascnn --help` does without events, and what they import.
    from kerascnn.runs.events import json_number

    if isinstance(content, dict):
        return {key: _in_json(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_in_json(value) for value in content]
    return json_number(content) if isinstance(content, float) else content


def print_table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> None:
    """Rows under their titles; on a terminal that is too narrow, what may be wrapped is, and nothing is cut off.

    A column is its title and ``left``, ``right``, or ``wrapped``: to the left, in several lines where it has to be.
    """
    console = stdout()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    needed = 0
    for number, (title, kind) in enumerate(columns):
        wraps = kind == "wrapped"
        justify: Any = "left" if wraps else kind
        longest = max(cell_len(text) for text in (title, *(row[number] for row in rows)))
        least = min(longest, NARROWEST) if wraps else longest
        needed += least + 2
        table.add_column(title, justify=justify, no_wrap=not wraps, overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # A line that is too long goes on in the terminal's next one.
    console.width = max(console.width, needed)
    console.print(table)


def print_fact(console: Console, key: str, value: str, width: int) -> None:
    """One line of a card. The value is the user's text, never markup."""
    console.print(Text.assemble("  ", (f"{key:<{width}}", "dim"), value), soft_wrap=True)


def repeated(
    command: str, name: str, changes: Mapping[str, Any], catalog: Path | None, options: Options | None = None
) -> str:
    """A command about a changed network, as one types it, with the backend and the data folder of ``options``."""
    # Here, because `kerascnn --help` does without recipes, and what they import.
    from kerascnn.catalog import nested
    from kerascnn.runs.compare import flat

    words = ["kerascnn", command, name, *(["--catalog", str(catalog)] if catalog is not None else [])]
    for key, value in flat(nested(changes)).items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    if options is not None:
        words += ["--backend", options.backend] if options.backend is not None else []
        words += ["--data-dir", str(options.data_dir)] if options.data_dir is not None else []
    return command_line(words)
