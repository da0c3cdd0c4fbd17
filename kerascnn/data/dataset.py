"""A dataset as a run uses it: found or fetched, checked, split, limited, and adapted to its network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kerascnn.data import locate
from kerascnn.data.folder import check_folder, classes_in, list_folder
from kerascnn.data.formats import Labels, read_cifar_batch, read_cifar_class_names, read_idx, read_npz
from kerascnn.data.images import (
    AdaptedImages,
    ArrayImages,
    FolderImages,
    Images,
    Indices,
    Shape,
    Subset,
    describe_adaptation,
)
from kerascnn.data.known import DATASETS, EMBEDDED, FOLDER, KnownDataset, known_dataset
from kerascnn.errors import DatasetError, UsageError, brief
from kerascnn.recipe import Recipe

# Which images a limit or a split takes doesn't depend on the run's seed, so runs stay comparable.
CHOICE_SEED = 0x5EED
# What a folder without val/ holds out.
DEFAULT_VAL_SPLIT = 0.1

Report = Callable[[str], None]


@dataclass(frozen=True)
class Dataset:
    """What a run learns from.

    ``whole_train`` is the training split before splits and limits: the constants of ``standardize`` come from it.
    ``fingerprint`` is a SHA-256 over all of it: of the pixels and labels, or for a folder of names, sizes and times.
    """

    name: str
    class_names: tuple[str, ...]
    train: Images
    validation: Images
    whole_train: Images
    fingerprint: str
    where: str
    notes: list[str] = field(default_factory=list)


def load_dataset(
    recipe: Recipe,
    *,
    data_dir: Path | None = None,
    download: bool = True,
    skip_bad_images: bool = False,
    report: Report = lambda _: None,
) -> Dataset:
    """Load the dataset that a recipe names, split, limited and adapted as the recipe says.

    Args:
        recipe: its ``dataset``, ``input_shape``, ``classes`` and ``train`` are used.
        data_dir: a folder to look into first.
        download: fetch what isn't found.
        skip_bad_images: go on when a file in a folder doesn't decode.
        report: is told what is downloaded.

    Raises:
        UnknownNameError: no dataset has this name.
        DatasetError: it is missing, damaged, or can't be adapted to the network.
    """
    if is_folder(recipe.dataset):
        dataset = load_folder(folder_path(recipe.dataset), recipe.input_shape, skip_bad=skip_bad_images)
    else:
        dataset = load_known(known_dataset(recipe.dataset), data_dir=data_dir, download=download, report=report)
    share = recipe.train.val_split
    if not share and not len(dataset.validation):
        share = DEFAULT_VAL_SPLIT
        dataset.notes.append(f"{dataset.where} has no val/: a tenth of its images is held out for validation")
    return limit(adapt_to(split_off_validation(dataset, share), recipe), recipe)


def is_folder(name: str) -> bool:
    """Whether a dataset's name is a folder of images."""
    return name == FOLDER or name.startswith(f"{FOLDER}:")


def absolute(name: str) -> str:
    """``folder:PATH`` with a path that holds from any folder; other names as they are."""
    return f"{FOLDER}:{folder_path(name).absolute()}" if name.startswith(f"{FOLDER}:") else name


def folder_path(name: str) -> Path:
    """The path in ``folder:PATH``.

    Raises:
        UsageError: no path is named, or one in the home of nobody.
    """
    path = name.removeprefix(FOLDER).removeprefix(":")
    if not path:
        raise UsageError("this network learns from a folder of images: expected --dataset folder:PATH")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"--dataset: expected a folder of images, got {brief(path)}, whose home is unknown") from None


def require(name: str, data_dir: Path | None, *, download: bool, report: Report = lambda _: None) -> None:
    """Make sure that a dataset is on this machine before a run begins, downloading it where that is allowed.

    Raises:
        UnknownNameError: no dataset has this name.
        DatasetError: it isn't here and can't be had.
    """
    if is_folder(name):
        folder = folder_path(name)
        if not folder.is_dir():
            raise DatasetError(f"expected a folder of images at {folder}, and there is none")
        check_folder(folder)
        return
    dataset = known_dataset(name)
    if locate.find(dataset, data_dir) is None and locate.find_archive(dataset, data_dir) is None:
        _download(dataset, data_dir, allowed=download, report=report)


def load_known(
    known: KnownDataset, *, data_dir: Path | None = None, download: bool = True, report: Report = lambda _: None
) -> Dataset:
    """Find, or fetch, and read a dataset that is known by name, whole.

    A damaged copy of another program's is passed over, and that is reported; one of ours is an error.

    Raises:
        DatasetError: it isn't here and can't be had, or is damaged.
    """
    damaged: list[str] = []
    for found in locate.find_all(known, data_dir):
        try:
            return _read(known, _unpacked(known, found, report) if found.is_archive else found)
        except DatasetError as error:
            if found.is_ours:
                raise
            damaged.append(str(error))
            report(f"{error}; looking for another copy")
    path = _download(known, data_dir, allowed=download, report=report, damaged=damaged)
    return _read(known, locate.Found(path, "downloaded"))


