"""The report: ``lecture.md`` with its pictures, and the same as one self-contained ``lecture.html``."""

from __future__ import annotations

import html
import math
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from markdown_it import MarkdownIt

from kerascnn.data.dataset import folder_path, is_folder
from kerascnn.lecture import figures
from kerascnn.lecture.argument import Argument, Rule, the_argument
from kerascnn.lecture.figures import Group
from kerascnn.lecture.folder import LectureFolder, Settings, Shown
from kerascnn.lecture.verdicts import AS_CLAIMED, NO_CLAIM, NOT_AS_CLAIMED, UNDECIDED, Verdict, never_below, together
from kerascnn.runs import events as ev
from kerascnn.runs.files import write_text
from kerascnn.wording import command_line, duration, whole_percent

VERDICTS: tuple[Verdict, ...] = (AS_CLAIMED, NOT_AS_CLAIMED, UNDECIDED, NO_CLAIM)


def write_report(folder: LectureFolder) -> list[Path]:
    """Write ``lecture.md``, its pictures and ``lecture.html`` into the lecture's folder.

    Returns:
        The two files to open.
    """
    settings = folder.settings()
    argument = the_argument()
    shown = [folder.show(one, settings) for one in folder.step_runs(argument)]
    backends = {
        backend: _grouped([one for one in shown if one.step_run.backend == backend], argument)
        for backend in dict.fromkeys(one.step_run.backend for one in shown)
    }
    pictures: dict[str, str] = {}
    text = "\n".join(_lines(backends, settings, argument, pictures))
    for name, svg in pictures.items():
        write_text(folder.path / name, svg)
    markdown, page = folder.path / "lecture.md", folder.path / "lecture.html"
    write_text(markdown, text)
    write_text(page, _as_page(text, pictures))
    return [markdown, page]


def _grouped(shown: Sequence[Shown], argument: Argument) -> list[Group]:
    by_step = [(step, [one for one in shown if one.step_run.step.id == step.id]) for step in argument.steps]
    return [(step, runs) for step, runs in by_step if runs]


def _lines(
    backends: Mapping[str, list[Group]], settings: Settings, argument: Argument, pictures: dict[str, str]
) -> Iterator[str]:
    yield "# How to increase training accuracy?"
    yield ""
    lasts = [one.curve.last for groups in backends.values() for _, runs in groups for one in runs]
    yield from _what_was_done(settings, argument.rule, max(lasts, default=0))
    for backend, groups in backends.items():
        yield from _section(f"The argument, on {backend}")
        yield from _verdicts(groups)
        yield from _table(groups)
    if len(backends) > 1:
        yield from _section("The same on every backend?")
        yield from _backends_table(backends)
    for backend, groups in backends.items():
        # A backend that only repeats some steps is told by its table.
        if len(groups) == max(len(other) for other in backends.values()):
            yield from _pictures(groups, argument.rule, backend, pictures)
    yield from _section("Step by step: why, in our words")
    for step in argument.steps:
        yield f"- **{step.id}, {step.model}** ({step.changes}). {step.why}"
    yield ""
    yield (
        "The lecture closes with an advice (Karpathy 2019): before anything else, see whether the network can overfit "
        "a few images. `kerascnn overfit MODEL` does."
    )
    yield from _section("Where and how")
    yield from _environment(backends, settings)


def _what_was_done(settings: Settings, rule: Rule, longest: int) -> Iterator[str]:
    budget = settings.the_budget()
    yield (
        'The lecture "CNN Training: how to increase training accuracy?" makes a network deeper until it stops '
        "learning; another activation saves it; made deeper still, it stops again; then six remedies are tried, each "
        "alone. This is that argument, trained: its claims beside what was measured."
    )
    yield ""
    # Where they are several epochs, they may be a few more than were asked for.
    steps = f"up to {max(budget.steps, longest)} steps a network" if budget.steps else "all epochs of models.toml"
    batch = f"batches of {budget.batch_size}" if budget.batch_size else "the lecture's batch of 256"
    ends = ", ended as soon as it learns" if budget.ends_when_learnt else ""
    images = f", validated on {budget.val_images:,} images" if budget.val_images else ""
    yield f"- Budget **{settings.budget}**: {batch}, {steps}{ends}{images}. All other settings are the lecture's."
    yield (
        f"- **Learns**: the training loss, its mean over {rule.window} steps or a few more, has come down to "
        f"{whole_percent(rule.learns_at)} of ln C, which is the loss of a network that knows nothing of its images. "
        f"**Does not learn**: the budget is spent and the mean never came to {whole_percent(rule.chance_above)}. "
        f"Between the two it is undecided. A loss that is no number is neither. A claimed accuracy is looked for at "
        f"the epoch whose training accuracy comes nearest, and is met within {100 * rule.tolerance:.0f} points."
    )
    if not budget.confirms:
        yield (
            "- So many steps were asked for in place of the form's own length. A network that is still at chance when "
            "they are spent may learn later: that is undecided here, whatever is claimed of it, and so is each claimed "
            "accuracy, which takes epochs."
        )
    elif not budget.refutes:
        yield (
            "- A network that is claimed to learn and is still at chance when this budget is spent may learn later: "
            "that is undecided here, and so is each claimed accuracy, which takes epochs."
        )
    if settings.data_note:
        yield f"- Data: {settings.data_note}."
    if settings.dataset:
        yield f"- All steps on {_dataset(settings)}, not on the lecture's data: the verdicts are on this data only."


