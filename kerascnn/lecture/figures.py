"""The report's pictures: training curves, and the signal through the layers, as SVG."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from kerascnn.lecture.argument import Rule, Step
from kerascnn.lecture.folder import Shown
from kerascnn.runs import events as ev
from kerascnn.wording import whole_percent

# Told apart by people who see no red or green (Okabe and Ito 2008).
BLACK = "#000000"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#882255", "#117733", "#AA4499")
COLUMNS = 4
PANEL = (3.2, 2.3)
ABOVE_CHANCE = 1.12
# The same figures give the same file.
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kerascnn",
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "lines.linewidth": 1.4,
}
MOST_POINTS = 1500

# How the initial weights and the last look are drawn.
FIRST: dict[str, Any] = {"color": COLORS[0], "marker": "o", "markersize": 3.0, "markerfacecolor": "white"}
LAST: dict[str, Any] = {"color": COLORS[1], "marker": "x", "markersize": 3.5}

Group = tuple[Step, list[Shown]]


def training_curves(groups: Sequence[Group], rule: Rule) -> str:
    """A panel a step: the loss of each recorded step, faint, and its mean over the rule's window."""
    with _figure(len(groups)) as (figure, panels, out):
        lowest = [_curve_panel(axes, step, shown, rule) for axes, (step, shown) in zip(panels, groups, strict=True)]
        last = max(one.curve.steps.max(initial=1) for _, shown in groups for one in shown)
        for axes in panels:
            axes.set_xlim(0, last)
            # The first steps of a sigmoid network are far above.
            axes.set_ylim(0.97 * min(lowest), ABOVE_CHANCE * groups[0][1][0].curve.chance)
        figure.supxlabel("step")
        figure.supylabel("training loss, nats")
        seeds = len({one.step_run.seed for _, shown in groups for one in shown})
        _legend(
            figure,
            [
                Line2D([], [], color=COLORS[0], label=f"mean over {rule.window} steps, {_counted(seeds, 'seed')}"),
                Line2D([], [], color=BLACK, linestyle="--", linewidth=0.8, label="chance"),
                Line2D(
                    [],
                    [],
                    color=BLACK,
                    linestyle=":",
                    linewidth=0.8,
                    label=f"{whole_percent(rule.learns_at)} of it: learns",
                ),
            ],
        )
    return out[0]


def solutions(groups: Sequence[Group], rule: Rule, failing: str) -> str:
    """The curves of the step that does not learn, in black, and of those that mend it, in one picture."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        axes = figure.subplots()
        colors = iter(COLORS)
        chance = lowest = groups[0][1][0].curve.chance
        for step, shown in groups:
            fails = step.id == failing
            style: dict[str, Any] = {"color": BLACK if fails else next(colors, "#777777"), "zorder": 3 if fails else 2}
            for number, one in enumerate(shown):
                steps, means = one.curve.means(rule.window)
                lowest = min(lowest, _lowest(means, chance))
                label = f"{step.id}  {step.changes}" if number == 0 else None
                axes.plot(*_thinned(steps, means), label=label, linewidth=2.2 if fails else 1.4, **style)
        axes.axhline(chance, color=BLACK, linestyle="--", linewidth=0.8)
        axes.set_ylim(0.97 * lowest, ABOVE_CHANCE * chance)
        axes.set(xlabel="step", ylabel=f"training loss, mean over {rule.window} steps, nats")
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        return _svg(figure)


def gradients(groups: Sequence[Group]) -> str:
    """A panel a step: the gradient norm of each layer's kernel, first layer at the left."""
    return _through_the_layers(groups, lambda event: event.gradient_norm, "gradient norm of the kernel")


def between_images(groups: Sequence[Group]) -> str:
    """A panel a step: how much each layer's output differs from image to image, first layer at the left."""
    return _through_the_layers(groups, lambda event: event.between_images, "deviation between images")


def _curve_panel(axes: Axes, step: Step, shown: Sequence[Shown], rule: Rule) -> float:
    """Draw one panel; the lowest mean loss in it."""
    lowest = chance = shown[0].curve.chance
    for one in shown:
        steps, means = one.curve.means(rule.window)
        axes.plot(*_thinned(one.curve.steps, one.curve.losses), color=COLORS[0], alpha=0.2, linewidth=0.6)
        axes.plot(*_thinned(steps, means), color=COLORS[0])
        lowest = min(lowest, _lowest(means, chance))
    axes.axhline(chance, color=BLACK, linestyle="--", linewidth=0.8)
    axes.axhline(rule.learns_at * chance, color=BLACK, linestyle=":", linewidth=0.8)
    axes.set_title(f"{step.id}  {step.model}")
    return lowest


def _lowest(means: NDArray[Any], chance: float) -> float:
    return float(means[np.isfinite(means)].min(initial=chance))


def _through_the_layers(
    groups: Sequence[Group], figures_of: Callable[[ev.LayerStatistics], tuple[float | None, ...]], label: str
) -> str:
    looks = [
        [(_finite(figures_of(event)), style) for one in shown for event, style in _first_and_last(one)]
        for _, shown in groups
    ]
    every = [value for panel in looks for values, _ in panel for value in values if value > 0]
    # A zero has no place on a logarithmic axis.
    bottom = min(every, default=1.0) / 3
    with _figure(len(groups)) as (figure, panels, out):
        for axes, (step, _), panel in zip(panels, groups, looks, strict=True):
            for values, style in panel:
                axes.plot(range(1, len(values) + 1), np.maximum(values, bottom), **style)
            axes.set_yscale("log")
            axes.set_ylim(bottom / 1.5, 3 * max(every, default=1.0))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_title(f"{step.id}  {step.model}")
        figure.supxlabel("layer")
        figure.supylabel(label)
        _legend(figure, [Line2D([], [], label=label, **style) for label, style in (("initial", FIRST), ("last", LAST))])
    return out[0]


def _finite(values: Sequence[float | None]) -> list[float]:
    """NaN, which is left out of a picture, for what a layer doesn't have, and for a norm that has overflowed."""
    return [value if value is not None and math.isfinite(value) else math.nan for value in values]


def _first_and_last(one: Shown) -> Iterator[tuple[ev.LayerStatistics, dict[str, Any]]]:
    layers = one.curve.layers
    if layers and layers[0].step == 1:
        yield layers[0], FIRST
    if layers and layers[-1].step > 1:
        yield layers[-1], LAST


@contextmanager
def _figure(panels: int) -> Iterator[tuple[Figure, list[Axes], list[str]]]:
    """A grid of panels; after the block its SVG is the one item of the list."""
    columns = min(COLUMNS, panels)
    rows = -(-panels // columns)
    out: list[str] = []
    with mpl.rc_context(SETTINGS):
        # A row of its own for the legend.
        size = (max(PANEL[0] * columns, 6.0), PANEL[1] * rows + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for axes in grid[panels:]:
            axes.set_axis_off()
        yield figure, grid[:panels], out
        out.append(_svg(figure))


def _legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    figure.legend(handles=list(handles), loc="outside upper left", ncols=len(handles), frameon=False)


def _thinned(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    every = max(1, math.ceil(len(x) / MOST_POINTS))
    return x[::every], y[::every]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
