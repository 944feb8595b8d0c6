"""Which other folders a checkpoint leans on, by a glance: also where it can't be read for want of them."""

from __future__ import annotations

from pathlib import Path

from backends.errors import SnugError
from backends.models.adapter import is_adapter
from backends.models.checkpoint import read_json_if_there
from backends.models.originals.recognise import original_family
from backends.models.weight_files import has_weights

# What training leaves that is no model without the one beneath it.
_ADDITIONS = ("mm_projector.bin", "non_lora_trainables.bin")
_TOKENIZERS = ("tokenizer.model", "tokenizer.json")
_TOWER = "mm_vision_tower"


def leans_on(folder: Path) -> tuple[str, ...]:
    """The fields of `Companions` that mean something for the checkpoint in `folder`, as far as a look tells.

    A LoRA and a bare projector have a base, LLaVA's authors name the vision tower, CogVLM's publish no
    tokenizer. Reads config.json at most; a folder that can't be read leans on nothing.
    """
    try:
        config = read_json_if_there(folder / "config.json")
        added = is_adapter(folder) or (_holds(folder, _ADDITIONS) and not has_weights(folder))
        tower, family = _TOWER in config, original_family(config)
        alone = family is not None and not added and not _holds(folder, _TOKENIZERS)
    except (OSError, SnugError):
        return ()
    own_format = tower or family is not None
    fields = {"base": added, "vision_tower": tower, "tokenizer": alone, "template": own_format}
    return tuple(field for field, there in fields.items() if there)


def _holds(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)
