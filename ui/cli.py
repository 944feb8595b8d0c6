"""The command line: web page (default), doctor, plan, ask, batch.

Exit codes: 0 ok, 1 doctor's warnings, 2 the person's input is wrong, 3 the machine can't, 4 internal
error, 130 stopped by Ctrl+C. Errors go to stderr as three lines (error, why, try), never a traceback
without `--debug`.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from backends.errors import InternalError, SettingInvalid, SnugError
from backends.settings import load_settings
from backends.text import Text
from ui.commands import ask, batch, doctor, plan, web
from ui.i18n import Translator, terminal_language

EXIT_STOPPED = 130
_COMMANDS = {"web": web, "doctor": doctor, "plan": plan, "ask": ask, "batch": batch}


class _Parser(argparse.ArgumentParser):
    """argparse, with our errors instead of its usage dump."""

    def error(self, message: str) -> NoReturn:
        raise SettingInvalid(
            name=Text("cli.arguments", "These arguments"),
            value=Text("cli.used", "used"),
            detail=message[:1].upper() + message[1:] + ".",
            suggestion=Text.of("cli.help", "Run `{prog} --help` for what there is.", prog=self.prog),
        )


def build_parser() -> argparse.ArgumentParser:
    """Arguments of every command; each command module adds its own."""
    parser = _Parser(prog="launch.py", description="Snug: ask questions about pictures.")
    # Also accepted after the command, where people write it.
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=_Parser)
    for name, module in _COMMANDS.items():
        first_line = (module.__doc__ or "").partition("\n")[0]
        sub = commands.add_parser(name, help=first_line, description=first_line, parents=[common])
        module.add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _use_utf8()
    say = Translator(terminal_language(os.environ))
    debug = "--debug" in arguments
    try:
        # Without a command, every option is the web page's.
        if not arguments or (arguments[0].startswith("-") and arguments[0] not in {"-h", "--help"}):
            arguments.insert(0, "web")
        options = build_parser().parse_args(arguments)
        return int(_COMMANDS[options.command].run(options, load_settings(), say))
    except SnugError as error:
        return _complain(error, say, debug=debug)
    except KeyboardInterrupt:
        print(f"\n{say('cli.stopped')}", file=sys.stderr)
        return EXIT_STOPPED
    except BrokenPipeError:
        # The reader of our output (`| head`) has enough. Keep Python from complaining at exit, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback for a person
        unexpected = InternalError(detail=f"{type(error).__name__}: {error}", log="--debug")
        return _complain(unexpected, say, debug=debug)


def _complain(error: SnugError, say: Translator, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    for label, text in (("error", error.what_text), ("why", error.why_text), ("try", error.remedy_text)):
        print(f"{label}: {say.text(text)}", file=sys.stderr)
    return error.exit_code


def _use_utf8() -> None:
    """Answers hold any character; a Windows console or pipe would otherwise raise on some."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    sys.exit(main())
