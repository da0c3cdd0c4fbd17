"""The colours. A colour means one thing: train, validation, a warning, or one of six series."""

from __future__ import annotations

from dataclasses import replace

from textual.theme import BUILTIN_THEMES, Theme

SERIES = tuple(f"series-{number}" for number in range(1, 7))

_ON_DARK = dict(zip(SERIES, ("#5fa8ff", "#f0a35e", "#6fcf97", "#d78fd7", "#e5d36b", "#5fd0d8"), strict=True))
_ON_LIGHT = dict(zip(SERIES, ("#0b5cad", "#a84f00", "#1a7a3c", "#8a2f8a", "#7a6600", "#00707a"), strict=True))
# Okabe and Ito 2008: eight colours that stay apart under every common kind of colour blindness.
_OKABE_ITO = dict(zip(SERIES, ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00"), strict=True))
_ANSI = dict(
    zip(SERIES, ("ansi_blue", "ansi_yellow", "ansi_green", "ansi_magenta", "ansi_cyan", "ansi_red"), strict=True)
)


def _variables(series: dict[str, str], quiet: str) -> dict[str, str]:
    return {**series, "train": series["series-1"], "validation": series["series-2"], "quiet": quiet}


def series_variables(*, dark: bool) -> dict[str, str]:
    """The variables that a theme of another maker lacks."""
    return _variables(_ON_DARK, "#8b949e") if dark else _variables(_ON_LIGHT, "#5c6670")


THEMES = (
    Theme(
        name="dark",
        primary="#5fa8ff",
        secondary="#3b6ea8",
        accent="#5fa8ff",
        warning="#e8b339",
        error="#f0716b",
        success="#6fcf97",
        foreground="#d7dce2",
        background="#14171c",
        surface="#1a1e24",
        panel="#22272f",
        variables=series_variables(dark=True),
    ),
    Theme(
        name="light",
        primary="#0b5cad",
        secondary="#5b8fc4",
        accent="#0b5cad",
        warning="#8a5a00",
        error="#b3261e",
        success="#1a7a3c",
        foreground="#1c2128",
        background="#fbfbfa",
        surface="#f3f3f1",
        panel="#e8e8e5",
        dark=False,
        variables=series_variables(dark=False),
    ),
    Theme(
        name="colour-blind",
        primary="#56b4e9",
        secondary="#0072b2",
        accent="#56b4e9",
        warning="#f0e442",
        error="#d55e00",
        success="#009e73",
        foreground="#e0e0e0",
        background="#121212",
        surface="#1a1a1a",
        panel="#262626",
        variables=_variables(_OKABE_ITO, "#9a9a9a"),
    ),
    *(
        replace(theme, variables={**theme.variables, **_variables(_ANSI, "ansi_bright_black")})
        for theme in (BUILTIN_THEMES["ansi-dark"], BUILTIN_THEMES["ansi-light"])
    ),
)
THEME_NAMES = tuple(theme.name for theme in THEMES)