def _dataset(settings: Settings) -> str:
    """The dataset that was asked for; of a folder its last name, as where it lies is nobody's business."""
    name = settings.dataset or ""
    return f"folder:{Path(folder_path(name)).name}" if is_folder(name) else name


def _section(title: str) -> Iterator[str]:
    yield from ("", f"## {title}", "")


def _verdicts(groups: Sequence[Group]) -> Iterator[str]:
    verdicts = {step.id: together([one.judgement.verdict for one in runs]) for step, runs in groups}
    counted = Counter(verdicts.values())
    yield ", ".join(f"{counted[verdict]} {verdict}" for verdict in VERDICTS if counted[verdict]) + "."
    for step, runs in groups:
        if verdicts[step.id] == NOT_AS_CLAIMED:
            yield ""
            yield f"**Step {step.id} is not as claimed.** The lecture: {step.claim.words}. Measured: {_measured(runs)}."
    yield from _controls(groups)
    yield ""


def _controls(groups: Sequence[Group]) -> Iterator[str]:
    """Networks that the lecture has learning and that were at chance all the same put the others' failure in doubt."""
    at_chance = [step for step, runs in groups if any(one.judgement.measured.at_chance for one in runs)]
    failing = [step.id for step in at_chance if step.claim.kind == "does not learn"]
    learning = [step.id for step in at_chance if step.claim.kind in ("learns", "reaches")]
    if failing and learning:
        yield ""
        yield (
            f"At chance to the end were not only {_steps(failing)}, which the lecture has failing, but also "
            f"{_steps(learning)}, which it has learning, with at least one seed. So within this budget being at chance "
            f"does not tell a network that never learns from one that begins later; the signal through the layers, "
            f"below, does more."
        )


def _steps(ids: Sequence[str]) -> str:
    return f"step{'s' if len(ids) > 1 else ''} {_listed(ids)}"


def _table(groups: Sequence[Group]) -> Iterator[str]:
    yield "| step | network | what changes | claim | measured | verdict | seeds | time a seed |"
    yield "|---|---|---|---|---|---|---|---|"
    for step, runs in groups:
        verdict = together([one.judgement.verdict for one in runs])
        cells = [step.id, f"{step.network} (`{step.model}`)", step.changes, step.claim.words, _measured(runs)]
        cells += [f"**{verdict}**", str(len(runs)), duration(median(one.curve.seconds for one in runs))]
        yield _row(cells)


