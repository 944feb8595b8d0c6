"""Turns what an installer or the system said into a sentence for a person."""

import os
import re
import shutil
import sys

from ui.setup.places import LOG, possible_folders
from ui.setup.problems import Problem

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
UNKNOWN = ("", "{last}", "start again; if it stays, delete the folder {folder} first")


def explain(title: str, output: str, folder: str, free_bytes: int) -> Problem:
    """Turn what a failed step printed into a sentence for a person; the whole of it is in the log."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(ERROR|error|.*Error):", line)]
    last = re.sub(r"^ERROR: ", "", (errors or lines or ["it said nothing"])[-1])
    values = {"free": f"{free_bytes / 1e9:.1f} GB are left", "folder": folder, "last": last}
    values["python"] = sys.version.split()[0]
    _, why, remedy = next((failure for failure in FAILURES if re.search(failure[0], output)), UNKNOWN)
    log = os.path.join(folder, LOG)
    details = f" (details: {log})" if os.path.exists(log) else ""
    return Problem(f"this step failed: {title}", why.format(**values), remedy.format(**values) + details)


def as_problem(error: Exception, root: str) -> Problem:
    """Say any error in three sentences."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, OSError):
        free = shutil.disk_usage(root).free
        return explain("prepare the environment", str(error), possible_folders(root)[0], free)
    why = f"{type(error).__name__}: {error}"
    remedy = "start again with --debug and report what it says"
    return Problem("the launcher made a mistake", why, remedy, code=4)
