"""What Keras imports beside the backend that it runs on, and how to do without: half of a start's time."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


@contextmanager
def without_idle_imports(backend: str) -> Iterator[None]:
    """Inside, Keras finds nothing that it would import, wherever that is installed, for what isn't done here.

    JAX is for a callback, 112 MB and 0.7 s of processor time. Torch's compiler, 2 s, is there to be told of two
    functions that it has to leave alone; nobody compiles here. Matplotlib, 0.9 s, is for Keras's own galleries, which
    only a command may do without: a Python session may want them.
    """
    hidden = [] if backend == "jax" else ["jax"]
    if in_a_command():
        hidden.append("matplotlib")
    # None is Python's own mark of a module that can't be imported.
    placed: dict[str, Any] = dict.fromkeys(hidden)
    if backend == "torch":
        placed[COMPILER] = _CompilerLater(COMPILER)
    placed = {name: module for name, module in placed.items() if name not in sys.modules}
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name, module in placed.items():
            if sys.modules.get(name, module) is module:
                sys.modules.pop(name, None)


def in_a_command() -> bool:
    """Whether the process is a command of ours, with nobody's settings to keep."""
    return bool(getattr(sys.modules.get("kerascnn.cli"), "is_the_process", False))


class _CompilerLater(ModuleType):
    """Torch's compiler, which is imported once it is asked for more than leaving a function alone."""

    def disable(self) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """As the compiler's own, a decorator."""
        return _left_alone

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        sys.modules.pop(COMPILER, None)
        return getattr(import_module(COMPILER), name)


def _left_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that a compiler leaves alone, should somebody compile in this process after all."""

    @functools.wraps(function)
    def call(*inputs: Any, **named: Any) -> Any:
        if COMPILER not in sys.modules:
            return function(*inputs, **named)
        import torch

        return torch.compiler.disable(function)(*inputs, **named)

    return call


@contextmanager
def unheard() -> Iterator[None]:
    """Drop what is written to the error channel from outside Python while TensorFlow is imported.

    Its C++ greets there before any setting can stop it. What fails raises all the same.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:
        # A process without a terminal, such as a window's on Windows, may have no such channel.
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


@contextmanager
def tensorflow_left_alone() -> Iterator[None]:
    """Inside, Keras on another backend doesn't look for TensorFlow.

    To write a model or a configuration it would import TensorFlow, if that is installed: some seconds and 0.3 GB.
    """
    from keras.src.utils.module_utils import tensorflow

    known = tensorflow._available
    if known is None and "tensorflow" not in sys.modules:
        tensorflow._available = False
    try:
        yield
    finally:
        tensorflow._available = known
