"""Seconds from bytes and FLOPs: loading, the first token, and tokens per second."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

from backends.hardware.types import Cpu, Gpu, HardwareSnapshot
from backends.models.types import TextGeometry, VisionGeometry
from backends.placement.estimate import PICTURE_ROWS, TEXT_ROWS, Workload, in_pieces, kv_cache_per_layer
from backends.placement.precision import Precision, has_bf16

# Used where a snapshot has no figure: modest, so that no plan promises too much.
_RAM_GBPS, _CPU_GFLOPS, _DISK_GBPS = 15.0, 100.0, 0.5
_GPU_GBPS, _GPU_TFLOPS, _PCIE_GBPS = 200.0, 12.0, 10.0
# Shares of the nominal figures that a forward pass of transformers reaches.
_GPU_READ, _GPU_MATH, _CPU_READ, _CPU_MATH = 0.75, 0.5, 0.8, 0.7
# The same for what was measured with torch's own kernels, on two cores with AVX-512 and its bf16 part, at 0.1
# to 1.1 B parameters (benchmarks.memory_cpu, a run before the published one).
_MEASURED_READ_FP32, _MEASURED_READ_HALF = 0.93, 0.85
_MEASURED_MATH_FP32, _MEASURED_MATH_HALF = 1.0, 0.9
# A GPU's own copies and products already miss the data sheet by about a tenth and a quarter.
_MEASURED_GPU_READ, _MEASURED_GPU_MATH = 0.83, 0.67
# A copy from ordinary RAM goes through the driver's pinned buffers: about half of what pinned RAM reaches.
_PAGEABLE = 0.5
# Python and kernel-launch time of one decoder layer, and of everything around the layers. On a CPU it is what
# is left beside reading weights.
_LAYER_S, _STEP_S = 0.00045, 0.0012
_CPU_LAYER_FP32_S, _CPU_LAYER_HALF_S = 0.0006, 0.0009
# A CPU's kernels are made anew for every length of a prompt.
_CPU_NEW_LENGTH_FP32_S, _CPU_NEW_LENGTH_HALF_S = 0.0008, 0.0003
# Extra launches of a quantized layer: LLM.int8 quantizes every input and splits outliers off.
_QUANTIZED_LAYER_S = {"int8": 0.0012, "nf4": 0.0002}
# bitsandbytes on a CPU, in GB of stored weights a second: 0.6-0.9 tokens/s at 1.1 B parameters.
_CPU_QUANTIZED_GBPS = {"int8": 0.8, "nf4": 0.4}
# Speed of bf16 matrix products beside fp32's, with the CPU's own instructions and emulated; and of reading
# half-precision weights one token at a time, whose kernels use less of the memory's bandwidth.
_BF16_NATIVE, _BF16_AMX, _BF16_EMULATED, _FP16_EMULATED = 3.5, 6.0, 1 / 7, 1 / 12
_HALF_READ_NATIVE, _HALF_READ_EMULATED = 0.6, 0.4
# A CPU's attention to one token reads keys and values again for every head that shares them; in float32 those
# come from its caches then, and bf16 is slow. PyTorch 2.13's kernel alone (benchmarks.kernels), beside the
# rate of float32 vectors: 0.8 to 1.0, shared by 4 and by 8 heads 2.0 to 2.6, in bf16 0.17 to 0.23.
_ATTENTION_FP32, _ATTENTION_SHARED_FP32, _ATTENTION_HALF = 0.9, 2.2, 0.2
# Numbers that norms, activation functions and sums pass over, for each token and layer: this many times the
# hidden width and the MLP's.
_HIDDEN_PASSES, _MLP_PASSES = 8, 3
# Such numbers of a CPU for each byte that it reads of float32 weights.
_NUMBERS_FP32, _NUMBERS_HALF = 0.12, 0.04
# Attention's products over many rows. PyTorch's kernel for CPUs computes them in float32 for every precision:
# 0.66 to 0.85 of the plain products' rate, alone, for 577 to 4,096 keys (benchmarks.kernels). Of a GPU's rate
# this is a guess.
_ATTENDING, _GPU_ATTENDING = 0.8, 1 / 3
# From a question to its first pass: template, tokens, opening pictures.
_QUESTION_S = 0.005
_START_S, _CUDA_START_S = 1.0, 3.0
_QUANTIZE_GBPS = 2.0
# Half precision to float32 on the way into RAM that is new: 2 GB of files in 1.3 s on two cores.
_LOAD_CONVERT_GBPS = 1.5
# While the disk waits, what was read past the cache is copied to where it is used, and converted there where
# it must be: engines.reading over files that the system kept gives 7 to 10 GB/s, with converting 3.0 to 3.3.
_PASS_ON_GBPS, _CONVERT_GBPS = 7.0, 3.2
# Words of a question around its pictures.
QUESTION_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Work:
    """What one device does: weights read per token, parameters of its decoder layers and vision part.

    `streamed_bytes` come from RAM for every pass, `disk_bytes` from the disk. `whole_bytes` are all weights
    here, also of experts that a single token does not visit (0: as many as `read_bytes`). `cache_bytes` is
    what the layers keep of a conversation that is half-way (None: all its tokens).
    """

    read_bytes: int
    layers: int
    layer_parameters: int
    vision_parameters: int
    streamed_bytes: int = 0
    disk_bytes: int = 0
    whole_bytes: int = 0
    cache_bytes: int | None = None

    def bytes_for(self, rows: int) -> int:
        """Weights that a pass of `rows` tokens reads: together they visit more experts than one does."""
        return min(max(self.whole_bytes, self.read_bytes), self.read_bytes * max(1, rows))


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes and FLOPs a second of one device, and the links that feed it.

    `attention` are bytes of keys and values a second while one token is decoded (`shared_attention`: where
    several heads read the same), `attending` is like `math`, for attention's products over many rows (text's
    and eyes'), `numbers` those a second that everything but matrix products passes over. `packed`: a product
    of many rows copies its weights into another order first (float32 on a CPU), so that reading them comes on
    top. `layer_s` and `new_length_s` are seconds of a layer for every pass and for every prompt.
    `overlapped`: kernels run while Python prepares the next ones. Weights that visit are waited for: the
    engine copies a layer, then runs it. `disk` includes copying or converting what was read, and the way on
    to the device.
    """

    read: float
    math: float
    link: float
    disk: float
    overlapped: bool
    layer_s: float
    attention: float = inf
    shared_attention: float = inf
    numbers: float = inf
    packed: bool = False
    new_length_s: float = 0.0
    attending: float = inf


