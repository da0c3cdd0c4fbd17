"""Export the screens that the documentation shows, from the interface itself.

    python docs/make_screens.py RUNS_DIR [LECTURE_DIR]

The overlay needs a folder with some runs, the tour a lecture that has been run; the run screen shows the demo's.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["TEXTUAL_ANIMATIONS"] = "none"

from kerascnn.runs.directory import Run, list_runs
from tui.app import KerascnnApp
from tui.demo import demo_run
from tui.messages import OpenRun, Overlay
from tui.places import LECTURE_DIR, Places
from tui.settings import Keeper

SCREENS = Path(__file__).parent.absolute() / "screens"
SIZE = (120, 40)


async def export(
    name: str,
    runs_dir: Path,
    *,
    keys: Sequence[str] = (),
    message: OpenRun | Overlay | None = None,
    lecture_dir: Path = LECTURE_DIR,
) -> None:
    """Save one screen after some keys, or the one that a message asks for."""
    with TemporaryDirectory() as folder:
        places = Places(runs_dir, lecture_dir=lecture_dir)
        app = KerascnnApp(places, keeper=Keeper(Path(folder) / "tui.toml"), lecture=lecture_dir != LECTURE_DIR)
        async with app.run_test(size=SIZE) as pilot:
            await app.workers.wait_for_complete()
            if message is not None:
                app.post_message(message)
            await pilot.pause()
            await pilot.press(*keys)
            await app.workers.wait_for_complete()
            await pilot.pause(0.6)
            app.save_screenshot(f"{name}.svg", path=str(SCREENS))


async def main(runs_dir: Path, lecture_dir: Path | None = None) -> None:
    """Export all screens."""
    SCREENS.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        # From a folder of its own, so that the command on the screen has no path of this machine.
        os.chdir(folder)
        down = ["down"] * 9
        await export("zoo", Path("runs"), keys=down)
        await export("new_run", Path("runs"), keys=[*down, "enter"])
        await export("run", Path("runs"), message=OpenRun(demo_run(Path("runs"))))
    runs = [found for found in list_runs(runs_dir) if found.summary().epoch]
    await export("overlay", runs_dir, message=Overlay([Run(found.path) for found in runs[:4]]))
    if lecture_dir is not None:
        # Standardised pixels, beside the network that doesn't learn without.
        await export("lecture", runs_dir, keys=["j"] * 6, lecture_dir=lecture_dir)


if __name__ == "__main__":
    asyncio.run(main(*(Path(argument).absolute() for argument in sys.argv[1:3])))
