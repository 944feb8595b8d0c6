"""Where things are on this machine: the environment, its interpreter and packages, the data folder."""

import hashlib
import os
import sys

STAMP, LOCK, LOG = "snug-stamp.json", "snug.lock", "snug-install.log"


def possible_folders(root: str) -> list[str]:
    """Return where a finished environment may be; only the one named when one is named."""
    named = os.environ.get("SNUG_VENV")
    if named:
        return [os.path.abspath(named)]
    return [os.path.join(root, ".venv"), os.path.join(data_folder(), environment_name(root))]


def environment_name(root: str) -> str:
    """Name an environment that is not beside launch.py; tells copies of Snug apart in the data folder."""
    return "venv-" + hashlib.sha256(root.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def venv_python(folder: str) -> str:
    """Return the interpreter of an environment on this machine."""
    return os.path.join(folder, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))


def site_packages(folder: str) -> str:
    """Return where packages lie; the name holds the version on POSIX, so it is looked up."""
    if os.name == "nt":
        return os.path.join(folder, "Lib", "site-packages")
    lib = os.path.join(folder, "lib")
    names = os.listdir(lib) if os.path.isdir(lib) else []
    versions = sorted(name for name in names if name.startswith("python"))
    return os.path.join(lib, versions[-1] if versions else "python", "site-packages")


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