def _measured(runs: Sequence[Shown]) -> str:
    """What the seeds have shown, said once where they agree."""
    measured = [one.judgement.measured for one in runs]
    words = [one.judgement.words for one in runs]
    agree = len(runs) > 1 and all(one.behaviour == "learns" for one in measured)
    if agree and all(text.startswith("learns") for text in words):
        steps = _listed([str(one.learnt_at) for one in measured])
        return f"learns: {whole_percent(measured[0].learnt_share)} of chance at step {steps}"
    if len(runs) > 1 and all(one.at_chance for one in measured) and len({one.last for one in measured}) == 1:
        first = measured[0]
        lowest = _listed([f"{one.lowest:.3f}" for one in measured])
        return f"{never_below(first)}: lowest mean loss {lowest}, chance {first.chance:.3f}"
    if len(set(words)) == 1:
        return words[0]
    return "; ".join(f"seed {one.step_run.seed}: {text}" for one, text in zip(runs, words, strict=True))


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _backends_table(backends: Mapping[str, list[Group]]) -> Iterator[str]:
    rows: dict[str, dict[str, str]] = {}
    for backend, groups in backends.items():
        for step, runs in groups:
            verdict = together([one.judgement.verdict for one in runs])
            rows.setdefault(step.id, {})[backend] = f"{_measured(runs)}: {verdict}"
    yield _row(["step", *backends])
    yield "|---|" + "---|" * len(backends)
    for name, cells in rows.items():
        if len(cells) > 1:
            yield _row([name, *(cells.get(backend, "–") for backend in backends)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _pictures(groups: list[Group], rule: Rule, backend: str, pictures: dict[str, str]) -> Iterator[str]:
    yield from _section(f"Training curves, {backend}")
    yield _picture(
        pictures, f"curves-{backend}.svg", figures.training_curves(groups, rule), "Loss by step, a panel a step"
    )
    failing = _most_changed(groups)
    if failing is not None:
        mended = [group for group in groups if failing in (group[0].id, group[0].changes_step)]
        yield from _section(f"What brings step {failing} back, {backend}")
        picture = figures.solutions(mended, rule, failing)
        yield _picture(pictures, f"solutions-{backend}.svg", picture, "Loss by step, all remedies in one picture")
    yield from _section(f"The signal through the layers, {backend}")
    yield (
        "At the initial weights (circles) and at the last look before the training ended (crosses), from the first "
        "layer at the left to the logits at the right. A zero is drawn at the bottom edge. The table is of the first "
        "seed; a channel is dead that fires on none of the few images that are looked at."
    )
    yield ""
    yield from _signal_table(groups)
    yield ""
    yield _picture(pictures, f"gradients-{backend}.svg", figures.gradients(groups), "Gradient norm by layer")
    yield ""
    yield _picture(
        pictures, f"between-images-{backend}.svg", figures.between_images(groups), "Deviation between images by layer"
    )


def _most_changed(groups: Sequence[Group]) -> str | None:
    """The step that most others are a change to, if it was trained and several are."""
    trained = {step.id for step, _ in groups}
    changed = Counter(step.changes_step for step, _ in groups if step.changes_step in trained)
    return next((step for step, times in changed.most_common(1) if times > 1), None)


def _picture(pictures: dict[str, str], name: str, svg: str, described: str) -> str:
    pictures[name] = svg
    return f"![{described}]({name})"


def _signal_table(groups: Sequence[Group]) -> Iterator[str]:
    yield (
        "| step | network | gradient norm, first over last layer | deviation between images, last over first | "
        "of the logits | dead channels in the worst layer, last look | layers without gradient, last look |"
    )
    yield "|---|---|---|---|---|---|---|"
    for step, runs in groups:
        layers = runs[0].curve.layers
        if layers and layers[0].step == 1:
            first, last = layers[0], layers[-1]
            cells = [
                step.id,
                f"`{step.model}`",
                _ratio(first.gradient_norm, 0, -1),
                _ratio(first.between_images, -1, 0),
            ]
            without = sum(norm == 0 for norm in last.gradient_norm)
            yield _row([*cells, _figure(first.between_images[-1]), _worst(last), f"{without} of {len(last.layers)}"])


def _ratio(values: Sequence[float | None], over: int, under: int) -> str:
    top, bottom = values[over], values[under]
    # Over a norm that has overflowed anything would be nothing.
    return "–" if top is None or not bottom or math.isinf(bottom) else _figure(top / bottom)


def _figure(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.1e}" if value and not 1e-2 <= abs(value) < 1e3 else f"{value:.2g}"


def _worst(event: ev.LayerStatistics) -> str:
    shares = [share for share in event.dead if share is not None]
    return f"{whole_percent(max(shares))} (step {event.step})" if shares else "–"


def _environment(backends: Mapping[str, list[Group]], settings: Settings) -> Iterator[str]:
    for backend, groups in backends.items():
        run = groups[0][1][0].step_run.run
        environment: dict[str, Any] = run.environment()
        versions = ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
        machine = environment.get("machine", {})
        memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB" if "memory_bytes" in machine else "unknown memory"
        started = next(iter(ev.of_kind(run.events(), ev.RunStarted)), None)
        day = time.strftime("%Y-%m-%d", time.gmtime(started.time)) if started else "?"
        yield (
            f"- {backend}, begun on {day}: {versions}; {environment.get('device', '?')}, "
            f"{machine.get('processor', '?')}, {machine.get('cores', '?')} cores, {memory}, "
            f"{environment.get('threads', '?')} threads."
        )
    yield ""
    yield "Run again with:"
    yield ""
    yield "```sh"
    for backend, groups in backends.items():
        yield from _commands(backend, groups, settings)
    yield "```"


def _commands(backend: str, groups: Sequence[Group], settings: Settings) -> Iterator[str]:
    """One command for each number of seeds."""
    every = len(the_argument().steps)
    by_seeds: dict[int, list[str]] = {}
    for step, runs in groups:
        by_seeds.setdefault(max(one.step_run.seed for one in runs) + 1, []).append(step.id)
    for seeds, ids in sorted(by_seeds.items()):
        words = ["kerascnn", "lecture", "run", f"--{settings.budget}", "--backend", backend, "--seeds", str(seeds)]
        words += [] if len(ids) == every else ["--only", ",".join(ids)]
        words += ["--steps", str(settings.steps)] if settings.steps else []
        words += ["--dataset", _dataset(settings)] if settings.dataset else []
        yield command_line(words)


def _as_page(text: str, pictures: Mapping[str, str]) -> str:
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)

    def inline(match: re.Match[str]) -> str:
        name, described = html.unescape(match[1]), match[2]
        return f'<figure role="img" aria-label="{described}">{pictures[name]}</figure>'

    body = re.sub(r'<p><img src="([^"]+)" alt="([^"]*)" */?></p>', inline, body)
    for verdict, name in zip(VERDICTS, ("yes", "no", "open", "none"), strict=True):
        body = body.replace(f"<strong>{verdict}</strong>", f'<strong class="{name}">{verdict}</strong>')
    page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    return page.replace("BODY", body)
