"""The benchmark of the diagnosis: its split, what counts as learning, and its scores. Nothing is trained here."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.diagnosis.__main__ import chosen_networks, current, read_records, work_through
from benchmarks.diagnosis.networks import NETWORKS, Network
from benchmarks.diagnosis.scores import RULES, Judged, balanced_accuracy, confusion, judge, print_table, wilson
from benchmarks.diagnosis.training import BUDGET, agreed, outcome, rules_fingerprint
from benchmarks.overhead import Alternating, EnoughError, Pair, interval
from kerascnn.diagnosis.rules import the_rules

FAILING = Network("labels", fails=True, labels="shuffled")
LEARNING = Network("labels", fails=False, labels="0.3 noise")


def judged(network: Network = FAILING, *, learns: bool, verdict: bool, rules: tuple[str, ...] = ()) -> Judged:
    return Judged(network, learns, verdict, rules, warnings=0, seconds=1.0)


def test_each_family_has_networks_of_both_kinds_in_both_parts() -> None:
    assert len({network.name for network in NETWORKS}) == len(NETWORKS) >= 66
    assert {network.family for network in NETWORKS} == set(RULES)
    kinds = Counter((network.family, network.fails, network.part) for network in NETWORKS)
    assert len(kinds) == len(RULES) * 2 * 2
    assert min(Counter(network.part for network in NETWORKS).values()) >= 30


def test_what_was_once_held_out_stays_so() -> None:
    """A part follows from the name alone, and the name from what differs from the defaults."""
    assert FAILING.name == "labels: labels=shuffled"
    assert Network("labels", fails=False, labels="shuffled").part == FAILING.part
    parts = {network.name: network.part for network in NETWORKS}
    first = {
        "sigmoid depth: depth=6, activation=hard_sigmoid": "calibration",
        "tanh depth: depth=8, activation=tanh, scaling=standardize": "calibration",
        "rate too high: activation=elu, initializer=he_normal, optimizer=momentum, rate=1.0": "calibration",
        "labels: activation=tanh, initializer=he_normal, labels=shifted": "held-out",
        "relu depth: depth=16, norm=batch": "held-out",
        "raw pixels: data=cifar, activation=tanh, scaling=raw, rate=0.01": "held-out",
    }
    assert {name: parts[name] for name in first} == first


def test_causes_are_rules_that_there_are() -> None:
    assert set().union(*RULES.values()) <= {rule.name for rule in the_rules().rules}


@pytest.mark.parametrize(
    ("loss", "accuracy", "expected"),
    [
        (1.5, 0.4, "learns"),
        (2.06, 0.21, "learns"),
        (2.06, 0.19, "in between"),
        (2.2, 0.16, "in between"),
        (2.30, 0.11, "does not learn"),
        (9.0, 0.1, "does not learn"),
        (9.0, 0.3, "in between"),
        (math.nan, 0.4, "does not learn"),
    ],
)
def test_what_a_training_says(loss: float, accuracy: float, expected: str) -> None:
    assert outcome(loss, accuracy, chance=math.log(10), share=0.1) == expected


def test_truth_needs_all_seeds() -> None:
    assert agreed(["learns", "learns"]) == "learns"
    assert agreed(["does not learn", "does not learn"]) == "does not learn"
    assert agreed(["learns", "does not learn"]) == "seeds disagree"
    assert agreed(["learns", "in between"]) == "in between"


def test_wilsons_interval() -> None:
    """Against the values of Newcombe (1998), table I, method 3."""
    assert wilson(81, 263) == pytest.approx((0.3080, 0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.1014, 0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.0, 0.1611), abs=1e-4)
    assert wilson(29, 29) == pytest.approx((1.0, 0.8830, 1.0), abs=1e-4)


def test_balanced_accuracy_counts_both_kinds_alike() -> None:
    ill = [judged(learns=False, verdict=number < 6) for number in range(10)]
    well = [judged(LEARNING, learns=True, verdict=False) for _ in range(40)]
    value, low, high = balanced_accuracy([*ill, *well])
    assert value == pytest.approx(0.8)
    assert 0.5 < low < value < high < 1
    always = [Judged(one.network, one.learns, True, (), 0, 1.0) for one in (*ill, *well)]
    assert balanced_accuracy(always)[0] == pytest.approx(0.5)
    right, low, high = balanced_accuracy([one for one in (*ill[:6], *well) if one.learns is not one.verdict])
    assert right == high == 1
    assert 0.75 < low < 0.85


def test_a_cause_is_among_the_first_two_of_a_verdict() -> None:
    assert judged(learns=False, verdict=True, rules=("labels",)).cause_named is True
    assert judged(learns=False, verdict=True, rules=("dead ReLUs", "labels")).cause_named is True
    assert judged(learns=False, verdict=True, rules=("a", "b", "labels")).cause_named is False
    # A warning with the right name is no verdict.
    assert judged(learns=False, verdict=False, rules=("labels",)).cause_named is False
    assert judged(learns=True, verdict=True, rules=("labels",)).cause_named is None
    # It wasn't built to fail, so what made it fail isn't known.
    assert judged(LEARNING, learns=False, verdict=True, rules=("labels",)).cause_named is None


def test_confusions() -> None:
    assert confusion(judged(learns=False, verdict=True, rules=("labels",))) is None
    assert confusion(judged(learns=False, verdict=True, rules=("dead ReLUs",))) == "another cause"
    assert confusion(judged(learns=False, verdict=False)) == "missed"
    assert confusion(judged(LEARNING, learns=True, verdict=True)) == "verdict on a network that learns"
    assert confusion(judged(LEARNING, learns=True, verdict=False)) is None


def record(network: Network, *findings: tuple[str, str]) -> dict[str, Any]:
    told = [{"rule": rule, "severity": severity} for severity, rule in findings]
    healthy = not any(severity == "verdict" for severity, _ in findings)
    return {"name": network.name, "healthy": healthy, "findings": told, "seconds": 2.0}


def test_only_networks_of_known_truth_are_judged_and_the_table_tells_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ill, well, unknown = [one for one in NETWORKS if one.fails][:1] + [one for one in NETWORKS if not one.fails][:2]
    cause = min(RULES[ill.family])
    truths = [
        {"name": ill.name, "truth": "does not learn"},
        {"name": well.name, "truth": "learns"},
        {"name": unknown.name, "truth": "seeds disagree"},
    ]
    told = [record(ill, ("verdict", cause)), record(well, ("warning", "weak signal")), record(unknown)]
    found = judge(truths, told)
    assert [(one.network, one.learns, one.verdict, one.warnings) for one in found] == [
        (ill, False, True, 0),
        (well, True, False, 1),
    ]
    print_table(found, Counter(["seeds disagree"]), [1.0, 3.0], "calibration")
    printed = capsys.readouterr().out
    assert "| does not learn | 1 | 0 |" in printed
    assert "| learns | 0 | 1 |" in printed
    assert "Balanced accuracy 1.000" in printed
    assert "Seconds per training of the truth: median 2.0, at most 3.0" in printed
    assert "Left out: 1 seeds disagree" in printed
    assert f"| {ill.family} | 1 | 1 | 1 of 1 |" in printed
    print_table(judge(truths, [record(ill), record(well, ("verdict", "labels"))]), Counter(), [1.0], "calibration")
    printed = capsys.readouterr().out
    assert f"| missed | {ill.name} | nothing |" in printed
    assert f"| verdict on a network that learns | {well.name} | labels |" in printed


def test_a_list_goes_on_after_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "truth-torch.jsonl"
    file.write_text(json.dumps({"name": "one"}) + '\n{"name": "tw', encoding="utf-8")
    assert [one["name"] for one in read_records(file)] == ["one"]
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps({"name": "two"}) + "\n")
    assert [one["name"] for one in read_records(file)] == ["one", "two"]
    assert list(read_records(tmp_path / "none.jsonl")) == []


def test_records_of_another_budget_other_rules_or_a_network_that_went_are_not_current() -> None:
    name, rules = NETWORKS[0].name, rules_fingerprint()
    kept: list[dict[str, Any]] = [{"name": name, "budget": BUDGET}, {"name": name, "rules": rules}]
    gone = [{"name": "gone"}, {"name": name, "budget": BUDGET + 1}, {"name": name, "rules": "others"}]
    assert current([*gone, *kept]) == kept


def test_only_what_has_no_record_is_found_and_only_what_is_known_is_diagnosed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each network's own process is replaced: it would train."""
    asked = Namespace(what="truth", part="calibration", backend="torch", out=tmp_path, data_dir=None, jobs=1)
    networks = chosen_networks(asked)
    truths = ["learns", "does not learn", "in between", "seeds disagree"]
    started: list[str] = []

    def process(network: Network, asked: Namespace) -> dict[str, Any] | None:
        started.append(network.name)
        place = networks.index(network)
        if place == 5:
            return None
        if asked.what == "evaluate":
            return {**record(network), "part": network.part, "steps": 200, "loss": "2.0", "rules": rules_fingerprint()}
        return {"name": network.name, "part": network.part, "truth": truths[place % 4], "curves": [], "seconds": []}

    monkeypatch.setattr("benchmarks.diagnosis.__main__.in_a_process", process)
    assert work_through(asked) == 1
    assert started == [network.name for network in networks]
    started.clear()
    assert work_through(asked) == 1
    assert started == [networks[5].name]
    started.clear()
    asked.what = "evaluate"
    assert work_through(asked) == 0
    known = [place for place in range(len(networks)) if place % 4 < 2 and place != 5]
    assert started == [networks[place].name for place in known]
    started.clear()
    monkeypatch.setattr("benchmarks.diagnosis.__main__.rules_fingerprint", lambda: "of other rules")
    assert work_through(asked) == 0
    assert len(started) == len(known)


