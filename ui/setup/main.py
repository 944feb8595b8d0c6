"""The way through a start: read what was typed, hand over at once when all is ready, else install first."""

import os
import signal
import sys
from typing import NoReturn

from ui.setup.handover import hand_over, start_command
from ui.setup.options import HELP, Options, command_of, read_arguments
from ui.setup.places import possible_folders, venv_python
from ui.setup.stamp import is_ready


def start(arguments: list[str], root: str) -> int:
    """Be the program: take Ctrl+C over, do it all, keep the window of a double-click open on an error."""
    listen()
    code = main(arguments, root)
    if code and sys.platform == "win32":
        from ui.setup.console import keep_window

        keep_window(code)
    return code


def listen() -> None:
    """Turn Ctrl+C and a request to end into KeyboardInterrupt; what the caller told us to ignore stays so."""

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def main(arguments: list[str], root: str) -> int:
    """Run, and turn whatever goes wrong into three lines and an exit code."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(HELP)
        return 0
    try:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # not every console can show every path
        return run(root, *read_arguments(arguments))
    except KeyboardInterrupt:
        say("\nStopped. Nothing is lost: start again and it goes on where it was.")
        return 130
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if "--debug" in arguments:
            raise
        return report(error, arguments, root)


def run(root: str, options: Options, arguments: list[str]) -> int:
    """Bring the environment up to date if need be, then hand over."""
    command = command_of(arguments)
    if options.dry_run:
        from ui.setup.install import dry_run

        dry_run(root, options, arguments)
        return 0
    if command in ("test", "check"):
        arguments = [from_here(word) for word in arguments]
        os.chdir(root)
    for folder in possible_folders(root):
        if not options.repair and is_ready(root, folder, command):
            return hand_over(start_command(venv_python(folder), root, arguments))
    from ui.setup.install import install

    return hand_over(install(root, options, arguments))


def from_here(word: str) -> str:
    """Keep the path of a test right although pytest runs in the repository."""
    path = word.partition("::")[0]
    known = path.endswith(".py") and os.path.exists(path)
    return os.path.abspath(path) + word[len(path) :] if known else word


def report(error: Exception, arguments: list[str], root: str) -> int:
    """Say what went wrong, to a program too when it asked for JSON; return the exit code."""
    from ui.setup.failures import as_problem

    problem = as_problem(error, root)
    if "--dry-run" in arguments and "--json" in arguments:
        import json

        print(json.dumps({"problem": str(problem), "exit_code": problem.code, "steps": []}, indent=2))
    say(str(problem))
    return problem.code


def say(text: str) -> None:
    """Write for a person; stdout belongs to the command, and pythonw has no stderr."""
    if sys.stderr:
        print(text, file=sys.stderr, flush=True)
