"""Downloads: several mirrors, SHA-256, time-out, retry, one process at a time, nothing half-written."""

from __future__ import annotations

import logging
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import filelock
import pooch
import requests

from kerascnn.data.known import KnownDataset, RemoteFile
from kerascnn.data.locate import KERAS_MNIST, Found, download_folder, is_complete, needed_files, stored_file
from kerascnn.errors import DatasetError, system_error
from kerascnn.runs.files import write_atomically

TIMEOUT_S = 30
ATTEMPTS_PER_MIRROR = 2

Report = Callable[[str], None]

# Who fetches is told by `report`.
pooch.get_logger().setLevel(logging.ERROR)


def fetch(dataset: KnownDataset, folder: Path | None = None, *, report: Report = lambda _: None) -> Path:
    """Download a dataset into ``folder`` (by default the cache) and return the folder that holds its files.

    ``$KERASCNN_MIRROR``, a URL under which the files lie by their published names, is tried before the public mirrors:
    a classroom's own server.

    Raises:
        DatasetError: no mirror delivered a file with the published SHA-256.
    """
    root = folder or download_folder()
    target = root / dataset.folders[0]
    try:
        with _one_process(dataset, root):
            if is_complete(dataset, target):
                return target
            if dataset.layout == "idx":
                target.mkdir(parents=True, exist_ok=True)
                for file in dataset.files:
                    download(file, target, report=report)
            else:
                (file,) = dataset.files
                is_the_users = (root / file.name).exists()
                archive = download(file, root, report=report)
                extract(archive, target)
                if not is_the_users:
                    archive.unlink()
    except OSError as error:
        raise DatasetError(f"{root}: can't store {dataset.name}: {error.strerror or error}") from None
    return target


def unpack(dataset: KnownDataset, archive: Path, folder: Path | None = None) -> Path:
    """Extract a published archive that lies on disk into ``folder`` (by default the cache), after a look at its hash.

    Raises:
        DatasetError: the archive isn't what was published, or the cache can't be written.
    """
    root = folder or download_folder()
    target = root / dataset.folders[0]
    try:
        with _one_process(dataset, root):
            if not is_complete(dataset, target):
                check_sha256(archive, dataset.files[0])
                extract(archive, target)
    except OSError as error:
        raise DatasetError(f"{root}: can't store {dataset.name}: {error.strerror or error}") from None
    return target


def copy(dataset: KnownDataset, found: Found, folder: Path) -> Path:
    """Copy a dataset that lies elsewhere into ``folder`` and return the folder that holds its files.

    Raises:
        DatasetError: it can't be read or written.
    """
    target = folder if found.is_keras_mnist else folder / dataset.folders[0]
    names = [KERAS_MNIST] if found.is_keras_mnist else needed_files(dataset)
    try:
        with _one_process(dataset, folder):
            target.mkdir(parents=True, exist_ok=True)
            for file in (stored_file(found.path, name) for name in names):
                write_atomically(target / file.name, partial(shutil.copyfile, file))
    except OSError as error:
        raise DatasetError(f"{folder}: can't store {dataset.name}: {system_error(error)}") from None
    return target


def _one_process(dataset: KnownDataset, root: Path) -> filelock.BaseFileLock:
    root.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(root / f".{dataset.name}.lock")


def download(file: RemoteFile, folder: Path, *, report: Report = lambda _: None) -> Path:
    """Download one file, from the first mirror that delivers what was published.

    Raises:
        DatasetError: with what each mirror said.
    """
    own = os.environ.get("KERASCNN_MIRROR")
    mirrors = [f"{own.rstrip('/')}/{file.name}"] if own else []
    mirrors += file.mirrors
    said = []
    for url in mirrors:
        report(f"{file.name}: {file.bytes / 1e6:.1f} MB from {url}")
        try:
            return _retrieve(url, file, folder)
        except requests.exceptions.RequestException as error:
            said.append(f"{url}: {_reason(error)}")
        except ValueError:
            said.append(f"{url}: what it sent doesn't have the published SHA-256")
    raise DatasetError(f"{file.name} could not be downloaded:\n  " + "\n  ".join(said))


def _retrieve(url: str, file: RemoteFile, folder: Path) -> Path:
    """One mirror, tried again after a break of the connection or a time-out."""
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_S, progressbar=False)
    for attempt in range(1, ATTEMPTS_PER_MIRROR + 1):
        try:
            # pooch writes under a temporary name, checks the hash and only then moves the file into place.
            return Path(
                pooch.retrieve(url, f"sha256:{file.sha256}", fname=file.name, path=folder, downloader=downloader)
            )
        except requests.exceptions.HTTPError:
            raise
        except requests.exceptions.RequestException:
            if attempt == ATTEMPTS_PER_MIRROR:
                raise
    raise AssertionError("the last attempt returns or raises")


def check_sha256(path: Path, file: RemoteFile) -> None:
    """Hold a file that lies on disk to its published hash.

    Raises:
        DatasetError: with the expected and the found hash.
    """
    found = pooch.file_hash(str(path), alg="sha256")
    if found != file.sha256:
        raise DatasetError(f"{path}: expected SHA-256 {file.sha256}, got {found}: the file is damaged")


def extract(archive: Path, target: Path) -> None:
    """Extract an archive whose one folder is named like ``target``, whole or not at all.

    Links, devices and paths that leave the folder are refused.

    Raises:
        DatasetError: the archive is damaged or doesn't hold that folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(workplace, filter="data")
        if not (workplace / target.name).is_dir():
            raise DatasetError(f"{archive}: expected a folder {target.name} in it")
        if target.is_dir():
            # An incomplete one, from elsewhere: set aside rather than mixed with.
            target.replace(Path(tempfile.mkdtemp(prefix=f"{target.name}.incomplete-", dir=target.parent)) / target.name)
        (workplace / target.name).replace(target)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DatasetError(f"{archive}: expected an archive of {target.name}: {error}") from None
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _reason(error: requests.exceptions.RequestException) -> str:
    if isinstance(error, requests.exceptions.Timeout):
        return f"no answer within {TIMEOUT_S} s"
    if isinstance(error, requests.exceptions.HTTPError):
        return f"HTTP {error.response.status_code}" if error.response is not None else str(error)
    if isinstance(error, requests.exceptions.ConnectionError):
        return "no connection"
    return type(error).__name__
