"""The lecture's tour: how its steps stand, their curves, and the keys that train them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from textual.pilot import Pilot

from kerascnn.lecture.argument import the_argument
from kerascnn.lecture.folder import LectureFolder, Settings
from kerascnn.runs import events as ev
from kerascnn.runs.directory import disown, own
from tests.conftest import GIVE_UP_S
from tests.screen_host import Host
from tests.screens import SIZES, screen_text
from tests.tui_lecture import STEPS, a_lecture, at_chance, ended, learning, step_of, steps_done, train, write
from tests.tui_runs import living, looked, make_app, said, settled
from tui.__main__ import main, parser
from tui.drawing.lecture import loss_series
from tui.messages import OpenRun, Overlay
from tui.places import LECTURE_DIR, Places
from tui.reading.lecture import LectureReader, Standing
from tui.reading.ledger import Ledger
from tui.screens.dialogs import Question
from tui.screens.lecture import LectureScreen
from tui.screens.run import RunScreen
from tui.settings import Settings as UserSettings
from tui.starting import launch
from tui.widgets.argument import ArgumentList
from tui.widgets.chart import Chart
from tui.widgets.words import Words

Started = list[tuple[list[str], Path]]


def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "runs", lecture_dir=tmp_path / "lecture-quick")


def host(tmp_path: Path, *, backends: Sequence[str] = ("torch", "tensorflow"), start: Any = None, **more: Any) -> Host:
    """The screen alone, with what it would start."""
    there = more.pop("places", places(tmp_path))
    screen = LectureScreen(there, Ledger(tmp_path / "runs"), backends, start=start or refuse, tick_s=None)
    return Host(screen, **more)


def refuse(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    raise AssertionError(f"nothing was to be started: {arguments}")


async def seen(app: Host, pilot: Pilot[None], *keys: str) -> str:
    """The screen after some keys and a look at the folder."""
    for key in keys:
        await pilot.press(key)
    assert isinstance(app.opened, LectureScreen)
    await pilot.pause()
    app.opened.tick()
    await app.workers.wait_for_complete()
    await pilot.pause()
    return screen_text(app)


def marks(text: str) -> dict[str, str]:
    """The sign before each step of the list."""
    rows = [line[1:].split()[:2] for line in text.splitlines()[3:19]]
    return {step: mark for mark, step in rows}


def drawn(app: Host) -> dict[str, int]:
    """How many points each curve of the loss chart that is named has."""
    picture = app.opened.query_one("#loss", Chart).picture
    return {one.label: len(one.x) for one in picture.series if one.label}


def told(app: Host) -> str:
    """What is said of the step, its lines joined."""
    return " ".join(app.opened.query_one(Words).render_line(y).text.strip() for y in range(60))


# -- reading the folder


def test_a_look_at_what_hasnt_changed_finds_the_same_and_reads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = LectureReader(a_lecture(tmp_path / "lecture-quick"))
    first = reader.refresh()
    assert len(first.trainings) == 8
    monkeypatch.setattr(ev, "read_events", lambda *_: pytest.fail("it was read again"))
    assert reader.refresh() is first


def test_a_living_training_is_read_from_where_it_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = LectureFolder(tmp_path / "lecture-quick")
    one = train(folder, "4", at_chance, 30, end=None)
    reader = LectureReader(folder)
    with living(one.run):
        assert reader.refresh().trainings[0].step == 30
        size = one.run.events_file.stat().st_size
        offsets: list[int] = []
        read = ev.read_events

        def noting(path: Path, offset: int = 0) -> tuple[list[ev.Event], int]:
            offsets.append(offset)
            return read(path, offset)

        monkeypatch.setattr(ev, "read_events", noting)
        write(one, list(steps_done(at_chance, 31, 50)))
        look = reader.refresh()
        assert (look.trainings[0].step, look.trainings[0].live, offsets) == (50, True, [size])


def test_a_training_that_was_taken_up_again_has_its_steps_once(tmp_path: Path) -> None:
    folder = LectureFolder(tmp_path / "lecture-quick")
    one = train(folder, "4", at_chance, 60, end="interrupted")
    reader = LectureReader(folder)
    assert not reader.refresh().trainings[0].decided
    write(one, [ev.Resumed(step=40, epoch=0, epochs=1, elapsed=20.0, file="")])
    write(one, [*steps_done(at_chance, 41, STEPS), ended("finished", STEPS)])
    training = reader.refresh().trainings[0]
    assert training.curve.steps.tolist() == list(range(1, STEPS + 1))
    assert (training.judgement.verdict, training.decided) == ("as claimed", True)


def test_a_step_stands_as_all_its_seeds_and_backends_do(tmp_path: Path) -> None:
    folder = LectureFolder(tmp_path / "lecture-quick")
    reader = LectureReader(folder)
    train(folder, "8", learning, 100, end="stopped")
    expected: list[tuple[Standing, Any]] = [
        ("as claimed", lambda: None),
        ("undecided within this budget", lambda: train(folder, "8", at_chance, STEPS, end="finished", seed=1)),
        ("not as claimed", lambda: train(folder, "8", at_chance, 9, end="diverged", backend="tensorflow")),
    ]
    for standing, happens in expected:
        happens()
        assert reader.refresh().standing(step_of("8")) == standing
    assert reader.look.standing(step_of("9")) == "not run"


def test_the_loss_is_drawn_as_the_verdict_sees_it(tmp_path: Path) -> None:
    folder = a_lecture(tmp_path / "lecture-quick")
    look = LectureReader(folder).refresh()
    (one,) = look.of(step_of("6"))
    mine, chance, learns = loss_series([one], [], ("step 6", ""), the_argument().rule, 10, 1)
    at = {int(x): y for x, y in zip(mine.x, mine.y, strict=True)}
    learnt_at = one.judgement.measured.learnt_at
    assert learnt_at is not None
    assert at[learnt_at] <= learns.y[0] < at[learnt_at - 1]
    assert chance.y[0] == pytest.approx(2.302585)


# -- the screen


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_tour_at_every_size(tmp_path: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    a_lecture(tmp_path / "lecture-quick")
    app = make_app(tmp_path, places=places(tmp_path), lecture=True)
    async with app.run_test(size=size) as pilot:
        await looked(app, pilot)
        await pilot.press(*"jjjjjjjj")
        assert await settled(app, pilot) == snapshot


async def test_each_step_has_the_sign_of_how_it_stands(tmp_path: Path) -> None:
    folder = a_lecture(tmp_path / "lecture-quick")
    live = train(folder, "9", at_chance, 40, end=None)
    for ascii_only, signs in ((False, "✓✗?◇…·"), (True, "*x?o.-")):
        app = host(tmp_path, settings=UserSettings(ascii=ascii_only))
        async with app.run_test(size=(80, 24)) as pilot:
            with living(live.run):
                text = await seen(app, pilot)
            assert marks(text) == dict(
                zip(
                    ("1", "2", "3", "4", "5", "6", "7", "7b", "8", "9", "10", "11", "11b", "11c", "11d", "12"),
                    (signs["✓✗?◇…·".index(sign)] for sign in "✓?·✓?✗··✓…··◇···"),
                    strict=True,
                )
            )
            assert "7 of 16 run" in text


async def test_walking_shows_the_step_beside_the_one_that_it_changes(tmp_path: Path) -> None:
    a_lecture(tmp_path / "lecture-quick")
    app = host(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        assert "one hidden layer of 512" in await seen(app, pilot)
        assert list(drawn(app)) == ["step 1", "chance", "learns below 2.19"]
        text = await seen(app, pilot, "j")
        assert list(drawn(app))[:2] == ["step 2", "step 1"]
        assert "undecided within this budget. torch, seed 0" in text
        text = await seen(app, pilot, *"jjjj", "k")
        assert "step 5 · 9 conv, ReLU · plain9_relu" in text
        assert "interrupted after step 40; r goes on" in text
        text = await seen(app, pilot, "end", "up", "up", "up")
        assert list(drawn(app))[:2] == ["step 11b", "step 6"], "a solution is a change to step 6"
        assert "no claim. torch, seed 0" in text
        await pilot.click(ArgumentList, offset=(5, 9))
        text = await seen(app, pilot)
        assert list(drawn(app))[:3] == ["step 8 seed 0", "step 8 seed 1", "step 6"]
        assert "torch, seed 1" in text


async def test_a_curve_grows_while_its_step_is_trained(tmp_path: Path) -> None:
    folder = LectureFolder(tmp_path / "lecture-quick")
    one = train(folder, "1", learning, 20, end=None)
    app = host(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        with living(one.run):
            text = await seen(app, pilot)
            assert "step 1 with torch, seed 0, 20/300, at most 2 min 20 s left" in text
            assert drawn(app)["step 1"] == 0, "a mean over 25 steps needs 25"
            write(one, list(steps_done(learning, 21, 40)))
            text = await seen(app, pilot)
            assert drawn(app)["step 1"] == 16
            assert "step 40; not decided yet" in text
            write(one, [*steps_done(learning, 41, 100), ended("stopped", 100)])
        text = await seen(app, pilot)
        assert drawn(app)["step 1"] == 76
        assert marks(text)["1"] == "✓"
        assert "with torch" in text.splitlines()[1]


async def test_accuracy_stands_beside_the_figures_that_are_claimed(tmp_path: Path) -> None:
    one = train(LectureFolder(tmp_path / "lecture-quick"), "3", at_chance, STEPS, end=None)
    done = ev.EpochDone(
        epoch=1, step=STEPS, loss=2.0, accuracy=0.3, val_loss=2.0, val_accuracy=0.4, learning_rate=1e-3, seconds=9.0,
        images_per_s=1.0, best=True,
    )  # fmt: skip
    write(one, [done, ended("finished", STEPS)])
    app = host(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await seen(app, pilot, "j", "j", "v")
        shown = app.opened.query_one("#accuracy", Chart)
        assert shown.display
        values = {one.label: one.y.tolist() for one in shown.picture.series}
        assert values == {
            "step 3": [0.3],
            "validation": [0.4],
            "claim: train": [0.938, 0.938],
            "claim: validation": [0.687, 0.687],
        }


async def test_enter_opens_the_run_and_o_lays_it_over_what_it_changes(tmp_path: Path) -> None:
    folder = a_lecture(tmp_path / "lecture-quick")
    asked: list[Any] = []

    def notice(message: Any) -> None:
        # A message comes here once for each place that it bubbles to.
        if isinstance(message, (OpenRun, Overlay)) and message not in asked:
            asked.append(message)

    app = host(tmp_path)
    async with app.run_test(size=(80, 24), message_hook=notice) as pilot:
        await seen(app, pilot, *"jj", "enter")
        assert not asked
        assert "step 3 has not been run yet; r does" in app.said
        await seen(app, pilot, "k", "enter", "o")
        opened, overlaid = asked
        assert opened.run.path == folder.step_run(step_of("2"), "torch", 0).run.path
        assert [run.path.parent.name for run in overlaid.runs] == ["2-cnn2_cifar", "1-cnn2_fmnist"]
        asked.clear()
        second = folder.step_run(step_of("8"), "torch", 1)
        with living(second.run):
            await seen(app, pilot)
            await pilot.click(ArgumentList, offset=(5, 9))
            await seen(app, pilot)
            assert not asked, "a click goes to a step"
            await pilot.double_click(ArgumentList, offset=(5, 9))
            await seen(app, pilot)
        assert [message.run.path for message in asked] == [second.run.path], "the live one of two"


async def test_a_lecture_that_hasnt_begun_shows_its_argument(tmp_path: Path) -> None:
    app = host(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        text = await seen(app, pilot)
        assert "lecture-quick · not begun: a trains all steps, r one" in text
        assert set(marks(text).values()) == {"·"}
        assert "not run yet: r does" in text
        assert drawn(app) == {"chance": 2, "learns below 2.19": 2}
        assert not (tmp_path / "lecture-quick").exists(), "looking writes nothing"
        await seen(app, pilot, "s", "o", "c", "z", "escape")
        assert app.said[-1] == "nothing is under way"


async def test_the_command_for_a_step_names_another_folder_as_one_types_it(tmp_path: Path) -> None:
    app = host(tmp_path, backends=["torch"], places=Places(tmp_path / "runs", lecture_dir=Path("my lecture")))
    async with app.run_test(size=(200, 60)) as pilot:
        await seen(app, pilot, "b")
        assert "`kerascnn lecture run --dir 'my lecture' --backend torch --only 1`" in screen_text(app)


async def test_the_command_for_a_step_is_one_that_its_folder_takes(tmp_path: Path) -> None:
    folder = LectureFolder(tmp_path / "full")
    folder.begin(Settings(budget="full", steps=50, dataset="fashion_mnist_mini"))
    there = Places(tmp_path / "runs", data_dir=tmp_path / "data", lecture_dir=folder.path)
    app = host(tmp_path, places=there)
    async with app.run_test(size=(240, 60)) as pilot:
        await seen(app, pilot)
        screen = app.opened
        assert isinstance(screen, LectureScreen)
        for _ in range(2):
            # The backend that r would train with, however often it is changed.
            await pilot.press("b")
            options = f"--backend {screen.backend} --full --only 1 --steps 50 --dataset fashion_mnist_mini"
            command = f"kerascnn lecture run --dir {folder.path} {options} --data-dir {tmp_path / 'data'}"
            assert command in told(app)


async def test_a_damaged_folder_is_told_of_and_not_trained_in(tmp_path: Path) -> None:
    folder = a_lecture(tmp_path / "lecture-quick")
    folder.settings_file.write_text('{"budget": "huge"}')
    app = host(tmp_path)
    async with app.run_test(size=(200, 60)) as pilot:
        text = await seen(app, pilot, "r", "a")
        assert "expected one of quick, full as budget" in text.splitlines()[1]
        assert not isinstance(app.screen, Question)
        assert "expected one of quick, full as budget" in app.said[-1]


@pytest.mark.parametrize("dataset", ["folder:{}", "folder:~nobody-of-this-name/images", "folder:" + "x" * 300])
async def test_the_curves_are_shown_while_the_folder_of_images_cant_be_read(tmp_path: Path, dataset: str) -> None:
    folder = LectureFolder(tmp_path / "lecture-quick")
    train(folder, "1", learning, 100, end="stopped")
    (tmp_path / "usb").mkdir()
    named = dataset.format(tmp_path / "usb")
    folder.settings_file.write_text(json.dumps({"budget": "quick", "dataset": named}))
    app = host(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        text = await seen(app, pilot)
        assert drawn(app)["step 1"] == 76
        assert "learns below 2.19" in text, "the network's own ten classes"


# -- training


def ends_with(code: int, text: str, started: Started) -> Any:
    """Something to be started that says a text and ends at once."""

    def start(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        started.append((list(arguments), log))
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(text)
        child = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
        child.wait()
        return child

    return start


async def test_a_step_is_trained_as_the_folder_was_begun(tmp_path: Path) -> None:
    there = Places(tmp_path / "runs", data_dir=Path("my data"), lecture_dir=tmp_path / "lecture-quick")
    folder = LectureFolder(there.lecture_dir)
    folder.begin(Settings(budget="quick", steps=40, dataset="fashion_mnist_mini", data_note="a sample"))
    train(folder, "1", at_chance, 40, end="finished", seed=1)
    started: Started = []
    app = host(tmp_path, places=there, start=ends_with(0, "", started))
    async with app.run_test(size=(80, 24)) as pilot:
        text = await seen(app, pilot, "j", "r")
        assert isinstance(app.screen, Question)
        assert "kerascnn lecture run" in text
        assert "embedded: 6,000 images" in text
        await seen(app, pilot, "n")
        assert not started
        await seen(app, pilot, "b", "r", "t")
        ((arguments, log),) = started
        assert log == there.lecture_dir / "log.txt"
        assert " ".join(arguments) == (
            f"lecture run --dir {there.lecture_dir} --backend tensorflow --only 2 --seeds 2 --steps 40 "
            "--dataset fashion_mnist_mini --data-note a sample --data-dir my data"
        )


async def test_the_command_takes_what_it_is_given(tmp_path: Path) -> None:
    folder = LectureFolder(tmp_path / "lecture-quick")
    folder.begin(Settings(budget="quick", steps=41, dataset="fashion_mnist_mini", data_note="a sample"))
    other = Settings(budget="quick", steps=40, dataset="fashion_mnist_mini", data_note="a sample")
    there = places(tmp_path)
    arguments = launch.lecture_arguments(other, [step_of("1"), step_of("11b")], 2, os.environ["KERAS_BACKEND"], there)
    app = host(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        assert isinstance(app.opened, LectureScreen)
        app.opened._child = launch.start_lecture(arguments, folder.path / "log.txt")
        assert "starting" in await seen(app, pilot)
        app.opened._child.wait()
        await seen(app, pilot)
        assert "a lecture with steps = 41 was begun here, expected the same, got 40" in app.said[-1]
        assert app.said[-1].endswith("log.txt")


async def test_a_new_folder_is_begun_as_quick_or_full(tmp_path: Path) -> None:
    for key, full in (("t", []), ("f", ["--full"])):
        started: Started = []
        app = host(tmp_path, start=ends_with(0, "", started))
        async with app.run_test(size=(80, 24)) as pilot:
            text = await seen(app, pilot, "a")
            assert "16 trainings" in text
            assert "t train, quick" in text
            await seen(app, pilot, "q")
            assert not started, "q is for quitting"
            await seen(app, pilot, "a")
            await seen(app, pilot, key)
        backend = started[0][0][5]
        assert started[0][0] == [
            "lecture",
            "run",
            "--dir",
            str(tmp_path / "lecture-quick"),
            "--backend",
            backend,
            *full,
        ]


async def test_how_long_it_takes_is_told_from_what_has_run_here(tmp_path: Path) -> None:
    from kerascnn.runs.files import write_json
    from tui.screens.lecture import this_machine

    one = train(LectureFolder(tmp_path / "lecture-quick"), "4", at_chance, STEPS, end="finished")
    write_json(one.run.environment_file, {"machine": this_machine()})
    app = host(tmp_path, backends=["torch"])
    async with app.run_test(size=(80, 24)) as pilot:
        # Half a second for 64 images and the same network but for its activation: 300 steps in 150 s.
        assert "1 training: at most about 2 min 30 s" in await seen(app, pilot, *"jjjj", "r")


async def test_what_is_decided_isnt_trained_again(tmp_path: Path) -> None:
    a_lecture(tmp_path / "lecture-quick")
    app = host(tmp_path, backends=["torch"])
    async with app.run_test(size=(80, 24)) as pilot:
        await seen(app, pilot, *"jjjjjjjj", "r")
        assert not isinstance(app.screen, Question)
        assert "step 8 is decided with torch" in app.said[-1]


async def test_one_training_at_a_time(tmp_path: Path) -> None:
    one = train(LectureFolder(tmp_path / "lecture-quick"), "4", at_chance, 30, end=None)
    app = host(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        with living(one.run):
            await seen(app, pilot)
            await seen(app, pilot, "r", "s")
            assert not isinstance(app.screen, Question)
            assert "a training at a time" in app.said[-2]
            assert "its process isn't known here" in app.said[-1]


@pytest.mark.parametrize(
    ("code", "text", "told"),
    [
        (1, "step 1\nkerascnn: no such data: looked in\n  here\n", "no such data: looked in\nhere\nall of it: "),
        (3, "", "exit code 3 and said nothing"),
        (130, "importing …\nSIGINT came; the same command goes on\n", "SIGINT came; the same command goes on"),
    ],
)
async def test_what_became_of_the_process_is_told(tmp_path: Path, code: int, text: str, told: str) -> None:
    app = host(tmp_path, start=ends_with(code, text, []))
    async with app.run_test(size=(80, 24)) as pilot:
        await seen(app, pilot, "r")
        await seen(app, pilot, "t")
        assert told in app.said[-1]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere no signal reaches a process of another group")
async def test_s_ends_the_process_that_was_started_and_quitting_does_not(tmp_path: Path) -> None:
    # It saves its checkpoint for as long as it is told to.
    program = """
