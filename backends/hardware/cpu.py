"""The processor: its name, the cores this process may use, the instruction sets that decide speed."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import psutil

from backends.hardware import cgroup, known, windows
from backends.hardware.notes import note
from backends.hardware.types import Cpu
from backends.text import Text

# Linux' names for what matters to matrix products, in the order in which they are shown. Arm's kernel
# says "asimd" for NEON.
FEATURES = (
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "neon",
    "sve",
    "i8mm",
    "bf16",
)

# Numbers of Windows' IsProcessorFeaturePresent (winnt.h).
_WINDOWS_FLAGS = {39: "avx", 40: "avx2", 41: "avx512f"}
_WINDOWS_ARM_FLAGS = {19: "neon", 46: "sve"}


def read() -> tuple[Cpu, tuple[Text, ...]]:
    """Describe the processor; GFLOP/s are a rule's."""
    system = {"win32": _windows, "darwin": _macos}.get(sys.platform, _linux)
    name, features = system()
    total = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    cores = usable_cores(total)
    notes = (note("hardware.cpu_limited", cores=cores, total=total),) if cores < total else ()
    gflops = known.assumed_gflops(cores, features, _ghz())
    return Cpu(name or platform.machine() or "CPU", cores, features, gflops), notes


def usable_cores(total: int) -> int:
    """Physical cores that affinity and a container's CPU quota leave to this process, at least one."""
    cores = total
    allowed = _affinity()
    logical = psutil.cpu_count() or total
    if allowed is not None and len(allowed) < logical:
        siblings = {_siblings(cpu) for cpu in allowed}
        # Without a topology to read, count the threads of a core as equal.
        cores = len(siblings) if None not in siblings else max(1, len(allowed) * total // logical)
    quota = cgroup.cpu_limit() if sys.platform == "linux" else None
    if quota is not None:
        cores = min(cores, int(quota + 0.5))  # of 1.9 processors two threads make more than one
    return max(1, min(cores, total))


def leaving_room(cores: int) -> int:
    """How many of `cores` work when other programs are to keep a quarter of them, one at least."""
    return max(1, cores - max(1, cores // 4))


def linux_features(cpuinfo: str) -> tuple[str, ...]:
    """Pick the instruction sets that matter from the text of /proc/cpuinfo."""
    line = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    flags = set(line[1].split()) if line else set()
    if "asimd" in flags:
        flags.add("neon")
    return _ordered(flags)


def windows_features(flags: Collection[str], identifier: str) -> tuple[str, ...]:
    """Complete what Windows tells (AVX, AVX2, AVX-512F) from the processor's family and model.

    Windows has no question for the bf16 and matrix extensions. All processors of these families have them
    together with AVX-512F, which Windows is asked for and which is absent where they are switched off.
    `identifier` is the registry's, such as "Intel64 Family 6 Model 143 Stepping 8, GenuineIntel".
    """
    found = set(flags)
    if "avx2" in found:
        found |= {"fma", "f16c"}
    match = re.search(r"Family (\d+) Model (\d+) Stepping (\d+)", identifier)
    if match is None or "avx512f" not in found:
        return _ordered(found)
    family, model, stepping = (int(part) for part in match.groups())
    if "AMD" in identifier and (family == 26 or (family == 25 and _is_zen4(model))):
        found |= {"avx512_vnni", "avx512_bf16"}
    elif family == 6 and model in {143, 207, 173, 174}:  # Sapphire, Emerald, Granite Rapids (two)
        found |= {"avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"}
    elif family == 6 and model == 85 and stepping >= 10:  # Cooper Lake
        found |= {"avx512_vnni", "avx512_bf16"}
    return _ordered(found)


def macos_features(sysctl: str) -> tuple[str, ...]:
    """Pick the instruction sets from `sysctl` lines, of Intel (leaf names) or Apple chips (FEAT_...)."""
    values = dict(re.findall(r"^([\w.]+): ?(.*)$", sysctl, re.MULTILINE))
    words = set()
    for key in ("machdep.cpu.features", "machdep.cpu.leaf7_features"):
        words |= set(values.get(key, "").lower().split())
    names = {"avx1.0": "avx", "avx2": "avx2", "fma": "fma", "f16c": "f16c", "avx512f": "avx512f"}
    found = {feature for word, feature in names.items() if word in words}
    for key, feature in (("FEAT_BF16", "bf16"), ("FEAT_I8MM", "i8mm"), ("AdvSIMD", "neon")):
        if values.get(f"hw.optional.arm.{key}") == "1":
            found.add(feature)
    if values.get("hw.optional.neon") == "1":
        found.add("neon")
    return _ordered(found)


def _is_zen4(model: int) -> bool:
    return 0x10 <= model <= 0x1F or 0x60 <= model <= 0x7F or 0xA0 <= model <= 0xAF


def _ordered(found: Collection[str]) -> tuple[str, ...]:
    return tuple(feature for feature in FEATURES if feature in found)


def _affinity() -> list[int] | None:
    try:
        return list(psutil.Process().cpu_affinity() or []) or None
    except (AttributeError, psutil.Error, OSError):
        return None  # macOS has no affinity


def _siblings(cpu: int) -> str | None:
    """Name the physical core of a logical CPU (Linux)."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None


def _ghz() -> float | None:
    try:
        clock = psutil.cpu_freq()
    except (OSError, NotImplementedError, RuntimeError, AttributeError):
        return None
    mhz = (clock.max or clock.current) if clock else 0
    return mhz / 1000 if 500 < mhz < 10_000 else None


def _linux() -> tuple[str, tuple[str, ...]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    name = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return (name[1].strip() if name else ""), linux_features(text)


def _windows() -> tuple[str, tuple[str, ...]]:
    texts = [
        windows.registry_text(r"HARDWARE\DESCRIPTION\System\CentralProcessor\0", value) or ""
        for value in ("ProcessorNameString", "Identifier", "VendorIdentifier")
    ]
    table = _WINDOWS_ARM_FLAGS if platform.machine().upper().startswith("ARM") else _WINDOWS_FLAGS
    flags = {table[flag] for flag in windows.processor_flags(table)}
    return texts[0], windows_features(flags, f"{texts[1]}, {texts[2]}")


def _macos() -> tuple[str, tuple[str, ...]]:
    keys = ("machdep.cpu", "hw.optional")
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", *keys],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=5,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return "", ()
    name = re.search(r"^machdep\.cpu\.brand_string: (.+)$", done.stdout, re.MULTILINE)
    return (name[1].strip() if name else ""), macos_features(done.stdout)
