"""Where data lives and what limits apply: one frozen value, made once at the edge."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from backends.errors import SettingInvalid
from backends.text import Text

CONVERTED_LIMIT = "SNUG_CONVERTED_GB"
LEAVE_ROOM = "SNUG_LEAVE_ROOM"
_CONVERTED_BYTES = 40 << 30


@dataclass(frozen=True, slots=True)
class Settings:
    """Folders and limits.

    `home` holds everything Snug writes (pictures, logs, offloaded weights); `model_folders` are searched
    for models; `starter` is the bundled model. Of the files that conversion makes, those used longest ago go
    when all are larger than `converted_limit_bytes`. With `leave_room`, answering leaves a part of the
    processor to other programs.
    """

    home: Path
    model_folders: tuple[Path, ...]
    starter: Path
    examples: Path
    max_image_pixels: int = 100_000_000
    max_image_bytes: int = 64 * 1024 * 1024
    max_image_side: int = 2048
    threads: int | None = None
    converted_limit_bytes: int = _CONVERTED_BYTES
    leave_room: bool = False

    @property
    def images(self) -> Path:
        """Decoded pictures, named by content."""
        return self.home / "images"

    @property
    def uploads(self) -> Path:
        """What a browser sends, until it is decoded."""
        return self.home / "uploads"

    @property
    def logs(self) -> Path:
        """Log files, one per worker process."""
        return self.home / "logs"

    @property
    def offload(self) -> Path:
        """Weights that a plan puts on the disk."""
        return self.home / "offload"

    @property
    def converted(self) -> Path:
        """Checkpoints as GGUF files, for llama.cpp."""
        return self.home / "converted"


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Build the settings from the environment: `SNUG_HOME`, `SNUG_MODELS` (separated by os.pathsep),
    `SNUG_CONVERTED_GB` and `SNUG_LEAVE_ROOM`. Raises SettingInvalid.
    """
    root = Path(__file__).resolve().parents[1]
    chosen = environ.get("SNUG_HOME")
    home = Path(chosen).expanduser() if chosen else platformdirs.user_data_path("snug", appauthor=False)
    extra = tuple(
        Path(part).expanduser() for part in environ.get("SNUG_MODELS", "").split(os.pathsep) if part
    )
    return Settings(
        home=home,
        model_folders=(*extra, home / "models"),
        starter=root / "assets" / "starter",
        examples=root / "assets" / "examples",
        converted_limit_bytes=_limit(environ.get(CONVERTED_LIMIT, "")),
        leave_room=environ.get(LEAVE_ROOM, "").strip().lower() in ("1", "true", "yes", "on"),
    )


def _limit(written: str) -> int:
    """Bytes of a number of GB; the default where nothing is written."""
    bare = written.strip()
    if not bare:
        return _CONVERTED_BYTES
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", bare):
        raise SettingInvalid(
            name=CONVERTED_LIMIT,
            value=f'"{bare[:40]}"',
            detail=Text(
                "settings.gigabytes",
                "It takes a number of GB, such as 40; 0 keeps only what a loaded model uses.",
            ),
            suggestion=Text("settings.correct", "Correct it or unset it, then start Snug again."),
        )
    return int(float(bare) * (1 << 30))
