"""The memory model: what a device must hold, term by term (DESIGN section 4).

All figures are bytes at the peak. The formulas follow the tensors that a decoder keeps alive at one time
in the forward pass of transformers' Llama-like models, with PyTorch's fused attention (no matrix of
scores), and the last token's logits only. What a pass is follows the engine: some families read a prompt in
pieces, others at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from backends.hardware.types import Gpu
from backends.models.types import LayerCache, Module, ModuleKind, TextGeometry, VisionGeometry
from backends.placement.budget import MIB
from backends.placement.pictures import encoded_alone, tiles_at_once
from backends.placement.precision import Precision
from backends.placement.types import DeviceShare

_FP32 = 4
# CUDA context with the kernels of a small model, by generation (DESIGN: 300-700 MiB).
_CONTEXT_BYTES = {6: 300 * MIB, 7: 350 * MIB, 8: 450 * MIB, 9: 550 * MIB}
_CONTEXT_BYTES_NEWER = 600 * MIB
# cuBLAS keeps a workspace per stream; the caching allocator rounds blocks and keeps some it can't reuse.
_WORKSPACE_BYTES = 64 * MIB
_SLACK = 0.06
# A cache that grew into a larger block lies in a segment that is rounded up to 2 MiB, keys and values apart.
_GPU_CACHE_SLACK, _GPU_CACHE_SLACK_LAYER = 0.25, 4 * MIB
# A process that has imported torch and transformers, without and with CUDA's libraries. Measured on Linux
# with torch's CPU build: 281 MiB of its own, 118 MiB of libraries; answering adds pools and kernels' scratch.
CPU_PROCESS_BYTES = 436 * MIB
# What C's allocator keeps of blocks that were freed. Blocks from 4 MiB on go straight back to the system
# (worker.allocator); of smaller ones, most of all a cache's that grows from question to question, some
# stays. Measured in eight turns up to 4,096 tokens: 30 MiB more than in one, of 192 MiB of cache.
_CPU_CACHE_SLACK, _CPU_SLACK, _CPU_CACHE_SLACK_MOST = 0.1, 0.1, 256 * MIB
# Pictures that are encoded one by one use blocks so small that the heap keeps gaps of about one's memory.
_CPU_EYES_SLACK_MOST = 64 * MIB
# The system's own table of pages: 8 bytes for 4 KiB. Control groups count it as the process's.
_PAGE_TABLE = 512
CUDA_PROCESS_BYTES = 1100 * MIB
# How the engine reads a prompt of the families that allow it (engines.paths, engines.cache): text in pieces
# of 128 tokens, a picture together with the text before it up to 1,024, and 2,048 where every pass moves
# weights. The others read the whole prompt in one pass.
TEXT_ROWS, PICTURE_ROWS, STREAMED_ROWS = 128, 1024, 2048
_IN_PIECES = frozenset({"llava", "llava_next", "cogvlm"})
# Text models whose layers all keep every token; others may have sliding windows, which can't be cut back.
_TEXT_IN_PIECES = frozenset(
    {"llama", "qwen2", "qwen3", "granite", "olmo", "olmo2", "smollm3", "chatglm", "glm"}
)
# Loading keeps several tensors of a layer in flight, each once as read and once as placed.
_LOADERS = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """What the plan must be able to hold: the whole context, and the pictures of one message."""

    context_tokens: int
    images: int
    image_tokens: int


@dataclass(slots=True)
class Load:
    """What lies on one device, summed up while modules are placed on it.

    `layers` decoder layers run here; `caches` counts those of them that keep something else than all tokens.
    `weights` are bytes at rest, in RAM also those of a mapped file that no question has touched yet (an
    embedding's other rows, a tower without a picture): they come with time, so they count from the start.
    `visiting` is the largest layer that comes only to be executed (streamed from RAM or disk); `largest` the
    largest module as it is read. `reading` is what engines.reading keeps in RAM for parts that are read from
    the disk for each pass.
    """

    weights: int = 0
    layers: int = 0
    vision: bool = False
    embed: bool = False
    head: bool = False
    visiting: int = 0
    reading: int = 0
    largest: int = 0
    quantizes: bool = False
    caches: dict[LayerCache, int] = field(default_factory=dict)

    def add(
        self, module: Module, nbytes: int, precision: Precision, *, quantized: bool, count: int = 1
    ) -> None:
        """Place `count` modules like `module`, each of which takes `nbytes` here."""
        self.weights += count * nbytes
        self.layers += count * (module.kind is ModuleKind.LAYER)
        self.vision = self.vision or module.kind is ModuleKind.VISION
        self.embed = self.embed or module.kind is ModuleKind.EMBED
        self.head = self.head or module.kind is ModuleKind.HEAD
        self.largest = max(self.largest, module.piece_parameters * precision.width)
        self.quantizes = self.quantizes or quantized
        self.keep(module, count)

    def keep(self, module: Module, count: int = 1) -> None:
        """Count what `count` modules like `module` keep of a conversation."""
        if module.cache is not None:
            self.caches[module.cache] = self.caches.get(module.cache, 0) + count

    def copy(self) -> Load:
        """Return an independent copy."""
        return Load(
            self.weights,
            self.layers,
            self.vision,
            self.embed,
            self.head,
            self.visiting,
            self.reading,
            self.largest,
            self.quantizes,
            self.caches.copy(),
        )


def kv_cache_per_layer(text: TextGeometry, tokens: int, width: int) -> int:
    """Keys and values of one layer."""
    return 2 * text.kv_heads * text.head_dim * width * tokens


def kv_cache(text: TextGeometry, load: Load, work: Workload, width: int) -> int:
    """What all layers on a device keep, each by its own kind: all tokens, a window, a state or pictures."""
    usual = load.layers - sum(load.caches.values())
    others = sum(
        count * cache.nbytes(work.context_tokens, work.images, width) for cache, count in load.caches.items()
    )
    return usual * kv_cache_per_layer(text, work.context_tokens, width) + others


def in_pieces(family: str, vision: VisionGeometry | None) -> bool:
    """Whether the engine reads a prompt in pieces, and pictures one by one."""
    return family in (_IN_PIECES if vision is not None else _TEXT_IN_PIECES)


def pass_rows(family: str, vision: VisionGeometry | None, work: Workload, *, streamed: bool) -> int:
    """The most tokens that one pass computes; `streamed` where weights are moved for every pass."""
    rows = work.context_tokens
    if in_pieces(family, vision):
        rows = STREAMED_ROWS if streamed else TEXT_ROWS
        if work.images:
            rows = max(rows, min(TEXT_ROWS + work.image_tokens, PICTURE_ROWS))
    return min(rows, work.context_tokens)


def text_activation(text: TextGeometry, tokens: int, precision: Precision, rows: int | None = None) -> int:
    """Peak of one decoder layer's pass over the last `rows` (default: all) of `tokens`.

    Alive at once: the residual stream, and the largest of normalisation (two float32 copies), attention
    (queries, keys and values before and after rotation, keys and values repeated for grouped heads, the
    result) or the gated MLP (three widths). One layer's cache is copied when it grows. A pass over a part
    needs a mask (one byte, and once more as numbers to add), and then repeats the keys and values of all
    tokens for grouped heads, which the fused kernel does by itself only without one.
    """
    width = precision.width
    whole = tokens
    tokens = whole if rows is None else min(rows, whole)
    queries, keys = text.heads * text.head_dim, text.kv_heads * text.head_dim
    norm = text.hidden * (2 * _FP32 + width)
    attention = 2 * (queries + 2 * keys) * width + queries * width
    if text.kv_heads < text.heads:
        attention += 2 * queries * width
    mlp = (text.hidden + 3 * text.intermediate) * width
    if precision.name == "int8":
        # The activations as int8, and the products as int32 before they are scaled back.
        mlp += text.intermediate * 5
    peak = tokens * (text.hidden * width + max(norm, attention, mlp))
    mask = tokens * tokens * width
    if tokens < whole:
        mask = tokens * whole * (1 + width)
        if text.kv_heads < text.heads:
            mask += 2 * whole * queries * width
    growth = kv_cache_per_layer(text, whole, width)
    # NF4's prefill expands one matrix at a time to the compute dtype.
    expanded = text.hidden * text.intermediate * width if precision.name == "nf4" else 0
    return peak + mask + growth + expanded


def vision_activation(
    vision: VisionGeometry,
    text: TextGeometry,
    work: Workload,
    width: int,
    *,
    one_by_one: bool = False,
    family: str = "",
) -> int:
    """Peak of encoding the planned pictures, tiles in one batch; pictures too, or `one_by_one`.

    Every layer's output is kept (LLaVA takes the last but one); on top the largest of attention (input,
    normalised input, three projections, result) or MLP. Then the features at the language model's width.
    `family` is that of a model which reads its prompt as a whole: where it encodes pictures piece by piece,
    the tower is counted once and the pixels of as many pictures as the context can hold.
    """
    if work.images == 0:
        return 0
    patches = vision.patches
    if vision.dynamic:
        patches = min(patches, work.image_tokens * vision.merge**2)
        pixels = patches * 2 * 3 * vision.patch_size**2
    else:
        pixels = 3 * vision.image_size**2
    alone = not one_by_one and encoded_alone(family)
    tiles = tiles_at_once(family, vision.max_tiles) if alone else vision.max_tiles
    rows = (1 if one_by_one or alone else work.images) * tiles * patches
    kept = 0 if vision.dynamic else vision.layers + 1
    attention = 4 * vision.hidden * width
    if vision.dynamic:
        # Queries and keys are rotated in float32: both, their results, and one product on the way.
        attention = vision.hidden * (3 * width + 5 * _FP32)
    mlp = 2 * vision.intermediate * width
    tower = rows * ((kept + 2) * vision.hidden * width + max(attention, mlp))
    pixels *= vision.max_tiles
    if alone:
        held = max(pixels * work.images, pixels * work.context_tokens // max(1, work.image_tokens))
        tokens = max(work.images * work.image_tokens, work.context_tokens)
        features = 3 * tokens * text.hidden * width
        # The processor's float32 numbers go before the tower runs, unless they are what it takes.
        made = held * (_FP32 + width if width < _FP32 else _FP32)
        return max(made, tower + held * width + features)
    inputs = work.images * pixels * (_FP32 + width)
    # As the tower gives them, as the projector does, and as they are kept or put among the words.
    copies = work.images + 2 if one_by_one else 3 * work.images
    taken = vision.max_tiles * patches if vision.crossing else work.image_tokens
    features = copies * taken * text.hidden * width
    return tower + inputs + features


def logits_bytes(text: TextGeometry, width: int) -> int:
    """The last token's logits: as computed, in float32, and two copies that sampling sorts."""
    return text.vocab * (width + 3 * _FP32)


