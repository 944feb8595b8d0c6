"""Which dtype computes where."""

from __future__ import annotations

import pytest

from backends.errors import SettingInvalid
from backends.hardware.types import Cpu
from backends.placement.precision import QUALITY, check_choice, on_cpu, on_gpus
from tests.support.machines import gpu, rtx_2080_ti

AVX2 = Cpu("old", 8, ("avx2",))
BF16 = Cpu("new", 8, ("avx2", "avx512_bf16"))
AMX = Cpu("server", 32, ("avx512f", "amx_bf16"))
BIG, TINY = 7_000_000_000, 5_000_000


@pytest.mark.parametrize(
    ("choice", "checkpoint", "gpus", "name", "compute"),
    [
        ("checkpoint", "float16", (gpu(0),), "fp16", "float16"),
        ("checkpoint", "bfloat16", (gpu(0),), "bf16", "bfloat16"),
        ("checkpoint", "bfloat16", (rtx_2080_ti(),), "fp16", "float16"),
        ("checkpoint", "bfloat16", (gpu(0), rtx_2080_ti(1)), "fp16", "float16"),
        ("checkpoint", "float32", (gpu(0),), "bf16", "bfloat16"),
        ("int8", "bfloat16", (gpu(0),), "int8", "float16"),
        ("nf4", "float16", (gpu(0),), "nf4", "bfloat16"),
        ("nf4", "bfloat16", (rtx_2080_ti(),), "nf4", "float16"),
        ("fp32", "float16", (gpu(0),), "fp32", "float32"),
    ],
)
def test_on_gpus(choice: str, checkpoint: str, gpus: tuple[object, ...], name: str, compute: str) -> None:
    found = on_gpus(choice, checkpoint, gpus)  # type: ignore[arg-type]

    assert (found.name, found.compute) == (name, compute)


@pytest.mark.parametrize(
    ("cpu", "parameters", "names"),
    [
        pytest.param(AVX2, BIG, ["fp32", "bf16"], id="no bf16 instructions: fp32 first"),
        pytest.param(BF16, BIG, ["bf16", "fp32"], id="AVX-512-BF16"),
        pytest.param(AMX, BIG, ["bf16", "fp32"], id="AMX"),
        pytest.param(BF16, TINY, ["fp32"], id="tiny models: fp32 everywhere"),
    ],
)
def test_on_cpu(cpu: Cpu, parameters: int, names: list[str]) -> None:
    assert [option.name for option in on_cpu("checkpoint", cpu, parameters)] == names


def test_fp16_runs_on_a_cpu_only_by_hand() -> None:
    assert [option.name for option in on_cpu("fp16", AVX2, BIG)] == ["fp16"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nf5", "Did you mean nf4"),
        ("BF16", "Did you mean bf16"),
        ("q4_0", "GGUF"),
        ("", "no such"),
        ("x" * 99, "no such"),
    ],
)
def test_unknown_precisions(name: str, sentence: str) -> None:
    with pytest.raises(SettingInvalid, match=sentence):
        check_choice(name)


def test_quality_order_of_the_design() -> None:
    order = ["bf16", "int8", "q6_k", "q5_k_m", "q4_k_m", "nf4"]
    assert [QUALITY[name] for name in order] == sorted({QUALITY[name] for name in order})
    assert QUALITY["bf16"] == QUALITY["fp16"] == QUALITY["fp32"]
    assert QUALITY["int8"] == QUALITY["q8_0"]
