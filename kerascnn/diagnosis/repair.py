"""What makes a network learn: the remedies of its diagnosis, each tried in short trainings.

Importing this module imports no Keras.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from kerascnn.catalog import change_recipe
from kerascnn.diagnosis.findings import Advice
from kerascnn.diagnosis.measures import FROM_ZERO
from kerascnn.diagnosis.rules import Value, the_rules
from kerascnn.errors import RecipeError
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.runs.compare import flat

if TYPE_CHECKING:
    from kerascnn.diagnosis.outcome import Diagnosis

# So many trainings at the most, whatever is tried.
MOST_TRAININGS = 8
SEEDS = 2
# A network learns where its mean loss has come down to this share of chance.
LEARNT_SHARE = 0.9
# What makes each step slower; all else costs nothing, so it is tried first.
ADDS_WORK = frozenset({"batch_norm", "skip"})
RATE = "train.optimizer.learning_rate"
# Of its weights, by the layer that changes most; about 1e-3 is healthy for any layer (cs231n).
HEALTHY_STEP = 3e-3
# Adam's steps don't depend on how large gradients are, so one rate fits most networks (Kingma 2014).
ADAMS = frozenset({"adam", "adamw"})
ADAMS_RATE = 1e-3
# What is left where no rule names a cause, after the learning rate.
WITHOUT_A_CAUSE = ("less_dropout", "relu_he", "he", "batch_norm")

Outcome = Literal["learns", "leaves chance", "stays at chance", "diverges"]
Train = Callable[[Recipe], "Diagnosis"]


@dataclass(frozen=True)
class Candidate:
    """Remedies that are tried together, each in words and as a recipe's keys with their new values."""

    remedies: tuple[tuple[str, Mapping[str, Value]], ...] = ()

    @property
    def changes(self) -> dict[str, Value]:
        """The keys of all remedies, a later one's over an earlier one's."""
        return {key: value for _, changes in self.remedies for key, value in changes.items()}

    def __str__(self) -> str:
        return " + ".join(words for words, _ in self.remedies)

    def and_also(self, words: str, changes: Mapping[str, Value]) -> Candidate:
        """With one remedy more, in place of those that it leaves nothing of."""
        kept = (one for one in self.remedies if not one[1].keys() <= changes.keys())
        return Candidate((*kept, (words, changes)))


@dataclass(frozen=True)
class Training:
    """One short training. The loss, in nats, and the accuracy are means over its last steps."""

    seed: int
    steps: int
    loss: float
    accuracy: float
    outcome: Outcome


