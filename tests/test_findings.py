"""Findings out of recorded trainings of the lecture's networks (CIFAR-10, batches of 64, torch) and of made-up ones."""

from __future__ import annotations

import io
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from kerascnn.catalog import load_recipe
from kerascnn.cli.progress import PlainDisplay
from kerascnn.diagnosis.architecture import Architecture, LayerFacts
from kerascnn.diagnosis.findings import find
from kerascnn.diagnosis.live import Watcher
from kerascnn.diagnosis.measures import MEASURES
from kerascnn.diagnosis.record import Chance, Record
from kerascnn.diagnosis.rules import the_rules
from kerascnn.recipe import Plain, Recipe, Vgg, known_keys
from kerascnn.runs import events as ev

RECORDED = Path(__file__).parent / "diagnosis"


def recorded(model: str) -> list[ev.Event]:
    return ev.read_events(RECORDED / f"{model}.jsonl")[0]


def architecture(recipe: Recipe, layers: tuple[str, ...], **other: Any) -> Architecture:
    facts = tuple(LayerFacts(name, "Conv2D", recipe.activation, recipe.initializer, False) for name in layers)
    known = {
        "layers": facts,
        "batch_norm": recipe.batch_norm != "none",
        "skips": False,
        "dropout": 0.0,
        "standardised": recipe.train.scaling == "standardize",
        "input_mean": 0.47,
        "input_deviation": 0.25,
    }
    return Architecture(**{**known, **other})  # type: ignore[arg-type]


def watcher_of(model: str, before: list[ev.Event] | None = None) -> Watcher:
    layers = next(ev.of_kind(recorded(model), ev.LayerStatistics)).layers
    recipe = load_recipe(model)
    return Watcher(recipe, architecture(recipe, layers), before or [])


def told(model: str) -> list[ev.Found]:
    watcher = watcher_of(model)
    return [found for event in recorded(model) for found in watcher.see(event)]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("cnn2_fmnist", []),
        ("plain9_relu", []),
        ("plain12_bn", []),
        ("plain12_standardized", [("warning", "weak signal")]),
        ("plain12_silu", [("warning", "weak signal")]),
        ("plain9_sigmoid", [("warning", "vanishing gradient"), ("verdict", "vanishing gradient")]),
        ("plain12_relu", [("warning", "weak signal"), ("verdict", "dead ReLUs")]),
    ],
)
def test_the_lectures_networks_get_what_is_theirs_and_each_once(model: str, expected: list[tuple[str, str]]) -> None:
    found = told(model)
    assert [(one.severity, one.rule) for one in found] == expected
    for one in found:
        assert one.step == 1 if one.severity == "warning" else 200 <= one.step < 230


def test_what_kills_the_twelve_layers_is_told_as_a_chain() -> None:
    verdict = told("plain12_relu")[-1]
    links = verdict.cause.split("; ")
    assert verdict.symptom == "does not learn"
    assert "100% of block4_conv3's channels fire on no image at step 1" in links[0]
    assert links[1].startswith("a weak signal first")
    assert links[1].endswith("0.0085 arrive at hidden1 at step 1")
    assert links[2].startswith("then steps that are large beside it: block4_conv3 changes by 5.0%")
    assert links[3] == "then channels that fire no more: 80% of block4_conv3's at step 20"
    assert links[4].startswith("and nothing comes back: the gradient of hidden1 is 0 at step ")
    assert verdict.evidence["loss"] == pytest.approx(2.303, abs=2e-3)
    assert "He initialisation (solution 3): --set initializer=he_normal" in verdict.remedies
    assert "a tenth of the learning rate (solution 6): --set train.optimizer.learning_rate=0.0001" in verdict.remedies


def test_a_finding_is_a_line_with_its_first_remedy() -> None:
    shown = io.StringIO()
    display = PlainDisplay(Console(file=shown, width=80))
    for found in told("plain9_sigmoid"):
        display.show(found)
    warning, verdict = shown.getvalue().splitlines()
    assert warning == (
        "warning: vanishing gradient in block1_conv1 at step 1: the slope of sigmoid shrinks it in each layer; 8.4e-08 "
        "of the last layer's arrives at block1_conv1 at step 1; try ReLU instead, with He initialisation (solution 3): "
        "--set activation=relu --set initializer=he_normal"
    )
    assert verdict.startswith("verdict: does not learn in block1_conv1 at step 2")
    assert ": vanishing gradient: the slope of sigmoid" in verdict


