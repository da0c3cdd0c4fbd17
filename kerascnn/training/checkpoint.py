"""Checkpoints: everything that the next step depends on, in one file that holds no code.

A checkpoint is a safetensors file. Its arrays are the model's and the optimizer's variables in their own order; its
header holds where the run is (:class:`Progress`), and a SHA-256 over both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from kerascnn.errors import CheckpointError, RunError, brief
from kerascnn.runs.events import Count, EpochDone, Seconds
from kerascnn.runs.files import write_atomically

FORMAT = "1"
SUFFIX = ".safetensors"
MAX_HEADER = 64 * 1024 * 1024

Arrays = dict[str, NDArray[Any]]
Position = tuple[int, int]
"""The epoch, counted from 0, and the steps of it that are done. After the last of them its validation follows."""
Named = TypeVar("Named")


def _is_epoch(row: dict[str, Any]) -> dict[str, Any]:
    EpochDone(**row)
    return row


Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass
class Progress:
    """Where a run is. Epochs and steps are counted from 0: ``step`` steps are done, epoch ``epoch`` is under way."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    epoch: Count = 0
    step_in_epoch: Count = 0
    step: Count = 0
    elapsed: Seconds = 0.0
    epoch_elapsed: Seconds = 0.0
    epoch_training: Seconds = 0.0
    loss_sum: Finite = 0.0
    right: Count = 0
    seen: Count = 0
    learning_rate: Annotated[Finite, Field(ge=0)] = 0.0
    """Of the last step."""
    learning_rate_scale: Annotated[Finite, Field(ge=0)] = 1.0
    epochs: Count = 0
    best: Finite | None = None
    best_epoch: Count = 0
    best_checkpoint: str | None = None
    patient_from: Count = 0
    """Early stopping counts epochs from here on: those that were done when a user asked for more."""
    applied: list[str] = field(default_factory=list)
    """Ids of the commands that users gave and that are part of this state."""
    history: list[Annotated[dict[str, Any], AfterValidator(_is_epoch)]] = field(default_factory=list)

    def check(self) -> None:
        """Hold the counts against one another: every step saw an image.

        Raises:
            ValueError: they can't all be true.
        """
        if not self.step_in_epoch <= self.step or not max(self.right, self.step_in_epoch) <= self.seen:
            raise ValueError(
                f"step {self.step}, {self.step_in_epoch} in the epoch, with {self.right} images right out of "
                f"{self.seen} can't be"
            )

    @property
    def position(self) -> Position:
        """Where in its epoch the run is."""
        return self.epoch, self.step_in_epoch


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory. ``identity`` says what it fits: backend, precision, shapes of everything."""

    arrays: Arrays
    progress: Progress
    identity: dict[str, Any]


_PROGRESS = TypeAdapter(Progress)
_IDENTITY = TypeAdapter(dict[str, Any])


def checkpoint_name(step: int) -> str:
    """The file name of the checkpoint after ``step`` steps; names sort like steps."""
    return f"step-{step:09d}{SUFFIX}"


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> int:
    """Write a checkpoint whole or not at all.

    Returns:
        Its size in bytes.

    Raises:
        OSError: the disk is full or can't be written; what stood there before still stands.
    """
    state = json.dumps({"progress": asdict(checkpoint.progress), "identity": checkpoint.identity}, sort_keys=True)
    arrays = {name: np.asarray(array, order="C") for name, array in checkpoint.arrays.items()}
    metadata = {"format": FORMAT, "state": state, "sha256": _digest(state, arrays)}
    write_atomically(path, partial(_write_arrays, arrays, metadata))
    return path.stat().st_size


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and check that it is whole.

    Raises:
        CheckpointError: it is missing, truncated, or not what was written.
        RunError: the system can't read it now.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    except OSError as error:
        # It may be whole, and readable the next time.
        raise RunError(f"{path}: can't be read: {error.strerror or error}") from None
    try:
        metadata = _metadata(content)
        arrays = safetensors.numpy.load(content)
        state = metadata["state"]
        expected, found = metadata["sha256"], _digest(state, arrays)
        parsed = json.loads(state)
        progress = _PROGRESS.validate_python(parsed["progress"])
        progress.check()
        identity = _IDENTITY.validate_python(parsed["identity"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise CheckpointError(
            f"{path}: expected the state of a run: {brief(where)}: {first['msg']}, got {brief(first['input'])}"
        ) from None
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise CheckpointError(f"{path}: expected a whole checkpoint: {reason}") from None
    if found != expected:
        raise CheckpointError(f"{path}: expected SHA-256 {expected}, got {found}: the file is damaged")
    return Checkpoint(arrays, progress, identity)


def list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints in a folder, newest first."""
    return sorted(folder.glob(f"step-*{SUFFIX}"), reverse=True)


def newest_whole(folder: Path, before: Path | None = None) -> tuple[Path, Checkpoint, list[str]]:
    """The newest checkpoint that is whole, and what was said of the newer ones that aren't.

    Args:
        folder: where they are.
        before: take only those with fewer steps than this one.

    Raises:
        CheckpointError: none is whole.
        RunError: the system can't read one now; an older one would lose what is in it.
    """
    damaged: list[str] = []
    for path in list_checkpoints(folder):
        if before is not None and path.name >= before.name:
            continue
        try:
            return path, read_checkpoint(path), damaged
        except CheckpointError as error:
            damaged.append(str(error))
    detail = "; ".join(damaged) if damaged else "there is none yet"
    raise CheckpointError(f"{folder}: expected a whole checkpoint to go on from: {detail}")


