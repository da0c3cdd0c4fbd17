"""Datasets: read exactly, found in order, fetched safely, refused when they are damaged."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kerascnn.catalog import load_recipe
from kerascnn.cli import app
from kerascnn.data import batches, fetch, formats, locate
from kerascnn.data import dataset as datasets
from kerascnn.data.images import ArrayImages, FolderImages, Subset, adapt, describe_adaptation, open_image
from kerascnn.data.known import DATASETS, KnownDataset, RemoteFile
from kerascnn.data.pickles import restricted_pickle
from kerascnn.data.statistics import PixelStatistics, compute_statistics, constants_of, pixel_statistics
from kerascnn.errors import DatasetError, UnknownNameError, UsageError
from kerascnn.training.inference import as_input
from tests.conftest import GIVE_UP_S, OWN_CATALOG, write_image_folder


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, known: KnownDataset, *, compress: bool) -> dict[str, np.ndarray]:
    """A dataset of random images in IDX files."""
    random = np.random.default_rng(1)
    folder.mkdir(parents=True)
    arrays = {}
    for prefix, count in (("train", known.train_images), ("t10k", known.test_images)):
        arrays[f"{prefix}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = random.integers(0, 10, count, dtype=np.uint8)
    for name, array in arrays.items():
        content = idx(array)
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / name).write_bytes(content)
    return arrays


class Python2Pickler(pickle._Pickler):
    """Pickle as the published files are: byte strings of Python 2, NumPy's old module name."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012 - as pickle has it

    def save_bytes(self, obj: bytes) -> None:
        self.write(pickle.BINSTRING + len(obj).to_bytes(4, "little") + obj)
        self.memoize(obj)

    dispatch[bytes] = save_bytes

    def save_global(self, obj: object, name: str | None = None) -> None:
        if getattr(obj, "__name__", "") == "_reconstruct":
            self.write(pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n")
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch[type(lambda: 0)] = save_global
    dispatch[type(len)] = save_global


def write_pickle(path: Path, content: object, *, python2: bool = True) -> None:
    with path.open("wb") as file:
        (Python2Pickler(file, protocol=2) if python2 else pickle.Pickler(file)).dump(content)


@pytest.fixture
def small_cifar() -> KnownDataset:
    return replace(DATASETS["cifar10"], train_images=50, test_images=10)


def write_cifar(folder: Path, known: KnownDataset, *, python2: bool = True) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True)
    random = np.random.default_rng(2)
    planes = {}
    for n in range(1, 7):
        name = f"data_batch_{n}" if n < 6 else "test_batch"
        planes[name] = random.integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)
        content = {b"data": planes[name].reshape(10, 3072), b"labels": [int(k) for k in range(10)]}
        write_pickle(folder / name, content, python2=python2)
    return planes


# ── Formats ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("compress", [True, False])
def test_idx_files_are_read_exactly(compress: bool, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    path = tmp_path / ("a.gz" if compress else "a")
    path.write_bytes(gzip.compress(idx(array)) if compress else idx(array))
    assert np.array_equal(formats.read_idx(path, (7, 5, 3)), array)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (idx(np.zeros((7, 5)))[:-1], "expected 47 bytes, got 46"),
        (idx(np.zeros((7, 5))) + b"x", "got more"),
        (idx(np.zeros((7, 6))), "expected the shape (7, 5), got (7, 6)"),
        (idx(np.zeros(35)), "2 dimensions"),
        (b"", "2 dimensions"),
        (b"\0\0\x08\x02\0\0", "expected the shape (7, 5), got ()"),
    ],
)
def test_a_damaged_idx_file_is_named_with_what_was_expected(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        formats.read_idx(path, (7, 5))
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_truncated_gzip_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (50, 50))))[:-200])
    with pytest.raises(DatasetError, match=r"images\.gz"):
        formats.read_idx(path, (50, 50))


