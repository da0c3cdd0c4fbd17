"""What the user wants of the interface, kept as TOML in the user's configuration folder."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import platformdirs
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kerascnn.errors import UsageError, nearest
from kerascnn.runs.files import write_text

DEFAULT_THEME = "dark"


class Settings(BaseModel):
    """The settings, each with its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    theme: str = DEFAULT_THEME
    ascii: bool = False
    """Draw with letters and signs that every terminal has."""
    smoothing: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.6
    """How much of the old value a smoothed curve keeps at each point; 0 doesn't smooth."""
    runs_dir: str = "runs"
    """The folder that runs are kept in, seen from the folder that the program is started in."""
    keymap: dict[str, str] = {}
    """Other keys for actions, by the action's id: ``"app.quit" = "ctrl+x"``."""


def settings_file() -> Path:
    """Where the settings are kept."""
    return platformdirs.user_config_path("kerascnn") / "tui.toml"


class Keeper:
    """The settings with their file. A damaged file is told of and never overwritten; the defaults hold meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        try:
            self.settings = load_settings(path)
        except UsageError as error:
            self.settings = Settings()
            self.problem = f"{error}. The defaults hold, and the file stays as it is."

    def keep(self, **changes: object) -> None:
        """Change settings for now and for next time.

        Raises:
            UsageError: the file is damaged or can't be written; the change holds for now all the same.
        """
        self.settings = self.settings.model_copy(update=changes)
        if self.problem:
            raise UsageError(f"not kept for next time: {self.path} is damaged")
        save_settings(self.path, self.settings)


def load_settings(path: Path) -> Settings:
    """Read the settings; a file that isn't there means the defaults.

    Raises:
        UsageError: the file is damaged, or holds an unknown key or a value that can't be meant.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: expected TOML: {error}") from None
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{path}: unknown key {key!r}{nearest(key, Settings.model_fields)}") from None
        said = first["msg"].removeprefix("Input ")
        raise UsageError(f"{path}: {key} {said[0].lower()}{said[1:]}, got {first['input']!r}") from None


def save_settings(path: Path, settings: Settings) -> None:
    """Write the settings that differ from the defaults, whole or not at all.

    Raises:
        UsageError: the file can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, tomli_w.dumps(settings.model_dump(exclude_defaults=True)))
    except OSError as error:
        raise UsageError(f"{path}: can't be written: {error.strerror or error}") from None