def gpu_rates(gpu: Gpu, hardware: HardwareSnapshot, precision: Precision, *, converts: bool = False) -> Rates:
    """Rates of a GPU. Its kernels run while Python prepares the next ones (`overlapped`).

    `converts`: weights on the disk have another dtype than they are used in.
    """
    pageable = gpu.pageable_gbps or (gpu.pcie_gbps or _PCIE_GBPS) * _PAGEABLE
    link = min(pageable, hardware.ram.memory_gbps or _RAM_GBPS) * 1e9
    read_share, math_share = _GPU_READ, _GPU_MATH
    if gpu.tflops_fp32 is not None:  # known by measuring only
        read_share, math_share = _MEASURED_GPU_READ, _MEASURED_GPU_MATH
    math_rate = (gpu.tflops_bf16 or _GPU_TFLOPS) * 1e12 * math_share
    if precision.name == "fp32":
        math_rate = gpu.tflops_fp32 * 1e12 * math_share if gpu.tflops_fp32 else math_rate / 4
    return Rates(
        read=(gpu.memory_gbps or _GPU_GBPS) * 1e9 * read_share,
        math=math_rate,
        link=link,
        disk=1 / (1 / _disk_rate(hardware, converts=converts) + 1 / link),
        overlapped=True,
        layer_s=_LAYER_S + _QUANTIZED_LAYER_S.get(precision.name, 0.0),
        attention=(gpu.memory_gbps or _GPU_GBPS) * 1e9 * read_share,
        shared_attention=(gpu.memory_gbps or _GPU_GBPS) * 1e9 * read_share,
        attending=math_rate * _GPU_ATTENDING,
    )


