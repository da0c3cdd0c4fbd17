"""Which part of a curve is looked at: zoom and pan, without a widget."""

from __future__ import annotations

from dataclasses import dataclass

SMALLEST = 1e-4


@dataclass(frozen=True)
class View:
    """A window on an axis that goes from ``first`` to ``last``; None is the whole axis, also as it grows."""

    window: tuple[float, float] | None = None

    def span(self, first: float, last: float) -> tuple[float, float]:
        """From where to where is shown."""
        return self.window or (first, last)

    def zoom(self, factor: float, at: float, first: float, last: float) -> View:
        """Show ``factor`` times as much, ``at`` staying where it is."""
        left, right = self.span(first, last)
        width = max((right - left) * factor, (last - first) * SMALLEST)
        if width >= last - first:
            return View()
        share = (at - left) / (right - left) if right > left else 0.5
        return View._kept_inside(at - share * width, width, first, last)

    def pan(self, share: float, first: float, last: float) -> View:
        """Move by a share of what is shown."""
        if self.window is None:
            return self
        left, right = self.window
        return View._kept_inside(left + share * (right - left), right - left, first, last)

    def inside(self, first: float, last: float) -> View:
        """The window where it still fits: an axis that has become shorter may end before it."""
        if self.window is None or self.window[1] <= last:
            return self
        left, right = self.window
        return View() if right - left >= last - first else View._kept_inside(left, right - left, first, last)

    def showing(self, x: float, first: float, last: float) -> View:
        """Move as little as it takes to have ``x`` inside."""
        if self.window is None or self.window[0] <= x <= self.window[1]:
            return self
        left, right = self.window
        new = x if x < left else x - (right - left)
        return View._kept_inside(new, right - left, first, last)

    @staticmethod
    def _kept_inside(left: float, width: float, first: float, last: float) -> View:
        left = min(max(left, first), max(last - width, first))
        return View((left, left + width))
