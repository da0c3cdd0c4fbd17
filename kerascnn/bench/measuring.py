"""Variants measured side by side: each in a process of its own, one training at a time, a block of steps each in turn.

A machine's speed drifts; blocks that follow one another meet nearly the same. So two variants are compared by the ratio
of each round's blocks, and the median of those ratios is the figure.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from kerascnn.errors import BackendError, is_out_of_memory
from kerascnn.recipe import Recipe
from kerascnn.training.allocator import DEFAULT, VARIABLE

Kind = Literal["kerascnn", "channels_first", "channels_last", "tf_function", "tf_function_xla"]

# A variant's share of the time is cut into about so many blocks.
ROUNDS = 15
FEWEST_ROUNDS = 3
READY_WITHIN_S = 600.0
# SIGKILL's number. Windows has no such signal.
KILL = 9


@dataclass(frozen=True)
class Variant:
    """One way to train a network, and the names of those that it is held against."""

    name: str
    kind: Kind
    backend: str
    default_allocator: bool = False
    against: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """So many steps of one variant without a break. ``began`` is on the bench's clock."""

    variant: str
    round: int
    began: float
    steps: int
    seconds: float


@dataclass
class Measured:
    """What was found of one variant; ``facts`` are those that its process told."""

    variant: Variant
    facts: dict[str, Any]
    first_step_s: float
    to_first_step_s: float
    blocks: list[Block] = field(default_factory=list)


class LostError(Exception):
    """A variant's process ended, or was too slow."""


class PassingError(LostError):
    """What need not happen the next time: it was too slow, it was killed, or other programs had the memory."""


class Trainer:
    """A variant's process, as the bench sees it. Inside ``with`` it lives."""

    def __init__(self, variant: Variant, recipe: Recipe, device: str) -> None:
        self.variant = variant
        self.steps_a_block = 1
        self._task = {
            "kind": variant.kind,
            "backend": variant.backend,
            "device": device,
            "recipe": recipe.model_dump(mode="json"),
        }
        self._lines: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Trainer:
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        if self.variant.default_allocator:
            environment[VARIABLE] = DEFAULT
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kerascnn.bench.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            # What was still to be written to a process that is gone.
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._errors.close()

    def start(self, until: float) -> Measured:
        """Prepare the network and do the first step.

        Raises:
            LostError: it failed, or wasn't there by ``until``.
        """
        began = time.monotonic()
        self._ask(json.dumps(self._task))
        self._ask("1")
        facts = self._answer(until)
        seconds = self._answer(until)["seconds"]
        return Measured(self.variant, facts, seconds, time.monotonic() - began)

    def warm_up(self, block_s: float, until: float) -> tuple[int, float]:
        """Longer and longer blocks, until one is at least half as long as ``block_s``.

        Returns:
            The steps and the seconds of the last.
        """
        # A run looks into its layers at its second step too: a costly one that says little of the others.
        self.train(1, until)
        steps = 1
        while (seconds := self.train(steps, until)) < block_s / 2:
            steps *= 2
        return steps, seconds

    def train(self, steps: int, until: float) -> float:
        """The seconds that so many steps take."""
        self._ask(str(steps))
        return float(self._answer(until)["seconds"])

    def finish(self, until: float) -> dict[str, Any]:
        """No more steps; what they took."""
        self._ask("")
        return self._answer(until)

    def _ask(self, line: str) -> None:
        assert self._process.stdin is not None
        # A process that is gone shows when it doesn't answer.
        with contextlib.suppress(OSError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _answer(self, until: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=max(until - time.monotonic(), 0))
        except queue.Empty:
            raise PassingError("it wasn't done in time") from None
        if not line:
            raise self._lost()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _lost(self) -> LostError:
        """Why the process ended, by its last words."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        lost = LostError(lines[-1].strip() if lines else f"exit code {code}")
        # Linux kills a process that takes more memory than there is.
        return PassingError(str(lost)) if code == -KILL or is_out_of_memory(lost) else lost


def measure(
    recipe: Recipe,
    variants: Sequence[Variant],
    seconds: float,
    device: str = "auto",
    tell: Callable[[str], None] = lambda _: None,
) -> list[Measured]:
    """Train one network in several ways, in turn.

    Args:
        recipe: what to train; its images are made up.
        variants: the ways.
        seconds: of steps that count, for each variant; slow networks take longer for their fewest rounds.
        device: as for training.
        tell: is told what is going on.

    Raises:
        BackendError: a variant's process failed.
    """
    block_s = seconds / ROUNDS
    with contextlib.ExitStack() as stack:
        trainers: list[Trainer] = []
        found: list[Measured] = []
        for variant in variants:
            tell(f"{recipe.name}: {variant.name} starts")
            trainer = stack.enter_context(Trainer(variant, recipe, device))
            with _named(variant):
                until = time.monotonic() + READY_WITHIN_S
                found.append(trainer.start(until))
                steps, took = trainer.warm_up(block_s, until)
                trainer.steps_a_block = max(1, round(steps * block_s / took))
            trainers.append(trainer)
        tell(f"{recipe.name}: {len(variants)} in turn, {seconds:g} s each")
        pairs = list(zip(trainers, found, strict=True))
        number, spent = 0, 0.0
        while number < FEWEST_ROUNDS or spent < seconds * len(variants):
            # There and back again: a drift within a round helps each as often as it hurts.
            for trainer, measured in pairs[:: -1 if number % 2 else 1]:
                began = time.monotonic()
                with _named(trainer.variant):
                    took = trainer.train(trainer.steps_a_block, began + READY_WITHIN_S)
                measured.blocks.append(Block(trainer.variant.name, number, began, trainer.steps_a_block, took))
                spent += took
            number += 1
        for trainer, measured in pairs:
            with _named(trainer.variant):
                measured.facts |= trainer.finish(time.monotonic() + READY_WITHIN_S)
        return found


@contextlib.contextmanager
def _named(variant: Variant) -> Iterator[None]:
    """What a variant is lost by, as an error with its name."""
    try:
        yield
    except LostError as lost:
        raise BackendError(f"{variant.name}: {lost}") from None
