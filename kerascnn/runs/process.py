"""Which process works on a run."""

from __future__ import annotations

import contextlib
import sys
import uuid
from pathlib import Path

import psutil

PROC = Path("/proc")


def identity_of_process(pid: int) -> str | None:
    """What tells this process from every other that has had or will have its number.

    Returns:
        A text that stays the same for as long as the process lives, whatever is done to the clock; None where there is
        no such process, or one that is dead and not yet collected.
    """
    if sys.platform == "linux":
        return _identity_on_linux(pid)
    with contextlib.suppress(psutil.Error, ValueError, OverflowError):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return f"{process.create_time():.3f}"
    return None


def full_name_of_process(pid: int) -> str:
    """A process's number and identity in one text, which no other process has, in a container neither."""
    return f"{pid} {identity_of_process(pid)}"


def identity_of_machine() -> str | None:
    """What tells this machine from others by more than its name, which may change with the network.

    Returns:
        On Linux, what the numbers of processes count in: this boot and, in a container, its own processes. Elsewhere
        the address of a network card, or None without one.
    """
    if sys.platform == "linux":
        try:
            return f"{_boot()} {(PROC / 'self/ns/pid').readlink()}"
        except OSError:
            return None
    node = uuid.getnode()
    # This bit marks a number that was drawn, for want of a card.
    return None if node >> 40 & 1 else f"{node:012x}"


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _identity_on_linux(pid: int) -> str | None:
    """By the kernel's ticks: psutil tells when a process began by the wall clock, which moves when the clock is set."""
    try:
        # The name stands in parentheses and may hold anything, parentheses too.
        _, _, fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")
        boot = _boot()
    except OSError:
        return None
    state, *rest = fields.split()
    # `man proc_pid_stat`: the state is field 3, the start field 22.
    return None if state in "ZX" else f"{boot}:{rest[18]}"
