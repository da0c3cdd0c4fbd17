"""The errors that kerascnn raises on purpose, and the exit code that each one ends a command with."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable


class KerascnnError(Exception):
    """One sentence that says what was expected, what came, and the nearest right thing."""

    exit_code = 1


class UsageError(KerascnnError):
    """A command, an option or a recipe that can't be meant: nothing has been written."""

    exit_code = 2


class RecipeError(UsageError):
    """An unknown key, a wrong type or a value out of range in a recipe or a catalog."""


class UnknownNameError(UsageError):
    """A model, dataset, backend or run that doesn't exist."""


class BackendError(KerascnnError):
    """A backend that isn't installed, or that can't be switched to in this process."""


class NotLoweredError(BackendError):
    """A network with a layer or a setting that only Keras itself computes."""


class DatasetError(KerascnnError):
    """A dataset that is missing, damaged or of another shape than expected."""


class RunError(KerascnnError):
    """A run directory that can't be used as asked."""


class DivergedError(RunError):
    """The loss or a weight is no longer a number."""


class CheckpointError(RunError):
    """A checkpoint that is damaged, or that belongs to another run."""


class _Brief(reprlib.Repr):
    """Shows a part where the whole would be long, deep, or the same list a billion times."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.maxstring = self.maxother = most

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write a number of more than 4,300 digits.
        return repr(x) if x.bit_length() <= 256 else f"a number of {x.bit_length()} bits"


def brief(value: object, most: int = 60) -> str:
    """A value as an error shows it, in about ``most`` characters at the most."""
    text = _Brief(most).repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def nearest(word: str, known: Iterable[str]) -> str:
    """Say ``; did you mean 'x'?`` when one of ``known`` is close to ``word`` or begins with it, else nothing."""
    others = [one for one in known if one != word]
    close = difflib.get_close_matches(word, others, n=1, cutoff=0.5)
    close = close or [one for one in others if word and one.startswith(word)]
    return f"; did you mean {close[0]!r}?" if close else ""


def system_error(error: OSError) -> str:
    """What the operating system refused, and of which file, if it says so."""
    # Of a rename the new name, which is the one that a user knows.
    file = error.filename2 or error.filename
    return f"{file}: {error.strerror or error}" if file else f"{error.strerror or error}"


def kind_and_reason(error: BaseException) -> str:
    """An error that isn't ours: its kind, and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


def reason_of(error: BaseException) -> str:
    """The first line of what an error that isn't ours says, or its kind where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


# What the backends say when memory ends, each as an error of its own.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "oom when allocating", "resource_exhausted", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any backend says that there is no more memory."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)