def test_the_sigmoids_are_told_from_the_dead_relus() -> None:
    verdict = told("plain9_sigmoid")[-1]
    assert "the slope of sigmoid shrinks it in each layer" in verdict.cause
    assert verdict.layer == "block1_conv1"
    assert verdict.remedies[0].startswith("ReLU instead")
    assert verdict.evidence["first gradient over last at start"] < 1e-6


@pytest.mark.parametrize("cut", [3, 8, 25, 33])
def test_a_resumed_run_repeats_and_loses_nothing(cut: int) -> None:
    events = recorded("plain12_relu")
    first = watcher_of("plain12_relu")
    file: list[ev.Event] = []
    for event in events[:cut]:
        file += [event, *first.see(event)]
    second = watcher_of("plain12_relu", ev.effective(file))
    for event in events[cut:]:
        file += [event, *second.see(event)]
    assert [(one.severity, one.rule) for one in ev.of_kind(file, ev.Found)] == [
        ("warning", "weak signal"),
        ("verdict", "dead ReLUs"),
    ]


def test_a_verdict_that_a_resume_took_back_is_told_again() -> None:
    events = recorded("plain12_relu")
    watcher = watcher_of("plain12_relu")
    file = [one for event in events for one in (event, *watcher.see(event))]
    file.append(ev.Resumed(step=150, epoch=0, epochs=1, elapsed=0.0, file=""))
    assert not [one for one in ev.of_kind(ev.effective(file), ev.Found) if one.severity == "verdict"]
    again = watcher_of("plain12_relu", ev.effective(file))
    later = [event for event in events if isinstance(event, (ev.StepDone, ev.LayerStatistics)) and event.step > 150]
    assert [one.rule for event in later for one in again.see(event)] == ["dead ReLUs"]


def curve(losses: list[float], accuracies: list[float]) -> list[ev.Event]:
    """A training's events, with these means over each 50 steps of 64."""
    begin: list[ev.Event] = [
        ev.RunStarted(model="", dataset="", backend="", epochs=1, batch_size=64, pid=0),
        ev.DataLoaded(train_images=64000, val_images=0, steps_per_epoch=1000, classes=10, where=""),
    ]
    return begin + [
        ev.StepDone(
            step=50 * number,
            epoch=1,
            loss=losses[number - 1],
            mean_loss=sum(losses[:number]) / number,
            accuracy=sum(accuracies[:number]) / number,
            learning_rate=1e-3,
            images_per_s=0,
            elapsed=0,
        )
        for number in range(1, len(losses) + 1)
    ]


def made_up(
    losses: list[float], accuracies: list[float], look: ev.LayerStatistics | None = None, model: str = "plain12_he"
) -> Record:
    record = Record(Chance.of_equal(10), architecture(load_recipe(model), ("a", "b", "c")), 1e-3)
    for event in curve(losses, accuracies):
        record.see(event)
    if look is not None:
        record.see(look)
    return record


def test_the_window_is_that_of_the_last_steps_alone() -> None:
    window = made_up([2.6, 2.4, 2.0, 1.5], [0.1, 0.1, 0.2, 0.4]).window(50)
    assert window is not None
    assert (window.first_step, window.step, window.images) == (151, 200, 3200)
    assert (window.loss, window.accuracy) == (pytest.approx(1.5), pytest.approx(0.4))


def test_one_enormous_loss_does_not_hide_the_later_ones() -> None:
    record = made_up([2.3], [0.1])
    total = 0.0
    for step in range(51, 201):
        total += 1e30 if step == 60 else 2.3
        record.see(
            ev.StepDone(
                step=step,
                epoch=1,
                loss=2.3,
                mean_loss=(50 * 2.3 + total) / step,
                accuracy=0.1,
                learning_rate=1e-3,
                images_per_s=0,
                elapsed=0,
            )
        )
    window = record.window(50)
    assert window is not None
    assert window.loss == pytest.approx(2.3)


def test_memorised_labels_are_no_learning() -> None:
    record = made_up([2.30, 2.30, 2.30, 2.29], [0.1, 0.1, 0.12, 0.13])
    assert find(record) == []
    record.label_score = 0.5
    assert find(record)[0].rule == "labels"


