"""The lecture: its claims as data, the verdict from the curve, its runs as processes, its report."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock
import numpy as np
import pytest

from kerascnn.catalog import list_models, load_recipe
from kerascnn.errors import CheckpointError
from kerascnn.lecture.argument import Budget, Claim, the_argument
from kerascnn.lecture.curves import Curve, read_curve
from kerascnn.lecture.folder import LectureFolder, Settings, overrides
from kerascnn.lecture.report import write_report
from kerascnn.lecture.running import Watcher, recipe_of, run_lecture
from kerascnn.lecture.verdicts import Verdict, judge, measure, together
from kerascnn.recipe import Recipe
from kerascnn.runs import events as ev
from kerascnn.runs.compare import flat
from kerascnn.runs.directory import Run, create_run
from kerascnn.training.session import Options
from tests import tui_lecture
from tests.conftest import GIVE_UP_S, Command, events_of, write_image_folder

RULE = the_argument().rule
QUICK = the_argument().budgets["quick"]
FULL = the_argument().budgets["full"]
CHANCE = math.log(10)
Start = Callable[..., "subprocess.Popen[str]"]


def recorded(
    losses: Sequence[float], *, per_epoch: int = 1000, only: Sequence[int] | None = None, val_accuracy: float = 0.5
) -> list[ev.Event]:
    """The events of a run with these losses, one a step. ``only`` are the steps that were recorded."""
    events: list[ev.Event] = [
        ev.DataLoaded(train_images=64 * per_epoch, val_images=10, steps_per_epoch=per_epoch, classes=10, where="a test")
    ]
    for number, loss in enumerate(losses, start=1):
        epoch, in_epoch = (number - 1) // per_epoch + 1, (number - 1) % per_epoch + 1
        mean = float(np.mean(losses[number - in_epoch : number]))
        accuracy = max(0.1, 1 - mean / CHANCE)
        if only is None or number in only:
            shared = {"step": number, "epoch": epoch, "loss": loss, "accuracy": accuracy, "learning_rate": 1e-3}
            events.append(ev.StepDone(**shared, mean_loss=mean, images_per_s=64.0, elapsed=float(number)))
        if in_epoch == per_epoch:
            events.append(
                ev.EpochDone(
                    epoch=epoch,
                    step=number,
                    loss=mean,
                    accuracy=accuracy,
                    val_loss=1.0,
                    val_accuracy=val_accuracy,
                    learning_rate=1e-3,
                    seconds=1.0,
                    images_per_s=64.0,
                    best=True,
                )
            )
    return events


def curve_of(losses: Sequence[float], state: str = "finished", **options: object) -> Curve:
    return read_curve(recorded(losses, **options), state, 10)  # type: ignore[arg-type]


AT_CHANCE = [CHANCE + 0.01 * math.sin(step) for step in range(300)]
FALLING = [CHANCE * (1 - step / 200) for step in range(100)]
# 3 % below chance at its lowest: neither here nor there.
BETWEEN = [CHANCE * (1 - 0.03 * min(step, 50) / 50) for step in range(300)]

LEARNS = Claim(kind="learns", words="learns")
FAILS = Claim(kind="does not learn", words="does not learn")


# ── The argument ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_step_is_a_network_of_the_zoo_that_changes_what_it_says() -> None:
    steps = {step.id: load_recipe(step.model) for step in the_argument().steps}
    assert list(steps) == [*"123456", "7", "7b", "8", "9", "10", "11", "11b", "11c", "11d", "12"]
    assert {step.model for step in the_argument().steps} <= set(list_models())
    changed = {}
    for step in the_argument().steps:
        before = the_argument().compared_with(step)
        if before is not None:
            changed[step.id] = (before.id, *difference(steps[before.id], steps[step.id]))
    assert changed == {
        "2": ("1", ("dataset", "cifar10"), ("input_shape", (32, 32, 3))),
        "3": ("2", ("filters", [64, 128, 256])),
        "4": ("3", ("convs_per_group", 3)),
        "5": ("4", ("activation", "relu")),
        "6": ("5", ("filters", [64, 128, 256, 512])),
        "7": ("6", ("train.scaling", "standardize")),
        "7b": ("6", ("train.scaling", "symmetric")),
        "8": ("6", ("batch_norm", "after")),
        "9": ("6", ("initializer", "he_normal")),
        "10": ("6", ("activation", "silu")),
        "11": ("6", ("skip", "group")),
        "11b": ("6", ("skip", "full")),
        "11c": ("6", ("skip", "dense")),
        "11d": ("6", ("skip", "long")),
        "12": ("6", ("train.optimizer.learning_rate", 1e-4)),
    }


def difference(old: Recipe, new: Recipe) -> list[tuple[str, object]]:
    """The keys that differ, with the new values."""
    before, after = (flat(one.model_dump(exclude={"name", "summary", "paper", "card"})) for one in (old, new))
    return [(key, value) for key, value in after.items() if before[key] != value]


def test_the_documentation_tells_the_thresholds_and_budgets_that_hold() -> None:
    text = (Path(__file__).parent.parent / "docs" / "lecture" / "README.md").read_text()
    assert f"down to {100 * RULE.learns_at:.0f} %" in text
    assert f"down to {100 * RULE.chance_above:.0f} %" in text
    assert f"within {100 * RULE.tolerance:.0f} points" in text
    assert f"| batch | {QUICK.batch_size} | the lecture's {load_recipe('cnn2_cifar').train.batch_size} |" in text
    assert f"up to {QUICK.steps} steps" in text


def test_a_budget_of_steps_becomes_images_and_epochs() -> None:
    recipe = load_recipe("plain12_bn")
    assert overrides(QUICK, recipe, 50_000, 3) == {
        "train.seed": 3,
        "train.batch_size": 64,
        "train.limit_val": 1000,
        "train.epochs": 1,
        "train.limit_train": 300 * 64,
    }
    # 6,000 images are 93 batches: four epochs of 75 steps.
    small = overrides(QUICK, recipe, 6_000, 0)
    assert (small["train.epochs"], small["train.limit_train"]) == (4, 75 * 64)
    assert overrides(FULL, recipe, 50_000, 0) == {"train.seed": 0, "train.batch_size": 256}
    # Where they don't come out even, a few steps more: none too few.
    longer = overrides(FULL.with_steps(1000), recipe, 50_000, 0)
    assert (longer["train.epochs"], longer["train.limit_train"]) == (6, 167 * 256)


@pytest.mark.parametrize(("images", "epochs", "per_epoch"), [(160, 75, 4), (20, 300, 1)])
def test_a_folder_of_few_images_is_seen_as_often_as_the_steps_take(
    tmp_path: Path, images: int, epochs: int, per_epoch: int
) -> None:
    write_image_folder(tmp_path, images=images, size=(4, 4))
    settings = Settings(budget="quick", dataset=f"folder:{tmp_path}")
    train = recipe_of(the_argument().steps[3], settings, 0).train
    # A tenth is held out; of less than a batch each epoch is one step.
    assert (train.epochs, train.limit_train) == (epochs, per_epoch * 64)


def test_a_full_run_of_a_few_steps_refutes_nothing() -> None:
    assert Settings(budget="full").the_budget().refutes
    short = Settings(budget="full", steps=20).the_budget()
    assert (short.steps, short.refutes) == (20, False)


@pytest.mark.parametrize(
    ("form", "asked", "took", "decided"),
    [
        ("quick", None, 300, True),
        ("quick", None, 29, False),
        ("quick", 30, 30, False),
        ("quick", 400, 400, True),
        ("quick", 400, 300, False),
        ("full", None, 300, True),
        ("full", 400, 400, False),
    ],
)
def test_that_it_does_not_learn_takes_the_forms_own_length(
    form: str, asked: int | None, took: int, decided: bool
) -> None:
    budget = Settings(budget=form, steps=asked).the_budget()
    judgement = judge(FAILS, curve_of([CHANCE] * took), budget, RULE)
    assert judgement.verdict == ("as claimed" if decided else "undecided within this budget")
    assert judgement.measured.behaviour == ("does not learn" if decided else "undecided")
    assert judgement.words.startswith(f"never below 98 % of chance in {took} steps")
    learns = judge(LEARNS, curve_of([CHANCE] * took), budget, RULE)
    assert learns.verdict == ("not as claimed" if budget.refutes else "undecided within this budget")


# ── Curves ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("per_epoch", [1000, 40])
def test_the_mean_over_a_window_is_that_of_all_steps_though_few_are_recorded(per_epoch: int) -> None:
    losses = np.random.default_rng(0).normal(2.0, 0.3, 100).tolist()
    only = [*range(1, 31), 33, 41, 55, 56, 79, 80, 98, 100]
    steps, means = curve_of(losses, only=only, per_epoch=per_epoch).means(25)
    assert steps.tolist() == [step for step in only if step >= 25]
    for step, mean in zip(steps.tolist(), means.tolist(), strict=True):
        begin = max(other for other in [0, *only] if other <= step - 25)
        assert mean == pytest.approx(np.mean(losses[begin:step]))


def test_what_a_resume_took_back_does_not_count() -> None:
    lost = recorded(AT_CHANCE[:60])
    resumed = ev.Resumed(step=30, epoch=0, epochs=1, elapsed=30.0, file="")
    rest = [event for event in recorded(FALLING) if isinstance(event, ev.StepDone) and event.step > 30]
    curve = read_curve(ev.effective([*lost, resumed, *rest]), "finished", 10)
    assert curve.steps.tolist() == list(range(1, 101))


# ── Verdicts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("losses", "state", "behaviour"),
    [
        (FALLING, "finished", "learns"),
        (FALLING, "running", "learns"),
        (AT_CHANCE, "finished", "does not learn"),
        (AT_CHANCE, "running", "undecided"),
        (AT_CHANCE, "stopped", "undecided"),
        (BETWEEN, "finished", "undecided"),
        (AT_CHANCE, "diverged", "diverged"),
        (FALLING[:10], "finished", "undecided"),
    ],
)
def test_what_a_curve_shows(losses: Sequence[float], state: str, behaviour: str) -> None:
    assert measure(curve_of(losses, state), QUICK, RULE).behaviour == behaviour


def test_it_learns_from_the_first_step_whose_mean_is_low_enough() -> None:
    slowly = [CHANCE * (1 - step / 600) for step in range(100)]
    learnt_at = measure(curve_of(slowly), QUICK, RULE).learnt_at
    assert learnt_at is not None
    mean = {step: np.mean(slowly[step - RULE.window : step]) for step in (learnt_at - 1, learnt_at)}
    assert mean[learnt_at] <= RULE.learns_at * CHANCE < mean[learnt_at - 1]


@pytest.mark.parametrize(
    ("claim", "losses", "budget", "verdict"),
    [
        (LEARNS, FALLING, QUICK, "as claimed"),
        (LEARNS, AT_CHANCE, QUICK, "undecided within this budget"),
        (LEARNS, AT_CHANCE, FULL, "not as claimed"),
        (LEARNS, BETWEEN, FULL, "undecided within this budget"),
        (FAILS, AT_CHANCE, QUICK, "as claimed"),
        (FAILS, FALLING, QUICK, "not as claimed"),
        (FAILS, BETWEEN, QUICK, "undecided within this budget"),
        (Claim(kind="none", words="–"), FALLING, QUICK, "no claim"),
    ],
)
def test_a_claim_is_held_against_the_curve(
    claim: Claim, losses: Sequence[float], budget: Budget, verdict: Verdict
) -> None:
    assert judge(claim, curve_of(losses), budget, RULE).verdict == verdict


@pytest.mark.parametrize("claim", [LEARNS, FAILS])
def test_a_loss_that_is_no_number_is_neither_learning_nor_staying_at_chance(claim: Claim) -> None:
    judgement = judge(claim, curve_of(FALLING, "diverged"), QUICK, RULE)
    assert judgement.verdict == "not as claimed"
    assert judgement.words == "the loss is no longer a number"


# Of a real quick run on CIFAR-10 (JPEG copy), torch, seed 0.
@pytest.mark.parametrize(
    ("step", "verdict", "said"),
    [
        ("2", "undecided within this budget", "never below 98 % of chance in 300 steps: lowest mean loss 2.309"),
        ("4", "as claimed", "never below 98 % of chance in 300 steps: lowest mean loss 2.317"),
        ("6", "as claimed", "never below 98 % of chance in 300 steps: lowest mean loss 2.302"),
        ("8", "as claimed", "learns: 95 % of chance at step 35"),
        ("10", "as claimed", "learns: 95 % of chance at step 134"),
    ],
)
def test_recorded_curves_are_judged(step: str, verdict: Verdict, said: str) -> None:
    real = json.loads((Path(__file__).parent / "lecture_curves.json").read_text())[step]
    events: list[ev.Event] = [
        ev.DataLoaded(train_images=19_200, val_images=1000, steps_per_epoch=300, classes=10, where="a test"),
        *(
            ev.StepDone(
                step=number, epoch=1, loss=loss, mean_loss=mean, accuracy=accuracy, learning_rate=1e-3,
                images_per_s=64.0, elapsed=float(number),
            )
            for number, loss, mean, accuracy in real["steps"]
        ),
        ev.RunEnded(state=real["state"], message="", step=real["last"], elapsed=300.0, exit_code=0),
    ]  # fmt: skip
    claim = next(one.claim for one in the_argument().steps if one.id == step)
    judgement = judge(claim, read_curve(events, real["state"], 10), QUICK, RULE)
    assert (judgement.verdict, said in judgement.words) == (verdict, True), judgement.words


# The accuracy of `recorded` is 1 - loss / ln 10: it comes to 0.5 in the tenth epoch of ten steps.
@pytest.mark.parametrize(
    ("train", "val", "state", "verdict", "said"),
    [
        (0.45, 0.5, "finished", "as claimed", "epoch 10 of 10"),
        (0.30, 0.5, "finished", "as claimed", "epoch 7 of 10"),
        (0.30, 0.6, "finished", "not as claimed", "validation 50.00 %"),
        (0.80, None, "finished", "not as claimed", "epoch 10 of 10"),
        (0.80, None, "running", "undecided within this budget", "epoch 10 of 10"),
        (0.40, None, "finished", "as claimed", "of 10"),
        # Nothing comes near 0.02: the first epoch is beyond it already, so there is no pair to compare.
        (-0.10, 0.5, "finished", "undecided within this budget", "epoch 1 of 10"),
    ],
)
def test_figures_are_compared_where_the_training_accuracy_comes_nearest(
    train: float, val: float | None, state: str, verdict: Verdict, said: str
) -> None:
    claim = Claim(kind="reaches", words="a figure", train=train, val=val)
    judgement = judge(claim, curve_of(FALLING, state, per_epoch=10), FULL, RULE)
    assert judgement.verdict == verdict
    assert said in judgement.words


def test_figures_take_epochs_so_the_quick_form_leaves_them_open() -> None:
    claim = Claim(kind="reaches", words="a figure", train=0.3, val=0.5)
    assert judge(claim, curve_of(FALLING, per_epoch=10), QUICK, RULE).verdict == "undecided within this budget"


def test_one_seed_that_contradicts_a_claim_is_enough() -> None:
    assert together(["as claimed", "as claimed"]) == "as claimed"
    assert together(["as claimed", "undecided within this budget"]) == "undecided within this budget"
    assert together(["as claimed", "undecided within this budget", "not as claimed"]) == "not as claimed"


# ── The report ────────────────────────────────────────────────────────────────────────────────────────────────────────


def layers_at(step: int, dead: float, first: float = 1e-3) -> ev.LayerStatistics:
    figures = (first, 2e-3, 1.0)
    return ev.LayerStatistics(
        step=step,
        layers=("conv1", "conv2", "logits"),
        gradient_norm=figures,
        update_over_weight=figures,
        between_images=figures,
        dead=(0.0, dead, None),
        saturated=(None, None, None),
    )


def made_up_lecture(path: Path, first: float = 1e-3) -> LectureFolder:
    """Step 6 with two seeds, one of which learns though it shouldn't; step 8 on two backends.

    ``first`` is the first layer's figure.
    """
    folder = LectureFolder(path)
    folder.begin(Settings(budget="quick", data_note="made up"))
    steps = {step.id: step for step in the_argument().steps}
    runs = [("6", "torch", 0, AT_CHANCE), ("6", "torch", 1, FALLING), ("8", "torch", 0, FALLING)]
    for id_, backend, seed, losses in [*runs, ("8", "tensorflow", 0, FALLING)]:
        one = folder.step_run(steps[id_], backend, seed)
        create_run(one.run.path, load_recipe(one.step.model), ["a test"])
        events = [*recorded(losses), layers_at(1, 0.0, first), layers_at(90, 0.75, first)]
        events.append(ev.RunEnded(state="finished", message="", step=len(losses), elapsed=100.0, exit_code=0))
        one.run.events_file.write_text("".join(event.model_dump_json() + "\n" for event in events))
    return folder


def test_the_report_puts_claim_beside_measurement(tmp_path: Path) -> None:
    folder = made_up_lecture(tmp_path / "lecture")
    markdown, _ = write_report(folder)
    text = markdown.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| 6 | 12 conv")]
    assert len(rows) == 1
    assert "does not learn again" in rows[0]
    assert "**not as claimed** | 2 |" in rows[0]
    assert "**Step 6 is not as claimed.**" in text
    assert "seed 0: never below 98 % of chance in 300 steps: lowest mean loss" in rows[0]
    assert re.search(r"\| 8 \|.*learns: 95 % of chance at step \d+: as claimed.*\|.*as claimed \|", text)
    assert "75 % (step 90)" in text
    assert "made up" in text
    assert str(tmp_path) not in text


def test_seeds_that_agree_are_told_once(tmp_path: Path) -> None:
    folder = LectureFolder(tmp_path / "lecture")
    folder.begin(Settings(budget="quick"))
    for step in the_argument().steps:
        for seed, losses in enumerate({"4": [AT_CHANCE] * 2, "9": [FALLING, FALLING]}.get(step.id, [])):
            one = folder.step_run(step, "torch", seed)
            create_run(one.run.path, load_recipe(step.model), ["a test"])
            ended = ev.RunEnded(state="finished", message="", step=len(losses), elapsed=100.0, exit_code=0)
            events = [*recorded(losses), layers_at(1, 0.0), layers_at(90, 1.0), ended]
            one.run.events_file.write_text("".join(event.model_dump_json() + "\n" for event in events))
    text = write_report(folder)[0].read_text()
    at_chance = r"never below 98 % of chance in 300 steps: lowest mean loss (2\.\d+) and \1, chance 2\.303"
    assert re.search(rf"\| {at_chance} \|", text)
    assert re.search(r"\| learns: 95 % of chance at step (\d+) and \1 \|", text)


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    folder = made_up_lecture(tmp_path / "lecture")
    markdown, page = write_report(folder)
    html = page.read_text()
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", markdown.read_text())
    assert len(pictures) == 3
    assert all((folder.path / name).is_file() for name in pictures)
    assert html.count("<svg") == len(pictures)
    assert not re.search(r"(?:src|href)=\"(?!#)", html)
    assert "<table>" in html


def test_a_folder_of_images_is_told_by_its_last_name(tmp_path: Path) -> None:
    folder = LectureFolder(tmp_path / "lecture")
    photos = tmp_path / "secret" / "my photos"
    folder.begin(Settings(budget="quick", dataset=f"folder:{photos}", data_note="<b>mine</b>"))
    one = folder.step_run(the_argument().steps[3], "torch", 1)
    create_run(one.run.path, load_recipe(one.step.model), ["a test"])
    markdown, page = write_report(folder)
    assert (
        "kerascnn lecture run --quick --backend torch --seeds 2 --only 4 --dataset 'folder:my photos'"
        in markdown.read_text()
    )
    assert "secret" not in markdown.read_text() + page.read_text()
    assert "<b>" not in page.read_text()


def test_networks_that_should_learn_and_are_at_chance_are_told_beside_those_that_should_not(tmp_path: Path) -> None:
    folder = LectureFolder(tmp_path / "lecture")
    folder.begin(Settings(budget="quick"))
    for step in the_argument().steps:
        if step.id in ("2", "4", "7b"):
            one = folder.step_run(step, "torch", 0)
            create_run(one.run.path, load_recipe(step.model), ["a test"])
            events = [*recorded(AT_CHANCE), layers_at(1, 0.0), layers_at(90, 1.0)]
            events.append(ev.RunEnded(state="finished", message="", step=300, elapsed=100.0, exit_code=0))
            one.run.events_file.write_text("".join(event.model_dump_json() + "\n" for event in events))
    text = write_report(folder)[0].read_text()
    assert "not only step 4, which the lecture has failing, but also steps 2 and 7b, which it has learning" in text


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_a_layers_figure_that_is_no_number_is_left_out_of_the_pictures(tmp_path: Path, norm: float) -> None:
    folder = made_up_lecture(tmp_path / "lecture", first=norm)
    markdown, _ = write_report(folder)
    for name in ("gradients-torch.svg", "between-images-torch.svg"):
        picture = (folder.path / name).read_text()
        assert picture.startswith("<svg")
        assert not re.search(r"\b(nan|inf)\b", picture)
    assert "| 8 | `plain12_bn` | – | – | 1 |" in markdown.read_text()


def test_a_loss_that_is_no_number_is_left_out_of_the_curves(tmp_path: Path) -> None:
    folder = made_up_lecture(tmp_path / "lecture")
    run = folder.step_run(the_argument().chosen(["8"])[0], "torch", 0).run
    lines = run.events_file.read_text().splitlines()
    written = [ev.parse_event(line) for line in lines]
    place = next(n for n, event in enumerate(written) if isinstance(event, ev.StepDone) and event.step == 60)
    for value in (math.nan, math.inf):
        lines[place] = written[place].model_copy(update={"loss": value, "mean_loss": value}).model_dump_json()
        run.events_file.write_text("\n".join(lines) + "\n")
        write_report(folder)
        assert (folder.path / "curves-torch.svg").read_text().startswith("<svg")


def test_a_report_of_fewer_steps_says_what_that_leaves_open(tmp_path: Path) -> None:
    texts = []
    for steps in (30, 300):
        folder = LectureFolder(tmp_path / str(steps))
        folder.begin(Settings(budget="quick", steps=steps))
        one = folder.step_run(the_argument().chosen(["4"])[0], "torch", 0)
        create_run(one.run.path, load_recipe(one.step.model), ["a test"])
        # Several equal epochs may be a few steps more.
        ended = ev.RunEnded(state="finished", message="", step=steps + 6, elapsed=9.0, exit_code=0)
        events = [*recorded([CHANCE] * (steps + 6)), layers_at(1, 0.0), ended]
        one.run.events_file.write_text("".join(event.model_dump_json() + "\n" for event in events))
        texts.append(write_report(folder)[0].read_text())
        assert f"up to {steps + 6} steps a network" in texts[-1]
    assert "**undecided within this budget**" in texts[0]
    assert "that is undecided here, whatever is claimed of it" in texts[0]
    assert "**as claimed**" in texts[1]
    assert "whatever is claimed of it" not in texts[1]


def test_the_same_runs_give_the_same_report(tmp_path: Path) -> None:
    folder = made_up_lecture(tmp_path / "lecture")
    first = {path.name: path.read_bytes() for path in [*write_report(folder), *folder.path.glob("*.svg")]}
    assert first == {path.name: path.read_bytes() for path in [*write_report(folder), *folder.path.glob("*.svg")]}


# ── The command ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_argument_is_shown(kerascnn_command: Command) -> None:
    shown = kerascnn_command("lecture").stdout
    assert "training 93.8 %, validation 68.7 %" in shown
    assert len(json.loads(kerascnn_command("lecture", "--json").stdout)) == 16


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--only", "13"], "no step '13': expected 1, 2"),
        (["run", "--quick", "--full"], "expected --quick or --full, got both"),
        (["run", "--dataset", "cifar11"], "did you mean 'cifar10'?"),
        (["report", "nowhere"], "expected a lecture's folder with a lecture.json at nowhere"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    arguments: list[str], said: str, kerascnn_command: Command, tmp_path: Path
) -> None:
    done = kerascnn_command("lecture", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_holds_one_lecture(tmp_path: Path, kerascnn_command: Command) -> None:
    place = tmp_path / "lecture"
    LectureFolder(place).begin(Settings(budget="quick", steps=40, dataset="fashion_mnist_mini"))
    mine = ["lecture", "run", "--dir", place, "--dataset", "fashion_mnist_mini", "--offline"]
    other = kerascnn_command(*mine, "--steps", "50")
    assert other.returncode == 2
    assert "a lecture with steps = 40 was begun here, expected the same, got 50" in other.stderr
    with filelock.FileLock(place / ".lock"):
        second = kerascnn_command(*mine, "--steps", "40")
    assert second.returncode == 1
    assert "another process runs this lecture" in second.stderr


def test_a_folder_without_a_training_says_how_to_begin_one(tmp_path: Path, kerascnn_command: Command) -> None:
    LectureFolder(tmp_path / "my lecture").begin(Settings(budget="quick"))
    done = kerascnn_command("lecture", "report", "my lecture")
    assert done.returncode == 2
    assert "`kerascnn lecture run --dir 'my lecture'` does" in done.stderr


def test_a_folder_of_images_is_trained_on_for_all_steps(tmp_path: Path, kerascnn_command: Command) -> None:
    write_image_folder(tmp_path / "photos", images=40, size=(28, 28))
    command = ["lecture", "run", "--dir", tmp_path / "lecture", "--dataset", "folder:photos", "--only", "4"]
    done = kerascnn_command(*command, "--steps", "6", "--backend", "torch")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "lecture").glob("runs/*/*")
    assert (events_of(run)[-1]["state"], events_of(run)[-1]["step"]) == ("finished", 6)
    # Without a tenth of 80 images there is one batch an epoch.
    assert len(events_of(run, "epoch")) == 6
    assert "as claimed" not in (tmp_path / "lecture" / "lecture.md").read_text().partition("## Step by step")[0]


def begun(place: Path, start_command: Start, *more: str) -> tuple[subprocess.Popen[str], Path]:
    """A lecture of one small step, a few steps into its training."""
    command = ["lecture", "run", "--dir", str(place), "--dataset", "fashion_mnist_mini", "--offline", "--only", "1"]
    run = place / "runs" / "1-cnn2_fmnist" / "torch-seed0"
    before = steps_of(run)
    process = start_command(*command, "--steps", "60", *more)
    while steps_of(run) < before + 3:
        assert process.poll() is None, process.communicate()
    return process, run


def steps_of(run: Path) -> int:
    """How many steps have been recorded so far."""
    return len(events_of(run, "step")) if (run / "events.jsonl").exists() else 0


def test_a_training_outlives_a_killed_lecture_and_is_taken_up_again(
    tmp_path: Path, kerascnn_command: Command, start_command: Start
) -> None:
    process, run = begun(tmp_path / "lecture", start_command, "--backend", "torch")
    process.kill()
    process.communicate()
    assert Run(run).owner() is not None
    command = ["lecture", "run", "--dir", tmp_path / "lecture", "--dataset", "fashion_mnist_mini", "--offline"]
    done = kerascnn_command(*command, "--only", "1", "--steps", "60", "--backend", "torch")
    assert done.returncode == 0, done.stderr
    assert len(events_of(run, "run started")) == 1
    assert "| 1 | 2 conv" in (tmp_path / "lecture" / "lecture.md").read_text()


def test_ctrl_c_ends_a_training_that_was_taken_up(
    tmp_path: Path, kerascnn_command: Command, start_command: Start
) -> None:
    place = tmp_path / "lecture"
    process, run = begun(place, start_command, "--backend", "torch")
    process.kill()
    process.communicate()
    assert Run(run).owner() is not None

    class CtrlC(Watcher):
        def sees(self, event: ev.Event) -> None:
            raise KeyboardInterrupt

    steps = the_argument().chosen(["1"])
    with pytest.raises(KeyboardInterrupt):
        run_lecture(LectureFolder(place), steps, 1, Options(backend="torch", download=False), "torch", CtrlC())
    assert Run(run).owner() is None
    assert [event["kind"] for event in events_of(run)[-2:]] == ["checkpoint", "run ended"]
    ended = events_of(run)[-1]
    assert (ended["state"], ended["step"] < 60) == ("stopped", True)
    command = ["lecture", "run", "--dir", place, "--dataset", "fashion_mnist_mini", "--offline", "--only", "1"]
    done = kerascnn_command(*command, "--steps", "60", "--backend", "torch")
    assert done.returncode == 0, done.stderr
    assert [event["step"] for event in events_of(run, "resumed")] == [ended["step"]]


def test_a_training_that_is_killed_is_named_and_goes_on(tmp_path: Path, start_command: Start) -> None:
    process, run = begun(tmp_path / "lecture", start_command, "--backend", "torch")
    pid = Run(run).owner()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 1
    assert "step 1, cnn2_fmnist: its process ended with exit code -9 and gave no reason" in said
    again, _ = begun(tmp_path / "lecture", start_command, "--backend", "torch")
    again.send_signal(signal.SIGINT)
    _, said = again.communicate(timeout=GIVE_UP_S)
    assert again.returncode == 130
    assert "the same command goes on with it" in said
    assert Run(run).owner() is None
    assert events_of(run)[-1]["state"] == "interrupted"
    assert events_of(run, "resumed")


def test_a_training_whose_checkpoints_were_removed_is_left_as_it_ended(tmp_path: Path) -> None:
    folder = LectureFolder(tmp_path / "lecture")
    one = tui_lecture.train(folder, "5", tui_lecture.at_chance, 40, end="interrupted")
    saved = ev.CheckpointWritten(step=40, file="checkpoints/step-40", reason="interrupted", bytes=9, seconds=0.1)
    tui_lecture.write(one, [saved, tui_lecture.ended("interrupted", 40)])
    one.run.result_file.write_text('{"message": "SIGTERM came"}')
    happened = one.run.events_file.read_bytes()
    with pytest.raises(CheckpointError, match="they are gone"):
        run_lecture(folder, [one.step], 1, Options(backend="torch", download=False), "torch", Watcher())
    assert one.run.events_file.read_bytes() == happened
    assert one.run.result()["message"] == "SIGTERM came"


@pytest.mark.slow
def test_three_steps_are_trained_judged_and_reported(tmp_path: Path, kerascnn_command: Command, backend: str) -> None:
    place = tmp_path / "lecture"
    command = ["lecture", "run", "--dir", place, "--backend", backend, "--dataset", "fashion_mnist_mini", "--offline"]
    command += ["--steps", "34", "--only", "1,4", "--only", "8"]

    done = kerascnn_command(*command)
    assert done.returncode == 0, done.stderr
    verdicts = {one["step"]: one for one in json.loads(kerascnn_command("lecture", "report", place, "--json").stdout)}
    assert verdicts["1"]["behaviour"] != "learns"
    assert verdicts["1"]["verdict"] == "undecided within this budget"
    # In so few steps nothing is known to fail.
    assert (verdicts["4"]["behaviour"], verdicts["4"]["verdict"]) == ("undecided", "undecided within this budget")
    assert verdicts["8"]["verdict"] == "as claimed"
    # It was ended as soon as it had learnt.
    stopped = Path(verdicts["8"]["run_dir"])
    assert events_of(stopped)[-1]["state"] == "stopped"
    assert events_of(stopped)[-1]["step"] < 34
    assert not list(place.glob("runs/*/*/checkpoints/*"))
    assert "| 8 | 12 conv, ReLU (`plain12_bn`) |" in (place / "lecture.md").read_text()

    before = {path: path.stat().st_mtime_ns for path in place.glob("runs/*/*/events.jsonl")}
    assert kerascnn_command(*command).returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