@pytest.mark.parametrize("python2", [True, False])
def test_cifar_planes_become_channels_last_images(python2: bool, small_cifar: KnownDataset, tmp_path: Path) -> None:
    planes = write_cifar(tmp_path / "cifar-10-batches-py", small_cifar, python2=python2)
    loaded = datasets.load_known(small_cifar, data_dir=tmp_path)
    assert loaded.train.read(np.array([0])).shape == (1, 32, 32, 3)
    third = planes["data_batch_3"]
    assert np.array_equal(loaded.train.read(np.arange(20, 30)), third.transpose(0, 2, 3, 1))
    assert np.array_equal(loaded.validation.read(np.arange(10)), planes["test_batch"].transpose(0, 2, 3, 1))
    assert loaded.train.labels[20:30].tolist() == list(range(10))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({b"data": np.zeros((10, 3071), np.uint8), b"labels": [0] * 10}, "expected bytes of the shape (10, 3072)"),
        ({b"data": np.zeros((9, 3072), np.uint8), b"labels": [0] * 9}, "(10, 3072)"),
        ({b"data": np.zeros((10, 3072), np.float32), b"labels": [0] * 10}, "(10, 3072)"),
        ({b"data": np.zeros((10, 3072), np.uint8), b"labels": [0] * 9 + [10]}, "labels from 0 to 9, got 10"),
        ({b"data": np.zeros((10, 3072), np.uint8), b"labels": [0] * 9 + [-1]}, "labels from 0 to 9, got -1"),
        ({b"data": np.zeros((10, 3072), np.uint8), b"labels": [0] * 9}, "expected 10 whole numbers"),
        ({b"data": np.zeros((10, 3072), np.uint8)}, "expected 10 whole numbers"),
        ({b"data": "pixels", b"labels": [0] * 10}, "expected an array"),
        ([1, 2, 3], "expected a dictionary"),
    ],
)
def test_a_cifar_batch_of_the_wrong_kind_is_refused(content: object, said: str, tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1"
    write_pickle(path, content, python2=False)
    with pytest.raises(DatasetError) as caught:
        formats.read_cifar_batch(path, np.empty((10, 32, 32, 3), np.uint8), b"labels", 10)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "data_batch_1"
    write_pickle(path, {b"data": Malicious(trace)}, python2=False)
    with pytest.raises(DatasetError, match="which is not data"):
        restricted_pickle(path)
    assert not trace.exists()


def test_a_pickle_with_a_huge_memo_index_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x02K\x01r\xff\xff\xff\x7f.")
    assert restricted_pickle(path) == 1


def test_a_truncated_pickle_is_refused(small_cifar: KnownDataset, tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar-10-batches-py", small_cifar)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(
        DatasetError, match=r"data_batch_2: expected a pickle.*; with that file removed, cifar10 is looked"
    ):
        datasets.load_known(small_cifar, data_dir=tmp_path)


def test_the_embedded_sample_is_real_balanced_and_small() -> None:
    sample = datasets.load_known(DATASETS["fashion_mnist_mini"])
    assert (len(sample.train), len(sample.validation)) == (6000, 1000)
    assert np.bincount(sample.train.labels).tolist() == [600] * 10
    assert np.bincount(sample.validation.labels).tolist() == [100] * 10
    assert locate.SAMPLE.stat().st_size <= 4_000_000
    assert (locate.SAMPLE.parent / "LICENSE-fashion-mnist").is_file()
    # Trousers and ankle boots differ in a known way: boots are wider than they are high.
    pixels, labels = sample.train.read(np.arange(6000)), sample.train.labels
    assert pixels[labels == 1].mean(axis=(0, 3))[:, :4].mean() < 5
    assert pixels[labels == 9].mean(axis=(0, 3))[15:25, :4].mean() > 20


# ── Where data lies ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_places_are_searched_in_the_documented_order(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_cifar: KnownDataset
) -> None:
    monkeypatch.setenv("KERASCNN_DATA", str(tmp_path / "named"))
    (tmp_path / "mine").mkdir()
    roots = [
        ("--data-dir", tmp_path / "mine"),
        ("KERASCNN_DATA", tmp_path / "named"),
        ("cache", own_home / "cache" / "datasets"),
        ("Keras's cache", own_home / "keras" / "datasets"),
        ("torchvision's cache", own_home / ".cache" / "torch" / "datasets"),
        ("torchvision's ./data", tmp_path / "data"),
    ]
    for source, root in reversed(roots):
        write_cifar(root / "cifar-10-batches-py", small_cifar)
        found = locate.find(small_cifar, tmp_path / "mine")
        assert found is not None
        assert found.source == source
        assert found.path.resolve() == (root / "cifar-10-batches-py").resolve()


def test_a_data_dir_may_be_the_folder_of_the_files_itself(small_cifar: KnownDataset, tmp_path: Path) -> None:
    write_cifar(tmp_path / "anything", small_cifar)
    found = locate.find(small_cifar, tmp_path / "anything")
    assert found is not None
    assert found.path == tmp_path / "anything"


def test_torchvisions_and_debians_fashion_mnist_are_found(own_home: Path) -> None:
    small = replace(DATASETS["fashion_mnist"], train_images=20, test_images=5)
    write_mnist(own_home / "system" / "fashion-mnist", small, compress=True)
    assert datasets.load_known(small).where.endswith("(system)")
    arrays = write_mnist(own_home / ".cache" / "torch" / "datasets" / "FashionMNIST" / "raw", small, compress=False)
    loaded = datasets.load_known(small)
    assert "torchvision" in loaded.where
    assert np.array_equal(loaded.train.read(np.arange(20))[..., 0], arrays["train-images-idx3-ubyte"])


def test_labels_out_of_range_in_an_idx_file_are_refused(tmp_path: Path) -> None:
    small = replace(DATASETS["mnist"], train_images=20, test_images=5)
    write_mnist(tmp_path / "mnist", small, compress=False)
    (tmp_path / "mnist" / "train-labels-idx1-ubyte").write_bytes(idx(np.full(20, 11)))
    with pytest.raises(DatasetError, match="labels from 0 to 9, got 11"):
        datasets.load_known(small, data_dir=tmp_path)


def test_a_missing_dataset_offline_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        datasets.load_known(DATASETS["cifar10"], data_dir=tmp_path, download=False)
    said = str(caught.value)
    assert str(tmp_path) in said
    assert "cs.toronto.edu" in said
    assert "--dataset fashion_mnist_mini" in said


def test_a_place_that_cannot_be_looked_into_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As another user's home in a container. A name too long for the system fails likewise, for root too."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / ("x" * 300)))
    small = replace(DATASETS["fashion_mnist"], train_images=20, test_images=5)
    write_mnist(locate.SYSTEM_DATASETS / "fashion-mnist", small, compress=False)
    found = locate.find(small)
    assert found is not None
    assert found.source == "system"
    assert locate.find_archive(DATASETS["cifar10"]) is None


def test_an_unknown_dataset_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cifar10'"):
        datasets.require("cifar-10", None, download=True)


def test_a_folder_that_is_named_as_a_dataset_is_suggested_as_one_of_images(tmp_path: Path) -> None:
    (tmp_path / "mnist2").mkdir()
    with pytest.raises(UnknownNameError, match=re.escape("got 'mnist2'; did you mean 'folder:mnist2'?")):
        datasets.require("mnist2", None, download=False)


