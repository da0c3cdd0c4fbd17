"""From repairs to shares of recipes that were brought back, and how far random remedies come."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.diagnosis.recipes import RECIPES, Broken
from benchmarks.diagnosis.scores import wilson, with_interval

RESAMPLES = 10_000


@dataclass(frozen=True)
class Repaired:
    """One fixable recipe: whether an answer brought it back, and the share of random orders that did."""

    broken: Broken
    right: bool
    fix: dict[str, Any]
    steps: int
    random_allowed: float
    random_spent: float
    causes: tuple[str, ...]


def judge_repairs(truths: Iterable[dict[str, Any]], repairs: Iterable[dict[str, Any]]) -> list[Repaired]:
    """The recipes that are known to be broken and fixable, and that were repaired."""
    recipes = {one.name: one for one in RECIPES}
    fixable = {one["name"] for one in truths if is_fixable(one)}
    judged = []
    for one in repairs:
        if one["name"] in fixable and one["name"] in recipes:
            spent = one["diagnosis_steps"] + one["fix"]["steps"]
            right = [draw["truth"] == "learns" for draw in one["random"]]
            in_time = [draw["truth"] == "learns" and draw["steps"] <= spent for draw in one["random"]]
            judged.append(
                Repaired(
                    broken=recipes[one["name"]],
                    right=one["fix"]["truth"] == "learns",
                    fix=one["fix"],
                    steps=spent,
                    random_allowed=statistics.mean(right),
                    random_spent=statistics.mean(in_time),
                    causes=tuple(one["causes"]),
                )
            )
    return judged


def is_fixable(truth: dict[str, Any]) -> bool:
    """Whether a recipe doesn't learn, and does with the change that was written down for it."""
    return truth["truth"] == "does not learn" and truth.get("counterpart") == "learns"


def margin(judged: Sequence[Repaired], rival: Callable[[Repaired], float]) -> tuple[float, float, float]:
    """How much larger the share of right answers is than the rival's, with its 95 % interval.

    The interval is the bootstrap's over recipes, so that a recipe's random orders aren't taken for so many recipes.
    """
    differences = [one.right - rival(one) for one in judged]
    draw = random.Random(0)
    means = sorted(statistics.mean(draw.choices(differences, k=len(differences))) for _ in range(RESAMPLES))
    return statistics.mean(differences), means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES)]


def print_repair_table(truths: Sequence[dict[str, Any]], judged: Sequence[Repaired], heading: str) -> None:
    """All figures as Markdown."""
    count = len(judged)
    right = wilson(sum(one.right for one in judged), count)
    print(f"{heading}: {count} fixable recipes\n")
    print(f"- `--fix` brings back {with_interval(right)}, {sum(one.right for one in judged)} of {count}")
    for words, rival in (
        ("allowed as much", lambda one: one.random_allowed),
        ("spent as much", lambda one: one.random_spent),
    ):
        share = statistics.mean(rival(one) for one in judged)
        # As of so many recipes with one order each: the orders of one recipe say little of another.
        print(f"- Random remedies, {words}: {with_interval((share, *_interval(share, count)))}")
        print(f"- `--fix` is ahead of them by {with_interval(margin(judged, rival))}")
    steps = [one.steps for one in judged]
    print(f"- Steps of diagnosis and trials: median {statistics.median(steps):.0f}, at most {max(steps)}")
    left_out = Counter(why for one in truths if (why := _left_out(one)) is not None)
    print(f"- Left out: {', '.join(f'{many} {why}' for why, many in sorted(left_out.items())) or 'none'}\n")
    print("| family | fixable | `--fix` | random, allowed as much | random, spent as much |")
    print("|---|---|---|---|---|")
    for family in dict.fromkeys(one.family for one in RECIPES):
        here = [one for one in judged if one.broken.family == family]
        rivals = (sum(one.random_allowed for one in here), sum(one.random_spent for one in here))
        print(f"| {family} | {len(here)} | {sum(one.right for one in here)} | {rivals[0]:.1f} | {rivals[1]:.1f} |")
    print("\n| not brought back | told | answer |")
    print("|---|---|---|")
    for one in judged:
        if not one.right:
            answer = f"{one.fix['answer']}, which {one.fix['truth']}" if one.fix["answer"] else "none"
            print(f"| {one.broken.name} | {', '.join(one.causes) or 'nothing'} | {answer} |")


def _interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval of a share that is a mean of shares."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def _left_out(truth: dict[str, Any]) -> str | None:
    if truth["truth"] != "does not learn":
        return {"learns": "not broken"}.get(truth["truth"], truth["truth"])
    return None if is_fixable(truth) else f"whose known change gives “{truth.get('counterpart')}”"
