"""The memory model: what a device must hold, term by term (DESIGN section 4).

All figures are bytes at the peak. The formulas follow the tensors that a decoder keeps alive at one time
in the forward pass of transformers' Llama-like models, with PyTorch's fused attention (no matrix of
scores), and the last token's logits only.
"""

from __future__ import annotations

from dataclasses import dataclass

from backends.hardware.types import Gpu
from backends.models.types import Module, ModuleKind, TextGeometry, VisionGeometry
from backends.placement.budget import MIB
from backends.placement.precision import Precision
from backends.placement.types import DeviceShare

_FP32 = 4
# CUDA context with the kernels of a small model, by generation (DESIGN: 300-700 MiB).
_CONTEXT_BYTES = {6: 300 * MIB, 7: 350 * MIB, 8: 450 * MIB, 9: 550 * MIB}
_CONTEXT_BYTES_NEWER = 600 * MIB
# cuBLAS keeps a workspace per stream; the caching allocator rounds blocks and keeps some it can't reuse.
_WORKSPACE_BYTES = 64 * MIB
_SLACK = 0.06
# A process that has imported torch and transformers, without and with CUDA's libraries.
CPU_PROCESS_BYTES = 420 * MIB
CUDA_PROCESS_BYTES = 1100 * MIB
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

    `layers` decoder layers run here; `weights` are bytes at rest; `visiting` is the largest layer that
    comes only to be executed (streamed from RAM or disk); `largest` the largest module as it is read.
    """

    weights: int = 0
    layers: int = 0
    vision: bool = False
    embed: bool = False
    head: bool = False
    visiting: int = 0
    largest: int = 0
    quantizes: bool = False

    def add(self, module: Module, nbytes: int, precision: Precision, *, quantized: bool) -> None:
        """Place `module`, which takes `nbytes` here."""
        self.weights += nbytes
        self.layers += module.kind is ModuleKind.LAYER
        self.vision = self.vision or module.kind is ModuleKind.VISION
        self.embed = self.embed or module.kind is ModuleKind.EMBED
        self.head = self.head or module.kind is ModuleKind.HEAD
        self.largest = max(self.largest, module.piece_parameters * precision.width)
        self.quantizes = self.quantizes or quantized

    def copy(self) -> Load:
        """Return an independent copy."""
        return Load(
            self.weights,
            self.layers,
            self.vision,
            self.embed,
            self.head,
            self.visiting,
            self.largest,
            self.quantizes,
        )


def kv_cache_per_layer(text: TextGeometry, tokens: int, width: int) -> int:
    """Keys and values of one layer."""
    return 2 * text.kv_heads * text.head_dim * width * tokens


def text_activation(text: TextGeometry, tokens: int, precision: Precision) -> int:
    """Peak of one decoder layer's prefill over `tokens`.

    Alive at once: the residual stream, and the largest of normalisation (two float32 copies), attention
    (queries, keys and values before and after rotation, keys and values repeated for grouped heads, the
    result) or the gated MLP (three widths). One layer's cache is copied when it grows.
    """
    width = precision.width
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
    growth = kv_cache_per_layer(text, tokens, width)
    # NF4's prefill expands one matrix at a time to the compute dtype.
    expanded = text.hidden * text.intermediate * width if precision.name == "nf4" else 0
    return peak + mask + growth + expanded


def vision_activation(vision: VisionGeometry, text: TextGeometry, load: Workload, width: int) -> int:
    """Peak of encoding all pictures of one message, tiles in one batch.

    Every layer's output is kept (LLaVA takes the last but one); on top the largest of attention (input,
    normalised input, three projections, result) or MLP. Then the features at the language model's width.
    """
    if load.images == 0:
        return 0
    patches = vision.patches
    if vision.dynamic:
        patches = min(patches, load.image_tokens * vision.merge**2)
        pixels = patches * 2 * 3 * vision.patch_size**2
    else:
        pixels = 3 * vision.image_size**2
    rows = load.images * vision.max_tiles * patches
    kept = 0 if vision.dynamic else vision.layers + 1
    tower = (
        rows
        * width
        * (kept * vision.hidden + 2 * vision.hidden + max(4 * vision.hidden, 2 * vision.intermediate))
    )
    inputs = load.images * vision.max_tiles * pixels * (_FP32 + width)
    features = 3 * load.images * load.image_tokens * text.hidden * width
    return tower + inputs + features


def logits_bytes(text: TextGeometry, width: int) -> int:
    """The last token's logits: as computed, in float32, and two copies that sampling sorts."""
    return text.vocab * (width + 3 * _FP32)


def activation(
    text: TextGeometry, vision: VisionGeometry | None, load: Load, work: Workload, precision: Precision
) -> int:
    """Peak of activations on a device that executes `load`; picture and prompt follow each other."""
    peak = text_activation(text, work.context_tokens, precision) if load.layers else 0
    if load.vision and vision is not None:
        peak = max(peak, vision_activation(vision, text, work, precision.width))
    if load.embed:
        # The prompt's embeddings, and the copy into which picture features are merged.
        peak += 2 * work.context_tokens * text.hidden * precision.width
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
) -> DeviceShare:
    """Sum up one executing device; `overhead` is what it holds before any weight.

    Staging is the largest visiting layer; and, where weights are quantized while loading, what that needs
    beyond the cache and activations that are not there yet.
    """
    cache = load.layers * kv_cache_per_layer(text, work.context_tokens, precision.width)
    active = activation(text, vision, load, work, precision)
    loading = _LOADERS * load.largest // 2 if load.quantizes else 0
    staging = max(load.visiting, loading - cache - active, 0)
    slack = int((active + staging) * _SLACK)
    return DeviceShare(device, name, budget, load.weights, cache, active, staging, overhead + slack)
