"""The runs: the ledger that reads them and the screen that lists them."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run
from tests.recorded import append, own
from tests.screens import SIZES, screen_text
from tests.tui_runs import BEGAN, history, living, looked, make_app, make_run, said, settled, step_done
from tui.messages import OpenRun, Overlay, ResumeRun
from tui.reading.digest import Digest
from tui.reading.ledger import Ledger
from tui.screens.dialogs import Question
from tui.screens.overlay import OverlayScreen
from tui.screens.run import RunScreen
from tui.screens.runs import RunsFilter, RunsScreen, RunsTable


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    if sys.platform != "win32":
        time.tzset()


def three_runs(folder: Path) -> None:
    make_run(folder, "20231114-221320-aaaa", epochs=(0.5, 0.75))
    make_run(
        folder, "20231114-231320-bbbb", model="plain12_bn", epochs=(0.25,), end="stopped", began=BEGAN + 3600,
        backend="tensorflow",
    )  # fmt: skip
    make_run(folder, "20231115-001320-cccc", epochs=(), end="diverged", began=BEGAN + 7200)


# -- the ledger


def test_the_ledger_says_what_the_runs_own_summary_says(tmp_path: Path) -> None:
    three_runs(tmp_path)
    for entry in Ledger(tmp_path / "runs").refresh():
        summary = entry.run.summary()
        for name in ("state", "model", "backend", "dataset", "epoch", "epochs", "step", "best_val_accuracy", "seconds"):
            assert getattr(entry, name) == getattr(summary, name), name
        assert entry.started == summary.started


PROCESS = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 30), st.booleans())


@settings(max_examples=40, deadline=None)
@given(processes=st.lists(PROCESS, min_size=1, max_size=3), looks=st.lists(st.floats(0, 1), max_size=12))
def test_reading_piece_by_piece_with_resumes_comes_to_the_same(
    processes: list[tuple[int, int, int, bool]], looks: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The events of several processes on one run, read after any byte of them."""
    folder = tmp_path_factory.mktemp("pieces")
    run = make_run(folder, epochs=(), end=None)
    events: list[ev.Event] = []
    for epochs, kept, steps, ended in processes:
        events += history("cnn2_fmnist", "fashion_mnist", [0.1 * (n + 1) for n in range(epochs)], None)
        events.append(ev.Resumed(step=100 * kept, epoch=kept, epochs=5, elapsed=60.0 * kept, file=""))
        events += [step_done(100 * kept + number) for number in range(1, steps + 1)]
        if ended:
            events.append(ev.RunEnded(state="stopped", message="", step=0, elapsed=500.0, exit_code=0))
    content = b"".join(event.model_dump_json().encode() + b"\n" for event in events)
    ledger = Ledger(folder / "runs")
    for share in [*sorted(looks), 1.0]:
        run.events_file.write_bytes(content[: int(share * len(content))])
        (entry,) = ledger.refresh()
    summary = run.summary()
    for name in ("state", "epoch", "epochs", "step", "best_val_accuracy", "seconds"):
        assert getattr(entry, name) == getattr(summary, name), name


def test_an_unchanged_run_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three_runs(tmp_path)
    ledger = Ledger(tmp_path / "runs")
    first = ledger.refresh()
    monkeypatch.setattr(Digest, "read", lambda *_: pytest.fail("read again"))
    assert ledger.refresh() == first


def test_states_of_living_runs_follow_the_process_and_its_pauses(tmp_path: Path) -> None:
    run = make_run(tmp_path, end=None)
    ledger = Ledger(tmp_path / "runs")
    with living(run) as writer:
        assert ledger.refresh()[0].state == "running"
        writer.events.write(ev.ControlApplied(id="1", command="pause", value=None, step=200, epochs=2))
        assert ledger.refresh()[0].state == "paused"
        writer.events.write(ev.ControlApplied(id="2", command="resume", value=None, step=200, epochs=2))
        assert ledger.refresh()[0].state == "running"
        writer.events.write(ev.ControlApplied(id="3", command="pause", value=None, step=200, epochs=2))
    assert ledger.refresh()[0].state == "killed"
    with living(run) as writer:
        for event in list(history("cnn2_fmnist", "fashion_mnist", (), None))[:1]:
            writer.events.write(event)
        assert ledger.refresh()[0].state == "running", "a pause ends with its process"


