"""Curves as cells: known points in known cells, gaps, spikes, ticks, smoothing, words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui.drawing import plotting
from tui.drawing.plotting import Bounds, Series, Smoother
from tui.drawing.view import View
from tui.reading.table import Table

UNIT = Bounds(0.0, 1.0, 0.0, 1.0)


def series(y: list[float], x: list[float] | None = None, **more: object) -> Series:
    places = np.array(x if x is not None else range(len(y)), dtype=float)
    return Series(str(more.pop("label", "train")), places, np.array(y, dtype=float), "train", **more)  # type: ignore[arg-type]


def drawn(*some: Series, bounds: Bounds = UNIT, width: int = 2, height: int = 2, ascii_only: bool = False) -> list[str]:
    grid = plotting.draw(list(some), bounds, width, height, ascii_only=ascii_only)
    return ["".join(map(chr, row)) for row in grid.characters]


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0.0, 0.0, ["  ", "⡀ "]),
        (0.0, 1.0, ["⠁ ", "  "]),
        (1.0, 0.0, ["  ", " ⢀"]),
        (1.0, 1.0, [" ⠈", "  "]),
    ],
)
def test_a_point_lies_in_its_dot(x: float, y: float, expected: list[str]) -> None:
    assert drawn(series([y], [x])) == expected


def test_a_line_joins_its_points_and_leaves_the_picture_where_it_should() -> None:
    assert drawn(series([0.0, 1.0], [0.0, 1.0]), height=1) == ["⡠⠊"]
    # Twice as far: the half that is inside is the same line.
    assert drawn(series([0.0, 2.0], [0.0, 2.0]), height=1) == ["⡠⠊"]


def test_a_number_that_is_none_is_a_gap() -> None:
    gap = series([0.0, math.nan, 0.0], [0.0, 0.5, 1.0])
    assert drawn(gap, width=5, height=1) == ["⡀   ⢀"]
    whole = series([0.0, 0.0, 0.0], [0.0, 0.5, 1.0])
    assert drawn(whole, width=5, height=1) == ["⣀⣀⣀⣀⣀"]


def test_no_spike_is_lost_among_ten_thousand_points() -> None:
    y = np.zeros(10_000)
    y[4321] = 1.0
    y[7000] = -1.0
    mask = plotting.trace(np.arange(10_000.0), y, Bounds(0, 9999, -1, 1), 60, 41)
    assert mask[0].sum() == 1
    assert mask[40].sum() == 1
    assert mask[20].all()
    assert mask[0].argmax() == round(4321 / 9999 * 59)
    assert mask[40].argmax() == round(7000 / 9999 * 59)


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e300, 1e300) | st.just(math.nan) | st.just(math.inf), min_size=1, max_size=300),
    st.integers(1, 30),
    st.integers(1, 10),
    st.booleans(),
)
def test_whatever_the_values_every_finite_one_is_drawn(
    y: list[float], width: int, height: int, ascii_only: bool
) -> None:
    one = series(y, mark="◆")
    bounds = plotting.fit([one])
    grid = plotting.draw([one], bounds, width, height, ascii_only=ascii_only)
    assert grid.characters.shape == (height, width)
    finite = np.isfinite(one.y)
    mask = plotting.trace(one.x, one.y, bounds, width, height)
    columns = np.unique(np.rint((one.x[finite] - bounds.left) / (bounds.right - bounds.left) * (width - 1)).astype(int))
    assert set(columns) <= set(np.flatnonzero(mask.any(axis=0)))
    if len(y) > 1:
        assert (grid.inks >= 0).any() == finite.any()


def test_bold_covers_dim_and_the_same_weight_shares_a_cell() -> None:
    low, high = series([0.0, 0.0], [0.0, 1.0]), series([1.0, 1.0], [0.0, 1.0])
    dim = Series("", low.x, low.y, "train", weight="dim")
    assert drawn(dim, high, height=1) == ["⠉⠉"]
    assert drawn(high, dim, height=1) == ["⠉⠉"]
    assert drawn(low, high, height=1) == ["⣉⣉"]


def test_points_are_marked_and_joined_by_dashes() -> None:
    line = drawn(series([0.0, 0.0], [0.0, 1.0], mark="◆", points=True), width=8, height=1)[0]
    assert (line[0], line[-1]) == ("◆", "◆")
    assert 0 < line.count("⣀") + line.count("⡀") + line.count("⢀") < 6


def test_curves_without_points_of_their_own_get_marks_that_tell_them_apart() -> None:
    flat = [series([0.0, 0.0], [0.0, 1.0], mark="●"), series([1.0, 1.0], [0.0, 1.0], mark="■")]
    x = np.linspace(0, 1, 200)
    flat = [Series(one.label, x, np.full(200, one.y[0]), "train", one.mark) for one in flat]
    rows = drawn(*flat, width=40, height=2)
    assert (rows[0].count("■"), rows[1].count("●")) == (3, 3)
    assert [i for i, c in enumerate(rows[0]) if c == "■"] != [i for i, c in enumerate(rows[1]) if c == "●"]


def test_ascii_has_a_character_for_each_series_and_no_other() -> None:
    rows = drawn(
        series([0.0, 1.0], [0.0, 1.0]),
        series([1.0, 0.0], [0.0, 1.0], ascii_mark="o"),
        width=3,
        height=3,
        ascii_only=True,
    )
    assert rows == ["o *", " o ", "* o"]


def test_bounds_hold_what_is_in_the_window_only() -> None:
    one = series([5.0, 1.0, 2.0, math.nan, 9.0])
    assert plotting.fit([one]) == Bounds(0, 4, 1, 9)
    assert plotting.fit([one], 1, 2) == Bounds(1, 2, 1, 2)
    flat = plotting.fit([series([3.0, 3.0])])
    assert flat.low < 3 < flat.high
    assert plotting.fit([]) == Bounds(0, 1, 0, 1)


def test_a_logarithm_has_gaps_where_there_is_none() -> None:
    logs = plotting.logarithmic(series([100.0, 0.0, -1.0, 0.1])).y
    assert logs[0] == 2
    assert np.isnan(logs[1:3]).all()
    assert logs[3] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [(0, 2.3, 5, [0, 0.5, 1, 1.5, 2]), (0, 1, 3, [0, 0.5, 1]), (0, 7800, 4, [0, 2000, 4000, 6000]), (3, 3, 4, [])],
)
def test_ticks_are_round(low: float, high: float, most: int, expected: list[float]) -> None:
    assert plotting.ticks(low, high, most) == pytest.approx(expected)


@settings(deadline=None)
@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(1, 12))
def test_ticks_are_inside_and_not_too_many(low: float, span: float, most: int) -> None:
    found = plotting.ticks(low, low + span, most)
    assert len(found) <= most
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)


def test_ticks_of_a_logarithm_are_round_numbers() -> None:
    assert [round(10**tick, 6) for tick in plotting.log_ticks(-2, 1, 4)] == [0.01, 0.1, 1, 10]
    assert [round(10**tick, 6) for tick in plotting.log_ticks(-1, 0.5, 8)] == [0.1, 0.2, 0.3, 0.5, 1, 2, 3]
    assert len(plotting.log_ticks(-30, 30, 5)) <= 7


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1204, "1,204"),
        (0.82, "0.82"),
        (3.1e-5, "3.1e-5"),
        (0, "0"),
        (2.5e7, "2.5e7"),
        (math.nan, "NaN"),
        (1234.5, "1,234"),
    ],
)
def test_numbers_are_short(value: float, written: str) -> None:
    assert plotting.number(value) == written


@pytest.mark.parametrize(
    ("places", "written"),
    [
        ([0.5, 1, 1.5], ["0.5", "1", "1.5"]),
        ([0, 2000, 4000], ["0", "2,000", "4,000"]),
        ([1e-5, 1e-3, 0.1, 10], ["1e-5", "0.001", "0.1", "10"]),
        # Where a network doesn't learn its loss is ln 10, and the rest is far behind the point.
        ([2.3022, 2.3024, 2.3026], ["2.3022", "2.3024", "2.3026"]),
        ([2.302, 2.3025, 2.303], ["2.3020", "2.3025", "2.3030"]),
        ([1204.2, 1204.4], ["1,204.2", "1,204.4"]),
        ([1_200_000, 1_201_000], ["1,200,000", "1,201,000"]),
        ([1e300, 1.00001e300], ["1e300", "1e300"]),
        ([2.3], ["2.3"]),
        ([], []),
    ],
)
def test_each_figure_of_an_axis_is_another(places: list[float], written: list[str]) -> None:
    assert plotting.numbers(places) == written


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6), st.integers(2, 12))
def test_the_figures_of_an_axis_stand_where_they_say(low: float, span: float, most: int) -> None:
    places = plotting.ticks(low, low + span, most)
    told = [float(text.replace(",", "")) for text in plotting.numbers(places)]
    assert told == pytest.approx(places, abs=span / 10)
    assert len(set(told)) == len(places)


def test_a_smoothed_curve_begins_at_its_first_value_and_keeps_gaps() -> None:
    smoothed = Smoother(0.5).smooth(np.array([4.0, 4.0, math.nan, 1.0]))
    # Debiased: two fours average to four; then the weights are 1/2 for the new and 3/8 for the old.
    assert smoothed == pytest.approx([4.0, 4.0, math.nan, (0.5 * 1 + 0.375 * 4) / 0.875], nan_ok=True)


def test_smoothing_in_parts_is_smoothing_at_once() -> None:
    values = np.random.default_rng(0).normal(size=100)
    parts = Smoother(0.9)
    for end in (1, 30, 30, 100):
        last = parts.smooth(values[:end])
    assert last == pytest.approx(Smoother(0.9).smooth(values))
    # Values that were taken back begin anew.
    assert parts.smooth(values[50:], generation=1) == pytest.approx(Smoother(0.9).smooth(values[50:]))
    assert Smoother(0.0).smooth(values) == pytest.approx(values)


def test_a_chart_is_described_in_plain_words() -> None:
    train = series([2.3, 0.8, 0.82], [1, 1000, 1204])
    assert plotting.describe("loss", "step", [train]) == (
        "Training loss fell from 2.3 at step 1 to 0.82 at step 1,204; its lowest was 0.8 at step 1,000."
    )
    validation = series([0.1, math.nan, 0.7], [40, 80, 120], label="validation")
    assert plotting.describe("accuracy", "step", [validation]) == (
        "Validation accuracy rose from 0.1 at step 40 to 0.7 at step 120; it has never been higher. "
        "One of its values is no number."
    )
    assert "Nothing is drawn yet" in plotting.describe("loss", "step", [series([])])


def test_a_table_takes_rows_back() -> None:
    table = Table(("step", "loss"))
    for row in ((1, 5), (2, 4), (3, 3)):
        table.append(row)
    before = table.column("loss")
    table.keep_up_to(2)
    assert (table.column("loss").tolist(), table.generation) == ([5, 4], 1)
    table.append((2, 9))
    assert table.column("loss").tolist() == [5, 9]
    assert before.tolist() == [5, 4, 3]
    assert math.isnan(Table(("step",)).last("step"))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["in", "out", "pan"]), st.floats(-2, 2), st.floats(0, 100)), max_size=20),
)
def test_a_window_never_leaves_its_axis(moves: list[tuple[str, float, float]]) -> None:
    view = View()
    for kind, share, at in moves:
        view = view.pan(share, 0, 100) if kind == "pan" else view.zoom(0.5 if kind == "in" else 2, at, 0, 100)
        left, right = view.span(0, 100)
        assert 0 <= left < right <= 100 + 1e-9


def test_a_zoom_keeps_the_place_under_the_pointer() -> None:
    left, right = View().zoom(0.5, 80, 0, 100).span(0, 100)
    assert (left, right) == (40, 90)
    assert (80 - left) / (right - left) == 0.8
    assert View().zoom(0.5, 80, 0, 100).zoom(2, 80, 0, 100) == View()
    assert View((0, 10)).showing(50, 0, 100) == View((40, 50))


def test_a_window_stays_on_an_axis_that_has_become_shorter() -> None:
    assert View((60, 90)).inside(0, 90) == View((60, 90))
    assert View((60, 90)).inside(0, 75) == View((45, 75))
    assert View((60, 90)).inside(0, 30) == View()
    assert View().inside(0, 30) == View()


def test_what_lies_above_a_ceiling_leaves_the_picture_at_its_top() -> None:
    falling = Series("", np.arange(10.0), np.array([9.0, 7, 5, 3, 2.5, 2, 1.5, 1.2, 1.1, 1]), "train")
    assert plotting.fit([falling]).high == 9
    bounds = plotting.fit([falling], ceiling=2.0)
    assert (bounds.low, bounds.high) == (1, 2)
    mask = plotting.trace(falling.x, falling.y, bounds, 20, 40)
    assert mask[0].any(), "the line comes in at the top"
    assert not mask[:, :8].any(), "what is above isn't pressed into the picture"
    assert plotting.fit([falling], ceiling=0.5).high > 1, "a picture is never without its curve"
