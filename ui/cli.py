"""The command line: web page (default), doctor, plan, ask, batch.

Exit codes: 0 ok, 1 doctor's warnings, 2 the person's input is wrong, 3 the machine can't, 4 internal
error, 130 stopped by Ctrl+C. Errors go to stderr as three lines (error, why, try), never a traceback
without `--debug`.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from backends.errors import InternalError, OutputLost, SettingInvalid, SnugError
from backends.settings import load_settings
from backends.text import Text
from ui.commands import ask, batch, doctor, plan, web
from ui.i18n import Translator, terminal_language

EXIT_STOPPED = 130
_COMMANDS = {"web": web, "doctor": doctor, "plan": plan, "ask": ask, "batch": batch}


class _Parser(argparse.ArgumentParser):
    """argparse, with our errors instead of its usage dump."""

    def error(self, message: str) -> NoReturn:
        raise _unusable(message[:1].upper() + message[1:] + ".", self.prog)


def _unusable(detail: str, prog: str) -> SettingInvalid:
    return SettingInvalid(
        name=Text("cli.arguments", "These arguments"),
        value=Text("cli.used", "used"),
        detail=detail,
        suggestion=Text.of("cli.help", "Run `{prog} --help` for what there is.", prog=prog),
    )


def parser_for(command: str) -> argparse.ArgumentParser:
    """The parser of one command; the command's module adds its arguments."""
    module = _COMMANDS[command]
    parser = _Parser(prog=f"launch.py {command}", description=_purpose(command))
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    module.add_arguments(parser)
    return parser


def _purpose(command: str) -> str:
    return (_COMMANDS[command].__doc__ or "").partition("\n")[0]


def overview() -> str:
    """What `--help` without a command prints."""
    lines = ["usage: launch.py [command] [arguments]", "", "Snug: ask questions about pictures.", ""]
    lines += [f"  {command:8} {_purpose(command)}" for command in _COMMANDS]
    return "\n".join(
        [*lines, "", "Without a command the web page opens. `launch.py COMMAND --help` tells more."]
    )


def _parse(arguments: list[str]) -> tuple[str, argparse.Namespace]:
    """Find the command and read its arguments; without a command, all are the web page's."""
    command, rest = "web", arguments
    if arguments and not arguments[0].startswith("-"):
        command, rest = arguments[0], arguments[1:]
    if command not in _COMMANDS:
        near = difflib.get_close_matches(command, _COMMANDS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise _unusable(f"There is no command {command}.{hint}", "launch.py")
    # Intermixed: the question may stand after the options, where people write it.
    return command, parser_for(command).parse_intermixed_args(rest)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _use_utf8()
    say = Translator(terminal_language(os.environ))
    debug = "--debug" in arguments
    try:
        if arguments[:1] in (["-h"], ["--help"]):
            print(overview())
            return 0
        command, options = _parse(arguments)
        code = int(_COMMANDS[command].run(options, load_settings(), say))
        sys.stdout.flush()
    except SnugError as error:
        return _complain(error, say, debug=debug)
    except KeyboardInterrupt:
        print(f"\n{say('cli.stopped')}", file=sys.stderr)
        return EXIT_STOPPED
    except BrokenPipeError:
        # The reader of our output (`| head`) has enough.
        _drop_output()
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback for a person
        return _complain(_as_snug_error(error), say, debug=debug)
    else:
        return code


def _as_snug_error(error: Exception) -> SnugError:
    if _concerns_output(error):
        _drop_output()
        return OutputLost()
    detail = Text.of("cli.unexpected", "An unexpected {kind} stopped it.", kind=type(error).__name__)
    return InternalError(detail=detail, log=_log_traceback())


def _complain(error: SnugError, say: Translator, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    for label, text in (("error", error.what_text), ("why", error.why_text), ("try", error.remedy_text)):
        print(f"{label}: {say.text(text)}", file=sys.stderr)
    return error.exit_code


def _log_traceback() -> str:
    """Append the current traceback to a file that the person can send; return the file's path."""
    for folder in (load_settings().logs, Path(tempfile.gettempdir())):
        path = folder / "snug-command-line.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
        except OSError:
            continue
        return str(path)
    return "--debug"


def _concerns_output(error: Exception) -> bool:
    """Whether printing failed: every other write of ours names its file or is caught where it happens."""
    lost = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EINVAL)
    return isinstance(error, OSError) and error.filename is None and error.errno in lost


def _drop_output() -> None:
    """Keep Python from complaining about the output once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _use_utf8() -> None:
    """Answers hold any character; a Windows console or pipe would otherwise raise on some."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    sys.exit(main())
