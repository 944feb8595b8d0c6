"""How the command gets to run in the finished environment."""

import os
import signal
import sys

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


def start_command(python: str, root: str, arguments: list[str]) -> list[str]:
    """Return the command that does the work; -P keeps the folder a person is in out of imports."""
    work, rest = "from ui.cli import main; code = main(sys.argv[1:])", arguments
    if arguments[:1] == ["test"]:
        work, rest = "import pytest; code = pytest.main(sys.argv[1:])", arguments[1:]
    elif arguments[:1] == ["check"]:
        script = ("\\" if "\\" in root else "/").join((root, ".ci", "check.py"))
        work = f"import runpy; code = runpy.run_path({script!a})['main']()"
    return [python, "-P", "-X", "utf8", "-c", START.format(root=ascii(root), work=work), *rest]


def hand_over(command: list[str]) -> int:  # noqa: RET503 - execv does not return
    """Become the command; Windows can't, so there we wait for it and pass its exit code on."""
    for name in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", "SNUG_RELAUNCHED"):
        os.environ.pop(name, None)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until START can take it
        os.execv(command[0], command)  # noqa: S606 - no shell is meant
    else:
        import subprocess

        child = subprocess.Popen(command)
        while child.poll() is None:
            try:
                child.wait()
            except KeyboardInterrupt:  # the child was told as well, and ends in its own way
                continue
        return child.returncode