def test_what_another_machine_has_taken_is_not_called_killed(tmp_path: Path) -> None:
    run = make_run(tmp_path, end=None)
    own(run, host="node7")
    ledger = Ledger(tmp_path / "runs")
    assert ledger.refresh()[0].state == "elsewhere"
    append(run, ev.RunEnded(state="stopped", message="", step=200, elapsed=2.0, exit_code=0))
    assert ledger.refresh()[0].state == "stopped"
    ended = make_run(tmp_path, "20231114-231320-bbbb")
    own(ended, host="node7")
    assert [entry.state for entry in ledger.refresh() if entry.run == ended] == ["finished"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: run.events_file.unlink(),
        lambda run: run.events_file.write_bytes(b""),
        lambda run: run.events_file.write_bytes(b'{"kind":"step"'),
        lambda run: run.events_file.write_bytes(b"\xff\xfe not events\n" * 3),
        lambda run: run.events_file.write_text('{"kind":"run started","format":99,"from":"the future"}\n'),
        lambda run: run.recipe_file.write_text("not a recipe"),
        lambda run: (run.path / "owner.json").write_text("[]"),
        lambda run: shutil.rmtree(run.path),
    ],
)
def test_a_damaged_run_harms_no_other(tmp_path: Path, spoil: Any) -> None:
    good = make_run(tmp_path, "20231114-221320-aaaa")
    bad = make_run(tmp_path, "20231114-231320-bbbb")
    ledger = Ledger(tmp_path / "runs")
    ledger.refresh()
    spoil(bad)
    entries = {entry.run.path: entry for entry in ledger.refresh()}
    assert entries[good.path].state == "finished"
    assert bad.path not in entries or entries[bad.path].model


def test_a_new_directory_is_starting_and_later_killed(tmp_path: Path) -> None:
    run = make_run(tmp_path, epochs=(), end=None)
    run.events_file.unlink()
    created = run.recipe_file.stat().st_mtime
    assert Ledger(tmp_path / "runs", clock=lambda: created + 5).refresh()[0].state == "starting"
    assert Ledger(tmp_path / "runs", clock=lambda: created + 500).refresh()[0].state == "killed"


# -- the screen


