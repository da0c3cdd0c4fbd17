"""What a run's processes use of the machine."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from dataclasses import dataclass

import psutil

ASK_GPU_S = 5.0


@dataclass(frozen=True)
class Gpu:
    """All graphics cards of the machine together. ``busy`` is from 0 to 1."""

    busy: float
    used_bytes: float
    total_bytes: float


@dataclass(frozen=True)
class Usage:
    """``cpu`` is 1 for one core fully used."""

    cpu: float
    memory_bytes: int
    gpu: Gpu | None


class System:
    """Watches a process and its children."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}
        self._gpu_tool = shutil.which("nvidia-smi")

    def sample(self, pid: int) -> Usage | None:
        """What is used since the last call; None where there is no such process. May take a while: not for the UI."""
        try:
            root = psutil.Process(pid)
            family = {process.pid: process for process in [root, *root.children(recursive=True)]}
        except (psutil.Error, OverflowError, ValueError):
            return None
        # A process is asked for the processor time since it was last asked, so the same objects are kept.
        self._processes = {number: self._processes.get(number, process) for number, process in family.items()}
        cpu, memory = 0.0, 0
        for process in self._processes.values():
            with contextlib.suppress(psutil.Error):
                cpu += process.cpu_percent() / 100
                memory += process.memory_info().rss
        return Usage(cpu, memory, self._gpu())

    def _gpu(self) -> Gpu | None:
        if self._gpu_tool is None:
            return None
        query = ["--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits"]
        try:
            answer = subprocess.run(
                [self._gpu_tool, *query], capture_output=True, text=True, timeout=ASK_GPU_S, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return parse_gpu(answer.stdout)


def parse_gpu(answer: str) -> Gpu | None:
    """One line a card: utilisation in percent, memory used and in all in MiB. None where a figure is missing."""
    try:
        rows = [[float(cell) for cell in line.split(",")] for line in answer.splitlines() if line.strip()]
        return Gpu(
            busy=sum(busy for busy, _, _ in rows) / len(rows) / 100,
            used_bytes=sum(used for _, used, _ in rows) * 2**20,
            total_bytes=sum(total for _, _, total in rows) * 2**20,
        )
    except (ValueError, ZeroDivisionError):
        return None
