"""Python, torch and the other packages, from what is on the disk: nothing heavy is imported."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

from backends.doctor.finding import Finding
from backends.hardware.torch_build import TorchBuild
from backends.hardware.types import Cpu
from backends.text import Text

LEAST_PYTHON = (3, 11)
# Distribution names of what Snug can't start or load a model without.
PACKAGES = ("gradio", "transformers", "accelerate", "pillow", "psutil", "platformdirs", "nvidia-ml-py")
# What only some plans need.
OPTIONAL = ("bitsandbytes",)
LLAMA = "xllamacpp"
# What its builds for x86 are compiled for.
_LLAMA_NEEDS = ("avx2", "fma", "f16c")

_REPAIR = Text("doctor.repair", "Run: python launch.py --repair")


def check_python() -> Finding:
    """Python's version and word size."""
    title = Text("doctor.python", "Python")
    version, bits = platform.python_version(), 64 if sys.maxsize > 2**32 else 32
    if sys.version_info >= LEAST_PYTHON and bits == 64:
        return Finding(
            "ok", title, Text.of("doctor.python.ok", "Python {version}, 64 bits.", version=version)
        )
    return Finding(
        "broken",
        title,
        Text.of(
            "doctor.python.old",
            "This is Python {version} with {bits} bits; Snug needs {least} or newer with 64 bits.",
            version=version,
            bits=bits,
            least=".".join(str(part) for part in LEAST_PYTHON),
        ),
        Text("doctor.python.remedy", "Install a newer Python from python.org, then start launch.py with it."),
    )


def check_torch(build: TorchBuild | None) -> Finding:
    """Tell whether torch is there and whole."""
    title = Text("doctor.torch", "PyTorch")
    if build is None:
        missing = Text("doctor.torch.missing", "PyTorch is not installed, so no model can be loaded.")
        return Finding("broken", title, missing, _REPAIR)
    if not build.complete:
        damaged = Text.of(
            "doctor.torch.damaged", "PyTorch {version} lacks some of its files.", version=build.version
        )
        return Finding("broken", title, damaged, _REPAIR)
    if build.cuda is None:
        text = Text.of("doctor.torch.cpu", "PyTorch {version}, built for the CPU.", version=build.version)
    else:
        text = Text.of(
            "doctor.torch.cuda",
            "PyTorch {version}, built for CUDA {cuda}.",
            version=build.version,
            cuda="{}.{}".format(*build.cuda),
        )
    return Finding("ok", title, text)


def check_packages() -> Finding:
    """Tell which other packages are missing."""
    title = Text("doctor.packages", "Packages")
    missing = [name for name in PACKAGES if _version(name) is None]
    if missing:
        text = Text.of("doctor.packages.missing", "Not installed: {names}.", names=", ".join(missing))
        return Finding("broken", title, text, _REPAIR)
    optional = [name for name in OPTIONAL if _version(name) is None]
    if optional:
        text = Text.of(
            "doctor.packages.optional",
            "Not installed: {names}. Plans with 8 or 4 bits can't be carried out.",
            names=", ".join(optional),
        )
        return Finding("warning", title, text, _REPAIR)
    versions = ", ".join(f"{name} {_version(name)}" for name in ("gradio", "transformers", *OPTIONAL))
    return Finding(
        "ok", title, Text.of("doctor.packages.ok", "All there: {versions}, ...", versions=versions)
    )


def check_llama(cpu: Cpu) -> Finding:
    """Tell whether llama.cpp is there and runs on this processor; unknown instruction sets are no fault."""
    title, version = Text("doctor.llama", "llama.cpp"), _version(LLAMA)
    if version is None:
        missing = Text(
            "doctor.llama.missing",
            "xllamacpp is not installed: GGUF files can't be run, and on a processor transformers answers, "
            "more slowly.",
        )
        return Finding("warning", title, missing, _REPAIR)
    x86 = "neon" not in cpu.features and bool(cpu.features)
    lacking = [name for name in _LLAMA_NEEDS if name not in cpu.features] if x86 else []
    if lacking:
        return Finding(
            "warning",
            title,
            Text.of(
                "doctor.llama.old",
                "{name} has no {features}, which llama.cpp needs: GGUF files can't be run, and transformers "
                "answers.",
                name=cpu.name,
                features=", ".join(name.upper() for name in lacking),
            ),
            Text(
                "doctor.llama.old.remedy",
                "Use models of safetensors files; llama.cpp takes a newer processor.",
            ),
        )
    return Finding("ok", title, Text.of("doctor.llama.ok", "xllamacpp {version}.", version=version))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, KeyError):
        return None
