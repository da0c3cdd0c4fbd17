"""What a run tells the world: one JSON object a line in ``events.jsonl``.

Whoever shows a run reads these; there is no other channel. A reader skips kinds that it doesn't know, a last line
that isn't finished, and steps that a later resume took back.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from kerascnn.errors import kind_and_reason

FORMAT = 1

PhaseName = Literal["importing", "loading data", "building", "compiling", "training", "validating"]
CheckpointReason = Literal["epoch", "minutes", "pause", "stop", "interrupted"]
EndState = Literal["finished", "stopped", "interrupted", "diverged", "failed"]


def _from_json(value: Any) -> Any:
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


def json_number(value: float) -> float | str:
    """A number as JSON has it; what it lacks is a text, which survives every reader: NaN, Infinity, -Infinity."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _in_utf8(value: Any) -> Any:
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


# Names of files may hold bytes that are no UTF-8, which JSON can't tell: a question mark, as on the terminal.
Text = Annotated[str, BeforeValidator(_in_utf8)]
Number = Annotated[float, BeforeValidator(_from_json), PlainSerializer(json_number, when_used="json")]
# What a reader may count, add up and show as a time without a thought: a line beyond these is no event.
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, lt=1e12)]
Moment = Annotated[float, Field(ge=0, lt=253_402_214_400)]  # the end of the year 9999


class Event(BaseModel):
    """What all events have: ``kind``, and ``time`` in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    time: Moment = Field(default_factory=time.time)


class RunStarted(Event):
    """A process has begun to work on the run; comes again with each resume."""

    kind: Literal["run started"] = "run started"
    format: Count = FORMAT
    model: Text
    dataset: Text
    backend: str
    epochs: Count
    batch_size: Count
    pid: Count


class DataLoaded(Event):
    """The size of what is learnt from. ``steps_per_epoch`` batches make an epoch."""

    kind: Literal["data loaded"] = "data loaded"
    train_images: Count
    val_images: Count
    steps_per_epoch: Count
    classes: Count
    where: Text


class Phase(Event):
    """What the run does from now on. ``epoch`` counts from 1 and is given while training and validating."""

    kind: Literal["phase"] = "phase"
    phase: PhaseName
    epoch: Count | None = None


class StepDone(Event):
    """One optimizer step. The first 50 are all recorded, later ones about one a second.

    ``step`` counts from 1 over the whole run. ``loss`` is this batch's mean cross-entropy in nats; ``mean_loss`` and
    ``accuracy`` are over the epoch so far. ``images_per_s`` is over the time since the last recorded step.
    ``elapsed`` is the run's own time in seconds, pauses and time between a kill and a resume left out.
    """

    kind: Literal["step"] = "step"
    step: Count
    epoch: Count
    loss: Number
    mean_loss: Number
    accuracy: Number
    learning_rate: Number
    images_per_s: Number
    elapsed: Seconds


class ValidationProgress(Event):
    """How far a validation pass is."""

    kind: Literal["validation progress"] = "validation progress"
    epoch: Count
    done: Count
    batches: Count


class EpochDone(Event):
    """An epoch with its validation. ``seconds`` is both together."""

    kind: Literal["epoch"] = "epoch"
    epoch: Count
    step: Count
    loss: Number
    accuracy: Number
    val_loss: Number
    val_accuracy: Number
    learning_rate: Number
    seconds: Seconds
    images_per_s: Number
    best: bool


class CheckpointWritten(Event):
    """A checkpoint is whole on disk, ``file`` being relative to the run directory."""

    kind: Literal["checkpoint"] = "checkpoint"
    step: Count
    file: str
    reason: CheckpointReason
    bytes: Count
    seconds: Seconds


class Resumed(Event):
    """The run goes on from a checkpoint: recorded steps after ``step`` and epochs after ``epoch`` are void."""

    kind: Literal["resumed"] = "resumed"
    step: Count
    epoch: Count
    epochs: Count
    elapsed: Seconds
    file: str


class ControlApplied(Event):
    """What a user asked has been done, after ``step`` steps. A resume from before that step does it again there.

    ``value`` is the learning rate of ``set-lr``, or the epochs that ``extend`` added.
    """

    kind: Literal["control"] = "control"
    id: str
    command: Literal["pause", "resume", "stop", "set-lr", "extend"]
    value: Annotated[float, Field(allow_inf_nan=False)] | None = None
    step: Count
    epochs: Count


class LayerStatistics(Event):
    """What each layer with weights did at a step. The tuples are as long as ``layers`` and in the network's order.

    All but the update is measured with the weights that the step began with, so step 1 tells of the initial weights.

    ``gradient_norm`` is the L2 norm of the kernel's gradient; ``update_over_weight`` the norm of the step's change over
    the norm of the kernel; ``between_images`` how much the layer's output differs from image to image; ``dead`` and
    ``saturated`` the share, from 0 to 1, of channels that fire on no image and of units in the flat part of their
    activation. None is a figure that the layer doesn't have.
    """

    kind: Literal["layer statistics"] = "layer statistics"
    step: Count
    layers: tuple[str, ...]
    gradient_norm: tuple[Number | None, ...]
    update_over_weight: tuple[Number | None, ...]
    between_images: tuple[Number | None, ...]
    dead: tuple[Number | None, ...]
    saturated: tuple[Number | None, ...]

    @model_validator(mode="after")
    def _a_figure_a_layer(self) -> LayerStatistics:
        for name in ("gradient_norm", "update_over_weight", "between_images", "dead", "saturated"):
            if len(getattr(self, name)) != len(self.layers):
                raise ValueError(f"{name}: expected {len(self.layers)} figures, got {len(getattr(self, name))}")
        return self


class Found(Event):
    """A diagnosis: why the network doesn't learn, or may not.

    ``rule`` is the cause's short name, ``cause`` tells it in words, ``evidence`` holds the figures that it rests on.
    """

    kind: Literal["finding"] = "finding"
    severity: Literal["warning", "verdict"]
    rule: str = ""
    symptom: Text
    layer: str | None = None
    step: Count
    cause: Text
    remedies: tuple[str, ...] = ()
    evidence: dict[str, Number] = {}


class Warned(Event):
    """Something that a user should know and that doesn't end the run."""

    kind: Literal["warning"] = "warning"
    message: Text
    step: Count | None = None


