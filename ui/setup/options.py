"""What a person may type: the launcher's own options, told from those of the command."""

from typing import NamedTuple

from ui.setup.problems import Problem

COMMANDS = ("web", "doctor", "plan", "ask", "batch", "test", "check")
HELP = """usage: python launch.py [--dry-run] [command] [arguments]

  (no command)   open the web page; --port N, --no-browser, --model M, --preset P
  doctor, plan, ask, batch    see: python launch.py COMMAND --help
  test           run the test suite; arguments go to pytest
  check          formatting, lint, types and import rules

  --dry-run [--system FILE.json] [--json]   say what would be done, for this machine or a described one
  --repair       look for missing files in the environment and install them again
  --verbose      show what the installer says        --debug   show a traceback on an error
SNUG_VENV=FOLDER puts the environment elsewhere; SNUG_TORCH_INDEX=URL names a mirror of PyTorch's packages."""


class Options(NamedTuple):
    """The launcher's own options."""

    dry_run: bool
    system: str | None
    as_json: bool
    repair: bool
    verbose: bool


def read_arguments(arguments: list[str]) -> tuple[Options, list[str]]:
    """Split our own options from what belongs to the command; --json is ours only with --dry-run.

    What follows `test` belongs to pytest, except for those that say that nothing is to be done.
    Raises Problem for an unknown command and for --system without a file.
    """
    rest: list[str] = []
    flags, system = set(), None
    dry_only = ("--dry-run", "--json") if "--dry-run" in arguments else ()
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        ours = dry_only if rest[:1] == ["test"] else (*dry_only, "--repair", "--verbose")
        if word in ours:
            flags.add(word)
        elif word == "--system":
            if not queue:
                raise Problem("--system needs a file", "none was named", "name a JSON file after it", code=2)
            system = queue.pop(0)
        else:
            rest.append(word)
    check_command(command_of(rest))
    dry = "--dry-run" in flags or system is not None
    return Options(dry, system, "--json" in flags, "--repair" in flags, "--verbose" in flags), rest


def command_of(arguments: list[str]) -> str:
    """Return the command; options alone, and nothing at all, mean the web page."""
    return arguments[0] if arguments and not arguments[0].startswith("-") else "web"


def check_command(command: str) -> None:
    """Raise Problem for a command that does not exist, with the nearest one that does."""
    if command in COMMANDS:
        return
    import difflib

    near = difflib.get_close_matches(command, COMMANDS, 1)
    remedy = f"python launch.py {near[0]}" if near else "python launch.py --help"
    raise Problem(f"there is no command {command}", "known: " + ", ".join(COMMANDS), remedy, code=2)


def groups_for(command: str) -> list[str]:
    """Name the groups of requirements that a command needs; "" stands for the dependencies proper."""
    return ["", "test"] if command in ("test", "check") else [""]
