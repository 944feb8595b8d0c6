"""Starts Snug: makes .venv beside this file, installs what pyproject.toml names, hands over to ui.cli.

Standard library only, because it runs before anything is installed, and one file, because people double-click
it and it has to work alone. Everything above the version check runs, and everything below it parses, on any
Python 3: no f-strings, no annotated variables. There is no #! line: with one, the Windows launcher may pick
the Store's stub instead of Python.

`plan` decides from a described `System` and touches nothing; `observe` looks, `carry_out` does. The
environment is built in place, since its scripts hold absolute paths, and counts only once its stamp, written
last, is there: whatever interrupts the work, the next start sees no stamp, mends what is half-made, goes on.
"""

# ruff: noqa: E402, RUF005 - imports after the version check may need a recent Python; [*a, b] needs 3.5

import os
import re
import signal
import subprocess
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C ends it without a traceback until main() takes over

OLDEST, NEWEST = (3, 11), (3, 15)  # of pyproject.toml; of torch 2.13.0's wheels
ROOT = os.path.dirname(os.path.abspath(__file__))
PREFERRED = ("3.12", "3.13", "3.11", "3.14", "3.15")  # every dependency has wheels for the first three


def python_version_advice(version: str) -> str:
    """Return what a person with an unsuitable Python reads."""
    return (
        "error: Snug needs Python {0[0]}.{0[1]} to {1[0]}.{1[1]} (64 bit)\n"
        "why: this is Python {2}, and no suitable one was found on this machine\n"
        "try: install Python 3.12 from https://www.python.org/downloads/ and start Snug again; if it is "
        "installed, name it: py -3.12 launch.py (Windows) or python3.12 launch.py"
    ).format(OLDEST, NEWEST, version)


def find_other_python() -> "str | None":
    """Look for a suitable interpreter with the py launcher and on PATH; each is tried, not trusted."""
    candidates = ["python" + version for version in PREFERRED]
    if os.name == "nt":
        try:
            listing = subprocess.check_output(["py", "-0p"]).decode("utf-8", "replace")
        except (OSError, subprocess.SubprocessError):
            listing = ""
        pattern = r"(3\.\d+)\S*[\s*]+(\S.*?python[\w.]*\.exe)\s*$"
        found = dict(re.findall(pattern, listing, re.MULTILINE | re.IGNORECASE))
        candidates = [found[version] for version in PREFERRED if version in found] + candidates
    suitable = "{} <= sys.version_info[:2] <= {} and sys.maxsize > 2**32".format(OLDEST, NEWEST)
    ask = "import sys; print(sys.executable if {} else '')".format(suitable)
    for candidate in candidates:
        try:
            answer = subprocess.check_output([candidate, "-c", ask], stderr=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError):
            continue  # absent, or a shim that leads nowhere
        if answer.strip():
            return answer.decode(sys.getfilesystemencoding(), "replace").strip()
    return None


def start_with_other_python(arguments: "list[str]") -> int:
    """Run this file again under a suitable Python, or say which version is needed."""
    other = None if os.environ.get("SNUG_RELAUNCHED") else find_other_python()
    if other is None:
        sys.stderr.write(python_version_advice(sys.version.split()[0]) + "\n")
        if os.name == "nt" and sys.stdin and sys.stdin.isatty() and "PROMPT" not in os.environ:
            input("Press Enter to close this window.")
        return 3
    sys.stderr.write("Python {} is not suitable, going on with {}\n".format(sys.version.split()[0], other))
    os.environ["SNUG_RELAUNCHED"] = "1"
    command = [other, os.path.abspath(__file__)] + arguments
    if os.name != "nt":
        os.execv(other, command)
    return subprocess.call(command)


if not OLDEST <= sys.version_info[:2] <= NEWEST or sys.maxsize <= 2**32:
    sys.exit(start_with_other_python(sys.argv[1:]))

import ctypes
import difflib
import hashlib
import json
import ntpath
import platform
import posixpath
import shutil
import time
from typing import Any, NamedTuple, NoReturn, Optional

COMMANDS = ("web", "doctor", "plan", "ask", "batch", "serve", "test", "check")
HELP = """usage: python launch.py [--dry-run] [command] [arguments]

  (no command)   open the web page; --port N, --no-browser, --model M, --preset P
  doctor, plan, ask, batch, serve    see: python launch.py COMMAND --help
  test           run the test suite; arguments go to pytest
  check          formatting, lint, types and import rules

  --dry-run [--system FILE.json] [--json]   say what would be done, for this machine or a described one
  --repair       look for missing files in the environment and install them again
  --verbose      show what the installer says        --debug   show a traceback on an error
SNUG_VENV=FOLDER puts the environment elsewhere; SNUG_TORCH_INDEX=URL names a mirror of PyTorch's packages."""
INDEX = "https://download.pytorch.org/whl/"
STAMP, LOCK, LOG = "snug-stamp.json", "snug.lock", "snug-install.log"
GIB = 1024**3
NEEDED_BYTES = {"cpu": 4 * GIB, "plain": 4 * GIB, "cu126": 11 * GIB, "cu130": 11 * GIB}  # with room to unpack
LONGEST_FILE = 195  # characters below the environment; Windows allows 259 in all unless told otherwise
START = """import sys
try:
    import signal
    if hasattr(signal, "pthread_sigmask"):  # a Ctrl+C since the launcher let go waits for this moment
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    sys.path.insert(0, {root})
    sys.argv[0] = "launch.py"
    {work}
except KeyboardInterrupt:
    code = 130
sys.exit(code)"""


