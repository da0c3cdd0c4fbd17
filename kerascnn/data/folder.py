"""A folder of images: where its classes lie, and which of its files are images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerascnn.data.formats import Labels
from kerascnn.data.images import IMAGE_SUFFIXES, undecodable
from kerascnn.errors import DatasetError

# How names begin that no user gave: hidden files, the ``._0.png`` of macOS among them, and what it adds to archives.
HIDDEN = (".", "__MACOSX")
# What the folder of validation images beside ``train/`` may be called.
VALIDATION = ("val", "valid", "validation")
# So many kinds of files that are no images are told.
MOST_KINDS = 5


class Files(NamedTuple):
    """What lies in the classes' folders of a split: images with the numbers of their classes, and all else."""

    images: list[Path]
    labels: Labels
    others: list[Path]


class Listing(NamedTuple):
    """A folder's classes and files; ``notes`` say what was left out."""

    class_names: tuple[str, ...]
    train: Files
    validation: Files
    notes: list[str]


def list_folder(folder: Path, *, skip_bad: bool = False) -> Listing:
    """The files of a folder of images, one folder a class: ``train/`` and ``val/`` in it, or all classes at once.

    ``val/`` may also be called ``valid/`` or ``validation/``.

    Args:
        folder: where they are.
        skip_bad: decode all of them once and leave out what doesn't decode.

    Raises:
        DatasetError: as :func:`check_folder`; or ``val/`` has no images, or no image of a class decodes.
    """
    root = _train_root(folder)
    names = _class_folders(root)
    train = _files_of(root, names)
    if empty := _classes_without_images(names, train):
        raise _no_images(root / empty[0])
    val_root = _val_root(folder, root, names)
    val = _files_of(val_root, names) if val_root else Files([], np.empty(0, np.int64), [])
    if val_root and not val.images:
        raise _no_images(val_root / _folders_in(val_root)[0])
    notes = []
    if root != folder and (folder / "test").is_dir():
        notes.append(f"{folder / 'test'} isn't read: training sees train/ and val/ alone")
    if others := [*train.others, *val.others]:
        notes.append(f"{folder}: left out, as only {', '.join(IMAGE_SUFFIXES)} are read: {_in_words(others)}")
    if skip_bad and (bad := set(undecodable([*train.images, *val.images]))):
        train, val = _without(bad, train), _without(bad, val)
        if empty := _classes_without_images(names, train):
            raise DatasetError(f"{root / empty[0]}: expected images, and none of its files decodes")
        notes.append(f"left out, as they don't decode: {', '.join(map(str, sorted(bad)))}")
    return Listing(names, train, val, notes)


def check_folder(folder: Path) -> None:
    """A look at a folder that stops at the first image of each class: ImageNet has over a million.

    Raises:
        DatasetError: as :func:`classes_in`; or a class has no images, or ``val/`` has other classes than ``train/``.
    """
    root = _train_root(folder)
    names = _class_folders(root)
    _val_root(folder, root, names)
    for name in names:
        if not _has_image(root / name):
            raise _no_images(root / name)


def classes_in(folder: Path) -> tuple[str, ...] | None:
    """The names of a folder's classes, or None where there is no such folder.

    Raises:
        DatasetError: it can't be read, has fewer than two classes, or a ``train/`` that can be a split and a class.
    """
    root = _train_root(folder)
    return _class_folders(root) if root.is_dir() else None


def _train_root(folder: Path) -> Path:
    """Where the classes lie: in ``train/`` where that holds folders, else in the folder itself.

    A ``train/`` that holds images is a class of this name.
    """
    train = folder / "train"
    try:
        if not train.is_dir():
            return folder
    except OSError as error:
        raise _unreadable(folder, error) from None
    inner = _folders_in(train)
    if not _has_image(train):
        return train if inner else folder
    if any(_has_image(train / name) for name in inner):
        raise DatasetError(f"{train}: expected images, or a folder of images for each class, got both")
    return folder


def _val_root(folder: Path, train_root: Path, names: tuple[str, ...]) -> Path | None:
    """The folder of validation images beside ``train/``, where both are there, with no other classes than ``names``."""
    roots = [folder / name for name in VALIDATION if (folder / name).is_dir()]
    if train_root == folder or not roots:
        return None
    if len(roots) > 1:
        both = f"{roots[0].name}/ and {roots[1].name}/"
        raise DatasetError(f"{folder}: expected one folder of validation images, got {both}")
    (val_root,) = roots
    inner = _folders_in(val_root)
    if not inner:
        raise DatasetError(f"{val_root}: expected a folder of images for each class, and there is none")
    if unknown := sorted(set(inner) - set(names)):
        raise DatasetError(f"{val_root}: expected the classes of {train_root}, got {unknown[0]!r} too")
    return val_root


def _class_folders(root: Path) -> tuple[str, ...]:
    names = _folders_in(root)
    if len(names) < 2:
        raise DatasetError(f"{root}: expected one folder of images for each of at least two classes, got {len(names)}")
    return names


def _files_of(root: Path, names: tuple[str, ...]) -> Files:
    images: list[Path] = []
    labels: list[int] = []
    others: list[Path] = []
    for label, name in enumerate(names):
        folder = root / name
        if not folder.is_dir():
            continue
        inside = sorted(_names_in(folder))
        found = [folder / one for one in inside if _is_image(one)]
        images += found
        labels += [label] * len(found)
        others += [folder / one for one in inside if not _is_image(one)]
    return Files(images, np.array(labels, np.int64), others)


def _without(bad: set[Path], files: Files) -> Files:
    good = [index for index, path in enumerate(files.images) if path not in bad]
    return files._replace(images=[files.images[index] for index in good], labels=files.labels[good])


def _classes_without_images(names: tuple[str, ...], files: Files) -> list[str]:
    counts = np.bincount(files.labels, minlength=len(names))
    return [name for name, count in zip(names, counts, strict=True) if not count]


def _names_in(folder: Path) -> Iterator[str]:
    """What lies in a folder, one name after the other."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries if not entry.name.startswith(HIDDEN))
    except OSError as error:
        raise _unreadable(folder, error) from None


def _folders_in(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(name for name in _names_in(folder) if (folder / name).is_dir()))
    except OSError as error:
        raise _unreadable(folder, error) from None


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _has_image(folder: Path) -> bool:
    return any(map(_is_image, _names_in(folder)))


def _unreadable(folder: Path, error: OSError) -> DatasetError:
    return DatasetError(f"{folder}: expected a folder of images: {error.strerror or error}")


def _no_images(folder: Path) -> DatasetError:
    found = [folder / name for name in sorted(_names_in(folder))]
    said = f"got {_in_words(found)}" if found else "and there are none"
    return DatasetError(f"{folder}: expected images that end in {', '.join(IMAGE_SUFFIXES)}, {said}")


def _in_words(paths: Sequence[Path]) -> str:
    """Files counted by what their names end in, the most frequent first."""
    kinds = Counter("folders" if path.is_dir() else path.suffix.lower() or "without a suffix" for path in paths)
    said = [f"{kind} ({count:,})" for kind, count in kinds.most_common(MOST_KINDS)]
    return ", ".join([*said, "…"] if len(kinds) > MOST_KINDS else said)