@dataclass(frozen=True)
class Trial:
    """A candidate and what became of it: on the recipe's own seed, and where the network learns, on the next.

    ``found`` is the diagnosis of the changed network on the first.
    """

    candidate: Candidate
    trainings: tuple[Training, ...]
    found: Diagnosis = field(repr=False)

    @property
    def works(self) -> bool:
        """Whether the network learns on both seeds."""
        return len(self.trainings) == SEEDS and all(one.outcome == "learns" for one in self.trainings)

    @property
    def loss(self) -> float:
        """The worse of the losses; infinite where one is no number."""
        return max(one.loss if math.isfinite(one.loss) else math.inf for one in self.trainings)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, numbers by :func:`kerascnn.runs.events.json_number`."""
        return {
            "remedies": [words for words, _ in self.candidate.remedies],
            "changes": self.candidate.changes,
            "works": self.works,
            "trainings": [{**asdict(one), "loss": ev.json_number(one.loss)} for one in self.trainings],
            "causes": [finding.rule for finding in self.found.findings if finding.severity == "verdict"],
        }


@dataclass(frozen=True)
class Repair:
    """All trials of one network, in their order."""

    trials: tuple[Trial, ...]

    @property
    def solution(self) -> Trial | None:
        """The trial that worked, if one did; it is the last."""
        return next((trial for trial in self.trials if trial.works), None)

    @property
    def nearest(self) -> Trial | None:
        """What came nearest to learning on both seeds."""
        return min(self.trials, key=lambda trial: (-len(trial.trainings), trial.loss), default=None)

    @property
    def steps(self) -> int:
        """The steps of all trainings together."""
        return sum(training.steps for trial in self.trials for training in trial.trainings)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "works": self.solution is not None,
            "changes": self.solution.candidate.changes if self.solution is not None else None,
            "steps": self.steps,
            "most_trainings": MOST_TRAININGS,
            "trials": [trial.to_dict() for trial in self.trials],
        }


def needs_repair(found: Diagnosis) -> bool:
    """Whether a network has a verdict, or ended its short run at chance without one though it was long enough."""
    return not found.healthy or (found.undecided and found.steps >= found.steps_for_a_verdict)


def try_remedies(
    recipe: Recipe, found: Diagnosis, train: Train, *, tell: Callable[[str], None] = lambda _: None
) -> Iterator[Trial]:
    """Try what a diagnosis advises until something works, in at most :data:`MOST_TRAININGS` short trainings.

    First each remedy alone: what costs nothing before what makes steps slower, and among these the likeliest cause's
    first. Where none works, the diagnosis of each changed network says what to change besides.

    Args:
        recipe: a network that doesn't learn.
        found: its diagnosis. Where that has neither a verdict nor ends at chance after enough steps for one, there is
            nothing to try.
        train: diagnoses a changed recipe, such as :meth:`kerascnn.diagnosis.subjects.Examiner.diagnose`.
        tell: is told of each training before it begins.

    Yields:
        Each trial as it ends; one that works is the last.
    """
    waiting = candidates(recipe, Candidate(), found) if needs_repair(found) else []
    tried: list[Mapping[str, Value]] = []
    left = MOST_TRAININGS
    while waiting:
        trials: list[Trial] = []
        for candidate in waiting:
            # What learns on one seed needs another one.
            if candidate.changes in tried or left < SEEDS:
                continue
            tried.append(candidate.changes)
            trial = try_candidate(recipe, candidate, train, tell)
            if trial is None:
                continue
            left -= len(trial.trainings)
            trials.append(trial)
            yield trial
            if trial.works:
                return
        trials.sort(key=lambda trial: _promise(trial, found))
        waiting = [more for trial in trials for more in _additions(recipe, trial, found)]


def try_candidate(
    recipe: Recipe, candidate: Candidate, train: Train, tell: Callable[[str], None] = lambda _: None
) -> Trial | None:
    """Train a changed network on one seed, and where it learns on another; None where its builder rejects the change.

    Args:
        recipe: what is changed.
        candidate: how.
        train: diagnoses a changed recipe.
        tell: is told of each training before it begins, and why there is none.
    """
    trainings: list[Training] = []
    diagnoses: list[Diagnosis] = []
    for seed in (recipe.train.seed, (recipe.train.seed + 1) % 2**63):
        tell(f"trying {candidate}, seed {seed}")
        try:
            diagnoses.append(train(change_recipe(recipe, {**candidate.changes, "train.seed": seed})))
        except RecipeError as error:
            tell(f"left out: {error}")
            return None
        trainings.append(judge(diagnoses[-1], seed))
        if trainings[-1].outcome != "learns":
            break
    return Trial(candidate, tuple(trainings), diagnoses[0])


def candidates(recipe: Recipe, base: Candidate, found: Diagnosis) -> list[Candidate]:
    """What a diagnosis advises, each beside what is changed already; what costs nothing comes first.

    Where it has no verdict, a better learning rate stands before its warnings' remedies, and what mostly helps behind.

    Args:
        recipe: as it was in the beginning.
        base: how it was changed before it was diagnosed.
        found: the diagnosis.
    """
    before = flat(recipe.model_dump())
    now = {**before, **base.changes}
    offered: list[Candidate] = []
    advised = [remedy for finding in found.findings for remedy in finding.remedies]
    if found.healthy:
        advised = [*_another_rate(found, now), *advised, *_usual(found, now)]
    for remedy in advised:
        words, changes = _measured(remedy, found, now, before)
        changes = {key: value for key, value in changes.items() if now.get(key) != value}
        more = base.and_also(words, changes)
        if changes and any(before.get(key) != value for key, value in more.changes.items()):
            offered.append(more)
    return sorted(offered, key=lambda candidate: bool(candidate.changes.keys() & ADDS_WORK))


def judge(found: Diagnosis, seed: int) -> Training:
    """What a short training came to."""
    gate = the_rules().gate
    loss, accuracy = found.at_the_end
    outcome: Outcome = "stays at chance"
    if not math.isfinite(loss):
        outcome = "diverges"
    elif loss <= LEARNT_SHARE * found.chance.loss:
        outcome = "learns"
    elif loss < gate.loss_share * found.chance.loss:
        outcome = "leaves chance"
    return Training(seed, found.steps, loss, accuracy, outcome)


def _measured(
    remedy: Advice, found: Diagnosis, now: Mapping[str, Any], before: Mapping[str, Any]
) -> tuple[str, dict[str, Value]]:
    """A remedy in words and keys, with a learning rate that the figures ask for."""
    changes = dict(remedy.changes)
    if RATE not in changes:
        return remedy.words, changes
    factor = the_rules().remedies[remedy.name].times[RATE]
    changes[RATE] = float(f"{_better_rate(factor, found, now, before):.6g}")
    return f"a learning rate of {changes[RATE]:g}", changes


def _better_rate(factor: float, found: Diagnosis, now: Mapping[str, Any], before: Mapping[str, Any]) -> float:
    """A rate below or above the one now, as the factor is: about one at which the first step is healthy."""
    rate, first = float(now[RATE]), float(before[RATE])
    if (first - rate) * (factor - 1) > 0:
        # Back towards the rate it had, which was wrong too: between the two.
        return math.sqrt(first * rate)
    if _uses_adam(now) and (ADAMS_RATE - rate) * (factor - 1) > 0:
        return ADAMS_RATE
    powers = math.log(HEALTHY_STEP / _first_step(found, now)) / math.log(factor)
    return float(rate * factor ** max(1, round(powers)))


def _uses_adam(now: Mapping[str, Any]) -> bool:
    return now["train.optimizer.name"] in ADAMS


def _another_rate(found: Diagnosis, now: Mapping[str, Any]) -> Iterator[Advice]:
    """Up or down, to a rate whose first step is healthy; Adam's own default is left as it is."""
    too_large = now[RATE] > ADAMS_RATE if _uses_adam(now) else _first_step(found, now) > HEALTHY_STEP
    if not _uses_adam(now) or now[RATE] != ADAMS_RATE:
        yield _advice("lower_rate" if too_large else "higher_rate", now)


