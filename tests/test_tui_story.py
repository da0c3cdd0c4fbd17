"""Reading a run's events into arrays: growing, torn, shortened, gone, newer, resumed."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run, state_of
from kerascnn.runs.pace import Pace
from tests import recorded
from tests.recorded import BEGAN, STEPS_PER_EPOCH, append, record, started, step, whole_run
from tui.reading.story import FIGURES, LayerHistory, RunStory

FOREVER = 1e9


def read(run: Run) -> RunStory:
    story = RunStory(run)
    story.read(FOREVER)
    return story


def test_a_whole_run_is_known_with_its_curves_marks_and_layers(tmp_path: Path) -> None:
    story = read(record(tmp_path / "run", whole_run()))
    assert story.steps.column("step").tolist() == list(range(1, 121))
    assert story.steps.column("loss")[9] == pytest.approx(step(10).loss)
    assert story.epochs.column("val_accuracy").tolist() == [recorded.epoch(n).val_accuracy for n in (1, 2, 3)]
    assert [(mark.kind, mark.step) for mark in story.marks] == [("pause", 30), ("set-lr", 60), ("finding", 90)]
    assert (story.epoch, story.pace.epochs, story.step, story.steps_in_all) == (3, 3, 120, 120)
    assert (story.state(None, None), story.trouble, story.startup_s) == ("finished", "", 4.0)
    at, figures = story.layers.at(95) or (0, np.empty(0))
    assert (at, figures[3, 4]) == (90, pytest.approx(0.6))
    assert story.layers.over_time("dead").shape == (12, len(recorded.LAYERS))
    assert story.layers.at(9) is None
    assert "lr" in story.marks[1].label
    assert [line.text for line in story.lines][-1] == "finished: all 3 epochs are done"


def test_layers_that_are_taken_back_and_told_anew_are_those_that_were_told_last() -> None:
    history = LayerHistory()
    told = [recorded.layers(number) for number in range(1, 201)]
    for event in told:
        history.take(event)
    before = history.over_time("gradient_norm")
    assert before.tolist() == [list(event.gradient_norm) for event in told]
    version = history.version
    history.keep_up_to(150)
    assert (len(history), history.at(None)[0]) == (150, 150)  # type: ignore[index]
    again = [recorded.layers(number).model_copy(update={"step": number - 50}) for number in range(201, 251)]
    for event in again:
        history.take(event)
    assert history.version > version, "as many rows, but others"
    assert history.over_time("gradient_norm").tolist() == [list(one.gradient_norm) for one in told[:150] + again]
    assert np.isnan(history.over_time("saturated")).all()
    assert before[-1].tolist() == list(told[-1].gradient_norm), "what was handed out stays"


def test_statistics_of_a_network_without_a_kernel_are_none(tmp_path: Path) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("layers", *FIGURES), ())
    story = read(record(tmp_path / "run", [*started(), recorded.layers(1).model_copy(update=nothing), step(2)]))
    assert (story.step, len(story.layers), story.layers.over_time("dead").shape) == (2, 1, (1, 0))


def test_accuracy_is_told_since_the_last_recorded_step(tmp_path: Path) -> None:
    """The events' accuracy is over the epoch so far: after 10 steps at 0.5 and 10 more at 0.7 it is 0.6."""
    first, second = step(10).model_copy(update={"accuracy": 0.5}), step(20).model_copy(update={"accuracy": 0.6})
    story = read(record(tmp_path / "run", [*started(), first, second]))
    assert story.steps.column("recent_accuracy") == pytest.approx([0.5, 0.7])


def test_a_resume_takes_back_what_came_after_it(tmp_path: Path) -> None:
    happened = whole_run()[:-1]
    resumed = ev.Resumed(step=80, epoch=2, epochs=3, elapsed=80.0, file="")
    story = read(record(tmp_path / "run", [*happened, *started(pid=2)[:1], resumed, step(81, loss=9.0)]))
    assert story.step == 81
    assert story.steps.column("loss")[-1] == 9.0
    assert len(story.epochs) == 2
    assert story.layers.steps[-1] == 80
    assert story.findings == []
    assert [mark.kind for mark in story.marks] == ["pause", "set-lr", "resumed"]


