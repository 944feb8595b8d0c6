"""Hardware descriptions: DESIGN's keys, completed where sparse, refused with the place where wrong."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from backends.errors import SettingInvalid
from backends.hardware.describe import from_json, read_file, to_json
from backends.hardware.detect import detect
from backends.hardware.locate import line_of

FILES = sorted((Path(__file__).resolve().parents[2] / "hardware").glob("*.json"))
GIB = 1024**3

FULL: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "hardware" / "four_3090_one_busy.json").read_text(encoding="utf-8")
)


def changed(path: list[str | int], value: object) -> dict[str, Any]:
    document = copy.deepcopy(FULL)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return document


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.stem != "sparse"], ids=lambda path: path.stem
)
def test_a_description_survives_the_round_trip(path: Path) -> None:
    assert to_json(read_file(path)) == json.loads(path.read_text(encoding="utf-8"))


def test_this_machine_survives_the_round_trip(tmp_path: Path) -> None:
    document = to_json(detect(tmp_path))
    assert to_json(from_json(json.loads(json.dumps(document)), "this machine")) == document


def test_the_keys_are_the_contracts() -> None:
    document = to_json(from_json(FULL, "test"))
    assert set(document) == {"os", "gpus", "ram", "cpu", "disk"}
    assert set(document["gpus"][0]) == {
        *("index", "name", "total_bytes", "free_bytes", "compute_capability", "utilization", "display"),
        *("memory_gbps", "pcie_gbps", "nvlink_peers", "processes"),
    }
    assert set(document["gpus"][1]["processes"][0]) == {"pid", "name", "bytes"}
    assert set(document["ram"]) == {"total_bytes", "available_bytes", "commit_limit_bytes", "memory_gbps"}
    assert set(document["cpu"]) == {"name", "cores", "features", "gflops_fp32"}
    assert set(document["disk"]) == {"path", "free_bytes", "read_gbps"}


def test_what_windows_still_promises_is_told_where_it_is_known() -> None:
    ram = {**FULL["ram"], "commit_limit_bytes": 20 * 2**30, "commit_available_bytes": 9 * 2**30}
    read = from_json({**FULL, "os": "windows", "ram": ram}, "test")
    assert read.ram.commit_available_bytes == 9 * 2**30
    assert to_json(read)["ram"] == ram
    assert from_json(to_json(read), "test") == read


def test_a_sparse_description_is_completed_and_says_what_is_assumed() -> None:
    document = {
        "os": "linux",
        "gpus": [{"name": "NVIDIA GeForce RTX 3060"}],
        "ram": {"total_bytes": 32 * GIB},
    }
    snapshot = from_json(document, "test")
    (gpu,) = snapshot.gpus
    assert (gpu.index, gpu.total_bytes, gpu.compute_capability) == (0, 12 * GIB, (8, 6))
    assert (gpu.memory_gbps, gpu.tflops_bf16) == (360, 25.5)
    assert 11 * GIB < gpu.free_bytes < 12 * GIB
    assert 16 * GIB < snapshot.ram.available_bytes < 32 * GIB
    assert snapshot.cpu.cores > 0
    assert snapshot.disk.read_gbps is not None
    assert {
        *("gpus[0].total_bytes", "gpus[0].free_bytes", "gpus[0].memory_gbps", "gpus[0].compute_capability"),
        *("gpus[0].pcie_gbps", "gpus[0].tflops_bf16", "ram.available_bytes", "ram.memory_gbps"),
        *("cpu.cores", "cpu.features", "cpu.gflops_fp32", "disk.free_bytes", "disk.read_gbps"),
    } == set(snapshot.assumed)


def test_what_is_given_is_never_called_assumed() -> None:
    assert {path.split(".")[-1] for path in from_json(FULL, "test").assumed} == {"tflops_bf16"}


@pytest.mark.parametrize("key", ["memory_gbps", "pcie_gbps", "compute_capability", "free_bytes"])
def test_null_means_unknown(key: str) -> None:
    snapshot = from_json(changed(["gpus", 2, key], None), "test")
    assert f"gpus[2].{key}" in snapshot.assumed
    assert getattr(snapshot.gpus[2], key) is not None


def test_the_whole_output_of_doctor_is_understood() -> None:
    printed = {"hardware": FULL, "findings": [], "ok": True}
    assert from_json(printed, "test") == from_json(FULL, "test")
    broken = {"hardware": changed(["gpus", 0, "name"], 3), "findings": []}
    with pytest.raises(SettingInvalid, match=r"hardware\.gpus\[0\]\.name"):
        from_json(broken, "test")


def test_a_key_that_no_version_knows_is_left_alone() -> None:
    assert len(from_json(changed(["made_by"], "someone"), "test").gpus) == 4


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        pytest.param(["os"], "beos", "os", id="unknown system"),
        pytest.param(["os"], None, "os", id="no system"),
        pytest.param(["os"], ["linux"], "os", id="system in a list"),
        pytest.param(["gpus"], {}, "gpus", id="GPUs are no list"),
        pytest.param(["gpus", 1], "RTX 3090", "gpus[1]", id="a GPU is no object"),
        pytest.param(["gpus", 1, "name"], "", "gpus[1].name", id="empty name"),
        pytest.param(["gpus", 1, "name"], 3090, "gpus[1].name", id="name is a number"),
        pytest.param(["gpus", 1, "total_bytes"], "24GB", "gpus[1].total_bytes", id="bytes as text"),
        pytest.param(["gpus", 1, "total_bytes"], 24.5, "gpus[1].total_bytes", id="bytes with a fraction"),
        pytest.param(["gpus", 1, "total_bytes"], True, "gpus[1].total_bytes", id="bytes as true"),
        pytest.param(["gpus", 1, "total_bytes"], 0, "gpus[1].total_bytes", id="no memory"),
        pytest.param(["gpus", 1, "total_bytes"], 10**30, "gpus[1].total_bytes", id="beyond any machine"),
        pytest.param(["gpus", 1, "free_bytes"], -1, "gpus[1].free_bytes", id="negative"),
        pytest.param(["gpus", 1, "free_bytes"], 10**12, "gpus[1].free_bytes", id="more free than total"),
        pytest.param(["gpus", 1, "index"], 0, "gpus[1].index", id="index given twice"),
        pytest.param(["gpus", 1, "index"], -1, "gpus[1].index", id="negative index"),
        pytest.param(["gpus", 1, "compute_capability"], 8.6, "gpus[1].compute_capability", id="8.6"),
        pytest.param(["gpus", 1, "compute_capability"], [8], "gpus[1].compute_capability", id="half a pair"),
        pytest.param(["gpus", 1, "utilization"], 101, "gpus[1].utilization", id="over 100 %"),
        pytest.param(["gpus", 1, "display"], "yes", "gpus[1].display", id="yes is not true"),
        pytest.param(["gpus", 1, "memory_gbps"], 0, "gpus[1].memory_gbps", id="no bandwidth"),
        pytest.param(["gpus", 1, "memory_gbps"], 10**400, "gpus[1].memory_gbps", id="no float holds it"),
        pytest.param(["gpus", 1, "memory_gbps"], 1e300, "gpus[1].memory_gbps", id="no machine has it"),
        pytest.param(["gpus", 1, "pcie_gbps"], float("inf"), "gpus[1].pcie_gbps", id="infinite"),
        pytest.param(
            ["gpus", 1, "nvlink_peers"], [7], "gpus[1].nvlink_peers[0]", id="peer that is not there"
        ),
        pytest.param(["gpus", 1, "nvlink_peers"], [1], "gpus[1].nvlink_peers[0]", id="its own peer"),
        pytest.param(["gpus", 1, "nvlink_peers"], ["0"], "gpus[1].nvlink_peers[0]", id="peer as text"),
        pytest.param(["gpus", 1, "processes", 0, "bytes"], "1", "gpus[1].processes[0].bytes", id="process"),
        pytest.param(["ram"], None, "ram", id="no RAM"),
        pytest.param(["ram", "total_bytes"], None, "ram.total_bytes", id="RAM without size"),
        pytest.param(
            ["ram", "available_bytes"], 10**13, "ram.available_bytes", id="more RAM free than there"
        ),
        pytest.param(["ram", "commit_limit_bytes"], 0, "ram.commit_limit_bytes", id="commit limit of zero"),
        pytest.param(["ram", "commit_available_bytes"], -1, "ram.commit_available_bytes", id="negative rest"),
        pytest.param(["cpu", "cores"], 0, "cpu.cores", id="no cores"),
        pytest.param(["cpu", "features"], "avx2", "cpu.features", id="features are no list"),
        pytest.param(["cpu", "features"], ["avx2", 1], "cpu.features[1]", id="a feature is no text"),
        pytest.param(["cpu", "gflops_fp32"], "fast", "cpu.gflops_fp32", id="speed as text"),
        pytest.param(["disk", "free_bytes"], -5, "disk.free_bytes", id="negative disk"),
    ],
)
def test_an_impossible_value_is_named_with_its_place(path: list[str | int], value: object, name: str) -> None:
    with pytest.raises(SettingInvalid) as caught:
        from_json(changed(path, value), "machine.json")
    assert caught.value.values["name"] == name
    assert "machine.json" in str(caught.value.why_text)
    assert str(caught.value.remedy_text)


@pytest.mark.parametrize(
    ("path", "suggested"),
    [
        pytest.param(["gpus", 0, "free_byte"], "free_bytes", id="letter missing"),
        pytest.param(["cpu", "feature"], "features", id="singular"),
        pytest.param(["gpu"], "gpus", id="at the top"),
    ],
)
def test_a_misspelt_key_is_recognised(path: list[str | int], suggested: str) -> None:
    document = changed(path, 1)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    del place[suggested]
    with pytest.raises(SettingInvalid, match=f"Write '{suggested}'"):
        from_json(document, "test")


@pytest.mark.parametrize("document", [None, [], "text", 3, True])
def test_what_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(SettingInvalid, match="not a JSON object"):
        from_json(document, "test")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b'{\n  "os": "linux",\n  "gpus": [,]\n}', "Line 3, column 12", id="syntax"),
        pytest.param(b"", "Line 1, column 1", id="empty"),
        pytest.param(b"\xff\xfe\x00{", "not a UTF-8 text", id="other encoding"),
        pytest.param(b'{"os": "linux", "gpus": [], "ram": {"total_bytes": NaN}}', "NaN", id="NaN"),
        pytest.param(
            b'{"os": "linux", "gpus": [], "ram": {"total_bytes": ' + b"9" * 5000 + b"}}",
            "thousands of digits",
            id="a number of 5,000 digits",
        ),
        pytest.param(b'{"os": "linux",\n "ram": {}}', "gpus can't be left out", id="a part left out"),
        pytest.param(b"[" * 100_000, "nested too deeply", id="nested too deeply"),
        pytest.param(
            b'{\n "os": "linux",\n "gpus": [\n  {"name": "A"},\n  {"name": "B",\n   "total_bytes": 1e9}]}',
            "line 4",
            id="total_bytes of a GPU that no table knows",
        ),
        pytest.param(
            b'\xef\xbb\xbf{"os": "linux",\n "gpus": [],\n\n "ram": {"total_bytes":\n -4}}',
            "line 5",
            id="with a byte order mark",
        ),
    ],
)
def test_a_bad_file_is_refused_with_the_line(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "机器 1.json"
    path.write_bytes(content)
    with pytest.raises(SettingInvalid) as caught:
        read_file(path)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["missing.json", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingInvalid, match=r"no such file|can't be read|not a valid path"):
        read_file(tmp_path / name)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param(["a"], 2, id="first key"),
        pytest.param(["b", 1, "c"], 5, id="key in the second of a list"),
        pytest.param(["b", 0], 3, id="number in a list"),
        pytest.param(["b", 1, "missing"], 4, id="missing key: its object"),
        pytest.param(["b", 9], 3, id="beyond the list: the list"),
        pytest.param([], 1, id="the whole"),
    ],
)
def test_lines_of_values(path: list[str | int], line: int) -> None:
    text = '{\n  "a" : "} \\" ,",\n  "b": [1,\n    {"x": [],\n     "c": null}]\n}'
    assert line_of(text, path) == line


def test_names_that_would_steer_a_terminal_are_read_without_that() -> None:
    held = {"pid": 1, "name": "\x1b[2Jx", "bytes": 0}
    card = {"name": "\x1b[31mcard", "total_bytes": 1 << 30, "processes": [held]}
    document = {"os": "linux", "gpus": [card], "ram": {"total_bytes": 1 << 34}, "cpu": {"name": "\u202ecpu"}}

    found = from_json(document, "test")

    assert (found.gpus[0].name, found.gpus[0].processes[0].name, found.cpu.name) == (
        "?[31mcard",
        "?[2Jx",
        "?cpu",
    )
