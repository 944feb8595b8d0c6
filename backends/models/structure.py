"""Groups tensors into the modules that are never split over devices, in execution order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backends.models.naming import AUDIO_WORDS, block_of, is_projector, is_vision
from backends.models.types import Module, ModuleKind, Tensor

_NORM_WORDS = ("norm", "ln_f", "ln_final")
_EMBED_WORDS = ("embed", "wte", "tok_embeddings")
_POSITION_WORDS = ("wpe", "embed_positions", "position_embeddings")
_HEADS = ("lm_head", "output", "embed_out")
# A Linear's weight is a matrix; these matrices belong to other kinds of layers.
_NUMBER = re.compile(r"[0-9]{1,5}")
_NOT_LINEAR = ("embed", "wte", "wpe", "position", ".experts.")
# Buffers that files of older versions carry and the loaded model computes itself.
_BUFFERS = ("inv_freq", "position_ids", ".attn.masked_bias", ".attn.bias")
# Weights of which a decoded token passes only a part: routed experts, and CogVLM's experts for pictures.
_ROUTED = ".experts."
_FOR_PICTURES = (".vision_expert_", ".vision_mlp.")
_ORDER = (
    ModuleKind.VISION,
    ModuleKind.PROJECTOR,
    ModuleKind.OTHER,
    ModuleKind.EMBED,
    ModuleKind.LAYER,
    ModuleKind.NORM,
    ModuleKind.HEAD,
)


@dataclass(slots=True)
class _Group:
    kind: ModuleKind
    parameters: int = 0
    nbytes: int = 0
    linear_parameters: int = 0
    linear_rows: int = 0
    routed: int = 0
    experts: int = 0
    for_pictures: int = 0
    blocks: dict[str, int] = field(default_factory=dict)

    def idle(self, visited: int | None) -> int:
        """Parameters that a token passes by when it visits `visited` of the experts (None: all of them)."""
        unvisited = max(0, self.experts - visited) if visited else 0
        return self.for_pictures + (self.routed * unvisited // self.experts if self.experts else 0)


@dataclass(frozen=True, slots=True)
class Structure:
    """The modules and where the language model sits (`model.language_model`, `layers`)."""

    modules: tuple[Module, ...]
    root: str
    blocks: str
    layers: int
    tied: bool


def is_buffer(name: str) -> bool:
    """Tell whether a tensor is a buffer that loading ignores."""
    return name.endswith(_BUFFERS)


def build(
    tensors: Sequence[Tensor],
    names: Mapping[str, str],
    *,
    layers: int | None,
    tied: bool,
    visited_experts: int | None = None,
    rotary: bool = True,
    kept_linears: frozenset[str] = frozenset(),
    turned: bool = False,
) -> Structure:
    """Group `tensors` (named as loaded in `names`) into modules.

    `layers` is the config's number of decoder layers, used to recognise the decoder's stack among the
    numbered ones, `visited_experts` how many a token passes; `rotary` says whether positions are rotated, by
    a module that no file holds; `kept_linears` are ends of names of matrices that bitsandbytes leaves as they
    are, `turned` that matrices are stored as [inputs, outputs]. A head that the file lacks, or repeats
    although tied, is the embedding once more.
    """
    stack, count = _decoder_stack(tuple(names.values()), layers)
    root, _, blocks = stack.rpartition(".")
    groups: dict[str, _Group] = {}
    for tensor in tensors:
        name = names[tensor.name]
        if is_buffer(name):
            continue
        place, kind = _place(name, root, blocks)
        if kind is ModuleKind.HEAD and tied:
            continue
        group = groups.setdefault(place, _Group(kind))
        if kind is ModuleKind.VISION and group.kind is not ModuleKind.LAYER:
            group.kind = kind  # whatever else it holds (Phi-4's ears), pictures go through it
        _add(group, name, tensor)
        if _is_linear(name.removeprefix(f"{place}."), tensor, kept_linears):
            group.linear_parameters += tensor.parameters
            group.linear_rows += tensor.shape[1 if turned else 0]
    has_head = any(group.kind is ModuleKind.HEAD for group in groups.values())
    if not has_head:
        groups["lm_head"] = _Group(ModuleKind.HEAD)
    learned_positions = any(word in place for place in groups for word in _POSITION_WORDS)
    if rotary and not learned_positions and root and any(name.endswith("embed_tokens") for name in groups):
        groups[f"{root}.rotary_emb"] = _Group(ModuleKind.OTHER)
    return Structure(_in_order(groups, visited_experts), root, blocks, count, tied=not has_head)


def _decoder_stack(names: tuple[str, ...], layers: int | None) -> tuple[str, int]:
    """Find the numbered stack that is the decoder: outside vision and audio, of the config's length."""
    sizes: dict[str, int] = {}
    for name in names:
        block = block_of(name)
        if block and not any(_is_side(part) for part in block[0].split(".")):
            sizes[block[0]] = max(sizes.get(block[0], 0), block[1] + 1)
    if not sizes:
        return "", 0
    # The config's length decides; without it, or when none agrees, the longest stack does.
    stack = max(sizes, key=lambda prefix: (sizes[prefix] == layers, sizes[prefix], -len(prefix)))
    return stack, sizes[stack]


