"""What a child process may see: GPUs as planned, nothing of the network."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backends.errors import SnugError
from backends.settings import load_settings
from backends.worker.environment import VISIBLE_GPUS, child_environment, show_gpus, visible_gpus
from tests.backends.worker.conftest import Spawn
from tests.support.plans import make_plan


@pytest.mark.parametrize(
    ("gpus", "value"),
    [
        pytest.param((), "-1", id="no GPU: all hidden"),
        pytest.param((1,), "1", id="one"),
        pytest.param((2, 0), "2,0", id="two, in the plan's order"),
    ],
)
def test_visible_gpus(gpus: tuple[int, ...], value: str) -> None:
    assert visible_gpus(make_plan("model", visible_gpus=gpus)) == value


@pytest.mark.parametrize(
    ("before", "started", "possible"),
    [
        pytest.param(None, False, True, id="fresh"),
        pytest.param("0", False, True, id="other GPUs, driver untouched"),
        pytest.param("0", True, False, id="other GPUs, driver started"),
        pytest.param("1", True, True, id="the same GPUs, driver started"),
    ],
)
def test_a_process_serves_a_plan_while_its_driver_is_untouched(
    monkeypatch: pytest.MonkeyPatch, before: str | None, started: bool, possible: bool
) -> None:
    monkeypatch.delenv(VISIBLE_GPUS, raising=False)
    if before is not None:
        monkeypatch.setenv(VISIBLE_GPUS, before)
    assert show_gpus(make_plan("m", visible_gpus=(1,)), driver_started=lambda: started) is possible
    assert os.environ.get(VISIBLE_GPUS) == ("1" if possible else before)


_DRIVER = """
static int started;
int cuInit(unsigned flags) { started = 1; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return started ? 0 : 3; }
"""

_ASK = """
import ctypes, sys
from backends.worker.environment import cuda_started
print(cuda_started())
ctypes.CDLL("libcuda.so.1").cuInit(0)
print(cuda_started())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the stub driver is an ELF library")
def test_whether_the_driver_was_started_is_asked_of_the_driver(tmp_path: Path) -> None:
    (tmp_path / "driver.c").write_text(_DRIVER, encoding="utf-8")
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "driver.c"], check=True)
    answers = subprocess.run(
        [sys.executable, "-c", _ASK],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answers.stdout.split() == ["False", "True"]


def test_nothing_leaves_the_machine_and_threads_are_as_set() -> None:
    environment = child_environment(replace(load_settings({}), threads=3))
    assert environment["HF_HUB_OFFLINE"] == environment["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["GOMP_SPINCOUNT"] == "1000"
    assert "OMP_NUM_THREADS" not in child_environment(load_settings({}))


@pytest.mark.parametrize("engine", ["transformers", "llamacpp", "fake", ""])
def test_room_is_left_where_the_person_wants_it(engine: str) -> None:
    without = child_environment(load_settings({}), engine)
    found = child_environment(load_settings({"SNUG_LEAVE_ROOM": "1"}), engine)
    added = {name: value for name, value in found.items() if name not in without}
    match engine:
        case "llamacpp":  # which knows fast cores from others
            assert added == {"SNUG_LEAVE_ROOM": "1"}
        case "":  # measuring the machine
            assert added == {}
        case _:
            assert 1 <= int(added["OMP_NUM_THREADS"]) <= (os.cpu_count() or 1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads what GCC's OpenMP says")
def test_a_worker_forgets_the_terminals_number_of_threads(
    spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "97")
    for client, expected in (
        (spawn("transformers", environment={"OMP_DISPLAY_ENV": "TRUE"}), False),
        (spawn("transformers", environment={"OMP_DISPLAY_ENV": "TRUE", "OMP_NUM_THREADS": "97"}), True),
    ):
        with pytest.raises(SnugError):  # said once the libraries are imported
            list(client.load(make_plan(tmp_path / "absent")))
        client.close()
        shown = client.log.read_text(encoding="utf-8")
        assert "OMP_NUM_THREADS = '" in shown
        assert ("OMP_NUM_THREADS = '97'" in shown) is expected


def test_a_number_of_threads_outranks_room() -> None:
    settings = replace(load_settings({"SNUG_LEAVE_ROOM": "1"}), threads=3)
    assert child_environment(settings, "llamacpp")["OMP_NUM_THREADS"] == "3"
