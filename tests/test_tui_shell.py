"""The app around the screens: start, settings, themes, palette, help, size, quitting, what screens ask for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from textual.binding import Binding
from textual.command import CommandPalette
from textual.pilot import Pilot

from kerascnn.catalog import load_recipe
from kerascnn.errors import RunError, UsageError
from kerascnn.lecture.folder import LectureFolder
from kerascnn.runs.control import parse_command
from kerascnn.runs.directory import Run, create_run, own
from kerascnn.runs.process import full_name_of_process
from tests import tui_lecture
from tests.conftest import GIVE_UP_S
from tests.live import program
from tests.screens import SIZES, screen_text
from tests.tui_runs import BEGAN, living, looked, make_app, make_run, said, settled
from tui.__main__ import main, parser
from tui.messages import NewRun, OpenRun, ResumeRun
from tui.places import Places
from tui.quitting import at_work
from tui.reading.ledger import Ledger
from tui.screens.dialogs import Question, TooSmall
from tui.screens.help import HelpScreen
from tui.screens.new_run import NewRunScreen
from tui.screens.overlay import OverlayScreen
from tui.screens.run import RunScreen
from tui.screens.runs import RunsScreen
from tui.screens.zoo import ZooScreen
from tui.settings import Keeper, Settings, load_settings
from tui.starting.launch import Start
from tui.themes import SERIES, THEME_NAMES
from tui.widgets.keys import KeyLine

# -- start


def test_no_backend_is_imported_by_the_time_the_first_screens_are_shown() -> None:
    program = """
import asyncio, sys
from pathlib import Path
from tui.app import KerascnnApp
from tui.places import Places
from tui.settings import Keeper

async def show():
    app = KerascnnApp(Places(Path("runs")), keeper=Keeper(Path("tui.toml")))
    async with app.run_test() as pilot:
        await pilot.press("enter", "escape", "2", "f1")
        await pilot.pause()

