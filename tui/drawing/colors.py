"""The colours that curves are drawn in, from the theme, with defaults where a theme names none."""

from __future__ import annotations

from collections.abc import Mapping

from rich.style import Style
from textual.color import Color, ColorParseError

# Okabe and Ito's, which people who don't see all colours can tell apart; readable on dark and light.
DEFAULTS = {
    "train": "#56b4e9",
    "validation": "#e69f00",
    "warning": "#d55e00",
    "cursor": "#999999",
    "quiet": "#888888",
    "series-1": "#56b4e9",
    "series-2": "#e69f00",
    "series-3": "#009e73",
    "series-4": "#cc79a7",
    "series-5": "#d55e00",
    "series-6": "#f0e442",
}


def color_of(ink: str, variables: Mapping[str, str]) -> Color:
    """The theme's colour of a name, else the default."""
    for told in (variables.get(ink), DEFAULTS.get(ink), DEFAULTS["quiet"]):
        if told:
            try:
                return Color.parse(told)
            except ColorParseError:
                continue
    raise AssertionError("the defaults are colours")


def style_of(ink: str, variables: Mapping[str, str], *, dim: bool = False, bold: bool = False) -> Style:
    """A colour's name as a style."""
    return Style(color=color_of(ink, variables).rich_color, dim=dim or None, bold=bold or None)
