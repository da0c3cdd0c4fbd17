"""The argument as data: steps with their claims, budgets, and the rule that decides, out of ``argument.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kerascnn.errors import UnknownNameError, nearest

ClaimKind = Literal["learns", "does not learn", "reaches", "none"]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Claim(_Data):
    """What the lecture says of a network. ``train`` and ``val`` are the accuracies, from 0 to 1, that it reaches."""

    kind: ClaimKind
    words: str
    train: float | None = None
    val: float | None = None


class Step(_Data):
    """One step of the argument: a network of models.toml with the lecture's claim.

    ``changes`` says what it changes in ``changes_step``; ``why`` gives the reason in our words.
    """

    id: str
    model: str
    network: str
    changes: str
    changes_step: str | None = None
    claim: Claim
    why: str


class Budget(_Data):
    """What each network may cost.

    Without ``steps`` a run has the epochs of its recipe, without ``batch_size`` its batch. ``refutes`` says whether a
    network that is still at chance when the budget is spent contradicts the claim that it learns, ``confirms`` whether
    it bears out the claim that it does not.
    """

    summary: str
    batch_size: int | None = None
    steps: int | None = None
    val_images: int | None = None
    ends_when_learnt: bool
    refutes: bool
    confirms: bool = True

    def with_steps(self, steps: int) -> Budget:
        """With another number of steps: it refutes nothing, and confirms nothing in fewer than the form's own.

        Epochs are a length that no number of steps is known to come to.
        """
        as_long = self.steps is not None and steps >= self.steps
        return self.model_copy(update={"steps": steps, "refutes": False, "confirms": as_long})


class Rule(_Data):
    """What counts as learning: the mean training loss over ``window`` steps, as a share of ln C."""

    window: int = Field(ge=1)
    learns_at: float = Field(gt=0, lt=1)
    chance_above: float = Field(gt=0, lt=1)
    tolerance: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _a_gap_between(self) -> Rule:
        if self.learns_at >= self.chance_above:
            raise ValueError("expected learns_at below chance_above: what lies between is undecided")
        return self


class Argument(_Data):
    """All of ``argument.toml``."""

    rule: Rule
    budgets: dict[str, Budget]
    steps: tuple[Step, ...]

    def compared_with(self, step: Step) -> Step | None:
        """The step that this one is a change to; None for the first."""
        return next((one for one in self.steps if one.id == step.changes_step), None)

    def chosen(self, ids: Sequence[str]) -> list[Step]:
        """The steps with these ids, in the argument's order; all where none is named.

        Raises:
            UnknownNameError: there is no such step.
        """
        known = [step.id for step in self.steps]
        for name in ids:
            if name not in known:
                raise UnknownNameError(f"no step {name!r}: expected {', '.join(known)}{nearest(name, known)}")
        return [step for step in self.steps if not ids or step.id in ids]


@cache
def the_argument() -> Argument:
    """The lecture's argument."""
    text = (Path(__file__).parent / "argument.toml").read_text(encoding="utf-8")
    return Argument.model_validate(tomllib.loads(text))
