"""Which build of torch 2.13.0 suits a machine: cpu, cu126, cu130 (cu132 is a trial) or the registry's."""

import os
import re

from ui.setup.types import Step, System

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 15)  # of pyproject.toml; of torch's wheels
INDEX = "https://download.pytorch.org/whl/"
GIB = 1024**3
NEEDED_BYTES = {"cpu": 4 * GIB, "plain": 4 * GIB, "cu126": 11 * GIB, "cu130": 11 * GIB}  # with room to unpack


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, for comparing."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def torch_build(system: System) -> tuple[str, str]:
    """Choose the build, with a note or "".

    Architectures: the CUDA table of PyTorch's RELEASE.md (12.6 Maxwell to Hopper, 13.0 Turing to Blackwell).
    Drivers: minor version table of NVIDIA's "CUDA Compatibility" (12.x needs 525, on Windows 528; 13.x 580).
    """
    no_cuda = system.os == "macos" or (system.os, system.machine) == ("windows", "arm64")
    if system.nvidia_driver is None or no_cuda:
        return ("plain" if system.os == "macos" else "cpu"), ""
    driver, name = numbers(system.nvidia_driver)[0], system.nvidia_driver
    capability = numbers(system.compute_capability or "7.5")
    if driver < (528 if system.os == "windows" else 525):
        return "cpu", f"NVIDIA driver {name} is too old for PyTorch: update it to use the GPU."
    if capability < (5, 0):
        return "cpu", "The GPU is older than what PyTorch supports; the CPU does the work."
    if capability >= (10, 0) and driver < 580:
        return "cu130", f"This GPU needs NVIDIA driver 580, not {name}: update it to use the GPU."
    return ("cu130" if driver >= 580 and capability >= (7, 5) else "cu126"), ""


def torch_is_right(system: System, build: str, version: str) -> bool:
    """Whether the installed torch will do: this version, and this build as far as its label tells."""
    installed, _, label = (system.installed_torch or "").partition("+")
    unlabelled = {"windows": ("cpu",), "linux": ("cpu", "cu130")}.get(system.os, ("plain",))
    usable = label == build or (not label and build in unlabelled) or not system.index_reachable
    return installed == version and usable


def torch_index(build: str) -> str:
    """Return the address of PyTorch's own package index for a build, or of the mirror a person named."""
    return (os.environ.get("SNUG_TORCH_INDEX") or INDEX) + build


def torch_steps(system: System, build: str, torch: str, pip: list[str]) -> tuple[list[Step], str]:
    """Install torch if it isn't the right one; the plain registry takes over when its own index is away."""
    version = torch.partition("==")[2]
    if torch_is_right(system, build, version):
        return [], ""
    if build != "plain" and system.index_reachable:
        kind = "for the CPU" if build == "cpu" else f"with CUDA {build[2:4]}.{build[4:]}"
        command = [*pip, f"{torch}+{build}", "--index-url", torch_index(build)]
        return [Step("torch", f"Install PyTorch {version} {kind}", command)], ""
    # the plain registry has the CPU build for Windows and CUDA 13.0 for Linux
    lost = build == "cu126" or (build == "cu130" and system.os == "windows")
    note = "PyTorch's package index can't be reached; without it the GPU may idle; --repair tries again."
    return [Step("torch", f"Install PyTorch {version}", [*pip, torch])], note if lost else ""
