"""GPUs as the driver and as torch see them, and who else uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from backends.doctor.finding import Finding
from backends.hardware.builds import has_code
from backends.hardware.torch_build import TorchBuild
from backends.hardware.types import Gpu, HardwareSnapshot
from backends.placement.topology import culprit, held_by_others, is_busy
from backends.placement.types import Credit
from backends.text import Text

_TIME_LIMIT_S = 90.0
# First driver branch for a CUDA major version (CUDA Toolkit release notes, "minor version compatibility").
_LEAST_DRIVER = {11: "450", 12: "525", 13: "580"}
# Notes of detection that are no fault of the machine.
_HARMLESS = {
    *("hardware.no_nvidia", "hardware.hidden", "hardware.ram_limited", "hardware.cpu_limited"),
    *("hardware.apple", "hardware.amd", "hardware.intel"),
}

_ASK_TORCH = """
import json, torch
ready = torch.cuda.is_available()
count = torch.cuda.device_count() if ready else 0
print(json.dumps({
    "count": count,
    "capabilities": [list(torch.cuda.get_device_capability(i)) for i in range(count)],
    "architectures": torch.cuda.get_arch_list() if ready else [],
}))
"""

_TITLE = Text("doctor.gpus", "GPUs")
_HARDWARE = Text("doctor.hardware", "Hardware")


@dataclass(frozen=True, slots=True)
class TorchView:
    """What torch says of the GPUs: how many, their capabilities, the architectures it has code for."""

    count: int
    capabilities: tuple[tuple[int, int], ...]
    architectures: tuple[str, ...]


def check(snapshot: HardwareSnapshot, build: TorchBuild | None) -> Iterator[Finding]:
    """Compare driver and torch, and name who keeps GPUs busy."""
    for note in snapshot.notes:
        if note.code in _HARMLESS:
            yield Finding("ok", _HARDWARE, note)
        else:
            yield Finding("warning", _HARDWARE, note, _note_remedy(note))
    if not snapshot.gpus:
        yield Finding("ok", _TITLE, Text("doctor.gpus.none", "No GPU that Snug can use; it uses the CPU."))
        return
    names = ", ".join(f"{gpu.index}: {gpu.name}" for gpu in snapshot.gpus)
    seen = Text.of(
        "doctor.gpus.seen",
        "The driver ({driver}) sees {names}.",
        driver=snapshot.driver_version or "?",
        names=names,
    )
    yield Finding("ok", _TITLE, seen)
    if build is not None and build.complete:
        yield check_match(snapshot, build)
    for gpu in snapshot.gpus:
        if is_busy(gpu, Credit()):
            yield _busy(gpu)


def check_match(snapshot: HardwareSnapshot, build: TorchBuild) -> Finding:
    """Tell whether this torch can use the GPUs that the driver sees."""
    title = Text("doctor.match", "PyTorch and the GPU driver")
    if build.cuda is None:
        return Finding(
            "warning",
            title,
            Text("doctor.match.cpu_build", "This PyTorch was built for the CPU, so the GPU stays idle."),
            Text(
                "doctor.match.cpu_build.remedy",
                "Run: python launch.py --repair - it installs the build for your GPU.",
            ),
        )
    if snapshot.cuda_version is not None and snapshot.cuda_version[0] < build.cuda[0]:
        return Finding(
            "warning",
            title,
            Text.of(
                "doctor.match.old_driver",
                "The driver ({driver}) supports CUDA up to {has}; this PyTorch needs CUDA {needs}.",
                driver=snapshot.driver_version or "?",
                has="{}.{}".format(*snapshot.cuda_version),
                needs="{}.{}".format(*build.cuda),
            ),
            Text.of(
                "doctor.match.old_driver.remedy",
                "Install NVIDIA driver {least} or newer, or run: python launch.py --repair",
                least=_LEAST_DRIVER.get(build.cuda[0], "?"),
            ),
        )
    view = ask_torch()
    if isinstance(view, Text):
        return Finding("warning", title, view, _RESTART)
    return judge(snapshot.gpus, view)


_RESTART = Text(
    "doctor.match.remedy",
    "Restart the machine; if that does not help, install the newest NVIDIA driver and run: "
    "python launch.py --repair",
)


def ask_torch(limit_s: float = _TIME_LIMIT_S) -> TorchView | Text:
    """Ask torch in a child process, in PCI order; a sentence when it does not answer."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit_s,
            check=False,
            env={**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        )
    except subprocess.TimeoutExpired:
        return Text.of("doctor.match.timeout", "PyTorch did not start within {limit:seconds}.", limit=limit_s)
    except OSError as error:
        return Text.of("doctor.match.no_start", "PyTorch could not be started: {detail}.", detail=str(error))
    try:
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        words = done.stderr.strip().splitlines()
        return Text.of(
            "doctor.match.failed",
            "PyTorch does not start: {detail}",
            detail=words[-1] if words else f"it ended with code {done.returncode}",
        )
    return TorchView(
        answer["count"],
        tuple((major, minor) for major, minor in answer["capabilities"]),
        tuple(answer["architectures"]),
    )


