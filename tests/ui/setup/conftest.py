"""A copy of Snug with a small finished environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ui.setup.stamp import write_stamp

ROOT = Path(__file__).parents[3]


CLI = """
import os, sys
def main(arguments):
    if arguments == ["wait"] or arguments == ["web"]:
        print("ready", flush=True)
        sys.stdin.read()
    print(ascii([arguments, os.getcwd(), sys.argv[0], "" in sys.path, sys.flags.utf8_mode]))
    return 5
"""


@pytest.fixture(scope="module")
def bare_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("环境 with space") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


@pytest.fixture
def copy_of_snug(tmp_path: Path, bare_venv: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a person has it: the launcher, a small ui/cli.py and a finished environment."""
    root = tmp_path / "我的 snug"
    (root / "ui").mkdir(parents=True)
    (root / "ui" / "__init__.py").touch()
    (root / "ui" / "cli.py").write_text(CLI, encoding="utf-8")
    for name in ("launch.py", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ROOT / "ui" / "setup", root / "ui" / "setup")
    shutil.copytree(bare_venv, root / ".venv", symlinks=True)
    monkeypatch.delenv("SNUG_VENV", raising=False)
    write_stamp(str(root), str(root / ".venv"), [""])
    return root
