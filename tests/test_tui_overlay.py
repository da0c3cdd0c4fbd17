"""The curves of several runs over one another, and what differs between them."""

from __future__ import annotations

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run
from tests import recorded
from tests.recorded import append, record, whole_run
from tests.screen_host import Host, press
from tests.screens import SIZES, screen_text
from tui.screens.overlay import OverlayScreen


def three_runs(tmp_path: Path) -> list[Run]:
    slower = [event for event in whole_run(with_layers=False) if not isinstance(event, ev.EpochDone) or event.epoch < 3]
    other = [
        event.model_copy(update={"model": "plain12_he", "backend": "tensorflow"})
        if isinstance(event, ev.RunStarted)
        else event
        for event in slower[: len(slower) // 2]
    ]
    return [
        record(tmp_path / "first", whole_run()),
        record(tmp_path / "second", other, model="plain12_he"),
        record(tmp_path / "third", [], model="plain12_silu"),
    ]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_several_runs_are_laid_over_one_another(
    tmp_path: Path, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    app = Host(OverlayScreen(three_runs(tmp_path), tick_s=None))
    async with app.run_test(size=size) as pilot:
        await press(pilot, "t")
        assert screen_text(app) == snapshot


async def test_an_overlay_by_epoch_with_a_cursor_names_the_values(tmp_path: Path) -> None:
    runs = three_runs(tmp_path)[:2]
    app = Host(OverlayScreen(runs, tick_s=None))
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "x", "c")
        text = screen_text(app)
        assert "epoch 3 · plain12_bn 0.5355" in text
        assert "initializer" in text
        assert "he_normal" in text
        assert "batch_size" not in text
        append(runs[1], recorded.epoch(2))
        app.opened.tick()  # type: ignore[union-attr]
        await pilot.pause()
        assert "2/3" in screen_text(app)
        await press(pilot, "escape")
        assert not isinstance(app.screen, OverlayScreen)


async def test_runs_of_one_network_are_named_as_the_runs_list_them(tmp_path: Path) -> None:
    names = [f"20261130-14462{number}-{number}d85" for number in range(5)]
    app = Host(OverlayScreen([record(tmp_path / name, whole_run()) for name in names], tick_s=None))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        text = screen_text(app)
        assert "● 0d85  ■ 1d85  ▲ 2d85  ◆ 3d85  ▼ 4d85" in text
        assert "4 of 5 runs: no room for more" in text
        states = next(line for line in text.splitlines() if line.startswith("│state"))
        assert states.strip("│").split() == ["state", *["finished"] * 4]
        await pilot.resize_terminal(120, 40)
        await pilot.pause()
        text = screen_text(app)
        assert "no room for more" not in text
        assert text.count("▼ 4d85") == 3, "in both legends and over its column"


async def test_an_overlay_of_what_is_no_run_says_so(tmp_path: Path) -> None:
    app = Host(OverlayScreen([record(tmp_path / "run", whole_run()), Run(tmp_path / "nowhere")], tick_s=None))
    async with app.run_test(size=(160, 40)) as pilot:
        await press(pilot, "c", "t", "x", "z")
        assert "there is no folder" in screen_text(app)
