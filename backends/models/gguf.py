"""Turns a GGUF file, or a folder with one, into a ModelInfo: from headers alone, with its mmproj."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backends.errors import MmprojForeign, ModelDamaged, ModelUnsupported
from backends.models.ggml_types import FILE_TYPES
from backends.models.gguf_architectures import check_architecture, windowed_layers
from backends.models.gguf_damage import damaged
from backends.models.gguf_files import GgufFiles, find_files, models_among, named_mmproj
from backends.models.gguf_header import GgufHeader, read_gguf_header
from backends.models.gguf_vision import gguf_vision, has_eyes, is_projector_file, projected_width
from backends.models.types import (
    GgufDetails,
    LayerCache,
    ModelFile,
    ModelInfo,
    Module,
    ModuleKind,
    Tensor,
    TextGeometry,
)
from backends.text import Text

_BLOCK = re.compile(r"blk\.(0|[1-9][0-9]{0,4})\.")
_EXPERTS = "_exps."
_KINDS = {"token_embd": ModuleKind.EMBED, "output_norm": ModuleKind.NORM, "output": ModuleKind.HEAD}
_MMPROJ_ORDER = ("f16", "bf16", "q8_0", "f32")
_DEFAULT_CONTEXT = 4096


def identify_gguf(path: Path, picture_part: Path | None = None, *, search: bool = True) -> ModelInfo:
    """Read what the GGUF model at `path` is: a file, any part of a split set, or a folder with one model.

    The picture part is `picture_part`, else looked for beside it (unless `search` is False). Raises
    ModelDamaged (truncated, parts missing, an mmproj of another model), ModelUnsupported (versions,
    architectures and projectors that are not known, an mmproj alone) or ModelNotFound (several models in
    the folder).
    """
    files = find_files(path)
    headers = tuple(read_gguf_header(part) for part in files.parts)
    first = headers[0]
    family = _architecture(files.path, first)
    tensors = [tensor for header in headers for tensor in header.tensors]
    _check_parts(files, headers)
    text = _text_geometry(files.path, first, family, tensors)
    if picture_part is not None:
        mmproj: GgufHeader | None = read_gguf_header(picture_part)
    else:
        mmproj = _mmproj(files, text.hidden) if search else None
    modules = _modules(first, family, tensors, text)
    if mmproj is not None:
        modules = (_picture_module(mmproj), *modules)
    everything = headers if mmproj is None else (*headers, mmproj)
    layers = [tensor.nbytes for tensor in tensors if _BLOCK.match(tensor.name)]
    return ModelInfo(
        path=files.path,
        name=files.name,
        family=family,
        architecture=family,
        format="gguf",
        dtype=_precision(first, tensors),
        parameters=sum(module.parameters for module in modules),
        weights_bytes=sum(module.nbytes for module in modules),
        text=text,
        vision=gguf_vision(mmproj) if mmproj is not None else None,
        modules=modules,
        files=tuple(ModelFile(header.file, header.file_bytes) for header in everything),
        weights_present=all(header.complete for header in everything),
        gguf=GgufDetails(
            chat_template="tokenizer.chat_template" in (*first.values, *first.lengths),
            mmproj=mmproj.file if mmproj is not None else None,
            largest_matrix_bytes=max(layers, default=0),
            window_mask=mmproj is not None and bool(mmproj.number("clip.vision.n_wa_pattern")),
        ),
    )


def _architecture(path: Path, header: GgufHeader) -> str:
    family = header.text("general.architecture")
    if family is None:
        raise damaged(path, Text.of("gguf.no_architecture", "{file} names no architecture.", file=path.name))
    if is_projector_file(header):
        raise ModelUnsupported(
            path=str(path),
            detail=Text.of(
                "gguf.mmproj_alone",
                "{file} is the picture part of a model (mmproj) without its language model.",
                file=path.name,
            ),
            suggestion=Text(
                "gguf.mmproj_alone_remedy",
                "Put the model's other GGUF file into the same folder, and open that one.",
            ),
        )
    if header.text("general.type") == "adapter":
        raise ModelUnsupported(
            path=str(path),
            detail=Text.of(
                "gguf.adapter",
                "{file} is an adapter (LoRA): an addition to a model, and no model.",
                file=path.name,
            ),
            suggestion=Text("gguf.adapter_remedy", "Open the GGUF file of the model that it belongs to."),
        )
    check_architecture(path, family)
    return family


def _check_parts(files: GgufFiles, headers: Sequence[GgufHeader]) -> None:
    """Refuse a set whose files don't belong together."""
    stated = headers[0].number("split.count")
    if stated is not None and stated != len(headers):
        raise damaged(
            files.path,
            Text.of(
                "gguf.split_count",
                "{file} says that the model has {stated} parts, and by its name it has {count}.",
                file=files.path.name,
                stated=stated,
                count=len(headers),
            ),
        )
    seen: set[str] = set()
    for header, path in zip(headers, files.parts, strict=True):
        names = {tensor.name for tensor in header.tensors}
        if names & seen:
            raise damaged(
                path,
                Text.of(
                    "gguf.part_twice",
                    "{file} repeats weights of another part: it belongs to another set.",
                    file=path.name,
                ),
            )
        seen |= names