def _read(known: KnownDataset, found: locate.Found) -> Dataset:
    reader = _read_keras_mnist if found.is_keras_mnist else _READERS[known.layout]
    try:
        train, test, class_names = reader(known, found.path)
    except DatasetError as error:
        if not found.is_ours:
            raise
        raise DatasetError(f"{error}; with that file removed, {known.name} is looked for elsewhere") from None
    return Dataset(
        name=known.name,
        class_names=class_names,
        train=train,
        validation=test,
        whole_train=train,
        fingerprint=_fingerprint(train, test),
        where="the package itself" if known.name == EMBEDDED else f"{found.path} ({found.source})",
    )


def _download(
    known: KnownDataset, data_dir: Path | None, *, allowed: bool, report: Report, damaged: Sequence[str] = ()
) -> Path:
    if not allowed:
        raise _missing(known, data_dir, "downloads are off (--offline)", damaged)
    try:
        # Its HTTP library takes longer to import than NumPy, and most runs download nothing.
        from kerascnn.data import fetch

        return fetch.fetch(known, report=report)
    except DatasetError as error:
        raise _missing(known, data_dir, str(error), damaged) from None


def _unpacked(known: KnownDataset, archive: locate.Found, report: Report) -> locate.Found:
    """A published archive, checked and extracted into the cache."""
    report(f"{known.name}: extracting {archive.path}")
    from kerascnn.data import fetch

    return locate.Found(fetch.unpack(known, archive.path), archive.source)


def _missing(known: KnownDataset, data_dir: Path | None, reason: str, damaged: Sequence[str]) -> DatasetError:
    looked = "\n".join(f"  {place.path} ({place.source})" for place in locate.search_places(data_dir))
    broken = "".join(f"Found damaged\n  {error}\n" for error in damaged)
    had = "\n".join(f"  {file.mirrors[0]}" for file in known.files)
    return DatasetError(
        f"{known.name} is not on this machine and could not be had: {reason}\n"
        f"{broken}Looked for in\n{looked}\nIt can be had from\n{had}\n"
        f"and put anywhere that --data-dir or KERASCNN_DATA names. Without it: --dataset {EMBEDDED}"
    )


def _read_cifar(known: KnownDataset, folder: Path) -> tuple[ArrayImages, ArrayImages, tuple[str, ...]]:
    ten = known.layout == "cifar10"
    classes, key = (10, b"labels") if ten else (100, b"fine_labels")
    train_files = [f"data_batch_{n}" for n in range(1, 6)] if ten else ["train"]
    pixels = np.empty((known.train_images, *known.shape), np.uint8)
    per_file = known.train_images // len(train_files)
    labels = [
        read_cifar_batch(folder / name, pixels[n * per_file : (n + 1) * per_file], key, classes)
        for n, name in enumerate(train_files)
    ]
    test = np.empty((known.test_images, *known.shape), np.uint8)
    test_labels = read_cifar_batch(folder / ("test_batch" if ten else "test"), test, key, classes)
    names = known.class_names or read_cifar_class_names(folder / "meta", b"fine_label_names", classes)
    return ArrayImages(pixels, np.concatenate(labels)), ArrayImages(test, test_labels), names


def _read_idx_files(known: KnownDataset, folder: Path) -> tuple[ArrayImages, ArrayImages, tuple[str, ...]]:
    def split(prefix: str, count: int) -> ArrayImages:
        images = locate.stored_file(folder, f"{prefix}-images-idx3-ubyte")
        labels_file = locate.stored_file(folder, f"{prefix}-labels-idx1-ubyte")
        pixels = read_idx(images, (count, *known.shape[:2]))
        labels = read_idx(labels_file, (count,)).astype(np.int64)
        _check_labels(labels, len(known.class_names), labels_file)
        return ArrayImages(pixels[..., None], labels)

    return split("train", known.train_images), split("t10k", known.test_images), known.class_names


def _read_keras_mnist(known: KnownDataset, folder: Path) -> tuple[ArrayImages, ArrayImages, tuple[str, ...]]:
    return _read_archive(known, folder / locate.KERAS_MNIST)


def _read_archive(known: KnownDataset, path: Path) -> tuple[ArrayImages, ArrayImages, tuple[str, ...]]:
    train, test = known.train_images, known.test_images
    side = known.shape[:2]
    arrays = read_npz(
        path, {"x_train": (train, *side), "y_train": (train,), "x_test": (test, *side), "y_test": (test,)}
    )
    splits = []
    for split in ("train", "test"):
        labels = arrays[f"y_{split}"].astype(np.int64)
        _check_labels(labels, len(known.class_names), path)
        splits.append(ArrayImages(arrays[f"x_{split}"][..., None], labels))
    return splits[0], splits[1], known.class_names


_READERS = {"cifar10": _read_cifar, "cifar100": _read_cifar, "idx": _read_idx_files, "npz": _read_archive}


def _check_labels(labels: Labels, classes: int, path: Path) -> None:
    if labels.min() < 0 or labels.max() >= classes:
        wrong = int(labels[(labels < 0) | (labels >= classes)][0])
        raise DatasetError(f"{path}: expected labels from 0 to {classes - 1}, got {wrong}")