def set_damaged_aside(folder: Path, newest_whole: Path) -> None:
    """Take the name from damaged checkpoints, so that they don't count among the newest that are kept."""
    for path in list_checkpoints(folder):
        if path.name > newest_whole.name:
            path.replace(path.with_name(f"{path.name}.damaged"))


def keep_newest(folder: Path, best: str | None, count: int = 2) -> None:
    """Remove all checkpoints but the newest ``count`` and the best."""
    for path in list_checkpoints(folder)[count:]:
        # On Windows one that somebody reads can't go; it goes with a later one.
        if path.name != best:
            with suppress(PermissionError):
                path.unlink(missing_ok=True)


def differences(one: Checkpoint, two: Checkpoint) -> list[str]:
    """What isn't the same to the bit in two checkpoints, but for how long things took; a line each."""
    found = [f"only one has the array {name}" for name in sorted(one.arrays.keys() ^ two.arrays.keys())]
    names = _variable_names(one)
    for name in sorted(one.arrays.keys() & two.arrays.keys()):
        first, second = one.arrays[name], two.arrays[name]
        if (first.dtype, first.shape) != (second.dtype, second.shape):
            found.append(f"{names.get(name, name)}: {first.dtype}{first.shape} and {second.dtype}{second.shape}")
        elif first.tobytes() != second.tobytes():
            apart = np.abs(first.astype(np.float64) - second.astype(np.float64)).max()
            found.append(f"{names.get(name, name)}: up to {apart:.3g} apart")
    first_progress, second_progress = _comparable(one.progress), _comparable(two.progress)
    found += [
        f"{key}: {value} and {second_progress[key]}"
        for key, value in first_progress.items()
        if value != second_progress[key]
    ]
    return found


def weights_of(checkpoint: Checkpoint) -> Arrays:
    """The network's variables by their paths, as the run validates and saves them.

    Those that the optimizer keeps a moving average of are that average.
    """
    names = _variable_names(checkpoint)
    kept = {names[key]: array for key, array in checkpoint.arrays.items() if key.startswith("optimizer/")}
    # An average begins as zeros and takes its first value with the first step.
    stepped = any(array.any() for path, array in kept.items() if path.endswith("/iteration"))
    averages = {path.rpartition("/")[2]: array for path, array in kept.items()} if stepped else {}
    return {
        # As Keras names them.
        names[key]: averages.get(f"{names[key].replace('/', '_')}_average", array)
        for key, array in checkpoint.arrays.items()
        if key.startswith("model/")
    }


def in_order(prefix: str, values: Sequence[Named]) -> dict[str, Named]:
    """Things in their order, under names that keep it."""
    return {f"{prefix}/{index:05d}": value for index, value in enumerate(values)}


def _variable_names(checkpoint: Checkpoint) -> dict[str, str]:
    """The path of each variable by the name of its array: those of the model come first, then the optimizer's."""
    keys = sorted(key for key in checkpoint.arrays if key.startswith(("model/", "optimizer/")))
    try:
        return dict(zip(keys, (str(path) for path, _ in checkpoint.identity["variables"]), strict=True))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError("expected a checkpoint that names its variables, each with its shape") from None


def _comparable(progress: Progress) -> dict[str, Any]:
    """Without times, and without commands: what those changed shows elsewhere, and a pause is never repeated."""
    left_out = ("elapsed", "epoch_elapsed", "epoch_training", "applied")
    epochs = [
        {key: value for key, value in epoch.items() if key not in ("time", "seconds", "images_per_s")}
        for epoch in progress.history
    ]
    return {key: value for key, value in asdict(progress).items() if key not in left_out} | {"history": epochs}


def _metadata(content: bytes) -> dict[str, str]:
    """The texts in a safetensors header, which is JSON after its own length."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, MAX_HEADER):
        raise ValueError("the header is cut off")
    header = json.loads(content[8 : 8 + length])
    metadata = header["__metadata__"]
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ValueError("it is of another format")
    return metadata


def _write_arrays(arrays: Arrays, metadata: dict[str, str], path: Path) -> None:
    """Write a safetensors file straight from the arrays.

    The library's own writers either hold the whole file in memory as well, which can be the most that a run ever needs,
    or write beside ``path`` under a name of theirs, which a kill leaves behind.
    """
    # The widest types first, as the format's alignment wants it.
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in names:
        array = arrays[name]
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _type_name(array), "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(arrays[name].reshape(-1).view(np.uint8).data)


def _type_name(array: NDArray[Any]) -> str:
    """What safetensors calls a type: ``F32``, ``I64``, ``U8``, ``BOOL``."""
    kind = {"f": "F", "i": "I", "u": "U", "b": "BOOL"}[array.dtype.kind]
    return kind if kind == "BOOL" else f"{kind}{8 * array.itemsize}"


def _digest(state: str, arrays: Arrays) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
