"""What never losing a run costs: checkpoints, a pause, a command's way to the run, a kill.

python benchmarks/reliability.py checkpoints plain12_bn resnet20_cifar --data-dir CIFAR
python benchmarks/reliability.py pause
python benchmarks/reliability.py kill
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from kerascnn.runs import events as ev
from kerascnn.runs.control import ask, make_command, wait_until_applied
from kerascnn.runs.directory import Run, open_run

CIFAR_IMAGES = 50_000
CHECKPOINT_EVERY_S = 300
PAUSED_S = 30


def start(run_dir: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """A training of its own, quiet."""
    command = [sys.executable, "-m", "kerascnn", "train", *map(str, arguments)]
    return subprocess.Popen([*command, "--run-dir", str(run_dir)], stderr=subprocess.DEVNULL)


def wait_for_steps(run_dir: Path, steps: int) -> None:
    """Until so many steps are recorded."""
    while not (run_dir / "events.jsonl").exists() or sum(1 for _ in steps_of(Run(run_dir))) < steps:
        time.sleep(0.01)


def steps_of(run: Run) -> list[ev.StepDone]:
    """The recorded steps."""
    return list(ev.of_kind(run.events(), ev.StepDone))


def checkpoints(models: list[str], data_dir: str | None, steps: int) -> None:
    """Size and time of a checkpoint, and its share of an epoch of 50,000 images with one every five minutes."""
    print("| network (batch) | size | time, median (worst) | epoch of 50,000 images | share of it |")
    print("|---|---|---|---|---|")
    for model in models:
        with TemporaryDirectory() as folder:
            run_dir = Path(folder) / "run"
            batch = recipe_batch(model)
            data = ["--data-dir", data_dir] if data_dir else []
            limits = ["--limit-train", steps * batch, "--limit-val", 10, "--epochs", 1, "--offline"]
            if start(run_dir, model, *limits, *data, "--checkpoint-minutes", 0.0001).wait():
                raise SystemExit(f"{model}: {open_run(run_dir).result()}")
            events = open_run(run_dir).events()
            written = list(ev.of_kind(events, ev.CheckpointWritten))
            seconds = statistics.median(each.seconds for each in written)
            recorded = steps_of(open_run(run_dir))
            # The first step warms up; of the others, what their checkpoints took is left out.
            within = sum(each.seconds for each in written if recorded[0].step <= each.step < recorded[-1].step)
            step_s = (recorded[-1].elapsed - recorded[0].elapsed - within) / (recorded[-1].step - recorded[0].step)
            epoch_s = CIFAR_IMAGES / batch * step_s
            share = seconds * (1 + epoch_s // CHECKPOINT_EVERY_S) / epoch_s
            worst = max(each.seconds for each in written)
            print(
                f"| {model} ({batch}) | {written[-1].bytes / 1e6:.1f} MB | {seconds * 1e3:,.0f} ms "
                f"({worst * 1e3:,.0f}) | {epoch_s / 60:.1f} min | {share:.2%} |",
                flush=True,
            )


def recipe_batch(model: str) -> int:
    """The batch size of a network's recipe."""
    from kerascnn.catalog import load_recipe

    return load_recipe(model).train.batch_size


def pause(model: str, backends: list[str]) -> None:
    """Processor time of a paused run, and how long commands take to be confirmed."""
    for backend in backends:
        with TemporaryDirectory() as folder:
            run_dir = Path(folder) / "run"
            data = ["--dataset", "fashion_mnist_mini", "--epochs", 100, "--offline", "--backend", backend]
            process = start(run_dir, model, *data)
            wait_for_steps(run_dir, 5)
            run = open_run(run_dir)
            waits = [confirmed_after(run, name, value) for name, value in [("set-lr", 1e-4), ("extend", 1)] * 5]
            waits.append(confirmed_after(run, "pause", None))
            worker = psutil.Process(process.pid)
            before = worker.cpu_times()
            time.sleep(PAUSED_S)
            after = worker.cpu_times()
            used = after.user + after.system - before.user - before.system
            waits += [confirmed_after(run, "resume", None), confirmed_after(run, "stop", None)]
            process.wait()
            steps = [two.elapsed - one.elapsed for one, two in itertools.pairwise(steps_of(run))]
            print(
                f"{model} on {backend}: a step {statistics.median(steps):.2f} s, at most {max(steps):.2f} s; "
                f"{len(waits)} commands confirmed after {statistics.median(waits):.2f} s, at most {max(waits):.2f} s; "
                f"paused for {PAUSED_S} s it used {used:.2f} s of processor time ({used / PAUSED_S:.2%} of a core)"
            )


def confirmed_after(run: Run, name: str, value: float | None) -> float:
    """Seconds from asking to the event that confirms it."""
    offset = run.events_file.stat().st_size
    command = make_command(name, value)
    began = time.monotonic()
    ask(run, command)
    if wait_until_applied(run, command, offset) is None:
        raise SystemExit(f"{name} was not confirmed")
    return time.monotonic() - began


def kill(model: str, backends: list[str]) -> None:
    """What a SIGKILL costs: from the resume to the first new step, and the steps that are trained again."""
    for backend in backends:
        with TemporaryDirectory() as folder:
            run_dir = Path(folder) / "run"
            data = ["--dataset", "fashion_mnist_mini", "--epochs", 100, "--offline", "--backend", backend]
            process = start(run_dir, model, *data, "--checkpoint-minutes", 0.1)
            wait_for_steps(run_dir, 20)
            process.kill()
            process.wait()
            killed_at = steps_of(open_run(run_dir))[-1].step
            began = time.monotonic()
            command = [sys.executable, "-m", "kerascnn", "train", "--resume", str(run_dir)]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            while not (again := list(ev.of_kind(open_run(run_dir).events(), ev.Resumed))):
                time.sleep(0.01)
            while steps_of(open_run(run_dir))[-1].step <= again[-1].step:
                time.sleep(0.01)
            took = time.monotonic() - began
            process.kill()
            process.wait()
            print(
                f"{model} on {backend}: killed after step {killed_at}, resumed after step {again[-1].step}; "
                f"{took:.1f} s from the command to the first new step"
            )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["checkpoints", "pause", "kill"])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--data-dir")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--backend", action="append")
    arguments = parser.parse_args()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("keras", "torch"))
    print(f"{versions}, Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    backends = arguments.backend or ["torch"]
    if arguments.what == "checkpoints":
        checkpoints(arguments.models or ["cnn2_cifar"], arguments.data_dir, arguments.steps)
    elif arguments.what == "pause":
        pause(*(arguments.models or ["vgg16_cifar"]), backends)
    else:
        kill(*(arguments.models or ["vgg16_cifar"]), backends)


if __name__ == "__main__":
    main()
