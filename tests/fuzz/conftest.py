"""A line at the end that says how much was tried, and an end for what hangs."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator

import pytest

from tests.fuzz.harness import tried

# Far above what any of these tests takes: it ends a hang and says where it was, and measures nothing.
HANGS_AFTER_S = 3600.0


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if tried:
        each = ", ".join(f"{reader} {count:,}" for reader, count in sorted(tried.items()))
        terminalreporter.write_line(f"fuzz: {tried.total():,} inputs in {len(tried)} readers ({each})")
