"""How a run stands, in a few words."""

from __future__ import annotations

import math

from kerascnn.runs import events as ev
from kerascnn.wording import duration, one_line
from tui.drawing import glyphs
from tui.drawing.plotting import number
from tui.reading.ledger import LIVE
from tui.reading.story import RunStory
from tui.reading.system import Usage

# Under this, a run's end is too near for an interval.
LONG_S = 60.0
# Of these runs more may come.
UNDER_WAY = (*LIVE, "elsewhere")
# A time left of ten years is none.
LONGEST_S = 3e8


def plain(text: str, *, ascii_only: bool) -> str:
    """The text as one line, with signs that every terminal has where that is wished."""
    return glyphs.plain(one_line(text), ascii=ascii_only)


def headline(model: str, dataset: str, backend: str) -> str:
    """Which run this is."""
    return " · ".join(part for part in (model, dataset, backend) if part) or "run"


def progress(story: RunStory) -> list[str]:
    """``epoch 7/40   step 1,204/7,800``, then the same in fewer words: the epoch tells most.

    A resume tells its recipe's epochs before those that were added: a sum below what is done isn't told.
    """
    epoch, step, steps = "", "", ""
    if story.epoch:
        epoch = f"epoch {story.epoch}" + (f"/{story.pace.epochs}" if story.pace.epochs >= story.epoch else "")
    if story.step:
        step = f"step {story.step:,}"
        steps = f"{step}/{story.steps_in_all:,}" if story.steps_in_all >= story.step else step
    return ["   ".join(filter(None, parts)) for parts in ((epoch, steps), (epoch, step), (epoch or step,))]


def phase(story: RunStory, state: str, now: float) -> str:
    """What the run does now, and before its first step for how long it has done that."""
    if state != "running" or story.phase is None:
        return state
    name = story.phase.phase
    if name == "validating" and story.validating is not None:
        return f"validating {story.validating.done}/{story.validating.batches}"
    if name in ("training", "validating"):
        return name
    return f"{name} {duration(max(now - story.phase.time, 0.0))}"


def glyph(state: str, *, ascii_only: bool) -> str:
    """The state as one sign."""
    return glyphs.plain(glyphs.STATES.get(state, " "), ascii=ascii_only)


def figures(story: RunStory, state: str, usage: Usage | None, cursor_step: int | None) -> list[str]:
    """Speed, learning rate and time left; what the process uses. At the cursor: the figures of that step."""
    parts = []
    index = len(story.steps) - 1
    if cursor_step is not None:
        index = int(story.steps.column("step").searchsorted(cursor_step, side="right")) - 1
    if index >= 0:
        speed = float(story.steps.column("images_per_s")[index])
        parts.append(f"{number(round(speed) if math.isfinite(speed) else speed)} images/s")
        parts.append(f"learning rate {number(float(story.steps.column('learning_rate')[index]))}")
    if cursor_step is not None:
        return parts
    if state in UNDER_WAY:
        if left := time_left(story):
            parts.append(left)
    elif story.steps.last("elapsed") == story.steps.last("elapsed"):
        ended = story.ended.elapsed if story.ended is not None else story.steps.last("elapsed")
        parts.append(f"took {duration(ended)}")
    # How long it took to start is news until an epoch has been told, and belongs to the sum at the end.
    if story.startup_s is not None and (state not in UNDER_WAY or not len(story.epochs)):
        compiled = f" + {duration(story.compiling_s)} compiling" if story.compiling_s is not None else ""
        parts.append(f"start-up {duration(story.startup_s)}{compiled}")
    if usage is not None:
        parts.append(f"cpu {100 * usage.cpu:.0f} %")
        parts.append(f"{usage.memory_bytes / 1e9:.1f} GB")
        if usage.gpu is not None:
            used, total = usage.gpu.used_bytes / 1e9, usage.gpu.total_bytes / 1e9
            parts.append(f"gpu {100 * usage.gpu.busy:.0f} % {used:.1f}/{total:.0f} GB")
    return parts


def time_left(story: RunStory) -> str:
    """``1 h 52 min – 2 h 05 min left``; one figure where both are the same."""
    interval = story.pace.interval_left()
    if interval is None or not all(0 <= seconds < LONGEST_S for seconds in interval):
        return ""
    low, high = (duration(seconds) for seconds in interval)
    if low == high or interval[1] < LONG_S:
        return f"{high} left"
    return f"{low} – {high} left"


def last_word(story: RunStory, state: str, host: str | None, gone_to: ev.Found | None = None) -> tuple[str, bool]:
    """The one thing to be told below the figures, and whether it is alarming: a finding that was gone to, first."""
    if story.trouble:
        return story.trouble, True
    if gone_to is not None:
        return _finding(story, gone_to), True
    if state == "failed" and story.ended is not None:
        return f"failed: {story.ended.message}", True
    if state == "killed":
        resumed = (
            "goes on from the last checkpoint" if story.checkpointed else "begins again: there is no checkpoint yet"
        )
        return f"its process is gone without a word; r {resumed}", True
    if state == "starting":
        tail = story.log_tail()
        return (tail[-1], True) if tail else ("no events yet: the run hasn't begun", False)
    if state == "diverged" and story.ended is not None:
        return f"diverged: {story.ended.message}", True
    if story.findings:
        return _finding(story), True
    if state == "elsewhere":
        return f"{host} works on it, or did until it was cut off; r goes on from the last checkpoint", False
    if story.ended is not None:
        return f"{story.ended.state}: {story.ended.message}", False
    return "", False


def _finding(story: RunStory, gone_to: ev.Found | None = None) -> str:
    """A finding, by default the newest, and what f does."""
    found = gone_to or story.findings[-1]
    where = f"{found.layer}: " if found.layer else ""
    count = len(story.findings)
    if count == 1:
        keys = "; f goes there"
    elif gone_to is None:
        keys = f", {count} findings; f goes there"
    else:
        keys = f", finding {story.findings.index(gone_to) + 1} of {count}; f goes to the next"
    return f"⚠ {where}{found.symptom}: {found.cause} (step {found.step:,}{keys})"
