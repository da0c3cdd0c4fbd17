"""A run's events as a progress bar, or as plain lines where nobody watches a terminal."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from kerascnn.cli.output import say, stderr
from kerascnn.runs import events as ev
from kerascnn.runs.lines import plain_line
from kerascnn.runs.pace import Pace
from kerascnn.wording import duration, percent

PLAIN_EVERY_S = 10.0


class Display(Protocol):
    """Shows events."""

    def __enter__(self) -> Display: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...
    def show(self, event: ev.Event) -> None:
        """Show one event."""


def make_bar(console: Console) -> Progress:
    """One line with a bar, what is done of how much, and a text ``figures``; it leaves nothing behind."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[figures]}"),
        console=console,
        transient=True,
        refresh_per_second=5,
    )


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """What shows how many of ``total`` steps are done, with figures: a bar on a terminal, seldom a line elsewhere."""
    console = stderr()
    last = -math.inf
    bar = make_bar(console)
    task = bar.add_task(what, total=total, figures="")

    def show(done: int, figures: str) -> None:
        nonlocal last
        if console.is_terminal:
            # Before the first step there are messages, which a bar would be in the way of.
            bar.start()
            bar.update(task, completed=done, figures=figures)
        elif time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            say(f"step {done}/{total} {figures}")

    try:
        yield show
    finally:
        bar.stop()


class _Stderr(Console):
    """Standard error. With a broken pipe rich's own console silences standard output as well and leaves the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


@contextmanager
def _silent_once_unread(console: Console) -> Iterator[None]:
    """Where the terminal or the pipe goes away, what comes after goes nowhere: the command keeps its exit code.

    Raises:
        OSError: it has gone.
    """
    try:
        yield
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, console.file.fileno())
        os.close(nowhere)
        raise


class BarDisplay:
    """One live line with phase, step, loss, accuracy, images/s, learning rate and time left; a line an epoch stays."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pace = Pace()
        self._progress = make_bar(console)
        self._task: TaskID = self._progress.add_task("starting", total=1, figures="")

    def __enter__(self) -> BarDisplay:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with suppress(OSError), _silent_once_unread(self._console):
            self._progress.stop()

    def show(self, event: ev.Event) -> None:
        self._pace.see(event)
        with _silent_once_unread(self._console):
            self._show(event)

    def _show(self, event: ev.Event) -> None:
        if isinstance(event, ev.Phase):
            of = f" {event.epoch}/{self._pace.epochs}" if event.epoch else ""
            total = self._pace.steps_per_epoch or 1
            self._progress.update(self._task, description=f"{event.phase}{of}", completed=0, total=total)
        elif isinstance(event, ev.StepDone):
            done = (event.step - 1) % max(self._pace.steps_per_epoch, 1) + 1
            self._progress.update(self._task, completed=done, figures=self._figures(event))
        elif isinstance(event, ev.ValidationProgress):
            self._progress.update(self._task, completed=event.done, total=event.batches)
        elif line := _line_of(event):
            style = "yellow" if isinstance(event, (ev.Warned, ev.Found)) else ""
            self._progress.print(Text(line, style=style), soft_wrap=True)

    def _figures(self, event: ev.StepDone) -> str:
        left = self._pace.seconds_left()
        parts = [
            f"loss {event.mean_loss:.4f}",
            f"acc {percent(event.accuracy)}",
            f"{event.images_per_s:,.0f} img/s",
            f"lr {event.learning_rate:.2g}",
        ]
        return "  ".join([*parts, f"{duration(left)} left"] if left is not None else parts)


class PlainDisplay:
    """A line for each thing that happens, and for steps one every ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pace = Pace()
        self._last = time.monotonic()

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Nothing to put away."""

    def show(self, event: ev.Event) -> None:
        self._pace.see(event)
        line = _line_of(event)
        if isinstance(event, ev.Phase) and event.epoch is None:
            line = f"{event.phase} …"
        if isinstance(event, ev.StepDone) and time.monotonic() - self._last >= PLAIN_EVERY_S:
            self._last = time.monotonic()
            left = self._pace.seconds_left()
            line = (
                f"epoch {event.epoch}/{self._pace.epochs} step {event.step} loss {event.mean_loss:.4f} "
                f"acc {percent(event.accuracy)} {event.images_per_s:,.0f} img/s lr {event.learning_rate:.2g}"
                + (f" {duration(left)} left" if left is not None else "")
            )
        if line:
            with _silent_once_unread(self._console):
                self._console.print(line, markup=False, soft_wrap=True)


def make_display() -> Display:
    """A bar on a terminal, plain lines elsewhere."""
    console = _Stderr(stderr=True, highlight=False)
    return BarDisplay(console) if console.is_terminal else PlainDisplay(console)


def _line_of(event: ev.Event) -> str:
    # The command says itself why it failed.
    if isinstance(event, ev.RunEnded) and event.state == "failed":
        return ""
    remedy = f"; try {event.remedies[0]}" if isinstance(event, ev.Found) and event.remedies else ""
    return plain_line(event) + remedy