def judge(gpus: tuple[Gpu, ...], view: TorchView) -> Finding:
    """Compare what the driver sees with what torch sees."""
    title = Text("doctor.match", "PyTorch and the GPU driver")
    if view.count != len(gpus):
        return Finding(
            "warning",
            title,
            Text.of(
                "doctor.match.count",
                "The driver sees {driver} GPUs and PyTorch sees {torch}.",
                driver=len(gpus),
                torch=view.count,
            ),
            _RESTART,
        )
    for gpu, capability in zip(gpus, view.capabilities, strict=False):
        if view.architectures and not has_code(capability, view.architectures):
            return Finding(
                "warning",
                title,
                Text.of(
                    "doctor.match.capability",
                    "This PyTorch has no code for {name} (compute capability {capability}).",
                    name=gpu.name,
                    capability="{}.{}".format(*capability),
                ),
                Text("doctor.match.capability.remedy", "Use the preset CPU only, or another GPU."),
            )
    return Finding(
        "ok", title, Text.of("doctor.match.ok", "PyTorch sees the same GPUs: {count}.", count=view.count)
    )


def _busy(gpu: Gpu) -> Finding:
    title = Text.of("doctor.busy", "GPU {index}", index=gpu.index)
    process = culprit(gpu)
    held = held_by_others(gpu, Credit())
    if process is None or process.bytes == 0:  # Windows' driver names processes but not their bytes
        return Finding(
            "warning",
            title,
            Text.of(
                "doctor.busy.unknown",
                "{name} is busy: {held:bytes} are in use, {load} % load.",
                name=gpu.name,
                held=held,
                load=gpu.utilization or 0,
            ),
            Text(
                "doctor.busy.unknown.remedy", "Close programs that use the GPU, or let Snug use another one."
            ),
        )
    return Finding(
        "warning",
        title,
        Text.of(
            "doctor.busy.known",
            "{name} is busy: {held:bytes} are in use, {load} % load, most by {process} (process {pid}).",
            name=gpu.name,
            held=held,
            load=gpu.utilization or 0,
            process=process.name,
            pid=process.pid,
        ),
        Text.of(
            "doctor.busy.known.remedy",
            "Close {process} if you don't need it; what it holds is not there for Snug.",
            process=process.name,
        ),
    )


def _note_remedy(note: Text) -> Text:
    remedies = {
        "hardware.no_pynvml": Text("doctor.repair", "Run: python launch.py --repair"),
        "hardware.failed": Text("doctor.failed.remedy", "Restart the machine, then run this again."),
        "hardware.gpu_mig": Text(
            "doctor.mig.remedy", "Switch MIG off for this GPU (nvidia-smi -mig 0) if Snug is to use it."
        ),
    }
    default = Text(
        "doctor.driver.remedy",
        "Restart the machine; if that does not help, install the newest NVIDIA driver.",
    )
    return remedies.get(note.code, default)