asyncio.run(show())
print([name for name in ("keras", "torch", "tensorflow", "jax") if name in sys.modules])
"""
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=GIVE_UP_S, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip() == "[]"


def test_an_unknown_run_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    make_run(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["cnn2_fmnist/20231114-221320-aaab", "--runs-dir", str(tmp_path / "runs")])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("kerascnn-tui: no run ")
    assert "did you mean 'cnn2_fmnist/20231114-221320-aaaa'?" in said
    assert said.count("\n") == 1


def test_demo_and_a_run_are_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["last", "--demo"])
    assert ended.value.code == 2
    assert "expected no RUN" in capsys.readouterr().err


def test_serve_without_its_package_gives_the_install_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        main(["--serve"])
    assert ended.value.code == 1
    assert "pip install textual-serve" in capsys.readouterr().err


def test_serve_starts_the_same_interface_for_each_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[str] = []

    class Server:
        def __init__(self, command: str, title: str) -> None:
            served.append(command)

        def serve(self) -> None:
            served.append("serving")

    server = pytest.importorskip("textual_serve.server")
    monkeypatch.setattr(server, "Server", Server)
    for platform, line in (
        ("linux", r"/the/python -m tui --runs-dir 'my runs' --catalog 'a\b' --ascii"),
        ("win32", r'/the/python -m tui --runs-dir "my runs" --catalog a\b --ascii'),
    ):
        with monkeypatch.context() as there:
            there.setattr(sys, "platform", platform)
            there.setattr(sys, "executable", "/the/python")
            main(["--serve", "--runs-dir", "my runs", "--catalog", r"a\b", "--ascii"])
        assert served == [line, "serving"]
        served.clear()


def test_the_options_of_the_command() -> None:
    told = parser().parse_args(["last", "--runs-dir", "r", "--catalog", "c", "--data-dir", "d", "--theme", "light"])
    assert (told.run, told.runs_dir, told.catalog, told.data_dir, told.theme) == (
        *("last", Path("r"), Path("c"), Path("d"), "light"),
    )


async def test_a_run_that_is_named_is_opened_at_once(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    app = make_app(tmp_path, run=run)
    async with app.run_test() as pilot:
        await settled(app, pilot)
        assert isinstance(app.screen, RunScreen)
        await pilot.press("escape")
        await settled(app, pilot)
        assert isinstance(app.screen, RunsScreen)


# -- places and size


async def test_keys_lead_to_the_places_and_back_from_what_is_over_them(tmp_path: Path) -> None:
    make_run(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        await looked(app, pilot)
        await pilot.press("2")
        assert isinstance(app.screen, RunsScreen)
        await pilot.press("enter")
        await settled(app, pilot)
        assert isinstance(app.screen, RunScreen)
        await pilot.press("2")
        await settled(app, pilot)
        assert isinstance(app.screen, RunsScreen)
        await pilot.press("1", "enter")
        await settled(app, pilot)
        assert isinstance(app.screen, NewRunScreen)
        await pilot.press("2", "1")
        assert isinstance(app.screen, NewRunScreen), "a form that was left for a look at the runs is still there"


async def test_a_click_on_a_place_leads_there(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        await settled(app, pilot)
        await pilot.click("#places", offset=(20, 0))
        await settled(app, pilot)
        assert isinstance(app.screen, RunsScreen)


async def test_resizing_at_any_moment_is_safe_and_a_terminal_too_small_says_so(tmp_path: Path) -> None:
    make_run(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(app, pilot)
        for key in ("1", "enter", "f1", "escape", "2", "d"):
            await pilot.press(key)
            for size in ((200, 60), (59, 24), (80, 14), (20, 3), (60, 15), (120, 40)):
                await pilot.resize_terminal(*size)
                text = await settled(app, pilot)
                small = size[0] < 60 or size[1] < 15
                assert isinstance(app.screen, TooSmall) == small
                assert (f"{size[0]}x{size[1]} is too small" in " ".join(text.split())) == small


async def test_a_terminal_that_grows_under_another_screen_isnt_too_small_any_more(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(app, pilot)
        await pilot.resize_terminal(50, 12)
        await settled(app, pilot)
        assert isinstance(app.screen, TooSmall)
        app.post_message(OpenRun(run))
        await settled(app, pilot)
        assert isinstance(app.screen, TooSmall), "also of a run that comes over what was told before"
        await pilot.resize_terminal(120, 40)
        await settled(app, pilot)
        assert isinstance(app.screen, RunScreen)
        await pilot.press("escape")
        await settled(app, pilot)
        assert isinstance(app.screen, ZooScreen)


# -- quitting


async def test_without_live_runs_q_quits(tmp_path: Path) -> None:
    make_run(tmp_path)
    for key in ("q", "ctrl+q", "ctrl+c"):
        app = make_app(tmp_path)
        async with app.run_test() as pilot:
            await settled(app, pilot)
            await pilot.press(key)
            await pilot.pause()
            assert app._exit, key


@pytest.mark.parametrize("size", SIZES[:1])
async def test_with_a_live_run_q_asks(tmp_path: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    run = make_run(tmp_path, end=None)
    app = make_app(tmp_path)
    with living(run):
        async with app.run_test(size=size) as pilot:
            await looked(app, pilot)
            await pilot.press("q")
            assert await settled(app, pilot) == snapshot
            for stay in ("escape", "q", "y"):
                await pilot.press(stay)
                await settled(app, pilot)
                assert isinstance(app.screen, ZooScreen)
                assert not app._exit
                await pilot.press("ctrl+q")
                await settled(app, pilot)
                assert isinstance(app.screen, Question)
            await pilot.press("l")
            await settled(app, pilot)
            assert app.return_value == f"left running: {run.name}"
            assert not run.control_file.exists()


async def test_stop_asks_every_live_run_to_save_and_stop(tmp_path: Path) -> None:
    first = make_run(tmp_path, "a-aaaa", end=None)
    second = make_run(tmp_path, "b-bbbb", end=None, began=BEGAN + 9)
    make_run(tmp_path, "c-cccc")
    app = make_app(tmp_path)
    with living(first), living(second):
        async with app.run_test() as pilot:
            await looked(app, pilot)
            await pilot.press("q")
            assert "2 runs are live" in await settled(app, pilot)
            await pilot.press("right", "enter")
            await settled(app, pilot)
        for run in (first, second):
            command = parse_command(run.control_file.read_bytes())
            assert command is not None
            assert command.command == "stop"
            assert command.process == full_name_of_process(os.getpid())
            assert run.name in str(app.return_value)


async def test_ctrl_c_twice_leaves_the_run_running(tmp_path: Path) -> None:
    run = make_run(tmp_path, end=None)
    app = make_app(tmp_path)
    with living(run):
        async with app.run_test() as pilot:
            await looked(app, pilot)
            await pilot.press("ctrl+c")
            await settled(app, pilot)
            assert not app._exit
            await pilot.press("ctrl+c")
            await pilot.pause()
            assert app._exit
            assert not run.control_file.exists()


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
async def test_without_room_for_a_question_the_run_is_left_running(tmp_path: Path, key: str) -> None:
    run = make_run(tmp_path, end=None)
    app = make_app(tmp_path)
    with living(run):
        async with app.run_test(size=(50, 12)) as pilot:
            await looked(app, pilot)
            assert isinstance(app.screen, TooSmall)
            await pilot.press(key)
            await pilot.pause()
            assert app._exit
            assert not run.control_file.exists()


async def until(pilot: Pilot[str], condition: Callable[[], bool]) -> None:
    """The screen once something holds, while a worker goes on."""
    while not condition():
        assert not pilot.app._exit
        await pilot.pause(0.01)
    await pilot.pause()


@pytest.mark.skipif(os.name != "posix", reason="scripts that start by their first line are POSIX's")
@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("l", "left running: cnn2_fmnist (starting)"),
        ("s", "stopped before it began: cnn2_fmnist"),
        ("ctrl+c", None),
        ("escape", None),
    ],
)
async def test_what_is_starting_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, told: str | None
) -> None:
    program(tmp_path, monkeypatch, "time.sleep(600)")
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        app.post_message(NewRun("cnn2_fmnist"))
        await settled(app, pilot)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: bool(app._starts) and app._starts[0].process is not None)
        process = app._starts[0].process
        assert process is not None
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(app.screen, Question))
        assert "cnn2_fmnist  starting" in screen_text(app)
        await pilot.press(key)
        await pilot.pause()
        assert app._exit == (key != "escape")
        if key == "escape":
            await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
            assert process.poll() is None
            await pilot.press("escape")
            await settled(app, pilot)
            assert app._starts == []
    try:
        assert app.return_value == told
        assert (process.poll() is None) == (key in ("l", "ctrl+c"))
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.name != "posix", reason="scripts that start by their first line are POSIX's")
@pytest.mark.parametrize("key", ["l", "s"])
async def test_a_lecture_that_is_starting_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    program(tmp_path, monkeypatch, "print('up', flush=True)\ntime.sleep(600)")
    lecture = tmp_path / "lecture-quick"
    app = make_app(tmp_path, places=Places(tmp_path / "runs", lecture_dir=lecture))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("3")
        await settled(app, pilot)
        await pilot.press("r")
        await settled(app, pilot)
        await pilot.press("t")
        await until(pilot, lambda: (lecture / "log.txt").exists() and "up" in (lecture / "log.txt").read_text())
        process = app._lecture_process
        assert process is not None
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Question))
        assert "The lecture is under way" in screen_text(app)
        await pilot.press(key)
    try:
        if key == "s":
            assert process.wait(timeout=GIVE_UP_S) != 0
        else:
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_directory_that_a_start_has_made_is_counted_once(tmp_path: Path) -> None:
    create_run(tmp_path / "runs" / "cnn2_fmnist" / "a-aaaa", load_recipe("cnn2_fmnist"), [])
    create_run(tmp_path / "runs" / "cnn2_fmnist" / "b-bbbb", load_recipe("cnn2_fmnist"), [])
    found = at_work(Ledger(tmp_path / "runs"), Places(tmp_path / "runs"), [], [Start("cnn2_fmnist")], None)
    assert (len(found), found.title) == (2, "2 runs are live")
    assert found.lines[-1] == "cnn2_fmnist  starting"


async def test_a_live_run_of_another_folder_that_is_shown_is_asked_about(tmp_path: Path) -> None:
    run = make_run(tmp_path / "elsewhere", end=None)
    app = make_app(tmp_path, run=run)
    with living(run):
        async with app.run_test() as pilot:
            await settled(app, pilot)
            await pilot.press("1", "q")
            assert f"{run.name}  running, epoch 2/2" in await settled(app, pilot)
            await pilot.press("s")
        command = parse_command(run.control_file.read_bytes())
    assert command is not None
    assert command.command == "stop"


async def test_a_live_run_of_the_lecture_is_asked_about_once(tmp_path: Path) -> None:
    folder = LectureFolder(tmp_path / "lecture-quick")
    one = tui_lecture.train(folder, "4", tui_lecture.at_chance, 30, end=None)
    places = Places(tmp_path / "runs", lecture_dir=folder.path)
    with living(one.run):
        app = make_app(tmp_path, places=places)
        async with app.run_test() as pilot:
            await settled(app, pilot)
            await pilot.press("q")
            text = await settled(app, pilot)
            assert "A run is live" in text
            assert f"{one.run.name}  running" in text
        own(folder.path)
        found = at_work(Ledger(places.runs_dir), places, [one.run], [], None)
        assert (found.title, found.runs) == ("The lecture is under way", [])


# -- settings


def test_settings_come_back_as_they_were_kept(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "tui.toml"
    kept = Settings(theme="light", ascii=True, smoothing=0.25, runs_dir="my runs", keymap={"app.quit": "ctrl+x"})
    Keeper(path).keep(**kept.model_dump())
    assert load_settings(path) == kept
    assert load_settings(tmp_path / "none") == Settings()


WRITTEN = """# mine
theme   = "light" # by day
smoothing = 0.8

