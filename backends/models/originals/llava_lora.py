"""What a LoRA of the original LLaVA adds to a model: its matrices by the weights that they change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.errors import ModelUnsupported
from backends.models.adapter import foreign
from backends.models.originals.found import Found
from backends.models.originals.llava_names import is_no_weight, loaded_name
from backends.models.originals.lora_config import Scales, check_mergeable
from backends.models.originals.lora_tensors import Pair, sort_tensors
from backends.models.originals.types import Delta, Part
from backends.models.weight_files import weight_tensors
from backends.text import Text, shown_name


def add_lora(
    found: Mapping[str, Found], file: Path, config: Mapping[str, Any], adapter: Path, base: Path
) -> dict[str, Found]:
    """`found` (by loaded names) with the tensors of the adapter's `file` over it.

    `config` is adapter_config.json. Raises ModelUnsupported for other sizes than the base has, or kinds of
    LoRA that add more than a product; ModelDamaged for half a pair or a factor that is none. Nothing of the
    adapter is left out.
    """
    check_mergeable(adapter, config)
    added = sort_tensors(adapter, weight_tensors(file))
    scales = Scales(adapter, config)
    merged = dict(found)
    for path, tensor in added.whole.items():
        name = loaded_name(path)
        if name is not None:
            merged[name] = Found(Part(file, tensor.name), tensor)
        elif not is_no_weight(path):
            raise _lacks(adapter, path, base)
    for module, pair in added.pairs.items():
        name = loaded_name(f"{module}.weight")
        if name is None or name not in merged:
            raise _lacks(adapter, module, base)
        target = merged[name]
        _check(module, pair, target, adapter, base)
        down, up = pair.sides["A"], pair.sides["B"]
        scale = scales.of(module, down.shape[0])
        delta = Delta(Part(file, down.name), Part(file, up.name), scale, turned=pair.embedding)
        merged[name] = replace(target, deltas=(*target.deltas, delta))
    return merged


def _check(module: str, pair: Pair, target: Found, adapter: Path, base: Path) -> None:
    wide = (pair.sides["B"].shape[0], pair.sides["A"].shape[1])
    if target.tensor.shape == (wide[::-1] if pair.embedding else wide):
        return
    detail = Text.of(
        "adapter.size",
        "It belongs to another model: its {module} is for {wide} weights, and in {base} that is {has}.",
        module=shown_name(module),
        wide=" x ".join(map(str, wide)),
        base=shown_name(base.name),
        has=" x ".join(map(str, target.tensor.shape)),
    )
    raise foreign(adapter, detail)


def _lacks(adapter: Path, module: str, base: Path) -> ModelUnsupported:
    detail = Text.of(
        "adapter.lacks",
        "It belongs to another model: it changes {module}, which {base} does not have.",
        module=shown_name(module),
        base=shown_name(base.name),
    )
    return foreign(adapter, detail)
