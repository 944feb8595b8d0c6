"""Original LLaVA checkpoints (v1.5, v1.6, LoRAs, bare projectors) as recipes for transformers' classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.errors import ModelDamaged
from backends.models.adapter import Finder
from backends.models.checkpoint import read_json_if_there
from backends.models.originals.companions import (
    find_companion,
    given_folder,
    has_tokenizer,
    tokenizer_folder,
    tower_absent,
)
from backends.models.originals.complete import check_layers, is_training_state, missing, surplus
from backends.models.originals.config_values import malformed
from backends.models.originals.found import Found, files_of, in_file, in_folder
from backends.models.originals.llava_base import Kind, base_weights, find_base, kind_of
from backends.models.originals.llava_config import (
    inferred_vision,
    native_config,
    text_settings,
    vision_settings,
)
from backends.models.originals.llava_limits import is_tiled, other_size, text_family
from backends.models.originals.llava_lora import add_lora
from backends.models.originals.llava_names import (
    expected_shapes,
    is_no_weight,
    is_tower,
    is_unused,
    loaded_name,
    original_key,
    tower_name,
)
from backends.models.originals.llava_pictures import picture_settings
from backends.models.originals.templates import TEMPLATES, choose_llava_template, template_named
from backends.models.originals.types import Companions, Recipe
from backends.models.weight_files import has_weights
from backends.text import Text

_TABLE, _HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"
_ADDED, _PROJECTOR = "non_lora_trainables.bin", "mm_projector.bin"
_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True, slots=True)
class _Tower:
    """The vision tower's config, its folder (None: all is inside the checkpoint) and what it reads there."""

    vision: dict[str, Any]
    folder: Path | None
    weights: Mapping[str, Found]


def llava_recipe(folder: Path, config: Mapping[str, Any], companions: Companions, finder: Finder) -> Recipe:
    """How the checkpoint, LoRA or projector in `folder` becomes a model of transformers' LLaVA classes.

    Only configs and headers are read. Raises ModelUnsupported (a companion that is absent or another
    model's, a variant that the classes don't compute), ModelDamaged (files missing or cut short, impossible
    figures), SettingInvalid (an unknown template).
    """
    kind = kind_of(folder)
    base = find_base(folder, kind, config, companions.base, finder) if kind is not Kind.WHOLE else None
    beneath = read_json_if_there(base / "config.json") if base is not None else {}
    settings = {**beneath, **config}
    family = text_family(config, beneath, folder)
    is_tiled(settings, folder)  # a variant that can't run is refused before its files are looked for
    found = _weights(folder, kind, base, config)
    tower = _tower((folder, base), settings, found, companions, finder)
    found |= tower.weights
    words = tokenizer_folder(companions.tokenizer, folder, base) or folder
    text = text_settings(settings, family, _table(folder, found), folder)
    spoken = read_json_if_there(words / "tokenizer_config.json")
    placeholder = _placeholder(words, spoken, text["vocab_size"])
    native = native_config(settings, text, tower.vision, placeholder, folder)
    if native["model_type"] == "llava_next":
        _check_tiles(native, folder)
    kept = _checked(folder, native, found)
    template = _template(companions.template, settings, spoken, family, (base, folder))
    return Recipe(
        folder=folder,
        layout="llava",
        config=native,
        sources={name: one.source for name, one in kept.items()},
        weights=files_of(kept),
        tokenizer=words,
        template=template,
        templates=tuple(one.name for one in TEMPLATES),
        pictures=picture_settings(folder, tower.folder, tower.vision["image_size"], settings),
        companions=Companions(base, tower.folder, words if has_tokenizer(words) else None, template),
    )


def _weights(folder: Path, kind: Kind, base: Path | None, config: Mapping[str, Any]) -> dict[str, Found]:
    """All that the checkpoint and its base hold, by loaded names."""
    if base is None:
        return _all_by_name(folder, in_folder(folder), loaded_name)
    found = _by_name(base_weights(folder, base, config), loaded_name)
    if kind is Kind.PROJECTOR:
        return found | _additions(folder / _PROJECTOR)
    if (folder / _ADDED).is_file():
        found |= _additions(folder / _ADDED)
    elif not (folder / "adapter_config.json").is_file():
        raise _lost(folder, _ADDED)
    if not (folder / "adapter_config.json").is_file():
        return found
    adapter = next((folder / name for name in _ADAPTERS if (folder / name).is_file()), None)
    if adapter is None:
        raise _lost(folder, _ADAPTERS[0])
    settings = read_json_if_there(folder / "adapter_config.json")
    return add_lora(found, adapter, settings, folder, base)


def _additions(path: Path) -> dict[str, Found]:
    tensors = in_file(path)
    doubled = any(key.removeprefix("base_model.").startswith("model.model.") for key in tensors)
    return _all_by_name(path.parent, tensors, lambda key: loaded_name(original_key(key, doubled=doubled)))


