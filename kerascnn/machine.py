"""The machine that a process computes on."""

from __future__ import annotations

import os
import platform
import subprocess
from typing import Any

import psutil

# A driver that starts up takes some seconds to answer.
DRIVER_WITHIN_S = 20.0


def usable_cores() -> int:
    """The cores that this process may compute on."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1


def free_memory() -> int:
    """The bytes that programs could still be given."""
    return int(psutil.virtual_memory().available)


def nvidia_gpus() -> list[str]:
    """NVIDIA's GPUs by name, as its driver lists them; none where there is no driver."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=DRIVER_WITHIN_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.splitlines()


def machine() -> dict[str, Any]:
    """The machine that a run's figures depend on."""
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - not a file of ours
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
