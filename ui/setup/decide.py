"""Decides every step of setting up from values alone; what `--dry-run` prints and the tests check."""

import ntpath
import posixpath

from ui.setup.handover import start_command
from ui.setup.options import groups_for
from ui.setup.places import environment_name
from ui.setup.problems import Problem
from ui.setup.torch_build import (
    NEEDED_BYTES,
    NEWEST_PYTHON,
    OLDEST_PYTHON,
    numbers,
    torch_build,
    torch_steps,
)
from ui.setup.types import Plan, Step, System

LONGEST_FILE = 195  # characters below the environment; Windows allows 259 in all unless told otherwise


def plan(system: System, requirements: dict[str, list[str]], arguments: list[str]) -> Plan:
    """Decide every step; raises Problem when there is no way."""
    folder, note = venv_folder(system)
    build, torch_note = torch_build(system)
    join = (ntpath if system.os == "windows" else posixpath).join
    if not OLDEST_PYTHON <= numbers(system.python)[:2] <= NEWEST_PYTHON:
        if system.other_python is None:
            raise unsuitable_python(system.python)
        command = [system.other_python, join(system.root, "launch.py"), *arguments]
        return Plan(folder, build, [], [Step("switch", "Go on with another Python", command)])
    python = join(folder, *(("Scripts", "python.exe") if system.os == "windows" else ("bin", "python")))
    start = Step("start", " ".join(["Start Snug", *arguments]), start_command(python, system.root, arguments))
    notes = [text for text in (note, torch_note) if text]
    groups = groups_for(arguments[0] if arguments else "")
    if system.venv == "ready" and (system.test_extra or "test" not in groups):
        return Plan(folder, build, notes, [start])
    check_machine(system, folder, build)
    names = [name for group in groups for name in requirements[group]]
    pip = [python, "-I", "-m", "pip", "install", "--prefer-binary"]
    pinned = next(name for name in names if name.startswith("torch=="))
    torch, index_note = torch_steps(system, build, pinned, pip)
    steps = [
        *venv_steps(system, folder, python, pip),
        *torch,
        Step("packages", "Install the libraries", [*pip, *names]),
        Step("verify", "Try PyTorch", [python, "-I", "-c", "import torch; print(torch.__version__)"]),
        Step("stamp", "Note that all is done", []),
        start,
    ]
    return Plan(folder, build, notes + [text for text in (index_note,) if text], steps)


def venv_folder(system: System) -> tuple[str, str]:
    """Return where the environment belongs and, when that is not beside launch.py, why."""
    if system.snug_venv:
        return system.snug_venv, f"The environment is in {system.snug_venv} (SNUG_VENV)."
    join = (ntpath if system.os == "windows" else posixpath).join
    beside = join(system.root, ".venv")
    elsewhere = join(system.data_folder, environment_name(system.root))
    if not system.root_writable:
        return elsewhere, f"{system.root} is read-only, so the environment is in {elsewhere}."
    if system.os == "windows" and not system.long_paths and len(beside) + LONGEST_FILE > 259:
        why = f"The path of {system.root} is too long for Windows, so the environment is in {elsewhere}."
        return elsewhere, why
    return beside, ""


def venv_steps(system: System, folder: str, python: str, pip: list[str]) -> list[Step]:
    """Bring about an environment with a pip that works and no half-written package."""
    steps = []
    if system.venv == "broken":
        steps.append(Step("clear", "Remove a damaged environment", []))
    if system.venv in ("missing", "broken"):
        steps.append(Step("create", "Make the environment", [system.executable, "-m", "venv", folder]))
    if system.damaged:
        names = ", ".join(name.split("-")[0].lstrip("~") for name in system.damaged[:5])
        steps.append(Step("sweep", f"Clear away incomplete packages: {names}", list(system.damaged)))
    if system.venv == "no_pip":
        steps.append(Step("pip", "Bring pip back", [python, "-I", "-m", "ensurepip", "--default-pip"]))
    if system.old_pip:  # newer ones go on where a broken download stopped, and tell how far they are
        options = ["--upgrade", "pip>=25.2", "--retries", "1", "--timeout", "15"]
        steps.append(Step("renew", "Renew pip", pip + options))
    return steps


def check_machine(system: System, folder: str, build: str) -> None:
    """Raise Problem when it is clear beforehand that the installation can't work."""
    if (system.os, system.machine) == ("macos", "x86_64"):
        raise Problem(
            "PyTorch no longer supports Macs with an Intel processor",
            "its last version for them is 2.2",
            "use a Mac with Apple silicon, Windows or Linux",
        )
    if system.venv == "foreign":
        raise Problem(
            f"{folder} is in use for something else",
            "it has files and is not a Python environment",
            "name an empty or new folder in SNUG_VENV",
            code=2,
        )
    if system.venv == "missing" and system.free_bytes < NEEDED_BYTES[build]:
        free, needed = system.free_bytes / 1e9, NEEDED_BYTES[build] / 1e9
        why = f"{folder} has {free:.1f} GB free and {needed:.0f} GB are needed"
        remedy = "free some space, or name a folder on another disk in SNUG_VENV"
        raise Problem("the disk is too full to install Snug", why, remedy)


def unsuitable_python(version: str) -> Problem:
    """Say of a described machine what launch.py says on a real one."""
    oldest, newest = (".".join(map(str, pair)) for pair in (OLDEST_PYTHON, NEWEST_PYTHON))
    return Problem(
        f"Snug needs Python {oldest} to {newest} (64 bit)",
        f"this is Python {version}, and no suitable one was found on this machine",
        "install Python 3.12 from https://www.python.org/downloads/ and start Snug again; if it is "
        "installed, name it: py -3.12 launch.py (Windows) or python3.12 launch.py",
    )
