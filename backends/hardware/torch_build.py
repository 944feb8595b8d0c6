"""Which torch is installed and which GPUs it can use, read from its files without importing it."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from backends.hardware import builds
from backends.hardware.notes import note
from backends.hardware.types import HardwareSnapshot


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """An installed torch. `cuda` is the CUDA version it was built for, None for a CPU build."""

    version: str
    cuda: tuple[int, int] | None
    complete: bool = True


def torch_build() -> TorchBuild | None:
    """Read which torch is installed; None without one."""
    try:
        found = metadata.distribution("torch")
        version = found.version
    except (metadata.PackageNotFoundError, KeyError):
        return None
    try:
        source = Path(str(found.locate_file("torch/version.py"))).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return TorchBuild(version, None, complete=False)
    return parse_build(source, version)


def parse_build(source: str, version: str) -> TorchBuild:
    """Read `__version__` and `cuda` from the text of torch/version.py without running it."""
    values: dict[str, object] = {}
    try:
        for node in ast.parse(source).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            value = getattr(node, "value", None)
            for target in targets:
                if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                    values[target.id] = value.value
    except (SyntaxError, ValueError):
        return TorchBuild(version, None, complete=False)
    if "cuda" not in values:
        return TorchBuild(version, None, complete=False)
    parts = str(values["cuda"] or "").split(".")
    numbers = [int(part) for part in parts[:2] if part.isdecimal()]
    cuda = (numbers[0], numbers[1]) if len(numbers) == 2 else None
    return TorchBuild(str(values.get("__version__", version)), cuda)


def without_idle_gpus(snapshot: HardwareSnapshot, build: TorchBuild | None) -> HardwareSnapshot:
    """Leave out the GPUs that this torch can't use, so that no plan counts on them, and say why.

    That is all of them for a build without CUDA and for one whose CUDA is newer than the driver's: within a
    major version every build runs on every driver of that version (CUDA's minor version compatibility). Else
    it is those that the build has no code for.
    """
    if not snapshot.gpus or build is None:
        return snapshot
    if build.cuda is None:
        reason = note("hardware.torch_cpu", version=build.version)
    elif snapshot.cuda_version is not None and snapshot.cuda_version[0] < build.cuda[0]:
        reason = note(
            "hardware.torch_newer",
            driver=snapshot.driver_version or "?",
            has=_dotted(snapshot.cuda_version),
            needs=_dotted(build.cuda),
        )
    else:
        return builds.usable(replace(snapshot, torch_cuda=build.cuda))
    bare = builds.without(snapshot, {gpu.index: reason for gpu in snapshot.gpus})
    return replace(bare, notes=(*snapshot.notes, reason))


def _dotted(version: tuple[int, int]) -> str:
    return "{}.{}".format(*version)
