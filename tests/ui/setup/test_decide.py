"""What is decided for a described machine: pure tables over Windows, Linux and macOS."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ui.setup.main import main

ROOT = Path(__file__).parents[3]

WINDOWS = {
    "os": "windows",
    "root": r"D:\我的 文档\snug",
    "data_folder": r"C:\Users\Li\AppData\Local\snug",
    "executable": r"C:\Python312\python.exe",
}

LINUX = {"os": "linux", "root": "/home/li/snug", "data_folder": "/home/li/.local/share/snug"}

MAC = {"os": "macos", "machine": "arm64", "root": "/Users/li/snug", "data_folder": "/Users/li/Library/snug"}

FRESH = ["create", "renew", "torch", "packages", "verify", "stamp", "start"]


@pytest.fixture
def dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def ask(system: dict[str, Any], *arguments: str) -> tuple[int, dict[str, Any]]:
        file = tmp_path / "机器 one.json"
        file.write_text(json.dumps(system), encoding="utf-8")
        code = main(["--dry-run", "--json", "--system", str(file), *arguments], str(ROOT))
        return code, json.loads(capsys.readouterr().out)

    return ask


def torch_source(answer: dict[str, Any]) -> list[str]:
    """Return what pip is asked for: the requirement and where it looks."""
    step = next(step for step in answer["steps"] if step["action"] == "torch")
    return step["command"][step["command"].index("--prefer-binary") + 1 :]


def own_index(build: str) -> list[str]:
    return [f"torch==2.13.0+{build}", "--index-url", f"https://download.pytorch.org/whl/{build}"]


PLAIN = ["torch==2.13.0"]


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        pytest.param(LINUX, own_index("cpu"), id="linux, no GPU"),
        pytest.param(WINDOWS, own_index("cpu"), id="windows, no GPU"),
        pytest.param(MAC, PLAIN, id="mac: Metal comes from the plain registry"),
        pytest.param(
            LINUX | {"nvidia_driver": "580.65.06", "compute_capability": "9.0"}, own_index("cu130"), id="H100"
        ),
        pytest.param(
            WINDOWS | {"nvidia_driver": "581.42", "compute_capability": "8.9"},
            own_index("cu130"),
            id="RTX 4070",
        ),
        pytest.param(
            LINUX | {"nvidia_driver": "550.54.14", "compute_capability": "8.6"},
            own_index("cu126"),
            id="driver of the CUDA 12 days",
        ),
        pytest.param(
            LINUX | {"nvidia_driver": "580.65.06", "compute_capability": "6.1"},
            own_index("cu126"),
            id="Pascal: CUDA 13 dropped it",
        ),
        pytest.param(
            WINDOWS | {"nvidia_driver": "527.41", "compute_capability": "8.6"},
            own_index("cpu"),
            id="windows driver below 528",
        ),
        pytest.param(
            LINUX | {"nvidia_driver": "525.60.13", "compute_capability": "7.0"},
            own_index("cu126"),
            id="oldest linux driver that will do",
        ),
        pytest.param(
            LINUX | {"nvidia_driver": "470.256", "compute_capability": "3.5"}, own_index("cpu"), id="Kepler"
        ),
        pytest.param(
            WINDOWS | {"nvidia_driver": "576.80", "compute_capability": "12.0"},
            own_index("cu130"),
            id="Blackwell needs CUDA 13 whatever the driver",
        ),
        pytest.param(
            LINUX | {"machine": "arm64", "nvidia_driver": "580.82", "compute_capability": "12.1"},
            own_index("cu130"),
            id="linux on arm with a GPU",
        ),
        pytest.param(
            WINDOWS | {"machine": "arm64", "nvidia_driver": "580.82"}, own_index("cpu"), id="windows on arm"
        ),
        pytest.param(
            LINUX | {"nvidia_driver": "580.82", "index_reachable": False}, PLAIN, id="own index out of reach"
        ),
        pytest.param(LINUX | {"index_reachable": False}, PLAIN, id="own index out of reach, no GPU"),
    ],
)
def test_torch_build_suits_the_machine(dry_run: Any, system: dict[str, Any], expected: list[str]) -> None:
    code, answer = dry_run(system)
    assert code == 0
    assert torch_source(answer) == expected
    assert [step["action"] for step in answer["steps"]] == FRESH


@pytest.mark.parametrize(
    ("system", "words"),
    [
        (WINDOWS | {"nvidia_driver": "576.80", "compute_capability": "12.0"}, ["580", "576.80"]),
        (LINUX | {"nvidia_driver": "470.256", "compute_capability": "7.5"}, ["too old", "470.256"]),
        (LINUX | {"nvidia_driver": "530.30", "compute_capability": "3.5"}, ["older than"]),
        (WINDOWS | {"nvidia_driver": "581.42", "index_reachable": False}, ["can't be reached", "--repair"]),
        (LINUX | {"nvidia_driver": "550.1", "index_reachable": False}, ["can't be reached"]),
        (LINUX | {"root_writable": False}, ["read-only", "/home/li/.local/share/snug/venv-"]),
        (WINDOWS | {"root": "D:\\" + "很长" * 40}, ["too long", r"C:\Users\Li\AppData\Local\snug\venv-"]),
        (LINUX | {"snug_venv": "/fast/venv"}, ["SNUG_VENV", "/fast/venv"]),
    ],
)
def test_what_a_person_should_know_is_noted(dry_run: Any, system: dict[str, Any], words: list[str]) -> None:
    _, answer = dry_run(system)
    assert all(any(word in note for note in answer["notes"]) for word in words)


@pytest.mark.parametrize(
    "system",
    [
        pytest.param(LINUX, id="linux"),
        pytest.param(WINDOWS, id="windows"),
        pytest.param(MAC, id="mac"),
        pytest.param(
            LINUX | {"nvidia_driver": "580.82", "index_reachable": False}, id="plain build is CUDA 13"
        ),
        pytest.param(
            WINDOWS | {"root": "D:\\" + "很长" * 40, "long_paths": True}, id="long paths switched on"
        ),
    ],
)
def test_nothing_is_noted_when_nothing_is_odd(dry_run: Any, system: dict[str, Any]) -> None:
    _, answer = dry_run(system)
    assert answer["notes"] == []


def test_windows_paths_stay_windows_paths(dry_run: Any) -> None:
    _, answer = dry_run(WINDOWS)
    create, pip = answer["steps"][0]["command"], answer["steps"][1]["command"]
    assert create == [r"C:\Python312\python.exe", "-m", "venv", r"D:\我的 文档\snug\.venv"]
    assert pip[0] == r"D:\我的 文档\snug\.venv\Scripts\python.exe"


@pytest.mark.parametrize(
    ("state", "actions"),
    [
        pytest.param({"venv": "missing"}, FRESH, id="nothing there"),
        pytest.param({"venv": "broken"}, ["clear", *FRESH], id="python of the environment does not run"),
        pytest.param(
            {"venv": "no_pip", "damaged": ["pip-26.0.dist-info"], "installed_torch": "2.13.0+cpu"},
            ["sweep", "pip", "renew", "packages", "verify", "stamp", "start"],
            id="pip lost",
        ),
        pytest.param(
            {
                "venv": "stale",
                "old_pip": False,
                "damaged": ["gradio-6.31.0.dist-info"],
                "installed_torch": "2.13.0+cpu",
            },
            ["sweep", "packages", "verify", "stamp", "start"],
            id="a package lost files",
        ),
        pytest.param(
            {"venv": "stale", "old_pip": False, "installed_torch": "2.13.0+cpu"},
            ["packages", "verify", "stamp", "start"],
            id="requirements changed",
        ),
        pytest.param(
            {"venv": "stale", "old_pip": False, "installed_torch": "2.12.0+cpu"},
            ["torch", "packages", "verify", "stamp", "start"],
            id="torch was raised",
        ),
        pytest.param(
            {"venv": "stale", "old_pip": False, "installed_torch": "2.13.0+cpu", "nvidia_driver": "580.82"},
            ["torch", "packages", "verify", "stamp", "start"],
            id="a GPU came later",
        ),
        pytest.param(
            {"venv": "stale", "old_pip": False, "installed_torch": "2.13.0", "nvidia_driver": "580.82"},
            ["packages", "verify", "stamp", "start"],
            id="the plain linux build has CUDA 13 already",
        ),
        pytest.param({"venv": "ready"}, ["start"], id="nothing changed"),
    ],
)
def test_only_what_is_missing_is_done(dry_run: Any, state: dict[str, Any], actions: list[str]) -> None:
    _, answer = dry_run(LINUX | state)
    assert [step["action"] for step in answer["steps"]] == actions


@pytest.mark.parametrize("command", ["test", "check"])
def test_the_test_extra_is_installed_for_those_who_need_it(dry_run: Any, command: str) -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]["test"]
    ready = LINUX | {"venv": "ready", "installed_torch": "2.13.0+cpu", "old_pip": False}
    _, answer = dry_run(ready, command)
    packages = next(step for step in answer["steps"] if step["action"] == "packages")
    assert set(extra) <= set(packages["command"])
    _, answer = dry_run(ready | {"test_extra": True}, command)
    assert [step["action"] for step in answer["steps"]] == ["start"]
    _, answer = dry_run(LINUX, "doctor")
    assert not any(set(extra) & set(step["command"]) for step in answer["steps"])


@pytest.mark.parametrize(
    ("system", "code", "words"),
    [
        pytest.param(LINUX | {"python": "3.8.10"}, 3, ["3.11", "3.8.10", "python3.12"], id="old python"),
        pytest.param(WINDOWS | {"python": "3.16.0"}, 3, ["3.15", "3.16.0"], id="python newer than torch"),
        pytest.param(MAC | {"machine": "x86_64"}, 3, ["Intel", "Apple silicon"], id="intel mac"),
        pytest.param(LINUX | {"free_bytes": 10**9}, 3, ["disk", "1.0 GB", "4 GB"], id="full disk"),
        pytest.param(
            LINUX | {"free_bytes": 8 * 10**9, "nvidia_driver": "580.82"}, 3, ["8.0 GB"], id="CUDA needs more"
        ),
        pytest.param(
            LINUX | {"venv": "foreign", "snug_venv": "/etc"}, 2, ["/etc", "SNUG_VENV"], id="a folder in use"
        ),
        pytest.param({"sunroof": True}, 2, ["sunroof"], id="unknown key"),
        pytest.param({"free_bytes": "much"}, 2, ["free_bytes"], id="wrong type"),
    ],
)
def test_a_hopeless_start_says_what_why_and_what_to_do(
    dry_run: Any, system: dict[str, Any], code: int, words: list[str]
) -> None:
    got, answer = dry_run(system)
    lines = answer["problem"].splitlines()
    assert got == answer["exit_code"] == code
    assert [line.partition(":")[0] for line in lines] == ["error", "why", "try"]
    assert all(word in answer["problem"] for word in words)


def test_an_old_python_hands_over_to_a_newer_one(dry_run: Any) -> None:
    _, answer = dry_run(
        WINDOWS | {"python": "3.9.1", "other_python": r"C:\Py312\python.exe"}, "plan", "starter"
    )
    assert [step["command"] for step in answer["steps"]] == [
        [r"C:\Py312\python.exe", r"D:\我的 文档\snug\launch.py", "plan", "starter"]
    ]
