"""Which torch is installed, and which GPUs it leaves idle."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.hardware.describe import read_file
from backends.hardware.torch_build import TorchBuild, parse_build, torch_build, without_idle_gpus
from tests.support.nvml import HARDWARE_FILES

CPU_BUILD = TorchBuild("2.13.0+cpu", None)
CUDA_BUILD = TorchBuild("2.13.0+cu130", (13, 0))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n", CPU_BUILD, id="CPU"),
        pytest.param("__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\n", CUDA_BUILD, id="CUDA"),
        pytest.param("__version__ = '2.13.0+cu130'\ncuda = '13.0'\n", CUDA_BUILD, id="without annotation"),
        pytest.param("import os; cuda = os.getcwd()", TorchBuild("9", None, complete=False), id="not run"),
        pytest.param("cuda: Optional[str", TorchBuild("9", None, complete=False), id="cut off"),
        pytest.param("", TorchBuild("9", None, complete=False), id="empty"),
        pytest.param("\0", TorchBuild("9", None, complete=False), id="zeros after a crash"),
    ],
)
def test_torchs_build_is_read_from_its_text(source: str, expected: TorchBuild) -> None:
    assert parse_build(source, "9") == expected


def test_the_installed_torch_is_found() -> None:
    build = torch_build()
    assert build is not None
    assert build.version.startswith("2.")
    assert build.complete


@pytest.mark.parametrize(
    ("build", "driver", "note"),
    [
        pytest.param(CUDA_BUILD, (13, 0), None, id="the driver's CUDA"),
        pytest.param(TorchBuild("2.13.0+cu126", (12, 6)), (13, 0), None, id="newer driver"),
        pytest.param(TorchBuild("2.13.0+cu126", (12, 6)), (12, 2), None, id="same major version"),
        pytest.param(CUDA_BUILD, (12, 8), "hardware.torch_newer", id="driver too old"),
        pytest.param(CUDA_BUILD, None, None, id="a driver that does not tell its version"),
        pytest.param(CPU_BUILD, (13, 0), "hardware.torch_cpu", id="no CUDA in torch"),
        pytest.param(None, (13, 0), None, id="no torch: another finding says so"),
    ],
)
def test_gpus_that_torch_cannot_use_are_left_out_with_a_note(
    build: TorchBuild | None, driver: tuple[int, int] | None, note: str | None
) -> None:
    before = replace(read_file(HARDWARE_FILES / "four_3090_one_busy.json"), cuda_version=driver)
    after = without_idle_gpus(before, build)
    if note is None:
        assert (after.gpus, after.notes, after.left_out) == (before.gpus, (), ())
        return
    assert after.gpus == ()
    assert [(index, why.code) for index, why in after.left_out] == [(index, note) for index in range(4)]
    assert [entry.code for entry in after.notes] == [note]
    assert not [path for path in after.assumed if path.startswith("gpus")]


def test_a_machine_without_gpus_is_not_told_about_torch() -> None:
    before = read_file(HARDWARE_FILES / "no_gpu_8gb.json")
    assert without_idle_gpus(before, CPU_BUILD) == before