@pytest.mark.parametrize(
    ("losses", "accuracies", "verdict"),
    [
        ([2.30, 2.30, 2.30, 2.30], [0.1, 0.1, 0.1, 0.1], True),
        ([9.00, 6.00, 4.00, 3.00], [0.1, 0.1, 0.1, 0.1], True),
        # Too early.
        ([2.30, 2.30, 2.30], [0.1, 0.1, 0.1], False),
        # Right more often than by chance, though too sure of itself.
        ([9.00, 6.00, 4.00, 3.00], [0.1, 0.1, 0.2, 0.3], False),
        # Far above chance, and hardly more often right: it answers at random, but isn't sure of all classes.
        ([9.00, 6.00, 4.00, 2.90], [0.1, 0.1, 0.2, 0.13], True),
        ([9.00, 6.00, 4.00, 2.80], [0.1, 0.1, 0.2, 0.13], False),
        # Somewhat more often right than by chance, and so sure of what is wrong that knowing nothing is better.
        ([40.0, 20.0, 15.0, 10.0], [0.1, 0.2, 0.2, 0.2], True),
        # Half is right, however large the loss is: it learns.
        ([40.0, 20.0, 15.0, 10.0], [0.1, 0.3, 0.4, 0.5], False),
        # The loss begins to fall.
        ([2.30, 2.30, 2.28, 2.20], [0.1, 0.1, 0.1, 0.11], False),
    ],
)
def test_only_chance_after_the_warm_up_is_a_verdict(
    losses: list[float], accuracies: list[float], verdict: bool
) -> None:
    found = find(made_up(losses, accuracies))
    assert [one.severity for one in found] == ["verdict"] * verdict


@pytest.mark.parametrize(
    ("classes", "batch_size", "steps"), [(2, 64, 200), (10, 64, 200), (10, 16, 800), (100, 64, 2000), (1000, 256, 5000)]
)
def test_with_many_classes_chance_is_waited_for_longer(classes: int, batch_size: int, steps: int) -> None:
    gate = the_rules().gate
    chance = Chance.of_equal(classes)
    assert gate.steps_at_chance(batch_size, chance.classes, spent=False) == steps
    assert gate.steps_at_chance(batch_size, chance.classes, spent=True) == steps // 2
    # How many the network has is what counts, whatever images there are.
    assert Chance.of_labels(np.arange(100) % 2, classes).classes == classes


def test_a_thousand_classes_at_chance_get_no_verdict_in_two_hundred_steps_but_nonsense_does() -> None:
    def of(loss: float) -> Record:
        record = Record(Chance.of_equal(1000), architecture(load_recipe("vgg16_imagenet"), ("a", "b", "c")), 1e-3)
        for event in curve([loss] * 4, [0.001] * 4):
            record.see(event)
        return record

    assert find(of(6.91)) == []
    assert [one.severity for one in find(of(9.0))] == ["verdict"]


def look_at(step: int, **figures: list[float | None]) -> ev.LayerStatistics:
    usual: dict[str, list[float | None]] = {
        "gradient_norm": [0.1, 0.1, 0.1],
        "update_over_weight": [0.01, 0.01, 0.01],
        "between_images": [0.1, 0.1, 0.1],
        "dead": [0.0, 0.0, None],
        "saturated": [None, None, None],
    }
    return ev.LayerStatistics.model_validate({"step": step, "layers": ("a", "b", "c"), **usual, **figures})


@pytest.mark.parametrize(
    ("look", "rule", "layer"),
    [
        (look_at(1), "unknown", None),
        (look_at(1, update_over_weight=[0.2, 0.9, 0.1]), "steps too large", "b"),
        (look_at(1, update_over_weight=[1e-5, 1e-4, 1e-5]), "steps too small", "b"),
        (look_at(1, gradient_norm=[1e-6, 0.01, 0.1]), "vanishing gradient", "a"),
        (look_at(1, gradient_norm=[2e3, 1e4, 0.1]), "exploding gradient", "b"),
        (look_at(1, between_images=[0.1, 1e-4, 1e-4]), "weak signal", "b"),
        (look_at(1, between_images=[0.1, 50.0, 90.0]), "exploding signal", "b"),
        (look_at(1, dead=[0.0, 1.0, None]), "dead from the start", "b"),
        # A kernel that begins as zeros isn't a large step.
        (look_at(1, update_over_weight=[1e12, 0.01, 0.01]), "unknown", None),
    ],
)
def test_each_sickness_has_its_name(look: ev.LayerStatistics, rule: str, layer: str | None) -> None:
    first = find(made_up([2.3] * 4, [0.1] * 4, look))[0]
    assert (first.rule, first.layer) == (rule, layer)


