"""The lecture as a guided tour: left the argument, right the curve of a step, below what it says."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message

from kerascnn.catalog import load_recipe
from kerascnn.data.dataset import classes_of
from kerascnn.errors import KerascnnError
from kerascnn.lecture.argument import Step, the_argument
from kerascnn.lecture.folder import LectureFolder, Settings
from kerascnn.machine import machine
from kerascnn.training.backend import choose_backend
from kerascnn.wording import command_line, duration
from tui.drawing.glyphs import STATES, VERDICTS, plain
from tui.drawing.lecture import accuracy_series, highest_loss, loss_series
from tui.messages import OpenRun, Overlay
from tui.places import Places
from tui.reading.lecture import LectureReader, Look, Training
from tui.reading.ledger import Ledger
from tui.screens.charted import ChartedScreen
from tui.screens.dialogs import Answer, Question
from tui.starting import launch
from tui.widgets.argument import ArgumentList
from tui.widgets.charts import Charts
from tui.widgets.keys import KeyLine
from tui.widgets.line import TwoEnds
from tui.widgets.topbar import TopBar
from tui.widgets.words import Words

if TYPE_CHECKING:
    from tui.starting.lecture import Plan

TICK_S = 0.5
LOG_NAME = "log.txt"
_STOPPED = (130, 75, -signal.SIGINT)
_SHOWN_S = 12.0

Start = Callable[[Sequence[str], Path], "subprocess.Popen[bytes]"]

this_machine = cache(machine)


class WordsPane(VerticalScroll):
    """Where the words scroll."""

    HELP = (
        "The step in words: what it changes, why the lecture does so, what it claims, and what was measured with each "
        "backend and seed. Away from chance means that the mean training loss over 25 steps came below 95 % of ln C."
    )


class LectureScreen(ChartedScreen):
    """The lecture's argument, its curves, and the keys that train it."""

    HELP = ArgumentList.HELP
    CSS_PATH = "lecture.tcss"
    AUTO_FOCUS = "ArgumentList"
    room_for_two = 160
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (160, "-huge")]  # noqa: RUF012 - Textual's own
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "walk(1)", "next step", show=False, id="lecture.next"),
        Binding("k", "walk(-1)", "step before", show=False, id="lecture.before"),
        Binding("r", "run_step", "run step", id="lecture.run"),
        Binding("a", "run_all", "run all", id="lecture.run_all"),
        Binding("s", "stop", "stop", id="lecture.stop"),
        Binding("b", "backend", "backend", id="lecture.backend"),
        Binding("o", "overlay", "overlay", id="lecture.overlay"),
        Binding("escape", "leave", "to the list", show=False, id="lecture.back"),
    ]

    class Looked(Message):
        """The folder has been looked at, and something has changed."""

    def __init__(
        self,
        places: Places,
        ledger: Ledger,
        backends: Sequence[str],
        *,
        start: Start = launch.start_lecture,
        tick_s: float | None = TICK_S,
    ) -> None:
        """Show a lecture's folder.

        Args:
            places: the folder and the data.
            ledger: the user's other runs, to estimate from.
            backends: those that are installed.
            start: what starts a command, its log going into a file.
            tick_s: how often to look for news; None leaves ``tick`` to the caller.
        """
        super().__init__()
        self.folder = LectureFolder(places.lecture_dir)
        self._reader = LectureReader(self.folder)
        self._places = places
        self._ledger = ledger
        self._backends = list(backends)
        self._backend = ""
        self._start = start
        self._tick_s = tick_s
        self._child: subprocess.Popen[bytes] | None = None
        self._look = Look()
        self._stopping = False

    def compose(self) -> ComposeResult:
        ascii_only = self.settings.ascii
        yield TopBar("lecture", self._backends, ascii=ascii_only)
        yield TwoEnds(ascii_only=ascii_only, id="head")
        yield ArgumentList(the_argument().steps, ascii=ascii_only)
        yield Charts(ascii_only=ascii_only, id="charts")
        with WordsPane(id="words", classes="-ascii" if ascii_only else ""):
            yield Words(ascii=ascii_only)
        yield KeyLine()

    def on_mount(self) -> None:
        """Show the argument, then what has been trained, then look for news on a timer."""
        self.redraw()
        self.tick()
        if self._tick_s is not None:
            self.set_interval(self._tick_s, self.tick)

    def on_resize(self) -> None:
        """Words and keys come and go with the room for them."""
        self.call_after_refresh(self.redraw)

    def on_screen_resume(self) -> None:
        """The lecture may have moved on while another screen was shown."""
        self.tick()

    # -- news

    def tick(self) -> None:
        """Look at the folder in a thread, one look at a time, and at the process that was started here."""
        self._mind_child()
        busy = any(worker.group == "lecture" and not worker.is_finished for worker in self.workers)
        if self.is_current and not busy:
            self._refresh()

    @work(thread=True, group="lecture")
    def _refresh(self) -> None:
        before = self._reader.look
        if self._reader.refresh() is not before:
            self.post_message(self.Looked())

    @on(Looked)
    def _news(self) -> None:
        self.redraw()

    def _mind_child(self) -> None:
        if self._child is None:
            return
        code = self._child.poll()
        if code is None:
            self._tell()
            return
        self._child = None
        said = launch.said_in(self._log)
        if code in _STOPPED:
            self.notify(said[-1] if said else "the lecture has stopped", timeout=_SHOWN_S, markup=False)
        elif code:
            told = launch.complaint(said) or f"it ended with exit code {code} and said nothing"
            told += f"\nall of it: {self._log}"
            self.notify(told, title="the lecture", severity="error", timeout=_SHOWN_S, markup=False)
        self._tell()

    @property
    def _log(self) -> Path:
        return self.folder.path / LOG_NAME

    @property
    def look(self) -> Look:
        """What was seen last."""
        return self._look

    @property
    def step(self) -> Step:
        """The step under the cursor."""
        return self.query_one(ArgumentList).step

    # -- showing

    def redraw(self) -> None:
        """Hand all parts what there is to show."""
        self._look = self._reader.look
        standings = [self._look.standing(step) for step in the_argument().steps]
        argument = self.query_one(ArgumentList)
        argument.show(standings)
        decided = sum(standing not in ("not run", "running") for standing in standings)
        argument.border_subtitle = f"{decided} of {len(standings)} run"
        self._show_step()
        self._tell()

    @on(ArgumentList.OptionHighlighted)
    def _show_step(self) -> None:
        step, look = self.step, self._look
        before = the_argument().compared_with(step)
        shown, compared = look.of(step), look.of(before) if before else []
        names = f"step {step.id}", f"step {before.id}" if before else ""
        budget = (look.settings or Settings(budget="quick")).the_budget()
        until = 1 if any(one.step for one in (*shown, *compared)) else budget.steps or 1
        classes = self._number_of_classes(step)
        series = {
            "loss": loss_series(shown, compared, names, the_argument().rule, classes, until),
            "accuracy": accuracy_series(shown, step.claim, names[0]),
        }
        steps = [one.curve.steps.astype(np.float64) for one in shown] or [np.empty(0)]
        self.charts.show(
            series,
            places=np.unique(np.concatenate(steps)),
            axis="step",
            highest_loss=highest_loss(series["loss"], classes),
        )
        self.query_one(Words).show(self._words(step, shown))
        self.query_one("#words").border_title = plain(
            f"step {step.id} · {step.network} · {step.model}", ascii=self.settings.ascii
        )

    def _number_of_classes(self, step: Step) -> int:
        settings = self._look.settings
        wanted = None
        # A folder that can't be read now, such as a disk that isn't mounted, doesn't keep the curves from being seen.
        with contextlib.suppress(KerascnnError):
            wanted = classes_of(settings.dataset) if settings and settings.dataset else None
        return wanted or load_recipe(step.model).classes

    def _words(self, step: Step, shown: Sequence[Training]) -> list[tuple[str, str]]:
        facts = [("changes", step.changes)] if step.changes != "–" else []
        facts += [("why", step.why), ("claim", step.claim.words)]
        if self.has_class("-narrow") or self.has_class("-low"):
            facts.insert(0, ("step", f"{step.id}: {step.network} ({step.model})"))
        facts += [("measured" if number == 0 else "", _told(one)) for number, one in enumerate(shown)]
        if not shown:
            settings = self._look.settings or Settings(budget="quick")
            arguments = launch.lecture_arguments(settings, [step], self._look.seeds, self.backend, self._places)
            facts.append(("measured", f"not run yet: r does, or `{command_line(['kerascnn', *arguments])}`"))
        return facts

    def _tell(self) -> None:
        """The line at the top, and the keys."""
        settings = self._look.settings
        self._stopping = self._stopping and self.is_under_way
        what = ""
        if settings is not None:
            budget = settings.the_budget()
            what = f" · {settings.budget}" + (f", {budget.steps} steps a network" if budget.steps else "")
            what += f", {settings.dataset}" if settings.dataset else ""
        left = f"{self.folder.path.name or self.folder.path}{what}"
        if self._look.problem:
            left = self._look.problem
        elif settings is None:
            left += " · not begun: a trains all steps, r one"
        rights = self._under_way() or [f"with {self.backend}"]
        self.query_one("#head", TwoEnds).show(
            Content.styled(self._plain(left), "bold"), *(Content(self._plain(right)) for right in rights)
        )
        stop = ("lecture.stop",) if self.is_under_way else ()
        more = ("lecture.backend",) if len(self._backends) > 1 else ()
        self.tell_keys(
            [
                *("lecture.open", *stop, "lecture.run", "lecture.run_all", "chart.other", "chart.cursor"),
                *("chart.zoom_in", *more, "lecture.overlay", "chart.describe", "chart.log"),
            ]
        )

    def _plain(self, text: str) -> str:
        return plain(text, ascii=self.settings.ascii)

    @property
    def is_under_way(self) -> bool:
        """Whether somebody runs the lecture now."""
        return self._child is not None or self._look.owner is not None or bool(self._look.under_way())

    def _under_way(self) -> list[str]:
        """What is done now, then the same in fewer words."""
        if not self.is_under_way:
            return []
        if self._stopping:
            return [f"{STATES['stopped']} stopping …"]
        live = self._look.under_way()
        if not live:
            said = launch.said_in(self._log)[-1:] if self._child is not None else []
            starting = f"{STATES['starting']} starting …"
            return [f"{starting} {line[:60]}" for line in said] + [starting]
        one = live[-1]
        now = f"{STATES['running']} step {one.step_run.step.id} with {one.step_run.backend}"
        done = f", {one.step:,}/{one.steps_in_all:,}" if one.step else f", {one.phase}" if one.phase else ""
        left = f", at most {duration(one.seconds_left)} left" if one.seconds_left is not None else ""
        return [f"{now}, seed {one.step_run.seed}{done}{left}", f"{now}{done}{left}", f"{now}{done}"]

    # -- walking

    def action_walk(self, lines: int) -> None:
        """Go to another step."""
        argument = self.query_one(ArgumentList)
        if lines > 0:
            argument.action_cursor_down()
        else:
            argument.action_cursor_up()

    def action_leave(self) -> None:
        """The whole curve without a cursor, and back to the list."""
        self.charts.put_cursor(None)
        self.charts.show_all()
        self.query_one(ArgumentList).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The curves are means over a window of steps: there is no other axis, and nothing to be smoothed."""
        if action in ("axis", "smoothing"):
            return False
        return not (action == "other" and self.app.size.width >= self.room_for_two)

    @on(ArgumentList.OptionSelected)
    def _open(self) -> None:
        """The run of the step: the live one where there are several, else the first."""
        trainings = self._look.of(self.step)
        if not trainings:
            self.notify(f"step {self.step.id} has not been run yet; r does", timeout=4, markup=False)
            return
        chosen = next((one for one in trainings if one.live), trainings[0])
        self.post_message(OpenRun(chosen.step_run.run))

    def action_overlay(self) -> None:
        """The runs of the step over those of the step that it is a change to."""
        before = the_argument().compared_with(self.step)
        found = [*self._look.of(self.step), *(self._look.of(before) if before else [])]
        if found:
            self.post_message(Overlay([one.step_run.run for one in found]))

    # -- training

    @property
    def backend(self) -> str:
        """What computes: as chosen here, else as the newest training did, else as every run's form proposes."""
        if not self._backend:
            used = [one.step_run.backend for one in self._look.trainings if one.step_run.backend in self._backends]
            try:
                return used[-1] if used else choose_backend().name
            except KerascnnError:
                return self._backends[0] if self._backends else "torch"
        return self._backend

    def action_backend(self) -> None:
        """The next backend that is installed."""
        if self._backends:
            at = self._backends.index(self.backend) if self.backend in self._backends else -1
            self._backend = self._backends[(at + 1) % len(self._backends)]
            self.notify(f"r and a train with {self.backend}", timeout=3, markup=False)
            self._show_step()
            self._tell()

    def action_run_step(self) -> None:
        """Train the step under the cursor, after a question."""
        self._consider([self.step], [self.step])

    def action_run_all(self) -> None:
        """Train all that isn't decided, after a question."""
        self._consider(list(the_argument().steps), [])

    def _consider(self, steps: list[Step], only: list[Step]) -> None:
        if self.is_under_way:
            self.notify("the lecture is under way, a training at a time; s stops it", severity="warning", timeout=5)
        elif self._look.problem:
            self.notify(self._look.problem, severity="error", markup=False)
        elif not self._backends:
            self.notify("no backend is installed", severity="error")
        else:
            self._think_through(steps, only)

    @work(thread=True, exclusive=True, group="plan")
    def _think_through(self, steps: list[Step], only: list[Step]) -> None:
        from tui.starting.lecture import plan, undecided

        look = self._reader.refresh()
        if not undecided(steps, look, self.backend):
            self.app.call_from_thread(self._refuse, only, self.backend)
            return
        budgets = [look.settings] if look.settings else [Settings(budget=name) for name in ("quick", "full")]
        entries = (*self._ledger.entries, *Ledger(self.folder.runs_folder).refresh())
        try:
            plans = [
                plan(
                    *(steps, only, settings, look, self.backend, self._places),
                    entries=entries,
                    machine=this_machine(),
                )
                for settings in budgets
            ]
        except KerascnnError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", markup=False)
            return
        self.app.call_from_thread(self._ask, plans)

    def _refuse(self, only: Sequence[Step], backend: str) -> None:
        what = f"step {only[0].id} is" if only else "all steps are"
        self.notify(f"{what} decided with {backend}; b chooses another backend", timeout=5, markup=False)

    def _ask(self, plans: Sequence[Plan]) -> None:
        """What is to be started is shown before it is; a folder that isn't begun yet has its budget chosen here."""
        from tui.starting.lecture import in_words

        # Not q for quick: who means to quit would train sixteen networks.
        keys = {"quick": ("t", "train, quick"), "full": ("f", "train, full")}
        answers = [Answer(one.settings.budget, *keys[one.settings.budget]) for one in plans]
        if len(plans) == 1:
            answers = [Answer(plans[0].settings.budget, "t", "train")]

        def answered(answer: str | None) -> None:
            for one in plans:
                if answer == one.settings.budget:
                    self._launch(one)

        self.app.push_screen(
            Question(
                "Train this?",
                self._plain(f"{in_words(plans)}\n\nIt goes on when this interface ends; s stops it with a checkpoint."),
                [*answers, Answer("no", "n", "no")],
                ascii=self.settings.ascii,
            ),
            answered,
        )

    def _launch(self, chosen: Plan) -> None:
        try:
            self._child = self._start(chosen.arguments, self._log)
        except KerascnnError as error:
            self.notify(str(error), severity="error", timeout=_SHOWN_S, markup=False)
        self.tick()
        self._tell()

    def action_stop(self) -> None:
        """End the lecture's process; what is under way saves a checkpoint, and r or a goes on with it."""
        pid = self.folder.owner() or (self._child.pid if self._child is not None else None)
        if pid is None:
            elsewhere = "its process isn't known here: Enter opens the run, which s stops"
            told = elsewhere if self._look.under_way() else "nothing is under way"
            self.notify(told, timeout=5)
            return
        try:
            launch.stop_lecture(self.folder, pid)
        except KerascnnError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self._stopping = True
        self.notify("asked to stop, saving a checkpoint first", timeout=5)
        self._tell()


def _told(one: Training) -> str:
    """What was measured in a training, in a sentence."""
    who = f"{one.step_run.backend}, seed {one.step_run.seed}"
    judged = one.judgement
    if one.live:
        behaviour = judged.measured.behaviour
        so_far = judged.words if behaviour in ("learns", "diverged") else "not decided yet"
        now = f"step {one.step:,}; {so_far}" if one.step else one.phase or "starting"
        return f"{VERDICTS['running']} {who}: {now}"
    if not one.decided:
        return f"{VERDICTS['undecided within this budget']} {who}: {one.curve.state} after step {one.step:,}; r goes on"
    took = duration(one.curve.seconds)
    return f"{VERDICTS[judged.verdict]} {judged.verdict}. {who}, {took}: {judged.words}"
