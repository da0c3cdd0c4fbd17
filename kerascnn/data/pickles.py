"""CIFAR's pickles, read as what they are: a list of instructions, of which only those that make data are followed.

No unpickler runs, so nothing in a file can name code to be run, set attributes, or reserve memory that it doesn't fill.
"""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from kerascnn.errors import DatasetError

# A label or a file's name is a number or a text, its place in the memo, and its share of the lists around it.
INSTRUCTIONS_PER_ITEM = 16
INSTRUCTIONS_AT_LEAST = 1000


@dataclass
class PickledDtype:
    """What ``numpy.dtype`` was to be made from."""

    name: object


@dataclass
class PickledArray:
    """What a ``numpy.ndarray`` was to be made from: version, shape, dtype, whether in Fortran's order, bytes."""

    state: object = None


@dataclass(frozen=True)
class _Global:
    """A name that the file asks for."""

    module: str
    name: str


_ENCODE = _Global("_codecs", "encode")
_DTYPE = _Global("numpy", "dtype")
_NDARRAY = _Global("numpy", "ndarray")
_ARRAYS = (_Global("numpy.core.multiarray", "_reconstruct"), _Global("numpy._core.multiarray", "_reconstruct"))
_HARMLESS = (_ENCODE, _DTYPE, _NDARRAY, *_ARRAYS)


def restricted_pickle(path: Path, *, items: int = 0) -> object:
    """Read a pickle that holds only numbers, texts, lists, dictionaries and NumPy arrays of bytes.

    Args:
        path: the file.
        items: how many images or names it is to hold; one with many times more parts is refused.

    Returns:
        What it holds, with :class:`PickledArray` for each array.

    Raises:
        DatasetError: the file can't be read, is damaged, or would run code.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _follow(content, INSTRUCTIONS_AT_LEAST + INSTRUCTIONS_PER_ITEM * items)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    except Exception as error:
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise DatasetError(f"{path}: expected a pickle of images and labels: {reason}") from None


def _follow(content: mmap.mmap, most: int) -> object:
    machine = _Machine(len(content))
    # Mapped, so that a file of images isn't in memory beside them; it reads like a file.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(cast("IO[bytes]", content))):
        if count >= most:
            raise ValueError("it has more parts than images and labels")
        machine.follow(opcode.name, argument)
    return machine.stack.pop()


class _Machine:
    """The stack machine of pickle, less all that isn't data."""

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        # Each text in the file is encoded once; over and over, a small file could fill the memory.
        self._encodable = size

    def follow(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _BYTES:
            self.stack.append(argument.encode("latin1"))
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _INSTRUCTIONS:
            _INSTRUCTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"the instruction {name} is not data")

    def mark(self, _: object) -> None:
        self._marks.append(len(self.stack))

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def _last(self, count: int) -> list[Any]:
        if count > len(self.stack) - (self._marks[-1] if self._marks else 0):
            raise ValueError("it takes more than there is")
        found = self.stack[-count:]
        del self.stack[-count:]
        return found

    def pop(self, _: object) -> None:
        self._last(1)

    def pop_mark(self, _: object) -> None:
        self._since_mark()

    def remember(self, place: int | None) -> None:
        self._memo[len(self._memo) if place is None else place] = self.stack[-1]

    def recall(self, place: int) -> None:
        self.stack.append(self._memo[place])

    def new_list(self, _: object) -> None:
        self.stack.append([])

    def new_dict(self, _: object) -> None:
        self.stack.append({})

    def list_since_mark(self, _: object) -> None:
        self.stack.append(self._since_mark())

    def tuple_since_mark(self, _: object) -> None:
        self.stack.append(tuple(self._since_mark()))

    def dict_since_mark(self, _: object) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._set(items)

    def append(self, _: object) -> None:
        self._extend(self._last(1))

    def append_since_mark(self, _: object) -> None:
        self._extend(self._since_mark())

    def set_item(self, _: object) -> None:
        self._set(self._last(2))

    def set_since_mark(self, _: object) -> None:
        self._set(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("it appends to something that is not a list")
        self.stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        keys = items[::2]
        # Hashing tuples of tuples can take for ever.
        if not isinstance(self.stack[-1], dict) or not all(isinstance(key, (str, bytes)) for key in keys):
            raise ValueError("expected dictionaries with texts as keys")
        self.stack[-1].update(zip(keys, items[1::2], strict=True))

    def ask_for(self, names: str | None) -> None:
        module, name = names.split(" ", 1) if names is not None else self._last(2)
        wanted = _Global(str(module), str(name))
        if wanted not in _HARMLESS:
            raise ValueError(f"it asks for {wanted.module}.{wanted.name}, which is not data")
        self.stack.append(wanted)

    def make(self, _: object) -> None:
        wanted, arguments = self._last(2)
        if not isinstance(arguments, tuple):
            raise ValueError("expected a tuple of arguments")
        if wanted in _ARRAYS:
            self.stack.append(PickledArray())
        elif wanted == _DTYPE:
            self.stack.append(PickledDtype(arguments[0]))
        elif wanted == _ENCODE:
            self.stack.append(self._encode(*arguments))
        else:
            raise ValueError("it calls something that is not data")

    def _encode(self, text: object, encoding: object) -> bytes:
        """Python 2's way of pickling bytes: ``_codecs.encode(text, "latin1")``."""
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise ValueError("expected bytes as Latin-1 text")
        self._encodable -= len(text)
        if self._encodable < 0:
            raise ValueError("it unpacks to more than its size")
        return text.encode("latin1")

    def set_state(self, _: object) -> None:
        (state,) = self._last(1)
        target = self.stack[-1]
        if isinstance(target, PickledArray):
            target.state = state
        elif not isinstance(target, PickledDtype):
            # Of a dtype it would be byte order and alignment, which single bytes don't have.
            raise ValueError("it sets the state of something that is not an array")


def _tuple_of(count: int) -> Callable[[_Machine, object], None]:
    def make(machine: _Machine, _: object) -> None:
        machine.stack.append(tuple(machine._last(count)))

    return make


# The names are those of :mod:`pickletools`.
_INTEGERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
_TEXTS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
_VALUES = frozenset((*_INTEGERS, *_TEXTS, "FLOAT", "BINFLOAT"))
_BYTES = frozenset(("STRING", "BINSTRING", "SHORT_BINSTRING"))
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "EMPTY_LIST": _Machine.new_list,
    "LIST": _Machine.list_since_mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_since_mark,
    "TUPLE": _Machine.tuple_since_mark,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "EMPTY_DICT": _Machine.new_dict,
    "DICT": _Machine.dict_since_mark,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_since_mark,
    "PUT": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.remember,
    "GET": _Machine.recall,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "GLOBAL": _Machine.ask_for,
    "STACK_GLOBAL": _Machine.ask_for,
    "REDUCE": _Machine.make,
    "BUILD": _Machine.set_state,
}
