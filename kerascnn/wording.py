"""How figures and commands are written, wherever they are shown."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


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


def whole_percent(share: float) -> str:
    """0.95 as ``95 %``."""
    return f"{100 * share:.0f} %"


def duration(seconds: float) -> str:
    """3725 as ``1 h 02 min``."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def one_line(text: str) -> str:
    """Text as one line that can't steer a terminal: what isn't printable becomes a space."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def command_line(words: Sequence[str]) -> str:
    """A command as one types it in this system's shell; that of Windows knows no single quotes."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def resume_command(run_dir: Path) -> str:
    """The command that goes on with a run, as one types it."""
    return command_line(["kerascnn", "train", "--resume", str(run_dir)])