def activation(
    text: TextGeometry,
    vision: VisionGeometry | None,
    load: Load,
    work: Workload,
    precision: Precision,
    *,
    family: str = "",
    sees_as: str = "",
) -> int:
    """Peak of activations on a device that executes `load`; picture and prompt follow each other.

    `family` tells how the engine reads the prompt; without it, as a whole. `sees_as` is the model's family,
    which tells how it encodes pictures then; without it, all at once.
    """
    rows = pass_rows(family, vision, work, streamed=load.visiting > 0)
    peak = text_activation(text, work.context_tokens, precision, rows) if load.layers else 0
    if load.vision and vision is not None:
        one_by_one = in_pieces(family, vision)
        seeing = vision_activation(vision, text, work, precision.width, one_by_one=one_by_one, family=sees_as)
        peak = max(peak, seeing)
    if load.embed:
        # The tokens' embeddings, and the copy into which picture features are merged.
        peak += 2 * rows * text.hidden * precision.width
    if load.head:
        peak += logits_bytes(text, precision.width)
    return peak


def gpu_overhead(gpu: Gpu) -> int:
    """CUDA context and the libraries' workspace."""
    major = gpu.compute_capability[0] if gpu.compute_capability else 8
    context = _CONTEXT_BYTES.get(max(major, 6), _CONTEXT_BYTES_NEWER)
    return context + _WORKSPACE_BYTES


