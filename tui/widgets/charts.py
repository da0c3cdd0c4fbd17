"""Charts side by side that share one axis, one window on it and one cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message

from tui.drawing.plotting import LARGEST, Series
from tui.drawing.view import View
from tui.reading.table import Floats
from tui.widgets.chart import Chart, Picture, PlacedMark

CELLS_A_LEAP = 10


class Charts(Horizontal):
    """A loss and an accuracy chart. Where there is room for one only, one is shown at a time."""

    DEFAULT_CSS = """
    Charts Chart { width: 1fr; height: 1fr; }
    Charts.-one Chart { display: none; }
    Charts.-one Chart.-chosen { display: block; }
    """

    class CursorMoved(Message):
        """The cursor is elsewhere, or None: there is none any more."""

        def __init__(self, x: float | None) -> None:
            super().__init__()
            self.x = x

    def __init__(self, *, ascii_only: bool = False, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._charts = (
            Chart("loss", ascii_only=ascii_only, can_log=True, id="loss"),
            Chart("accuracy", ascii_only=ascii_only, id="accuracy"),
        )
        self._charts[0].add_class("-chosen")
        self._series: Mapping[str, Sequence[Series]] = {}
        self._marks: Sequence[PlacedMark] = ()
        self._places: Floats = np.empty(0)
        self._first, self._last = 0.0, 1.0
        self._highest_loss = LARGEST
        self.axis = "step"
        self.log_scale = False
        self.view = View()
        self.cursor: float | None = None

    def compose(self) -> ComposeResult:
        yield from self._charts

    @property
    def places(self) -> Floats:
        """Where the cursor can stand."""
        return self._places

    def show(
        self,
        series: Mapping[str, Sequence[Series]],
        *,
        marks: Sequence[PlacedMark] = (),
        places: Floats,
        axis: str,
        highest_loss: float = LARGEST,
    ) -> None:
        """Draw these from now on.

        Args:
            series: for ``loss`` and ``accuracy``.
            marks: on both charts.
            places: rising; the cursor moves from one to the next.
            axis: the name of what is along the charts.
            highest_loss: up to which the loss is shown; it must be above 0.
        """
        every = [one for some in series.values() for one in some if len(one.x)]
        self._series, self._marks = series, marks
        if axis != self.axis:
            self.view = View()
        self.axis = axis
        self._places = places
        self._highest_loss = highest_loss
        self._first = 0.0
        self._last = max((float(one.x[-1]) for one in every), default=1.0)
        self.view = self.view.inside(self._first, self._last)
        self.draw()

    def draw(self) -> None:
        """Draw what is known, as it is looked at now."""
        left, right = self.view.span(self._first, self._last)
        for chart in self._charts:
            chart.show(
                Picture(
                    series=self._series.get(chart.name or "", ()),
                    marks=self._marks,
                    left=left,
                    right=right,
                    cursor=self.cursor,
                    log=self.log_scale,
                    zoomed=self.view.window is not None,
                    axis=self.axis,
                    ceiling=self._highest_loss if chart.name == "loss" else LARGEST,
                )
            )

    def choose_other(self) -> Chart:
        """Show the other chart where one is shown; the focus goes along."""
        for chart in self._charts:
            chart.toggle_class("-chosen")
        chosen = next(chart for chart in self._charts if chart.has_class("-chosen"))
        if any(chart.has_focus for chart in self._charts):
            chosen.focus()
        return chosen

    @property
    def described(self) -> Chart:
        """The focused chart, else the chosen one."""
        focused = [chart for chart in self._charts if chart.has_focus]
        return focused[0] if focused else next(chart for chart in self._charts if chart.has_class("-chosen"))

    def zoom(self, factor: float, at: float | None = None) -> None:
        """Show ``factor`` times as much around a place: by default the cursor, else the middle."""
        left, right = self.view.span(self._first, self._last)
        inside = self.cursor is not None and left <= self.cursor <= right
        middle = self.cursor if inside and self.cursor is not None else (left + right) / 2
        self.view = self.view.zoom(factor, middle if at is None else at, self._first, self._last)
        self.draw()

    def show_all(self) -> None:
        """The whole axis again."""
        self.view = View()
        self.draw()

    def pan(self, share: float) -> None:
        """Move the window by a share of its width."""
        self.view = self.view.pan(share, self._first, self._last)
        self.draw()

    def put_cursor(self, x: float | None, *, tell: bool = True) -> None:
        """Put the cursor on the nearest place, or take it away, and say so."""
        if x is not None:
            if not len(self._places):
                return
            x = float(self._places[np.abs(self._places - x).argmin()])
            self.view = self.view.showing(x, self._first, self._last)
        self.cursor = x
        self.draw()
        if tell:
            self.post_message(self.CursorMoved(x))

    def start_cursor(self) -> None:
        """Put the cursor on the newest place that is in sight, or on the newest of all where none is."""
        _, right = self.view.span(self._first, self._last)
        if len(self._places):
            in_sight = self._places[self._places <= right]
            self.put_cursor(float(in_sight[-1] if len(in_sight) else self._places[-1]))

    def step_cursor(self, cells: int) -> None:
        """Move the cursor by columns, at least to the next place."""
        if self.cursor is None or not len(self._places):
            return
        left, right = self.view.span(self._first, self._last)
        width = max(self.described.size.width - 8, LEAST_COLUMNS)
        target = self.cursor + cells * (right - left) / width
        index = int(np.searchsorted(self._places, self.cursor))
        if cells > 0:
            index = max(index + 1, int(np.searchsorted(self._places, target)))
        else:
            index = min(index - 1, int(np.searchsorted(self._places, target, side="right")) - 1)
        self.put_cursor(float(self._places[min(max(index, 0), len(self._places) - 1)]))

    def _on_chart_zoomed(self, message: Chart.Zoomed) -> None:
        message.stop()
        self.zoom(message.factor, message.at)

    def _on_chart_panned(self, message: Chart.Panned) -> None:
        message.stop()
        self.pan(message.share)

    def _on_chart_pointed(self, message: Chart.Pointed) -> None:
        message.stop()
        self.put_cursor(message.x)


LEAST_COLUMNS = 10
