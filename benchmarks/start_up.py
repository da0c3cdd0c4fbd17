"""From a command to what its user waits for: the help, the list of networks, and the first step of a training.

    python benchmarks/start_up.py commands --repeats 9
    python benchmarks/start_up.py training cnn2_cifar --backend torch --repeats 3

Each prints one JSON object with seconds. ``training`` runs the embedded sample in a new process each time and reads the
run's events: ``before_importing`` and ``before_the_first_step`` are ours, ``importing`` is the backend's, ``compiling``
the tracing of backends that trace. ``bare_import`` is ``import keras`` on that backend in a process that does no more,
from its start; ``over_the_bare_import`` is a training's whole time before its first step, less that process's. Python
keeps its compiled modules, as it does for what pip has installed.
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
from pathlib import Path

from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run

COMMANDS = (["--help"], ["models"], ["train", "--help"])


def seconds_of(*arguments: str, **environment: str) -> float:
    """How long a Python process takes."""
    began = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment}
    subprocess.run([sys.executable, *arguments], check=True, env=environment, **quiet)
    return time.perf_counter() - began


def commands(repeats: int) -> dict[str, object]:
    """The commands that need no backend; one start of each beforehand warms the files."""
    found = {}
    for arguments in COMMANDS:
        times = [seconds_of("-m", "kerascnn", *arguments) for _ in range(repeats + 1)][1:]
        found[" ".join(arguments)] = spread(times)
    return {"commands": found}


def training(model: str, backend: str, repeats: int) -> dict[str, object]:
    """The phases of a training up to its first step; one training beforehand warms the files."""
    found: dict[str, list[float]] = {}
    for number in range(repeats + 1):
        # A process that has imported a backend takes its time to end, too.
        bare = seconds_of("-c", "import os, keras; os._exit(0)", KERAS_BACKEND=backend)
        phases = {"bare_import": bare, **phases_of(model, backend)}
        phases["over_the_bare_import"] = phases.pop("to_the_first_step") - bare
        for name, seconds in phases.items() if number else ():
            found.setdefault(name, []).append(seconds)
    return {"model": model, "backend": backend, "phases": {name: spread(times) for name, times in found.items()}}


def phases_of(model: str, backend: str) -> dict[str, float]:
    """One training of a single small batch."""
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name) / "run")
        command = [
            "-m",
            "kerascnn",
            "train",
            model,
            "--backend",
            backend,
            "--dataset",
            "fashion_mnist_mini",
            "--offline",
        ]
        command += ["--limit-train", "16", "--limit-val", "16", "--batch-size", "16", "--epochs", "1"]
        began = time.time()
        seconds_of(*command, "--run-dir", str(run.path))
        events = run.events()
    at = {phase.phase: phase.time - began for phase in ev.of_kind(events, ev.Phase)}
    first = next(ev.of_kind(events, ev.StepDone)).time - began
    # A backend that traces does so in its first step, which is the phase `compiling`.
    begins = at.get("compiling", at["training"])
    return {
        "before_importing": at["importing"],
        "importing": at["loading data"] - at["importing"],
        "loading_data": at["building"] - at["loading data"],
        "building": begins - at["building"],
        "ours_before_the_first_step": begins - (at["loading data"] - at["importing"]),
        "to_the_first_step": begins,
        "first_step": first - begins,
    }


def spread(times: list[float]) -> dict[str, float]:
    """Median and extremes."""
    ordered = sorted(times)
    return {"median": round(statistics.median(ordered), 3), "low": round(ordered[0], 3), "high": round(ordered[-1], 3)}


def main() -> None:
    """Read the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="command", required=True)
    kinds.add_parser("commands").add_argument("--repeats", type=int, default=9)
    of_training = kinds.add_parser("training")
    of_training.add_argument("model")
    of_training.add_argument("--backend", default="torch")
    of_training.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    if asked.command == "commands":
        found = commands(asked.repeats)
    else:
        found = training(asked.model, asked.backend, asked.repeats)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