def test_what_heals_in_time_is_a_warning_for_some_epochs() -> None:
    saturated = look_at(1, saturated=[0.9, 0.1, None])
    record = made_up([2.3] * 4, [0.1] * 4, saturated)
    assert [(one.severity, one.rule, one.layer) for one in find(record)] == [("warning", "saturation", "a")]
    record.images_an_epoch = 1280
    assert record.epochs == 10
    assert [(one.severity, one.rule) for one in find(record)] == [("verdict", "saturation")]
    beside_another = made_up([2.3] * 4, [0.1] * 4, look_at(1, saturated=[0.9, 0.1, None], dead=[None, None, 0.8]))
    assert [(one.severity, one.rule) for one in find(beside_another)] == [("verdict", "dead ReLUs")]


def test_a_weak_signal_is_no_verdict_where_saturated_units_may_still_heal() -> None:
    """As in the lecture's three sigmoid layers, which learn late; a gradient that has vanished is one all the same."""
    saturated: dict[str, Any] = {"between_images": [0.1, 9e-4, 1e-3], "saturated": [0.9, 0.1, None]}
    record = made_up([2.3] * 4, [0.1] * 4, look_at(1, **saturated))
    assert [(one.severity, one.rule) for one in find(record)] == [("warning", "saturation")]
    record.images_an_epoch = 1280
    assert next((one.severity, one.rule) for one in find(record)) == ("verdict", "saturation")
    weak = made_up([2.3] * 4, [0.1] * 4, look_at(1, between_images=[0.1, 9e-4, 1e-3]))
    assert [(one.severity, one.rule) for one in find(weak)] == [("verdict", "weak signal")]
    vanished = look_at(1, **saturated, gradient_norm=[1e-7, 1e-4, 1.0])
    found = find(made_up([2.3] * 4, [0.1] * 4, vanished, model="plain9_sigmoid"))
    assert [(one.severity, one.rule) for one in found] == [("verdict", "vanishing gradient")]


def test_what_was_learnt_and_lost_is_no_verdict_for_some_epochs() -> None:
    weak = look_at(1, between_images=[0.1, 1e-4, 1e-4])
    lost = [2.30, 2.20, 2.30, 2.30], [0.1, 0.2, 0.1, 0.1]
    record = made_up(*lost, weak)
    assert [(one.severity, one.rule) for one in find(record)] == [("warning", "instability")]
    assert "had come down to 0.96 of chance by step 100" in find(record)[0].cause
    assert not find(record, warn=False)
    # What the network overcame is not the cause, later neither.
    record.images_an_epoch = 1280
    assert [(one.severity, one.rule) for one in find(record)] == [("verdict", "instability")]
    # What holds it back now is.
    dead = made_up(*lost, look_at(1, dead=[0.0, 0.8, None]))
    assert [(one.severity, one.rule) for one in find(dead)] == [("verdict", "dead ReLUs")]
    # 50 steps at chance by and large aren't learning yet.
    at_chance = made_up([2.30, 2.26, 2.30, 2.30], [0.1, 0.1, 0.1, 0.1], weak)
    assert [(one.severity, one.rule) for one in find(at_chance)] == [("verdict", "weak signal")]


def test_a_run_tells_once_of_what_was_lost_beside_the_risk_at_its_start() -> None:
    weak = [look_at(step, between_images=[0.1, 1e-4, 1e-4]) for step in (1, 230, 240)]
    watcher = watcher_of("plain12_silu")
    file: list[ev.Event] = []
    for event in [weak[0], *curve([2.30, 2.20, 2.30, 2.30], [0.1, 0.2, 0.1, 0.1]), *weak[1:]]:
        file += [event, *watcher.see(event)]
    told = [(found.severity, found.rule) for found in ev.of_kind(file, ev.Found)]
    assert told == [("warning", "weak signal"), ("warning", "instability")]
    resumed = watcher_of("plain12_silu", file)
    assert not resumed.see(look_at(250, between_images=[0.1, 1e-4, 1e-4]))