def test_without_cifar_its_networks_are_left_out() -> None:
    chosen = [chosen_networks(Namespace(what="truth", part="held-out", data_dir=folder)) for folder in (None, Path())]
    assert {network.data for network in chosen[0]} == {"fashion"}
    assert {network.data for network in chosen[1]} == {"fashion", "cifar"}
    assert {network.part for network in chosen[1]} == {"held-out"}


class Trained:
    """A training by a clock of its own: a step takes a second, a look another half, a validation a hundred."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pairs: int, *, validate_every: int) -> None:
        self.now = self.looked_at = 0.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)
        self.alternating = Alternating(block=4, pairs=pairs)
        self.alternating.observer = self  # type: ignore[assignment]
        self._validate_every = validate_every

    def wants(self, step: int) -> bool:
        """An observer's: a look whenever ten seconds with observation have passed."""
        return self.alternating.clock() - self.looked_at >= 10.0

    def after_step(self, step: int, gradient_norms: Any) -> Any:
        self.looked_at = self.alternating.clock()

    def run(self) -> None:
        for step in range(1, 10_000):
            if self.alternating.wants(step):
                assert self.alternating.on
                self.now += 0.5
                self.alternating.after_step(step, None)
            self.now += 1.0
            if step % self._validate_every == 0:
                self.alternating.leave_out()
                self.now += 100.0


def trained(monkeypatch: pytest.MonkeyPatch, pairs: int, *, validate_every: int = 10_000) -> list[Pair]:
    training = Trained(monkeypatch, pairs, validate_every=validate_every)
    with pytest.raises(EnoughError):
        training.run()
    assert len(training.alternating.pairs) == pairs
    return training.alternating.pairs


def test_pairs_have_as_many_looks_for_their_time_as_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look in ten seconds, and no time of it with those steps that have none."""
    pairs = trained(monkeypatch, 12)
    assert all(pair.steps[False] == pair.seconds[False] == pair.steps[True] for pair in pairs)
    steps = sum(pair.steps[True] for pair in pairs)
    assert sum(pair.seconds[True] for pair in pairs) == pytest.approx(steps + 0.5 * 12)
    assert 10 <= steps / 12 <= 11
    mean, low, high = interval([pair.ratio for pair in pairs])
    assert low <= mean <= high
    assert mean == pytest.approx(1.05, abs=0.005)


def test_a_validation_is_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for pair in trained(monkeypatch, 3, validate_every=5):
        assert pair.seconds[False] == pair.steps[False]
        assert pair.seconds[True] <= pair.steps[True] + 0.5
