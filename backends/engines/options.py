"""What `from_pretrained` is told to carry out a plan."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import transformers

from backends.engines.devices import compute_dtype, runtime_map
from backends.placement.types import Plan


def load_options(plan: Plan, offload_folder: Path | None = None) -> dict[str, Any]:
    """The keyword arguments of `from_pretrained` that carry out `plan`."""
    dtype = compute_dtype(plan)
    options: dict[str, Any] = {
        "dtype": dtype,
        "device_map": runtime_map(plan),
        "use_safetensors": True,
        "trust_remote_code": False,
        "local_files_only": True,
    }
    if offload_folder is not None:
        options["offload_folder"] = str(offload_folder)
    if plan.precision == "int8":
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_8bit=True,
            llm_int8_enable_fp32_cpu_offload=plan.int8_fp32_cpu_offload,
            llm_int8_skip_modules=all_but(plan.quantized),
        )
    elif plan.precision == "nf4":
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_enable_fp32_cpu_offload=plan.int8_fp32_cpu_offload,
            llm_int8_skip_modules=all_but(plan.quantized),
        )
    return options


def all_but(modules: Iterable[str]) -> list[str]:
    """The pattern, as transformers takes it, of everything that lies outside of `modules`.

    It says which layers bitsandbytes leaves alone; a family may hold more of them than any list of names has.
    """
    inside = "|".join(re.escape(name) for name in modules)
    return [rf"(?!(?:{inside})(?:\.|$)).*"]
