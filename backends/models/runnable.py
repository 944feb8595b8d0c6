"""Whether Snug can answer with a family: it must keep what it has read, and take pictures in a known way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from backends.errors import ModelUnsupported
from backends.models.defaults import source_folder
from backends.models.geometry import text_config
from backends.models.registry import known_types
from backends.models.vision import has_vision
from backends.text import Text, shown_name


def ensure_runnable(path: str, config: Mapping[str, Any], family: str, architecture: str) -> None:
    """Refuse what this version can't run. `config` is the completed one. Raises ModelUnsupported."""
    known = known_types()
    name = shown_name(architecture)
    if config.get("is_encoder_decoder") is True or text_config(config).get("is_encoder_decoder") is True:
        raise _refused(
            path,
            Text.of(
                "model.encoder_decoder",
                "{name} reads with one part and writes with another; this version runs models that do both "
                "with one decoder.",
                name=name,
            ),
        )
    if not _keeps_what_it_read(family, architecture):
        raise _refused(
            path,
            Text.of(
                "model.no_cache",
                "{name} keeps what it has read in a way of its own, which this version can't continue from.",
                name=name,
            ),
        )
    words_only = architecture.endswith("ForCausalLM") and "patch_size" not in config
    sees = family in known.chat and not words_only
    if sees and not has_vision(config) and "vision_config" not in config:
        raise _refused(
            path,
            Text.of(
                "model.unknown_pictures",
                "{name} takes pictures in a way that this version does not know; what they need can't be "
                "planned.",
                name=name,
            ),
        )


def _keeps_what_it_read(family: str, architecture: str) -> bool:
    """Whether the class takes back the cache that it gave out, by its source; unknown ones get the chance."""
    folder = source_folder(family)
    files = sorted(folder.glob("modeling_*.py")) if folder is not None else []
    for file in files:
        source = file.read_text(encoding="utf-8")
        found = re.search(
            rf"^class {re.escape(architecture)}\(.*?(?=^class |\Z)", source, re.MULTILINE | re.DOTALL
        )
        if found is not None:
            return "past_key_values" in found.group(0)
    return True


def _refused(path: str, detail: Text) -> ModelUnsupported:
    suggestion = Text("model.use_a_vlm", "Use a vision-language model, such as a LLaVA or Qwen2.5-VL.")
    return ModelUnsupported(path=path, detail=detail, suggestion=suggestion)
