"""Which backend a process uses, and why. Keras reads it once, at its first import: one process, one backend."""

from __future__ import annotations

import importlib.util
import os
import platform
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from kerascnn.errors import BackendError, UnknownNameError, nearest
from kerascnn.machine import usable_cores
from kerascnn.training.allocator import set_allocator
from kerascnn.training.imports import unheard, without_idle_imports

# In the order of preference where nothing is said.
BACKENDS = ("torch", "tensorflow", "jax")
DEVICES = ("auto", "cpu", "gpu")
# Who computes layers and optimizer: kerascnn/training/lowering, or Keras itself.
EXECUTIONS = ("auto", "lowered", "keras")
# What each backend is called by the package index, in the order in which it is looked for.
_DISTRIBUTIONS = {
    "torch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tf-nightly"),
    "jax": ("jax",),
}


@dataclass(frozen=True)
class BackendChoice:
    """A backend and the reason for it, such as ``--backend``."""

    name: str
    reason: str


def check_device(device: str) -> None:
    """Refuse a device that there isn't.

    Raises:
        UnknownNameError: it is none of :data:`DEVICES`.
    """
    # Nothing is nearest: of `cuda` it would be `cpu`.
    if device not in DEVICES:
        raise UnknownNameError(f"--device: expected {', '.join(DEVICES)}, got {device!r}")


def check_execution(execution: str) -> None:
    """Refuse a way of computing the layers that there isn't.

    Raises:
        UnknownNameError: it is none of :data:`EXECUTIONS`.
    """
    if execution not in EXECUTIONS:
        raise UnknownNameError(
            f"--execution: expected {', '.join(EXECUTIONS)}, got {execution!r}{nearest(execution, EXECUTIONS)}"
        )


def installed_backends() -> list[str]:
    """The backends that can be imported here, found without importing them."""
    return [name for name in BACKENDS if importlib.util.find_spec(name) is not None]


def install_line(backend: str) -> str:
    """The command that installs a backend, beside kerascnn wherever that came from."""
    small = backend == "tensorflow" and sys.platform == "linux" and platform.machine() == "x86_64"
    return f"pip install {'tensorflow-cpu' if small else backend}"


def choose_backend(asked: str | None = None, reason: str = "--backend") -> BackendChoice:
    """``asked`` for ``reason``, else ``KERAS_BACKEND``, else what Keras runs on, else what is installed, torch first.

    ``keras.json`` doesn't count: Keras writes it itself, so it is nobody's wish.

    Raises:
        UnknownNameError: there is no such backend.
        BackendError: it isn't installed.
    """
    installed = installed_backends()
    for name, why in ((asked, reason), (os.environ.get("KERAS_BACKEND"), "KERAS_BACKEND")):
        if not name:
            continue
        if name not in BACKENDS:
            raise UnknownNameError(
                f"{why}: expected a backend out of {', '.join(BACKENDS)}, got {name!r}{nearest(name, BACKENDS)}"
            )
        if name not in installed:
            raise BackendError(f"the backend {name} ({why}) is not installed: {install_line(name)}")
        return BackendChoice(name, why)
    if not installed:
        raise BackendError(f"no backend is installed: {install_line('torch')}")
    if "keras" in sys.modules:
        import keras

        if keras.backend.backend() in installed:
            return BackendChoice(keras.backend.backend(), "Keras runs on it in this process")
    return BackendChoice(installed[0], f"installed: {', '.join(installed)}")


def choose_backend_for_run(asked: str | None, recorded: str | None) -> BackendChoice:
    """``asked``, else the backend that a run was trained on, else as :func:`choose_backend`."""
    return choose_backend(asked or recorded, "--backend" if asked else "the run's own")


def activate(backend: str, device: str = "auto") -> None:
    """Import Keras on a backend, in its repeatable form. On torch, what the process frees stays with it from now on.

    Args:
        backend: one of :data:`BACKENDS`.
        device: ``auto`` takes a GPU where the backend sees one; ``cpu``; ``gpu`` insists.

    Raises:
        BackendError: Keras runs on another backend already, or there is no GPU.
    """
    set_allocator(backend)
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = backend
        # TensorFlow's greetings would bury the messages; its errors still come through.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # cuBLAS repeats itself only with a workspace of fixed size.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # XLA picks kernels for a GPU by timing them, unless it is told not to.
        if backend == "jax":
            flags = os.environ.get("XLA_FLAGS", "")
            os.environ["XLA_FLAGS"] = f"--xla_gpu_deterministic_ops=true {flags}".strip()
        if device == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
            os.environ["JAX_PLATFORMS"] = "cpu"
            os.environ["KERAS_TORCH_DEVICE"] = "cpu"
        # A library that ends the process as it is imported says why on the error channel alone.
        with unheard() if backend == "tensorflow" else nullcontext(), without_idle_imports(backend):
            import keras
    check_process(backend, device)
    import keras

    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    _make_repeatable(backend)


