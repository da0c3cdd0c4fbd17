"""The files that datasets come in, read without trusting them: IDX, CIFAR's pickles, NumPy archives.

Every reader checks the shape that it was told to expect before it allocates, and names the file in its error.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerascnn.data.pickles import PickledArray, PickledDtype, restricted_pickle
from kerascnn.errors import DatasetError, brief, reason_of

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

CIFAR_PLANE = 32 * 32


def read_idx(path: Path, shape: tuple[int, ...]) -> Pixels:
    """Read an IDX file of bytes (http://yann.lecun.com/exdb/mnist), gzipped if its name ends in ``.gz``.

    Args:
        path: the file.
        shape: what it must hold.

    Raises:
        DatasetError: the file can't be read, is truncated, or holds another type or shape.
    """
    expected = int(np.prod(shape)) + 4 + 4 * len(shape)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: expected an IDX file of {expected} bytes: {_reason(error)}") from None
    if content[:4] != bytes((0, 0, 8, len(shape))):
        raise DatasetError(f"{path}: expected an IDX file of bytes in {len(shape)} dimensions, got {content[:4].hex()}")
    found = tuple(
        int(n) for n in np.frombuffer(content, ">u4", count=min(len(shape), (len(content) - 4) // 4), offset=4)
    )
    if found != shape:
        raise DatasetError(f"{path}: expected the shape {shape}, got {found}")
    if len(content) != expected:
        size = "more" if len(content) > expected else len(content)
        raise DatasetError(f"{path}: expected {expected} bytes, got {size}: the file is damaged")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def read_cifar_batch(path: Path, images: Pixels, label_key: bytes, classes: int) -> Labels:
    """Read one of CIFAR's pickles into place.

    Args:
        path: a file such as ``data_batch_1``.
        images: where its pixels go, uint8 ``(n, 32, 32, 3)``; n says how many the file must hold.
        label_key: ``b"labels"`` in CIFAR-10, ``b"fine_labels"`` in CIFAR-100.
        classes: labels must lie below this.

    Returns:
        Labels, int64 ``(n,)``.

    Raises:
        DatasetError: the file is damaged, holds another shape, labels out of range, or anything but data.
    """
    content = restricted_pickle(path, items=len(images))
    if not isinstance(content, dict):
        raise DatasetError(
            f"{path}: expected a dictionary with b'data' and {label_key!r}, got {type(content).__name__}"
        )
    wanted = (len(images), 3 * CIFAR_PLANE)
    data = content.get(b"data")
    if not isinstance(data, PickledArray):
        raise DatasetError(f"{path}: expected an array under b'data', got {type(data).__name__}")
    pixels = _pixels_of(data, path, wanted)
    labels = content.get(label_key)
    if not isinstance(labels, list) or len(labels) != len(images) or not all(type(n) is int for n in labels):
        raise DatasetError(f"{path}: expected {len(images)} whole numbers under {label_key!r}")
    if min(labels) < 0 or max(labels) >= classes:
        wrong = next(n for n in labels if not 0 <= n < classes)
        raise DatasetError(f"{path}: expected labels from 0 to {classes - 1}, got {brief(wrong)}")
    images[:] = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.array(labels, np.int64)


def read_cifar_class_names(path: Path, key: bytes, classes: int) -> tuple[str, ...]:
    """The class names in CIFAR's ``batches.meta`` or ``meta``."""
    content = restricted_pickle(path, items=classes)
    names = content.get(key) if isinstance(content, dict) else None
    if not isinstance(names, list) or len(names) != classes or not all(isinstance(n, bytes) for n in names):
        raise DatasetError(f"{path}: expected {classes} names under {key!r}")
    return tuple(name.decode("utf-8", "replace") for name in names)


def read_npz(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Pixels]:
    """Read uint8 arrays of known shapes from a NumPy archive, never a pickle in it.

    Raises:
        DatasetError: the file is damaged, or an array is missing or of another type or shape.
    """
    arrays: dict[str, Pixels] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name, shape in shapes.items():
                arrays[name] = _read_npy(archive, path, name, shape)
    except DatasetError:
        raise
    except KeyError as error:
        raise DatasetError(f"{path}: {error.args[0] if error.args else error}") from None
    except Exception as error:
        # zipfile and NumPy let through what their parsers raise, down to Python's own tokenizer.
        raise DatasetError(f"{path}: expected a NumPy archive: {_reason(error)}") from None
    return arrays


def _read_npy(archive: zipfile.ZipFile, path: Path, name: str, shape: tuple[int, ...]) -> Pixels:
    """One array; its header is checked before its pixels are read."""
    size = int(np.prod(shape))
    compression = archive.getinfo(f"{name}.npy").compress_type
    if compression not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # The others unpack more than they are asked for.
        raise ValueError(f"expected {name} stored or deflated, got compression {compression}")
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):
            raise ValueError(f"expected version 1.0 of NumPy's format, got {version}")
        found, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        if found != shape or dtype != np.uint8 or fortran:
            raise DatasetError(f"{path}: {name}: expected bytes of the shape {shape}, got {dtype} of {found}")
        content = member.read(size)
    if len(content) != size:
        raise DatasetError(f"{path}: {name}: expected {size} bytes, got {len(content)}: the file is damaged")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _pixels_of(array: PickledArray, path: Path, shape: tuple[int, int]) -> Pixels:
    """A pickled array, if it is of bytes in this shape."""
    if not isinstance(array.state, tuple) or len(array.state) != 5:
        raise DatasetError(f"{path}: expected a pickled array under b'data'")
    _, found, dtype, fortran, content = array.state
    kind = dtype.name if isinstance(dtype, PickledDtype) else None
    if found != shape or kind not in ("u1", b"u1") or fortran:
        raise DatasetError(f"{path}: expected bytes of the shape {shape} under b'data', got {brief(found)}")
    if not isinstance(content, bytes) or len(content) != shape[0] * shape[1]:
        raise DatasetError(f"{path}: expected {shape[0] * shape[1]} bytes of pixels: the file is damaged")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return reason_of(error)[:200]
