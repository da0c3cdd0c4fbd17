"""What a user may set once for all sessions."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """How the interface draws. ``smoothing`` is the share of the past in a smoothed curve."""

    model_config = ConfigDict(extra="forbid")

    theme: str = "textual-dark"
    ascii: bool = False
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.6
    keymap: dict[str, str] = {}
