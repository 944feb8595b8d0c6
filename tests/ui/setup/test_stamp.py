"""When a finished environment still counts as finished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.environments import put_package
from ui.setup.places import STAMP, site_packages, venv_python
from ui.setup.stamp import is_ready, read_requirements, write_stamp


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda root: (root / ".venv" / STAMP).unlink(), id="no stamp"),
        pytest.param(lambda root: (root / ".venv" / STAMP).write_text('{"pyp'), id="half a stamp"),
        pytest.param(lambda root: (root / ".venv" / STAMP).write_text("[]"), id="not a stamp"),
        pytest.param(lambda root: Path(venv_python(str(root / ".venv"))).unlink(), id="no python"),
        pytest.param(lambda root: (root / "pyproject.toml").write_text("x = 1"), id="other requirements"),
        pytest.param(
            lambda root: put_package(root / ".venv", "extra", {"extra/a.py": "1"}), id="other packages"
        ),
        pytest.param(
            lambda root: (root / "ui" / "setup" / "torch_build.py").write_text("x = 1"), id="other builds"
        ),
        pytest.param(lambda root: shutil.rmtree(root / ".venv"), id="no environment"),
    ],
)
def test_whatever_changed_ends_the_warm_start(copy_of_snug: Path, damage: Any) -> None:
    venv = str(copy_of_snug / ".venv")
    assert is_ready(str(copy_of_snug), venv, "web")
    damage(copy_of_snug)
    assert not is_ready(str(copy_of_snug), venv, "web")


def test_the_stamp_knows_the_test_extra(copy_of_snug: Path) -> None:
    venv = str(copy_of_snug / ".venv")
    assert not is_ready(str(copy_of_snug), venv, "test")
    write_stamp(str(copy_of_snug), venv, ["", "test"])
    write_stamp(str(copy_of_snug), venv, [""])
    # still noted, as it is still what pyproject.toml asks for
    assert is_ready(str(copy_of_snug), venv, "test")


@pytest.mark.parametrize("path", ["wheel/a.py", "wheel"])
def test_a_file_deleted_from_a_package_ends_the_warm_start(copy_of_snug: Path, path: str) -> None:
    venv = copy_of_snug / ".venv"
    put_package(venv, "wheel", {"wheel/a.py": "1", "wheel/b.py": "2"})
    write_stamp(str(copy_of_snug), str(venv), [""])
    (venv / "pip-cache").mkdir()  # beside the packages: no matter
    site = Path(site_packages(str(venv)))
    (site / "wheel" / "__pycache__").mkdir()
    (site / "wheel" / "hash_seed.txt").write_text("Gradio's, made at its first start", encoding="utf-8")
    assert is_ready(str(copy_of_snug), str(venv), "web")
    target = site / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert not is_ready(str(copy_of_snug), str(venv), "web")


def test_the_stamp_holds_values_only(copy_of_snug: Path) -> None:
    stamp = json.loads((copy_of_snug / ".venv" / STAMP).read_text(encoding="utf-8"))
    assert set(stamp) == {"decisions", "python", "driver", "files", "requirements"}
    assert stamp["requirements"][""] == read_requirements(str(copy_of_snug))[""]
