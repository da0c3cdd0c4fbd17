"""The benchmark of ``--fix``: its recipes, its rival and its scores. Nothing is trained here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.diagnosis.__main__ import chosen_networks, in_brief, work_through
from benchmarks.diagnosis.recipes import RECIPES
from benchmarks.diagnosis.repair_scores import judge_repairs, margin, print_repair_table
from benchmarks.diagnosis.repairing import at_random, random_order, recipe_of, remedies_for, told
from kerascnn.catalog import change_recipe
from kerascnn.diagnosis.repair import MOST_TRAININGS, RATE, Repair
from kerascnn.diagnosis.rules import the_rules
from kerascnn.recipe import Recipe
from tests.test_benchmarks import Namespace
from tests.test_repair import ILL, WELL

pytestmark = pytest.mark.backend


def test_each_family_has_recipes_in_every_part_and_each_is_changed_by_its_counterpart() -> None:
    assert len({one.name for one in RECIPES}) == len(RECIPES) >= 60
    parts = Counter((one.family, one.part) for one in RECIPES)
    assert min(parts.values()) >= 2
    assert len(parts) == 3 * len({one.family for one in RECIPES})
    for one in RECIPES:
        recipe = recipe_of(one)
        assert change_recipe(recipe, one.counterpart) != recipe


def test_random_remedies_are_all_that_change_the_recipe_each_once_and_then_their_pairs() -> None:
    deep = recipe_of(next(one for one in RECIPES if one.family == "sigmoid depth" and one.base == "plain"))
    singles = remedies_for(deep)
    changes = [one.changes for one in singles]
    # Those of `rules.toml` with changes, but for dropout, which this network hasn't, and one that is the same as He's.
    those = [name for name, one in the_rules().remedies.items() if one.changes({RATE: 1e-3})]
    assert len(changes) == len(those) - 3
    assert {"train.scaling": "unit"} not in changes
    assert {RATE: 1e-2} in changes
    order = random_order(deep, 1)
    count = len(singles)
    assert sorted(map(str, order[:count])) == sorted(map(str, singles))
    assert len(order) == count + count * (count - 1) // 2
    assert all(len(pair.remedies) == 2 or len(pair.changes) <= 2 for pair in order[count:])
    assert [str(one) for one in random_order(deep, 1)] == [str(one) for one in order]
    assert [str(one) for one in random_order(deep, 2)[:count]] != [str(one) for one in order[:count]]


def test_the_rival_has_as_many_trainings_and_the_same_rule() -> None:
    deep = recipe_of(RECIPES[0])
    seeds: list[int] = []

    def train(recipe: Recipe) -> Any:
        seeds.append(recipe.train.seed)
        return WELL if recipe.activation == "relu" else ILL

    trials = list(at_random(deep, 0, train))
    assert trials[-1].works
    assert trials[-1].candidate.changes.items() >= {"activation": "relu"}.items()
    assert seeds[-2:] == [3, 4]
    seeds.clear()
    assert not any(trial.works for trial in at_random(deep, 0, lambda recipe: seeds.append(1) or ILL))  # type: ignore[func-returns-value]
    assert len(seeds) == MOST_TRAININGS - 1


def test_an_answer_is_judged_by_training_and_none_is_not() -> None:
    asked: list[Mapping[str, Any]] = []
    trials = tuple(at_random(recipe_of(RECIPES[0]), 0, lambda _: WELL))

    def judge(changes: Mapping[str, Any]) -> str:
        asked.append(changes)
        return "in between"

    answer = told(Repair(trials), judge)
    assert asked == [trials[0].candidate.changes]
    assert (answer["answer"], answer["truth"], answer["steps"]) == (
        str(trials[0].candidate),
        "in between",
        2 * WELL.steps,
    )
    assert told(Repair(()), judge)["truth"] is None
    assert len(asked) == 1


def draw(truth: str | None, steps: int) -> dict[str, Any]:
    return {"answer": None if truth is None else "something", "truth": truth, "steps": steps}


def record(name: str, fix: dict[str, Any], *draws: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "causes": ["dead ReLUs"], "diagnosis_steps": 200, "fix": fix, "random": list(draws)}


def truth(name: str, without: str = "does not learn", counterpart: str | None = "learns") -> dict[str, Any]:
    return {"name": name, "truth": without, **({} if counterpart is None else {"counterpart": counterpart})}


FOUR = [one.name for one in RECIPES[:4]]


def test_only_what_is_broken_and_fixable_counts_and_random_answers_may_come_too_late() -> None:
    truths = [truth(FOUR[0]), truth(FOUR[1]), truth(FOUR[2], "learns", None), truth(FOUR[3], counterpart="in between")]
    late_and_in_time = (draw("learns", 501), draw("learns", 500), draw("in between", 100), draw(None, 100))
    repairs = [record(name, draw("learns", 300), *late_and_in_time) for name in FOUR]
    repairs[1]["fix"] = draw("in between", 300)
    judged = judge_repairs(truths, repairs)
    assert [one.broken.name for one in judged] == FOUR[:2]
    assert [one.right for one in judged] == [True, False]
    assert [(one.random_allowed, one.random_spent) for one in judged] == [(0.5, 0.25)] * 2
    assert judged[0].steps == 500


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    truths = [truth(FOUR[0]), truth(FOUR[1]), truth(FOUR[2], "learns", None), truth(FOUR[3], counterpart="in between")]
    repairs = [record(FOUR[0], draw("learns", 300), draw(None, 9)), record(FOUR[1], draw(None, 2200), draw(None, 9))]
    judged = judge_repairs(truths, repairs)
    print_repair_table(truths, judged, "calibration")
    printed = capsys.readouterr().out
    assert "calibration: 2 fixable recipes" in printed
    assert "`--fix` brings back 0.500 (95 % interval 0.095 to 0.905), 1 of 2" in printed
    assert "Random remedies, spent as much: 0.000 (95 % interval 0.000 to 0.658)" in printed
    assert "ahead of them by 0.500 (95 % interval 0.000 to 1.000)" in printed
    assert "Left out: 1 not broken, 1 whose known change gives “in between”" in printed
    assert f"| {FOUR[1]} | dead ReLUs | none |" in printed
    assert f"| {FOUR[0]} |" not in printed


def test_the_margin_is_over_recipes() -> None:
    judged = judge_repairs(
        [truth(name) for name in FOUR], [record(name, draw("learns", 300), draw(None, 9)) for name in FOUR]
    )
    assert margin(judged, lambda one: one.random_spent) == (1, 1, 1)


def test_only_fixable_recipes_are_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each recipe's own process is replaced: it would train."""
    asked = Namespace(what="repair-truth", part="calibration", backend="torch", out=tmp_path, data_dir=Path(), jobs=1)
    recipes = chosen_networks(asked)
    assert {one.part for one in recipes} == {"calibration"}
    started: list[str] = []

    def process(recipe: Any, asked: Namespace) -> dict[str, Any]:
        started.append(recipe.name)
        if asked.what == "repair":
            return {**record(recipe.name, draw("learns", 300)), "part": recipe.part, "seconds": 1.0}
        known = truth(recipe.name, counterpart="learns" if recipes.index(recipe) % 2 else "does not learn")
        return {**known, "part": recipe.part, "curves": [], "seconds": []}

    monkeypatch.setattr("benchmarks.diagnosis.__main__.in_a_process", process)
    assert work_through(asked) == 0
    assert started == [one.name for one in recipes]
    started.clear()
    asked.what = "repair"
    assert work_through(asked) == 0
    assert started == [one.name for one in recipes[1::2]]


def test_a_repair_in_brief() -> None:
    one = {**record("a", draw("learns", 300), draw("learns", 9), draw(None, 9)), "seconds": 61.0}
    assert in_brief(one) == "learns with something, 300 steps; 1 of 2 at random (61.0 s)"