class Problem(Exception):
    """What stops us, in three sentences for a person; code 2 is their input, 3 the machine."""

    def __init__(self, what: str, why: str, remedy: str, code: int = 3) -> None:
        super().__init__("error: {}\nwhy: {}\ntry: {}".format(what, why, remedy))
        self.code = code


# What a decision depends on; a file with any of these keys describes a machine to --dry-run.
System = NamedTuple(
    "System",
    [
        ("os", str),  # windows | linux | macos
        ("machine", str),  # x86_64 | arm64
        ("python", str),
        ("executable", str),
        ("other_python", Optional[str]),  # a suitable interpreter found when `python` is not suitable
        ("root", str),
        ("data_folder", str),
        ("root_writable", bool),
        ("free_bytes", int),
        ("long_paths", bool),  # Windows setting
        ("nvidia_driver", Optional[str]),
        ("compute_capability", Optional[str]),  # of the most capable GPU
        ("index_reachable", bool),
        ("venv", str),  # missing | foreign | broken | no_pip | stale | ready
        ("old_pip", bool),
        ("damaged", "list[str]"),  # names of installed packages with missing files
        ("installed_torch", Optional[str]),
        ("test_extra", bool),
        ("double_click", bool),
        ("snug_venv", Optional[str]),
    ],
)
Step = NamedTuple("Step", [("action", str), ("title", str), ("command", "list[str]")])
Plan = NamedTuple("Plan", [("venv", str), ("torch", str), ("notes", "list[str]"), ("steps", "list[Step]")])


