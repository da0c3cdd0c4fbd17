"""How commands speak: tables and JSON on stdout, sentences on stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Piped output is for programs: never wrapped at a width that nobody chose.
PIPE_WIDTH = 10_000


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
    """Data for programs."""
    typer.echo(json.dumps(content, indent=2))


def print_table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> None:
    """Rows under their titles. A column is its title and ``left`` or ``right``."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title, justify in columns:
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    stdout().print(table)


def print_fact(console: Console, key: str, value: str, width: int) -> None:
    """One line of a card. The value is the user's text, never markup."""
    console.print(Text.assemble("  ", (f"{key:<{width}}", "dim"), value), soft_wrap=True)
