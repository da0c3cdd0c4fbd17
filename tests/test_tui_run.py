"""The screen of one run: what it shows, and every control against a real run directory."""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError
from rich.cells import cell_len
from syrupy.assertion import SnapshotAssertion
from textual.widgets import Input, Static

from kerascnn.runs import control
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run
from tests import recorded
from tests.conftest import GIVE_UP_S
from tests.recorded import BEGAN, append, asked_of, disown, own, record, started, step, whole_run
from tests.screen_host import Clock, Host, host, press, tick, ticked
from tests.screens import SIZES, screen_text
from tui.demo import RECORDING, demo_run
from tui.drawing.colors import color_of
from tui.drawing.glyphs import STATES
from tui.reading import status
from tui.reading.digest import Digest
from tui.reading.story import RunStory
from tui.screens.asking import AskNumber
from tui.screens.dialogs import Question
from tui.screens.run import LINES_OF_A_WORD, RunScreen
from tui.settings import Settings
from tui.themes import THEMES
from tui.widgets import layers as layer_table
from tui.widgets.chart import Chart
from tui.widgets.layers import LayerTable, write_figure
from tui.widgets.log import LogTail


def wrong(app: Host) -> str:
    """What the dialog says is wrong."""
    return str(app.screen.query_one(".wrong", Static).content)