def _is_side(component: str) -> bool:
    return is_vision(component) or is_projector(component) or any(word in component for word in AUDIO_WORDS)


def _place(name: str, root: str, blocks: str) -> tuple[str, ModuleKind]:
    """Return the module that a loaded tensor name belongs to, and the module's kind."""
    path, _, _ = name.rpartition(".")
    if path in _HEADS or path.endswith(".lm_head"):
        return path, ModuleKind.HEAD
    inside = f"{root}." if root else ""
    if blocks and name.startswith(f"{inside}{blocks}."):
        index = name[len(inside) + len(blocks) + 1 :].partition(".")[0]
        return f"{inside}{blocks}.{index}", ModuleKind.LAYER
    if root and name.startswith(inside) and not _is_side(name[len(inside) :].partition(".")[0]):
        return _language_part(name, inside)
    base = inside if root and name.startswith(inside) else "model." if name.startswith("model.") else ""
    parts = name.split(".")
    depth = base.count(".") + 1
    # What also holds the decoder is taken apart: a module never lies inside another.
    while depth < len(parts) and f"{inside}{blocks}.".startswith(".".join(parts[:depth]) + "."):
        depth += 1
    place, component = ".".join(parts[:depth]), parts[depth - 1]
    if depth >= len(parts) - 1 and path == ".".join(parts[: depth - 1]):
        return name, ModuleKind.OTHER
    if is_projector(component):
        return place, ModuleKind.PROJECTOR
    return place, ModuleKind.VISION if is_vision(component) else ModuleKind.OTHER


def _language_part(name: str, inside: str) -> tuple[str, ModuleKind]:
    component = name[len(inside) :].partition(".")[0]
    place = inside + component
    if any(word in component for word in _NORM_WORDS):
        return place, ModuleKind.NORM
    if any(word in component for word in _POSITION_WORDS):
        return place, ModuleKind.OTHER
    if any(is_vision(part) for part in name[len(inside) :].split(".")[1:]):
        return place, ModuleKind.VISION
    return place, ModuleKind.EMBED if any(word in component for word in _EMBED_WORDS) else ModuleKind.OTHER


def _add(group: _Group, name: str, tensor: Tensor) -> None:
    group.parameters += tensor.parameters
    group.nbytes += tensor.nbytes
    if group.kind is ModuleKind.LAYER:
        _count_experts(group, name, tensor)
    elif group.kind is ModuleKind.VISION:
        block = block_of(name)
        key = f"{block[0]}.{block[1]}" if block else name
        group.blocks[key] = group.blocks.get(key, 0) + tensor.parameters


def _is_linear(name: str, tensor: Tensor, kept_linears: frozenset[str]) -> bool:
    """Whether a tensor, by its name in its module, is a matrix that bitsandbytes quantizes."""
    if len(tensor.shape) != 2 or not name.endswith(".weight"):
        return False
    path = f".{name.removesuffix('.weight')}"
    kept = any(path.endswith(f".{end}") for end in kept_linears)
    return not kept and not any(word in f".{name}" for word in _NOT_LINEAR)


def _count_experts(group: _Group, name: str, tensor: Tensor) -> None:
    """Experts are numbered (`experts.7.down_proj.weight`) or lie in one tensor (`experts.down_proj`)."""
    if any(word in name for word in _FOR_PICTURES):
        group.for_pictures += tensor.parameters
    _, found, tail = name.partition(_ROUTED)
    if not found:
        return
    number = tail.partition(".")[0]
    count = int(number) + 1 if _NUMBER.fullmatch(number) else tensor.shape[0] if len(tensor.shape) > 1 else 0
    group.routed += tensor.parameters
    group.experts = max(group.experts, count)


def _in_order(groups: Mapping[str, _Group], visited: int | None) -> tuple[Module, ...]:
    def key(item: tuple[str, _Group]) -> tuple[int, int, str]:
        name, group = item
        number = int(name.rpartition(".")[2]) if group.kind is ModuleKind.LAYER else 0
        return _ORDER.index(group.kind), number, name

    return tuple(
        Module(
            name,
            group.kind,
            group.parameters,
            group.nbytes,
            group.linear_parameters,
            group.linear_rows,
            group.idle(visited),
            max(group.blocks.values(), default=0),
        )
        for name, group in sorted(groups.items(), key=key)
    )
