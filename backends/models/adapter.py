"""A LoRA and its base model: what merging takes and whether they belong together, by config and headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from backends.errors import ModelDamaged, ModelUnsupported
from backends.models.checkpoint import read_json
from backends.models.geometry import number
from backends.models.safetensors_header import read_header
from backends.models.types import Adapter, Tensor
from backends.text import Text, shown_name

# Where a base model of this name is elsewhere on the machine, if it is.
Finder = Callable[[str], Path | None]

_CONFIG, _WEIGHTS, _PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_ADDED = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight")
# The part of a module's path that is the same in every version of a family: from its numbered block on.
_BLOCK = re.compile(r"(?:.*?\.)?(?P<tail>[^.]+\.\d+\..+)")


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter and no whole model of its own; not one that may not be entered."""
    whole = ("model.safetensors", "model.safetensors.index.json")
    try:
        return (folder / _CONFIG).is_file() and not any((folder / name).is_file() for name in whole)
    except OSError:
        return False


def read_adapter(
    folder: Path, base: Path | None, elsewhere: Finder
) -> tuple[Adapter, Path, tuple[Tensor, ...]]:
    """Return the adapter in `folder`, the folder of its base model, and the tensors it adds.

    The base is `base` where that is given, else at the path that the adapter's config names, then beside
    `folder` under that name or its last part, then `elsewhere`. Of pickled weights only the size is known.
    Raises ModelUnsupported when it is not a LoRA or its base is not there, ModelDamaged when its config or
    header is not readable or it has no weights.
    """
    config = read_json(folder / _CONFIG)
    found = base_folder(folder, config, base, elsewhere)
    added: tuple[Tensor, ...] = ()
    if (folder / _WEIGHTS).is_file():
        added = read_header(folder / _WEIGHTS).tensors
        nbytes = sum(tensor.nbytes for tensor in added)
    elif (folder / _PICKLED).is_file():
        nbytes = (folder / _PICKLED).stat().st_size
    else:
        nbytes = 0
    if not nbytes:
        detail = Text.of("checkpoint.missing", "{file} is missing.", file=_WEIGHTS)
        raise ModelDamaged(path=str(folder), detail=detail, file=_WEIGHTS)
    ranks = [tensor.shape[0] for tensor in added if ".lora_A" in tensor.name and len(tensor.shape) == 2]
    rank = max(ranks, default=number(config, "r") or 0)
    return Adapter(folder.name, rank, nbytes, str(found)), found, added


def base_folder(folder: Path, config: Mapping[str, Any], base: Path | None, elsewhere: Finder) -> Path:
    """The folder of the model that the adapter in `folder` belongs to, found as `read_adapter` says.

    Raises ModelUnsupported when the adapter is no LoRA, or its base is an adapter itself or not there.
    """
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        kind = shown_name(str(config["peft_type"]))
        detail = Text.of("adapter.kind", "It is an adapter of the kind {kind}.", kind=kind)
        raise unmergeable(folder, detail)
    found = base or _base(folder, config, elsewhere)
    if is_adapter(found):
        detail = Text.of(
            "adapter.of_adapter",
            "It belongs to {base}, which is an adapter itself.",
            base=shown_name(found.name),
        )
        raise unsupported(folder, detail)
    return found


def adapter_weights(folder: Path) -> Path:
    """The file with the adapter's tensors. Raises ModelDamaged when there is none."""
    for name in (_WEIGHTS, _PICKLED):
        if (folder / name).is_file():
            return folder / name
    detail = Text.of("checkpoint.missing", "{file} is missing.", file=_WEIGHTS)
    raise ModelDamaged(path=str(folder), detail=detail, file=_WEIGHTS)


def check_match(folder: Path, added: Iterable[Tensor], base: Path, tensors: Sequence[Tensor]) -> None:
    """Refuse a LoRA of another model: of other sizes, or for parts that `tensors` of the base lack.

    Parts are recognised from their numbered block on, because what stands above differs between
    versions. Raises ModelUnsupported.
    """
    shapes = _changed(added)
    weights: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        if tensor.name.endswith(".weight"):
            weights.setdefault(tail_of(tensor.name.removesuffix(".weight")), []).append(tensor)
    parts = {_kind(tail) for tail in weights}
    known = 0
    for module, sides in shapes.items():
        same = weights.get(tail_of(module), [])
        known += bool(same)
        if same and not any(_fits(sides, tensor) for tensor in same):
            wide, has = (_written(sides), " x ".join(map(str, same[0].shape)))
            raise foreign(
                folder,
                Text.of(
                    "adapter.size",
                    "It belongs to another model: its {module} is for {wide} weights, and in {base} that is "
                    "{has}.",
                    module=shown_name(module),
                    wide=wide,
                    base=shown_name(base.name),
                    has=has,
                ),
            )
        if not same and _kind(tail_of(module)) in parts:
            raise foreign(folder, lacks(module, base))
    if shapes and not known:
        raise foreign(folder, lacks(next(iter(shapes)), base))


