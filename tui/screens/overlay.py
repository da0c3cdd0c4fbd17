"""The curves of several runs over one another, and what differs between their recipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from kerascnn.recipe import Recipe
from kerascnn.runs.compare import recipe_differences
from kerascnn.runs.directory import Run
from kerascnn.wording import duration, percent
from tui.drawing.curves import FIGURES, Curves
from tui.drawing.plotting import Series, number
from tui.reading import status
from tui.reading.ledger import short_name
from tui.reading.story import RunStory
from tui.screens.charted import ROOM_FOR_TWO, ChartedScreen
from tui.widgets.charts import Charts
from tui.widgets.comparison import Column, Comparison
from tui.widgets.keys import KeyLine
from tui.widgets.line import TwoEnds

TICK_S = 0.5
READ_BUDGET_S = 0.05
MARKS = "●■▲◆▼★"
ASCII_MARKS = "ox^*v+"


class OverlayScreen(ChartedScreen):
    """Several runs on the same axes. Live ones grow."""

    HELP = (
        "The curves of the runs that were selected, each with its own mark. x changes what is along the charts, "
        "t changes between training and validation. Below stands only what differs between their recipes."
    )
    CSS_PATH = "overlay.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "split", "training/validation", id="overlay.split"),
    ]

    def __init__(self, runs: Sequence[Run], *, tick_s: float | None = TICK_S) -> None:
        """``tick_s`` says how often to look for news; None leaves ``tick`` to the caller."""
        super().__init__()
        self.runs = list(runs)
        self.stories = [RunStory(run) for run in runs]
        self.validation = True
        self._tick_s = tick_s
        self._curves = [Curves(story, self.smoothing) for story in self.stories]
        self._recipes: list[Recipe | str] = []
        self._differences: list[tuple[str, list[str]]] = []
        self._holders: list[tuple[int | None, str | None]] = [(None, None)] * len(runs)
        self._shown: object = None

    def compose(self) -> ComposeResult:
        ascii_only = self.settings.ascii
        yield TwoEnds(ascii_only=ascii_only, id="head")
        yield Charts(ascii_only=ascii_only, id="charts")
        yield Comparison(ascii_only=ascii_only, id="comparison")
        yield KeyLine()

    def on_mount(self) -> None:
        """Read the runs, then look for news on a timer."""
        self.smoothing = self.settings.smoothing
        self._recipes = [story.recipe() for story in self.stories]
        self._differences = self._recipe_rows()
        self.tick()
        if self._tick_s is not None:
            self.set_interval(self._tick_s, self.tick)

    def tick(self) -> None:
        """Take what is new and show it. Long files are read in turns."""
        # Asked before reading: what a process wrote before it ended is then read in any case.
        self._holders = [story.run.holder() for story in self.stories]
        for story in self.stories:
            story.read(READ_BUDGET_S / len(self.stories))
        if any(story.behind for story in self.stories):
            self.tick_again()
        shown = ([(story.version, story.trouble) for story in self.stories], self._holders)
        if shown != self._shown:
            self._shown = shown
            self.redraw()

    def redraw(self) -> None:
        """Hand all parts what there is to show."""
        ascii_only = self.settings.ascii
        if not all(curves.is_of(curves.story, self.smoothing) for curves in self._curves):
            self._curves = [Curves(story, self.smoothing) for story in self.stories]
        names = self._names()
        series: dict[str, list[Series]] = {
            name: [self._series(name, index, names[index]) for index in range(len(self.runs))] for name in FIGURES
        }
        places = np.unique(np.concatenate([one.x for one in series["loss"]]))
        self.charts.show(series, places=places, axis=self.axis)
        split = "validation" if self.validation else "training"
        left = status.plain(f"{len(self.runs)} runs · {split}", ascii_only=ascii_only)
        self.query_one("#head", TwoEnds).show(Content.styled(left, "bold"))
        marks = ASCII_MARKS if ascii_only else MARKS
        columns = [Column(f"{marks[i % len(marks)]} {name}", _ink(i)) for i, name in enumerate(names)]
        rows = [*self._figure_rows(), *self._differences]
        plain_rows = [(key, [status.plain(cell, ascii_only=ascii_only) for cell in cells]) for key, cells in rows]
        self.query_one(Comparison).show(columns, plain_rows)
        other = ("chart.other",) if self.app.size.width < ROOM_FOR_TWO else ()
        look = ("chart.axis", "chart.cursor", "chart.zoom_in", "chart.describe", "screen.back")
        self.tell_keys(["overlay.split", *other, *look, "chart.log", "chart.smoothing"])

    def _series(self, name: str, index: int, label: str) -> Series:
        curves = self._curves[index]
        places = curves.places(self.axis), curves.smoothed(name)
        x, y = curves.validation(name, self.axis) if self.validation else places
        return Series(
            label, x, y, _ink(index), MARKS[index % len(MARKS)], ASCII_MARKS[index % len(MARKS)], points=self.validation
        )

    def _names(self) -> list[str]:
        """The shortest names that tell the runs apart: network, its backend, or the run's own as the runs list it."""
        models = [recipe.name if isinstance(recipe, Recipe) else "" for recipe in self._recipes]
        backends = [story.started.backend if story.started else "" for story in self.stories]
        both = [f"{model} {backend}".strip() for model, backend in zip(models, backends, strict=True)]
        short = [short_name(run) for run in self.runs]
        for names in (models, both, short, [run.path.name for run in self.runs]):
            if len(set(names)) == len(names) and all(names):
                return names
        return [str(run.path) for run in self.runs]

    def _recipe_rows(self) -> list[tuple[str, list[str]]]:
        found = self._recipes
        recipes = [recipe for recipe in found if isinstance(recipe, Recipe)]
        if len(recipes) < len(found):
            return [("recipe", ["whole" if isinstance(recipe, Recipe) else recipe for recipe in found])]
        differing = recipe_differences(recipes)
        return [(key, ["–" if value is None else str(value) for value in values]) for key, values in differing.items()]

    def _figure_rows(self) -> list[tuple[str, list[str]]]:
        stories = self.stories
        held = zip(stories, self._holders, strict=True)
        best = [story.epochs.column("val_accuracy") for story in stories]
        return [
            ("state", [story.trouble or story.state(*holder) for story, holder in held]),
            ("backend", [story.started.backend if story.started else "–" for story in stories]),
            ("epochs", [f"{len(story.epochs)}/{story.pace.epochs}" for story in stories]),
            ("best validation accuracy", [percent(_highest(values.tolist())) for values in best]),
            (
                "training loss",
                [number(_loss(story)) if len(story.steps) or len(story.epochs) else "–" for story in stories],
            ),
            ("time", [duration(_seconds(story)) if len(story.steps) else "–" for story in stories]),
        ]

    def on_charts_cursor_moved(self, message: Charts.CursorMoved) -> None:
        """The charts say the values themselves."""

    def action_axis(self) -> None:
        """Along the charts: steps, epochs or time. The cursor can't follow."""
        self.charts.cursor = None
        super().action_axis()

    def action_split(self) -> None:
        """Training or validation figures."""
        self.validation = not self.validation
        self.charts.cursor = None
        self.redraw()


def _loss(story: RunStory) -> float:
    """Of the last epoch, or of what has been recorded of the one that goes on."""
    if len(story.epochs) and story.epochs.last("step") >= story.steps.last("step"):
        return float(story.epochs.last("loss"))
    return float(story.steps.last("mean_loss"))


def _seconds(story: RunStory) -> float:
    return max(story.steps.last("elapsed"), story.ended.elapsed if story.ended is not None else 0.0)


def _ink(index: int) -> str:
    return f"series-{index % len(MARKS) + 1}"


def _highest(values: list[float]) -> float | None:
    return max((value for value in values if value == value), default=None)
