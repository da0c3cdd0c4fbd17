"""The rules as data, out of ``rules.toml``: symptoms, thresholds with their sources, causes, remedies."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

Value = str | float


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Condition(_Data):
    """A figure, by its name in :mod:`kerascnn.diagnosis.measures`, with the threshold that it is beyond."""

    measure: str
    above: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _one_threshold(self) -> Condition:
        if (self.above is None) == (self.below is None):
            raise ValueError(f"{self.measure}: expected one of above and below")
        return self

    def holds(self, value: float) -> bool:
        """Whether a value is beyond the threshold; NaN never is."""
        return value > self.above if self.above is not None else self.below is not None and value < self.below


class Link(Condition):
    """One link of a chain of causes, with its words."""

    words: str


class Rule(_Data):
    """What a symptom is known by, what it is caused by, and what helps."""

    name: str
    """Of the cause. Rules of one name tell of it by different figures; the first that holds is told."""
    symptom: str
    """What a warning says of the network; a verdict says what the gate has seen."""
    when: tuple[Condition, ...] = Field(min_length=1)
    """All of these figures must be beyond their thresholds. The first one's layer is the finding's."""
    activations: tuple[str, ...] = ()
    """Holds only for networks with one of these; for all where none is named."""
    cause: str
    """In words: {value}, {layer} and {step} are those of the first figure; {activation}, {initializer} and {rate} the
    network's."""
    source: str
    """Where the threshold comes from."""
    warns: bool = False
    """Told before the gate opens, from the first step on, as a risk."""
    explains: bool = False
    """Told as the cause once the gate says that nothing is learnt."""
    heals: bool = False
    """A network with this may leave chance by itself, if late: for the gate's ``patience`` it is only a warning."""
    yields: bool = False
    """Isn't told where a rule before it holds that ``heals`` and may still do so."""
    relapse: bool = False
    """Holds where the network had been below the gate's ``loss_share`` of chance: one that is stuck has come back."""
    overcome: bool = False
    """Isn't the cause where a rule of ``relapse`` holds: a network that leaves chance has overcome this."""
    chain: tuple[Link, ...] = ()
    """What else belongs to the cause, told in this order where it holds."""
    remedies: tuple[str, ...]
    """By their names in the table, the best first."""


class Remedy(_Data):
    """What helps, in words and as changes of a recipe. ``solution`` is its number in the lecture."""

    words: str
    solution: int | None = None
    set: dict[str, Value] = {}
    times: dict[str, float] = {}
    unless: str | None = None

    def changes(self, numbers: Mapping[str, float]) -> dict[str, Value]:
        """The recipe's keys with their new values. ``numbers`` are the old ones of the keys in ``times``, if known."""
        known = {key: numbers.get(key, 0.0) for key in self.times}
        return {**self.set, **{key: float(f"{old * self.times[key]:.6g}") for key, old in known.items() if old > 0}}


def as_options(changes: Mapping[str, Value]) -> str:
    """Changes of a recipe as a command takes them."""
    return " ".join(
        f"--set {key}={value if isinstance(value, str) else f'{value:g}'}" for key, value in changes.items()
    )


class Gate(_Data):
    """When a network counts as not learning."""

    symptom: str
    diverged: str
    window: int = Field(gt=0)
    warm_up: int = Field(ge=0)
    patience: int = Field(gt=0)
    fewest: int = Field(ge=0)
    images_a_class: int = Field(ge=0)
    fewest_images_a_class: int = Field(ge=0)
    loss_share: float = Field(gt=0, le=1)
    learnt_share: float = Field(gt=0, le=1)
    steady_step: float = Field(gt=0)
    deviations: float = Field(gt=0)
    worse_loss: float = Field(gt=1)
    worse_accuracy: float = Field(ge=1)
    enormous_loss: float = Field(gt=1)
    answered_share: float = Field(gt=0, lt=1)
    source: str
    unknown: str

    def steps_at_chance(self, batch_size: int, classes: int, *, spent: bool) -> int:
        """How many steps at the full learning rate a network must have been given before it counts as stuck at chance.

        ``spent``: the budget is, so that this has to do.
        """
        images = self.fewest_images_a_class if spent else self.images_a_class
        return max(self.least_steps(spent=spent), math.ceil(images * classes / batch_size))

    def least_steps(self, *, spent: bool) -> int:
        """How many steps at the full learning rate it takes for any verdict but that of a loss that is no number."""
        return self.fewest if spent else self.warm_up

    def answers(self, accuracy: float, at_chance: float) -> bool:
        """Whether so much is right that a network learns, whatever its loss is."""
        return accuracy - at_chance > self.answered_share * (1 - at_chance)


class Rules(_Data):
    """All of ``rules.toml``."""

    gate: Gate
    rules: tuple[Rule, ...]
    remedies: dict[str, Remedy]

    def is_of_relapse(self, name: str) -> bool:
        """Whether the rule of this name tells of what was learnt and lost."""
        return any(rule.relapse for rule in self.rules if rule.name == name)

    @model_validator(mode="after")
    def _remedies_are_there(self) -> Rules:
        for rule in self.rules:
            for name in rule.remedies:
                if name not in self.remedies:
                    raise ValueError(f"{rule.name}: expected a remedy out of the table, got {name!r}")
        return self

    @model_validator(mode="after")
    def _a_relapse_is_one_from_beyond_the_gate(self) -> Rules:
        for rule in self.rules:
            if rule.relapse and rule.when[0].below != self.gate.loss_share:
                raise ValueError(f"{rule.name}: expected the gate's {self.gate.loss_share}, got {rule.when[0].below}")
        return self


@cache
def the_rules() -> Rules:
    """The rules that come with kerascnn."""
    text = (Path(__file__).parent / "rules.toml").read_text(encoding="utf-8")
    return Rules.model_validate(tomllib.loads(text))