def _tower(
    homes: tuple[Path, Path | None],
    settings: Mapping[str, Any],
    found: Mapping[str, Found],
    companions: Companions,
    finder: Finder,
) -> _Tower:
    """The CLIP that the config names, whose weights inside the checkpoint win where they were trained."""
    inside = {name: one.tensor.shape for name, one in found.items() if is_tower(name)}
    stated = settings.get("mm_vision_tower")
    if companions.vision_tower is not None:
        place: Path | None = given_folder(companions.vision_tower)
    else:
        looked = (find_companion(home, stated, finder) for home in homes if home is not None)
        place = next((place for place in looked if place is not None), None)
    if place is None:
        vision = inferred_vision(inside)
        if vision is None:
            raise tower_absent(homes[0], stated)
        return _Tower(vision, None, {})
    vision = vision_settings(place)
    if inside and (settings.get("unfreeze_mm_vision_tower") or not has_weights(place)):
        return _Tower(vision, place, {})
    return _Tower(vision, place, _by_name(in_folder(place), tower_name))


def _checked(folder: Path, native: Mapping[str, Any], found: Mapping[str, Found]) -> dict[str, Found]:
    """What the class has a place for. Raises when something is absent, of another size, or left over."""
    check_layers(folder, found, "model.language_model.layers.", native["text_config"]["num_hidden_layers"])
    shapes = expected_shapes(native)
    lacking = [name for name in shapes if name not in found]
    if lacking:
        raise missing(folder, lacking, len(shapes))
    for name, shape in shapes.items():
        one = found[name]
        if one.tensor.shape != shape:
            raise other_size(folder, name, one.part.file, one.tensor.shape, shape)
    beyond = [
        one.part.key
        for name, one in found.items()
        # A base may be another LLaVA, of which the projector is replaced.
        if name not in shapes and not is_unused(name) and (is_tower(name) or one.part.file.parent == folder)
    ]
    if beyond:
        raise surplus(folder, beyond)
    return {name: found[name] for name in shapes}


def _check_tiles(native: Mapping[str, Any], folder: Path) -> None:
    """Tiles are as large as what the tower looks at."""
    side = native["vision_config"]["image_size"]
    for pair in native["image_grid_pinpoints"]:
        if any(length % side for length in pair):
            raise malformed(folder, "image_grid_pinpoints", f"{pair[1]} x {pair[0]}")


def _table(folder: Path, found: Mapping[str, Found]) -> int:
    """Number of embeddings. Additions may have given the base's table more rows."""
    table, head = found.get(_TABLE), found.get(_HEAD)
    if table is None or len(table.tensor.shape) != 2:
        raise missing(folder, [_TABLE], len(found) + 1)
    if head is not None and head.tensor.shape[:1] != table.tensor.shape[:1]:
        raise other_size(folder, _HEAD, head.part.file, head.tensor.shape, table.tensor.shape)
    return table.tensor.shape[0]


def _placeholder(tokenizer: Path, words: Mapping[str, Any], table: int) -> int:
    """The id that stands for a picture's patches: one that no text becomes.

    LLaMA's own tokenizers write what they don't know in bytes, so that their first id, "unknown", is never
    used; those without an unknown token have spare ids at the end of the table.
    """
    return 0 if (tokenizer / "tokenizer.model").is_file() or words.get("unk_token") else table - 1


def _template(
    asked: str | None,
    settings: Mapping[str, Any],
    words: Mapping[str, Any],
    family: str,
    homes: tuple[Path | None, Path],
) -> str:
    if asked is not None:
        return template_named(asked).name
    base, folder = homes
    stated = settings.get("_name_or_path")
    # People rename folders; the name that the authors wrote down stays.
    names = [
        stated if isinstance(stated, str) and stated else folder.name,
        base.name if base is not None else "",
    ]
    return choose_llava_template(settings, words, family, names)


def _by_name(found: Mapping[str, Found], name_of: Callable[[str], str | None]) -> dict[str, Found]:
    named = ((name_of(key), one) for key, one in found.items())
    return {name: one for name, one in named if name is not None}


def _all_by_name(
    folder: Path, found: Mapping[str, Found], name_of: Callable[[str], str | None]
) -> dict[str, Found]:
    """As `_by_name`. Raises ModelDamaged for tensors of the checkpoint itself that no LLaVA has."""
    beyond = [
        key for key in found if name_of(key) is None and not is_no_weight(key) and not is_training_state(key)
    ]
    if beyond:
        raise surplus(folder, beyond)
    return _by_name(found, name_of)


def _lost(folder: Path, file: str) -> ModelDamaged:
    detail = Text.of("checkpoint.missing", "{file} is missing.", file=file)
    return ModelDamaged(path=str(folder), detail=detail, file=file)
