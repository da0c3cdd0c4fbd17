"""All runs, live and finished: which one, how far, how good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Static

from kerascnn.errors import KerascnnError
from kerascnn.runs.directory import Run, delete_run
from kerascnn.wording import duration, percent
from tui.drawing.glyphs import STATES, plain
from tui.messages import LedgerChanged, OpenRun, Overlay, ResumeRun
from tui.reading.ledger import Entry, Ledger, short_name
from tui.screens.dialogs import Answer, Question
from tui.screens.listed import ListedScreen, WordFilter
from tui.widgets.topbar import TopBar

_WARNED = ("killed", "diverged", "failed")


@dataclass(frozen=True)
class Column:
    """A column: what it shows of a run and what it is sorted by. ``wide`` ones need the room of 100 columns."""

    title: str
    show: Callable[[Entry], str]
    key: Callable[[Entry], Any]
    right: bool = False
    wide: bool = False


COLUMNS = (
    Column("state", lambda e: f"{STATES.get(e.state, '–')} {e.state}", lambda e: (not e.live, e.state)),
    Column("network", lambda e: e.model, lambda e: e.model),
    Column("backend", lambda e: e.backend or "–", lambda e: e.backend),
    Column("dataset", lambda e: e.dataset, lambda e: e.dataset, wide=True),
    Column("epoch", lambda e: f"{e.epoch}/{e.epochs}", lambda e: e.epoch, right=True),
    Column("best val", lambda e: percent(e.best_val_accuracy), lambda e: e.best_val_accuracy or 0.0, right=True),
    Column("time", lambda e: duration(e.seconds), lambda e: e.seconds, right=True),
    Column("started", lambda e: f"{datetime.fromtimestamp(e.started):%d %b %H:%M}", lambda e: e.started, wide=True),
    Column("run", lambda e: short_name(e.run), lambda e: e.run.path.name, wide=True),
)
_NEWEST_FIRST = "started"
_PADDING = 1
# Where there isn't room for all. The newest are first, so when a run started is least missed.
_FIRST_TO_GO = ("started", "dataset", "run")


class RunsTable(DataTable[Text]):
    """One row a run."""

    HELP = (
        "All runs of the runs folder, newest first. Enter opens the run under the cursor, live or finished. Space "
        "selects it for an overlay of curves; with none selected, the run under the cursor counts. A run that was "
        "stopped, interrupted or killed goes on with r from its last checkpoint; one that is elsewhere was taken by "
        "another machine, and goes on with r only where that has left it."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "open", id="runs.open"),
        Binding("space", "screen.mark", "select", id="runs.select"),
        Binding("o", "screen.overlay", "overlay", id="runs.overlay"),
        Binding("r", "screen.resume", "resume", id="runs.resume"),
        Binding("d", "screen.delete", "delete", id="runs.delete"),
    ]


class RunsFilter(WordFilter):
    """Words that a row must hold."""

    HELP = "Type words, such as a network and a state; only rows that hold all of them stay. Escape empties the filter."


class RunsScreen(ListedScreen):
    """All runs in a table."""

    CSS_PATH = "runs.tcss"
    AUTO_FOCUS = "RunsTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "focus_filter", "filter", id="runs.filter"),
        Binding("s", "sort", "sort", id="runs.sort"),
        Binding("S", "reverse", "reverse", show=False, id="runs.reverse"),
        Binding("escape", "clear_filter", "clear filter", show=False, id="runs.clear"),
    ]

    def __init__(self, ledger: Ledger, backends: Sequence[str], *, ascii: bool = False) -> None:  # noqa: A002
        super().__init__()
        self._ledger = ledger
        self._backends = backends
        self._ascii = ascii
        self._sort, self._reverse = _NEWEST_FIRST, True
        self._selected: list[Path] = []
        self._rows: list[Path] = []
        self._columns: tuple[Column, ...] = ()

    def compose(self) -> ComposeResult:
        yield TopBar("runs", self._backends, ascii=self._ascii)
        yield RunsFilter()
        yield Static(id="empty", markup=False)
        yield RunsTable(cursor_type="row", cell_padding=_PADDING)
        yield Static(id="told", markup=False)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Fill the table with what the ledger knows."""
        self.fill()

    def on_resize(self) -> None:
        """Columns come and go with the room for them."""
        self.call_after_refresh(self.fill)

    def on_screen_resume(self) -> None:
        """Runs may have moved on while another screen was shown."""
        self.fill()

    @on(LedgerChanged)
    def _changed(self) -> None:
        self.fill()

    # -- the table

    def _shown(self) -> list[Entry]:
        wanted = self.filter_text.lower().split()
        entries = [entry for entry in self._ledger.entries if _fits(entry, wanted)]
        column = next(column for column in COLUMNS if column.title == self._sort)
        return sorted(entries, key=column.key, reverse=self._reverse)

    def fill(self) -> None:
        """The runs that the filter lets through, sorted; cells alone where the rows are the same."""
        table = self.query_one(RunsTable)
        entries = self._shown()
        columns = self._fitting(entries)
        rows = [entry.run.path for entry in entries]
        under = self._under_cursor()
        if columns != self._columns or rows != self._rows:
            self._columns, self._rows = columns, rows
            table.clear(columns=True)
            for title in ("", *(column.title for column in columns)):
                table.add_column(title, key=title or "mark")
            for entry in entries:
                table.add_row(*self._cells(entry, columns), key=str(entry.run.path))
            if under is not None and under.path in rows:
                table.move_cursor(row=rows.index(under.path), animate=False)
        else:
            self._update_cells(table, entries, columns)
        self._say(entries)

    def _fitting(self, entries: Sequence[Entry]) -> tuple[Column, ...]:
        """The columns that there is room for: half a date would be another date."""
        columns = [column for column in COLUMNS if not column.wide or not self.has_class("-narrow")]
        room = self.app.size.width - self.query_one(RunsTable).styles.scrollbar_size_vertical
        for title in _FIRST_TO_GO:
            if sum(map(_width, [[" "], *(_told(column, entries) for column in columns)])) <= room:
                break
            columns = [column for column in columns if column.title != title]
        return tuple(columns)

    def _update_cells(self, table: RunsTable, entries: Sequence[Entry], columns: Sequence[Column]) -> None:
        for row, entry in enumerate(entries):
            for column, cell in enumerate(self._cells(entry, columns)):
                where = Coordinate(row, column)
                if table.get_cell_at(where) != cell:
                    table.update_cell_at(where, cell, update_width=True)

    def _cells(self, entry: Entry, columns: Sequence[Column]) -> list[Text]:
        mark = "●" if entry.run.path in self._selected else " "
        cells = [Text(plain(mark, ascii=self._ascii))]
        for column in columns:
            style = "bold" if column.title == "state" and (entry.live or entry.state in _WARNED) else ""
            text = plain(column.show(entry), ascii=self._ascii)
            cells.append(Text(text, style=style, justify="right" if column.right else "left"))
        return cells

    def _say(self, entries: Sequence[Entry]) -> None:
        empty = self.query_one("#empty", Static)
        empty.display = not entries
        self.query_one(RunsTable).display = bool(entries)
        known = len(self._ledger.entries)
        empty.update(
            "no run fits the filter" if known else f"no runs yet: 1 leads to the zoo\n\nlooked in {self._ledger.folder}"
        )
        live = sum(entry.live for entry in entries)
        order = f"by {self._sort}" + (", last first" if self._reverse else "")
        parts = [f"{len(entries)} of {known} runs", f"{live} live", order]
        if selected := self._known_selected():
            parts.append(f"{len(selected)} selected")
        self.query_one("#told", Static).update(plain(" · ".join(parts), ascii=self._ascii))

    def _known_selected(self) -> list[Path]:
        """The selected runs that haven't been deleted since."""
        known = {entry.run.path for entry in self._ledger.entries}
        return [path for path in self._selected if path in known]

    def _under_cursor(self) -> Run | None:
        table = self.query_one(RunsTable)
        row = table.cursor_row
        return Run(self._rows[row]) if table.row_count and 0 <= row < len(self._rows) else None

    # -- keys

    @on(RunsTable.RowSelected)
    def _open(self, event: RunsTable.RowSelected) -> None:
        self.post_message(OpenRun(Run(self._rows[event.cursor_row])))

    @on(RunsTable.HeaderSelected)
    def _sort_by_header(self, event: RunsTable.HeaderSelected) -> None:
        title = str(event.column_key.value)
        if title in [column.title for column in COLUMNS]:
            self._reverse = not self._reverse if title == self._sort else False
            self._sort = title
            self.fill()

    def action_sort(self) -> None:
        """Sort by the next column."""
        titles = [column.title for column in COLUMNS]
        self._sort = titles[(titles.index(self._sort) + 1) % len(titles)]
        self._reverse = self._sort in ("best val", "started", "time", "epoch")
        self.fill()

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._reverse = not self._reverse
        self.fill()

    def action_mark(self) -> None:
        """Select the run under the cursor, or no longer, and go on to the next."""
        run = self._under_cursor()
        if run is None:
            return
        if run.path in self._selected:
            self._selected.remove(run.path)
        else:
            self._selected.append(run.path)
        self.fill()
        self.query_one(RunsTable).action_cursor_down()

    def action_overlay(self) -> None:
        """Lay the curves of the selected runs over one another."""
        under = self._under_cursor()
        runs = [Run(path) for path in self._known_selected()] or ([under] if under else [])
        if runs:
            self.post_message(Overlay(runs))

    def action_resume(self) -> None:
        """Go on with the run under the cursor."""
        run = self._under_cursor()
        entry = self._entry_of(run)
        if run is None or entry is None:
            return
        if entry.live:
            self._refuse(f"{run.name} is {entry.state} already; Enter shows it")
        elif entry.state == "finished":
            self._refuse(f"{run.name} has all its {entry.epochs} epochs; open it to add more")
        else:
            self.post_message(ResumeRun(run))

    def action_delete(self) -> None:
        """Remove the run under the cursor, once it is confirmed."""
        run = self._under_cursor()
        entry = self._entry_of(run)
        if run is None or entry is None:
            return
        if entry.live:
            self._refuse(f"{run.name} is {entry.state}: stop it first, then delete it")
            return
        self.app.push_screen(
            Question(
                "Delete this run with its checkpoints and weights?",
                f"{run.name}\n{entry.state}, epoch {entry.epoch}/{entry.epochs}",
                [Answer("keep", "k", "keep"), Answer("delete", "d", "delete")],
                ascii=self._ascii,
            ),
            lambda answer: self._delete_if(run, answer),
        )

    def _delete_if(self, run: Run, answer: str | None) -> None:
        if answer == "delete":
            self._delete(run)

    @work(thread=True, group="delete")
    def _delete(self, run: Run) -> None:
        try:
            delete_run(run)
        except KerascnnError as error:
            self.app.call_from_thread(self._refuse, str(error))
        self._ledger.refresh()
        self.post_message(LedgerChanged())

    def _entry_of(self, run: Run | None) -> Entry | None:
        return next((entry for entry in self._ledger.entries if run and entry.run.path == run.path), None)

    def _refuse(self, reason: str) -> None:
        self.notify(reason, severity="warning", markup=False)


def _told(column: Column, entries: Sequence[Entry]) -> list[str]:
    return [column.title, *(column.show(entry) for entry in entries)]


def _width(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts)) + 2 * _PADDING


def _fits(entry: Entry, words: Sequence[str]) -> bool:
    told = f"{entry.state} {entry.model} {entry.backend} {entry.dataset} {entry.run.path.name}".lower()
    return all(word in told for word in words)
