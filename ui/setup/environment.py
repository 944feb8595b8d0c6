"""Looks at an environment: is it there, whole and ours, and what would have to be mended."""

import csv
import os
import re
import subprocess
from typing import Any

from ui.setup.places import LOCK, LOG, site_packages, venv_python
from ui.setup.stamp import files_mark, read_requirements, read_stamp
from ui.setup.torch_build import NEWEST_PYTHON, OLDEST_PYTHON, numbers


def examine_venv(root: str, folder: str, repair: bool = False) -> dict[str, Any]:
    """Describe the environment at `folder` in the terms of System; `repair` trusts no stamp."""
    found: dict[str, Any] = {"venv": "missing", "old_pip": True, "damaged": [], "installed_torch": None}
    inside = set(os.listdir(folder)) if os.path.isdir(folder) else set()
    if not inside - {LOCK, LOG}:
        return found
    if "pyvenv.cfg" not in inside and LOCK not in inside and os.environ.get("SNUG_VENV"):
        return found | {"venv": "foreign"}
    python = venv_python(folder)
    if not runs_as(python, folder):
        return found | {"venv": "broken"}
    pip = re.match(r"pip (\S+)", ask_python(python, "-I", "-m", "pip", "--version"))
    site = site_packages(folder)
    damaged = damaged_packages(site)
    names = sorted(os.listdir(site)) if os.path.isdir(site) else []
    if not pip:
        damaged = sorted(set(damaged).union(name for name in names if re.match(r"pip(-.*)?$", name)))
    torch = [name for name in names if re.match(r"torch-.*\.dist-info$", name) and name not in damaged]
    stamp, requirements = read_stamp(folder), read_requirements(root)
    noted = stamp.get("requirements", {})
    same_files = stamp.get("files") == files_mark(site) and not damaged and not repair
    ready = bool(pip) and same_files and noted.get("") == requirements[""]
    return {
        "venv": "ready" if ready else ("stale" if pip else "no_pip"),
        "old_pip": not pip or numbers(pip.group(1)) < (25, 2),
        "damaged": damaged,
        "installed_torch": torch[0][len("torch-") : -len(".dist-info")] if torch else None,
        "test_extra": ready and noted.get("test") == requirements["test"],
    }


def runs_as(python: str, folder: str) -> bool:
    """Whether an interpreter runs, suits, and belongs to the environment in this very folder."""
    ask = "import sys; print(sys.version_info[0], sys.version_info[1], sys.prefix)"
    version, _, prefix = ask_python(python, "-I", "-c", ask).replace(" ", ".", 1).partition(" ")
    same = prefix and os.path.exists(prefix) and os.path.samefile(prefix, folder)
    return bool(same) and OLDEST_PYTHON <= numbers(version) <= NEWEST_PYTHON


def ask_python(*command: str) -> str:
    """Return what a short command prints, "" when it fails."""
    try:
        output = subprocess.check_output(
            command, stderr=subprocess.DEVNULL, encoding="utf-8", errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return output.strip()


def damaged_packages(site: str) -> list[str]:
    """Name the packages that an interruption or a deletion left incomplete, by pip's own record of them.

    pip writes INSTALLER after every file of the package, and renames what it is removing to a name with "~".
    """
    names = sorted(os.listdir(site)) if os.path.isdir(site) else []
    return [
        name
        for name in names
        if name.startswith("~") or (name.endswith(".dist-info") and not is_whole(site, name))
    ]


def is_whole(site: str, info: str) -> bool:
    """Whether every file that a package's record names is there, and not shorter than it says."""
    try:
        os.stat(os.path.join(site, info, "INSTALLER"))
        with open(os.path.join(site, info, "RECORD"), encoding="utf-8") as record:
            rows = [row for row in csv.reader(record) if row[2] and not row[0].endswith(".pyc")]
        return all(os.path.getsize(os.path.join(site, row[0])) >= int(row[2]) for row in rows)
    except (OSError, ValueError, IndexError):
        return False