@pytest.mark.parametrize("size", SIZES)
async def test_the_runs_at_every_size(tmp_path: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    three_runs(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=size) as pilot:
        await looked(app, pilot)
        await pilot.press("2")
        assert await settled(app, pilot) == snapshot


async def opened(app: Any, pilot: Any) -> RunsScreen:
    await looked(app, pilot)
    await pilot.press("2")
    await settled(app, pilot)
    assert isinstance(app.screen, RunsScreen)
    return app.screen


def order(screen: RunsScreen) -> list[str]:
    return [path.name[-4:] for path in screen._rows]


async def test_filter_and_sort(tmp_path: Path) -> None:
    three_runs(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(app, pilot)
        assert order(screen) == ["cccc", "bbbb", "aaaa"]
        await pilot.press("S")
        assert order(screen) == ["aaaa", "bbbb", "cccc"]
        while screen._sort != "best val":
            await pilot.press("s")
        assert order(screen) == ["aaaa", "bbbb", "cccc"]
        await pilot.press("slash", *"cnn2 div")
        assert order(screen) == ["cccc"]
        await pilot.press(*"zzz")
        assert "no run fits the filter" in screen_text(app)
        await pilot.press("escape")
        assert len(order(screen)) == 3
        assert isinstance(screen.focused, RunsTable)
        await pilot.press("slash", "enter")
        assert isinstance(screen.focused, RunsTable)
        await pilot.press("slash", *"stopped")
        assert order(screen) == ["bbbb"]
        await pilot.press("down", "escape")
        assert screen.query_one(RunsFilter).value == ""


async def test_a_click_on_a_title_sorts(tmp_path: Path) -> None:
    three_runs(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(app, pilot)
        await pilot.click(RunsTable, offset=(20, 0))
        await settled(app, pilot)
        assert screen._sort == "network"
        assert order(screen)[-1] == "bbbb"


async def test_the_cursor_stays_on_its_run_while_runs_move_on(tmp_path: Path) -> None:
    three_runs(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(app, pilot)
        await pilot.press("down")
        make_run(tmp_path, "20231115-011320-dddd", began=BEGAN + 10_000)
        await looked(app, pilot)
        assert order(screen) == ["dddd", "cccc", "bbbb", "aaaa"]
        under = screen._under_cursor()
        assert under is not None
        assert under.path.name.endswith("bbbb")


async def test_a_living_run_moves_on_before_ones_eyes(tmp_path: Path) -> None:
    run = make_run(tmp_path, epochs=(0.5,), end=None)
    app = make_app(tmp_path)
    with living(run) as writer:
        async with app.run_test(size=(80, 24)) as pilot:
            await opened(app, pilot)
            assert "50.00 %" in screen_text(app)
            *_, epoch, _ = history("cnn2_fmnist", "fashion_mnist", [0.5, 0.875], "finished")
            writer.events.write(epoch)
            assert "87.50 %" in await looked(app, pilot)
            assert "▶ running" in screen_text(app)


async def test_enter_opens_the_run(tmp_path: Path) -> None:
    three_runs(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot)
        await pilot.press("down", "enter")
        await settled(app, pilot)
        assert isinstance(app.screen, RunScreen)
        assert app.screen.run.path.name.endswith("bbbb")
        await pilot.press("escape")
        assert isinstance(app.screen, RunsScreen)


async def test_space_selects_and_o_overlays(tmp_path: Path) -> None:
    three_runs(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot)
        await pilot.press("space", "space")
        assert "2 selected" in await settled(app, pilot)
        await pilot.press("o")
        await settled(app, pilot)
        assert isinstance(app.screen, OverlayScreen)
        await pilot.press("escape", "up", "up", "space", "space")
        assert "selected" not in await settled(app, pilot)


async def test_what_was_deleted_is_selected_no_longer(tmp_path: Path) -> None:
    three_runs(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot)
        await pilot.press("space", "space")
        shutil.rmtree(screen._rows[0])
        await looked(app, pilot)
        assert "1 selected" in await settled(app, pilot)


async def test_a_date_that_has_no_room_is_left_out_rather_than_cut(tmp_path: Path) -> None:
    make_run(tmp_path, "20231114-221320-aaaa", model="densenet_bc100_k12_cifar")
    for columns, whole in ((100, False), (140, True)):
        app = make_app(tmp_path)
        async with app.run_test(size=(columns, 30)) as pilot:
            await opened(app, pilot)
            titles, row = (await settled(app, pilot)).splitlines()[3:5]
            assert titles.split()[-1] == "run"
            assert row.split()[-1] == "aaaa"
            assert ("started" in titles) == whole
            assert ("14 Nov 22:13" in row) == whole


async def test_o_without_a_selection_takes_the_run_under_the_cursor(tmp_path: Path) -> None:
    three_runs(tmp_path)
    app = make_app(tmp_path)
    asked: list[Overlay] = []

    def notice(message: Any) -> None:
        asked.extend([message] if isinstance(message, Overlay) else [])

    async with app.run_test(size=(80, 24), message_hook=notice) as pilot:
        await opened(app, pilot)
        await pilot.press("o")
        await settled(app, pilot)
    assert [run.path.name[-4:] for run in asked[0].runs] == ["cccc"]


async def test_delete_asks_and_removes(tmp_path: Path) -> None:
    three_runs(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot)
        gone = Run(screen._rows[0])
        for no in ("escape", "k", "enter"):
            await pilot.press("d")
            assert isinstance(app.screen, Question)
            await pilot.press(no)
            await settled(app, pilot)
            assert gone.path.exists()
        await pilot.press("d", "d")
        await settled(app, pilot)
        assert not gone.path.exists()
        assert order(screen) == ["bbbb", "aaaa"]


async def test_a_living_run_is_neither_deleted_nor_resumed(tmp_path: Path) -> None:
    run = make_run(tmp_path, end=None)
    app = make_app(tmp_path)
    with living(run):
        async with app.run_test(size=(80, 24)) as pilot:
            await opened(app, pilot)
            await pilot.press("d")
            await settled(app, pilot)
            assert "stop it first" in said(app)
            await pilot.press("r")
            await settled(app, pilot)
            assert "is running already" in said(app)
            assert run.path.exists()


async def test_resume_is_for_runs_that_have_epochs_left(tmp_path: Path) -> None:
    make_run(tmp_path, "20231114-221320-aaaa")
    stopped = make_run(tmp_path, "20231114-231320-bbbb", end="stopped", began=BEGAN + 3600)
    app = make_app(tmp_path)
    asked: list[Any] = []

    def notice(message: Any) -> None:
        if isinstance(message, (ResumeRun, OpenRun)):
            asked.append(message)
            message.stop()
            message.prevent_default()

    async with app.run_test(size=(80, 24), message_hook=notice) as pilot:
        screen = await opened(app, pilot)
        await pilot.press("r")
        await pilot.pause()
        assert [message.run.path for message in asked[:1]] == [stopped.path]
        await pilot.press("down", "r")
        await pilot.pause()
        assert "has all its 2 epochs" in said(app)
        assert {message.run.path for message in asked} == {stopped.path}
        assert isinstance(screen, RunsScreen)


async def test_no_runs_yet_says_where_to_begin(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot)
        assert "1 leads to the zoo" in screen_text(app)
        await pilot.press("enter", "space", "o", "r", "d", "s", "S")
        await settled(app, pilot)
        await pilot.press("1")
        assert "cnn2_fmnist" in await settled(app, pilot)