def test_a_control_that_a_resume_repeats_is_one_mark(tmp_path: Path) -> None:
    changed = recorded.control("set-lr", 3, value=0.01)
    resumed = ev.Resumed(step=2, epoch=0, epochs=3, elapsed=2.0, file="")
    story = read(record(tmp_path / "run", [*started(), step(1), step(2), step(3), changed, resumed, step(3), changed]))
    assert [mark.kind for mark in story.marks] == ["set-lr", "resumed"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=25))
def test_steps_and_state_are_those_of_the_typed_reader(changes: list[tuple[bool, int]]) -> None:
    """Steps go on, and now and then a resume goes back: what is kept is what `events.effective` keeps."""
    happened = started()
    last = 0
    for is_resume, jump in changes:
        if is_resume:
            last = max(last - jump, 0)
            happened += [
                started()[0],
                ev.Resumed(step=last, epoch=last // STEPS_PER_EPOCH, epochs=3, elapsed=float(last), file=""),
            ]
        else:
            last += jump + 1
            happened.append(step(last))
            if jump == 12:
                happened.append(recorded.control("pause", last, id_=str(len(happened))))
    story = RunStory(Run(Path("nowhere")))
    for event in happened:
        story.take(event)
    kept = ev.effective(happened)
    steps = list(ev.of_kind(kept, ev.StepDone))
    assert story.steps.column("step").tolist() == [event.step for event in steps]
    assert story.steps.column("loss").tolist() == [event.loss for event in steps]
    assert story.state(None, None) == state_of(kept, None, None)


def test_a_growing_file_is_read_once_whatever_the_chunks(tmp_path: Path) -> None:
    whole = recorded.lines(whole_run())
    run = record(tmp_path / "run", [])
    story = RunStory(run)
    with run.events_file.open("ab") as file:
        for begin in range(0, len(whole), 777):
            file.write(whole[begin : begin + 777])
            file.flush()
            story.read(FOREVER)
    assert len(story.steps) == 120
    assert story.unreadable == 0
    assert story.version == len(whole_run())
    assert not story.read(FOREVER)


def test_a_half_written_line_waits_for_its_end(tmp_path: Path) -> None:
    run = record(tmp_path / "run", started())
    line = recorded.lines([step(1)])
    with run.events_file.open("ab") as file:
        file.write(line[:30])
    story = read(run)
    assert story.step == 0
    with run.events_file.open("ab") as file:
        file.write(line[30:])
    assert story.read(FOREVER)
    assert (story.step, story.unreadable) == (1, 0)


def test_a_long_file_is_read_within_a_budget(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [*started(), *(step(number) for number in range(1, 3001))])
    ticks = itertools.count()
    story = RunStory(run, clock=lambda: float(next(ticks)))
    # Each look at the clock is a second: the first chunk is within the budget, the second isn't.
    story.read(1.5)
    assert story.behind
    assert 0 < story.share_read < 1
    assert 0 < story.step < 3000
    story.read(FOREVER)
    assert (story.behind, story.step) == (False, 3000)


def test_kinds_that_are_not_known_and_damaged_lines_are_skipped(tmp_path: Path) -> None:
    run = record(tmp_path / "run", started())
    with run.events_file.open("ab") as file:
        file.write(b'{"kind": "from the future", "time": 1}\n\xff\xfe\n{"kind": "step"}\n' + b"[" * 5000 + b"\n")
    append(run, step(1))
    story = read(run)
    assert (story.step, story.unreadable, story.trouble) == (1, 4, "")


def test_a_directory_that_goes_away_keeps_what_was_read(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [*started(), step(1)])
    story = read(run)
    shutil.rmtree(run.path)
    assert story.read(FOREVER)
    assert "is gone" in story.trouble
    assert "still shown" in story.trouble
    assert story.step == 1


def test_a_file_that_becomes_shorter_is_told_and_followed(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [*started(), step(1), step(2)])
    story = read(run)
    run.events_file.write_bytes(recorded.lines(started()))
    story.read(FOREVER)
    assert "shorter" in story.trouble
    assert story.step == 2
    append(run, step(3))
    story.read(FOREVER)
    assert story.step == 3


def test_a_newer_format_is_told(tmp_path: Path) -> None:
    story = read(record(tmp_path / "run", [*started(format_=ev.FORMAT + 1), step(1)]))
    assert story.trouble == "written by a newer kerascnn, as format 2: this one reads format 1 and may miss some of it"
    assert story.step == 1


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda path: None, "there is no folder"),
        (lambda path: path.mkdir(), "expected recipe.toml and events.jsonl"),
        (lambda path: (path.mkdir(), (path / "events.jsonl").mkdir()), "can't be read"),
        (lambda path: (path.mkdir(), (path / "events.jsonl").write_text("hello\n")), "no line of"),
    ],
)
def test_what_is_not_a_run_is_told_in_a_sentence(tmp_path: Path, prepare: object, said: str) -> None:
    path = tmp_path / "run"
    prepare(path)  # type: ignore[operator]
    story = read(Run(path))
    assert said in story.trouble
    assert story.state(None, None) == "starting"


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.reading.story.MAX_LINE", 1000)
    monkeypatch.setattr("tui.reading.story.CHUNK", 300)
    run = record(tmp_path / "run", started())
    with run.events_file.open("ab") as file:
        file.write(b"x" * 5000)
    story = read(run)
    assert len(story._carry) <= 1300
    with run.events_file.open("ab") as file:
        file.write(b"\n")
    append(run, step(1))
    story.read(FOREVER)
    assert story.step == 1


