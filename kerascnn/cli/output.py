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


def short_number(value: int | None) -> str:
    """14,914,378 as ``14.91 M``."""
    if value is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return str(value)


def percent(share: float | None) -> str:
    """0.9264 as ``92.64 %``."""
    return "–" if share is None else f"{100 * share:.2f} %"


def duration(seconds: float) -> str:
    """3725 as ``1 h 02 min``."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"
