"""What is known about a network: its figures, how it learns, its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.content import Content
from textual.widgets import Static

from kerascnn.recipe import Recipe
from kerascnn.wording import short_number
from tui.drawing.glyphs import plain
from tui.drawing.stack import Line, draw, stack
from tui.drawing.titled import titled, wrapped
from tui.reading.ledger import Entry
from tui.starting.zoo import facts

# A drawing is read across: further apart than this, left and right no longer belong together.
WIDEST = 100
_TITLE_COLUMNS = 13


class Card(Static):
    """A network's card, drawn for the width that there is."""

    DEFAULT_CSS: ClassVar[str] = "Card { height: auto; padding: 0 1; }"

    def __init__(self, *, ascii: bool, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, markup=False)
        self._ascii = ascii
        self._recipe: Recipe | None = None
        self._entries: Sequence[Entry] = ()
        self._about = True

    def show(self, recipe: Recipe | None, entries: Sequence[Entry] = (), *, about: bool = True) -> None:
        """Draw a network's card, or with ``about=False`` its layers alone."""
        self._recipe, self._entries, self._about = recipe, entries, about
        self._draw()

    def on_resize(self) -> None:
        """Draw for the new width."""
        self._draw()

    def _draw(self) -> None:
        if self._recipe is None or self.size.width == 0:
            self.update("")
            return
        width = min(self.size.width, WIDEST)
        layers = stack(self._recipe)
        lines = self._head(self._recipe, width) if self._about else []
        lines += [*self._layers(layers, width)]
        self.update(Content("\n").join(lines))

    def _head(self, recipe: Recipe, width: int) -> list[Content]:
        weights = f"{short_number(recipe.card.trainable_weights)} weights"
        gap = max(width - len(recipe.name) - len(weights), 1)
        lines = [
            Content.assemble((recipe.name, "bold"), " " * gap, weights),
            *(Content(self._plain(row)) for row in wrapped(recipe.summary, width)),
            *([Content.styled(self._plain(recipe.paper), "$quiet")] if recipe.paper else []),
            Content(""),
        ]
        told = titled(facts(recipe, self._entries), width, _TITLE_COLUMNS, ascii=self._ascii)
        return [*lines, *told, Content("")]

    def _layers(self, layers: Sequence[Line], width: int) -> list[Content]:
        return [
            Content.assemble(left, (right, "$quiet")) for left, right in draw(layers, width, ascii=self._ascii)
        ] + self._sum(layers)

    def _sum(self, layers: Sequence[Line]) -> list[Content]:
        weights, cost = sum(line.weights for line in layers), sum(line.multiply_adds for line in layers)
        if not cost:
            return []
        text = f"{weights:,} weights · {cost / 1e6:,.1f} M multiply-adds"
        return [Content(""), Content.styled(self._plain(text), "$quiet")]

    def _plain(self, text: str) -> str:
        return plain(text, ascii=self._ascii)