def _fingerprint(*splits: ArrayImages) -> str:
    digest = hashlib.sha256()
    for split in splits:
        digest.update(np.ascontiguousarray(split.pixels).data)
        digest.update(split.labels.tobytes())
    return digest.hexdigest()


def load_folder(folder: Path, shape: Shape, *, skip_bad: bool = False) -> Dataset:
    """A folder of images, one folder a class: ``train/`` and ``val/`` in it, or all classes at once.

    Without ``val/`` the validation split is empty and has to be held out of the training images.

    Raises:
        DatasetError: as :func:`kerascnn.data.folder.list_folder`.
    """
    listing = list_folder(folder, skip_bad=skip_bad)
    train = FolderImages(listing.train.images, listing.train.labels, shape)
    return Dataset(
        name=f"{FOLDER}:{folder}",
        class_names=listing.class_names,
        train=train,
        validation=FolderImages(listing.validation.images, listing.validation.labels, shape),
        whole_train=train,
        fingerprint=_listing_fingerprint([*listing.train.images, *listing.validation.images], folder),
        where=str(folder),
        notes=list(listing.notes),
    )


def _listing_fingerprint(files: list[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        stat = path.stat()
        line = f"{path.relative_to(root).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        # A name may hold bytes that are no UTF-8.
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def split_off_validation(dataset: Dataset, share: float) -> Dataset:
    """Hold a share of the training images out, the same ones in every run; the second split stays untouched."""
    if not share:
        return dataset
    order = chosen_order(len(dataset.train))
    held = _held_out(len(order), share)
    if held >= len(order):
        raise DatasetError(f"{dataset.name}: a split of {share} leaves none of {len(order)} images for training")
    return replace(
        dataset,
        train=Subset(dataset.train, np.sort(order[held:])),
        validation=Subset(dataset.train, np.sort(order[:held])),
    )


def _held_out(images: int, share: float) -> int:
    return max(1, round(share * images)) if share else 0


def adapt_to(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Adapt images of another shape to the network, and say so in ``notes``.

    Raises:
        DatasetError: the dataset has more classes than the network has logits, or its channels don't fit.
    """
    if len(dataset.class_names) != recipe.classes:
        raise DatasetError(
            f"{dataset.name} has {len(dataset.class_names)} classes and {recipe.name} has {recipe.classes} logits: "
            f"expected classes = {len(dataset.class_names)}"
        )
    said = describe_adaptation(dataset.train.shape, recipe.input_shape)
    if said is None:
        return dataset
    return replace(
        dataset,
        train=AdaptedImages(dataset.train, recipe.input_shape),
        validation=AdaptedImages(dataset.validation, recipe.input_shape),
        notes=[*dataset.notes, f"{dataset.name}: {said}"],
    )


def limit(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Keep only as many images as the recipe's limits say, drawn from all over the split."""
    return replace(
        dataset,
        train=_limited(dataset.train, recipe.train.limit_train),
        validation=_limited(dataset.validation, recipe.train.limit_val),
    )


def _limited(images: Images, count: int | None) -> Images:
    if count is None or count >= len(images):
        return images
    return Subset(images, np.sort(chosen_order(len(images))[:count]))


def chosen_order(count: int) -> Indices:
    """A fixed random order of ``count`` images."""
    return np.random.Generator(np.random.PCG64(CHOICE_SEED)).permutation(count)


def drawn_in_turn(labels: Labels) -> Indices:
    """The order that limits draw in, changed so that each class comes once before any comes twice."""
    order = chosen_order(len(labels))
    # A class's images stand together here, in the order drawn, so each has its number among them.
    by_class = np.argsort(labels[order], kind="stable")
    _, starts, counts = np.unique(labels[order][by_class], return_index=True, return_counts=True)
    turn = np.empty(len(labels), np.int64)
    turn[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)
    return order[np.argsort(turn, kind="stable")]


def classes_of(name: str) -> int | None:
    """How many classes a dataset has, where that is known without reading it.

    Raises:
        UsageError: the name of a folder without its path, or with one in the home of nobody.
        DatasetError: as :func:`kerascnn.data.folder.classes_in`.
    """
    if name in DATASETS:
        return len(DATASETS[name].class_names) or 100
    if name.startswith(f"{FOLDER}:"):
        names = classes_in(folder_path(name))
        return None if names is None else len(names)
    return None


def count_train_images(name: str, val_split: float) -> int:
    """How many images there are to train on, beside those that are held out for validation; nothing is decoded.

    Raises:
        UnknownNameError: no dataset has this name.
        UsageError: the name of a folder without its path, or with one in the home of nobody.
        DatasetError: as :func:`kerascnn.data.folder.list_folder`.
    """
    if is_folder(name):
        listing = list_folder(folder_path(name))
        images = len(listing.train.images)
        val_split = val_split or (0.0 if listing.validation.images else DEFAULT_VAL_SPLIT)
    else:
        images = known_dataset(name).train_images
    return images - _held_out(images, val_split)


def folder_size(path: Path) -> int:
    """Bytes in a file or in all files of a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for root, _, names in os.walk(path) for entry in (Path(root) / n for n in names))
