"""Where the interface was told to look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LECTURE_DIR = Path("lecture-quick")


@dataclass(frozen=True)
class Places:
    """The folder of runs, a catalog of the user's own, a folder to look for datasets in first, and the lecture's."""

    runs_dir: Path
    catalog: Path | None = None
    data_dir: Path | None = None
    lecture_dir: Path = LECTURE_DIR