def numbers(version: str) -> "tuple[int, ...]":
    """Return the leading numbers of a version, for comparing."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def torch_build(system: System) -> "tuple[str, str]":
    """Choose among the builds of torch 2.13.0 (cpu, cu126, cu130; cu132 is experimental), with a note or "".

    Architectures: the CUDA table of PyTorch's RELEASE.md (12.6 Maxwell to Hopper, 13.0 Turing to Blackwell).
    Drivers: minor version table of NVIDIA's "CUDA Compatibility" (12.x needs 525, on Windows 528; 13.x 580).
    """
    no_cuda = system.os == "macos" or (system.os, system.machine) == ("windows", "arm64")
    if system.nvidia_driver is None or no_cuda:
        return ("plain" if system.os == "macos" else "cpu"), ""
    driver, name = numbers(system.nvidia_driver)[0], system.nvidia_driver
    capability = numbers(system.compute_capability or "7.5")
    if driver < (528 if system.os == "windows" else 525):
        return "cpu", "NVIDIA driver {} is too old for PyTorch: update it to use the GPU.".format(name)
    if capability < (5, 0):
        return "cpu", "The GPU is older than what PyTorch supports; the CPU does the work."
    if capability >= (10, 0) and driver < 580:
        return "cu130", "This GPU needs NVIDIA driver 580, not {}: update it to use the GPU.".format(name)
    return ("cu130" if driver >= 580 and capability >= (7, 5) else "cu126"), ""


def root_digest(root: str) -> str:
    """Tell copies of Snug apart in the shared data folder."""
    return hashlib.sha256(root.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def venv_folder(system: System) -> "tuple[str, str]":
    """Return where the environment belongs and, when that is not beside launch.py, why."""
    path = ntpath if system.os == "windows" else posixpath
    if system.snug_venv:
        return system.snug_venv, "The environment is in {} (SNUG_VENV).".format(system.snug_venv)
    beside = path.join(system.root, ".venv")
    elsewhere = path.join(system.data_folder, "venv-" + root_digest(system.root))
    if not system.root_writable:
        return elsewhere, "{} is read-only, so the environment is in {}.".format(system.root, elsewhere)
    if system.os == "windows" and not system.long_paths and len(beside) + LONGEST_FILE > 259:
        why = "The path of {} is too long for Windows, so the environment is in {}."
        return elsewhere, why.format(system.root, elsewhere)
    return beside, ""


def torch_is_right(system: System, build: str, version: str) -> bool:
    """Whether the installed torch will do: this version, and this build as far as its label tells."""
    installed, _, label = (system.installed_torch or "").partition("+")
    unlabelled = {"windows": ("cpu",), "linux": ("cpu", "cu130")}.get(system.os, ("plain",))
    usable = label == build or (not label and build in unlabelled) or not system.index_reachable
    return installed == version and usable


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
            "{} is in use for something else".format(folder),
            "it has files and is not a Python environment",
            "name an empty or new folder in SNUG_VENV",
            code=2,
        )
    if system.venv == "missing" and system.free_bytes < NEEDED_BYTES[build]:
        free, needed = system.free_bytes / 1e9, NEEDED_BYTES[build] / 1e9
        why = "{} has {:.1f} GB free and {:.0f} GB are needed".format(folder, free, needed)
        remedy = "free some space, or name a folder on another disk in SNUG_VENV"
        raise Problem("the disk is too full to install Snug", why, remedy)


def plan(system: System, requirements: "dict[str, list[str]]", arguments: "list[str]") -> Plan:
    """Decide every step from values alone; raises Problem when there is no way."""
    folder, note = venv_folder(system)
    build, torch_note = torch_build(system)
    path = ntpath if system.os == "windows" else posixpath
    if not OLDEST <= numbers(system.python)[:2] <= NEWEST:
        if system.other_python is None:
            what, why, remedy = python_version_advice(system.python).splitlines()
            raise Problem(what.partition(": ")[2], why.partition(": ")[2], remedy.partition(": ")[2])
        command = [system.other_python, path.join(system.root, "launch.py")] + arguments
        return Plan(folder, build, [], [Step("switch", "Go on with another Python", command)])
    python = path.join(folder, *(("Scripts", "python.exe") if system.os == "windows" else ("bin", "python")))
    start = Step("start", " ".join(["Start Snug"] + arguments), start_command(python, system.root, arguments))
    notes = [text for text in (note, torch_note) if text]
    groups = groups_for(arguments)
    if system.venv == "ready" and (system.test_extra or "test" not in groups):
        return Plan(folder, build, notes, [start])
    check_machine(system, folder, build)
    names = [name for group in groups for name in requirements[group]]
    pip = [python, "-I", "-m", "pip", "install", "--prefer-binary"]
    pinned = next(name for name in names if name.startswith("torch=="))
    torch, torch_note = torch_steps(system, build, pinned, pip)
    steps = venv_steps(system, folder, python, pip) + torch
    steps.append(Step("packages", "Install the libraries", pip + names))
    steps.append(
        Step("verify", "Try PyTorch", [python, "-I", "-c", "import torch; print(torch.__version__)"])
    )
    steps.append(Step("stamp", "Note that all is done", []))
    return Plan(folder, build, notes + ([torch_note] if torch_note else []), steps + [start])


def groups_for(arguments: "list[str]") -> "list[str]":
    """Name the groups of requirements that a command needs; "" stands for the dependencies proper."""
    return ["", "test"] if arguments[:1] in (["test"], ["check"]) else [""]


def venv_steps(system: System, folder: str, python: str, pip: "list[str]") -> "list[Step]":
    """Bring about an environment with a pip that works and no half-written package."""
    steps = []
    if system.venv == "broken":
        steps.append(Step("clear", "Remove a damaged environment", []))
    if system.venv in ("missing", "broken"):
        steps.append(Step("create", "Make the environment", [system.executable, "-m", "venv", folder]))
    if system.damaged:
        names = ", ".join(name.split("-")[0].lstrip("~") for name in system.damaged[:5])
        steps.append(Step("sweep", "Clear away incomplete packages: " + names, list(system.damaged)))
    if system.venv == "no_pip":
        steps.append(Step("pip", "Bring pip back", [python, "-I", "-m", "ensurepip", "--default-pip"]))
    if system.old_pip:  # newer ones go on where a broken download stopped, and tell how far they are
        options = ["--upgrade", "pip>=25.2", "--retries", "1", "--timeout", "15"]
        steps.append(Step("renew", "Renew pip", pip + options))
    return steps


def torch_steps(system: System, build: str, torch: str, pip: "list[str]") -> "tuple[list[Step], str]":
    """Install torch if it isn't the right one; the plain registry takes over when its own index is away."""
    version = torch.partition("==")[2]
    if torch_is_right(system, build, version):
        return [], ""
    kind = {"cpu": " for the CPU", "plain": ""}.get(build, " with CUDA {}.{}".format(build[2:4], build[4:]))
    if build != "plain" and system.index_reachable:
        index = (os.environ.get("SNUG_TORCH_INDEX") or INDEX) + build
        command = pip + [torch + "+" + build, "--index-url", index]
        return [Step("torch", "Install PyTorch " + version + kind, command)], ""
    # the plain registry has the CPU build for Windows and CUDA 13.0 for Linux
    lost = build == "cu126" or (build == "cu130" and system.os == "windows")
    note = "PyTorch's package index can't be reached; without it the GPU may idle; --repair tries again."
    return [Step("torch", "Install PyTorch " + version, pip + [torch])], note if lost else ""


def start_command(python: str, root: str, arguments: "list[str]") -> "list[str]":
    """Return the command that does the work; -P keeps the folder a person is in out of imports."""
    work, rest = "from ui.cli import main; code = main(sys.argv[1:])", arguments
    if arguments[:1] == ["test"]:
        work, rest = "import pytest; code = pytest.main(sys.argv[1:])", arguments[1:]
    elif arguments[:1] == ["check"]:
        script = (ntpath if "\\" in root else posixpath).join(root, ".ci", "check.py")
        work = "import runpy; code = runpy.run_path({})['main']()".format(ascii(script))
    return [python, "-P", "-X", "utf8", "-c", START.format(root=ascii(root), work=work)] + rest


