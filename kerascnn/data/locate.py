"""Where a dataset lies on this machine, looked for in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import platformdirs

from kerascnn.data.known import DATASETS, EMBEDDED, KnownDataset
from kerascnn.errors import UsageError, brief

SAMPLE = Path(__file__).parent / "sample" / "fashion_mnist_mini.npz"
SYSTEM_DATASETS = Path("/usr/share/datasets")
KERAS_MNIST = "mnist.npz"
DATA_DIR = "--data-dir"


class Place(NamedTuple):
    """A folder that datasets are looked for in, and what it is called in messages."""

    source: str
    path: Path
    is_ours: bool = True
    """Named by the user, or our own cache; else another program fills it."""


@dataclass(frozen=True)
class Found:
    """A folder (or the embedded file) that holds a dataset, and whose it is."""

    path: Path
    source: str
    is_keras_mnist: bool = False
    """It is Keras's ``mnist.npz`` in this folder."""
    is_archive: bool = False
    """It is a published archive that has to be extracted."""
    is_ours: bool = True
    """As its :class:`Place`."""


def cache_folder() -> Path:
    """Where downloads and computed constants are kept: ``$KERASCNN_CACHE``, else the user's cache folder."""
    return _named_folder("KERASCNN_CACHE") or platformdirs.user_cache_path("kerascnn")


def download_folder() -> Path:
    """Where ``kerascnn data fetch`` puts a dataset: ``$KERASCNN_DATA``, else inside the cache."""
    return _named_folder("KERASCNN_DATA") or cache_folder() / "datasets"


def _named_folder(variable: str) -> Path | None:
    """The folder that an environment variable names.

    Raises:
        UsageError: it is in the home of nobody.
    """
    named = os.environ.get(variable)
    try:
        return Path(named).expanduser() if named else None
    except RuntimeError:
        raise UsageError(f"{variable}: expected a folder, got {brief(named)}, whose home is unknown") from None


def check_data_dir(data_dir: Path | None) -> None:
    """Refuse a folder to look into that isn't there.

    Raises:
        UsageError: it isn't.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UsageError(f"--data-dir: expected a folder at {data_dir}, and there is none")


def search_places(data_dir: Path | None) -> list[Place]:
    """The places in the order in which they are looked through."""
    check_data_dir(data_dir)
    places: list[Place] = []
    if data_dir is not None:
        places.append(Place(DATA_DIR, data_dir))
    if (named := _named_folder("KERASCNN_DATA")) is not None:
        places.append(Place("KERASCNN_DATA", named))
    places.append(Place("cache", cache_folder() / "datasets"))
    keras_home = os.environ.get("KERAS_HOME")
    keras_datasets = (Path(keras_home) if keras_home else Path.home() / ".keras") / "datasets"
    torch_home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"))
    places.append(Place("Keras's cache", keras_datasets, is_ours=False))
    places.append(Place("torchvision's cache", torch_home / "datasets", is_ours=False))
    places.append(Place("torchvision's ./data", Path("data"), is_ours=False))
    places.append(Place("system", SYSTEM_DATASETS, is_ours=False))
    return places


def find(dataset: KnownDataset, data_dir: Path | None = None) -> Found | None:
    """The first place that holds all of a dataset's files, or None."""
    return find_in(search_places(data_dir), dataset)


def find_in(places: Iterable[Place], dataset: KnownDataset) -> Found | None:
    """The first of some places that holds all of a dataset's files, or None."""
    return next(_folders(places, dataset), None)


def find_archive(dataset: KnownDataset, data_dir: Path | None = None) -> Found | None:
    """A published archive that lies unextracted in one of the places, or None."""
    return find_archive_in(search_places(data_dir), dataset)


def find_archive_in(places: Iterable[Place], dataset: KnownDataset) -> Found | None:
    """A published archive that lies unextracted in one of some places, or None."""
    return next(_archives(places, dataset), None)


def find_all(dataset: KnownDataset, data_dir: Path | None = None) -> Iterator[Found]:
    """Every copy on this machine, in the order in which they are taken: all folders before the first archive."""
    places = search_places(data_dir)
    yield from _folders(places, dataset)
    yield from _archives(places, dataset)


def _folders(places: Iterable[Place], dataset: KnownDataset) -> Iterator[Found]:
    if dataset.name == EMBEDDED:
        yield Found(SAMPLE, "embedded")
        return
    for source, root, is_ours in places:
        folders = [root / folder for folder in dataset.folders]
        if source == DATA_DIR:
            # Whoever names the folder may mean the one with the files in it.
            folders.insert(0, root)
        for folder in folders:
            if is_complete(dataset, folder) and not _belongs_to_another(dataset, folder):
                yield Found(folder, source, is_ours=is_ours)
        if dataset.name == "mnist" and _is_file(root / KERAS_MNIST):
            yield Found(root, source, is_keras_mnist=True, is_ours=is_ours)


def is_complete(dataset: KnownDataset, folder: Path) -> bool:
    """Whether a folder holds all of a dataset's files."""
    return all(_is_file(stored_file(folder, name)) for name in needed_files(dataset))


def _belongs_to_another(dataset: KnownDataset, folder: Path) -> bool:
    """MNIST and Fashion-MNIST have files of the same names; the folder's name tells them apart."""
    others = [name for other in DATASETS.values() if other.name != dataset.name for name in other.folders]
    return any(folder.resolve().as_posix().endswith(f"/{name}") for name in others)


def _archives(places: Iterable[Place], dataset: KnownDataset) -> Iterator[Found]:
    archives = [file for file in dataset.files if file.name.endswith(".tar.gz")]
    for source, root, is_ours in places:
        for file in archives:
            path = root / file.name
            # Another program's download may have broken off, or be under way.
            if _is_file(path) and (is_ours or path.stat().st_size == file.bytes):
                yield Found(path, source, is_archive=True, is_ours=is_ours)


def needed_files(dataset: KnownDataset) -> list[str]:
    """The files that a dataset's folder must hold, IDX files without their ``.gz``."""
    if dataset.layout == "cifar10":
        return [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    if dataset.layout == "cifar100":
        return ["train", "test", "meta"]
    return [file.name.removesuffix(".gz") for file in dataset.files]


def stored_file(folder: Path, name: str) -> Path:
    """The file of this name, or its gzipped form where only that is there."""
    plain = folder / name
    return plain if _is_file(plain) else folder / f"{name}.gz"


def _is_file(path: Path) -> bool:
    """Whether there is a file that this process can see; a home that belongs to another user hides what is in it."""
    with suppress(OSError):
        return path.is_file()
    return False