def cpu_rates(
    hardware: HardwareSnapshot, precision: Precision, *, quantized: bool, converts: bool = False
) -> Rates:
    """Rates of the CPU for weights of this precision (`quantized`: bitsandbytes' kernels run here)."""
    read = _cpu_read(hardware, precision)
    fp32 = precision.compute == "float32"
    vectors = _cpu_read(hardware, Precision("fp32", "float32"))
    if quantized and precision.quantized:
        read = min(read, _CPU_QUANTIZED_GBPS[precision.name] * 1e9)
    return Rates(
        read=read,
        math=_cpu_math(hardware.cpu, precision),
        link=read,
        disk=_disk_rate(hardware, converts=converts),
        overlapped=False,
        layer_s=_CPU_LAYER_FP32_S if fp32 else _CPU_LAYER_HALF_S,
        attention=vectors * (_ATTENTION_FP32 if fp32 else _ATTENTION_HALF),
        shared_attention=vectors * (_ATTENTION_SHARED_FP32 if fp32 else _ATTENTION_HALF),
        numbers=vectors * (_NUMBERS_FP32 if fp32 else _NUMBERS_HALF),
        packed=fp32,
        new_length_s=_CPU_NEW_LENGTH_FP32_S if fp32 else _CPU_NEW_LENGTH_HALF_S,
        attending=_cpu_math(hardware.cpu, Precision("fp32", "float32")) * _ATTENDING,
    )


def _disk_rate(hardware: HardwareSnapshot, *, converts: bool) -> float:
    disk = (hardware.disk.read_gbps or _DISK_GBPS) * 1e9
    return 1 / (1 / disk + 1 / ((_CONVERT_GBPS if converts else _PASS_ON_GBPS) * 1e9))


def _cpu_read(hardware: HardwareSnapshot, precision: Precision) -> float:
    """Bytes of weights a second while decoding: as measured, or a share of what RAM gives."""
    cpu = hardware.cpu
    if precision.compute == "float32" and cpu.vector_gbps_fp32:
        return cpu.vector_gbps_fp32 * 1e9 * _MEASURED_READ_FP32
    if precision.compute == "bfloat16" and cpu.vector_gbps_bf16:
        return cpu.vector_gbps_bf16 * 1e9 * _MEASURED_READ_HALF
    read = (hardware.ram.memory_gbps or _RAM_GBPS) * 1e9 * _CPU_READ
    if precision.width == 2:
        native = precision.compute == "bfloat16" and has_bf16(cpu)
        read *= _HALF_READ_NATIVE if native else _HALF_READ_EMULATED
    return read


def _cpu_math(cpu: Cpu, precision: Precision) -> float:
    """FLOPs a second of a prompt's matrix products: as measured, or what the instruction set promises."""
    if precision.compute == "bfloat16" and cpu.gflops_bf16:
        return cpu.gflops_bf16 * 1e9 * _MEASURED_MATH_HALF
    measured = precision.compute == "float32" and cpu.gflops_bf16 is not None
    share = _MEASURED_MATH_FP32 if measured else _CPU_MATH
    return (cpu.gflops_fp32 or _CPU_GFLOPS) * 1e9 * share * _cpu_factor(cpu, precision)


def _cpu_factor(cpu: Cpu, precision: Precision) -> float:
    if precision.compute == "float32":
        return 1.0
    if precision.compute == "float16":
        return _FP16_EMULATED
    if "amx_bf16" in cpu.features:
        return _BF16_AMX
    return _BF16_NATIVE if has_bf16(cpu) else _BF16_EMULATED


def first_tokens(work: Workload) -> int:
    """Tokens of the question that speeds are stated for: its pictures and a few words."""
    return min(work.images * work.image_tokens + QUESTION_TOKENS, work.context_tokens)


def half_way(work: Workload) -> int:
    """Tokens of a conversation half-way from its first question to the end of the context."""
    return (first_tokens(work) + work.context_tokens) // 2


