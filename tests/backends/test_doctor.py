"""What the doctor finds on machines in good and in bad health."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from backends import doctor
from backends.doctor import Finding, gpus, machine, models
from backends.doctor.converted import check_converted
from backends.hardware.describe import read_file
from backends.hardware.notes import NOTES, note
from backends.hardware.torch_build import TorchBuild, torch_build
from backends.hardware.types import HardwareSnapshot
from backends.settings import Settings, load_settings
from backends.text import Text
from tests.support.nvml import HARDWARE_FILES, NvmlDriver

ROOT = Path(__file__).resolve().parents[2]
GIB = 1024**3
CPU_BUILD = TorchBuild("2.13.0+cpu", None)
CUDA_BUILD = TorchBuild("2.13.0+cu130", (13, 0))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    home = tmp_path / "home"
    return replace(load_settings({}), home=home, model_folders=(home / "models",))


def hardware(name: str) -> HardwareSnapshot:
    return read_file(HARDWARE_FILES / f"{name}.json")


def finding(level: doctor.Level) -> Finding:
    return Finding(level, Text("t", "Title"), Text("d", "Detail"), Text("r", "Remedy"))


def codes(findings: Sequence[Finding]) -> dict[str, doctor.Level]:
    return {found.detail.code: found.level for found in findings}


@pytest.mark.parametrize(
    ("levels", "code"),
    [((), 0), (("ok", "ok"), 0), (("ok", "warning"), 1), (("broken", "warning", "ok"), 2)],
    ids=["nothing", "all fine", "a warning", "broken outweighs a warning"],
)
def test_exit_code(levels: tuple[doctor.Level, ...], code: int) -> None:
    assert doctor.exit_code([finding(level) for level in levels]) == code


def test_findings_as_json() -> None:
    findings = (finding("warning"), replace(finding("ok"), remedy=None))
    assert doctor.findings_to_json(findings) == [
        {"level": "warning", "title": "Title", "detail": "Detail", "remedy": "Remedy"},
        {"level": "ok", "title": "Title", "detail": "Detail", "remedy": None},
    ]
    assert doctor.findings_to_json(findings, lambda text: text.code)[0]["remedy"] == "r"


def test_everything_but_ok_has_a_remedy_and_all_sentences_are_whole(settings: Settings) -> None:
    sick = replace(
        hardware("small_windows_4gb"), notes=tuple(Text(code, "It is so.") for code in sorted(NOTES))
    )
    found = doctor.examine(sick, settings)
    assert {entry.level for entry in found} >= {"ok", "warning"}
    for entry in found:
        assert (entry.remedy is None) == (entry.level == "ok"), entry
        assert str(entry.title)
        assert str(entry.detail).endswith((".", ")"))


def test_examining_imports_no_heavy_library(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from backends import doctor; from backends.hardware.detect import detect\n"
        "from backends.settings import load_settings\n"
        "settings = load_settings(); doctor.examine(detect(settings.home), settings)\n"
        "print(*[name for name in ('torch', 'transformers', 'gradio') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "SNUG_HOME": str(tmp_path / "home")},
    )
    assert done.stdout.split() == []
    assert list(tmp_path.iterdir()) == []  # nor does it leave anything behind


@pytest.mark.parametrize(
    ("name", "busy", "culprit"),
    [
        pytest.param("four_3090_one_busy", ["1"], "python (process 31337)", id="one of four"),
        pytest.param("two_24gb_first_taken", ["0"], "blender (process 5150)", id="the largest is named"),
        pytest.param("rtx4070_laptop_8gb", [], "", id="a desktop's windows are no culprit"),
        pytest.param("no_gpu_32gb", [], "", id="no GPU"),
    ],
)
def test_a_busy_gpu_names_who_keeps_it_busy(name: str, busy: list[str], culprit: str) -> None:
    found = [entry for entry in gpus.check(hardware(name), None) if entry.title.code == "doctor.busy"]
    assert [str(entry.title) for entry in found] == [f"GPU {index}" for index in busy]
    assert all(culprit in str(entry.detail) for entry in found)
    assert {entry.level for entry in found} <= {"warning"}


@pytest.mark.parametrize(
    ("code", "level"),
    [
        ("hardware.no_nvidia", "ok"),
        ("hardware.hidden", "ok"),
        ("hardware.apple", "ok"),
        ("hardware.driver_mismatch", "warning"),
        ("hardware.gpu_lost", "warning"),
    ],
)
def test_notes_of_detection_become_findings(code: str, level: str) -> None:
    snapshot = replace(hardware("no_gpu_32gb"), notes=(Text(code, "It is so."),))
    (found,) = [entry for entry in gpus.check(snapshot, None) if entry.detail.code == code]
    assert found.level == level


@pytest.mark.parametrize(
    ("available", "level"), [(8 * GIB, "ok"), (2 * GIB, "ok"), (2 * GIB - 1, "warning"), (0, "warning")]
)
def test_free_ram(available: int, level: str) -> None:
    snapshot = hardware("no_gpu_32gb")
    (found,) = machine.check_ram(replace(snapshot, ram=replace(snapshot.ram, available_bytes=available)))
    assert found.level == level


@pytest.mark.parametrize(
    ("total", "commit", "levels"),
    [
        pytest.param(16 * GIB, None, [], id="not Windows"),
        pytest.param(16 * GIB, 16 * GIB, ["warning"], id="switched off"),
        pytest.param(16 * GIB, 18 * GIB, ["warning"], id="2 GB"),
        pytest.param(16 * GIB, 24 * GIB, ["ok"], id="8 GB"),
        pytest.param(64 * GIB, 65 * GIB, ["ok"], id="enough RAM to do without"),
    ],
)
def test_page_file(total: int, commit: int | None, levels: list[str]) -> None:
    snapshot = hardware("no_gpu_8gb")
    ram = replace(snapshot.ram, total_bytes=total, commit_limit_bytes=commit)
    found = list(machine.check_page_file(replace(snapshot, ram=ram)))
    assert [entry.level for entry in found] == levels
    assert all("8192 MB" in str(entry.remedy) for entry in found if entry.level == "warning")


@pytest.mark.parametrize(
    ("free", "level"), [(50 * GIB, "ok"), (10 * GIB, "ok"), (9 * GIB, "warning"), (GIB // 4, "broken")]
)
def test_disk_space(free: int, level: str) -> None:
    snapshot = hardware("no_gpu_32gb")
    assert machine.check_disk(replace(snapshot, disk=replace(snapshot.disk, free_bytes=free))).level == level


def test_a_home_that_can_be_made_is_fine_and_not_made(settings: Settings) -> None:
    assert machine.check_home(settings).level == "ok"
    assert not settings.home.exists()


def test_a_home_below_a_file_is_broken(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "文件").write_text("no folder", encoding="utf-8")
    found = machine.check_home(replace(settings, home=tmp_path / "文件" / "home"))
    assert found.level == "broken"
    assert "文件" in str(found.detail)
    assert "SNUG_HOME" in str(found.remedy)


def test_a_read_only_home_is_broken(settings: Settings, tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows folders have no write bit")
    if os.geteuid() == 0:
        folder = Path("/proc")  # where even root makes no files
        if not folder.is_dir():
            pytest.skip("no folder here that root can't write")
    else:
        folder = tmp_path / "read only"
        folder.mkdir(mode=0o555)
    assert machine.check_home(replace(settings, home=folder)).level == "broken"


def test_the_bundled_starter_is_complete(settings: Settings) -> None:
    assert models.check_starter(settings).level == "ok"


@pytest.mark.parametrize(
    "harm", ["no folder", "no weights", "weights cut off", "no tokenizer", "config cut off"]
)
def test_a_damaged_starter_is_broken(settings: Settings, tmp_path: Path, harm: str) -> None:
    copy = tmp_path / "starter"
    if harm != "no folder":
        shutil.copytree(settings.starter, copy)
    weights = copy / "model.safetensors"
    match harm:
        case "no weights":
            weights.unlink()
        case "weights cut off":
            weights.write_bytes(weights.read_bytes()[:-1000])
        case "no tokenizer":
            (copy / "tokenizer.json").unlink()
        case "config cut off":
            (copy / "config.json").write_text('{"model_type":', encoding="utf-8")
    found = models.check_starter(replace(settings, starter=copy))
    assert found.level == "broken"
    assert "assets/starter" in str(found.remedy)


def test_a_model_folder_that_does_not_exist_is_named(settings: Settings, tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.mkdir()
    asked = replace(settings, model_folders=(there, gone, settings.home / "models"))
    found = list(models.check_folders(asked))
    assert [entry.level for entry in found] == ["warning", "ok"]
    assert str(gone) in str(found[0].detail)


def test_a_described_gpu_with_a_cpu_torch_is_a_warning(nvml_driver: NvmlDriver, tmp_path: Path) -> None:
    build = torch_build()
    if build is None or build.cuda is not None:
        pytest.skip("needs a torch built for the CPU")
    script = (
        "import json; from backends import doctor; from backends.hardware.detect import detect\n"
        "from backends.settings import load_settings\n"
        "settings = load_settings(); found = doctor.examine(detect(settings.home), settings)\n"
        "print(json.dumps([[one.detail.code, one.level] for one in found]))"
    )
    env = nvml_driver(HARDWARE_FILES / "four_3090_one_busy.json")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **env, "SNUG_HOME": str(tmp_path)},
    )
    found = dict(json.loads(done.stdout))
    assert found["doctor.gpus.seen"] == "ok"
    assert found["doctor.match.cpu_build"] == "warning"
    assert found["doctor.busy.known"] == "warning"


def test_the_driver_that_is_not_running_is_told(settings: Settings) -> None:
    snapshot = replace(hardware("no_gpu_32gb"), notes=(note("hardware.driver_not_loaded"),))
    assert codes(doctor.examine(snapshot, settings))["hardware.driver_not_loaded"] == "warning"


def spoken() -> dict[str, str]:
    """Every sentence of the doctor, from its source: code -> English template."""
    found = {}
    for path in sorted(Path(doctor.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"Text", "Text.of"}:
                code, template = (ast.literal_eval(argument) for argument in node.args[:2])
                found[code] = template
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_sentence_is_translated_with_the_same_figures(language: str) -> None:
    catalog = json.loads((ROOT / "ui" / "i18n" / f"{language}.json").read_text(encoding="utf-8"))
    sentences = spoken()
    assert len(sentences) > 40
    for code, template in sentences.items():
        assert set(re.findall(r"\{.*?\}", catalog[code])) == set(re.findall(r"\{.*?\}", template)), code
        assert language != "en" or catalog[code] == template


def test_converted_models_are_counted(settings: Settings) -> None:
    found = check_converted(settings)
    assert (found.level, str(settings.converted) in str(found.detail)) == ("ok", True)
    settings.converted.mkdir(parents=True)
    for name in ("q8_0", "mmproj-plain-f16"):
        (settings.converted / f"m-{'0' * 20}-{name}.gguf").write_bytes(bytes(1024))
    detail = str(check_converted(settings).detail)
    assert detail.startswith("1, which take 2.0 KB of at most 40.0 GB in ")


def test_a_folder_for_converted_models_that_can_not_be_written_is_told(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    settings.converted.write_text("not a folder", encoding="utf-8")
    found = check_converted(settings)
    assert found.level == "warning"
    assert str(settings.converted) in str(found.detail)
    assert "SNUG_HOME" in str(found.remedy)
