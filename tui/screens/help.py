"""What the focused pane is for and which keys work now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from tui.drawing.glyphs import plain


@dataclass(frozen=True)
class KeyLine:
    """A key, what it does, and the name by which the settings give it another key."""

    key: str
    label: str
    id: str


def help_text(screen: Screen[object]) -> str:
    """What the focused widget, or the nearest thing around it, says about itself."""
    node: DOMNode | None = screen.focused or screen
    while node is not None:
        said = getattr(node, "about", None) or getattr(node, "HELP", None)
        if said:
            return str(said)
        node = node.parent
    return ""


def key_lines(screen: Screen[object]) -> list[KeyLine]:
    """The keys that work now, those of the focused widget first; several keys of one action in one line."""
    keys: dict[tuple[str, str, str], list[str]] = {}
    for _, binding, enabled, _ in screen.active_bindings.values():
        if enabled and binding.description:
            shown = keys.setdefault((binding.action, binding.description, binding.id or ""), [])
            shown += [key] if (key := screen.app.get_key_display(binding)) not in shown else []
    return [KeyLine(" ".join(shown), label, name) for (_, label, name), shown in keys.items()]


class HelpScreen(ModalScreen[None]):
    """The help for what had the focus."""

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,question_mark,enter,q", "dismiss", "back", show=False, id="help.back")
    ]

    def __init__(self, text: str, keys: Sequence[KeyLine], settings_path: str, *, ascii: bool = False) -> None:  # noqa: A002
        super().__init__()
        self._text = text
        self._keys = keys
        self._settings_path = settings_path
        self._ascii = ascii
        self.set_class(ascii, "-ascii")

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(plain(self._text, ascii=self._ascii), id="text", markup=False)
            yield Static(self._table(), id="keys")
            yield Static(
                f'Other keys: [keymap] in {self._settings_path}, such as "app.quit" = "ctrl+x". '
                "Escape or q closes this.",
                id="where",
                markup=False,
            )

    def _table(self) -> Content:
        """Our own keys as a table, those of every list and field in a paragraph below it."""
        own = [line for line in self._keys if line.id]
        width = max((len(line.key) for line in own), default=0)
        labels = max((len(line.label) for line in own), default=0)
        lines = [
            Content.assemble(
                (plain(f"{line.key:<{width}}", ascii=self._ascii), "bold"),
                f"  {line.label:<{labels}}  ",
                (line.id, "$quiet"),
            )
            for line in own
        ]
        others = " · ".join(
            f"{line.key} {line.label.lower()}" for line in self._keys if not line.id and "+" not in line.key
        )
        return Content("\n").join([*lines, Content(""), Content.styled(plain(others, ascii=self._ascii), "$quiet")])
