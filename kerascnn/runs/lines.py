"""An event as the line that it leaves behind, on a terminal, in a pipe or in the terminal UI."""

from __future__ import annotations

from kerascnn.runs import events as ev
from kerascnn.wording import duration, percent


def plain_line(event: ev.Event) -> str:
    """The line that an event leaves behind, or an empty text."""
    if isinstance(event, ev.DataLoaded):
        return (
            f"{event.train_images:,} training and {event.val_images:,} validation images, {event.classes} classes, "
            f"from {event.where}"
        )
    if isinstance(event, ev.EpochDone):
        return (
            f"epoch {event.epoch}: loss {event.loss:.4f}, accuracy {percent(event.accuracy)}, "
            f"validation loss {event.val_loss:.4f}, accuracy {percent(event.val_accuracy)}"
            f"{' (best)' if event.best else ''}, {duration(event.seconds)}"
        )
    if isinstance(event, ev.Resumed):
        return f"going on after step {event.step} (epoch {min(event.epoch + 1, event.epochs)})"
    if isinstance(event, ev.ControlApplied):
        value = "" if event.value is None else f" {event.value:g}"
        return f"{event.command}{value} after step {event.step}"
    if isinstance(event, ev.Found):
        where = "" if event.layer is None else f" in {event.layer}"
        # A cause begins with its name, which a warning's symptom mostly is already.
        cause = event.cause.removeprefix(f"{event.symptom}: ")
        return f"{event.severity}: {event.symptom}{where} at step {event.step}: {cause}"
    if isinstance(event, ev.Warned):
        return f"note: {event.message}"
    if isinstance(event, ev.RunEnded):
        return f"{event.state}: {event.message}"
    return ""