# What the installer's own words mean: a pattern, why it failed, what to do. The first match counts.
FAILURES = (
    (r"No space left|Errno 28|WinError 112", "the disk is full ({free})", "free some space and start again"),
    (
        r"ensurepip is not available|No module named '?(venv|ensurepip)",
        "this Python came without its venv module",
        "install it (Debian and Ubuntu: sudo apt install python3-venv) and start again",
    ),
    (
        r"WinError 206|Errno 36\b|name too long|enable-long-paths",
        "the path is too long for this system",
        "move the folder to a shorter path, or name a short one in SNUG_VENV",
    ),
    (
        r"Errno 13\b|Errno 30\b|WinError (5|32)\b|[Pp]ermission denied",
        "files can't be written: no permission, or another program is using them",
        "close other Snug windows (and programs such as virus scanners that hold {folder}) and start again",
    ),
    (r"MemoryError|Killed", "the machine ran out of memory", "close other programs and start again"),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "the server's certificate was not accepted; a company network or a wrong clock does this",
        "check the date, or give pip your network's certificate: pip config set global.cert FILE",
    ),
    (r"ProxyError|407 Proxy", "the proxy refused the connection", "check HTTPS_PROXY and start again"),
    (
        (
            r"NewConnectionError|getaddrinfo|ame resolution|service not known|is unreachable|imed? ?out|"
            r"Connection (refused|reset|aborted|broken)|IncompleteRead|RemoteDisconnected|50[234] Server"
        ),
        "the download failed: the package server could not be reached",
        "check the internet connection and start again; finished downloads are kept",
    ),
    (r"DO NOT MATCH THE HASHES", "a download arrived damaged", "start again; it is downloaded anew"),
    (
        r"No matching distribution|Failed (building|to build)|subprocess-exited-with-error",
        "the package server has nothing for Python {python} on this machine, or was not reached ({last})",
        "check the internet connection; if it works, install Python 3.12 and start with that one",
    ),
    (
        r"WinError 126|WinError 1114|DLL load failed",
        "a system library of Microsoft Visual C++ is missing",
        "install https://aka.ms/vs/17/release/vc_redist.x64.exe and start again",
    ),
)


def explain(title: str, output: str, folder: str, free_bytes: int) -> Problem:
    """Turn what a failed step printed into a sentence for a person; the whole of it is in the log."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(ERROR|error|.*Error):", line)]
    last = re.sub(r"^ERROR: ", "", (errors or lines or ["it said nothing"])[-1])
    values = {"free": "{:.1f} GB are left".format(free_bytes / 1e9), "folder": folder, "last": last}
    values["python"] = sys.version.split()[0]
    unknown = ("", "{last}", "start again; if it stays, delete the folder {folder} first")
    _, why, remedy = next((failure for failure in FAILURES if re.search(failure[0], output)), unknown)
    log = os.path.join(folder, LOG)
    details = " (details: {})".format(log) if os.path.exists(log) else ""
    return Problem("this step failed: " + title, why.format(**values), remedy.format(**values) + details)


def venv_python(folder: str) -> str:
    """Return the interpreter of an environment on this machine."""
    return os.path.join(folder, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))


def site_packages(folder: str) -> str:
    """Return where packages lie; the name holds the version on POSIX, so it is looked up."""
    if os.name == "nt":
        return os.path.join(folder, "Lib", "site-packages")
    lib = os.path.join(folder, "lib")
    versions = sorted(
        name for name in (os.listdir(lib) if os.path.isdir(lib) else []) if name.startswith("python")
    )
    return os.path.join(lib, versions[-1] if versions else "python", "site-packages")


def files_mark(site: str) -> str:
    """Hash the names in site-packages two levels deep: a few ms, and a deleted package or file shows."""
    digest = hashlib.sha256()
    for entry in sorted(os.scandir(site), key=lambda entry: entry.name) if os.path.isdir(site) else []:
        inside = sorted(os.listdir(entry.path)) if entry.is_dir() else []
        digest.update(repr((entry.name, [name for name in inside if name != "__pycache__"])).encode("utf-8"))
    return digest.hexdigest()


def damaged_packages(site: str) -> "list[str]":
    """Name the packages that an interruption or a deletion left incomplete, by pip's own record of them.

    pip writes INSTALLER after every file of the package, and renames what it is removing to a name with "~".
    """
    import csv

    damaged = []
    for name in sorted(os.listdir(site)) if os.path.isdir(site) else []:
        info = os.path.join(site, name)
        if name.startswith("~"):
            damaged.append(name)
        if name.startswith("~") or not name.endswith(".dist-info"):
            continue
        try:
            os.stat(os.path.join(info, "INSTALLER"))
            with open(os.path.join(info, "RECORD"), encoding="utf-8") as record:
                rows = [row for row in csv.reader(record) if row[2] and not row[0].endswith(".pyc")]
            if any(os.path.getsize(os.path.join(site, row[0])) < int(row[2]) for row in rows):
                damaged.append(name)
        except (OSError, ValueError, IndexError):
            damaged.append(name)
    return damaged


def nvidia() -> "tuple[str | None, str | None]":
    """Ask the NVIDIA driver's library for its version and the highest compute capability, if any."""
    names = ["libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1"]
    if sys.platform == "win32":
        names = ["nvml.dll", r"C:\Program Files\NVIDIA Corporation\NVSMI\nvml.dll"]
    for name in names:
        try:
            lib = ctypes.CDLL(name)
            if lib.nvmlInitWithFlags(0) != 0:
                continue
            version, count, best = ctypes.create_string_buffer(96), ctypes.c_uint(), []
            lib.nvmlSystemGetDriverVersion(version, 96)
            lib.nvmlDeviceGetCount_v2(ctypes.byref(count))
            for index in range(count.value):
                device, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
                lib.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
                if device and not lib.nvmlDeviceGetCudaComputeCapability(
                    device, ctypes.byref(major), ctypes.byref(minor)
                ):
                    best.append((major.value, minor.value))
            lib.nvmlShutdown()
        except (OSError, AttributeError):
            continue
        if best:
            return version.value.decode("ascii", "replace"), "{}.{}".format(*max(best))
    return None, None


