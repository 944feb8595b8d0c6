"""Pure: what is chosen on the page as text that the browser keeps, and back, checked like typed text."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from backends.errors import SnugError
from backends.placement.types import PlanRequest
from backends.presets import CONVERTED_PRECISIONS, PRECISIONS, Preset
from ui.device_map import from_text as map_from_text
from ui.device_map import to_text as map_to_text
from ui.overrides import parse_overrides, to_settings
from ui.web import by_hand

# A map of a thousand lines and a long path stay below; what is longer was not written here.
_LONGEST, _LONGEST_MODEL, _MOST_SETTINGS = 100_000, 4096, 64


def to_text(request: PlanRequest, *, leave_room: bool = False) -> str:
    """Write what the page's controls can set."""
    overrides = request.overrides
    kept: dict[str, Any] = {
        "model": request.model,
        "preset": request.preset.value,
        "settings": to_settings(replace(overrides, device_map=None)),
    }
    if overrides.device_map is not None:
        kept["device_map"] = map_to_text(overrides.device_map)
    if leave_room:
        kept["leave_room"] = True
    return json.dumps(kept, ensure_ascii=False)


def leaves_room(text: str) -> bool:
    """Whether what was kept says that a part of the processor is left to other programs."""
    if from_text(text) is None:
        return False
    return json.loads(text).get("leave_room") is True


def from_text(text: str) -> PlanRequest | None:
    """Read it back, checked as if somebody had typed it; None for anything that is not just so."""
    if not text or len(text) > _LONGEST:
        return None
    try:
        return _request(json.loads(text))
    except (ValueError, RecursionError, SnugError):
        return None


def _request(found: object) -> PlanRequest:
    match found:
        case {"model": str(model), "preset": str(preset), "settings": list(settings), **rest}:
            pass
        case _:
            raise ValueError(found)
    names = [str(setting).partition("=")[0].partition(".")[0] for setting in settings]
    str(found).encode("utf-8")  # half a character can't go back to the page: UnicodeEncodeError
    # A map as a file would be read from the disk; the page knows no such setting.
    known = all(name in by_hand.KEYS and name != "device_map" for name in names)
    if not known or len(names) > _MOST_SETTINGS or not 0 < len(model) <= _LONGEST_MODEL or "\0" in model:
        raise ValueError(found)
    overrides = parse_overrides(map(str, settings))
    if overrides.precision not in (None, *PRECISIONS, *CONVERTED_PRECISIONS):
        raise ValueError(found)
    if overrides.engine not in (None, *by_hand.ENGINES):
        raise ValueError(found)
    if overrides.offload_dir is not None:
        overrides = replace(overrides, offload_dir=by_hand.folder(overrides.offload_dir))
    placed = rest.get("device_map")
    if placed is not None:
        overrides = replace(overrides, device_map=map_from_text(str(placed)))
    return PlanRequest(model, Preset(preset), overrides)
