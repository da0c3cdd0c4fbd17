"""Questions over a screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static


@dataclass(frozen=True)
class Answer:
    """What can be answered, and the key that does."""

    name: str
    key: str
    label: str


class Question(ModalScreen[str | None]):
    """A question with a few answers. Escape and q answer None, as does staying."""

    HELP = (
        "Left and right go from answer to answer, Enter takes it; so does the letter before it. Escape and q take none."
    )
    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "answer", "back", show=False, id="question.back"),
        Binding("left,up", "app.focus_previous", "before", show=False, id="question.before"),
        Binding("right,down", "app.focus_next", "after", show=False, id="question.after"),
    ]

    def __init__(self, title: str, body: str, answers: Sequence[Answer], *, ascii: bool = False) -> None:  # noqa: A002
        super().__init__()
        self._title = title
        self._body = body
        self._answers = answers
        self.set_class(ascii, "-ascii")
        for answer in answers:
            self._bindings.bind(answer.key, f"answer('{answer.name}')", answer.label, show=False)

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(self._title, id="title", markup=False)
            yield Static(self._body, id="text", markup=False)
            with Horizontal(id="answers"):
                for answer in self._answers:
                    yield Button(f"[u]{answer.key}[/u] {answer.label}", id=answer.name, compact=True)

    def action_answer(self, name: str | None = None) -> None:
        """Close with an answer."""
        self.dismiss(name)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id)


class TooSmall(ModalScreen[None]):
    """What is shown while the terminal is smaller than any screen can be read in."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,ctrl+q", "app.quit", "quit", show=False)]
    DEFAULT_CSS: ClassVar[str] = """
    TooSmall { background: $background; align: center middle; }
    TooSmall > Static { width: auto; text-align: center; }
    """

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__()
        self._needs = (columns, rows)

    def compose(self) -> ComposeResult:
        yield Static(id="told")

    def on_screen_resume(self) -> None:
        """Go, if the terminal has grown under a screen that was over this one."""
        columns, rows = self._needs
        if self.app.size.width >= columns and self.app.size.height >= rows:
            self.dismiss()

    def on_resize(self) -> None:
        """Say how large it is and how large it should be."""
        columns, rows = self._needs
        size = self.app.size
        self.query_one("#told", Static).update(
            f"{size.width}x{size.height} is too small\nexpected {columns}x{rows} or more\nruns go on; q quits"
        )
