"""Where data lives and what limits apply: one frozen value, made once at the edge."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs


@dataclass(frozen=True, slots=True)
class Settings:
    """Folders and limits.

    `home` holds everything Snug writes (pictures, logs, offloaded weights); `model_folders` are searched
    for models; `starter` is the bundled model.
    """

    home: Path
    model_folders: tuple[Path, ...]
    starter: Path
    examples: Path
    max_image_pixels: int = 100_000_000
    max_image_bytes: int = 64 * 1024 * 1024
    max_image_side: int = 2048
    threads: int | None = None

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
    """Build the settings from the environment: `SNUG_HOME`, `SNUG_MODELS` (separated by os.pathsep)."""
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
    )
