"""What is at work when the interface is quit, and what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kerascnn.errors import KerascnnError
from kerascnn.lecture.argument import the_argument
from kerascnn.lecture.folder import LectureFolder
from kerascnn.runs.control import ask, make_command
from tui.reading.digest import Digest, look_at
from tui.starting import launch

if TYPE_CHECKING:
    from kerascnn.runs.directory import Run
    from tui.places import Places
    from tui.reading.ledger import Entry, Ledger
    from tui.starting.launch import Start

LINES = 8


@dataclass(frozen=True)
class AtWork:
    """The live runs, the commands that haven't come to their runs yet, and the process of the lecture."""

    runs: Sequence[Entry]
    starts: Sequence[Start]
    lecture: int | None
    folder: LectureFolder

    def __len__(self) -> int:
        return len(self.runs) + len(self.starts) + (self.lecture is not None)

    @property
    def title(self) -> str:
        """How much there is, in a few words."""
        runs = len(self.runs) + len(self.starts)
        if not runs:
            return "The lecture is under way"
        return "A run is live" if len(self) == 1 else f"{runs} run{'s are' if runs > 1 else ' is'} live"

    @property
    def lines(self) -> list[str]:
        """What there is, one a line."""
        lines = [f"{entry.run.name}  {entry.state}, epoch {entry.epoch}/{entry.epochs}" for entry in self.runs]
        lines += [f"{start.name}  starting" for start in self.starts]
        lines[LINES:] = [f"and {len(lines) - LINES} more"] if len(lines) > LINES else []
        return lines + ([f"the lecture in {self.folder.path}"] if self.lecture is not None else [])

    def leave(self) -> str:
        """Let all of it go on; says so."""
        for start in self.starts:
            start.left = True
        names = [entry.run.name for entry in self.runs]
        names += [start.name if start.run is not None else f"{start.name} (starting)" for start in self.starts]
        return "left running: " + ", ".join(names + (["the lecture"] if self.lecture is not None else []))

    def stop(self) -> str:
        """Ask all of it to stop; says of each what became of that."""
        said = [_stop(entry.run) for entry in self.runs]
        said += [_stop_start(start) for start in self.starts]
        return "\n".join(said + ([_stop_lecture(self.folder, self.lecture)] if self.lecture is not None else []))


def at_work(
    ledger: Ledger, places: Places, shown: Iterable[Run], starts: Sequence[Start], lecture_started: int | None
) -> AtWork:
    """What is at work now: in the runs folder, in the lecture's, among the runs that are shown, and on its way there.

    Args:
        ledger: of the runs folder; it is brought up to date.
        places: where the lecture is.
        shown: runs of any folder.
        starts: the commands that this interface waits for.
        lecture_started: the process of the lecture that this interface has started, which may not have said so yet.
    """
    folder = LectureFolder(places.lecture_dir)
    lecture = folder.owner() or lecture_started
    runs = _not_on_their_way([entry for entry in ledger.refresh() if entry.live], starts)
    known = {entry.run.path.resolve() for entry in ledger.entries}
    for run in (*(one.run for one in folder.step_runs(the_argument())), *shown):
        path = run.path.resolve()
        # A lecture that is under way answers for its own.
        if path in known or (lecture is not None and path.is_relative_to(folder.runs_folder.resolve())):
            continue
        known.add(path)
        if run.owner() is not None and (found := look_at(run, Digest(), time.time())) is not None:
            runs.append(found[0])
    return AtWork(runs, starts, lecture, folder)


def _not_on_their_way(entries: Iterable[Entry], starts: Sequence[Start]) -> list[Entry]:
    """The entries but the directories that the starts have made already."""
    names = [start.name for start in starts]

    def others() -> Iterator[Entry]:
        for entry in entries:
            name = next((name for name in (entry.run.name, entry.model) if name in names), None)
            if entry.state == "starting" and name is not None:
                names.remove(name)
            else:
                yield entry

    return list(others())


def _stop(run: Run) -> str:
    try:
        ask(run, make_command("stop", None))
    except KerascnnError as error:
        return str(error)
    return f"asked to stop, saving a checkpoint first: {run.name}"


def _stop_start(start: Start) -> str:
    if start.run is not None:
        return _stop(start.run)
    start.stop()
    return f"stopped before it began: {start.name}"


def _stop_lecture(folder: LectureFolder, pid: int) -> str:
    try:
        launch.stop_lecture(folder, pid)
    except KerascnnError as error:
        return str(error)
    return "asked to stop, saving a checkpoint first: the lecture"