def check_process(backend: str, device: str = "auto") -> None:
    """Refuse what a process in which Keras runs already can't change to; any other can still become anything.

    Raises:
        BackendError: Keras runs on another backend, or not on this device.
    """
    if "keras" not in sys.modules:
        return
    import keras

    if keras.backend.backend() != backend:
        raise BackendError(
            f"Keras runs on {keras.backend.backend()} in this process and can't change to {backend}: "
            "one process, one backend"
        )
    found = device_name(backend) if device != "auto" else ""
    if device == "gpu" and found == "cpu":
        raise BackendError(f"expected a GPU (--device gpu), and {backend} sees none")
    if device == "cpu" and found != "cpu":
        raise BackendError(f"expected the CPU (--device cpu), and Keras runs on {found} in this process already")


def seed_backend(backend: str, seed: int) -> None:
    """Seed what isn't keyed by the recipe: draws without a seed in a builder of the user's own.

    Keras's own ``set_random_seed`` would import TensorFlow wherever it is installed.
    """
    random.seed(seed)
    if backend == "torch":
        import torch

        torch.manual_seed(seed)
    elif backend == "tensorflow":
        import tensorflow as tf

        tf.random.set_seed(seed)


def _make_repeatable(backend: str) -> None:
    """Switch a backend to its deterministic kernels. What has none warns on torch when it runs, and fails elsewhere."""
    if backend == "torch":
        import torch

        # `use_deterministic_algorithms` would import torch's compiler, to tell it too.
        torch.set_deterministic_debug_mode("warn")
        # It would also fill all fresh memory, which only helps code that reads what it never wrote.
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = False
    elif backend == "tensorflow":
        import tensorflow as tf
        from tensorflow.python.eager.context import global_seed

        tf.config.experimental.enable_op_determinism()
        # From now on TensorFlow refuses what draws without a seed, Keras's `fit` among it.
        if global_seed() is None:
            tf.random.set_seed(0)
        for gpu in tf.config.list_physical_devices("GPU"):
            # Refused where TensorFlow has computed something in this process before.
            with suppress(RuntimeError):
                tf.config.experimental.set_memory_growth(gpu, True)


@contextmanager
def unrepeatable_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Inside, hand on what a backend warns of that it can't repeat to the bit; each thing once."""
    shown, told = warnings.showwarning, set[str]()

    def show(message: Warning | str, *others: Any, **more: Any) -> None:
        text = str(message).partition(". ")[0]
        if "deterministic" not in text:
            shown(message, *others, **more)
        elif text not in told:
            told.add(text)
            tell(f"this run can't be repeated to the bit: {text}")

    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=".*deterministic")
        warnings.showwarning = show
        yield


def what_cannot_be_repeated(backend: str) -> str | None:
    """What is known before the first step about a device that doesn't repeat itself; None where it does."""
    if backend == "torch" and device_name(backend) == "mps":
        return "this run can't be repeated to the bit: torch has no deterministic kernels for mps; --device cpu has"
    return None


def device_name(backend: str) -> str:
    """``cpu``, or the accelerator that the active backend computes on."""
    if backend == "torch":
        import torch
        from keras.src.backend.torch.core import get_device

        device = str(get_device())
        return torch.cuda.get_device_name() if device.startswith("cuda") else device
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return str(gpus[0].name) if gpus else "cpu"
    import jax

    return str(jax.devices()[0].device_kind) if jax.default_backend() != "cpu" else "cpu"


def tf32(backend: str, device: str) -> dict[str, bool] | None:
    """Whether a GPU may compute float32 products in TF32, which keeps 10 of 23 bits of a factor: the backend's setting.

    Args:
        backend: the active one.
        device: from :func:`device_name`.

    Returns:
        For ``convolutions`` and for ``matrix_products``; None on a CPU, on Apple's mps, and on JAX, which has no such
        setting.
    """
    if device in ("cpu", "mps") or backend == "jax":
        return None
    if backend == "torch":
        import torch

        convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
        if not hasattr(convolutions, "conv"):  # torch below 2.9
            return {"convolutions": convolutions.allow_tf32, "matrix_products": products.allow_tf32}
        return {
            "convolutions": convolutions.conv.fp32_precision == "tf32",
            "matrix_products": products.fp32_precision == "tf32",
        }
    import tensorflow as tf

    return dict.fromkeys(
        ("convolutions", "matrix_products"), tf.config.experimental.tensor_float_32_execution_enabled()
    )


def thread_count(backend: str) -> int:
    """The threads that one operation of the active backend may use; results depend on it in the last bits."""
    if backend == "torch":
        import torch

        return int(torch.get_num_threads())
    told = os.environ.get("TF_NUM_INTRAOP_THREADS", "") if backend == "tensorflow" else ""
    return int(told) if told.isdigit() and int(told) else usable_cores()


def versions(backend: str) -> dict[str, str]:
    """The versions that a run's figures depend on."""
    found = {"python": platform.python_version(), "kerascnn": metadata.version("kerascnn")}
    for package in ("keras", "numpy"):
        found[package] = metadata.version(package)
    for distribution in _DISTRIBUTIONS[backend]:
        try:
            found[backend] = metadata.version(distribution)
            break
        except metadata.PackageNotFoundError:
            continue
    return found
