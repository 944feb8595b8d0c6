"""launch.py itself: read by any Python 3, and no more than the way into ui.setup."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import launch
from ui.setup import torch_build
from ui.setup.decide import unsuitable_python

LAUNCHER = Path(launch.__file__)


@pytest.mark.parametrize("version", [(3, 4), (3, 5), (3, 6), (3, 8)])
def test_any_python_3_can_read_it_far_enough(version: tuple[int, int]) -> None:
    tree = ast.parse(LAUNCHER.read_text(encoding="utf-8"), feature_version=version)
    # newer parsers accept f-strings and annotated variables for every version
    assert not [
        node for node in ast.walk(tree) if isinstance(node, (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr))
    ]


def imported(file: Path) -> set[str]:
    """Return the modules that a file imports anywhere."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def test_only_old_modules_are_imported_before_the_version_check() -> None:
    body = ast.parse(LAUNCHER.read_text(encoding="utf-8")).body
    names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"os", "signal", "sys"}
    assert not any(isinstance(node, ast.ImportFrom) for node in body)
    check, way_in = (ast.unparse(node.test) for node in body[-2:] if isinstance(node, ast.If))
    assert "OLDEST" in check
    assert way_in == "__name__ == '__main__'"


@pytest.mark.parametrize(
    "file", [LAUNCHER, *sorted((LAUNCHER.parent / "ui" / "setup").glob("*.py"))], ids=lambda file: file.stem
)
def test_setting_up_needs_the_standard_library_alone(file: Path) -> None:
    others = {name for name in imported(file) if not name.startswith("ui.setup.")}
    assert {name.partition(".")[0] for name in others} <= sys.stdlib_module_names


def test_versions_agree_with_pyproject() -> None:
    project = tomllib.loads((LAUNCHER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=" + ".".join(map(str, launch.OLDEST))
    # the tables of CUDA builds and of Python versions hold for this release; look them up again when it moves
    assert "torch==2.13.0" in project["dependencies"]


def test_it_says_the_same_of_a_real_and_a_described_python() -> None:
    assert (torch_build.OLDEST_PYTHON, torch_build.NEWEST_PYTHON) == (launch.OLDEST, launch.NEWEST)
    assert str(unsuitable_python("3.8.10")) == launch.python_version_advice("3.8.10")


AS_OLD = """
import runpy, sys
sys.version_info, sys.version = (3, 8, 10, "final", 0), "3.8.10 (default)"
sys.argv = {arguments!r}
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert not [name for name in sys.modules if name.partition(".")[0] == "ui"]
"""


def start_as_old(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Start launch.py under a Python that says it is 3.8."""
    return subprocess.run(
        [sys.executable, "-c", AS_OLD.format(arguments=[str(LAUNCHER), *arguments])],
        env=os.environ | environ,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_an_old_python_learns_which_one_is_needed() -> None:
    done = start_as_old(SNUG_RELAUNCHED="1")
    assert done.returncode == 3
    assert done.stderr.strip() == launch.python_version_advice("3.8.10")


@pytest.mark.skipif(os.name == "nt", reason="there the py launcher is asked first")
def test_an_old_python_goes_on_with_a_newer_one_that_it_finds(tmp_path: Path) -> None:
    (tmp_path / "python3.12").symlink_to("/bin/false")  # there, and good for nothing
    (tmp_path / "python3.11").symlink_to(sys.executable)
    done = start_as_old("--help", PATH=str(tmp_path))
    assert done.stderr.startswith("Python 3.8.10 is not suitable, going on with ")
    assert done.stdout.startswith("usage: python launch.py")
    assert done.returncode == 0


def test_alone_it_asks_for_the_rest(tmp_path: Path) -> None:
    alone = shutil.copy(LAUNCHER, tmp_path / "launch.py")
    done = subprocess.run(
        [sys.executable, alone],
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONUTF8": "1"},
        check=False,
    )
    assert done.returncode == 3
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["error", "why", "try"]
    assert str(tmp_path) in done.stderr
