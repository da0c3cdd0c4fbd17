"""What a screen of the terminal UI shows, as plain text."""

from __future__ import annotations

from textual.app import App

SIZES = [(80, 24), (120, 40), (200, 60)]


def screen_text(app: App[object]) -> str:
    """The topmost screen, a line a row, without the spaces at their ends."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())
