"""Titles with a text beside each, wrapped for a width."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content

from tui.drawing.glyphs import plain


def wrapped(text: str, width: int) -> list[str]:
    """Words in lines of this width."""
    rows = [""]
    for word in text.split(" "):
        if rows[-1] and len(rows[-1]) + 1 + len(word) > width:
            rows.append(word)
        else:
            rows[-1] = f"{rows[-1]} {word}" if rows[-1] else word
    return rows


def titled(facts: Iterable[tuple[str, str]], width: int, title_columns: int, *, ascii: bool) -> list[Content]:  # noqa: A002
    """Each title once, its text beside it in as many lines as it needs."""
    lines = []
    for title, text in facts:
        for number, row in enumerate(wrapped(text, width - title_columns)):
            head = title if number == 0 else ""
            lines.append(Content.assemble((f"{head:<{title_columns}}", "$quiet"), plain(row, ascii=ascii)))
    return lines
