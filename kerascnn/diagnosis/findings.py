"""From a record and the rules to findings: a warning at the start, verdicts once the gate opens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from kerascnn.diagnosis.architecture import Architecture
from kerascnn.diagnosis.measures import MEASURES, Measured
from kerascnn.diagnosis.record import Record, Window
from kerascnn.diagnosis.rules import Condition, Gate, Remedy, Rule, Rules, as_options, the_rules
from kerascnn.recipe import Recipe, known_keys
from kerascnn.runs import events as ev

# A verdict names its likeliest cause and the next one; more would be a list of everything.
MOST_CAUSES = 2
MOST_REMEDIES = 4
UNKNOWN_REMEDIES = ("lower_rate", "higher_rate", "batch_norm", "he")


@dataclass(frozen=True)
class Evidence:
    """A figure that a finding rests on."""

    measure: str
    value: float
    step: int
    layer: str | None = None


@dataclass(frozen=True)
class Advice:
    """A remedy for one network: in words, and as changes of its recipe where it has one."""

    name: str
    words: str
    solution: int | None
    changes: Mapping[str, str | float]

    def __str__(self) -> str:
        solution = f" (solution {self.solution})" if self.solution else ""
        options = f": {as_options(self.changes)}" if self.changes else ""
        return f"{self.words}{solution}{options}"


@dataclass(frozen=True)
class Finding:
    """Why a network doesn't learn, or may not: ``rule`` names the cause, ``cause`` tells it with its figures."""

    severity: Literal["warning", "verdict"]
    rule: str
    symptom: str
    layer: str | None
    step: int
    cause: str
    evidence: tuple[Evidence, ...]
    remedies: tuple[Advice, ...]

    def for_recipe(self, recipe: Recipe | None) -> Finding:
        """The finding with those changes of a recipe that this one has keys for; without a recipe, none."""
        known = set(known_keys(type(recipe))) if recipe is not None else set()
        remedies = tuple(one if known.issuperset(one.changes) else replace(one, changes={}) for one in self.remedies)
        return replace(self, remedies=remedies)

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain values, numbers by :func:`kerascnn.runs.events.json_number`."""
        return {
            **asdict(self),
            "evidence": [{**asdict(one), "value": ev.json_number(one.value)} for one in self.evidence],
            "remedies": [
                {"name": one.name, "words": one.words, "solution": one.solution, "changes": dict(one.changes)}
                for one in self.remedies
            ],
        }

    def to_event(self) -> ev.Found:
        """The finding as a run tells it."""
        return ev.Found(
            severity=self.severity,
            rule=self.rule,
            symptom=self.symptom,
            layer=self.layer,
            step=self.step,
            cause=self.cause,
            remedies=tuple(str(remedy) for remedy in self.remedies),
            evidence={one.measure: one.value for one in self.evidence},
        )


def find(record: Record, *, warn: bool = True) -> list[Finding]:
    """What the figures say now, the likeliest first: verdicts if the gate opens, else at most one warning."""
    rules = the_rules()
    stuck = _stuck(record, rules.gate)
    if stuck is None:
        risks = (_warning(rule, record, rules) for rule in rules.rules if rule.warns)
        return [risk for risk in risks if risk is not None][:1] if warn else []
    causes, may_heal = _causes(record, rules, stuck)
    if may_heal and not causes:
        return may_heal[:1] if warn else []
    return causes[:MOST_CAUSES] or [_unknown(record, rules, stuck)]


def _causes(record: Record, rules: Rules, stuck: tuple[Evidence, ...]) -> tuple[list[Finding], list[Finding]]:
    """Verdicts with their causes, and warnings of what may still heal, each the likeliest first."""
    has_relapsed = _has_relapsed(record, rules)
    causes: dict[str, Finding] = {}
    may_heal: list[Finding] = []
    for rule in rules.rules:
        # Several rules may tell of one cause by different figures.
        if not rule.explains or rule.name in causes:
            continue
        if (has_relapsed and rule.overcome) or (may_heal and rule.yields):
            continue
        if _may_still_heal(rule, record, rules.gate):
            warning = _warning(rule, record, rules)
            may_heal += [warning] if warning is not None else []
        elif (cause := _finding(rule, record, rules, stuck)) is not None:
            causes[rule.name] = cause
    return list(causes.values()), may_heal


def _has_relapsed(record: Record, rules: Rules) -> bool:
    """Whether the network had left chance before it came to be stuck."""
    return any(rule.relapse and _warning(rule, record, rules) is not None for rule in rules.rules)


def _may_still_heal(rule: Rule, record: Record, gate: Gate) -> bool:
    return rule.heals and record.epochs < gate.patience


def _stuck(record: Record, gate: Gate) -> tuple[Evidence, ...] | None:
    """The figures of a network that doesn't learn; None where it learns, or where it is too early to say."""
    if record.diverged:
        return (Evidence("loss", math.nan, record.step), Evidence("loss at chance", record.chance.loss, record.step))
    if record.settled_steps < gate.least_steps(spent=record.spent):
        return None
    window = record.window(min(gate.window, max(1, record.step // 2)))
    if window is None or not (_at_chance(window, record, gate) or _worse_than_chance(window, record, gate)):
        return None
    return (
        Evidence("loss", window.loss, window.step),
        Evidence("loss at chance", record.chance.loss, window.step),
        Evidence("accuracy", window.accuracy, window.step),
        Evidence("accuracy at chance", record.chance.accuracy, window.step),
    )


def _at_chance(window: Window, record: Record, gate: Gate) -> bool:
    if record.settled_steps < gate.steps_at_chance(record.batch_size, record.chance.classes, spent=record.spent):
        return False
    share = record.chance.accuracy
    deviation = math.sqrt(share * (1 - share) / window.images)
    # Where nothing can be learnt of the labels, more right answers are some that were memorised.
    memorised = record.label_score is not None and record.label_score < gate.deviations
    learns_nothing = memorised or window.accuracy <= share + gate.deviations * deviation
    return learns_nothing and window.loss >= gate.loss_share * record.chance.loss


def _worse_than_chance(window: Window, record: Record, gate: Gate) -> bool:
    times_chance = window.loss / record.chance.loss
    if gate.answers(window.accuracy, record.chance.accuracy):
        return False
    wrong = window.accuracy <= gate.worse_accuracy * record.chance.accuracy
    return times_chance > gate.enormous_loss or (wrong and times_chance > gate.worse_loss)


def _warning(rule: Rule, record: Record, rules: Rules) -> Finding | None:
    """The rule's finding, where all its conditions hold, as a risk."""
    return _finding(rule, record, rules, ())


def _finding(rule: Rule, record: Record, rules: Rules, stuck: tuple[Evidence, ...]) -> Finding | None:
    """The rule's finding where all its conditions hold; beside ``stuck`` it is a verdict's cause."""
    architecture = record.architecture
    if rule.activations and architecture.activation not in rule.activations:
        return None
    measured = [(condition, _measure(condition, record)) for condition in rule.when]
    if any(found is None for _, found in measured):
        return None
    links = [(link, found) for link in rule.chain if (found := _measure(link, record)) is not None]
    first = measured[0][1]
    assert first is not None
    told = [_in_words(rule.cause, first, record)] + [_in_words(link.words, found, record) for link, found in links]
    seen = [(c.measure, m) for c, m in measured if m is not None] + [(link.measure, m) for link, m in links]
    return Finding(
        severity="verdict" if stuck else "warning",
        rule=rule.name,
        symptom=_what_is_wrong(rules.gate, record) if stuck else rule.symptom,
        layer=first.layer,
        step=record.step,
        cause="; ".join(told),
        evidence=(*stuck, *(Evidence(name, one.value, one.step, one.layer) for name, one in seen)),
        remedies=tuple(_advice(rule.remedies, rules, record)),
    )


def _unknown(record: Record, rules: Rules, stuck: tuple[Evidence, ...]) -> Finding:
    return Finding(
        severity="verdict",
        rule="unknown",
        symptom=_what_is_wrong(rules.gate, record),
        layer=None,
        step=record.step,
        cause=rules.gate.unknown,
        evidence=stuck,
        remedies=tuple(_advice(UNKNOWN_REMEDIES, rules, record)),
    )


def _what_is_wrong(gate: Gate, record: Record) -> str:
    return gate.diverged if record.diverged else gate.symptom


def _measure(condition: Condition, record: Record) -> Measured | None:
    """The figure of a condition that holds."""
    measured = MEASURES[condition.measure](record)
    return measured if measured is not None and condition.holds(measured.value) else None


def _in_words(text: str, measured: Measured, record: Record) -> str:
    return text.format(
        value=measured.value,
        layer=measured.layer or "the network",
        step=measured.step,
        activation=record.architecture.activation,
        initializer=record.architecture.initializer,
        rate=f" (learning rate {record.learning_rate:g})" if record.learning_rate > 0 else "",
    )


def _advice(names: tuple[str, ...], rules: Rules, record: Record) -> Iterator[Advice]:
    """The remedies that the network doesn't have already, as many as one reads."""
    offered = [name for name in names if _is_new(rules.remedies[name], record.architecture)]
    rates = {"train.optimizer.learning_rate": record.base_rate}
    for name in offered[:MOST_REMEDIES]:
        remedy = rules.remedies[name]
        yield Advice(name, remedy.words, remedy.solution, remedy.changes(rates))


def _is_new(remedy: Remedy, architecture: Architecture) -> bool:
    return remedy.unless is None or not architecture.has(remedy.unless)
