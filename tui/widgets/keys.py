"""The line that says what can be pressed now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.style import Style
from textual.widget import Widget


@dataclass(frozen=True)
class Key:
    """A key as it is written on the keyboard, what it does, and the action that a click on it does."""

    key: str
    label: str
    action: str


class KeyLine(Widget):
    """As many keys as there is room for, the first ones first, and one that is always there; each can be clicked."""

    DEFAULT_CSS = """
    KeyLine {
        height: 1; dock: bottom; background: $footer-background; color: $footer-description-foreground;
        link-style: none; link-color: $footer-description-foreground; link-background: transparent;
        link-style-hover: underline; link-background-hover: transparent; link-color-hover: $foreground;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._keys: Sequence[Key] = ()
        self._always: Key | None = None

    def show(self, keys: Sequence[Key], always: Key | None = None) -> None:
        """Show these from now on, and ``always`` at the right end."""
        if (keys, always) != (self._keys, self._always):
            self._keys, self._always = keys, always
            self.refresh()

    def render(self) -> Content:
        """The keys that fit."""
        line = Content("")
        last = _written(self._always) if self._always is not None else Content("")
        room = self.size.width - last.cell_length
        for key in self._keys:
            label = _written(key)
            if line.cell_length + label.cell_length > room:
                break
            line = Content.assemble(line, label)
        return Content.assemble(line, " " * max(room - line.cell_length, 0), last)


def _written(key: Key) -> Content:
    written = Content.assemble(" ", (key.key, "bold $footer-key-foreground"), f" {key.label} ")
    return written.stylize(Style.from_meta({"@click": key.action}))