def test_a_damaged_copy_of_another_program_is_passed_over_and_told_of(own_home: Path, tmp_path: Path) -> None:
    small = replace(DATASETS["fashion_mnist"], train_images=20, test_images=5)
    keras_copy = own_home / "keras" / "datasets" / "fashion-mnist"
    write_mnist(keras_copy, small, compress=True)
    damaged = keras_copy / "t10k-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    said: list[str] = []
    with pytest.raises(
        DatasetError, match=f"(?s)offline.*Found damaged.*{re.escape(str(damaged))}: expected an IDX file"
    ):
        datasets.load_known(small, download=False, report=said.append)
    assert len(said) == 1
    assert str(damaged) in said[0]
    write_mnist(tmp_path / "data" / "FashionMNIST" / "raw", small, compress=False)
    said.clear()
    assert datasets.load_known(small, download=False, report=said.append).where.endswith("(torchvision's ./data)")
    assert [str(damaged) in line for line in said] == [True]
    with pytest.raises(DatasetError, match="with that file removed, fashion_mnist is looked for elsewhere"):
        datasets.load_known(small, data_dir=keras_copy)


# ── Downloads, from a real server on the loopback address ─────────────────────────────────────────────────────────────


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content`` by path; ``requests`` remembers what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.truncated: set[str] = set()
        self.requests: list[str] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        content = self.server.content.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path in self.server.truncated else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def remote(content: bytes, *urls: str, name: str = "file.bin") -> RemoteFile:
    return RemoteFile(name, len(content), hashlib.sha256(content).hexdigest(), urls)


def test_a_download_goes_to_the_next_mirror_until_the_hash_is_right(server: Server, tmp_path: Path) -> None:
    good = b"pixels" * 1000
    server.content |= {"/wrong": b"other", "/cut": good, "/good": good}
    server.truncated.add("/cut")
    file = remote(good, server.url("/gone"), server.url("/wrong"), server.url("/cut"), server.url("/good"))
    path = fetch.download(file, tmp_path / "data")
    assert path.read_bytes() == good
    assert list(path.parent.iterdir()) == [path]
    assert server.requests[0] == "/gone"
    assert server.requests[-1] == "/good"


def test_a_download_that_fails_everywhere_says_why_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.content |= {"/wrong": b"other", "/cut": b"pixels" * 100}
    server.truncated.add("/cut")
    urls = [server.url("/gone"), server.url("/wrong"), server.url("/cut"), "http://127.0.0.1:1/nobody"]
    with pytest.raises(DatasetError) as caught:
        fetch.download(remote(b"pixels", *urls), tmp_path / "data")
    said = str(caught.value)
    assert "HTTP 404" in said
    assert "published SHA-256" in said
    assert said.count("no connection") >= 1
    assert list((tmp_path / "data").iterdir()) == []


