"""``kerascnn diagnose --fix``: what is tried, in which order and how often, and that the answer really learns."""

from __future__ import annotations

import json
import math
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kerascnn.catalog import change_recipe, load_recipe, parse_assignments
from kerascnn.cli import app
from kerascnn.cli.options import whole_changes
from kerascnn.cli.output import repeated
from kerascnn.cli.repair import entry
from kerascnn.diagnosis.architecture import Architecture, LayerFacts
from kerascnn.diagnosis.findings import Advice, Finding
from kerascnn.diagnosis.record import Chance
from kerascnn.diagnosis.repair import MOST_TRAININGS, RATE, Candidate, Repair, Trial, judge, try_remedies
from kerascnn.diagnosis.rules import the_rules
from kerascnn.errors import RecipeError, UsageError
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.training.session import Options
from tests.conftest import GIVE_UP_S, OWN_CATALOG

pytestmark = pytest.mark.backend

RELU_HE = {"activation": "relu", "initializer": "he_normal"}
BATCH_NORM = {"batch_norm": "after"}
SKIP = {"skip": "group"}
HE = {"initializer": "he_normal"}
CLIP = {"train.clip_norm": 1.0}
# Sigmoids so deep that nothing comes back, and small enough for a test.
DEEP = {"activation": "sigmoid", "initializer": "glorot_uniform", "filters": [4, 4, 4], "convs_per_group": 2}
# Steps that nothing survives.
ENORMOUS = {"activation": "linear", "train__optimizer__name": "sgd", "train__optimizer__learning_rate": 1000}


def recipe_of(**changes: Any) -> Recipe:
    return load_recipe("tiny", {key.replace("__", "."): value for key, value in changes.items()}, catalog=OWN_CATALOG)


BROKEN = recipe_of(**DEEP, train__seed=7)
ARCHITECTURE = Architecture((LayerFacts("conv", "Conv2D", "relu", "he_normal", False),), False, False, 0, True, 0, 1)


def advice(*names: str, rate: float = 1e-3) -> tuple[Advice, ...]:
    remedies = {name: the_rules().remedies[name] for name in names}
    return tuple(Advice(name, one.words, one.solution, one.changes({RATE: rate})) for name, one in remedies.items())


def finding(rule: str, *remedies: str, rate: float = 1e-3) -> Finding:
    return Finding("verdict", rule, "does not learn", None, 200, rule, (), advice(*remedies, rate=rate))


def diagnosis(share: float, *findings: Finding, largest_step: float = 3e-3, warm_up: int = 0) -> Any:
    """A short run that ended at a share of chance."""
    from kerascnn.diagnosis.outcome import Diagnosis

    chance = Chance.of_equal(10)
    look = ev.LayerStatistics(
        step=1,
        layers=("conv", "logits"),
        gradient_norm=(1.0, 1.0),
        update_over_weight=(largest_step, 1e-9),
        between_images=(1.0, 1.0),
        dead=(None, None),
        saturated=(None, None),
    )
    curve = (share * chance.loss,) * 160, (0.1,) * 160
    return Diagnosis(findings, (look,), 64, *curve, chance, ARCHITECTURE, None, warm_up)


STUCK = finding("vanishing gradient", "batch_norm", "relu_he")
WEAK = finding("weak signal", "standardize", "skip", "batch_norm")
ILL = diagnosis(1.0, STUCK, WEAK)
WELL = diagnosis(0.8)


class Trainings:
    """Answers for each changed recipe, and what was asked for."""

    def __init__(self, answers: Callable[[Mapping[str, Any], int], Any]) -> None:
        self.asked: list[tuple[dict[str, Any], int]] = []
        self._answers = answers

    def __call__(self, recipe: Recipe) -> Any:
        changes = differences(recipe)
        self.asked.append((changes, recipe.train.seed))
        return self._answers(changes, recipe.train.seed)


def differences(recipe: Recipe) -> dict[str, Any]:
    """How a recipe differs from the broken one, but for the seed."""
    from kerascnn.runs.compare import flat

    before, now = (flat(one.model_dump()) for one in (BROKEN, recipe))
    return {key: value for key, value in now.items() if value != before.get(key) and key != "train.seed"}


