"""Files that are whole or not there: written under a temporary name, synced, renamed."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTIAL = ".partial-"
# On Windows a file that somebody has open, if only a virus scanner for a moment, can't be replaced or removed.
HELD_FOR_S = 2.0 if os.name == "nt" else 0.0
TRY_AGAIN_S = 0.05


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place, on disk.

    The temporary name keeps all endings of ``path``, which some writers choose their format by.

    Raises:
        OSError: it can't be written; where the system names no file, or the temporary one, ``path`` is named.
    """
    partial = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        patiently(lambda: partial.replace(path))
        sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename2 is None and error.filename in (None, str(partial)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def patiently(act: Callable[[], object]) -> None:
    """Replace or remove a file; where somebody has it open, again until they leave it, for two seconds.

    Raises:
        PermissionError: they didn't.
    """
    deadline = time.monotonic() + HELD_FOR_S
    while True:
        try:
            act()
            return
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(TRY_AGAIN_S)


def remove_unfinished(*folders: Path) -> None:
    """Remove what a kill left half written. Only for the one process that may write there."""
    for folder in folders:
        for partial in folder.glob(f"{PARTIAL}*"):
            partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""

    def write(partial: Path) -> None:
        partial.write_bytes(content)

    write_atomically(path, write)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, with the same line ends on every system."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; what isn't UTF-8, as a file's name may be, becomes a question mark."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode(errors="replace"))


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Shared folders of virtual machines and some network file systems can't.
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
