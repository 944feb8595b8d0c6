"""A PEFT LoRA over a native model, as a recipe: which products are added to which weights of the base.

The base's tensors carry their names in the loaded model, except those that loading does more with than
rename them (experts that are joined, matrices that are split): these keep their files' names, so that
transformers converts them as it would from the files, with the products already added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backends.errors import ModelUnsupported
from backends.models.adapter import Finder, adapter_weights, base_folder, foreign, unmergeable
from backends.models.checkpoint import read_json
from backends.models.conversions import converted
from backends.models.geometry import text_config
from backends.models.linears import are_turned
from backends.models.naming import is_vision
from backends.models.originals.lora_config import Scales, check_mergeable
from backends.models.originals.lora_names import Places
from backends.models.originals.lora_tensors import Added, Pair, sort_tensors
from backends.models.originals.recognise import original_family
from backends.models.originals.types import Companions, Delta, Part, Recipe, Source
from backends.models.structure import is_buffer
from backends.models.tensor_names import tensor_names
from backends.models.types import Tensor
from backends.models.weight_files import read_any_headers, weight_tensors
from backends.text import Text, shown_name

_CONFIG = "adapter_config.json"
_HEAD = "lm_head.weight"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_FLOATS = ("bfloat16", "float16", "float32", "float64")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True, slots=True)
class _Base:
    """The model that is added to: its tensors by their names in the recipe, and where each one lies."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    sources: Mapping[str, Source]
    places: Places


@dataclass(frozen=True, slots=True)
class _Lora:
    """What is added: the adapter's config, its file of weights and what lies in it."""

    folder: Path
    config: Mapping[str, Any]
    file: Path
    added: Added


def native_lora_recipe(folder: Path, companions: Companions, finder: Finder) -> Recipe:
    """The recipe of the LoRA in `folder` over its base, which `companions` name or `finder` finds.

    Raises ModelUnsupported for another kind of adapter, one that is not merged (DoRA), or one of another
    model, with the figures; ModelDamaged for files that are not whole. Nothing of the adapter is left out.
    """
    config = read_json(folder / _CONFIG)
    base = _read_base(base_folder(folder, config, companions.base, finder))
    file = adapter_weights(folder)
    check_mergeable(folder, config)
    lora = _Lora(folder, config, file, sort_tensors(folder, weight_tensors(file)))
    found = _find(lora, base)
    if original_family(base.config) or "mm_vision_tower" in base.config:
        raise unmergeable(folder, _other_layout(base.folder))
    sources, untied = _changed(lora, base, found)
    settings = dict(base.config)
    if untied:
        settings |= {"tie_word_embeddings": False}
        if isinstance(inner := settings.get("text_config"), dict):
            settings["text_config"] = {**inner, "tie_word_embeddings": False}
    return Recipe(
        folder=folder,
        layout="native",
        config=settings,
        sources=sources,
        weights=(*sorted({source.part.file for source in base.sources.values()}), file),
        tokenizer=companions.tokenizer or _tokenizer(folder, base.folder),
        template="",
        companions=replace(companions, base=base.folder),
    )


def _read_base(folder: Path) -> _Base:
    config = read_json(folder / "config.json")
    family = str(config.get("model_type", ""))
    headers = read_any_headers(folder)
    tensors = {tensor.name: tensor for header in headers for tensor in header.tensors}
    names = dict(tensor_names(list(tensors), config, family))
    names = {stored: name for stored, name in names.items() if not is_buffer(name)}
    counts = Counter(names.values())
    kept = converted(names, config) | {stored for stored, name in names.items() if counts[name] > 1}
    keys = {stored: stored if stored in kept else name for stored, name in names.items()}
    sources = {key: Source(Part(folder / tensors[stored].file, stored)) for stored, key in keys.items()}
    by_key = {key: tensors[stored] for stored, key in keys.items()}
    if _HEAD not in sources and (embedding := _embedding(sources)):
        # A tied head lies in no file; a LoRA may still change it apart from the embedding.
        keys[_HEAD], by_key[_HEAD] = _HEAD, by_key[embedding]
    return _Base(folder, config, by_key, sources, Places(keys, config, family))


def _embedding(names: Mapping[str, object]) -> str | None:
    """The tensor with the vocabulary's vectors."""
    found = [
        name for name in names if name.endswith(_EMBEDDINGS) and not any(map(is_vision, name.split(".")))
    ]
    return found[0] if len(found) == 1 else None


