"""What a LoRA of the original LLaVA adds to a model: its matrices by the weights that they change."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backends.errors import ModelDamaged, ModelUnsupported
from backends.models.originals.found import Found
from backends.models.originals.llava_names import loaded_name, original_key
from backends.models.originals.types import Delta
from backends.text import Text, shown_name

_SIDE = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.\w+)?(?:\.weight)?")
_SAVED_WHOLE = re.compile(r"\.(?:modules_to_save|original_module)(?:\.\w+)?(?=\.(?:weight|bias)$)")


@dataclass(frozen=True, slots=True)
class _Pair:
    """The matrices of one module: `down` (A) and `up` (B)."""

    sides: dict[str, Found]
    embedding: bool


def add_lora(
    found: Mapping[str, Found],
    tensors: Mapping[str, Found],
    config: Mapping[str, Any],
    adapter: Path,
    base: Path,
) -> dict[str, Found]:
    """`found` (by loaded names) with the adapter's `tensors` (by the keys of its file) over it.

    `config` is adapter_config.json. The factor of a pair is alpha / r, or alpha / sqrt(r) for a
    rank-stabilised LoRA. Raises ModelUnsupported for other sizes than the base has, or kinds of LoRA that
    add more than a product; ModelDamaged for half a pair.
    """
    if config.get("use_dora") or any("lora_magnitude_vector" in key for key in tensors):
        raise _unsupported(adapter, Text("llava.dora", "It is a weight-decomposed LoRA (DoRA)."))
    doubled = any(key.removeprefix("base_model.").startswith("model.model.") for key in tensors)
    pairs: dict[str, _Pair] = {}
    merged = dict(found)
    for key, one in tensors.items():
        side = _SIDE.fullmatch(key)
        if side is None:
            name = loaded_name(original_key(_SAVED_WHOLE.sub("", key), doubled=doubled))
            if name is not None:
                merged[name] = one
            continue
        module = original_key(side["module"], doubled=doubled)
        pair = pairs.setdefault(module, _Pair({}, bool(side["embedding"])))
        pair.sides[side["side"]] = one
    for module, pair in pairs.items():
        name = loaded_name(f"{module}.weight")
        if name is None or name not in merged:
            raise _lacks(adapter, module, base)
        target = merged[name]
        delta = _delta(module, pair, config, adapter)
        _check(module, pair, target, adapter, base)
        merged[name] = replace(target, deltas=(*target.deltas, delta))
    return merged


def _delta(module: str, pair: _Pair, config: Mapping[str, Any], adapter: Path) -> Delta:
    if set(pair.sides) != {"A", "B"}:
        detail = Text.of(
            "llava.half_pair",
            "Of the two matrices for {module} one is missing.",
            module=shown_name(module),
        )
        file = next(iter(pair.sides.values())).part.file.name
        raise ModelDamaged(path=str(adapter), detail=detail, file=file)
    down, up = pair.sides["A"], pair.sides["B"]
    rank = down.tensor.shape[0]
    alpha = _patterned(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        detail = Text.of(
            "llava.alpha",
            "Its adapter_config.json gives lora_alpha as {value}, which is no number.",
            value=shown_name(str(alpha)),
        )
        raise ModelDamaged(path=str(adapter), detail=detail, file="adapter_config.json")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Delta(down.part, up.part, scale, turned=pair.embedding)


def _patterned(patterns: object, module: str, otherwise: Any) -> Any:  # noqa: ANN401 - a value of a JSON file
    """The value whose pattern (a name's end, or an expression for it) fits `module`."""
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        try:
            if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module):
                return value
        except re.error:
            continue
    return otherwise


def _check(module: str, pair: _Pair, target: Found, adapter: Path, base: Path) -> None:
    down, up = pair.sides["A"].tensor.shape, pair.sides["B"].tensor.shape
    has = target.tensor.shape[::-1] if pair.embedding else target.tensor.shape
    if len(down) == len(up) == len(has) == 2 and (up[0], down[1]) == has and up[1] == down[0]:
        return
    detail = Text.of(
        "adapter.size",
        "It belongs to another model: its {module} is for {wide} weights, and in {base} that is {has}.",
        module=shown_name(module),
        wide=f"{up[0] if up else '?'} x {down[-1] if down else '?'}",
        base=shown_name(base.name),
        has=" x ".join(map(str, has)),
    )
    raise _foreign(adapter, detail)


def _lacks(adapter: Path, module: str, base: Path) -> ModelUnsupported:
    detail = Text.of(
        "adapter.lacks",
        "It belongs to another model: it changes {module}, which {base} does not have.",
        module=shown_name(module),
        base=shown_name(base.name),
    )
    return _foreign(adapter, detail)


def _foreign(adapter: Path, detail: Text) -> ModelUnsupported:
    remedy = Text(
        "adapter.foreign_remedy",
        "Name the model that it was trained on: under Custom on the page, or with --set base=PATH in a "
        "terminal.",
    )
    return ModelUnsupported(path=str(adapter), detail=detail, suggestion=remedy)


def _unsupported(adapter: Path, detail: Text) -> ModelUnsupported:
    remedy = Text(
        "llava.merge_remedy", "Merge it into its model with the tool that made it, and open the result."
    )
    return ModelUnsupported(path=str(adapter), detail=detail, suggestion=remedy)