def test_a_schedule_that_warms_up_is_waited_for() -> None:
    record = made_up([2.3] * 6, [0.1] * 6)
    record.warm_up_steps = 101
    assert not find(record)
    record.warm_up_steps = 100
    assert [one.severity for one in find(record)] == ["verdict"]


def test_a_last_kernel_of_zeros_is_no_vanishing_gradient() -> None:
    record = made_up([2.3] * 3, [0.1] * 3, look_at(1, gradient_norm=[0.0, 0.0, 0.1]))
    assert not find(record)


def test_the_cause_depends_on_the_activation() -> None:
    record = made_up([2.3] * 4, [0.1] * 4, look_at(1, gradient_norm=[1e-6, 0.01, 0.1]))
    assert "slope" not in find(record)[0].cause
    record.architecture = architecture(load_recipe("plain9_sigmoid"), ("a", "b", "c"))
    assert "the slope of sigmoid" in find(record)[0].cause


def test_a_loss_that_is_no_number_is_a_verdict_at_once() -> None:
    record = made_up([2.0], [0.2])
    record.see(ev.RunEnded(state="diverged", message="", step=60, elapsed=0, exit_code=1))
    assert [(one.severity, one.rule, one.step) for one in find(record)] == [("verdict", "no number", 60)]
    layers = tuple(replace(layer, activation="exponential") for layer in record.architecture.layers)
    record.architecture = replace(record.architecture, layers=layers)
    assert [one.rule for one in find(record)] == ["exploding signal", "no number"]


def test_what_a_network_has_is_no_remedy_for_it() -> None:
    record = made_up([2.3] * 4, [0.1] * 4, look_at(1, between_images=[0.1, 1e-4, 1e-4]))
    assert "he" not in [remedy.name for remedy in find(record)[0].remedies]
    record.architecture = architecture(load_recipe("plain12_relu"), ("a", "b", "c"), skips=True)
    assert [remedy.name for remedy in find(record)[0].remedies] == ["he", "batch_norm", "standardize", "lower_rate"]


def test_a_change_is_only_offered_to_a_recipe_that_has_its_key() -> None:
    found = find(made_up([2.3] * 4, [0.1] * 4, look_at(1, between_images=[0.1, 1e-4, 1e-4])))[0]
    by_name = {remedy.name: remedy for remedy in found.for_recipe(load_recipe("resnet20_cifar")).remedies}
    assert by_name["skip"].changes == {}
    assert by_name["batch_norm"].changes == {"batch_norm": "after"}
    assert all(not remedy.changes for remedy in found.for_recipe(None).remedies)


def test_the_table_speaks_of_figures_keys_and_places_that_exist() -> None:
    rules = the_rules()
    names = {"value", "layer", "step", "activation", "initializer", "rate"}
    for rule in rules.rules:
        for condition in (*rule.when, *rule.chain):
            assert condition.measure in MEASURES
        for text in (rule.cause, *(link.words for link in rule.chain)):
            assert {field for _, field, _, _ in string.Formatter().parse(text) if field} <= names
        assert rule.warns or rule.explains
    keys = {*known_keys(Plain), *known_keys(Vgg), "train.optimizer.learning_rate"}
    some = architecture(load_recipe("plain12_relu"), ("a", "b"))
    for remedy in rules.remedies.values():
        assert keys.issuperset({*remedy.set, *remedy.times})
        assert remedy.unless is None or some.has(remedy.unless) in (True, False)
        load_recipe("plain12_dense", {key: value for key, value in remedy.set.items() if key != "dropout"})


def test_the_documentation_has_each_rule_with_its_thresholds() -> None:
    text = (Path(__file__).parents[1] / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    for rule in the_rules().rules:
        conditions = " and ".join(
            f"{one.measure} > {one.above:g}" if one.above is not None else f"{one.measure} < {one.below:g}"
            for one in rule.when
        )
        remedies = ", ".join(the_rules().remedies[name].words for name in rule.remedies)
        only = f" ({', '.join(rule.activations)})" if rule.activations else ""
        assert f"| {rule.name}{only} | {conditions} | {rule.source} | {remedies} |" in text