def decode_seconds(parts: list[tuple[Rates, Work]], text: TextGeometry, work: Workload, width: int) -> float:
    """Seconds per token: every weight is read once (of experts those visited), and the cache half-way."""
    layer_cache = kv_cache_per_layer(text, half_way(work), width)
    shared = max(1, text.heads // max(1, text.kv_heads))
    total = _STEP_S
    for rates, part in parts:
        cache = part.layers * layer_cache if part.cache_bytes is None else part.cache_bytes
        attending = cache * shared / (rates.attention if shared == 1 else rates.shared_attention)
        reading = part.read_bytes / rates.read + attending
        launching = part.layers * rates.layer_s
        busy = max(reading, launching) if rates.overlapped else reading + launching
        total += busy + part.streamed_bytes / rates.link + part.disk_bytes / rates.disk
    return total


def first_token_seconds(
    parts: list[tuple[Rates, Work]],
    text: TextGeometry,
    vision: VisionGeometry | None,
    work: Workload,
    family: str = "",
) -> float:
    """Seconds from a question with its pictures to the first token.

    FLOPs: twice the parameters for every token that passes them, and attention's 4 x tokens x keys x width
    per layer; a prompt read in pieces has fewer keys in the first of them. Weights are read at least once
    for every pass, and those that visit are moved for every pass.
    """
    tokens = first_tokens(work)
    rows = 0
    if vision is not None and work.images:
        patches = (
            min(vision.patches, work.image_tokens * vision.merge**2) if vision.dynamic else vision.patches
        )
        rows = work.images * vision.max_tiles * patches
    total = _STEP_S + _QUESTION_S
    for rates, part in parts:
        moved = part.streamed_bytes + part.disk_bytes
        passes = _passes(work, streamed=moved > 0) if in_pieces(family, vision) else 1
        flops = 2 * part.layer_parameters * tokens + 2 * part.vision_parameters * rows
        seen = part.layers * tokens**2 * (passes + 1) / (2 * passes) * text.heads * text.head_dim
        if vision is not None and part.vision_parameters:
            seen += vision.layers * rows * patches_per_row(vision, rows, work) * vision.hidden
        launching = part.layers * (passes * rates.layer_s + rates.new_length_s)
        reading = passes * part.bytes_for(tokens // passes) / rates.read
        passing = part.layers * tokens * _numbers(text.hidden, text.intermediate)
        if vision is not None and part.vision_parameters:
            passing += vision.layers * rows * _numbers(vision.hidden, vision.intermediate)
        multiplying = flops / rates.math
        busy = multiplying + reading if rates.packed else max(multiplying, reading)
        total += 4 * seen / rates.attending + busy + passing / rates.numbers + launching
        total += passes * (part.streamed_bytes / rates.link + part.disk_bytes / rates.disk)
    return total


def _numbers(hidden: int, intermediate: int) -> int:
    return _HIDDEN_PASSES * hidden + _MLP_PASSES * intermediate


def _passes(work: Workload, *, streamed: bool) -> int:
    """How many pieces a question with its pictures is read in: every picture ends one, the words follow."""
    words = 1 if streamed else ceil(QUESTION_TOKENS / TEXT_ROWS)
    return words + work.images * max(1, ceil(work.image_tokens / PICTURE_ROWS))


def patches_per_row(vision: VisionGeometry, rows: int, work: Workload) -> int:
    """Length of the sequence that one patch attends to: its tile's, or its whole picture's."""
    return rows // max(1, work.images * vision.max_tiles)


def load_seconds(hardware: HardwareSnapshot, file_bytes: int, precision: Precision, *, on_gpu: bool) -> float:
    """Seconds to load: the files once from the disk, converting or quantizing, the start of the device."""
    seconds = file_bytes / ((hardware.disk.read_gbps or _DISK_GBPS) * 1e9)
    if precision.compute == "float32":
        seconds = max(seconds, file_bytes / (_LOAD_CONVERT_GBPS * 1e9))  # read ahead while it converts
    if precision.quantized:
        seconds += file_bytes / (_QUANTIZE_GBPS * 1e9)
    return seconds + (_CUDA_START_S if on_gpu else _START_S)
