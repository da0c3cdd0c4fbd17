"""The signs that the screens are drawn with, and what stands for them where a terminal has only ASCII."""

from __future__ import annotations

_ASCII = str.maketrans(
    {
        "─": "-",
        "│": "|",
        "├": "|",
        "┤": "|",
        "╭": ".",
        "╰": "`",
        "⊕": "+",
        "⧺": "&",
        "×": "x",
        "·": "-",
        "–": "-",
        "−": "-",
        "…": ".",
        "→": ">",
        "●": "*",
        "○": "-",
        "◇": "o",
        "▸": ">",
        "▶": ">",
        "‹": "<",
        "›": ">",
        "✓": "*",
        "✗": "x",
        "⚠": "!",
        "‖": "=",
        "■": "#",
        "↓": "v",
        "↑": "^",
        "⟨": "(",
        "⟩": ")",
        "’": "'",
    }
)


STATES = {
    "running": "▶",
    "paused": "‖",
    "starting": "▸",
    "finished": "✓",
    "stopped": "■",
    "interrupted": "■",
    "killed": "✗",
    "elsewhere": "◇",
    "failed": "✗",
    "diverged": "✗",
}
"""How a run stands, as one sign."""

VERDICTS = {
    "as claimed": "✓",
    "not as claimed": "✗",
    "undecided within this budget": "?",
    "no claim": "◇",
    "running": "…",
    "not run": "·",
}
"""How a step of the lecture stands, as one sign."""


def plain(text: str, *, ascii: bool) -> str:  # noqa: A002 - the name that the settings give it
    """The text as this terminal can show it; each sign keeps its one column."""
    return text.translate(_ASCII) if ascii else text