def _usual(found: Diagnosis, now: Mapping[str, Any]) -> Iterator[Advice]:
    """What helps most networks, and is no change for the worse of this one."""
    for name in WITHOUT_A_CAUSE:
        unless = the_rules().remedies[name].unless
        has_it = unless is not None and found.architecture.has(unless)
        if not has_it and (name != "less_dropout" or now.get("dropout", 0) > the_rules().remedies[name].set["dropout"]):
            yield _advice(name, now)


def _advice(name: str, now: Mapping[str, Any]) -> Advice:
    remedy = the_rules().remedies[name]
    return Advice(name, remedy.words, remedy.solution, remedy.changes({RATE: now[RATE]}))


def _first_step(found: Diagnosis, now: Mapping[str, Any]) -> float:
    """The largest change of a layer over its weights at the first step, as it were without a warm-up.

    That is taken with the initial weights, before it can have done any harm; beside weights of zero it says nothing.
    """
    steps = [value for value in found.signals[0].update_over_weight if value and value <= FROM_ZERO]
    share = now["train.warm_up.factor"] if now["train.warm_up.steps"] else 1.0
    return max(steps) / share if steps else HEALTHY_STEP


def _additions(recipe: Recipe, trial: Trial, found: Diagnosis) -> list[Candidate]:
    """What to change besides: what the changed network's own diagnosis says.

    Where that has no verdict the change helps, if slowly: it is kept, beside another remedy of the first diagnosis.
    """
    if not trial.found.healthy:
        return candidates(recipe, trial.candidate, trial.found)
    kept = trial.candidate.changes.items()
    return [more for more in candidates(recipe, trial.candidate, found) if kept <= more.changes.items()]


def _promise(trial: Trial, found: Diagnosis) -> tuple[int, float]:
    """The lower, the sooner something is added to it: it left chance, or it removed the first cause, or neither."""
    if trial.trainings[0].outcome in ("learns", "leaves chance"):
        return 0, trial.loss
    causes = {finding.rule for finding in trial.found.findings}
    return (2 if found.findings and found.findings[0].rule in causes else 1), 0.0