def driver_mark() -> "list[object]":
    """Tell cheaply, without loading the driver's library, whether the driver may have changed."""
    system_root = os.environ.get("SYSTEMROOT", r"C:\Windows")
    paths = (os.path.join(system_root, "System32", "nvml.dll"), "/usr/lib/wsl/lib/libnvidia-ml.so.1")
    marks = [[os.path.getsize(path), int(os.path.getmtime(path))] for path in paths if os.path.exists(path)]
    if os.path.exists("/proc/driver/nvidia/version"):
        with open("/proc/driver/nvidia/version", encoding="utf-8", errors="replace") as file:
            return [file.read()]
    return list(marks)


def read_requirements() -> "dict[str, list[str]]":
    """Read what pyproject.toml names: the dependencies under "", extras under their name."""
    import tomllib

    try:
        with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
            project = tomllib.load(file)["project"]
        return dict(project["optional-dependencies"], **{"": project["dependencies"]})
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        what, remedy = (
            "pyproject.toml beside launch.py can't be read",
            "get a complete copy of Snug and start again",
        )
        raise Problem(what, str(error), remedy) from error


def current_marks(folder: str) -> "dict[str, object]":
    """Collect what a finished environment depends on, without starting a process."""
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        pyproject = hashlib.sha256(file.read()).hexdigest()
    python = os.path.realpath(venv_python(folder))
    return {
        "pyproject": pyproject,
        "python": python,
        "driver": driver_mark(),
        "files": files_mark(site_packages(folder)),
    }


def read_stamp(folder: str) -> "dict[str, Any]":
    """Return the stamp of a finished environment, {} when there is none to trust."""
    try:
        with open(os.path.join(folder, STAMP), encoding="utf-8") as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return {}
    whole = isinstance(stamp, dict) and isinstance(stamp.get("requirements"), dict)
    return stamp if whole and os.path.exists(venv_python(folder)) else {}


def is_ready(folder: str, command: str) -> bool:
    """Whether nothing has changed since the stamp was written; this is all that a warm start does."""
    stamp = read_stamp(folder)
    groups = groups_for([command])
    try:
        marks = current_marks(folder)
    except OSError:
        return False
    return all(stamp.get(key) == value for key, value in marks.items()) and all(
        group in stamp.get("requirements", {}) for group in groups
    )


def write_stamp(folder: str, groups: "list[str]") -> None:
    """Declare the environment finished, atomically; groups installed earlier stay noted while current."""
    requirements = read_requirements()
    known = read_stamp(folder).get("requirements", {})
    noted = {
        name: texts for name, texts in requirements.items() if name in groups or known.get(name) == texts
    }
    with open(os.path.join(folder, STAMP + ".new"), "w", encoding="utf-8") as file:
        json.dump(dict(current_marks(folder), requirements=noted), file)
    os.replace(os.path.join(folder, STAMP + ".new"), os.path.join(folder, STAMP))


