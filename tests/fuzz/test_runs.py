"""What a run directory holds: events, commands, and the small files beside them."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import example
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from kerascnn.catalog import load_recipe
from kerascnn.cli import app
from kerascnn.cli.progress import BarDisplay, PlainDisplay
from kerascnn.errors import KerascnnError
from kerascnn.runs import events as ev
from kerascnn.runs.control import MAX_LINE, Command, Inbox, parse_command
from kerascnn.runs.directory import Run, create_run, list_runs
from kerascnn.training.control import Control
from kerascnn.wording import duration
from tests.fuzz.harness import WORDS, answer, fuzzed, mutated, numbers, texts, values

EVENTS: list[ev.Event] = [
    ev.RunStarted(model="tiny", dataset="mnist", backend="torch", epochs=2, batch_size=50, pid=1, time=1e9),
    ev.DataLoaded(train_images=100, val_images=50, steps_per_epoch=2, classes=10, where="here", time=1e9),
    ev.Phase(phase="training", epoch=1, time=1e9),
    *(
        ev.StepDone(
            step=n, epoch=1, loss=2.3, mean_loss=2.3, accuracy=0.1, learning_rate=0.1, images_per_s=9.0, elapsed=n,
            time=1e9 + n,
        )
        for n in (1, 2)
    ),
    ev.ValidationProgress(epoch=1, done=1, batches=1, time=1e9),
    ev.EpochDone(
        epoch=1, step=2, loss=float("nan"), accuracy=0.1, val_loss=2.2, val_accuracy=0.2, learning_rate=0.1,
        seconds=3.0, images_per_s=9.0, best=True, time=1e9,
    ),
    ev.CheckpointWritten(step=2, file="checkpoints/a", reason="epoch", bytes=9, seconds=0.1, time=1e9),
    ev.ControlApplied(id="a", command="set-lr", value=0.01, step=2, epochs=2, time=1e9),
    ev.LayerStatistics(
        step=2, layers=("conv",), gradient_norm=(1.0,), update_over_weight=(0.1,), between_images=(None,), dead=(0.0,),
        saturated=(0.5,), time=1e9,
    ),
    ev.Found(severity="warning", symptom="s", step=2, cause="c", remedies=("r",), evidence={"x": 1.0}, time=1e9),
    ev.Resumed(step=1, epoch=0, epochs=2, elapsed=1.0, file="checkpoints/a", time=1e9),
    ev.Warned(message="w", time=1e9),
    ev.RunEnded(state="finished", message="done", step=2, elapsed=3.0, exit_code=0, time=1e9),
]  # fmt: skip
LINES = [event.model_dump_json().encode() for event in EVENTS]
STREAM = b"\n".join(LINES) + b"\n"
FIELDS = sorted({name for kind in ev.KINDS.values() for name in kind.model_fields} - {"kind"})


def changed(line: bytes) -> st.SearchStrategy[bytes]:
    """One line with some of its fields replaced by anything."""
    return st.dictionaries(st.sampled_from([*json.loads(line)]) | texts, values, min_size=1, max_size=3).map(
        lambda changes: json.dumps({**json.loads(line), **changes}).encode()
    )


lines = st.one_of(
    st.sampled_from(LINES).flatmap(changed),
    st.sampled_from(LINES).flatmap(lambda line: mutated(line, text=True)),
    st.fixed_dictionaries({"kind": st.sampled_from([*ev.KINDS]) | values}, optional=dict.fromkeys(FIELDS, values)).map(
        lambda content: json.dumps(content).encode()
    ),
    values.map(lambda content: json.dumps(content).encode()),
    st.binary(max_size=50),
)


@fuzzed("events.jsonl", long=10_000, line=lines)
@example(line=b'{"kind": "warning", "message": "\\ud800", "time": 1}')
@example(line=b'{"kind": "warning", "message": "m", "time": NaN}')
@example(line=b'{"kind": "warning", "message": "m", "time": 1e300}')
@example(line=b'{"kind": "warning", "message": "m", "step": -1, "time": 1}')
@example(line=LINES[3].replace(b'"elapsed":1.0', b'"elapsed":Infinity'))
@example(line=LINES[9].replace(b'"layers":["conv"]', b'"layers":[]'))
@example(line=b"[" * 100_000)
def test_a_line_is_an_event_or_nothing(folder: Path, line: bytes) -> None:
    event = answer(lambda: ev.parse_event(line), size=len(line))
    if event is None:
        return
    assert ev.parse_event(event.model_dump_json()) == event or "NaN" in event.model_dump_json()
    duration(getattr(event, "elapsed", 0.0))
    for display in (PlainDisplay(Console(file=io.StringIO())), BarDisplay(Console(file=io.StringIO()))):
        display.show(event)


def test_every_kind_of_event_reads_back() -> None:
    """Else the test above might see nothing but lines that are none."""
    assert [ev.parse_event(line) is not None for line in LINES] == [True] * len(LINES)
    assert {json.loads(line)["kind"] for line in LINES} == set(ev.KINDS)


def slow_effective(events: list[ev.Event]) -> list[ev.Event]:
    """What docs/runs.md says, word for word: a resume voids the recorded steps and epochs before it that are later."""
    kept: list[ev.Event] = []
    for event in events:
        if isinstance(event, ev.Resumed):
            by_step = (ev.StepDone, ev.CheckpointWritten, ev.LayerStatistics, ev.Found)
            kept = [e for e in kept if not (isinstance(e, by_step) and e.step > event.step)]
            kept = [e for e in kept if not (isinstance(e, ev.EpochDone) and e.epoch > event.epoch)]
            kept = [e for e in kept if not isinstance(e, ev.RunEnded)]
        kept.append(event)
    return kept


@fuzzed("events.jsonl", long=4000, content=mutated(STREAM, text=True) | st.lists(lines, max_size=12).map(b"\n".join))
@example(content=STREAM * 2)
def test_a_stream_of_events(folder: Path, content: bytes) -> None:
    path = folder / "events.jsonl"
    path.write_bytes(content)
    found = answer(lambda: ev.read_events(path), size=len(content))
    assert found is not None
    events, offset = found
    assert offset == content.rfind(b"\n") + 1
    assert ev.read_events(path, offset) == ([], offset)
    assert list(map(id, ev.effective(events))) == list(map(id, slow_effective(events)))


# ── Commands ──────────────────────────────────────────────────────────────────────────────────────────────────────────

COMMANDS = [
    b'{"id": "a1", "command": "set-lr", "value": 0.01, "process": null}',
    b'{"id": "a2", "command": "extend", "value": 3}',
    b'{"id": "a3", "command": "stop"}',
]
commands = st.one_of(
    st.sampled_from(COMMANDS),
    st.sampled_from(COMMANDS).flatmap(changed),
    st.sampled_from(COMMANDS).flatmap(lambda line: mutated(line, text=True)),
    values.map(lambda content: json.dumps(content).encode()),
    st.sampled_from(WORDS).map(lambda word: word.encode("utf-8", "surrogatepass")),
)


@fuzzed("control.jsonl", long=8000, line=commands)
@example(line=b'{"id": "\\ud800", "command": "stop"}')
@example(line=b'{"id": "a", "command": "extend", "value": 1e300}')
@example(line=b'{"id": "a", "command": "set-lr", "value": NaN}')
def test_a_line_is_a_command_or_nothing(folder: Path, line: bytes) -> None:
    command = answer(lambda: parse_command(line), size=len(line))
    if command is None:
        return
    assert len(line) <= MAX_LINE
    if command.command == "set-lr":
        assert command.value is not None
        assert 0 < command.value <= 1e3
    if command.command == "extend":
        assert command.value is not None
        assert 1 <= int(command.value) <= 1_000_000
    applied = ev.ControlApplied(id=command.id, command=command.command, value=command.value, step=0, epochs=1)
    assert ev.parse_event(applied.model_dump_json()) == applied


@fuzzed("control.jsonl", long=3000, first=st.lists(commands, max_size=6), second=st.lists(commands, max_size=3))
@example(first=[COMMANDS[1], COMMANDS[1]], second=[])
def test_an_inbox_gives_each_command_once(folder: Path, first: list[bytes], second: list[bytes]) -> None:
    path = folder / "control.jsonl"
    path.write_bytes(b"\n".join(first))
    inbox = Inbox(path, {"a3"})
    given: list[Command] = answer(inbox.new, size=sum(map(len, first))) or []
    with path.open("ab") as file:
        file.write(b"\n" + b"\n".join(second) + b"\n")
    given += answer(inbox.new, size=path.stat().st_size) or []
    ids = [command.id for command in given]
    assert len(ids) == len(set(ids))
    assert "a3" not in ids
    assert inbox.new() == []


# ── The whole directory ───────────────────────────────────────────────────────────────────────────────────────────────

ENVIRONMENT: dict[str, Any] = {
    "backend": "torch",
    "device": "cpu",
    "threads": 2,
    "versions": {"keras": "3", "torch": "2"},
    "machine": "m",
    "dataset": {"name": "mnist", "where": "here", "fingerprint": "f", "class_names": ["a", "b"]},
    "pixel_statistics": {"mean": [1.0], "deviation": [1.0]},
    "command": ["kerascnn", "train"],
}
RESULT: dict[str, Any] = {"state": "finished", "message": "done", "exit_code": 0, "figures": {"loss": 1.0}}
OWNER: dict[str, Any] = {"pid": 1, "process": "boot:1", "host": "h"}


def object_like(plausible: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """A JSON file that is as it should be, changed in some keys, damaged, or something else."""
    whole = json.dumps(plausible).encode()
    return st.one_of(
        st.just(whole),
        st.dictionaries(st.sampled_from([*plausible]), values, min_size=1).map(
            lambda changes: json.dumps({**plausible, **changes}).encode()
        ),
        mutated(whole, text=True),
        values.map(lambda content: json.dumps(content).encode()),
    )


RECIPE = load_recipe("cnn2_fmnist")
DIRECTORY = {
    "recipe": RECIPE.to_toml().encode(),
    "events": STREAM,
    "owner": b"{}",
    "result": json.dumps(RESULT).encode(),
}


@fuzzed(
    "run directory",
    short=30,
    long=1200,
    recipe=st.just(RECIPE.to_toml().encode()) | mutated(RECIPE.to_toml().encode(), text=True),
    events=st.just(STREAM) | mutated(STREAM, text=True) | st.lists(lines, max_size=8).map(b"\n".join),
    environment=object_like(ENVIRONMENT),
    owner=object_like(OWNER),
    result=object_like(RESULT),
)
@example(**DIRECTORY, environment=json.dumps({key: [1] for key in ENVIRONMENT}).encode())
@example(**DIRECTORY, environment=json.dumps({**ENVIRONMENT, "command": [1], "versions": {"torch": None}}).encode())
@example(**{**DIRECTORY, "result": b'{"message": null}'}, environment=b"{}")
def test_a_run_directory_is_listed_and_shown(
    folder: Path, recipe: bytes, events: bytes, environment: bytes, owner: bytes, result: bytes
) -> None:
    path = folder / "runs" / "model" / "run"
    run = Run(path) if path.exists() else create_run(path, RECIPE, [])
    contents = {"recipe.toml": recipe, "environment.json": environment, "owner.json": owner, "result.json": result}
    for name, content in {**contents, "events.jsonl": events}.items():
        (path / name).write_bytes(content)
    size = len(events) + sum(map(len, contents.values()))
    assert [found.path for found in list_runs(folder / "runs")] == [path]
    summary = answer(run.summary, size=size)
    assert summary is not None
    assert answer(lambda: Control(run, set()).commands(2**62), size=size) is not None
    shown = ["runs", "show", str(path)]
    for arguments in (["runs"], ["runs", "--json"], shown, [*shown, "--json"], ["watch", str(path)]):
        # It would wait for news of another machine.
        with patch("kerascnn.cli.runs.SILENT_S", 0):
            told = CliRunner().invoke(app, [*arguments, "--runs-dir", str(folder / "runs")])
        assert told.exception is None or isinstance(told.exception, KerascnnError), f"{arguments}: {told.exception!r}"


@fuzzed("run directory", long=3000, pid=numbers | texts, started=numbers | texts)
@example(pid=-1, started=0)
@example(pid=True, started=0)
@example(pid=2**63, started=float("nan"))
def test_an_owner_that_nobody_is(folder: Path, pid: Any, started: Any) -> None:
    (folder / "owner.json").write_text(json.dumps({"pid": pid, "process": started, "host": socket.gethostname()}))
    answer(Run(folder).owner, size=100)
