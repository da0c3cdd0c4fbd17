"""The terminal UI as a user meets it, in a pseudo-terminal: its first paint, and a key press while a training runs.

    python benchmarks/tui_start.py first-paint --repeats 9
    python benchmarks/tui_start.py key-latency --presses 40

Each prints one JSON object. ``first-paint`` is from the start of the process to the list of networks on the screen;
``key-latency`` from a key press to the moved cursor, while ``cnn2_fmnist`` trains on the embedded sample.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte

from kerascnn.runs.directory import Run

COLUMNS, ROWS = 120, 40
GIVE_UP_S = 60.0


class Terminal:
    """A program in a pseudo-terminal and the screen that it has drawn."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        environment = {**os.environ, "TERM": "xterm-256color", "XDG_CONFIG_HOME": str(folder / "config")}
        self.process = pexpect.spawn(
            sys.executable, arguments, dimensions=(ROWS, COLUMNS), env=environment, cwd=str(folder)
        )

    def wait_for(self, seen: Callable[[], bool]) -> None:
        """Read until the screen is as awaited."""
        deadline = time.monotonic() + GIVE_UP_S
        while not seen():
            if time.monotonic() > deadline:
                raise SystemExit("\n".join(self.screen.display))
            try:
                self._stream.feed(self.process.read_nonblocking(65536, timeout=0.2))
            except pexpect.TIMEOUT:
                continue

    def shows(self, text: str) -> bool:
        """Whether a text stands on the screen."""
        return any(text in line for line in self.screen.display)

    def close(self) -> None:
        """End the program."""
        self.process.close(force=True)


def first_paint(repeats: int) -> dict[str, object]:
    """From the start of the process to the zoo on the screen; one start beforehand warms the files."""
    times = []
    with tempfile.TemporaryDirectory() as name:
        for _ in range(repeats + 1):
            began = time.perf_counter()
            terminal = Terminal(["-m", "tui"], Path(name))
            terminal.wait_for(lambda terminal=terminal: terminal.shows("cnn2_fmnist") and terminal.shows("new run"))
            times.append(time.perf_counter() - began)
            terminal.close()
    return {"first_paint_s": _spread(times[1:])}


def key_latency(presses: int) -> dict[str, object]:
    """From a key press to the cursor's next place, with a training on all cores started as the interface starts it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = Run(folder / "run")
        command = ["nice", "-n", "10", sys.executable, "-m", "kerascnn", "train", "cnn2_fmnist", "--offline"]
        command += ["--dataset", "fashion_mnist_mini", "--run-dir", str(run.path)]
        training = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=folder)
        terminal = Terminal(["-m", "tui"], folder)
        try:
            terminal.wait_for(lambda: terminal.shows("new run"))
            while run.summary().step < 3:
                time.sleep(0.2)
            times = [_press(terminal, "\x1b[B" if number % 20 < 10 else "\x1b[A") for number in range(presses)]
        finally:
            terminal.close()
            training.terminate()
            training.wait()
    return {"key_latency_s": _spread(times)}


def _press(terminal: Terminal, key: str) -> float:
    before = "\n".join(terminal.screen.display)
    began = time.perf_counter()
    terminal.process.send(key)
    # The card beside the list has another name at its top once the cursor has moved.
    terminal.wait_for(lambda: "\n".join(terminal.screen.display) != before)
    return time.perf_counter() - began


def _spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median": round(statistics.median(ordered), 4),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 4),
        "max": round(ordered[-1], 4),
        "repeats": len(ordered),
    }


def main() -> None:
    """Read the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("first-paint").add_argument("--repeats", type=int, default=9)
    commands.add_parser("key-latency").add_argument("--presses", type=int, default=40)
    arguments = parser.parse_args()
    figures = first_paint(arguments.repeats) if arguments.command == "first-paint" else key_latency(arguments.presses)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
