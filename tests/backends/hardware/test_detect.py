"""The whole snapshot on this machine, and what happens when a part of it can't be asked."""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
from pathlib import Path

import psutil
import pytest

from backends.hardware import cgroup, cpu, notes, others
from backends.hardware.detect import Monitor, detect


def test_the_figures_are_this_machines(tmp_path: Path) -> None:
    found = detect(tmp_path)
    assert found.os == {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")
    limit = cgroup.memory_limit() if sys.platform == "linux" else None
    total = psutil.virtual_memory().total
    assert found.ram.total_bytes == (min(total, limit.limit_bytes) if limit else total)
    assert 0 < found.ram.available_bytes < found.ram.total_bytes
    assert (found.ram.commit_limit_bytes is None) == (sys.platform != "win32")
    # Other programs write to the disk while the two are asked.
    assert found.disk.free_bytes == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert found.disk.path == str(tmp_path)
    assert set(found.assumed) >= {"ram.memory_gbps", "cpu.gflops_fp32"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("there", "there", id="a folder that exists"),
        pytest.param("there/not/yet", "there", id="nearest parent"),
        pytest.param("there/空 格/x", "there", id="spaces and Chinese characters"),
    ],
)
def test_the_disk_of_a_folder_that_does_not_exist_yet(tmp_path: Path, path: str, expected: str) -> None:
    (tmp_path / "there").mkdir()
    assert others.read_disk(tmp_path / path).path == str(tmp_path / expected)


@pytest.mark.parametrize(
    ("module", "function", "part"),
    [
        pytest.param(cpu, "read", "The processor", id="processor"),
        pytest.param(others, "read_ram", "The memory", id="memory"),
        pytest.param(others, "read_disk", "The disk", id="disk"),
        pytest.param(others, "unused_gpus", "The processor", id="other GPUs"),
    ],
)
def test_a_part_that_fails_leaves_a_note_and_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: object, function: str, part: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the probe broke")

    monkeypatch.setattr(module, function, fail)
    found = detect(tmp_path)
    assert f"{part} could not be asked: the probe broke." in [str(entry) for entry in found.notes]
    assert found.cpu.cores >= 1
    assert found.os


def test_a_monitor_may_be_asked_from_many_threads_and_after_closing(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(monitor.snapshot().ram.total_bytes)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monitor.close()
    monitor.close()
    seen.append(monitor.snapshot().ram.total_bytes)
    monitor.close()
    assert len(seen) == 9
    assert len(set(seen)) == 1


@pytest.mark.parametrize(
    ("vendor", "device", "codes"),
    [
        pytest.param("0x1002", "0x744c", ["hardware.amd"], id="AMD"),
        pytest.param("0x8086", "0x56a0", ["hardware.intel"], id="Intel Arc"),
        pytest.param("0x8086", "0xa780", [], id="Intel's built-in graphics"),
        pytest.param("0x10de", "0x2204", [], id="NVIDIA is asked elsewhere"),
    ],
)
def test_gpus_that_are_not_used_yet_are_named(
    tmp_path: Path, vendor: str, device: str, codes: list[str]
) -> None:
    board = tmp_path / "card0" / "device"
    board.mkdir(parents=True)
    (board / "vendor").write_text(vendor + "\n", encoding="ascii")
    (board / "device").write_text(device + "\n", encoding="ascii")
    (tmp_path / "card1" / "device").mkdir(parents=True)
    assert [entry.code for entry in others._linux_gpus(tmp_path)] == codes


def test_every_note_is_a_full_sentence() -> None:
    for code, template in notes.NOTES.items():
        assert code.startswith("hardware.")
        assert template.endswith((".", "--repair")) != code.startswith("hardware.part.")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_note_is_translated_with_the_same_figures(language: str) -> None:
    path = Path(__file__).resolve().parents[3] / "ui" / "i18n" / f"{language}.json"
    catalog = json.loads(path.read_text(encoding="utf-8"))
    for code, template in notes.NOTES.items():
        assert set(re.findall(r"\{.*?\}", catalog[code])) == set(re.findall(r"\{.*?\}", template)), code
        assert language != "en" or catalog[code] == template
