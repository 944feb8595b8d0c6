"""Looks at this machine, or reads the description of another one."""

import dataclasses
import json
import os
import platform
import shutil
import sys
import tempfile
import urllib.request

from ui.setup.console import console_is_ours
from ui.setup.decide import venv_folder
from ui.setup.environment import examine_venv
from ui.setup.nvidia import nvidia
from ui.setup.places import data_folder
from ui.setup.problems import Problem
from ui.setup.stamp import read_requirements
from ui.setup.torch_build import torch_build, torch_index, torch_is_right
from ui.setup.types import System


def observe(root: str, repair: bool) -> System:
    """Describe this machine and the environment on it."""
    beside, named = os.path.join(root, ".venv"), os.environ.get("SNUG_VENV")
    driver, capability = nvidia()
    system = System(
        root=root,
        data_folder=data_folder(),
        os={"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux"),
        machine="arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64",
        python=".".join(map(str, sys.version_info[:3])),
        executable=getattr(sys, "_base_executable", sys.executable),
        root_writable=can_write(beside if os.path.isdir(beside) else root),
        long_paths=long_paths(),
        nvidia_driver=driver,
        compute_capability=capability,
        double_click=console_is_ours(),
        snug_venv=os.path.abspath(named) if named else None,
    )
    folder, _ = venv_folder(system)
    existing = folder
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    free = shutil.disk_usage(existing).free
    system = dataclasses.replace(system, free_bytes=free, **examine_venv(root, folder, repair))
    build, _ = torch_build(system)
    pinned = next(name for name in read_requirements(root)[""] if name.startswith("torch=="))
    if torch_is_right(system, build, pinned.partition("==")[2]):
        return system
    reachable = build == "plain" or index_reachable(build)
    stale = system.venv == "ready" and reachable  # a driver that came later asks for another build
    return dataclasses.replace(system, index_reachable=reachable, venv="stale" if stale else system.venv)


def described(root: str, file_name: str) -> System:
    """Read a described machine; raises Problem for a file that is not one."""
    plain = System(root=root, data_folder=data_folder())
    known = dataclasses.asdict(plain)
    try:
        with open(file_name, encoding="utf-8") as file:
            given = dict(json.load(file))
    except (OSError, ValueError, TypeError) as error:
        remedy = "name a file with a JSON object"
        raise Problem("the described machine can't be read", str(error), remedy, code=2) from error
    wrong = [key for key in given if key not in known or not isinstance(given[key], fits(known[key]))]
    if wrong:
        remedy = "the keys are " + ", ".join(known)
        why = "unknown or of the wrong type: " + ", ".join(wrong)
        raise Problem("the described machine has mistakes", why, remedy, code=2)
    return dataclasses.replace(plain, **given)


def fits(value: object) -> tuple[type, ...]:
    """Return the types that may stand in place of a value; texts may be absent."""
    return (str, type(None)) if value is None or isinstance(value, str) else (type(value),)


def can_write(folder: str) -> bool:
    """Try it: permission bits say little on Windows, and nothing on a read-only disk."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def long_paths() -> bool:
    """Whether paths of more than 259 characters work here."""
    if sys.platform == "win32":
        import winreg

        try:
            name = r"SYSTEM\CurrentControlSet\Control\FileSystem"
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, name) as key:
                return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
        except OSError:
            return False
    else:
        return True


def index_reachable(build: str) -> bool:
    """Whether PyTorch's own package index answers; if not, the plain registry takes over at once."""
    try:
        url = torch_index(build) + "/torch/"  # ours, or the one that the person named
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310
        with urllib.request.urlopen(request, timeout=5):  # noqa: S310
            return True
    except (OSError, ValueError):
        return False
