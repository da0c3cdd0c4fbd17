"""The app: where screens meet. It routes what they ask for, keeps the settings and watches the runs folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import events, on, work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.screen import Screen

from kerascnn.errors import KerascnnError, RunError, UsageError, nearest
from kerascnn.training.backend import installed_backends
from tui.messages import LedgerChanged, NewRun, OpenRun, Overlay, ResumeRun
from tui.places import Places
from tui.reading.ledger import Ledger
from tui.screens.dialogs import Answer, Question, TooSmall
from tui.screens.zoo import ZooScreen
from tui.settings import DEFAULT_THEME, Keeper, settings_file
from tui.themes import THEME_NAMES, THEMES, series_variables

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from kerascnn.runs.directory import Run
    from tui.quitting import AtWork
    from tui.starting.launch import Start

LOOK_EVERY_S = 1.0
SMALLEST = (60, 15)
_ERROR_SHOWN_S = 12.0


class KerascnnApp(App[str]):
    """Pick a network, pick a backend, watch it learn. What it returns is printed after its end."""

    TITLE = "kerascnn"
    CSS_PATH = "app.tcss"
    DEFAULT_MODE = "zoo"
    HELP = "1, 2 and 3 lead to zoo, runs and lecture; Ctrl-P lists every action by name; Ctrl-C quits as q does."
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (160, "-huge")]  # noqa: RUF012 - as Textual declares it
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "mode('zoo')", "zoo", show=False, id="app.zoo"),
        Binding("2", "mode('runs')", "runs", show=False, id="app.runs"),
        Binding("question_mark,f1", "help", "help", id="app.help"),
        Binding("3", "mode('lecture')", "lecture", id="app.lecture"),
        Binding("q,ctrl+q", "quit", "quit", key_display="q", id="app.quit"),
        Binding("ctrl+c", "quit", "", show=False, priority=True, id="app.interrupt"),
    ]

    def __init__(
        self,
        places: Places,
        *,
        keeper: Keeper | None = None,
        overrides: Mapping[str, object] | None = None,
        run: Run | None = None,
        replay: bool = False,
        lecture: bool = False,
        backends: Sequence[str] | None = None,
    ) -> None:
        """Reads nothing but the settings, where no keeper brings them.

        Args:
            places: where runs, catalog and data are.
            keeper: the settings, by default those in the user's own file.
            overrides: settings of this one start, which aren't kept.
            run: a run to open at once.
            replay: whether to tell that run from its start.
            lecture: whether to open the lecture at once.
            backends: those that are installed, by default as found.
        """
        super().__init__()
        self.places = places
        self._keeper = keeper or Keeper(settings_file())
        self.settings = self._keeper.settings.model_copy(update=dict(overrides or {}))
        self.ledger = Ledger(self.places.runs_dir)
        self.backends = installed_backends() if backends is None else list(backends)
        self._run = run
        self._replay = replay
        self._lecture_at_once = lecture
        self._starts: list[Start] = []
        self._lecture_process: subprocess.Popen[bytes] | None = None
        for theme in THEMES:
            self.register_theme(theme)
        # Before the first style sheet is read: changed later, every widget is dressed twice.
        self.set_class(self.settings.ascii, "-ascii")
        known = self.settings.theme in self.available_themes
        self.set_reactive(App.theme, self.settings.theme if known else DEFAULT_THEME)
        self.add_mode("zoo", self._zoo)
        self.add_mode("runs", self._runs)
        self.add_mode("lecture", self._lecture)

    def _zoo(self) -> ZooScreen:
        return ZooScreen(self.places.catalog, self.ledger, self.backends, ascii=self.settings.ascii)

    def _runs(self) -> Screen[None]:
        from tui.screens.runs import RunsScreen

        return RunsScreen(self.ledger, self.backends, ascii=self.settings.ascii)

    def _lecture(self) -> Screen[None]:
        from tui.screens.lecture import LectureScreen

        return LectureScreen(self.places, self.ledger, self.backends, start=self._start_lecture)

    def get_key_display(self, binding: Binding) -> str:
        """A key's sign, or its name where there are only letters."""
        shown = super().get_key_display(binding)
        return shown if not self.settings.ascii or shown.isascii() else binding.key

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The chart colours for themes that don't name any."""
        return series_variables(dark=self.current_theme.dark)

    def on_mount(self) -> None:
        """Say what there is to say, and look at the runs once the first screen is painted."""
        self.set_keymap(self.settings.keymap)
        if self.settings.theme not in self.available_themes:
            self._warn(
                f"no theme is named {self.settings.theme!r}{nearest(self.settings.theme, self.available_themes)}"
            )
        if self._keeper.problem:
            self._warn(self._keeper.problem)
        if self._run is not None:
            self.switch_mode("runs")
            self.post_message(OpenRun(self._run, replay=self._replay))
        elif self._lecture_at_once:
            self.switch_mode("lecture")
        self.call_after_refresh(self.look_at_runs)
        self.set_interval(LOOK_EVERY_S, self.look_at_runs)

    def _warn(self, message: str) -> None:
        self.notify(message, severity="warning", timeout=_ERROR_SHOWN_S, markup=False)

    # -- the runs folder

    def look_at_runs(self) -> None:
        """Bring the ledger up to date in a thread, one at a time."""
        if not any(worker.group == "ledger" and not worker.is_finished for worker in self.workers):
            self._refresh_ledger()

    @work(thread=True, group="ledger")
    def _refresh_ledger(self) -> None:
        before = self.ledger.entries
        if self.ledger.refresh() != before:
            self.post_message(LedgerChanged())

    @on(LedgerChanged)
    def _tell_screen(self) -> None:
        # A look that ends while the app does finds no screen to tell.
        if self.screen_stack:
            self.screen.post_message(LedgerChanged())

    # -- what screens ask for

    def action_mode(self, mode: str) -> None:
        """Go to a place; from a screen over it, back to it."""
        if self.current_mode != mode:
            self.switch_mode(mode)
            return
        while len(self.screen_stack) > 1:
            self.pop_screen()

    @on(NewRun)
    def _open_form(self, message: NewRun) -> None:
        from tui.screens.new_run import NewRunScreen

        start = partial(self._start, message.model)
        try:
            form = NewRunScreen(
                message.model, self.places, self.ledger, self.backends, ascii=self.settings.ascii, start=start
            )
        except KerascnnError as error:
            # The user's own catalog, changed since it was read.
            self.notify(str(error), severity="error", timeout=_ERROR_SHOWN_S, markup=False)
            return
        self.push_screen(form)

    @on(OpenRun)
    def _open_run(self, message: OpenRun) -> None:
        from tui.screens.run import RunScreen

        screen = RunScreen(message.run, replay=message.replay)
        if message.instead_of is self.screen:
            self.switch_screen(screen)
        else:
            self.push_screen(screen)
        # One that was named on the command line comes over what a small terminal has been told.
        self._say_if_too_small(self.size)

    @on(Overlay)
    def _overlay(self, message: Overlay) -> None:
        from tui.screens.overlay import OverlayScreen

        self.push_screen(OverlayScreen(message.runs))

    @on(ResumeRun)
    def _resume(self, message: ResumeRun) -> None:
        self.notify(f"starting a process that goes on with {message.run.name}", markup=False)
        self._start_again(message.run, self.screen)

    @work(group="resume")
    async def _start_again(self, run: Run, asker: Screen[object]) -> None:
        from tui.screens.run import RunScreen
        from tui.starting import launch

        try:
            await self._start(run.name, launch.resume_arguments(run, self.places))
        except RunError as error:
            self.notify(str(error), title=run.name, severity="error", timeout=_ERROR_SHOWN_S, markup=False)
            return
        self.look_at_runs()
        if self.screen is not asker:
            # Whoever went on to another screen meanwhile isn't torn away from it.
            self.notify(f"{run.name} goes on", markup=False)
        elif not (isinstance(asker, RunScreen) and asker.run.path == run.path):
            self.post_message(OpenRun(run))

    async def _start(
        self, name: str, arguments: Sequence[str], *, report: Callable[[str], None] = lambda _: None
    ) -> Run:
        """Start a command, which counts as at work until it has left its run behind."""
        from tui.starting import launch

        start = launch.Start(name)
        self._starts.append(start)
        try:
            return await launch.start(arguments, report=report, known_as=start)
        finally:
            self._starts.remove(start)

    def _start_lecture(self, arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        from tui.starting import launch

        self._lecture_process = launch.start_lecture(arguments, log)
        return self._lecture_process

    # -- quitting

    async def action_quit(self) -> None:
        """Leave; where something is at work, ask what becomes of it."""
        from tui.quitting import at_work

        if isinstance(self.screen, (Question, TooSmall)):
            # Asked twice, or no room to ask, and leaving harms no run.
            for start in self._starts:
                start.left = True
            self.exit()
            return
        shown, starts, lecture = self._shown_runs(), list(self._starts), self._lecture_process
        pid = lecture.pid if lecture is not None and lecture.poll() is None else None
        found = await asyncio.to_thread(at_work, self.ledger, self.places, shown, starts, pid)
        if not found:
            self.exit()
            return
        them = "it" if len(found) == 1 else "them"
        self.push_screen(
            Question(
                found.title,
                "\n".join(found.lines),
                [
                    Answer("leave", "l", f"leave {them} running"),
                    Answer("stop", "s", f"stop {them}, checkpoint first"),
                    Answer("stay", "y", "stay"),
                ],
                ascii=self.settings.ascii,
            ),
            partial(self._quit_as_asked, found),
        )

    def _shown_runs(self) -> list[Run]:
        """The runs of all run screens, whichever place they are over."""
        from tui.screens.run import RunScreen

        screens = [screen for stack in self._screen_stacks.values() for screen in stack]
        return [screen.run for screen in screens if isinstance(screen, RunScreen)]

    def _quit_as_asked(self, found: AtWork, answer: str | None) -> None:
        if answer == "leave":
            self.exit(found.leave())
        elif answer == "stop":
            self.exit(found.stop())

    # -- help, palette, settings

    def action_help(self) -> None:
        """What the focused pane is for, and the keys that work now."""
        from tui.screens.help import HelpScreen, help_text, key_lines

        if isinstance(self.screen, HelpScreen):
            return
        screen = self.screen
        self.push_screen(
            HelpScreen(help_text(screen), key_lines(screen), str(self._keeper.path), ascii=self.settings.ascii)
        )

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every action of the screen by name, then the themes."""
        seen: set[tuple[str, str]] = set()
        for node, binding, enabled, _ in screen.active_bindings.values():
            name = (binding.action, binding.description)
            if not enabled or not binding.description or name in seen or binding.action == "command_palette":
                continue
            seen.add(name)
            yield SystemCommand(
                binding.description,
                f"key {self.get_key_display(binding)}",
                partial(self.run_action, binding.action, node),
                # What moves a cursor in any list can be found by name and would only bury the rest.
                discover=binding.id is not None,
            )
        for theme in THEME_NAMES:
            yield SystemCommand(f"theme: {theme}", "colours, kept for next time", partial(self.use_theme, theme))
        turned = "off" if self._keeper.settings.ascii else "on"
        yield SystemCommand(f"ASCII signs: {turned}", "from the next start on", self.toggle_ascii)

    def action_command_palette(self) -> None:
        """Every action by name."""
        from textual.command import CommandPalette

        if self.use_command_palette and not isinstance(self.screen, CommandPalette):
            self.push_screen(CommandPalette(placeholder="an action, such as a theme"))

    def use_theme(self, name: str) -> None:
        """Change the colours and keep them."""
        self.theme = name
        self._keep(theme=name)

    def toggle_ascii(self) -> None:
        """Draw with ASCII, or no longer, from the next start on: what is shown stays in one style."""
        wanted = not self._keeper.settings.ascii
        if self._keep(ascii=wanted):
            signs = "ASCII alone" if wanted else "all its signs"
            self.notify(f"kerascnn-tui draws with {signs} from its next start on")

    def _keep(self, **changes: object) -> bool:
        """Whether it could be kept; says why not."""
        try:
            self._keeper.keep(**changes)
        except UsageError as error:
            self._warn(str(error))
            return False
        return True

    def handle_bindings_clash(self, clashed_bindings: set[Binding], node: object) -> None:
        """Say that a key of the settings was taken."""
        for binding in clashed_bindings:
            self._warn(f"[keymap]: {binding.key} was {binding.description}")

    # -- the terminal's size

    @on(events.Resize)
    def _guard_size(self, event: events.Resize) -> None:
        self._say_if_too_small(event.size)

    def _say_if_too_small(self, size: Size) -> None:
        small = size.width < SMALLEST[0] or size.height < SMALLEST[1]
        if small and not isinstance(self.screen, TooSmall):
            self.push_screen(TooSmall(*SMALLEST))
        elif not small and isinstance(self.screen, TooSmall):
            self.pop_screen()
