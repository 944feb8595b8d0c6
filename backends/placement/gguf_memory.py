"""What a GGUF model takes on a device under llama.cpp: weights, cache and compute buffers, in bytes.

Weights and cache are exact: the header's tensors, and 16-bit keys and values of a context that is rounded
up. The compute buffers' formulas were fitted to what llama.cpp itself reports on a CPU (xllamacpp 2026.10,
flash attention as it chooses, files of real shapes without weights): LLaMA-7B, Qwen2.5-7B, Phi-3-mini and
Mixtral-8x7B at 2,048 to 8,192 tokens and 256 or 512 rows within 0.1 %, CLIP-L, Gemma 3's SigLIP and
Qwen2-VL's tower within 4 %. A GPU's buffers hold the same graph; its context is estimated as elsewhere.

Peak RSS under a prompt of 1,300 tokens was 8 to 9 % below these sums for Q8_0 and F16 files of 0.6 to 0.8 GB.
Types that llama.cpp arranges anew for the CPU (Q4_0, Q4_K) lie in memory once: files that are mostly of
these are not mapped. Of 652 MB of Q4_0, 967 MiB were resident where 1,008 are stated, and 1,484 when it was
mapped. In files with fewer, such tensors' pages of the file show beside them, which the system takes back
whenever it needs them: they are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backends.models.types import Module, ModuleKind, TextGeometry, VisionGeometry
from backends.placement import estimate
from backends.placement.budget import MIB
from backends.placement.case import Case
from backends.placement.estimate import Workload
from backends.placement.gguf_kept import kept_bytes
from backends.placement.precision import Precision
from backends.placement.types import DeviceShare

# Rows that llama.cpp computes in one pass (n_ubatch), and what it rounds the context up to.
ROWS = 512
_CELLS = 256
_FP32, _FP16 = 4, 2
_PIPE_COPIES = 4
# A process with Python and llama.cpp's libraries, without and with CUDA's; and the words of the vocabulary,
# which are kept as text and looked up both ways. Measured without CUDA: 45 MB, and 190 bytes a word.
_PROCESS_BYTES, _CUDA_PROCESS_BYTES, _WORD_BYTES = 100 * MIB, 450 * MIB, 200
# Graphs, threads' scratch, and the image as it is decoded.
_SLACK = 0.1


@dataclass(frozen=True, slots=True)
class Held:
    """What lies on one device: whole modules, in execution order.

    `visiting` is the largest matrix that comes to be multiplied here while a prompt is read. `piped`: several
    GPUs work one behind the other, for which llama.cpp keeps four copies of a pass's inputs.
    """

    modules: tuple[Module, ...]
    visiting: int = 0
    piped: bool = False

    @property
    def layers(self) -> tuple[Module, ...]:
        """Its decoder layers."""
        return tuple(module for module in self.modules if module.kind is ModuleKind.LAYER)

    def has(self, kind: ModuleKind) -> bool:
        """Whether a module of this kind lies here."""
        return any(module.kind is kind for module in self.modules)


def weights_bytes(held: Held, case: Case, *, on_gpu: bool) -> int:
    """Tensors at rest. A tied head is the embedding again, which stays in RAM: a GPU holds a second copy."""
    total = sum(module.nbytes for module in held.modules)
    if on_gpu and held.has(ModuleKind.HEAD) and case.model.text.tied_embeddings:
        total += sum(module.nbytes for module in case.model.modules if module.kind is ModuleKind.EMBED)
    return total


def cache_bytes(layers: Sequence[Module], text: TextGeometry, work: Workload) -> int:
    """Keys and values of `layers`; one with a window keeps it and the rows of one pass."""
    cells = _padded(work.context_tokens)
    total = 0
    for layer in layers:
        cache = layer.cache
        if cache is None:
            total += estimate.kv_cache_per_layer(text, cells, _FP16)
            continue
        kept = cells if cache.window is None else min(cells, _padded(cache.window + ROWS))
        total += cache.per_token * kept * _FP16
    return total


def text_buffer(text: TextGeometry, work: Workload) -> int:
    """Compute buffer of the decoder: one pass of `ROWS` tokens, the last one's logits, the attention's mask.

    Alive at once are the MLP's three widths and five of the residual stream's, or what attention needs.
    """
    rows = min(ROWS, work.context_tokens)
    queries, keys = text.heads * text.head_dim, text.kv_heads * text.head_dim
    widest = max(3 * text.intermediate + 5 * text.hidden, 3 * text.hidden + 2 * queries + 2 * keys)
    return rows * widest * _FP32 + _mask(rows, work) + text.vocab * _FP32


def input_buffer(text: TextGeometry, work: Workload) -> int:
    """What stays in RAM where a GPU computes: the tokens' embeddings, the mask, the logits."""
    rows = min(ROWS, work.context_tokens)
    return rows * text.hidden * _FP32 + _mask(rows, work) + text.vocab * _FP32


