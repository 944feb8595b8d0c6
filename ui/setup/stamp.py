"""The stamp of a finished environment, and whether it still holds: all that a warm start reads."""

import hashlib
import json
import os
from typing import Any

from ui.setup.options import groups_for
from ui.setup.places import STAMP, site_packages, venv_python
from ui.setup.problems import Problem

DECISIONS = ("pyproject.toml", os.path.join("ui", "setup", "torch_build.py"))  # what to install is said there


def is_ready(root: str, folder: str, command: str) -> bool:
    """Whether nothing has changed since the stamp was written."""
    stamp = read_stamp(folder)
    try:
        marks = current_marks(root, folder)
    except OSError:
        return False
    noted = stamp.get("requirements", {})
    unchanged = all(stamp.get(key) == value for key, value in marks.items())
    return unchanged and all(group in noted for group in groups_for(command))


def read_stamp(folder: str) -> dict[str, Any]:
    """Return the stamp of a finished environment, {} when there is none to trust."""
    try:
        with open(os.path.join(folder, STAMP), encoding="utf-8") as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return {}
    whole = isinstance(stamp, dict) and isinstance(stamp.get("requirements"), dict)
    return stamp if whole and os.path.exists(venv_python(folder)) else {}


def write_stamp(root: str, folder: str, groups: list[str]) -> None:
    """Declare the environment finished, atomically; groups installed earlier stay noted while current."""
    known = read_stamp(folder).get("requirements", {})
    noted = {
        name: texts
        for name, texts in read_requirements(root).items()
        if name in groups or known.get(name) == texts
    }
    path = os.path.join(folder, STAMP)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump({**current_marks(root, folder), "requirements": noted}, file)
    os.replace(path + ".new", path)


def current_marks(root: str, folder: str) -> dict[str, object]:
    """Collect what a finished environment depends on, without starting a process. Raises OSError."""
    decisions = hashlib.sha256()
    for name in DECISIONS:
        with open(os.path.join(root, name), "rb") as file:
            decisions.update(file.read())
    return {
        "decisions": decisions.hexdigest(),
        "python": os.path.realpath(venv_python(folder)),
        "driver": driver_mark(),
        "files": files_mark(site_packages(folder)),
    }


def files_mark(site: str) -> str:
    """Hash the names in site-packages two levels deep: a few ms, and a deleted package or file shows.

    What packages write when they first run does not count: compiled files, and the seed that Gradio keeps.
    """
    digest = hashlib.sha256()
    for entry in sorted(os.scandir(site), key=lambda entry: entry.name) if os.path.isdir(site) else []:
        inside = sorted(os.listdir(entry.path)) if entry.is_dir() else []
        kept = [name for name in inside if name not in ("__pycache__", "hash_seed.txt")]
        digest.update(repr((entry.name, kept)).encode("utf-8"))
    return digest.hexdigest()


def driver_mark() -> list[object]:
    """Tell cheaply, without loading the driver's library, whether the driver may have changed."""
    if os.path.exists("/proc/driver/nvidia/version"):
        with open("/proc/driver/nvidia/version", encoding="utf-8", errors="replace") as file:
            return [file.read()]
    system_root = os.environ.get("SYSTEMROOT", r"C:\Windows")
    paths = (os.path.join(system_root, "System32", "nvml.dll"), "/usr/lib/wsl/lib/libnvidia-ml.so.1")
    return [[os.path.getsize(path), int(os.path.getmtime(path))] for path in paths if os.path.exists(path)]


def read_requirements(root: str) -> dict[str, list[str]]:
    """Read what pyproject.toml names: the dependencies under "", extras under their name. Raises Problem."""
    import tomllib

    try:
        with open(os.path.join(root, "pyproject.toml"), "rb") as file:
            project = tomllib.load(file)["project"]
        return {**project["optional-dependencies"], "": project["dependencies"]}
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        remedy = "get a complete copy of Snug and start again"
        raise Problem("pyproject.toml beside launch.py can't be read", str(error), remedy) from error