def test_an_own_mirror_is_asked_first(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content["/class/file.bin"] = b"pixels"
    monkeypatch.setenv("KERASCNN_MIRROR", server.url("/class"))
    fetch.download(remote(b"pixels", server.url("/public")), tmp_path)
    assert server.requests == ["/class/file.bin"]


def archive_of(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, folder.name)
    return buffer.getvalue()


@pytest.fixture
def served_cifar(server: Server, small_cifar: KnownDataset, tmp_path: Path) -> KnownDataset:
    write_cifar(tmp_path / "origin" / "cifar-10-batches-py", small_cifar)
    content = archive_of(tmp_path / "origin" / "cifar-10-batches-py")
    server.content["/cifar-10-python.tar.gz"] = content
    file = remote(content, server.url("/cifar-10-python.tar.gz"), name="cifar-10-python.tar.gz")
    return replace(small_cifar, files=(file,))


def test_a_missing_dataset_is_fetched_once_and_then_found(server: Server, served_cifar: KnownDataset) -> None:
    first = datasets.load_known(served_cifar)
    second = datasets.load_known(served_cifar)
    assert "downloaded" in first.where
    assert "cache" in second.where
    assert first.fingerprint == second.fingerprint
    assert server.requests == ["/cifar-10-python.tar.gz"]


def test_two_processes_fetch_a_dataset_once(server: Server, served_cifar: KnownDataset, tmp_path: Path) -> None:
    program = tmp_path / "fetch_it.py"
    file = served_cifar.files[0]
    program.write_text(
        "from dataclasses import replace\n"
        "from kerascnn.data.known import DATASETS, RemoteFile\n"
        "from kerascnn.data.fetch import fetch\n"
        f"file = RemoteFile({file.name!r}, {file.bytes}, {file.sha256!r}, {file.mirrors!r})\n"
        "print(fetch(replace(DATASETS['cifar10'], files=(file,))))\n"
    )
    both = [subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = {process.communicate(timeout=GIVE_UP_S)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(printed) == 1
    assert len(server.requests) == 1


def test_an_archive_of_the_users_own_is_taken_and_stays(
    served_cifar: KnownDataset, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "cifar10", served_cifar)
    folder = tmp_path / "downloads"
    folder.mkdir()
    archive = folder / "cifar-10-python.tar.gz"
    archive.write_bytes(server.content["/cifar-10-python.tar.gz"])
    done = CliRunner().invoke(app, ["data", "fetch", "cifar10", "--data-dir", str(folder)])
    assert done.exit_code == 0, done.output
    assert Path(done.stdout.strip()) == folder / "cifar-10-batches-py"
    assert archive.is_file()
    assert fetch.fetch(served_cifar, folder) == folder / "cifar-10-batches-py"
    shutil.rmtree(folder / "cifar-10-batches-py")
    fetch.fetch(served_cifar, folder)
    assert archive.is_file()
    assert server.requests == []


def test_a_dataset_that_lies_elsewhere_is_copied_where_it_is_to_be(
    own_home: Path, small_cifar: KnownDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "cifar10", small_cifar)
    cached = own_home / "cache" / "datasets" / "cifar-10-batches-py"
    write_cifar(cached, small_cifar)
    (cached / "readme.html").write_text("no part of it")
    first, second = (
        CliRunner().invoke(app, ["data", "fetch", "cifar10", "--data-dir", str(tmp_path / "stick")]) for _ in range(2)
    )
    target = tmp_path / "stick" / "cifar-10-batches-py"
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert "copying" in first.stderr
    assert "here already (--data-dir)" in second.stderr
    assert [Path(done.stdout.strip()) for done in (first, second)] == [target, target]
    assert {path.name for path in target.iterdir()} == set(locate.needed_files(small_cifar))
    assert all(path.read_bytes() == (cached / path.name).read_bytes() for path in target.iterdir())


def test_an_archive_that_lies_elsewhere_is_unpacked_where_the_dataset_is_to_be(
    served_cifar: KnownDataset, server: Server, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "cifar10", served_cifar)
    (own_home / "cache" / "datasets").mkdir(parents=True)
    archive = own_home / "cache" / "datasets" / "cifar-10-python.tar.gz"
    archive.write_bytes(server.content["/cifar-10-python.tar.gz"])
    done = CliRunner().invoke(app, ["data", "fetch", "cifar10", "--data-dir", str(tmp_path / "stick")])
    assert done.exit_code == 0, done.output
    assert locate.is_complete(served_cifar, tmp_path / "stick" / "cifar-10-batches-py")
    assert server.requests == []


def test_kerass_mnist_is_copied_too(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = own_home / "keras" / "datasets"
    folder.mkdir(parents=True)
    (folder / locate.KERAS_MNIST).write_bytes(b"pixels")
    done = CliRunner().invoke(app, ["data", "fetch", "mnist", "--data-dir", str(tmp_path / "stick")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "stick" / locate.KERAS_MNIST).read_bytes() == b"pixels"
    assert locate.find(DATASETS["mnist"], tmp_path / "stick").source == "--data-dir"


def test_where_nothing_is_fetched_no_folder_is_made(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", "fetch", "fashion_mnist_mini", "--data-dir", str(tmp_path / "stick")])
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "stick").exists()


def test_a_damaged_archive_of_another_program_is_passed_over(
    served_cifar: KnownDataset, server: Server, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = server.content["/cifar-10-python.tar.gz"]
    (tmp_path / "data").mkdir()
    archive = tmp_path / "data" / "cifar-10-python.tar.gz"
    # A download that has broken off is no archive to anybody.
    archive.write_bytes(content[: len(content) // 2])
    monkeypatch.setitem(DATASETS, "cifar10", served_cifar)
    done = CliRunner().invoke(app, ["data", "fetch", "cifar10"])
    assert done.exit_code == 0, done.output
    assert server.requests == ["/cifar-10-python.tar.gz"]
    shutil.rmtree(own_home / "cache")
    archive.write_bytes(content[:-4] + b"spot")
    said: list[str] = []
    assert "downloaded" in datasets.load_known(served_cifar, report=said.append).where
    assert any(f"{Path('data') / archive.name}: expected SHA-256" in line for line in said)
    assert len(server.requests) == 2


def test_a_published_archive_that_lies_about_is_used_if_its_hash_is_right(
    served_cifar: KnownDataset, server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    archive = folder / "cifar-10-python.tar.gz"
    content = server.content["/cifar-10-python.tar.gz"]
    archive.write_bytes(content[:-100])
    with pytest.raises(DatasetError, match=r"expected SHA-256 .*the file is damaged; remove it"):
        datasets.load_known(served_cifar, data_dir=folder)
    archive.write_bytes(content)
    assert len(datasets.load_known(served_cifar, data_dir=folder).train) == 50
    assert server.requests == []


@pytest.mark.parametrize("name", ["../outside", "/tmp/kerascnn-outside", "cifar-10-batches-py/../../outside"])
def test_an_archive_that_climbs_out_of_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    target = tmp_path / "deep" / "er" / "cifar-10-batches-py"
    with pytest.raises(DatasetError):
        fetch.extract(archive, target)
    assert not list(tmp_path.rglob("outside"))
    assert not Path("/tmp/kerascnn-outside").exists()
    assert not target.exists()


def test_an_archive_with_a_link_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("cifar-10-batches-py")
        member.type = tarfile.SYMTYPE
        member.linkname = "/etc"
        tar.addfile(member)
    with pytest.raises(DatasetError):
        fetch.extract(archive, tmp_path / "cifar-10-batches-py")


# ── Folders of images ─────────────────────────────────────────────────────────────────────────────────────────────────


def folder_recipe(path: Path, **changes: object) -> object:
    overrides = {"dataset": f"folder:{path}", "classes": 2, "input_shape": [16, 16, 3], **changes}
    return load_recipe("tiny", overrides, catalog=OWN_CATALOG)


def test_a_divided_folder_is_read_with_its_own_validation_images(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train", images=6)
    write_image_folder(tmp_path / "val", images=3)
    loaded = datasets.load_dataset(folder_recipe(tmp_path))
    assert (len(loaded.train), len(loaded.validation)) == (12, 6)
    assert loaded.class_names == ("class0", "class1")
    pixels = loaded.train.read(np.arange(12))
    assert pixels.shape == (12, 16, 16, 3)
    # Each class has its own brightness, so labels and pixels belong together.
    assert (pixels.mean(axis=(1, 2, 3)) > 100).astype(int).tolist() == loaded.train.labels.tolist()


def test_an_undivided_folder_holds_a_share_out_and_says_so(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "images", images=10)
    loaded = datasets.load_dataset(folder_recipe(tmp_path / "images"))
    assert (len(loaded.train), len(loaded.validation)) == (18, 2)
    assert "held out" in loaded.notes[0]
    more = datasets.load_dataset(folder_recipe(tmp_path / "images", **{"train.val_split": 0.5}))
    assert (len(more.train), len(more.validation)) == (10, 10)


@pytest.mark.parametrize("share", [0.0, 0.25])
@pytest.mark.parametrize("parts", [["."], ["train"], ["train", "val"]])
def test_a_folders_training_images_are_counted_as_they_are_loaded(
    tmp_path: Path, parts: list[str], share: float
) -> None:
    for part in parts:
        write_image_folder(tmp_path / part, images=13)
    (tmp_path / parts[0] / "class0" / "notes.txt").write_text("no image")
    loaded = datasets.load_dataset(folder_recipe(tmp_path, **{"train.val_split": share}))
    assert datasets.count_train_images(f"folder:{tmp_path}", share) == len(loaded.train)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_known_datasets_training_images_are_counted_as_they_are_loaded(share: float) -> None:
    whole = {"train.val_split": share, "train.limit_train": 6000}
    loaded = datasets.load_dataset(load_recipe("tiny", whole, catalog=OWN_CATALOG))
    assert datasets.count_train_images("fashion_mnist_mini", share) == len(loaded.train)


def test_what_is_not_there_is_not_counted(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cifar10'"):
        datasets.count_train_images("cifar11", 0.0)
    with pytest.raises(DatasetError, match="expected a folder of images"):
        datasets.count_train_images(f"folder:{tmp_path / 'nowhere'}", 0.0)


def test_an_image_whose_name_is_no_utf8_is_an_image(tmp_path: Path) -> None:
    write_image_folder(tmp_path, images=2)
    image = next((tmp_path / "class1").iterdir())
    image.rename(image.with_name(os.fsdecode(b"caf\xe9") + image.suffix))
    loaded = datasets.load_folder(tmp_path, (16, 16, 3))
    assert len(loaded.train) == 4
    assert loaded.train.read(np.arange(4)).shape == (4, 16, 16, 3)


def test_an_image_that_does_not_decode_is_named_or_skipped(tmp_path: Path) -> None:
    write_image_folder(tmp_path, images=3)
    bad = tmp_path / "class1" / "broken.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    strict = datasets.load_folder(tmp_path, (16, 16, 3))
    with pytest.raises(DatasetError, match=r"broken\.jpg: expected a JPEG, PNG or WebP image.*--skip-bad-images"):
        strict.train.read(np.arange(len(strict.train)))
    lenient = datasets.load_folder(tmp_path, (16, 16, 3), skip_bad=True)
    assert (len(strict.train), len(lenient.train)) == (7, 6)
    assert lenient.train.read(np.arange(6)).any(axis=(1, 2, 3)).all()
    assert lenient.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert str(bad) in lenient.notes[0]


def test_a_class_of_which_no_image_decodes_cannot_be_skipped(tmp_path: Path) -> None:
    write_image_folder(tmp_path, images=3)
    for path in (tmp_path / "class1").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match="class1: expected images, and none of its files decodes"):
        datasets.load_folder(tmp_path, (16, 16, 3), skip_bad=True)


def add_class(root: Path, name: str, images: int = 4) -> None:
    write_image_folder(root / "made", classes=1, images=images)
    (root / "made" / "class0").rename(root / name)
    (root / "made").rmdir()


def test_a_class_without_images_is_refused_before_a_run_and_when_it_is_read(tmp_path: Path) -> None:
    write_image_folder(tmp_path)
    (tmp_path / "owl" / "more").mkdir(parents=True)
    for name in ("a.TIF", "b.tif", "notes"):
        (tmp_path / "owl" / name).touch()
    for read in (
        lambda: datasets.load_folder(tmp_path, (16, 16, 3)),
        lambda: datasets.require(f"folder:{tmp_path}", None, download=False),
    ):
        with pytest.raises(DatasetError) as caught:
            read()
        assert str(caught.value) == (
            f"{tmp_path / 'owl'}: expected images that end in .jpg, .jpeg, .png, .webp, "
            "got .tif (2), folders (1), without a suffix (1)"
        )


def test_what_is_left_out_of_a_folder_is_said(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train", images=3)
    write_image_folder(tmp_path / "val", images=3)
    for name in ("train/class0/a.tif", "train/class1/b.tif", "val/class0/Thumbs.db"):
        (tmp_path / name).touch()
    loaded = datasets.load_folder(tmp_path, (16, 16, 3))
    assert (len(loaded.train), len(loaded.validation)) == (6, 6)
    assert [note.partition("are read: ")[2] for note in loaded.notes] == [".tif (2), .db (1)"]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_images_are_found_by_any_of_their_usual_names(name: str, tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train", images=3)
    write_image_folder(tmp_path / name, classes=1, images=2)
    write_image_folder(tmp_path / "test", images=1)
    loaded = datasets.load_folder(tmp_path, (16, 16, 3))
    assert (len(loaded.train), len(loaded.validation)) == (6, 2)
    assert loaded.notes == [f"{tmp_path / 'test'} isn't read: training sees train/ and val/ alone"]


def test_two_folders_of_validation_images_are_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        write_image_folder(tmp_path / name, images=1)
    with pytest.raises(DatasetError, match="expected one folder of validation images, got val/ and valid/"):
        datasets.load_folder(tmp_path, (16, 16, 3))


def test_a_validation_folder_without_classes_is_refused(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train", images=1)
    (tmp_path / "val").mkdir()
    with pytest.raises(DatasetError, match="expected a folder of images for each class, and there is none"):
        datasets.load_folder(tmp_path, (16, 16, 3))


def test_what_systems_hide_in_a_folder_is_no_class_and_no_image(tmp_path: Path) -> None:
    write_image_folder(tmp_path, images=3)
    for name in ("__MACOSX/class0", ".thumbnails"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("__MACOSX/class0/._0.png", "class0/._0.png", "class0/.DS_Store"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    loaded = datasets.load_folder(tmp_path, (16, 16, 3))
    assert loaded.class_names == ("class0", "class1")
    assert loaded.train.read(np.arange(len(loaded.train))).shape == (6, 16, 16, 3)
    assert loaded.notes == []


def test_webp_is_read_whatever_its_name(tmp_path: Path) -> None:
    write_image_folder(tmp_path, images=2)
    for name in ("plain.webp", "alpha.WebP", "renamed.jpg"):
        mode, colour = ("RGBA", (200, 30, 10, 90)) if name.startswith("alpha") else ("RGB", (200, 30, 10))
        Image.new(mode, (20, 20), colour).save(tmp_path / "class1" / name, "WEBP", lossless=True)
    images = datasets.load_folder(tmp_path, (16, 16, 3)).train
    assert len(images) == 7
    pixels = images.read(np.arange(7))
    assert [pixel.tolist() for pixel in pixels[4:, 8, 8]].count([200, 30, 10]) == 3


def test_classes_may_be_called_like_splits(tmp_path: Path) -> None:
    for name in ("boat", "test", "train", "val"):
        add_class(tmp_path, name)
    loaded = datasets.load_folder(tmp_path, (16, 16, 3))
    assert loaded.class_names == ("boat", "test", "train", "val")
    assert (len(loaded.train), len(loaded.validation)) == (16, 0)
    assert datasets.classes_of(f"folder:{tmp_path}") == 4


def test_a_split_may_have_classes_called_like_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("train", "val"):
            add_class(tmp_path / split, name)
    loaded = datasets.load_folder(tmp_path, (16, 16, 3))
    assert loaded.class_names == ("train", "val")
    assert (len(loaded.train), len(loaded.validation)) == (8, 8)


def test_a_train_folder_that_is_a_split_and_a_class_is_refused(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train")
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "preview.png")
    with pytest.raises(DatasetError, match="train: expected images, or a folder of images for each class, got both"):
        datasets.classes_of(f"folder:{tmp_path}")


def test_random_crops_depend_on_their_key_alone(tmp_path: Path) -> None:
    write_image_folder(tmp_path, images=3)
    images = datasets.load_folder(tmp_path, (16, 16, 3)).train

    def crops(order: list[int], seed: int) -> np.ndarray:
        return images.read_random_crops(np.array(order), lambda index: np.random.default_rng([seed, index]))

    assert np.array_equal(crops([0, 1, 2], 1), crops([2, 1, 0], 1)[::-1])
    assert not np.array_equal(crops([0, 1, 2], 1), crops([0, 1, 2], 2))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: (root / "only").mkdir(), "at least two classes, got 1"),
        (lambda root: [(root / name).mkdir() for name in "ab"], "there are none"),
    ],
)
def test_a_folder_without_classes_or_images_is_refused(make: object, said: str, tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    make(root)  # type: ignore[operator]
    with pytest.raises(DatasetError, match=said):
        datasets.load_folder(root, (16, 16, 3))


def test_a_validation_class_that_training_lacks_is_refused(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train")
    write_image_folder(tmp_path / "val", classes=3)
    with pytest.raises(DatasetError, match="'class2'"):
        datasets.load_folder(tmp_path, (16, 16, 3))


def test_a_network_for_folders_asks_for_one() -> None:
    with pytest.raises(UsageError, match="--dataset folder:PATH"):
        datasets.require(load_recipe("vgg16_imagenet").dataset, None, download=True)


def with_orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.mark.parametrize(
    ("number", "lay"),
    [
        (1, lambda upright: upright),
        (2, np.fliplr),
        (3, lambda upright: np.rot90(upright, 2)),
        (4, np.flipud),
        (5, np.transpose),
        (6, np.rot90),
        (7, lambda upright: np.rot90(upright, 2).T),
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_photo_is_upright_however_the_camera_was_held(
    number: int, lay: Callable[[np.ndarray], np.ndarray], suffix: str, tmp_path: Path
) -> None:
    """In training as in prediction. EXIF says on which sides the stored image's first row and column belong."""
    upright = np.kron(np.array([[10, 60, 110], [160, 210, 250]], np.uint8), np.ones((16, 16), np.uint8))
    path = tmp_path / f"photo.{suffix}"
    stored = np.ascontiguousarray(lay(upright))
    Image.fromarray(stored).convert("RGB").save(path, exif=with_orientation(number))
    assert np.abs(np.asarray(open_image(path).convert("L"), int) - upright).max() <= 3
    seen = as_input(path, (32, 32, 3), like_training=False)
    assert np.array_equal(FolderImages([path], np.zeros(1, np.int64), (32, 32, 3)).read(np.array([0]))[0], seen)


@pytest.mark.parametrize("exif", [b"Exif\0\0no TIFF at all", with_orientation(6).tobytes()[:20], with_orientation(9)])
def test_an_image_whose_orientation_cannot_be_read_stays_as_it_lies(exif: bytes | Image.Exif, tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        path = tmp_path / f"photo.{suffix}"
        Image.new("L", (30, 20)).save(path, exif=exif)
        assert open_image(path).size == (30, 20)


# ── Splits, limits, shapes, statistics ────────────────────────────────────────────────────────────────────────────────


def test_a_validation_split_and_limits_take_the_same_images_for_every_seed() -> None:
    def load(seed: int) -> datasets.Dataset:
        changes = {"train.val_split": 0.1, "train.limit_train": 100, "train.limit_val": 30, "train.seed": seed}
        return datasets.load_dataset(load_recipe("tiny", changes, catalog=OWN_CATALOG))

    one, two = load(1), load(2)
    assert (len(one.train), len(one.validation)) == (100, 30)
    assert np.array_equal(one.train.read(np.arange(100)), two.train.read(np.arange(100)))
    # The held-out images come from the training split and are no longer in it.
    whole = one.whole_train.read(np.arange(6000)).reshape(6000, -1)
    held = one.validation.read(np.arange(30)).reshape(30, -1)
    kept = one.train.read(np.arange(100)).reshape(100, -1)
    rows = {row.tobytes() for row in whole}
    assert all(row.tobytes() in rows for row in held)
    assert not {row.tobytes() for row in held} & {row.tobytes() for row in kept}


def test_a_limit_draws_from_all_classes() -> None:
    loaded = datasets.load_dataset(load_recipe("tiny", {"train.limit_train": 200}, catalog=OWN_CATALOG))
    assert np.bincount(loaded.train.labels, minlength=10).min() >= 5


def test_subsets_share_their_pixels() -> None:
    images = ArrayImages(np.zeros((10, 2, 2, 1), np.uint8), np.arange(10))
    chosen = Subset(Subset(images, np.array([9, 3, 5])), np.array([2, 0]))
    assert chosen.labels.tolist() == [5, 9]


def test_small_grey_images_are_padded_by_two_and_their_channel_repeated() -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (3, 28, 28, 1), dtype=np.uint8)
    adapted = adapt(pixels, (32, 32, 3))
    assert np.array_equal(adapted[:, 2:30, 2:30], np.repeat(pixels, 3, axis=3))
    assert adapted.sum() == 3 * pixels.astype(int).sum()
    assert describe_adaptation((28, 28, 1), (32, 32, 3)) == (
        "images of 28×28×1 meet a network for 32×32×3: the grey channel is repeated and padded with black"
    )


def test_an_adaptation_is_said_aloud_and_no_adaptation_is_silent() -> None:
    adapted = datasets.load_dataset(load_recipe("stateful", catalog=OWN_CATALOG))
    assert adapted.train.shape == (32, 32, 3)
    assert "padded with black" in adapted.notes[0]
    assert datasets.load_dataset(load_recipe("tiny", catalog=OWN_CATALOG)).notes == []


@pytest.mark.parametrize(
    ("found", "wanted"),
    [((32, 32, 3), (28, 28, 1)), ((32, 32, 3), (64, 64, 3)), ((28, 28, 1), (224, 224, 3)), ((33, 28, 3), (28, 33, 3))],
)
def test_every_shape_can_be_adapted(found: tuple[int, int, int], wanted: tuple[int, int, int]) -> None:
    pixels = np.full((2, *found), 100, np.uint8)
    adapted = adapt(pixels, wanted)
    assert adapted.shape == (2, *wanted)
    assert adapted.max() == 100


def test_too_many_classes_are_refused() -> None:
    with pytest.raises(DatasetError, match="10 classes and tiny has 7 logits"):
        datasets.load_dataset(load_recipe("tiny", {"classes": 7}, catalog=OWN_CATALOG))


def test_statistics_are_exact_and_over_the_whole_training_split() -> None:
    loaded = datasets.load_dataset(load_recipe("tiny", {"train.limit_train": 10}, catalog=OWN_CATALOG))
    pixels = loaded.whole_train.read(np.arange(6000)).astype(np.float64)
    found = pixel_statistics(loaded.whole_train, loaded.fingerprint)
    assert found.mean == pytest.approx([pixels.mean()], rel=1e-12)
    assert found.deviation == pytest.approx([pixels.std()], rel=1e-10)


def test_statistics_are_computed_once(own_home: Path) -> None:
    images = ArrayImages(np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3), np.zeros(4, np.int64))
    computed = pixel_statistics(images, "abc")
    (kept,) = (own_home / "cache" / "statistics").iterdir()
    kept.write_text(json.dumps({"mean": [1.0], "deviation": [2.0]}))
    assert pixel_statistics(images, "abc") == PixelStatistics([1.0], [2.0])
    kept.write_text("{")
    assert pixel_statistics(images, "abc") == computed == compute_statistics(images)


def test_statistics_need_no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERASCNN_CACHE", str(tmp_path / "file"))
    images = ArrayImages(np.full((2, 4, 4, 1), 7, np.uint8), np.zeros(2, np.int64))
    assert pixel_statistics(images, "abc").mean == [7]


def test_grey_statistics_are_repeated_for_colour_networks() -> None:
    assert PixelStatistics([3.0], [2.0]).for_channels(3) == PixelStatistics([3.0] * 3, [2.0] * 3)


def test_colours_made_grey_are_standardised_as_the_network_sees_them() -> None:
    """Their luma's mean and deviation, which the channels' own don't tell; a network of colours then has its own."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (50, 6, 6, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 2] = pixels[..., 0] // 4, 255 - pixels[..., 1]
    images = ArrayImages(pixels, np.zeros(50, np.int64))
    dataset = datasets.Dataset("colours", ("a", "b"), images, images, images, "abc", "here")

    def constants(channels: int) -> PixelStatistics:
        changes = {"input_shape": [8, 8, channels], "train.scaling": "standardize"}
        found = constants_of(load_recipe("tiny", changes, catalog=OWN_CATALOG), dataset)
        assert found is not None
        return found

    grey = adapt(pixels, (6, 6, 1)).astype(np.float64)
    assert constants(1).mean == pytest.approx([grey.mean()], rel=1e-12)
    assert constants(1).deviation == pytest.approx([grey.std()], rel=1e-10)
    assert constants(3).mean == pytest.approx(pixels.mean(axis=(0, 1, 2)), rel=1e-12)


def test_sixteen_bits_of_grey_keep_their_contrast(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((20, 20), 0x8000, np.uint16)).save(path)
    assert FolderImages([path], np.zeros(1, np.int64), (16, 16, 1)).read(np.array([0])).mean() == 128


def test_a_validation_image_is_the_middle_of_the_resized_one(tmp_path: Path) -> None:
    """The short side to 256/224 of the wanted one, then the middle."""
    pixels = np.zeros((256, 512, 3), np.uint8)
    pixels[:, 256 - 112 : 256 + 112] = 200
    pixels[:16] = pixels[240:] = 90
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    found = FolderImages([tmp_path / "wide.png"], np.zeros(1, np.int64), (224, 224, 3)).read(np.array([0]))
    assert (found == 200).all()


def test_kerass_mnist_is_found(own_home: Path) -> None:
    small = replace(DATASETS["mnist"], train_images=20, test_images=5)
    random = np.random.default_rng(0)
    arrays = {
        "x_train": random.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        "y_train": random.integers(0, 10, 20, dtype=np.uint8),
        "x_test": random.integers(0, 256, (5, 28, 28), dtype=np.uint8),
        "y_test": random.integers(0, 10, 5, dtype=np.uint8),
    }
    folder = own_home / "keras" / "datasets"
    folder.mkdir(parents=True)
    np.savez(folder / "mnist.npz", **arrays)
    loaded = datasets.load_known(small, download=False)
    assert np.array_equal(loaded.train.read(np.arange(20))[..., 0], arrays["x_train"])
    assert loaded.validation.labels.tolist() == arrays["y_test"].tolist()


def test_mnist_is_not_taken_for_fashion_mnist(tmp_path: Path) -> None:
    small = replace(DATASETS["mnist"], train_images=20, test_images=5)
    write_mnist(tmp_path / "MNIST" / "raw", small, compress=False)
    fashion = replace(DATASETS["fashion_mnist"], train_images=20, test_images=5)
    assert locate.find(small, tmp_path / "MNIST" / "raw") is not None
    assert locate.find(fashion, tmp_path / "MNIST" / "raw") is None


def test_an_incomplete_folder_is_set_aside_and_fetched_anew(
    server: Server, served_cifar: KnownDataset, own_home: Path
) -> None:
    incomplete = own_home / "cache" / "datasets" / "cifar-10-batches-py"
    incomplete.mkdir(parents=True)
    (incomplete / "data_batch_1").write_bytes(b"half")
    assert len(datasets.load_known(served_cifar).train) == 50
    assert [path.read_bytes() for path in incomplete.parent.rglob("*.incomplete-*/*/data_batch_1")] == [b"half"]


def test_images_of_other_modes_become_rgb(tmp_path: Path) -> None:
    path = tmp_path / "alpha.png"
    Image.new("RGBA", (20, 20), (10, 20, 30, 128)).save(path)
    images = FolderImages([path], np.zeros(1, np.int64), (16, 16, 3))
    assert images.read(np.array([0]))[0, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparent_colours_is_read_without_a_warning(tmp_path: Path) -> None:
    """As icons and logos have it; a warning would break into the progress bar."""
    path = tmp_path / "logo.png"
    colours = Image.new("RGB", (20, 20), (10, 20, 30))
    colours.paste((200, 100, 50), (0, 10, 20, 20))
    colours.quantize(4).save(path, transparency=bytes([0, 128]))
    with Image.open(path) as image:
        assert image.info["transparency"] == bytes([0, 128])
    assert np.asarray(open_image(path)).tolist() == np.asarray(colours).tolist()


@pytest.mark.parametrize(("side", "in_threads"), [(16, False), (200, True)])
def test_images_are_decoded_in_threads_where_that_pays(
    side: int, in_threads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, side, side, 3), dtype=np.uint8)
    files = [tmp_path / f"{number}.png" for number in range(6)]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(file)
    seen = set()

    def opened(path: Path) -> Image.Image:
        seen.add(threading.current_thread().name.partition("_")[0])
        return open_image(path)

    monkeypatch.setattr("kerascnn.data.images.open_image", opened)
    images = FolderImages(files, np.zeros(6, np.int64), (16, 16, 3))
    found = images.read(np.array([4, 2, 5]))
    assert seen == {"decode" if in_threads else threading.current_thread().name}
    one_by_one = [images.read(np.array([index]))[0] for index in (4, 2, 5)]
    assert np.array_equal(found, one_by_one)


def test_batches_are_made_in_one_thread_that_outlives_an_epoch() -> None:
    epochs = [list(batches.read_ahead(lambda _: threading.get_ident(), range(3))) for _ in range(2)]
    (maker,) = {ident for epoch in epochs for ident in epoch}
    assert maker != threading.get_ident()