def test_what_could_steer_a_terminal_or_break_a_line_is_not_kept(tmp_path: Path) -> None:
    story = read(record(tmp_path / "run", [*started(), ev.Warned(message="one\x1b[2J\ntwo\u202e")]))
    assert story.lines[-1].text == "note: one [2J two"


def test_a_step_that_no_run_can_have_reached_is_left_out(tmp_path: Path) -> None:
    huge = step(1).model_copy(update={"step": 10**400})
    endless = step(2).model_copy(update={"elapsed": float("inf")})
    story = read(record(tmp_path / "run", [*started(), huge, step(3)]))
    story.take(endless)
    assert (story.step, story.unreadable) == (3, 2)


def test_numbers_that_are_none_are_kept(tmp_path: Path) -> None:
    story = read(record(tmp_path / "run", [*started(), step(1), step(2, loss=float("nan"))]))
    assert np.isnan(story.steps.column("loss")[1])


def test_steps_that_go_back_without_a_resume_replace_the_old_ones(tmp_path: Path) -> None:
    story = read(record(tmp_path / "run", [*started(), step(1), step(2), step(3), step(2, loss=7.0)]))
    assert story.steps.column("step").tolist() == [1.0, 2.0]
    assert story.steps.column("loss")[1] == 7.0


def test_what_a_failed_process_said_is_found(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [])
    run.log_file.write_text("\n\nError: no module named torch\n")
    assert read(run).log_tail() == ["Error: no module named torch"]


def paced(*happened: ev.Event) -> Pace:
    pace = Pace()
    for event in happened:
        pace.see(event)
    return pace


def test_the_time_left_is_an_interval_around_the_recent_paces() -> None:
    times = [0.0]
    for number in range(1, 25):
        times.append(times[-1] + (1.0 if number % 2 else 3.0))
    happened = [step(number + 1).model_copy(update={"elapsed": time}) for number, time in enumerate(times)]
    pace = paced(*started(), *happened)
    left = 3 * STEPS_PER_EPOCH - 25
    assert pace.interval_left() == pytest.approx((left * 1.0, left * 3.0))
    assert pace.seconds_left() == pytest.approx(left * 2.0)


def test_validation_and_start_up_are_not_taken_for_slow_steps() -> None:
    first = [step(number) for number in (39, 40)]
    validated = [
        ev.Phase(time=BEGAN, phase="validating", epoch=1),
        recorded.epoch(1).model_copy(update={"time": BEGAN + 100}),
    ]
    second = [step(number).model_copy(update={"elapsed": number + 100.0}) for number in (41, 42)]
    pace = paced(*started(), *first, *validated, *second)
    assert pace.interval_left() == pytest.approx((78 + 2 * 100, 78 + 2 * 100))


def test_a_resumed_process_has_a_pace_of_its_own() -> None:
    pace = paced(*started(), step(1), step(2))
    pace.see(ev.Resumed(step=2, epoch=0, epochs=5, elapsed=2.0, file=""))
    assert pace.interval_left() is None
    assert pace.seconds_left() is None
