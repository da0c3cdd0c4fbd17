"""A new run: what to change, whether it can be meant, what it costs, and the line that does the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Footer, Input, Label, Static

from kerascnn.catalog import load_recipe
from kerascnn.data.known import FOLDER
from kerascnn.errors import KerascnnError, RunError
from kerascnn.machine import machine
from kerascnn.recipe import Recipe
from kerascnn.runs.directory import Run
from kerascnn.training.backend import BACKENDS, choose_backend, install_line
from kerascnn.wording import command_line
from tui.drawing.glyphs import plain
from tui.messages import LedgerChanged, OpenRun
from tui.places import Places
from tui.reading.ledger import Ledger
from tui.starting import launch
from tui.starting.estimate import estimate
from tui.starting.form import (
    LEARNING_RATE,
    OPTIMIZER,
    Checked,
    Field,
    check,
    default_rate,
    fields_of,
    texts_of,
    where_data_lies,
)
from tui.starting.launch import train_arguments
from tui.widgets.card import Card
from tui.widgets.choice import Choice, Option
from tui.widgets.topbar import TopBar

Start = Callable[..., Awaitable[Run]]

this_machine = cache(machine)


class Number(Input):
    """A field for a number."""

    def __init__(self, field: Field, text: str) -> None:
        # Emptied, a limit of the catalog's would still hold.
        placeholder = "all" if field.optional and not text else ""
        super().__init__(text, id=_id(field.key), compact=True, placeholder=placeholder, select_on_focus=False)
        self.about = f"{field.help} The key is {field.key}."


class Form(VerticalScroll, can_focus=False, inherit_bindings=False):
    """The fields. Up and down lead from one to the next, and the form scrolls with them."""


class Row(Horizontal):
    """A label, its control, and below it what is wrong."""


class NewRunScreen(Screen[None]):
    """The form for one network."""

    HELP = (
        "Enter starts the run as it stands. Tab or Down goes from field to field, Left and Right choose. What differs "
        "from the catalog stands in the command below, which does the same without this interface; y copies it."
    )
    CSS_PATH = "new_run.tcss"
    AUTO_FOCUS = "#start"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", "start", id="new.start"),
        Binding("y,ctrl+y", "copy", "copy command", key_display="y", id="new.copy"),
        Binding("escape", "back", "back", id="new.back"),
        Binding("up", "app.focus_previous", "field above", show=False, id="new.up"),
        Binding("down", "app.focus_next", "field below", show=False, id="new.down"),
        # A number typed beside its field would otherwise lead to another place and leave the form.
        Binding("1,2,3", "stay", show=False, id="new.stay"),
    ]

    def __init__(
        self,
        model: str,
        places: Places,
        ledger: Ledger,
        backends: Sequence[str],
        *,
        ascii: bool = False,  # noqa: A002
        start: Start = launch.start,
    ) -> None:
        """A form filled with the catalog's recipe.

        Args:
            model: the network's name.
            places: runs folder, catalog and data, which go into the command.
            ledger: the runs so far, to estimate from.
            backends: those that are installed.
            ascii: draw with ASCII alone.
            start: what starts a command.

        Raises:
            KerascnnError: the catalog can't be read, or has no such network any more.
        """
        super().__init__()
        self._base = load_recipe(model, catalog=places.catalog)
        self._places = places
        self._ledger = ledger
        self._backends = backends
        self._ascii = ascii
        self._start = start
        self._texts = texts_of(self._base)
        self._checked = Checked(self._base, {})
        self._starting = False

    def compose(self) -> ComposeResult:
        yield TopBar("zoo", self._backends, ascii=self._ascii)
        title = Content.assemble(("new run of ", "$quiet"), (self._base.name, "bold"), f"  {self._base.summary}")
        yield Static(title, id="title")
        with Horizontal(id="body"):
            with Form(id="form"):
                yield from self._backend_row()
                for field in fields_of(self._base):
                    yield from self._row(field)
            with Form(id="layers"):
                yield Card(ascii=self._ascii)
        with Vertical(id="foot"):
            yield Static(id="estimate", markup=False)
            yield Static(id="command", markup=False)
            with Horizontal(id="go"):
                yield Button("Start", id="start", compact=True)
                yield Static(id="status", markup=False)
        yield Footer(show_command_palette=False, compact=True)

    def _backend_row(self) -> ComposeResult:
        options = [Option(name, name in self._backends, install_line(name)) for name in BACKENDS]
        choice = Choice(options, self._preferred_backend(), ascii=self._ascii, id="backend")
        choice.about = "What computes. A greyed one isn't installed; its install line stands below."
        with Row():
            yield Label("backend")
            yield choice
        missing = [option.note for option in options if not option.enabled]
        if missing:
            yield Static("not installed: " + ", ".join(missing), classes="note", markup=False)

    def _preferred_backend(self) -> str:
        try:
            return choose_backend().name
        except KerascnnError:
            return self._backends[0] if self._backends else BACKENDS[0]

    def _row(self, field: Field) -> ComposeResult:
        text = self._texts[field.key]
        with Row():
            yield Label(field.label)
            if field.kind == "choice":
                chosen = FOLDER if text.startswith(FOLDER) else text
                choice = Choice(
                    [Option(value) for value in field.options], chosen, ascii=self._ascii, id=_id(field.key)
                )
                choice.about = f"{field.help} The key is {field.key}. {Choice.HELP}"
                yield choice
            else:
                yield Number(field, text)
        if field.key == "dataset":
            with Row(id="folder-row"):
                yield Label("path")
                yield Input(text.partition(":")[2], id="folder", compact=True)
            yield Static(id="where", classes="note", markup=False)
        yield Static(id=f"error-{_id(field.key)}", classes="error", markup=False)

    def on_mount(self) -> None:
        """Check the catalog's own recipe, too."""
        self._check()

    # -- fields

    @on(Choice.Changed)
    def _chosen(self, event: Choice.Changed) -> None:
        if event.choice.id == _id(OPTIMIZER):
            base = self._base.train.optimizer
            same = event.value == base.name
            rate = texts_of(self._base)[LEARNING_RATE] if same else default_rate(event.value)
            self.query_one(f"#{_id(LEARNING_RATE)}", Input).value = rate
        self._check()

    @on(Input.Changed)
    def _typed(self) -> None:
        self._check()

    @on(Input.Submitted)
    def _entered(self) -> None:
        self.query_one("#start").focus()

    def _read(self) -> dict[str, str]:
        texts = {}
        for field in fields_of(self._base):
            if field.kind == "choice":
                texts[field.key] = self.query_one(f"#{_id(field.key)}", Choice).value
            else:
                texts[field.key] = self.query_one(f"#{_id(field.key)}", Input).value
        if texts["dataset"] == FOLDER:
            texts["dataset"] = f"{FOLDER}:{self.query_one('#folder', Input).value.strip()}"
        return texts

    @property
    def backend(self) -> str:
        """What is chosen to compute."""
        return self.query_one("#backend", Choice).value

    def _check(self) -> None:
        self._texts = self._read()
        self._checked = check(self._base, self._texts, self._places.catalog)
        self.query_one("#folder-row").display = self._texts["dataset"].startswith(FOLDER)
        for field in fields_of(self._base):
            wrong = self._checked.field == field.key
            told = self.query_one(f"#error-{_id(field.key)}", Static)
            told.display = wrong
            told.update(self._checked.error if wrong else "")
            self.query_one(f"#{_id(field.key)}").set_class(wrong, "-wrong")
        general = self._checked.error if self._checked.field is None else ""
        self._say(general, wrong=bool(general))
        command = self.query_one("#command", Static)
        command.update(command_line(["kerascnn", *self.arguments]))
        command.set_class(bool(self._checked.error), "-unfit")
        self.query_one("#start", Button).disabled = self._starting or bool(self._checked.error) or not self._backends
        if self._checked.recipe is not None:
            self.query_one(Card).show(self._checked.recipe, about=False)
        self._look_up(self._checked.recipe, self.backend, self._texts["dataset"])

    @property
    def arguments(self) -> list[str]:
        """What ``kerascnn`` is started with."""
        return train_arguments(self._base.name, self._checked.changes, self.backend, self._places)

    @work(thread=True, exclusive=True, group="look-up")
    def _look_up(self, recipe: Recipe | None, backend: str, dataset: str) -> None:
        """Where the data lies and what an epoch costs: both ask the disk."""
        where = where_data_lies(dataset, self._places.data_dir)
        cost = estimate(recipe, backend, self._ledger.entries, this_machine()).sentence() if recipe else ""
        self.app.call_from_thread(self._show_looked_up, where, cost)

    def _show_looked_up(self, where: str, cost: str) -> None:
        if self.is_mounted:
            self.query_one("#where", Static).update(plain(where, ascii=self._ascii))
            self.query_one("#estimate", Static).update(plain(cost, ascii=self._ascii))

    @on(LedgerChanged)
    def _new_figures(self) -> None:
        self._look_up(self._checked.recipe, self.backend, self._texts["dataset"])

    # -- keys

    @on(Button.Pressed, "#start")
    def action_start(self) -> None:
        """Start the run and show it."""
        if self._checked.error or self._starting:
            return
        self._starting = True
        self.query_one("#start", Button).disabled = True
        self._say("starting …")
        self._launch()

    @work(group="launch")
    async def _launch(self) -> None:
        try:
            run = await self._start(self.arguments, report=lambda line: self._say(line))
        except RunError as error:
            self._starting = False
            self._check()
            self._say(str(error), wrong=True)
            return
        if self.is_current:
            self.post_message(OpenRun(run, instead_of=self))
            return
        # Whoever went on to another screen meanwhile isn't torn away from it.
        self.notify(f"{run.name} has started", markup=False)
        self._starting = False
        self._check()

    def _say(self, text: str, *, wrong: bool = False) -> None:
        status = self.query_one("#status", Static)
        status.set_class(wrong, "-wrong")
        status.update(plain(text, ascii=self._ascii))

    def action_copy(self) -> None:
        """Copy the command that does the same."""
        self.app.copy_to_clipboard(command_line(["kerascnn", *self.arguments]))
        self.notify("copied", timeout=2)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Once the run starts there is nothing to lose, and digits lead on as everywhere."""
        return not (action == "stay" and self._starting)

    def action_stay(self) -> None:
        """Say why a digit does nothing here."""
        self.notify("digits are typed into a number's field; Escape leaves the form", timeout=4)

    def action_back(self) -> None:
        """Back to the zoo; what hasn't started yet doesn't."""
        self.app.pop_screen()


def _id(key: str) -> str:
    return key.replace(".", "-")
