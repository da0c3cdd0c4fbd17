"""Whether ``kerascnn diagnose --fix`` brings a broken recipe back, and whether random remedies do it as often."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.diagnosis.building import IMAGES
from benchmarks.diagnosis.recipes import BASES, RATE, Broken
from benchmarks.diagnosis.recipes import IMAGES as DATA
from benchmarks.diagnosis.training import BATCH_SIZE, BUDGET, TRUTH_SEEDS, agreed, fit, outcome, rules_fingerprint
from kerascnn.catalog import change_recipe, merge, nested
from kerascnn.diagnosis import STEPS
from kerascnn.diagnosis.repair import (
    MOST_TRAININGS,
    SEEDS,
    Candidate,
    Repair,
    Train,
    Trial,
    try_candidate,
    try_remedies,
)
from kerascnn.diagnosis.rules import Value, the_rules
from kerascnn.recipe import Recipe, parse_recipe
from kerascnn.runs.compare import flat

# Of the diagnosis and of the trials' first training; the second has the next one.
FIX_SEED = 3
# What an answer is judged by. No seed is used twice.
FRESH_SEEDS = (5, 6)
DRAWS = 5

REPAIR_METHOD = f"""
A recipe counts as broken if it does not learn, and as fixable if it does with the change that was written down for it,
both found by training as above, seeds {" and ".join(map(str, TRUTH_SEEDS))}. `--fix`: the diagnosis with its defaults,
seed {FIX_SEED}, then at most {MOST_TRAININGS} trainings. An answer is right if the changed recipe learns in {BUDGET}
steps on seeds {" and ".join(map(str, FRESH_SEEDS))}. Random remedies: all of `rules.toml` that change this recipe, each
once in random order, then pairs of them, {DRAWS} orders; the learning rate times or divided by ten, since by how much
it is off is a measurement; tried on the same seeds, accepted by the same rule, and judged in the same way; "allowed as
much" with at most {MOST_TRAININGS} trainings, "spent as much" with no more steps than the diagnosis and the trials of
`--fix` took together for that recipe.
""".strip()


def recipe_of(broken: Broken) -> Recipe:
    """The recipe that doesn't learn."""
    train = {"train": {"batch_size": BATCH_SIZE, "seed": FIX_SEED}}
    entry = merge({**BASES[broken.base], **DATA[broken.data], **train}, nested(broken.changes))
    return parse_recipe("broken", entry, file=broken.name)


def find_recipe_truth(broken: Broken, data_dir: Path | None) -> dict[str, Any]:
    """Whether a recipe learns, and whether it does with the change that is meant to help."""
    trainer = Trainer(recipe_of(broken), data_dir)
    without, curves, seconds = trainer.learns({}, TRUTH_SEEDS)
    answer = {"truth": without, "curves": curves, "seconds": seconds, "budget": BUDGET, "seeds": TRUTH_SEEDS}
    if without != "does not learn":
        return answer
    with_it, curves, more = trainer.learns(broken.counterpart, TRUTH_SEEDS)
    return {**answer, "counterpart": with_it, "counterpart_curves": curves, "seconds": seconds + more}


class Trainer:
    """Trains a recipe and changed forms of it by Keras's own ``fit``."""

    def __init__(self, recipe: Recipe, data_dir: Path | None) -> None:
        from kerascnn.data.dataset import load_dataset

        self._recipe = recipe
        self._dataset = load_dataset(recipe, data_dir=data_dir, download=False)
        chosen = np.random.default_rng(0).permutation(len(self._dataset.train))[:IMAGES]
        self._images = self._dataset.train.read(chosen)
        self._labels = self._dataset.train.labels[chosen].astype(np.int64)

    def learns(
        self, changes: Mapping[str, Any], seeds: Sequence[int]
    ) -> tuple[str, list[list[tuple[float, float]]], list[float]]:
        """What a changed recipe comes to on these seeds, with its curves and the seconds of each."""
        from kerascnn.data.statistics import constants_of
        from kerascnn.training.network import initial_model
        from kerascnn.training.optimizer import make_optimizer

        shares = np.bincount(self._labels) / len(self._labels)
        chance, share = float(-(shares * np.log(shares)).sum()), float(shares.max())
        curves, seconds = [], []
        for seed in seeds:
            began = time.perf_counter()
            recipe = change_recipe(self._recipe, {**changes, "train.seed": seed})
            model = initial_model(recipe, constants_of(recipe, self._dataset))
            optimizer = make_optimizer(recipe.train, model.trainable_variables)
            curves.append(fit(model, optimizer, self._images, self._labels, seed))
            seconds.append(round(time.perf_counter() - began, 1))
        # JSON has no NaN, and needs none: what a curve means is told beside it.
        told = [[(str(loss) if loss != loss else loss, right) for loss, right in curve] for curve in curves]
        return agreed([outcome(*curve[-1], chance, share) for curve in curves]), told, seconds


