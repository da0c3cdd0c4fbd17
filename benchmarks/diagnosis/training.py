"""What is true of a network, by training it, and what the diagnosis says of it."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.diagnosis.building import build, load_images, make_optimizer
from benchmarks.diagnosis.networks import Network

# What a network has to learn in, and the last steps that it is judged by.
BUDGET = 300
WINDOW = 50
BATCH_SIZE = 64
TRUTH_SEEDS = (1, 2)
DIAGNOSIS_SEED = 3

# A network learns if the mean loss over the window is at most this share of what the labels' frequencies give, and the
# accuracy at least so many times the commonest class's share.
LEARNT_LOSS, LEARNT_ACCURACY = 0.90, 2.0
# It does not if it is above the one and below the other of these, or if its loss is no number. What lies between is
# left out.
UNLEARNT_LOSS, UNLEARNT_ACCURACY = 0.97, 1.5


METHOD = f"""
Truth: trained for {BUDGET} steps of {BATCH_SIZE} images by Keras's `fit`, seeds {" and ".join(map(str, TRUTH_SEEDS))}.
A network learns if over the last {WINDOW} steps the mean loss is at most {LEARNT_LOSS} of what the labels' frequencies
give, and the accuracy at least {LEARNT_ACCURACY:g} times the commonest class's share. It does not learn if they are
at least {UNLEARNT_LOSS} and at most {UNLEARNT_ACCURACY:g} times, or if the loss is no number. What lies between, or
differs between the seeds, is left out. Diagnosis: `kerascnn.diagnose` with its defaults, seed {DIAGNOSIS_SEED}.
Intervals are Wilson's at 95 %; for balanced accuracy two of them, put together by Newcombe's method.
""".strip()


def find_truth(network: Network, data_dir: Path | None) -> dict[str, Any]:
    """Train the network on each seed and say what came out."""
    images, labels = load_images(network, data_dir)
    shares = np.bincount(labels) / len(labels)
    chance, share = float(-(shares * np.log(shares)).sum()), float(shares.max())
    curves, seconds = [], []
    for seed in TRUTH_SEEDS:
        began = time.perf_counter()
        curves.append(train(network, images, labels, seed))
        seconds.append(round(time.perf_counter() - began, 1))
    return {
        "truth": agreed([outcome(*curve[-1], chance, share) for curve in curves]),
        "budget": BUDGET,
        "seeds": TRUTH_SEEDS,
        "chance": [round(chance, 4), round(share, 4)],
        "curves": [[[str(loss) if math.isnan(loss) else loss, right] for loss, right in curve] for curve in curves],
        "seconds": seconds,
    }


def train(network: Network, images: Any, labels: Any, seed: int) -> list[tuple[float, float]]:
    """Mean loss and accuracy of each window of the budget, by Keras's own ``fit``; up to the first without a number."""
    from kerascnn.training.backend import seed_backend

    seed_backend(os.environ["KERAS_BACKEND"], seed)
    model = build(network, images.shape[1:])
    return fit(model, make_optimizer(network), images, labels, seed, from_logits=network.head != "softmax")


def fit(
    model: Any, optimizer: Any, images: Any, labels: Any, seed: int, *, from_logits: bool = True
) -> list[tuple[float, float]]:
    """Mean loss and accuracy of each window of the budget, in batches in the order of a seed."""
    from keras import losses

    model.compile(optimizer, losses.SparseCategoricalCrossentropy(from_logits=from_logits), metrics=["accuracy"])
    random = np.random.default_rng(seed)
    epochs = -(-BUDGET * BATCH_SIZE // len(images))
    order = np.concatenate([random.permutation(len(images)) for _ in range(epochs)])
    curve: list[tuple[float, float]] = []
    for start in range(0, BUDGET, WINDOW):
        taken = order[start * BATCH_SIZE : (start + WINDOW) * BATCH_SIZE]
        seen = model.fit(images[taken], labels[taken], batch_size=BATCH_SIZE, shuffle=False, verbose=0).history
        curve.append((round(seen["loss"][0], 4), round(seen["accuracy"][0], 4)))
        if not math.isfinite(curve[-1][0]):
            return [*curve[:-1], (math.nan, curve[-1][1])]
    return curve


def outcome(loss: float, accuracy: float, chance: float, share: float) -> str:
    """What the last window says of one training."""
    if loss <= LEARNT_LOSS * chance and accuracy >= LEARNT_ACCURACY * share:
        return "learns"
    if not math.isfinite(loss) or (loss >= UNLEARNT_LOSS * chance and accuracy <= UNLEARNT_ACCURACY * share):
        return "does not learn"
    return "in between"


def agreed(outcomes: Sequence[str]) -> str:
    """What all seeds say, or why the network is left out."""
    if "in between" in outcomes:
        return "in between"
    return outcomes[0] if len(set(outcomes)) == 1 else "seeds disagree"


def find_diagnosis(network: Network, data_dir: Path | None) -> dict[str, Any]:
    """Diagnose the network from another start than the truth's, with the diagnosis's own defaults."""
    import kerascnn
    from kerascnn.training.backend import seed_backend

    images, labels = load_images(network, data_dir)
    seed_backend(os.environ["KERAS_BACKEND"], DIAGNOSIS_SEED)
    model = build(network, images.shape[1:])
    began = time.perf_counter()
    found = kerascnn.diagnose(model, images, labels, optimizer=make_optimizer(network), seed=DIAGNOSIS_SEED)
    return {
        "healthy": found.healthy,
        "findings": [
            {"rule": one.rule, "severity": one.severity, "layer": one.layer, "cause": one.cause}
            for one in found.findings
        ],
        "steps": found.steps,
        "loss": str(round(sum(found.losses[-WINDOW:]) / len(found.losses[-WINDOW:]), 4)),
        "seed": DIAGNOSIS_SEED,
        "seconds": round(time.perf_counter() - began, 1),
        "rules": rules_fingerprint(),
    }


def rules_fingerprint() -> str:
    """Of all that decides: figures of other rules are not mixed with these."""
    import kerascnn

    folder = Path(kerascnn.__file__).parent / "diagnosis"
    together = hashlib.sha256()
    for file in sorted([*folder.glob("*.py"), *folder.glob("*.toml")]):
        together.update(file.read_bytes())
    return together.hexdigest()[:12]
