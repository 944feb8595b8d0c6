"""Starts Snug: checks the Python, then lets ui.setup make .venv, install and hand over to ui.cli.

Standard library only, because it runs before anything is installed. Any Python 3, however old, reads this
file to say which version is needed: no f-strings, no annotated variables. What ui.setup holds is imported
after the check and may be modern. There is no #! line: with one, the Windows launcher may pick the Store's
stub instead of Python.
"""

# ruff: noqa: RUF005 - [*a, b] needs 3.5

import os
import signal
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
    import re
    import subprocess

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
    import subprocess

    other = None if os.environ.get("SNUG_RELAUNCHED") else find_other_python()
    if other is None:
        return give_up(python_version_advice(sys.version.split()[0]))
    sys.stderr.write("Python {} is not suitable, going on with {}\n".format(sys.version.split()[0], other))
    os.environ["SNUG_RELAUNCHED"] = "1"
    command = [other, os.path.abspath(__file__)] + arguments
    if os.name != "nt":
        os.execv(other, command)  # noqa: S606 - no shell is meant
    return subprocess.call(command)


def give_up(advice: str) -> int:
    """Say what stops us, and leave a person who double-clicked the time to read it."""
    sys.stderr.write(advice + "\n")
    if os.name == "nt" and sys.stdin and sys.stdin.isatty() and "PROMPT" not in os.environ:
        input("Press Enter to close this window.")
    return 3


def main(arguments: "list[str]") -> int:
    """Go on in ui.setup, which lies beside this file unless somebody copied this file alone."""
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    if not os.path.exists(os.path.join(ROOT, "ui", "setup", "main.py")):
        return give_up(
            "error: launch.py can't work alone\n"
            "why: the folder {} does not hold the rest of Snug\n"
            "try: get a complete copy of Snug and start the launch.py in it".format(ROOT)
        )
    from ui.setup.main import start

    return start(arguments, ROOT)


if not OLDEST <= sys.version_info[:2] <= NEWEST or sys.maxsize <= 2**32:
    sys.exit(start_with_other_python(sys.argv[1:]))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