def find_repair(broken: Broken, data_dir: Path | None) -> dict[str, Any]:
    """What ``--fix`` and random remedies answer, each answer judged by training."""
    from kerascnn.diagnosis.outcome import Diagnosis
    from kerascnn.diagnosis.subjects import Examiner
    from kerascnn.training.session import Options

    began = time.perf_counter()
    recipe = recipe_of(broken)
    examiner = Examiner(recipe, Options(data_dir=data_dir, download=False), steps=STEPS)
    seen: dict[str, Diagnosis] = {}

    def train(changed: Recipe) -> Diagnosis:
        """The same seeds train the same, so that what was trained once needn't be again."""
        text = changed.to_toml()
        if text not in seen:
            seen[text] = examiner.diagnose(changed, by_heart=not seen)
        return seen[text]

    trainer = Trainer(recipe, data_dir)
    judged: dict[str, str] = {}

    def judge(changes: Mapping[str, Value]) -> str:
        key = str(sorted(changes.items()))
        if key not in judged:
            judged[key] = trainer.learns(changes, FRESH_SEEDS)[0]
        return judged[key]

    found = train(recipe)
    fixed = Repair(tuple(try_remedies(recipe, found, train)))
    seconds = round(time.perf_counter() - began, 1)
    return {
        "healthy": found.healthy,
        "causes": [finding.rule for finding in found.findings],
        "diagnosis_steps": found.steps,
        "fix": told(fixed, judge),
        "random": [told(Repair(tuple(at_random(recipe, draw, train))), judge) for draw in range(DRAWS)],
        "seconds": seconds,
        "rules": rules_fingerprint(),
    }


def told(repair: Repair, judge: Callable[[Mapping[str, Value]], str]) -> dict[str, Any]:
    """An answer, what judging it came to, and the steps until it was there."""
    solution = repair.solution
    return {
        "answer": str(solution.candidate) if solution is not None else None,
        "changes": solution.candidate.changes if solution is not None else None,
        "truth": judge(solution.candidate.changes) if solution is not None else None,
        "steps": repair.steps,
        "trials": [
            f"{trial.candidate}: {', '.join(f'{one.outcome} ({one.loss:.3f})' for one in trial.trainings)}"
            for trial in repair.trials
        ],
    }


def at_random(recipe: Recipe, draw: int, train: Train) -> Iterator[Trial]:
    """Try remedies in a random order, within what ``--fix`` is allowed, until one works."""
    left = MOST_TRAININGS
    for candidate in random_order(recipe, draw):
        if left < SEEDS:
            return
        trial = try_candidate(recipe, candidate, train)
        if trial is not None:
            left -= len(trial.trainings)
            yield trial
            if trial.works:
                return


def random_order(recipe: Recipe, draw: int) -> list[Candidate]:
    """Each remedy that changes a recipe, in random order, and then each pair of them."""
    singles = remedies_for(recipe)
    pairs = [one.and_also(*other.remedies[0]) for one, other in combinations(singles, 2)]
    random.seed(draw)
    return [*random.sample(singles, len(singles)), *random.sample(pairs, len(pairs))]


def remedies_for(recipe: Recipe) -> list[Candidate]:
    """The remedies of ``rules.toml`` that change a recipe, whatever it suffers from."""
    now = flat(recipe.model_dump())
    found: dict[str, Candidate] = {}
    for remedy in the_rules().remedies.values():
        changes = remedy.changes({RATE: recipe.train.optimizer.learning_rate})
        if changes and changes.keys() <= now.keys() and any(now[key] != value for key, value in changes.items()):
            found.setdefault(str(sorted(changes.items())), Candidate().and_also(remedy.words, changes))
    return list(found.values())
