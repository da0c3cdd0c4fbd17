"""What the C library does with memory that a training step frees: by default it goes back to the system.

A step frees its activations and asks for as many again. glibc takes large blocks from the system one by one and gives
them back when they are freed, so on torch each step faults its memory in anew, page by page. TensorFlow keeps its
memory by itself, and JAX asks the system past the C library: on them the setting changes nothing but the peak.
"""

from __future__ import annotations

import ctypes
import os
import platform

from kerascnn.errors import UsageError, nearest

VARIABLE = "KERASCNN_ALLOCATOR"
KEEPING, DEFAULT = "keeping", "default"

# From glibc's malloc.h: a heap that may hold large blocks, and that isn't cut back below 2 GiB.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_SETTINGS = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))


def asked_allocator() -> str:
    """What the variable ``KERASCNN_ALLOCATOR`` asks for, ``keeping`` where it isn't set.

    Raises:
        UsageError: it is something else than ``keeping`` or ``default``.
    """
    asked = os.environ.get(VARIABLE) or KEEPING
    if asked not in (KEEPING, DEFAULT):
        raise UsageError(
            f"{VARIABLE}: expected {KEEPING} or {DEFAULT}, got {asked!r}{nearest(asked, (KEEPING, DEFAULT))}"
        )
    return asked


def set_allocator(backend: str) -> str:
    """Let a process that trains on torch keep what it frees, for its next step. It holds for the process's whole life.

    Where the variable asks for ``default`` the C library stays as it is, and so it does on a system without glibc.

    Returns:
        What this process has: ``keeping`` or ``default``.

    Raises:
        UsageError: the variable asks for something else.
    """
    if asked_allocator() == DEFAULT or backend != "torch" or platform.libc_ver()[0] != "glibc":
        return DEFAULT
    mallopt = ctypes.CDLL(None).mallopt
    # 1 is glibc's yes.
    return KEEPING if all(mallopt(name, value) == 1 for name, value in _SETTINGS) else DEFAULT