class RunEnded(Event):
    """The process is done with the run. ``exit_code`` is what the command returns."""

    kind: Literal["run ended"] = "run ended"
    state: EndState
    message: Text
    step: Count
    elapsed: Seconds
    exit_code: Count


KnownEvent = (
    RunStarted
    | DataLoaded
    | Phase
    | StepDone
    | ValidationProgress
    | EpochDone
    | CheckpointWritten
    | Resumed
    | ControlApplied
    | LayerStatistics
    | Found
    | Warned
    | RunEnded
)
KINDS: dict[str, type[Event]] = {kind.model_fields["kind"].default: kind for kind in get_args(KnownEvent)}
_KNOWN: TypeAdapter[KnownEvent] = TypeAdapter(Annotated[KnownEvent, Field(discriminator="kind")])

Listener = Callable[[Event], None]
SomeEvent = TypeVar("SomeEvent", bound=Event)


class EventWriter:
    """Appends events to ``events.jsonl`` and hands each to the listeners of this process."""

    def __init__(self, path: Path, listeners: Iterable[Listener] = ()) -> None:
        self._path = path
        self._listeners = list(listeners)
        self._file = path.open("ab")
        _end_unfinished_line(path, self._file.write)
        self._file.flush()

    def write(self, event: Event) -> None:
        """Append one event; it is with the operating system when this returns.

        A listener that fails hears no more, and the events say so: whoever looks on ends no training.
        """
        self._append(event)
        for listener in list(self._listeners):
            try:
                listener(event)
            except (Exception, SystemExit) as error:
                self._listeners.remove(listener)
                self._append(Warned(message=f"a listener failed and hears no more: {kind_and_reason(error)}"))

    def _append(self, event: Event) -> None:
        self._file.write(event.model_dump_json().encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _end_unfinished_line(path: Path, write: Callable[[bytes], int]) -> None:
    """A kill in the middle of a line leaves it unfinished; the next event must not be glued to it."""
    with path.open("rb") as file:
        file.seek(0, 2)
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                write(b"\n")


def parse_event(line: bytes | str) -> Event | None:
    """One line as its event; None for a kind that isn't known, or a line that isn't an event."""
    try:
        return _KNOWN.validate_json(line)
    except ValidationError:
        return None


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """The events of all finished lines from ``offset`` on, and the offset after them."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
    except OSError:
        return [], offset
    end = content.rfind(b"\n") + 1
    events = [event for line in content[:end].splitlines() if (event := parse_event(line)) is not None]
    return events, offset + end


def effective(events: Iterable[Event]) -> list[Event]:
    """The events without the steps, epochs and checkpoints that a resume took back."""
    kept: list[Event] = []
    step = epoch = math.inf
    resumed = False
    # From the end: what came before several resumes is voided by the earliest place that one of them went back to.
    for event in reversed(list(events)):
        if isinstance(event, Resumed):
            step, epoch, resumed = min(step, event.step), min(epoch, event.epoch), True
        elif isinstance(event, (StepDone, CheckpointWritten, LayerStatistics, Found)):
            if event.step > step:
                continue
        elif isinstance(event, EpochDone):
            if event.epoch > epoch:
                continue
        elif isinstance(event, RunEnded) and resumed:
            continue
        kept.append(event)
    return kept[::-1]


def of_kind(events: Iterable[Event], kind: type[SomeEvent]) -> Iterator[SomeEvent]:
    """The events of one kind."""
    return (event for event in events if isinstance(event, kind))