def can_write(folder: str) -> bool:
    """Try it: permission bits say little on Windows, and nothing on a read-only disk."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def ask_python(*command: str) -> str:
    """Return what a short command prints, "" when it fails."""
    try:
        output = subprocess.check_output(
            command, stderr=subprocess.DEVNULL, encoding="utf-8", errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return str(output).strip()


def examine_venv(folder: str, repair: bool = False) -> "dict[str, Any]":
    """Describe the environment at `folder` in the terms of System."""
    found = dict.fromkeys(("installed_torch",), None)  # type: dict[str, Any]
    found.update(venv="missing", old_pip=True, damaged=[])
    inside = set(os.listdir(folder)) if os.path.isdir(folder) else set()
    if not inside - {LOCK, LOG}:
        return found
    if "pyvenv.cfg" not in inside and LOCK not in inside and os.environ.get("SNUG_VENV"):
        return dict(found, venv="foreign")
    python = venv_python(folder)
    ask = "import sys; print(sys.version_info[0], sys.version_info[1], sys.prefix)"
    version, _, prefix = ask_python(python, "-I", "-c", ask).replace(" ", ".", 1).partition(" ")
    same = prefix and os.path.exists(prefix) and os.path.samefile(prefix, folder)
    if not same or not OLDEST <= numbers(version) <= NEWEST:
        return dict(found, venv="broken")
    pip = re.match(r"pip (\S+)", ask_python(python, "-I", "-m", "pip", "--version"))
    site = site_packages(folder)
    damaged = damaged_packages(site)
    names = sorted(os.listdir(site)) if os.path.isdir(site) else []
    if not pip:
        damaged = sorted(set(damaged).union(name for name in names if re.match(r"pip(-.*)?$", name)))
    torch = [name for name in names if re.match(r"torch-.*\.dist-info$", name) and name not in damaged]
    stamp = read_stamp(folder).get("requirements", {})
    requirements = read_requirements()
    same_files = read_stamp(folder).get("files") == files_mark(site) and not damaged and not repair
    ready = pip and same_files and stamp.get("") == requirements[""]
    return {
        "venv": "ready" if ready else ("stale" if pip else "no_pip"),
        "old_pip": not pip or numbers(pip.group(1)) < (25, 2),
        "damaged": damaged,
        "installed_torch": torch[0][len("torch-") : -len(".dist-info")] if torch else None,
        "test_extra": bool(ready) and stamp.get("test") == requirements["test"],
    }


def data_folder() -> str:
    """Return where Snug keeps its data, as backends.settings does."""
    home = os.path.expanduser("~")
    if os.environ.get("SNUG_HOME"):
        return os.path.expanduser(os.environ["SNUG_HOME"])
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
    elif sys.platform == "darwin":
        base = os.path.join(home, "Library", "Application Support")
    else:
        base = os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    return os.path.join(base, "snug")


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
    import urllib.request

    url = (os.environ.get("SNUG_TORCH_INDEX") or INDEX) + build + "/torch/"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5):
            return True
    except (OSError, ValueError):
        return False


def console_is_ours() -> bool:
    """Whether only Python sits on this Windows console: started by double-click, it closes when we end."""
    names = []  # type: list[str]
    if sys.platform == "win32" and sys.stdin and sys.stdin.isatty():
        kernel = ctypes.windll.kernel32
        kernel.OpenProcess.restype = ctypes.c_void_p
        pids = (ctypes.c_uint32 * 32)()
        for pid in pids[: kernel.GetConsoleProcessList(pids, 32)]:
            name, size = ctypes.create_unicode_buffer(1024), ctypes.c_uint32(1024)
            process = ctypes.c_void_p(kernel.OpenProcess(0x1000, False, pid))  # noqa: FBT003 - a Windows call
            kernel.QueryFullProcessImageNameW(process, 0, name, ctypes.byref(size))
            kernel.CloseHandle(process)
            names.append(ntpath.basename(name.value))
    return only_python(names)


def only_python(names: "list[str]") -> bool:
    """Whether all the programs on a console are Python or its launcher: no shell, so nobody reads on."""
    return bool(names) and all(re.match(r"(py|python[\d.]*)\.exe$", name, re.IGNORECASE) for name in names)


def observe(repair: bool) -> System:
    """Look at this machine."""
    beside, named = os.path.join(ROOT, ".venv"), os.environ.get("SNUG_VENV")
    driver, capability = nvidia()
    system = System(
        os={"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux"),
        machine="arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64",
        python="{}.{}.{}".format(*sys.version_info[:3]),
        executable=getattr(sys, "_base_executable", sys.executable),
        other_python=None,
        root=ROOT,
        data_folder=data_folder(),
        root_writable=can_write(beside if os.path.isdir(beside) else ROOT),
        free_bytes=0,
        long_paths=long_paths(),
        nvidia_driver=driver,
        compute_capability=capability,
        index_reachable=True,
        venv="missing",
        old_pip=True,
        damaged=[],
        installed_torch=None,
        test_extra=False,
        double_click=console_is_ours(),
        snug_venv=os.path.abspath(named) if named else None,
    )
    folder, _ = venv_folder(system)
    existing = folder
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    system = system._replace(free_bytes=shutil.disk_usage(existing).free, **examine_venv(folder, repair))
    build, _ = torch_build(system)
    version = next(name for name in read_requirements()[""] if name.startswith("torch==")).partition("==")[2]
    if not torch_is_right(system, build, version):  # a driver that came later asks for another build
        reachable = build == "plain" or index_reachable(build)
        stale = system.venv == "ready" and reachable
        system = system._replace(index_reachable=reachable, venv="stale" if stale else system.venv)
    return system


class Report:
    """One line a step on stderr, as stdout belongs to the command; a terminal also shows how far it is."""

    def __init__(self) -> None:
        self.live = bool(sys.stderr and sys.stderr.isatty())
        self.line, self.began = "", 0.0

    def write(self, text: str) -> None:
        """Print at once."""
        if sys.stderr:
            sys.stderr.write(text)
            sys.stderr.flush()

    def begin(self, line: str) -> None:
        """Name the step."""
        self.line, self.began = line, time.monotonic()
        self.write(line + " ...")

    def update(self, text: str) -> None:
        """Say how far the step is, where that can be overwritten."""
        if self.live:
            room = max(20, shutil.get_terminal_size().columns - 1)
            self.write("\r" + "{} ... {}".format(self.line, text)[:room].ljust(room))

    def end(self, word: str = "done") -> None:
        """Close the step's line."""
        text = "{} ({:.0f} s)".format(word, time.monotonic() - self.began)
        self.update(text)
        self.write("\n" if self.live else " " + text + "\n")


