"""What each precision means for memory: bytes per weight, and which dtype computes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from backends.errors import SettingInvalid
from backends.hardware.types import Cpu, Gpu
from backends.models.types import Module, ModuleKind
from backends.presets import PRECISIONS
from backends.text import Text

# DESIGN section 3: what a person gets, best first.
QUALITY: dict[str, int] = {
    "bf16": 0,
    "fp16": 0,
    "fp32": 0,
    "f16": 0,
    "f32": 0,
    "int8": 1,
    "q8_0": 1,
    "q6_k": 2,
    "q5_k_m": 3,
    "q5_k_s": 3,
    "q5_1": 3,
    "q5_0": 3,
    "q4_k_m": 4,
    "q4_k_s": 4,
    "iq4_xs": 4,
    "iq4_nl": 4,
    "mxfp4_moe": 4,
    "q4_1": 4,
    "nf4": 5,
    "q4_0": 5,
}
# GGUF types below all of these: two and three bits a weight.
_LEAST_QUALITY = 6
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})
# Below this, reading the weights takes less time than calling the kernels, and fp32's are the shorter call:
# 3.1 against 3.3 ms a token at 2 M parameters, 9.9 against 11.9 at 12 M, but 192 against 161 at 470 M
# (EPYC with AVX-512-BF16, one thread).
_TINY_PARAMETERS = 64_000_000
# First NVIDIA generation (Ampere) whose units multiply bf16.
_BF16_CAPABILITY = (8, 0)
# Least compute capability that bitsandbytes has kernels for: "NVIDIA CUDA" in its installation guide (0.50).
LEAST_CAPABILITY = {"int8": (7, 5), "nf4": (6, 0)}


@dataclass(frozen=True, slots=True)
class Precision:
    """A precision as it is loaded. `compute` is torch's dtype of everything that is not quantized."""

    name: str
    compute: str

    @property
    def width(self) -> int:
        """Bytes per element of weights that are not quantized, of the cache and of activations."""
        return 4 if self.compute == "float32" else 2

    @property
    def quantized(self) -> bool:
        """Whether bitsandbytes stores the decoder's Linear layers."""
        return self.name in ("int8", "nf4")

    def module_bytes(self, module: Module, *, quantize: bool) -> int:
        """Bytes of `module` in memory; `quantize` is False where bitsandbytes leaves it at full width.

        LLM.int8 keeps one byte per weight and a float32 scale per output row. NF4 with double quantization
        keeps half a byte per weight, one byte per block of 64, and a float32 per 256 blocks. Only decoder
        layers are quantized: embeddings, head, vision part and projector keep the compute dtype.
        """
        if not (quantize and self.quantized and _is_quantizable(module)):
            return module.parameters * self.width
        kept = (module.parameters - module.linear_parameters) * self.width
        linear = module.linear_parameters
        if self.name == "int8":
            return kept + linear + 4 * module.linear_rows
        return kept + linear // 2 + linear // 64 + linear // 4096


def quantizable(modules: Iterable[Module]) -> tuple[str, ...]:
    """Names of the modules whose matrices int8 and NF4 quantize: the decoder's layers, for the engine.

    Quantizing the eyes saves little memory and costs accuracy; the head is what transformers leaves out, too.
    """
    return tuple(module.name for module in modules if _is_quantizable(module))


def _is_quantizable(module: Module) -> bool:
    return module.kind is ModuleKind.LAYER


def quality(name: str) -> int:
    """The rank of a precision by what a person gets: 0 is best."""
    return QUALITY.get(name, _LEAST_QUALITY)


def check_choice(name: str, converted: Iterable[str] = ()) -> None:
    """Refuse a precision that no checkpoint can be loaded in. Raises SettingInvalid.

    `converted` are those that the model can be converted to: they can be chosen, too.
    """
    known = (*PRECISIONS, *converted)
    if name in PRECISIONS:
        return
    if name in QUALITY:
        raise SettingInvalid(
            name="precision",
            value=name,
            detail=Text.of(
                "check.gguf_precision",
                "{name} is a precision of GGUF files; this model's weights are safetensors.",
                name=name,
            ),
            suggestion=Text.of("check.choose", "Choose one of {choices}.", choices=", ".join(known)),
        )
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
    choices = ", ".join(known)
    suggestion = Text.of("check.choose", "Choose one of {choices}.", choices=choices)
    if near:
        suggestion = Text.of(
            "check.meant", "Did you mean {near}? Choose one of {choices}.", near=near[0], choices=choices
        )
    raise SettingInvalid(
        name="precision",
        value=name,
        detail=Text("check.no_such_precision", "There is no such precision."),
        suggestion=suggestion,
    )


def on_gpus(choice: str, checkpoint: str, gpus: tuple[Gpu, ...]) -> Precision:
    """The precision for `choice` ("checkpoint" or a name) where at least part of the model is on GPUs.

    The checkpoint's half precision is kept; bf16 needs Ampere, older cards compute in fp16 instead. A float32
    checkpoint is loaded in half precision: no published VLM gains from more. LLM.int8 computes in fp16.
    """
    half = "bfloat16" if _all_bf16(gpus) else "float16"
    if choice in ("checkpoint", "bf16"):
        dtype = "float16" if (choice, checkpoint) == ("checkpoint", "float16") else half
        return Precision(_NAMES[dtype], dtype)
    if choice == "int8":
        return Precision("int8", "float16")
    if choice == "nf4":
        return Precision("nf4", half)
    return Precision(choice, _DTYPES[choice])


def on_cpu(choice: str, cpu: Cpu, parameters: int) -> tuple[Precision, ...]:
    """The precisions for `choice` on the CPU alone, best first.

    Without bf16 instructions a bf16 matrix product is emulated and several times slower than fp32, so
    bf16 is only the way out when fp32 does not fit. Tiny models (`parameters`) stay in fp32 everywhere: it
    costs little, and a measured figure of this machine must not change their answers. fp16 is never chosen
    by itself.
    """
    if choice == "checkpoint":
        bf16, fp32 = Precision("bf16", "bfloat16"), Precision("fp32", "float32")
        if is_tiny(parameters):
            return (fp32,)
        return (bf16, fp32) if has_bf16(cpu) else (fp32, bf16)
    if choice in ("int8", "nf4"):
        return (Precision(choice, "bfloat16" if has_bf16(cpu) else "float32"),)
    return (Precision(choice, _DTYPES[choice]),)


def too_old(choice: str, gpus: Iterable[Gpu]) -> Gpu | None:
    """The first of `gpus` that bitsandbytes has no kernels of this precision for."""
    least = LEAST_CAPABILITY.get(choice, (0, 0))
    return next((gpu for gpu in gpus if gpu.compute_capability and gpu.compute_capability < least), None)


def without_bf16(gpus: Iterable[Gpu]) -> Gpu | None:
    """The first of `gpus` that has no units for bf16."""
    return next((gpu for gpu in gpus if not _all_bf16((gpu,))), None)


def has_bf16(cpu: Cpu) -> bool:
    """Whether the CPU multiplies bf16 itself."""
    return not _BF16_FEATURES.isdisjoint(cpu.features)


def is_tiny(parameters: int) -> bool:
    """Whether a model is so small that calling kernels outweighs reading weights."""
    return parameters < _TINY_PARAMETERS


def _all_bf16(gpus: tuple[Gpu, ...]) -> bool:
    return all(gpu.compute_capability is None or gpu.compute_capability >= _BF16_CAPABILITY for gpu in gpus)
