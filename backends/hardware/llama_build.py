"""Whether the installed llama.cpp can compute on GPUs, read from its files without importing it."""

from __future__ import annotations

import mmap
from functools import cache
from importlib import metadata
from pathlib import Path

from backends.hardware import builds
from backends.hardware.notes import note
from backends.hardware.types import HardwareSnapshot

# A function that every build for NVIDIA's GPUs has, linked into the module or in a library beside it.
_CUDA = b"ggml_backend_cuda_reg"
_LIBRARIES = frozenset({".so", ".pyd", ".dll", ".dylib"})


@cache
def llama_version(package: str = "xllamacpp") -> str | None:
    """The installed version; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def computes_on_gpus(package: str = "xllamacpp") -> bool:
    """Whether the package was built for NVIDIA's GPUs; False where it is not installed."""
    try:
        files = metadata.distribution(package).files or ()
    except metadata.PackageNotFoundError:
        return False
    return any(mentions(Path(str(file.locate())), _CUDA) for file in files if file.suffix in _LIBRARIES)


def mentions(path: Path, word: bytes) -> bool:
    """Whether the file's bytes hold `word`; False for one that can't be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(word) >= 0
    except (OSError, ValueError):
        return False


def without_gpus(snapshot: HardwareSnapshot, *, able: bool) -> HardwareSnapshot:
    """Leave out the GPUs, and say why, where llama.cpp is not `able` to use them."""
    if able or not snapshot.gpus:
        return snapshot
    reason = note("hardware.llama_cpu")
    return builds.without(snapshot, {gpu.index: reason for gpu in snapshot.gpus})
