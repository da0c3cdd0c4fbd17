"""One body, two forms: a few hundred inputs in every test run, tens of thousands with ``pytest -m slow tests/fuzz``.

The property is the same for each reader: it returns or raises one of kerascnn's errors, in a sentence, and takes no
more memory than its file's size allows.
"""

from __future__ import annotations

import functools
import struct
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerascnn.errors import KerascnnError

SHORT = 150
MEMORY_PER_BYTE = 16
MEMORY_AT_LEAST = 8 * 2**20
LONGEST_MESSAGE = 2000

tried: Counter[str] = Counter()
"""Inputs by reader, for the line at the end of the test run."""

Result = TypeVar("Result")


def fuzzed(reader: str, *, long: int, short: int = SHORT, **strategies: st.SearchStrategy[Any]) -> Callable[..., Any]:
    """Make a test of ``body(folder, **drawn)``: the same inputs each time in its short form, new ones in its long."""

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize("inputs", [short, pytest.param(long, marks=pytest.mark.slow)], ids=["short", "long"])
        def test(inputs: int, tmp_path: Path) -> None:
            @functools.wraps(body)
            def counted(folder: Path, **drawn: Any) -> None:
                tried[reader] += 1
                body(folder, **drawn)

            chosen = settings(
                max_examples=inputs,
                derandomize=inputs == short,
                database=None,
                deadline=None,
                suppress_health_check=[
                    HealthCheck.too_slow,
                    HealthCheck.data_too_large,
                    HealthCheck.large_base_example,
                ],
            )
            chosen(given(**strategies)(counted))(folder=tmp_path)

        test.__name__, test.__doc__ = body.__name__, body.__doc__
        return test

    return decorate


def answer(read: Callable[[], Result], *, size: int) -> Result | None:
    """What a reader makes of an input of ``size`` bytes; None where it is refused in a sentence of ours."""
    tracemalloc.start()
    try:
        return read()
    except KerascnnError as error:
        said = str(error)
        assert said.strip(), "an error without a word"
        assert len(said) <= LONGEST_MESSAGE, f"an error of {len(said)} characters: {said[:200]}"
        assert "Traceback" not in said
        return None
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        allowed = MEMORY_PER_BYTE * size + MEMORY_AT_LEAST
        assert peak <= allowed, f"{peak:,} bytes of memory for an input of {size:,}"


# ── Mutations ─────────────────────────────────────────────────────────────────────────────────────────────────────────

EXTREMES = (0, 1, -1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1)
NUMBERS = tuple(
    struct.pack(order + code, number % 2 ** (8 * size))
    for order in "<>"
    for code, size in (("H", 2), ("I", 4), ("Q", 8))
    for number in EXTREMES
)
WORDS = (
    "NaN", "Infinity", "-Infinity", "nan", "-inf", "1e400", "-1", "0", "9" * 25, "9" * 5000, "0x" + "f" * 5000,
    "9223372036854775808", "0.1", "true", "null", '""', '"\\ud800"', '"\\u0000"', "\ufeff", "\x00", "[" * 3000,
    '{"a":' * 3000, "[]", "{}", "a." * 2000 + "a", '"' + "x" * 70_000 + '"', "\n", "\r", "\u2028", "=", ",", "é", "🦆",
)  # fmt: skip


def _edit(content: bytes, edit: tuple[str, float, float, Any]) -> bytes:
    kind, at, until, payload = edit
    first, last = sorted((int(at * len(content)), int(until * len(content))))
    if kind == "flip" and content:
        flipped = bytearray(content)
        flipped[min(first, len(content) - 1)] ^= 1 << payload % 8
        return bytes(flipped)
    if kind == "truncate":
        return content[:first]
    if kind == "delete":
        return content[:first] + content[last:]
    if kind == "repeat":
        return content[:last] + content[first:last] + content[last:]
    if kind == "overwrite":
        return content[:first] + payload + content[first + len(payload) :]
    return content[:first] + payload + content[first:] if kind == "insert" else content


def edits(*, text: bool = False, head: float = 1.0) -> st.SearchStrategy[list[tuple[str, float, float, Any]]]:
    """A few edits of a file, half of them in the first part of it, where headers are."""
    place = st.floats(0, 1) | st.floats(0, min(1.0, head))
    payload = st.binary(max_size=12) | st.sampled_from(NUMBERS)
    if text:
        payload |= st.sampled_from([word.encode("utf-8", "surrogatepass") for word in WORDS])
    edit = st.one_of(
        st.tuples(st.just("flip"), place, st.just(0.0), st.integers(0, 7)),
        st.tuples(st.just("truncate"), place, st.just(0.0), st.none()),
        st.tuples(st.sampled_from(["delete", "repeat"]), place, place, st.none()),
        st.tuples(st.sampled_from(["overwrite", "insert"]), place, st.just(0.0), payload),
    )
    return st.lists(edit, min_size=1, max_size=5)


def edited(valid: bytes, drawn: list[tuple[str, float, float, Any]]) -> bytes:
    """A file after some edits."""
    return functools.reduce(_edit, drawn, valid)


def mutated(valid: bytes, *, text: bool = False) -> st.SearchStrategy[bytes]:
    """A valid file after a few edits."""
    return edits(text=text, head=200 / max(len(valid), 1)).map(functools.partial(edited, valid))


# ── Structured nonsense ───────────────────────────────────────────────────────────────────────────────────────────────

texts = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(), max_size=5),
    st.sampled_from(
        ["", "\x00", "\ud800", "a\nb", "[red]x[/red]", "../../x", "x" * 5000, "NaN", "Infinity", "9" * 400]
    ),
)
numbers = st.one_of(
    st.integers(-10, 10),
    st.integers(),
    st.sampled_from([*EXTREMES, 10**400, -(10**400), 2**14000]),
    st.floats(),
    st.sampled_from([float("nan"), float("inf"), 1e308, 5e-324, -0.0]),
)
leaves = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)


def deep(depth: int, leaf: Any = 1) -> Any:
    """A list in a list in a list."""
    for _ in range(depth):
        leaf = [leaf]
    return leaf