def share(
    device: str,
    name: str,
    budget: int,
    load: Load,
    *,
    text: TextGeometry,
    vision: VisionGeometry | None,
    work: Workload,
    precision: Precision,
    overhead: int,
    family: str = "",
    sees_as: str = "",
) -> DeviceShare:
    """Sum up one executing device; `overhead` is what it holds before any weight.

    `family` tells how a prompt is read, `sees_as` how pictures are (see `activation`).

    Staging is the largest visiting layer, in RAM what is read from the disk; and, where weights are
    quantized while loading, what that needs beyond the cache and activations that are not there yet.
    """
    cache = kv_cache(text, load, work, precision.width)
    active = activation(text, vision, load, work, precision, family=family, sees_as=sees_as)
    loading = _LOADERS * load.largest // 2 if load.quantizes else 0
    in_ram = device == "cpu"
    visiting = load.reading if in_ram else load.visiting
    staging = max(visiting, loading - cache - active, 0)
    if in_ram:
        # Memory for reading is used again and again: nothing of it is left over.
        slack = int((active + staging - visiting) * _CPU_SLACK)
        slack += min(int(cache * _CPU_CACHE_SLACK), _CPU_CACHE_SLACK_MOST)
        if load.vision and vision is not None and encoded_alone(sees_as) and not in_pieces(family, vision):
            seeing = vision_activation(vision, text, work, precision.width, family=sees_as)
            slack += min(seeing, _CPU_EYES_SLACK_MOST)
        slack += (load.weights + cache + active + staging) // _PAGE_TABLE
    else:
        slack = int((active + staging) * _SLACK)
        slack += min(int(cache * _GPU_CACHE_SLACK), load.layers * _GPU_CACHE_SLACK_LAYER)
    return DeviceShare(device, name, budget, load.weights, cache, active, staging, overhead + slack)
