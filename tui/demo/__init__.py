"""A recorded run, for a look at the interface without training anything.

ResNet-20 on 5,000 images of the embedded sample, on two cores with torch; the command is in
``recording/environment.json``. It was paused after step 151, and its learning rate set to 0.01 after step 232.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from kerascnn.runs.directory import Run

RECORDING = Path(__file__).parent / "recording"


def demo_run(folder: Path | None = None) -> Run:
    """The recorded run, as a copy, so that nothing that is asked of it changes the recording.

    Args:
        folder: where to copy it; by default a new temporary folder, which is left to the system to clean.
    """
    folder = Path(tempfile.mkdtemp(prefix="kerascnn-demo-")) if folder is None else folder
    return Run(Path(shutil.copytree(RECORDING, folder / "resnet20_cifar" / "demo")))
