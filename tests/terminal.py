"""A program in a pseudo-terminal, and the screen that it has drawn."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte

from tests.conftest import GIVE_UP_S

# Keys of one byte each: a sequence may be cut in two on its way and read as Escape.
KEYS = {"enter": "\r", "escape": "\x1b", "tab": "\t", "space": " ", "empty": "\x05\x15"}


class Terminal:
    """``python ARGUMENTS`` as a user has it before them. Waits for what it shows, never for a time."""

    def __init__(self, *arguments: str, folder: Path, columns: int = 120, rows: int = 40) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "TEXTUAL_ANIMATIONS": "none"}
        # Workers of pytest-xdist have COLUMNS and LINES, which count for more than the terminal's own size.
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            environment.pop(name, None)
        self.process = pexpect.spawn(
            sys.executable, list(arguments), dimensions=(rows, columns), env=environment, cwd=str(folder)
        )

    @property
    def text(self) -> str:
        """What stands on the screen."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def press(self, *keys: str) -> None:
        """Press keys by name, or type texts."""
        for key in keys:
            self.process.send(KEYS.get(key, key))

    def step(self, key: str, label: str) -> None:
        """Press a key that gives a line the focus, and wait until it has it: what is typed goes there."""
        before = self._style_of(label)
        self.press(key)
        self.until(lambda: self._style_of(label) != before, f"the focus on {label!r}")

    def _style_of(self, label: str) -> list[tuple[str, bool, bool]]:
        """Colours and weights of the line that begins with a label."""
        row = next((row for row, line in enumerate(self._screen.display) if line.lstrip().startswith(label.strip())), 0)
        cells = self._screen.buffer[row]
        return [(cells[column].bg, cells[column].reverse, cells[column].bold) for column in range(60)]

    def until(self, seen: Callable[[], object], what: str = "") -> None:
        """Draw what comes until it is as awaited."""
        deadline = time.monotonic() + GIVE_UP_S
        while not seen():
            assert time.monotonic() < deadline, f"waited for {what} in vain:\n{self.text}"
            try:
                self._stream.feed(self.process.read_nonblocking(65536, timeout=0.05))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert seen(), f"ended before {what}:\n{self.text}"

    def until_shown(self, *texts: str) -> None:
        """Draw until all texts stand on the screen."""
        self.until(lambda: all(text in self.text for text in texts), repr(texts))

    def wait(self) -> int | None:
        """The exit code, once it has ended by itself."""
        self.until(lambda: not self.process.isalive(), "its end")
        return self.process.exitstatus

    def kill(self) -> None:
        """End it with no chance to tidy up, as ``kill -9`` does."""
        self.process.kill(9)
        self.until(lambda: not self.process.isalive(), "its death")

    def close(self) -> None:
        """End it however it stands."""
        self.process.close(force=True)