def picture_buffer(case: Case) -> int:
    """Compute buffer of the tower: one tile at a time, whatever the number of pictures.

    The largest of attention (six widths), MLP and projector, beside the pixels and the patches cut from
    them; Qwen2.5-VL's windows take a matrix of the patches.
    """
    vision, text, work = case.model.vision, case.model.text, case.work
    if vision is None or work.images == 0:
        return 0
    patches, pixels = _patches(vision, work)
    tokens = max(1, work.image_tokens // vision.max_tiles)
    tower = patches * max(6 * vision.hidden, vision.intermediate + 2 * vision.hidden)
    projector = tokens * (2 * text.hidden + vision.hidden * vision.merge**2)
    inputs = 3 * pixels * 3 // 2
    windows = patches**2 * (_FP32 + _FP16) if _has_windows(case) else 0
    # The features of all pictures wait to be read by the decoder.
    kept = work.images * work.image_tokens * text.hidden
    return (max(tower, projector) + inputs + kept) * _FP32 + windows


def share(case: Case, device: str, held: Held, precision: Precision, *, with_gpu: bool) -> DeviceShare:
    """Sum up one device: the CPU, or a GPU of the case."""
    gpu, text, work = case.gpu(device), case.model.text, case.work
    cache = cache_bytes(held.layers, text, work)
    active = 0
    if held.layers or held.has(ModuleKind.HEAD):
        active = text_buffer(text, work)
    elif gpu is None:
        active = input_buffer(text, work)
    if held.piped and gpu is not None:
        active += (_PIPE_COPIES - 1) * input_buffer(text, work)
    if held.has(ModuleKind.VISION):
        active += picture_buffer(case)
    if gpu is not None:
        overhead = estimate.gpu_overhead(gpu)
    else:
        overhead = (_CUDA_PROCESS_BYTES if with_gpu else _PROCESS_BYTES) + text.vocab * _WORD_BYTES
        overhead += kept_bytes(case.model, work.context_tokens)
    overhead += int((active + held.visiting) * _SLACK)
    found = DeviceShare(
        device=device,
        name=case.name(device),
        budget_bytes=case.budgets[device],
        weights_bytes=weights_bytes(held, case, on_gpu=gpu is not None),
        kv_cache_bytes=cache,
        activation_bytes=active,
        staging_bytes=held.visiting,
        overhead_bytes=overhead,
    )
    return case.correction.apply(found, case.engine, precision.name, with_gpu=with_gpu)


def _padded(tokens: int) -> int:
    return -(-tokens // _CELLS) * _CELLS


def _mask(rows: int, work: Workload) -> int:
    return rows * _padded(work.context_tokens) * _FP16


def _patches(vision: VisionGeometry, work: Workload) -> tuple[int, int]:
    """Patches and pixels of one pass of the tower."""
    patches = vision.patches
    if not vision.dynamic:
        return patches, vision.image_size**2
    patches = min(patches, work.image_tokens * vision.merge**2)
    return patches, patches * vision.patch_size**2


def _has_windows(case: Case) -> bool:
    return case.model.gguf is not None and case.model.gguf.window_mask
