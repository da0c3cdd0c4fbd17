"""What the live look inside a training costs: layer statistics, events and findings, as a share of the step time.

One network is trained by the engine itself in one process. Blocks of a few steps with everything that training has by
default take turns with blocks that have none of it: no look, no gradient norms, no event written, no rule held against
it. The observer's clock stands still in the latter, so that the former have as many looks for their time as a training
has. A pair of both ends when there has been a look, and gives one ratio. The first steps, which are looked at more
often, come before.

    python -m benchmarks.overhead plain12_bn --batch-size 64 --pairs 20
    python -m benchmarks.overhead cnn2_cifar --batch-size 128 --pairs 40 --backend tensorflow
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascnn.catalog import load_recipe
from kerascnn.data.batches import TrainingBatches, ValidationBatches
from kerascnn.data.dataset import load_dataset
from kerascnn.data.statistics import constants_of
from kerascnn.machine import machine
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Writer, create_run
from kerascnn.training.backend import activate, choose_backend, device_name, thread_count, versions

if TYPE_CHECKING:
    from kerascnn.diagnosis.live import Watcher
    from kerascnn.training.observer import Observer
    from kerascnn.training.steps import Steps

# The first 50 steps are all recorded, and five of the first 20 looked at.
WARM_UP = 50
RESAMPLES = 10_000


class EnoughError(Exception):
    """All pairs are measured."""


@dataclass
class Pair:
    """Seconds and steps with and without observation."""

    seconds: dict[bool, float] = field(default_factory=lambda: {True: 0.0, False: 0.0})
    steps: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    @property
    def ratio(self) -> float:
        """The time of a step with observation over that of one without."""
        return self.seconds[True] / self.steps[True] / (self.seconds[False] / self.steps[False])


class Alternating:
    """Stands where the engine has its observer, and turns observation on and off by blocks of steps."""

    def __init__(self, block: int, pairs: int) -> None:
        self.on = True
        self.pairs: list[Pair] = []
        self.observer: Observer | None = None
        self._block, self._wanted = block, pairs
        self._pair: Pair | None = None
        self._looked = False
        self._on_before = 0.0
        self._turned = self._last = time.perf_counter()

    def clock(self) -> float:
        """The time with observation."""
        return self._on_before + (time.perf_counter() - self._turned if self.on else 0.0)

    def wants(self, step: int) -> bool:
        """Called by the engine before each step: what has passed since the last call belongs to the step before."""
        assert self.observer is not None
        now = time.perf_counter()
        if self._pair is not None and math.isfinite(self._last):
            self._pair.seconds[self.on] += now - self._last
            self._pair.steps[self.on] += 1
        self._last = now
        if step % self._block == 0:
            self._turn(now, step)
        return self.on and self.observer.wants(step)

    def before_step(self) -> None:
        assert self.observer is not None
        self.observer.before_step()

    def after_step(self, step: int, gradient_norms: Any) -> ev.LayerStatistics:
        assert self.observer is not None
        self._looked = True
        return self.observer.after_step(step, gradient_norms)

    def leave_out(self) -> None:
        """What comes until the next step is no step: a validation, a checkpoint."""
        self._last = math.nan

    def _turn(self, now: float, step: int) -> None:
        if self.on:
            self._on_before += now - self._turned
        elif step <= WARM_UP:
            self._looked = False
        elif self._looked:
            if self._pair is not None:
                self.pairs.append(self._pair)
                print(f"pair {len(self.pairs)}: {self._pair.steps[True]} steps, {self._pair.ratio:.4f}", flush=True)
            if len(self.pairs) == self._wanted:
                raise EnoughError
            self._pair, self._looked = Pair(), False
        self.on, self._turned = not self.on, now


class Either:
    """The step with gradient norms where they are wanted, or one that was built without them."""

    def __init__(self, alternating: Alternating, observed: Steps, bare: Steps) -> None:
        self._alternating, self._observed, self._bare = alternating, observed, bare

    def train(self, pixels: Any, labels: Any, *, observe: bool = False) -> tuple[Any, Any, Any]:
        steps = self._observed if self._alternating.on else self._bare
        return steps.train(pixels, labels, observe=observe)

    def evaluate(self, pixels: Any, labels: Any) -> tuple[Any, Any]:
        return self._observed.evaluate(pixels, labels)


def measure(recipe: Recipe, data_dir: Path | None, block: int, pairs: int) -> list[Pair]:
    """Train a network until there are so many pairs."""
    from kerascnn.diagnosis.architecture import read_architecture
    from kerascnn.diagnosis.live import Watcher
    from kerascnn.training.checkpoint import Progress
    from kerascnn.training.control import Control
    from kerascnn.training.engine import Engine
    from kerascnn.training.network import initial_model, make_network
    from kerascnn.training.observer import Observer, probe_size
    from kerascnn.training.signals import Signals
    from kerascnn.training.steps import make_steps

    dataset = load_dataset(recipe, data_dir=data_dir)
    network = make_network(initial_model(recipe, constants_of(recipe, dataset)), recipe.train)
    alternating = Alternating(block, pairs)
    bare = make_steps(network.model, network.optimizer, recipe.train)
    network = replace(network, steps=Either(alternating, network.steps, bare))
    batches = TrainingBatches(dataset.train, recipe.train.batch_size, recipe.train.seed, recipe.train.augment)
    few = batches.few(probe_size(recipe.input_shape))
    alternating.observer = Observer(network.model, network.layers, few, alternating.clock)
    watcher = Watcher(recipe, read_architecture(network.model, network.layers, few))
    with tempfile.TemporaryDirectory() as folder:
        run = create_run(Path(folder) / "run", recipe, sys.argv)
        writer = Writer(run)

        def emit(event: ev.Event) -> None:
            if isinstance(event, ev.Phase):
                alternating.leave_out()
            if alternating.on:
                write_with_findings(writer, watcher, event)

        engine = Engine(
            run,
            recipe,
            network,
            batches,
            ValidationBatches(dataset.validation, recipe.train.batch_size),
            Progress(epochs=recipe.train.epochs),
            emit=emit,
            signals=Signals(),
            control=Control(run, set()),
            observer=alternating,  # type: ignore[arg-type]
            checkpoint_every_s=math.inf,
        )
        try:
            engine.run()
        except EnoughError:
            pass
        finally:
            writer.close()
    return alternating.pairs


def write_with_findings(writer: Writer, watcher: Watcher, event: ev.Event) -> None:
    """As a session does with each event."""
    writer.events.write(event)
    for finding in watcher.see(event):
        writer.events.write(finding)


def interval(ratios: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """The mean of the ratios, with the 95 % interval of a bootstrap over the pairs."""
    values = np.array(ratios)
    chosen = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def report(recipe: Recipe, backend: str, pairs: Sequence[Pair]) -> str:
    """The figures as Markdown, with what they depend on."""
    mean, low, high = interval([pair.ratio for pair in pairs])
    steps = sum(pair.steps[True] for pair in pairs)
    bare = sum(pair.seconds[False] for pair in pairs) / sum(pair.steps[False] for pair in pairs)
    here = machine()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return "\n".join(
        [
            "| network (batch) | backend | step, ms | pairs | steps with a look | overhead | 95 % interval |",
            "|---|---|---|---|---|---|---|",
            f"| {recipe.name} ({recipe.train.batch_size}) | {backend} | {1000 * bare:.1f} | {len(pairs)} | "
            f"one in {steps / len(pairs):.0f} | {100 * (mean - 1):+.2f} % | "
            f"{100 * (low - 1):+.2f} to {100 * (high - 1):+.2f} % |",
            "",
            f"{here['processor']}, {here['cores']} cores, device {device_name(backend)}, "
            f"{thread_count(backend)} threads{load}; "
            + ", ".join(f"{name} {version}" for name, version in versions(backend).items()),
            "",
            f"    python -m benchmarks.overhead {' '.join(sys.argv[1:])}",
        ]
    )


def main() -> None:
    """Measure one network and print a line a pair, then the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--backend", help="torch, tensorflow or jax")
    parser.add_argument("--dataset", default="fashion_mnist_mini", help="its content makes no difference to the time")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--batch-size", type=int, help="by default the recipe's")
    parser.add_argument("--block", type=int, default=4, help="steps until observation is turned on or off")
    parser.add_argument("--pairs", type=int, default=20)
    asked = parser.parse_args()
    changes: dict[str, Any] = {"dataset": asked.dataset, "train.limit_val": 64, "train.epochs": 1_000_000}
    changes |= {"train.batch_size": asked.batch_size} if asked.batch_size else {}
    recipe = load_recipe(asked.model, changes)
    choice = choose_backend(asked.backend)
    activate(choice.name)
    pairs = measure(recipe, asked.data_dir, asked.block, asked.pairs)
    print(f"\n{report(recipe, choice.name, pairs)}")


if __name__ == "__main__":
    main()
