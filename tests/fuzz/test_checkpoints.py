"""Checkpoints: damaged, and whole ones that hold nonsense under a right SHA-256."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import example
from hypothesis import strategies as st

from kerascnn.errors import CheckpointError
from kerascnn.runs import events as ev
from kerascnn.runs.directory import write_metrics
from kerascnn.training import checkpoint as checkpoints
from kerascnn.training.checkpoint import (
    Checkpoint,
    Progress,
    checkpoint_name,
    newest_whole,
    read_checkpoint,
    write_checkpoint,
)
from tests.fuzz.harness import EXTREMES, answer, fuzzed, mutated, numbers, texts, values
from tests.test_training import a_checkpoint, prepared

EPOCH = ev.EpochDone(
    epoch=1, step=3, loss=2.0, accuracy=0.1, val_loss=2.1, val_accuracy=0.2, learning_rate=0.1, seconds=1.0,
    images_per_s=9.0, best=True, time=1e9,
)  # fmt: skip
PROGRESS = Progress(
    epoch=1, step=3, step_in_epoch=1, seen=50, right=9, epochs=2, best=0.2, best_epoch=1,
    best_checkpoint=checkpoint_name(3), applied=["a"], history=[EPOCH.model_dump(mode="json")],
)  # fmt: skip
FIELDS = [field.name for field in fields(Progress)]


def sealed(arrays: dict[str, Any], state: str) -> bytes:
    """A file whose SHA-256 is right, whatever its state says; the same bytes each time."""
    metadata = {"format": checkpoints.FORMAT, "state": state, "sha256": checkpoints._digest(state, arrays)}
    with TemporaryDirectory() as folder:
        path = Path(folder) / checkpoint_name(3)
        checkpoints._write_arrays(arrays, metadata, path)
        return path.read_bytes()


WRITTEN = a_checkpoint()
WHOLE = sealed(WRITTEN.arrays, json.dumps({"progress": asdict(PROGRESS), "identity": WRITTEN.identity}))
ANOTHER_WEIGHT = WHOLE[:-1] + bytes([WHOLE[-1] ^ 1])
ANOTHER_STEP = WHOLE.replace(b'\\"step\\": 3', b'\\"step\\": 2')


def with_header(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", (len(header) if length is None else length) % 2**64) + header + bytes(100)


tensors = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "I64", "U8", "BOOL", "BF16", "F8_E4M3", "C64", "X", ""]) | values,
        "shape": st.lists(st.sampled_from([*EXTREMES, 2, 3]), max_size=3) | values,
        "data_offsets": st.lists(st.sampled_from([*EXTREMES, 4, 100]), max_size=3) | values,
    }
)
headers = st.dictionaries(
    st.sampled_from(["model/00000", "__metadata__", "optimizer/00000"]) | texts,
    tensors
    | st.dictionaries(st.sampled_from(["format", "state", "sha256"]), st.sampled_from(["1", "{}", "null"]) | values)
    | values,
    max_size=3,
)


def read(folder: Path, content: bytes) -> Checkpoint | None:
    path = folder / checkpoint_name(3)
    path.write_bytes(content)
    checkpoint = answer(lambda: read_checkpoint(path), size=len(content))
    found = answer(lambda: newest_whole(folder), size=len(content))
    assert (checkpoint is None) == (found is None)
    if checkpoint is None:
        return None
    # What a resume and the next checkpoint do with it.
    progress = checkpoint.progress
    write_metrics(folder / "metrics.csv", [ev.EpochDone(**epoch) for epoch in progress.history])
    resumed = ev.Resumed(
        step=progress.step, epoch=progress.epoch, epochs=progress.epochs, elapsed=progress.elapsed, file=path.name
    )
    assert ev.parse_event(resumed.model_dump_json()) == resumed
    if progress.step_in_epoch:
        assert progress.right / progress.seen <= 1
    write_checkpoint(folder / "again", checkpoint)
    assert read_checkpoint(folder / "again").progress == progress
    return checkpoint


@fuzzed(
    "checkpoint",
    long=8000,
    content=st.one_of(
        mutated(WHOLE),
        st.builds(with_header, headers.map(lambda header: json.dumps(header).encode())),
        st.builds(with_header, st.binary(max_size=50), st.sampled_from(EXTREMES)),
    ),
)
@example(content=with_header(b"[" * 100_000))
@example(content=with_header(b"", 2**63 - 1))
@example(content=ANOTHER_WEIGHT)
@example(content=ANOTHER_STEP)
def test_a_damaged_checkpoint(folder: Path, content: bytes) -> None:
    found = read(folder, content)
    if found is not None:
        # Blanks between the header's words, say: nothing that counts has changed.
        assert found.progress == PROGRESS
        assert {name: array.tobytes() for name, array in found.arrays.items()} == {
            name: array.tobytes() for name, array in WRITTEN.arrays.items()
        }


def changed_progress(changes: dict[str, Any]) -> str:
    return json.dumps({"progress": {**asdict(PROGRESS), **changes}, "identity": {"backend": "torch"}})


@fuzzed(
    "checkpoint",
    long=6000,
    state=st.one_of(
        st.dictionaries(st.sampled_from(FIELDS), numbers | values, min_size=1, max_size=4).map(changed_progress),
        st.dictionaries(st.sampled_from(FIELDS) | texts, values).map(changed_progress),
        st.fixed_dictionaries({}, optional={"progress": values, "identity": values}).map(json.dumps),
        st.dictionaries(st.sampled_from([*EPOCH.model_dump()]), values, min_size=1).map(
            lambda row: changed_progress({"history": [{**EPOCH.model_dump(mode="json"), **row}]})
        ),
        mutated(changed_progress({}).encode(), text=True).map(lambda text: text.decode("utf-8", "replace")),
        values.map(json.dumps),
    ),
)
@example(state=changed_progress({"step": "3"}))
@example(state=changed_progress({"step": -1}))
@example(state=changed_progress({"step": 2**63}))
@example(state=changed_progress({"elapsed": float("nan")}))
@example(state=changed_progress({"seen": 0}))
@example(state=changed_progress({"history": [{"epoch": 1}]}))
@example(state=changed_progress({"applied": [[]]}))
@example(state="[" * 100_000)
def test_nonsense_under_a_right_digest(folder: Path, state: str) -> None:
    arrays = {"model/00000": np.zeros(3, np.float32)}
    try:
        content = sealed(arrays, state)
    except UnicodeEncodeError:
        return
    read(folder, content)


def test_the_checkpoint_that_the_others_are_made_from_is_whole(tmp_path: Path) -> None:
    """Else the tests above might see nothing but refusals."""
    assert ANOTHER_STEP != WHOLE
    path = tmp_path / checkpoint_name(3)
    path.write_bytes(WHOLE)
    assert read_checkpoint(path).progress == PROGRESS


# ── Put back into a network ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def network(keras: Any) -> Callable[[dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]:
    """Try to put another network's arrays into one, and get its state before and after."""
    from kerascnn.training.state import put_state, take_state

    model, optimizer, _ = prepared({"filters": [2], "hidden": []})
    first = take_state(model, optimizer)

    def put(changes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        before = take_state(model, optimizer)
        arrays = {name: array for name, array in {**first, **changes}.items() if array is not None}
        with pytest.raises(CheckpointError):
            put_state(model, optimizer, arrays)
        return before, take_state(model, optimizer)

    return put


@pytest.mark.backend
@pytest.mark.parametrize(
    "wrong",
    [
        None,
        np.zeros(7, np.float32),
        np.zeros((3, 3, 1, 2), np.float64),
        np.zeros((3, 3, 1, 2), bool),
        np.zeros((3, 3, 1, 2), np.complex64),
        np.zeros((0, 2**40), np.float32),
    ],
    ids=["missing", "shape", "float64", "bool", "complex", "empty"],
)
def test_arrays_that_do_not_fit_change_nothing(wrong: Any, network: Any) -> None:
    """The last one is wrong; those before it are right and others than the network has."""
    before, after = network({"model/00000": np.ones((3, 3, 1, 2), np.float32), "optimizer/00002": wrong})
    assert before.keys() == after.keys()
    for key, array in before.items():
        assert array.tobytes() == after[key].tobytes(), key


@pytest.mark.backend
def test_an_impossible_random_state_is_refused(backend: str, network: Any) -> None:
    if backend != "torch":
        pytest.skip("only torch has a generator of its own")
    from kerascnn.training.state import put_state, take_state

    model, optimizer, _ = prepared({"filters": [2], "hidden": []})
    before = take_state(model, optimizer)
    wrong = {name: array + 1 for name, array in before.items() if name != "torch/cpu"}
    with pytest.raises(CheckpointError, match="random generator"):
        put_state(model, optimizer, {**wrong, "torch/cpu": np.full_like(before["torch/cpu"], 255)})
    assert take_state(model, optimizer)["model/00001"].tobytes() == before["model/00001"].tobytes()