def _text_geometry(path: Path, header: GgufHeader, family: str, tensors: Sequence[Tensor]) -> TextGeometry:
    """The language model's sizes. Raises ModelDamaged where the metadata lack or contradict them."""

    def size(key: str) -> int | None:
        return header.number(f"{family}.{key}")

    hidden, layers, heads = size("embedding_length"), size("block_count"), size("attention.head_count")
    embedding = next((tensor for tensor in tensors if tensor.name == "token_embd.weight"), None)
    if hidden is None or layers is None or heads is None or embedding is None or len(embedding.shape) != 2:
        raise damaged(
            path,
            Text.of(
                "gguf.no_sizes",
                "{file} does not tell the language model's sizes: it is damaged, or not a language model.",
                file=path.name,
            ),
        )
    have = {int(found[1]) for tensor in tensors if (found := _BLOCK.match(tensor.name))}
    if len(have) < layers or max(have) >= layers or embedding.shape[1] != hidden:
        raise ModelDamaged(
            path=str(path),
            detail=Text.of(
                "gguf.layers",
                "{file} holds {have} decoder layers of a width of {width}, and its metadata say {stated} of "
                "{hidden}.",
                file=path.name,
                have=len(have),
                width=embedding.shape[1],
                stated=layers,
                hidden=hidden,
            ),
            file=path.name,
        )
    return TextGeometry(
        hidden=hidden,
        intermediate=_intermediate(header, family) or 4 * hidden,
        layers=layers,
        heads=heads,
        kv_heads=size("attention.head_count_kv") or heads,
        head_dim=size("attention.key_length") or max(1, hidden // heads),
        vocab=embedding.shape[0],
        max_context=size("context_length") or _DEFAULT_CONTEXT,
        tied_embeddings=not any(tensor.name == "output.weight" for tensor in tensors),
    )


def _intermediate(header: GgufHeader, family: str) -> int | None:
    """Width of the MLP that one token passes: dense, or of all experts that it visits."""

    def size(key: str) -> int:
        return header.number(f"{family}.{key}") or 0

    dense, visited = size("feed_forward_length"), size("expert_used_count")
    if not visited:
        return dense or None
    expert = size("expert_feed_forward_length") or dense
    shared = size("expert_shared_feed_forward_length") or size("expert_shared_count") * expert
    return max(dense if size("expert_feed_forward_length") else 0, visited * expert + shared) or None


@dataclass(slots=True)
class _Group:
    kind: ModuleKind
    parameters: int = 0
    nbytes: int = 0
    routed: int = 0
    names: list[str] = field(default_factory=list)


def _modules(
    header: GgufHeader, family: str, tensors: Iterable[Tensor], text: TextGeometry
) -> tuple[Module, ...]:
    """Group tensors as llama.cpp places them: what it keeps apart, embedding, whole layers, norm, head."""
    groups: dict[str, _Group] = {}
    for tensor in tensors:
        block = _BLOCK.match(tensor.name)
        name = block[0][:-1] if block else tensor.name.partition(".")[0]
        kind = ModuleKind.LAYER if block else _KINDS.get(name, ModuleKind.OTHER)
        group = groups.setdefault(name, _Group(kind))
        group.parameters += tensor.parameters
        group.nbytes += tensor.nbytes
        if _EXPERTS in tensor.name:
            group.routed += tensor.parameters
    groups.setdefault("output", _Group(ModuleKind.HEAD))
    experts = header.number(f"{family}.expert_count") or 0
    visited = header.number(f"{family}.expert_used_count") or experts
    caches = _caches(header, family, text)
    found: list[Module] = []
    for name, group in sorted(groups.items(), key=lambda item: _order(*item)):
        idle = group.routed * max(0, experts - visited) // experts if experts else 0
        cache = caches[int(name.removeprefix("blk."))] if group.kind is ModuleKind.LAYER else None
        found.append(
            Module(name, group.kind, group.parameters, group.nbytes, idle_parameters=idle, cache=cache)
        )
    return tuple(found)


def _order(name: str, group: _Group) -> tuple[int, int]:
    kinds = (ModuleKind.OTHER, ModuleKind.EMBED, ModuleKind.LAYER, ModuleKind.NORM, ModuleKind.HEAD)
    return kinds.index(group.kind), int(name.removeprefix("blk.")) if group.kind is ModuleKind.LAYER else 0


def _caches(header: GgufHeader, family: str, text: TextGeometry) -> list[LayerCache]:
    """What each layer keeps: keys and values, whose heads may differ by layer, of all tokens or a window."""
    keys = text.head_dim
    values = header.number(f"{family}.attention.value_length") or keys
    stated = header.values.get(f"{family}.attention.head_count_kv")
    if isinstance(stated, tuple) and len(stated) == text.layers:
        heads = [item if type(item) is int and item >= 0 else text.kv_heads for item in stated]
    else:
        heads = [text.kv_heads] * text.layers
    windowed = windowed_layers(header, family, text.layers)
    window = header.number(f"{family}.attention.sliding_window")
    return [
        LayerCache(count * (keys + values), window if slides else None)
        for count, slides in zip(heads, windowed, strict=True)
    ]


def _picture_module(mmproj: GgufHeader) -> Module:
    """The tower and its projector, which llama.cpp places as a whole."""
    return Module(
        "mmproj",
        ModuleKind.VISION,
        sum(tensor.parameters for tensor in mmproj.tensors),
        sum(tensor.nbytes for tensor in mmproj.tensors),
    )


def _mmproj(files: GgufFiles, hidden: int) -> GgufHeader | None:
    """The picture part that was made for a language model of this width; None where there is none.

    Raises MmprojForeign when the only ones there were made for another model, and this model has no rival
    that they could belong to.
    """
    named = [file for file in files.others if named_mmproj(file)]
    headers = [header for header in map(read_gguf_header, named) if has_eyes(header)]
    fitting = [header for header in headers if projected_width(header) in (None, hidden)]
    if not fitting:
        if headers and not models_among(files.others):
            file = headers[0].file
            detail = Text.of(
                "gguf.foreign_mmproj",
                "{file} was made for a language model of width {width}, and this one has {hidden}: it "
                "belongs to another model.",
                file=file,
                width=projected_width(headers[0]) or 0,
                hidden=hidden,
            )
            raise MmprojForeign(path=str(files.path.parent), detail=detail, file=file)
        return None
    return max(fitting, key=lambda header: (_shared_start(header.file, files.name), -_taste(header)))


def _shared_start(file: str, name: str) -> int:
    """How many words two names share: a folder of many models names each one's picture part for it."""
    words = set(re.split(r"[-_. ]+", name.lower()))
    return len(words.intersection(re.split(r"[-_. ]+", file.lower())) - {"gguf", *FILE_TYPES.values()})


def _taste(header: GgufHeader) -> int:
    """Which of several precisions of the same part: 16 bits lose nothing that can be seen."""
    precision = _precision(header, header.tensors)
    return _MMPROJ_ORDER.index(precision) if precision in _MMPROJ_ORDER else len(_MMPROJ_ORDER)


def _precision(header: GgufHeader, tensors: Iterable[Tensor]) -> str:
    """The name of the mixture that the file states, else of the type that holds most of its bytes."""
    stated = header.values.get("general.file_type")
    if type(stated) is int and stated in FILE_TYPES:
        return FILE_TYPES[stated]
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.nbytes
    return sizes.most_common(1)[0][0] if sizes else "f32"
