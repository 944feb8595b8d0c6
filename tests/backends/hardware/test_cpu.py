"""Instruction sets by system, and the cores that are left to a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from backends.hardware import cpu

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        pytest.param("flags\t\t: fpu sse4_2 avx f16c fma avx2", ("avx", "avx2", "fma", "f16c"), id="desktop"),
        pytest.param(
            "flags : avx avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8 avx512_fp16",
            (
                *("avx", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
                *("amx_tile", "amx_int8", "amx_bf16"),
            ),
            id="Sapphire Rapids",
        ),
        pytest.param("Features\t: fp asimd i8mm bf16 sve", ("neon", "sve", "i8mm", "bf16"), id="Arm server"),
        pytest.param("model name : avx2 special edition", (), id="a name is no flag"),
        pytest.param("", (), id="nothing"),
    ],
)
def test_linux_features(cpuinfo: str, expected: tuple[str, ...]) -> None:
    assert cpu.linux_features(cpuinfo) == expected


@pytest.mark.parametrize(
    ("flags", "identifier", "has", "lacks"),
    [
        pytest.param(
            {"avx", "avx2"},
            "Intel64 Family 6 Model 158 Stepping 10, GenuineIntel",
            {"avx2", "fma", "f16c"},
            {"avx512f"},
            id="Coffee Lake",
        ),
        pytest.param(
            {"avx", "avx2", "avx512f"},
            "AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD",
            {"avx512_bf16", "avx512_vnni"},
            {"amx_bf16"},
            id="Zen 4",
        ),
        pytest.param(
            {"avx", "avx2", "avx512f"},
            "AMD64 Family 26 Model 68 Stepping 0, AuthenticAMD",
            {"avx512_bf16"},
            {"amx_bf16"},
            id="Zen 5",
        ),
        pytest.param(
            {"avx", "avx2"},
            "AMD64 Family 25 Model 33 Stepping 2, AuthenticAMD",
            {"avx2"},
            {"avx512_bf16"},
            id="Zen 3 has no AVX-512",
        ),
        pytest.param(
            {"avx", "avx2", "avx512f"},
            "Intel64 Family 6 Model 143 Stepping 8, GenuineIntel",
            {"amx_bf16", "avx512_bf16"},
            set(),
            id="Sapphire Rapids",
        ),
        pytest.param(
            {"avx", "avx2"},
            "Intel64 Family 6 Model 143 Stepping 8, GenuineIntel",
            {"avx2"},
            {"amx_bf16", "avx512_bf16"},
            id="Sapphire Rapids with AVX-512 switched off",
        ),
        pytest.param(
            {"avx", "avx2", "avx512f"},
            "Intel64 Family 6 Model 85 Stepping 4, GenuineIntel",
            {"avx512f"},
            {"avx512_bf16"},
            id="Skylake server",
        ),
        pytest.param({"avx2"}, "", {"avx2"}, {"avx512f"}, id="no registry"),
    ],
)
def test_windows_features(flags: set[str], identifier: str, has: set[str], lacks: set[str]) -> None:
    found = set(cpu.windows_features(flags, identifier))
    assert has <= found
    assert not lacks & found


@pytest.mark.parametrize(
    ("sysctl", "expected"),
    [
        pytest.param(
            "machdep.cpu.features: FPU SSE4.2 AVX1.0 FMA F16C\nmachdep.cpu.leaf7_features: AVX2 BMI2\n",
            ("avx", "avx2", "fma", "f16c"),
            id="Intel Mac",
        ),
        pytest.param(
            "machdep.cpu.brand_string: Apple M1\nhw.optional.neon: 1\nhw.optional.arm.FEAT_BF16: 0\n",
            ("neon",),
            id="M1",
        ),
        pytest.param(
            "hw.optional.arm.AdvSIMD: 1\nhw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_I8MM: 1\n",
            ("neon", "i8mm", "bf16"),
            id="M2",
        ),
        pytest.param("", (), id="no answer"),
    ],
)
def test_macos_features(sysctl: str, expected: tuple[str, ...]) -> None:
    assert cpu.macos_features(sysctl) == expected


def test_the_processor_of_this_machine() -> None:
    found, _ = cpu.read()
    assert found.name
    assert 1 <= found.cores <= (psutil.cpu_count() or 1)
    assert found.gflops_fp32 is not None
    assert found.gflops_fp32 > 0
    if sys.platform == "linux":
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
        assert ("avx2" in found.features) == ("avx2" in flags)
        assert ("avx512_bf16" in found.features) == ("avx512_bf16" in flags)


def test_affinity_to_one_cpu_leaves_one_core() -> None:
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs Linux and two CPUs")
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from backends.hardware import cpu\n"
        "found, notes = cpu.read(); print(found.cores, *[note.code for note in notes])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "hardware.cpu_limited"]


@pytest.mark.parametrize(("cores", "left"), [(1, 1), (2, 1), (4, 3), (6, 5), (8, 6), (16, 12)])
def test_cores_that_work_when_other_programs_keep_some(cores: int, left: int) -> None:
    assert cpu.leaving_room(cores) == left
