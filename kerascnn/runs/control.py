"""What a user asks of a live run: one JSON object a line in ``control.jsonl``, applied between two steps.

Whoever asks appends a line and waits for the event that confirms it; the run reads what is new.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from kerascnn.errors import RunError, UsageError
from kerascnn.runs import events as ev
from kerascnn.runs.directory import Run
from kerascnn.runs.process import full_name_of_process

CommandName = Literal["pause", "resume", "stop", "set-lr", "extend"]

CONFIRMED_WITHIN_S = 60.0
ASK_AGAIN_S = 0.05
# A line that is longer than any command can be is nobody's wish.
MAX_LINE = 1000
# What only a living process can do. The others wait for the next one.
FOR_THE_LIVING = ("pause", "resume", "stop")


def _said(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


class Command(BaseModel):
    """One wish. ``value`` is a learning rate for ``set-lr`` and a number of epochs for ``extend``."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    id: Annotated[str, Field(min_length=1, max_length=64)]
    command: CommandName
    value: float | None = None
    process: Annotated[str, Field(max_length=200)] | None = None
    """Whom `pause`, `resume` and `stop` are for: a later process on the same run isn't meant."""

    @model_validator(mode="after")
    def _value_fits(self) -> Command:
        if self.command == "set-lr" and not (self.value is not None and 0 < self.value <= 1e3):
            raise ValueError(f"set-lr: expected a learning rate above 0 and up to 1000, got {_said(self.value)}")
        if self.command == "extend" and not (
            self.value is not None and self.value == int(self.value) and 0 < self.value <= 1_000_000
        ):
            raise ValueError(f"extend: expected a whole number of epochs from 1 to 1,000,000, got {_said(self.value)}")
        if self.command in FOR_THE_LIVING and self.value is not None:
            raise ValueError(f"{self.command}: takes no value, got {self.value}")
        return self


class Inbox:
    """The commands that nobody has applied yet, in their order."""

    def __init__(self, path: Path, applied: set[str]) -> None:
        """``applied`` holds the ids of commands that earlier processes have applied."""
        self._path = path
        self._applied = applied
        self._for_me = (None, full_name_of_process(os.getpid()))
        self._offset = 0

    def new(self) -> list[Command]:
        """The commands that have come since the last call. Costs one ``stat`` where nothing has."""
        try:
            if self._path.stat().st_size <= self._offset:
                return []
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return []
        end = content.rfind(b"\n") + 1
        self._offset += end
        commands = [parse_command(line) for line in content[:end].splitlines()]
        fresh: dict[str, Command] = {}
        for command in commands:
            if command is not None and command.id not in self._applied and command.process in self._for_me:
                fresh.setdefault(command.id, command)
        self._applied.update(fresh)
        return list(fresh.values())


def parse_command(line: bytes) -> Command | None:
    """One line as its command; None where it is none."""
    if len(line) > MAX_LINE:
        return None
    try:
        return Command.model_validate(from_json(line))
    except ValueError:
        return None


def make_command(name: str, value: float | None) -> Command:
    """A command with an id of its own.

    Raises:
        UsageError: there is no such command, or its value doesn't fit.
    """
    try:
        return Command.model_validate({"id": secrets.token_hex(8), "command": name, "value": value})
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("command",):
            raise UsageError(f"expected pause, resume, stop, set-lr or extend, got {name!r}") from None
        raise UsageError(str(first.get("ctx", {}).get("error", first["msg"]))) from None


def ask(run: Run, command: Command) -> None:
    """Append a command for the run to find.

    Raises:
        RunError: no process works on the run and the command is for a living one, or it can't be written.
    """
    if command.command in FOR_THE_LIVING:
        owner, host = run.holder()
        if owner is None:
            if host is not None:
                raise RunError(f"{run.path}: {host} has taken this run; ask it to {command.command} there")
            raise RunError(f"{run.path}: no process works on this run, so it can't {command.command}")
        command = command.model_copy(update={"process": full_name_of_process(owner)})
    line = json.dumps(command.model_dump()).encode() + b"\n"
    try:
        descriptor = os.open(run.control_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RunError(f"{run.control_file}: can't be written: {error.strerror or error}") from None


def perhaps_there(host: str | None) -> str:
    """The words before what a resume would do, where another machine has taken the run and may do it sooner."""
    return f"{host} does it if it is still at work, else " if host is not None else ""


def wait_until_applied(run: Run, command: Command, offset: int) -> ev.ControlApplied | None:
    """The event that confirms a command, or None if the run's process ended without it.

    Args:
        run: the run that was asked.
        command: what it was asked.
        offset: where its events ended before it was asked.

    Raises:
        RunError: it didn't answer within a minute.
    """
    deadline = time.monotonic() + CONFIRMED_WITHIN_S
    while time.monotonic() < deadline:
        alive = run.owner() is not None
        new, offset = ev.read_events(run.events_file, offset)
        for event in ev.of_kind(new, ev.ControlApplied):
            if event.id == command.id:
                return event
        if not alive:
            return None
        time.sleep(ASK_AGAIN_S)
    raise RunError(
        f"{run.path}: the run hasn't answered within {CONFIRMED_WITHIN_S:.0f} s; it will when its step is done"
    )