@contextmanager
def live_process(run: Run) -> Iterator[subprocess.Popen[bytes]]:
    """A process that owns the run and does nothing."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        own(run, process.pid)
        yield process
    finally:
        process.kill()
        process.communicate()


# What it shows


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_finished_run(tmp_path: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    app = host(record(tmp_path / "run", whole_run()))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        assert screen_text(app) == snapshot


async def test_ascii_needs_no_other_character(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    app = host(record(tmp_path / "run", whole_run()), Settings(ascii=True))
    async with app.run_test(size=(100, 36)) as pilot:
        await press(pilot, "f")
        text = screen_text(app)
        assert text.isascii(), sorted({character for character in text if not character.isascii()})
        assert text == snapshot


async def test_ascii_translates_what_events_tell(tmp_path: Path) -> None:
    odd = recorded.finding(20).model_copy(update={"symptom": "1×1 → 0", "layer": "conv·1"})
    warned = ev.Warned(time=BEGAN + 30, message="images of 28×28×1 …", step=30)
    statistics = recorded.layers(10).model_copy(update={"layers": tuple(f"conv×{n}" for n in range(8))})
    steps = [step(number) for number in range(1, 41)]
    app = host(record(tmp_path / "run", [*started(), *steps, statistics, odd, warned]), Settings(ascii=True))
    async with app.run_test(size=(200, 60)) as pilot:
        await press(pilot, "w", "w", "w", "w")
        text = screen_text(app)
        assert text.isascii(), sorted({character for character in text if not character.isascii()})
        for told in ("! 1x1 > 0", "images of 28x28x1 .", "importing .", "convx7"):
            assert told in text


async def test_f_goes_from_finding_to_finding_and_tells_each(tmp_path: Path) -> None:
    # After its first steps a run records about one a second; findings come at any.
    steps = [step(number) for number in (100, 110)]
    layers = {101: "first", 103: "second", 200: "third"}
    findings = [recorded.finding(number).model_copy(update={"layer": layer}) for number, layer in layers.items()]
    run = record(tmp_path / "run", [*started(), *steps, *findings])
    own(run)
    app = host(run)

    def word() -> str:
        return str(app.screen.query_one("#word").render()).strip()

    async with app.run_test(size=(160, 40)) as pilot:
        await pilot.pause()
        assert word().endswith("(step 200, 3 findings; f goes there)")
        for number, layer, cursor in ((1, "first", 100), (2, "second", 100), (3, "third", 110), (1, "first", 100)):
            await press(pilot, "f")
            assert word().startswith(f"⚠ {layer}: dead channels")
            assert word().endswith(f"finding {number} of 3; f goes to the next)")
            assert app.opened.charts.cursor == cursor
        await press(pilot, "x")
        append(run, step(201))
        await ticked(app, pilot)
        assert word().startswith("⚠ first: "), "neither another axis nor news moves the cursor"
        await press(pilot, "x", "x", "f", "f")
        assert word().startswith("⚠ third: ")
        await press(pilot, "home", "f")
        assert word().startswith("⚠ first: "), "the next one from where the cursor is"
        await press(pilot, "c")
        assert word().endswith("(step 200, 3 findings; f goes there)")


async def test_f_tells_a_finding_before_the_end_of_its_run(tmp_path: Path) -> None:
    diverged = ev.RunEnded(state="diverged", message="the loss is nan", step=9, elapsed=0, exit_code=1)
    app = host(record(tmp_path / "run", [*started(), step(9), recorded.finding(9), diverged]))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "diverged: the loss is nan" in str(app.screen.query_one("#word").render())
        await press(pilot, "f")
        assert "block3_conv1: dead channels" in str(app.screen.query_one("#word").render())


async def test_the_log_follows_again_when_the_cursor_is_taken_away(tmp_path: Path) -> None:
    warned = [ev.Warned(time=BEGAN + number, message=f"note {number}", step=number) for number in range(1, 40)]
    run = record(tmp_path / "run", [*started(), *(step(number) for number in range(1, 40)), *warned])
    own(run)
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        log = app.opened.query_one(LogTail)
        await press(pilot, "c", "home")
        assert log.scroll_y < log.max_scroll_y / 2
        await pilot.resize_terminal(120, 50)
        await press(pilot)
        assert log.scroll_y < log.max_scroll_y / 2
        await press(pilot, "c")
        assert log.scroll_y == log.max_scroll_y
        append(run, *(ev.Warned(message=f"more {number}", step=40) for number in range(9)))
        await ticked(app, pilot)
        assert "more 8" in screen_text(app)
        log.scroll_to(y=3, animate=False)
        await press(pilot, "c", "end", "c")
        append(run, *(ev.Warned(message=f"last {number}", step=41) for number in range(9)))
        await ticked(app, pilot)
        assert "last 8" not in screen_text(app), "it had been scrolled up before"


async def test_one_cursor_moves_curves_layers_and_log(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    app = host(record(tmp_path / "run", whole_run()))
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "f")
        text = screen_text(app)
        assert text.count("step 90 ·") == 3  # both charts and the line of figures
        assert "layers at step 90" in text
        assert "▸     90  warning: dead channels in block3_conv1" in text
        assert text == snapshot
        await press(pilot, "home")
        assert "at step 1 ·" in screen_text(app)
        await press(pilot, "right", "shift+right", "left")
        cursor = app.opened.charts.cursor
        assert cursor is not None
        assert 2 < cursor < 40
        await press(pilot, "end", "x")
        assert "epoch 3 ·" in screen_text(app)
        await press(pilot, "c")
        assert "at step" not in screen_text(app).replace("layers at step 120", "").replace("at step 90:", "")


async def test_the_keys_of_the_charts(tmp_path: Path) -> None:
    app = host(record(tmp_path / "run", whole_run()))
    async with app.run_test(size=(120, 40)) as pilot:
        loss, accuracy = app.screen.query(Chart)
        await press(pilot, "z")
        assert (loss.picture.left, loss.picture.right) == (30, 90)
        await press(pilot, "right")
        assert loss.picture.left == pytest.approx(36)
        assert accuracy.picture.left == loss.picture.left
        await press(pilot, "end")
        assert (loss.picture.left, loss.picture.right) == (60, 120)
        await press(pilot, "home", "minus")
        assert (loss.picture.left, loss.picture.right) == (0, 120)
        await press(pilot, "plus", "0")
        assert not loss.picture.zoomed
        await press(pilot, "g")
        assert (loss.picture.log, accuracy.picture.log) == (True, False)
        assert "log scale" in screen_text(app)
        raw, smoothed, _ = loss.picture.series
        assert (raw.weight, smoothed.weight) == ("dim", "bold")
        assert abs(smoothed.y[-1] - raw.y[-1]) > 1e-6
        await press(pilot, "m", "m", "m")
        assert [one.label for one in loss.picture.series] == ["train", "validation"]
        await press(pilot, "x", "x")
        assert loss.picture.axis == "time"
        assert "2 min" in screen_text(app)
        await press(pilot, "question_mark")
        assert app.said[-1].startswith("Training loss fell from ")
        assert "at time 1 s" in app.said[-1]
        await press(pilot, "tab", "question_mark")
        assert app.said[-1].startswith("Training accuracy rose from ")
        assert app.cleared == 2, "each time, what was said before"
        await press(pilot, "escape")
        assert app.cleared == 3, "it doesn't stay over the screen that comes next"


async def test_the_axis_of_a_network_that_does_not_learn_tells_its_losses_apart(tmp_path: Path) -> None:
    steps = [step(number, loss=2.3022 + 0.0001 * (number % 5)) for number in range(1, 41)]
    app = host(record(tmp_path / "run", [*started(), *steps]))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        labels = [line[1:7].strip() for line in screen_text(app).splitlines()[2:10] if line[1] != " "]
        assert labels[:2] == ["2.3026", "2.3024"]


async def test_the_legend_has_the_colours_of_the_curves_when_the_theme_changes(tmp_path: Path) -> None:
    app = host(record(tmp_path / "run", whole_run()))
    async with app.run_test(size=(120, 40)) as pilot:
        chart = app.screen.query(Chart).first()
        await pilot.pause()
        for theme in THEMES:
            app.register_theme(theme)
        for theme in ("dark", "light"):
            app.theme = theme
            await pilot.pause()
            for ink in ("train", "validation"):
                assert color_of(ink, app.theme_variables).hex in str(chart.border_title), (theme, ink)


async def test_a_cursor_begins_in_sight(tmp_path: Path) -> None:
    app = host(record(tmp_path / "run", whole_run()))
    async with app.run_test(size=(120, 40)) as pilot:
        chart = app.screen.query(Chart).first()
        await press(pilot, "z", "c")
        assert (chart.picture.left, chart.picture.right) == (30, 90)
        assert chart.picture.cursor == 90
        await press(pilot, "c", "0", "c")
        assert chart.picture.cursor == 120


async def test_the_mouse_points_zooms_and_pans(tmp_path: Path) -> None:
    app = host(record(tmp_path / "run", whole_run()))
    async with app.run_test(size=(120, 40)) as pilot:
        chart = app.screen.query(Chart).first()
        await pilot.click(chart, offset=(30, 8))
        cursor = app.opened.charts.cursor
        assert cursor is not None
        assert 50 < cursor < 70
        place = chart.region.x + 30, chart.region.y + 8
        chart.post_message(mouse("MouseScrollUp", chart, *place))
        await pilot.pause()
        left, right = chart.picture.left, chart.picture.right
        assert right - left == pytest.approx(120 * 0.8)
        assert (cursor - left) / (right - left) == pytest.approx(cursor / 120, abs=0.02)
        await pilot.mouse_down(chart, offset=(30, 8))
        await pilot.hover(chart, offset=(35, 8))
        await pilot.mouse_up(chart, offset=(35, 8))
        await pilot.pause()
        assert chart.picture.left < left
        assert app.opened.charts.cursor == cursor


def mouse(kind: str, widget: Any, x: int, y: int) -> Any:
    from textual import events

    return getattr(events, kind)(widget, x - widget.region.x, y - widget.region.y, 0, -1, 0, False, False, False, x, y)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ((20, 20), "‖ paused ▽ lr 0.1"),  # at one step, side by side
        ((20, 60), "‖ paused"),
        ((20, 24), "‖"),  # no room for the first one's label
        ((99, 99), "paused ‖ lr 0.1 ▽"),  # at the right edge, to the left of their line
    ],
)
async def test_marks_are_told_where_there_is_room(tmp_path: Path, at: tuple[int, int], expected: str) -> None:
    steps = [step(number) for number in range(1, 101)]
    marks = [recorded.control("pause", at[0]), recorded.control("set-lr", at[1], value=0.1)]
    app = host(record(tmp_path / "run", [*started(), *steps, *marks]))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        top = next(line for line in screen_text(app).splitlines() if "‖" in line and "asked" not in line)
        assert expected in top
        assert ("paused" in top) == ("paused" in expected)
        assert "lr 0.1" in top


async def test_where_there_is_room_for_one_chart_a_key_shows_the_other(tmp_path: Path) -> None:
    app = host(record(tmp_path / "run", whole_run()))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert ("─ loss" in screen_text(app), "─ accuracy" in screen_text(app)) == (True, False)
        await press(pilot, "v")
        assert ("─ loss" in screen_text(app), "─ accuracy" in screen_text(app)) == (False, True)
        await pilot.resize_terminal(120, 40)
        await pilot.pause()
        assert "─ loss" in screen_text(app)
        for size in ((20, 5), (3, 2), (200, 60), (80, 24)):
            await pilot.resize_terminal(*size)
            await press(pilot, "c", "right")


async def test_the_strip_shows_another_figure(tmp_path: Path) -> None:
    app = host(record(tmp_path / "run", whole_run()))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        dying = next(line for line in screen_text(app).splitlines() if "block3_conv1" in line)
        assert "80 %" in dying
        await press(pilot, "w", "w", "w")
        assert app.screen.query_one(LayerTable).figure == "dead"
        dying = next(line for line in screen_text(app).splitlines() if "block3_conv1" in line)
        assert "▁▂▂▃▃▄▄▅▅▆▆▇" in dying
        assert "dead over time" in screen_text(app)


async def test_the_strips_are_measured_when_there_are_new_figures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = whole_run()[:-1]
    run = record(tmp_path / "run", happened)
    own(run)
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "w", "w", "w")
        assert "▁▂▂▃▃▄▄▅▅▆▆▇" in screen_text(app)
        measured: list[int] = []
        measure = layer_table.heights_of

        def noting(values: Any, figure: Any) -> Any:
            measured.append(len(values))
            return measure(values, figure)

        monkeypatch.setattr(layer_table, "heights_of", noting)
        append(run, step(121))
        await ticked(app, pilot)
        await press(pilot, "c", "left", "left", "c")
        assert measured == []
        append(run, recorded.layers(130))
        await ticked(app, pilot)
        await press(pilot, "w")
        assert measured == [13, 13]
        # A resume that takes figures back, and as many again.
        resumed = ev.Resumed(step=120, epoch=3, epochs=3, elapsed=120.0, file="")
        append(run, resumed, recorded.layers(125))
        await ticked(app, pilot)
        assert measured == [13, 13, 13]


async def test_a_run_that_goes_on_never_tells_more_epochs_than_it_is_to_have(tmp_path: Path) -> None:
    again = started(epochs=3)[:2]
    longer = [*(step(number) for number in range(121, 161)), recorded.epoch(4)]
    run = record(tmp_path / "run", [*whole_run()[:-1], recorded.control("extend", 120, epochs=9), *longer, *again])
    own(run)
    app = host(run)
    digest = Digest()
    digest.read(run.events_file)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        head = screen_text(app).splitlines()[0]
        assert "epoch 4   step 160   ▶" in head
        assert digest.epochs_asked == 9


async def test_a_replay_waits_for_its_layers(tmp_path: Path) -> None:
    app = host(record(tmp_path / "run", whole_run()), replay=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "No layer statistics yet." in screen_text(app)


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_a_sign_and_a_failure_is_no_success(state: str) -> None:
    for ascii_only in (False, True):
        sign = status.glyph(state, ascii_only=ascii_only)
        assert len(sign.strip()) == 1
        assert sign.isascii() or not ascii_only
        good = status.glyph("finished", ascii_only=ascii_only)
        assert (sign == good) == (state == "finished")


async def test_the_time_to_start_is_told_until_an_epoch_has_been_told(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [*started(), step(1)])
    own(run)
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "start-up 4 s" in screen_text(app)
        append(run, recorded.epoch(1))
        await ticked(app, pilot)
        assert "start-up" not in screen_text(app)


@pytest.mark.parametrize(
    ("columns", "told"),
    [(80, "epoch 1/100   step 1,204/4,000"), (74, "epoch 1/100   step 1,204 "), (62, "epoch 1/100   ▶")],
)
async def test_what_is_done_is_told_in_fewer_words_before_the_backend_is_cut(
    tmp_path: Path, columns: int, told: str
) -> None:
    run = record(tmp_path / "run", [*started(epochs=100), step(1).model_copy(update={"step": 1204})])
    own(run)
    app = host(run)
    async with app.run_test(size=(columns, 24)) as pilot:
        await pilot.pause()
        head = screen_text(app).splitlines()[0]
        assert head.startswith(" plain12_bn · cifar10 · torch ")
        assert told in head
        assert head.endswith("▶ training")


async def test_a_live_run_grows_on_the_screen(tmp_path: Path) -> None:
    clock = Clock()
    run = record(tmp_path / "run", started(epochs=10)[:2])
    own(run)
    app = host(run, clock=clock)
    async with app.run_test(size=(120, 40)) as pilot:
        clock.now = BEGAN + 21
        await ticked(app, pilot)
        assert "▶ importing 20 s" in screen_text(app)
        assert "No layer statistics yet." in screen_text(app)
        append(run, *started(epochs=10)[2:], *(step(number) for number in range(1, 21)))
        await ticked(app, pilot)
        assert "epoch 1/10   step 20/400   ▶ training" in screen_text(app)
        assert "6 min 20 s left · start-up 4 s" in screen_text(app)
        append(run, recorded.control("pause", 20))
        await ticked(app, pilot)
        assert "‖ paused" in screen_text(app)
        disown(run)
        await ticked(app, pilot)
        assert "✗ killed" in screen_text(app)
        assert "gone without a word; r begins again: there is no checkpoint yet" in screen_text(app)
        append(run, ev.CheckpointWritten(time=BEGAN + 30, file="", step=20, bytes=1, seconds=1, reason="epoch"))
        await ticked(app, pilot)
        assert "gone without a word; r goes on from the last checkpoint" in screen_text(app)


async def test_a_run_of_another_machine_is_followed_and_not_called_killed(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [*started(), *(step(number) for number in range(1, 11))])
    own(run, host="node7")
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await ticked(app, pilot)
        assert "◇ elsewhere" in screen_text(app)
        assert "node7 works on it, or did until it was cut off" in screen_text(app)
        assert "took" not in screen_text(app)
        append(run, *(step(number) for number in range(11, 21)))
        await ticked(app, pilot)
        assert "step 20/" in screen_text(app)
        disown(run)
        await ticked(app, pilot)
        assert "✗ killed" in screen_text(app)


async def test_a_long_run_is_read_in_turns_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.reading.story.CHUNK", 2000)
    monkeypatch.setattr("tui.screens.run.READ_BUDGET_S", 0.0)
    waiting: list[Callable[[], None]] = []
    monkeypatch.setattr(RunScreen, "set_timer", lambda screen, _, then: waiting.append(then))
    app = host(record(tmp_path / "run", whole_run()))
    async with app.run_test(size=(120, 40)) as pilot:
        # With no time to read, nothing is read, however often the timer looks.
        for _ in range(3):
            await ticked(app, pilot)
        assert len(waiting) == 1
        assert "reading … 0%" in screen_text(app)
        monkeypatch.setattr("tui.screens.run.READ_BUDGET_S", 1e9)
        waiting.pop()()
        await pilot.pause()
        assert waiting == []
        assert "step 120/120" in screen_text(app)


@pytest.mark.parametrize(
    ("happened", "log", "said"),
    [
        ([], "", "no events yet"),
        ([], "kerascnn: torch isn't installed\n", "torch isn't installed"),
        (
            [*started()[:2], ev.RunEnded(state="failed", message="no CUDA here [/]", step=0, elapsed=0, exit_code=1)],
            "",
            "failed: no CUDA here [/]",
        ),
        (
            [*started(), ev.RunEnded(state="diverged", message="the loss is nan", step=9, elapsed=0, exit_code=1)],
            "",
            "diverged: the loss is nan",
        ),
        (started(format_=7), "", "written by a newer kerascnn"),
    ],
)
async def test_what_is_wrong_is_told_in_a_sentence(
    tmp_path: Path, happened: list[ev.Event], log: str, said: str
) -> None:
    run = record(tmp_path / "run", happened)
    run.log_file.write_text(log)
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "c", "z", "f", "w", "x", "g", "question_mark")
        assert said in screen_text(app)


async def test_a_directory_may_be_anything_or_go_away(tmp_path: Path) -> None:
    app = host(Run(tmp_path / "nowhere"))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "no run here: there is no folder" in screen_text(app)
    run = record(tmp_path / "run", whole_run())
    app = host(run)
    # Wide enough for the folder's name.
    async with app.run_test(size=(240, 40)) as pilot:
        shutil.rmtree(run.path)
        await ticked(app, pilot)
        assert "is gone; what had been read is still shown" in screen_text(app)
        assert "step 120/120" in screen_text(app)
        await press(pilot, "p", "s", "k")
        assert all("no process works on this run" in said for said in app.said)


async def test_nothing_is_drawn_again_while_nothing_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = host(record(tmp_path / "run", whole_run()))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        drawings: list[str | None] = []
        draw = Chart._draw
        monkeypatch.setattr(Chart, "_draw", lambda chart, *size: (drawings.append(chart.name), draw(chart, *size))[1])
        await ticked(app, pilot)
        assert drawings == []
        append(app.opened.run, step(121))  # type: ignore[union-attr]
        await ticked(app, pilot)
        # The accuracy chart isn't on the screen.
        assert drawings == ["loss"]


# Control


async def test_pause_and_go_on_are_asked_until_an_event_confirms_them(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [*started(), step(1)])
    own(run)
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "p")
        assert asked_of(run) == [("pause", None)]
        assert "asked: pause …" in screen_text(app)
        asked = control.parse_command(run.control_file.read_bytes().splitlines()[0])
        assert asked is not None
        append(run, recorded.control("pause", 1, id_=asked.id))
        await ticked(app, pilot)
        assert "asked" not in screen_text(app)
        assert "‖ paused" in screen_text(app)
        assert "p go on" in screen_text(app)
        await press(pilot, "p")
        assert asked_of(run)[1:] == [("resume", None)]


async def test_stop_is_asked_and_a_run_that_ends_before_says_so(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [*started(), step(1)])
    own(run)
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "s")
        assert asked_of(run) == [("stop", None)]
        disown(run)
        tick(app)
        assert app.said == ["the run ended before it could stop"]
        await press(pilot, "s")
        assert "no process works on this run, so it can't stop" in app.said[-1]
        assert asked_of(run) == [("stop", None)]


class EndsWhenAsked(Run):
    """A run whose process ends after it was found and before it reads what it is asked."""

    @property
    def control_file(self) -> Path:
        if self.owner() is not None:
            disown(self)
        return super().control_file


async def test_a_run_that_ends_as_it_is_asked_to_stop_says_so(tmp_path: Path) -> None:
    run = EndsWhenAsked(record(tmp_path / "run", [*started(), step(1)]).path)
    own(run)
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "s")
        assert asked_of(run) == [("stop", None)]
        await ticked(app, pilot)
        assert app.said == ["the run ended before it could stop"]


def test_a_signal_that_fades_is_never_written_as_nothing() -> None:
    values = (1.0, 0.42, 0.013, 0.00018, 0.0, float("nan"))
    shown = [write_figure("between_images", value) for value in values]
    assert shown == ["1.00", "0.42", "1.3e-02", "1.8e-04", "0.0e+00", "–"]


async def test_a_learning_rate_is_checked_as_it_is_typed(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [*started(), step(1)])
    own(run)
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "l")
        assert isinstance(app.screen, AskNumber)
        assert app.screen.query_one(Input).value == "0.001"
        app.screen.query_one(Input).value = "-1"
        await press(pilot, "enter")
        assert wrong(app) == "expected a learning rate above 0 and up to 1000, got -1"
        app.screen.query_one(Input).value = "fast"
        await press(pilot, "enter")
        assert wrong(app) == "expected a number, got 'fast'"
        assert asked_of(run) == []
        app.screen.query_one(Input).value = "1e-4"
        await press(pilot, "enter")
        assert asked_of(run) == [("set-lr", 1e-4)]
        assert "asked: set-lr 0.0001 …" in screen_text(app)
        await press(pilot, "l", "escape")
        assert len(asked_of(run)) == 1


async def test_more_epochs_are_noted_for_a_run_that_has_ended(tmp_path: Path) -> None:
    run = record(tmp_path / "run", whole_run())
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "e")
        app.screen.query_one(Input).value = "2.5"
        await press(pilot, "enter")
        assert wrong(app).startswith("expected a whole number of epochs from 1 to 1,000,000, got 2.5")
        app.screen.query_one(Input).value = "2"
        await press(pilot, "enter")
        assert asked_of(run) == [("extend", 2)]
        assert app.said == ["noted: extend 2; r goes on with the run and does it"]
        assert "r resume" in screen_text(app)
        await press(pilot, "r")
        assert [told.path for told in app.to_resume] == [run.path]


async def test_a_run_that_has_all_its_epochs_is_gone_on_with_when_more_are_asked_for(tmp_path: Path) -> None:
    run = record(tmp_path / "run", whole_run())
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "resume" not in screen_text(app).splitlines()[-1]
        await press(pilot, "r")
        assert app.to_resume == []
        assert app.said == ["all 3 epochs are done; e adds more"]
        # From a command line, say.
        control.ask(run, control.make_command("extend", 1))
        await press(pilot, "r")
        assert [told.path for told in app.to_resume] == [run.path]


async def test_a_run_whose_checkpoints_were_removed_is_told_again_but_not_gone_on_with(tmp_path: Path) -> None:
    saved = ev.CheckpointWritten(step=120, file="checkpoints/step-120", reason="epoch", bytes=9, seconds=0.1)
    *happened, end = whole_run()
    run = record(tmp_path / "run", [*happened, saved, end])
    clock = Clock()
    app = host(run, clock=clock)
    async with app.run_test(size=(120, 40)) as pilot:
        await ticked(app, pilot)
        keys = screen_text(app).splitlines()[-1]
        assert "replay" in keys
        assert "resume" not in keys
        assert "epochs" not in keys
        await press(pilot, "r", "e", "l")
        assert len(app.said) == 3
        assert all("checkpoints of this run were removed" in told for told in app.said)
        await press(pilot, "space")
        await app.workers.wait_for_complete()
        await press(pilot, "r")
        assert len(app.said) == 4, "a replay that hasn't come to the checkpoint changes nothing"
        assert app.to_resume == []
        assert asked_of(run) == []
        # One that is there, as after a copy back from elsewhere.
        run.checkpoints.mkdir()
        (run.checkpoints / "step-000000120.safetensors").touch()
        clock.now += 1000
        await ticked(app, pilot)
        assert "e epochs" in screen_text(app).splitlines()[-1]


async def test_a_kill_asks_and_kills_only_whom_it_asked_about(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [*started(), step(1)])
    app = host(run)
    with live_process(run) as process:
        async with app.run_test(size=(120, 40)) as pilot:
            await press(pilot, "k")
            assert isinstance(app.screen, Question)
            assert str(process.pid) in screen_text(app)
            await press(pilot, "n")
            assert process.poll() is None
            await press(pilot, "k", "y")
            assert process.wait(timeout=GIVE_UP_S) != 0
            await ticked(app, pilot)
            assert "✗ killed" in screen_text(app)


async def test_a_live_run_is_not_resumed(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [*started(), step(1)])
    own(run)
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "r", "space")
        assert app.to_resume == []
        assert "works on this run" in app.said[0]
        assert "replayed when it has ended" in app.said[1]


async def test_what_the_process_uses_is_shown(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [*started(), step(1)])
    own(run)
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await app.workers.wait_for_complete()
        await ticked(app, pilot)
        assert " cpu " in screen_text(app)
        assert " GB" in screen_text(app)


async def test_keys_can_be_remapped_by_name(tmp_path: Path) -> None:
    run = record(tmp_path / "run", [*started(), step(1)])
    own(run)
    app = host(run)
    async with app.run_test(size=(120, 40)) as pilot:
        app.set_keymap({"run.pause": "f5"})
        await press(pilot, "p")
        assert asked_of(run) == []
        await press(pilot, "f5")
        assert asked_of(run) == [("pause", None)]


# Replay


async def test_a_finished_run_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    run = record(tmp_path / "run", whole_run())
    app = host(run, clock=clock)
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "space")
        await app.workers.wait_for_complete()
        replay = app.opened.replay  # type: ignore[union-attr]
        assert replay is not None
        assert (replay.speed, app.opened.story.step) == (4, 0)  # type: ignore[union-attr]
        clock.now += 10
        await ticked(app, pilot)
        assert "step 36/120   ▶ training" in screen_text(app)
        assert "‖ paused" in screen_text(app)  # the mark of the pause
        await press(pilot, "p", "e")
        assert asked_of(run) == []
        await press(pilot, "space")
        clock.now += 100
        tick(app)
        assert app.opened.story.step == 36  # type: ignore[union-attr]
        await press(pilot, "space", "greater_than_sign")
        clock.now += 1000
        await ticked(app, pilot)
        assert "step 120/120   ✓ finished" in screen_text(app)
        assert replay.speed == 8
        assert "replayed 2:06/2:06 at 8 times its speed" in screen_text(app)


async def test_a_replay_tells_how_long_its_phases_took_then(tmp_path: Path) -> None:
    clock = Clock()
    clock.now = BEGAN + 1e6
    app = host(record(tmp_path / "run", whole_run()), clock=clock, replay=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await app.workers.wait_for_complete()
        # At 4 times its speed, two seconds after its beginning and one after that of the phase.
        clock.now += 0.5
        await ticked(app, pilot)
        assert "▶ importing 1 s" in screen_text(app)


async def test_a_replay_begins_in_sight_and_tells_its_speed_beside_the_figures(tmp_path: Path) -> None:
    clock = Clock()
    app = host(record(tmp_path / "run", whole_run()), clock=clock)
    async with app.run_test(size=(80, 24)) as pilot:
        chart = app.screen.query(Chart).first()
        await press(pilot, "z", "end", "space")
        await app.workers.wait_for_complete()
        clock.now += 10
        await ticked(app, pilot)
        assert (chart.picture.left, chart.picture.right) == (0, 36)
        figures = str(app.screen.query_one("#figures").render())
        assert " left" in figures
        assert figures.endswith("  replay 0:40/2:06 4x")


async def test_a_finding_is_told_to_its_end_where_a_line_is_too_short(tmp_path: Path) -> None:
    cause = "raw pixels: what enters block1_conv1 is as large as 255, where the initial weights expect values near 1"
    found = recorded.finding(20).model_copy(update={"symptom": "unscaled input", "cause": cause})
    run = record(tmp_path / "run", [*started(), *(step(number) for number in range(1, 21)), found])
    own(run)
    app = host(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        told = " ".join(screen_text(app).split())
        assert f"unscaled input: {cause} (step 20; f goes there)" in told
        app.opened.story.findings[-1] = found.model_copy(update={"cause": "why " * 100})  # type: ignore[union-attr]
        await press(pilot, "f")
        word = app.screen.query_one("#word")
        assert word.size.height == LINES_OF_A_WORD
        assert str(word.render()).rstrip().endswith("…")


async def test_a_run_that_goes_on_after_its_replay_is_followed(tmp_path: Path) -> None:
    clock = Clock()
    stopped = ev.RunEnded(state="stopped", message="", step=2, elapsed=2, exit_code=0)
    run = record(tmp_path / "run", [*started(), step(1), step(2), stopped])
    app = host(run, clock=clock, replay=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await app.workers.wait_for_complete()
        # The whole run was loaded; what comes now isn't part of the replay.
        resumed = ev.Resumed(step=2, epoch=0, epochs=3, elapsed=2.0, file="")
        append(run, *started()[:1], resumed, step(3), step(4))
        own(run)
        await ticked(app, pilot)
        assert "replay 0:00/" in screen_text(app)
        clock.now += 1000
        await ticked(app, pilot)
        assert "step 2/120   ■ stopped" in screen_text(app)
        assert "replayed " in screen_text(app)
        await ticked(app, pilot)
        text = screen_text(app)
        assert "step 4/120   ▶ training" in text
        assert "replayed " not in text
        assert [line.kind for line in app.opened.story.lines].count("run started") == 2  # type: ignore[union-attr]
        await press(pilot, "p")
        assert asked_of(run) == [("pause", None)]


async def test_the_demo_is_a_whole_run_that_changes_nothing(tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in RECORDING.iterdir()}
    clock = Clock()
    run = demo_run(tmp_path)
    app = host(run, clock=clock, replay=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await app.workers.wait_for_complete()
        clock.now += 1000
        tick(app)
        await press(pilot, "e")
        await press(pilot, "enter")
        assert "✓ finished" in screen_text(app)
        assert "‖ paused" in screen_text(app)
        assert "▽ lr 0.01" in screen_text(app)
    assert {path.name: path.read_bytes() for path in RECORDING.iterdir()} == before
    assert sum(map(len, before.values())) < 200_000
    assert run.summary().state == "finished"


def test_no_screen_imports_keras_or_a_backend() -> None:
    code = (
        "import sys, tui.screens.run, tui.screens.overlay, tui.demo\n"
        "loaded = {'keras', 'torch', 'tensorflow', 'jax', 'typer'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=GIVE_UP_S)


def test_a_graphics_card_is_read_from_its_tool() -> None:
    from tui.reading.system import Gpu, System, parse_gpu

    assert parse_gpu("45, 1024, 81559\n55, 1024, 81559\n") == Gpu(0.5, 2048 * 2**20, 2 * 81559 * 2**20)
    assert parse_gpu("[N/A], 1, 2\n") is None
    assert parse_gpu("") is None
    assert System().sample(2**22 + 1) is None


# Whatever a file holds


def odd_events(random: Random) -> list[ev.Event]:
    """Events that a reader accepts, with figures and words that no run writes."""
    numbers = [
        0.0,
        -1.0,
        1e-320,
        1e308,
        -1e308,
        math.nan,
        math.inf,
        -math.inf,
        0.5,
        7.0,
        float(random.randrange(10**6)),
    ]
    counts = [0, 1, 2, 3, 5, 40, 10**6, 2**60, 10**400, -7]
    words = ["", "a\nb", "\x1b[2J", "[red]x[/]", "層" * 40, "x" * 300, "loss"]

    def value(annotation: object) -> object:
        if annotation is int or annotation == int | None:
            return random.choice(counts)
        if annotation is str or annotation == str | None:
            return random.choice(words)
        if annotation == tuple[str, ...]:
            return ("a\n", "層" * 20, "dense")
        if getattr(annotation, "__origin__", None) is tuple:
            return tuple(random.choice([None, *numbers]) for _ in range(3))
        return random.choice(numbers)

    happened: list[ev.Event] = []
    while len(happened) < 60:
        kind = random.choice([ev.StepDone, ev.StepDone, *ev.KINDS.values()])
        fields = {
            name: value(field.annotation)
            for name, field in kind.model_fields.items()
            if field.annotation in (int, float, str, int | None, str | None, float | None)
            or str(field.annotation).startswith("tuple")
        }
        choices = {"phase": "training", "command": "set-lr", "severity": "warning", "state": "failed", "reason": "stop"}
        fields |= {name: choice for name, choice in choices.items() if name in kind.model_fields}
        if "best" in kind.model_fields:
            fields["best"] = True
        with contextlib.suppress(ValidationError):
            happened.append(kind.model_validate({**fields, "kind": kind.model_fields["kind"].default}))
    return happened


@pytest.mark.parametrize(("ascii_only", "seeds"), [(False, range(6)), (True, range(6, 9))])
async def test_no_file_brings_the_screen_down(tmp_path: Path, ascii_only: bool, seeds: range) -> None:
    app = host(record(tmp_path / "run", []), Settings(ascii=ascii_only))
    async with app.run_test(size=(120, 40)) as pilot:
        screen = app.opened
        assert isinstance(screen, RunScreen)
        for seed in seeds:
            screen.story = RunStory(screen.run)
            for event in odd_events(Random(seed)):
                screen.story.take(event)
            for key in ("x", "c", "left", "f", "z", "g"):
                await pilot.press(key)
            screen.redraw()
            screen.charts.described.describe()
            text = screen_text(app)
            assert len(text.splitlines()) == 40
            assert "\x1b" not in text
            assert {cell_len(line) <= 120 for line in text.splitlines()} == {True}


async def test_where_the_log_has_one_line_it_is_an_epochs_figures_and_not_its_checkpoint(tmp_path: Path) -> None:
    def saved(number: int) -> ev.CheckpointWritten:
        return ev.CheckpointWritten(step=number, file="checkpoints/a", reason="epoch", bytes=10, seconds=0.1)

    steps = [step(number) for number in range(1, 41)]
    run = record(tmp_path / "run", [*started(), *steps, recorded.epoch(1), saved(40)])
    own(run)
    app = host(run)
    async with app.run_test(size=(80, 24)) as pilot:
        log = app.screen.query_one(LogTail)

        async def shown_after(*happened: ev.Event) -> str:
            append(run, *happened)
            await ticked(app, pilot)
            return log.render_line(0).text

        assert "epoch 1" in await shown_after()
        assert log.size.height == 1
        assert "pause after step 40" in await shown_after(recorded.control("pause", 40))
        assert "pause after step 40" in await shown_after(saved(41))
        log.scroll_to(y=0, animate=False)
        assert "plain12_bn on" in await shown_after(recorded.control("resume", 40))
        log.scroll_end(animate=False)
        assert "resume after step 40" in await shown_after(recorded.control("resume", 40), saved(42))
