"""How a half-made or damaged environment is recognised: real small ones, made without pip."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.environments import put_package
from ui.setup.environment import damaged_packages, examine_venv
from ui.setup.perform import clear
from ui.setup.places import LOCK, site_packages, venv_python


@pytest.mark.parametrize(
    ("make", "state"),
    [
        pytest.param(shutil.rmtree, "missing", id="nothing"),
        pytest.param(lambda venv: clear(str(venv)), "missing", id="an empty folder"),
        pytest.param(
            lambda venv: (clear(str(venv)), (venv / LOCK).touch()),
            "missing",
            id="only our lock",
        ),
        pytest.param(lambda venv: (venv / "pyvenv.cfg").unlink(), "broken", id="stopped before pyvenv.cfg"),
        pytest.param(
            lambda venv: shutil.rmtree(Path(venv_python(str(venv))).parent),
            "broken",
            id="programs deleted",
        ),
        pytest.param(lambda venv: None, "no_pip", id="stopped before pip"),
    ],
)
def test_a_half_made_environment_is_recognised(copy_of_snug: Path, make: Any, state: str) -> None:
    make(copy_of_snug / ".venv")
    assert examine_venv(str(copy_of_snug), str(copy_of_snug / ".venv"))["venv"] == state


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        pytest.param(lambda package, info: None, [], id="whole"),
        pytest.param(
            lambda package, info: (package / "a.py").unlink(), ["tool-1.0.dist-info"], id="file deleted"
        ),
        pytest.param(
            lambda package, info: (package / "a.py").write_text("x"), ["tool-1.0.dist-info"], id="truncated"
        ),
        pytest.param(
            lambda package, info: (package / "a.py").write_text("longer than before"), [], id="edited"
        ),
        pytest.param(
            lambda package, info: (info / "INSTALLER").unlink(), ["tool-1.0.dist-info"], id="interrupted"
        ),
        pytest.param(
            lambda package, info: (info / "RECORD").unlink(), ["tool-1.0.dist-info"], id="no record"
        ),
        pytest.param(
            lambda package, info: (info / "RECORD").write_text("a,b\n,"),
            ["tool-1.0.dist-info"],
            id="bad record",
        ),
        pytest.param(lambda package, info: package.with_name("~ool").mkdir(), ["~ool"], id="half removed"),
    ],
)
def test_incomplete_packages_are_found(tmp_path: Path, damage: Any, found: list[str]) -> None:
    site = Path(site_packages(str(tmp_path)))
    package = put_package(tmp_path, "tool", {"tool/a.py": "import os\n", "tool/b.py": "1\n"})
    damage(package, package.parent / "tool-1.0.dist-info")
    assert damaged_packages(str(package.parent)) == found
    assert site.name == "site-packages"
