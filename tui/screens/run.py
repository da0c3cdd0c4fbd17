"""One run, live or finished: its curves, its layers, its log, and the keys that control it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar

import psutil
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from kerascnn.errors import KerascnnError
from kerascnn.recipe import Recipe
from kerascnn.runs import control
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run
from tui.drawing.colors import color_of
from tui.drawing.curves import Curves
from tui.drawing.plotting import number
from tui.messages import ResumeRun
from tui.reading import status
from tui.reading.replay import Replay
from tui.reading.story import RunStory
from tui.reading.system import System, Usage
from tui.screens.asking import AskNumber
from tui.screens.charted import ROOM_FOR_TWO, ChartedScreen
from tui.screens.dialogs import Answer, Question
from tui.widgets.charts import Charts
from tui.widgets.keys import KeyLine
from tui.widgets.layers import LayerTable
from tui.widgets.line import TwoEnds
from tui.widgets.log import LogTail

TICK_S = 0.25
KEYS_LIVE = ("run.pause", "run.stop", "run.learning_rate", "run.extend")
KEYS_ENDED = ("run.resume", "run.replay", "run.extend")
KEYS_FINISHED = ("run.replay", "run.extend")
KEYS_CLOSED = ("run.replay",)
KEYS_REPLAY = ("run.replay", "run.slower", "run.faster")
KEYS_LOOK = ("chart.cursor", "chart.zoom_in", "chart.describe", "screen.back")
KEYS_MORE = ("chart.log", "chart.smoothing", "chart.axis")
# Of each tick, so much at most is spent on reading.
READ_BUDGET_S = 0.05
SAMPLE_EVERY_TICKS = 8
# What a finding or a failure tells takes a line or two; a longer one leaves the curves their room.
LINES_OF_A_WORD = 3


class RunScreen(ChartedScreen):
    """Shows one run. Reads its directory on a timer and asks things of its process through ``control.jsonl``."""

    HELP = (
        "The curves, the layers and the log of one run. c puts a cursor on the curves; the arrows move it, and layers "
        "and log follow; w chooses what the strips show. p, s, k, l and e ask something of the live run; r goes "
        "on with one that has ended. ? tells in a sentence what the focused chart shows; F1 leads here."
    )
    CSS_PATH = "run.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "pause", id="run.pause"),
        Binding("s", "stop", "stop", id="run.stop"),
        Binding("l", "learning_rate", "learning rate", id="run.learning_rate"),
        Binding("e", "extend", "epochs", id="run.extend"),
        Binding("k", "kill", "kill", id="run.kill"),
        Binding("r", "resume", "resume", id="run.resume"),
        Binding("f", "finding", "finding", id="run.finding"),
        Binding("w", "figure", "layer figure", id="run.figure"),
        Binding("space", "replay", "replay", id="run.replay"),
        Binding("less_than_sign", "speed(-1)", "slower", id="run.slower"),
        Binding("greater_than_sign", "speed(1)", "faster", id="run.faster"),
    ]

    def __init__(
        self,
        run: Run,
        *,
        clock: Callable[[], float] = time.time,
        replay: bool = False,
        tick_s: float | None = TICK_S,
    ) -> None:
        """Show a run.

        Args:
            run: the run.
            clock: seconds since 1970.
            replay: begin by telling a finished run from its start.
            tick_s: how often to look for news; None leaves ``tick`` to the caller.
        """
        super().__init__()
        self.run = run
        self.story = RunStory(run)
        self.replay: Replay | None = None
        self._clock = clock
        self._replay_at_once = replay
        self._tick_s = tick_s
        self._ticks = 0
        self._curves = Curves(self.story, self.smoothing)
        self._cursor_step: int | None = None
        self._gone_to: tuple[ev.Found, int | None] | None = None
        self._owner: int | None = None
        self._host: str | None = None
        self._usage: Usage | None = None
        self._system = System()
        self._asked: dict[str, control.Command] = {}
        self._recipe: Recipe | None = None
        self._shown: object = None
        self._checkpointed = False

    def compose(self) -> ComposeResult:
        ascii_only = self.settings.ascii
        yield TwoEnds(ascii_only=ascii_only, id="head")
        yield Charts(ascii_only=ascii_only, id="charts")
        yield LayerTable(ascii_only=ascii_only, id="layers")
        yield TwoEnds(ascii_only=ascii_only, id="figures")
        yield TwoEnds(ascii_only=ascii_only, most_lines=LINES_OF_A_WORD, id="word")
        yield LogTail(ascii_only=ascii_only, id="log")
        yield KeyLine()

    def on_mount(self) -> None:
        """Read what there is, then look for news on a timer."""
        self.smoothing = self.settings.smoothing
        self._curves = Curves(self.story, self.smoothing)
        recipe = self.story.recipe()
        self._recipe = recipe if isinstance(recipe, Recipe) else None
        self.tick()
        if self._replay_at_once:
            self.action_replay()
        if self._tick_s is not None:
            self.set_interval(self._tick_s, self.tick)

    # News

    @property
    def state(self) -> str:
        """How the run stands."""
        state = self.story.state(self._owner, self._host)
        if self.replay is not None and not self.replay.done and state in ("killed", "elsewhere"):
            return "paused" if self.story.paused else "running"
        return state

    def tick(self) -> None:
        """Take what is new and show it. A long file is read in turns, so that keys are answered meanwhile."""
        self._ticks += 1
        if self.replay is not None and not self.replay.done:
            for event in self.replay.due():
                self.story.take(event)
        else:
            # Asked before reading: what a process wrote before it ended is then read in any case.
            self._owner, self._host = self.run.holder()
            if self.story.read(READ_BUDGET_S):
                # What is new was not replayed.
                self.replay = None
            # Kept by itself: a replay tells it late.
            self._checkpointed = self._checkpointed or self.story.checkpointed
            if self.story.behind:
                self.tick_again()
        self._settle()
        if self._owner is not None and self._ticks % SAMPLE_EVERY_TICKS == 1:
            self.run_worker(self._sample, name="system", group="system", exclusive=True, thread=True)
        shown = (self.story.version, self.story.trouble, self._owner, self._host, id(self.story))
        # While a long file is read, how far that is is enough to be told.
        if shown != self._shown and not self.story.behind:
            self._shown = shown
            self.redraw()
        else:
            self._tell()

    def _sample(self) -> None:
        owner = self._owner
        self._usage = self._system.sample(owner) if owner is not None else None

    def _settle(self) -> None:
        """Forget what has been confirmed, and tell what never will be."""
        for command in list(self._asked.values()):
            if command.id in self.story.confirmed:
                del self._asked[command.id]
            elif self._owner is None and command.command in control.FOR_THE_LIVING:
                del self._asked[command.id]
                self.notify(f"the run ended before it could {command.command}", severity="warning", markup=False)

    # Showing

    def redraw(self) -> None:
        """Hand all parts what there is to show."""
        if not self._curves.is_of(self.story, self.smoothing):
            self._curves = Curves(self.story, self.smoothing)
        charts = self.charts
        if self._cursor_step is not None and len(self.story.steps):
            charts.cursor = self._curves.place_of(self._cursor_step, self.axis)
        charts.show(
            self._curves.series(self.axis),
            marks=self._curves.marks(self.axis),
            places=self._curves.places(self.axis),
            axis=self.axis,
        )
        self._show_rest()

    def _show_rest(self) -> None:
        layers = self.query_one(LayerTable)
        empty = (
            "No layer statistics yet."
            if self.state in status.UNDER_WAY
            else "This run has recorded no layer statistics."
        )
        layers.show(self.story.layers, self._cursor_step, empty)
        layers.set_class(not len(self.story.layers), "-empty")
        layers.styles.max_height = len(self.story.layers.layers) + 3
        self.query_one(LogTail).show(self.story.lines, self._cursor_step)
        self._tell()

    def _tell(self) -> None:
        """The lines that change with time, too."""
        ascii_only = self.settings.ascii
        state = self.state
        story, started = self.story, self.story.started
        name = started.model if started else self._recipe.name if self._recipe else ""
        dataset = started.dataset if started else self._recipe.dataset if self._recipe else ""
        backend = started.backend if started else str(self.run.environment().get("backend", ""))
        left = status.plain(status.headline(name or self.run.name, dataset, backend), ascii_only=ascii_only)
        told_at = self.replay.now if self.replay is not None and not self.replay.done else self._clock()
        phase = status.phase(story, state, told_at)
        now = f"{status.glyph(state, ascii_only=ascii_only)} {phase}"
        rights = [Content("   ".join(filter(None, (told, now)))) for told in status.progress(story)]
        self.query_one("#head", TwoEnds).show(Content.assemble((left, "bold")), *rights)
        parts = status.figures(story, state, self._usage if self._owner else None, self._cursor_step)
        if self._cursor_step is not None:
            parts.insert(0, f"at step {self._cursor_step:,}")
        line = status.plain(" · ".join(parts), ascii_only=ascii_only)
        self.query_one("#figures", TwoEnds).show(Content(line), *map(Content, self._replay_words()))
        self._tell_word(state, ascii_only=ascii_only)
        self._tell_keys(state)

    def _tell_keys(self, state: str) -> None:
        replaying = self.replay is not None and not self.replay.done
        more_asked = any(command.command == "extend" for command in self._asked.values())
        ended: Sequence[str] = KEYS_FINISHED if state == "finished" and not more_asked else KEYS_ENDED
        ended = KEYS_CLOSED if self._is_closed() else ended
        first: Sequence[str | tuple[str, str]] = KEYS_REPLAY if replaying else ended
        if self._owner is not None:
            first = (("run.pause", "go on"), *KEYS_LIVE[1:]) if state == "paused" else KEYS_LIVE
        other = ("chart.other",) if self.app.size.width < ROOM_FOR_TWO else ()
        marks = ("run.finding",) if self.story.findings else ()
        figure = ("run.figure",) if len(self.story.layers) else ()
        kill = ("run.kill",) if self._owner is not None else ()
        self.tell_keys([*first, *other, *KEYS_LOOK, *marks, *figure, *KEYS_MORE, *kill])

    def _tell_word(self, state: str, *, ascii_only: bool) -> None:
        word, alarming = status.last_word(self.story, state, self._host, self._finding)
        if self.story.behind:
            word, alarming = f"reading … {self.story.share_read:.0%}", False
        asked = ", ".join(
            command.command + ("" if command.value is None else f" {command.value:g}")
            for command in self._asked.values()
        )
        content = Content.styled(
            status.plain(word, ascii_only=ascii_only),
            color_of("warning", self.app.theme_variables).hex if alarming else "",
        )
        asked = status.plain(f"asked: {asked} …", ascii_only=ascii_only) if asked else ""
        self.query_one("#word", TwoEnds).show(content, Content.styled(asked, "bold"))

    def _replay_words(self) -> list[str]:
        """How far a replay is, then the same in fewer words."""
        replay = self.replay
        if replay is None:
            return []
        told = f"{_clock_time(replay.position_s)}/{_clock_time(replay.length_s)}"
        doing = "replayed" if replay.done else "replay" if replay.playing else "replay held"
        return [f"{doing} {told} at {replay.speed} times its speed", f"{doing} {told} {replay.speed}x"]

    def on_charts_cursor_moved(self, message: Charts.CursorMoved) -> None:
        """Layers, figures and log follow the cursor."""
        self._follow_cursor()

    def _follow_cursor(self) -> None:
        # Where it stands now: of keys pressed in a row, the last one's message comes after all of them.
        x = self.charts.cursor
        self._cursor_step = None if x is None else self._curves.step_at(x, self.axis)
        self._show_rest()

    # Looking

    def action_finding(self) -> None:
        """The cursor to the next finding, which the line below the figures tells."""
        findings = self.story.findings
        if not findings:
            self.notify("this run has no findings", timeout=3)
            return
        if (gone_to := self._finding) is not None:
            # Several findings may share the recorded step that is nearest to them.
            following = findings[findings.index(gone_to) + 1 :]
        else:
            here = -1 if self._cursor_step is None else self._cursor_step
            following = [finding for finding in findings if finding.step > here]
        chosen = following[0] if following else findings[0]
        if len(self.story.steps):
            self.charts.put_cursor(self._curves.place_of(chosen.step, self.axis))
            self._follow_cursor()
        self._gone_to = (chosen, self._cursor_step)
        self._tell()

    @property
    def _finding(self) -> ev.Found | None:
        """The finding that was gone to, while the cursor stays there."""
        if self._gone_to is None:
            return None
        found, at = self._gone_to
        return found if at == self._cursor_step and found in self.story.findings else None

    def action_figure(self) -> None:
        """Let the layers' strips show the next figure."""
        self.query_one(LayerTable).choose_next()

    def action_replay(self) -> None:
        """Tell a finished run from its start; hold and go on."""
        if self._owner is not None:
            self.notify("a live run tells itself; it can be replayed when it has ended", timeout=4)
        elif self.replay is None or self.replay.done:
            self.run_worker(self._load_replay, name="replay", group="replay", exclusive=True, thread=True)
        else:
            self.replay.playing = not self.replay.playing
            self._tell()

    def _load_replay(self) -> None:
        events, end = ev.read_events(self.run.events_file)
        self.app.call_from_thread(self._begin_replay, events, end)

    def _begin_replay(self, events: list[ev.Event], end: int) -> None:
        """Tell these events; what is written after ``end`` follows when they have been told."""
        if not events:
            self.notify("there is nothing to replay", timeout=3)
            return
        self.story = RunStory(self.run, offset=end)
        self.replay = Replay(events, self._clock)
        self.charts.put_cursor(None)
        self.tick()

    def action_speed(self, direction: int) -> None:
        """Replay slower or faster."""
        if self.replay is not None:
            self.replay.change_speed(direction)
            self._tell()

    # Control

    def _ask(self, name: str, value: float | None = None) -> None:
        """Ask something of the run. It counts as asked until the event comes that confirms it."""
        if self._is_told():
            return
        try:
            command = control.make_command(name, value)
            control.ask(self.run, command)
        except KerascnnError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self._asked[command.id] = command
        owner, host = self.run.holder()
        # Without a value it was for a process that has ended since, which the next tick tells.
        if owner is None and value is not None:
            there = control.perhaps_there(host)
            self.notify(f"noted: {name} {value:g}; {there}r goes on with the run and does it", markup=False)
        self._tell()

    def _is_told(self) -> bool:
        """Whether a replay is under way, of which nothing can be asked; says so."""
        replaying = self.replay is not None and not self.replay.done
        if replaying:
            self.notify("this is a replay, of which nothing can be asked", timeout=4)
        return replaying

    def _is_closed(self) -> bool:
        """Whether nothing can go on with the run: it has ended, and its checkpoints were removed."""
        from kerascnn.training.checkpoint import list_checkpoints

        return self._owner is None and self._checkpointed and not list_checkpoints(self.run.checkpoints)

    def _has_all_its_epochs(self) -> bool:
        """Whether who goes on with the run would find nothing to do, also by what others have asked of it."""
        asked = control.Inbox(self.run.control_file, set(self.story.confirmed)).new()
        return self.state == "finished" and not any(command.command == "extend" for command in asked)

    def _tell_closed(self) -> None:
        self.notify("the checkpoints of this run were removed, so nothing can go on with it", severity="warning")

    def action_pause(self) -> None:
        """Pause, or go on."""
        self._ask("resume" if self.story.paused else "pause")

    def action_stop(self) -> None:
        """Let the run save a checkpoint and end."""
        self._ask("stop")

    def action_learning_rate(self) -> None:
        """Ask for a learning rate and set it."""
        now = self.story.steps.last("learning_rate")
        question = f"Learning rate (now {number(now)}); the rest of the schedule is scaled along"
        self._ask_number("set-lr", question, f"{now:g}" if now == now else "")

    def action_extend(self) -> None:
        """Ask for a number of epochs and add them."""
        self._ask_number("extend", f"How many epochs more (now {self.story.pace.epochs})?", "1")

    def _ask_number(self, name: str, question: str, value: str) -> None:
        if self._is_told():
            return
        if self._is_closed():
            self._tell_closed()
            return

        def answered(number: float | None) -> None:
            if number is not None:
                self._ask(name, number)

        self.app.push_screen(
            AskNumber(question, value, lambda typed: control.make_command(name, typed), ascii_only=self.settings.ascii),
            answered,
        )

    def action_kill(self) -> None:
        """Kill the process, after a question."""
        owner = self.run.owner()
        if owner is None:
            self.notify(f"{self.run.path}: no process works on this run", severity="error", markup=False)
            return

        def answered(answer: str | None) -> None:
            # Only the process that was asked about: another may have taken the run over since.
            if answer == "kill" and self.run.owner() == owner:
                self._kill(owner)

        question = Question(
            f"Kill process {owner} now?",
            "What it did since its last checkpoint is lost; s stops without loss.",
            [Answer("stay", "n", "leave it"), Answer("kill", "y", "kill it")],
            ascii=self.settings.ascii,
        )
        self.app.push_screen(question, answered)

    def _kill(self, owner: int) -> None:
        try:
            psutil.Process(owner).kill()
        except psutil.Error as error:
            self.notify(f"process {owner} can't be killed: {error}", severity="error", markup=False)
        self.tick()

    def action_resume(self) -> None:
        """Ask the app to go on with the run."""
        owner = self.run.owner()
        if owner is not None:
            self.notify(f"process {owner} works on this run; p pauses it and goes on", timeout=4)
            return
        if self._is_closed():
            self._tell_closed()
            return
        if self._has_all_its_epochs():
            done = self.story.ended.message if self.story.ended else "its epochs are done"
            self.notify(f"{done}; e adds more", timeout=4)
            return
        if self.replay is not None:
            self.replay = None
            self.story = RunStory(self.run)
        self.post_message(ResumeRun(self.run))


def _clock_time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
