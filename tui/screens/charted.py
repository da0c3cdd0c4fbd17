"""What screens with charts have in common: the keys that look at curves."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from tui.settings import Settings
from tui.widgets.charts import CELLS_A_LEAP, Charts
from tui.widgets.keys import Key, KeyLine

AXES = ("step", "epoch", "time")
SMOOTHINGS = (0.0, 0.6, 0.9, 0.97)
ZOOM = 0.5
PAN = 0.1
DESCRIBED_FOR_S = 12.0
# Columns from which on two charts are side by side.
ROOM_FOR_TWO = 100
HELP_KEY = "app.help"


class ChartedScreen(Screen[None]):
    """A screen with one :class:`Charts`. Who inherits calls ``redraw`` when what is drawn has changed.

    ``room_for_two`` is the width from which on both charts are shown.
    """

    room_for_two: ClassVar[int] = ROOM_FOR_TWO
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (ROOM_FOR_TWO, "-wide")]  # noqa: RUF012 - Textual's own declaration
    VERTICAL_BREAKPOINTS = [(0, "-low"), (32, "-high")]  # noqa: RUF012

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "cursor", "cursor", id="chart.cursor"),
        Binding("z,plus,equals_sign", "zoom_in", "zoom in", key_display="z", id="chart.zoom_in"),
        Binding("minus,Z", "zoom_out", "zoom out", key_display="-", id="chart.zoom_out"),
        Binding("0", "show_all", "show all", id="chart.all"),
        Binding("left", "move(-1)", "left", id="chart.left"),
        Binding("right", "move(1)", "right", id="chart.right"),
        Binding("shift+left", "leap(-1)", "far left", id="chart.far_left"),
        Binding("shift+right", "leap(1)", "far right", id="chart.far_right"),
        Binding("home", "move_to_end(0)", "first", id="chart.first"),
        Binding("end", "move_to_end(1)", "last", id="chart.last"),
        Binding("g", "log", "log scale", id="chart.log"),
        Binding("m", "smoothing", "smoothing", id="chart.smoothing"),
        Binding("x", "axis", "step/epoch/time", id="chart.axis"),
        Binding("v", "other", "loss/accuracy", id="chart.other"),
        Binding("question_mark", "describe", "describe", key_display="?", id="chart.describe"),
        Binding("escape", "leave", "back", id="screen.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.axis = "step"
        self.smoothing = 0.6
        self._will_tick = False
        self._described_at = -math.inf

    @property
    def settings(self) -> Settings:
        """The user's settings, or the defaults where the app has none."""
        settings = getattr(self.app, "settings", None)
        return settings if isinstance(settings, Settings) else Settings()

    @property
    def charts(self) -> Charts:
        """The charts."""
        return self.query_one(Charts)

    def tell_keys(self, wanted: Sequence[str | tuple[str, str]]) -> None:
        """Say what can be pressed, by the names of bindings, each with another label where one is given.

        Help comes last and is never cut, because it leads to all others.
        """
        bound = {binding.id: (node, binding) for node, binding, _, _ in self.active_bindings.values()}
        keys = []
        for name in wanted:
            which, label = name if isinstance(name, tuple) else (name, "")
            if which in bound:
                keys.append(self._key(*bound[which], label))
        self.query_one(KeyLine).show(keys, self._key(*bound[HELP_KEY]) if HELP_KEY in bound else None)

    def _key(self, node: DOMNode, binding: Binding, label: str = "") -> Key:
        place = "app" if node is self.app else "screen"
        action = binding.action if "." in binding.action else f"{place}.{binding.action}"
        return Key(self.app.get_key_display(binding), label or binding.description, action)

    def tick(self) -> None:
        """Look for news."""

    def tick_again(self) -> None:
        """Look for news again as soon as waiting keys have been answered, however often this is asked."""
        if not self._will_tick:
            self._will_tick = True
            self.set_timer(0.001, self._tick_now)

    def _tick_now(self) -> None:
        self._will_tick = False
        self.tick()

    def redraw(self) -> None:
        """Hand the charts what is to be drawn."""

    def on_resize(self) -> None:
        """One chart where there is no room for two."""
        self.charts.set_class(self.app.size.width < self.room_for_two, "-one")

    def action_cursor(self) -> None:
        """Show the cursor at the newest point in sight, or take it away."""
        if self.charts.cursor is None:
            self.charts.start_cursor()
        else:
            self.charts.put_cursor(None)

    def action_zoom_in(self) -> None:
        """Show half as much."""
        self.charts.zoom(ZOOM)

    def action_zoom_out(self) -> None:
        """Show twice as much."""
        self.charts.zoom(1 / ZOOM)

    def action_show_all(self) -> None:
        """Show everything."""
        self.charts.show_all()

    def action_move(self, direction: int) -> None:
        """Move the cursor, or without one the window."""
        if self.charts.cursor is None:
            self.charts.pan(direction * PAN)
        else:
            self.charts.step_cursor(direction)

    def action_leap(self, direction: int) -> None:
        """Move far."""
        if self.charts.cursor is None:
            self.charts.pan(direction * 5 * PAN)
        else:
            self.charts.step_cursor(direction * CELLS_A_LEAP)

    def action_move_to_end(self, end: int) -> None:
        """Move to the first or the last point."""
        places = self.charts.places
        if self.charts.cursor is None:
            self.charts.pan(1e9 if end else -1e9)
        elif len(places):
            self.charts.put_cursor(float(places[-1 if end else 0]))

    def action_log(self) -> None:
        """The logarithm of the loss, or the loss."""
        self.charts.log_scale = not self.charts.log_scale
        self.charts.draw()

    def action_smoothing(self) -> None:
        """The next stronger smoothing, after the strongest none."""
        self.smoothing = next((value for value in SMOOTHINGS if value > self.smoothing), SMOOTHINGS[0])
        self.redraw()
        self.notify(f"smoothing {self.smoothing:g}" if self.smoothing else "no smoothing", timeout=2)

    def action_axis(self) -> None:
        """Along the charts: steps, epochs or time."""
        self.axis = AXES[(AXES.index(self.axis) + 1) % len(AXES)]
        self.redraw()

    def action_other(self) -> None:
        """The other chart, where one is shown."""
        self.charts.choose_other()

    def action_describe(self) -> None:
        """Say what the focused chart shows, instead of what was said before."""
        self.app.clear_notifications()
        chart = self.charts.described
        self.notify(chart.describe(), title=chart.name or "", timeout=DESCRIBED_FOR_S, markup=False)
        self._described_at = time.monotonic()

    def on_screen_suspend(self) -> None:
        """What is said of a chart doesn't stay over another screen."""
        if time.monotonic() - self._described_at < DESCRIBED_FOR_S:
            self.app.clear_notifications()
        self._described_at = -math.inf

    def action_leave(self) -> None:
        """Back to where one came from."""
        self.app.pop_screen()