def _find(lora: _Lora, base: _Base) -> dict[str, str]:
    """The base's tensor that each pair (by its module) and each whole tensor (by its path) is for."""
    folder, added = lora.folder, lora.added
    paths = {module: f"{module}.weight" for module in added.pairs} | {path: path for path in added.whole}
    candidates = base.places.find(paths.values())
    lost = [part for part, path in paths.items() if not candidates[path]]
    found = {part: candidates[path][0] for part, path in paths.items() if candidates[path]}
    for module, name in found.items():
        if len(candidates[paths[module]]) > 1:
            raise foreign(folder, _ambiguous(module, candidates[paths[module]], base.folder))
        if module in added.pairs and base.tensors[name].dtype not in _FLOATS:
            raise _quantized(folder, base, name)
        _check_size(folder, module, added, base, name)
    if lost:
        raise foreign(
            folder,
            Text.of(
                "lora.lacks",
                "It belongs to another model: it changes {module}, which {base} does not have "
                "({missing:count} of {whole:count} parts are not there).",
                module=shown_name(lost[0]),
                base=shown_name(base.folder.name),
                missing=len(lost),
                whole=len(paths),
            ),
        )
    for kind in (added.pairs, added.whole):
        first: dict[str, str] = {}
        for part in kind:
            if first.setdefault(found[part], part) != part:
                raise foreign(folder, _same(first[found[part]], part, base.folder))
    return found


def _check_size(folder: Path, module: str, added: Added, base: _Base, name: str) -> None:
    has = base.tensors[name].shape
    if module in added.whole:
        wide = added.whole[module].shape
        fits = wide == has
    else:
        pair = added.pairs[module]
        wide = (pair.sides["B"].shape[0], pair.sides["A"].shape[1])
        fits = has == (wide[::-1] if pair.embedding or _turned(base, name) else wide)
    if fits:
        return
    raise foreign(
        folder,
        Text.of(
            "adapter.size",
            "It belongs to another model: its {module} is for {wide} weights, and in {base} that is {has}.",
            module=shown_name(module),
            wide=" x ".join(map(str, wide)),
            base=shown_name(base.folder.name),
            has=" x ".join(map(str, has)),
        ),
    )


def _turned(base: _Base, name: str) -> bool:
    """Whether the weight is stored as [inputs, outputs]: GPT-2's, inside of its blocks."""
    family = str(text_config(base.config).get("model_type", ""))
    return are_turned(family) and name != _HEAD and not name.endswith(_EMBEDDINGS)


def _changed(lora: _Lora, base: _Base, found: Mapping[str, str]) -> tuple[dict[str, Source], bool]:
    """The sources with what the adapter adds, and whether a tied head now differs from the embedding."""
    sources = dict(base.sources)
    for path, tensor in lora.added.whole.items():
        sources[found[path]] = Source(Part(lora.file, tensor.name))
    embedding = _embedding(base.sources) if _HEAD not in base.sources else None
    before = None
    if embedding is not None:
        # What is trained whole is trained apart; an embedding that was only saved is the head's, too.
        module = embedding.removesuffix(".weight")
        alone = any(module.endswith(name) for name in _names(lora.config.get("modules_to_save")))
        before = base.sources[embedding] if alone else sources[embedding]
    scales = Scales(lora.folder, lora.config)
    for module, pair in lora.added.pairs.items():
        name = found[module]
        own = sources.get(name, before)
        if own is not None:
            scale = scales.of(module, pair.sides["A"].shape[0])
            turned = pair.embedding or _turned(base, name)
            sources[name] = replace(own, deltas=(_delta(lora.file, pair, scale, turned=turned),))
    apart = embedding is not None and (_HEAD in sources or sources[embedding] != before)
    if apart and before is not None:
        sources.setdefault(_HEAD, before)
    return sources, apart


def _delta(file: Path, pair: Pair, scale: float, *, turned: bool) -> Delta:
    down, up = pair.sides["A"].name, pair.sides["B"].name
    return Delta(Part(file, down), Part(file, up), scale, turned)


def _names(value: object) -> frozenset[str]:
    return frozenset(map(str, value)) if isinstance(value, list) else frozenset()


def _tokenizer(folder: Path, base: Path) -> Path:
    """The folder with all files that turn messages into tokens: the adapter's, where it brings them all."""
    own = any((folder / name).is_file() for name in _TOKENIZERS)
    whole = all((folder / name).is_file() for name in _PROCESSORS if (base / name).is_file())
    return folder if own and whole else base


def _quantized(folder: Path, base: _Base, name: str) -> ModelUnsupported:
    return foreign(
        folder,
        Text.of(
            "lora.quantized",
            "The weights of {base} are quantized ({dtype}), and a LoRA can only be added to whole ones.",
            base=shown_name(base.folder.name),
            dtype=base.tensors[name].dtype,
        ),
    )


def _other_layout(base: Path) -> Text:
    return Text.of(
        "lora.base_layout",
        "Its model {base} is in its authors' own layout; a LoRA is merged into models in the layout of "
        "transformers.",
        base=shown_name(base.name),
    )


def _ambiguous(module: str, names: Sequence[str], base: Path) -> Text:
    return Text.of(
        "lora.ambiguous",
        "Its {module} may mean {one} or {other} of {base}.",
        module=shown_name(module),
        one=shown_name(names[0]),
        other=shown_name(names[1]),
        base=shown_name(base.name),
    )


def _same(one: str, other: str, base: Path) -> Text:
    return Text.of(
        "lora.same",
        "Its {one} and its {other} mean the same part of {base}.",
        one=shown_name(one),
        other=shown_name(other),
        base=shown_name(base.name),
    )