def tried(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    return [trial.candidate.changes for trial in trials]


# ── The order and the bound, with trainings that are made up ──────────────────────────────────────────────────────────


def test_what_costs_nothing_comes_first_and_then_the_likeliest_cause() -> None:
    train = Trainings(lambda *_: ILL)
    first = tried(try_remedies(BROKEN, ILL, train))[:4]
    assert first == [RELU_HE, {"train.scaling": "standardize"}, BATCH_NORM, SKIP]
    assert [seed for _, seed in train.asked] == [7] * len(train.asked)


def test_what_learns_on_two_seeds_ends_the_search() -> None:
    train = Trainings(lambda changes, _: WELL if changes == {"train.scaling": "standardize"} else ILL)
    repair = Repair(tuple(try_remedies(BROKEN, ILL, train)))
    assert train.asked == [(RELU_HE, 7), ({"train.scaling": "standardize"}, 7), ({"train.scaling": "standardize"}, 8)]
    assert repair.solution is repair.trials[-1]
    assert repair.solution is not None
    assert repair.solution.works
    assert [one.outcome for one in repair.solution.trainings] == ["learns", "learns"]
    assert repair.steps == 3 * 160


def test_what_learns_on_one_seed_alone_does_not_work_and_comes_nearest() -> None:
    train = Trainings(lambda changes, seed: WELL if changes == RELU_HE and seed == 7 else ILL)
    repair = Repair(tuple(try_remedies(BROKEN, ILL, train)))
    assert not repair.trials[0].works
    assert repair.solution is None
    assert repair.nearest is repair.trials[0]
    assert len(repair.trials) > 1


def test_never_more_trainings_than_are_allowed_and_none_twice() -> None:
    endless = [finding(str(n), *the_rules().remedies) for n in range(3)]
    train = Trainings(lambda *_: diagnosis(1.0, *endless))
    list(try_remedies(BROKEN, diagnosis(1.0, *endless), train))
    # The last one is kept for a second seed.
    assert len(train.asked) == MOST_TRAININGS - 1
    assert len({str(changes) for changes, _ in train.asked}) == len(train.asked)
    on_one_seed = Trainings(lambda _, seed: WELL if seed == 7 else ILL)
    list(try_remedies(BROKEN, diagnosis(1.0, *endless), on_one_seed))
    assert len(on_one_seed.asked) == MOST_TRAININGS


def test_a_second_change_is_what_the_changed_networks_diagnosis_says() -> None:
    """Standardising removes the first cause, so it is gone on with before the others."""
    raw = diagnosis(1.0, finding("input scale", "unit", "standardize", "he"))
    other = diagnosis(1.0, finding("vanishing gradient", "relu_he"))
    standard = {"train.scaling": "standardize"}
    broken = change_recipe(BROKEN, {"train.scaling": "none"})

    def answer(changes: Mapping[str, Any], _: int) -> Any:
        if changes == {**standard, **RELU_HE}:
            return WELL
        return other if changes == standard else raw

    trials = list(try_remedies(broken, raw, Trainings(answer)))
    assert tried(trials)[:3] == [{"train.scaling": "unit"}, standard, {"initializer": "he_normal"}]
    assert tried(trials)[3:] == [{**standard, **RELU_HE}]
    assert trials[-1].works
    assert str(trials[-1].candidate) == "standardise the pixels + ReLU instead, with He initialisation"


def test_what_left_chance_is_kept_and_gone_on_with_first() -> None:
    slow = diagnosis(0.95)
    train = Trainings(lambda changes, _: slow if changes == BATCH_NORM else ILL)
    trials = tried(try_remedies(BROKEN, ILL, train))
    assert trials[4:6] == [{**BATCH_NORM, **RELU_HE}, {**BATCH_NORM, "train.scaling": "standardize"}]


def test_a_learning_rate_that_left_chance_is_not_changed_again() -> None:
    found = diagnosis(1.0, finding("steps too large", "lower_rate", "he", "clip"))
    broken = change_recipe(BROKEN, {RATE: 0.1})
    low = {RATE: 1e-3}
    # What the first recipe has as well is no difference.
    trials = tried(try_remedies(broken, found, Trainings(lambda changes, _: found if changes else diagnosis(0.95))))
    assert trials[:5] == [low, HE, CLIP, {**low, **HE}, {**low, **CLIP}]


@pytest.mark.parametrize(
    ("remedy", "largest_step", "rate"),
    [
        ("lower_rate", 0.03, 1e-4),
        ("lower_rate", 4.0, 1e-6),
        # It is advised to lower it, so it is lowered.
        ("lower_rate", 3e-3, 1e-4),
        ("higher_rate", 4e-6, 1.0),
        ("higher_rate", 9e-4, 1e-2),
    ],
)
def test_the_learning_rate_changes_by_as_many_tenths_as_the_steps_are_off(
    remedy: str, largest_step: float, rate: float
) -> None:
    found = diagnosis(1.0, finding("steps", remedy), largest_step=largest_step)
    trial = next(try_remedies(BROKEN, found, Trainings(lambda *_: WELL)))
    assert trial.candidate.changes == pytest.approx({RATE: rate})
    assert str(trial.candidate) == f"a learning rate of {rate:g}"


def test_a_change_that_the_network_has_already_or_cannot_have_is_left_out() -> None:
    def refusing(recipe: Recipe) -> Any:
        raise RecipeError("rejected")

    he = diagnosis(1.0, finding("weak signal", "he", "from_logits", "relu_he"))
    broken = change_recipe(BROKEN, {"initializer": "he_normal"})
    train = Trainings(lambda *_: WELL)
    assert tried(try_remedies(broken, he, train)) == [{"activation": "relu"}]
    told: list[str] = []
    assert list(try_remedies(broken, he, refusing, tell=told.append)) == []
    assert told[-1] == "left out: rejected"


def test_a_healthy_network_is_not_touched() -> None:
    train = Trainings(lambda *_: WELL)
    warned = diagnosis(0.8, replace(STUCK, severity="warning"))
    assert list(try_remedies(BROKEN, warned, train)) == []
    assert train.asked == []


@pytest.mark.parametrize(
    ("optimizer", "own_rate", "first_step", "rate"),
    [
        ("sgd", 1e-3, 3e-6, 1.0),
        ("sgd", 1e-3, 0.3, 1e-5),
        ("adam", 1e-6, 3e-3, 1e-3),
        ("adam", 0.3, 3e-3, 1e-3),
    ],
)
def test_at_chance_without_a_verdict_another_learning_rate_is_tried(
    optimizer: str, own_rate: float, first_step: float, rate: float
) -> None:
    broken = change_recipe(BROKEN, {"train.optimizer.name": optimizer, RATE: own_rate})
    train = Trainings(lambda changes, _: WELL if changes.get(RATE, 1e-3) == rate else ILL)
    undecided = diagnosis(1.0, largest_step=first_step)
    assert undecided.healthy
    trials = list(try_remedies(broken, undecided, train))
    assert tried(trials) == [{RATE: rate}]


def test_at_chance_with_the_usual_rate_of_adam_the_usual_remedies_are_tried() -> None:
    changes = {"dropout": 0.9, "activation": "sigmoid", "initializer": "glorot_uniform", "batch_norm": "none"}
    adam = {"train.optimizer": {"name": "adam", "learning_rate": 1e-3}}
    broken = load_recipe("stateful", changes | adam, catalog=OWN_CATALOG)
    trials = tried(try_remedies(broken, diagnosis(1.0), Trainings(lambda *_: diagnosis(1.0))))
    assert trials[:4] == [{"dropout": 0.2}, RELU_HE, HE, BATCH_NORM]
    assert tried(try_remedies(BROKEN, diagnosis(1.0), Trainings(lambda *_: ILL)))[:3] == [RELU_HE, HE, BATCH_NORM]


def test_a_rate_that_was_changed_too_far_goes_half_the_way_back() -> None:
    too_far = diagnosis(math.nan, finding("steps too large", "lower_rate"))
    broken = change_recipe(BROKEN, {"train.optimizer.name": "sgd", RATE: 1e-5})
    ill = diagnosis(1.0, finding("steps too small", "higher_rate"), largest_step=3e-9)
    train = Trainings(lambda changes, _: too_far if changes.get(RATE, 0) > 1 else WELL)
    trials = tried(try_remedies(broken, ill, train))
    assert trials == [{RATE: 10.0}, {RATE: pytest.approx(0.01)}]


def test_what_is_still_being_warmed_up_is_not_touched() -> None:
    train = Trainings(lambda *_: WELL)
    assert list(try_remedies(BROKEN, diagnosis(1.0, warm_up=61), train)) == []
    assert list(try_remedies(BROKEN, diagnosis(1.0, warm_up=60), train))


def test_a_first_step_that_was_warmed_up_is_counted_in_full() -> None:
    warm = {"train.warm_up.steps": 10, "train.warm_up.factor": 0.01, "train.optimizer.name": "sgd", RATE: 1e-3}
    ill = diagnosis(1.0, finding("steps too large", "lower_rate"), largest_step=3e-3)
    trial = next(try_remedies(change_recipe(BROKEN, warm), ill, Trainings(lambda *_: WELL)))
    assert trial.candidate.changes == {RATE: 1e-5}


def test_a_first_step_from_weights_of_zero_tells_nothing_of_the_rate() -> None:
    broken = change_recipe(BROKEN, {"train.optimizer.name": "sgd", RATE: 0.01})
    ill = diagnosis(1.0, finding("steps too large", "lower_rate", rate=0.01), largest_step=1e14)
    trial = next(try_remedies(broken, ill, Trainings(lambda *_: WELL)))
    assert 1e-6 < float(trial.candidate.changes[RATE]) < 0.01


def test_at_chance_a_warning_is_followed_too() -> None:
    train = Trainings(lambda changes, _: WELL if changes == BATCH_NORM else diagnosis(1.0))
    trials = list(try_remedies(BROKEN, diagnosis(1.0, replace(STUCK, severity="warning")), train))
    assert tried(trials)[-1] == BATCH_NORM
    assert trials[-1].works


@pytest.mark.parametrize(
    ("share", "outcome"),
    [
        (0.89, "learns"),
        (0.91, "leaves chance"),
        (0.97, "leaves chance"),
        (0.99, "stays at chance"),
        (9, "stays at chance"),
        (float("nan"), "diverges"),
        (float("inf"), "diverges"),
    ],
)
def test_what_a_training_came_to(share: float, outcome: str) -> None:
    assert judge(diagnosis(share), 3).outcome == outcome


def test_only_the_last_steps_count() -> None:
    chance = Chance.of_equal(10).loss
    long = replace(ILL, losses=(chance,) * 150 + (0.5,) * 50, accuracies=(0.1,) * 200)
    assert judge(long, 3).loss == 0.5
    assert judge(long, 3).steps == 200


def test_a_later_remedy_takes_the_place_of_one_that_it_leaves_nothing_of() -> None:
    twice = Candidate().and_also("silu", {"activation": "silu"}).and_also("low", {RATE: 1e-4}).and_also("relu", RELU_HE)
    assert str(twice) == "low + relu"
    assert twice.changes == {RATE: 1e-4, **RELU_HE}


# ── The command that is printed ───────────────────────────────────────────────────────────────────────────────────────


def test_the_printed_command_and_entry_mean_the_changed_recipe(tmp_path: Path) -> None:
    changes = {
        "filters": [4, 8],
        "train.optimizer": {"name": "sgd", "momentum": 0.9},
        "train.augment.flip": True,
        RATE: 1e-7,
        "activation": "silu",
    }
    expected = load_recipe("tiny", changes, catalog=OWN_CATALOG)
    words = shlex.split(repeated("train", "tiny", changes, OWN_CATALOG))
    assert words[:5] == ["kerascnn", "train", "tiny", "--catalog", str(OWN_CATALOG)]
    assert words[5::2] == ["--set"] * len(words[5::2])
    assert load_recipe("tiny", parse_assignments(words[6::2]), catalog=OWN_CATALOG) == expected
    own = tmp_path / "fixed.toml"
    own.write_text(OWN_CATALOG.read_text() + entry("tiny", changes))
    assert load_recipe("tiny_fixed", catalog=own).model_dump(exclude={"name"}) == expected.model_dump(exclude={"name"})


def test_the_printed_command_has_the_backend_and_the_data_that_were_asked_for() -> None:
    both = repeated("train", "tiny", {}, None, Options(backend="jax", data_dir=Path("my data")))
    assert both == "kerascnn train tiny --backend jax --data-dir 'my data'"
    assert repeated("train", "tiny", {}, None, Options()) == "kerascnn train tiny"


def test_on_windows_a_command_is_quoted_as_its_shell_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as windows:
        windows.setattr(sys, "platform", "win32")
        line = repeated("train", "m", {"dataset": r"folder:C:\my photos"}, Path(r"D:\own.toml"))
    assert line == r'kerascnn train m --catalog D:\own.toml --set "dataset=folder:C:\my photos"'


def test_the_classes_that_follow_from_the_dataset_are_told(tmp_path: Path) -> None:
    changes = {"dataset": f"folder:{tmp_path}"}
    recipe = load_recipe("tiny", {**changes, "classes": 3}, catalog=OWN_CATALOG)
    assert whole_changes(recipe, changes, OWN_CATALOG) == {**changes, "classes": 3}
    assert whole_changes(recipe_of(), {RATE: 1e-4}, OWN_CATALOG) == {RATE: 1e-4}


# ── Real networks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def arguments(*options: object, **changes: Any) -> list[str]:
    sets = [word for key, value in changes.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]
    words = ["diagnose", "tiny", "--catalog", OWN_CATALOG, "--offline", "--fix", *options, *sets]
    return [str(word) for word in words]


def diagnose(*options: object, **changes: Any) -> Any:
    return CliRunner().invoke(app, arguments(*options, **changes))


def test_a_broken_network_is_fixed_and_the_printed_change_trains(keras: Any, backend: str) -> None:
    shown = diagnose("--steps", 200, "--batch-size", 32, "--backend", backend, "--data-dir", ".", **DEEP)
    assert shown.exit_code == 0, shown.output
    assert "it does not learn: vanishing gradient" in shown.stdout
    row = next(line for line in shown.stdout.splitlines() if line.startswith("ReLU instead"))
    assert row.endswith("learns")
    line = next(line for line in shown.stdout.splitlines() if line.strip().startswith("kerascnn train"))
    words = shlex.split(line)[1:]
    assert words[-4:] == ["--backend", backend, "--data-dir", "."]
    trained = CliRunner().invoke(
        app, [*words, "--offline", "--run-dir", "run", "--json", "--set", "train.limit_train=3000", "--epochs", "2"]
    )
    assert trained.exit_code == 0, trained.output
    # A tenth is chance.
    assert json.loads(trained.stdout)["figures"]["val_accuracy"] > 0.3
    added = tomllib.loads(shown.stdout.partition("as an entry of a catalog:")[2])
    assert added["models"]["tiny_fixed"]["activation"] == "relu"


def test_what_does_not_help_is_reported_as_such(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kerascnn.diagnosis.repair.MOST_TRAININGS", 3)
    shown = diagnose("--steps", 20, "--batch-size", 32, "--json", train__scaling="none", **ENORMOUS)
    assert shown.exit_code == 1, shown.output
    found = json.loads(shown.stdout)
    assert (found["model"], found["dataset"]) == ("tiny", "fashion_mnist_mini")
    repair = found["repair"]
    assert (repair["works"], repair["changes"], repair["interrupted"]) == (False, None, False)
    first = repair["trials"][0]
    assert first["changes"] == {"train.scaling": "standardize"}
    assert [one["outcome"] for one in first["trainings"]] == ["diverges"]
    assert first["trainings"][0]["loss"] in ("NaN", "Infinity")
    assert len(repair["trials"]) == 2
    assert repair["steps"] == sum(one["steps"] for trial in repair["trials"] for one in trial["trainings"])


def test_nothing_to_fix_is_no_failure(keras: Any) -> None:
    shown = diagnose("--steps", 20, "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert found["healthy"] is True
    assert found["repair"]["trials"] == []
    assert found["repair"]["works"] is False
    assert "nothing to fix" in diagnose("--steps", 20).stdout


def test_at_chance_after_too_few_steps_nothing_is_tried_and_it_says_how_many_would_tell(keras: Any) -> None:
    shown = diagnose("--steps", 20, "--batch-size", 32, train__warm_up__steps=7, **DEEP)
    assert shown.exit_code == 0, shown.output
    assert "too few steps to say: it is still at chance; a verdict takes 207 steps of 32 images" in shown.stdout
    assert "nothing to fix yet: --steps 207 would tell" in shown.stdout


def test_a_saved_model_has_no_recipe_to_change() -> None:
    asked = ["diagnose", "--keras", "a.keras", "--dataset", "fashion_mnist_mini", "--fix"]
    shown = CliRunner().invoke(app, asked)
    assert isinstance(shown.exception, UsageError)
    assert "there the remedies are advice" in str(shown.exception)


def test_ctrl_c_shows_what_has_been_tried(start_command: Callable[..., subprocess.Popen[str]]) -> None:
    """With these steps no scaling of the pixels has any number left at step 3; what is clipped goes on for hours."""
    process = start_command(*arguments("--steps", 10**6, "--batch-size", 16, train__scaling="none", **ENORMOUS))
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 100 "):
            break
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 130
    assert "it does not learn: input scale" in out
    assert "standardise the pixels" in out.partition("what the remedies did")[2]
    assert "Traceback" not in rest
