"""What the user wants of the interface, kept as TOML in the user's configuration folder."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
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
        """Change settings for now and for next time; all else in the file stays as it is by now.

        Raises:
            UsageError: the file is damaged or can't be written; the change holds for now all the same.
        """
        self.settings = self.settings.model_copy(update=changes)
        try:
            change_settings(self.path, changes)
        except UsageError as error:
            raise UsageError(f"not kept for next time: {error}") from None


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


def change_settings(path: Path, changes: Mapping[str, object]) -> None:
    """Give some settings other values in the file as it is now, which is then whole or as it was.

    Raises:
        UsageError: the file is damaged, and left alone, or can't be written.
    """
    load_settings(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        write_text(path, _changed(before, changes))
    except OSError as error:
        raise UsageError(f"{path}: can't be written: {error.strerror or error}") from None


def _changed(text: str, changes: Mapping[str, object]) -> str:
    """TOML with other values of some keys. Comments stay where that leaves what is meant."""
    wanted = {**tomllib.loads(text), **changes}
    written = text
    for key, value in changes.items():
        line = tomli_w.dumps({key: value}).strip()
        of_key = re.compile(rf"^{key}[ \t]*=[^#\n]*?(?=[ \t]*(?:#.*)?$)", re.MULTILINE)
        written, found = of_key.subn(lambda _, line=line: line, written, count=1)  # type: ignore[misc]
        # A key that comes before all tables is in none of them.
        written = written if found else f"{line}\n{written}"
    try:
        kept = tomllib.loads(written) == wanted
    except tomllib.TOMLDecodeError:
        kept = False
    return written if kept else tomli_w.dumps(wanted)
