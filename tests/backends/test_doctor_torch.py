"""Doctor on PyTorch: the build, the driver beside it, a child process that tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backends.doctor import gpus, software
from backends.doctor.gpus import TorchView
from backends.hardware.builds import has_code
from backends.hardware.describe import read_file
from backends.hardware.torch_build import TorchBuild
from backends.hardware.types import Cpu, HardwareSnapshot
from backends.text import Text
from tests.support.nvml import HARDWARE_FILES

ROOT = Path(__file__).resolve().parents[2]
CPU_BUILD = TorchBuild("2.13.0+cpu", None)
CUDA_BUILD = TorchBuild("2.13.0+cu130", (13, 0))


def hardware(name: str) -> HardwareSnapshot:
    return read_file(HARDWARE_FILES / f"{name}.json")


@pytest.mark.parametrize(
    ("build", "level"),
    [
        pytest.param(None, "broken", id="not installed"),
        pytest.param(TorchBuild("2.13.0", None, complete=False), "broken", id="half installed"),
        pytest.param(CPU_BUILD, "ok", id="CPU build"),
        pytest.param(CUDA_BUILD, "ok", id="CUDA build"),
    ],
)
def test_torch_itself(build: TorchBuild | None, level: str) -> None:
    assert software.check_torch(build).level == level


@pytest.mark.parametrize(
    ("list_name", "level"),
    [
        pytest.param("PACKAGES", "broken", id="a package Snug needs"),
        pytest.param("OPTIONAL", "warning", id="a package some plans need"),
    ],
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, list_name: str, level: str) -> None:
    monkeypatch.setattr(software, list_name, ("psutil", "surely-not-installed"))
    found = software.check_packages()
    assert found.level == level
    assert "surely-not-installed" in str(found.detail)
    assert "psutil" not in str(found.detail)


@pytest.mark.parametrize(
    ("features", "level", "told"),
    [
        pytest.param(("avx", "avx2", "fma", "f16c"), "ok", "xllamacpp ", id="able"),
        pytest.param(("neon",), "ok", "xllamacpp ", id="Arm"),
        pytest.param((), "ok", "xllamacpp ", id="not told"),
        pytest.param(("avx", "f16c"), "warning", "Old CPU has no AVX2, FMA, which", id="too old"),
    ],
)
def test_llama_cpp_and_its_processor(features: tuple[str, ...], level: str, told: str) -> None:
    found = software.check_llama(Cpu("Old CPU", 4, features))
    assert (found.level, told in str(found.detail)) == (level, True)
    assert (found.remedy is None) == (level == "ok")


def test_llama_cpp_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "LLAMA", "surely-not-installed")
    found = software.check_llama(Cpu("CPU", 4, ("avx2",)))
    assert (found.level, "GGUF files can't be run" in str(found.detail)) == ("warning", True)
    assert "--repair" in str(found.remedy)


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        pytest.param((8, 6), ("sm_80", "sm_90"), True, id="later minor version"),
        pytest.param((8, 0), ("sm_86",), False, id="earlier minor version"),
        pytest.param((6, 1), ("sm_75", "sm_80"), False, id="too old"),
        pytest.param((12, 0), ("sm_80", "compute_90"), True, id="the driver recompiles for a newer GPU"),
        pytest.param((12, 0), ("sm_80", "sm_90"), False, id="too new without portable code"),
        pytest.param((12, 0), ("sm_120",), True, id="three digits"),
        pytest.param((9, 0), ("sm_90a",), True, id="code for this GPU alone"),
        pytest.param((12, 1), ("sm_120a",), False, id="code for another GPU alone"),
        pytest.param((8, 0), ("gfx90a", "sm_"), False, id="names of another kind"),
    ],
)
def test_which_gpus_torch_has_code_for(
    capability: tuple[int, int], architectures: tuple[str, ...], *, runs: bool
) -> None:
    assert has_code(capability, architectures) is runs


FOUR = ((8, 6),) * 4


@pytest.mark.parametrize(
    ("view", "level", "code"),
    [
        pytest.param(TorchView(4, FOUR, ("sm_86",)), "ok", "doctor.match.ok", id="the same"),
        pytest.param(TorchView(4, FOUR, ()), "ok", "doctor.match.ok", id="no list of architectures"),
        pytest.param(TorchView(0, (), ()), "warning", "doctor.match.count", id="torch sees none"),
        pytest.param(TorchView(3, FOUR[:3], ()), "warning", "doctor.match.count", id="torch sees fewer"),
        pytest.param(TorchView(4, FOUR, ("sm_90",)), "warning", "doctor.match.capability", id="no code"),
    ],
)
def test_the_driver_and_torch_compared(view: TorchView, level: str, code: str) -> None:
    found = gpus.judge(hardware("four_3090_one_busy").gpus, view)
    assert (found.level, found.detail.code) == (level, code)


@pytest.mark.parametrize(
    ("build", "cuda", "code", "said"),
    [
        pytest.param(
            CPU_BUILD, (13, 0), "doctor.match.cpu_build", "--repair", id="CPU build on a GPU machine"
        ),
        pytest.param(CUDA_BUILD, (12, 4), "doctor.match.old_driver", "driver 580", id="driver too old"),
    ],
)
def test_a_torch_that_cannot_use_the_driver(
    build: TorchBuild, cuda: tuple[int, int], code: str, said: str
) -> None:
    snapshot = replace(hardware("rtx3090"), cuda_version=cuda, driver_version="550.1")
    found = gpus.check_match(snapshot, build)
    assert (found.level, found.detail.code) == ("warning", code)
    assert said in str(found.remedy)


def fake_torch(folder: Path, source: str) -> None:
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(source, encoding="utf-8")


WORKING_TORCH = """
class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 2)
    get_device_capability = staticmethod(lambda index: (8, 6 + index))
    get_arch_list = staticmethod(lambda: ["sm_80", "compute_90"])
print("a library greets on stdout")
"""


def test_torch_is_asked_in_a_child_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_torch(tmp_path, WORKING_TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert gpus.ask_torch() == TorchView(2, ((8, 6), (8, 7)), ("sm_80", "compute_90"))


@pytest.mark.parametrize(
    ("source", "limit_s", "said"),
    [
        pytest.param("raise OSError('libcudart.so')", 60, "libcudart.so", id="raises"),
        pytest.param("import os; os._exit(3)", 60, "code 3", id="dies without a word"),
        pytest.param("import threading; threading.Event().wait()", 0.5, "within 0.5 s", id="hangs"),
    ],
)
def test_a_torch_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, limit_s: float, said: str
) -> None:
    fake_torch(tmp_path, source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answer = gpus.ask_torch(limit_s)
    assert isinstance(answer, Text)
    assert said in str(answer)