class Lock:
    """One installation at a time; children inherit the lock, so it lasts while one left behind works."""

    def __init__(self, folder: str, report: Report) -> None:
        try:
            os.makedirs(folder, exist_ok=True)
            self.file = open(os.path.join(folder, LOCK), "a+", encoding="utf-8")  # noqa: SIM115 - held until closed
        except OSError as error:
            why = "{} can't be written ({})".format(folder, error.strerror)
            remedy = "name a folder that can be written in SNUG_VENV"
            raise Problem("the environment can't be made", why, remedy) from error
        waiting = False
        while not self.take():
            if not waiting:
                report.write("Another start of Snug is installing; waiting for it.\n")
            waiting = True
            time.sleep(0.3)

    def take(self) -> bool:
        """Try once; the system gives the lock back when its owners end, however they end."""
        try:
            if sys.platform == "win32":
                import msvcrt

                self.file.seek(0)
                msvcrt.locking(self.file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def progress_of(line: str, context: str) -> "tuple[str, str]":
    """Turn a line of pip's output into what a person sees, and the download it is about."""
    words = line.split()
    if line.startswith("Progress ") and len(words) == 4 and words[3].isdigit() and int(words[3]):
        share = "{:.0%} of {:.0f} MB".format(int(words[1]) / int(words[3]), int(words[3]) / 1e6)
        return "{} {}".format(context, share), context
    for start, say, end in (
        ("Collecting", "looking for ", r"[<>=!~;\[(]"),
        ("Downloading", "downloading ", "-"),
    ):
        if words[:1] == [start] and len(words) > 1:
            context = say + re.split(end, words[1].rpartition("/")[2])[0]
            return context, context
    if line.startswith("Installing collected packages: "):
        context = "unpacking {} packages".format(line.count(",") + 1)
    return context, context


def run_step(step: Step, folder: str, lock: Lock, report: Report, verbose: bool) -> "tuple[int, str]":
    """Run one command to its end, its output into the log; whatever happens, no child stays behind."""
    environ = dict(
        os.environ, PIP_USER="0", PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1", PYTHONUTF8="1"
    )
    for name in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", "PIP_REQUIRE_VIRTUALENV"):
        environ.pop(name, None)
    command = list(step.command)
    if step.action in ("torch", "packages"):
        version = numbers(ask_python(command[0], "-I", "-c", "import pip; print(pip.__version__)"))
        command += ["--progress-bar", "raw"] if version >= (24, 1) else ["--progress-bar", "off"]
        command += ["--resume-retries", "20"] if version >= (25, 1) else []
    inherited = () if os.name == "nt" else (lock.file.fileno(),)
    log = open(os.path.join(folder, LOG), "a", encoding="utf-8")  # noqa: SIM115 - closed below, with the child
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ,
        pass_fds=inherited, encoding="utf-8", errors="replace",
    )  # fmt: skip
    output, context = [], ""
    with child, log:
        try:
            log.write("$ {}\n".format(" ".join(command)))
            for line in child.stdout or ():
                text, context = progress_of(line, context)
                if text:
                    report.update(text)
                if not line.startswith("Progress "):
                    log.write(line)
                    output.append(line)
                    if verbose:
                        report.write("\n    " + line.rstrip())
            code = child.wait()
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()
    return code, "".join(output) + ("Killed" if code == -9 else "")


def clear(folder: str, names: "list[str] | None" = None) -> None:
    """Delete entries of a folder: the named ones, or all but our lock and log."""
    for name in names if names is not None else sorted(set(os.listdir(folder)) - {LOCK, LOG}):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.remove(path)


def carry_out(chosen: Plan, lock: Lock, report: Report, groups: "list[str]", verbose: bool = False) -> None:
    """Do the steps before the start; the stamp goes first and comes back last."""
    shown = [step for step in chosen.steps if step.action not in ("stamp", "start")]
    if shown:
        clear(chosen.venv, [STAMP])
        fresh = any(step.action == "create" for step in shown)
        words = "Setting up Snug, once, in {}\n" if fresh else "Bringing Snug up to date in {}\n"
        report.write(words.format(chosen.venv))
    for note in chosen.notes if shown else []:
        report.write("note: {}\n".format(note))
    for number, step in enumerate(shown, 1):
        report.begin("[{}/{}] {}".format(number, len(shown), step.title))
        code, output = 0, ""
        if step.action in ("clear", "sweep"):
            clear(chosen.venv if step.action == "clear" else site_packages(chosen.venv), step.command or None)
        else:
            code, output = run_step(step, chosen.venv, lock, report, verbose)
        if code and step.action != "renew":  # an old pip works too
            report.end("failed")
            raise explain(step.title, output, chosen.venv, shutil.disk_usage(chosen.venv).free)
        report.end("skipped" if code else "done")
    write_stamp(chosen.venv, groups)


def hand_over(command: "list[str]") -> int:  # noqa: RET503 - execv does not return
    """Become the command; Windows can't, so there we wait for it and pass its exit code on."""
    for name in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", "SNUG_RELAUNCHED"):
        os.environ.pop(name, None)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until START can take it
        os.execv(command[0], command)
    else:
        child = subprocess.Popen(command)
        while child.poll() is None:
            try:
                child.wait()
            except KeyboardInterrupt:  # the child was told as well, and ends in its own way
                continue
        return child.returncode


def show(chosen: Plan, as_json: bool) -> None:
    """Print a plan for --dry-run."""
    if as_json:
        steps = [step._asdict() for step in chosen.steps]
        print(json.dumps(dict(chosen._asdict(), steps=steps, problem=None), indent=2))
        return
    print("Environment: {}\nPyTorch build: {}".format(chosen.venv, chosen.torch))
    for note in chosen.notes:
        print("Note: " + note)
    for number, step in enumerate(chosen.steps, 1):
        print("{}. {}".format(number, step.title))
        if step.command and step.action not in ("sweep", "start"):
            print("   " + subprocess.list2cmdline(step.command).replace("\n", "; "))