def _base(folder: Path, config: Mapping[str, Any], elsewhere: Finder) -> Path:
    stated = config.get("base_model_name_or_path")
    if not isinstance(stated, str) or not stated.strip():
        raise _homeless(
            folder, Text("adapter.no_base", "It holds an adapter (LoRA) and does not say of which model.")
        )
    last = PurePosixPath(stated.replace("\\", "/")).name
    try:
        for place in (Path(stated), folder.parent / stated, folder.parent / last):
            if (
                place.is_absolute()
                and (place / "config.json").is_file()
                and place.resolve() != folder.resolve()
            ):
                return place
        found = elsewhere(stated)
    except (OSError, ValueError):  # too long for a path, or none at all
        found = None
    if found is None:
        raise _homeless(
            folder,
            Text.of(
                "adapter.base_absent",
                "It holds an adapter (LoRA) of the model {base}, which is neither beside it nor in the model "
                "folders or the Hub cache.",
                base=shown_name(stated),
            ),
        )
    return found


def _changed(added: Iterable[Tensor]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Module -> shapes of the two matrices whose product is added to its weight."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for tensor in added:
        name = _ADDED.fullmatch(tensor.name)
        if name is not None and len(tensor.shape) == 2:
            shapes.setdefault(name["module"], {})[name["side"]] = tensor.shape
    return shapes


def tail_of(module: str) -> str:
    """`layers.3.self_attn.q_proj` of whatever stands above it; a head's or an embedding's own name."""
    found = _BLOCK.fullmatch(module)
    return found["tail"] if found else module.rpartition(".")[2]


def _kind(tail: str) -> str:
    return re.sub(r"\.\d+\.", ".N.", tail)


def _fits(sides: Mapping[str, tuple[int, ...]], tensor: Tensor) -> bool:
    """Whether `B @ A` has the shape of the weight; GPT-2's are stored transposed, quantized ones packed."""
    if len(tensor.shape) != 2 or "float" not in tensor.dtype:
        return True
    return any(
        ("A" not in sides or sides["A"][1] == inputs) and ("B" not in sides or sides["B"][0] == outputs)
        for outputs, inputs in (tensor.shape, tensor.shape[::-1])
    )


def _written(sides: Mapping[str, tuple[int, ...]]) -> str:
    outputs = sides["B"][0] if "B" in sides else "?"
    return f"{outputs} x {sides['A'][1] if 'A' in sides else '?'}"


def lacks(module: str, base: Path) -> Text:
    """That the base has no such part."""
    return Text.of(
        "adapter.lacks",
        "It belongs to another model: it changes {module}, which {base} does not have.",
        module=shown_name(module),
        base=shown_name(base.name),
    )


def unsupported(folder: Path, detail: Text) -> ModelUnsupported:
    """The error about an adapter that is none of a model as it stands."""
    remedy = Text("checkpoint.adapter_remedy", "Open the model that the adapter belongs to.")
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)


def unmergeable(folder: Path, detail: Text) -> ModelUnsupported:
    """The error about an adapter that only the tool that made it can merge."""
    remedy = Text(
        "adapter.merge_remedy", "Merge it into its model with the tool that made it, and open the result."
    )
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)


def _homeless(folder: Path, detail: Text) -> ModelUnsupported:
    remedy = Text(
        "adapter.base_remedy",
        "Put that model beside it or into a model folder, or say where it is: under Custom on the page, or "
        "with --set base=PATH in a terminal.",
    )
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)


def foreign(folder: Path, detail: Text) -> ModelUnsupported:
    """The error about an adapter of another model."""
    remedy = Text(
        "adapter.foreign_remedy",
        "Name the model that it was trained on: under Custom on the page, or with --set base=PATH in a "
        "terminal.",
    )
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)
