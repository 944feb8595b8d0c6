"""Which GPUs PyTorch's builds can use, as far as makers and release notes tell; pure, from values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from backends.hardware.notes import note
from backends.hardware.types import Gpu, HardwareSnapshot
from backends.text import Text

_Capability = tuple[int, int]
# Words in the names of other makers' GPUs; NVIDIA's own are sold under the names of many board makers.
_OTHERS = re.compile(
    r"\b(amd|ati|radeon|firepro|instinct|intel|arc|iris|uhd|apple|adreno|qualcomm|moore|mtt)\b", re.IGNORECASE
)
# The CUDA that setting up installs PyTorch for, by the newest card, where the driver is today's.
_TODAYS, _LEGACY = (13, 0), (12, 6)
_TURING: _Capability = (7, 5)


def code_range(cuda: tuple[int, int]) -> tuple[_Capability, _Capability | None]:
    """Least and (exclusive) greatest compute capability that builds for `cuda` hold code for.

    Source: "PyTorch CUDA Support Matrix" in PyTorch's RELEASE.md: 12.6 from Maxwell (5.0) to Hopper (9.0),
    all later ones from Turing (7.5) on; the same since 2.11 (pytorch/pytorch issues 172352 and 190385).
    """
    return ((5, 0), (10, 0)) if cuda <= _LEGACY else (_TURING, None)


def has_code(capability: tuple[int, int], architectures: tuple[str, ...]) -> bool:
    """Tell whether torch's list (sm_86: machine code, compute_90: recompiled by the driver) serves a GPU.

    Machine code runs on later minor versions of its major version; the driver recompiles for any later GPU.
    """
    for name in architectures:
        kind, _, digits = name.partition("_")
        plain = digits.rstrip("af")
        if not plain.isdecimal() or len(plain) < 2:
            continue
        have = int(plain[:-1]), int(plain[-1])
        exact = digits != plain  # "sm_90a" has code for 9.0 alone
        if (
            kind == "sm"
            and have[0] == capability[0]
            and have <= capability
            and (not exact or have == capability)
        ):
            return True
        if kind == "compute" and have <= capability and not exact:
            return True
    return False


def usable(hardware: HardwareSnapshot) -> HardwareSnapshot:
    """Leave out the GPUs that PyTorch can't use: the installed one, or the one that suits; say why."""
    cuda = hardware.torch_cuda or _suitable(hardware.gpus)
    idle = {gpu.index: why for gpu in hardware.gpus for why in _why_idle(gpu, hardware.os, cuda)}
    return without(hardware, idle)


def without(hardware: HardwareSnapshot, idle: dict[int, Text]) -> HardwareSnapshot:
    """Leave out the GPUs with the indices of `idle`, which says why."""
    if not idle:
        return hardware
    kept = [position for position, gpu in enumerate(hardware.gpus) if gpu.index not in idle]
    moved = {f"gpus[{old}]": f"gpus[{new}]" for new, old in enumerate(kept)}
    assumed: list[str] = []
    for path in hardware.assumed:
        part, dot, figure = path.partition(".")
        if part in moved or not part.startswith("gpus["):
            assumed.append(f"{moved.get(part, part)}{dot}{figure}")
    return replace(
        hardware,
        gpus=tuple(
            replace(gpu, nvlink_peers=tuple(peer for peer in gpu.nvlink_peers if peer not in idle))
            for gpu in (hardware.gpus[position] for position in kept)
        ),
        assumed=tuple(assumed),
        left_out=(*hardware.left_out, *idle.items()),
    )


def _suitable(gpus: tuple[Gpu, ...]) -> tuple[int, int]:
    """The CUDA that setting up would choose on such a machine: by its newest card."""
    newest = max((gpu.compute_capability or _TURING for gpu in gpus if not _foreign(gpu)), default=_TURING)
    return _TODAYS if newest >= _TURING else _LEGACY


def _foreign(gpu: Gpu) -> bool:
    return "nvidia" not in gpu.name.lower() and _OTHERS.search(gpu.name) is not None


def _why_idle(gpu: Gpu, system: str, cuda: tuple[int, int]) -> Iterator[Text]:
    """Nothing, or the one sentence."""
    least, beyond = code_range(cuda)
    have = gpu.compute_capability
    if _foreign(gpu):
        yield note("hardware.idle_maker", index=gpu.index, name=gpu.name)
    elif system == "macos":
        yield note("hardware.idle_macos", index=gpu.index, name=gpu.name)
    elif have is not None and have < least:
        yield note("hardware.idle_old", **_figures(gpu, have, cuda), least=_dotted(least))
    elif have is not None and beyond is not None and have >= beyond:
        yield note("hardware.idle_new", **_figures(gpu, have, cuda), beyond=_dotted(beyond))


def _figures(gpu: Gpu, have: _Capability, cuda: tuple[int, int]) -> dict[str, str | int]:
    return {"index": gpu.index, "name": gpu.name, "capability": _dotted(have), "cuda": _dotted(cuda)}


def _dotted(version: tuple[int, int]) -> str:
    return "{}.{}".format(*version)
