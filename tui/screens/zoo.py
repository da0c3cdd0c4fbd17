"""The zoo: which network? Left the networks, right the card of the one under the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option

from kerascnn.recipe import Recipe
from tui.drawing.glyphs import plain
from tui.messages import LedgerChanged, NewRun
from tui.reading.ledger import Ledger
from tui.screens.listed import ListedScreen, WordFilter
from tui.starting.zoo import ORDERS, Order, figure, matching, ordered, read_zoo
from tui.widgets.card import Card
from tui.widgets.topbar import TopBar


class Networks(OptionList):
    """The names, by family."""

    HELP = (
        "The networks of the zoo, by family. Up and down move; Enter opens the form for a new run of the network "
        "under the cursor; its card is on the right."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "new run", id="zoo.new_run"),
    ]


class Filter(WordFilter):
    """Words that a network's name, family, summary, dataset or paper must hold."""

    HELP = "Type words; only what holds all of them stays. Enter or Down goes to the list, Escape empties the filter."


class CardPane(VerticalScroll):
    """Where the card scrolls."""

    HELP = (
        "The card of a network: what it is, how it learns, and its layers from the image to the logits with the "
        "size that leaves each and its multiply-adds. A line on the left is a skip."
    )


class ZooScreen(ListedScreen):
    """All networks, and the card of one."""

    CSS_PATH = "zoo.tcss"
    AUTO_FOCUS = "Networks"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "focus_filter", "filter", id="zoo.filter"),
        Binding("s", "sort", "sort", id="zoo.sort"),
        Binding("r", "reload", "reload", show=False, id="zoo.reload"),
        Binding("escape", "clear_filter", "clear filter", show=False, id="zoo.clear"),
    ]

    def __init__(self, catalog: Path | None, ledger: Ledger, backends: Sequence[str], *, ascii: bool = False) -> None:  # noqa: A002
        super().__init__()
        self._catalog = catalog
        self._ledger = ledger
        self._backends = backends
        self._ascii = ascii
        self._recipes, self._problems = read_zoo(catalog)
        self._order: Order = "family"
        self._narrow: bool | None = None

    def compose(self) -> ComposeResult:
        yield TopBar("zoo", self._backends, ascii=self._ascii)
        yield Static(id="problems", markup=False)
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield Filter()
                yield Networks(compact=True)
            with CardPane(id="right"):
                yield Card(ascii=self._ascii)
            with VerticalScroll(id="recipe"):
                yield Static(id="toml", markup=False)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Show what couldn't be read; the list is filled once its width is known."""
        self._show_problems()

    def on_resize(self) -> None:
        """The figures beside the names come and go with the room for them."""
        self._fit()

    def _fit(self) -> None:
        narrow = self.has_class("-narrow")
        if narrow != self._narrow:
            self._narrow = narrow
            self.fill()

    @property
    def shown(self) -> Recipe | None:
        """The network under the cursor."""
        networks = self.query_one(Networks)
        if networks.highlighted is None:
            return None
        name = networks.get_option_at_index(networks.highlighted).id
        return next((recipe for recipe in self._recipes if recipe.name == name), None)

    def fill(self) -> None:
        """The networks that the filter lets through, in their order."""
        networks = self.query_one(Networks)
        before = self.shown.name if self.shown else None
        chosen = matching(self._recipes, self.filter_text)
        wide = not self._narrow
        room = 36 if wide else 28
        options: list[Option] = []
        for heading, recipes in ordered(chosen, self._order):
            options.append(Option(Content.styled(heading, "bold $quiet"), disabled=True))
            for recipe in recipes:
                number = figure(recipe, self._order) if wide or self._order not in ("family", "name") else ""
                name = (
                    recipe.name
                    if len(recipe.name) <= room - len(number) - 1
                    else recipe.name[: room - len(number) - 2] + "…"
                )
                text = f" {name:<{room - len(number) - 1}}"
                options.append(
                    Option(Content.assemble(plain(text, ascii=self._ascii), (number, "dim")), id=recipe.name)
                )
        networks.clear_options()
        networks.add_options(options)
        ids = [option.id for option in options]
        if before is not None and before in ids:
            networks.highlighted = ids.index(before)
        elif chosen:
            networks.highlighted = 1
        self._show_card()

    @on(Networks.OptionHighlighted)
    def _show_card(self) -> None:
        recipe = self.shown
        self.query_one(Card).show(recipe, self._ledger.entries)
        self.query_one("#toml", Static).update(recipe.to_toml() if recipe else "")
        if recipe is None:
            self.query_one(Card).update("no network fits the filter" if self._recipes else "the catalog is empty")

    def _show_problems(self) -> None:
        problems = self.query_one("#problems", Static)
        problems.display = bool(self._problems)
        problems.update("\n".join(self._problems))

    @on(Networks.OptionSelected)
    def _open_form(self, event: Networks.OptionSelected) -> None:
        if event.option.id:
            self.post_message(NewRun(event.option.id))

    def action_sort(self) -> None:
        """Sort by the next of family, name, weights, multiply-adds."""
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
        self.fill()

    def action_reload(self) -> None:
        """Read the catalog again."""
        self._recipes, self._problems = read_zoo(self._catalog)
        self._show_problems()
        self.fill()

    @on(LedgerChanged)
    def _new_results(self) -> None:
        self._show_card()

    def on_screen_resume(self) -> None:
        """Runs may have ended, and the terminal may have changed, while another screen was shown."""
        self._show_card()
        self.call_after_refresh(self._fit)
