"""Findings while a network trains: the rules, held against the run's own events.

What has been seen and told is all in the events, so a resumed run knows it again and tells nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from kerascnn.diagnosis.architecture import Architecture
from kerascnn.diagnosis.findings import Finding, find
from kerascnn.diagnosis.record import Chance, Record
from kerascnn.diagnosis.rules import the_rules
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev


class Watcher:
    """Sees a run's events and says what they mean: at most one warning, one of a relapse, and one verdict."""

    def __init__(self, recipe: Recipe, architecture: Architecture, before: Iterable[ev.Event] = ()) -> None:
        """``before`` are the events of the run so far, without what resumes took back."""
        self._recipe = recipe
        self._record = Record(
            Chance.of_equal(recipe.classes),
            architecture,
            base_rate=recipe.train.optimizer.learning_rate,
            warm_up_steps=recipe.train.warm_up.steps,
        )
        self._told: set[str] = set()
        for event in before:
            self._take(event)

    def see(self, event: ev.Event) -> list[ev.Found]:
        """What this event adds to what has been told."""
        self._take(event)
        if not isinstance(event, (ev.StepDone, ev.LayerStatistics, ev.RunEnded)):
            return []
        # A risk is told from the layers' figures, when there are any.
        found = find(self._record, warn=isinstance(event, ev.LayerStatistics))[:1]
        return [self._tell(finding) for finding in found if _told_once(finding) not in self._told]

    def _take(self, event: ev.Event) -> None:
        if isinstance(event, ev.Found):
            self._told.add(_told_once(event))
        else:
            self._record.see(event)

    def _tell(self, finding: Finding) -> ev.Found:
        self._told.add(_told_once(finding))
        return finding.for_recipe(self._recipe).to_event()


def _told_once(finding: Finding | ev.Found) -> str:
    """What a run says of this kind only once."""
    relapse = the_rules().is_of_relapse(finding.rule)
    return "relapse" if relapse and finding.severity == "warning" else finding.severity
