"""The example pictures with a question each, read from assets/examples/examples.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ui.i18n import LANGUAGES, Language

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Example:
    """A picture to click; `question` is in the language that the starter model was trained on."""

    picture: Path
    label: dict[Language, str]
    question: str


def read_examples(folder: Path) -> tuple[Example, ...]:
    """The examples whose pictures exist; none when the list is absent or damaged."""
    try:
        listed = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
        found = [
            Example(
                folder / str(item["file"]),
                {language: str(item["label"][language]) for language in LANGUAGES},
                str(item["question"]),
            )
            for item in listed
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return tuple(example for example in found if example.picture.is_file())[:_SHOWN]