import sys, time
try:
    print("up", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    sys.stdin.readline()
    sys.exit(130)
"""
    children: list[subprocess.Popen[bytes]] = []

    def start(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        children.append(child)
        return child

    try:
        for _ in range(2):
            app = host(tmp_path, start=start)
            async with app.run_test(size=(80, 24)) as pilot:
                await seen(app, pilot, "r")
                assert "starting" in await seen(app, pilot, "t")
                if len(children) == 2:
                    assert "stopping" in await seen(app, pilot, "s")
                    children[1].communicate(b"\n", timeout=GIVE_UP_S)
                    await seen(app, pilot)
                    assert app.said[-1] == "the lecture has stopped"
        assert children[0].poll() is None, "it outlives the interface"
    finally:
        for child in children:
            child.kill()
            child.communicate()


# -- the way there, and quitting


async def test_3_leads_to_the_lecture_from_everywhere(tmp_path: Path) -> None:
    a_lecture(tmp_path / "lecture-quick")
    app = make_app(tmp_path, places=places(tmp_path))
    async with app.run_test(size=(80, 50)) as pilot:
        assert "3 lecture" in await looked(app, pilot)
        for key in ("1", "2"):
            await pilot.press(key, "3")
            await settled(app, pilot)
            assert isinstance(app.screen, LectureScreen)
        await pilot.press("f1")
        assert "lecture.run_all" in await settled(app, pilot)
        await pilot.press("escape", "enter")
        await settled(app, pilot)
        assert isinstance(app.screen, RunScreen)
        await pilot.press("escape")
        assert isinstance(app.screen, LectureScreen)


def test_the_command_line_names_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert parser().parse_args([]).lecture is None
    assert parser().parse_args(["--lecture"]).lecture == LECTURE_DIR
    assert parser().parse_args(["--lecture", "mine"]).lecture == Path("mine")
    with pytest.raises(SystemExit) as exited:
        main(["--demo", "--lecture", "mine"])
    assert exited.value.code == 2
    assert "expected no run beside it, got --demo" in capsys.readouterr().err


async def test_quitting_tells_of_the_lecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = a_lecture(tmp_path / "lecture-quick")
    stopped: list[tuple[Path, int]] = []
    monkeypatch.setattr(launch, "stop_lecture", lambda folder, pid: stopped.append((folder.path, pid)))
    own(folder.path)
    for key, message in (("l", "left running: the lecture"), ("s", "saving a checkpoint first: the lecture")):
        app = make_app(tmp_path, places=places(tmp_path))
        async with app.run_test(size=(80, 24)) as pilot:
            await looked(app, pilot)
            await pilot.press("q")
            assert "The lecture is under way" in await settled(app, pilot)
            await pilot.press(key)
        assert message in str(app.return_value)
    assert stopped == [(folder.path, os.getpid())]
    disown(folder.path)
    app = make_app(tmp_path, places=places(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(app, pilot)
        await pilot.press("q")
        await settled(app, pilot)
        assert not said(app)
    assert app.return_value is None