Options = NamedTuple(
    "Options",
    [("dry_run", bool), ("system", Optional[str]), ("as_json", bool), ("repair", bool), ("verbose", bool)],
)


def read_arguments(arguments: "list[str]") -> "tuple[Options, list[str]]":
    """Split our own options from what belongs to the command; --json is ours only with --dry-run."""
    rest = []  # type: list[str]
    flags, system = set(), None
    ours = ("--dry-run", "--repair", "--verbose") + (("--json",) if "--dry-run" in arguments else ())
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if word == "test" and not rest:
            rest, queue = [word] + queue, []  # what follows belongs to pytest
        elif word in ours:
            flags.add(word)
        elif word == "--system":
            if not queue:
                raise Problem("--system needs a file", "none was named", "name a JSON file after it", code=2)
            system = queue.pop(0)
        else:
            rest.append(word)
    command = rest[0] if rest and not rest[0].startswith("-") else "web"
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1)
        remedy = "python launch.py {}".format(near[0]) if near else "python launch.py --help"
        raise Problem("there is no command " + command, "known: " + ", ".join(COMMANDS), remedy, code=2)
    dry = "--dry-run" in flags or system is not None
    return Options(dry, system, "--json" in flags, "--repair" in flags, "--verbose" in flags), rest


def described(file_name: str) -> System:
    """Read a described machine; what it leaves out is as on a new 64-bit Linux machine without a GPU."""
    plain = (
        "linux",
        "x86_64",
        "3.12.0",
        "python3",
        None,
        ROOT,
        data_folder(),
        True,
        100 * GIB,
        False,
        None,
        None,
    )
    values = plain + (True, "missing", True, [], None, False, False, None)  # type: tuple[Any, ...]
    known = dict(zip(System._fields, values, strict=True))  # type: dict[str, Any]
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
    return System(**dict(known, **given))


def fits(value: object) -> "tuple[type, ...]":
    """Return the types that may stand in place of a value; texts may be absent."""
    return (str, type(None)) if value is None or isinstance(value, str) else (type(value),)


def from_here(word: str) -> str:
    """Keep the path of a test right although pytest runs in the repository."""
    path = word.partition("::")[0]
    known = path.endswith(".py") and os.path.exists(path)
    return os.path.abspath(path) + word[len(path) :] if known else word


def run(options: Options, arguments: "list[str]") -> int:
    """Bring the environment up to date if need be, then hand over."""
    command = arguments[0] if arguments else "web"
    if options.dry_run:
        system = described(options.system) if options.system else observe(options.repair)
        show(plan(system, read_requirements(), arguments), options.as_json)
        return 0
    if command in ("test", "check"):
        arguments = [from_here(word) for word in arguments]
        os.chdir(ROOT)
    for folder in possible_folders():
        if not options.repair and is_ready(folder, command):
            return hand_over(start_command(venv_python(folder), ROOT, arguments))
    chosen, report = plan(observe(options.repair), read_requirements(), arguments), Report()
    lock = Lock(chosen.venv, report)
    chosen = plan(observe(options.repair), read_requirements(), arguments)  # another start may have done it
    carry_out(chosen, lock, report, groups_for(arguments), options.verbose)
    lock.file.close()
    return hand_over(chosen.steps[-1].command)


def possible_folders() -> "list[str]":
    """Return where a finished environment may be; only the one named when one is named."""
    named = os.environ.get("SNUG_VENV")
    beside, elsewhere = os.path.join(ROOT, ".venv"), os.path.join(data_folder(), "venv-" + root_digest(ROOT))
    return [os.path.abspath(named)] if named else [beside, elsewhere]


def listen() -> None:
    """Turn Ctrl+C and a request to end into KeyboardInterrupt; what the caller told us to ignore stays so."""

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def main(arguments: "list[str]") -> int:
    """Run, and turn whatever goes wrong into three lines and an exit code."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(HELP)
        return 0
    try:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # not every console can show every path
        return run(*read_arguments(arguments))
    except KeyboardInterrupt:
        Report().write("\nStopped. Nothing is lost: start again and it goes on where it was.\n")
        return 130
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if "--debug" in arguments:
            raise
        problem = as_problem(error)
    if "--dry-run" in arguments and "--json" in arguments:
        print(json.dumps({"problem": str(problem), "exit_code": problem.code, "steps": []}, indent=2))
    Report().write(str(problem) + "\n")
    return problem.code


def as_problem(error: Exception) -> Problem:
    """Say any error in three sentences."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, OSError):
        free = shutil.disk_usage(ROOT).free
        return explain("prepare the environment", str(error), possible_folders()[0], free)
    why, remedy = (
        "{}: {}".format(type(error).__name__, error),
        "start again with --debug and report what it says",
    )
    return Problem("the launcher made a mistake", why, remedy, code=4)


def keep_window(code: int) -> int:
    """Leave a person who double-clicked the time to read an error; 0xC000013A is Ctrl+C on Windows."""
    if code not in (0, 130, 0xC000013A) and console_is_ours():
        input("Press Enter to close this window.")
    return code


if __name__ == "__main__":
    listen()
    sys.exit(keep_window(main(sys.argv[1:])))
