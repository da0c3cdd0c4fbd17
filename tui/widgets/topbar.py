"""The line at the top: where one is, and which backends there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from kerascnn.training.backend import BACKENDS
from tui.drawing.glyphs import plain

PLACES = (("zoo", "1 Zoo"), ("runs", "2 Runs"), ("lecture", "3 Lecture"))


class TopBar(Horizontal):
    """The program's name, the places that a key leads to with the present one marked, and the backends."""

    DEFAULT_CSS: ClassVar[str] = """
    TopBar {
        height: 1;
        background: $panel;
        & > #places { width: 1fr; padding: 0 1; }
        & > #backends { width: auto; padding: 0 1; }
    }
    """

    def __init__(self, place: str, backends: Sequence[str], *, ascii: bool) -> None:  # noqa: A002
        super().__init__()
        self._place = place
        self._backends = backends
        self._ascii = ascii

    def compose(self) -> ComposeResult:
        parts: list[str | tuple[str, str]] = [("kerascnn", "bold"), "  "]
        for name, label in PLACES:
            style = "reverse" if name == self._place else f"@click=app.mode('{name}')"
            parts += [(f" {label} ", style), " "]
        yield Static(Content.assemble(*parts), id="places")
        yield Static(
            Content.assemble(*(self._backend(name) for name in BACKENDS)),
            id="backends",
        )

    def _backend(self, name: str) -> tuple[str, str]:
        here = name in self._backends
        mark = plain("●" if here else "○", ascii=self._ascii)
        return (f" {name} {mark}", "" if here else "dim")
