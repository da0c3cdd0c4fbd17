"""From truths and diagnoses to balanced accuracy, causes and confusions."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.diagnosis.networks import NETWORKS, Network

# What the findings may be called where a network was built to fail in this way.
RULES = {
    "sigmoid depth": {"vanishing gradient"},
    "tanh depth": {"vanishing gradient", "weak signal"},
    "relu depth": {"weak signal", "dead ReLUs"},
    "exponential": {"exploding signal", "exploding gradient", "no number"},
    "dead by bias": {"dead from the start", "dead ReLUs"},
    "dead by rate": {"dead ReLUs", "steps too large"},
    "rate too high": {"steps too large", "no number"},
    "rate too low": {"steps too small"},
    "raw pixels": {"input scale"},
    "constant": {"constant initialisation"},
    "labels": {"labels"},
}
MOST_FINDINGS = 2


@dataclass(frozen=True)
class Judged:
    """One network: what is true of it, and what the diagnosis said."""

    network: Network
    learns: bool
    verdict: bool
    rules: tuple[str, ...]
    warnings: int
    seconds: float

    @property
    def cause_named(self) -> bool | None:
        """Whether one of the first findings of a verdict is the cause; None where there is none by construction."""
        if self.learns or not self.network.fails:
            return None
        return self.verdict and bool(RULES[self.network.family].intersection(self.rules[:MOST_FINDINGS]))


def judge(truths: Iterable[dict[str, Any]], diagnoses: Iterable[dict[str, Any]]) -> list[Judged]:
    """The networks whose truth is known and that were diagnosed."""
    networks = {network.name: network for network in NETWORKS}
    known = {one["name"]: one["truth"] == "learns" for one in truths if one["truth"] in ("learns", "does not learn")}
    return [
        Judged(
            network=networks[one["name"]],
            learns=known[one["name"]],
            verdict=not one["healthy"],
            rules=tuple(finding["rule"] for finding in one["findings"]),
            warnings=sum(finding["severity"] == "warning" for finding in one["findings"]),
            seconds=one["seconds"],
        )
        for one in diagnoses
        if one["name"] in known and one["name"] in networks
    ]


def wilson(right: int, count: int) -> tuple[float, float, float]:
    """A share with its 95 % interval, by Wilson's score."""
    if not count:
        return math.nan, 0.0, 1.0
    z, share = 1.959964, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return share, min(max(0.0, middle - half), share), max(min(1.0, middle + half), share)


def balanced_accuracy(judged: Sequence[Judged]) -> tuple[float, float, float]:
    """The mean of the shares of either kind that are told right, with its 95 % interval.

    The interval puts Wilson's two together by Newcombe's method of variance estimates recovery.
    """
    ill, well = [one for one in judged if not one.learns], [one for one in judged if one.learns]
    found = wilson(sum(one.verdict for one in ill), len(ill))
    quiet = wilson(sum(not one.verdict for one in well), len(well))
    value = (found[0] + quiet[0]) / 2
    below = math.hypot(found[0] - found[1], quiet[0] - quiet[1]) / 2
    above = math.hypot(found[2] - found[0], quiet[2] - quiet[0]) / 2
    return value, max(0.0, value - below), min(1.0, value + above)


def print_table(judged: Sequence[Judged], left_out: Counter[str], trainings: Sequence[float], heading: str) -> None:
    """All figures as Markdown; ``trainings`` are the seconds of those that the truth took."""
    ill, well = [one for one in judged if not one.learns], [one for one in judged if one.learns]
    caused = [one for one in ill if one.cause_named is not None]
    named = wilson(sum(one.cause_named is True for one in caused), len(caused))
    print(f"{heading}: {len(judged)} networks\n")
    print("| truth | verdict | no verdict |")
    print("|---|---|---|")
    for name, kind in (("does not learn", ill), ("learns", well)):
        print(f"| {name} | {sum(one.verdict for one in kind)} | {sum(not one.verdict for one in kind)} |")
    print()
    warned = sum(one.warnings for one in well) / len(well) if well else math.nan
    seconds = [one.seconds for one in judged]
    print(f"- Balanced accuracy {with_interval(balanced_accuracy(judged))}")
    print(f"- Cause among the first {MOST_FINDINGS} findings {with_interval(named)}, of {len(caused)} built to fail")
    print(f"- Warnings per network that learns: {warned:.2f}")
    print(f"- Seconds per diagnosis: median {statistics.median(seconds):.1f}, at most {max(seconds):.1f}")
    print(
        f"- Seconds per training of the truth: median {statistics.median(trainings):.1f}, at most {max(trainings):.1f}"
    )
    print(f"- Left out: {', '.join(f'{count} {why}' for why, count in sorted(left_out.items())) or 'none'}\n")
    print("| family | does not learn | verdicts | cause named | learns | verdicts | warnings |")
    print("|---|---|---|---|---|---|---|")
    for family in RULES:
        here, there = ([one for one in kind if one.network.family == family] for kind in (ill, well))
        known = [one.cause_named for one in here if one.cause_named is not None]
        print(
            f"| {family} | {len(here)} | {sum(one.verdict for one in here)} | {sum(known)} of {len(known)} "
            f"| {len(there)} | {sum(one.verdict for one in there)} | {sum(one.warnings for one in there)} |"
        )
    print("\n| confusion | network | told |")
    print("|---|---|---|")
    for one in judged:
        kind = confusion(one)
        if kind:
            print(f"| {kind} | {one.network.name} | {', '.join(one.rules) or 'nothing'} |")


def confusion(one: Judged) -> str | None:
    """What is wrong with what was told, if anything is."""
    if one.learns == one.verdict:
        return "verdict on a network that learns" if one.learns else "missed"
    return "another cause" if one.cause_named is False else None


def with_interval(figure: tuple[float, float, float]) -> str:
    """A share as one reads it."""
    return f"{figure[0]:.3f} (95 % interval {figure[1]:.3f} to {figure[2]:.3f})"
