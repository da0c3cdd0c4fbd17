"""What a diagnosis found. Importing this module imports no Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kerascnn.diagnosis.architecture import Architecture
from kerascnn.diagnosis.findings import Finding
from kerascnn.diagnosis.record import Chance
from kerascnn.diagnosis.rules import the_rules
from kerascnn.runs import events as ev
from kerascnn.training.overfit import Overfit


@dataclass(frozen=True)
class Diagnosis:
    """What was found, and the figures it rests on.

    ``signals`` are the layers' figures at the steps that were looked at, the first with the weights that the model
    came with; ``losses`` and ``accuracies`` the batch's of each step, ``batch_size`` the images in one.
    """

    findings: tuple[Finding, ...]
    signals: tuple[ev.LayerStatistics, ...]
    batch_size: int
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    chance: Chance
    architecture: Architecture
    label_score: float | None
    warm_up_steps: int = 0
    """Of the learning rate's schedule; they don't count for a verdict."""
    one_batch: Overfit | None = None
    """Whether the untrained network can memorise a few images; None where it learns, and has answered already."""

    @property
    def healthy(self) -> bool:
        """Whether there is no verdict; a warning is a risk, not an illness."""
        return not any(finding.severity == "verdict" for finding in self.findings)

    @property
    def undecided(self) -> bool:
        """Whether the run was too short: the loss is still that of chance, and no cause rules out that it leaves it."""
        gate = the_rules().gate
        loss, accuracy = self.at_the_end
        answers = gate.answers(accuracy, self.chance.accuracy)
        return self.healthy and not answers and loss >= gate.loss_share * self.chance.loss

    @property
    def at_the_end(self) -> tuple[float, float]:
        """Mean loss and accuracy over the last steps, as many as the gate looks at."""
        last = min(the_rules().gate.window, self.steps)
        return sum(self.losses[-last:]) / last, sum(self.accuracies[-last:]) / last

    @property
    def steps_for_a_verdict(self) -> int:
        """How many steps, its warm-up's included, a network at chance must have had for a verdict."""
        return self.warm_up_steps + the_rules().gate.steps_at_chance(self.batch_size, self.chance.classes, spent=True)

    @property
    def steps(self) -> int:
        """How many steps the short run had."""
        return len(self.losses)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, numbers by :func:`kerascnn.runs.events.json_number`."""
        return {
            "healthy": self.healthy,
            "undecided": self.undecided,
            "steps_for_a_verdict": self.steps_for_a_verdict,
            "findings": [finding.to_dict() for finding in self.findings],
            "steps": self.steps,
            "batch_size": self.batch_size,
            "losses": [ev.json_number(value) for value in self.losses],
            "accuracies": list(self.accuracies),
            "chance": {"loss": self.chance.loss, "accuracy": self.chance.accuracy},
            "input": {
                "mean": ev.json_number(self.architecture.input_mean),
                "deviation": ev.json_number(self.architecture.input_deviation),
            },
            "label_score": None if self.label_score is None else ev.json_number(self.label_score),
            "one_batch": None if self.one_batch is None else _one_batch_of(self.one_batch),
            "signals": [look.model_dump(mode="json", exclude={"kind", "time"}) for look in self.signals],
        }


def _one_batch_of(found: Overfit) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "images": found.images,
        "steps": found.steps,
        "loss": ev.json_number(found.loss),
        "accuracy": found.accuracy,
    }