[keymap]
theme = "f9"
"run.pause" = "f5" # as elsewhere
"""


def test_what_the_user_writes_meanwhile_stays_with_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "tui.toml"
    first, second = Keeper(path), Keeper(path)
    path.write_text(WRITTEN)
    first.keep(theme="colour-blind")
    second.keep(ascii=True)
    changed = WRITTEN.replace('theme   = "light" #', 'theme = "colour-blind" #')
    assert path.read_text() == f"ascii = true\n{changed}"
    first.keep(ascii=False)
    assert path.read_text() == f"ascii = false\n{changed}"


@pytest.mark.parametrize(
    "content",
    [
        "theme = 'a#b'",
        '"theme" = "light"',
        'theme = """\nlight"""',
        "[keymap]\ntheme = 'f9'",
        'runs_dir = """\ntheme = "x"\n"""',
        "theme = 'light'\r\nascii = true",
        "",
    ],
)
def test_a_choice_is_kept_however_the_file_is_written(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tui.toml"
    path.write_text(content)
    before = load_settings(path)
    Keeper(path).keep(theme="dark")
    assert load_settings(path) == before.model_copy(update={"theme": "dark"})


def test_a_file_that_is_damaged_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "tui.toml"
    keeper = Keeper(path)
    path.write_text("theme = ")
    with pytest.raises(UsageError, match=r"not kept for next time: .*expected TOML"):
        keeper.keep(theme="light")
    assert (path.read_text(), keeper.settings.theme) == ("theme = ", "light")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"theme = ", "expected TOML"),
        (b"\xff\xfe", "expected TOML"),
        (b"them = 'light'", "unknown key 'them'; did you mean 'theme'?"),
        (b"smoothing = 2.0", "smoothing should be less than 1, got 2.0"),
        (b"keymap = 3", "keymap should be a valid dictionary, got 3"),
    ],
)
async def test_damaged_settings_are_told_of_and_left_alone(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "config" / "tui.toml"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UsageError):
        load_settings(path)
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        await settled(app, pilot)
        assert told in said(app)
        app.use_theme("light")
        await settled(app, pilot)
        assert app.theme == "light"
        assert "not kept" in said(app)
    assert path.read_bytes() == content


async def test_a_folder_that_cant_be_written_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file where the folder should be")
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        app.use_theme("light")
        await settled(app, pilot)
        assert "tui.toml" in said(app)


async def test_keys_are_remapped_by_name(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "tui.toml").write_text('[keymap]\n"app.quit" = "ctrl+x"\n"zoo.sort" = "z"\n')
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        await settled(app, pilot)
        await pilot.press("z")
        assert "by name" in await settled(app, pilot)
        await pilot.press("q")
        await pilot.pause()
        assert not app._exit
        await pilot.press("ctrl+x")
        await pilot.pause()
        assert app._exit


def test_every_binding_has_a_name_to_be_remapped_by() -> None:
    from tui.app import KerascnnApp
    from tui.screens.runs import RunsFilter, RunsTable
    from tui.screens.zoo import Filter, Networks
    from tui.widgets.choice import Choice

    for owner in (
        *(KerascnnApp, ZooScreen, NewRunScreen, RunsScreen, RunScreen, OverlayScreen, HelpScreen, Question),
        *(Networks, Filter, RunsTable, RunsFilter, Choice),
    ):
        for binding in owner.BINDINGS:
            assert isinstance(binding, Binding)
            assert binding.id, (owner, binding)


# -- themes


@pytest.mark.parametrize("theme", THEME_NAMES)
async def test_every_theme_has_every_colour_and_is_kept(tmp_path: Path, theme: str) -> None:
    make_run(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        app.use_theme(theme)
        text = await looked(app, pilot)
        assert "cnn2_fmnist" in text
        colours = [app.theme_variables[name] for name in SERIES]
        assert len(set(colours)) == len(SERIES)
        assert {"train", "validation", "warning", "quiet"} <= set(app.theme_variables)
        assert app.theme_variables["train"] != app.theme_variables["validation"]
        for key in ("enter", "escape", "2", "f1"):
            await pilot.press(key)
            await settled(app, pilot)
    assert Keeper(tmp_path / "config" / "tui.toml").settings.theme == theme


async def test_a_theme_of_another_maker_gets_our_colours_by_its_darkness(tmp_path: Path) -> None:
    app = make_app(tmp_path, overrides={"theme": "solarized-light"})
    async with app.run_test() as pilot:
        await settled(app, pilot)
        light = app.theme_variables["train"]
        app.theme = "nord"
        await settled(app, pilot)
        assert app.theme_variables["train"] != light


async def test_an_unknown_theme_is_told_of(tmp_path: Path) -> None:
    app = make_app(tmp_path, overrides={"theme": "lihgt"})
    async with app.run_test() as pilot:
        await settled(app, pilot)
        assert "no theme is named 'lihgt'; did you mean 'light'?" in said(app)
        assert app.theme == "dark"


async def test_no_color_draws_the_same_text_without_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drawn() -> tuple[str, set[bool]]:
        app = make_app(tmp_path)
        async with app.run_test(size=(80, 24)) as pilot:
            text = await settled(app, pilot)
            strips = list(app.screen._compositor.render_strips())
            for line_filter in app._filters:
                strips = [strip.apply_filter(line_filter, app.screen.background_colors[1]) for strip in strips]
            coloured = {
                bool(segment.style and segment.style.color and len(set(segment.style.color.get_truecolor())) > 1)
                for strip in strips
                for segment in strip
            }
            return text, coloured

    colourful, seen = await drawn()
    assert True in seen
    monkeypatch.setenv("NO_COLOR", "")
    plain, seen = await drawn()
    assert plain == colourful
    assert seen == {False}


async def test_ascii_screens_hold_ascii_alone(tmp_path: Path) -> None:
    make_run(tmp_path)
    make_run(tmp_path, "20231114-231320-bbbb", end="stopped", epochs=(), began=BEGAN + 9)
    app = make_app(tmp_path, overrides={"ascii": True})
    async with app.run_test(size=(80, 24)) as pilot:
        for key in (
            *["down"] * 12,
            "enter",
            "f1",
            "escape",
            "escape",
            "2",
            "space",
            "f1",
            "escape",
            "d",
            "escape",
            "3",
            "f1",
            "escape",
            *"jjjjjjj",
        ):
            await pilot.press(key)
            text = await looked(app, pilot)
            assert text.isascii(), [line for line in text.splitlines() if not line.isascii()]
        await pilot.press("ctrl+p")
        assert (await settled(app, pilot)).isascii()


# -- help and palette


@pytest.mark.parametrize("size", SIZES[:1])
async def test_help_for_the_focused_pane(tmp_path: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    app = make_app(tmp_path)
    app._keeper.path = Path("tui.toml")
    async with app.run_test(size=size) as pilot:
        await settled(app, pilot)
        await pilot.press("question_mark")
        assert await settled(app, pilot) == snapshot
        for close in ("escape", "f1", "enter", "q"):
            assert isinstance(app.screen, HelpScreen)
            await pilot.press(close)
            await settled(app, pilot)
            assert isinstance(app.screen, ZooScreen)
            await pilot.press("f1")
            await settled(app, pilot)


async def test_help_speaks_of_the_field_that_has_the_focus(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        await pilot.press("enter", "down", "down", "down", "f1")
        assert "The key is train.epochs." in await settled(app, pilot)
        await pilot.press("escape", "escape", "slash", "f1")
        assert "only what holds all of them stays" in " ".join((await settled(app, pilot)).split())


async def test_the_palette_has_every_action_of_every_screen(tmp_path: Path) -> None:
    make_run(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(app, pilot)
        for keys in (["1"], ["enter"], ["escape", "2"], ["enter"]):
            await pilot.press(*keys)
            await settled(app, pilot)
            titles = {command.title for command in app.get_system_commands(app.screen)}
            named = {b.binding.description for b in app.screen.active_bindings.values() if b.binding.id}
            assert named - {""} <= titles
            assert {f"theme: {theme}" for theme in THEME_NAMES} <= titles


async def test_the_palette_does_what_it_says(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(app, pilot)
        await pilot.press("ctrl+p", *"theme: li")
        await settled(app, pilot)
        assert isinstance(app.screen, CommandPalette)
        await pilot.press("enter")
        await settled(app, pilot)
        assert app.theme == "light"
        await pilot.press("ctrl+p", *"sort")
        await settled(app, pilot)
        await pilot.press("enter")
        assert "by name" in await settled(app, pilot)


async def test_ascii_is_kept_for_the_next_start_and_leaves_this_one_as_it_is(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        await settled(app, pilot)
        app.toggle_ascii()
        await pilot.pause()
        assert "from its next start on" in said(app)
        assert not app.settings.ascii
    again = make_app(tmp_path)
    assert again.settings.ascii
    async with again.run_test() as pilot:
        await settled(again, pilot)
        again.toggle_ascii()
    assert not make_app(tmp_path).settings.ascii


async def test_a_run_tells_the_key_that_leads_to_help_whatever_the_room(tmp_path: Path) -> None:
    app = make_app(tmp_path, run=make_run(tmp_path))
    async with app.run_test(size=(60, 24)) as pilot:
        text = await settled(app, pilot)
        assert isinstance(app.screen, RunScreen)
        assert text.splitlines()[-1].endswith("f1 help")
        await pilot.press("question_mark")
        assert isinstance(app.screen, RunScreen), "it describes the chart"
        await pilot.click(KeyLine, offset=(app.size.width - 3, 0))
        helping = await settled(app, pilot)
        assert isinstance(app.screen, HelpScreen)
        assert "? tells in a sentence" in " ".join(helping.replace("│", " ").split())


async def test_a_look_at_the_runs_that_ends_with_the_app_finds_no_screen(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        await settled(app, pilot)
    assert not app.screen_stack
    app._tell_screen()


# -- what screens ask for


async def test_a_catalog_that_was_damaged_since_it_was_read_is_told_of(tmp_path: Path) -> None:
    catalog = tmp_path / "own.toml"
    catalog.write_text('[models.mine]\nbase = "cnn2_fmnist"\n')
    app = make_app(tmp_path, places=Places(tmp_path / "runs", catalog))
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(app, pilot)
        catalog.write_text('[models.mine]\nbase = "cnn2_fmnits"\n')
        app.post_message(NewRun("mine"))
        await settled(app, pilot)
        assert isinstance(app.screen, ZooScreen)
        assert "did you mean 'cnn2_fmnist'?" in said(app)
        catalog.write_text('[models.mine]\nbase = "cnn2_fmnist"\n')
        app.post_message(NewRun("mine"))
        await settled(app, pilot)
        assert isinstance(app.screen, NewRunScreen)


async def test_a_resume_starts_a_process_and_opens_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, end="stopped")
    asked: list[list[str]] = []

    async def start(arguments: list[str], **_: object) -> Run:
        asked.append(arguments)
        return run

    monkeypatch.setattr("tui.starting.launch.start", start)
    app = make_app(tmp_path, places=Places(tmp_path / "runs", data_dir=tmp_path))
    async with app.run_test() as pilot:
        await looked(app, pilot)
        app.screen.post_message(ResumeRun(run))
        await settled(app, pilot)
        assert isinstance(app.screen, RunScreen)
        assert asked == [["train", "--resume", str(run.path), "--data-dir", str(tmp_path)]]
        app.screen.post_message(ResumeRun(run))
        await settled(app, pilot)
        assert len(app.screen_stack) == 2, "it is shown already"


@pytest.mark.parametrize("keys", [["1", "enter"], ["f1"], ["d"], ["enter", "f1"], ["enter", "e"]])
async def test_a_resume_tears_nobody_away_from_where_they_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: list[str]
) -> None:
    run = make_run(tmp_path, end="stopped")
    away = asyncio.Event()

    async def start(_: list[str], **more: object) -> Run:
        await away.wait()
        return run

    monkeypatch.setattr("tui.starting.launch.start", start)
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await looked(app, pilot)
        await pilot.press("2")
        await looked(app, pilot)
        await pilot.press("r", *keys)
        await pilot.pause()
        screens = list(app.screen_stack)
        assert len(screens) == len([key for key in keys if key != "1"]) + 1
        away.set()
        await settled(app, pilot)
        assert app.screen_stack == screens
        assert f"{run.name} goes on" in said(app)


async def test_a_resume_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(_: list[str], **more: object) -> Run:
        raise RunError("its checkpoints don't fit this backend")

    monkeypatch.setattr("tui.starting.launch.start", start)
    run = make_run(tmp_path, end="stopped")
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        await settled(app, pilot)
        app.screen.post_message(ResumeRun(run))
        await settled(app, pilot)
        assert "don't fit" in said(app)
        assert isinstance(app.screen, ZooScreen)


async def test_a_run_that_is_gone_can_still_be_asked_for(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        await settled(app, pilot)
        app.post_message(OpenRun(Run(tmp_path / "gone")))
        await settled(app, pilot)
        await pilot.press("escape")
        assert isinstance(app.screen, ZooScreen)
