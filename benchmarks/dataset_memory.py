"""What a dataset costs in memory: the peak of a process that loads it, less the same process without it.

python benchmarks/dataset_memory.py cifar10 --data-dir DIR
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from kerascnn.data.dataset import load_known
from kerascnn.data.known import known_dataset
from kerascnn.training.session import peak_memory_bytes


def main() -> None:
    """Print the copy's size and the peak above it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--peak-without", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak_without is None:
        # A fresh process, so that what this one has done doesn't count.
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--peak-without", "0"], check=True)
        return
    before = peak_memory_bytes()
    loaded = load_known(known_dataset(asked.dataset), data_dir=asked.data_dir, download=False)
    peak = peak_memory_bytes() - before
    copy = sum(len(split) * int(np.prod(split.shape)) for split in (loaded.train, loaded.validation))
    print(
        json.dumps(
            {
                "dataset": asked.dataset,
                "copy_mb": round(copy / 1e6, 1),
                "peak_mb": round(peak / 1e6, 1),
                "above_the_copy_mb": round((peak - copy) / 1e6, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
