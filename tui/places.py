"""Where the interface was told to look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """The folder of runs, a catalog of the user's own, and a folder to look for datasets in first."""

    runs_dir: Path
    catalog: Path | None = None
    data_dir: Path | None = None
